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
from vivant.operators import filling
from vivant.scene import actions, generated, phases, skeletons, takes
from vivant.scene.inbetween import inbetween_object

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
def _operators(operators):
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
        assert takes.original_of(made) == user and takes.takes_of(made) == [made.animation_data.action]
        after = posing.bits(made)
        assert after.keys() == before.keys()
        for key, value in before.items():
            assert (after[key] == value) != ("Left" in key[0]), key
        sizes.append(turns(made, "LeftArm").mean() / size)
        assert takes.reject(made) == user and not user.use_fake_user
    assert posing.bits(made) == before
    assert sizes[0] < 0.6 * sizes[1] < 0.6 * sizes[2] and sizes[2] > 1.2
    assert [a.name for a in bpy.data.actions] == [user.name], "nothing of the sampling is left"


def test_an_edit_of_nothing_gives_the_same_motion(scene, tmp_path):
    made = known(rig(), tmp_path)
    still = skeletons.clip_of(made, FRAMES)
    phases.edited(made, "right arm", Edit())
    moved = skeletons.clip_of(made, FRAMES)
    assert np.abs(np.abs(np.sum(moved.rotations * still.rotations, axis=-1)) - 1).max() < 1e-6


def test_an_edit_is_a_take_with_a_strength_and_a_place_in_the_list(scene, tmp_path):
    made = known(rig(), tmp_path)
    user, before = made.animation_data.action, posing.motion(made, FRAMES)
    sizes = [turns(made, "LeftArm").mean()]
    bpy.ops.vivant.motion_phase(part="left arm", amplitude=0.2)
    full, sizes = posing.bits(made), [*sizes, turns(made, "LeftArm").mean()]
    made.vivant_takes.strength = 0.0
    assert np.abs(posing.motion(made, FRAMES) - before).max() < 1e-5
    made.vivant_takes.strength = 0.5
    assert sizes[1] < turns(made, "LeftArm").mean() < sizes[0]
    made.vivant_takes.strength = 1.0
    assert posing.bits(made) == full

    said = takes.made_of(made.animation_data.action)
    assert said.edit == {"part": "left arm", "amplitude": pytest.approx(0.2), "tempo": 1, "shift": 0, "style": ""}
    assert said.frames == [1, 90] and said.bones == ["LeftArm", "LeftForeArm"] and said.key_error > 0.1
    bpy.ops.vivant.motion_phase(part="right arm", amplitude=1.4, another=True)
    assert len(takes.takes_of(made)) == 2 and made.vivant_takes.number == 2
    assert {key: bits for key, bits in posing.bits(made).items() if "Left" in key[0]} != {
        key: bits for key, bits in full.items() if "Left" in key[0]
    }, "another take is of the user's action"
    made.vivant_takes.number = 1
    assert posing.bits(made) == full
    with pytest.raises(RuntimeError, match="an edit of the left arm"):
        bpy.ops.vivant.take_again()
    takes.reject(made)
    assert list(bpy.data.actions) == [user]


def test_edits_of_two_parts_are_one_take_and_an_edit_anew_is_not_piled_on_the_last(scene, tmp_path):
    made = known(rig(), tmp_path)
    bpy.ops.vivant.motion_phase(part="left arm", amplitude=1.3)
    once = posing.bits(made)
    bpy.ops.vivant.motion_phase(part="right arm", amplitude=0.5)
    assert len(takes.takes_of(made)) == 1
    left = {key: bits for key, bits in posing.bits(made).items() if "Left" in key[0]}
    assert left == {key: bits for key, bits in once.items() if "Left" in key[0]}
    bpy.ops.vivant.motion_phase(part="left arm", amplitude=0.4)
    bpy.ops.vivant.motion_phase(part="left arm", amplitude=1.3)
    again = made.animation_data.action
    for key, curve in actions.curves_of(again, made.animation_data.action_slot).items():
        if "Left" in key[0]:
            first = np.frombuffer(once[key]["co"], np.float32).reshape(-1, 2)
            assert np.abs(actions.read_keys(curve, ["co"])["co"] - first).max() < 0.01


