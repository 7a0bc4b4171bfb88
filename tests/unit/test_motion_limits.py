# SPDX-License-Identifier: GPL-3.0-or-later
"""Joints turn little further than they have been seen to; what is in range does not change."""

from __future__ import annotations

import numpy as np
import pytest

from vivant.backends.common import rotations as quaternions
from vivant.backends.motion import limits, optimise
from vivant.backends.motion.clip import Clip

ALL = limits.FEWEST


def knee(angles: np.ndarray) -> np.ndarray:
    """Rotations (F, 2, 4) of a root at rest and a knee that bends about X, radians."""
    return quaternions.exp(np.stack([np.zeros((len(angles), 3)), angles[:, None] * [1.0, 0, 0]], axis=1))


def known(frames: int) -> np.ndarray:
    return np.ones((frames, 2), bool)


def bend(rotations: np.ndarray) -> np.ndarray:
    return quaternions.log(rotations[:, 1])[:, 0]


def test_a_knee_seen_from_0_to_60_degrees_hardly_bends_the_other_way() -> None:
    seen = knee(np.radians(np.linspace(0, 60, ALL)))
    found = limits.learn([(seen, known(ALL))])
    angles = np.radians(np.linspace(-80, 140, 300))
    result = bend(found.within(knee(angles)))
    assert -limits.MARGIN < result.min() < 0 and np.radians(60) < result.max() < np.radians(60) + limits.MARGIN
    assert np.all(np.diff(result) > 0) and np.abs(np.diff(result, 2)).max() < 1e-3  # smooth: no corner where the range ends


@pytest.mark.parametrize("seed", range(3))
def test_what_has_been_seen_stays_bit_for_bit_whatever_its_signs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    turns = quaternions.exp(np.cumsum(rng.normal(size=(ALL, 4, 3)) * 0.006, axis=0))
    signed = turns * rng.choice([-1.0, 1.0], (ALL, 4, 1))
    found = limits.learn([(signed, np.ones((ALL, 4), bool))])
    assert np.isfinite(found.lower[1:]).all() and np.isinf(found.lower[0]).all()
    np.testing.assert_allclose(found.within(signed), signed, atol=1e-12)
    inner = quaternions.multiply(found.middle, quaternions.exp(0.9 * quaternions.log(
        quaternions.multiply(quaternions.conjugate(found.middle), turns))))  # fmt: skip
    assert np.array_equal(found.within(inner), inner)


def test_few_frames_and_joints_that_turn_all_round_set_no_limits() -> None:
    wild, bent = knee(np.linspace(-4, 4, ALL)), knee(np.linspace(0, 1, ALL))
    for seen in ((bent[1:], known(ALL - 1)), (bent, ~known(ALL)), (wild, known(ALL))):
        assert np.array_equal(limits.learn([seen]).within(wild), wild)


def overshot(frames: int = ALL + 100) -> tuple[Clip, np.ndarray, Clip]:
    """A knee that bends from 0 to 1.2 again and again, its keys, and what bends 0.4 beyond 0 in a gap about frame 120."""
    angles = np.abs(np.sin(np.arange(frames) * np.pi / 60)) * 1.2

    def posed(angles: np.ndarray) -> np.ndarray:
        return np.concatenate([knee(angles), knee(0 * angles)[:, :1]], axis=1)

    offsets, root = np.array([[0, 0, 0], [0, -0.4, 0], [0, -0.4, 0]]), np.zeros((frames, 3))
    clip = Clip(["hip", "knee", "ankle"], np.array([-1, 0, 1]), offsets, 30.0, posed(angles), root)
    keys = np.ones(frames, bool)
    keys[111:130] = False
    beyond = np.where(keys, 0, -0.4 * np.sin((np.arange(frames) - 110) * np.pi / 20) ** 2)
    prior = clip.replace(rotations=np.where(keys[:, None, None], clip.rotations, posed(angles + beyond)))
    return clip, keys, prior


def test_the_optimisation_takes_back_what_turns_further_than_was_ever_seen() -> None:
    clip, keys, prior = overshot()
    found = optimise.optimise(clip, keys, prior)
    assert bend(prior.rotations).min() < -0.35 and bend(found.rotations).min() > -limits.MARGIN
    np.testing.assert_array_equal(found.rotations[keys], clip.rotations[keys])


def test_too_few_keys_tell_the_optimisation_nothing_unless_a_library_does() -> None:
    rows = slice(100, 140)
    clip, keys, prior = overshot()
    some, few, filled = clip.part(rows), keys[rows], prior.part(rows)
    assert bend(optimise.optimise(some, few, filled).rotations).min() < -0.3
    assert bend(optimise.optimise(some, few, filled, library=[clip]).rotations).min() > -limits.MARGIN
    strange = clip.replace(names=["hip", "elbow", "wrist"])
    assert bend(optimise.optimise(some, few, filled, library=[strange]).rotations).min() < -0.3
