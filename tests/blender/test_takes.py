# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes: accepted, rejected, made again, saved and taken out."""

import pathlib
import sys

import bpy
import numpy as np
import pytest

from vivant.backends.common.errors import VivantError
from vivant.operators import inbetween
from vivant.operators import takes as operators_of_takes
from vivant.scene import actions, generated, takes
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


def generated_frames(rig):
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
    assert generated_frames(rig) == [6, 7, 8, 9, *range(11, 20)]
    takes.remove_generated(rig)
    assert posing.bits(rig) == before
    assert not takes.fills_of(*actions.animation_of(rig))


def test_generated_keys_are_removed_by_an_operator_once_no_take_is_shown(rig, operators):
    before = posing.bits(rig)
    assert not bpy.ops.vivant.generated_remove.poll()
    fill(rig)
    assert not bpy.ops.vivant.generated_remove.poll()
    takes.accept(rig)
    assert bpy.ops.vivant.generated_remove() == {"FINISHED"}
    assert posing.bits(rig) == before and not bpy.ops.vivant.generated_remove.poll()


def test_a_second_run_adds_to_the_take_that_is_shown(rig):
    user = rig.animation_data.action
    take = fill(rig, 14)
    assert fill(rig, 7) == take
    assert generated_frames(rig) == [6, 7, 8, 9, *range(11, 20)]
    takes.reject(rig)
    assert rig.animation_data.action == user and generated_frames(rig) == []


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
    assert generated_frames(rig) == list(range(11, 20))
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
    assert generated_frames(rig) == list(range(11, 20)) and generated_frames(other) == list(range(2, 21))
    takes.remove_generated(rig)
    assert generated_frames(rig) == [] and generated_frames(other) == list(range(2, 21))


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


def test_another_take_keeps_the_earlier_ones_and_each_knows_how_it_was_made(rig, operators):
    user, before = rig.animation_data.action, posing.bits(rig)
    bpy.ops.vivant.motion_inbetween()
    first, baked = rig.animation_data.action, posing.bits(rig)
    bpy.ops.vivant.motion_inbetween(another=True, output="SPARSE")
    second, few = rig.animation_data.action, posing.bits(rig)
    assert takes.takes_of(rig) == [first, second] and takes.original_of(rig) == user
    made = [takes.made_of(take) for take in (first, second)]
    assert [one.output for one in made] == ["BAKED", "SPARSE"]
    assert made[0].bones == ["bone"] and made[0].frames == [11, 19] and made[0].solver == "spline"
    assert made[0].key_error == made[1].key_error == 0 and made[1].keys < made[0].keys
    rig.vivant_takes.shown = list(bpy.data.actions).index(first)
    assert rig.animation_data.action == first and posing.bits(rig) == baked
    rig.vivant_takes.shown = list(bpy.data.actions).index(second)
    assert posing.bits(rig) == few
    bpy.ops.vivant.take_remove()
    assert rig.animation_data.action == first and takes.takes_of(rig) == [first]
    bpy.ops.vivant.take_remove()
    assert rig.animation_data.action == user and posing.bits(rig) == before and list(bpy.data.actions) == [user]


def test_the_list_offers_only_the_object_s_own_takes(rig, operators):
    bpy.ops.vivant.motion_inbetween()
    take, user = rig.animation_data.action, takes.original_of(rig)
    rig.vivant_takes.shown = list(bpy.data.actions).index(user)
    assert rig.animation_data.action == take
    with pytest.raises(VivantError, match="is no take of"):
        takes.show(rig, user)


def test_accepting_one_of_several_takes_ends_all_of_them(rig):
    user = rig.animation_data.action
    first = fill(rig)
    inbetween_object(rig, output="SPARSE", another=True)
    takes.show(rig, first)
    shown = posing.bits(rig)
    takes.accept(rig)
    assert posing.bits(rig) == shown and list(bpy.data.actions) == [user] and not user.use_fake_user


def test_rejecting_several_takes_leaves_the_user_s_action_as_it_was(rig):
    user, before = rig.animation_data.action, posing.bits(rig)
    fill(rig)
    inbetween_object(rig, another=True)
    inbetween_object(rig, another=True)
    assert len(takes.takes_of(rig)) == 3
    takes.reject(rig)
    assert posing.bits(rig) == before and list(bpy.data.actions) == [user]
    assert not user.use_fake_user and takes.KEY not in user


def test_takes_that_are_not_shown_are_saved_with_the_file(rig, tmp_path):
    first = fill(rig).name
    second = inbetween_object(rig, another=True, output="SPARSE").take.name
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "takes.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "takes.blend"))
    rig = bpy.data.objects["rig"]
    assert [take.name for take in takes.takes_of(rig)] == [first, second]
    takes.show(rig, bpy.data.actions[first])
    assert generated_frames(rig) == list(range(11, 20))


