# SPDX-License-Identifier: GPL-3.0-or-later
"""The optimisation keeps keys, plants feet, moves nothing needlessly, and follows the true gradient."""

from __future__ import annotations

import importlib.util
import pathlib
import sys

import numpy as np
import pytest

from vivant.backends.common import rotations as quaternions
from vivant.backends.motion import contacts, metrics, optimise, solve
from vivant.backends.motion.clip import Clip

PARENTS = np.array([-1, 0, 1, 2, 0, 4, 5, 0])
NAMES = ["hips", "thigh.L", "shin.L", "foot.L", "thigh.R", "shin.R", "foot.R", "head"]
OFFSETS = np.array([[0, 0, 0], [0.1, 0, 0], [0, -0.4, 0], [0, -0.4, 0], [-0.1, 0, 0], [0, -0.4, 0], [0, -0.4, 0], [0, 0.6, 0]])


def walker(frames: int = 40, metres: float = 0.8) -> tuple[Clip, np.ndarray]:
    """A body with bent knees that glides forwards in one pose, and keys at both ends of it (two frames each)."""
    bend = np.zeros((frames, len(NAMES), 3))
    bend[:, [1, 4], 0], bend[:, [2, 5], 0] = -0.5, 1.0
    root = np.zeros((frames, 3))
    root[:, 1] = 0.8 * np.cos(0.5)
    root[2:-2, 2] = np.linspace(0, metres, frames - 2)[1:-1]
    root[-2:, 2] = metres
    root[1, 2] = 0
    keys = np.zeros(frames, bool)
    keys[[0, 1, -2, -1]] = True
    return Clip(NAMES, PARENTS, OFFSETS, 30.0, quaternions.exp(bend), root), keys


def tangle(seed: int, frames: int = 9) -> optimise.Problem:
    """A random problem on a random tree."""
    rng = np.random.default_rng(seed)
    parents = np.array([-1, 0, 1, 1, 3, 0])
    turns = quaternions.exp(np.cumsum(rng.normal(size=(frames, 6, 3)) * 0.2, axis=0))
    clip = Clip(list("abcdef"), parents, rng.normal(size=(6, 3)), 24.0, turns, rng.normal(size=(frames, 3)) * 0.1)
    positions = clip.forward()[0]
    free = rng.random((frames, 21)) < 0.8
    free[:2] = free[-2:] = False
    places = positions + rng.normal(size=positions.shape) * 0.1
    pull = rng.uniform(0.5, 3, positions.shape[:2])
    return optimise.Problem(clip, free, places, pull, [2, 4], float(positions[:, [2, 4], 1].mean()), 0.7)