def test_an_accepted_edit_is_taken_out_again_without_a_trace_and_what_the_user_changed_stays(scene, tmp_path):
    made = known(rig(), tmp_path)
    user = made.animation_data.action
    for curve in posing.curves(made, 'pose.bones["LeftArm"]'):
        noise = curve.modifiers.new("NOISE")
        noise.strength = 0.05
    cycle = posing.curves(made, 'pose.bones["LeftForeArm"]')[0].modifiers.new("CYCLES")
    before, moving, poses = posing.bits(made), posing.motion(made, FRAMES), skeletons.clip_of(made, FRAMES).rotations
    bpy.ops.vivant.motion_phase(part="left arm")
    now = skeletons.clip_of(made, FRAMES).rotations
    assert np.abs(np.sum(now * poses, axis=-1)).min() > 1 - 1e-5, "noise is part of what is written anew"
    shown = posing.motion(made, FRAMES)
    assert bpy.ops.vivant.take_accept() == {"FINISHED"}
    assert made.animation_data.action == user
    assert np.array_equal(posing.motion(made, FRAMES), shown)
    assert posing.curves(made, 'pose.bones["LeftArm"]')[0].modifiers[0].mute and not cycle.mute
    takes.remove_generated(made)
    assert posing.bits(made) == before and np.array_equal(posing.motion(made, FRAMES), moving)

    bpy.ops.vivant.motion_phase(part="left arm", amplitude=0.2)
    bone = made.pose.bones["LeftForeArm"]
    bone.rotation_quaternion = (0.6, 0.8, 0, 0)
    bone.keyframe_insert("rotation_quaternion", frame=40)
    wanted = [curve.evaluate(40) for curve in posing.curves(made, 'pose.bones["LeftForeArm"]')]
    bpy.ops.vivant.motion_phase(part="left arm", amplitude=1.2)
    generated.set_strength(made, 0.5)
    takes.accept(made)
    assert [curve.evaluate(40) for curve in posing.curves(made, 'pose.bones["LeftForeArm"]')] == wanted
    takes.remove_generated(made)
    assert [curve.evaluate(40) for curve in posing.curves(made, 'pose.bones["LeftForeArm"]')] == wanted


@pytest.mark.parametrize("into", ["SLOT", "NEW", "NLA"])
def test_an_edit_is_kept_apart_as_slot_action_or_strip(scene, tmp_path, into):
    made = known(rig(), tmp_path)
    user, before = made.animation_data.action, posing.bits(made)
    bpy.ops.vivant.motion_phase(part="left arm", amplitude=0.3)
    shown = posing.motion(made, FRAMES)
    takes.ACCEPT[into](made)
    if into == "NLA":
        assert [tuple(track.strips[0].action_frame_start for track in made.animation_data.nla_tracks)[1]] == [1.0]
    else:
        assert np.array_equal(posing.motion(made, FRAMES), shown)
    own = actions.curves_of(user, user.slots[0])
    assert all(actions.read_keys(own[key])["co"].tobytes() == bits["co"] for key, bits in before.items())


def test_bones_that_may_not_be_keyed_stay_and_are_named(scene, tmp_path):
    made = known(rig(), tmp_path)
    made.pose.bones["LeftForeArm"].lock_rotation = (True, True, True)
    before = posing.bits(made)
    take, held = phases.edited(made, "left arm", Edit(0.3))
    assert held == ["LeftForeArm"] and take == made.animation_data.action
    assert {key[0].split('"')[1] for key, bits in posing.bits(made).items() if bits != before[key]} == {"LeftArm"}
    takes.reject(made)
    made.pose.bones["LeftArm"].lock_rotation = (True, True, True)
    with pytest.raises(VivantError, match="left arm are locked"):
        phases.edited(made, "left arm", Edit(0.3))
    assert posing.bits(made) == before and len(bpy.data.actions) == 1


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
    assert phases.parts_of(made)[0] == ["right arm", "left arm", "right leg", "left leg", "torso"]
    assert bpy.ops.vivant.motion_phase(part="left arm", amplitude=0.5) == {"FINISHED"}
    after = posing.bits(made)
    arm = ("LeftArm", "LeftForeArm", "LeftHand")
    for key, value in before.items():
        assert (after[key] == value) != any(f'"{bone}"' in key[0] for bone in arm), key
    assert {key[0].split('"')[1] for key in after.keys() - before.keys()} <= set(arm)
    assert turns(made, "LeftArm").mean() < 0.7 * size
    made.pose.bones["Head"].constraints.new("LIMIT_ROTATION")
    assert phases.parts_of(made) == ([], "Constraints move the bones of “human”. Bake its motion onto a plain skeleton first.")
    with pytest.raises(VivantError, match="Constraints move the bones"):
        phases.edited(made, "left arm", Edit(2))


