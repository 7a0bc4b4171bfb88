# SPDX-License-Identifier: GPL-3.0-or-later
"""Poses written back to the controls that an animator keys; the truth is always Blender's own evaluated pose."""

import itertools
import pathlib
import sys

import bpy
import numpy as np
import pytest
from mathutils import Quaternion

from vivant.backends.common.errors import VivantError
from vivant.scene import actions, beside, controls, limbs, skeletons

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import posing

CONTROLS = ("goal", "aim", "handle", "body")  # deform nothing
TURN, PLACE = 0.5, 1e-3  # degrees, metres: the bars for control rigs
SIDES = "LR"


def pose(rig, frames, bones):
    """Blender's world matrices (F, B, 4, 4)."""
    found = []
    for frame in frames:
        bpy.context.scene.frame_set(frame)
        found.append([np.array(rig.matrix_world @ rig.pose.bones[bone].matrix) for bone in bones])
    return np.array(found)


def apart(a, b):
    """Degrees and metres (F, B) between matrices."""
    turns = [m[..., :3, :3] / np.linalg.norm(m[..., :3, :3], axis=-2, keepdims=True) for m in (a, b)]
    relative = np.einsum("...ji,...jk->...ik", *turns)
    sine = np.stack([relative[..., i, j] - relative[..., j, i] for i, j in ((2, 1), (0, 2), (1, 0))], -1)
    angles = np.arctan2(np.linalg.norm(sine, axis=-1), np.trace(relative, axis1=-2, axis2=-1) - 1)
    return np.degrees(angles), np.linalg.norm(a[..., :3, 3] - b[..., :3, 3], axis=-1)


def key_at_random(rig, moves, frames, seed):
    """Key controls (name -> turn in radians, travel in metres), each channel that is not locked."""
    rng = np.random.default_rng(seed)
    for frame in frames:
        for name, (turn, travel) in moves.items():
            bone = rig.pose.bones[name]
            if turn:
                quat = Quaternion(rng.normal(size=3), rng.uniform(-turn, turn))
                if bone.rotation_mode == "QUATERNION":
                    bone.rotation_quaternion = quat
                    bone.keyframe_insert("rotation_quaternion", frame=frame)
                else:
                    angles = quat.to_euler(bone.rotation_mode)
                    bone.rotation_euler = [0 if lock else a for lock, a in zip(bone.lock_rotation, angles, strict=True)]
                    bone.keyframe_insert("rotation_euler", frame=frame)
            if travel:
                bone.location = rng.normal(size=3) * travel
                bone.keyframe_insert("location", frame=frame)
    bpy.context.view_layer.update()


def curves(rig):
    return actions.curves_of(rig.animation_data.action, rig.animation_data.action_slot)


def between(rig, start, end):
    """Remove all keys strictly between two frames, but those of switches."""
    for curve in (curve for (path, _), curve in curves(rig).items() if not path.endswith("influence")):
        keys = actions.read_keys(curve)
        actions.write_keys(curve, keys[~actions.inside(keys["co"][:, 0], [(start, end)])])


def write(rig, frames, bases):
    """Key bases on the channels that have curves."""
    for name, matrices in bases.items():
        bone = rig.pose.bones[name]
        for path, columns in beside.channels(bone, matrices).items():
            for index, column in enumerate(columns.T):
                curve = curves(rig).get((f"{bone.path_from_id()}.{path}", index))
                if curve is None:
                    continue
                keys = actions.read_keys(curve)
                keys = keys[~np.isin(keys["co"][:, 0], np.float32(frames))]
                new = np.zeros(len(frames), actions.KEY)
                new["co"], new["interpolation"] = np.column_stack([frames, column]), actions.LINEAR
                keys = np.concatenate([keys, new])
                actions.write_keys(curve, keys[np.argsort(keys["co"][:, 0])])


def round_trip(rig, keyed, start, end, bones=None):
    """A motion of keyed controls is forgotten between two frames, and written back from the pose alone.

    Returns degrees and metres (F, B) by which the pose misses the truth, and what it missed before.
    """
    frames = list(range(start, end + 1))
    hierarchy = limbs.pose_bones(rig)
    bones = list(bones or hierarchy)
    truth = pose(rig, frames, bones)
    after = skeletons.clip_of(rig, frames, hierarchy)
    between(rig, start, end)
    spline = pose(rig, frames, bones)
    before = skeletons.clip_of(rig, frames, hierarchy)
    state = posing.bits(rig), bpy.context.scene.frame_current
    bases = controls.bases(rig, before, after, frames, keyed)
    assert (posing.bits(rig), bpy.context.scene.frame_current) == state, "the armature is not touched"
    assert len(bpy.data.scenes) == 1 and len([thing for thing in bpy.data.objects if thing.type == "ARMATURE"]) <= 2
    kept = [np.array(rig.pose.bones[bone].matrix_basis) for bone in bases for _ in [bpy.context.scene.frame_set(start)]]
    assert all(np.allclose(found[0], basis, atol=1e-6) for found, basis in zip(bases.values(), kept, strict=True))
    write(rig, frames, bases)
    return apart(pose(rig, frames, bones), truth), apart(spline, truth)


