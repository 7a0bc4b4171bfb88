# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a rig is body: the bones that show its pose, how they hang together, and the limbs that inverse kinematics bends."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import bpy
import numpy as np
from mathutils import Vector
from numpy.typing import NDArray

from . import rigs

Array = NDArray[np.floating]

NEAR = 0.01  # share of the rig's size within which joints coincide
ORIGINAL = "ORG-"  # what Rigify puts before the bones that follow whichever of IK and FK is on
COPIES = ("COPY_TRANSFORMS", "COPY_ROTATION")


@dataclass(frozen=True)
class Limb:
    """Pose bones of a chain that inverse kinematics bends.

    upper, lower: its first two; last: its last one; end: the bone whose head is the chain's end, or (tail) the last one, whose
    tail is; chain: the bones the solver moves; goal: the one it reaches for; pole: the one it points the bend at, or "".
    """

    upper: str
    lower: str
    last: str
    end: str
    tail: bool
    chain: tuple[str, ...]
    goal: str
    pole: str


def size_of(armature: bpy.types.Object) -> float:
    """The largest extent of the rest pose, in the armature's space."""
    ends = np.array([end for bone in armature.data.bones for end in (bone.head_local, bone.tail_local)])
    return float(np.ptp(ends, axis=0).max())


def active(bone: bpy.types.PoseBone) -> list[bpy.types.Constraint]:
    """Constraints of a pose bone (an evaluated one, where drivers mute them) that do something."""
    return [constraint for constraint in bone.constraints if constraint.enabled and constraint.influence > 0]


def chain_of(bone: bpy.types.PoseBone, constraint: bpy.types.Constraint) -> list[bpy.types.PoseBone]:
    """The bones that an IK constraint moves, the last one first."""
    chain = [bone, *bone.parent_recursive]
    return chain[: constraint.chain_count or None]


def pose_bones(armature: bpy.types.Object) -> dict[str, str]:
    """The bones that show the rig's pose -> the bone each hangs on ("" for the first alone), parents first.

    Bones without constraints are all their own pose.  Of a Rigify rig they are the ORG- bones; of other control rigs those
    that deform, without IK targets, poles and doubles that others copy.  A bone none of whose ancestors is one of them hangs
    on the one whose tail is at its head, else on the first.
    Raises VivantError for what is no armature.
    """
    pose = rigs.pose_of(armature)
    bones = armature.data.bones
    if not any(bone.constraints for bone in pose.bones):
        names = [bone.name for bone in bones]
    elif "rig_id" in armature.data and any(bone.name.startswith(ORIGINAL) for bone in bones):
        names = [bone.name for bone in bones if bone.name.startswith(ORIGINAL)]
    else:
        controls = _steering(armature)
        names = [bone.name for bone in bones if bone.use_deform and bone.name not in controls]
        names = names or [bone.name for bone in bones]
    return _hung(armature, names)


def limbs_of(armature: bpy.types.Object, evaluated: bpy.types.Object, hierarchy: Mapping[str, str]) -> list[Limb]:
    """The limbs that inverse kinematics moves now, by the pose bones at its joints; chains that have none are left out."""
    bones = armature.data.bones
    near = NEAR * size_of(armature)

    def like(bone: bpy.types.Bone) -> str:
        """The pose bone that begins where a bone does, and ends nearest to where that ends."""
        found = {name: (bones[name].tail_local - bone.tail_local).length for name in beginning(bone.head_local, hierarchy)}
        return bone.name if bone.name in found else min(found, key=lambda name: found[name], default="")

    def beginning(place: Vector, names: Iterable[str]) -> list[str]:
        return [name for name in names if (bones[name].head_local - place).length < near]

    limbs = []
    for bone in evaluated.pose.bones:
        for constraint in active(bone):
            if constraint.type != "IK" or not constraint.target:
                continue
            chain = chain_of(bone, constraint)
            upper = like(bones[chain[-1].name])
            below = [name for name in hierarchy if upper and upper in above(name, hierarchy)]
            end = next(iter(beginning(bones[bone.name].tail_local, below)), "")
            tail = not end and bone.name in below
            line = [bone.name, *above(bone.name, hierarchy)] if tail else above(end, hierarchy) if end else []
            if upper not in line[1:]:
                continue
            lower = line[line.index(upper) - 1]
            links = tuple(link.name for link in chain)
            pole = constraint.pole_subtarget if constraint.pole_target else ""
            limbs.append(Limb(upper, lower, line[0], end or bone.name, tail, links, constraint.subtarget, pole))
    return limbs


