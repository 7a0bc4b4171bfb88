# SPDX-License-Identifier: GPL-3.0-or-later
"""Draws ghosts and motion trails of the active armature's takes in the 3D viewports.

Ghosts are stick figures at every n-th frame of the gaps, trails the ways of some bones; the shown take is bright, the others
are dim.  Poses are sampled once when something changed, in slices of time between events, never while the user drags; a redraw
only draws.
"""

from __future__ import annotations

import bisect
import time
import traceback
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

import bpy
import gpu
import numpy as np
from bpy.app.handlers import persistent
from gpu_extras.batch import batch_for_shader

from . import beside, takes, traces
from .traces import Array

Colour = tuple[float, float, float, float]

NEAREST = 8  # ghosts before the current frame, and after it: more of a long action would hide the rig
PATIENCE = 0.2  # seconds without a change of the motion before poses are sampled
DRAGGING = ("TRANSFORM_OT_", "POSE_OT_", "GRAPH_OT_", "ACTION_OT_", "ANIM_OT_")
BEFORE: Colour = (0.25, 0.60, 1.0, 0.7)
AFTER: Colour = (1.0, 0.50, 0.20, 0.7)
OTHERS: Colour = (0.70, 0.70, 0.70, 0.25)
TRAIL: Colour = (1.0, 0.80, 0.25, 1.0)
KEY: Colour = (1.0, 1.0, 1.0, 1.0)
PLANTED: Colour = (0.20, 0.95, 0.60, 1.0)

trouble = ""  # what stopped the drawing, for the panel
sampled = 0  # actions sampled since registering

_handle: Any = None
_not_before = 0.0
_sampling = False
_work: tuple[tuple[int, int], object, Generator[str, None, Array]] | None = None  # which sticks, what for, how
_changes: dict[int, int] = {}  # session_uid of an action or an armature -> how often it changed
_sticks: dict[tuple[int, int], tuple[object, Array]] = {}  # (armature, action) -> what for, heads and tails
_pictures: dict[int, Picture] = {}  # by armature


@dataclass(eq=False)
class Seen:
    """What is drawn of one take: ghosts (G, 2 B, 3) at frames (G,); trails (T, F, 3); dots at keys and contacts (n, 3)."""

    shown: bool
    at: list[int]
    ghosts: Array
    trails: Array
    keys: Array
    held: Array
    batches: dict[str, Any] = field(default_factory=dict)


@dataclass(eq=False)
class Picture:
    """All that is drawn of an armature, the shown take last; looks: what it was made for, as a redraw can tell."""

    looks: tuple[object, ...]
    wanted: tuple[object, ...]
    seen: list[Seen]


def refresh() -> None:
    """Bring the ghosts up to date, between two events."""
    if _handle is not None and not bpy.app.timers.is_registered(_update_or_stop):
        bpy.app.timers.register(_update_or_stop)


def _looks(armature: bpy.types.Object, settings: Any) -> tuple[object, ...]:
    action = armature.animation_data.action
    return action.session_uid, settings.show_ghosts, settings.show_trails, settings.ghost_step, settings.ghosts_of_all


def _shows(armature: bpy.types.Object | None, settings: Any) -> bool:
    """Whether anything is to be drawn of an object."""
    return (
        (settings.show_ghosts or settings.show_trails)
        and armature is not None
        and armature.type == "ARMATURE"
        and armature.mode != "EDIT"
        and armature.pose is not None
        and bool(armature.pose.bones)
        and armature.animation_data is not None
        and armature.animation_data.action_slot is not None
    )


def _update() -> float | None:
    """The timer: samples for a moment and asks to be called again, or makes the pictures when all poses are there."""
    windows = bpy.context.window_manager.windows
    wait = _not_before - time.monotonic()
    dragging = any(running.bl_idname.startswith(DRAGGING) for window in windows for running in window.modal_operators)
    if wait > 0 or dragging or bpy.app.is_job_running("RENDER"):
        return max(wait, PATIENCE / 2)
    for window in windows:
        armature, settings = window.view_layer.objects.active, window.scene.vivant
        if not _shows(armature, settings):
            continue
        shown = armature.animation_data.action
        every = [*(take for take in takes.takes_of(armature) if take != shown), shown]
        frames = traces.frames_of(armature, window.scene)
        until = time.monotonic() + beside.SLICE
        with bpy.context.temp_override(window=window):
            while _sample(armature, every, frames):
                if time.monotonic() > until:
                    return 0.0
        bones = traces.trail_bones(armature)
        marks = traces.marks(armature, shown, bones)
        looks = _looks(armature, settings)
        wanted = (looks, bones, marks, [_sticks[armature.session_uid, one.session_uid][0] for one in every])
        picture = _pictures.get(armature.session_uid)
        if picture is None or picture.wanted != wanted:
            seen = [_seen(armature, one, one == shown, frames, bones, marks, settings) for one in every]
            _pictures[armature.session_uid] = Picture(looks, wanted, seen)
            _redraw_viewports()
    return None


