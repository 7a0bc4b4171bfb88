# SPDX-License-Identifier: GPL-3.0-or-later
"""The differentiable rasteriser that the fast ones are measured against: PyTorch, float64, derivatives by autograd.

Semantics of `reference`.  Slow on purpose: every pixel of a square meets every splat that may touch it.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...common.cameras import Camera
from .constants import ALPHA_MAX, ALPHA_MIN, LOW_PASS, TRANSMITTANCE_MIN
from .drawing import slope_limits

SQUARE = 32
"""Pixels a side of what is drawn at a time, to bound the memory; the picture does not depend on it."""


def draw(
    means: Tensor,
    covariances: Tensor,
    opacities: Tensor,
    features: Tensor,
    view: Tensor,
    camera: Camera,
    background: Tensor | float = 0.0,
    antialiased: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Features (H, W, D), depth (H, W) and alpha (H, W) as in `drawing.Drawing`.

    Inputs as of `cpu.draw`; view (3, 4), world to camera, takes the place of the camera's pose.
    """
    pixels, covariance, opacities, depths = _project(means, covariances, opacities, view, camera, antialiased)
    determinant = covariance[:, 0] * covariance[:, 2] - covariance[:, 1] ** 2
    inverse = torch.stack([covariance[:, 2], -covariance[:, 1], covariance[:, 0]], 1) / determinant[:, None]
    with torch.no_grad():
        reach = torch.sqrt(2 * torch.log(torch.clamp(opacities / ALPHA_MIN, min=1)))
        half = reach[:, None] * torch.sqrt(covariance[:, [0, 2]])
        low, high = pixels - half, pixels + half
        seen = (depths > camera.near) & (opacities >= ALPHA_MIN)
        order = torch.argsort(depths, stable=True)
        order = order[seen[order]]
    channels = torch.cat([features, depths[:, None]], 1)
    rows = []
    for top in range(0, camera.height, SQUARE):
        row = []
        for left in range(0, camera.width, SQUARE):
            bottom, right = min(top + SQUARE, camera.height), min(left + SQUARE, camera.width)
            touch = (low[order] < torch.tensor([right, bottom])) & (high[order] > torch.tensor([left, top]))
            chosen = order[touch.all(1)]
            y, x = torch.meshgrid(torch.arange(top, bottom) + 0.5, torch.arange(left, right) + 0.5, indexing="ij")
            row.append(_blend(x.double(), y.double(), pixels[chosen], inverse[chosen], opacities[chosen], channels[chosen]))
        rows.append(torch.cat(row, 1))
    drawn = torch.cat(rows, 0)
    through = drawn[..., -1:]
    return drawn[..., :-2] + through * background, drawn[..., -2], 1 - through[..., 0]


def _project(
    means: Tensor, covariances: Tensor, opacities: Tensor, view: Tensor, camera: Camera, antialiased: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pixels (N, 2), covariances there (N, 3) as xx xy yy, opacities, depths."""
    (fx, _, cx), (_, fy, cy) = camera.intrinsics[:2]
    x, y, z = (means @ view[:, :3].T + view[:, 3]).unbind(1)
    flat = camera.model == "orthographic"
    depth = torch.ones_like(z) if flat else torch.where(z > camera.near, z, 1.0)
    zero = torch.zeros_like(z)
    slope_x, slope_y = zero, zero
    if not flat:
        left, right, top, bottom = slope_limits(camera)
        slope_x, slope_y = torch.clamp(x / depth, left, right), torch.clamp(y / depth, top, bottom)
    to_u = torch.stack([fx / depth, zero, -fx * slope_x / depth], 1)
    to_v = torch.stack([zero, fy / depth, -fy * slope_y / depth], 1)
    footprint = torch.stack([to_u, to_v], 1) @ view[:, :3]
    full = covariances[:, [0, 1, 2, 1, 3, 4, 2, 4, 5]].reshape(-1, 3, 3)
    sharp = footprint @ full @ footprint.transpose(1, 2)
    wide = sharp + LOW_PASS * torch.eye(2, dtype=sharp.dtype)
    if antialiased:
        opacities = opacities * torch.sqrt(torch.clamp(torch.det(sharp) / torch.det(wide), min=1e-30))
    pixels = torch.stack([fx * x / depth + cx, fy * y / depth + cy], 1)
    return pixels, torch.stack([wide[:, 0, 0], wide[:, 0, 1], wide[:, 1, 1]], 1), opacities, z


def _blend(x: Tensor, y: Tensor, pixels: Tensor, inverse: Tensor, opacities: Tensor, channels: Tensor) -> Tensor:
    """Channels and, last, the transmittance (H, W, D + 1) of splats that are given near first."""
    shape = (-1, 1, 1)
    dx, dy = x - pixels[:, 0].reshape(shape), y - pixels[:, 1].reshape(shape)
    a, b, c = (inverse[:, k].reshape(shape) for k in range(3))
    full = opacities.reshape(shape) * torch.exp(-0.5 * (a * dx * dx + c * dy * dy) - b * dx * dy)
    alpha = torch.where(full >= ALPHA_MIN, torch.clamp(full, max=ALPHA_MAX), 0.0)
    with torch.no_grad():  # the splat that would finish a pixel, and all behind it, are not drawn
        drawn = torch.cumprod(1 - alpha, 0) >= TRANSMITTANCE_MIN
    alpha = torch.where(drawn, alpha, 0.0)
    after = torch.cumprod(1 - alpha, 0)
    before = torch.cat([torch.ones_like(after[:1]), after[:-1]])
    colour = torch.einsum("nhw,nc->hwc", alpha * before, channels)
    through = after[-1:] if len(after) else torch.ones_like(x)[None]
    return torch.cat([colour, through.permute(1, 2, 0)], 2)


def tensor(values: object) -> Tensor:
    """A float64 leaf that wants its gradient."""
    return torch.tensor(np.asarray(values, np.float64), requires_grad=True)
