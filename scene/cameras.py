# SPDX-License-Identifier: GPL-3.0-or-later
"""Blender's cameras <-> `Camera`; nobody else converts."""

from __future__ import annotations

import bpy
import numpy as np
from numpy.typing import NDArray

from ..backends.common.cameras import Camera
from ..backends.common.errors import VivantError

_FLIP_YZ = np.diag([1.0, -1.0, -1.0, 1.0])  # Blender's camera looks along -Z, Y up
SENSOR = 36.0  # millimetres of the picture's longer side, so that focal lengths read as those of a full-frame camera


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


def blender_pose(camera: Camera) -> NDArray[np.float64]:
    """The matrix (4, 4) that an object needs to stand as a camera does."""
    return camera.camera_to_world @ _FLIP_YZ


def lens_of(camera: Camera, pixel_ratio: float = 1.0) -> dict[str, float | str]:
    """Properties of Blender's camera data that give a camera's picture exactly, at its size and any larger or smaller one.

    pixel_ratio: the render settings' pixel aspect Y / X, which alone makes two focal lengths differ; where it is not their
    ratio, both become their mean.
    """
    (fx, fy), (cx, cy) = np.diag(camera.intrinsics)[:2], camera.intrinsics[:2, 2]
    width, height = camera.width, camera.height * pixel_ratio
    longer = max(width, height)  # what Blender's sensor, lens and shift refer to
    share = float(np.sqrt(fx * fy * pixel_ratio)) / longer
    flat = camera.model == "orthographic"
    sensor = SENSOR if flat else max(SENSOR, 1 / share)  # Blender knows no lens under 1 mm
    return {
        "type": "ORTHO" if flat else "PERSP",
        "sensor_fit": "HORIZONTAL" if width >= height else "VERTICAL",
        "sensor_width": sensor * width / longer,
        "sensor_height": sensor * height / longer,
        "ortho_scale" if flat else "lens": 1 / share if flat else sensor * share,
        "shift_x": (camera.width / 2 - cx) / longer,
        "shift_y": (cy - camera.height / 2) * pixel_ratio / longer,
    }


def write_lens(data: bpy.types.Camera, camera: Camera, pixel_ratio: float = 1.0) -> None:
    """Give camera data a camera's lens: see `lens_of`."""
    for name, value in lens_of(camera, pixel_ratio).items():
        setattr(data, name, value)


def pixel_ratio_of(scene: bpy.types.Scene) -> float:
    """Pixel aspect Y / X of the scene's renders."""
    return scene.render.pixel_aspect_y / scene.render.pixel_aspect_x


def write_picture(scene: bpy.types.Scene, camera: Camera, pixel_ratio: float = 1.0) -> None:
    """Give the scene's renders a camera's picture size and pixel aspect; renders of that size already keep their percentage."""
    render = scene.render
    if picture_size(scene) != (camera.width, camera.height):
        render.resolution_x, render.resolution_y, render.resolution_percentage = camera.width, camera.height, 100
    render.pixel_aspect_x, render.pixel_aspect_y = max(1.0, 1 / pixel_ratio), max(1.0, pixel_ratio)
