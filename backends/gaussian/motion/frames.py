# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames: a still cloud for each of some times, read from their files when asked for (numbered files, USD samples).

Only the last few frames are in memory.  Where the same splat has the same place in all of them (`linked`), what lies
between two frames is mixed from both; else the earlier one stays until the next, and the number of splats may change.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...common.errors import VivantError
from ...common.rotations import normalise
from ..axes import turn, turn_quats, turn_sh
from .family import Family

if TYPE_CHECKING:
    from ..cloud import SplatCloud

KEPT = 2
"""Frames in memory: the two that a time lies between."""


@dataclass(frozen=True, eq=False)
class Frames(Family):
    """times (T,), increasing; read(i) is the still cloud at times[i], in the files' own frame, which `frame` (3, 3) takes
    to the cloud's; index picks splats, where they are linked.

    Changes to the arrays of the cloud that it belongs to do not reach the frames.
    """

    name: ClassVar[str] = "Frames"
    ATTRIBUTES: ClassVar[tuple[str, ...]] = ()

    times: NDArray[np.float64]
    read: Callable[[int], SplatCloud]
    linked: bool = False
    frame: NDArray[np.float64] = field(default_factory=lambda: np.eye(3))
    index: NDArray[np.intp] | None = None
    time_range: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "times", np.asarray(self.times, np.float64))
        if self.time_range == (0.0, 0.0):
            object.__setattr__(self, "time_range", (float(self.times[0]), float(self.times[-1])))
        if not hasattr(self.read, "cache_info"):
            object.__setattr__(self, "read", lru_cache(KEPT)(self.read))

    def at(self, cloud: SplatCloud, time: float, camera: ArrayLike | None = None) -> SplatCloud:
        """The cloud at `time`; where frames are not linked it may have another number of splats than `cloud`."""
        time = float(np.clip(time, *self.time_range))
        before = max(int(np.searchsorted(self.times, time, "right")) - 1, 0)
        still = self.read(before)
        if self.linked and before + 1 < len(self.times) and time > self.times[before]:
            after = self.read(before + 1)
            share = np.float32((time - self.times[before]) / (self.times[before + 1] - self.times[before]))
            if len(after) == len(still) and after.degree == still.degree:
                still = _mixed(still, after, share)
        if self.index is not None:
            still = still.select(self.index)
        if not np.array_equal(self.frame, np.eye(3)):
            still = still.replace(
                means=turn(still.means, self.frame),
                quats=turn_quats(still.quats, self.frame),
                scales=turn(still.scales, np.abs(self.frame)),
                sh=turn_sh(still.sh, self.frame),
            )
        return still.replace(family=None, source=dataclasses.replace(still.source, axes=cloud.source.axes))

    def select(self, index: Any) -> Self:
        """Raises VivantError where splats are not the same ones from frame to frame."""
        if not self.linked:
            raise VivantError(
                "The splats of this sequence are others in each frame, so none can be picked for all.",
                "Pick them in the still cloud.at(time).",
            )
        known = np.arange(len(self.read(0))) if self.index is None else self.index
        return dataclasses.replace(self, index=known[index])

    def change_axes(self, change: NDArray[np.floating]) -> Self:
        return dataclasses.replace(self, frame=change @ self.frame)

    def attributes(self) -> Mapping[str, NDArray[np.float32]]:
        return {}

    @classmethod
    def from_attributes(cls, columns: Mapping[str, NDArray[np.float32]], time_range: tuple[float, float]) -> Self:
        """Raises VivantError: the frames are in files, not in attributes."""
        raise VivantError("Attributes hold one frame of a sequence, not its motion.", "Read the files again.")


def _mixed(a: SplatCloud, b: SplatCloud, share: np.float32) -> SplatCloud:
    """(1 - share) of one cloud and share of another; rotations the short way."""
    same = np.where(np.einsum("nk,nk->n", a.quats, b.quats) < 0, np.float32(-1), np.float32(1))
    return a.replace(
        quats=normalise(a.quats + share * (b.quats * same[:, None] - a.quats)),
        **{
            name: getattr(a, name) + share * (getattr(b, name) - getattr(a, name))
            for name in ("means", "scales", "opacities", "sh")
        },
    )


def sampling(cloud: SplatCloud, count: int = 50) -> NDArray[np.float64]:
    """Times at which a moving cloud is written: those of its frames, else `count` from first to last; one for a still cloud."""
    if cloud.family is None:
        return np.zeros(1)
    return cloud.family.times if isinstance(cloud.family, Frames) else np.linspace(*cloud.family.time_range, count)
