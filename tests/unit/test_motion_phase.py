# SPDX-License-Identifier: GPL-3.0-or-later
"""Phase without torch: the FFT layer's closed forms, body parts of rigs, and edits measured on signals of known period."""

import numpy as np
import pytest

from vivant.backends.common import rotations as quaternions
from vivant.backends.common.errors import VivantError
from vivant.backends.motion.clip import Clip
from vivant.backends.motion.formats import bvh
from vivant.backends.motion.phase import edit, parts, periodic
from vivant.backends.motion.phase.edit import Edit
from vivant.backends.motion.phase.periodic import Latent

T, WINDOW = 61, 2.0


def curve(f: float, t: np.ndarray) -> np.ndarray:
    return 0.7 * np.sin(2 * np.pi * (f * t + 0.13)) + 0.2


@pytest.mark.parametrize("f", [0.5, 1.0, 1.5])
def test_the_spectrum_of_a_sinusoid_of_whole_cycles_is_exact(f):
    y = curve(f, np.arange(T) * WINDOW / T)
    amplitude, frequency, offset = periodic.spectrum(y, WINDOW)
    np.testing.assert_allclose([amplitude, frequency, offset], [0.7, f, 0.2], atol=1e-12)
    phase = periodic.bin_phase(y, np.array(round(f * WINDOW)))
    np.testing.assert_allclose(phase, 0.13, atol=1e-12)
    t = periodic.times(T, WINDOW)
    assert t[T // 2] == 0
    centre = phase + frequency * (T // 2) * WINDOW / T  # the phase moved on to the window's middle
    np.testing.assert_allclose(periodic.sinusoid(amplitude, frequency, offset, centre, t), y, atol=1e-12)


def test_between_the_bins_and_on_a_grid_with_both_ends_it_leaks_as_published():
    amplitude, frequency, offset = periodic.spectrum(curve(2.3, np.arange(T) * WINDOW / T), WINDOW)
    np.testing.assert_allclose([frequency, amplitude, offset], [2.534, 0.7004, 0.229], atol=5e-4)
    _, frequency, offset = periodic.spectrum(curve(1.5, np.linspace(-1, 1, T)), WINDOW)
    np.testing.assert_allclose([frequency, offset], [1.505, 0.1916], atol=6e-4)


def test_a_still_curve_has_no_amplitude_and_a_finite_frequency():
    for still in (np.zeros(T), np.full(T, 0.3)):
        amplitude, frequency, offset = periodic.spectrum(still, WINDOW)
        assert (amplitude, offset) == pytest.approx((0, still[0]), abs=1e-15) and np.isfinite(frequency)


def test_phase_vectors_turn_and_scale():
    p = periodic.vector(np.array(1.7), np.array(0.25))
    np.testing.assert_allclose(p, [1.7, 0], atol=1e-15)  # (A sin, A cos)
    q = p
    for _ in range(30):
        q = periodic.advance(q, np.array(1.0), 1 / 30)
    np.testing.assert_allclose(q, p, atol=1e-13)
    np.testing.assert_allclose(periodic.advance(p, np.array(0.5), 0.4), periodic.vector(np.array(1.7), np.array(0.45)))
    doubled = periodic.vector(np.array(3.4), np.array(0.25))
    assert np.linalg.norm(doubled) == pytest.approx(2 * np.linalg.norm(p))


def test_differences_of_phase_take_the_short_way_and_give_the_frequency():
    np.testing.assert_allclose(periodic.wrap(np.array([0.8, -0.8, 0.5, -0.5, 0.0])), [-0.2, 0.2, 0.5, 0.5, 0.0], atol=1e-15)
    np.testing.assert_allclose(periodic.rate(np.arange(100) * 1.3 / 30 % 1, 30), 1.3)


MIXAMO = ["Hips", "Spine", "Spine1", "Neck", "Head", "LeftShoulder", "LeftArm", "LeftForeArm", "LeftHand", "RightShoulder"]
MIXAMO += ["RightArm", "RightForeArm", "RightHand", "LeftUpLeg", "LeftLeg", "LeftFoot", "RightUpLeg", "RightLeg", "RightFoot"]
PARENTS = [-1, 0, 1, 2, 3, 2, 5, 6, 7, 2, 9, 10, 11, 0, 13, 14, 0, 16, 17]
HUMAN = {
    "left arm": (5, 6, 7, 8),
    "right arm": (9, 10, 11, 12),
    "left leg": (13, 14, 15),
    "right leg": (16, 17, 18),
    "torso": (1, 2, 3, 4),
}
DIALECTS = {
    "Mixamo": [f"mixamorig:{name}" for name in MIXAMO],
    "Unreal": "pelvis spine_01 spine_02 neck_01 head clavicle_l upperarm_l lowerarm_l hand_l clavicle_r upperarm_r lowerarm_r "
    "hand_r thigh_l calf_l foot_l thigh_r calf_r foot_r".split(),
    "Rigify": "spine spine.001 spine.002 spine.003 spine.004 shoulder.L upper_arm.L forearm.L hand.L shoulder.R upper_arm.R "
    "forearm.R hand.R thigh.L shin.L foot.L thigh.R shin.R foot.R".split(),
    "Daz": "hip abdomen chest neck head lCollar lShldr lForeArm lHand rCollar rShldr rForeArm rHand lThigh lShin lFoot rThigh "
    "rShin rFoot".split(),
    "ASF": "root lowerback thorax lowerneck head lclavicle lhumerus lradius lhand rclavicle rhumerus rradius rhand lfemur "
    "ltibia lfoot rfemur rtibia rfoot".split(),
    "VRM": [
        f"J_Bip_{name}"
        for name in "C_Hips C_Spine C_Chest C_Neck C_Head L_Shoulder L_UpperArm L_LowerArm L_Hand R_Shoulder R_UpperArm "
        "R_LowerArm R_Hand L_UpperLeg L_LowerLeg L_Foot R_UpperLeg R_LowerLeg R_Foot".split()
    ],
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_human_has_two_arms_two_legs_and_a_torso_in_every_naming(dialect):
    assert parts.find(DIALECTS[dialect], PARENTS) == HUMAN


def test_two_parts_are_the_arms_and_the_rest():
    found = parts.find(MIXAMO, PARENTS, count=2)
    assert found == {"arms": tuple(range(5, 13)), "torso": (1, 2, 3, 4, *range(13, 19))}
    with pytest.raises(VivantError, match="no upper limbs"):
        parts.find(["root", "body", "tail"], [-1, 0, 1], count=2)
    with pytest.raises(VivantError, match="5 or 2"):
        parts.find(MIXAMO, PARENTS, count=3)


def test_names_that_say_nothing_leave_shape_to_tell():
    offsets = np.zeros((19, 3))
    offsets[1:5, 1] = 0.2
    for a, b in ((5, 9), (13, 16)):
        offsets[a], offsets[b] = (0.15, 0.1, 0.02), (-0.15, 0.1, 0.02)
    names = [f"bone{joint}" for joint in range(19)]
    assert parts.find(names, PARENTS, offsets) == HUMAN
    assert set(parts.find(names, PARENTS)) == {"torso"}  # neither names nor shape


def test_creatures_have_as_many_limbs_as_they_have():
    names = "root Body FrontLeg.L FrontFoot.L FrontLeg.R FrontFoot.R BackLeg.L BackFoot.L BackLeg.R BackFoot.R "
    names += "Ear1.L Ear2.L IKLeg.L IKTip.L"
    found = parts.find(names.split(), [-1, 0, 1, 2, 1, 4, 1, 6, 1, 8, 1, 10, 0, 12])
    limbs = {"left arm": (2, 3), "right arm": (4, 5), "left leg": (6, 7), "right leg": (8, 9)}
    assert found == {**limbs, "torso": (1, 10, 11)}  # ears are no limbs, controls of IK no part
    spider = ["body"] + [f"leg{n}_{joint}_{s}" for s in "lr" for n in range(4) for joint in range(2)]
    found = parts.find(spider, [-1] + [0 if joint % 2 == 0 else joint for joint in range(16)])
    assert len(found) == 8 and found["right leg 4"] == (15, 16)


def test_parts_of_ones_own_are_checked():
    assert parts.named(MIXAMO, {"hand": ["LeftHand", "LeftForeArm"]}) == {"hand": (7, 8)}
    for wrong, message in (({"a": ["Wing"]}, "no joint"), ({"a": ["Head"], "b": ["Head"]}, "twice"), ({"a": []}, "no joints")):
        with pytest.raises(VivantError, match=message):
            parts.named(MIXAMO, wrong)


def swinging(frames: int = 300, hertz: float = 0.9, seed: int = 0, lean: float = 0.3) -> tuple[Clip, dict[str, Latent]]:
    """A body whose joints swing with two harmonics about a slowly drifting pose, and the phase of that."""
    rng = np.random.default_rng(seed)
    t = np.arange(frames)[:, None, None] / 30
    first = np.sin(2 * np.pi * (hertz * t + rng.random((19, 1)))) * rng.normal(size=(19, 3)) * 0.2
    second = np.sin(2 * np.pi * (2 * hertz * t + rng.random((19, 1)))) * rng.normal(size=(19, 3)) * 0.05
    drift = quaternions.exp(0.1 * np.sin(0.3 * t) + rng.normal(size=(19, 3)) * lean)
    offsets = rng.normal(size=(19, 3)) * 0.2
    rotations = quaternions.continuous(quaternions.multiply(drift, quaternions.exp(first + second)))
    clip = Clip(MIXAMO, np.array(PARENTS), offsets, 30, rotations, np.zeros((frames, 3)))
    phase = (hertz * np.arange(frames) / 30 % 1)[:, None]
    ones = np.ones_like(phase)
    return clip, {part: Latent(ones, hertz * ones, 0 * ones, phase) for part in HUMAN}


def speed(clip: Clip, part: str) -> float:
    q = clip.rotations[30:-30, HUMAN[part]]
    return float(np.linalg.norm(quaternions.difference(q[:-1], q[1:]), axis=-1).mean())


def dominant(clip: Clip, part: str) -> float:
    q = clip.rotations[:, HUMAN[part]]
    v = quaternions.difference(q[:1], q).reshape(len(q), -1)
    power = np.abs(np.fft.rfft((v - v.mean(axis=0)) * np.hanning(len(v))[:, None], 16384, axis=0)) ** 2
    hertz = np.fft.rfftfreq(16384, 1 / 30)
    return float(hertz[hertz > 0.3][np.argmax(power.sum(axis=1)[hertz > 0.3])])


@pytest.mark.parametrize("seed", range(3))
def test_an_edit_of_nothing_changes_nothing_and_other_parts_stay_bit_for_bit(seed):
    clip, latents = swinging(seed=seed)
    same = edit.apply(clip, HUMAN, latents, {"left arm": Edit()})
    assert same.rotations.tobytes() == clip.rotations.tobytes()
    nearly = edit.apply(clip, HUMAN, latents, {"left arm": Edit(amplitude=1 + 1e-9, tempo=1 + 1e-9, shift=1e-9)})
    np.testing.assert_allclose(nearly.rotations, clip.rotations, atol=1e-6)
    changed = edit.apply(clip, HUMAN, latents, {"left arm": Edit(1.5, 1.2, 0.1)})
    others = [joint for joint in range(19) if joint not in HUMAN["left arm"]]
    assert changed.rotations[:, others].tobytes() == clip.rotations[:, others].tobytes()
    assert changed.root.tobytes() == clip.root.tobytes()
    np.testing.assert_allclose(np.linalg.norm(changed.rotations, axis=-1), 1, atol=1e-12)


@pytest.mark.parametrize("part", ["left arm", "torso"])
def test_amplitude_scales_a_parts_motion(part):
    clip, latents = swinging()
    gains = [speed(edit.apply(clip, HUMAN, latents, {part: Edit(amplitude=a)}), part) for a in (0, 0.5, 1, 1.3, 2)]
    assert np.all(np.diff(gains) > 0)
    assert gains[0] < 0.1 * gains[2]  # the slow drift is left
    assert 1.25 < gains[3] / gains[2] < 1.35


def test_tempo_moves_the_dominant_frequency_and_keeps_the_size():
    clip, latents = swinging()
    found = {k: edit.apply(clip, HUMAN, latents, {"left arm": Edit(tempo=k)}) for k in (0.5, 0.8, 1.0, 1.2, 1.5)}
    ratios = [dominant(faster, "left arm") / dominant(clip, "left arm") for faster in found.values()]
    np.testing.assert_allclose(ratios, list(found), rtol=0.03)
    np.testing.assert_allclose(speed(found[1.2], "left arm") / speed(clip, "left arm"), 1.2, rtol=0.05)


@pytest.mark.parametrize("beats", [2, 3])
def test_a_channel_that_beats_several_times_in_a_swing_is_read_as_one_swing(beats):
    clip, latents = swinging(hertz=0.8)
    faster = {
        part: Latent(one.amplitude, beats * one.frequency, one.offset, np.unwrap(one.phase, axis=0, period=1) * beats % 1)
        for part, one in latents.items()
    }
    for change in (Edit(tempo=0.8), Edit(tempo=1.2), Edit(shift=0.25), Edit(amplitude=1.4, shift=-0.1)):
        found, expected = (edit.apply(clip, HUMAN, known, {"left arm": change}) for known in (faster, latents))
        assert np.abs(expected.rotations - clip.rotations).max() > 0.05
        np.testing.assert_allclose(found.rotations[30:-30], expected.rotations[30:-30], atol=0.03)
        if change.tempo != 1:
            assert dominant(found, "left arm") / dominant(clip, "left arm") == pytest.approx(change.tempo, rel=0.03)


@pytest.mark.parametrize("shift", [-0.2, 0.1, 0.5])
def test_shift_is_the_swing_of_another_time_in_the_cycle(shift):
    clip, latents = swinging(hertz=1.0)  # thirty frames a cycle
    ahead = edit.apply(clip, HUMAN, latents, {"right leg": Edit(shift=shift)})
    frames = round(30 * shift)
    joints = HUMAN["right leg"]
    cycles = np.arange(300) / 30
    swing = edit.oscillation(clip.rotations[:, joints], cycles)[1]
    moved = edit.oscillation(ahead.rotations[:, joints], cycles)[1]
    inner = slice(60, 240)
    np.testing.assert_allclose(moved[inner], np.roll(swing, -frames, axis=0)[inner], atol=0.02)


def test_no_step_appears_that_was_not_there():
    clip, latents = swinging()
    for change in (Edit(tempo=1.37), Edit(tempo=0.71, shift=0.4), Edit(amplitude=1.3)):
        changed = edit.apply(clip, HUMAN, latents, {"torso": change})
        before, after = (
            np.linalg.norm(quaternions.difference(c.rotations[:-1], c.rotations[1:]), axis=-1).max() for c in (clip, changed)
        )
        assert after < 1.6 * before


def test_swapped_arms_swing_in_step_with_the_clip_and_about_the_others_pose():
    clip, latents = swinging(hertz=0.9, seed=1)
    other, others = swinging(frames=260, hertz=1.2, seed=2)
    arms = ("left arm", "right arm")
    dressed = edit.swap(clip, other, HUMAN, latents, others, arms)
    rest = [joint for joint in range(19) if joint not in HUMAN["left arm"] + HUMAN["right arm"]]
    assert dressed.rotations[:, rest].tobytes() == clip.rotations[:, rest].tobytes()
    for arm in arms:
        assert dominant(dressed, arm) == pytest.approx(dominant(clip, arm), rel=0.03)
        joints = HUMAN[arm]
        a, b = (quaternions.normalise(quaternions.continuous(c.rotations[:, joints]).mean(axis=0)) for c in (dressed, other))
        assert np.degrees(np.linalg.norm(quaternions.difference(a, b), axis=-1)).max() < 6
    itself = edit.swap(clip, clip, HUMAN, latents, latents, arms)
    turned = quaternions.difference(itself.rotations, clip.rotations)
    assert np.degrees(np.linalg.norm(turned, axis=-1)).max() < 1e-5


@pytest.mark.parametrize("seed", range(3))
def test_swapped_arms_keep_the_beat_to_the_legs_that_they_had_whatever_their_own_phase_is(seed):
    rng = np.random.default_rng(seed)

    def walking(hertz: float, late: float, frames: int) -> tuple[Clip, dict[str, Latent]]:
        """Legs swing in turn, arms `late` cycles behind; the phase of legs begins anywhere, that of arms is noise."""
        cycles = hertz * np.arange(frames) / 30 + rng.random()
        turns = np.zeros((frames, 19, 3))
        for part, behind in (("left leg", 0.0), ("right leg", 0.5), ("left arm", 0.5 + late), ("right arm", late)):
            turns[:, HUMAN[part], 0] = 0.4 * np.sin(2 * np.pi * (cycles - behind))[:, None]
        clip = Clip(MIXAMO, np.array(PARENTS), np.ones((19, 3)), 30, quaternions.exp(turns), np.zeros((frames, 3)))
        ones = np.ones((frames, 1))
        noise = {part: Latent(ones, ones, 0 * ones, rng.random((frames, 1))) for part in HUMAN}
        step = Latent(ones, hertz * ones, 0 * ones, ((cycles + rng.random()) % 1)[:, None])
        return clip, noise | {"left leg": step, "right leg": step}

    def lag(clip: Clip, hertz: float) -> float:
        inner = slice(60, 60 + round(90 / hertz))  # three whole cycles
        wave = np.exp(-2j * np.pi * hertz * np.arange(len(clip)) / 30)[inner]
        leg, arm = (wave @ quaternions.log(clip.rotations)[inner, HUMAN[part][0], 0] for part in ("right leg", "left arm"))
        return float(np.angle(leg * np.conj(arm)) / (2 * np.pi))

    clip, latents = walking(0.9, 0.02, 300)
    other, others = walking(1.2, late := 0.21, 260)
    assert lag(other, 1.2) == pytest.approx(late, abs=0.005)
    dressed = edit.swap(clip, other, HUMAN, latents, others, ("left arm", "right arm"))
    assert lag(dressed, 0.9) == pytest.approx(late, abs=0.02)
    assert dominant(dressed, "left arm") == pytest.approx(dominant(clip, "left leg"), rel=0.02)
    legs = [*HUMAN["left leg"], *HUMAN["right leg"]]
    assert dressed.rotations[:, legs].tobytes() == clip.rotations[:, legs].tobytes()


def test_the_clock_goes_by_the_channel_that_the_part_turns_with_and_never_back():
    frames = np.arange(90)
    hertz = np.array([1.8, 0.9, 0.4])
    phase = hertz * frames[:, None] / 30
    phase[40:50] = phase[40]  # stands still
    latent = Latent(np.tile([2.0, 1.5, 0.1], (90, 1)), np.tile(hertz, (90, 1)), np.zeros((90, 3)), phase % 1)
    swing = np.sin(2 * np.pi * (phase[:, 1] + 0.2)) + 0.3 * np.sin(2 * np.pi * phase[:, 0])
    assert edit.fundamental(30, (latent, quaternions.exp(swing[:, None, None] * [[0.3, 0, 0.1]]))) == 1
    cycles = edit.clock(latent, 1, 30)
    assert np.diff(cycles).min() >= edit.SLOWEST / 30 - 1e-12
    np.testing.assert_allclose(np.diff(cycles)[:24], 0.03)  # half a second before it stops, which the mean sees


def test_wrong_edits_are_refused_in_a_sentence():
    clip, latents = swinging(frames=80)
    for wrong in ({"tempo": 0}, {"amplitude": -1}, {"shift": np.nan}, {"tempo": np.inf}):
        with pytest.raises(VivantError, match="amplitude is 0 or more"):
            Edit(**wrong)
    with pytest.raises(VivantError, match="no phase of a part “tail”"):
        edit.apply(clip, HUMAN, latents, {"tail": Edit(2)})
    with pytest.raises(VivantError, match="has 80 frames, the clip 300"):
        edit.swap(clip, swinging()[0], HUMAN, latents, latents, ("torso",))
    with pytest.raises(VivantError, match="same skeleton"):
        edit.swap(clip, clip.replace(fps=24), HUMAN, latents, latents, ("torso",))


@pytest.mark.parametrize(
    ("file", "limbs"),
    [
        ("cmu_07_12_walk_120fps", ["left arm", "left leg", "right arm", "right leg"]),
        ("cmu_35_28_walk_asf", ["left arm", "left leg", "right arm", "right leg"]),
        ("deepmimic_backflip", ["left arm", "left leg", "right arm", "right leg"]),
        ("fox_run", ["left arm", "left leg", "right arm", "right leg"]),
        ("bird_glide", ["left arm", "left leg", "right arm", "right leg"]),
        ("dragon_fly_flap", ["left arm", "left arm 2", "left leg", "right arm", "right arm 2", "right leg"]),
        ("snake_side_winding", []),
    ],
)
def test_real_rigs_fall_into_their_limbs(data, file, limbs):
    clip = bvh.read_bvh(data / "mocap" / "bvh" / f"{file}.bvh")
    found = parts.find(clip.names, clip.parents)
    assert sorted(found) == sorted([*limbs, "torso"])
    joints = [joint for members in found.values() for joint in members]
    assert len(joints) == len(set(joints)) and 0 not in joints
