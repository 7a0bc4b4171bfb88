# SPDX-License-Identifier: GPL-3.0-or-later
"""In-betweens on small rigs: what must change, and what must not."""

import math
import pathlib
import sys

import bpy
import numpy as np
import pytest
from mathutils import Quaternion

from vivant.backends.common.errors import VivantError
from vivant.scene import actions
from vivant.scene.inbetween import inbetween_object

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import posing

MODES = ("QUATERNION", "XYZ", "ZYX", "AXIS_ANGLE")
HANDLES = ("AUTO", "AUTO_CLAMPED", "FREE", "ALIGNED", "VECTOR")


def pose_at(rig, frame):
    whole = math.floor(frame)
    bpy.context.scene.frame_set(whole, subframe=frame - whole)
    return np.array(rig.pose.bones["bone"].matrix)


def rotation_at(rig, frame):
    pose_at(rig, frame)
    return rig.pose.bones["bone"].matrix.to_quaternion()


@pytest.mark.parametrize("smoothing", ["NONE", "CONT_ACCEL"])
@pytest.mark.parametrize("handles", HANDLES)
@pytest.mark.parametrize("mode", MODES)
def test_keys_and_motion_outside_the_gap_stay_to_the_last_bit(scene, mode, handles, smoothing):
    rig = posing.turning_rig(mode, handles=handles, smoothing=smoothing)
    user = rig.animation_data.action
    before, still = posing.bits(rig), posing.motion(rig, posing.outside(10, 20))
    matrices = [pose_at(rig, frame) for frame in posing.FRAMES]
    scene.frame_set(14)

    report = inbetween_object(rig)

    assert rig.animation_data.action == report.take != user
    assert np.array_equal(posing.motion(rig, posing.outside(10, 20)), still)
    for frame, matrix in zip(posing.FRAMES, matrices, strict=True):
        assert np.array_equal(pose_at(rig, frame), matrix)
    for curve in posing.curves(rig):
        keys = actions.read_keys(curve)
        fresh = keys["type"] == actions.GENERATED
        assert keys["co"][fresh, 0].tolist() == list(range(11, 20))
        old = before[curve.data_path, curve.array_index]
        for name in set(actions.KEY.names) - {"handle_left_type", "handle_right_type", "interpolation"}:
            assert keys[name][~fresh].tobytes() == old[name], name
        # Stays so when Blender recomputes all handles, as it does whenever the user edits the curve.
        curve.update()
    assert np.array_equal(posing.motion(rig, posing.outside(10, 20)), still)
    rig.animation_data.action = user
    assert posing.bits(rig) == before


@pytest.mark.parametrize("mode", MODES)
def test_a_steady_turn_about_one_axis_goes_on_steadily(scene, mode):
    rig = posing.turning_rig(mode, (1, 21), (0.2, 1.4))
    scene.frame_set(14)
    inbetween_object(rig)
    rest = rig.pose.bones["bone"].bone.matrix_local.to_quaternion()
    for frame in range(1, 22):
        turn = rest.inverted() @ rotation_at(rig, frame)
        assert np.allclose(turn.to_exponential_map(), (0.2 + 0.06 * (frame - 1)) * np.array((0.36, 0.48, 0.8)), atol=1e-5)


@pytest.mark.parametrize("mode", ["QUATERNION", "AXIS_ANGLE"])
def test_the_fill_leaves_and_arrives_at_the_speed_of_the_motion_outside(scene, mode):
    rig = posing.turning_rig(mode, angles=(0.0, 0.4, 0.5, 2.0, 2.6, 2.7), handles="VECTOR")
    scene.frame_set(14)
    inbetween_object(rig)
    angles = np.array([rotation_at(rig, frame).angle for frame in range(8, 23)])
    steps = np.diff(angles)
    assert np.all(np.abs(np.diff(steps)) < 0.05), "no jolt at the keys, frames 10 and 20"


