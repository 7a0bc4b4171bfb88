# SPDX-License-Identifier: GPL-3.0-or-later
"""The compiled rasteriser as a PyTorch function, for networks that end in splats."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...common.cameras import Camera
from . import cpu


def draw(
    means: Tensor,
    covariances: Tensor,
    opacities: Tensor,
    features: Tensor,
    view: Tensor | None,
    camera: Camera,
    background: Any = 0.0,
    antialiased: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Features (H, W, D), depth (H, W) and alpha (H, W), float32, as in `drawing.Drawing`.

    view (3, 4): world to camera, for whoever wants its gradient; None: the camera's own.
    """
    if view is None:
        view = torch.tensor(np.linalg.inv(camera.camera_to_world)[:3], dtype=torch.float32)
    return _Draw.apply(means, covariances, opacities, features, view, camera, background, antialiased)  # type: ignore[no-any-return]


class _Draw(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
        means, covariances, opacities, features, view, camera, background, antialiased = arguments
        columns = [one.detach().cpu().numpy() for one in (means, covariances, opacities, features)]
        pose = np.eye(4)
        pose[:3] = view.detach().cpu().numpy()
        posed = Camera(camera.intrinsics, np.linalg.inv(pose), camera.width, camera.height, camera.model, camera.near)
        ctx.drawing = cpu.draw(columns[0], columns[1], columns[2], columns[3], posed, background, antialiased)
        ctx.device = means.device
        made = (ctx.drawing.features, ctx.drawing.depth, ctx.drawing.alpha)
        return tuple(torch.from_numpy(np.ascontiguousarray(one)).to(means.device) for one in made)  # type: ignore[return-value]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Any, ...]:
        wanted = (None if one is None else one.detach().cpu().numpy() for one in gradients)
        found = ctx.drawing.backward(*wanted)
        made = (found.means, found.covariances, found.opacities, found.features, found.view)
        return (*(torch.from_numpy(np.ascontiguousarray(one)).to(ctx.device) for one in made), None, None, None)
