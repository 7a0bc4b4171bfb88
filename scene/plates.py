# SPDX-License-Identifier: GPL-3.0-or-later
"""What a plate is drawn of, and where it goes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from ..backends.common.errors import VivantError
from ..backends.gaussian.render import job
from . import cameras, pointclouds, solids


def splats_of(view_layer: bpy.types.ViewLayer) -> list[bpy.types.Object]:
    """The splat objects that renders show."""
    shown = solids.in_renders(view_layer)
    return [candidate for candidate in view_layer.objects if candidate in shown and pointclouds.is_splats(candidate)]


def request(
    scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer, hide_behind: bool = True, path: Path | None = None
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The engine job 'splats.render' for the scene's current frame, seen from its camera.

    hide_behind: other objects hide the splats behind them, whatever their material; they are taken as the viewport shows them.
    path: an EXR file to write instead of giving arrays.  Raises VivantError without splats or a camera.
    """
    shown = splats_of(view_layer)
    if not shown:
        raise VivantError("All splats are hidden in renders.", "Switch on the camera icon of one of them in the outliner.")
    view_layer.update()
    depsgraph = view_layer.depsgraph
    camera = cameras.read(scene.camera, scene, depsgraph)
    views = [(pointclouds.cloud_at(splats, scene), cameras.in_space_of(camera, splats)) for splats in shown]
    return job.request(views, camera, solids.read(view_layer, depsgraph) if hide_behind else None, path)


@contextmanager
def at_frame(scene: bpy.types.Scene, frame: int) -> Iterator[None]:
    """The scene at another frame, and back at its own afterwards."""
    before = scene.frame_current, scene.frame_subframe
    scene.frame_set(frame)
    try:
        yield
    finally:
        scene.frame_set(before[0], subframe=before[1])


def file_of(name: str, frame: int, numbered: bool) -> Path:
    """The EXR file of a frame: `#` in the name stand for its digits; numbered names without any get four at the end.

    Raises VivantError for a name relative to a .blend that was never saved.
    """
    if name.startswith("//") and not bpy.data.filepath:
        raise VivantError("There is no folder beside a file that was never saved.", "Save it, or give a whole path.")
    whole = bpy.path.abspath(name)
    path = Path(whole).absolute()
    folder, last = (path, "") if whole.endswith(("/", "\\")) else (path.parent, path.name)
    last = re.sub(r"(?i)\.exr$", "", last)
    if numbered and "#" not in last:
        last += "####"
    return folder / (re.sub("#+", lambda marks: f"{frame:0{len(marks[0])}d}", last) + ".exr")
