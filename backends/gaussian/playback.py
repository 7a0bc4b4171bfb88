# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames of a clip as columns, at any time, read ahead: the same for a frame cache and for a sequence of files.

On a frame's own time its columns come as they are.  In between, where the same splat has the same place in all frames,
both neighbours are mixed (rotations the short way); else the earlier frame stays until the next.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..common.rotations import normalise
from .cache import Floats, FrameCache
from .cloud import SplatCloud
from .motion.frames import Frames
from .read_ahead import NEAR, ReadAhead

Columns = dict[str, Floats]


class Clip(Protocol):
    """times (T,), increasing; linked: whether the same splat has the same place in all frames."""

    times: NDArray[np.float64]
    linked: bool

    def __len__(self) -> int: ...

    def read(self, frame: int) -> Columns:
        """Columns by their names in SplatCloud, sh as (N, 3 K); arrays that did not change may be the same."""
        ...


class FileClip:
    """The frames of a sequence, read from its files."""

    def __init__(self, cloud: SplatCloud) -> None:
        assert isinstance(cloud.family, Frames)
        self._cloud, self._family = cloud, cloud.family
        self.times, self.linked = cloud.family.times, cloud.family.linked

    def __len__(self) -> int:
        return len(self.times)

    def read(self, frame: int) -> Columns:
        return columns_of(self._family.at(self._cloud, float(self.times[frame])), self._cloud.sh.shape[1])


class CacheClip:
    """The frames of a cache, every one with all the columns that any has; still: the cloud they were made from."""

    linked = True

    def __init__(self, cache: FrameCache, still: Callable[[], SplatCloud]) -> None:
        self.cache, self.times = cache, cache.times
        self._still = columns_of(still()) if cache.partly else {}

    def __len__(self) -> int:
        return len(self.cache)

    def read(self, frame: int) -> Columns:
        return {name: self._still[name] for name in self.cache.partly} | self.cache.read(frame)


class Playback:
    """A clip at any of its times."""

    def __init__(self, clip: Clip) -> None:
        self.clip = clip
        self._ahead = ReadAhead(clip)
        self._held: dict[int, Columns] = {}  # the last frame, or two to mix
        self._index = 0.0  # of the time asked for last, among the clip's

    def place(self, time: float) -> tuple[int, float]:
        """The frame that is shown at a time, and how far it is on the way to the next, 0 to 1."""
        times = self.clip.times
        place = self._index = float(np.interp(time, times, np.arange(len(times))))
        frame = min(int(place + NEAR), len(times) - 1)
        share = place - frame
        return frame, share if self.clip.linked and share > NEAR else 0.0

    def columns(self, frame: int, share: float = 0.0) -> Columns:
        """What `place` names.  Raises VivantError where the clip cannot be read."""
        a = self._frame(frame)
        found = mixed(a, self._frame(frame + 1), np.float32(share)) if share else a
        self._ahead.follow(self._index, self._held, self.clip.linked)
        return found

    def close(self) -> None:
        """Let the reading thread go."""
        self._ahead.close()

    def _frame(self, frame: int) -> Columns:
        if frame not in self._held:
            while len(self._held) > self.clip.linked:
                del self._held[next(iter(self._held))]
            self._held[frame] = self._ahead.read(frame)
        return self._held[frame]


def mixed(a: Columns, b: Columns, share: np.float32) -> Columns:
    """(1 - share) of one frame and share of another; the first where they are not as many splats."""
    found = dict(a)
    for name in a.keys() & b.keys():
        before, after = a[name], b[name]
        if before is after or before.shape != after.shape:
            continue
        if name == "quats":
            signs = np.where(np.einsum("nc,nc->n", before, after) < 0, np.float32(-1), np.float32(1))
            found[name] = normalise(before + share * (after * signs[:, None] - before))
        else:
            found[name] = before + share * (after - before)
    return found


def columns_of(still: SplatCloud, coefficients: int = 0) -> Columns:
    """A still cloud's columns; of the spherical harmonics so many coefficients, if said."""
    sh = np.zeros((len(still), coefficients or still.sh.shape[1], 3), np.float32)
    kept = min(sh.shape[1], still.sh.shape[1])
    sh[:, :kept] = still.sh[:, :kept]
    return {
        "means": still.means,
        "quats": still.quats,
        "scales": still.scales,
        "opacities": still.opacities,
        "sh": sh.reshape(len(still), 3 * sh.shape[1]),
    }


def padded(columns: Columns, count: int) -> Columns:
    """As many splats as count, those that are missing unseen, at the first one's place."""
    if not any(len(values) != count for values in columns.values()):
        return columns
    found = {}
    for name, values in columns.items():
        found[name] = np.zeros((count, *values.shape[1:]), np.float32)
        found[name][: len(values)] = values[:count]
        if name != "opacities" and len(values):
            found[name][len(values) :] = values[0]
    return found
