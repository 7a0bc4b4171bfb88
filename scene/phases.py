# SPDX-License-Identifier: GPL-3.0-or-later
"""The phases of an armature's body parts: edits of one part in a new action, and what a model of its own is learned from."""

from __future__ import annotations

import math

import bpy

from ..backends.common.errors import VivantError
from ..backends.motion import humanoid
from ..backends.motion.clip import Clip
from ..backends.motion.phase import solver
from ..backends.motion.phase.edit import Edit
from ..backends.motion.phase.model import PhaseModel
from . import actions, motions, skeletons, takes

MODEL = "vivant_phase"  # custom property of the armature object: the file of its own phase model
SHORTEST = 2.0  # seconds of an action that is learned from


def model_of(armature: bpy.types.Object) -> PhaseModel:
    """The armature's own model, else the one that comes along.  Raises NeedsWeights or BrokenFile as `solver.model_of`."""
    return solver.model_of(bpy.path.abspath(armature.get(MODEL, "")))


def parts_of(armature: bpy.types.Object) -> list[str]:
    """Parts of the armature that can be edited; none where it is neither the model's nor a human that its own bones move."""
    try:
        model = model_of(armature)
        _human_for(model, armature)
        return list(model.autoencoders)
    except VivantError:
        return []


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


def edited(armature: bpy.types.Object, part: str, change: Edit, style: bpy.types.Action | None = None) -> bpy.types.Action:
    """A copy of the armature's action in which one part is larger, faster, later or as in another action, assigned.

    The part's bones have a rotation key on every frame; all other channels stay bit for bit, and the old action is kept.
    Raises VivantError, having changed nothing, for what is neither the model's skeleton nor a human's that its own bones
    move, too short a motion, or a part it lacks.
    """
    action, slot = actions.animation_of(armature)
    model = model_of(armature)
    if part not in model.autoencoders:
        raise VivantError(f"The phase model has no part “{part}”.", f"The parts are {', '.join(sorted(model.autoencoders))}.")
    human = _human_for(model, armature)
    clip, first = _sampled(armature, action, slot.handle)
    manner = None if style is None else _sampled(armature, style, _slot(armature, style).handle)[0]
    members = solver.members_of(model, part, clip, human)
    changed = solver.edited(model, clip, part, change, manner, human)
    dense = skeletons.write_clip(armature, changed, action.name, first)
    made = action.copy()
    made.name = f"{action.name} {part}"
    own = next(entry for entry in made.slots if entry.handle == slot.handle)
    bones = {armature.pose.bones[name].path_from_id() for name in members}
    _replace(made, own, dense, bones)
    actions.assign(armature, made, slot.handle)
    bpy.data.actions.remove(dense)
    action.use_fake_user = True
    return made


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


def _replace(made: bpy.types.Action, slot: bpy.types.ActionSlot, dense: bpy.types.Action, bones: set[str]) -> None:
    """Give an action the rotation curves of some bones, by their paths, of another one."""
    new = {
        key: curve
        for key, curve in actions.curves_of(dense, dense.slots[0]).items()
        if key[0].rpartition(".")[0] in bones and ".rotation" in key[0]
    }
    old = actions.curves_of(made, slot)
    for key, curve in new.items():
        target = old.get(key) or actions.add_curve_like(made, slot, curve)
        while target.modifiers:
            target.modifiers.remove(target.modifiers[0])
        actions.write_keys(target, actions.read_keys(curve))
