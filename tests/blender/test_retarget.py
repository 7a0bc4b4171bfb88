# SPDX-License-Identifier: GPL-3.0-or-later
"""A captured walk on other humans' rigs: imported ones and a generated Rigify rig."""

import pathlib
import sys

import bpy
import numpy as np
import pytest
from mathutils import Vector

from vivant import api
from vivant.backends.common.errors import VivantError
from vivant.backends.motion import humanoid
from vivant.backends.motion.formats.bvh import read_bvh
from vivant.backends.motion.retarget import resample, rest_pose
from vivant.scene import skeletons

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import posing

PAIRS = [
    (f"{a}.{side}", f"{b}.{side}")
    for side in "LR"
    for a, b in (("thigh", "shin"), ("shin", "foot"), ("upper_arm", "forearm"), ("forearm", "hand"))
]
# A human in Mixamo's names: parent, head of the bone (Z up, facing -Y), centimetres.
SMALL = {
    "Hips": ("", (0, 0, 100)),
    "Spine": ("Hips", (0, 0, 110)),
    "Spine1": ("Spine", (0, 0, 120)),
    "Spine2": ("Spine1", (0, 0, 135)),
    "Neck": ("Spine2", (0, 0, 155)),
    "Head": ("Neck", (0, 0, 165)),
}
for _side, _sign in (("Left", 1), ("Right", -1)):
    SMALL |= {
        f"{_side}UpLeg": ("Hips", (_sign * 10, 0, 95)),
        f"{_side}Leg": (f"{_side}UpLeg", (_sign * 10, 0, 50)),
        f"{_side}Foot": (f"{_side}Leg", (_sign * 10, 0, 8)),
        f"{_side}Shoulder": ("Spine2", (_sign * 3, 0, 145)),
        f"{_side}Arm": (f"{_side}Shoulder", (_sign * 18, 0, 145)),
        f"{_side}ForeArm": (f"{_side}Arm", (_sign * 46, 0, 145)),
        f"{_side}Hand": (f"{_side}ForeArm", (_sign * 70, 0, 145)),
    }


def small_human(name="human", seed=None, size=1.0):
    """An armature of a human; seed: bones point and roll at random."""
    rng = np.random.default_rng(seed)
    rig = posing.armature(("Hips",), name)
    bpy.ops.object.mode_set(mode="EDIT")
    rig.data.edit_bones.remove(rig.data.edit_bones["Hips"])
    for bone, (parent, head) in SMALL.items():
        made = rig.data.edit_bones.new(bone)
        made.head = np.array(head) * size / 100
        made.tail = made.head + Vector(rng.normal(size=3) if seed is not None else (0, 0, 0.1))
        made.parent = rig.data.edit_bones.get(parent)
        made.roll = rng.uniform(-3, 3) if seed is not None else 0
    bpy.ops.object.mode_set(mode="OBJECT")
    return rig


def waving(rig):
    """Key a step of the rig."""
    for bone, angles in (("LeftArm", (0.0, 0.9)), ("RightUpLeg", (0.2, -0.4)), ("Spine1", (0.0, 0.3))):
        pose = rig.pose.bones[bone]
        pose.rotation_mode = "XYZ"
        posing.key(rig, bone, "rotation_euler", (1, 11), [(angle, angle / 2, -angle) for angle in angles])
    posing.key(rig, "Hips", "location", (1, 11), [(0, 0, 0), (0.1, 0.05, 0.5)])
    return rig


def directions(clip, human):
    """World directions (limbs, F, 3) of arms and legs."""
    places, names = clip.forward()[0], list(clip.names)
    ways = np.array([places[:, names.index(human[b])] - places[:, names.index(human[a])] for a, b in PAIRS])
    return ways / np.linalg.norm(ways, axis=-1, keepdims=True)


def degrees(a, b):
    return float(np.degrees(np.arccos(np.clip(np.sum(a * b, axis=-1), -1, 1))).max())


def walk_of(data):
    """A captured walk without its first frame, which is a T-pose elsewhere, and its mapping."""
    clip = read_bvh(data / "mocap" / "bvh" / "cmu_07_12_walk_120fps.bvh")
    clip = clip.replace(rotations=clip.rotations[10:], root=clip.root[10:])
    return clip, humanoid.find(list(clip.names), clip.parents, rest_pose(clip)[0])


