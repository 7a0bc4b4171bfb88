# SPDX-License-Identifier: GPL-3.0-or-later
"""CameraSet <-> camera objects: one camera a picture, or one that travels along keys.

Poses stay in the capture's coordinates, as splats do: the matrix of what the cameras are children of stands them upright.
That is the cloud they were taken of, or an empty.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Literal

import bpy
import numpy as np
from mathutils import Matrix
from numpy.typing import NDArray

from ..backends.common import rotations
from ..backends.common.camera_files import FORMATS
from ..backends.common.cameras import Camera, CameraSet, View
from ..backends.common.errors import VivantError
from ..backends.gaussian.axes import to_blender
from . import actions, cameras, compat, pointclouds

Layout = Literal["AUTO", "PATH", "CAMERAS"]

DISPLAYED = 0.05  # size of a camera in the viewport, of what all of them span
_TRAINED = "RDF"
_AUTO_CLAMPED = 4
_KEYED_LENS = ("lens", "shift_x", "shift_y")


def add(
    context: bpy.types.Context,
    found: CameraSet,
    name: str,
    splats: bpy.types.Object | None = None,
    layout: Layout = "AUTO",
    start_frame: float | None = None,
    frames: float | None = None,
    markers: bool = False,
    pictures: bool = False,
    fit_scene: bool = True,
) -> tuple[list[bpy.types.Object], list[str]]:
    """Put cameras into a new collection; the camera objects and what the user should know.

    splats: the cloud that they look at, which becomes their parent; without it they stand upright under an empty.
    layout: "CAMERAS" one camera each, "PATH" one with keys, "AUTO" as the file has it.  start_frame, frames: when times of
    captures begin and how long they last, as of the splats (the scene's start and 50) when None; without times, one
    picture a frame.  markers: bind each camera to its frame.  pictures: show them behind their cameras.
    fit_scene: give the scene the first picture's size and pixel aspect.
    Raises VivantError, and then has changed nothing, for a path of pictures of several shapes.
    """
    scene = context.scene
    warnings = list(found.warnings)
    moving = layout == "PATH" or (layout == "AUTO" and found.path)
    views = found.views
    first = views[0].camera
    shapes = {(view.camera.width, view.camera.height) for view in views}
    if moving and len({width / height for width, height in shapes}) > 1:
        raise VivantError("The pictures have different shapes, which one camera cannot have.", "Import one camera each.")
    if len(shapes) > 1 and fit_scene:
        warnings.append(f"Pictures of {len(shapes)} sizes: the scene has that of the first, {first.width} x {first.height}.")
    ratio, said = _pixel_ratio(found) if fit_scene else (cameras.pixel_ratio_of(scene), [])
    warnings += said
    begin, length = clip_of(scene, splats)
    when = _frames_of(scene, found, begin if start_frame is None else start_frame, frames or length)

    collection = bpy.data.collections.new(name)
    context.collection.children.link(collection)
    parent, turn = splats, _trained_to(splats) if splats else np.eye(4)
    if parent is None:
        parent = bpy.data.objects.new(name, None)
        parent.matrix_world = Matrix(to_blender(found.axes).tolist()).to_4x4()
        collection.objects.link(parent)
    if fit_scene:
        cameras.write_picture(scene, first, ratio)
    places = np.array([view.camera.camera_to_world[:3, 3] for view in views])
    shown = 1.0 if moving else float(np.ptp(places, axis=0).max()) * DISPLAYED or 1.0
    made = []
    for view in views[:1] if moving else views:
        title = name if moving else Path(view.name).stem or name
        camera = bpy.data.objects.new(title, bpy.data.cameras.new(title))
        camera.parent = parent
        camera.matrix_basis = Matrix((turn @ cameras.blender_pose(view.camera)).tolist())
        cameras.write_lens(camera.data, view.camera, ratio)
        camera.data.display_size = shown
        collection.objects.link(camera)
        made.append(camera)
    if moving:
        warnings += _key(made[0], views, when, turn, ratio)
    elif markers:
        warnings += _bind(scene, made, when)
    if pictures:
        warnings += _show_pictures(made, views) if not moving else ["Pictures are shown behind single cameras only."]
    if scene.camera is None or moving:
        scene.camera = made[0]
    return made, warnings


def gathering(
    context: bpy.types.Context,
    form: str,
    objects: Sequence[bpy.types.Object] | None = None,
    frame_range: tuple[int, int] | None = None,
    step: int = 1,
    splats: bpy.types.Object | None = None,
) -> Generator[float, None, CameraSet]:
    """What a file of one of FORMATS is to say: cameras as they stand now, or the scene's camera at every step-th frame.

    objects: cameras, at the current frame; the scene's camera over frame_range (the scene's when None) otherwise, with
    names as of the rendered pictures.  splats: the cloud whose coordinates are wanted; the format's own upright ones else.
    Yields the share of frames that the scene has been set to, and sets it back at the end.
    Raises VivantError for a scene without camera, panoramic cameras and a cloud whose scale is uneven or mirrored.
    """
    scene = context.scene
    root = np.array(splats.matrix_world) @ _trained_to(splats) if splats else np.eye(4)
    if splats is None:
        root[:3, :3] = to_blender(FORMATS[form])
    to_file = _similarity(root, splats)
    axes = _TRAINED if splats else FORMATS[form]
    views = []
    if objects is not None:
        for camera in objects:
            taken = cameras.read(camera, scene, context.evaluated_depsgraph_get())
            views.append(View(_moved(taken, to_file), f"{camera.name}.png"))
        return CameraSet(tuple(views), axes)
    first, last = frame_range or (scene.frame_start, scene.frame_end)
    now, part, active = scene.frame_current, scene.frame_subframe, scene.camera
    fps = scene.render.fps / scene.render.fps_base
    try:
        for frame in range(first, last + 1, max(step, 1)):
            yield (frame - first) / (last - first + 1)
            scene.frame_set(frame)
            taken = cameras.read(scene.camera, scene, context.evaluated_depsgraph_get())
            time = _time_at(form, frame, first, last, fps, splats)
            views.append(View(_moved(taken, to_file), Path(scene.render.frame_path(frame=frame)).name, "", time))
    finally:
        scene.camera = active
        scene.frame_set(now, subframe=part)
    return CameraSet(tuple(views), axes, path=form == "SUPERSPLAT")


def _time_at(form: str, frame: int, first: int, last: int, fps: float, splats: bpy.types.Object | None) -> float | None:
    """Seconds for a path, the share of the clip for transforms.json, nothing where no time can be held."""
    if form == "SUPERSPLAT":
        return (frame - first) / fps
    if form != "TRANSFORMS":
        return None
    if splats and pointclouds.mover_of(splats):
        start, end = pointclouds.facts_of(splats).get("time_range") or (0.0, 1.0)
        return float(np.clip((pointclouds.time_at(splats, frame) - start) / (end - start), 0, 1))
    return (frame - first) / max(last - first, 1)


def _trained_to(splats: bpy.types.Object) -> NDArray[np.float64]:
    """Matrix (4, 4) from the coordinates that cameras and splats were trained in to those of the object."""
    from ..backends.gaussian.formats import gltf, spz, usd  # not before it is needed: Blender starts with this module

    turn = np.eye(4)
    turned = {form.NAME: form.AXES for form in (spz, gltf, usd)}  # away from what was trained
    axes = turned.get(pointclouds.facts_of(splats).get("format", ""), _TRAINED)
    turn[:3, :3] = to_blender(axes).T @ to_blender(_TRAINED)
    return turn


def _similarity(root: NDArray[np.float64], splats: bpy.types.Object | None) -> NDArray[np.float64]:
    """Inverse of a matrix of rotation and even scale."""
    linear = root[:3, :3]
    scale = np.cbrt(np.linalg.det(linear))
    if scale <= 0 or not np.allclose(linear @ linear.T, scale**2 * np.eye(3), atol=1e-5 * scale**2):
        raise VivantError(f"'{splats.name if splats else ''}' is scaled unevenly or mirrored.", "Apply its transform first.")
    return np.linalg.inv(root)


def _moved(camera: Camera, to_file: NDArray[np.float64]) -> Camera:
    """The camera in other coordinates of any even scale, with a rigid pose."""
    pose = to_file @ camera.camera_to_world
    pose[:3, :3] /= np.cbrt(np.linalg.det(pose[:3, :3]))
    return Camera(camera.intrinsics, pose, camera.width, camera.height, camera.model, camera.near)


def _pixel_ratio(found: CameraSet) -> tuple[float, list[str]]:
    """Pixel aspect that serves all cameras, and a sentence where none does or where it is unusual."""
    lenses = np.array([np.diag(view.camera.intrinsics)[:2] for view in found.views])
    ratios = lenses[:, 0] / lenses[:, 1]
    ratio = float(ratios[0])
    if np.ptp(ratios) < 1e-6 * ratio:
        if abs(ratio - 1) < 1e-6:
            return 1.0, []
        return ratio, [f"Focal lengths differ in width and height: the scene's pixel aspect is {ratio:.5f} now."]
    off = max(
        abs(each - 1) * max(view.camera.width, view.camera.height) / 4 for each, view in zip(ratios, found.views, strict=True)
    )
    return 1.0, [f"Pixels are taken for square: pictures differ by up to {off:.1f} pixels at their border."]


def clip_of(scene: bpy.types.Scene, splats: bpy.types.Object | None) -> tuple[float, float]:
    """First frame and length of the splats' clip; the scene's start and 50 for splats that stand still, or none."""
    mover = pointclouds.mover_of(splats) if splats else None
    if mover is None:
        return float(scene.frame_start), 50.0
    start, frames = (compat.get_modifier_input(mover, name) for name in ("Start Frame", "Frames"))
    return float(start), float(frames)


def _frames_of(scene: bpy.types.Scene, found: CameraSet, start: float, frames: float) -> list[float]:
    """The frame of every view."""
    scale = scene.render.fps / scene.render.fps_base if found.path else frames
    return [start + (index if view.time is None else view.time * scale) for index, view in enumerate(found.views)]


def _key(
    camera: bpy.types.Object, views: Sequence[View], when: Sequence[float], turn: NDArray[np.float64], ratio: float
) -> list[str]:
    """Key a camera's place, rotation and, where it changes, lens at every view; what was left out."""
    times, order = np.unique(np.round(when, 4), return_index=True)
    chosen = [views[index].camera for index in order]
    poses = np.array([turn @ cameras.blender_pose(each) for each in chosen])
    quats = rotations.continuous(rotations.from_matrix(poses[:, :3, :3]))
    euler = rotations.continuous_euler(rotations.to_euler(quats))
    channels = {(camera, "location"): poses[:, :3, 3], (camera, "rotation_euler"): euler}
    lenses = [cameras.lens_of(each, ratio) for each in chosen]
    for name in _KEYED_LENS:
        column = np.array([lens[name] for lens in lenses if name in lens], np.float64)
        if len(column) == len(chosen) and np.ptp(column) > 1e-7:
            channels[camera.data, name] = column[:, None]
    for (owner, path), columns in channels.items():
        for index, column in enumerate(columns.T):
            owner.keyframe_insert(path, index=index if columns.shape[1] > 1 else -1, frame=times[0])
            data = owner.animation_data
            keys = np.zeros(len(times), actions.KEY)
            keys["co"] = np.column_stack([times, column])
            keys["interpolation"] = actions.BEZIER
            keys["handle_left_type"] = keys["handle_right_type"] = _AUTO_CLAMPED
            actions.write_keys(actions.curves_of(data.action, data.action_slot)[path, index], keys)
    left = len(views) - len(times)
    return [f"{left:,} views at times of others are left out."] if left else []


def _bind(scene: bpy.types.Scene, made: Sequence[bpy.types.Object], when: Sequence[float]) -> list[str]:
    """A marker at each frame that switches to its camera; how many cameras share theirs with another."""
    first = dict(zip(map(round, reversed(when)), reversed(made), strict=True))
    for frame, camera in sorted(first.items()):
        scene.timeline_markers.new(camera.name, frame=frame).camera = camera
    left = len(made) - len(first)
    return [f"{left:,} cameras have no marker: others stand at the same frame."] if left else []


def _show_pictures(made: Sequence[bpy.types.Object], views: Sequence[View]) -> list[str]:
    """Load what pictures there are as backgrounds; how many are missing."""
    missing = 0
    for camera, view in zip(made, views, strict=True):
        try:
            image = bpy.data.images.load(view.image, check_existing=True) if view.image else None
        except RuntimeError:
            image = None
        if image is None:
            missing += 1
            continue
        camera.data.background_images.new().image = image
        camera.data.show_background_images = True
    return [f"{missing:,} of {len(made):,} pictures were not found."] if missing else []
