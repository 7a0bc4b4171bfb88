# SPDX-License-Identifier: GPL-3.0-or-later
"""Poses written back to the controls that an animator keys; the truth is always Blender's own evaluated pose."""

import pathlib
import sys

import bpy
import numpy as np
import pytest
from mathutils import Quaternion

from vivant.scene import actions, controls, limbs, skeletons, trials

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import posing

TURN, PLACE = 0.5, 1e-3  # degrees, metres: the bars for control rigs
SIDES = "LR"


def pose(rig, frames, bones):
    """Blender's world matrices (F, B, 4, 4)."""
    found = []
    for frame in frames:
        bpy.context.scene.frame_set(frame)
        found.append([np.array(rig.matrix_world @ rig.pose.bones[bone].matrix) for bone in bones])
    return np.array(found)


def apart(a, b):
    """Degrees and metres (F, B) between matrices."""
    turns = [m[..., :3, :3] / np.linalg.norm(m[..., :3, :3], axis=-2, keepdims=True) for m in (a, b)]
    relative = np.einsum("...ji,...jk->...ik", *turns)
    sine = np.stack([relative[..., i, j] - relative[..., j, i] for i, j in ((2, 1), (0, 2), (1, 0))], -1)
    angles = np.arctan2(np.linalg.norm(sine, axis=-1), np.trace(relative, axis1=-2, axis2=-1) - 1)
    return np.degrees(angles), np.linalg.norm(a[..., :3, 3] - b[..., :3, 3], axis=-1)


def key_at_random(rig, moves, frames, seed):
    """Key controls (name -> turn in radians, travel in metres), each channel that is not locked."""
    rng = np.random.default_rng(seed)
    for frame in frames:
        for name, (turn, travel) in moves.items():
            bone = rig.pose.bones[name]
            if turn:
                quat = Quaternion(rng.normal(size=3), rng.uniform(-turn, turn))
                if bone.rotation_mode == "QUATERNION":
                    bone.rotation_quaternion = quat
                    bone.keyframe_insert("rotation_quaternion", frame=frame)
                else:
                    angles = quat.to_euler(bone.rotation_mode)
                    bone.rotation_euler = [0 if lock else a for lock, a in zip(bone.lock_rotation, angles, strict=True)]
                    bone.keyframe_insert("rotation_euler", frame=frame)
            if travel:
                bone.location = rng.normal(size=3) * travel
                bone.keyframe_insert("location", frame=frame)
    bpy.context.view_layer.update()


def curves(rig):
    return actions.curves_of(rig.animation_data.action, rig.animation_data.action_slot)


def between(rig, start, end):
    """Remove all keys strictly between two frames."""
    for curve in curves(rig).values():
        keys = actions.read_keys(curve)
        actions.write_keys(curve, keys[~actions.inside(keys["co"][:, 0], [(start, end)])])


def write(rig, frames, bases):
    """Key bases on the channels that have curves."""
    for name, matrices in bases.items():
        bone = rig.pose.bones[name]
        for path, columns in trials.channels(bone, matrices).items():
            for index, column in enumerate(columns.T):
                curve = curves(rig).get((f"{bone.path_from_id()}.{path}", index))
                if curve is None:
                    continue
                keys = actions.read_keys(curve)
                keys = keys[~np.isin(keys["co"][:, 0], np.float32(frames))]
                new = np.zeros(len(frames), actions.KEY)
                new["co"], new["interpolation"] = np.column_stack([frames, column]), actions.LINEAR
                keys = np.concatenate([keys, new])
                actions.write_keys(curve, keys[np.argsort(keys["co"][:, 0])])


def round_trip(rig, keyed, start, end, bones=None):
    """A motion of keyed controls is forgotten between two frames, and written back from the pose alone.

    Returns degrees and metres (F, B) by which the pose misses the truth, and what it missed before.
    """
    frames = list(range(start, end + 1))
    hierarchy = limbs.pose_bones(rig)
    bones = list(bones or hierarchy)
    truth = pose(rig, frames, bones)
    after = skeletons.clip_of(rig, frames, hierarchy)
    between(rig, start, end)
    spline = pose(rig, frames, bones)
    before = skeletons.clip_of(rig, frames, hierarchy)
    state = posing.bits(rig), bpy.context.scene.frame_current
    bases = controls.bases(rig, before, after, frames, keyed)
    assert (posing.bits(rig), bpy.context.scene.frame_current) == state, "the armature is not touched"
    assert len(bpy.data.scenes) == 1 and len([thing for thing in bpy.data.objects if thing.type == "ARMATURE"]) <= 2
    kept = [np.array(rig.pose.bones[bone].matrix_basis) for bone in bases for _ in [bpy.context.scene.frame_set(start)]]
    assert all(np.allclose(found[0], basis, atol=1e-6) for found, basis in zip(bases.values(), kept, strict=True))
    write(rig, frames, bases)
    return apart(pose(rig, frames, bones), truth), apart(spline, truth)