@pytest.fixture
def human(rigify_file):
    bpy.ops.wm.open_mainfile(filepath=str(rigify_file))
    bpy.data.objects.remove(bpy.data.objects["metarig"])
    rig = bpy.data.objects["human"]
    bpy.context.view_layer.objects.active = rig
    return rig


def build(bones, constraints=()):
    """An armature of bones (name -> head, tail, parent) with constraints (owner, type, settings); controls deform nothing."""
    rig = posing.armature(("root",))
    bpy.ops.object.mode_set(mode="EDIT")
    rig.data.edit_bones.remove(rig.data.edit_bones["root"])
    for name, (head, tail, parent) in bones.items():
        bone = rig.data.edit_bones.new(name)
        bone.head, bone.tail, bone.parent = head, tail, rig.data.edit_bones.get(parent)
        bone.use_deform = not name.startswith(CONTROLS)
        bone.use_connect = bool(parent) and bone.parent.tail == bone.head and "foot" not in name
    bpy.ops.object.mode_set(mode="OBJECT")
    for owner, kind, settings in constraints:
        made = rig.pose.bones[owner].constraints.new(kind)
        if hasattr(made, "target"):
            made.target = rig
        if "pole_subtarget" in settings:
            made.pole_target = rig
        for name, value in settings.items():
            setattr(made, name, value)
    bpy.context.view_layer.update()
    return rig


def leg(x, y, name, parent):
    """A leg that bends, its IK target and its pole."""
    bones = {
        f"upper {name}": ((x, y, 2), (x, y - 0.2, 1), parent),
        f"lower {name}": ((x, y - 0.2, 1), (x, y, 0.1), f"upper {name}"),
        f"foot {name}": ((x, y, 0.1), (x, y - 0.4, 0), f"lower {name}"),
        f"goal {name}": ((x, y, 0.1), (x, y + 0.3, 0.1), ""),
        f"aim {name}": ((x, y - 2, 1), (x, y - 2.3, 1), ""),
    }
    follow = {"subtarget": f"goal {name}", "chain_count": 2, "pole_subtarget": f"aim {name}", "pole_angle": -np.pi / 2}
    return bones, [(f"lower {name}", "IK", follow)]


@pytest.mark.parametrize("copies", ["", "WORLD", "LOCAL"])
def test_a_leg_made_by_hand_gets_its_target_and_pole_whatever_its_bones_are_called(scene, copies):
    bones, constraints = leg(0, 0, "a", "hips")
    if copies:
        spaces = {"subtarget": "goal a", "target_space": copies, "owner_space": copies}
        constraints.append(("foot a", "COPY_ROTATION", spaces))
    rig = build({"hips": ((0, 0, 2), (0, 0, 2.5), "")} | bones, constraints)
    rig.location, rig.rotation_euler, rig.scale = (3, 1, 0), (0.2, 0.4, 2.0), (0.5,) * 3
    moves = {"hips": (0.3, 0.2), "goal a": (0.4, 0.3), "aim a": (0, 0.5)} | ({} if copies else {"foot a": (0.3, 0)})
    steers = {"hips": "hips", "goal a": "foot a" if copies else "lower a", "aim a": "upper a"}
    assert controls.driven(rig, moves) == steers | ({} if copies else {"foot a": "foot a"})
    key_at_random(rig, moves, (1, 5, 9, 13, 17), seed=1)
    (turns, places), (off, _) = round_trip(rig, moves, 5, 13)
    assert off.max() > 20
    assert turns.max() < TURN / 10 and places.max() < PLACE / 2


