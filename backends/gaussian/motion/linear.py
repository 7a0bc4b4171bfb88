# SPDX-License-Identifier: GPL-3.0-or-later
"""Linear velocity: straight paths, a bell of opacity, and an interval outside of which a splat is not there.

With d = t - center:  mean + velocity d;  opacity * exp(-(d / width)^2) while first <= t < last, 0 otherwise.
The width is sqrt(2) standard deviations, as that of spacetime Gaussians is; segments and hard ends of the
bell are the interval.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..axes import turn
from .family import Family

if TYPE_CHECKING:
    from ..cloud import SplatCloud

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Linear(Family):
    """Per splat: velocity (N, 3) per unit of time; center (N,); width (N,) > 0, infinite for splats that never fade;
    first and last (N,), infinite for splats that are always there.
    """

    name: ClassVar[str] = "Linear"
    ATTRIBUTES: ClassVar[tuple[str, ...]] = ("velocity:1", "time:center", "time:width", "time:first", "time:last")

    velocity: Floats
    center: Floats
    width: Floats
    first: Floats
    last: Floats
    time_range: tuple[float, float] = (0.0, 1.0)

    def at(self, cloud: SplatCloud, time: float, camera: ArrayLike | None = None) -> SplatCloud:
        now = np.float32(np.clip(time, *self.time_range))
        d = now - self.center
        there = (self.first <= now) & (now < self.last)
        with np.errstate(over="ignore"):  # long past the shortest lives nothing is left, however often they fit in
            left = np.exp(-np.square(d / self.width))
        return cloud.replace(
            means=cloud.means + self.velocity * d[:, None],
            opacities=cloud.opacities * np.where(there, left, 0),
            family=None,
        )

    def select(self, index: Any) -> Self:
        columns = ("velocity", "center", "width", "first", "last")
        return dataclasses.replace(self, **{name: getattr(self, name)[index] for name in columns})

    def change_axes(self, change: NDArray[np.floating]) -> Self:
        return dataclasses.replace(self, velocity=turn(self.velocity, change))

    def attributes(self) -> Mapping[str, Floats]:
        columns = (self.velocity, self.center, self.width, self.first, self.last)
        return dict(zip(Linear.ATTRIBUTES, columns, strict=True))

    @classmethod
    def from_attributes(cls, columns: Mapping[str, Floats], time_range: tuple[float, float] = (0.0, 1.0)) -> Linear:
        """The family whose `attributes` these are."""
        velocity, center, width, first, last = (columns[name] for name in Linear.ATTRIBUTES)
        return Linear(velocity, center, width, first, last, time_range)
