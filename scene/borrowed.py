# SPDX-License-Identifier: GPL-3.0-or-later
"""The user's scene, lent for a picture through another camera, and given back as it was whatever happens."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import bpy
from mathutils import Matrix

from ..backends.common.cameras import Camera
from ..backends.common.errors import VivantError
from . import cameras, compat, plates

_PLAIN = {
    "film_transparent": True,
    "use_motion_blur": False,
    "use_compositing": False,
    "use_sequencer": False,
    "use_border": False,
    "use_multiview": False,
    "resolution_percentage": 100,
}
PASSES = {  # properties of view layers
    "depth": "use_pass_z",
    "normal": "use_pass_normal",
    "object_index": "use_pass_object_index",
    "albedo": "use_pass_diffuse_color",
}
_FORMAT = ("media_type", "file_format", "color_mode", "color_depth", "exr_codec", "compression", "use_exr_interleave")
_VIEW = ("view_transform", "look", "exposure", "gamma", "use_curve_mapping", "use_white_balance")
ENGINES = {"EEVEE": compat.EEVEE, "CYCLES": "CYCLES"}


@contextmanager
def plain(scene: bpy.types.Scene, size: tuple[int, int], engine: str = "", samples: int = 0) -> Iterator[None]:
    """The scene with a picture size and without what is no property of the scene before a lens: blur, compositing, borders.

    engine: "EEVEE", "CYCLES" or the scene's own; samples: a pixel, 0 for the scene's own.
    """
    with ExitStack() as stack:
        for name, value in _PLAIN.items():
            _lend(stack, scene.render, name, value)
        _lend(stack, scene.render, "resolution_x", size[0])
        _lend(stack, scene.render, "resolution_y", size[1])
        if engine:
            _lend(stack, scene.render, "engine", ENGINES[engine])
        if samples and str(scene.render.engine) == "CYCLES":
            _lend(stack, scene.cycles, "samples", samples)
        elif samples:
            _lend(stack, scene.eevee, "taa_render_samples", samples)
        # a marker would bind its own camera at its frame, and does when it is given it back
        stack.callback(setattr, scene, "camera", scene.camera)
        for marker in scene.timeline_markers:
            _lend(stack, marker, "camera", None)
        yield


@contextmanager
def through(
    scene: bpy.types.Scene,
    view_layer: bpy.types.ViewLayer,
    camera: Camera,
    frame: int,
    passes: Collection[str] = (),
    only: Collection[bpy.types.Object] = (),
) -> Iterator[None]:
    """The plain scene at a frame, seen through `camera`, its view layer with `passes`, other objects than `only` unseen."""
    with ExitStack() as stack:
        for name in passes:
            _lend(stack, view_layer, PASSES[name], True)
        for thing in scene.objects if only else ():
            if thing not in only and thing.visible_camera:
                if not thing.is_editable:
                    raise VivantError(f"'{thing.name}' is linked and cannot be hidden from cameras.", "Capture all objects.")
                _lend(stack, thing, "visible_camera", False)
        _lend(stack, scene, "camera", _made_camera(stack, scene, camera))
        stack.enter_context(plates.at_frame(scene, frame))
        yield


def _made_camera(stack: ExitStack, scene: bpy.types.Scene, camera: Camera) -> bpy.types.Object:
    data = bpy.data.cameras.new("Vivant Capture")
    stack.callback(bpy.data.cameras.remove, data)  # takes its object along
    made = bpy.data.objects.new("Vivant Capture", data)
    scene.collection.objects.link(made)
    cameras.write_lens(data, camera, cameras.pixel_ratio_of(scene))
    near = scene.camera.data if scene.camera and scene.camera.type == "CAMERA" else data
    data.clip_start, data.clip_end = camera.near, max(near.clip_end, 1000.0)
    made.matrix_world = Matrix(cameras.blender_pose(camera).tolist())
    return made


def render(scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer) -> bpy.types.Image:
    """Render a scene as it stands; the image that holds the result.  Raises VivantError where Blender does not."""
    hint = "Render one picture with F12 to see what is wrong."
    try:
        done = bpy.ops.render.render(scene=scene.name, layer=view_layer.name)
    except RuntimeError as error:
        raise VivantError(f"Blender could not render: {str(error).strip()}.", hint) from error
    result = next((image for image in bpy.data.images if image.type == "RENDER_RESULT"), None)
    if done != {"FINISHED"} or result is None:
        raise VivantError("Blender did not render; perhaps it is rendering already.", hint)
    return result


def save(scene: bpy.types.Scene, result: bpy.types.Image, path: Path, transform: str, layers: bool = False) -> None:
    """Write a scene's render, by rename: 8-bit display values with straight alpha as PNG, or all its layers as 32-bit EXR.

    transform: a view transform's name, used without look and exposure, or "" for all that the scene has set.
    Raises VivantError for a folder that cannot be written to.
    """
    part = path.with_name(f".{path.stem}.part{path.suffix}")
    with ExitStack() as stack:
        _lend(stack, scene.render, "dither_intensity", 0.0)
        _keep(stack, scene.render.image_settings, _FORMAT)
        compat.picture_format(scene.render.image_settings, layers)
        if transform:
            _keep(stack, scene.view_settings, _VIEW)
            for name, value in zip(_VIEW, (transform, "None", 0.0, 1.0, False, False), strict=True):
                setattr(scene.view_settings, name, value)
        try:
            result.save_render(str(part), scene=scene)
            part.replace(path)
        except (OSError, RuntimeError) as error:
            raise VivantError(
                f"'{path}' cannot be written: {str(error).strip()}.", "Free some space or choose another folder."
            ) from error


def _keep(stack: ExitStack, owner: Any, names: tuple[str, ...]) -> None:
    """Give properties back when the stack is closed, in this order: the first ones say what the others may be."""
    for name in reversed([name for name in names if hasattr(owner, name)]):
        stack.callback(setattr, owner, name, getattr(owner, name))


def _lend(stack: ExitStack, owner: Any, name: str, value: Any) -> None:
    """Set a property until the stack is closed."""
    before = getattr(owner, name)
    if before != value:
        stack.callback(setattr, owner, name, before)
        setattr(owner, name, value)
