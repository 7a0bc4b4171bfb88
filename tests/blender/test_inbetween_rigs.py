# SPDX-License-Identifier: GPL-3.0-or-later
"""In-betweens on rigs as animators have them: a generated Rigify rig, imported BVH and glTF."""

import itertools
import pathlib
import sys
import time

import bpy
import numpy as np
import pytest
from mathutils import Euler, Quaternion

from vivant.backends.motion import solve
from vivant.scene import actions, takes
from vivant.scene.inbetween import inbetween_object

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import posing

CONTROLS = ("torso", "chest", "head", "hand_ik.L", "foot_ik.L", "upper_arm_fk.R", "thigh_fk.R", "upper_arm_parent.R")


@pytest.fixture
def human(rigify_file):
    bpy.ops.wm.open_mainfile(filepath=str(rigify_file))
    rig = bpy.data.objects["human"]
    bpy.context.view_layer.objects.active = rig
    posing.select(rig, ())
    return rig


def key_pose(rig, bones, frame, rng):
    for bone in (rig.pose.bones[name] for name in bones):
        turn = Quaternion(rng.normal(size=3), rng.uniform(0.1, 0.8))
        path = "rotation_quaternion" if bone.rotation_mode == "QUATERNION" else "rotation_euler"
        setattr(bone, path, turn if path == "rotation_quaternion" else turn.to_euler(bone.rotation_mode))
        bone.location = rng.normal(size=3) * 0.1
        bone.keyframe_insert(path, frame=frame, group=bone.name)
        bone.keyframe_insert("location", frame=frame, group=bone.name)


def deformation(rig, frame):
    bpy.context.scene.frame_set(frame)
    return {bone.name: np.array(bone.matrix) for bone in rig.pose.bones if bone.name.startswith("DEF-")}


def test_a_rigify_rig_moves_between_its_keyed_controls_and_nowhere_else(human):
    rng = np.random.default_rng(5)
    for frame in (1, 11, 41, 51):
        key_pose(human, CONTROLS[:-1], frame, rng)
    switch = human.pose.bones["upper_arm_parent.R"]
    switch["IK_FK"] = 1.0
    switch.keyframe_insert('["IK_FK"]', frame=1)
    poses = {frame: deformation(human, frame) for frame in (1, 5, 11, 41, 46, 51)}
    keyed, still = set(posing.bits(human)), posing.motion(human, posing.outside(11, 41, 0, 60))
    bpy.context.scene.frame_set(20)

    report = inbetween_object(human)

    assert set(report.bones) == set(CONTROLS[:-1]) and report.frames == (12, 40)
    assert set(posing.bits(human)) == keyed, "no channel is keyed that was not"
    assert np.array_equal(posing.motion(human, posing.outside(11, 41, 0, 60)), still)
    for frame, pose in poses.items():
        now = deformation(human, frame)
        assert all(np.array_equal(now[bone], matrix) for bone, matrix in pose.items()), frame
    frames = [deformation(human, frame) for frame in range(11, 42)]
    steps = [max(np.abs(b[bone] - a[bone]).max() for bone in a) for a, b in itertools.pairwise(frames)]
    assert 0 < max(steps) < 0.25, "the body moves, and never jumps"
    assert all(len(curve.keyframe_points) == 1 for curve in posing.curves(human) if "IK_FK" in curve.data_path)


def test_ik_and_fk_of_a_limb_follow_only_their_own_keys(human):
    rng = np.random.default_rng(6)
    for frame in (1, 31):
        key_pose(human, ["thigh_fk.L"], frame, rng)
    rest = deformation(human, 1)["DEF-thigh.L"]
    bpy.context.scene.frame_set(15)
    inbetween_object(human)
    # The leg is on IK, which has no keys: FK keys move nothing.
    assert np.allclose(deformation(human, 15)["DEF-thigh.L"], rest, atol=1e-6)
    human.pose.bones["thigh_parent.L"]["IK_FK"] = 1.0
    human.update_tag()
    assert not np.allclose(deformation(human, 15)["DEF-thigh.L"], rest, atol=1e-2)


