# SPDX-License-Identifier: GPL-3.0-or-later
"""Jumps follow the parabola of gravity, and nothing else does."""

from __future__ import annotations

import numpy as np
import pytest

from vivant.backends.common import rotations as quaternions
from vivant.backends.motion import flight, interpolate, optimise
from vivant.backends.motion.clip import Clip

FPS, STANDING = 30.0, 0.85
SIZE = flight.LEG  # of a human: gravity is 9.81


def jump(rise: float = 0.45) -> tuple[np.ndarray, np.ndarray, int, int]:
    """Heights (F,), those that a standing body may have, first and last frame in the air."""
    half = np.sqrt(2 * rise / flight.GRAVITY)
    time = (np.arange(60) - 30) / FPS
    height = STANDING + rise - flight.GRAVITY * time**2 / 2
    up = np.abs(time) < half
    first, last = np.flatnonzero(up)[[0, -1]]
    push = np.arange(first, 0, -1) / FPS  # the crouch before the jump, and after it, smooth and level in the end
    speed = flight.GRAVITY * half
    crouch = STANDING - speed * push * np.exp(-push / 0.08)
    height[:first], height[last + 1 :] = crouch, crouch[::-1][: 59 - last]
    return height, np.where(up, height - STANDING, 0), int(first), int(last)


def away(found: np.ndarray, truth: np.ndarray, first: int, last: int) -> float:
    return float(np.abs(found - truth)[first : last + 1].max())


@pytest.mark.parametrize("rise", [0.3, 0.45, 0.7])
def test_a_key_at_the_top_of_a_jump_gives_its_parabola(rise: float) -> None:
    truth, _, first, last = jump(rise)
    known = np.zeros(60, bool)
    known[[0, 1, 2, 30, 57, 58, 59]] = True
    spline = interpolate.cubics(FPS)[0](truth[:, None], known)[:, 0]
    found = flight.fall(spline, known, np.maximum(spline - STANDING, 0), SIZE, FPS)
    np.testing.assert_array_equal(found[known], truth[known])
    assert away(found, truth, first + 1, last - 1) < 5e-3 < 0.03 < away(spline, truth, first + 1, last - 1)
    assert np.abs(np.diff(found, 2)).max() < 4 * flight.GRAVITY / FPS**2  # no step in the velocity at take-off and landing


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("backwards", [False, True])
def test_known_frames_of_a_flight_are_followed_to_the_ground(seed: int, backwards: bool) -> None:
    truth, clear, first, last = jump(float(np.random.default_rng(seed).uniform(0.35, 0.8)))
    known = np.zeros(60, bool)
    known[: first + 6] = known[-5:] = True
    if backwards:
        truth, clear, known, first, last = truth[::-1].copy(), clear[::-1].copy(), known[::-1].copy(), 59 - last, 59 - first
    spline = interpolate.cubics(FPS)[0](truth[:, None], known)[:, 0]
    clear = np.where(known, clear, np.maximum(spline - STANDING, 0))
    found = flight.fall(spline, known, clear, SIZE, FPS)
    np.testing.assert_array_equal(found[known], truth[known])
    assert away(found, truth, first + 1, last - 1) < 5e-3 < 0.03 < away(spline, truth, first + 1, last - 1)


def test_walks_climbs_and_keys_too_near_to_fall_do_not_change() -> None:
    known = np.zeros(41, bool)
    known[[0, 1, 20, 39, 40]] = True
    ground, table = np.zeros(41), np.where(np.arange(41) >= 20, 0.5, 0.0)
    wave = STANDING + 0.03 * np.sin(np.arange(41) / 4)
    assert np.array_equal(flight.fall(wave, known, ground, SIZE, FPS), wave)  # a foot is always down
    assert np.array_equal(flight.fall(wave + table, known, table, SIZE, FPS), wave + table)  # up on a table, and staying there
    hop = STANDING + 0.5 * np.exp(-(((np.arange(41) - 20) / 5) ** 2))
    near = known.copy()
    near[15:26] = True
    near[16:20] = near[21:25] = False
    assert np.array_equal(flight.fall(hop, near, hop - STANDING, SIZE, FPS), hop)
    unknown = np.where(known, np.nan, 0.3)
    assert np.array_equal(flight.fall(hop, known, unknown, SIZE, FPS), hop)


@pytest.mark.parametrize("hand", [0.6, -1.3])
def test_the_optimisation_jumps_as_gravity_has_it_and_keeps_the_keys_unless_a_hand_is_on_the_ground(hand: float) -> None:
    parents = np.array([-1, 0, 1, 2, 0, 4, 5, 0])
    names = ["hips", "thigh.L", "shin.L", "foot.L", "thigh.R", "shin.R", "foot.R", "hand"]
    leg = [[0, -SIZE / 2, 0]] * 2
    offsets = np.array([[0, 0, 0], [0.1, 0, 0], *leg, [-0.1, 0, 0], *leg, [0, hand, 0]])
    height, clear, first, last = jump()
    opening = np.arccos(np.clip((height - clear) / STANDING, -1, 1))  # legs that bend so that the feet stand
    bend = np.zeros((60, 8, 3))
    bend[:, [1, 4], 0], bend[:, [2, 5], 0] = -opening[:, None], 2 * opening[:, None]
    root = np.zeros((60, 3))
    root[:, 1] = height
    truth = Clip(names, parents, offsets, FPS, quaternions.exp(bend), root)
    keys = np.zeros(60, bool)
    keys[[0, 1, 2, 30, 57, 58, 59]] = True
    prior = interpolate.cubic(truth, np.broadcast_to(keys[:, None], (60, 8)))
    found = optimise.optimise(truth, keys, prior)
    np.testing.assert_array_equal(found.root[keys], truth.root[keys])
    np.testing.assert_array_equal(found.rotations[keys], truth.rotations[keys])
    air = slice(first + 2, last - 1)
    off = {name: np.abs(clip.root[air, 1] - height[air]).max() for name, clip in (("found", found), ("prior", prior))}
    assert off["found"] < 0.3 * off["prior"] if hand > 0 else off["found"] > 0.8 * off["prior"]
    feet = found.forward()[0][:, [3, 6], 1]
    assert feet.min() > -0.005
