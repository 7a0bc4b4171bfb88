# SPDX-License-Identifier: GPL-3.0-or-later
"""Splats in warped space: each follows the warp at its centre, turned and stretched as the space around it is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...common.errors import VivantError
from ...common.threads import in_blocks
from ..cloud import SplatCloud
from .carry import carried

Doubles = NDArray[np.float64]
Warp = Callable[[Doubles], Doubles]
"""Points (M, 3) of the cloud's own coordinates to where they go (M, 3)."""

NARROWEST, WIDEST = 1e-4, 1e-2
"""Bounds of the half width over which a warp's slope is taken, in sizes of the cloud; between them it is the splat's size."""

THINNEST = 1e-3
"""What a warp may flatten a splat to, beside its other axes."""


def deformed(cloud: SplatCloud, warp: Warp, size: float | None = None) -> SplatCloud:
    """The cloud under a warp of its space: covariances and paths by its Jacobian at each splat, SH by the Jacobian's turn.

    The Jacobian is taken by central differences over each splat's own size, so an affine warp gives what `transformed`
    gives.  Where the warp folds space flat, splats become thin discs.  size: of the whole that the cloud is a part of.
    Raises VivantError for a warp that is not finite, and for motion that cannot follow.
    """
    means = cloud.means.astype(np.float64)
    size = size or size_of(cloud)
    step = np.clip(cloud.scales.mean(axis=1, dtype=np.float64), NARROWEST * size, WIDEST * size)[:, None]
    steps = step * np.concatenate([np.eye(3), -np.eye(3), np.zeros((1, 3))])[:, None]
    moved = warp((means + steps).reshape(-1, 3)).reshape(7, -1, 3)
    if not np.isfinite(moved).all():
        raise VivantError("The deformation is not finite everywhere.", "Check the object that deforms.")
    maps = ((moved[:3] - moved[3:6]) / (2 * step)).transpose(1, 2, 0)
    left, stretch, right = np.linalg.svd(maps)
    thin = stretch[:, 2] < THINNEST * stretch[:, 0]
    if thin.any():
        kept = np.maximum(stretch[thin], np.maximum(THINNEST * stretch[thin, :1], THINNEST))
        maps[thin] = (left[thin] * kept[:, None]) @ right[thin]
    return carried(cloud, moved[6], maps)


def size_of(cloud: SplatCloud) -> float:
    """The diagonal of the box around all centres; 1 where they lie on one spot."""
    return (float(np.linalg.norm(np.ptp(cloud.means.astype(np.float64), axis=0))) if len(cloud) else 1.0) or 1.0


def skin(heads: ArrayLike, tails: ArrayLike, poses: ArrayLike) -> Warp:
    """The warp of a skeleton: bones from heads to tails (B, 3) at rest, and what takes each to its pose (B, 4, 4).

    Weights fall with the fourth power of the distance to a bone, so they are smooth and each bone holds what is near it.
    """
    heads, poses = np.asarray(heads, np.float64), np.asarray(poses, np.float64)
    along = np.asarray(tails, np.float64) - heads
    lengths = np.maximum(np.square(along).sum(axis=1), 1e-24)

    def warp(points: Doubles) -> Doubles:
        moved = np.empty_like(points)

        def block(rows: slice) -> None:
            away = points[rows, None] - heads
            share = np.clip(np.einsum("nbi,bi->nb", away, along) / lengths, 0, 1)
            squared = np.square(away - share[..., None] * along).sum(axis=2)
            weights = 1 / np.square(np.maximum(squared, 1e-12))
            blended = np.einsum("nb,bij->nij", weights / weights.sum(axis=1, keepdims=True), poses)
            moved[rows] = np.einsum("nij,nj->ni", blended[:, :3, :3], points[rows]) + blended[:, :3, 3]

        in_blocks(block, len(points), rows=4096)
        return moved

    return warp


def cage(rest: ArrayLike, posed: ArrayLike, triangles: ArrayLike) -> Warp:
    """The warp of a closed cage: vertices (V, 3) at rest and posed, triangles (T, 3), by mean value coordinates.

    Exact for affine poses, smooth inside and outside.  Source: Ju, Schaefer and Warren, "Mean Value Coordinates for Closed
    Triangular Meshes", in its vector form: what a face weighs is the mean of the directions that see it.
    """
    rest, triangles = np.asarray(rest, np.float64), np.asarray(triangles, int)
    shift = np.asarray(posed, np.float64) - rest
    aside = 1e-9 * np.linalg.norm(np.ptp(rest, axis=0)) * np.array([0.42, 0.71, 0.56])  # off faces, where weights are infinite
    edges, opposite, signs = _edges(triangles)

    def warp(points: Doubles) -> Doubles:
        moved = np.empty_like(points)

        def block(rows: slice) -> None:
            away = rest.T[:, :, None] - (points[rows] + aside).T[:, None]  # (3, V, n): one coordinate after the other
            distances = np.maximum(np.sqrt(np.square(away).sum(axis=0)), 1e-300)
            x, y, z = away / distances
            (xi, yi, zi), (xj, yj, zj) = ((x[end], y[end], z[end]) for end in edges.T)
            normals = yi * zj - zi * yj, zi * xj - xi * zj, xi * yj - yi * xj
            sines = np.sqrt(sum(each * each for each in normals))
            angles = np.arctan2(sines, xi * xj + yi * yj + zi * zj) / np.maximum(sines, 1e-300)
            mean = [sum(signs[k] * (angles * each)[opposite[k]] for k in range(3)) for each in normals]
            first = triangles[:, 0]
            volume = signs[0] * sum(u[first] * each[opposite[0]] for u, each in zip((x, y, z), normals, strict=True))
            volume[np.abs(volume) < 1e-14] = np.inf  # seen from within its plane, a face weighs nothing
            total, sums = np.zeros(x.shape[1]), np.zeros((3, x.shape[1]))
            for k, corner in enumerate(triangles.T):
                share = signs[k] * sum(each[opposite[k]] * part for each, part in zip(normals, mean, strict=True))
                share /= volume * distances[corner]
                total += share.sum(axis=0)
                sums += shift[corner].T @ share
            moved[rows] = points[rows] + (sums / total).T

        in_blocks(block, len(points), rows=max(16, 50_000 // len(triangles)))
        return moved

    return warp


def _edges(triangles: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp], Doubles]:
    """Each edge once, (E, 2); the one opposite each corner of each triangle, (3, T), and 1 or -1, (3, T, 1), for its way."""
    ends = np.stack([triangles[:, (1, 2)], triangles[:, (2, 0)], triangles[:, (0, 1)]])
    edges, opposite = np.unique(np.sort(ends.reshape(-1, 2), axis=1), axis=0, return_inverse=True)
    signs = np.where(ends[..., 0] < ends[..., 1], 1.0, -1.0)
    return edges, opposite.reshape(ends.shape[:2]), signs[..., None]
