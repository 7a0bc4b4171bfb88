# SPDX-License-Identifier: GPL-3.0-or-later
"""What ghosts and motion trails show of an armature: where its bones are, take by take, over the frames of the takes' gaps."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Generator

import bpy
import numpy as np
from numpy.typing import NDArray

from ..backends.common.errors import VivantError
from . import actions, beside, limbs, planted, rigs, skeletons, takes
from .fills import RECORD, Fill, generated

Array = NDArray[np.float32]

MOST = 250  # frames; of longer ranges every second one is shown, or every third …
ORIGIN = 0.03  # share of the rig's size within which a root stands at the armature's origin, and ends meet joints
# Joints with a trail, and what stands in for one that a human lacks.
HUMAN = {"pelvis": "", "head": "neck"} | {
    f"{a}.{side}": f"{b}.{side}" for side in "LR" for a, b in (("hand", "forearm"), ("foot", "shin"))
}
BONE = re.compile(r'pose\.bones\["(.+)"\]\.')


def frames_of(armature: bpy.types.Object, scene: bpy.types.Scene) -> list[int]:
    """The frames of all gaps that the takes fill, keys around them included; without takes those that the scene plays."""
    first, last = scene.frame_start, scene.frame_end
    if scene.use_preview_range:
        first, last = scene.frame_preview_start, scene.frame_preview_end
    gaps = [gap for take in takes.takes_of(armature) for gap in _gaps(armature, take)]
    if gaps:
        first, last = math.floor(min(start for start, _ in gaps)), math.ceil(max(end for _, end in gaps))
    return list(range(first, last + 1, max(1, math.ceil((last - first + 1) / MOST))))


def _gaps(armature: bpy.types.Object, take: bpy.types.Action) -> list[actions.Gap]:
    return [fill.span for fill in takes.fills_of(take, armature.animation_data.action_slot).values()]


def sticks(armature: bpy.types.Object, action: bpy.types.Action, frames: list[int]) -> Generator[str, None, Array]:
    """Heads and tails (F, B, 2, 3) of all bones in the world, as one of the armature's takes or its action has them.

    Yields how far it is.
    """
    bones = armature.pose.bones
    lengths = np.array([bone.bone.length for bone in bones])
    handle = armature.animation_data.action_slot_handle
    poses = yield from beside.poses(armature, [bone.name for bone in bones], action, handle, frames, kept=False)
    matrices = poses.in_world
    heads = matrices[..., :3, 3]
    return np.stack([heads, heads + lengths[:, None] * matrices[..., :3, 1]], axis=2).astype(np.float32)


def ghost_bones(armature: bpy.types.Object) -> list[int]:
    """Indices of the bones that a ghost is made of: those that deform, as controls would hide it; else all.

    Without the bones of a human's face, and roots that are no part of the body, as imported rigs have them.
    """
    bones, human, roots = armature.pose.bones, _human_of(armature), _bodiless(armature)
    shown = [index for index, bone in enumerate(bones) if bone.bone.use_deform and bone.name not in roots]
    shown = shown or list(range(len(bones)))
    return [index for index in shown if human.get("head") not in [above.name for above in bones[index].parent_recursive]]


def _bodiless(armature: bpy.types.Object) -> set[str]:
    """Bones that carry a body and are none of it: above all others, where the armature's origin is, and ending at no joint."""
    near = ORIGIN * limbs.size_of(armature)
    found: set[str] = set()
    for bone in armature.data.bones:  # parents first
        if (
            (bone.parent is None or bone.parent.name in found)
            and bone.children
            and bone.head_local.length < near
            and all((child.head_local - bone.tail_local).length > near for child in bone.children)
        ):
            found.add(bone.name)
    return found


def _human_of(armature: bpy.types.Object) -> dict[str, str]:
    """Bones of a human's joints; none where it is no human whose pose can be read."""
    try:
        human = skeletons.posed_human_of(armature)
    except VivantError:
        return {}
    return {joint: bone for joint, bone in human.items() if bone in armature.pose.bones}


def trail_bones(armature: bpy.types.Object) -> list[str]:
    """Bones with a trail: in Pose Mode the selected ones, else a human's hands, feet, head and pelvis, or where limbs end.

    And those that are planted, for their contacts.
    """
    bones = armature.pose.bones
    action = armature.animation_data.action
    held = [bone for bone in planted.contacts_of(action, armature.animation_data.action_slot) if bone in bones]
    chosen = rigs.selected_bones(armature) if armature.mode == "POSE" else None
    if chosen is None:
        human, roots = _human_of(armature), _bodiless(armature)
        ends = [bone.name for bone in bones if not bone.children]
        chosen = [human.get(joint) or human[other] for joint, other in HUMAN.items() if joint in human or other in human]
        chosen = chosen or [*[bone.name for bone in bones if bone.name not in roots][:1], *(ends if len(ends) <= 12 else [])]
    return list(dict.fromkeys([*chosen, *held]))


def trail_ends(armature: bpy.types.Object, bones: list[str]) -> list[int]:
    """Which end of each bone leaves its trail: the head (0), or of the last bones of limbs the tail (1)."""
    found = [armature.pose.bones[bone] for bone in bones]
    return [int(bone.bone.use_deform and not bone.children) for bone in found]


def key_frames(armature: bpy.types.Object, action: bpy.types.Action) -> dict[str, set[int]]:
    """Frames at which the user keyed each bone, rounded; generated keys do not count."""
    slot = armature.animation_data.action_slot
    found: dict[str, set[int]] = {}
    fills = takes.fills_of(action, slot)
    for curve in actions.curves_of(action, next(own for own in action.slots if own.handle == slot.handle)).values():
        if (bone := bone_of(curve)) is None:
            continue
        keys = actions.read_keys(curve, ["type", *RECORD])
        own = keys["co"][:, 0][~generated(keys, fills.get(takes.curve_name(curve), Fill()))]
        found.setdefault(bone, set()).update(np.round(own).astype(int).tolist())
    return found


def _sparse(frames: set[int]) -> bool:
    """Whether frames between the first and the last are rather without than with a key."""
    return len(frames) < 4 or 2 * len(frames) <= max(frames) - min(frames) + 1


def bone_of(curve: bpy.types.FCurve) -> str | None:
    """The bone that a curve moves, if it does."""
    found = BONE.match(curve.data_path)
    return bpy.utils.unescape_identifier(found[1]) if found else None


def marks(armature: bpy.types.Object, action: bpy.types.Action, bones: list[str]) -> tuple[list[set[int]], list[set[int]]]:
    """For each bone the frames of its keys (of all bones' where it has none), and the frames in which it is planted.

    Where keys follow each other as in captured motion, none of them is worth a mark.
    """
    keys = {bone: frames if _sparse(frames) else set() for bone, frames in key_frames(armature, action).items()}
    every = set(itertools.chain.from_iterable(keys.values()))
    contacts = planted.contacts_of(action, armature.animation_data.action_slot)
    held = [{frame for first, last in contacts.get(bone, []) for frame in range(first, last + 1)} for bone in bones]
    return [keys.get(bone, every) for bone in bones], held
