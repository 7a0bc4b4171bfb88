# SPDX-License-Identifier: GPL-3.0-or-later
"""Phase on other humans than its own, by the model that comes along, without torch."""

import pathlib
import sys

import numpy as np
import pytest

from vivant.backends.common import rotations as quaternions
from vivant.backends.motion import interpolate, solve, stand_in
from vivant.backends.motion.clip import Clip
from vivant.backends.motion.phase import solver
from vivant.backends.motion.phase.edit import Edit
from vivant.backends.motion.phase.model import PhaseModel
from vivant.backends.motion.retarget import retarget

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from small_human import body

GAP = slice(20, 45)
LIMBS = ("upper_arm", "forearm", "hand")


@pytest.fixture(scope="module")
def phases() -> PhaseModel:
    return solver.model_of()


def walk(skeleton: Clip, frames: int = 80, hertz: float = 1.0, fps: float = 30.0, wide: float = 0.5) -> Clip:
    """The skeleton striding from its rest pose, all limbs swinging about the body's left, which is +X."""
    t = np.arange(frames) / fps
    swing = np.zeros((frames, len(skeleton.names), 3))
    for joint, name in enumerate(skeleton.names):
        part, _, side = name.partition(".")
        if side:
            ahead = 0.25 * (part in ("shin", "forearm")) + 0.5 * ((side == "L") == part.startswith(("thigh", "shin", "foot")))
            swing[:, joint, 0] = wide * np.sin(2 * np.pi * (hertz * t + ahead))
    # turns are about the world's axes, which the bones have at rest but for their own roll
    world = stand_in.rest_pose(skeleton)[1]
    turns = quaternions.multiply(quaternions.conjugate(world), quaternions.multiply(quaternions.exp(swing), world))
    rotations = quaternions.continuous(quaternions.multiply(np.tile(skeleton.rotations[:1], (frames, 1, 1)), turns))
    way = np.stack([0 * t, 0.02 * np.sin(4 * np.pi * hertz * t), 1.2 * t], axis=1)
    return skeleton.replace(rotations=rotations, root=skeleton.root[:1] + way, fps=fps)


def around_a_gap(clip: Clip) -> np.ndarray:
    keys = np.ones(clip.rotations.shape[:2], bool)
    keys[GAP] = False
    return keys


def turns_from(a: Clip, b: Clip, joints: dict[str, str]) -> dict[str, np.ndarray]:
    """World turns (F, 3) that lead each joint, named by the rig, from a's pose to b's."""
    found = quaternions.log(quaternions.multiply(b.forward()[1], quaternions.conjugate(a.forward()[1])))
    return {joint: found[:, list(a.names).index(name)] for joint, name in joints.items()}


OURS = {f"{part}.{side}": f"{part}.{side}" for part in (*LIMBS, "thigh", "shin", "foot") for side in "LR"}
DAZ = {"upper_arm": "Shldr", "forearm": "ForeArm", "hand": "Hand", "thigh": "Thigh", "shin": "Shin", "foot": "Foot"}
THEIRS = {f"{part}.{side}": side.lower() + name for part, name in DAZ.items() for side in "LR"}


@pytest.mark.parametrize("seed", range(2))
def test_the_same_motion_on_another_rig_is_changed_alike(phases, seed):
    """Size, facing, arms that hang at rest and the axes of the bones do not matter: limbs turn as the model's own do."""
    own = solver.body_of(phases)
    clip = retarget(walk(body()), body(size=1.7, drop=30.0, yaw=70.0, seed=seed))
    keys = around_a_gap(clip)
    seen = retarget(clip, own)
    known = np.repeat(keys[:, :1], len(own.names), axis=1)
    mine, _ = solver.fill(seen, known, (), 0)  # the model's own skeleton, filled directly
    other, said = solver.fill(clip, keys, (), 0)
    expected = turns_from(interpolate.cubic(seen, known), mine, THEIRS)
    found = turns_from(interpolate.cubic(clip, keys), other, OURS)
    assert not said and max(np.abs(turn).max() for turn in expected.values()) > 0.1
    for joint in OURS:
        np.testing.assert_allclose(found[joint], expected[joint], atol=1e-5)
    hips = [np.asarray(c.root) - interpolate.cubic(d, k).root for c, d, k in ((mine, seen, known), (other, clip, keys))]
    longer = np.sum(hips[1] * hips[0]) / np.sum(hips[0] ** 2)
    legs = [
        np.linalg.norm(
            np.subtract(*stand_in.rest_pose(rig)[0][[rig.names.index(names[joint]) for joint in ("thigh.L", "foot.L")]])
        )
        for rig, names in ((own, THEIRS), (clip, OURS))
    ]
    assert longer == pytest.approx(legs[1] / legs[0], rel=1e-3)
    np.testing.assert_allclose(hips[1], longer * hips[0], atol=1e-5)


