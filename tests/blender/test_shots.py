# SPDX-License-Identifier: GPL-3.0-or-later
"""Many armatures at once: those selected, of a scene, of all scenes, each by its own scene's frames."""

import pathlib
import sys

import bpy
import pytest

from vivant.operators import shots as operators_of_shots
from vivant.scene import shots, takes
from vivant.scene.inbetween import answered, inbetween_object
from vivant.scene.motions import Question

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import posing


@pytest.fixture
def operators(operators):
    for cls in operators_of_shots.CLASSES:
        bpy.utils.register_class(cls)
    yield
    for cls in operators_of_shots.CLASSES:
        bpy.utils.unregister_class(cls)


def rigs(*names):
    made = []
    for name in names:
        rig = posing.armature(("bone",), name)
        posing.key(rig, "bone", "location", posing.FRAMES, [(angle, 0, angle**2) for angle in posing.ANGLES])
        rig.select_set(True)
        made.append(rig)
    return made


def filled(rig):
    return {round(point.co.x) for curve in posing.curves(rig) for point in curve.keyframe_points if point.type == "GENERATED"}


def test_every_selected_armature_gets_the_take_it_would_get_alone(scene, operators, capsys):
    a, b, alone, other = rigs("a", "b", "alone", "other")
    alone.select_set(False)
    other.select_set(False)
    empty = posing.armature(("bone",), "empty")
    empty.select_set(True)
    assert bpy.ops.vivant.shots_inbetween(which="SELECTED") == {"FINISHED"}
    assert "Filled 2 of 3 armatures; not 'empty' ('empty' has no action)" in capsys.readouterr().out
    inbetween_object(alone, None, "RANGE")
    assert posing.bits(a) == posing.bits(b) == posing.bits(alone)
    assert all(takes.original_of(rig) for rig in (a, b)) and not takes.original_of(other)


def test_all_shots_are_filled_by_the_frames_and_the_rate_of_their_own_scene(scene, operators):
    (first,) = rigs("first")
    scene.frame_start, scene.frame_end = 1, 10
    bpy.ops.scene.new(type="EMPTY")
    later = bpy.context.scene
    later.frame_start, later.frame_end, later.render.fps = 10, 30, 60
    (second,) = rigs("second")
    bpy.context.window.scene = scene
    assert [(shot.armature, shot.scene) for shot in shots.shots_of([scene, later])] == [(first, scene), (second, later)]
    assert bpy.ops.vivant.shots_inbetween(which="FILE") == {"FINISHED"}
    assert filled(first) == {2, 3, 4, 6, 7, 8, 9}
    assert filled(second) == {*range(11, 20), *range(21, 26), *range(27, 30)}
    assert bpy.context.scene == scene
    shown = posing.bits(second)
    takes.reject(second)
    bpy.context.window.scene = later
    inbetween_object(second, None, "RANGE")
    assert posing.bits(second) == shown


def test_solvers_that_ask_for_the_pose_see_each_shot_in_its_own_scene(scene):
    (first,) = rigs("first")
    scene.frame_end = 30
    other = bpy.data.scenes.new("other")
    other.frame_start, other.frame_end, other.render.fps = 5, 26, 60
    second = first.copy()
    second.animation_data.action = first.animation_data.action.copy()
    other.collection.objects.link(second)
    done = shots.inbetween_shots(shots.shots_of([scene, other]), "slerp")
    assert [(outcome.name, outcome.report.solver) for outcome in done] == [(first.name, "slerp"), (second.name, "slerp")]
    assert filled(second) == {*range(6, 10), *range(11, 20), *range(21, 26)}
    assert bpy.context.scene == scene


def test_a_run_that_is_stopped_keeps_what_is_done_and_leaves_the_others_as_they_were(scene):
    first, second = rigs("a", "b")
    before, outcomes = posing.bits(second), []
    steps = shots.inbetweening_shots(shots.shots_of([scene]), outcomes, "slerp")
    answer = None
    while not outcomes:
        step = steps.send(answer)
        answer = answered(step) if isinstance(step, Question) else None
    steps.close()
    assert [outcome.name for outcome in outcomes] == ["a"] and filled(first)
    assert posing.bits(second) == before and not takes.original_of(second)
    assert len(bpy.data.scenes) == 1


def test_an_armature_that_was_removed_meanwhile_is_named(scene):
    first, _ = rigs("a", "b")
    outcomes = []
    steps = shots.inbetweening_shots(shots.shots_of([scene]), outcomes, "slerp")
    step = next(steps)
    while not isinstance(step, Question):
        step = next(steps)
    bpy.data.objects.remove(first)
    answer = answered(step)
    while len(outcomes) < 2:
        try:
            step = steps.send(answer)
        except StopIteration:
            break
        answer = answered(step) if isinstance(step, Question) else None
    assert [(outcome.name, outcome.reason) for outcome in outcomes] == [("a", "'a' was removed meanwhile."), ("b", "")]


def test_an_armature_of_two_scenes_is_filled_once(scene):
    (rig,) = rigs("rig")
    other = bpy.data.scenes.new("other")
    other.collection.objects.link(rig)
    assert [shot.scene for shot in shots.shots_of([scene, other])] == [scene]
    assert shots.shots_of([other]) == [shots.Shot(rig, other)]


def test_the_whole_run_is_one_step_of_undo(scene, operators):
    rigs("a", "b")
    bpy.ops.ed.undo_push(message="keyed")
    bpy.ops.vivant.shots_inbetween(which="SCENE")
    bpy.ops.ed.undo_push(message="filled")
    bpy.ops.ed.undo()
    assert all(not takes.original_of(bpy.data.objects[name]) for name in "ab")


def test_nothing_to_fill_is_said(scene, operators):
    with pytest.raises(RuntimeError, match="no armature to fill"):
        bpy.ops.vivant.shots_inbetween(which="SCENE")


def test_the_operator_is_a_step_to_undo():
    assert all("UNDO" in cls.bl_options for cls in operators_of_shots.CLASSES)
