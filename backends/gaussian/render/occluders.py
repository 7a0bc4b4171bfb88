# SPDX-License-Identifier: GPL-3.0-or-later
"""What hides splats: the depth of opaque triangles in every pixel's centre, exact, NumPy alone.

A pixel's ray meets a triangle where its three edge functions agree in sign; with corners in homogeneous
pixels that needs no clipping (Olano and Greer 1997, Triangle scan conversion using 2D homogeneous coordinates).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...common.cameras import Camera

Doubles = NDArray[np.float64]

CHUNK = 1 << 16  # triangles prepared at a time
PIXELS = 1 << 20  # of boxes around triangles, filled at a time


@dataclass(frozen=True, eq=False)
class Solids:
    """Meshes, and where copies of them stand.

    points (V, 3) metres and triangles (T, 3), indices of points, of all meshes one after the other; first (M + 1,): where each
    mesh's triangles begin, and the end; meshes (I,): the mesh of each copy; places (I, 4, 4): its matrix to the world.
    """

    points: NDArray[np.float32]
    triangles: NDArray[np.int32]
    first: NDArray[np.int64]
    meshes: NDArray[np.int64]
    places: Doubles


def depths(solids: Solids, camera: Camera) -> Doubles:
    """(H, W): distance along the view of the nearest surface behind each pixel's centre; infinite where there is none.

    Every surface counts, whatever its material, from `camera.near` on.
    """
    nearest = np.full(camera.height * camera.width, np.inf)
    view = np.linalg.inv(camera.camera_to_world)
    for mesh, place in zip(solids.meshes, solids.places, strict=True):
        triangles = solids.triangles[solids.first[mesh] : solids.first[mesh + 1]]
        if not len(triangles):
            continue
        low, high = triangles.min(), triangles.max()
        to_view = view @ place
        points = solids.points[low : high + 1].astype(np.float64) @ to_view[:3, :3].T + to_view[:3, 3]
        for start in range(0, len(triangles), CHUNK):
            _add(nearest, points[triangles[start : start + CHUNK] - low], camera)
    return nearest.reshape(camera.height, camera.width)


def _add(nearest: Doubles, corners: Doubles, camera: Camera) -> None:
    """Bring the depths (H * W,) down to triangles with corners (N, 3, 3) in camera space."""
    low, high = _boxes(corners, camera)
    homogeneous = _homogeneous(corners, camera)
    a, b, c = homogeneous.transpose(1, 0, 2)
    # edges @ (x, y, 1) are the shares of the corners in the point that pixel (x, y) sees, up to a common factor
    edges = np.stack([np.cross(b, c), np.cross(c, a), np.cross(a, b)], axis=1)
    volume = np.einsum("ni,ni->n", a, edges[:, 0])
    seen = np.flatnonzero(np.all(high > low, axis=1) & (volume != 0))
    # only turned, not scaled: neighbours then round their common edge alike, and no pixel falls between them
    edges, distances = edges[seen] * np.sign(volume[seen])[:, None, None], corners[seen, :, 2]
    for which, x, y in _pixels(low[seen], high[seen], camera):
        shares = edges[which, :, 0] * (x + 0.5)[:, None] + edges[which, :, 1] * (y + 0.5)[:, None] + edges[which, :, 2]
        inside = np.all(shares >= 0, axis=1)
        which, x, y, shares = which[inside], x[inside], y[inside], shares[inside]
        depth = np.einsum("ni,ni->n", shares, distances[which]) / shares.sum(axis=1)
        valid = depth >= camera.near
        np.minimum.at(nearest, y[valid] * camera.width + x[valid], depth[valid])


def _homogeneous(points: Doubles, camera: Camera) -> Doubles:
    """Pixels times weight, and the weight, of points (..., 3) in camera space: the distance, 1 in parallel projection."""
    if camera.model == "orthographic":
        points = np.concatenate([points[..., :2], np.ones_like(points[..., 2:])], axis=-1)
    return points @ camera.intrinsics.T


def _boxes(corners: Doubles, camera: Camera) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and behind the last pixel (N, 2) whose centres the parts of triangles beyond the near plane may cover."""
    following = np.roll(corners, -1, axis=1)
    z, ahead = corners[..., 2], corners[..., 2] >= camera.near
    crossed = ahead != (following[..., 2] >= camera.near)
    step = np.where(crossed, following[..., 2] - z, 1)
    crossings = corners + ((camera.near - z) / step)[..., None] * (following - corners)
    used = np.concatenate([ahead, crossed], axis=1)[..., None]
    points = np.where(used, np.concatenate([corners, crossings], axis=1), (0, 0, 1))
    homogeneous = _homogeneous(points, camera)
    pixels = homogeneous[..., :2] / homogeneous[..., 2:]
    size = camera.width, camera.height
    low = np.where(used, pixels, np.inf).min(axis=1) - 0.5
    high = np.where(used, pixels, -np.inf).max(axis=1) - 0.5
    return np.ceil(np.clip(low, 0, size)).astype(np.int64), np.floor(np.clip(high, -1, np.subtract(size, 1))).astype(
        np.int64
    ) + 1


def _pixels(
    low: NDArray[np.int64], high: NDArray[np.int64], camera: Camera
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.int64], NDArray[np.int64]]]:
    """All pixels of all boxes as (index of the box, x, y), about PIXELS of them at a time."""
    rows = max(1, PIXELS // camera.width)  # of the picture at a time, so that one box is never too much
    for top in range(0, camera.height, rows):
        above, below = np.maximum(low[:, 1], top), np.minimum(high[:, 1], top + rows)
        width = high[:, 0] - low[:, 0]
        here = np.flatnonzero(below > above)
        counts = (width * (below - above))[here]
        ends = np.cumsum(counts)
        start = 0
        while start < len(here):
            before = ends[start - 1] if start else 0
            stop = max(start + 1, int(np.searchsorted(ends, before + PIXELS, side="right")))
            which = np.repeat(here[start:stop], counts[start:stop])
            place = np.arange(len(which)) - np.repeat(ends[start:stop] - counts[start:stop] - before, counts[start:stop])
            row, column = np.divmod(place, width[which])
            yield which, low[which, 0] + column, above[which] + row
            start = stop
