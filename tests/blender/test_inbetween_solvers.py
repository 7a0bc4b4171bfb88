# SPDX-License-Identifier: GPL-3.0-or-later
"""In-betweens of armatures by solvers that fill whole poses: the promises of the spline, kept by every one of them."""

import dataclasses
import itertools
import pathlib
import sys

import bpy
import numpy as np
import pytest
from mathutils import Quaternion

from vivant.backends.common import rotations
from vivant.backends.common.errors import VivantError
from vivant.backends.motion import solve
from vivant.backends.motion.clip import Clip
from vivant.scene import actions, beside, inbetween, libraries, planted, takes
from vivant.scene.inbetween import inbetween_object

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import posing

SOLVERS = [name for name in ("spline", "slerp", "retrieval", "optimise") if name in solve.SOLVERS]  # need no training
BONES = ("hips", "spine", "arm.L", "hand.L")


def wave(frame, bone):
    """A motion with a way, and turns of all bones, as channels."""
    turn = Quaternion((0.6, 0.48, 0.64), 0.6 * np.sin(0.21 * frame + bone))
    return tuple(turn), (0.02 * frame, 0.1 * np.sin(0.42 * frame), 0.01 * bone)


def perform(rig, frames, shift=0, bones=BONES):
    """Key the wave on bones at frames, `shift` frames later than it was."""
    for bone in bones:
        turns, ways = zip(*(wave(frame - shift, BONES.index(bone)) for frame in frames), strict=True)
        posing.key(rig, bone, "rotation_quaternion", frames, turns, handles="VECTOR")
        if bone == "hips":
            posing.key(rig, bone, "location", frames, ways, handles="VECTOR")


def performer(end=40, bones=BONES):
    """A rig whose action `library` holds the wave, and whose own has it later, but for frames between 20 and `end`."""
    rig = posing.armature(bones)
    perform(rig, range(1, 91))
    rig.animation_data.action.name, rig.animation_data.action.use_fake_user = "library", True
    rig.animation_data.action = None
    perform(rig, [*range(8, 21), *range(end, 53)], shift=7)
    bpy.context.scene.frame_set(30)
    return rig


def datablocks():
    return {
        name: sorted(block.name for block in getattr(bpy.data, name)) for name in ("actions", "objects", "scenes", "armatures")
    }


def state(rig):
    data = rig.animation_data
    return datablocks(), data and data.action, posing.bits(rig) if data and data.action_slot else None


def check_promises(rig, before, first, last):
    """All keys of the user's as they were, all new ones inside the gaps, nothing else changed."""
    for curve in posing.curves(rig):
        keys = actions.read_keys(curve)
        fresh = keys["type"] == actions.GENERATED
        old = before[curve.data_path, curve.array_index]
        for name in set(actions.KEY.names) - {"handle_left_type", "handle_right_type", "interpolation"}:
            assert keys[name][~fresh].tobytes() == old[name], (curve.data_path, name)
        times = keys["co"][fresh, 0]
        assert np.all((times > first) & (times < last)) and np.all(np.isfinite(keys["co"]))
        if not fresh.any():
            assert posing.bits(rig)[curve.data_path, curve.array_index] == old


