# SPDX-License-Identifier: GPL-3.0-or-later
"""The phases of an armature's body parts: edits of one part in a take, and what a model of its own is learned from."""

from __future__ import annotations

import json
import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict

import bpy
import numpy as np
from numpy.typing import NDArray

from ..backends.common.errors import VivantError
from ..backends.motion import humanoid
from ..backends.motion.clip import Clip
from ..backends.motion.phase import solver
from ..backends.motion.phase.edit import Edit
from ..backends.motion.phase.model import PhaseModel
from . import actions, beside, fills, generated, motions, rigs, skeletons, takes

Array = NDArray[np.floating]

MODEL = "vivant_phase"  # custom property of the armature object: the file of its own phase model
NUDGE = 1 / 32  # frames by which what is written anew begins before its first key
SHORTEST = 2.0  # seconds of an action that is learned from


def model_of(armature: bpy.types.Object) -> PhaseModel:
    """The armature's own model, else the one that comes along.  Raises NeedsWeights or BrokenFile as `solver.model_of`."""
    return solver.model_of(bpy.path.abspath(armature.get(MODEL, "")))


def parts_of(armature: bpy.types.Object) -> tuple[list[str], str]:
    """Parts of the armature that can be edited, or why none can: it is neither the model's nor a human that its bones move."""
    try:
        model = model_of(armature)
        _human_for(model, armature)
        return list(model.autoencoders), ""
    except VivantError as error:
        return [], str(error)


def _human_for(model: PhaseModel, armature: bpy.types.Object) -> dict[str, str] | None:
    """The armature as a human, None where it has the model's own bones.

    Raises VivantError where it is none, or moved by constraints, so that keys on its joints would not show.
    """
    if motions.constrained(armature):
        raise VivantError(f"Constraints move the bones of “{armature.name}”.", "Bake its motion onto a plain skeleton first.")
    if all(name in armature.pose.bones for name in model.names):
        return None
    human = skeletons.human_of(armature)
    humanoid.check(human, [bone.name for bone in armature.pose.bones])
    return human


def edited(
    armature: bpy.types.Object, part: str, change: Edit, style: bpy.types.Action | None = None, another: bool = False
) -> tuple[bpy.types.Action, list[str]]:
    """A take in which one part is larger, faster, later or as in another action, from the action's first frame to its last.

    The part's bones get a rotation key on every frame, which the user's keys there give way to: they come back with the take's
    end, or once it was accepted with `takes.remove_generated`.  All other channels stay bit for bit.  A take that is shown gets
    the edit, in place of an earlier one of the same part; `another` makes one more, of the user's action.  Returns the take,
    and those bones of the part that may not be keyed and stay as they are.
    Raises VivantError, having changed nothing, for what is neither the model's skeleton nor a human's that its own bones
    move, too short a motion, a part it lacks, or one whose bones are locked or driven.
    """
    return beside.at_once(editing(armature, part, change, style, another))


def editing(
    armature: bpy.types.Object, part: str, change: Edit, style: bpy.types.Action | None = None, another: bool = False
) -> Generator[str, None, tuple[bpy.types.Action, list[str]]]:
    """`edited` in steps: yields what it does; to close it at any step changes nothing."""
    action, slot = actions.animation_of(armature)
    model = model_of(armature)
    if part not in model.autoencoders:
        raise VivantError(f"The phase model has no part “{part}”.", f"The parts are {', '.join(sorted(model.autoencoders))}.")
    human = _human_for(model, armature)
    bones = [armature.pose.bones[name] for name in solver.members_of(model, part, skeletons.skeleton_of(armature), human)]
    home = (takes.original_of(armature) if another else None) or action
    source, known = home.copy(), takes.fills_of(home, slot)
    source.pop(takes.KEY, None)  # or it would count as a take
    try:
        curves = actions.curves_of(source, next(own for own in source.slots if own.handle == slot.handle))
        held = [bone.name for bone in bones if _held(armature, bone, curves)]
        free = {bone.name: rigs.rotation_path(bone) for bone in bones if bone.name not in held}
        if not free:
            raise VivantError(f"The rotations of the {part} are locked, muted or driven.", "Free them first.")
        for channel, curve in curves.items():
            fill = known.get(takes.curve_name(curve))
            if channel[0] in free.values() and fill and fill.replaced is not None:
                fills.emptied(curve, fill)
        clip, first = yield from _sampling(armature, source, slot.handle)
        manner = None
        if style is not None:
            manner, _ = yield from _sampling(armature, style, _slot(armature, style).handle)
        changed = yield from beside.aside("editing", lambda: solver.edited(model, clip, part, change, manner, human))
        values = skeletons.rotations_of(armature, changed, free)
        frames = range(first, first + len(clip))
        parts = [_part(armature.pose.bones[name], path, frames, curves, values[name]) for name, path in free.items()]
    finally:
        bpy.data.actions.remove(source)
    with takes.opened(armature, another) as take:
        count = yield from beside.told("writing", generated.adding(armature, take, parts))
    what = {"part": part, **asdict(change), "style": style.name if style else ""}
    span = (frames[0], frames[-1])
    made = takes.Made("phase", 0, "RANGE", span, tuple(free), generated.BAKED, count, _moved(armature, parts), edit=what)
    takes.note(take, made=json.dumps(asdict(made)))
    take.update_tag()
    return take, held