def test_generated_values_are_the_solver_s_and_move_the_bone(scene):
    rig = posing.armature()
    posing.key(rig, "bone", "location", (0, 10, 20, 30), [(t**3 * 1e-3, 2 * t, 5) for t in (0, 10, 20, 30)], handles="VECTOR")
    scene.frame_set(12)
    take = inbetween_object(rig).take
    assert rig.animation_data.action_slot is not None and rig.animation_data.action == take
    y = next(curve for curve in posing.curves(rig) if curve.array_index == 1)
    assert np.allclose([y.evaluate(t) for t in np.arange(0, 30, 0.5)], 2 * np.arange(0, 30, 0.5), atol=1e-5)
    for frame in range(10, 21):
        scene.frame_set(frame)
        got = rig.pose.bones["bone"].location
        assert got[1] == pytest.approx(2 * frame, abs=1e-5) and got[2] == 5


@pytest.mark.parametrize("mode", MODES)
def test_neighbouring_quaternions_and_angles_never_jump(scene, mode):
    rig = posing.turning_rig(mode, angles=(0.0, 2.9, 3.3, 4.4, 4.9, 6.0))
    scene.frame_set(12)
    inbetween_object(rig)
    rotation = [curve for curve in posing.curves(rig) if "rotation" in curve.data_path]
    rows = np.array([[curve.evaluate(frame) for curve in rotation] for frame in range(10, 21)])
    assert np.all(np.abs(np.diff(rows, axis=0)).max(axis=1) < (0.6 if mode in ("XYZ", "ZYX") else 0.2))
    if mode == "QUATERNION":
        assert np.all(np.sum(rows[1:] * rows[:-1], axis=1) > 0)


def test_a_key_of_opposite_sign_keeps_the_motion_whole_between_frames_and_warns(scene):
    rig = posing.armature()
    rows = [Quaternion((0, 0, 1), angle) for angle in (0, 0.5, 1.0, 1.5)]
    rows[2].negate(), rows[3].negate()
    posing.key(rig, "bone", "rotation_quaternion", (1, 11, 21, 31), [tuple(row) for row in rows], handles="VECTOR")
    scene.frame_set(14)
    report = inbetween_object(rig)
    assert any("sign" in warning and "bone" in warning for warning in report.warnings)
    rest = rig.pose.bones["bone"].bone.matrix_local.to_quaternion()
    for frame in np.arange(11, 21.01, 0.125):
        turn = rest.inverted() @ rotation_at(rig, float(frame))
        assert turn.to_exponential_map().z == pytest.approx(0.5 + 0.05 * (frame - 11), abs=0.01)


def test_euler_keys_that_spin_several_turns_keep_spinning(scene):
    rig = posing.armature()
    rig.pose.bones["bone"].rotation_mode = "XYZ"
    posing.key(rig, "bone", "rotation_euler", (1, 21), [(0, 0, 0), (0, 0, 4 * math.pi)])
    scene.frame_set(5)
    report = inbetween_object(rig)
    z = next(curve for curve in posing.curves(rig) if curve.array_index == 2)
    values = [z.evaluate(frame) for frame in range(1, 22)]
    assert np.allclose(np.diff(values), 4 * math.pi / 20, atol=1e-5)
    assert any("one by one" in warning for warning in report.warnings)


def test_stepped_keys_become_a_spline_through_the_poses_and_hold_where_they_held(scene):
    rig = posing.armature()
    posing.key(rig, "bone", "location", (1, 11, 21, 31), [(0, 0, 0), (1, 3, 0), (2, 3, 0), (3, 9, 0)], interpolation="CONSTANT")
    scene.frame_set(15)
    inbetween_object(rig)
    x, y, _ = posing.curves(rig)
    assert np.allclose([x.evaluate(frame) for frame in range(11, 22)], 1 + np.arange(11) / 10, atol=1e-5)
    assert [y.evaluate(frame) for frame in range(11, 22)] == [3.0] * 11
    assert x.evaluate(10) == 0 and x.evaluate(30) == 2


