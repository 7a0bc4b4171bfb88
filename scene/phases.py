# SPDX-License-Identifier: GPL-3.0-or-later
"""The phases of an armature's body parts: edits of one part in a take, and what a model of its own is learned from."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import bpy
import numpy as np

from ..backends.common.errors import VivantError
from ..backends.motion import humanoid
from ..backends.motion.clip import Clip
from ..backends.motion.phase import solver
from ..backends.motion.phase.edit import Edit
from ..backends.motion.phase.model import PhaseModel
from . import actions, fills, generated, motions, rigs, skeletons, takes

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
    if all(name in armature.pose.bones for name in model.names):
        return None
    if motions.constrained(armature):
        raise VivantError(f"Constraints move the bones of “{armature.name}”.", "Bake its motion onto a plain skeleton first.")
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
    action, slot = actions.animation_of(armature)
    model = model_of(armature)
    if part not in model.autoencoders:
        raise VivantError(f"The phase model has no part “{part}”.", f"The parts are {', '.join(sorted(model.autoencoders))}.")
    human = _human_for(model, armature)
    bones = [armature.pose.bones[name] for name in solver.members_of(model, part, skeletons.skeleton_of(armature), human)]
    home, handle = (takes.original_of(armature) if another else None) or action, slot.handle
    source = home.copy()
    try:
        curves = actions.curves_of(source, next(own for own in source.slots if own.handle == handle))
        held = [bone.name for bone in bones if _held(armature, bone, curves)]
        free = {bone.name: rigs.rotation_path(bone) for bone in bones if bone.name not in held}
        if not free:
            raise VivantError(f"The rotations of the {part} are locked, muted or driven.", "Free them first.")
        known = takes.fills_of(home, slot)
        for channel, curve in curves.items():
            fill = known.get(takes.curve_name(curve))
            if channel[0] in free.values() and fill and fill.replaced is not None:
                fills.emptied(curve, fill)
        clip, first = _sampled(armature, source, handle)
        manner = None if style is None else _sampled(armature, style, _slot(armature, style).handle)[0]
        changed = solver.edited(model, clip, part, change, manner, human)
        actions.assign(armature, source, handle)
        dense = skeletons.write_clip(armature, changed, source.name, first)
        new = actions.curves_of(dense, dense.slots[0])
        parts = [
            _part(armature.pose.bones[name], path, range(first, first + len(clip)), curves, new) for name, path in free.items()
        ]
        bpy.data.actions.remove(dense)
    finally:
        actions.assign(armature, action, handle)
        bpy.data.actions.remove(source)
    take = takes.open_take(armature, another)
    count = generated.add(armature, take, parts)
    what = {"part": part, **asdict(change), "style": style.name if style else ""}
    frames = (first, first + len(clip) - 1)
    made = takes.Made("phase", 0, "RANGE", frames, tuple(free), generated.BAKED, count, _moved(armature, parts), edit=what)
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
    after: Mapping[tuple[str, int], bpy.types.FCurve],
) -> generated.Part:
    """A bone's rotation written anew: where no curve moved it before, from what it stands at."""
    width = len(rigs.rotation_locks(bone))
    still = getattr(bone, path.rpartition(".")[2])
    base = [[before[path, i].evaluate(frame) if (path, i) in before else still[i] for i in range(width)] for frame in frames]
    values = np.stack([actions.read_keys(after[path, i], ["co"])["co"][:, 1] for i in range(width)], axis=1)
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
    action, slot = actions.animation_of(armature)
    bones = {bone.path_from_id() for bone in armature.pose.bones}
    rate = bpy.context.scene.render.fps / bpy.context.scene.render.fps_base
    clips = []
    for other in list(bpy.data.actions):
        if takes.known_of(other, "original") or (other.frame_range[1] - other.frame_range[0]) / rate < SHORTEST:
            continue
        moved = (
            {path.rpartition(".")[0] for path, _ in actions.curves_of(other, _slot(armature, other))} if other.slots else set()
        )
        if moved & bones:
            clips.append(_sampled(armature, other, _slot(armature, other).handle)[0])
    actions.assign(armature, action, slot.handle)
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


def _sampled(armature: bpy.types.Object, action: bpy.types.Action, handle: int) -> tuple[Clip, int]:
    """The armature moved by an action, and that's first frame; the armature's own action is put back."""
    own, slot = actions.animation_of(armature)
    actions.assign(armature, action, handle)
    try:
        first, last = math.floor(action.frame_range[0]), math.ceil(action.frame_range[1])
        return skeletons.clip_of(armature, range(first, last + 1)), first
    finally:
        actions.assign(armature, own, slot.handle)
