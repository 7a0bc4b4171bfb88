# SPDX-License-Identifier: GPL-3.0-or-later
"""The frame cache: a moving cloud's frames in one file that is mapped into memory, as whole numbers of small steps.

Every value is kept to within half a step of its column (`STEPS`).  A column of a frame is nothing where it is the
still cloud's own; else a key, or its difference to an earlier key in as few bytes as each block of splats needs, so
that any frame costs at most two reads.

File: MAGIC, u32 length of a JSON header, the header.  For each frame a record: 'FRAM', u32 frame, then for each column
u32 frame of its key (NONE: as in the still cloud) and u32 bytes, then a CRC-32 of all that; then the columns.  A column
is u32 n, n times (u32 splats, u32 bytes a value), then the values of each run.  All of it begins at multiples of 16.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..common.errors import BrokenFile, VivantError
from .cloud import SplatCloud
from .motion.frames import Frames

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]

MAGIC = b"VIVANTFRAMES\x01\r\n\x1a"
EXTENSION = ".vivantframes"
NONE = 0xFFFFFFFF
STEPS = {"means": 2.0**-16, "quats": 2.0**-14, "scales": 2.0**-9, "opacities": 2.0**-12, "sh": 2.0**-10}
"""Of each column: of means in sizes of the box that holds 98 % of the splats (or ten times a splat's own, or a 1024th of
the way to the farthest one, where that is more), of scales in their logarithm."""
LARGEST_LOGARITHM = 20.0
LONGEST_HEADER = 1 << 24
ROWS = 16384
"""Splats that are decoded at once: what they need stays in a core's cache."""
HINT = "Delete it and bake the frames again."

_TYPES: dict[int, np.dtype[Any]] = {1: np.dtype("<i1"), 2: np.dtype("<i2"), 4: np.dtype("<i4")}
_BLOCK = 4096


