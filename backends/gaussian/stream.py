# SPDX-License-Identifier: GPL-3.0-or-later
"""A moving cloud in a file from which any stretch of its time is read by itself, so that it may be larger than memory.

The clip is cut into equal windows, and a window's splats are those that can be seen at any time in it, with all that
their family's formula needs: at every sub-frame they look as the whole cloud does.  Splats that live for at most 2^l windows
are of level l, and lie in bins of so many windows by when they begin; so a window's splats are in at most three bins a level.

File: MAGIC, u64 place and u64 length of a JSON header, which stands at the end with the table of runs before it.  A run is
i32 level, i32 bin, i32 splats; its rows of float32 follow those of the run before.  A row is `first` and `last` in windows,
then the columns of the header.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..common.errors import BrokenFile, VivantError
from .cache import Floats
from .cloud import Source, SplatCloud
from .motion import FAMILIES
from .motion.stg_full import Decoder, StgFull

MAGIC = b"VIVANTSTREAM\x01\r\n\x1a"
EXTENSION = ".vivantstream"
START = len(MAGIC) + 16
MARGIN = 0.01
"""Of a window: so much earlier and later than it begins and ends, its splats are there too."""
HINT = "Press Prepare Again in the tab Vivant."
BASE = "radiance:base"
HIGHER = "radiance:sh_"
_LONGEST_HEADER = 1 << 20
_BLOCK = 1024
_RUN = np.dtype([("level", "<i4"), ("bin", "<i4"), ("rows", "<i4")])


class SplatStream:
    """A clip (`playback.Clip`) of attributes: times (T,), when windows begin; span, first and last time; most, splats that
    any window has; count, those of the whole cloud; kind, the name of the family; columns, width by attribute name.

    Raises BrokenFile for files that are cut off or make no sense, VivantError for those that cannot be opened.
    """

    linked = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self._last: tuple[NDArray[np.int64], dict[str, Floats]] = (
            np.full(1, -1),
            {},
        )  # rows read last, and what of them
        try:
            with path.open("rb") as file:
                head = file.read(START)
                size = file.seek(0, 2)
                place, length = (int.from_bytes(head[i : i + 8], "little") for i in (len(MAGIC), len(MAGIC) + 8))
                if head[: len(MAGIC)] != MAGIC:
                    raise self._broken("it is of another version, or no such file at all")
                if length > _LONGEST_HEADER or place + length != size:
                    raise self._broken("it is cut off")
                file.seek(place)
                self._read_header(file.read(length))
                runs = self._count * _RUN.itemsize
                if runs > place - START:
                    raise self._broken("it is cut off")
                file.seek(place - runs)
                self._index(np.frombuffer(file.read(runs), _RUN), place - runs)
        except OSError as error:
            raise VivantError(f"The file '{path.name}' cannot be opened: {error.strerror}.", HINT) from error

    def __len__(self) -> int:
        return len(self.times)

    def read(self, frame: int) -> dict[str, Floats]:
        """Attributes (most, C) of a window's splats; unseen ones fill up what is missing.

        The same arrays again while the same splats live.  Threads may call it.
        """
        rows, numbers = self._rows(frame)
        alive = np.flatnonzero((rows[:, 0] <= frame + 1 + MARGIN) & (rows[:, 1] >= frame - MARGIN))
        if len(alive) > self.most:
            raise self._broken("a window has more splats than any should")
        last = self._last
        if np.array_equal(numbers[alive], last[0]):
            return dict(last[1])
        found, at = {}, 2
        for name, width in self.columns.items():
            found[name] = np.empty((self.most, width), np.float32)
            found[name][len(alive) :] = self._spare[at : at + width]
            at += width
        for start in range(0, len(alive), _BLOCK):  # a block of rows stays in a core's cache while its columns are taken apart
            block, at = rows[alive[start : start + _BLOCK]], 2
            for values in found.values():
                values[start : start + len(block)] = block[:, at : at + values.shape[1]]
                at += values.shape[1]
        found = {name: values[:, 0] if values.shape[1] == 1 else values for name, values in found.items()}
        self._last = numbers[alive], found
        return dict(found)

    def cloud(self, frame: int) -> SplatCloud:
        """A window's splats and how they move."""
        columns, facts = self.read(frame), self.facts
        base = columns[BASE]
        higher = [columns[f"{HIGHER}{i}"] for i in range(sum(name.startswith(HIGHER) for name in columns))]
        family = FAMILIES[self.kind].from_attributes(columns, self.span)
        if isinstance(family, StgFull) and facts["decoder"]:
            family = dataclasses.replace(family, decoder=Decoder.of(facts["decoder"]))
        return SplatCloud(
            means=columns["position"],
            quats=columns["rotation"],
            scales=columns["scale"],
            opacities=base[:, 3],
            sh=np.stack([base[:, :3], *higher], axis=1),
            family=family,
            source=Source(facts["format"], "", facts["axes"], bool(facts["antialiased"]), warnings=tuple(facts["warnings"])),
        )

    def _rows(self, window: int) -> tuple[Floats, NDArray[np.int64]]:
        """The rows of all runs that may hold splats of a window, and their numbers in the file."""
        chosen: list[NDArray[np.intp]] = []
        for level in range(self._levels):
            low, high = (int(np.floor(edge)) >> level for edge in (window - MARGIN, window + 1 + MARGIN))
            edges = np.searchsorted(self._keys, [(level << 32) + max(low - 1, 0), (level << 32) + max(high, 0) + 1])
            chosen.append(self._order[edges[0] : edges[1]])
        runs = np.sort(np.concatenate(chosen))
        rows = np.empty((int(self._sizes[runs].sum()), self._width), np.float32)
        numbers = [np.empty(0, np.int64)]
        at = 0
        try:
            with self.path.open("rb") as file:
                for stretch in np.split(runs, np.flatnonzero(np.diff(runs) > 1) + 1):
                    if not len(stretch):
                        continue
                    part = rows[at : at + int(self._sizes[stretch].sum())]
                    place = int(self._places[stretch[0]])
                    file.seek(place)
                    if file.readinto(memoryview(part).cast("B")) != part.nbytes:  # type: ignore[attr-defined]
                        raise self._broken("it was cut off")
                    at += len(part)
                    numbers.append(np.arange(len(part)) + (place - START) // (4 * self._width))
        except OSError as error:
            raise VivantError(f"The file '{self.path.name}' cannot be read: {error.strerror}.", HINT) from error
        return rows, np.concatenate(numbers)

    def _read_header(self, data: bytes) -> None:
        try:
            header: dict[str, Any] = json.loads(data)
            self.source, self.kind = str(header["source"]), str(header["family"])
            self.count, self.most, windows = (int(header[name]) for name in ("count", "most", "windows"))
            self.span = float(header["span"][0]), float(header["span"][1])
            self.columns = {str(name): int(width) for name, width in header["columns"].items()}
            self.facts: dict[str, Any] = dict(header["facts"])
            self._count = int(header["runs"])
        except (ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError, RecursionError) as error:
            raise self._broken("its header makes no sense") from error
        self._levels, self._width = windows.bit_length(), 2 + sum(self.columns.values())
        sound = 0 < windows <= 1 << 16 and windows & (windows - 1) == 0 and self.kind in FAMILIES and self._count >= 0
        sound &= 0 <= self.most <= self.count < 1 << 31 and bool(np.isfinite(self.span).all()) and self.span[0] < self.span[1]
        if not sound or not all(0 < width <= 4 for width in self.columns.values()) or BASE not in self.columns:
            raise self._broken("its header makes no sense")
        self.times = np.linspace(*self.span, windows + 1)[:-1]

    def _index(self, runs: NDArray[Any], end: int) -> None:
        """Check the table of runs, and order it by level and bin."""
        self._sizes = runs["rows"].astype(np.int64)
        self._places = START + np.concatenate([[0], np.cumsum(self._sizes)]) * 4 * self._width
        sound = bool((runs["rows"] > 0).all() and (runs["bin"] >= 0).all() and (runs["level"] >= 0).all())
        if not sound or self._places[-1] != end or self.most > self._sizes.sum():
            raise self._broken("its table makes no sense")
        keys = (runs["level"].astype(np.int64) << 32) + runs["bin"]
        self._order = np.argsort(keys, kind="stable")
        self._keys = keys[self._order]
        self._spare = np.zeros(self._width, np.float32)
        if len(runs):
            with self.path.open("rb") as file:
                file.seek(START)
                self._spare = np.frombuffer(file.read(4 * self._width), np.float32).copy()
        at = 2
        for name, width in self.columns.items():
            if name == BASE:
                self._spare[at + 3] = 0  # no opacity
            at += width

    def _broken(self, why: str) -> BrokenFile:
        return BrokenFile(f"The file '{self.path.name}' cannot be used: {why}.", HINT)
