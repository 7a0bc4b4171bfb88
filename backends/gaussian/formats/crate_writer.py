# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes USD's binary container: values as they come, the tables at the end; see `crate`, which reads it."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from .crate import (
    ARRAY,
    ATTRIBUTE,
    DOUBLES,
    INLINED,
    MAGIC,
    NONE,
    PRIM,
    ROOT,
    SAMPLES,
    SPECIFIER,
    STRING,
    TOKEN,
    TOKENS,
    VARIABILITY,
)
from .crate_packing import as_lz4, counted, encode_integers, sized
from .usd_layer import Stage


def write(file: BinaryIO, stage: Stage) -> None:
    """Write a whole file, frame after frame as it comes; a value that equals the frame before is not written again.

    The file must be able to go back to its head.
    """
    out = _Writer(file)
    values: list[list[int]] = [[] for _ in stage.columns]
    before: list[NDArray[np.float32]] = []
    for frame in range(len(stage.times)):
        now = [column.get(frame) for column in stage.columns]
        for i, array in enumerate(now):
            same = before and np.array_equal(before[i], array)
            values[i].append(values[i][-1] if same else out.array(array, stage.columns[i].kind))
        before = now
    root = {"comment": out.string(stage.comment), "defaultPrim": out.token(stage.name)}
    for name, setting in stage.metadata.items():
        root[name] = out.token(setting) if isinstance(setting, str) else out.number(setting)
    names = [*stage.singles, *(column.name for column in stage.columns)]
    specs: list[tuple[int, str, dict[str, int]]] = [
        (ROOT, "", root | {"primChildren": out.tokens([stage.name])}),
        (PRIM, stage.name, {
            "specifier": INLINED | SPECIFIER << 48, "typeName": out.token(stage.type), "properties": out.tokens(names),
        }),
    ]  # fmt: skip
    for name, (kind, value) in stage.singles.items():
        default = out.token(value) if isinstance(value, str) else out.integer(value)
        specs.append((ATTRIBUTE, name, {
            "typeName": out.token(kind), "variability": INLINED | VARIABILITY << 48 | 1, "default": default,
        }))  # fmt: skip
    for column, reps in zip(stage.columns, values, strict=True):
        fields = {"typeName": out.token(column.kind + "[]")}
        if column.size:
            fields |= {"elementSize": out.integer(column.size), "interpolation": out.token("vertex")}
        if len(set(reps)) == 1:
            fields["default"] = reps[0]
        else:
            fields["timeSamples"] = out.samples(stage.times, reps)
        specs.append((ATTRIBUTE, column.name, fields))
    out.finish(specs)


class _Writer:
    """A file in the making: values go out as they come, the tables at the end."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._tokens: dict[str, int] = {";-)": 0}  # names of properties are counted negative, so none may be 0
        self._strings: list[int] = []
        file.write(bytes(88))

    def array(self, values: NDArray[np.float32], kind: str) -> int:
        """Write an array; the 64 bits that mean it."""
        self._file.write(bytes(-self._file.tell() % 8))
        at = self._file.tell()
        self._file.write(struct.pack("<Q", len(values)))
        self._file.write(np.ascontiguousarray(values, "<f4").data)
        return ARRAY | (17 if kind == "quatf" else 24 if values.ndim > 1 else 8) << 48 | at

    def samples(self, times: Sequence[float], values: Sequence[int]) -> int:
        """Write which values stand at which times."""
        at = self._file.tell()
        self._file.write(struct.pack(f"<qQ{len(times)}d", 16 + 8 * len(times), len(times), *times))
        self._file.write(struct.pack("<Qq", DOUBLES << 48 | (at + 8), 8))
        self._file.write(struct.pack(f"<Q{len(values)}Q", len(values), *values))
        return SAMPLES << 48 | at

    def tokens(self, names: Iterable[str]) -> int:
        indices = [self._index(name) for name in names]
        at = self._file.tell()
        self._file.write(struct.pack(f"<Q{len(indices)}I", len(indices), *indices))
        return TOKENS << 48 | at

    def token(self, name: str) -> int:
        return INLINED | TOKEN << 48 | self._index(name)

    def string(self, words: str) -> int:
        self._strings.append(self._index(words))
        return INLINED | STRING << 48 | len(self._strings) - 1

    def number(self, value: float) -> int:
        """A double, stored in its place where float32 says it exactly."""
        if struct.unpack("<f", struct.pack("<f", value))[0] == value:
            return INLINED | 9 << 48 | int.from_bytes(struct.pack("<f", value), "little")
        at = self._file.tell()
        self._file.write(struct.pack("<d", value))
        return 9 << 48 | at

    @staticmethod
    def integer(value: int) -> int:
        return INLINED | 3 << 48 | value & 0xFFFFFFFF

    def finish(self, specs: Sequence[tuple[int, str, Mapping[str, int]]]) -> None:
        """Write the tables, then the head that says where they are; the specs are the root, its prim and what that has."""
        starts: list[int] = []
        sets: list[int] = []
        fields: list[tuple[int, int]] = []
        for _, _, named in specs:
            starts.append(len(sets))
            sets += [*range(len(fields), len(fields) + len(named)), NONE]
            fields += [(self._index(name), bits) for name, bits in named.items()]
        indices = [0, self._index(specs[1][1]), *(-self._index(name) for _, name, _ in specs[2:])]
        jumps = [-1, -1, *[0] * (len(specs) - 3), -2]  # a child follows, a sibling follows, or nothing
        numbers = range(len(specs))
        names = b"".join(token.encode() + b"\0" for token in self._tokens)
        packed = as_lz4(names)
        tables = {
            b"TOKENS": struct.pack("<QQ", len(self._tokens), len(names)) + sized(packed),
            b"STRINGS": struct.pack(f"<Q{len(self._strings)}I", len(self._strings), *self._strings),
            b"FIELDS": counted([name for name, _ in fields])
            + sized(as_lz4(np.array([bits for _, bits in fields], "<u8").tobytes())),
            b"FIELDSETS": counted(sets),
            b"PATHS": struct.pack("<Q", len(specs)) + counted(numbers) + encode_integers(indices) + encode_integers(jumps),
            b"SPECS": counted(numbers) + encode_integers(starts) + encode_integers([kind for kind, _, _ in specs]),
        }
        toc = [struct.pack("<Q", len(tables))]
        for name, table in tables.items():
            toc.append(struct.pack("<16sqq", name, self._file.tell(), len(table)))
            self._file.write(table)
        at = self._file.tell()
        self._file.write(b"".join(toc))
        self._file.seek(0)
        self._file.write(struct.pack("<8s8Bq", MAGIC, 0, 8, 0, 0, 0, 0, 0, 0, at))

    def _index(self, name: str) -> int:
        return self._tokens.setdefault(name, len(self._tokens))