def test_the_same_rig_gets_the_same_pose(scene):
    source, target = waving(small_human("a", seed=1)), small_human("b", seed=1)
    clip = skeletons.clip_of(source, range(1, 12))
    api.retarget(clip, target)
    again = skeletons.clip_of(target, range(1, 12))
    assert np.allclose(again.forward()[0], clip.forward()[0], atol=2e-5)
    assert degrees(*(skeletons.clip_of(rig, range(1, 12)).forward()[1] for rig in (source, target))) < 0.1


def test_limbs_point_where_the_source_s_do_on_a_rig_with_other_bone_axes_and_size(scene):
    source, target = waving(small_human("a")), small_human("b", seed=2, size=0.5)
    clip = skeletons.clip_of(source, range(1, 12))
    action = api.retarget(clip, target)
    moved = skeletons.clip_of(target, range(1, 12))
    human = skeletons.human_of(target)
    assert degrees(directions(clip, human), directions(moved, human)) < 0.1
    assert np.allclose(np.ptp(moved.root, axis=0), 0.5 * np.ptp(clip.root, axis=0), atol=1e-4)
    assert target.animation_data.action == action and not action.use_fake_user


def test_the_mapping_is_saved_on_the_armature_and_an_edited_one_is_used(scene):
    source, target = waving(small_human("a")), small_human("b")
    clip = skeletons.clip_of(source, range(1, 3))
    api.retarget(clip, target)
    assert target[skeletons.HUMAN]["thigh.L"] == "LeftUpLeg"
    target[skeletons.HUMAN]["head"] = "nowhere"
    with pytest.raises(VivantError, match="'nowhere'"):
        api.retarget(clip, target)
    target[skeletons.HUMAN]["head"] = ""
    api.retarget(clip, target)
    assert "head" not in skeletons.human_of(target)


def test_the_user_s_action_is_kept_bit_for_bit(scene):
    source, target = waving(small_human("a")), waving(small_human("b"))
    old, bits = target.animation_data.action, posing.bits(target)
    new = api.retarget(skeletons.clip_of(source, range(1, 12)), target, name="step")
    assert new.name == "step" and target.animation_data.action == new
    assert old.use_fake_user
    target.animation_data.action, target.animation_data.action_slot = old, old.slots[0]
    assert posing.bits(target) == bits


def test_a_rig_that_is_no_human_is_refused_by_what_is_missing_and_left_as_it_was(scene):
    clip = skeletons.clip_of(waving(small_human("a")), range(1, 3))
    spine = posing.armature(("one", "two", "three"), "snake")
    with pytest.raises(VivantError, match=r"thigh\.L"):
        api.retarget(clip, spine)
    assert spine.animation_data is None and skeletons.HUMAN not in spine


def test_a_linked_rig_is_refused(scene, tmp_path):
    human = small_human("linked")
    bpy.data.libraries.write(str(tmp_path / "rig.blend"), {human})
    clip = skeletons.clip_of(waving(small_human("a")), range(1, 3))
    with bpy.data.libraries.load(str(tmp_path / "rig.blend"), link=True) as (_, into):
        into.objects = ["linked"]
    scene.collection.objects.link(into.objects[0])
    bpy.context.view_layer.update()
    with pytest.raises(VivantError, match="is linked"):
        api.retarget(clip, into.objects[0])


def test_a_mirrored_rig_is_refused(scene):
    clip, rig = skeletons.clip_of(waving(small_human("a")), range(1, 3)), small_human("b")
    rig.scale.x = -1
    bpy.context.view_layer.update()
    with pytest.raises(VivantError, match="mirrored"):
        api.retarget(clip, rig)
    assert rig.animation_data is None


@pytest.fixture
def operator():
    from vivant.operators import retarget

    bpy.utils.register_class(retarget.VIVANT_OT_motion_retarget)
    yield bpy.ops.vivant.motion_retarget
    bpy.utils.unregister_class(retarget.VIVANT_OT_motion_retarget)


def choose(active, *others):
    for thing in bpy.context.view_layer.objects:
        thing.select_set(thing == active or thing in others)
    bpy.context.view_layer.objects.active = active


