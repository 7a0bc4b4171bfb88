# SPDX-License-Identifier: GPL-3.0-or-later
"""An armature's pose as a clip, and a clip as an action that gives the same pose again."""

import pathlib
import sys

import bpy
import numpy as np
import pytest
from mathutils import Euler, Quaternion

from vivant.backends.common import rotations as quaternions
from vivant.backends.common.errors import VivantError
from vivant.scene import skeletons

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import posing


def world_matrices(rig, frames):
    """Blender's own matrices of all bones in the world (F, J, 4, 4)."""
    found = []
    for frame in frames:
        bpy.context.scene.frame_set(frame)
        found.append([np.array(rig.matrix_world @ bone.matrix) for bone in rig.pose.bones])
    return np.array(found)


def turns(matrices):
    axes = matrices[..., :3, :3]
    return axes / np.linalg.norm(axes, axis=-2, keepdims=True)


def angle(a, b):
    """Largest angle between rotation matrices, radians."""
    relative = np.einsum("...ji,...jk->...ik", a, b)
    sine = [relative[..., i, j] - relative[..., j, i] for i, j in ((2, 1), (0, 2), (1, 0))]
    return (
        float(np.linalg.norm(np.stack(sine, -1), axis=-1).max() / 2)
        if np.all(np.trace(relative, axis1=-2, axis2=-1) > 1)
        else 9.0
    )


def y_up(places):
    return np.stack([places[..., 0], places[..., 2], -places[..., 1]], axis=-1)


def random_rig(seed, flags=False):
    """A branching armature, rotated and scaled, with bones of all rotation modes and random keys."""
    rng = np.random.default_rng(seed)
    rig = posing.armature(("a", "b", "c", "d", "e", "f", "g"))
    bpy.ops.object.mode_set(mode="EDIT")
    for index, bone in enumerate(rig.data.edit_bones):
        bone.parent = rig.data.edit_bones[int(rng.integers(index))] if index else None
        bone.head, bone.tail, bone.roll = rng.normal(size=3), rng.normal(size=3), rng.uniform(-3, 3)
    bpy.ops.object.mode_set(mode="OBJECT")
    modes = ("QUATERNION", "XYZ", "ZYX", "AXIS_ANGLE", "YXZ", "QUATERNION", "XZY")
    for index, (bone, mode) in enumerate(zip(rig.pose.bones, modes, strict=True)):
        bone.rotation_mode = mode
        if flags:
            bone.bone.use_inherit_rotation = index % 3 != 1
            bone.bone.use_local_location = index % 2 == 0
        for frame in range(1, 6):
            bone.location = rng.normal(size=3) * (0.3 if index % 2 else 0)
            turn = Quaternion(rng.normal(size=3), rng.uniform(0.1, 3))
            bone.matrix_basis = bone.matrix_basis @ turn.to_matrix().to_4x4()
            path = {"QUATERNION": "rotation_quaternion", "AXIS_ANGLE": "rotation_axis_angle"}.get(mode, "rotation_euler")
            bone.keyframe_insert(path, frame=frame)
            bone.keyframe_insert("location", frame=frame)
    rig.rotation_euler = Euler((0.3, -0.5, 1.0))
    rig.location, rig.scale = (1, 2, 3), (0.5,) * 3
    bpy.context.view_layer.update()
    return rig


def check_round_trip(rig, frames, size=1.0):
    """Bone matrices and the clip's positions are Blender's, before and after."""
    old = rig.animation_data.action
    bits = posing.bits(rig)
    truth = world_matrices(rig, frames)
    clip = skeletons.clip_of(rig, frames)
    assert np.allclose(clip.forward()[0], y_up(truth[..., :3, 3]), atol=1e-4 * size)
    action = skeletons.write_clip(rig, clip, "again", frames[0])
    assert rig.animation_data.action == action != old and old.use_fake_user
    now = world_matrices(rig, frames)
    assert angle(turns(truth), turns(now)) < 1e-4
    assert np.abs(truth[..., :3, 3] - now[..., :3, 3]).max() < 1e-4 * size
    rig.animation_data.action = old
    rig.animation_data.action_slot = old.slots[0]
    assert posing.bits(rig) == bits, "the action before is as it was"


