# SPDX-License-Identifier: GPL-3.0-or-later
"""settings.json of SuperSplat's viewer, versions 1 and 2: poses by position and target, tracks of such poses.

The viewer's world has Y up and shows a capture turned by half a turn about Z; the angle of view is that of the
picture's longer side; keys lie at frames of the track's rate.  Source: playcanvas/supersplat-viewer, docs/api.md.
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..cameras import Camera, CameraSet
from . import sound

NAME = "settings.json"
AXES = "RDF"
FRAME_RATE = 30.0
TARGET_DISTANCE = 10.0
_TO_CAPTURE = np.array([-1.0, -1.0, 1.0])  # and back


def is_dict(content: Any) -> bool:
    """Whether parsed JSON is such a file."""
    return isinstance(content, dict) and any(key in content for key in ("animTracks", "camera", "cameras"))


def read(content: dict[str, Any], size: tuple[int, int] | None = None) -> CameraSet:
    """The first track of a parsed file as a path, else its still views; size: of the picture that is to be seen (1920 x 1080).

    Raises BrokenFile where no camera is sound.
    """
    width, height = size or (1920, 1080)
    gathering = sound.Gathering("views")
    old: dict[str, Any] = next(iter(_dicts([content.get("camera")])), {})

    def add(position: Any, target: Any, fov: float, name: str, time: float | None = None) -> None:
        focal = max(width, height) / 2 / math.tan(math.radians(fov) / 2) if 0 < fov < 179 else math.nan
        eye, at = sound.numbers(position, (3,)), sound.numbers(target, (3,))
        rotation = None if eye is None or at is None else _look(eye, at)
        place = None if eye is None else eye * _TO_CAPTURE
        gathering.add((focal, focal, width / 2, height / 2), rotation, place, (width, height), name[:1000], "", time)

    tracks = [track for track in _dicts(content.get("animTracks")) if _keys(track)[0]]
    for track in tracks[:1]:
        times, values = _keys(track)
        rate = sound.number(track.get("frameRate"))
        rate = rate if rate > 0 else 1.0  # the first versions count in seconds
        positions, targets, fovs = (values.get(key) for key in ("position", "target", "fov"))
        for index, time in enumerate(times):
            eye, at = (_part(each, 3 * index, 3) for each in (positions, targets))
            fov = _part(fovs, index, 1) or [old.get("fov", 60)]
            add(eye, at, sound.number(fov[0]), f"Key {index + 1}", sound.number(time) / rate)
        if track.get("loopMode") in ("repeat", "pingpong"):
            gathering.note(f"The viewer plays the track in a loop ({track['loopMode']}); here it plays once.")
        if len(tracks) > 1:
            gathering.note(f"Only the first of {len(tracks)} tracks is read.")
    if not tracks:
        if old.get("position") and old.get("target"):
            add(old["position"], old["target"], sound.number(old.get("fov", 75)), "Start")
        for name, entry in [("Start", each) for each in _dicts(content.get("cameras"))] + [
            (str(note.get("title", "Annotation")), note.get("camera")) for note in _dicts(content.get("annotations"))
        ]:
            pose = entry.get("initial") if isinstance(entry, dict) else None
            pose = pose if isinstance(pose, dict) else {}
            add(pose.get("position"), pose.get("target"), sound.number(pose.get("fov", 75)), name)
    views, warnings = gathering.finish()
    return CameraSet(views, AXES, path=bool(tracks), warnings=warnings)


def encode(cameras: CameraSet) -> bytes:
    """The text of a settings.json, version 2: a path as a track, else cameras, of which the viewer shows the first."""
    poses = [_pose(view.camera) for view in cameras.views]
    tracks = []
    if cameras.path:
        times = [(view.time or 0.0) * FRAME_RATE for view in cameras.views]
        values = {
            "position": [number for pose in poses for number in pose["position"]],
            "target": [number for pose in poses for number in pose["target"]],
            "fov": [pose["fov"] for pose in poses],
        }
        tracks.append(
            {
                "name": "camera",
                "duration": max(times) / FRAME_RATE,
                "frameRate": FRAME_RATE,
                "loopMode": "none",
                "interpolation": "spline",
                "smoothness": 1,
                "keyframes": {"times": times, "values": values},
            }
        )
    settings = {
        "version": 2,
        "tonemapping": "none",
        "highPrecisionRendering": False,
        "background": {"color": [0, 0, 0]},
        "postEffectSettings": {
            "sharpness": {"enabled": False, "amount": 0},
            "bloom": {"enabled": False, "intensity": 0.1, "blurLevel": 2},
            "grading": {"enabled": False, "brightness": 1, "contrast": 1, "saturation": 1, "tint": [1, 1, 1]},
            "vignette": {"enabled": False, "intensity": 0.5, "inner": 0.3, "outer": 0.75, "curvature": 1},
            "fringing": {"enabled": False, "intensity": 0.5},
        },
        "animTracks": tracks,
        "cameras": [{"initial": pose} for pose in (poses[:1] if cameras.path else poses)],
        "annotations": [],
        "startMode": "animTrack" if cameras.path else "default",
    }
    return json.dumps(settings, indent=1).encode()


def losses(cameras: CameraSet) -> list[str]:
    """What the format cannot hold."""
    found = []
    every = [view.camera for view in cameras.views]
    if max(np.abs(c.intrinsics[:2, 2] - (c.width / 2, c.height / 2)).max() for c in every) > 1e-3:
        found.append("Shifted lenses are written as centred ones: SuperSplat's viewer has no shift.")
    if max(abs(c.intrinsics[0, 0] / c.intrinsics[1, 1] - 1) for c in every) > 1e-6:
        found.append("Pixels that are not square are written as square ones.")
    roll = 0.0
    for camera in every:
        pose = _pose(camera)
        level = _look(np.array(pose["position"]), np.array(pose["target"]))
        turn = np.eye(3) if level is None else level.T @ camera.camera_to_world[:3, :3]
        roll = max(roll, math.degrees(abs(math.atan2(turn[1, 0], turn[0, 0]))))
    if roll > 0.1:
        found.append(f"The camera rolls by up to {roll:.1f} degrees, which SuperSplat's viewer levels.")
    return found


def _pose(camera: Camera) -> dict[str, Any]:
    """Position, target and angle of view of a camera, in the viewer's world."""
    focal = camera.intrinsics[0, 0] if camera.width >= camera.height else camera.intrinsics[1, 1]
    eye, forward = camera.camera_to_world[:3, 3] * _TO_CAPTURE, camera.camera_to_world[:3, 2] * _TO_CAPTURE
    return {
        "position": eye.tolist(),
        "target": (eye + TARGET_DISTANCE * forward).tolist(),
        "fov": math.degrees(2 * math.atan(max(camera.width, camera.height) / 2 / float(focal))),
    }


def _look(eye: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Rotation (3, 3), camera (OpenCV axes) to capture, of a level look; None where eye and target are one or nowhere."""
    if not max(np.abs(eye).max(), np.abs(target).max()) < 1e12:
        return None
    forward = target - eye
    length = float(np.linalg.norm(forward))
    if not length > 1e-9:
        return None
    forward = forward / length
    up = np.array([0.0, 1.0, 0.0]) if abs(forward[1]) < 1 - 1e-9 else np.array([0.0, 0.0, -math.copysign(1, forward[1])])
    right = np.cross(forward, up)
    right /= np.linalg.norm(right)
    axes = np.column_stack([right, np.cross(forward, right), forward])
    return axes * _TO_CAPTURE[:, None]


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _keys(track: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Times and values of a track's keys, empty where it is none."""
    keys = track.get("keyframes")
    times, values = (keys.get("times"), keys.get("values")) if isinstance(keys, dict) else (None, None)
    return (times, values) if isinstance(times, list) and isinstance(values, dict) else ([], {})


def _part(values: Any, start: int, count: int) -> list[Any]:
    return values[start : start + count] if isinstance(values, list) else []
