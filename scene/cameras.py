# SPDX-License-Identifier: GPL-3.0-or-later
"""Blender's cameras <-> `Camera`; nobody else converts."""

from __future__ import annotations

import bpy
import numpy as np

from ..backends.common.cameras import Camera
from ..backends.common.errors import VivantError

_FLIP_YZ = np.diag([1.0, -1.0, -1.0, 1.0])  # Blender's camera looks along -Z, Y up


def picture_size(scene: bpy.types.Scene) -> tuple[int, int]:
    """Width and height of the scene's renders, pixels."""
    render = scene.render
    percent = render.resolution_percentage / 100
    return int(render.resolution_x * percent), int(render.resolution_y * percent)


def read(camera: bpy.types.Object | None, scene: bpy.types.Scene, depsgraph: bpy.types.Depsgraph) -> Camera:
    """The camera as it stands at the scene's current frame, with the scene's picture size.

    Lens, shift, sensor fit and pixel aspect come through Blender's own projection matrix.
    Raises VivantError without a camera and for a panoramic one.
    """
    if camera is None or camera.type != "CAMERA":
        raise VivantError("The scene has no camera.", "Add one, or make one active with Ctrl Numpad 0.")
    if camera.data.type == "PANO":
        raise VivantError("A panoramic camera cannot draw splats.", "Set the camera's type to Perspective or Orthographic.")
    width, height = picture_size(scene)
    render = scene.render
    evaluated = camera.evaluated_get(depsgraph)
    lens = np.array(
        evaluated.calc_matrix_camera(depsgraph, x=width, y=height, scale_x=render.pixel_aspect_x, scale_y=render.pixel_aspect_y)
    )
    flat = camera.data.type == "ORTHO"
    shift_x, shift_y = (lens[0, 3], -lens[1, 3]) if flat else (-lens[0, 2], lens[1, 2])
    intrinsics = np.array(
        [
            [lens[0, 0] * width / 2, 0, (1 + shift_x) * width / 2],
            [0, lens[1, 1] * height / 2, (1 + shift_y) * height / 2],
            [0, 0, 1],
        ]
    )
    # Blender's camera ignores its object's scale
    location, rotation, _ = evaluated.matrix_world.decompose()
    to_world = np.array(rotation.to_matrix().to_4x4())
    to_world[:3, 3] = location
    model = "orthographic" if flat else "perspective"
    return Camera(intrinsics, to_world @ _FLIP_YZ, width, height, model, camera.data.clip_start)


def in_space_of(camera: Camera, target: bpy.types.Object) -> Camera:
    """The same camera with an object's local space as its world."""
    to_local = np.linalg.inv(np.array(target.matrix_world)) @ camera.camera_to_world
    return Camera(camera.intrinsics, to_local, camera.width, camera.height, camera.model, camera.near)