@pytest.mark.parametrize("seed", range(3))
def test_the_gradient_is_that_of_finite_differences(seed: int) -> None:
    problem = tangle(seed)
    rng = np.random.default_rng(100 + seed)
    at = rng.normal(size=problem.free.shape) * 0.3 * problem.free
    gradient, _ = problem.linearised(at)
    assert not gradient[~problem.free].any()
    for frame, entry in rng.permutation(np.argwhere(problem.free))[:40]:
        nudge = np.zeros_like(at)
        nudge[frame, entry] = 1e-6
        slope = (problem.energy(at + nudge) - problem.energy(at - nudge)) / 2e-6
        assert gradient[frame, entry] == pytest.approx(slope, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("frames", [5, 8, 9])
def test_banded_equations_have_the_solution_of_the_dense_ones(frames: int) -> None:
    problem = tangle(frames, frames)
    gradient, blocks = problem.linearised(np.zeros(problem.free.shape))
    size = problem.free.shape[1]
    dense = np.zeros((frames, size, frames, size))
    for ahead in range(3):
        for frame in range(frames - ahead):
            dense[frame, :, frame + ahead] = blocks[ahead, frame]
            dense[frame + ahead, :, frame] = blocks[ahead, frame].T
    wanted = np.linalg.solve(dense.reshape(frames * size, -1), -gradient.ravel())
    np.testing.assert_allclose(optimise.solve_blocks(blocks, -gradient).ravel(), wanted, atol=1e-9)


def test_solving_lowers_the_energy_and_leaves_fixed_entries() -> None:
    problem = tangle(5)
    found = problem.solve()
    assert problem.energy(found) < 0.9 * problem.energy(np.zeros_like(found))
    assert not found[~problem.free].any()


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_keys_are_bit_exact_and_results_repeat(kind: type) -> None:
    clip, keys = walker()
    clip = clip.replace(rotations=clip.rotations.astype(kind), root=clip.root.astype(kind))
    result = optimise.optimise(clip, keys, clip)
    assert result.rotations.dtype == kind
    assert np.array_equal(result.rotations[keys], clip.rotations[keys]) and np.array_equal(result.root[keys], clip.root[keys])
    again = optimise.optimise(clip, keys, clip)
    assert np.array_equal(result.rotations, again.rotations) and np.array_equal(result.root, again.root)


@pytest.mark.parametrize("seed", range(3))
def test_partial_keys_are_bit_exact(seed: int) -> None:
    clip, whole = walker()
    keys = np.broadcast_to(whole[:, None], clip.rotations.shape[:2]).copy()
    keys |= np.random.default_rng(seed).random(keys.shape) < 0.1
    result = optimise.optimise(clip, keys, clip)
    assert np.array_equal(result.rotations[keys], clip.rotations[keys])
    assert np.array_equal(result.root[keys[:, 0]], clip.root[keys[:, 0]])


def test_a_gliding_body_steps_and_its_feet_neither_slide_nor_sink() -> None:
    clip, keys = walker()
    result = optimise.optimise(clip, keys, clip)
    before, after = (moving.forward()[0][:, [3, 6]] for moving in (clip, result))
    floor = metrics.floor_height(before)
    assert metrics.skating(before, floor) > 2 and metrics.skating(after, floor) < 0.3
    assert metrics.penetration(after, floor) < 1e-3
    assert np.abs(np.diff(result.root, 3, axis=0)).max() < 0.06


def test_a_foot_that_stands_at_both_keys_stays_within_a_tenth_of_a_millimetre() -> None:
    clip, keys = walker(metres=0.0)
    sway = clip.root.copy()
    sway[2:-2, 0] = 0.03 * np.sin(np.linspace(0, np.pi, len(clip) - 4))
    prior = clip.replace(root=sway)
    feet = optimise.optimise(clip, keys, prior).forward()[0][:, [3, 6]]
    assert np.ptp(prior.forward()[0][:, [3, 6]], axis=0).max() > 0.02
    assert np.ptp(feet, axis=0).max() < 1e-4


def test_a_still_clip_stays_still() -> None:
    clip, keys = walker(metres=0.0)
    result = optimise.optimise(clip, keys, clip)
    np.testing.assert_allclose(result.forward()[0], clip.forward()[0], atol=1e-9)


def test_jitter_is_smoothed_and_a_joint_alone_is_a_clip() -> None:
    rng = np.random.default_rng(3)
    turns = np.cumsum(np.full((30, 1, 3), 0.02), axis=0)
    keys = np.zeros(30, bool)
    keys[[0, 1, -2, -1]] = True
    shaken = turns + rng.normal(size=turns.shape) * 0.02 * ~keys[:, None, None]
    clip = Clip(["bone"], np.array([-1]), np.zeros((1, 3)), 30.0, quaternions.exp(shaken), rng.normal(size=(30, 3)) * 0.01)
    result = optimise.optimise(clip, keys, clip)
    assert np.abs(np.diff(result.root, 2, axis=0)).mean() < 0.9 * np.abs(np.diff(clip.root, 2, axis=0)).mean()
    assert np.array_equal(result.rotations[keys], clip.rotations[keys]) and np.isfinite(result.rotations).all()


def test_what_a_solver_found_for_a_head_is_kept() -> None:
    """It carries nothing: no position tells how it turns."""
    clip, keys = walker(metres=0.0)
    shake = np.zeros((len(clip), len(NAMES), 3))
    shake[2:-2, -1, 1] = 0.3 * np.sin(np.arange(len(clip) - 4) * 2 * np.pi / 10)
    prior = clip.replace(rotations=quaternions.multiply(clip.rotations, quaternions.exp(shake)))
    turned = quaternions.log(optimise.optimise(clip, keys, prior).rotations[:, -1])[:, 1]
    assert np.abs(turned - shake[:, -1, 1])[4:-4].max() < 0.1


def test_frames_outside_the_keys_and_clips_without_gaps_do_not_change() -> None:
    clip, _ = walker()
    keys = np.zeros(len(clip), bool)
    keys[[10, 20]] = True
    result = optimise.optimise(clip, keys, clip)
    outside = np.r_[0:11, 20 : len(clip)]
    assert np.array_equal(result.rotations[outside], clip.rotations[outside])
    assert optimise.optimise(clip, np.ones(len(clip), bool), clip) is clip


def test_as_a_solver_it_fills_the_gaps_itself() -> None:
    clip, keys = walker()
    whole = np.broadcast_to(keys[:, None], clip.rotations.shape[:2])
    emptied = clip.replace(root=np.where(keys[:, None], clip.root, 0))
    result, said = optimise.solve_optimise(emptied, whole)
    assert np.array_equal(result.root[keys], clip.root[keys]) and said == []
    feet = result.forward()[0][:, [3, 6]]
    assert metrics.skating(feet, metrics.floor_height(feet)) < 0.3


def test_feet_that_never_stand_are_left_as_they_are_unless_painted_or_given_the_ground() -> None:
    """The known frames glide like the gap: a body on a treadmill, or a ghost."""
    clip, _ = walker()
    root = clip.root.copy()
    root[:, 2] = np.linspace(0, 1.5, len(clip))
    clip = clip.replace(root=root)
    keys = np.ones(len(clip), bool)
    keys[10:-10] = False
    np.testing.assert_allclose(optimise.optimise(clip, keys, clip).forward()[0], clip.forward()[0], atol=1e-9)
    painted = np.zeros(clip.rotations.shape[:2], bool)
    painted[15:25, 3] = True
    feet = optimise.optimise(clip, keys, clip, painted).forward()[0][:, [3, 6]]
    assert np.ptp(feet[18:22, 0], axis=0).max() < 0.01 < 0.1 < np.ptp(feet[18:22, 1], axis=0).max()
    assert np.abs(optimise.optimise(clip, keys, clip, ground=0.0).forward()[0] - clip.forward()[0]).max() > 0.01


def test_a_painted_foot_is_held() -> None:
    clip, keys = walker()
    painted = np.zeros(clip.rotations.shape[:2], bool)
    painted[12:24, 3] = True
    feet = optimise.optimise(clip, keys, clip, painted).forward()[0][:, 3]
    assert np.ptp(feet[12:24], axis=0).max() < 1e-4


def test_contacts_are_painted_by_name_and_a_hand_stays_at_its_key() -> None:
    clip, keys = walker()
    held, report = solve.inbetween(clip, keys, "optimise", contacts={"foot.L": [(12, 23)], "head": [(0, 12)]})
    assert report.solver == "optimise" and report.fallback == "" and report.key_error == 0
    paths = held.forward()[0]
    loose = solve.inbetween(clip, keys, "optimise")[0].forward()[0]
    assert np.ptp(paths[12:24, 3], axis=0).max() < 1e-4 < np.ptp(loose[12:24, 3], axis=0).max()
    head = [np.abs(path[2:13, 7] - path[0, 7]).max() for path in (paths, loose)]
    assert head[0] < 0.9 * head[1]
    wrong = solve.inbetween(clip, keys, "optimise", contacts={"tail": [(0, 3)]})[1]
    assert "no joint 'tail'" in wrong.fallback


@pytest.mark.parametrize("painted", [["foot.L"], ["toe.L"], ["tip.L"], ["foot.L", "toe.L"]])
def test_what_is_painted_of_a_foot_stays_where_it_is_while_the_rest_may_roll(painted: list[str]) -> None:
    clip, keys = walker()
    for side, ankle in (("L", 3), ("R", 6)):
        for name, offset in (("toe", (0, -0.05, 0.12)), ("tip", (0, 0, 0.06))):
            count = len(clip.names)
            parents = np.append(clip.parents, ankle if name == "toe" else count - 1)
            still = np.tile([1.0, 0, 0, 0], (len(clip), 1, 1))
            turns = np.concatenate([clip.rotations, still], axis=1)
            names, offsets = [*clip.names, f"{name}.{side}"], np.vstack([clip.offsets, offset])
            clip = Clip(names, parents, offsets, clip.fps, turns, clip.root)
    roll = np.zeros((len(clip), len(clip.names), 3))
    roll[:, 3, 0] = 0.8 * np.sin(np.linspace(0, np.pi, len(clip)))
    clip = clip.replace(rotations=quaternions.multiply(clip.rotations, quaternions.exp(roll)))
    held, _ = solve.inbetween(clip, keys, "optimise", contacts={name: [(12, 23)] for name in painted})
    travels = np.ptp(held.forward()[0][12:24], axis=0).max(axis=-1)
    exact, *other = (clip.names.index(name) for name in painted)
    assert travels[exact] < 1e-3
    assert all(travels[joint] < 0.01 for joint in other)


def test_a_foot_that_hangs_on_the_root_stands_where_it_is_painted_with_its_leg_and_is_left_alone_elsewhere() -> None:
    names = ["root", "body", "thigh.L", "shin.L", "thigh.R", "shin.R", "foot.L", "foot.R"]
    offsets = np.array([[0, 0, 0], [0, 0.75, 0], *[[0.1, 0, 0], [0, -0.4, 0], [-0.1, 0, 0], [0, -0.4, 0]], *[[0, 0, 0]] * 2])
    offsets[6:, 0] = 0.1, -0.1
    way = np.linspace(0, 0.6, 40)[:, None] * [0, 0, 1.0]
    bend = np.zeros((40, 8, 3))
    bend[:, [2, 4], 0], bend[:, [3, 5], 0] = -0.35, 0.7
    parents = np.array([-1, 0, 1, 2, 1, 4, 0, 0])
    moving = {joint: offsets[joint] + way for joint in (1, 6, 7)}
    clip = Clip(names, parents, offsets, 30.0, quaternions.exp(bend), np.zeros((40, 3)), translations=moving)
    keys = np.zeros(40, bool)
    keys[[0, 1, -2, -1]] = True
    held, report = solve.inbetween(clip, keys, "optimise", contacts={"foot.L": [(15, 24)]})
    loose, _ = solve.inbetween(clip, keys, "spline")
    assert [leg.apart for leg in contacts.find_legs(clip)] == [True, True] and report.key_error == 0
    places, before = held.forward()[0], loose.forward()[0]
    assert np.ptp(places[15:25, 6], axis=0).max() < 1e-6 < 0.1 < np.ptp(before[15:25, 6], axis=0).max()
    np.testing.assert_allclose(places[:, 7], before[:, 7], atol=1e-3)
    lengths = np.linalg.norm(places[:, 6] - places[:, 3], axis=-1)
    assert np.ptp(lengths) < 0.02  # the shin comes along


def test_feet_are_kept_above_the_ground_that_is_given() -> None:
    clip, keys = walker(metres=0.0)
    dive = clip.root.copy()
    dive[2:-2, 1] -= 0.2 * np.sin(np.linspace(0, np.pi, len(clip) - 4))
    prior = clip.replace(root=dive)
    lowest = clip.forward()[0][0, [3, 6], 1].min()
    for ground in (None, lowest):
        feet = optimise.optimise(clip, keys, prior, ground=ground).forward()[0][:, [3, 6]]
        assert metrics.penetration(feet, lowest) < 0.005 < metrics.penetration(prior.forward()[0][:, [3, 6]], lowest)
    high = optimise.optimise(clip, keys, prior, ground=lowest - 1).forward()[0][:, [3, 6]]
    assert metrics.penetration(high, lowest) > 0.1


def test_with_a_library_the_motion_found_there_is_optimised() -> None:
    """The library holds the very motion: a nod that the spline cannot know of."""
    frames = 80
    clip, _ = walker(frames, metres=0.0)
    nod = np.zeros((frames, len(NAMES), 3))
    nod[:, 0, 1] = 0.3 * np.sin(np.arange(frames) / 5)
    truth = clip.replace(rotations=quaternions.multiply(clip.rotations, quaternions.exp(nod)))
    keys = np.ones(frames, bool)
    keys[25:45] = False
    away = {
        name: np.abs(solve.inbetween(truth, keys, "optimise", library)[0].rotations[:, 0] - truth.rotations[:, 0]).max()
        for name, library in (("with", [truth]), ("without", []))
    }
    assert away["with"] < 0.5 * away["without"]
    other = truth.replace(names=[*NAMES[:-1], "tail"])
    result, report = solve.inbetween(truth, keys, "optimise", [other])
    assert report.solver == "optimise" and "The spline was optimised instead." in report.warnings[0]
    np.testing.assert_array_equal(result.rotations, solve.inbetween(truth, keys, "optimise")[0].rotations)


@pytest.mark.parametrize("name", ["fox_m2m", "bird_m2m", "snake_m2m", "Spider", "cmu_asf_01"])
def test_real_skeletons_keep_their_keys_and_come_back_whole(data: pathlib.Path, name: str) -> None:
    spec = importlib.util.spec_from_file_location("mocap_container", data / "mocap" / "clips.py")
    assert spec and spec.loader
    container = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = container
    spec.loader.exec_module(container)
    file = data / "mocap" / ("cmu.clips.xz" if name.startswith("cmu") else "creatures.clips.xz")
    found = container.load(file, lambda clip: clip.skeleton == name)[0]
    rows = slice(0, 40)
    clip = Clip(
        found.names, found.parents, found.offsets, found.fps, found.rotations[rows], found.root[rows], found.rest,
        {joint: values[rows] for joint, values in found.moving.items()},
    )  # fmt: skip
    keys = np.ones(len(clip), bool)
    keys[5 : min(30, len(clip) - 5)] = False
    prior, _ = solve.inbetween(clip, keys)
    result = optimise.optimise(clip, keys, prior)
    assert np.array_equal(result.rotations[keys], clip.rotations[keys]) and np.array_equal(result.root[keys], clip.root[keys])
    assert np.isfinite(result.rotations).all() and np.abs(np.linalg.norm(result.rotations, axis=-1) - 1).max() < 1e-3
    step = np.abs(np.diff(result.forward()[0], axis=0)).max()
    reference = max(np.abs(np.diff(motion.forward()[0], axis=0)).max() for motion in (clip, prior))
    size = np.ptp(clip.forward()[0], axis=1).max()
    assert step < reference + 0.15 * size
    if "snake" in name.lower():
        assert contacts.find_legs(clip) == ()