def test_two_rigs_in_one_action_end_their_takes_apart_and_leave_its_flag(scene, rig):
    other = posing.armature(name="other")
    other.animation_data_create().action = rig.animation_data.action
    other.animation_data.action_slot = rig.animation_data.action.slots.new(id_type="OBJECT", name="other")
    posing.key(other, "bone", "location", (1, 21), [(0, 0, 0), (1, 2, 3)])
    user = rig.animation_data.action
    fill(rig)
    inbetween_object(rig, another=True)
    fill(other)
    takes.reject(rig)
    assert len(takes.takes_of(other)) == 1 and user.use_fake_user
    takes.reject(other)
    assert not user.use_fake_user and list(bpy.data.actions) == [user]


@pytest.mark.parametrize("mode", ["QUATERNION", "XYZ", "AXIS_ANGLE"])
def test_strength_goes_from_the_curves_before_to_the_take_and_beyond_as_rotation(scene, operators, mode):
    rig = posing.turning_rig(mode, angles=(0.0, 0.9, 0.3, 0.8, 1.6, 0.9))
    rig.pose.bones["bone"].location = (0, 0, 0)
    before, still = posing.motion(rig, range(10, 21)), posing.motion(rig, posing.outside(10, 20))
    scene.frame_set(14)
    frames = range(11, 20)

    def turns():
        poses = []
        for frame in frames:
            scene.frame_set(frame)
            poses.append(rig.pose.bones["bone"].matrix.to_quaternion())
        return poses

    user = turns()
    scene.frame_set(14)
    inbetween_object(rig)
    full, bits = turns(), posing.bits(rig)
    for strength in (0.5, 1.5, 0.25):
        rig.vivant_takes.strength = strength
        assert rig.vivant_takes.strength == strength
        for now, start, end in zip(turns(), user, full, strict=True):
            share, whole = (start.rotation_difference(q) for q in (now, end))
            assert share.angle == pytest.approx(strength * whole.angle, abs=1e-3)
        assert np.array_equal(posing.motion(rig, posing.outside(10, 20)), still)
    rig.vivant_takes.strength = 0
    assert np.array_equal(posing.motion(rig, range(10, 21)), before)
    rig.vivant_takes.strength = 1
    assert posing.bits(rig) == bits
    takes.accept(rig)
    takes.remove_generated(rig)
    assert np.array_equal(posing.motion(rig, posing.outside(10, 20)), still)


def test_strength_works_on_few_keys_too(rig):
    inbetween_object(rig, output="SPARSE")
    bits = posing.bits(rig)
    generated.set_strength(rig, 0.3)
    assert posing.bits(rig) != bits
    generated.set_strength(rig, 1)
    assert posing.bits(rig) == bits


def test_a_gap_that_the_user_keyed_since_keeps_its_keys_at_any_strength(rig):
    fill(rig)
    bone = rig.pose.bones["bone"]
    bone.location = (9, 8, 7)
    bone.keyframe_insert("location", frame=15)
    for curve in posing.curves(rig, f"{bone.path_from_id()}.location"):
        next(point for point in curve.keyframe_points if point.co.x == 15).type = "KEYFRAME"
    location = {channel: keys for channel, keys in posing.bits(rig).items() if "location" in channel[0]}
    rotation = {channel: keys for channel, keys in posing.bits(rig).items() if "rotation" in channel[0]}
    generated.set_strength(rig, 0.5)
    after = posing.bits(rig)
    assert all(after[channel] == keys for channel, keys in location.items())
    assert any(after[channel] != keys for channel, keys in rotation.items())


def test_strength_of_a_part_filled_anew_is_measured_from_the_user_s_curves(rig):
    before = posing.motion(rig, range(1, 31))
    fill(rig)
    fill(rig)
    generated.set_strength(rig, 0)
    assert np.array_equal(posing.motion(rig, range(1, 31)), before)


def test_a_strength_out_of_range_and_one_without_a_take_are_refused(rig):
    with pytest.raises(VivantError, match="shows no take"):
        generated.set_strength(rig, 0.5)
    fill(rig)
    for strength in (-0.1, 1.6, np.nan):
        with pytest.raises(VivantError, match=r"outside 0 to 1\.5"):
            generated.set_strength(rig, strength)


def test_only_the_chosen_bones_of_a_take_are_made_anew(scene):
    rig = posing.armature(("a", "b"))
    for bone in ("a", "b"):
        posing.key(rig, bone, "location", (1, 11, 21), [(0, 0, 0), (1, 5, 1), (2, 0, 3)])
    scene.frame_set(5)
    inbetween_object(rig)
    first = posing.bits(rig)
    report = inbetween_object(rig, ["a"], output="SPARSE")
    assert report.bones == ("a",)
    changed = {path for (path, _), keys in posing.bits(rig).items() if keys != first[path, _]}
    assert changed == {'pose.bones["a"].location'}


def test_every_operator_is_a_step_to_undo():
    every = (*inbetween.CLASSES, *operators_of_takes.CLASSES)
    assert all("UNDO" in cls.bl_options for cls in every if issubclass(cls, bpy.types.Operator))