def test_a_quadruped_on_four_ik_legs_keeps_every_knee(scene):
    bones, constraints = {"hips": ((0, 2, 2), (0, 1, 2), ""), "chest": ((0, 1, 2), (0, 0, 2), "hips")}, []
    bones |= {"body": ((0, 2, 2.5), (0, 1, 2.5), "")}
    constraints.append(
        ("hips", "COPY_TRANSFORMS", {"subtarget": "body", "target_space": "LOCAL_OWNER_ORIENT", "owner_space": "LOCAL"})
    )
    for name, x, y, parent in (("1", 0.5, 2, "hips"), ("2", -0.5, 2, "hips"), ("3", 0.5, 0, "chest"), ("4", -0.5, 0, "chest")):
        more, follow = leg(x, y, name, parent)
        bones |= more
        constraints += follow
    rig = build(bones, constraints)
    moves = {"body": (0.15, 0.1), "chest": (0.2, 0)}
    moves |= {f"goal {name}": (0.4, 0.2) for name in "1234"} | {f"aim {name}": (0, 0.4) for name in "1234"}
    key_at_random(rig, moves, (1, 5, 9, 13, 17), seed=2)
    (turns, places), (off, _) = round_trip(rig, moves, 5, 13)
    assert off.max() > 10
    assert turns.max() < TURN / 10 and places.max() < PLACE


@pytest.mark.parametrize("space", ["WORLD", "LOCAL"])
@pytest.mark.parametrize("influence", [1.0, 0.5])
def test_controls_whose_rotation_is_copied(scene, space, influence):
    chain = {f"bone {i}": ((0, 0, i), (0, 0.1 * i, i + 1), f"bone {i - 1}" if i else "") for i in range(3)}
    handles = {f"handle {i}": ((2, 0, i), (2, 0.5, i + 0.3), "") for i in range(3)}
    settings = {"target_space": space, "owner_space": space, "influence": influence}
    rig = build(chain | handles, [(f"bone {i}", "COPY_ROTATION", {"subtarget": f"handle {i}"} | settings) for i in range(3)])
    assert list(limbs.pose_bones(rig)) == list(chain)
    assert controls.driven(rig, handles) == {f"handle {i}": f"bone {i}" for i in range(3)}
    key_at_random(rig, dict.fromkeys(handles, (0.4, 0)), (1, 5, 9, 13, 17), seed=4)
    (turns, places), (off, _) = round_trip(rig, list(handles), 5, 13)
    assert off.max() > 5
    assert turns.max() < TURN and places.max() < 10 * PLACE


@pytest.mark.parametrize("seed", range(3))
def test_rigs_without_constraints_are_exact_in_every_rotation_mode(scene, seed):
    rng = np.random.default_rng(seed)
    bones = {str(i): (rng.normal(size=3), rng.normal(size=3), str(rng.integers(i)) if i else "") for i in range(7)}
    rig = build(bones)
    for bone, mode in zip(rig.pose.bones, ("QUATERNION", "XYZ", "ZYX", "AXIS_ANGLE", "YXZ", "QUATERNION", "XZY"), strict=True):
        bone.rotation_mode = mode if mode != "AXIS_ANGLE" else "XYZ"
        bone.bone.use_inherit_rotation = int(bone.name) % 3 != 1
        bone.bone.use_local_location = int(bone.name) % 2 == 0
    rig.rotation_euler, rig.scale = (0.3, -0.5, 1.0), (0.5,) * 3
    moves = {str(i): (2.0, 0.3) for i in range(7)}
    key_at_random(rig, moves, (1, 5, 9, 13, 17), seed)
    (turns, places), (off, _) = round_trip(rig, moves, 5, 13)
    assert off.max() > 20
    assert np.radians(turns).max() < 1e-5 and places.max() < 1e-5


TRUNK = {"torso": (0.3, 0.05), "chest": (0.3, 0), "neck": (0.2, 0), "head": (0.3, 0), "shoulder.L": (0.2, 0)}
FK = [
    f"{bone}.{side}" for side in SIDES for bone in ("thigh_fk", "shin_fk", "foot_fk", "upper_arm_fk", "forearm_fk", "hand_fk")
]
IK = {f"{bone}.{side}": (0.4, 0.12) for side in SIDES for bone in ("foot_ik", "hand_ik")}
SWIVELS = [f"{bone}.{side}" for side in SIDES for bone in ("thigh_ik", "upper_arm_ik")]
POLES = [f"{bone}_target.{side}" for side in SIDES for bone in ("thigh_ik", "upper_arm_ik")]
BODY = [f"ORG-spine{end}" for end in ("", ".001", ".002", ".003", ".004", ".006")] + [
    f"ORG-{bone}.{side}" for side in SIDES for bone in ("thigh", "shin", "foot", "upper_arm", "forearm", "hand")
]


