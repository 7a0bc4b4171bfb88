# SPDX-License-Identifier: GPL-3.0-or-later
"""The rasteriser for every machine: compiled by numba, all cores, float32, forward and backward, deterministic.

Semantics of `reference`.  The picture is cut into tiles; one radix sort by depth serves all of them.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...common.cameras import Camera
from . import projection, tiles
from .drawing import Floats, Gradients, slope_limits, view_matrix
from .tiles import CHANNELS


def draw(
    means: Floats,
    covariances: Floats,
    opacities: Floats,
    features: Floats,
    camera: Camera,
    background: ArrayLike = 0.0,
    antialiased: bool = False,
) -> CpuDrawing:
    """Draw N Gaussians: means (N, 3) in the world, covariances (N, 6) as xx xy xz yy yz zz, opacities (N,), features (N, D).

    Anything may be a feature: display colours, normals, segment scores.  background: one value or (D,).
    Raises FloatingPointError when a number is not finite.
    """
    means, covariances, opacities, features = (
        np.ascontiguousarray(column, np.float32) for column in (means, covariances, opacities, features)
    )
    if not all(np.isfinite(column).all() for column in (means, covariances, opacities, features)):
        raise FloatingPointError("Some splats have numbers that are not finite.")
    beyond = np.broadcast_to(np.asarray(background, np.float32), features.shape[1:])
    return CpuDrawing(means, covariances, opacities, features, camera, beyond, antialiased)


class CpuDrawing:
    """See `drawing.Drawing`."""

    def __init__(
        self,
        means: Floats,
        covariances: Floats,
        opacities: Floats,
        features: Floats,
        camera: Camera,
        background: Floats,
        antialiased: bool,
    ) -> None:
        count, (height, width) = len(means), (camera.height, camera.width)
        (fx, _, cx), (_, fy, cy) = camera.intrinsics[:2]
        self._splats = means, covariances, opacities
        self._projection = (
            view_matrix(camera),
            np.array([fx, fy, cx, cy], np.float32),
            np.array(slope_limits(camera), np.float32),
            camera.model == "orthographic",
        )
        self._antialiased = antialiased
        self._shapes, depths = np.empty((count, projection.SHAPE), np.float32), np.empty(count, np.float32)
        self._boxes = np.empty((count, 4), np.int32)
        projection.project(
            *self._splats,
            *self._projection,
            np.float32(camera.near),
            antialiased,
            width,
            height,
            self._shapes,
            depths,
            self._boxes,
        )
        order = projection.near_first(depths, self._boxes)
        self._starts, self._ids, self._slots, self._firsts = projection.into_tiles(order, self._boxes, width, height)
        self._by_load = np.argsort(-np.diff(self._starts), kind="stable")
        self._features = _in_passes(features, depths)
        self._dims = features.shape[1]

        passes = len(self._features)
        self._pictures = np.empty((passes, height, width, CHANNELS), np.float32)
        self._through = np.empty((height, width), np.float32)
        for one, picture in zip(self._features, self._pictures, strict=True):
            self.looked_at = tiles.draw(
                self._shapes, one, self._ids, self._starts, self._by_load, numba.get_num_threads(), picture, self._through
            )
        drawn = self._pictures[0] if passes == 1 else np.concatenate(self._pictures, axis=2)
        self._background = background
        self.features = drawn[..., : self._dims] + self._through[..., None] * background
        self.depth = drawn[..., self._dims]
        self.alpha = 1 - self._through

    def backward(
        self, d_features: Floats | None = None, d_depth: Floats | None = None, d_alpha: Floats | None = None
    ) -> Gradients:
        """See `drawing.Drawing.backward`."""
        passes, (height, width) = len(self._features), self._through.shape
        wanted = np.zeros((height, width, passes * CHANNELS), np.float32)
        last = np.zeros((height, width), np.float32)  # derivative with respect to the last transmittance
        if d_features is not None:
            wanted[..., : self._dims] = d_features
            last += wanted[..., : self._dims] @ self._background
        if d_depth is not None:
            wanted[..., self._dims] = d_depth
        if d_alpha is not None:
            last -= d_alpha
        last *= self._through

        d_slots = np.zeros((len(self._slots), projection.ENTRIES), np.float32)
        d_channels = np.zeros((len(self._slots), CHANNELS), np.float32)
        sums = np.zeros((passes, len(self._shapes), CHANNELS), np.float32)
        for index in range(passes):
            part = np.ascontiguousarray(wanted[..., index * CHANNELS : (index + 1) * CHANNELS])
            totals = np.einsum("hwc,hwc->hw", part, self._pictures[index])
            if index == 0:
                totals += last
            d_channels[:] = 0
            tiles.draw_back(
                self._shapes, self._features[index], self._ids, self._slots, self._starts, self._by_load,
                numba.get_num_threads(), part, totals, d_slots, d_channels,
            )  # fmt: skip
            tiles.gather(self._firsts, d_channels, sums[index])
        merged = sums[0] if passes == 1 else np.concatenate(sums, axis=1)
        return self._to_world(d_slots, merged)

    def _to_world(self, d_slots: Floats, d_features: Floats) -> Gradients:
        means, covariances, opacities = self._splats
        d_means, d_covariances, d_opacities = np.zeros_like(means), np.zeros_like(covariances), np.zeros_like(opacities)
        d_views = np.zeros((len(means), 12), np.float32)
        projection.project_back(
            *self._splats, *self._projection, self._antialiased, self._boxes, self._firsts, d_slots,
            np.ascontiguousarray(d_features[:, self._dims]), d_means, d_covariances, d_opacities, d_views,
        )  # fmt: skip
        view = d_views.sum(axis=0, dtype=np.float64).reshape(3, 4).astype(np.float32)
        return Gradients(d_means, d_covariances, d_opacities, d_features[:, : self._dims], view)


def _in_passes(features: Floats, depths: NDArray[np.float32]) -> Floats:
    """Features and, last, depth: (passes, N, CHANNELS), filled up with zeros."""
    count, dims = features.shape
    passes = dims // CHANNELS + 1
    padded = np.zeros((count, passes * CHANNELS), np.float32)
    padded[:, :dims], padded[:, dims] = features, depths
    return np.ascontiguousarray(padded.reshape(count, passes, CHANNELS).swapaxes(0, 1))
