# SPDX-License-Identifier: GPL-3.0-or-later
"""Spacetime Gaussians, the 'lite' model: cubic paths, linear quaternion drift, a bell of opacity.

With d = t - center:  mean + v1 d + v2 d^2 + v3 d^3;  quaternion normalised(q + spin d);
opacity * exp(-(d / width)^2).  Scale and colour do not change.
Source: Li et al., "Spacetime Gaussian Feature Splatting", equations 7 to 10; t runs 0 to 1 over the clip.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...common.rotations import normalise
from ..axes import turn, turn_quats
from .family import Family

if TYPE_CHECKING:
    from ..cloud import SplatCloud

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Stg(Family):
    """Per splat: velocity (N, 3, 3), coefficients of d, d^2, d^3; spin (N, 4) wxyz per unit of time, for
    the *unit* base quaternion; center (N,); width (N,) > 0, finite.
    """

    name: ClassVar[str] = "STG"
    ATTRIBUTES: ClassVar[tuple[str, ...]] = (
        *("velocity:1", "velocity:2", "velocity:3"),
        *("spin:w", "spin:xyz", "time:center", "time:width"),
    )

    velocity: Floats
    spin: Floats
    center: Floats
    width: Floats
    time_range: tuple[float, float] = (0.0, 1.0)

    def at(self, cloud: SplatCloud, time: float, camera: ArrayLike | None = None) -> SplatCloud:
        d = np.float32(np.clip(time, *self.time_range)) - self.center
        powers = np.stack([d, d * d, d * d * d], axis=-1)
        return cloud.replace(
            means=cloud.means + np.einsum("np,npk->nk", powers, self.velocity),
            quats=normalise(cloud.quats + self.spin * d[:, None]),
            opacities=cloud.opacities * np.exp(-np.square(d / self.width)),
            family=None,
        )

    def select(self, index: Any) -> Self:
        columns = ("velocity", "spin", "center", "width")
        return dataclasses.replace(self, **{name: getattr(self, name)[index] for name in columns})

    def change_axes(self, change: NDArray[np.floating]) -> Self:
        return dataclasses.replace(self, velocity=turn(self.velocity, change), spin=turn_quats(self.spin, change))

    def attributes(self) -> Mapping[str, Floats]:
        columns = (*np.moveaxis(self.velocity, 1, 0), self.spin[:, 0], self.spin[:, 1:], self.center, self.width)
        return dict(zip(Stg.ATTRIBUTES, columns, strict=True))

    @classmethod
    def from_attributes(cls, columns: Mapping[str, Floats], time_range: tuple[float, float] = (0.0, 1.0)) -> Stg:
        """The family whose `attributes` these are."""
        v1, v2, v3, spin_w, spin_xyz, center, width = (columns[name] for name in Stg.ATTRIBUTES)
        return Stg(np.stack([v1, v2, v3], axis=1), np.column_stack([spin_w, spin_xyz]), center, width, time_range)
