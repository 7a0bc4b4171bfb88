# SPDX-License-Identifier: GPL-3.0-or-later
"""Gaps filled by phase: keys are exact, ends are smooth, sliders act one way, and other parts do not notice."""

from pathlib import Path

import numpy as np
import pytest

from vivant.backends.common import rotations as quaternions
from vivant.backends.common.errors import NeedsWeights, VivantError
from vivant.backends.motion import interpolate, solve
from vivant.backends.motion.clip import Clip
from vivant.backends.motion.phase import model, parts, sampler, solver

NAMES = "hips LeftArm LeftForeArm LeftHand RightArm RightForeArm RightHand".split()
PARENTS = [-1, 0, 1, 2, 0, 4, 5]
PARTS = parts.find(NAMES, PARENTS)


def swinging(hertz: float, frames: int = 200, seed: int = 0, fps: float = 30, size: float = 0.4) -> Clip:
    rng = np.random.default_rng(seed)
    t = np.arange(frames)[:, None, None] / fps
    wave = np.sin(2 * np.pi * (hertz * t + np.array([0, 0, 0.1, 0.2, 0.5, 0.6, 0.7])[:, None]))
    rotations = quaternions.exp(wave * np.array([[0, 0, size]]) + rng.normal(size=(7, 3)) * 0.02)
    offsets = np.array([[0, 0, 0], [0.1, 0.4, 0], [0, -0.3, 0], [0, -0.3, 0], [-0.1, 0.4, 0], [0, -0.3, 0], [0, -0.3, 0]])
    root = np.stack([0 * t[:, 0, 0], 0.9 + 0 * t[:, 0, 0], 1.2 * t[:, 0, 0]], axis=1)
    return Clip(NAMES, np.array(PARENTS), offsets, fps, rotations, root)


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> str:
    """A model that really knows the phases of these arms; its sampler has learned nothing, but departs from the cubic."""
    torch = pytest.importorskip("torch", reason="the phase model is trained with torch")
    from vivant.backends.motion.phase import network, training

    torch.set_num_threads(1)
    clips = [swinging(hertz, seed=seed) for seed, hertz in enumerate(np.linspace(0.6, 1.6, 12))]
    models = training.train_parts(clips, PARTS, latents=2, steps=80)
    named = {part: models[part].joints for part in models}
    found = model.PhaseModel(tuple(NAMES), tuple(PARENTS), clips[0].offsets, 30.0, named, models, {})
    body = sampler.skeleton(PARENTS, found.offsets, list(found.parts_of(clips[0]).values()))
    torch.manual_seed(0)
    net = network.Network(body, 2)
    for value in (net.expert3, net.outputs.weight):
        value.data += 0.03 * torch.randn_like(value)
    path = tmp_path_factory.mktemp("phase") / "arms.safetensors"
    model.save(model.PhaseModel(*list(vars(found).values())[:-1], training.arrays(net)), path)
    return str(path)


def gap(clip: Clip, start: int, end: int) -> np.ndarray:
    keys = np.ones((len(clip), len(NAMES)), bool)
    keys[start + 1 : end] = False
    return keys


def steps(clip: Clip) -> np.ndarray:
    return quaternions.difference(clip.rotations[:-1], clip.rotations[1:])


