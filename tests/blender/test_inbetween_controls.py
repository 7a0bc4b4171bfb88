# SPDX-License-Identifier: GPL-3.0-or-later
"""In-betweens of whole poses written to the controls that an animator keys; the truth is what Blender itself evaluates."""

import pathlib
import sys

import bpy
import numpy as np
import pytest

from vivant.backends.motion import solve
from vivant.scene import actions, limbs, skeletons, takes
from vivant.scene.inbetween import inbetween_object

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import posing
from test_controls import apart, between, build, key_at_random, leg, pose

FRAMES = (1, 5, 9, 13, 17)


def one_leg():
    bones, constraints = leg(0, 0, "a", "hips")
    rig = build({"hips": ((0, 0, 2), (0, 0, 2.5), "")} | bones, constraints)
    rig.location, rig.rotation_euler = (3, 1, 0), (0.2, 0.4, 2.0)
    return rig, {"hips": (0.3, 0.2), "goal a": (0.4, 0.3), "aim a": (0, 0.5), "foot a": (0.3, 0)}


def handles():
    chain = {f"bone {i}": ((0, 0, i), (0, 0.1 * i, i + 1), f"bone {i - 1}" if i else "") for i in range(3)}
    controls = {f"handle {i}": ((2, 0, i), (2, 0.5, i + 0.3), "") for i in range(3)}
    rig = build(chain | controls, [(f"bone {i}", "COPY_ROTATION", {"subtarget": f"handle {i}"}) for i in range(3)])
    return rig, dict.fromkeys(controls, (0.4, 0))


def without_controls():
    rig = posing.armature(("a", "b", "c"))
    rig.pose.bones["b"].rotation_mode = "ZXY"
    rig.data.bones["c"].use_inherit_rotation = False
    rig.rotation_euler = (0.5, 0.2, 1)
    return rig, {"a": (0.5, 0.5), "b": (0.4, 0), "c": (0.4, 0.2)}


def key_straight(rig, moves, seed):
    """Random keys with straight lines between, so that what is outside of a gap does not depend on the keys inside."""
    key_at_random(rig, moves, FRAMES, seed)
    for curve in posing.curves(rig):
        for point in curve.keyframe_points:
            point.interpolation = "LINEAR"
    bpy.context.view_layer.update()


def truth_told(rig, frames):
    """The motion that the rig has now, in place of a solver's."""
    clip = skeletons.clip_of(rig, frames, limbs.pose_bones(rig))

    def ask(question):
        asked.append(question)
        assert list(question.clip.names) == list(clip.names) and len(question.clip) == len(clip)
        return clip, solve.Report("truth", 1, (), 0.0)

    asked = []
    return ask, asked


@pytest.mark.parametrize("make", [one_leg, handles, without_controls])
def test_the_pose_becomes_the_solver_s_and_every_key_of_a_control_stays(scene, make):
    rig, moves = make()
    key_straight(rig, moves, seed=1)
    bones = list(limbs.pose_bones(rig))
    truth = pose(rig, range(5, 14), bones)
    ask, asked = truth_told(rig, range(1, 18))
    between(rig, 5, 13)
    before, still = posing.bits(rig), posing.motion(rig, posing.outside(5, 13, 0, 18))
    scene.frame_set(8)
    spline = inbetween_object(rig)
    missed, _ = apart(pose(rig, range(5, 14), bones), truth)
    takes.reject(rig)
    scene.frame_set(8)

    report = inbetween_object(rig, solver="slerp", ask=ask)

    assert report.solver == "truth" and report.key_error == 0 and report.frames == spline.frames == (6, 12)
    turns, places = apart(pose(rig, range(5, 14), bones), truth)
    assert missed.max() > 5 and turns.max() < 0.5 and places.max() < 2e-3
    keys = asked[0].keys
    assert keys[:5].all() and keys[12:].all(), "all is known around the gap"
    assert not keys[5:12, [bones.index(bone) for bone in bones]].all(axis=1).any(), "and not inside"
    for curve in posing.curves(rig):
        found = actions.read_keys(curve)
        fresh = found["type"] == actions.GENERATED
        old = before[curve.data_path, curve.array_index]
        assert found["co"][~fresh].tobytes() == old["co"] and found["co"][fresh, 0].tolist() == list(range(6, 13))
    assert np.array_equal(posing.motion(rig, posing.outside(5, 13, 0, 18)), still)
    takes.reject(rig)
    assert posing.bits(rig) == before
    assert len(bpy.data.scenes) == 1 and len(bpy.data.actions) == 1


def test_a_limb_is_unknown_where_its_target_is_and_others_are_known(scene):
    rig, moves = one_leg()
    key_straight(rig, moves, seed=2)
    ask, asked = truth_told(rig, range(1, 18))
    between(rig, 5, 13)
    scene.frame_set(8)
    inbetween_object(rig, ["goal a"], solver="slerp", ask=ask)
    names, keys = list(asked[0].clip.names), asked[0].keys
    assert keys[:, names.index("hips")].all()
    assert not keys[5:12, [names.index("upper a"), names.index("lower a")]].any()


def test_controls_that_do_not_move_the_pose_get_the_spline_and_are_named(scene):
    rig, moves = one_leg()
    rig.pose.bones["lower a"].constraints[0].pole_target = None
    key_straight(rig, moves, seed=4)
    between(rig, 5, 13)
    scene.frame_set(8)
    report = inbetween_object(rig, solver="slerp")
    assert report.solver == "slerp" and report.warnings == ("The spline filled what does not move the pose: aim a.",)
    takes.reject(rig)
    scene.frame_set(8)
    report = inbetween_object(rig, ["aim a"], solver="slerp")
    assert report.solver == "spline" and "does not move the pose" in report.fallback


def test_rigify_s_controls_take_the_motion_up_in_ik_and_fk(rigify_file):
    bpy.ops.wm.open_mainfile(filepath=str(rigify_file))
    rig, scene = bpy.data.objects["human"], bpy.context.scene
    bpy.context.view_layer.objects.active = rig
    rig.pose.bones["thigh_parent.R"]["IK_FK"] = 1.0
    moves = {"torso": (0.2, 0.1), "foot_ik.L": (0.2, 0.1), "thigh_fk.R": (0.4, 0), "shin_fk.R": (0.3, 0)}
    key_straight(rig, moves, seed=3)
    bones = [f"ORG-{name}" for name in ("spine", "thigh.L", "shin.L", "foot.L", "thigh.R", "shin.R")]
    truth = pose(rig, range(5, 14), bones)
    ask, _ = truth_told(rig, range(1, 18))
    between(rig, 5, 13)
    before = posing.bits(rig)
    scene.frame_set(8)
    report = inbetween_object(rig, solver="slerp", ask=ask)
    assert report.frames == (6, 12) and report.key_error == 0 and set(posing.bits(rig)) == set(before)
    turns, places = apart(pose(rig, range(5, 14), bones), truth)
    assert turns.max() < 0.5 and places.max() < 2e-3