def test_seven_hundred_bones_are_filled_within_seconds(human):
    rng = np.random.default_rng(7)
    bones = [bone.name for bone in human.pose.bones]
    for bone in human.pose.bones:  # Rigify locks all but the controls
        bone.lock_location = bone.lock_rotation = (False,) * 3
        bone.lock_rotation_w = False
    for frame in (1, 47):
        key_pose(human, bones, frame, rng)
    bpy.context.scene.frame_set(20)
    begun = time.process_time()
    report = inbetween_object(human)
    took = time.process_time() - begun
    begun = time.process_time()
    takes.accept(human)
    accepted = time.process_time() - begun
    print(f"{report.keys} keys on {len(report.bones)} bones: {took:.2f} s of processor time, accepted in {accepted:.2f} s")
    assert len(report.bones) > 600 and report.keys > 150_000
    assert took < 10


def cut(rig, first, last):
    """Remove the keys strictly between two frames; what they were, by curve."""
    truth = {}
    for curve in posing.curves(rig, "pose.bones"):
        keys = actions.read_keys(curve)
        inner = actions.inside(keys["co"][:, 0], [(first, last)])
        truth[curve.data_path, curve.array_index] = keys["co"][inner]
        actions.write_keys(curve, keys[~inner])
    return truth


def errors(rig, truth):
    """Mean distance of curves from cut keys, by kind of channel."""
    by_kind = {}
    for curve in posing.curves(rig, "pose.bones"):
        keys = truth[curve.data_path, curve.array_index]
        off = [abs(curve.evaluate(frame) - value) for frame, value in keys.tolist()]
        by_kind.setdefault(curve.data_path.rpartition(".")[2], []).extend(off)
    return {kind: float(np.mean(off)) for kind, off in by_kind.items()}


@pytest.mark.parametrize("name", ["cmu_07_12_walk_120fps", "fox_run", "deepmimic_backflip"])
def test_an_imported_bvh_is_filled_nearer_to_the_truth_than_by_straight_lines(scene, data, name):
    bpy.ops.import_anim.bvh(filepath=str(data / "mocap" / "bvh" / f"{name}.bvh"))
    rig = bpy.context.object
    end = int(rig.animation_data.action.frame_range[1])
    first, last = (100, 120) if end > 150 else (4, 8)
    truth = cut(rig, first, last)
    before = posing.bits(rig)
    straight = errors(rig, truth)
    still = posing.motion(rig, posing.outside(first, last, 1, end))
    scene.frame_set(first + 1)
    report = inbetween_object(rig)
    assert report.frames == (first + 1, last - 1)
    assert np.array_equal(posing.motion(rig, posing.outside(first, last, 1, end)), still)
    assert errors(rig, truth)["rotation_euler"] < 0.9 * straight["rotation_euler"]
    takes.reject(rig)
    assert posing.bits(rig) == before


@pytest.mark.parametrize("name", ["fox", "snake", "trex", "bird"])
def test_an_imported_gltf_rig_is_filled_and_its_keys_stay(scene, data, name):
    bpy.ops.import_scene.gltf(filepath=str(data / "rigs" / f"{name}.glb"))
    rig = next(thing for thing in bpy.data.objects if thing.type == "ARMATURE")
    moves = [action for action in bpy.data.actions if action.slots and action.frame_range[1] > 12]
    rig.animation_data.action = max(moves, key=lambda action: action.frame_range[1])
    rig.animation_data.action_slot = rig.animation_data.action.slots[0]
    times = sorted({point.co.x for curve in posing.curves(rig) for point in curve.keyframe_points})
    first, last = times[len(times) // 3], times[min(len(times) // 3 + 8, len(times) - 1)]
    cut(rig, first, last)
    # Channels that never move have keys at the ends of the action only: they are no part of this gap.
    still = posing.motion(rig, posing.outside(first, last, times[0], times[-1]))
    scene.frame_set(int((first + last) / 2))
    report = inbetween_object(rig)
    assert len(report.bones) > 5 and first < report.frames[0] <= report.frames[1] < last
    assert np.array_equal(posing.motion(rig, posing.outside(first, last, times[0], times[-1])), still)
    whole = np.arange(np.ceil(first), np.floor(last) + 1)
    for curve in posing.curves(rig, "pose.bones"):
        if curve.data_path.endswith("rotation_quaternion") and curve.array_index == 0:
            four = posing.curves(rig, curve.data_path)
            rows = np.array([[part.evaluate(frame) for part in four] for frame in whole])
            assert np.all(np.sum(rows[1:] * rows[:-1], axis=1) > 0.5)
            assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=0.02)


