# SPDX-License-Identifier: GPL-3.0-or-later
"""What every differentiable rasteriser takes and gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ...common.cameras import Camera
from .constants import FRUSTUM_MARGIN

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Gradients:
    """Derivatives of a loss with respect to what was drawn; view (3, 4) belongs to the camera's world-to-camera matrix."""

    means: Floats
    covariances: Floats
    opacities: Floats
    features: Floats
    view: Floats


class Drawing(Protocol):
    """A picture that knows how it was made, rows from the top."""

    features: Floats
    """(H, W, D): sum of alpha T f over the splats of a pixel, near to far, plus T times the background."""

    depth: Floats
    """(H, W): the same sum of the depths along the view, metres; divide by alpha for the mean."""

    alpha: Floats
    """(H, W): 1 - T."""

    def backward(
        self, d_features: Floats | None = None, d_depth: Floats | None = None, d_alpha: Floats | None = None
    ) -> Gradients:
        """Gradients from those of the picture; what is left out has none.

        With d_features of ones, Gradients.features are the splats' weights in the picture; of a mask, those within it.
        """
        ...


def view_matrix(camera: Camera) -> Floats:
    """World to camera, (3, 4), OpenCV axes."""
    return np.ascontiguousarray(np.linalg.inv(camera.camera_to_world)[:3], np.float32)


def slope_limits(camera: Camera) -> tuple[float, float, float, float]:
    """Least and greatest x / z, least and greatest y / z that the projection's Jacobian is taken at (3DGS)."""
    (fx, _, cx), (_, fy, cy) = camera.intrinsics[:2]
    margin_x, margin_y = (FRUSTUM_MARGIN - 1) * camera.width / 2, (FRUSTUM_MARGIN - 1) * camera.height / 2
    return (
        (-cx - margin_x) / fx, (camera.width - cx + margin_x) / fx,
        (-cy - margin_y) / fy, (camera.height - cy + margin_y) / fy,
    )  # fmt: skip