def switch(rig, name, value):
    for side in SIDES:
        for limb in ("thigh", "upper_arm"):
            rig.pose.bones[f"{limb}_parent.{side}"][name] = value
    rig.update_tag()
    bpy.context.view_layer.update()


@pytest.mark.parametrize("mode", ["fk", "ik", "pole"])
def test_a_rigify_rig_s_controls_take_a_pose_back(human, mode):
    moves = dict(TRUNK)
    if mode == "fk":
        switch(human, "IK_FK", 1.0)
        moves |= dict.fromkeys(FK, (0.5, 0))
    else:
        switch(human, "pole_vector", mode == "pole")
        moves |= IK | (dict.fromkeys(POLES, (0, 0.3)) if mode == "pole" else dict.fromkeys(SWIVELS, (0.8, 0)))
    key_at_random(human, moves, (1, 5, 9, 13, 17), seed=3)
    (turns, places), (off, _) = round_trip(human, moves, 5, 13, BODY)
    assert off.max() > 20, "the spline alone is far from it"
    assert turns.max() < TURN / 10 and places.max() < PLACE / 10


def test_what_rigify_s_controls_steer_follows_the_switches(human):
    keyed = [
        "root",
        "foot_spin_ik.L",
        "torso",
        "chest",
        "foot_ik.L",
        "foot_heel_ik.L",
        "thigh_ik.L",
        "thigh_ik_target.L",
        "thigh_fk.L",
        "toe_ik.L",
    ]
    common = {"torso": "ORG-spine", "chest": "ORG-spine.003"}
    ik = {"foot_ik.L": "ORG-foot.L", "toe_ik.L": "ORG-toe.L"}
    assert controls.driven(human, keyed) == common | ik | {"thigh_ik.L": "ORG-thigh.L"}
    switch(human, "pole_vector", True)
    assert controls.driven(human, keyed) == common | ik | {"thigh_ik_target.L": "ORG-thigh.L"}
    switch(human, "IK_FK", 1.0)
    assert controls.driven(human, keyed) == common | {"thigh_fk.L": "ORG-thigh.L"}
    assert controls.driven(human, ["root"]) == {"root": "ORG-spine"}


def test_a_rigify_rig_s_pose_bones_are_one_body(human):
    hierarchy = limbs.pose_bones(human)
    assert [bone for bone, above in hierarchy.items() if not above] == ["ORG-spine"]
    assert hierarchy["ORG-thigh.L"] == "ORG-spine" and hierarchy["ORG-hand.L"] == "ORG-forearm.L"
    assert hierarchy["ORG-palm.01.L"] == "ORG-hand.L" and hierarchy["ORG-spine.004"] == "ORG-spine.003"
    assert all(not above or list(hierarchy).index(above) < at for at, above in enumerate(hierarchy.values()))


def test_a_limb_that_switches_from_ik_to_fk_is_written_on_both_sides(scene):
    bones, constraints = leg(0, 0, "a", "hips")
    rig = build({"hips": ((0, 0, 2), (0, 0, 2.5), "")} | bones, constraints)
    made = rig.pose.bones["lower a"].constraints["IK"]
    for frame, influence in ((1, 1.0), (8, 1.0), (9, 0.0), (17, 0.0)):
        made.influence = influence
        made.keyframe_insert("influence", frame=frame)
    for curve in posing.curves(rig):
        for point in curve.keyframe_points:
            point.interpolation = "CONSTANT"
    moves = {"hips": (0.3, 0.2), "goal a": (0, 0.3), "aim a": (0, 0.5)}
    key_at_random(rig, moves, (1, 5, 9, 13, 17), seed=6)
    bases = list(moves)
    (turns, places), (off, _) = round_trip(rig, bases, 5, 13)
    assert off[:4].max() > 10
    assert turns.max() < TURN / 10 and places.max() < PLACE


