# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes: accepted, rejected, made again, saved and taken out."""

import pathlib
import sys

import bpy
import numpy as np
import pytest

from vivant.backends.common.errors import VivantError
from vivant.operators import inbetween
from vivant.scene import actions, takes
from vivant.scene.inbetween import inbetween_object

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import posing


@pytest.fixture
def rig(scene):
    rig = posing.turning_rig(smoothing="CONT_ACCEL")
    scene.frame_set(14)
    return rig


def fill(rig, frame=14):
    bpy.context.scene.frame_set(frame)
    return inbetween_object(rig).take


def generated(rig):
    return sorted({point.co.x for curve in posing.curves(rig) for point in curve.keyframe_points if point.type == "GENERATED"})


@pytest.mark.parametrize("fake_user", [False, True])
def test_reject_puts_the_user_s_action_back_as_it_was(rig, operators, fake_user):
    user, before = rig.animation_data.action, posing.bits(rig)
    user.use_fake_user = fake_user
    users, slot = user.users, rig.animation_data.action_slot.identifier
    assert bpy.ops.vivant.motion_inbetween() == {"FINISHED"}
    assert user.use_fake_user and posing.bits(rig) != before
    assert bpy.ops.vivant.take_reject() == {"FINISHED"}
    assert rig.animation_data.action == user and rig.animation_data.action_slot.identifier == slot
    assert posing.bits(rig) == before
    assert (user.use_fake_user, user.users) == (fake_user, users)
    assert list(bpy.data.actions) == [user] and takes.KEY not in user


def test_accept_merges_into_the_user_s_action_what_the_take_showed(rig, operators):
    user, slot = rig.animation_data.action, rig.animation_data.action_slot.identifier
    before, still = posing.bits(rig), posing.motion(rig, posing.outside(10, 20))
    bpy.ops.vivant.motion_inbetween()
    shown, moving = posing.bits(rig), posing.motion(rig, np.arange(0, 40, 0.125))
    assert bpy.ops.vivant.take_accept() == {"FINISHED"}
    assert rig.animation_data.action == user and rig.animation_data.action_slot.identifier == slot
    assert list(bpy.data.actions) == [user] and not user.use_fake_user
    assert posing.bits(rig) == shown
    assert np.array_equal(posing.motion(rig, np.arange(0, 40, 0.125)), moving)
    assert np.array_equal(posing.motion(rig, posing.outside(10, 20)), still)
    for curve in posing.curves(rig):
        keys = actions.read_keys(curve)
        users = keys[keys["type"] != actions.GENERATED]
        for name in ("co", "handle_left", "handle_right", "type"):
            assert users[name].tobytes() == before[curve.data_path, curve.array_index][name]


def test_accepted_keys_can_be_taken_out_again_without_a_trace(rig):
    before = posing.bits(rig)
    fill(rig, 14)
    takes.accept(rig)
    fill(rig, 7)
    takes.accept(rig)
    assert generated(rig) == [6, 7, 8, 9, *range(11, 20)]
    takes.remove_generated(rig)
    assert posing.bits(rig) == before
    assert not takes.fills_of(*actions.animation_of(rig))


def test_a_second_run_adds_to_the_take_that_is_shown(rig):
    user = rig.animation_data.action
    take = fill(rig, 14)
    assert fill(rig, 7) == take
    assert generated(rig) == [6, 7, 8, 9, *range(11, 20)]
    takes.reject(rig)
    assert rig.animation_data.action == user and generated(rig) == []


def test_a_run_after_a_key_was_added_fills_around_that_key(rig):
    fill(rig, 14)
    bone = rig.pose.bones["bone"]
    bone.location = (9, 8, 7)
    bone.keyframe_insert("location", frame=15)
    for curve in posing.curves(rig, f"{bone.path_from_id()}.location"):
        next(point for point in curve.keyframe_points if point.co.x == 15).type = "KEYFRAME"
    fill(rig, 12)
    location = posing.curves(rig, f"{bone.path_from_id()}.location")
    assert [curve.evaluate(15) for curve in location] == [9, 8, 7]
    assert [curve.evaluate(14) for curve in location] == pytest.approx([9, 8, 7], abs=4)
    assert generated(rig) == list(range(11, 20))
    takes.accept(rig)
    assert [curve.evaluate(15) for curve in posing.curves(rig, f"{bone.path_from_id()}.location")] == [9, 8, 7]


def test_what_the_user_keyed_while_the_take_was_shown_is_accepted_too(rig):
    fill(rig)
    bone = rig.pose.bones["bone"]
    bone.scale = (2, 3, 4)
    bone.keyframe_insert("scale", frame=3, group="bone")
    user = takes.accept(rig)
    scale = posing.curves(rig, f"{bone.path_from_id()}.scale")
    assert rig.animation_data.action == user and [curve.evaluate(3) for curve in scale] == [2, 3, 4]
    assert {curve.group.name for curve in scale} == {"bone"}


def test_baked_keys_of_other_tools_are_the_user_s(rig):
    for curve in posing.curves(rig):
        curve.keyframe_points.foreach_set("type", np.full(len(curve.keyframe_points), actions.GENERATED, np.int32))
    still = posing.motion(rig, posing.outside(10, 20))
    fill(rig)
    assert np.array_equal(posing.motion(rig, posing.outside(10, 20)), still)
    takes.remove_generated(rig)
    assert all(len(curve.keyframe_points) == len(posing.FRAMES) for curve in posing.curves(rig))


def test_two_rigs_in_one_action_have_takes_of_their_own(scene, rig):
    other = posing.armature(name="other")
    other.animation_data_create().action = rig.animation_data.action
    other.animation_data.action_slot = rig.animation_data.action.slots.new(id_type="OBJECT", name="other")
    posing.key(other, "bone", "location", (1, 21), [(0, 0, 0), (1, 2, 3)])
    user = rig.animation_data.action
    fill(rig)
    fill(other)
    takes.accept(rig)
    assert takes.original_of(other) == user and takes.original_of(rig) is None
    takes.accept(other)
    assert rig.animation_data.action == other.animation_data.action == user
    assert generated(rig) == list(range(11, 20)) and generated(other) == list(range(2, 21))
    takes.remove_generated(rig)
    assert generated(rig) == [] and generated(other) == list(range(2, 21))


def test_a_take_survives_renaming_saving_and_opening(rig, tmp_path):
    before = posing.bits(rig)
    rig.animation_data.action.name = "walk"
    take = fill(rig)
    assert take.name == "walk take"
    takes.original_of(rig).name = "stroll"
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "take.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "take.blend"))
    rig = bpy.data.objects["rig"]
    assert takes.reject(rig).name == "stroll"
    assert posing.bits(rig) == before


def test_without_a_take_there_is_nothing_to_accept_or_reject(rig, operators):
    for operator in (bpy.ops.vivant.take_accept, bpy.ops.vivant.take_reject):
        with pytest.raises(RuntimeError, match="'rig' shows no take"):
            operator()
    fill(rig)
    bpy.data.actions.remove(takes.original_of(rig))
    with pytest.raises(VivantError, match="shows no take"):
        takes.accept(rig)


def test_every_operator_is_a_step_to_undo():
    assert all("UNDO" in cls.bl_options for cls in inbetween.CLASSES)
