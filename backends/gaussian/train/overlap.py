# SPDX-License-Identifier: GPL-3.0-or-later
"""What cameras see together, from their poses and lenses alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...common.cameras import Camera, project
from ...common.errors import VivantError

_MOST = 256  # views that each is compared with
_DEPTHS = np.geomspace(0.05, 30, 24)  # of the distance that cameras lie apart
_SAME_PLACE = 1e-4  # of the distance to what they look at


def check(cameras: Sequence[Camera]) -> list[str]:
    """Raise VivantError for views from which no depth can be told; a sentence on those that share nothing."""
    remedy = "Take pictures from several places around the scene."
    if len(cameras) < 2:
        raise VivantError("There is one picture to train on only.", remedy)
    centres = np.array([camera.camera_to_world[:3, 3] for camera in cameras])
    spread = float(np.linalg.norm(np.ptp(centres, axis=0)))
    far = max(float(np.abs(centres).max()), 1e-9)
    if spread < _SAME_PLACE * far:
        raise VivantError("All pictures are taken from one place, so that no depth can be told from them.", remedy)
    alone = lonely(cameras, spread)
    if alone > len(cameras) / 2:
        raise VivantError(
            f"{alone:,} of {len(cameras):,} pictures show nothing that another one shows.", "Check the cameras' poses."
        )
    return [f"{alone:,} of {len(cameras):,} pictures show nothing that another one shows."] if alone else []


def lonely(cameras: Sequence[Camera], spread: float) -> int:
    """How many cameras share no point of their picture's rays with another one."""
    others = cameras[:: -(-len(cameras) // _MOST)]
    count = 0
    for camera in cameras:
        points = _points(camera, spread * _DEPTHS)
        count += not any(_sees(other, points).any() for other in others if other is not camera)
    return count


def _points(camera: Camera, depths: NDArray[np.float64]) -> NDArray[np.float64]:
    """World points (N, 3) at depths (D,) behind nine pixels spread over a camera's picture."""
    across = np.array([0.1, 0.5, 0.9])
    u, v = np.meshgrid(across * camera.width, across * camera.height)
    pixels = np.stack([u.ravel(), v.ravel()], axis=1)
    rays = (pixels - camera.intrinsics[:2, 2]) / np.diag(camera.intrinsics)[:2]
    local = np.concatenate(
        [rays[None] * depths[:, None, None], np.broadcast_to(depths[:, None, None], (len(depths), 9, 1))], axis=2
    )
    return local.reshape(-1, 3) @ camera.camera_to_world[:3, :3].T + camera.camera_to_world[:3, 3]


def _sees(camera: Camera, points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which points (N, 3) lie in front of a camera and inside its picture."""
    with np.errstate(all="ignore"):
        pixels = project(camera, points)
    ahead = (points - camera.camera_to_world[:3, 3]) @ camera.camera_to_world[:3, 2] > 1e-9
    return ahead & ((pixels >= 0) & (pixels <= (camera.width, camera.height))).all(axis=1)


def extents(cameras: Sequence[Camera], points: NDArray[np.floating] | None = None) -> tuple[NDArray[np.float64], float]:
    """Box (2, 3) of what is looked at, and the extent of the cameras: 1.1 x their largest distance from their mean (3DGS).

    The box holds all but the outermost points where there are some; else it is a cube about the point that the optical axes
    come nearest to, as wide as the pictures show there; where most look away from it, the cameras' own box grown by the extent.
    """
    centres = np.array([camera.camera_to_world[:3, 3] for camera in cameras])
    axes = np.array([camera.camera_to_world[:3, 2] for camera in cameras])
    extent = 1.1 * float(np.linalg.norm(centres - centres.mean(axis=0), axis=1).max())
    if points is not None and len(points) >= 100:
        low, high = np.percentile(points, [1, 99], axis=0)
        return np.array([low - 0.1 * (high - low), high + 0.1 * (high - low)]), extent
    # the point of least squared distance from all axes; parallel ones leave it at the cameras' extent ahead of them
    across = np.eye(3) - axes[:, :, None] * axes[:, None, :]
    guess = (centres + extent * axes).mean(axis=0)
    weight = 1e-3 * len(cameras)
    centre = np.linalg.solve(across.sum(axis=0) + weight * np.eye(3), np.einsum("nij,nj->i", across, centres) + weight * guess)
    depths = np.einsum("nj,nj->n", centre - centres, axes)
    if np.median(depths) <= 0:
        return np.array([centres.min(axis=0) - extent, centres.max(axis=0) + extent]), extent
    wide = np.array(
        [max(camera.width / camera.intrinsics[0, 0], camera.height / camera.intrinsics[1, 1]) / 2 for camera in cameras]
    )
    half = float(np.median(depths[depths > 0] * wide[depths > 0]))
    return np.array([centre - half, centre + half]), extent
