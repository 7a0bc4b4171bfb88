# SPDX-License-Identifier: GPL-3.0-or-later
"""Render the open scene from all around, into a folder to train splats on (D-NeRF's layout; see `gaussian.train.views`)."""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import bpy
import numpy as np
from numpy.typing import NDArray

from ..backends.common import room, shells
from ..backends.common.camera_files import transforms
from ..backends.common.cameras import Camera, CameraSet, View
from ..backends.common.errors import VivantError
from . import borrowed, cameras, plates, solids

_UNFINISHED = ".unfinished"  # lies in the folder until every picture does
_BODILESS = {"CAMERA", "LIGHT", "EMPTY", "ARMATURE", "LATTICE", "SPEAKER", "LIGHT_PROBE"}
_FRAMES_LOOKED_AT = 9
_PASS_CHANNELS = {"depth": 1, "normal": 3, "object_index": 1, "albedo": 3}


@dataclass(frozen=True)
class Wish:
    """What to capture.

    shell: "SPHERE", "HEMISPHERE", "ORBIT", around `objects` at the active camera's distance and with its lens, or "CAMERAS".
    views, held_out: cameras to train on and to test with; of "CAMERAS" that many are held out.  every_frame: all cameras at
    all frames, else each picture at a frame of its own.  frames: first and last, the scene's when None.  size: of pictures, the
    scene's when None.  objects: names of what is seen, all when empty.  cameras: names, all of the scene when empty.
    passes: of `borrowed.PASSES`.  transform: a view transform, "" for the scene's.  engine, samples: see `borrowed.plain`.
    """

    shell: str = "HEMISPHERE"
    views: int = 100
    held_out: int = 10
    every_frame: bool = False
    frames: tuple[int, int] | None = None
    size: tuple[int, int] | None = None
    objects: tuple[str, ...] = ()
    cameras: tuple[str, ...] = ()
    passes: tuple[str, ...] = ()
    transform: str = "Standard"
    engine: str = ""
    samples: int = 0


@dataclass(frozen=True, eq=False)
class Shot:
    """One picture to take: "train" or "test", its name in the folder without ending, its camera and its frame."""

    split: str
    name: str
    camera: Camera
    frame: int


@dataclass(frozen=True)
class Captured:
    """What lies in the folder: pictures, how many of them were there before, bytes, and seconds that the others took."""

    folder: Path
    pictures: int
    kept: int
    bytes: int
    seconds: float


@dataclass(frozen=True)
class Estimate:
    """What a capture will take, from one test picture."""

    pictures: int
    bytes: int
    seconds: float


def plan(scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer, wish: Wish) -> list[Shot]:
    """All pictures of a capture, by frame; the scene is as it was afterwards.

    Raises VivantError without a camera, for one that is not perspective, for nothing to see and a pass that the engine has not.
    """
    if wish.views < 2 and wish.shell != "CAMERAS":
        raise VivantError("One view is too few: depth is told from several.", "Ask for 50 or more.")
    if missing := [name for name in (*wish.objects, *wish.cameras) if name not in scene.objects]:
        raise VivantError(f"There is no object '{missing[0]}' in the scene.", "Choose others.")
    first, last = wish.frames or (scene.frame_start, scene.frame_end)
    if last < first:
        raise VivantError(f"The frames end at {last}, before they begin at {first}.", "Set the scene's frame range.")
    with borrowed.plain(scene, wish.size or cameras.picture_size(scene), wish.engine):
        if "object_index" in wish.passes and str(scene.render.engine) != "CYCLES":
            raise VivantError("Object indices are rendered by Cycles only.", "Choose Cycles, or leave that pass out.")
        if wish.shell == "CAMERAS":
            return _of_cameras(scene, view_layer, wish, first, last)
        return _of_shell(scene, view_layer, wish, first, last)


def _of_shell(scene: bpy.types.Scene, layer: bpy.types.ViewLayer, wish: Wish, first: int, last: int) -> list[Shot]:
    layer.update()
    seen = perspective(scene, scene.camera, layer)
    box = bounds(scene, layer, wish.objects, first, last)
    centre = box.mean(axis=0)
    away = seen.camera_to_world[:3, 3] - centre
    distance = float(np.linalg.norm(away))
    if distance < np.linalg.norm(box[1] - box[0]) / 2:
        raise VivantError("The camera stands inside of what it is to turn about.", "Move it away, or capture fewer objects.")
    lens = seen.intrinsics.copy()
    lens[:2, 2] = seen.width / 2, seen.height / 2
    poses = shells.poses(wish.shell, wish.views + wish.held_out, centre, distance, math.asin(away[2] / distance))
    every = [replace(seen, intrinsics=lens, camera_to_world=pose) for pose in poses]
    held_out = spread(len(every), wish.held_out)
    parts = {
        "train": [camera for index, camera in enumerate(every) if index not in held_out],
        "test": [every[index] for index in held_out],
    }
    frames = range(first, last + 1)
    shots = []
    for split, part in parts.items():
        if wish.every_frame:
            shots += [(split, camera, frame) for frame in frames for camera in part]
        else:
            shots += [(split, camera, frame) for camera, frame in zip(part, _times(split, len(part), first, last), strict=True)]
    return _named(shots)


