# SPDX-License-Identifier: GPL-3.0-or-later
"""Editing a body part by its phase on an armature: that part moves otherwise, all else stays as it was."""

import pathlib
import sys

import bpy
import numpy as np
import pytest
from mathutils import Quaternion

from vivant.backends.common.errors import VivantError
from vivant.backends.motion.phase import model
from vivant.backends.motion.phase.autoencoder import PartModel
from vivant.backends.motion.phase.edit import Edit
from vivant.scene import phases, skeletons

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import posing
from test_retarget import small_human

BONES = {
    "Hips": ("", (0, 0, 1)),
    "LeftArm": ("Hips", (0.2, 0, 1.5)),
    "LeftForeArm": ("LeftArm", (0.5, 0, 1.5)),
    "RightArm": ("Hips", (-0.2, 0, 1.5)),
    "RightForeArm": ("RightArm", (-0.5, 0, 1.5)),
}
PARTS = {"left arm": ("LeftArm", "LeftForeArm"), "right arm": ("RightArm", "RightForeArm")}
FRAMES = range(1, 91)


@pytest.fixture(autouse=True)
def _operators():
    from vivant.operators import phase

    for cls in phase.CLASSES:
        bpy.utils.register_class(cls)
    yield
    for cls in phase.CLASSES:
        bpy.utils.unregister_class(cls)


def rig(name="walker", hertz=1.0, rolls=(0.0, 0.7, -1.2, 0.4, 2.0)):
    """An armature whose arms swing in turn for three seconds, its bones rolled anyhow."""
    bpy.context.scene.render.fps = 30
    made = posing.armature(("Hips",), name)
    bpy.ops.object.mode_set(mode="EDIT")
    made.data.edit_bones.remove(made.data.edit_bones["Hips"])
    for (bone, (parent, head)), roll in zip(BONES.items(), rolls, strict=True):
        new = made.data.edit_bones.new(bone)
        new.head, new.tail = head, (head[0], head[1], head[2] + 0.2)
        new.parent = made.data.edit_bones.get(parent)
        new.roll = roll
    bpy.ops.object.mode_set(mode="OBJECT")
    swing(made, hertz)
    return made


def swing(made, hertz, size=0.5):
    for index, bone in enumerate(BONES):
        angles = size * np.sin(2 * np.pi * (hertz * np.array(FRAMES) / 30 + 0.2 * index)) * (0.1 if bone == "Hips" else 1)
        turns = [tuple(Quaternion((0.48, 0.6, 0.64), angle)) for angle in angles]
        posing.key(made, bone, "rotation_quaternion", FRAMES, turns)


def known(made, folder, seed=0):
    """Give the armature a model that knows its arms; what it learned is noise, but every part has a phase."""
    rng = np.random.default_rng(seed)
    clip = skeletons.clip_of(made, FRAMES)
    small = model.reduced(clip, list(BONES))
    samples, wide, latents = 41, 8, 2

    def layers(name, a, b):
        return {
            f"{name}.0.weight": rng.normal(size=(wide, a, samples)) / 20, f"{name}.0.bias": np.zeros(wide),
            f"{name}.1.weight": np.ones(wide), f"{name}.1.bias": np.zeros(wide),
            f"{name}.1.running_mean": np.zeros(wide), f"{name}.1.running_var": np.ones(wide),
            f"{name}.3.weight": rng.normal(size=(b, wide, samples)) / 20, f"{name}.3.bias": np.zeros(b),
        }  # fmt: skip

    norm = {
        "norm.weight": np.ones(4),
        "norm.bias": np.zeros(4),
        "norm.running_mean": np.zeros(4),
        "norm.running_var": np.ones(4),
    }
    models = {}
    for part, joints in PARTS.items():
        channels = 3 * len(joints)
        weights = layers("encoder", channels, latents) | layers("decoder", latents, channels) | norm
        models[part] = PartModel(joints, 1.0, 30.0, weights | {"head": rng.normal(size=(latents, 2, samples))})
    path = folder / "own.safetensors"
    parents = tuple(small.parents.tolist())
    model.save(model.PhaseModel(tuple(BONES), parents, small.offsets, 30.0, PARTS, models, {}), path)
    made[phases.MODEL] = str(path)
    return made


def turns(made, bone):
    """How far a bone turns from its mean, radians (F,)."""
    clip = skeletons.clip_of(made, FRAMES)
    q = clip.rotations[:, list(clip.names).index(bone)]
    mean = np.linalg.eigh(q.T @ q)[1][:, -1]
    return 2 * np.arccos(np.clip(np.abs(q @ mean), 0, 1))