class FrameCache:
    """Frames of a file: times (T,); count splats; source, the fingerprint of what it was made from.

    Raises BrokenFile for files that are cut off or make no sense, VivantError for those that cannot be opened.
    """

    def __init__(self, path: Path, partial: bool = False) -> None:
        """partial: take what whole frames there are, and no more."""
        self.path = path
        try:
            self._data = np.memmap(path, np.uint8, "r")
        except (OSError, ValueError) as error:
            raise VivantError(f"The frame cache '{path.name}' cannot be opened: {error}.", HINT) from error
        header, start = self._read_header()
        try:
            self.count, self.source = int(header["count"]), str(header["source"])
            self.times = np.array(header["times"], np.float64)
            self.columns = {name: (int(width), float(step), np.array(origin, np.float32))
                            for name, (width, step, origin) in header["columns"].items()}  # fmt: skip
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            raise self._broken("its header makes no sense") from error
        sound = self.columns.keys() <= STEPS.keys() and self.times.ndim == 1 and 0 <= self.count < 1 << 31
        for width, step, origin in self.columns.values():
            sound &= 0 < width <= 75 and 0 < step < 1e30 and origin.shape == (width,) and bool(np.isfinite(origin).all())
        if not sound or not np.isfinite(self.times).all():
            raise self._broken("its header makes no sense")
        self._entries, self.end = self._read_records(start, partial)
        self._keys: dict[str, tuple[int, Floats]] = {}
        names = [set(entry) for entry in self._entries]
        self.partly = set().union(*names) - set(self.columns).intersection(*names)
        """Columns that some frames have, while in others they are the still cloud's."""

    def __len__(self) -> int:
        return len(self._entries)

    def read(self, frame: int) -> dict[str, Floats]:
        """The columns of a frame that differ from the still cloud's, by their names in SplatCloud; sh as (N, 3 K).

        Columns that do not change between frames may be the same array.  Quaternions are unit to 1e-4.
        """
        found = {}
        for name, (key, place, size) in self._entries[frame].items():
            values = self._key(name, key)
            if frame != key and size:
                values = self._added(name, place, size, values)
                if name == "scales":
                    np.exp(np.minimum(values, LARGEST_LOGARITHM, out=values), out=values)
            elif name == "scales":
                values = np.exp(values)
            found[name] = values[:, 0] if name == "opacities" else values
        return found

    def cloud(self, base: SplatCloud, frame: int) -> SplatCloud:
        """The still cloud of a frame; base: the cloud whose frames these are."""
        columns = self.read(frame)
        if "sh" in columns:
            columns["sh"] = columns["sh"].reshape(base.sh.shape)
        return base.replace(family=None, **columns)

    def family(self, base: SplatCloud) -> Frames:
        """The family that plays these frames for a cloud, mixing neighbours in between."""
        if len(base) != self.count:
            raise VivantError(f"The frame cache '{self.path.name}' has {self.count:,} splats, not {len(base):,}.", HINT)
        still = base.replace(family=None)
        return Frames(self.times, lambda frame: self.cloud(still, frame), linked=True)

    def keys_of(self, frame: int) -> list[str]:
        """Columns whose key this frame holds."""
        return [name for name, (key, _, _) in self._entries[frame].items() if key == frame]

    def key(self, name: str, frame: int) -> tuple[int, Ints, int]:
        """The key of a column that a frame holds: the frame, its whole numbers (N, C) and its bytes."""
        _, place, size = self._entries[frame][name]
        numbers = np.zeros((self.count, self.columns[name][0]), np.int32)
        for rows, values in self._runs(name, place, size):
            if values is not None:
                numbers[rows] = values
        return frame, numbers, size

    def _key(self, name: str, frame: int) -> Floats:
        """A key's values (of scales: their logarithms); the last one of each column is kept."""
        kept = self._keys.get(name)
        if kept is None or kept[0] != frame:
            _, place, size = self._entries[frame][name]
            width, _, origin = self.columns[name]
            base = np.broadcast_to(origin, (self.count, width))
            kept = self._keys[name] = frame, self._added(name, place, size, base)
        return kept[1]

    def _added(self, name: str, place: int, size: int, base: Floats) -> Floats:
        """base (N, C) and the steps of a column."""
        step = np.float32(self.columns[name][1])
        values = np.empty(base.shape, np.float32)
        for rows, numbers in self._runs(name, place, size):
            if numbers is None:
                values[rows] = base[rows]
                continue
            for start in range(0, len(numbers), ROWS):
                part = slice(rows.start + start, min(rows.start + start + ROWS, rows.stop))
                np.multiply(numbers[start : start + ROWS], step, out=values[part], casting="unsafe")
                values[part] += base[part]
        return values

    def _runs(self, name: str, place: int, size: int) -> Iterator[tuple[slice, NDArray[Any] | None]]:
        """Rows and their whole numbers (n, C), None where they are zero."""
        width = self.columns[name][0]
        data = self._data[place : place + size]
        row = 0
        try:
            (count,) = struct.unpack_from("<I", data)
            runs = struct.unpack_from(f"<{2 * count}I", data, 4)
            at = _aligned(4 + 8 * count)
            for rows, item in zip(runs[::2], runs[1::2], strict=True):
                if not rows:
                    raise ValueError("an empty run")
                if item:
                    numbers = np.ndarray((rows, width), _TYPES[item], data.data, at)
                    at = _aligned(at + numbers.nbytes)
                if row + rows > self.count:
                    raise ValueError("too many splats")
                yield slice(row, row + rows), numbers if item else None
                row += rows
        except (struct.error, KeyError, ValueError, TypeError) as error:
            raise self._broken(f"its {name} make no sense") from error
        if row != self.count:
            raise self._broken(f"its {name} are not those of {self.count:,} splats")

    def _read_header(self) -> tuple[dict[str, Any], int]:
        data = self._data
        if data[: len(MAGIC)].tobytes() != MAGIC:
            raise self._broken("it is of another version, or no frame cache at all")
        length = int.from_bytes(data[16:20].tobytes(), "little")
        if length > min(len(data) - 20, LONGEST_HEADER):
            raise self._broken("it is cut off")
        try:
            header = json.loads(data[20 : 20 + length].tobytes())
        except (ValueError, RecursionError) as error:
            raise self._broken("its header is damaged") from error
        return header, _aligned(20 + length)

    def _read_records(self, at: int, partial: bool) -> tuple[list[dict[str, tuple[int, int, int]]], int]:
        """For each frame the frame of the key, the place and the bytes of its columns; and where the last record ends."""
        layout = struct.Struct(f"<4sI{2 * len(self.columns)}I")
        entries: list[dict[str, tuple[int, int, int]]] = []
        while len(entries) < len(self.times):
            head = self._data[at : at + layout.size + 4].tobytes()
            whole = len(head) == layout.size + 4 and struct.pack("<I", zlib.crc32(head[:-4])) == head[-4:]
            mark, frame, *pairs = layout.unpack(head[:-4]) if whole else (b"", 0)
            place = _aligned(at + layout.size + 4)
            entry = {}
            for name, key, size in zip(self.columns, pairs[::2], pairs[1::2], strict=False):
                if key != NONE:
                    entry[name] = key, place, size
                    least = self.count * self.columns[name][0] if key == frame else 0  # so that no file grows in memory
                    whole &= size >= least
                    whole &= key == frame or (key < frame and name in entries[key] and entries[key][name][0] == key)
                place += size
            if not (whole and mark == b"FRAM" and frame == len(entries) and place <= len(self._data)):
                if partial:
                    break
                raise self._broken(f"frame {len(entries)} of {len(self.times)} is cut off or damaged")
            entries.append(entry)
            at = place
        return entries, at

    def _broken(self, why: str) -> BrokenFile:
        return BrokenFile(f"The frame cache '{self.path.name}' cannot be used: {why}.", HINT)