def _of_cameras(scene: bpy.types.Scene, layer: bpy.types.ViewLayer, wish: Wish, first: int, last: int) -> list[Shot]:
    """Each camera where it stands at each frame."""
    found = [one for one in scene.objects if one.type == "CAMERA" and (not wish.cameras or one.name in wish.cameras)]
    if not found:
        raise VivantError("The scene has no camera.", "Add some, or capture from a shell around the active one.")
    held_out = spread(len(found), min(wish.held_out, len(found) - 1))
    frames = list(range(first, last + 1))
    if wish.every_frame:
        taken = [(index, frame) for frame in frames for index in range(len(found))]
    else:
        count = max(wish.views, len(found))
        taken = [(index % len(found), frame) for index, frame in enumerate(_times("train", count, first, last))]
    shots = []
    for frame in sorted({frame for _, frame in taken}):
        with plates.at_frame(scene, frame):
            for index in [index for index, at in taken if at == frame]:
                split = "test" if index in held_out else "train"
                shots.append((split, perspective(scene, found[index], layer), frame))
    return _named(shots)


def perspective(scene: bpy.types.Scene, camera: bpy.types.Object | None, layer: bpy.types.ViewLayer) -> Camera:
    """The camera as it stands.  Raises VivantError for one that is not perspective."""
    found = cameras.read(camera, scene, layer.depsgraph)
    if found.model != "perspective":
        raise VivantError("Splats are trained on perspective pictures only.", "Set the camera's type to Perspective.")
    return found


def spread(count: int, chosen: int) -> list[int]:
    """Evenly spread indices."""
    return [int((index + 0.5) * count / chosen) for index in range(chosen)]


def _times(split: str, count: int, first: int, last: int) -> list[int]:
    """A frame for each picture: those to train on from the first to the last, those held out in between."""
    shares = np.linspace(0, 1, count) if split == "train" else (np.arange(count) + 0.5) / max(count, 1)
    return [round(first + share * (last - first)) for share in shares.tolist()]


def _named(shots: Iterable[tuple[str, Camera, int]]) -> list[Shot]:
    counts = {"train": 0, "test": 0}
    made = []
    for split, camera, frame in shots:
        made.append(Shot(split, f"{split}/r_{counts[split]:05d}", camera, frame))
        counts[split] += 1
    if not counts["train"]:
        raise VivantError("No picture is left to train on.", "Hold fewer of them out.")
    return sorted(made, key=lambda shot: shot.frame)  # simulations go forwards


def bounds(
    scene: bpy.types.Scene, layer: bpy.types.ViewLayer, objects: Sequence[str], first: int, last: int
) -> NDArray[np.float64]:
    """Lowest and highest corner (2, 3), world, of what renders show of some objects, or of all, over the frames.

    Raises VivantError where there is nothing.
    """
    shown = {one.name for one in solids.in_renders(layer) if not objects or one.name in objects}
    corners = []
    for frame in sorted({round(each) for each in np.linspace(first, last, min(last - first + 1, _FRAMES_LOOKED_AT)).tolist()}):
        with plates.at_frame(scene, frame):
            for instance in layer.depsgraph.object_instances:
                owner = instance.parent if instance.is_instance else instance.object
                if owner and owner.name in shown and instance.object.type not in _BODILESS:
                    box = np.array([corner[:] for corner in instance.object.bound_box])
                    place = np.array(instance.matrix_world)
                    corners.append(box @ place[:3, :3].T + place[:3, 3])
    found = np.concatenate(corners) if corners else np.zeros((0, 3))
    if not len(found) or not np.ptp(found, axis=0).max() > 0:
        raise VivantError("There is nothing to turn about.", "Show the objects in viewport and renders, or choose others.")
    return np.array([found.min(axis=0), found.max(axis=0)])