@pytest.mark.parametrize("solver", SOLVERS)
def test_every_solver_keeps_keys_and_all_that_is_outside_to_the_last_bit(scene, solver):
    rig = performer()
    rig.pose.bones["hand.L"].rotation_quaternion = (0, 1, 0, 0)
    rig.pose.bones["hand.L"].keyframe_insert("rotation_quaternion", frame=31)
    rig["length"] = 1.0
    rig.keyframe_insert('["length"]', frame=1)
    user = rig.animation_data.action
    before, still = posing.bits(rig), posing.motion(rig, posing.outside(20, 40, 0, 60))
    there = datablocks()
    report = inbetween_object(rig, solver=solver)
    assert report.solver == solver and report.fallback == "" and report.key_error == 0
    assert report.frames == (21, 39) and set(report.bones) == set(BONES)
    assert takes.made_of(report.take).solver == solver
    check_promises(rig, before, 20, 40)
    assert np.array_equal(posing.motion(rig, posing.outside(20, 40, 0, 60)), still)
    now = datablocks()
    now["actions"].remove(report.take.name)
    assert now == there and scene.frame_current == 30, "nothing of the sampling is left"
    takes.reject(rig)
    assert rig.animation_data.action == user and posing.bits(rig) == before


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("mode", ["QUATERNION", "XYZ", "AXIS_ANGLE"])
def test_velocities_go_on_at_both_ends(scene, solver, mode):
    rig = performer()
    if mode != "QUATERNION":
        rig.animation_data.action = None
        for bone in BONES:
            frames, index = [*range(8, 21), *range(40, 53)], BONES.index(bone)
            turns = [Quaternion(wave(frame - 7, index)[0]) for frame in frames]
            axis = Quaternion(wave(1, 0)[0]).axis  # of all
            angles = [turn.to_exponential_map().dot(axis) for turn in turns]
            rows = [turn.to_euler(mode) if mode == "XYZ" else (angle, *axis) for turn, angle in zip(turns, angles, strict=True)]
            rig.pose.bones[bone].rotation_mode = mode
            path = "rotation_euler" if mode == "XYZ" else "rotation_axis_angle"
            posing.key(rig, bone, path, frames, rows, handles="VECTOR")
    inbetween_object(rig, solver=solver)
    poses = []
    for frame in range(16, 45):
        scene.frame_set(frame)
        poses.append([bone.matrix.to_quaternion() for bone in rig.pose.bones])
    turns = np.array([[(a.inverted() @ b).angle for a, b in zip(*pair, strict=True)] for pair in itertools.pairwise(poses)])
    turns = np.minimum(turns, 2 * np.pi - turns)
    assert np.abs(np.diff(turns, axis=0)).max() < (0.3 if solver == "slerp" else 0.12)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("end", [22, 23, 141])
def test_gaps_of_one_frame_and_of_a_hundred_and_twenty_are_filled(scene, solver, end):
    rig = posing.armature(BONES)
    perform(rig, [*range(8, 21), *range(end, end + 8)])
    before = posing.bits(rig)
    scene.frame_set(20)
    report = inbetween_object(rig, solver=solver)
    assert report.frames == (21, end - 1) and report.key_error == 0
    assert report.solver == solver or report.fallback
    check_promises(rig, before, 20, end)


def misses(rig, end):
    """Mean distance from the wave in the gap: radians, and metres."""
    turns, ways = [], []
    for frame in range(21, end):
        bpy.context.scene.frame_set(frame)
        for index, name in enumerate(BONES):
            turn = Quaternion(wave(frame - 7, index)[0])
            turns.append(rig.pose.bones[name].rotation_quaternion.rotation_difference(turn).angle)
        ways.append(np.linalg.norm(np.array(rig.pose.bones["hips"].location) - wave(frame - 7, 0)[1]))
    return np.array([np.mean(turns), np.mean(ways)])


def test_retrieval_gives_back_a_motion_that_another_action_holds(scene):
    rig = performer(end=36)
    inbetween_object(rig)
    by_spline = misses(rig, 36)
    takes.reject(rig)
    inbetween_object(rig, solver="retrieval", seed=1)
    assert np.all(misses(rig, 36) < 0.02 * by_spline)