def header_bytes(header: dict[str, Any]) -> bytes:
    """The beginning of a file."""
    text = json.dumps(header).encode()
    return padded(MAGIC + len(text).to_bytes(4, "little") + text)


def record_bytes(frame: int, entries: list[int], payloads: list[bytes]) -> bytes:
    """A frame's record; entries: key and bytes of each column."""
    head = struct.pack(f"<4sI{len(entries)}I", b"FRAM", frame, *entries)
    return b"".join([padded(head + struct.pack("<I", zlib.crc32(head))), *payloads])


def column_bytes(numbers: Ints, least: int = 0) -> bytes:
    """Whole numbers (N, C) in as few bytes a value as each block of splats needs, but at least so many."""
    count = len(numbers)
    starts = np.arange(0, count, _BLOCK)
    largest = np.maximum.reduceat(np.abs(numbers).max(axis=1), starts) if count else starts
    items = np.select([largest == 0, largest < 1 << 7, largest < 1 << 15], [least, 1, 2], 4)
    edges = [0, *(np.flatnonzero(np.diff(items)) + 1).tolist()] if count else []
    stops = [min(edge * _BLOCK, count) for edge in edges[1:]] + [count]
    runs = [(edge * _BLOCK, stop, int(items[edge])) for edge, stop in zip(edges, stops, strict=False)]
    table = struct.pack(f"<{1 + 2 * len(runs)}I", len(runs), *(n for start, stop, item in runs for n in (stop - start, item)))
    parts = [padded(numbers[start:stop].astype(_TYPES[item]).tobytes()) for start, stop, item in runs if item]
    return b"".join([padded(table), *parts])


def padded(data: bytes) -> bytes:
    """Bytes filled up to a multiple of 16."""
    return data + bytes(-len(data) % 16)


def _aligned(place: int) -> int:
    return -(-place // 16) * 16
