# SPDX-License-Identifier: GPL-3.0-or-later
"""Plays clouds whose frames lie outside of Blender: their attributes are set when the frame changes, before it is evaluated.

Inputs of the motion's modifier that are keyed or driven are only known after the evaluation; then the frame is set there,
and Blender, which looks for what handlers changed, evaluates once more.  So a render shows the frame it is of.
Sub-frames are mixed from their neighbours (`backends.gaussian.playback`).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import bpy
import numpy as np
from bpy.app.handlers import persistent

from ..backends.common.errors import VivantError
from ..backends.gaussian.playback import Columns, Floats, Playback, padded
from ..backends.gaussian.sh import COEFFICIENTS
from . import clips, compat, pointclouds

trouble: dict[str, str] = {}  # object -> why it does not play, for the panel
MOVED = "The camera is not where it was when the frames were baked. Press Bake Frames in the tab Vivant."

_ATTRIBUTES = {
    "means": ("position", "FLOAT_VECTOR"),
    "quats": ("rotation", "QUATERNION"),
    "scales": ("scale", "FLOAT_VECTOR"),
}
_players: dict[int, Player] = {}  # session_uid of the datablock
_rendering = False
_hidden: dict[str, Floats] = {}  # objects that a render goes without, and the radiance that they get back


@dataclass(eq=False)
class Player:
    """What an object's points show: place, as `Playback.place` names it, and the columns that are set."""

    playback: Playback
    place: tuple[int, float] | None = None
    columns: Columns = field(default_factory=dict)


def is_played(candidate: bpy.types.Object | None) -> bool:
    """Whether an object's frames are set by this module."""
    return pointclouds.is_splats(candidate) and pointclouds.facts_of(candidate).get("family") == pointclouds.FRAMES


def played(scene: bpy.types.Scene) -> Iterator[bpy.types.Object]:
    """The objects of a scene that are."""
    objects = scene.objects if bpy.data.pointclouds else ()  # scenes without any cost nothing
    return (candidate for candidate in objects if candidate.type == "POINTCLOUD" and is_played(candidate))


def show(splats: bpy.types.Object, time: float) -> bool:
    """Set an object's points to a time of its clip; whether anything changed.  Raises VivantError where that cannot be."""
    points = splats.data
    player = _players.get(points.session_uid)
    if player is None:
        clip = clips.read_clip(pointclouds.facts_of(splats), len(points.points))
        player = _players[points.session_uid] = Player(Playback(clip))
    place = player.playback.place(time)
    if player.place == place:
        return False
    _write(points, player, player.playback.columns(*place))
    player.place = place
    points.update_tag()
    return True


def show_now(splats: bpy.types.Object, scene: bpy.types.Scene) -> None:
    """Set an object's points, where this module does that, to the frame that a scene is at; `trouble` says why it cannot be."""
    if is_played(splats):
        _try(splats, pointclouds.time_at(splats, scene.frame_current_final))


def _write(points: bpy.types.PointCloud, player: Player, columns: Columns) -> None:
    """Set the attributes of the columns that are not set yet."""
    count = max(map(len, columns.values()), default=0)
    if count > len(points.points):
        if not compat.CAN_RESIZE:
            raise VivantError(f"A frame has {count:,} splats, '{points.name}' only {len(points.points):,}.", "Import it again.")
        points.resize(count)
        player.columns = {}
    columns = padded(columns, len(points.points))
    changed = {name for name, values in columns.items() if player.columns.get(name) is not values}
    for name in changed - _ATTRIBUTES.keys() - {"sh", "opacities"}:  # attributes by their own names, from streams
        pointclouds.write_attribute(points, name, columns[name], "QUATERNION" if name == "rotation" else None)
    for name in changed & _ATTRIBUTES.keys():
        attribute, kind = _ATTRIBUTES[name]
        pointclouds.write_attribute(points, attribute, columns[name], kind)
    if "sh" in changed:
        degree = max(known for known in COEFFICIENTS if 3 * known <= columns["sh"].shape[1])
        for index in range(1, degree):
            values = np.ascontiguousarray(columns["sh"][:, 3 * index : 3 * index + 3])
            pointclouds.write_attribute(points, f"{pointclouds.HIGHER}{index - 1}", values, "FLOAT_VECTOR")
    if changed & {"sh", "opacities"}:
        base = pointclouds.read_attribute(points, pointclouds.BASE)
        assert base is not None
        if "sh" in changed:
            base[:, :3] = columns["sh"][:, :3]
        if "opacities" in columns:
            base[:, 3] = columns["opacities"]
        pointclouds.write_attribute(points, pointclouds.BASE, base)
    player.columns = columns


