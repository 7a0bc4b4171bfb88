# SPDX-License-Identifier: GPL-3.0-or-later
"""What is trained, how one view of it is drawn, and which way a loss wants it to go."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ...common.cameras import Camera
from ..cloud import Source, SplatCloud
from ..motion.ndgs import LAMBDA, Ndgs
from ..render import cpu
from ..render.projection import Floats
from . import harmonics, similarity, slicing

SHARE = 0.2
"""Of dissimilarity in the loss; the rest is the mean absolute difference (3DGS)."""


@dataclass(eq=False)
class Model:
    """parameters (slicing.PARAMETERS, N) and coefficients (3 K, N), the three channels of a harmonic together."""

    parameters: Floats
    coefficients: Floats

    def __len__(self) -> int:
        return self.parameters.shape[1]

    @property
    def columns(self) -> list[Floats]:
        return [self.parameters, self.coefficients]

    def cloud(self, still: bool, time_range: tuple[float, float] = (0.0, 1.0), axes: str = "RFU") -> SplatCloud:
        """The trained splats as everybody else knows them; still: without what depends on view and time."""
        p = self.parameters
        count = len(self)
        family = None
        if not still:
            fall = np.zeros((count, 3, 3), np.float32)
            rows, columns = np.tril_indices(3)
            fall[:, rows, columns] = p[slicing.FALL : slicing.LOG_WIDTH].T
            share = np.full(count, LAMBDA, np.float32)
            family = Ndgs(
                view_mean=_unit(p[slicing.VIEW_MEAN : slicing.CENTER].T),
                view_slope=np.ascontiguousarray(p[slicing.SLOPE : slicing.VELOCITY].T).reshape(-1, 3, 3),
                view_fall=fall,
                view_time=np.zeros((count, 3), np.float32),
                view_lambda=share,
                velocity=np.ascontiguousarray(p[slicing.VELOCITY : slicing.VIEW_MEAN].T),
                center=p[slicing.CENTER].copy(),
                width=np.exp(p[slicing.LOG_WIDTH]),
                time_lambda=share,
                time_range=time_range,
            )
        return SplatCloud(
            means=p[:3].T,
            quats=_unit(p[slicing.TURN : slicing.OPACITY].T),
            scales=np.exp(p[slicing.LOG_SCALE : slicing.TURN].T),
            opacities=1 / (1 + np.exp(-p[slicing.OPACITY])),
            sh=self.coefficients.T.reshape(count, -1, 3),
            family=family,
            source=Source(axes=axes),
        )


@dataclass(eq=False)
class View:
    """One view of a model, and the steps that led to it."""

    model: Model
    camera: Camera
    time: float
    background: Floats
    picture: Floats = field(init=False)
    sliced: Floats = field(init=False)

    def __post_init__(self) -> None:
        p, count = self.model.parameters, len(self.model)
        self._eye = self.camera.camera_to_world[:3, 3].astype(np.float32)
        self.sliced, self._rgb = np.empty((slicing.SLICED, count), np.float32), np.empty((3, count), np.float32)
        slicing.cut(p, self._eye, np.float32(self.time), self.sliced)
        harmonics.colours(self.model.coefficients, self.sliced, self._eye, self._rgb)
        self.drawing = cpu.draw(
            self.sliced[:3].T, self.sliced[3:9].T, self.sliced[9], self._rgb.T, self.camera, self.background
        )
        self.picture = self.drawing.features

    def backward(self, d_picture: Floats) -> tuple[Floats, Floats]:
        """Gradients of the model's parameters and coefficients."""
        p, count = self.model.parameters, len(self.model)
        found = self.drawing.backward(d_picture)
        d_sliced = np.empty((slicing.SLICED, count), np.float32)
        d_sliced[:3], d_sliced[3:9], d_sliced[9] = found.means.T, found.covariances.T, found.opacities
        d_coefficients, d_means = np.empty_like(self.model.coefficients), np.empty((3, count), np.float32)
        d_rgb = np.ascontiguousarray(found.features.T)
        harmonics.colours_back(self.model.coefficients, self.sliced, self._eye, self._rgb, d_rgb, d_coefficients, d_means)
        d_sliced[:3] += d_means
        d_parameters = np.empty_like(p)
        slicing.cut_back(p, self._eye, np.float32(self.time), d_sliced, d_parameters)
        return d_parameters, d_coefficients


def loss(picture: Floats, target: Floats) -> tuple[float, Floats]:
    """The loss of 3DGS between pictures (H, W, C), and its gradient: 0.8 L1 + 0.2 (1 - SSIM)."""
    height, _, channels = picture.shape
    flat, wanted = picture.reshape(height, -1), target.reshape(height, -1)
    maps = [np.empty_like(flat) for _ in range(4)]
    alike = similarity.similarity(flat, wanted, channels, *maps[:3])
    similarity.similarity_back(flat, wanted, channels, *maps)
    difference = flat - wanted
    gradient = np.sign(difference) * np.float32((1 - SHARE) / flat.size) - maps[3] * np.float32(SHARE / flat.size)
    value = (1 - SHARE) * float(np.abs(difference).mean()) + SHARE * (1 - alike / flat.size)
    return value, gradient.reshape(picture.shape)


def _unit(vectors: Floats) -> Floats:
    return (vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)).astype(np.float32)