def _sample(armature: bpy.types.Object, every: Sequence[bpy.types.Action], frames: list[int]) -> bool:
    """Take one more slice of time to sample the first action whose poses are not known; whether there was one."""
    global _work, _sampling, sampled
    uid = armature.session_uid
    for action in reversed(every):
        key = uid, action.session_uid
        what = (frames, _changes.get(uid, 0), _changes.get(action.session_uid, 0))
        if _sticks.get(key, (None,))[0] == what:
            continue
        if _work is None or _work[:2] != (key, what):
            _work = key, what, traces.sticks(armature, action, frames)
            sampled += 1
        _sampling = True
        try:
            next(_work[2])
        except StopIteration as end:
            if len(_sticks) > 64:  # of takes that are no more
                _sticks.clear()
            _sticks[key], _work = (what, end.value), None
        finally:
            _sampling = False
        return True
    return False


def _seen(
    armature: bpy.types.Object,
    action: bpy.types.Action,
    shown: bool,
    frames: list[int],
    bones: list[str],
    marks: tuple[list[set[int]], list[set[int]]],
    settings: Any,
) -> Seen:
    """Cut out of an action's poses what is drawn."""
    poses = _sticks[armature.session_uid, action.session_uid][1]
    at = frames[:: settings.ghost_step] if settings.show_ghosts and (shown or settings.ghosts_of_all) else []
    places = [frames.index(frame) for frame in at]
    bones_of_ghosts = traces.ghost_bones(armature)
    ghosts = poses[places][:, bones_of_ghosts].reshape(len(at), 2 * len(bones_of_ghosts), 3)
    index = [armature.pose.bones.find(bone) for bone in bones] if settings.show_trails else []
    trails = poses[:, index, traces.trail_ends(armature, bones[: len(index)])].swapaxes(0, 1)
    dots = [
        np.array([[frame in of_bone for frame in frames] for of_bone in of_bones[: len(index)]], bool).reshape(trails.shape[:2])
        for of_bones in marks
    ]
    if not shown:
        dots = [np.zeros_like(mask) for mask in dots]
    return Seen(shown, at, ghosts, trails, trails[dots[0]], trails[dots[1]])


def _draw() -> None:
    context = bpy.context
    armature, settings = context.active_object, context.scene.vivant
    if not context.space_data.overlay.show_overlays or not _shows(armature, settings):
        return
    if not armature.visible_get(viewport=context.space_data):
        return
    picture = _pictures.get(armature.session_uid)
    if picture is None or picture.looks != _looks(armature, settings):
        refresh()
    if picture is None:
        return
    gpu.state.depth_test_set("NONE")
    gpu.state.blend_set("ALPHA")
    thick = context.preferences.system.pixel_size
    try:
        for seen in picture.seen:
            _draw_ghosts(seen, context.scene.frame_current, thick)
            _draw_trails(seen, thick)
    finally:
        gpu.state.blend_set("NONE")
        gpu.state.point_size_set(1)


def _draw_ghosts(seen: Seen, now: int, thick: float) -> None:
    places = ghosts_near(seen.at, now)
    reach = max((abs(seen.at[index] - now) for index in places), default=1) or 1
    for index in places:
        frame = seen.at[index]
        if frame == now and seen.shown:
            continue  # the rig itself stands there
        red, green, blue, alpha = (BEFORE if frame < now else AFTER) if seen.shown else OTHERS
        fade = 1 - 0.7 * abs(frame - now) / reach
        _lines(seen, f"ghost {index}", "LINES", seen.ghosts[index], (red, green, blue, alpha * fade), 2 * thick)


def ghosts_near(at: Sequence[int], now: int) -> range:
    """Which of the ghosts at frames, in order, are drawn: those nearest to the current one."""
    middle = bisect.bisect_left(at, now)
    return range(max(middle - NEAREST, 0), min(middle + NEAREST + (now in at), len(at)))