def control_rig():
    """A small human whose bones copy the turns of free ones beside them."""
    rig = small_human("controlled")
    bpy.ops.object.mode_set(mode="EDIT")
    bones = rig.data.edit_bones
    for bone in list(bones):
        twin = bones.new(f"control {bone.name}")
        twin.head, twin.tail, twin.roll, twin.use_deform = bone.head, bone.tail, bone.roll, False
    for bone in SMALL:
        if parent := SMALL[bone][0]:
            bones[f"control {bone}"].parent = bones[f"control {parent}"]
    bpy.ops.object.mode_set(mode="OBJECT")
    for bone in SMALL:
        constraint = rig.pose.bones[bone].constraints.new("COPY_TRANSFORMS")
        constraint.target, constraint.subtarget = rig, f"control {bone}"
    return rig


@pytest.mark.parametrize("make", [small_human, control_rig])
def test_it_is_stopped_at_any_step_and_leaves_nothing_behind(scene, make):
    clip = skeletons.clip_of(waving(small_human("a")), range(1, 12))
    target = waving(small_human("b")) if make is small_human else make()
    bpy.context.view_layer.update()

    def there():
        kinds = bpy.data.objects, bpy.data.scenes, bpy.data.armatures, bpy.data.actions
        names = [sorted((thing.name, thing.use_fake_user) for thing in kind) for kind in kinds]
        action = target.animation_data.action if target.animation_data else None
        pose = [list(bone.matrix_basis.row[row]) for bone in target.pose.bones for row in range(4)]
        return names, action, action and posing.bits(target), skeletons.HUMAN in target, scene.frame_current, pose

    before, stop = there(), 0
    while True:
        steps = skeletons.retargeting(target, clip, "step")
        try:
            for _ in range(stop + 1):
                next(steps)
        except StopIteration:
            break
        steps.close()
        assert there() == before, f"stopped at step {stop}"
        stop += 1
    assert stop > 5 and target.animation_data.action.name == "step"
    moved = skeletons.clip_of(target, range(1, 12))
    human = skeletons.human_of(target)
    if make is control_rig:
        human = {joint: bone.removeprefix("control ") for joint, bone in human.items()}
    assert degrees(directions(clip, skeletons.human_of(bpy.data.objects["a"])), directions(moved, human)) < 0.5


def test_the_operator_takes_the_other_selected_armature(scene, operator):
    source, target = waving(small_human("a")), small_human("b", seed=2)
    choose(target, source)
    assert operator() == {"FINISHED"}
    assert tuple(target.animation_data.action.frame_range) == (1, 11)
    choose(source, target)
    target.animation_data_clear()
    with pytest.raises(RuntimeError, match="'b' has no motion"):
        operator()
    choose(source)
    with pytest.raises(RuntimeError, match="No source"):
        operator()


def test_the_operator_reads_a_bvh_file(scene, operator, tmp_path):
    source, target = waving(small_human("a")), small_human("b", seed=2)
    api.write_bvh(skeletons.clip_of(source, range(1, 12)), tmp_path / "step.bvh")
    choose(target)
    assert operator(filepath=str(tmp_path / "step.bvh"), in_place=True) == {"FINISHED"}
    assert target.animation_data.action.name == "step"
    moved = skeletons.clip_of(target, range(1, 12))
    assert np.allclose(np.ptp(moved.root[:, [0, 2]], axis=0), 0, atol=1e-5)
    with pytest.raises(RuntimeError, match="cannot be read"):
        operator(filepath=str(tmp_path / "none.bvh"))


@pytest.mark.parametrize("name", ["human_mixamo_names.glb", "human_vrm1.vrm"])
def test_a_captured_walk_keeps_its_limbs_its_way_and_the_floor(scene, data, tmp_path, name):
    path = tmp_path / "human.glb"
    path.write_bytes((data / "rigs" / name).read_bytes())
    bpy.ops.import_scene.gltf(filepath=str(path))
    rig = next(thing for thing in bpy.data.objects if thing.type == "ARMATURE")
    human = skeletons.human_of(rig)
    standing = rig.data.bones[human["foot.L"]].head_local.z
    walk, whose = walk_of(data)
    api.retarget(walk, rig)
    truth = resample(walk, scene.render.fps)
    moved = skeletons.clip_of(rig, range(1, 1 + len(truth)))
    assert degrees(directions(truth, whose), directions(moved, human)) < 0.5
    feet = moved.forward()[0][:, [list(moved.names).index(human[f"foot.{side}"]) for side in "LR"], 1].min(axis=1)
    assert abs(np.percentile(feet, 5) - standing) < 0.01 and feet.min() > standing - 0.03
    here, there = (clip.forward()[0][-1, at] - clip.forward()[0][0, at] for clip, at in (
        (moved, list(moved.names).index(human["pelvis"])), (truth, list(truth.names).index(whose["pelvis"]))
    ))  # fmt: skip
    assert degrees(here / np.linalg.norm(here), there / np.linalg.norm(there)) < 0.5