def test_partial_keys_split_only_their_own_channel(scene):
    rig = posing.armature(("a", "b"))
    for bone in ("a", "b"):
        posing.key(rig, bone, "location", (1, 21), [(0, 0, 0), (1, 1, 1)])
    rig.pose.bones["b"].location.z = 7
    rig.pose.bones["b"].keyframe_insert("location", index=2, frame=11)
    scene.frame_set(5)
    inbetween_object(rig)
    filled = {
        (curve.data_path[12], curve.array_index): [p.co.x for p in curve.keyframe_points if p.type == "GENERATED"]
        for curve in posing.curves(rig)
    }
    assert filled.pop(("b", 2)) == list(range(2, 11))
    assert len(filled) == 5 and all(frames == list(range(2, 21)) for frames in filled.values())


def test_only_chosen_bones_get_keys_and_the_operator_takes_the_selection(scene, operators):
    rig = posing.armature(("a", "b", "c"))
    for bone in ("a", "b"):
        posing.key(rig, bone, "location", (1, 11), [(0, 0, 0), (1, 1, 1)])
    posing.select(rig, ("b", "c"))
    before = posing.bits(rig)
    scene.frame_set(5)
    assert bpy.ops.vivant.motion_inbetween() == {"FINISHED"}
    after = posing.bits(rig)
    assert {path for (path, _), keys in after.items() if keys != before[path, _]} == {'pose.bones["b"].location'}


@pytest.mark.parametrize("now", [10, 14, 19.5])
def test_the_gap_at_the_playhead_includes_its_first_key(scene, now):
    rig = posing.turning_rig()
    scene.frame_set(math.floor(now), subframe=now % 1)
    assert inbetween_object(rig).frames == (11, 19)


def test_on_the_very_last_key_the_gap_before_it_is_filled(scene):
    rig = posing.turning_rig()
    scene.frame_set(30)
    assert inbetween_object(rig).frames == (27, 29)


def test_a_range_fills_every_gap_whose_keys_it_holds(scene, operators):
    rig = posing.turning_rig()
    bpy.ops.vivant.motion_inbetween(scope="RANGE", frame_start=5, frame_end=28)
    for curve in posing.curves(rig):
        frames = [p.co.x for p in curve.keyframe_points if p.type == "GENERATED"]
        assert frames == [6, 7, 8, 9, *range(11, 20), *range(21, 26)]
    scene.frame_end = 20
    assert inbetween_object(rig, scope="RANGE").frames == (2, 19)


def test_keys_between_frames_leave_whole_frames_to_fill_and_stay(scene):
    rig = posing.armature()
    posing.key(
        rig, "bone", "location", (1.5, 8.25, 15.75, 22.5), [(t, 0, 0) for t in (1.5, 8.25, 15.75, 22.5)], handles="VECTOR"
    )
    scene.frame_set(12)
    inbetween_object(rig)
    x = posing.curves(rig)[0]
    assert [p.co.x for p in x.keyframe_points if p.type == "GENERATED"] == list(range(9, 16))
    assert np.allclose([x.evaluate(t) for t in np.arange(1.5, 22.5, 0.25)], np.arange(1.5, 22.5, 0.25), atol=1e-5)


def test_keys_closer_than_two_frames_are_no_gap(scene):
    rig = posing.armature()
    posing.key(rig, "bone", "location", np.arange(1, 12, 1.25), [(t, 0, 0) for t in np.arange(1, 12, 1.25)])
    with pytest.raises(VivantError, match="at least two frames apart"):
        inbetween_object(rig, scope="RANGE")


def test_a_modifier_on_a_curve_is_not_baked_into_the_keys(scene):
    rig = posing.armature()
    posing.key(rig, "bone", "location", (1, 11, 21, 31), [(t, 0, 0) for t in (1, 11, 21, 31)])
    noise = posing.curves(rig)[0].modifiers.new("NOISE")
    noise.strength = 50
    scene.frame_set(15)
    inbetween_object(rig)
    x = posing.curves(rig)[0]
    assert len(x.modifiers) == 1
    assert np.allclose([p.co.y for p in x.keyframe_points if p.type == "GENERATED"], range(12, 21), atol=1e-5)


