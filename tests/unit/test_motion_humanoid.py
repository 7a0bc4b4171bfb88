# SPDX-License-Identifier: GPL-3.0-or-later
"""A human is found in skeletons of every naming, and nothing else is taken for one."""

import pathlib
import sys

import numpy as np
import pytest

from vivant.backends.common.errors import VivantError
from vivant.backends.motion import humanoid
from vivant.backends.motion.formats.bvh import read_bvh

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from small_human import BODY

JOINTS = list(BODY)
PARENTS = np.array([JOINTS.index(parent) if parent else -1 for parent, _ in BODY.values()])
PLACES = np.array([place for _, place in BODY.values()], float)

CENTRE = ("pelvis", "spine1", "spine2", "spine3", "neck", "head")
LIMBS = ("thigh", "shin", "foot", "toe", "collar", "upper_arm", "forearm", "hand")
CONVENTIONS = {
    "Mixamo": (
        "mixamorig:{}",
        "Hips Spine Spine1 Spine2 Neck Head",
        "UpLeg Leg Foot ToeBase Shoulder Arm ForeArm Hand",
        lambda n, s: {"L": "Left", "R": "Right"}[s] + n,
    ),
    "Unreal": (
        "{}",
        "pelvis spine_01 spine_02 spine_03 neck_01 head",
        "thigh calf foot ball clavicle upperarm lowerarm hand",
        lambda n, s: f"{n}_{s.lower()}",
    ),
    "VRM": (
        "J_Bip_{}",
        "C_Hips C_Spine C_Chest C_UpperChest C_Neck C_Head",
        "UpperLeg LowerLeg Foot ToeBase Shoulder UpperArm LowerArm Hand",
        lambda n, s: f"{s}_{n}",
    ),
    "SMPL": (
        "{}",
        "pelvis spine1 spine2 spine3 neck head",
        "hip knee ankle foot collar shoulder elbow wrist",
        lambda n, s: {"L": "left_", "R": "right_"}[s] + n,
    ),
    "100STYLE": (
        "{}",
        "Hips Chest Chest2 Chest3 Neck Head",
        "Hip Knee Ankle Toe Collar Shoulder Elbow Wrist",
        lambda n, s: {"L": "Left", "R": "Right"}[s] + n,
    ),
    "Rigify metarig": (
        "{}",
        "spine spine.001 spine.002 spine.003 spine.004 spine.006",
        "thigh shin foot toe shoulder upper_arm forearm hand",
        lambda n, s: f"{n}.{s}",
    ),
    "CMU ASF": (
        "{}",
        "root lowerback upperback thorax lowerneck head",
        "femur tibia foot toes clavicle humerus radius wrist",
        lambda n, s: s.lower() + n,
    ),
}


def named(convention):
    """The small human's joint names in a convention."""
    form, centre, limbs, sided = CONVENTIONS[convention]
    table = dict(zip(CENTRE, centre.split(), strict=True))
    for side in "LR":
        table |= {f"{joint}.{side}": sided(name, side) for joint, name in zip(LIMBS, limbs.split(), strict=True)}
    return [form.format(table[joint]) for joint in JOINTS]


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_every_joint_of_a_known_naming_is_found(convention):
    names = named(convention)
    assert humanoid.find(names, PARENTS, PLACES) == dict(zip(JOINTS, names, strict=True))


@pytest.mark.parametrize("turn", [0, 1, 2, 3])
def test_a_human_without_names_is_found_by_its_shape_whichever_way_it_faces(turn):
    angle = turn * np.pi / 2
    x, y, z = PLACES.T
    places = np.stack([np.cos(angle) * x + np.sin(angle) * z, y, np.cos(angle) * z - np.sin(angle) * x], axis=1)
    names = [f"bone.{index:03d}" for index in range(len(JOINTS))]
    assert humanoid.find(names, PARENTS, places) == dict(zip(JOINTS, names, strict=True))


@pytest.mark.parametrize("controls", humanoid.CONTROLS, ids=["Rigify", "Auto-Rig Pro"])
def test_a_control_rig_is_known_by_its_controls_whatever_their_hierarchy(controls):
    names = ["root", *controls.values(), "hand_ik.L"]
    parents = np.array([-1] + [0] * (len(names) - 1))
    assert humanoid.find(names, parents, np.zeros((len(names), 3))) == controls


def test_what_is_missing_is_named():
    keep = [index for index, joint in enumerate(JOINTS) if not joint.startswith(("upper_arm", "forearm", "hand", "collar"))]
    parents = np.array([keep.index(PARENTS[index]) if PARENTS[index] >= 0 else -1 for index in keep])
    with pytest.raises(VivantError, match=r"upper_arm\.L, forearm\.L") as raised:
        humanoid.find([named("Unreal")[index] for index in keep], parents, PLACES[keep])
    assert "thigh" not in str(raised.value)


def test_every_canonical_joint_but_the_pelvis_has_a_canonical_parent():
    assert set(humanoid.PARENT) == set(humanoid.JOINTS) - {"pelvis"}
    assert set(humanoid.PARENT.values()) <= set(humanoid.JOINTS) and len(humanoid.JOINTS) == 22


EXPECTED = {
    "cmu_07_12_walk_120fps": {
        "pelvis": "hip", "spine1": "abdomen", "spine3": "chest", "upper_arm.L": "lShldr", "thigh.R": "rThigh", "foot.L": "lFoot"
    },
    "cmu_35_28_walk_asf": {
        "pelvis": "root", "spine3": "thorax", "upper_arm.L": "lhumerus", "thigh.R": "rfemur", "toe.L": "ltoes", "head": "head"
    },
    "deepmimic_backflip": {
        "pelvis": "root", "spine3": "chest", "upper_arm.L": "left_shoulder", "shin.R": "right_knee", "foot.L": "left_ankle"
    },
}  # fmt: skip


@pytest.mark.parametrize("name", EXPECTED)
def test_the_human_in_a_captured_bvh_is_found(data, name):
    clip = read_bvh(data / "mocap" / "bvh" / f"{name}.bvh")
    found = humanoid.find(clip.names, clip.parents, rest_places(clip))
    assert EXPECTED[name].items() <= found.items()


@pytest.mark.parametrize("name", ["fox_run", "bird_glide", "snake_side_winding", "dragon_fly_flap"])
def test_an_animal_is_no_human(data, name):
    clip = read_bvh(data / "mocap" / "bvh" / f"{name}.bvh")
    with pytest.raises(VivantError, match="no human"):
        humanoid.find(clip.names, clip.parents, rest_places(clip))


def rest_places(clip):
    places = np.zeros((len(clip.names), 3))
    for joint, parent in enumerate(clip.parents):
        if parent >= 0:
            places[joint] = places[parent] + clip.offsets[joint]
    return places
