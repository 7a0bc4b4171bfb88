# SPDX-License-Identifier: GPL-3.0-or-later
"""Painted contacts: kept with the action and in files, changed by range, found in motion."""

import pathlib
import sys

import bpy
import pytest

from vivant.backends.common.errors import VivantError
from vivant.operators import contacts
from vivant.scene import actions, limbs, planted, takes
from vivant.scene.inbetween import inbetween_object

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import posing
from test_retarget import small_human


@pytest.fixture
def rig(scene):
    rig = posing.armature(("a", "b"))
    for bone in ("a", "b"):
        posing.key(rig, bone, "location", (1, 10, 20, 30), [(0, 0, 0), (1, 5, 1), (2, 0, 3), (0, 1, 0)])
    scene.frame_set(15)
    return rig


@pytest.fixture
def operators(operators):
    for cls in contacts.CLASSES:
        bpy.utils.register_class(cls)
    yield
    for cls in contacts.CLASSES:
        bpy.utils.unregister_class(cls)


def painted(rig):
    return planted.contacts_of(*actions.animation_of(rig))


def test_ranges_join_where_they_overlap_and_others_stay_apart(rig):
    planted.plant(rig, ["a", "b"], 5, 9)
    planted.plant(rig, ["a"], 20, 24)
    planted.plant(rig, ["a"], 8, 12)
    planted.plant(rig, ["a"], 13, 15)
    assert painted(rig) == {"a": [(5, 12), (13, 15), (20, 24)], "b": [(5, 9)]}
    planted.plant(rig, ["a"], 1, 40)
    assert painted(rig)["a"] == [(1, 40)]


@pytest.mark.parametrize(
    ("released", "left"),
    [
        ((1, 4), [(5, 9), (12, 20)]),
        ((1, 5), [(6, 9), (12, 20)]),
        ((7, 14), [(5, 6), (15, 20)]),
        ((14, 15), [(5, 9), (12, 13), (16, 20)]),
        ((12, 40), [(5, 9)]),
        ((0, 99), []),
    ],
)
def test_releasing_takes_frames_out_of_ranges(rig, released, left):
    planted.plant(rig, ["a"], 5, 9)
    planted.plant(rig, ["a"], 12, 20)
    planted.release(rig, ["a"], *released)
    assert painted(rig) == ({"a": left} if left else {})


def test_contacts_are_the_user_s_action_s_and_its_takes_show_them(rig):
    user = rig.animation_data.action
    planted.plant(rig, ["a"], 2, 3)
    take = inbetween_object(rig).take
    planted.plant(rig, ["b"], 12, 14)
    assert painted(rig) == planted.contacts_of(take) == planted.contacts_of(user) == {"a": [(2, 3)], "b": [(12, 14)]}
    takes.accept(rig)
    assert planted.contacts_of(user) == {"a": [(2, 3)], "b": [(12, 14)]}
    inbetween_object(rig)
    planted.release(rig, ["a"], 1, 9)
    made = takes.accept_as_action(rig)
    assert planted.contacts_of(made) == planted.contacts_of(user) == {"b": [(12, 14)]}


def test_contacts_of_two_slots_are_apart(rig):
    action = rig.animation_data.action
    first, second = rig.animation_data.action_slot, action.slots.new("OBJECT", "other")
    planted.plant(rig, ["a"], 2, 3)
    rig.animation_data.action_slot = second
    planted.plant(rig, ["a"], 7, 8)
    assert planted.contacts_of(action, first) == {"a": [(2, 3)]}
    assert planted.contacts_of(action, second) == {"a": [(7, 8)]}


def test_contacts_are_saved_with_the_file(rig, tmp_path):
    planted.plant(rig, ["a"], 5, 9)
    path = str(tmp_path / "saved.blend")
    bpy.ops.wm.save_as_mainfile(filepath=path)
    bpy.ops.wm.open_mainfile(filepath=path)
    assert painted(bpy.data.objects["rig"]) == {"a": [(5, 9)]}


def test_what_cannot_be_planted_is_refused_in_a_sentence(rig):
    with pytest.raises(VivantError, match="no bone 'foot'"):
        planted.plant(rig, ["foot"], 1, 2)
    with pytest.raises(VivantError, match="Frame 2 comes before frame 5"):
        planted.release(rig, ["a"], 5, 2)
    with pytest.raises(VivantError, match="no legs"):
        planted.detect(rig, 1, 30)
    rig.animation_data_clear()
    with pytest.raises(VivantError, match="no action"):
        planted.plant(rig, ["a"], 1, 2)