def test_what_cannot_be_edited_is_said_and_changes_nothing(scene, tmp_path):
    made = rig()
    before = posing.bits(made)
    assert "no human" in phases.parts_of(made)[1], "the model that comes along knows other bones"
    known(made, tmp_path)
    assert phases.parts_of(made) == (list(PARTS), "")
    with pytest.raises(VivantError, match="no part “tail”"):
        phases.edited(made, "tail", Edit(2))
    with pytest.raises(RuntimeError, match="no action “absent”"):
        bpy.ops.vivant.motion_phase(part="left arm", style="absent")
    made[phases.MODEL] = str(tmp_path / "absent.safetensors")
    with pytest.raises(VivantError, match="no file of weights"):
        phases.edited(made, "left arm", Edit(2))
    assert posing.bits(made) == before and len(bpy.data.actions) == 1


def test_gaps_are_filled_by_phase_in_a_take(scene):
    made = small_human(seed=3, size=1.2)
    scene.render.fps = 30
    for frame, angle in ((1, 0.3), (9, -0.3), (17, 0.3), (41, -0.3), (49, 0.3)):
        for bone in made.pose.bones:
            bone.rotation_mode = "QUATERNION"
            side = {"L": 1, "R": -1}.get(bone.name[0], 0)
            posing.key(made, bone.name, "rotation_quaternion", [frame], [tuple(Quaternion((1, 0, 0), side * angle))])
    before = posing.bits(made)
    scene.frame_set(30)
    assert bpy.ops.vivant.motion_inbetween(solver="phase") == {"FINISHED"}
    said = takes.made_of(made.animation_data.action)
    assert said.solver == "phase" and not said.fallback and said.key_error == 0 and said.frames == [18, 40]
    phased = posing.motion(made, range(18, 41))
    assert inbetween_object(made, scope="RANGE", frame_range=(17, 41), another=True).solver == "spline"
    assert np.abs(posing.motion(made, range(18, 41)) - phased).max() > 0.01
    assert len(takes.takes_of(made)) == 2
    takes.reject(made)
    assert posing.bits(made) == before


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


def test_an_edit_that_is_stopped_at_any_step_changes_nothing(scene, tmp_path):
    made = known(rig(), tmp_path)
    for taken in (False, True):
        if taken:
            phases.edited(made, "right arm", Edit(0.5))
        before, names = posing.bits(made), {action.name for action in bpy.data.actions}
        user = takes.original_of(made) or made.animation_data.action
        flag, facts = user.use_fake_user, known_facts(made.animation_data.action)
        for stop in range(1, 20):
            steps = phases.editing(made, "left arm", Edit(1.5))
            try:
                for _ in range(stop):
                    next(steps)
            except StopIteration:
                break
            steps.close()
            assert posing.bits(made) == before and {action.name for action in bpy.data.actions} == names
            assert user.use_fake_user == flag and known_facts(made.animation_data.action) == facts
        assert stop > 2
        takes.reject(made)


def known_facts(action):
    group = action.get(takes.KEY)
    return group.to_dict() if group else {}


def test_in_a_window_an_edit_goes_on_in_slices(scene, tmp_path):
    made = known(rig(), tmp_path)
    work = filling.Filling(phases.editing(made, "left arm", Edit(0.5)))
    while not work.poll():
        assert work.holds or work.done
    assert work.result()[0] == made.animation_data.action