@pytest.mark.parametrize("flags", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_a_clip_of_a_rig_written_back_gives_the_same_pose_in_every_rotation_mode(scene, seed, flags):
    check_round_trip(random_rig(seed, flags), [1, 2, 3, 4, 5], size=4.0)


def test_the_pose_is_sampled_with_its_constraints(scene):
    rig = posing.armature(("a", "b"))
    target = bpy.data.objects.new("target", None)
    scene.collection.objects.link(target)
    for frame, place in ((1, (3, 0, 1)), (11, (0, 3, 1))):
        target.location = place
        target.keyframe_insert("location", frame=frame)
    rig.pose.bones["b"].constraints.new("DAMPED_TRACK").target = target
    frames = [1, 6, 11]
    clip = skeletons.clip_of(rig, frames)
    axis = np.array(world_matrices(rig, frames))[..., :3, 1]
    _, rotations = clip.forward()
    assert np.allclose(quaternions.rotate(rotations, np.array([0.0, 1.0, 0.0])), y_up(axis), atol=1e-5)
    assert not np.allclose(axis[0], axis[2], atol=0.1)
    with pytest.raises(VivantError, match=r"'b'.*constraint"):
        skeletons.write_clip(rig, clip, "again")
    assert rig.animation_data is None or rig.animation_data.action is None


def test_subframes_give_the_frame_rate_of_the_clip_and_are_written_back_between_frames(scene):
    scene.render.fps, scene.render.fps_base = 24, 1.001
    rig = posing.turning_rig()
    clip = skeletons.clip_of(rig, [1.0, 1.5, 2.0])
    assert np.isclose(clip.fps, 48 / 1.001)
    skeletons.write_clip(rig, clip, "half", 7)
    assert {point.co.x for curve in posing.curves(rig) for point in curve.keyframe_points} == {7.0, 7.5, 8.0}


def test_sampling_leaves_the_scene_on_its_frame(scene):
    rig = posing.turning_rig()
    scene.frame_set(13, subframe=0.25)
    skeletons.clip_of(rig, range(1, 4))
    assert (scene.frame_current, scene.frame_subframe) == (13, 0.25)


def test_a_bone_s_scale_of_before_is_undone(scene):
    rig = random_rig(1)
    frames = [1, 2, 3]
    truth = world_matrices(rig, frames)
    clip = skeletons.clip_of(rig, frames)
    rig.pose.bones["c"].scale = (2, 2, 2)
    skeletons.write_clip(rig, clip, "again", 1)
    assert np.allclose(world_matrices(rig, frames), truth, atol=4e-4)


@pytest.mark.parametrize("name", ["knight.glb", "trex.glb", "fox.glb", "bird.glb", "snake.glb", "cmu_91_48.fbx"])
def test_real_rigs_go_there_and_back(scene, data, name):
    path = str(data / "rigs" / name)
    if name.endswith(".fbx"):
        bpy.ops.import_scene.fbx(filepath=path, global_scale=0.01)
    else:
        bpy.ops.import_scene.gltf(filepath=path)
    rig = next(thing for thing in bpy.data.objects if thing.type == "ARMATURE")
    for track in rig.animation_data.nla_tracks:
        track.mute = True
    action = max(bpy.data.actions, key=lambda action: action.frame_range[1])
    rig.animation_data.action, rig.animation_data.action_slot = action, action.slots[0]
    first = int(action.frame_range[0])
    check_round_trip(rig, list(range(first, first + 25)))


@pytest.mark.parametrize("name", ["cmu_07_12_walk_120fps", "deepmimic_backflip", "dragon_fly_flap"])
def test_imported_captures_go_there_and_back(scene, data, name):
    bpy.ops.import_anim.bvh(filepath=str(data / "mocap" / "bvh" / f"{name}.bvh"), global_scale=0.01)
    check_round_trip(bpy.context.object, list(range(1, 20)))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("human_mixamo_names.glb", {"pelvis": "mixamorig:Hips", "spine3": "mixamorig:Spine2", "hand.R": "mixamorig:RightHand"}),
        ("human_vrm1.vrm", {"pelvis": "pelvis", "spine2": "spine_02", "collar.L": "clavicle_l", "toe.R": "ball_r"}),
        ("knight.glb", {"pelvis": "Body", "spine3": "Torso", "shin.L": "LowerLeg.L", "foot.L": "Foot.L", "hand.R": "Palm.R"}),
        ("cmu_91_48.fbx", {"pelvis": "hip", "spine3": "chest", "upper_arm.L": "lShldr", "collar.R": "rCollar"}),
    ],
)
def test_the_human_in_a_rig_is_found(scene, data, tmp_path, name, expected):
    path = data / "rigs" / name
    if name.endswith(".vrm"):
        path = tmp_path / "human.glb"
        path.write_bytes((data / "rigs" / name).read_bytes())
    importer = bpy.ops.import_scene.fbx if name.endswith(".fbx") else bpy.ops.import_scene.gltf
    importer(filepath=str(path))
    rig = next(thing for thing in bpy.data.objects if thing.type == "ARMATURE")
    assert expected.items() <= skeletons.human_of(rig).items()


@pytest.mark.parametrize("name", ["fox", "bird", "snake", "trex", "manta_ray"])
def test_an_animal_s_rig_is_no_human(scene, data, name):
    bpy.ops.import_scene.gltf(filepath=str(data / "rigs" / f"{name}.glb"))
    rig = next(thing for thing in bpy.data.objects if thing.type == "ARMATURE")
    with pytest.raises(VivantError, match="no human"):
        skeletons.human_of(rig)
