# SPDX-License-Identifier: GPL-3.0-or-later
"""What is reported of a take, and takes run again: other seeds, other bones, other ranges."""

import pathlib
import sys

import bpy
import numpy as np
import pytest

from vivant.backends.motion import metrics
from vivant.scene import judged, takes
from vivant.scene.inbetween import inbetween_object

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import posing
from test_retarget import small_human


@pytest.fixture
def rig(scene):
    rig = posing.armature(("a", "b"))
    for bone in ("a", "b"):
        posing.key(rig, bone, "location", (1, 5, 10, 20, 26, 30), [(x, x * x, 1) for x in (0, 0.5, 1, 2, 1, 0.3)])
    scene.frame_set(15)
    return rig


def test_how_feet_slide_and_how_jerky_it_is_equals_what_blender_s_poses_say(scene):
    rig = small_human()
    scene.render.fps, scene.frame_end = 30, 40
    places = [(0, 0, 0), (0.1, 0, 0), (0.3, 0.02, 0), (0.4, 0, 0), (1.0, 0, 0.3), (1.1, 0, 0.3)]
    posing.key(rig, "Hips", "location", (1, 8, 14, 24, 33, 40), places)
    scene.frame_set(16)
    take = inbetween_object(rig).take
    quality = judged.judge(rig)
    assert takes.made_of(take).quality == quality and takes.made_of(take).frames == [15, 23]

    frames = range(1, 41)
    world = []
    for frame in frames:
        scene.frame_set(frame)
        own = rig.evaluated_get(bpy.context.evaluated_depsgraph_get())
        world.append([own.matrix_world @ bone.head for bone in own.pose.bones])
    world = np.array(world)[..., [0, 2, 1]] * (1, 1, -1)
    jerk = np.linalg.norm(np.diff(world, 3, axis=0), axis=-1)
    touched = np.array([any(15 <= frame <= 23 for frame in range(first, first + 4)) for first in frames[:-3]])
    assert quality.jerk == pytest.approx(jerk[touched].mean() / jerk[~touched].mean(), rel=1e-3)
    names = [bone.name for bone in rig.pose.bones]
    feet = world[:, [names.index("LeftFoot"), names.index("RightFoot")]]
    before, after = feet[:14], feet[23:]
    floor = metrics.floor_height(feet)
    gap = metrics.skating(feet[13:24], floor)
    assert quality.slide == pytest.approx(30 * gap, rel=1e-4)
    lowest, highest = sorted((metrics.skating(before, floor) * 30, metrics.skating(after, floor) * 30))
    assert lowest <= quality.slide_around <= highest


def test_what_has_no_feet_and_nothing_around_has_nothing_to_report(scene):
    rig = posing.armature(("a",))
    posing.key(rig, "a", "location", (1, 11), [(0, 0, 0), (1, 2, 3)])
    scene.frame_set(5)
    inbetween_object(rig)
    quality = judged.judge(rig)
    assert (quality.slide, quality.slide_around, quality.jerk) == (None, None, None)
    takes.reject(rig)
    assert judged.judge(rig) is None


def test_the_operator_reports_what_it_made(rig, operators):
    bpy.ops.vivant.motion_inbetween()
    made = takes.made_of(rig.animation_data.action)
    assert made.quality.jerk > 0 and made.key_error == 0 and made.fallback == ""


def test_another_take_has_the_next_seed_and_fills_the_same(rig, operators):
    posing.select(rig, ["a"])
    bpy.ops.vivant.motion_inbetween()
    first = takes.made_of(rig.animation_data.action)
    posing.select(rig, [])
    bpy.context.scene.frame_set(28)
    assert bpy.ops.vivant.take_again(another=True) == {"FINISHED"}
    second = takes.made_of(rig.animation_data.action)
    assert len(takes.takes_of(rig)) == 2
    assert (second.seed, second.frames, second.bones) == (first.seed + 1, first.frames, first.bones)
    assert (second.solver, second.frames, second.scope) == (first.solver, [11, 19], "RANGE")
    takes.show(rig, takes.takes_of(rig)[0])
    bpy.ops.vivant.take_again(another=True)
    assert takes.made_of(rig.animation_data.action).seed == 2


def test_only_the_selected_bones_are_made_anew_in_the_same_take(rig, operators):
    bpy.ops.vivant.motion_inbetween()
    take, before = rig.animation_data.action, posing.bits(rig)
    bone = rig.pose.bones["a"]
    bone.location = (7, 7, 7)
    bone.keyframe_insert("location", frame=16)
    for curve in posing.curves(rig, bone.path_from_id()):
        next(point for point in curve.keyframe_points if point.co.x == 16).type = "KEYFRAME"
    posing.select(rig, ["a"])
    assert bpy.ops.vivant.take_again() == {"FINISHED"}
    assert rig.animation_data.action == take and takes.takes_of(rig) == [take]
    after = posing.bits(rig)
    assert {path for (path, index) in after if after[path, index] != before[path, index]} == {'pose.bones["a"].location'}
    made = takes.made_of(take)
    assert (made.bones, made.scope, made.seed) == (["a"], "GAP", 1)


def test_a_preview_range_says_which_gaps_are_made_anew(rig, operators):
    scene = bpy.context.scene
    bpy.ops.vivant.motion_inbetween(scope="RANGE")
    scene.use_preview_range, scene.frame_preview_start, scene.frame_preview_end = True, 18, 27
    bpy.ops.vivant.take_again()
    assert takes.made_of(rig.animation_data.action).frames == [21, 25]


def test_stepping_goes_round_and_the_number_follows(rig, operators):
    for _ in range(3):
        bpy.ops.vivant.motion_inbetween(another=True)
    every = takes.takes_of(rig)
    assert rig.vivant_takes.number == every.index(rig.animation_data.action) + 1
    seen = []
    for _ in range(4):
        bpy.ops.vivant.take_step()
        seen.append(rig.vivant_takes.number)
    assert sorted(seen[:3]) == [1, 2, 3] and seen[3] == seen[0]
    bpy.ops.vivant.take_step(by=-1)
    assert rig.vivant_takes.number == (seen[-1] - 2) % 3 + 1
    rig.vivant_takes.number = 99
    assert rig.animation_data.action == every[2]
    rig.vivant_takes.number = -3
    assert rig.animation_data.action == every[0]