def test_a_part_swings_less_or_more_and_nothing_else_changes(scene, tmp_path):
    made = known(rig(), tmp_path)
    user = made.animation_data.action
    before, size = posing.bits(made), turns(made, "LeftArm").mean()
    sizes = []
    for amplitude in (0.0, 0.5, 1.5):
        assert bpy.ops.vivant.motion_phase(part="left arm", amplitude=amplitude) == {"FINISHED"}
        action = made.animation_data.action
        assert action != user and action.name == f"{user.name} left arm" and user.use_fake_user
        after = posing.bits(made)
        assert after.keys() == before.keys()
        for key, value in before.items():
            assert (after[key] == value) != ("Left" in key[0]), key
        sizes.append(turns(made, "LeftArm").mean() / size)
        made.animation_data.action = user
        made.animation_data.action_slot = user.slots[0]
        bpy.data.actions.remove(action)
    assert posing.bits(made) == before
    assert sizes[0] < 0.6 * sizes[1] < 0.6 * sizes[2] and sizes[2] > 1.2
    assert [a.name for a in bpy.data.actions] == [user.name], "nothing of the sampling is left"


def test_an_edit_of_nothing_gives_the_same_motion(scene, tmp_path):
    made = known(rig(), tmp_path)
    still = skeletons.clip_of(made, FRAMES)
    phases.edited(made, "right arm", Edit())
    moved = skeletons.clip_of(made, FRAMES)
    assert np.abs(np.abs(np.sum(moved.rotations * still.rotations, axis=-1)) - 1).max() < 1e-6


def test_style_comes_from_another_action_of_the_rig(scene, tmp_path):
    made = known(rig(), tmp_path)
    user = made.animation_data.action
    made.animation_data.action = None
    swing(made, 1.4, 1.2)
    style = made.animation_data.action
    style.use_fake_user = True
    made.animation_data.action = user
    made.animation_data.action_slot = user.slots[0]
    sizes = [turns(made, bone).mean() for bone in ("LeftArm", "RightArm")]
    assert bpy.ops.vivant.motion_phase(part="right arm", style=style.name) == {"FINISHED"}
    assert turns(made, "LeftArm").mean() == pytest.approx(sizes[0], rel=1e-5)
    assert turns(made, "RightArm").mean() > 1.5 * sizes[1]


def test_a_part_of_any_human_is_edited_by_the_model_that_comes_along(scene):
    made = small_human(seed=3, size=1.2)
    bpy.context.scene.render.fps = 24
    for bone in made.pose.bones:
        bone.rotation_mode = "QUATERNION"
        side = {"L": 1, "R": -1}.get(bone.name[0], 0) * (-1 if bone.name.endswith("Leg") else 1)
        if bone.name.endswith(("Leg", "Arm")):
            angles = 0.5 * side * np.sin(2 * np.pi * np.array(FRAMES) / 24)
            posing.key(made, bone.name, "rotation_quaternion", FRAMES, [tuple(Quaternion((1, 0, 0), a)) for a in angles])
    before, size = posing.bits(made), turns(made, "LeftArm").mean()
    assert phases.parts_of(made) == ["right arm", "left arm", "right leg", "left leg", "torso"]
    assert bpy.ops.vivant.motion_phase(part="left arm", amplitude=0.5) == {"FINISHED"}
    after = posing.bits(made)
    arm = ("LeftArm", "LeftForeArm", "LeftHand")
    for key, value in before.items():
        assert (after[key] == value) != any(f'"{bone}"' in key[0] for bone in arm), key
    assert {key[0].split('"')[1] for key in after.keys() - before.keys()} <= set(arm)
    assert turns(made, "LeftArm").mean() < 0.7 * size
    made.pose.bones["Head"].constraints.new("LIMIT_ROTATION")
    assert phases.parts_of(made) == []
    with pytest.raises(VivantError, match="Constraints move the bones"):
        phases.edited(made, "left arm", Edit(2))


def test_what_cannot_be_edited_is_said_and_changes_nothing(scene, tmp_path):
    made = rig()
    before = posing.bits(made)
    assert phases.parts_of(made) == [], "the model that comes along knows other bones"
    known(made, tmp_path)
    assert phases.parts_of(made) == list(PARTS)
    with pytest.raises(VivantError, match="no part “tail”"):
        phases.edited(made, "tail", Edit(2))
    with pytest.raises(RuntimeError, match="no action “absent”"):
        bpy.ops.vivant.motion_phase(part="left arm", style="absent")
    made[phases.MODEL] = str(tmp_path / "absent.safetensors")
    with pytest.raises(VivantError, match="no file of weights"):
        phases.edited(made, "left arm", Edit(2))
    assert posing.bits(made) == before and len(bpy.data.actions) == 1


def test_lessons_are_the_rigs_own_long_actions(scene):
    made = rig()
    other = rig("other", 1.2)
    other.animation_data.action.name = "of another rig with these bones"
    short = made.animation_data.action.copy()
    for curve in posing.curves(made, ""):
        assert curve.data_path
    bpy.context.view_layer.objects.active = made
    assert [len(clip) for clip in phases.lessons(made)] == [90, 90, 90]
    assert made.animation_data.action != short
    with pytest.raises(RuntimeError, match="Save it first"):
        bpy.ops.vivant.phase_train()