def above(name: str, hierarchy: Mapping[str, str]) -> list[str]:
    """The bones that a pose bone hangs on, upwards."""
    found = []
    while name := hierarchy[name]:
        found.append(name)
    return found


def _steering(armature: bpy.types.Object) -> set[str]:
    """Bones that are there to be followed: IK targets and poles, and free bones that one at the same place copies."""
    bones = armature.data.bones
    near = NEAR * size_of(armature)
    found = set()
    for bone in armature.pose.bones:
        for constraint in bone.constraints:
            if getattr(constraint, "target", None) != armature:
                continue
            if constraint.type == "IK":
                found |= {constraint.subtarget, constraint.pole_subtarget}
            source = bones.get(constraint.subtarget) if constraint.type in COPIES else None
            if source is None or armature.pose.bones[source.name].constraints:
                continue
            apart = np.linalg.norm(np.array(source.head_local) - np.array(bone.bone.head_local))
            if apart < near:
                found.add(source.name)
    return found


def _hung(armature: bpy.types.Object, names: Iterable[str]) -> dict[str, str]:
    """Bones -> the one of them each hangs on, parents first: the nearest above, itself or by a double at the same place."""
    bones = armature.data.bones
    near = NEAR * size_of(armature)
    chosen = dict.fromkeys(names, "")
    ends = {bone.name: np.array([*bone.head_local, *bone.tail_local]) for bone in bones}
    places = np.array([ends[name] for name in chosen])
    order = list(chosen)

    def stands_for(bone: bpy.types.Bone) -> str:
        if bone.name in chosen:
            return bone.name
        apart = np.abs(places - ends[bone.name]).max(axis=1)
        return order[int(apart.argmin())] if apart.min() < near / 10 else ""

    for name in chosen:
        seen = (stands_for(bone) for bone in bones[name].parent_recursive)
        chosen[name] = next((bone for bone in seen if bone and bone != name and name not in above(bone, chosen)), "")
    loose = [name for name in chosen if not chosen[name]]
    for name in loose[1:]:
        gaps = np.linalg.norm(places[:, 3:] - ends[name][:3], axis=1)
        gaps[[other == name or name in above(other, chosen) for other in order]] = np.inf
        chosen[name] = order[int(gaps.argmin())] if gaps.min() < near else loose[0]
    ordered: dict[str, str] = {}
    while len(ordered) < len(chosen):
        ordered |= {name: over for name, over in chosen.items() if name not in ordered and (not over or over in ordered)}
    return ordered


def ik_controls(armature: bpy.types.Object, limb: Limb) -> list[str]:
    """The bones that may be moved to bend a limb: those that carry its goal or its pole, and free links of its chain."""
    bones = armature.pose.bones
    carriers = [
        bone for name in (limb.goal, limb.pole) if name in bones for bone in (bones[name], *bones[name].parent_recursive)
    ]
    links = [bones[name] for name in limb.chain if name not in (limb.upper, limb.lower, limb.last)]
    found = [bone.name for bone in carriers if not all(bone.lock_location)]
    return list(dict.fromkeys(found + [bone.name for bone in links if not all(bone.lock_rotation)]))


def doubles(armature: bpy.types.Object, name: str, free: bool = True) -> list[str]:
    """The other bones that lie where a bone lies at rest; free: those that may be turned."""
    bones = armature.data.bones
    near = NEAR / 10 * size_of(armature)
    one = bones[name]
    return [
        bone.name
        for bone in bones
        if bone.name != name
        and (bone.head_local - one.head_local).length < near
        and (bone.tail_local - one.tail_local).length < near
        and not (free and all(armature.pose.bones[bone.name].lock_rotation))
    ]
