# SPDX-License-Identifier: GPL-3.0-or-later
"""A splat file in parts: binary PLY some rows at a time, so that it may be larger than memory; other formats whole."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..cloud import SplatCloud
from ..motion.linear import Linear
from . import Overrides, compressed_ply, files, ply, ply_dialects, ply_header, ply_linear, ply_network, ply_rotor4d, read_splats
from .ply_header import Bytes

ROWS = 1 << 18


@dataclass(frozen=True)
class Parts:
    """A cloud of about `count` splats; `read()` gives it part after part, as often as asked."""

    count: int
    read: Callable[[], Iterator[SplatCloud]]


def parts_of(path: Path, overrides: Overrides | None = None, rows: int = ROWS) -> Parts:
    """The cloud of a file; the parts of a moving one all have the whole's time range.

    Raises as `read_splats`, also while parts are read.
    """
    overrides = overrides or Overrides()
    with files.reading(path):
        data = files.view(path)
        count = _rows_in(data, path)
    if not count:
        cloud = read_splats(path, overrides)
        return Parts(len(cloud), lambda: (cloud.select(slice(i, i + rows)) for i in range(0, len(cloud), rows)))
    said = ply_dialects.recognise(ply_header.parse(data[: ply_header.LONGEST_HEADER].tobytes()), moves=True).time_range
    span = overrides.time_range or said or _time_range(_read(path, count, rows, overrides))
    timed = Overrides.of({**overrides.told(), **({"time_range": span} if span else {})})
    return Parts(count, lambda: _read(path, count, rows, timed))


def _rows_in(data: Bytes, path: Path) -> int:
    """How many rows a PLY file has that can be read in parts; 0 for all else."""
    if not ply_header.is_ply(data[:8].tobytes()) or ply_network.has_network(data, path):
        return 0
    header = ply_header.parse(data[: ply_header.LONGEST_HEADER].tobytes())
    first = header.elements[0] if header.elements else None
    if not header.order or first is None or first.name != "vertex" or compressed_ply.is_compressed(header):
        return 0
    return ply_header.rows_of(data, header, "vertex")[0]


def _read(path: Path, count: int, rows: int, overrides: Overrides) -> Iterator[SplatCloud]:
    with files.reading(path), path.open("rb") as file:
        head = file.read(ply_header.LONGEST_HEADER)
        header = ply_header.parse(head)
        width = sum(np.dtype(code).itemsize for code in header.element("vertex").columns.values())
        for start in range(0, count, rows):
            part = min(rows, count - start)
            text = re.sub(rb"([\r\n]element[ \t]+vertex[ \t]+)\d+", rb"\g<1>%d" % part, head[: header.size], count=1)
            shift = -len(text) % 16  # so that rows begin where floats may
            data = np.empty(shift + len(text) + part * width, np.uint8)[shift:]
            data[: len(text)] = np.frombuffer(text, np.uint8)
            file.seek(header.size + start * width)
            file.readinto(memoryview(data)[len(text) :])
            yield overrides.apply(ply.decode(data, overrides))


def _time_range(parts: Iterator[SplatCloud]) -> tuple[float, float] | None:
    """First and last time as the reader of the whole file finds it; None where every part says the same."""
    times: list[list[np.ndarray]] = []
    kind: type | None = None
    for part in parts:
        if not isinstance(part.family, Linear):
            return None
        kind = type(part.family)
        family = part.family
        times.append([family.center] if kind is not Linear else [family.center, family.first, family.last])
    joined = [np.concatenate(column) for column in zip(*times, strict=True)]
    return (ply_linear.span if kind is Linear else ply_rotor4d.span)(*joined)
