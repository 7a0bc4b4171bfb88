# SPDX-License-Identifier: GPL-3.0-or-later
"""Engine job 'splats.render': a still cloud and a camera become a picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ...common.cameras import Camera
from ..cloud import Source, SplatCloud
from .reference import render

COLUMNS = ("means", "quats", "scales", "opacities", "sh")


def request(cloud: SplatCloud, camera: Camera) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Parameters and arrays of the job."""
    parameters = {
        "width": camera.width,
        "height": camera.height,
        "model": camera.model,
        "near": camera.near,
        "antialiased": cloud.source.antialiased,
    }
    arrays = {name: getattr(cloud, name) for name in COLUMNS}
    return parameters, {**arrays, "intrinsics": camera.intrinsics, "camera_to_world": camera.camera_to_world}


def run(
    parameters: dict[str, Any], arrays: Mapping[str, np.ndarray], progress: Callable[[int, int, str], None]
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Result: array 'picture' (H, W, 4) float32, premultiplied display RGB and alpha, rows from the top."""
    cloud = SplatCloud(**{name: arrays[name] for name in COLUMNS}, source=Source(antialiased=parameters["antialiased"]))
    camera = Camera(
        np.asarray(arrays["intrinsics"], np.float64),
        np.asarray(arrays["camera_to_world"], np.float64),
        int(parameters["width"]),
        int(parameters["height"]),
        parameters["model"],
        float(parameters["near"]),
    )
    picture = render(cloud, camera, lambda done, total: progress(done, total, "drawing splats"))
    return {}, {"picture": picture.astype(np.float32)}
