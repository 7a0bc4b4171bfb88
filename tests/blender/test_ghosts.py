# SPDX-License-Identifier: GPL-3.0-or-later
"""Poses of takes that are not shown, for ghosts, trails and reports: as Blender has them, and the scene does not notice."""

import pathlib
import sys

import bpy
import numpy as np
import pytest

from vivant.scene import beside, ghosts, planted, takes, traces
from vivant.scene.inbetween import inbetween_object

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import posing


@pytest.fixture
def rig(scene):
    """A chain that turns, with a bone that follows a target, under a parent that moves."""
    rig = posing.armature(("a", "b", "c"))
    for bone in ("a", "b"):
        rig.pose.bones[bone].rotation_mode = "QUATERNION"
        posing.key(rig, bone, "rotation_quaternion", posing.FRAMES, posing.turning("QUATERNION"))
    posing.key(rig, "a", "location", posing.FRAMES, [(angle, 0, angle**2) for angle in posing.ANGLES])
    target = bpy.data.objects.new("target", None)
    target.location = (1, 2, 3)
    carrier = bpy.data.objects.new("carrier", None)
    for made in (target, carrier):
        scene.collection.objects.link(made)
    carrier.location = (0, 0, 0)
    carrier.keyframe_insert("location", frame=1)
    carrier.location = (3, 1, 0)
    carrier.keyframe_insert("location", frame=30)
    rig.parent = carrier
    rig.scale = (2, 2, 2)
    tracks = rig.pose.bones["c"].constraints.new("DAMPED_TRACK")
    tracks.target = target
    copies = rig.pose.bones["c"].constraints.new("COPY_LOCATION")
    copies.target, copies.subtarget, copies.influence = rig, "a", 0.5
    scene.frame_set(14)
    return rig


def sampled(rig, action, frames):
    """World matrices (F, B, 4, 4) under an action, beside the scene."""
    bones = [bone.name for bone in rig.pose.bones]
    return beside.at_once(beside.poses(rig, bones, action, rig.animation_data.action_slot_handle, frames)).in_world


def evaluated(rig, frames):
    """World matrices by Blender's own way through the frames."""
    matrices = []
    for frame in frames:
        bpy.context.scene.frame_set(int(frame), subframe=frame % 1)
        own = rig.evaluated_get(bpy.context.evaluated_depsgraph_get())
        matrices.append([np.array(own.matrix_world @ bone.matrix) for bone in own.pose.bones])
    return np.array(matrices)


def test_sampled_poses_are_what_blender_shows_under_each_action(rig):
    frames = [8, 12, 14, 18, 25]
    user = rig.animation_data.action
    take = inbetween_object(rig).take
    before, after = sampled(rig, user, frames), sampled(rig, take, frames)
    assert np.allclose(evaluated(rig, frames), after, rtol=0, atol=1e-6)
    takes.reject(rig)
    assert np.allclose(evaluated(rig, frames), before, rtol=0, atol=1e-6)
    assert np.abs(before - after).max() > 0.01


def test_sampling_leaves_the_scene_and_unkeyed_poses_alone(rig):
    inbetween_object(rig)
    action = rig.animation_data.action
    rig.pose.bones["a"].location = (5, 6, 7)
    bpy.context.view_layer.update()
    before = [np.array(bone.matrix) for bone in rig.pose.bones]
    counts = {name: len(getattr(bpy.data, name)) for name in ("objects", "scenes", "actions", "armatures", "collections")}
    sampled(rig, action, range(10, 20))
    bpy.context.view_layer.update()
    assert {name: len(getattr(bpy.data, name)) for name in counts} == counts
    assert bpy.context.scene.frame_current == 14 and rig.animation_data.action == action
    assert [tuple(np.ravel(bone.matrix)) for bone in rig.pose.bones] == [tuple(np.ravel(matrix)) for matrix in before]


def test_sampling_makes_no_action_and_no_armature_look_changed(rig):
    bpy.context.view_layer.update()
    changed = []

    def note(scene, depsgraph):
        changed.extend(
            update.id.name for update in depsgraph.updates if update.is_updated_transform or update.id.id_type == "ACTION"
        )

    sampled(rig, rig.animation_data.action, range(10, 20))
    bpy.app.handlers.depsgraph_update_post.append(note)
    try:
        bpy.context.view_layer.update()
    finally:
        bpy.app.handlers.depsgraph_update_post.remove(note)
    assert changed == []


def test_a_generated_rigify_rig_is_sampled_as_it_stands(rigify_file):
    bpy.ops.wm.open_mainfile(filepath=str(rigify_file))
    rig = bpy.data.objects["human"]
    hand = rig.pose.bones["hand_ik.L"]
    for frame, place in ((1, 0), (20, 0.4)):
        hand.location = (place, 0, place)
        hand.keyframe_insert("location", frame=frame)
    found = sampled(rig, rig.animation_data.action, [4, 13])
    assert np.allclose(evaluated(rig, [4, 13]), found, rtol=0, atol=1e-6)
    names = [bone.name for bone in rig.pose.bones]
    assert np.abs(np.diff(found[:, names.index("DEF-forearm.L")], axis=0)).max() > 0.05
    ghosts = [names[index] for index in traces.ghost_bones(rig)]
    assert {"DEF-spine.006", "DEF-shin.L", "DEF-f_index.01.R"} <= set(ghosts)
    assert all(name.startswith("DEF-") and not name.startswith("DEF-lip") for name in ghosts)


