# SPDX-License-Identifier: GPL-3.0-or-later
"""Spacetime Gaussians, the 'lite' model: cubic paths, linear quaternion drift, a bell of opacity.

With d = t - center:  mean + v1 d + v2 d^2 + v3 d^3;  quaternion normalised(q + spin d);
opacity * exp(-(d / width)^2).  Scale and colour do not change.
Source: Li et al., "Spacetime Gaussian Feature Splatting", equations 7 to 10; t runs 0 to 1 over the clip.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...common.rotations import normalise
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

    def select(self, index: Any) -> Stg:
        return Stg(self.velocity[index], self.spin[index], self.center[index], self.width[index], self.time_range)

    def attributes(self) -> Mapping[str, Floats]:
        """Attribute names of the node group 'Vivant Family STG'."""
        return {
            "velocity:1": self.velocity[:, 0],
            "velocity:2": self.velocity[:, 1],
            "velocity:3": self.velocity[:, 2],
            "spin:w": self.spin[:, 0],
            "spin:xyz": self.spin[:, 1:],
            "time:center": self.center,
            "time:width": self.width,
        }
