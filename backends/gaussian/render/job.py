# SPDX-License-Identifier: GPL-3.0-or-later
"""Engine job 'splats.render': still clouds, a camera and what hides them become a plate."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...common import exr
from ...common.cameras import Camera
from ...common.errors import VivantError
from ..cloud import COLUMNS, Source, SplatCloud
from .occluders import Solids, depths
from .reference import Layers, render_layers

FAR = 1e10  # metres, where a file has no infinity: Blender's own


def request(
    views: Sequence[tuple[SplatCloud, Camera]],
    camera: Camera,
    solids: Solids | None = None,
    path: Path | None = None,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Parameters and arrays of the job; `views` as in `reference.render`, the camera as in the solids' world.

    Colours are blended as linear light where all clouds were trained so.  path: an EXR file to write.
    """
    parameters = {
        "width": camera.width,
        "height": camera.height,
        "model": camera.model,
        "near": camera.near,
        "intrinsics": camera.intrinsics.tolist(),
        "camera_to_world": [view.camera_to_world.tolist() for view in (camera, *(view for _, view in views))],
        "antialiased": [cloud.source.antialiased for cloud, _ in views],
        "linear": [cloud.source.linear for cloud, _ in views],
        "path": str(path) if path else "",
    }
    arrays = {f"{name}_{index}": getattr(cloud, name) for index, (cloud, _) in enumerate(views) for name in COLUMNS}
    if solids:
        arrays |= {f"solids_{field.name}": getattr(solids, field.name) for field in dataclasses.fields(Solids)}
    return parameters, arrays


def run(
    parameters: dict[str, Any], arrays: Mapping[str, np.ndarray], progress: Callable[[int, int, str], None]
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Result: arrays 'light', 'depth' and 'nearest' of `reference.Layers`, float32; none where they went into a file."""
    camera, *cameras = (
        Camera(
            np.array(parameters["intrinsics"]),
            np.array(pose),
            parameters["width"],
            parameters["height"],
            parameters["model"],
            parameters["near"],
        )
        for pose in parameters["camera_to_world"]
    )
    views = []
    for index, seen in enumerate(cameras):
        columns: dict[str, Any] = {name: arrays[f"{name}_{index}"] for name in COLUMNS}
        details = {"colour_space": "linear"} if parameters["linear"][index] else {}
        views.append(
            (SplatCloud(**columns, source=Source(antialiased=parameters["antialiased"][index], details=details)), seen)
        )
    hidden = None
    if "solids_points" in arrays:
        progress(0, 1, "Finding what is hidden")
        hidden = depths(Solids(*(arrays[f"solids_{field.name}"] for field in dataclasses.fields(Solids))), camera)
    layers = render_layers(
        views, lambda done, total: progress(done, total, "Drawing splats"), hidden, all(parameters["linear"])
    )
    if parameters["path"]:
        write(Path(parameters["path"]), layers)
        return {}, {}
    return {}, {name: getattr(layers, name).astype(np.float32) for name in ("light", "depth", "nearest")}


def write(path: Path, layers: Layers) -> None:
    """A multilayer EXR for the compositor: Combined, scene-linear and premultiplied; Depth; Nearest, FAR where infinite.

    It appears when it is complete.  Raises VivantError when it cannot be written.
    """
    from ..formats import files  # all formats, which Blender need not wait for when it starts

    channels = {f"Splats.Combined.{name}": plane for name, plane in zip("RGBA", layers.light.transpose(2, 0, 1), strict=True)}
    for name in ("depth", "nearest"):
        channels[f"Splats.{name.title()}.Z"] = np.minimum(getattr(layers, name), FAR)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise VivantError(f"{path.name} cannot be written: {error.strerror}.", "Choose another folder.") from error
    files.save(path, [exr.encode(channels)])