def test_locked_and_muted_channels_are_left_alone_and_named(scene):
    rig = posing.armature(("a", "b", "c", "d"))
    for bone in "abcd":
        posing.key(rig, bone, "location", (1, 11), [(0, 0, 0), (1, 1, 1)])
    rig.pose.bones["a"].lock_location[1] = True
    posing.curves(rig, 'pose.bones["b"]')[0].lock = True
    for curve in posing.curves(rig, 'pose.bones["c"]'):
        curve.mute = True
    before = posing.bits(rig)
    scene.frame_set(5)
    report = inbetween_object(rig)
    untouched = {channel for channel, keys in posing.bits(rig).items() if keys == before[channel]}
    assert untouched == {
        ('pose.bones["a"].location', 1),
        ('pose.bones["b"].location', 0),
        *(('pose.bones["c"].location', index) for index in range(3)),
    }
    assert any("locked" in w and "a, b" in w for w in report.warnings) and any(
        "muted" in w and "c" in w for w in report.warnings
    )


def test_a_rotation_curve_of_another_mode_is_not_touched(scene):
    rig = posing.turning_rig("QUATERNION")
    rig.pose.bones["bone"].rotation_mode = "XYZ"
    scene.frame_set(14)
    inbetween_object(rig)
    assert all(
        p.type != "GENERATED" for curve in posing.curves(rig) if "quaternion" in curve.data_path for p in curve.keyframe_points
    )


def test_curve_settings_groups_and_other_slots_survive(scene):
    rig, other = posing.turning_rig(), posing.armature(name="other")
    posing.key(other, "bone", "location", (1, 11), [(0, 0, 0), (1, 1, 1)])
    action = rig.animation_data.action
    slot = action.slots.new(id_type="OBJECT", name="other")
    other.animation_data.action = action
    other.animation_data.action_slot = slot
    posing.key(other, "bone", "location", (1, 11), [(0, 0, 0), (1, 1, 1)])
    for curve in posing.curves(rig):
        curve.extrapolation, curve.color_mode = "LINEAR", "CUSTOM"
    others, still = posing.bits(other), posing.motion(rig, posing.outside(10, 20))
    scene.frame_set(14)
    take = inbetween_object(rig).take
    assert posing.bits(other) == others and other.animation_data.action == action
    for curve in posing.curves(rig):
        assert (curve.extrapolation, curve.color_mode, curve.group.name) == ("LINEAR", "CUSTOM", "bone")
    assert np.array_equal(posing.motion(rig, posing.outside(10, 20)), still)
    other.animation_data.action = take
    other.animation_data.action_slot = next(s for s in take.slots if s.handle == slot.handle)
    assert posing.bits(other) == others


@pytest.mark.parametrize("interpolation", ["BEZIER", "LINEAR", "SINE"])
@pytest.mark.parametrize("frames", [(10, 20), (10, 20, 30), (0, 10, 20)])
def test_straight_extrapolation_stays_where_the_gap_ends_a_curve(scene, frames, interpolation):
    rig = posing.armature()
    posing.key(rig, "bone", "location", frames, [(t, t * t / 10, 0) for t in frames], interpolation=interpolation)
    for curve in posing.curves(rig):
        curve.extrapolation = "LINEAR"
    still = posing.motion(rig, posing.outside(10, 20))
    scene.frame_set(14)
    inbetween_object(rig)
    assert np.allclose(posing.motion(rig, posing.outside(10, 20)), still, atol=2e-5)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda rig: rig.animation_data_clear(), "has no action"),
        (lambda rig: setattr(rig.animation_data, "action_slot", None), "uses no slot"),
        (
            lambda rig: [rig.animation_data.action.layers[0].strips[0].channelbags[0].fcurves.clear()],
            "No bone of 'rig' has keys",
        ),
        (lambda rig: setattr(posing.curves(rig)[0].keyframe_points[2], "co", (10, math.nan)), "not a finite number"),
        (lambda rig: bpy.context.scene.frame_set(99), "Frame 99 lies in no gap"),
        (lambda rig: [setattr(curve, "lock", True) for curve in posing.curves(rig)], "has keys that are not locked"),
    ],
)
def test_what_cannot_be_filled_is_said_in_a_sentence_and_changes_nothing(scene, operators, spoil, says):
    rig = posing.turning_rig()
    scene.frame_set(14)
    spoil(rig)

    def state():
        data = rig.animation_data
        return len(bpy.data.actions), data and data.action, posing.bits(rig) if data and data.action_slot else None

    before = state()
    with pytest.raises(RuntimeError, match=says):
        bpy.ops.vivant.motion_inbetween()
    assert state() == before