def test_the_operators_take_the_selected_bones_and_the_preview_range_or_the_selected_keys(rig, operators):
    scene = bpy.context.scene
    for curve in posing.curves(rig):
        curve.keyframe_points.foreach_set("select_control_point", [0, 1, 1, 0] if '"b"' in curve.data_path else [1, 1, 1, 1])
    posing.select(rig, ["b"])
    assert bpy.ops.vivant.contact_plant() == {"FINISHED"}
    assert painted(rig) == {"b": [(10, 20)]}
    scene.use_preview_range, scene.frame_preview_start, scene.frame_preview_end = True, 12, 13
    assert bpy.ops.vivant.contact_release() == {"FINISHED"}
    assert painted(rig) == {"b": [(10, 11), (14, 20)]}
    assert bpy.ops.vivant.contact_plant(frame_start=3, frame_end=4) == {"FINISHED"}
    assert painted(rig)["b"][0] == (3, 4)
    posing.select(rig, [])
    with pytest.raises(RuntimeError, match="No bone is selected"):
        bpy.ops.vivant.contact_plant()


def test_without_a_range_the_operator_says_how_to_choose_one(rig, operators):
    for curve in posing.curves(rig):
        curve.keyframe_points.foreach_set("select_control_point", [0, 0, 1, 0])
    posing.select(rig, ["b"])
    with pytest.raises(RuntimeError, match="No range of frames"):
        bpy.ops.vivant.contact_plant()


@pytest.mark.parametrize("size", [1.0, 0.1])
def test_feet_stand_where_the_motion_lets_them_stand(scene, operators, size):
    """On the ground to frame 20, a jump, on the ground from 30 to 50, then a glide along it; after 70 another stand."""
    rig = small_human(size=size)
    scene.render.fps = 24
    frames = (1, 20, 25, 30, 50, 70, 90)
    places = [(0, 0, 0), (0, 0, 0), (0, 0.5, 0), (0, 0, 0), (0, 0, 0), (2, 0, 0), (2, 0, 0)]
    posing.key(rig, "Hips", "location", frames, [tuple(size * number for number in place) for place in places])
    scene.frame_end = 90
    assert list(planted.feet_of(rig)) == ["LeftFoot", "RightFoot"]
    assert planted.feet_of(rig)["LeftFoot"] == pytest.approx(0.87 * size)
    planted.plant(rig, ["LeftFoot"], 24, 26)
    planted.plant(rig, ["LeftFoot"], 100, 110)
    assert bpy.ops.vivant.contact_detect() == {"FINISHED"}
    found = painted(rig)
    assert found["LeftFoot"][:-1] == found["RightFoot"] and found["LeftFoot"][-1] == (100, 110)
    stands = {frame for first, last in found["RightFoot"] for frame in range(first, last + 1)}
    assert {*range(1, 20), *range(31, 50), *range(72, 91)} <= stands
    assert not {*range(23, 28), *range(56, 64)} & stands


def test_a_generated_rigify_rig_has_its_feet_found_in_the_pose(rigify_file):
    bpy.ops.wm.open_mainfile(filepath=str(rigify_file))
    rig = bpy.data.objects["human"]
    feet = planted.feet_of(rig)
    assert len(feet) == 2 and all("toe" in bone for bone in feet)
    assert all(0.7 < length < 1.1 for length in feet.values())


def test_planted_controls_stand_for_the_bones_of_the_pose_at_their_place(rigify_file):
    bpy.ops.wm.open_mainfile(filepath=str(rigify_file))
    rig = bpy.data.objects["human"]
    painted = {"foot_ik.L": [(5, 9)], "DEF-foot.L": [(1, 3)], "ORG-hand.R": [(2, 4)], "root": [(1, 2)], "gone": [(1, 2)]}
    assert planted.of_joints(rig, painted, limbs.pose_bones(rig)) == {"ORG-foot.L": [(1, 3), (5, 9)], "ORG-hand.R": [(2, 4)]}


def test_every_operator_is_a_step_to_undo():
    assert all("UNDO" in cls.bl_options for cls in contacts.CLASSES)
