# SPDX-License-Identifier: GPL-3.0-or-later
"""transforms.json of NeRF, D-NeRF, instant-ngp and Nerfstudio.

Camera-to-world matrices with OpenGL axes (x right, y up, looking along -z) in a world with Z up; the lens for all frames
or for each, as focal lengths in pixels or angles; frames[].time from 0 to 1.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..cameras import CameraSet
from . import sound

NAME = "transforms.json"
AXES = "RFU"
_FLIP = np.array([1.0, -1.0, -1.0])
_BROWN = ("k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2")


def is_dict(content: Any) -> bool:
    """Whether parsed JSON is such a file."""
    return isinstance(content, dict) and isinstance(content.get("frames"), list)


def read(content: dict[str, Any], folder: Path, size: tuple[int, int] | None = None) -> CameraSet:
    """The cameras of a parsed file; pictures are looked for in `folder`.

    size: of pictures where neither the file nor a picture says it (800 x 800, as in NeRF's own sets, when None).
    Raises BrokenFile where no camera is sound.
    """
    gathering = sound.Gathering("frames")
    ending = str(content.get("image_ext", ""))[:8]
    measured: tuple[int, int] | None = None
    bent = False
    for frame in content["frames"]:
        frame = frame if isinstance(frame, dict) else {}

        def term(name: str, frame: dict[str, Any] = frame) -> float:
            return sound.number(frame.get(name, content.get(name)))

        name = str(frame.get("file_path", ""))[:1000]
        image = sound.picture(folder, name + ending) or sound.picture(folder, name)
        width, height = term("w"), term("h")
        if math.isnan(width) or math.isnan(height):
            if measured is None:
                measured = sound.picture_size(image) if image else None
                if measured is None:
                    measured = size or (800, 800)
                    gathering.note(f"The file gives no size of its pictures: {measured[0]} x {measured[1]} is assumed.")
            width, height = measured
        fx, fy = term("fl_x"), term("fl_y")
        if math.isnan(fx):
            angle = term("camera_angle_x")
            fx = width / 2 / math.tan(angle / 2) if 0 < angle < math.pi else math.nan
        if math.isnan(fy):
            angle = term("camera_angle_y")
            # who gives one focal length in pixels means square pixels
            fy = height / 2 / math.tan(angle / 2) if 0 < angle < math.pi and math.isnan(term("fl_x")) else fx
        cx, cy = term("cx"), term("cy")
        lens = (fx, fy, width / 2 if math.isnan(cx) else cx, height / 2 if math.isnan(cy) else cy)
        terms = {key: value for key in _BROWN if (value := term(key)) and not math.isnan(value)}
        model = str(frame.get("camera_model", content.get("camera_model", "OPENCV")))[:40]
        if "FISHEYE" in model.upper() or content.get("is_fisheye") is True:
            gathering.note(sound.distortion_note("fisheye"))
        elif terms and not bent and np.isfinite(lens).all() and min(lens[:2]) > 0:
            bent = True  # one sentence, on the first
            gathering.note(sound.distortion_note(", ".join(terms), sound.bent_pixels(lens, (width, height), terms)))
        matrix = frame.get("transform_matrix")
        pose = sound.numbers(matrix[:3], (3, 4)) if isinstance(matrix, list) and len(matrix) in (3, 4) else None
        time = sound.number(frame.get("time"))
        rotation, position = (None, None) if pose is None else (pose[:, :3] * _FLIP, pose[:, 3])
        gathering.add(lens, rotation, position, (width, height), name, image, None if math.isnan(time) else time)
    times = [view.time for view in gathering.views if view.time is not None]
    if times and (min(times) < 0 or max(times) > 1):
        first, last = min(times), max(times)
        gathering.note(f"Times from {first:g} to {last:g} are taken for the whole clip.")
        gathering.views = [
            replace(view, time=None if view.time is None else (view.time - first) / max(last - first, 1e-9))
            for view in gathering.views
        ]
    views, warnings = gathering.finish()
    return CameraSet(views, AXES, warnings=warnings)


def encode(cameras: CameraSet) -> bytes:
    """The text of a transforms.json; what all frames share is written once."""
    views = cameras.views
    longest = max((view.time or 0.0 for view in views), default=0.0) if cameras.path else 1.0
    lenses, frames = [], []
    for index, view in enumerate(views):
        camera = view.camera
        K = camera.intrinsics
        lenses.append(
            {
                "fl_x": float(K[0, 0]),
                "fl_y": float(K[1, 1]),
                "cx": float(K[0, 2]),
                "cy": float(K[1, 2]),
                "w": camera.width,
                "h": camera.height,
                "camera_angle_x": 2 * math.atan(camera.width / 2 / float(K[0, 0])),
            }
        )
        pose = camera.camera_to_world.copy()
        pose[:3, :3] *= _FLIP
        frames.append({"file_path": view.name or f"{index + 1:05d}.png", "transform_matrix": pose.tolist()})
        if view.time is not None:
            frames[-1]["time"] = view.time / longest if longest else 0.0
    shared = all(lens == lenses[0] for lens in lenses)
    if not shared:
        frames = [lens | frame for lens, frame in zip(lenses, frames, strict=True)]
    top: dict[str, Any] = {"camera_model": "OPENCV"} | (lenses[0] if shared and lenses else {})
    return json.dumps(top | {"frames": frames}, indent=1).encode()


def losses(cameras: CameraSet) -> list[str]:
    """Nothing of perspective cameras is lost."""
    return []
