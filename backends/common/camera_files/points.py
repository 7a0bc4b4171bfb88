# SPDX-License-Identifier: GPL-3.0-or-later
"""The points of COLMAP's sparse models: points3D.bin or .txt (colmap.github.io/format.html)."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import BrokenFile

MOST = 20_000_000
_HEAD = struct.Struct("<Q3d3BdQ")  # number, place, colour, error, length of the track
_TRACK = 8  # bytes of each of its entries


def read(folder: Path) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
    """Places (N, 3) and colours (N, 3), display values from 0 to 1, of a model's points; None where it has none.

    Points that are not finite are left out.  Raises BrokenFile for a damaged file.
    """
    binary, text = folder / "points3D.bin", folder / "points3D.txt"
    if binary.is_file():
        rows = _binary(binary)
    elif text.is_file():
        rows = _text(text)
    else:
        return None
    rows = rows[np.isfinite(rows).all(axis=1) & (np.abs(rows) < 1e9).all(axis=1)]
    return (rows[:, :3].astype(np.float32), (rows[:, 3:] / 255).clip(0, 1).astype(np.float32)) if len(rows) else None


def _binary(path: Path) -> NDArray[np.float64]:
    data = path.read_bytes()
    count = int.from_bytes(data[:8], "little")
    if len(data) < 8 or count > min((len(data) - 8) // _HEAD.size, MOST):
        raise _damaged(path)
    rows, offset = np.empty((count, 6)), 8
    for index in range(count):
        if offset + _HEAD.size > len(data):
            raise _damaged(path)
        _, *values, _, track = _HEAD.unpack_from(data, offset)
        rows[index] = values
        offset += _HEAD.size + _TRACK * track
    if offset > len(data):
        raise _damaged(path)
    return rows


def _text(path: Path) -> NDArray[np.float64]:
    rows = []
    with path.open("rb") as file:
        for line in file:
            if line.isspace() or line.startswith(b"#"):
                continue
            try:
                rows.append([float(word) for word in line[:1000].split(maxsplit=8)[1:7]])
            except ValueError as error:
                raise _damaged(path) from error
            if len(rows[-1]) != 6 or len(rows) > MOST:
                raise _damaged(path)
    return np.array(rows, np.float64).reshape(-1, 6)


def _damaged(path: Path) -> BrokenFile:
    return BrokenFile(f"The COLMAP file '{path.name}' is damaged.", "Export it again, or delete it: training does without.")
