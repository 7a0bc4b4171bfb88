# SPDX-License-Identifier: GPL-3.0-or-later
"""USD's binary container (.usdc, “crate”), as much of it as arrays of numbers need, read without Pixar's library.

A file is a head, values wherever they came, and six tables at the end: tokens, strings, fields (a name and a value),
sets of fields, paths, and specs (a path with its set of fields).  A value is 64 bits: three flags, a type, and either
the value itself or where it lies.  Tables are packed by a coding of integers and by LZ4.
Source: OpenUSD, pxr/usd/usd/crateFile.cpp and integerCoding.cpp; versions 0.7 to 0.13.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...common.errors import UnsupportedFormat
from .crate_packing import broken, decode_integers, unpack_lz4
from .ply_header import Bytes
from .usd_layer import Attribute, Layer, Prim

MAGIC = b"PXR-USDC"
OLDEST, NEWEST = (0, 7), (0, 13)
ATTRIBUTE, PRIM, ROOT = 1, 6, 7
"""Kinds of specs."""

ARRAY, INLINED, _COMPRESSED, _PAYLOAD = 1 << 63, 1 << 62, 1 << 61, (1 << 48) - 1
_TYPES: dict[int, tuple[str, int]] = {
    3: ("<i4", 1), 7: ("<f2", 1), 8: ("<f4", 1), 9: ("<f8", 1), 17: ("<f4", 4), 18: ("<f2", 4), 24: ("<f4", 3), 25: ("<f2", 3),
}  # fmt: skip
"""What arrays may hold: the type of a number, and how many of them make an element."""
_SINGLES: dict[int, tuple[str, int]] = {
    7: ("<f2", 1), 15: ("<f8", 16), 16: ("<f8", 4), 17: ("<f4", 4), 18: ("<f2", 4),
    23: ("<f8", 3), 24: ("<f4", 3), 25: ("<f2", 3),
}  # fmt: skip
"""Values that are no arrays and more than a number, but for halves: those of transforms."""
_MATRIX = 15
STRING, TOKEN, TOKENS, SPECIFIER, VARIABILITY, SAMPLES, DOUBLES = 10, 11, 41, 42, 44, 46, 48
NONE = 0xFFFFFFFF
_FEW = 16
"""Arrays of fewer numbers are never packed."""
_LARGEST_TABLE = 1 << 20


class _Reader:
    """Numbers at a place in the bytes, which moves on; nothing is read beyond their end."""

    def __init__(self, data: Bytes, at: int) -> None:
        self.data, self.at = data, at

    def take(self, size: int) -> Bytes:
        if not 0 <= self.at <= len(self.data) - size or size < 0:
            raise broken("it points beyond its end")
        self.at += size
        return self.data[self.at - size : self.at]

    def number(self, form: str = "<Q") -> int:
        return int(struct.unpack(form, self.take(struct.calcsize(form)).tobytes())[0])

    def array(self, kind: str, count: int) -> NDArray[Any]:
        return self.take(count * np.dtype(kind).itemsize).view(kind)

    def jump(self) -> None:
        """Go where a distance says, counted from where it stands itself."""
        start = self.at
        self.at = start + self.number("<q")

    def integers(self, count: int) -> NDArray[np.int32]:
        """Packed integers, see `decode_integers`."""
        packed = self.take(self.number())
        return decode_integers(unpack_lz4(packed, 4 + (count + 3) // 4 + 4 * count), count)


class _Crate:
    """The tables of a file, and values by their 64 bits."""

    def __init__(self, data: Bytes) -> None:
        self.data = data
        head = _Reader(data, 8)
        version = tuple(int(part) for part in head.take(2))
        if not OLDEST <= version <= NEWEST:
            raise UnsupportedFormat(
                f"This USD file has version {version[0]}.{version[1]} of the binary format, which is not read here.",
                "Save it again with a current version of USD, or as .usda.",
            )
        head.at = 16
        toc = _Reader(data, head.number("<q"))
        self.tables = {}
        for _ in range(min(toc.number(), 64)):
            name = toc.take(16).tobytes().rstrip(b"\0")
            self.tables[name] = toc.number("<q")
            toc.number("<q")
        tokens = self._table(b"TOKENS")
        count, size = tokens.number(), tokens.number()
        packed = tokens.take(tokens.number())
        if size > max(255 * len(packed), 1) or size > len(data) + _LARGEST_TABLE:
            raise broken("its table of names claims too much")
        names = unpack_lz4(packed, size).split(b"\0", min(count, _LARGEST_TABLE))
        self.tokens = [name.decode("utf8", "replace") for name in names]
        fields = self._table(b"FIELDS")
        count = self._count(fields)
        indices = fields.integers(count)
        values = unpack_lz4(fields.take(fields.number()), 8 * count)
        if len(values) < 8 * count:
            raise broken("a table is shorter than it claims")
        self.fields = list(zip(indices.tolist(), np.frombuffer(values, "<u8").tolist(), strict=True))

    def _table(self, name: bytes) -> _Reader:
        if name not in self.tables:
            raise broken(f"it has no table of {name.decode().lower()}")
        return _Reader(self.data, self.tables[name])

    def _count(self, reader: _Reader) -> int:
        """Entries of a table; each needs some bits of the file."""
        count = reader.number()
        if count > 8 * len(self.data) or count > _LARGEST_TABLE:
            raise broken("a table claims more entries than the file has room for")
        return count

    def token(self, index: int) -> str:
        return self.tokens[index] if 0 <= index < len(self.tokens) else ""

    def specs(self) -> dict[str, dict[str, int]]:
        """Fields by name, by path; of a property 'prim.name'."""
        paths = self._paths()
        table = self._table(b"FIELDSETS")
        sets = table.integers(self._count(table)).view(np.uint32).tolist()
        table = self._table(b"SPECS")
        count = self._count(table)
        where, starts = table.integers(count).tolist(), table.integers(count).tolist()
        found: dict[int, dict[str, int]] = {}  # by where a set begins: many specs share one
        left = len(sets)
        for start in {*starts}:
            found[start] = fields = {}
            for at in range(max(start, 0), len(sets)):
                if sets[at] >= len(self.fields):
                    break
                if (left := left - 1) < 0:
                    raise broken("its sets of fields overlap")
                name, value = self.fields[sets[at]]
                fields[self.token(name)] = value
        return {paths[index]: found[start] for index, start in zip(where, starts, strict=True) if index in paths}

    def _paths(self) -> dict[int, str]:
        """Paths by number; they lie as a tree, children first, and say where the next sibling is."""
        table = self._table(b"PATHS")
        self._count(table)
        count = self._count(table)
        numbers, names, jumps = (table.integers(count).tolist() for _ in range(3))
        paths: dict[int, str] = {}
        size = 0
        todo = [(0, "")]
        seen = set()
        while todo:
            at, parent = todo.pop()
            while 0 <= at < count and at not in seen:
                seen.add(at)
                name = self.token(abs(names[at]))
                path = "/" if not at else f"{parent}.{name}" if names[at] < 0 else f"{parent.rstrip('/')}/{name}"
                size += len(path)
                if size > len(self.data) + _LARGEST_TABLE:
                    raise broken("its paths are too long")
                paths[numbers[at]] = path
                jump = jumps[at]
                if jump > 0:
                    todo.append((at + jump, parent))
                if jump > 0 or jump == -1:
                    parent = path
                elif jump != 0:
                    break
                at += 1
        return paths

    def value(self, bits: int, most: int) -> Any:
        """A number, a name, some numbers, a list of names, or an array (n,) or (n, components) of at most `most` elements; None
        for anything else.
        """
        kind, payload = bits >> 48 & 0xFF, bits & _PAYLOAD
        if bits & ARRAY:
            return self._array(kind, payload, bool(bits & _COMPRESSED), most) if payload else np.empty((0, 1), np.float32)
        if kind == TOKEN:
            return self.token(payload)
        if kind in _SINGLES:
            return self._few_numbers(kind, payload, bool(bits & INLINED))
        if bits & INLINED:
            raw = (payload & 0xFFFFFFFF).to_bytes(4, "little")
            return {3: lambda: struct.unpack("<i", raw)[0], 8: lambda: struct.unpack("<f", raw)[0],
                    9: lambda: struct.unpack("<f", raw)[0]}.get(kind, lambda: None)()  # fmt: skip
        return struct.unpack("<d", _Reader(self.data, payload).take(8).tobytes())[0] if kind == 9 else None

    def _few_numbers(self, kind: int, payload: int, inlined: bool) -> Any:
        """A vector, quaternion (xyzw) or matrix (16,); small whole numbers take a byte each, matrices of them four."""
        form, count = _SINGLES[kind]
        raw = payload.to_bytes(6, "little")
        if not inlined:
            return _Reader(self.data, payload).array(form, count)
        if count == 1:
            return float(np.frombuffer(raw, form, 1)[0])
        if kind == _MATRIX:
            return np.diag(np.frombuffer(raw, "i1", 4)).reshape(-1)
        return np.frombuffer(raw, "i1", count)

    def _array(self, kind: int, at: int, packed: bool, most: int) -> Any:
        if kind == TOKEN and not packed:
            reader = _Reader(self.data, at)
            if (count := reader.number()) > most:
                raise broken(f"a list of {count:,} names is too long")
            return [self.token(index) for index in reader.array("<u4", count).tolist()]
        if kind not in _TYPES:
            return None
        number, components = _TYPES[kind]
        reader = _Reader(self.data, at)
        count = reader.number()
        if count > most:
            raise broken(f"an array claims {count:,} elements, where {most:,} fit")
        if not packed or count < _FEW:
            array = reader.array(number, count * components)
            return array.reshape(count, components) if components > 1 else array
        if components > 1:
            raise broken("an array is packed that cannot be")
        if number == "<i4":
            return reader.integers(count)
        how = reader.number("B")
        if how == ord("i"):
            return reader.integers(count).astype(number)
        if how != ord("t"):
            raise broken("an array is packed in an unknown way")
        values = reader.array(number, reader.number("<I"))
        index = reader.integers(count).view(np.uint32)
        if len(index) and index.max() >= len(values):
            raise broken("an array points beyond its values")
        return values[index]

    def samples(self, bits: int) -> tuple[NDArray[np.float64], NDArray[np.uint64]]:
        """Times and the values at them, by their 64 bits."""
        reader = _Reader(self.data, bits & _PAYLOAD)
        reader.jump()
        times_at = reader.number()
        reader.jump()
        values = reader.array("<u8", reader.number())
        if times_at >> 48 & 0xFF != DOUBLES:
            raise broken("its samples have no times")
        there = _Reader(self.data, times_at & _PAYLOAD)
        times = there.array("<f8", there.number())
        if len(times) != len(values) or not np.isfinite(times).all() or (np.diff(times) <= 0).any():
            raise broken("its samples and their times do not go together")
        return times, values


def read(data: Bytes) -> Layer:
    """The prims of a file, their arrays left where they are until somebody asks for them.

    Raises BrokenFile for damaged files, UnsupportedFormat for versions before 0.7.
    """
    crate = _Crate(data)
    specs = crate.specs()
    metadata = {name: crate.value(value, 0) for name, value in specs.get("/", {}).items() if not value & ARRAY}
    prims: dict[str, Prim] = {}
    for path, fields in specs.items():
        if "." not in path and path != "/":
            kind = crate.value(fields.get("typeName", 0), 0)
            prims[path] = Prim(path, kind if isinstance(kind, str) else "")
    for path, fields in specs.items():
        prim, _, name = path.partition(".")
        if name and prim in prims:
            prims[prim].attributes[name] = _attribute(crate, fields)
    return Layer(metadata, list(prims.values()))


def _attribute(crate: _Crate, fields: Mapping[str, int]) -> Attribute:
    default = fields.get("default")
    times, values = crate.samples(fields["timeSamples"]) if "timeSamples" in fields else (np.empty(0), np.empty(0, np.uint64))

    def get(sample: int | None, most: int) -> Any:
        bits = default if sample is None else int(values[sample])
        return None if bits is None else crate.value(bits, most)

    return Attribute(times, default is not None, get)