def _held(armature: bpy.types.Object, bone: bpy.types.PoseBone, curves: Mapping[tuple[str, int], bpy.types.FCurve]) -> bool:
    """Whether any number of a bone's rotation may not be keyed: it is locked, muted or driven."""
    path = rigs.rotation_path(bone)
    own = [curve for channel, curve in curves.items() if channel[0] == path]
    return (
        any(rigs.rotation_locks(bone))
        or any(one.mute or one.lock for curve in own for one in (curve, curve.group) if one)
        or any(driver.data_path == path and not driver.mute for driver in armature.animation_data.drivers)
    )


def _part(
    bone: bpy.types.PoseBone,
    path: str,
    frames: range,
    before: Mapping[tuple[str, int], bpy.types.FCurve],
    values: Array,
) -> generated.Part:
    """A bone's rotation written anew: where no curve moved it before, from what it stands at."""
    width = len(rigs.rotation_locks(bone))
    still = getattr(bone, path.rpartition(".")[2])
    base = [[before[path, i].evaluate(frame) if (path, i) in before else still[i] for i in range(width)] for frame in frames]
    return generated.Part(
        bone.name,
        bone.rotation_mode,
        generated.BAKED,
        [f"{path}[{i}]" for i in range(width)],
        (frames[0] - NUDGE, frames[-1] + NUDGE),
        [float(frame) for frame in frames],
        values.tolist(),
        base,
        whole=True,
    )


def _moved(armature: bpy.types.Object, parts: Sequence[generated.Part]) -> float:
    """How far the curves have left the user's keys that they replaced."""
    take, slot = actions.animation_of(armature)
    known, curves = takes.fills_of(take, slot), actions.curves_of(take, slot)
    return max(
        (
            abs(curves[takes.channel(name)].evaluate(time) - value)
            for part in parts
            for name in part.curves
            for time, value in fills.unpacked(known[name].replaced or "")["co"].tolist()
        ),
        default=0.0,
    )


def lessons(armature: bpy.types.Object) -> list[Clip]:
    """The armature's motion in all of the file's actions that move its bones, but takes and short ones."""
    actions.animation_of(armature)
    bones, rate = {bone.path_from_id() for bone in armature.pose.bones}, _rate()
    clips = []
    for other in list(bpy.data.actions):
        if takes.known_of(other, "original") or (other.frame_range[1] - other.frame_range[0]) / rate < SHORTEST:
            continue
        moved = (
            {path.rpartition(".")[0] for path, _ in actions.curves_of(other, _slot(armature, other))} if other.slots else set()
        )
        if moved & bones:
            clips.append(beside.at_once(_sampling(armature, other, _slot(armature, other).handle))[0])
    if not clips:
        raise VivantError(f"No action of “{armature.name}” lasts {SHORTEST:g} seconds.", "Give it captured or finished motion.")
    return clips


def _slot(armature: bpy.types.Object, action: bpy.types.Action) -> bpy.types.ActionSlot:
    """The slot of an action that is most likely the armature's: of its name, else the first for objects.

    Raises VivantError where there is none.
    """
    fitting = [slot for slot in action.slots if slot.target_id_type in {"OBJECT", "UNSPECIFIED"}]
    if not fitting:
        raise VivantError(f"The action “{action.name}” moves no object.", "Choose another one.")
    return next((slot for slot in fitting if slot.name_display == armature.name), fitting[0])


def _rate() -> float:
    return bpy.context.scene.render.fps / bpy.context.scene.render.fps_base


def _sampling(armature: bpy.types.Object, action: bpy.types.Action, handle: int) -> Generator[str, None, tuple[Clip, int]]:
    """The armature moved by an action alone, and that's first frame, in steps and beside the scene."""
    first, last = math.floor(action.frame_range[0]), math.ceil(action.frame_range[1])
    poses = yield from beside.poses(armature, None, action, handle, range(first, last + 1), alone=True)
    return skeletons.as_clip(skeletons.skeleton_of(armature), poses.in_world, _rate()), first
