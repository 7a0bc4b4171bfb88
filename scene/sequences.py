# SPDX-License-Identifier: GPL-3.0-or-later
"""Cameras of the scene with footage behind them, as a folder to train on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import bpy

from ..backends.common.camera_files import sound
from ..backends.common.cameras import View
from ..backends.common.errors import VivantError
from . import borrowed, capture, plates


def pose(
    scene: bpy.types.Scene,
    view_layer: bpy.types.ViewLayer,
    folder: Path,
    cameras: Sequence[str] = (),
    held_out: int = 0,
    frames: tuple[int, int] | None = None,
) -> dict[str, int]:
    """Write transforms_train.json and _test.json into the folder above the cameras' background pictures; how many each lists.

    cameras: names, all of the scene with such pictures when empty; held_out: how many of them are only to test with.  Of image
    sequences every frame of the range (the scene's when None) whose file exists is listed, with its camera as it stands then;
    of a single picture the first frame.
    Raises VivantError without pictures, for movies, pictures of other kinds or outside of the folder, and cameras that are not
    perspective.
    """
    first, last = frames or (scene.frame_start, scene.frame_end)
    found = [one for one in scene.objects if one.type == "CAMERA" and (not cameras or one.name in cameras) and _behind(one)]
    if not found:
        raise VivantError("No camera has a background picture.", "Add image sequences in the cameras' Background Images.")
    tested = capture.spread(len(found), min(held_out, len(found) - 1))
    files = {one.name: _files(one, first, last) for one in found}
    views: dict[str, list[View]] = {"train": [], "test": []}
    for frame in range(first, last + 1):
        if not any(frame in numbered for numbered in files.values()):
            continue
        with plates.at_frame(scene, frame):
            for index, camera in enumerate(found):
                path = files[camera.name].get(frame)
                if path is None:
                    continue
                if not path.is_relative_to(folder):
                    raise VivantError(f"'{path}' lies outside of '{folder}'.", "Choose the folder that holds all pictures.")
                size = sound.picture_size(str(path))
                if size is None:
                    raise VivantError(f"'{path.name}' is no PNG, JPEG or WebP picture.", "Write the sequence out as PNG.")
                with borrowed.plain(scene, size):
                    seen = capture.perspective(scene, camera, view_layer)
                time = (frame - first) / max(last - first, 1)
                part = views["test" if index in tested else "train"]
                part.append(View(seen, path.relative_to(folder).as_posix(), time=time))
    if not views["train"]:
        raise VivantError("None of the pictures was found in these frames.", "Check the cameras' Background Images.")
    capture.write_lists(folder, capture.listed(views, (first, last), scene))
    return {split: len(part) for split, part in views.items()}


def _behind(camera: bpy.types.Object) -> bpy.types.CameraBackgroundImage | None:
    """The background picture of a camera.  Raises VivantError for a movie."""
    for behind in camera.data.background_images:
        if behind.source == "MOVIE_CLIP" or (behind.image and behind.image.source == "MOVIE"):
            raise VivantError(f"The footage of '{camera.name}' is a movie.", "Write it out as an image sequence.")
        if behind.image:
            return behind
    return None


def _files(camera: bpy.types.Object, first: int, last: int) -> dict[int, Path]:
    """The picture at each frame that has one."""
    behind = _behind(camera)
    path = Path(bpy.path.abspath(behind.image.filepath)).absolute()
    if behind.image.source != "SEQUENCE":
        return {first: path} if path.is_file() else {}
    digits = re.search(r"\d+(?=\D*$)", path.stem)
    if digits is None:
        return {}
    before, after = path.stem[: digits.start()], path.stem[digits.end() :] + path.suffix
    found = {}
    user = behind.image_user
    for frame in range(first, last + 1):
        number = frame - user.frame_start + 1 + user.frame_offset
        if not user.frame_offset < number <= user.frame_offset + user.frame_duration:
            continue
        each = path.with_name(f"{before}{number:0{len(digits[0])}d}{after}")
        if each.is_file():
            found[frame] = each
    return found
