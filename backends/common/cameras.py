# SPDX-License-Identifier: GPL-3.0-or-later
"""Camera: a pinhole or parallel projection with its picture's size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Model = Literal["perspective", "orthographic"]


@dataclass(frozen=True, eq=False)
class Camera:
    """intrinsics (3, 3) in pixels (for a parallel projection: pixels per metre); camera_to_world (4, 4), the
    camera in OpenCV axes: x right, y down, z forward; the centre of the top left pixel lies at (0.5, 0.5).

    camera_to_world may be any affine matrix, so that a scaled or sheared object's space can be the world.
    """

    intrinsics: NDArray[np.float64]
    camera_to_world: NDArray[np.float64]
    width: int
    height: int
    model: Model = "perspective"
    near: float = 0.2
