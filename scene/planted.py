# SPDX-License-Identifier: GPL-3.0-or-later
"""Contacts that the user paints: ranges of frames in which a bone, a foot or a hand, must stay where it is.

They are kept with the user's action, in the fact `planted` of its property `vivant` (see `takes`), by slot and bone; its takes
have the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

import bpy
import numpy as np

from ..backends.common.errors import VivantError
from ..backends.motion import contacts, humanoid
from . import actions, beside, limbs, rigs, skeletons, takes

Range = tuple[int, int]

SHORTEST = 0.1  # seconds; what stands for less is a foot that turns round in the air


def contacts_of(action: bpy.types.Action, slot: bpy.types.ActionSlot | None = None) -> dict[str, list[Range]]:
    """Painted contacts by bone: first and last frame of each, in order.  Of a slot, or of the action's only one."""
    home = takes.known_of(action, "original") or action
    slot = slot or (action.slots[0] if len(action.slots) == 1 else None)
    known = json.loads(takes.known_of(home, "planted") or "{}")
    found = known.get(str(slot.handle), {}) if slot else {}
    return {bone: [(first, last) for first, last in ranges] for bone, ranges in found.items()}


def plant(armature: bpy.types.Object, bones: Iterable[str], first: int, last: int) -> None:
    """Bones must stay where they are from frame `first` to frame `last`; overlapping contacts become one.

    Raises VivantError without an action that may be edited, for a name that is no bone, or for an empty range.
    """
    painted = _painted(armature, bones := list(bones), first, last)
    for bone in bones:
        ranges = sorted([*painted.get(bone, []), (first, last)])
        joined = ranges[:1]
        for start, end in ranges[1:]:
            if start <= joined[-1][1]:
                joined[-1] = joined[-1][0], max(joined[-1][1], end)
            else:
                joined.append((start, end))
        painted[bone] = joined
    _keep(armature, painted)


def release(armature: bpy.types.Object, bones: Iterable[str], first: int, last: int) -> None:
    """Bones may move again from frame `first` to frame `last`.  Raises VivantError as `plant`."""
    painted = _painted(armature, bones := list(bones), first, last)
    for bone in bones:
        pieces = [
            piece
            for start, end in painted.pop(bone, [])
            for piece in ((start, min(end, first - 1)), (max(start, last + 1), end))
            if piece[0] <= piece[1]
        ]
        if pieces:
            painted[bone] = sorted(set(pieces))
    _keep(armature, painted)


def detect(armature: bpy.types.Object, first: int, last: int) -> dict[str, list[Range]]:
    """Find when the feet stand in the motion as it is, and paint just that from frame `first` to frame `last`.

    A foot stands while it is near the lowest it gets and hardly moves (`contacts.standing`).  Returns what is painted now.
    Raises VivantError as `plant`, and for what has no feet that stand.
    """
    _painted(armature, (), first, last)
    feet = feet_of(armature)
    if not feet:
        raise VivantError(f"'{armature.name}' has no legs that Vivant knows.", "Plant its bones by hand.")
    render, frames = bpy.context.scene.render, range(first, last + 1)
    action, slot = actions.animation_of(armature)
    poses = beside.at_once(beside.poses(armature, list(feet), action, slot.handle, frames))
    places = poses.in_world[..., :3, 3]
    down = contacts.standing(
        places[..., [0, 2, 1]] * (1, 1, -1), np.array(list(feet.values())), render.fps / render.fps_base, SHORTEST
    )
    release(armature, feet, first, last)
    for bone, stands in zip(feet, down.T, strict=True):
        for start, end in contacts.runs(stands):
            plant(armature, [bone], first + start, first + end)
    return contacts_of(action, slot)


def of_joints(armature: bpy.types.Object, painted: Mapping[str, list[Range]], joints: Iterable[str]) -> dict[str, list[Range]]:
    """Painted contacts by bones of the pose: a control stands for those that begin where it does at rest, as a foot's does.

    A bone that neither is nor stands for a joint is left out.
    """
    bones, near = armature.data.bones, limbs.NEAR * limbs.size_of(armature)
    names = [name for name in joints if name in bones]
    found: dict[str, list[Range]] = {}
    for bone, ranges in painted.items():
        place = bones[bone].head_local if bone in bones else None
        at_it = [name for name in names if place and (bones[name].head_local - place).length < near]
        for name in [bone] if bone in names else at_it:
            found[name] = sorted([*found.get(name, []), *ranges])
    return found


def feet_of(armature: bpy.types.Object) -> dict[str, float]:
    """The bones whose heads touch the ground when the armature stands, and the length of each one's leg in the world."""
    skeleton = skeletons.skeleton_of(armature)
    names = list(skeleton.names)
    try:
        human = skeletons.posed_human_of(armature)
        humanoid.check(human, names)
        legs = [
            (names.index(human[f"thigh.{side}"]), names.index(human[f"foot.{side}"]), human.get(f"toe.{side}"))
            for side in "LR"
            if f"foot.{side}" in human
        ]
        found = [(hip, ankle, names.index(toe) if toe else ankle) for hip, ankle, toe in legs]
    except VivantError:
        found = [(leg.hip, leg.ankle, leg.contact) for leg in contacts.find_legs(skeleton)]
    rest = skeleton.replace(rotations=skeleton.rest[None], root=skeleton.offsets[:1]).forward()[0][0]
    return {names[touch]: float(np.linalg.norm(rest[hip] - rest[ankle])) for hip, ankle, touch in found}


def _painted(armature: bpy.types.Object, bones: Iterable[str], first: int, last: int) -> dict[str, list[Range]]:
    """What is painted; raises VivantError for what may not be."""
    pose = rigs.pose_of(armature)
    action, slot = actions.animation_of(armature)
    home = takes.known_of(action, "original") or action
    if not home.is_editable:
        raise VivantError(f"The action '{home.name}' is linked from another file.", "Make it local first.")
    if unknown := [bone for bone in bones if bone not in pose.bones]:
        raise VivantError(f"'{armature.name}' has no bone '{unknown[0]}'.", "Give names of its pose bones.")
    if last < first:
        raise VivantError(f"Frame {last} comes before frame {first}.", "Choose a range of frames.")
    return contacts_of(action, slot)


def _keep(armature: bpy.types.Object, painted: dict[str, list[Range]]) -> None:
    action, slot = actions.animation_of(armature)
    home = takes.known_of(action, "original") or action
    known = json.loads(takes.known_of(home, "planted") or "{}")
    takes.note(home, planted=json.dumps({**known, str(slot.handle): painted}))
