# SPDX-License-Identifier: GPL-3.0-or-later
"""Camera: a pinhole or parallel projection with its picture's size; CameraSet: those of one capture or one path."""

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


@dataclass(frozen=True, eq=False)
class View:
    """A camera with the name of its picture, the path of that where it lies on the disk, and the time where it is known."""

    camera: Camera
    name: str = ""
    image: str = ""
    time: float | None = None


@dataclass(frozen=True, eq=False)
class CameraSet:
    """The cameras of one capture, in the coordinates that splats trained on them have.

    axes: the frame of these coordinates, as of a cloud (see `gaussian.axes`).  path: the views are keys of one camera that
    travels, with times in seconds; else pictures, with times from 0 to 1 within the capture.  warnings: what was left out.
    """

    views: tuple[View, ...]
    axes: str = "RDF"
    path: bool = False
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.views)


def intrinsics(fx: float, fy: float, cx: float, cy: float) -> NDArray[np.float64]:
    """Matrix (3, 3) of focal lengths and principal point, pixels."""
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], np.float64)


def project(camera: Camera, points: NDArray[np.floating]) -> NDArray[np.float64]:
    """Pixels (…, 2) of points (…, 3) of the camera's world; those of points behind it mean nothing."""
    local = (points - camera.camera_to_world[:3, 3]) @ np.linalg.inv(camera.camera_to_world[:3, :3]).T
    depth = np.ones_like(local[..., 2:]) if camera.model == "orthographic" else local[..., 2:]
    pixels = local[..., :2] / depth * np.diag(camera.intrinsics)[:2] + camera.intrinsics[:2, 2]
    return np.asarray(pixels, np.float64)