def test_locked_driven_and_unkeyed_channels_are_left_alone(scene):
    rig = build({"a": ((0, 0, 0), (0, 0, 1), ""), "b": ((0, 0, 1), (0, 0, 2), "a"), "c": ((1, 0, 0), (1, 0, 1), "")})
    for bone in rig.pose.bones:
        bone.rotation_mode = "XYZ"
    key_at_random(rig, {"a": (1.0, 0.3), "b": (1.0, 0)}, (1, 9), seed=7)
    rig.pose.bones["a"].lock_location[1] = True
    rig.pose.bones["b"].lock_rotation[2] = True
    driver = rig.pose.bones["a"].driver_add("location", 2).driver
    driver.type, driver.expression = "SCRIPTED", "0.25"
    rig.pose.bones["c"].lock_location = rig.pose.bones["c"].lock_rotation = (True,) * 3
    assert controls.driven(rig, "abc") == {"a": "a", "b": "b"}
    frames, hierarchy = [3, 5, 7], limbs.pose_bones(rig)
    before = skeletons.clip_of(rig, frames, hierarchy)
    rng = np.random.default_rng(8)
    turned = before.rotations + 0.3 * rng.normal(size=before.rotations.shape)
    after = before.replace(
        rotations=turned / np.linalg.norm(turned, axis=-1, keepdims=True), root=before.root + rng.normal(size=before.root.shape)
    )
    bases = controls.bases(rig, before, after, frames, "abc")
    assert sorted(bases) == ["a", "b"]
    for row, frame in enumerate(frames):
        scene.frame_set(frame)
        a, b = (rig.pose.bones[name].matrix_basis for name in "ab")
        assert np.allclose(bases["a"][row, 1:3, 3], [a.translation.y, a.translation.z], atol=1e-6)
        assert abs(bases["a"][row, 0, 3] - a.translation.x) > 1e-3
        assert np.allclose(bases["b"][row, :3, 3], b.translation, atol=1e-6), "location of b has no curves"
        angles = beside.channels(rig.pose.bones["b"], bases["b"][row : row + 1])["rotation_euler"][0]
        assert abs(angles[2] - rig.pose.bones["b"].rotation_euler.z) < 1e-5


def test_what_may_not_be_written_is_refused(scene, tmp_path):
    bones, constraints = leg(0, 0, "a", "")
    rig = build(bones, constraints)
    clip = skeletons.clip_of(rig, [1], limbs.pose_bones(rig))
    with pytest.raises(VivantError, match="differ"):
        controls.bases(rig, clip, clip, [1, 2], ["goal a"])
    with pytest.raises(VivantError, match="no bone 'nose'"):
        controls.driven(rig, ["nose"])
    bpy.data.libraries.write(str(tmp_path / "rig.blend"), {rig})
    with bpy.data.libraries.load(str(tmp_path / "rig.blend"), link=True) as (_, into):
        into.objects = [rig.name]
    scene.collection.objects.link(into.objects[0])
    bpy.context.view_layer.update()
    with pytest.raises(VivantError, match="is linked"):
        controls.bases(into.objects[0], clip, clip, [1], ["goal a"])


def test_to_close_the_steps_leaves_nothing_behind(scene):
    bones, constraints = leg(0, 0, "a", "")
    rig = build(bones, constraints)
    key_at_random(rig, {"goal a": (0.2, 0.2)}, (1, 40), seed=9)
    frames = list(range(1, 41))
    clip = skeletons.clip_of(rig, frames, limbs.pose_bones(rig))
    count = len(bpy.data.objects), len(bpy.data.scenes), len(bpy.data.actions)
    shares = list(controls.solving(rig, clip, clip, frames, ["goal a"]))
    assert all(0 <= share <= 1 for share in shares)
    for last in range(len(shares)):
        steps = controls.solving(rig, clip, clip, frames, ["goal a"])
        list(itertools.islice(steps, last + 1))  # or fewer: they are slices of time
        steps.close()
        assert (len(bpy.data.objects), len(bpy.data.scenes), len(bpy.data.actions)) == count


def test_a_rig_that_stands_as_before_is_asked_once_and_again_after_any_change(scene, monkeypatch):
    bones, constraints = leg(0, 0, "a", "hips")
    rig = build({"hips": ((0, 0, 2), (0, 0, 2.5), "")} | bones, constraints)
    asked, nudged, nudge = ["hips", "goal a", "aim a", "foot a"], [], controls._nudged

    def counted(*arguments):
        nudged.append(arguments)
        return nudge(*arguments)

    def steps():
        nudged.clear()
        found = controls.driven(rig, asked)
        return len(nudged), found

    monkeypatch.setattr(controls, "_nudged", counted)
    count, first = steps()
    assert count == 1
    assert steps() == (0, first)
    solver = rig.pose.bones["lower a"].constraints["IK"]
    solver.pole_target = None
    count, found = steps()
    assert count > 0 and "aim a" in first and "aim a" not in found
    solver.pole_target = rig
    for locked in (True, False):
        aim = rig.pose.bones["aim a"]
        aim.lock_location = aim.lock_rotation = (locked,) * 3
        aim.lock_rotation_w = locked
        assert ("aim a" in steps()[1]) != locked
    rig.pose.bones["hips"].location.x = 0.5
    bpy.context.view_layer.update()
    assert steps()[0] > 0