@pytest.mark.parametrize("fps", [24, 30])
@pytest.mark.parametrize("ends", [(60, 91), (0, 20), (3, 40), (150, 199), (80, 82)])
def test_known_values_come_back_bit_for_bit_and_speeds_go_on_at_both_ends(weights, ends, fps):
    clip, (start, end) = swinging(1.1, seed=9, fps=fps), ends
    keys = gap(clip, start, end)
    keys[(start + end) // 2, 1:4] = True  # one arm has a key inside
    filled, report = solve.inbetween(clip, keys, "phase", phase_model=weights)
    assert (report.solver, report.fallback, report.key_error) == ("phase", "", 0)
    assert filled.rotations[keys].tobytes() == clip.rotations[keys].tobytes()
    assert filled.root[keys[:, 0]].tobytes() == clip.root[keys[:, 0]].tobytes()
    assert np.all(np.isfinite(filled.rotations)) and np.abs(np.linalg.norm(filled.rotations, axis=-1) - 1).max() < 1e-9
    cubic = interpolate.cubic(clip, keys)
    if end - start > 20:
        assert np.abs(filled.rotations - cubic.rotations).max() > 1e-3
    for side in (start, end):
        if 0 < side < len(clip) - 1:  # no rougher than the cubic, but for what the sampler adds smoothly
            jumps = [np.linalg.norm(np.diff(steps(c), axis=0)[side - 1], axis=-1).max() for c in (filled, cubic)]
            assert jumps[0] < jumps[1] + 0.03


def test_values_without_a_key_are_not_looked_at(weights):
    clip = swinging(1.1, seed=9)
    keys = gap(clip, 60, 100)
    hidden = clip.replace(
        rotations=np.where(keys[..., None], clip.rotations, np.nan), root=np.where(keys[:, :1], clip.root, np.nan)
    )
    a, b = (solve.inbetween(c, keys, "phase", phase_model=weights, amplitude={"left arm": 1.3})[0] for c in (clip, hidden))
    np.testing.assert_array_equal(a.rotations, b.rotations)
    np.testing.assert_array_equal(a.root, b.root)


def test_sliders_act_one_way_on_their_part_alone(weights):
    clip = swinging(1.1, seed=9)
    keys = gap(clip, 50, 140)
    plain = solve.inbetween(clip, keys, "phase", phase_model=weights)[0]
    arm, rest = list(PARTS["left arm"]), [joint for joint in range(7) if joint not in PARTS["left arm"]]
    inner = slice(65, 125)  # away from the ends, which the keys hold

    def edited(**options: dict[str, float]) -> Clip:
        result = solve.inbetween(clip, keys, "phase", phase_model=weights, **options)[0]
        assert result.rotations[:, rest].tobytes() == plain.rotations[:, rest].tobytes()
        assert result.rotations[keys].tobytes() == clip.rotations[keys].tobytes()
        return result

    results = [edited(amplitude={"left arm": factor}) for factor in (0.3, 0.6, 1, 1.5, 2)]
    speeds = [np.linalg.norm(steps(result)[inner, arm], axis=-1).mean() for result in results]
    assert np.all(np.diff(speeds) > 0) and speeds[-1] / speeds[2] > 1.3
    moved = edited(tempo={"left arm": 1.5}).rotations[inner, arm]
    assert np.degrees(np.linalg.norm(quaternions.difference(moved, plain.rotations[inner, arm]), axis=-1)).max() > 5
    moved = edited(shift={"left arm": 0.25}).rotations[inner, arm]
    assert np.degrees(np.linalg.norm(quaternions.difference(moved, plain.rotations[inner, arm]), axis=-1)).max() > 5


def test_style_comes_from_another_clip_to_its_part_alone_as_a_clip_or_by_its_number(weights):
    clip, other = swinging(1.0, seed=9), swinging(1.4, seed=11, size=0.9)
    keys = gap(clip, 50, 140)
    plain = solve.inbetween(clip, keys, "phase", phase_model=weights)[0]
    styled = solve.inbetween(clip, keys, "phase", phase_model=weights, style={"right arm": other})[0]
    again = solve.inbetween(clip, keys, "phase", [clip, other], phase_model=weights, style={"right arm": 1})[0]
    assert styled.rotations.tobytes() == again.rotations.tobytes()
    rest = [joint for joint in range(7) if joint not in PARTS["right arm"]]
    assert styled.rotations[:, rest].tobytes() == plain.rotations[:, rest].tobytes()
    sizes = [np.ptp(quaternions.log(c.rotations[65:125, list(PARTS["right arm"])]), axis=0).max() for c in (plain, styled)]
    assert sizes[1] > 1.5 * sizes[0]


def test_what_phase_cannot_do_is_said_and_another_solver_takes_over(weights):
    clip = swinging(1.0)
    keys = gap(clip, 50, 80)
    with pytest.raises(VivantError, match="no part “tail”"):
        solver.fill(clip, keys, (), 0, weights, tempo={"tail": 2.0})
    with pytest.raises(VivantError, match="has no clip 3"):
        solver.fill(clip, keys, (), 0, weights, style={"left arm": 3})
    with pytest.raises(VivantError, match="amplitude is 0 or more"):
        solver.fill(clip, keys, (), 0, weights, amplitude={"left arm": -1})
    with pytest.raises(VivantError, match="longer than the 6 seconds"):
        solver.fill(clip, gap(clip, 5, 190), (), 0, weights)
    with pytest.raises(NeedsWeights, match="no file"):
        solver.fill(clip, keys, (), 0, "absent.safetensors")
    long_arms = clip.replace(offsets=clip.offsets * np.array([1, 1, 3, 1, 1, 1, 1])[:, None])
    for other, why in (
        (long_arms, "other proportions"),
        (clip.replace(fps=60), "has 60"),
        (clip.replace(names=[*"abcdefg"]), "no joint"),
    ):
        _, report = solve.inbetween(other, keys, "phase", phase_model=weights)
        assert report.solver == "spline" and why in report.fallback
    assert Path(weights).is_file()


def walks(data) -> list[Clip]:
    """Held-out walks of the data folder, whole ones of at least five seconds on the joints of the model that comes along."""
    import importlib.util
    import sys

    spec = importlib.util.spec_from_file_location("mocap_container", data / "mocap" / "clips.py")
    container = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = container
    spec.loader.exec_module(container)
    found = container.load(
        data / "mocap",
        lambda clip: clip.skeleton == "cmu_daz" and clip.style == "walk" and clip.split == "heldout_take",
    )
    phases = solver.model_of()
    clips = (Clip(take.names, take.parents, take.offsets, take.fps, take.rotations, take.root) for take in found)
    return [model.reduced(clip, phases.names) for clip in clips if len(clip) > 300]


def test_the_model_that_comes_along_walks_better_than_the_spline(data):
    from vivant.backends.motion.phase import evaluate

    rows = evaluate.table(solver.model_of(), walks(data), (30,), cap=16)
    assert rows["phase"][30].l2p < 0.85 * rows["spline"][30].l2p < rows["SLERP"][30].l2p
    assert rows["phase"][30].skating < rows["SLERP"][30].skating


def test_on_real_walks_sliders_act_one_way_and_swapped_arms_leave_the_legs(data):
    from vivant.backends.motion.phase import edit

    phases = solver.model_of()
    clip, other = (whole.replace(rotations=whole.rotations[:200], root=whole.root[:200]) for whole in walks(data)[:2])
    joints, latents = phases.parts_of(clip), phases.latents(clip)
    arm = list(joints["left arm"])

    def speed(**slider: float) -> float:
        edited = edit.apply(clip, joints, latents, {"left arm": edit.Edit(**slider)})
        return float(np.linalg.norm(steps(edited)[:, arm], axis=-1).mean())

    assert np.all(np.diff([speed(amplitude=factor) for factor in (0.5, 1, 1.5, 2)]) > 0)
    assert np.all(np.diff([speed(tempo=factor) for factor in (0.7, 1, 1.4)]) > 0)
    arms = ("left arm", "right arm")
    dressed = edit.swap(clip, other, joints, latents, phases.latents(other), arms)
    legs = [*joints["left leg"], *joints["right leg"]]
    assert dressed.rotations[:, legs].tobytes() == clip.rotations[:, legs].tobytes()  # the bar is two degrees
    assert np.abs(dressed.rotations[:, arm] - clip.rotations[:, arm]).max() > 0.05