def test_a_generated_rigify_rig_walks_on_the_controls_that_its_switches_choose(rigify_file, data):
    bpy.ops.wm.open_mainfile(filepath=str(rigify_file))
    scene, rig = bpy.context.scene, bpy.data.objects["human"]
    walk, whose = walk_of(data)
    walk = walk.replace(rotations=walk.rotations[:40], root=walk.root[:40])
    truth = resample(walk, scene.render.fps)
    rig[skeletons.HUMAN] = {**humanoid.RIGIFY, "head": ""}  # an edited mapping is written the same way
    switches = [rig.pose.bones[f"{limb}_parent.{side}"] for limb in ("thigh", "upper_arm") for side in "LR"]
    trunk = {"torso", "spine_fk.002", "spine_fk.003", "neck", "shoulder.L", "shoulder.R"}
    fk = ("thigh_fk", "shin_fk", "foot_fk", "toe_fk", "upper_arm_fk", "forearm_fk", "hand_fk")
    ik = ("thigh_ik", "foot_ik", "toe_ik", "upper_arm_ik", "hand_ik")
    found = {}
    for switch, controls in ((1.0, fk), (0.0, ik)):
        for bone in switches:
            bone["IK_FK"] = switch
        api.retarget(walk, rig)
        keyed = {curve.data_path.split('"')[1] for curve in posing.curves(rig)}
        assert keyed == trunk | {f"{bone}.{side}" for bone in controls for side in "LR"}, "controls and nothing else"
        assert all(bone["IK_FK"] == switch for bone in switches)
        found[switch] = skeletons.clip_of(rig, range(1, 1 + len(truth)))
    bones = {joint: f"ORG-{joint}" for pair in PAIRS for joint in pair}
    assert degrees(directions(truth, whose), directions(found[1.0], bones)) < 0.5
    assert degrees(directions(truth, whose)[:2], directions(found[0.0], bones)[:2]) < 4, (
        "but for knees that no IK overstretches"
    )
    names = list(found[0.0].names)
    for bone in ("ORG-foot.L", "ORG-foot.R", "ORG-spine"):
        (places, turns), (others, same) = ([part[:, names.index(bone)] for part in clip.forward()] for clip in found.values())
        assert np.abs(places - others).max() < 1e-3
        assert degrees(turns, same * np.sign(np.sum(turns * same, axis=-1, keepdims=True))) < 0.5


def test_a_rigify_rig_posed_by_ik_is_read_as_it_looks(rigify_file):
    bpy.ops.wm.open_mainfile(filepath=str(rigify_file))
    rig = bpy.data.objects["human"]
    posing.key(rig, "foot_ik.L", "location", (1, 5), [(0, 0, 0), (0, -0.3, 0.3)])
    posing.key(rig, "torso", "location", (1, 5), [(0, 0, 0), (0.1, 0, -0.2)])
    target = small_human("b", seed=3)
    human = skeletons.posed_human_of(rig)
    clip = skeletons.clip_of(rig, range(1, 6))
    assert degrees(*directions(clip, human)[:2, [0, -1]].swapaxes(0, 1)) > 20, "the leg is bent"
    api.retarget(clip, target, source=human)
    moved = skeletons.clip_of(target, range(1, 6))
    assert degrees(directions(clip, human), directions(moved, skeletons.human_of(target))) < 0.5


def test_a_rigify_metarig_is_found(rigify_file):
    bpy.ops.wm.open_mainfile(filepath=str(rigify_file))
    human = skeletons.human_of(bpy.data.objects["metarig"])
    expected = {"pelvis": "spine", "spine1": "spine.001", "spine3": "spine.003", "neck": "spine.004", "head": "spine.006"}
    assert expected.items() <= human.items()
    assert len(human) == 22 and human["collar.R"] == "shoulder.R"