@pytest.mark.parametrize("fps", [24.0, 30.0, 60.0])
@pytest.mark.parametrize("kind", ["whole", "legs anew", "breakdowns"])
def test_keys_stay_and_what_the_model_does_not_have_keeps_the_spline(fps, kind):
    clip = walk(body(size=0.7, drop=40.0, seed=1), fps=fps)
    keys = around_a_gap(clip)
    names = np.array(clip.names)
    if kind == "legs anew":
        keys |= ~np.array([name.startswith(("thigh", "shin", "foot", "toe")) for name in names])
    if kind == "breakdowns":
        keys |= np.random.default_rng(5).random(keys.shape) < 0.05
    plain = interpolate.cubic(clip, keys)
    filled, report = solve.inbetween(clip, keys, "phase")
    assert (report.solver, report.fallback, report.key_error) == ("phase", "", 0)
    assert filled.rotations[keys].tobytes() == clip.rotations[keys].tobytes()
    assert filled.root[keys[:, 0]].tobytes() == clip.root[keys[:, 0]].tobytes()
    assert np.abs(filled.rotations - plain.rotations)[GAP].max() > 1e-3
    rest = [j for j, name in enumerate(names) if name.startswith(("finger", "toe"))]
    np.testing.assert_array_equal(filled.rotations[:, rest], plain.rotations[:, rest])


def test_sliders_and_styles_of_any_human_act_on_their_part_alone():
    skeleton = body(size=1.2, seed=3)
    clip, other = walk(skeleton, 140), walk(body(size=0.9, seed=4, leave=("spine2",)), 140, wide=0.9)
    keys = np.ones(clip.rotations.shape[:2], bool)
    keys[30:110] = False
    plain, _ = solve.inbetween(clip, keys, "phase")
    arm = [clip.names.index(f"{part}.L") for part in LIMBS]
    others = [joint for joint in range(len(clip.names)) if joint not in arm]

    def swing(**options: object) -> float:
        filled, report = solve.inbetween(clip, keys, "phase", [clip, other], **options)
        assert (report.solver, report.key_error) == ("phase", 0)
        np.testing.assert_allclose(filled.rotations[:, others], plain.rotations[:, others], atol=1e-9)
        return float(np.ptp(quaternions.difference(filled.rotations[:1], filled.rotations)[45:95, arm[0]], axis=0).max())

    sizes = [swing(amplitude={"left arm": factor}) for factor in (0.5, 0.8, 1.0, 1.3, 1.6)]
    assert np.all(np.diff(sizes) > 0)
    assert swing(style={"left arm": 1}) > 1.2 * swing()
    assert swing(style={"left arm": other}) == swing(style={"left arm": 1})


def test_names_that_say_nothing_are_mapped():
    clip = walk(body(seed=7))
    keys = around_a_gap(clip)
    strange = clip.replace(names=[f"bone {index}" for index in range(len(clip.names))])
    mapping = {name: f"bone {clip.names.index(name)}" for name in clip.names if not name.startswith("finger")}
    filled, report = solve.inbetween(strange, keys, "phase", human=mapping)
    assert report.solver == "phase"
    np.testing.assert_array_equal(filled.rotations, solve.inbetween(clip, keys, "phase")[0].rotations)


def test_a_part_of_another_human_is_edited_as_the_models_own_and_nothing_else(phases):
    own = solver.body_of(phases)
    clip = retarget(walk(body(), 140), body(size=1.3, drop=20.0, yaw=40.0, seed=6))
    seen, human = retarget(clip, own), {name: name for name in clip.names if not name.startswith("finger")}
    for part, joints in (("left arm", LIMBS), ("right leg", ("thigh", "shin", "foot"))):
        side = part[0].upper()
        moved = [clip.names.index(f"{joint}.{side}") for joint in joints]
        others = [joint for joint in range(len(clip.names)) if joint not in moved]
        for change in (Edit(amplitude=1.4), Edit(tempo=1.2, shift=0.1)):
            expected = turns_from(seen, solver.edited(phases, seen, part, change), THEIRS)
            changed = solver.edited(phases, clip, part, change, human=human)
            found = turns_from(clip, changed, OURS)
            assert changed.rotations[:, others].tobytes() == clip.rotations[:, others].tobytes()
            assert changed.root.tobytes() == clip.root.tobytes()
            for joint in (f"{joint}.{side}" for joint in joints):
                assert np.abs(expected[joint]).max() > 0.05
                np.testing.assert_allclose(found[joint], expected[joint], atol=1e-5)
    wide = walk(body(size=0.9, seed=4), 140, wide=0.9)
    styled = solver.edited(phases, clip, "left arm", Edit(), wide)
    assert (
        np.ptp(styled.rotations, axis=0)[clip.names.index("upper_arm.L")].max()
        > 1.2 * np.ptp(clip.rotations, axis=0)[clip.names.index("upper_arm.L")].max()
    )
    torso = solver.members_of(phases, "torso", clip)
    assert sorted(torso) == sorted(["spine1", "spine2", "spine3", "neck", "head"])