def test_sticks_go_from_the_bones_heads_to_their_tails(rig):
    sticks = beside.at_once(traces.sticks(rig, rig.animation_data.action, [12]))
    bpy.context.scene.frame_set(12)
    for bone, (head, tail) in zip(rig.pose.bones, sticks[0], strict=True):
        assert np.allclose(rig.matrix_world @ bone.head, head, atol=1e-5)
        assert np.allclose(rig.matrix_world @ bone.tail, tail, atol=1e-5)


def test_a_root_that_is_no_part_of_the_body_has_no_ghost_and_no_trail(scene):
    rig = posing.armature(("hips", "spine"), "fox")
    bpy.ops.object.mode_set(mode="EDIT")
    bones = rig.data.edit_bones
    for bone in bones:
        bone.head.z, bone.tail.z = bone.head.z + 1, bone.tail.z + 1
    parent = None
    for name, tail in (("scene_root", (0, 3, 0)), ("root", (0, 0, 2.5))):
        bones.new(name).tail = tail
        bones[name].parent, parent = parent, bones[name]
    bones["hips"].parent = parent
    bpy.ops.object.mode_set(mode="OBJECT")
    posing.key(rig, "hips", "location", (1, 9), [(0, 0, 0), (1, 0, 0)])
    assert [rig.pose.bones[index].name for index in traces.ghost_bones(rig)] == ["hips", "spine"]
    assert traces.trail_bones(rig) == ["hips", "spine"]
    alone = posing.armature(("arm", "hand"), "crane")
    assert traces.ghost_bones(alone) == [0, 1], "a bone that reaches the next one is of the body, wherever it stands"


def test_captured_motion_has_no_marks_at_its_keys(scene):
    rig = posing.armature(("a", "b"))
    posing.key(rig, "a", "location", range(1, 31), [(0, 0, frame) for frame in range(1, 31)])
    posing.key(rig, "b", "location", (1, 9, 17, 30), [(0, 0, 1)] * 4)
    assert traces.marks(rig, rig.animation_data.action, ["a", "b"])[0] == [set(), {1, 9, 17, 30}]


def test_of_a_long_action_the_ghosts_next_to_the_current_frame_are_drawn():
    at = list(range(1, 101, 4))
    near = [at[index] for index in ghosts.ghosts_near(at, 41)]
    assert near == [frame for frame in at if abs(frame - 41) <= 4 * ghosts.NEAREST]
    assert ghosts.ghosts_near(at[:5], 7) == range(5) and ghosts.ghosts_near([], 7) == range(0)
    assert [at[index] for index in ghosts.ghosts_near(at, 200)] == at[-ghosts.NEAREST :]


def test_frames_are_those_of_the_takes_gaps_else_those_that_play(rig):
    scene = bpy.context.scene
    assert traces.frames_of(rig, scene) == list(range(1, 251))
    scene.frame_end = 1000
    thinned = traces.frames_of(rig, scene)
    assert len(thinned) <= traces.MOST and thinned[:2] == [1, 5]
    inbetween_object(rig)
    assert traces.frames_of(rig, scene) == list(range(10, 21))
    scene.frame_set(7)
    inbetween_object(rig, another=True)
    assert traces.frames_of(rig, scene) == list(range(5, 21))


def test_trails_follow_the_selected_bones_else_the_ends_and_what_is_planted(rig):
    assert traces.trail_bones(rig) == ["a", "c"]
    planted.plant(rig, ["b"], 3, 5)
    assert traces.trail_bones(rig) == ["a", "c", "b"]
    bpy.ops.object.mode_set(mode="POSE")
    posing.select(rig, ["c"])
    assert traces.trail_bones(rig) == ["c", "b"]


def test_trails_start_at_heads_and_at_the_tips_of_limbs(rig):
    assert traces.trail_ends(rig, ["a", "c"]) == [0, 1]
    rig.data.bones["c"].use_deform = False
    assert traces.trail_ends(rig, ["a", "c"]) == [0, 0]


def test_a_human_without_hands_and_feet_leaves_trails_of_forearms_and_shins(rig, monkeypatch):
    found = {"pelvis": "a", "forearm.L": "b", "shin.R": "c", "head": "none such"}
    monkeypatch.setattr(traces.skeletons, "posed_human_of", lambda armature: found)
    assert traces.trail_bones(rig) == ["a", "b", "c"]


def test_dots_stand_on_the_user_s_keys_and_on_planted_frames(rig):
    take = inbetween_object(rig).take
    planted.plant(rig, ["c"], 12, 14)
    keys, held = traces.marks(rig, take, ["a", "c"])
    assert keys == [set(posing.FRAMES), set(posing.FRAMES)]
    assert held == [set(), {12, 13, 14}]
