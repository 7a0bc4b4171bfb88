# SPDX-License-Identifier: GPL-3.0-or-later
"""Which points a closed surface holds."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...common.errors import VivantError
from ...common.rotations import matrix, normalise

# no edge of a modelled thing lies along this frame's axes, so no ray meets an edge
_ASKEW = matrix(normalise(np.array([0.81, 0.27, -0.43, 0.31])))


def inside(points: ArrayLike, vertices: ArrayLike, triangles: ArrayLike) -> Generator[float, None, NDArray[np.bool_]]:
    """Which points (N, 3) lie inside a closed mesh: vertices (V, 3), triangles (T, 3) of indices; yields the share done.

    Counts how often a ray from the point passes the surface outwards rather than inwards, so bodies that overlap count
    together.  Raises VivantError for a surface with holes.
    """
    points, corners = np.asarray(points, np.float64) @ _ASKEW.T, np.asarray(vertices, np.float64) @ _ASKEW.T
    triangles = np.asarray(triangles, int).reshape(-1, 3)
    _check_closed(triangles, len(corners))
    order = np.argsort(points[:, 0])
    x, y, z = points[order].T
    turns = np.zeros(len(points), int)
    faces = corners[triangles]
    low, high = faces.min(axis=1), faces.max(axis=1)
    starts, ends = np.searchsorted(x, low[:, 0]), np.searchsorted(x, high[:, 0])
    across = np.cross(faces[:, 1] - faces[:, 0], faces[:, 2] - faces[:, 0])
    hopeful = np.flatnonzero((ends > starts) & (across[:, 2] != 0))
    for done, ((a, b, c), start, end, floor, ceiling, normal) in enumerate(
        zip(*(each[hopeful] for each in (faces, starts, ends, low, high, across)), strict=True)
    ):
        yield done / len(hopeful)
        rows = start + np.flatnonzero((y[start:end] >= floor[1]) & (y[start:end] <= ceiling[1]) & (z[start:end] <= ceiling[2]))
        if not len(rows):
            continue
        sides = [_side(one, other, x[rows], y[rows]) for one, other in ((a, b), (b, c), (c, a))]
        hit = np.all(sides, axis=0) | ~np.any(sides, axis=0)
        height = a[2] - (normal[0] * (x[rows] - a[0]) + normal[1] * (y[rows] - a[1])) / normal[2]
        turns[rows[hit & (height > z[rows])]] += int(np.sign(normal[2]))
    result = np.empty(len(points), bool)
    result[order] = turns != 0
    return result


def _side(a: NDArray, b: NDArray, x: NDArray, y: NDArray) -> NDArray[np.bool_]:
    """Whether points are left of the line from a to b; the same line taken the other way round answers the opposite."""
    if (a[0], a[1]) > (b[0], b[1]):
        return ~_side(b, a, x, y)
    return (b[0] - a[0]) * (y - a[1]) - (b[1] - a[1]) * (x - a[0]) > 0


def _check_closed(triangles: NDArray, count: int) -> None:
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    ways = np.where(edges[:, 0] < edges[:, 1], 1, -1)
    keys = edges.min(axis=1) * count + edges.max(axis=1)
    _, index = np.unique(keys, return_inverse=True)
    if not len(triangles) or np.bincount(index.ravel(), ways).any():
        raise VivantError("The surface has holes, so nothing is inside it.", "Close it, and let its normals agree.")
