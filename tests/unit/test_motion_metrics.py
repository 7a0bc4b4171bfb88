# SPDX-License-Identifier: GPL-3.0-or-later
"""Closed forms of the LaFAN1 measures."""

import numpy as np
import pytest

from vivant.backends.common import rotations as quaternions
from vivant.backends.motion import metrics


@pytest.mark.parametrize(("degrees", "expected"), [(10, 0.08724), (30, 0.26105), (90, 0.76537)])
def test_l2q_of_one_joint_turned_by_an_angle_is_twice_the_sine_of_its_quarter(degrees, expected):
    truth = quaternions.normalise(np.random.default_rng(1).normal(size=(3, 5, 22, 4)))
    turn = quaternions.exp(np.radians(degrees) * np.array([0, 0.6, 0.8]))
    one, every, flipped = truth.copy(), quaternions.multiply(turn, truth), truth.copy()
    one[:, :, 7] = every[:, :, 7]
    flipped[:, :, 7] = -every[:, :, 7]
    assert metrics.l2q(one, truth) == pytest.approx(expected, abs=1e-5)
    assert metrics.l2q(every, truth) == pytest.approx(expected * np.sqrt(22), abs=5e-5)
    assert metrics.l2q(flipped, truth) == pytest.approx(2 * np.cos(np.radians(degrees) / 4))


def test_l2p_counts_in_standard_deviations():
    rng = np.random.default_rng(2)
    truth, sigma = rng.normal(size=(3, 5, 22, 3)), rng.uniform(0.1, 2, (22, 3))
    assert metrics.l2p(truth + sigma, truth, sigma) == pytest.approx(np.sqrt(66))
    one = truth.copy()
    one[..., 4, 1] -= sigma[4, 1]
    assert metrics.l2p(one, truth, sigma) == pytest.approx(1)


def test_npss_of_toy_waves():
    t = np.arange(8) * 2 * np.pi / 8
    first, second, still = (np.broadcast_to(wave, (2, 8))[..., None] for wave in (np.cos(t), np.cos(2 * t), np.ones(8)))
    assert metrics.npss(first, still) == pytest.approx(4)
    assert metrics.npss(still, first) == pytest.approx(4)
    assert metrics.npss(first, second) == pytest.approx(1)
    assert metrics.npss(first, first) == 0


def test_npss_does_not_compare_the_rounding_noise_of_features_without_power():
    t = np.arange(8) * 2 * np.pi / 8
    sine, cosine = np.sin(t)[None, :, None], np.cos(t)[None, :, None]
    assert metrics.npss(cosine, sine) == 0  # a sine has no real part, so it has no weight
    assert metrics.npss(np.concatenate([cosine, cosine], 2), np.concatenate([sine, cosine], 2)) == 0
    assert metrics.npss(np.zeros((1, 8, 1)), np.zeros((1, 8, 1))) == 0


@pytest.mark.parametrize(("height", "expected"), [(0, 1), (0.0125, 0.5858), (0.025, 0), (0.1, 0)])
def test_skating_fades_with_height(height, expected):
    feet = np.zeros((30, 2, 3))
    assert metrics.skating(feet) == 0
    feet[:, :, 0], feet[:, :, 1] = np.arange(30)[:, None] * 0.01, height
    assert metrics.skating(feet) == pytest.approx(expected, abs=5e-5)
    assert metrics.skating(feet + np.array([0, 2, 0]), floor=2.0) == pytest.approx(expected, abs=5e-5)


def test_floor_and_penetration_are_in_metres():
    toes = np.zeros((100, 2, 3))
    toes[50:, :, 1] = 0.3
    toes[0, 0, 1] = -0.02
    assert metrics.floor_height(toes) == 0
    assert metrics.penetration(toes) == pytest.approx(0.02)
    assert metrics.penetration(toes + np.array([0, 1, 0])) == 0