@pytest.fixture
def human(rigify_file):
    bpy.ops.wm.open_mainfile(filepath=str(rigify_file))
    bpy.data.objects.remove(bpy.data.objects["metarig"])
    rig = bpy.data.objects["human"]
    bpy.context.view_layer.objects.active = rig
    return rig


TRUNK = {"torso": (0.3, 0.05), "chest": (0.3, 0), "neck": (0.2, 0), "head": (0.3, 0), "shoulder.L": (0.2, 0)}
FK = [
    f"{bone}.{side}" for side in SIDES for bone in ("thigh_fk", "shin_fk", "foot_fk", "upper_arm_fk", "forearm_fk", "hand_fk")
]
IK = {f"{bone}.{side}": (0.4, 0.12) for side in SIDES for bone in ("foot_ik", "hand_ik")}
SWIVELS = [f"{bone}.{side}" for side in SIDES for bone in ("thigh_ik", "upper_arm_ik")]
POLES = [f"{bone}_target.{side}" for side in SIDES for bone in ("thigh_ik", "upper_arm_ik")]
BODY = [f"ORG-spine{end}" for end in ("", ".001", ".002", ".003", ".004", ".006")] + [
    f"ORG-{bone}.{side}" for side in SIDES for bone in ("thigh", "shin", "foot", "upper_arm", "forearm", "hand")
]


def switch(rig, name, value):
    for side in SIDES:
        for limb in ("thigh", "upper_arm"):
            rig.pose.bones[f"{limb}_parent.{side}"][name] = value
    rig.update_tag()
    bpy.context.view_layer.update()


@pytest.mark.parametrize("mode", ["fk", "ik", "pole"])
def test_a_rigify_rig_s_controls_take_a_pose_back(human, mode):
    moves = dict(TRUNK)
    if mode == "fk":
        switch(human, "IK_FK", 1.0)
        moves |= dict.fromkeys(FK, (0.5, 0))
    else:
        switch(human, "pole_vector", mode == "pole")
        moves |= IK | (dict.fromkeys(POLES, (0, 0.3)) if mode == "pole" else dict.fromkeys(SWIVELS, (0.8, 0)))
    key_at_random(human, moves, (1, 5, 9, 13, 17), seed=3)
    (turns, places), (off, _) = round_trip(human, moves, 5, 13, BODY)
    assert off.max() > 20, "the spline alone is far from it"
    assert turns.max() < TURN / 10 and places.max() < PLACE / 10


def test_what_rigify_s_controls_steer_follows_the_switches(human):
    keyed = [
        "root",
        "foot_spin_ik.L",
        "torso",
        "chest",
        "foot_ik.L",
        "foot_heel_ik.L",
        "thigh_ik.L",
        "thigh_ik_target.L",
        "thigh_fk.L",
        "toe_ik.L",
    ]
    common = {"torso": "ORG-spine", "chest": "ORG-spine.003"}
    ik = {"foot_ik.L": "ORG-foot.L", "toe_ik.L": "ORG-toe.L"}
    assert controls.driven(human, keyed) == common | ik | {"thigh_ik.L": "ORG-thigh.L"}
    switch(human, "pole_vector", True)
    assert controls.driven(human, keyed) == common | ik | {"thigh_ik_target.L": "ORG-thigh.L"}
    switch(human, "IK_FK", 1.0)
    assert controls.driven(human, keyed) == common | {"thigh_fk.L": "ORG-thigh.L"}
    assert controls.driven(human, ["root"]) == {"root": "ORG-spine"}


def test_a_rigify_rig_s_pose_bones_are_one_body(human):
    hierarchy = limbs.pose_bones(human)
    assert [bone for bone, above in hierarchy.items() if not above] == ["ORG-spine"]
    assert hierarchy["ORG-thigh.L"] == "ORG-spine" and hierarchy["ORG-hand.L"] == "ORG-forearm.L"
    assert hierarchy["ORG-palm.01.L"] == "ORG-hand.L" and hierarchy["ORG-spine.004"] == "ORG-spine.003"
    assert all(not above or list(hierarchy).index(above) < at for at, above in enumerate(hierarchy.values()))
