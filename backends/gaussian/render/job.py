# SPDX-License-Identifier: GPL-3.0-or-later
"""Engine job 'splats.render': still clouds and a camera become a picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ...common.cameras import Camera
from ..cloud import Source, SplatCloud
from .reference import render_layers

COLUMNS = ("means", "quats", "scales", "opacities", "sh")


def request(views: Sequence[tuple[SplatCloud, Camera]]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Parameters and arrays of the job; `views` as in `reference.render`."""
    camera = views[0][1]
    parameters = {
        "width": camera.width,
        "height": camera.height,
        "model": camera.model,
        "near": camera.near,
        "intrinsics": camera.intrinsics.tolist(),
        "camera_to_world": [view.camera_to_world.tolist() for _, view in views],
        "antialiased": [cloud.source.antialiased for cloud, _ in views],
    }
    arrays = {f"{name}_{index}": getattr(cloud, name) for index, (cloud, _) in enumerate(views) for name in COLUMNS}
    return parameters, arrays


def run(
    parameters: dict[str, Any], arrays: Mapping[str, np.ndarray], progress: Callable[[int, int, str], None]
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Result: arrays 'picture', 'depth' and 'nearest' of `reference.Layers`, float32."""
    views = []
    for index, (pose, antialiased) in enumerate(zip(parameters["camera_to_world"], parameters["antialiased"], strict=True)):
        columns: dict[str, Any] = {name: arrays[f"{name}_{index}"] for name in COLUMNS}
        camera = Camera(
            np.array(parameters["intrinsics"]),
            np.array(pose),
            parameters["width"],
            parameters["height"],
            parameters["model"],
            parameters["near"],
        )
        views.append((SplatCloud(**columns, source=Source(antialiased=antialiased)), camera))
    layers = render_layers(views, lambda done, total: progress(done, total, "Drawing splats"))
    return {}, {name: getattr(layers, name).astype(np.float32) for name in ("picture", "depth", "nearest")}
