# SPDX-License-Identifier: GPL-3.0-or-later
"""Rigs: which channels of an armature's bones the animator keyed, and rotations in each bone's own mode."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import bpy
import numpy as np
from mathutils import Euler, Quaternion
from numpy.typing import NDArray

from ..backends.common import rotations as quaternions
from ..backends.common.errors import VivantError

Array = NDArray[np.floating]

FOUR = {"QUATERNION": "rotation_quaternion", "AXIS_ANGLE": "rotation_axis_angle"}
BRANCH = 0.01  # radians by which angles may miss a key before they count as another branch


@dataclass(frozen=True)
class Group:
    """Keyed curves of one bone that belong together, and may be written.

    mode: the bone's rotation mode, "" for location and scale; whole: whether the curves are all the
    components of the rotation.
    """

    bone: str
    mode: str
    curves: tuple[bpy.types.FCurve, ...]
    whole: bool


def pose_of(armature: bpy.types.Object | None) -> bpy.types.Pose:
    """The pose of an armature object, built if Blender had not done that yet.

    Raises VivantError for anything that is no armature, or is in no view layer.
    """
    if armature is None or armature.type != "ARMATURE":
        raise VivantError("No armature is active.", "Select the rig that you want to animate.")
    if armature.pose is None:
        # Assigning an action to an armature without a pose crashes Blender.
        bpy.context.view_layer.update()
    if armature.pose is None:
        raise VivantError(f"The armature '{armature.name}' is in no view layer.", "Put it into the scene first.")
    return armature.pose


def selected_bones(armature: bpy.types.Object) -> list[str] | None:
    """Names of the selected pose bones; None when none is."""
    bones = pose_of(armature).bones
    # Selection moved from the bone to the pose bone in Blender 5.0.
    return [pb.name for pb in bones if (pb.select if hasattr(pb, "select") else pb.bone.select)] or None


def keyed_groups(
    armature: bpy.types.Object, bones: Iterable[str] | None, curves: Mapping[tuple[str, int], bpy.types.FCurve]
) -> tuple[list[Group], dict[str, list[str]]]:
    """The keyed channels of some bones (of all when None), and the bones of which some were left out, by reason.

    A rotation is looked for in the bone's own mode: other rotation curves animate nothing.  A driven channel follows no keys.
    Raises VivantError for a name that is no bone.
    """
    pose = pose_of(armature)
    names = [bone.name for bone in pose.bones] if bones is None else list(dict.fromkeys(bones))
    unknown = [name for name in names if name not in pose.bones]
    if unknown:
        raise VivantError(f"'{armature.name}' has no bone '{unknown[0]}'.", "Give names of its pose bones.")
    groups: list[Group] = []
    drivers = armature.animation_data.drivers if armature.animation_data else ()
    driven = {(driver.data_path, driver.array_index) for driver in drivers if not driver.mute}
    left_out: dict[str, list[str]] = {"locked": [], "muted": [], "driven": []}
    for bone in (pose.bones[name] for name in names):
        rotation = FOUR.get(bone.rotation_mode, "rotation_euler")
        for path, mode, locks in (
            ("location", "", bone.lock_location),
            (rotation, bone.rotation_mode, rotation_locks(bone)),
            ("scale", "", bone.lock_scale),
        ):
            channels = [curves.get((f"{bone.path_from_id()}.{path}", index)) for index in range(len(locks))]
            keyed = [(c, lock) for c, lock in zip(channels, locks, strict=True) if c is not None and len(c.keyframe_points)]
            muted = [c for c, _ in keyed if c.mute or (c.group and c.group.mute)]
            locked = [c for c, lock in keyed if lock or c.lock or (c.group and c.group.lock)]
            moved = [c for c, _ in keyed if (c.data_path, c.array_index) in driven]
            for reason, found in (("muted", muted), ("locked", locked), ("driven", moved)):
                if found and bone.name not in left_out[reason]:
                    left_out[reason].append(bone.name)
            free = tuple(c for c, _ in keyed if c not in muted and c not in locked and c not in moved)
            if free:
                groups.append(Group(bone.name, mode, free, len(free) == len(locks)))
    return groups, {reason: found for reason, found in left_out.items() if found}


def rotation_path(bone: bpy.types.PoseBone) -> str:
    """The data path of a bone's rotation in its own mode."""
    return f"{bone.path_from_id()}.{FOUR.get(bone.rotation_mode, 'rotation_euler')}"


def rotation_locks(bone: bpy.types.PoseBone) -> list[bool]:
    """Which components of a bone's rotation, in its own mode, are locked."""
    axes = list(bone.lock_rotation)
    if bone.rotation_mode not in FOUR:
        return axes
    # Unless locked component by component, a lock stands for a Euler axis: only all three together pin the components.
    return [bone.lock_rotation_w, *axes] if bone.lock_rotations_4d else [all(axes)] * 4


def to_quaternions(values: Array, mode: str) -> Array:
    """Unit quaternions (F, 4) of a bone's rotation channels (F, 3 or 4)."""
    if mode == "QUATERNION":
        return quaternions.normalise(values)
    if mode == "AXIS_ANGLE":
        length = np.linalg.norm(values[:, 1:], axis=1, keepdims=True)
        return quaternions.exp(values[:, :1] * values[:, 1:] / np.where(length > 0, length, 1))
    return np.array([Euler(angles, mode).to_quaternion() for angles in values.tolist()]).reshape(-1, 4)


def from_quaternions(quats: Array, mode: str, start: Array) -> Array:
    """Rotation channels (F, 3 or 4) of quaternions (F, 4), each the nearest to those of the frame before.

    start: the channels just before the first frame.
    """
    if mode == "QUATERNION":
        return quaternions.continuous(np.concatenate([start[None], quats]))[1:]
    if mode == "AXIS_ANGLE":
        values = [start]
        for turn in quaternions.log(quats):
            values.append(_nearest_axis_angle(turn, values[-1]))
        return np.array(values[1:]).reshape(-1, 4)
    angles = [Euler(start.tolist(), mode)]
    for quat in quats.tolist():
        angles.append(Quaternion(quat).to_euler(mode, angles[-1]))
    return np.array(angles[1:]).reshape(-1, 3)


def _nearest_axis_angle(turn: Array, previous: Array) -> Array:
    """(angle, axis) of a rotation vector; of both axes and all numbers of turns, those nearest to the frame before."""
    angle = np.linalg.norm(turn)
    axis = turn / angle if angle > 1e-6 else previous[1:]
    if axis @ previous[1:] < 0:
        angle, axis = -angle, -axis
    return np.array([angle + 2 * np.pi * np.round((previous[0] - angle) / (2 * np.pi)), *axis])


def reaches(values: Array, key: Array, mode: str) -> bool:
    """Whether channels that `from_quaternions` found for a key's rotation are the key's own, not another branch of them."""
    if mode == "AXIS_ANGLE":
        length = np.linalg.norm(key[1:])
        key = np.array([key[0], *(key[1:] / length if length > 0 else values[1:])])
    return bool(np.all(np.abs(values - key) < BRANCH))
