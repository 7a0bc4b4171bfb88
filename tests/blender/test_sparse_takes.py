# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes of few keys: as exact around the gap as baked ones, and near to them inside."""

import math
import pathlib
import sys

import bpy
import numpy as np
import pytest
from mathutils import Quaternion

from vivant.backends.common.errors import VivantError
from vivant.scene import actions, takes
from vivant.scene.inbetween import inbetween_object

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import posing

MODES = ("QUATERNION", "XYZ", "ZYX", "AXIS_ANGLE")
HANDLES = ("AUTO", "AUTO_CLAMPED", "FREE", "ALIGNED", "VECTOR")


def fresh(rig):
    """Times of the generated keys, by channel."""
    return {
        (curve.data_path, curve.array_index): [p.co.x for p in curve.keyframe_points if p.type == "GENERATED"]
        for curve in posing.curves(rig)
    }


def pose_at(rig, frame):
    bpy.context.scene.frame_set(math.floor(frame), subframe=frame % 1)
    return rig.pose.bones["bone"].matrix.copy()


def worst(rig, frames, poses):
    """Largest turn in degrees and distance in metres from poses."""
    degrees, metres = 0.0, 0.0
    for frame, wanted in zip(frames, poses, strict=True):
        off = wanted.inverted() @ pose_at(rig, frame)
        degrees = max(degrees, math.degrees(2 * math.acos(min(1, abs(off.to_quaternion().w)))))
        metres = max(metres, off.translation.length)
    return degrees, metres


@pytest.mark.parametrize("smoothing", ["NONE", "CONT_ACCEL"])
@pytest.mark.parametrize("handles", HANDLES)
@pytest.mark.parametrize("mode", MODES)
def test_keys_and_motion_outside_stay_to_the_last_bit_and_removing_leaves_no_trace(scene, mode, handles, smoothing):
    rig = posing.turning_rig(mode, handles=handles, smoothing=smoothing)
    before, still = posing.bits(rig), posing.motion(rig, posing.outside(10, 20))
    scene.frame_set(14)
    report = inbetween_object(rig, output="SPARSE")
    assert report.key_error == 0
    assert np.array_equal(posing.motion(rig, posing.outside(10, 20)), still)
    for curve in posing.curves(rig):
        keys = actions.read_keys(curve)
        users = keys[keys["type"] != actions.GENERATED]
        old = before[curve.data_path, curve.array_index]
        assert users["co"].tobytes() == old["co"] and users["type"].tobytes() == old["type"]
        curve.update()
    assert np.array_equal(posing.motion(rig, posing.outside(10, 20)), still)
    takes.accept(rig)
    assert np.array_equal(posing.motion(rig, posing.outside(10, 20)), still)
    takes.remove_generated(rig)
    assert posing.bits(rig) == before


@pytest.mark.parametrize("mode", MODES)
def test_few_keys_pose_the_bone_as_the_bake_does(scene, mode):
    rig = posing.turning_rig(mode, frames=(1, 8, 15, 60, 66, 72))
    scene.frame_set(30)
    inbetween_object(rig)
    baked, poses = fresh(rig), [pose_at(rig, frame) for frame in range(15, 61)]
    takes.reject(rig)
    scene.frame_set(30)
    report = inbetween_object(rig, output="SPARSE")
    few = fresh(rig)
    assert report.keys == sum(map(len, few.values())) <= 0.25 * sum(map(len, baked.values()))
    assert len({tuple(times) for times in few.values()}) == 1, "all channels of a bone are keyed together"
    degrees, metres = worst(rig, range(15, 61), poses)
    assert degrees <= 0.5 + 0.05 and metres <= 0.002 + 1e-5


@pytest.mark.parametrize("outputs", [("BAKED", "SPARSE"), ("SPARSE", "BAKED"), ("BAKED", "SPARSE", "BAKED")])
def test_filled_anew_in_the_other_way_it_can_still_be_taken_out_without_a_trace(scene, outputs):
    rig = posing.turning_rig()
    before, still = posing.bits(rig), posing.motion(rig, posing.outside(5, 26))
    scene.frame_set(14)
    for output in outputs:
        inbetween_object(rig, output=output)
        inbetween_object(rig, scope="RANGE", frame_range=(5, 26), output=output)
    assert np.array_equal(posing.motion(rig, posing.outside(5, 26)), still)
    takes.accept(rig)
    takes.remove_generated(rig)
    assert posing.bits(rig) == before


def test_a_range_passes_the_user_s_keys_without_a_corner(scene):
    rig = posing.turning_rig("QUATERNION")
    scene.frame_set(14)
    inbetween_object(rig, scope="RANGE", frame_range=(5, 26), output="SPARSE")
    for curve in posing.curves(rig):
        for point in curve.keyframe_points:
            if point.co.x in (10, 20):
                slopes = [(h.y - point.co.y) / (h.x - point.co.x) for h in (point.handle_left, point.handle_right)]
                assert slopes[0] == pytest.approx(slopes[1], abs=1e-4)


def test_a_take_leaves_and_meets_the_motion_outside_at_nearly_its_speed(scene):
    rig = posing.turning_rig("XYZ", handles="FREE")
    scene.frame_set(14)
    inbetween_object(rig, output="SPARSE")
    for curve in posing.curves(rig):
        for at in (10, 20):
            here = curve.evaluate(at)
            before, after = (here - curve.evaluate(at - 0.01)) / 0.01, (curve.evaluate(at + 0.01) - here) / 0.01
            assert before == pytest.approx(after, abs=0.05)


def test_a_key_of_opposite_sign_is_met_by_a_held_key(scene):
    rig = posing.armature()
    rows = [Quaternion((0, 0, 1), angle) for angle in (0, 0.5, 1.0, 1.5)]
    rows[2].negate(), rows[3].negate()
    posing.key(rig, "bone", "rotation_quaternion", (1, 11, 21, 31), [tuple(row) for row in rows], handles="VECTOR")
    scene.frame_set(14)
    inbetween_object(rig, output="SPARSE")
    rest = rig.pose.bones["bone"].bone.matrix_local.to_quaternion()
    for frame in np.arange(11, 21.01, 0.125):
        turn = rest.inverted() @ pose_at(rig, float(frame)).to_quaternion()
        assert turn.to_exponential_map().z == pytest.approx(0.5 + 0.05 * (frame - 11), abs=0.01)
    assert all(len(times) < 4 for times in fresh(rig).values())


def test_keys_between_frames_and_straight_motion_need_no_key(scene):
    rig = posing.armature()
    times = (1.5, 8.25, 15.75, 22.5)
    posing.key(rig, "bone", "location", times, [(t, 0, 0) for t in times], handles="VECTOR")
    still = posing.motion(rig, np.arange(0, 30, 0.25))
    scene.frame_set(12)
    assert inbetween_object(rig, output="SPARSE").keys == 0
    assert np.allclose(posing.motion(rig, np.arange(0, 30, 0.25)), still, atol=1e-5)


def test_the_bound_is_in_the_scene_s_metres(scene):
    rig = posing.turning_rig("XYZ", frames=(1, 8, 15, 60, 66, 72))
    scene.frame_set(30)
    fine = inbetween_object(rig, output="SPARSE").keys
    takes.reject(rig)
    rig.scale = (0.01, 0.01, 0.01)
    bpy.context.view_layer.update()
    assert inbetween_object(rig, output="SPARSE").keys < fine


def test_an_unknown_output_is_refused(scene):
    with pytest.raises(VivantError, match="no output"):
        inbetween_object(posing.turning_rig(), output="DENSE")