def test_euler_orders_agree_with_blender_s_matrices(scene):
    for mode in ("XYZ", "XZY", "YXZ", "YZX", "ZXY", "ZYX"):
        rig = posing.armature(name=mode)
        rig.pose.bones["bone"].rotation_mode = mode
        a, b = Euler((0.3, -0.5, 0.9), mode), Euler((-0.8, 0.4, 0.1), mode)
        posing.key(rig, "bone", "rotation_euler", (1, 11), [tuple(a), tuple(b)])
        scene.frame_set(4)
        inbetween_object(rig)
        scene.frame_set(6)
        half = a.to_quaternion().slerp(b.to_quaternion(), 0.5)
        rest = rig.pose.bones["bone"].bone.matrix_local.to_quaternion()
        assert (rest.inverted() @ rig.pose.bones["bone"].matrix.to_quaternion()).rotation_difference(half).angle < 1e-3


def brought_in(data, tmp_path, name):
    """An imported rig; with its longest action, or where it has none with random poses."""
    path = data / "rigs" / name
    if path.suffix == ".fbx":
        bpy.ops.wm.fbx_import(filepath=str(path))
    else:
        copy = tmp_path / f"{path.stem}.glb"
        copy.write_bytes(path.read_bytes())
        bpy.ops.import_scene.gltf(filepath=str(copy))
    rig = next(thing for thing in bpy.data.objects if thing.type == "ARMATURE")
    moves = [action for action in bpy.data.actions if any(slot.target_id_type == "OBJECT" for slot in action.slots)]
    bpy.context.view_layer.objects.active = rig
    if moves:
        action = max(moves, key=lambda action: (action.frame_range[1] - action.frame_range[0], action.name))
        actions.assign(rig, action, next(slot.handle for slot in action.slots if slot.target_id_type == "OBJECT"))
    else:
        rng = np.random.default_rng(8)
        for frame in range(1, 42, 4):
            key_pose(rig, [bone.name for bone in rig.pose.bones if "humb" not in bone.name], frame, rng)
    bpy.context.view_layer.update()
    return rig


RIGS = ("fox.glb", "snake.glb", "bird.glb", "knight.glb", "trex.glb", "manta_ray.glb")
RIGS += ("human_mixamo_names.glb", "human_vrm1.vrm", "cmu_91_48.fbx", "animation_with_skeleton.fbx")


@pytest.mark.parametrize("name", RIGS)
def test_solvers_of_whole_poses_keep_every_key_of_every_rig(scene, data, tmp_path, name):
    rig = brought_in(data, tmp_path, name)
    times = np.array(sorted({point.co.x for curve in posing.curves(rig) for point in curve.keyframe_points}))
    first = times[len(times) // 3]
    last = times[min(np.searchsorted(times, first + 11), len(times) - 1)]
    cut(rig, first, last)
    before, end = posing.bits(rig), times[-1]
    outside = posing.outside(first, last, times[0], end)
    still = posing.motion(rig, outside)
    for solver in (one for one in ("retrieval", "optimise") if one in solve.SOLVERS):
        scene.frame_set(int((first + last) / 2))
        report = inbetween_object(rig, solver=solver)
        assert report.key_error == 0 and report.bones and (report.solver == solver or report.fallback)
        assert first < report.frames[0] <= report.frames[1] < last
        assert np.array_equal(posing.motion(rig, outside), still)
        for curve in posing.curves(rig):
            keys = actions.read_keys(curve)
            kept = keys["type"] != actions.GENERATED
            assert keys["co"][kept].tobytes() == before[curve.data_path, curve.array_index]["co"], curve.data_path
            assert np.all(np.isfinite(keys["co"]))
        takes.reject(rig)
        assert posing.bits(rig) == before