def forget(splats: bpy.types.Object) -> None:
    """Open an object's clip anew the next time."""
    trouble.pop(splats.name, None)
    if player := _players.pop(splats.data.session_uid, None):
        player.playback.close()


def _seen_otherwise(splats: bpy.types.Object, time: float, camera: bpy.types.Object) -> bool:
    """Whether splats that were baked for a camera's path are seen from more than a hundredth of their distance off it."""
    facts = pointclouds.facts_of(splats)
    if not len(facts.get("cameras", ())):
        return False
    path = np.reshape(facts["cameras"], (-1, 3))
    place = np.interp(time, clips.times(facts), np.arange(len(path)))
    centre = np.array([np.interp(place, np.arange(len(path)), axis) for axis in path.T])
    now = np.array(splats.matrix_world.inverted() @ camera.matrix_world.translation)
    middle = np.array(splats.bound_box).mean(axis=0)
    return float(np.linalg.norm(now - centre)) > 0.01 * float(np.linalg.norm(now - middle))


def _try(splats: bpy.types.Object, time: float) -> None:
    """Show a time, or remember and say why not; a render goes without the object then, rather than with a wrong frame."""
    if splats.name in _hidden:
        return
    try:
        show(splats, time)
    except VivantError as error:
        trouble[splats.name] = str(error)
        if _rendering:
            print(f"Vivant: {splats.name} is left out, as it does not play. {error}", file=sys.stderr, flush=True)
            _hide(splats)
    else:
        trouble.pop(splats.name, None)


def _own(splats: bpy.types.Object, time: float, shown: dict[int, float]) -> bool:
    """Give an object points of its own if those that it shares show another time; whether it may set them.

    shown: time by datablock, of the objects before.
    """
    if shown.setdefault(splats.data.session_uid, time) == time:
        return True
    if splats.library or splats.data.library:
        trouble[splats.name] = "It shares linked splats with an object that plays at another time. Make it local first."
        return False
    splats.data = splats.data.copy()
    shown[splats.data.session_uid] = time
    return True


def _hide(splats: bpy.types.Object) -> None:
    """Let nothing be seen of an object until the render's end."""
    base = pointclouds.read_attribute(splats.data, pointclouds.BASE)
    assert base is not None
    _hidden[splats.name] = base.copy()
    base[:, 3] = 0
    pointclouds.write_attribute(splats.data, pointclouds.BASE, base)
    splats.data.update_tag()


@persistent
def _before(scene: bpy.types.Scene, *_: object) -> None:
    """The frame changes: what is neither keyed nor driven is known already."""
    shown: dict[int, float] = {}
    for splats in played(scene):
        if splats.animation_data is None:
            time = pointclouds.time_at(splats, scene.frame_current_final)
            if _own(splats, time, shown):
                _try(splats, time)


@persistent
def _after(scene: bpy.types.Scene, depsgraph: bpy.types.Depsgraph) -> None:
    """Everything is evaluated: set what is not at the time that its inputs say now."""
    shown: dict[int, float] = {}
    for splats in played(scene):
        time = pointclouds.time_at(splats.evaluated_get(depsgraph), scene.frame_current_final)
        if not _own(splats, time, shown):
            continue
        _try(splats, time)
        if splats.name not in trouble and scene.camera and _seen_otherwise(splats, time, scene.camera.evaluated_get(depsgraph)):
            trouble[splats.name] = MOVED
            if _rendering:
                print(f"Vivant: {splats.name}: {MOVED}", file=sys.stderr, flush=True)


@persistent
def _begin(*_: object) -> None:
    global _rendering
    _rendering = True


@persistent
def _end(*_: object) -> None:
    global _rendering
    _rendering = False
    for name, base in _hidden.items():
        if splats := bpy.data.objects.get(name):
            forget(splats)
            pointclouds.write_attribute(splats.data, pointclouds.BASE, base)
            splats.data.update_tag()
    _hidden.clear()


@persistent
def _forget_all(*_: object) -> None:
    """Another file, or another state of this one."""
    for player in _players.values():
        player.playback.close()
    _players.clear()
    trouble.clear()


def _handlers() -> list[tuple[list[Any], Any]]:
    app = bpy.app.handlers
    found = [(app.frame_change_pre, _before), (app.frame_change_post, _after), (app.depsgraph_update_post, _after)]
    found += [(app.render_init, _begin), (app.render_complete, _end), (app.render_cancel, _end)]
    return found + [(handlers, _forget_all) for handlers in (app.load_pre, app.undo_post, app.redo_post)]


def register() -> None:
    """Play from now on."""
    for handlers, function in _handlers():
        handlers.append(function)


def unregister() -> None:
    """Play no more; the frame that was set last stays."""
    for handlers, function in _handlers():
        handlers.remove(function)
    _end()
    _forget_all()


CLASSES = ()
