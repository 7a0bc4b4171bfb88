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


def deformed(cloud: SplatCloud, warp: Warp) -> SplatCloud:
    """The cloud under a warp of its space: covariances and paths by its Jacobian at each splat, SH by the Jacobian's turn.

    The Jacobian is taken by central differences over each splat's own size, so an affine warp gives what `transformed`
    gives.  Where the warp folds space flat, splats become thin discs.
    Raises VivantError for a warp that is not finite, and for motion that cannot follow.
    """
    means = cloud.means.astype(np.float64)
    size = float(np.linalg.norm(np.ptp(means, axis=0))) or 1.0
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
    rest, posed = np.asarray(rest, np.float64), np.asarray(posed, np.float64)
    triangles = np.asarray(triangles, int)
    aside = 1e-9 * np.linalg.norm(np.ptp(rest, axis=0)) * np.array([0.42, 0.71, 0.56])  # off faces, where weights are infinite

    def warp(points: Doubles) -> Doubles:
        moved = np.empty_like(points)

        def block(rows: slice) -> None:
            away = rest - (points[rows] + aside)[:, None]
            distances = np.maximum(np.linalg.norm(away, axis=2), 1e-300)
            weights = _mean_values(away / distances[..., None], triangles) / distances
            total = weights.sum(axis=1, keepdims=True)
            shift = np.einsum("nv,vi->ni", weights / total, posed - rest)
            moved[rows] = points[rows] + shift

        in_blocks(block, len(points), rows=max(16, 200_000 // len(triangles)))
        return moved

    return warp


def _mean_values(directions: Doubles, triangles: NDArray[np.intp]) -> Doubles:
    """Weights (N, V), times distances, of vertices seen along unit directions (N, V, 3)."""
    count, vertices = directions.shape[:2]
    corners = directions[:, triangles]  # (N, T, 3, 3)
    nexts, lasts = np.roll(corners, -1, axis=2), np.roll(corners, -2, axis=2)
    normals = np.cross(nexts, lasts)
    sines = np.linalg.norm(normals, axis=3)
    angles = np.arctan2(sines, np.einsum("ntki,ntki->ntk", nexts, lasts))
    normals /= np.maximum(sines, 1e-300)[..., None]
    mean = np.einsum("ntk,ntki->nti", angles, normals)
    heights = np.einsum("ntki,ntki->ntk", normals, corners)
    shares = np.einsum("ntki,nti->ntk", normals, mean) / np.where(np.abs(heights) < 1e-13, np.inf, heights)
    index = (np.arange(count)[:, None] * vertices + triangles.ravel()).ravel()
    return np.bincount(index, shares.ravel(), count * vertices).reshape(count, vertices)
