# SPDX-License-Identifier: GPL-3.0-or-later
"""A generated key that the user changes is the user's from then on, whatever type Blender lets it keep."""

import pathlib
import sys

import bpy
import numpy as np
import pytest

from vivant.scene import actions, fills, generated, takes
from vivant.scene.inbetween import inbetween_object

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import posing

PLACE = (9.0, 8.0, 7.0)


@pytest.fixture(params=["BAKED", "SPARSE"])
def rig(scene, request):
    """A rig with a take from frame 10 to 20."""
    rig = posing.turning_rig()
    rig["output"] = request.param
    scene.frame_set(14)
    inbetween_object(rig, output=request.param)
    return rig


def again(rig, **options):
    return inbetween_object(rig, scope="RANGE", frame_range=(10, 20), output=rig["output"], **options)


def pose(rig, frame=15):
    """Set a place over the generated ones, as I in the viewport does."""
    bone = rig.pose.bones["bone"]
    bone.location = PLACE
    bone.keyframe_insert("location", frame=frame)


def place(rig, frame=15):
    return [curve.evaluate(frame) for curve in posing.curves(rig, 'pose.bones["bone"].location')]


def kinds(rig, frame=15):
    points = [p for curve in posing.curves(rig, 'pose.bones["bone"].location') for p in curve.keyframe_points]
    return {point.type for point in points if point.co.x == frame}


def test_a_pose_keyed_over_generated_frames_stays_at_any_strength_and_when_run_again(rig):
    pose(rig)
    if rig["output"] == "BAKED":
        assert kinds(rig) == {"GENERATED"}, "Blender keeps the type, which is why it does not tell whose the key is"
    for strength in (0.0, 1.5, 1.0):
        generated.set_strength(rig, strength)
        assert place(rig) == list(PLACE)
    report = again(rig)
    assert place(rig) == list(PLACE) and report.key_error == 0
    near = np.array([place(rig, frame) for frame in (14, 16)])
    assert np.abs(near - PLACE).max() < 4, "the frames around it lead there"


def test_a_pose_keyed_over_generated_frames_is_left_when_these_are_taken_out(rig, operators, tmp_path):
    pose(rig)
    takes.accept(rig)
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "rig.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "rig.blend"))
    rig = bpy.data.objects["rig"]
    before = posing.bits(rig)
    kept = takes.remove_generated(rig)
    assert kept == (3 if rig["output"] == "BAKED" else kept)
    assert place(rig) == list(PLACE)
    for curve in posing.curves(rig, 'pose.bones["bone"].location'):
        assert [point.co.x for point in curve.keyframe_points] == sorted([*posing.FRAMES, 15])
    for curve in posing.curves(rig, 'pose.bones["bone"].rotation'):
        assert len(curve.keyframe_points) == len(posing.FRAMES)
    assert posing.bits(rig) != before and not takes.has_generated(rig)


def test_nothing_but_a_change_makes_a_generated_key_the_users(rig):
    full = posing.bits(rig)
    rig.pose.bones["bone"].keyframe_insert("scale", frame=15)
    generated.set_strength(rig, 0.3)
    generated.set_strength(rig, 1.0)
    after = posing.bits(rig)
    assert all(after[channel] == keys for channel, keys in full.items())
    again(rig)
    assert all(posing.bits(rig)[channel] == keys for channel, keys in full.items())


def test_one_number_of_a_rotation_makes_its_whole_key_the_users(scene):
    rig = posing.turning_rig()
    rig["output"] = "BAKED"
    scene.frame_set(14)
    inbetween_object(rig)
    curves = posing.curves(rig, 'pose.bones["bone"].rotation')
    at = next(i for i, point in enumerate(curves[0].keyframe_points) if point.co.x == 15)
    curves[1].keyframe_points[at].co.y += 0.2
    curves[1].update()
    wanted = [curve.keyframe_points[at].co.y for curve in curves]
    again(rig)
    assert [curve.evaluate(15) for curve in posing.curves(rig, 'pose.bones["bone"].rotation')] == wanted


def test_a_handle_turned_by_hand_makes_its_key_the_users(scene):
    rig = posing.turning_rig()
    scene.frame_set(14)
    inbetween_object(rig, output="SPARSE")
    curve = next(c for c in posing.curves(rig) if any(p.type == "GENERATED" for p in c.keyframe_points))
    key = next(point for point in curve.keyframe_points if point.type == "GENERATED")
    key.handle_right.y += 0.5
    curve.update()
    bits = posing.bits(rig)
    generated.set_strength(rig, 0.5)
    name = curve.data_path, curve.array_index
    assert posing.bits(rig)[name] == bits[name]


def test_a_key_set_between_few_leaves_the_ones_beside_it_generated(scene):
    rig = posing.turning_rig(frames=(1, 5, 10, 40, 46, 50))
    scene.frame_set(14)
    inbetween_object(rig, output="SPARSE")
    curve = posing.curves(rig, 'pose.bones["bone"].location')[0]
    times = [point.co.x for point in curve.keyframe_points if point.type == "GENERATED"]
    assert times, "the motion needs keys"
    between = round((times[0] + 10) / 2)
    rig.pose.bones["bone"].location = PLACE
    rig.pose.bones["bone"].keyframe_insert("location", frame=between)
    take, slot = actions.animation_of(rig)
    curve = posing.curves(rig, 'pose.bones["bone"].location')[0]
    keys = actions.read_keys(curve, ["type", *fills.RECORD])
    fill = takes.fills_of(take, slot)[takes.curve_name(curve)]
    assert keys["co"][fills.generated(keys, fill), 0].tolist() == times


def test_a_generated_key_that_was_deleted_does_not_come_back_with_the_strength(scene):
    rig = posing.turning_rig()
    scene.frame_set(14)
    inbetween_object(rig)
    curve = posing.curves(rig, 'pose.bones["bone"].location')[0]
    gone = next(point for point in curve.keyframe_points if point.co.x == 14)
    curve.keyframe_points.remove(gone)
    generated.set_strength(rig, 0.5)
    curve = posing.curves(rig, 'pose.bones["bone"].location')[0]
    assert 14 not in {point.co.x for point in curve.keyframe_points}