def estimate(scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer, wish: Wish) -> Estimate:
    """Render one picture, in the middle of the capture, and say what all will take.  Raises as `capturing` does."""
    shots = plan(scene, view_layer, wish)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "train").mkdir()
        (Path(folder) / "test").mkdir()
        started = time.monotonic()
        size = _take(scene, view_layer, shots[len(shots) // 2], Path(folder), wish)
        seconds = time.monotonic() - started
    return Estimate(len(shots), size * len(shots), seconds * len(shots))


def capturing(
    scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer, folder: Path, wish: Wish
) -> Generator[tuple[int, int, str], None, Captured]:
    """Capture in steps of one picture, which yield how many of how many there are, and what comes next.

    The scene is the user's own between two steps.  Where an earlier capture of the same cameras was interrupted, its pictures
    are kept; a finished one is rendered anew.
    Raises VivantError as `plan` does, for a folder with another capture in it or no room, and where Blender cannot render.
    """
    shots = plan(scene, view_layer, wish)
    names = scene.name, view_layer.name
    _prepare(folder, _lists(shots, wish, scene), shots, wish)
    kept = [shot for shot in shots if all(path.is_file() for path in _files(folder, shot, wish))]
    left = [shot for shot in shots if shot not in kept]
    started = time.monotonic()
    for index, shot in enumerate(left):
        yield len(kept) + index, len(shots), f"frame {shot.frame}"
        # asked for anew: the user goes on working meanwhile
        scene = bpy.data.scenes.get(names[0])
        layer = scene and scene.view_layers.get(names[1])
        if layer is None:
            raise VivantError(f"The scene '{names[0]}' is gone.", "Capture again: the pictures so far are kept.")
        _take(scene, layer, shot, folder, wish)
    (folder / _UNFINISHED).unlink(missing_ok=True)
    size = sum(path.stat().st_size for shot in shots for path in _files(folder, shot, wish))
    return Captured(folder, len(shots), len(kept), size, time.monotonic() - started)


def _take(scene: bpy.types.Scene, layer: bpy.types.ViewLayer, shot: Shot, folder: Path, wish: Wish) -> int:
    """Render one picture into the folder; its bytes."""
    only = [scene.objects[name] for name in wish.objects if name in scene.objects]
    if len(only) < len(wish.objects):
        raise VivantError("An object to capture is gone.", "Capture again: the pictures so far are kept.")
    size = shot.camera.width, shot.camera.height
    with (
        borrowed.plain(scene, size, wish.engine, wish.samples),
        borrowed.through(scene, layer, shot.camera, shot.frame, wish.passes, only),
    ):
        result = borrowed.render(scene, layer)
        *layers, picture = _files(folder, shot, wish)
        for path in layers:
            borrowed.save(scene, result, path, wish.transform, layers=True)
        borrowed.save(scene, result, picture, wish.transform)
    return sum(path.stat().st_size for path in (*layers, picture))


def _files(folder: Path, shot: Shot, wish: Wish) -> list[Path]:
    """What a picture is written to; the one that is written last comes last."""
    path = folder / shot.name
    return [*([path.with_suffix(".exr")] if wish.passes else []), path.with_suffix(".png")]


def _lists(shots: Sequence[Shot], wish: Wish, scene: bpy.types.Scene) -> dict[str, str]:
    """The text of each transforms_*.json of a capture."""
    first, last = wish.frames or (scene.frame_start, scene.frame_end)
    views: dict[str, list[View]] = {"train": [], "test": []}
    for shot in sorted(shots, key=lambda shot: shot.name):
        views[shot.split].append(View(shot.camera, shot.name, time=(shot.frame - first) / max(last - first, 1)))
    return listed(views, (first, last), scene, wish.passes)


def listed(
    views: Mapping[str, Sequence[View]], frames: tuple[int, int], scene: bpy.types.Scene, passes: Sequence[str] = ()
) -> dict[str, str]:
    """The text of each transforms_*.json, by its name: views by split, and the frames of times 0 and 1."""
    lists = {}
    for split, part in views.items():
        if part:
            content = json.loads(transforms.encode(CameraSet(tuple(part), transforms.AXES)))
            content |= {"frame_range": list(frames), "fps": scene.render.fps / scene.render.fps_base}
            for frame in content["frames"]:
                frame |= {f"{name}_file_path": f"{frame['file_path']}.exr" for name in passes}
            lists[f"transforms_{split}.json"] = json.dumps(content, indent=1)
    return lists


def write_lists(folder: Path, lists: Mapping[str, str]) -> None:
    """Write files by rename.  Raises VivantError for a folder that cannot be written to."""
    try:
        for name, text in lists.items():
            part = folder / f".{name}.part"
            part.write_text(text)
            part.replace(folder / name)
    except OSError as error:
        raise VivantError(f"'{folder}' cannot be written: {error}.", "Choose another folder.") from error


def _prepare(folder: Path, lists: dict[str, str], shots: Sequence[Shot], wish: Wish) -> None:
    """Make the folder, or find what an interrupted capture left in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        before = {path.name: path.read_text() for path in folder.glob("transforms*.json")}
        if before and before != lists:
            raise VivantError(f"'{folder}' holds another capture.", "Choose another folder, or delete what is in it.")
        pixels = shots[0].camera.width * shots[0].camera.height
        largest = pixels * (4 + (16 + 4 * sum(_PASS_CHANNELS[name] for name in wish.passes) if wish.passes else 0))
        missing = [shot for shot in shots if not all(path.is_file() for path in _files(folder, shot, wish))]
        room.require(disk=largest * len(missing), folder=folder, what="The capture")
        if before and not (folder / _UNFINISHED).exists():
            for shot in shots:
                for path in _files(folder, shot, wish):
                    path.unlink(missing_ok=True)
        for name in ("train", "test"):
            (folder / name).mkdir(exist_ok=True)
        (folder / _UNFINISHED).touch()
    except (OSError, UnicodeDecodeError) as error:
        raise VivantError(f"'{folder}' cannot be written: {error}.", "Choose another folder.") from error
    write_lists(folder, lists)