def test_bones_without_keys_unknown_names_and_no_armature_are_said(scene, operators):
    with pytest.raises(RuntimeError, match="No armature is active"):
        bpy.ops.vivant.motion_inbetween()
    rig = posing.armature(("a", "b"))
    posing.key(rig, "a", "location", (1, 11), [(0, 0, 0), (1, 1, 1)])
    with pytest.raises(VivantError, match="None of the chosen bones"):
        inbetween_object(rig, ["b"])
    with pytest.raises(VivantError, match="no bone 'z'"):
        inbetween_object(rig, ["z"])
    with pytest.raises(VivantError, match="no in-between solver"):
        inbetween_object(rig, solver="magic")
    with pytest.raises(VivantError, match="no scope"):
        inbetween_object(rig, scope="ALL")


def test_a_linked_armature_is_refused_and_an_override_of_it_filled(scene, tmp_path):
    rig = posing.turning_rig()
    bpy.data.libraries.write(str(tmp_path / "rig.blend"), {rig})
    for act in list(bpy.data.actions):
        bpy.data.actions.remove(act)
    bpy.data.objects.remove(rig)
    with bpy.data.libraries.load(str(tmp_path / "rig.blend"), link=True) as (source, target):
        target.objects = source.objects
    linked = target.objects[0]
    scene.collection.objects.link(linked)
    scene.frame_set(14)
    with pytest.raises(VivantError, match="linked from another file"):
        inbetween_object(linked)
    override = linked.override_create(remap_local_usages=True)
    with pytest.raises(VivantError, match="action 'rigAction' is linked"):
        inbetween_object(override)
    action = override.animation_data.action.copy()
    handle = override.animation_data.action_slot.handle
    override.animation_data_create()
    actions.assign(override, action, handle)
    report = inbetween_object(override)
    assert override.animation_data.action == report.take and report.frames == (11, 19)


def test_tweak_mode_is_refused(scene):
    rig = posing.turning_rig()
    data = rig.animation_data
    action, slot = data.action, data.action_slot
    data.action = None
    strip = data.nla_tracks.new().strips.new("s", 1, action)
    strip.action_slot = slot
    data.nla_tracks[0].select = strip.select = True
    data.nla_tracks.active = data.nla_tracks[0]
    data.use_tweak_mode = True
    assert data.use_tweak_mode
    with pytest.raises(VivantError, match="tweak mode"):
        inbetween_object(rig)


def test_a_new_armature_whose_pose_blender_has_not_built_is_no_crash(scene):
    rig = posing.turning_rig()
    twin = bpy.data.objects.new("twin", rig.data)
    scene.collection.objects.link(twin)
    twin.animation_data_create()
    assert twin.pose is None
    with pytest.raises(VivantError, match="'twin' has no action"):
        inbetween_object(twin)
    actions.assign(twin, rig.animation_data.action, rig.animation_data.action_slot.handle)
    scene.frame_set(14)
    assert inbetween_object(twin).bones == ("bone",)
    lost = bpy.data.objects.new("lost", rig.data)
    with pytest.raises(VivantError, match="in no view layer"):
        inbetween_object(lost)


def test_the_result_is_the_same_each_time_and_shows_at_once(scene):
    rig = posing.turning_rig()
    scene.frame_set(14)
    before = np.array(rig.pose.bones["bone"].matrix)
    inbetween_object(rig)
    bpy.context.view_layer.update()
    shown = np.array(rig.pose.bones["bone"].matrix)
    assert not np.array_equal(shown, before)
    first = posing.bits(rig)
    inbetween_object(rig)
    assert posing.bits(rig) == first
