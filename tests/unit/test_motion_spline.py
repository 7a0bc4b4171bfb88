# SPDX-License-Identifier: GPL-3.0-or-later
"""Oracles 1, 2, 3 and 20 of closed-form in-betweens: polynomials, dense least squares, one axis, signs."""

import itertools
import time

import numpy as np
import pytest

from vivant.backends.common import rotations as quaternions
from vivant.backends.motion import spline

SOLVERS = [(spline.fill_vectors, spline.fill_rotations), (spline.lerp_fill, spline.slerp_fill)]


def mask(frames: int, *known: slice | int) -> np.ndarray:
    keys = np.zeros(frames, bool)
    for part in known:
        keys[part] = True
    return keys


def moving_rotations(seed: int, frames: int, joints: int, speed: float = 0.1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    t = np.arange(frames)[:, None, None] / 15
    wave = np.sin(t * rng.uniform(0.5, 1.5, (joints, 3)) + rng.uniform(0, 6, (joints, 3)))
    start = quaternions.normalise(rng.normal(size=(joints, 4)))
    return quaternions.continuous(quaternions.multiply(start, quaternions.exp(wave * speed * 10)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("seed", range(5))
def test_known_values_come_back_bit_for_bit_and_the_rest_is_never_read(solver, seed, dtype):
    fill_vectors, fill_rotations = solver
    rng = np.random.default_rng(seed)
    known = rng.random((80, 7)) < rng.uniform(0.02, 0.6)
    known[rng.integers(80), :] = True
    vectors, quats = rng.normal(size=(80, 7)).astype(dtype), rng.normal(size=(80, 7, 4)).astype(dtype)
    hidden_vectors, hidden_quats = vectors.copy(), quats.copy()
    hidden_vectors[~known], hidden_quats[~known] = np.nan, np.nan
    for fill, values, hidden in ((fill_vectors, vectors, hidden_vectors), (fill_rotations, quats, hidden_quats)):
        filled = fill(hidden, known)
        assert filled.dtype == dtype
        assert filled[known].tobytes() == values[known].tobytes()
        assert np.all(np.isfinite(filled))
        np.testing.assert_array_equal(filled, fill(values, known))
        np.testing.assert_array_equal(np.isnan(hidden).reshape(80, 7, -1)[..., 0], ~known)  # the input is not touched


@pytest.mark.parametrize("gap", [1, 2, 5, 30])
def test_any_cubic_is_reproduced_from_two_frames_on_each_side(gap):
    rng = np.random.default_rng(gap)
    t = np.linspace(-1, 1, gap + 4)[:, None]
    cubic = sum(rng.normal(size=9) * t**power for power in range(4))
    known = mask(gap + 4, slice(2), slice(-2, None))
    filled = spline.fill_vectors(np.where(known[:, None], cubic, np.nan), known, damping=None)
    np.testing.assert_allclose(filled, cubic, atol=4e-14)


@pytest.mark.parametrize("gap", [4, 17])
def test_two_frames_on_each_side_give_the_path_of_least_acceleration(gap):
    """Against a dense least-squares solution of sum (x[t+1] - 2 x[t] + x[t-1])²."""
    frames = gap + 4
    known = mask(frames, slice(2), slice(-2, None))
    values = np.random.default_rng(gap).normal(size=(frames, 3))
    second = np.zeros((frames - 2, frames))
    for row in range(frames - 2):
        second[row, row : row + 3] = 1, -2, 1
    inner = np.linalg.lstsq(second[:, ~known], -second[:, known] @ values[known], rcond=None)[0]
    np.testing.assert_allclose(spline.fill_vectors(values, known, damping=None)[~known], inner, atol=1e-10)


def test_short_gaps_are_plain_cubics_by_default():
    t = np.linspace(-1, 1, 19)[:, None]
    known = mask(19, slice(2), slice(-2, None))
    np.testing.assert_allclose(spline.fill_vectors(t**3 - t, known), t**3 - t, atol=1e-13)


def test_one_target_frame_ends_without_acceleration():
    known = mask(30, slice(5), 25)
    x = spline.fill_vectors(np.random.default_rng(1).normal(size=(30, 4)), known, damping=None)
    np.testing.assert_allclose(np.diff(x[4:26], 3, axis=0), np.diff(x[4:26], 3, axis=0)[:1].repeat(19, 0), atol=1e-12)
    acceleration = np.diff(x[4:26], 2, axis=0)  # at frames 5 to 24
    np.testing.assert_allclose(2 * acceleration[-1] - acceleration[-2], 0, atol=1e-12)  # continued to frame 25


@pytest.mark.parametrize("damping", [None, spline.TURNS])
@pytest.mark.parametrize("known", [mask(60, slice(10), 50), mask(60, slice(10), slice(50, 60)), mask(60, 0, 7, 30, 59)])
def test_constant_velocity_is_kept_and_equals_slerp(known, damping):
    rng = np.random.default_rng(2)
    spin = quaternions.exp(np.arange(60)[:, None, None] * rng.uniform(-0.03, 0.03, (8, 3)))
    spin = quaternions.multiply(quaternions.normalise(rng.normal(size=(8, 4))), spin)
    line = np.arange(60)[:, None] * rng.normal(size=3) + 1
    until = np.nonzero(known)[0][-1] + 1  # the last key is held
    np.testing.assert_allclose(spline.fill_rotations(spin, known, damping)[:until], spin[:until], atol=1e-13)
    np.testing.assert_allclose(spline.slerp_fill(spin, known)[:until], spin[:until], atol=1e-13)
    np.testing.assert_allclose(spline.fill_vectors(line, known, damping)[:until], line[:until], atol=1e-12)
    np.testing.assert_allclose(spline.lerp_fill(line, known)[:until], line[:until], atol=1e-12)


@pytest.mark.parametrize("known", [mask(50, slice(6), 40), mask(50, slice(6), slice(40, 50)), mask(50, 0, 9, 11, 30, 49)])
def test_a_turn_about_one_axis_is_the_scalar_cubic_of_its_angle(known):
    rng = np.random.default_rng(3)
    angle = np.cumsum(rng.normal(size=(50, 6)) * 0.05, axis=0)
    axis = rng.normal(size=(6, 3))
    axis /= np.linalg.norm(axis, axis=1, keepdims=True)
    base = quaternions.normalise(rng.normal(size=(6, 4)))
    quats = quaternions.multiply(base, quaternions.exp(angle[..., None] * axis))
    for damping in (None, spline.TURNS):
        turned = quaternions.multiply(base, quaternions.exp(spline.fill_vectors(angle, known, damping)[..., None] * axis))
        np.testing.assert_allclose(spline.fill_rotations(quats, known, damping), turned, atol=1e-12)


def test_angular_velocities_at_both_ends_are_those_of_the_frames_outside():
    """In a gap of many frames, so that one step is nearly a derivative."""
    quats = moving_rotations(4, 4004, 5)
    known = mask(4004, slice(2), slice(-2, None))
    quats[1], quats[-1] = quaternions.multiply(quats[0], quaternions.exp(np.full((5, 3), 1e-3))), quats[-1]
    quats[-1] = quaternions.multiply(quats[-2], quaternions.exp(np.full((5, 3), -2e-3)))
    filled = spline.fill_rotations(quats, known, damping=None)
    steps = quaternions.difference(filled[:-1], filled[1:])
    np.testing.assert_allclose(steps[1], steps[0], atol=3e-6)
    np.testing.assert_allclose(steps[-2], steps[-1], atol=3e-6)
    assert np.linalg.norm(np.diff(steps, axis=0), axis=-1).max() < 1e-5  # and nothing jumps between


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("solver", SOLVERS)
def test_signs_continue_through_each_gap_from_its_first_known_frame(solver, seed):
    quats = moving_rotations(seed, 120, 9, speed=0.15)
    known = np.random.default_rng(seed).random((120, 9)) < 0.1
    known[[0, -1]] = True
    filled = solver[1](quats, known)
    generated = ~known[1:]
    assert np.sum(filled[1:] * filled[:-1], axis=-1)[generated].min() > 0
    flipped = quats.copy()
    flipped[-1] *= -1  # a target of opposite sign: the same motion, generated signs from the start
    np.testing.assert_array_equal(solver[1](flipped, known)[:-1], filled[:-1])


def test_held_poses_stay_still_and_channels_do_not_overshoot_lone_keys():
    frames, heights = np.array([0, 10, 20, 30, 45, 60, 64]), np.array([0.0, 0, 1, 1, -0.5, 3, 3])
    known = mask(70, frames)
    values = np.full((70, 1), np.nan)
    values[frames, 0] = heights
    filled = spline.fill_vectors(values, known)[:, 0]
    for a, b, x, y in zip(frames, frames[1:], heights, heights[1:], strict=False):
        step = np.diff(filled[a : b + 1])
        assert np.all(step * np.sign(y - x) >= -1e-12)  # monotone between two keys
        assert x != y or np.all(step == 0)
    assert np.all(filled[64:] == 3)
    quats = quaternions.exp(values[..., None] * [0.3, 0.5, -0.2])
    turned = spline.fill_rotations(quats, known)[:, 0]
    assert np.all(quaternions.difference(turned[:10], turned[1:11]) == 0)


def test_columns_do_not_disturb_each_other():
    rng = np.random.default_rng(6)
    known = rng.random((50, 6)) < 0.3
    quats, vectors = moving_rotations(6, 50, 6), rng.normal(size=(50, 6))
    for column in range(6):
        alone = slice(column, column + 1)
        for fill, values in ((spline.fill_rotations, quats), (spline.fill_vectors, vectors)):
            np.testing.assert_array_equal(fill(values, known)[:, alone], fill(values[:, alone], known[:, alone]))


def test_outside_its_keys_a_column_holds_and_without_keys_it_stays():
    known = np.zeros((9, 3), bool)
    known[[3, 6], 0] = known[4, 1] = True
    values = np.arange(27.0).reshape(9, 3)
    filled = spline.fill_vectors(values, known)
    assert filled[:3, 0].tolist() == [9] * 3 and filled[7:, 0].tolist() == [18] * 2
    assert filled[:, 1].tolist() == [13] * 9
    np.testing.assert_array_equal(filled[:, 2], values[:, 2])


@pytest.mark.parametrize("frames", [0, 1, 2, 5])
@pytest.mark.parametrize("solver", SOLVERS)
def test_with_nothing_to_fill_everything_stays(solver, frames):
    quats = np.random.default_rng(frames).normal(size=(frames, 3, 4))
    for known in (np.ones((frames, 3), bool), np.zeros((frames, 3), bool)):
        np.testing.assert_array_equal(solver[1](quats, known), quats)
        np.testing.assert_array_equal(solver[0](quats[..., 0], known), quats[..., 0])


def test_gaps_are_those_of_a_plain_search():
    known = np.random.default_rng(7).random((40, 12)) < 0.3
    gaps = spline.find_gaps(known)
    found = set(zip(gaps.column, gaps.start, gaps.end, gaps.before, gaps.after, strict=True))
    expected, missing = set(), 0
    for column in range(12):
        keys = np.nonzero(known[:, column])[0].tolist()
        for index, (a, b) in enumerate(itertools.pairwise(keys)):
            if b > a + 1:
                after = keys[index + 2] if index + 2 < len(keys) else b
                expected.add((column, a, b, keys[index - 1] if index else a, after))
                missing += b - a - 1
    assert found == expected
    assert len(gaps.frame) == missing
    assert np.all((gaps.frame > gaps.start[gaps.gap]) & (gaps.frame < gaps.end[gaps.gap]))


def test_sixty_joints_over_forty_five_frames_take_less_than_a_tenth_of_a_second():
    quats, known = moving_rotations(8, 65, 60), mask(65, slice(10), slice(55, 65))
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        spline.fill_rotations(quats, known)
        spline.fill_vectors(quats[..., 0], known)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.1
