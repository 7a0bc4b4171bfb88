# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys as arrays: nothing is lost on the way, and gaps are filled and emptied without a trace."""

import pathlib
import sys

import bpy
import numpy as np
import pytest

from vivant.scene import actions

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import posing


def test_the_numbers_of_blender_s_enums_are_ours():
    properties = bpy.types.Keyframe.bl_rna.properties
    kinds = {
        item.identifier: item.value
        for name in ("interpolation", "handle_left_type", "type")
        for item in properties[name].enum_items
    }
    assert [kinds[name] for name in ("CONSTANT", "LINEAR", "BEZIER")] == [actions.CONSTANT, actions.LINEAR, actions.BEZIER]
    assert (kinds["FREE"], kinds["GENERATED"]) == (actions.FREE, actions.GENERATED)
    assert set(actions.KEY.names) == {name for name in properties.keys() if name not in ("rna_type", "co_ui")}  # noqa: SIM118


def test_keys_read_and_written_are_the_same_and_play(scene):
    rig = posing.turning_rig(handles="FREE", interpolation="ELASTIC")
    curve = posing.curves(rig)[0]
    for index, point in enumerate(curve.keyframe_points):
        point.back, point.amplitude, point.period, point.easing = 0.5 + index, 2 + index, 3 + index, "EASE_IN_OUT"
        point.type, point.select_control_point = "BREAKDOWN", bool(index % 2)
    keys, values = actions.read_keys(curve), posing.motion(rig, range(40))
    actions.write_keys(curve, keys)
    assert actions.read_keys(curve).tobytes() == keys.tobytes()
    assert np.array_equal(posing.motion(rig, range(40)), values)


def test_written_keys_are_what_the_curve_evaluates_and_what_moves_the_bone(scene):
    rig = posing.armature()
    posing.key(rig, "bone", "location", (1, 2), [(0, 0, 0), (1, 1, 1)])
    action, slot = actions.animation_of(rig)
    curve = actions.curves_of(action, slot)['pose.bones["bone"].location', 1]
    values = np.random.default_rng(3).normal(size=50).astype(np.float32)
    keys = actions.read_keys(curve)[np.zeros(50, int)]
    keys["co"] = np.column_stack([np.arange(50), values]).astype(np.float32)
    actions.write_keys(curve, keys)
    assert [curve.evaluate(frame) for frame in range(50)] == values.tolist()
    for frame in (0, 17, 49):
        scene.frame_set(frame)
        assert rig.pose.bones["bone"].location.y == values[frame]


@pytest.mark.parametrize("interpolation", ["BEZIER", "LINEAR", "CONSTANT", "BOUNCE"])
@pytest.mark.parametrize("smoothing", ["NONE", "CONT_ACCEL"])
@pytest.mark.parametrize("handles", ["AUTO", "AUTO_CLAMPED", "VECTOR", "ALIGNED", "FREE"])
def test_filled_and_emptied_a_curve_is_as_before_to_the_last_bit(scene, handles, smoothing, interpolation):
    rig = posing.turning_rig(handles=handles, smoothing=smoothing, interpolation=interpolation)
    before = posing.bits(rig)
    gaps = [(5.0, 10.0), (10.0, 20.0)]
    frames = [*range(6, 10), *range(11, 20)]
    changed = [actions.fill_gaps(curve, gaps, frames, np.sin(frames)) for curve in posing.curves(rig)]
    assert [curve.evaluate(frame) for curve in posing.curves(rig) for frame in frames] == np.tile(
        np.sin(frames).astype(np.float32), len(changed)
    ).tolist()
    for curve, what in zip(posing.curves(rig), changed, strict=True):
        actions.empty_gaps(curve, actions.read_keys(curve, ["type"])["type"] == actions.GENERATED, what)
    assert posing.bits(rig) == before


def test_between_generated_frames_the_motion_is_smooth(scene):
    rig = posing.armature()
    posing.key(rig, "bone", "location", (0, 20), [(0, 0, 0), (0, 0, 0)])
    curve = posing.curves(rig)[0]
    frames = np.arange(1, 20)
    actions.fill_gaps(curve, [(0.0, 20.0)], frames, np.sin(frames / 3))
    fine = np.arange(1, 19, 0.1)
    assert np.allclose([curve.evaluate(frame) for frame in fine], np.sin(fine / 3), atol=2e-3)


def test_the_curves_of_another_slot_are_not_ours(scene):
    rig, other = posing.turning_rig(), posing.armature(name="other")
    other.animation_data_create().action = rig.animation_data.action
    other.animation_data.action_slot = rig.animation_data.action.slots.new(id_type="OBJECT", name="other")
    posing.key(other, "bone", "scale", (1, 9), [(1, 1, 1), (2, 2, 2)])
    action, slot = actions.animation_of(other)
    assert {path for path, _ in actions.curves_of(action, slot)} == {'pose.bones["bone"].scale'}
    empty = action.slots.new(id_type="OBJECT", name="empty")
    assert actions.curves_of(action, empty) == {}