def _draw_trails(seen: Seen, thick: float) -> None:
    for index, trail in enumerate(seen.trails):
        colour = TRAIL if seen.shown else OTHERS
        _lines(seen, f"trail {index}", "LINE_STRIP", trail, colour, (2 if seen.shown else 1.5) * thick)
    if seen.shown:
        _dots(seen, "frames", seen.trails.reshape(-1, 3), TRAIL, 4 * thick)
        _dots(seen, "held", seen.held, PLANTED, 10 * thick)
        _dots(seen, "keys", seen.keys, KEY, 7 * thick)


def _lines(seen: Seen, name: str, kind: str, points: Array, colour: Colour, width: float) -> None:
    if len(points) < 2:
        return
    shader = gpu.shader.from_builtin("POLYLINE_UNIFORM_COLOR")
    shader.uniform_float("viewportSize", gpu.state.viewport_get()[2:])
    shader.uniform_float("lineWidth", width)
    _draw_batch(seen, name, kind, points, colour, shader)


def _dots(seen: Seen, name: str, points: Array, colour: Colour, size: float) -> None:
    if len(points):
        gpu.state.point_size_set(size)
        _draw_batch(seen, name, "POINTS", points, colour, gpu.shader.from_builtin("POINT_UNIFORM_COLOR"))


def _draw_batch(seen: Seen, name: str, kind: str, points: Array, colour: Colour, shader: gpu.types.GPUShader) -> None:
    """Draw points that the card gets once."""
    if name not in seen.batches:
        places: Any = np.ascontiguousarray(points)  # mypy knows no array as a buffer
        seen.batches[name] = batch_for_shader(shader, kind, {"pos": places})
    shader.uniform_float("color", colour)
    seen.batches[name].draw(shader)


def _redraw_viewports() -> None:
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type == "VIEW_3D":
                area.tag_redraw()


def _stop(error: Exception) -> None:
    """An error would come back with every redraw, so the first one ends the drawing."""
    global trouble
    traceback.print_exc()
    trouble = f"{type(error).__name__}: {error}"
    print("Vivant: the drawing of ghosts stopped; switch Vivant off and on to start it again.")


def _draw_or_stop() -> None:
    if not trouble:
        try:
            _draw()
        except Exception as error:
            _stop(error)


def _update_or_stop() -> float | None:
    if not trouble:
        try:
            return _update()
        except Exception as error:
            _stop(error)
    return None


@persistent
def _note_changes(scene: bpy.types.Scene, depsgraph: bpy.types.Depsgraph) -> None:
    """After an evaluation that was no change of the frame: what changed is sampled again."""
    global _not_before
    if _sampling or depsgraph.mode != "VIEWPORT":
        return
    updates = list(depsgraph.updates)
    changed = [update.id for update in updates if isinstance(update.id, bpy.types.Action)]
    changed = changed or [  # posed by hand: a changed action moves its armature too
        update.id
        for update in updates
        if isinstance(update.id, bpy.types.Object | bpy.types.Armature)
        and (update.is_updated_transform or update.is_updated_geometry)
    ]
    for found in changed:
        uid = found.original.session_uid
        _changes[uid] = _changes.get(uid, 0) + 1
        _not_before = time.monotonic() + PATIENCE
    refresh()


@persistent
def _forget_all(*_: object) -> None:
    """Another file, or another state of this one."""
    global _work
    _work = None
    _sticks.clear()
    _pictures.clear()
    refresh()


def _handlers() -> list[tuple[list[Any], Any]]:
    app = bpy.app.handlers
    forgetting = [(handlers, _forget_all) for handlers in (app.load_post, app.undo_post, app.redo_post)]
    return [(app.depsgraph_update_post, _note_changes), *forgetting]


def register() -> None:
    """Draw ghosts and trails in all viewports from now on; nothing to do without windows."""
    global _handle, trouble
    if bpy.app.background:
        return
    trouble = ""
    for handlers, function in _handlers():
        handlers.append(function)
    _handle = bpy.types.SpaceView3D.draw_handler_add(_draw_or_stop, (), "WINDOW", "POST_VIEW")


def unregister() -> None:
    """Draw no more."""
    global _handle
    if _handle is None:
        return
    bpy.types.SpaceView3D.draw_handler_remove(_handle, "WINDOW")
    _handle = None
    for handlers, function in _handlers():
        handlers.remove(function)
    if bpy.app.timers.is_registered(_update_or_stop):
        bpy.app.timers.unregister(_update_or_stop)
    for known in (_changes, _sticks, _pictures):
        known.clear()


CLASSES = ()