def test_a_clip_that_ends_as_it_begins_goes_round_until_it_fills_the_gap():
    frames, joints, period = 25, 3, 24
    turns = np.zeros((frames, joints, 3))
    turns[..., 0] = 0.5 * np.sin(2 * np.pi * np.arange(frames)[:, None] / period + np.arange(joints))
    turns[..., 1] = 0.002 * np.arange(frames)[:, None]  # it does not quite close
    root = np.column_stack([np.arange(frames) / period, 0.1 * turns[:, 0, 0], np.zeros(frames)])
    offsets = np.array([[0, 1.0, 0], [0, 0.5, 0], [0, 0.5, 0]])
    walk = Clip(["a", "b", "c"], np.array([-1, 0, 1]), offsets, 30.0, rotations.exp(turns), root)
    long = libraries.looped(walk, 40)
    assert len(long) >= period + 1.25 * 40 and len(long) % period == 1
    (places, turned), (first, _) = long.forward(), walk.forward()
    assert np.abs(places[:frames] - first).max() < 0.05
    for number in range(len(long) // period):
        moved = places[number * period : (number + 1) * period] - places[:period]
        assert np.allclose(moved, [number, 0, 0], atol=1e-9)
    assert np.abs(np.diff(places, axis=0)).max() < 1.5 * np.abs(np.diff(first, axis=0)).max(), "no jump between rounds"
    assert np.all(np.sum(turned[1:] * turned[:-1], axis=-1) > 0.9)
    assert libraries.looped(walk, 40) is long, "solvers remember what they made of a clip"
    assert libraries.looped(walk, 20) is walk
    half = walk.part(slice(0, 12))
    assert libraries.looped(half, 40) is half


def test_the_library_follows_the_file_s_actions(scene):
    rig = performer()
    inbetween_object(rig, solver="retrieval", seed=1)
    first = posing.bits(rig)
    takes.reject(rig)
    for curve in actions.curves_of(bpy.data.actions["library"], bpy.data.actions["library"].slots[0]).values():
        keys = actions.read_keys(curve)
        keys["co"][:, 1] *= 0.5
        actions.write_keys(curve, keys)
    inbetween_object(rig, solver="retrieval", seed=1)
    assert posing.bits(rig) != first, "an action that has changed is sampled anew"
    takes.reject(rig)
    bpy.data.actions.remove(bpy.data.actions["library"])
    inbetween_object(rig, solver="retrieval", seed=1)
    assert {name[1] for name in libraries._clips} <= {action.session_uid for action in bpy.data.actions}


def test_auto_takes_what_the_file_has_and_else_the_spline(scene):
    rig = performer()
    assert inbetween_object(rig, solver="auto").solver == "retrieval"
    takes.reject(rig)
    bpy.data.actions.remove(bpy.data.actions["library"])
    report = inbetween_object(rig, solver="auto", another=True)
    assert report.solver in ("retrieval", "spline"), "the motion around the gap is a library too"


def test_what_a_solver_cannot_do_the_spline_does_and_the_report_says_why(scene):
    rig = posing.turning_rig()
    scene.frame_set(14)
    inbetween_object(rig)
    by_spline = posing.bits(rig)
    takes.reject(rig)
    report = inbetween_object(rig, solver="retrieval")
    assert report.solver == "spline" and "library" in report.fallback
    assert posing.bits(rig) == by_spline
    assert takes.made_of(report.take).solver == "spline"


@pytest.mark.parametrize("solver", SOLVERS)
def test_only_the_chosen_bones_and_the_chosen_range_change(scene, solver):
    rig = performer()
    before = posing.bits(rig)
    report = inbetween_object(rig, ["hand.L"], "RANGE", (20, 40), solver=solver)
    assert report.bones == ("hand.L",) and report.frames == (21, 39)
    check_promises(rig, before, 20, 40)
    changed = {path for (path, _), keys in posing.bits(rig).items() if keys != before[path, _]}
    assert changed == {'pose.bones["hand.L"].rotation_quaternion'}


def test_seeds_give_other_motions_and_the_same_seed_the_same(scene):
    rig = performer()
    seen = []
    for seed in (1, 2, 1):
        inbetween_object(rig, solver="retrieval", seed=seed)
        seen.append(posing.bits(rig))
        takes.reject(rig)
    assert seen[0] == seen[2] != seen[1]


def test_solvers_get_what_the_user_painted_and_their_own_warnings_are_told(scene):
    rig = performer()
    planted.plant(rig, ["hand.L"], 5, 12)
    planted.plant(rig, ["hand.L"], 25, 30)
    asked = []

    def ask(question):
        asked.append(question)
        filled, report = inbetween.answered(question)
        return filled, dataclasses.replace(report, said=("The solver has a doubt.",), fallback="Another was busy.")

    report = inbetween_object(rig, solver="slerp", ask=ask)
    assert report.warnings == ("The solver has a doubt.",) and report.fallback == "Another was busy."
    assert takes.made_of(report.take).fallback == "Another was busy."
    if "optimise" in solve.SOLVERS:
        assert asked[0].options["contacts"] == {"hand.L": [(0, 4), (17, 22)]}, "frames count from the clip's first, 8"


def test_an_error_of_a_solver_leaves_everything_as_it_was(scene):
    rig = performer()
    before = state(rig)

    def fails(question):
        raise VivantError("The solver broke.")

    with pytest.raises(VivantError, match="solver broke"):
        inbetween_object(rig, solver="slerp", ask=fails)
    assert state(rig) == before


def test_closing_the_steps_anywhere_changes_nothing(scene):
    rig = performer()
    before = state(rig)
    wish = inbetween.Wish(None, "GAP", None, 30.0, "slerp")
    for stop in range(1, 4):
        steps = inbetween.inbetweening(rig, wish)
        for _ in range(stop):
            step = next(steps)
            if isinstance(step, inbetween.Question):
                break
        steps.close()
        assert state(rig) == before


def wait(rig):
    """Steps up to the question, and its answer."""
    steps = inbetween.inbetweening(rig, inbetween.Wish(None, "GAP", None, 30.0, "slerp"))
    question = next(step for step in steps if isinstance(step, inbetween.Question))
    return steps, inbetween.answered(question)


def test_while_it_waits_the_armature_may_be_renamed_and_the_playhead_moved(scene):
    rig = performer()
    steps, answer = wait(rig)
    rig.name = "somebody else"
    scene.frame_set(3)
    steps.send(answer)
    report = beside.at_once(steps)
    assert report.frames == (21, 39) and rig.animation_data.action == report.take


def test_what_went_while_it_waited_is_said(scene):
    rig = performer()
    steps, answer = wait(rig)
    rig.pose.bones["hips"].keyframe_insert("location", frame=30)
    before = state(rig)
    with pytest.raises(VivantError, match="Keys at the gap changed"):
        steps.send(answer)
    assert state(rig) == before
    steps, answer = wait(rig)
    bpy.data.objects.remove(rig)
    with pytest.raises(VivantError, match="'rig' was removed"):
        steps.send(answer)


def one_key(rig):
    for curve in posing.curves(rig):
        actions.write_keys(curve, actions.read_keys(curve)[:1])


def muted(rig):
    for curve in posing.curves(rig):
        curve.mute = True


def locked(rig):
    for bone in rig.pose.bones:
        bone.lock_location, bone.lock_rotation, bone.lock_rotation_w = (True,) * 3, (True,) * 3, True


def driven(rig):
    for curve in posing.curves(rig):
        rig.driver_add(curve.data_path, curve.array_index).driver.expression = "0.5"


def nan_key(rig):
    curve = posing.curves(rig)[0]
    curve.keyframe_points[12].co = (20, np.nan)


def strips_alone(rig):
    data = rig.animation_data
    action, slot = data.action, data.action_slot
    data.action = None
    data.nla_tracks.new().strips.new("s", 1, action).action_slot = slot


def noise(rig):
    for curve in posing.curves(rig):
        curve.modifiers.new("NOISE").strength = 3


def cycles(rig):
    for curve in posing.curves(rig):
        curve.modifiers.new("CYCLES")


def film_speed(rig):
    render = bpy.context.scene.render
    render.fps, render.fps_base = 24, 1.001


def between_frames(rig):
    for curve in posing.curves(rig):
        keys = actions.read_keys(curve)
        for name in ("co", "handle_left", "handle_right"):
            keys[name][:, 0] += 0.375
        actions.restore_keys(curve, keys)


def linked(rig):
    """The rig as another file has it."""
    path = pathlib.Path(bpy.app.tempdir) / "linked.blend"
    bpy.data.libraries.write(str(path), {rig, bpy.data.actions["library"]})
    bpy.data.objects.remove(rig)
    for action in list(bpy.data.actions):
        bpy.data.actions.remove(action)
    with bpy.data.libraries.load(str(path), link=True) as (source, target):
        target.objects, target.actions = source.objects, source.actions
    bpy.context.scene.collection.objects.link(target.objects[0])
    return target.objects[0]


def overridden(rig):
    rig = linked(rig).override_create(remap_local_usages=True)
    action, handle = rig.animation_data.action.copy(), rig.animation_data.action_slot.handle
    rig.animation_data_create()
    actions.assign(rig, action, handle)
    bpy.context.view_layer.update()
    return rig


def no_keys(rig):
    for curve in posing.curves(rig):
        curve.keyframe_points.clear()


def stepped(rig):
    for curve in posing.curves(rig):
        for point in curve.keyframe_points:
            point.interpolation = "CONSTANT"


def one_driven(rig):
    rig.driver_add('pose.bones["hips"].location', 0).driver.expression = "0.5"


def scaled(rig):
    posing.key(rig, "spine", "scale", (8, 20, 40, 52), [(1, 1, 1), (1, 2, 1), (2, 2, 2), (1, 1, 1)])


@pytest.mark.parametrize("solver", ["spline", "retrieval", "optimise"])
@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda rig: rig.animation_data_clear(), "has no action"),
        (no_keys, "has keys"),
        (one_key, "lies in no gap"),
        (linked, "linked from another file"),
        (overridden, None),
        (muted, "not muted"),
        (locked, "not locked"),
        (driven, "not driven"),
        (nan_key, "not a finite number"),
        (strips_alone, "NLA strips alone"),
        (noise, None),
        (cycles, None),
        (film_speed, None),
        (between_frames, None),
        (stepped, None),
        (one_driven, None),
        (scaled, None),
    ],
)
def test_bad_input_is_filled_or_refused_in_a_sentence(scene, solver, spoil, says):
    if solver not in solve.SOLVERS:
        pytest.skip(f"{solver} is not among the solvers")
    rig = performer()
    rig = spoil(rig) or rig
    before = state(rig)
    if says:
        with pytest.raises(VivantError, match=says):
            inbetween_object(rig, solver=solver)
        assert state(rig) == before
        return
    end = 40.5 if spoil is between_frames else 40
    still = posing.motion(rig, posing.outside(20, end, 8, 52)) if spoil is not noise else None
    report = inbetween_object(rig, solver=solver)
    assert report.solver == solver and report.key_error == 0
    check_promises(rig, before[2], 20, end)
    if still is not None:
        assert np.array_equal(posing.motion(rig, posing.outside(20, end, 8, 52)), still)
    new = [point.co.y for curve in posing.curves(rig) for point in curve.keyframe_points if point.type == "GENERATED"]
    assert np.abs(new).max() < 3, "what modifiers add is not in the keys"


@pytest.mark.parametrize("solver", ["retrieval", "optimise"])
@pytest.mark.parametrize("keyed", [False, True])
def test_a_still_bone_above_the_hips_changes_nothing(scene, solver, keyed):
    made = []
    for bones in (BONES, ("root", *BONES)):
        bpy.ops.wm.read_factory_settings(use_empty=True)
        rig = performer(bones=bones)
        if keyed and "root" in bones:
            posing.key(rig, "root", "location", (8, 20, 40, 52), [(0, 0, 0)] * 4)
        bpy.context.scene.frame_set(30)
        report = inbetween_object(rig, solver=solver)
        assert report.solver == solver and report.key_error == 0
        own = {(curve.data_path, curve.array_index): curve for curve in posing.curves(rig) if '"root"' not in curve.data_path}
        made.append({channel: [curve.evaluate(frame) for frame in range(20, 41)] for channel, curve in own.items()})
    assert made[0].keys() == made[1].keys()
    assert all(np.allclose(made[0][channel], made[1][channel], atol=2e-4) for channel in made[0])
