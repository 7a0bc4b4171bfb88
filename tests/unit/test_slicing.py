# SPDX-License-Identifier: GPL-3.0-or-later
"""Cuts of 7D Gaussians are those of the family that plays them, and their gradients are slopes of the formula in float64."""

import numpy as np
import pytest

from vivant.backends.common.rotations import matrix
from vivant.backends.gaussian.cloud import SplatCloud
from vivant.backends.gaussian.covariance import covariances
from vivant.backends.gaussian.motion.ndgs import Ndgs

pytest.importorskip("numba", reason="compiles the cut")
from vivant.backends.gaussian.train import slicing

SEEDS = (1, 2, int(np.random.SeedSequence().entropy % 10_000))
ROWS, COLUMNS = [0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 2, 2]


def trained(seed, count=500):
    random = np.random.default_rng(seed)
    parameters = random.normal(size=(slicing.PARAMETERS, count))
    parameters[slicing.CENTER] = random.uniform(0, 1, count)
    parameters[slicing.LOG_WIDTH] = random.normal(-0.5, 0.5, count)
    parameters[slicing.FALL : slicing.LOG_WIDTH] *= 0.5
    return np.float32(parameters), np.float32(random.normal(size=3) * 3), np.float32(random.uniform(0, 1))


def normalise(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def lower(parameters):
    fall = np.zeros((parameters.shape[1], 3, 3), parameters.dtype)
    rows, columns = np.tril_indices(3)
    fall[:, rows, columns] = parameters[slicing.FALL : slicing.LOG_WIDTH].T
    return fall


def formula(parameters, eye, time):
    """Rows as of `cut`, in the dtype given."""
    mean, slope = parameters[:3].T, parameters[slicing.SLOPE : slicing.VELOCITY].T.reshape(-1, 3, 3)
    e = normalise(mean - eye) - normalise(parameters[slicing.VIEW_MEAN : slicing.CENTER].T)
    d = time - parameters[slicing.CENTER]
    mean = mean + np.einsum("nij,nj->ni", slope, e) + parameters[slicing.VELOCITY : slicing.VIEW_MEAN].T * d[:, None]
    axes = matrix(normalise(parameters[slicing.TURN : slicing.OPACITY].T)) * np.exp(parameters[3:6]).T[:, None]
    off = np.einsum("nij,nj->ni", lower(parameters), e)
    exponent = (off**2).sum(1) + (d / np.exp(parameters[slicing.LOG_WIDTH])) ** 2
    opacity = np.exp(-exponent) / (1 + np.exp(-parameters[slicing.OPACITY]))
    return np.concatenate([mean.T, (axes @ axes.transpose(0, 2, 1))[:, ROWS, COLUMNS].T, opacity[None]])


@pytest.mark.parametrize("seed", SEEDS)
def test_a_cut_is_what_the_family_plays(seed):
    parameters, eye, time = trained(seed)
    sliced = np.empty((slicing.SLICED, parameters.shape[1]), np.float32)
    slicing.cut(parameters, eye, time, sliced)

    count = parameters.shape[1]
    nothing, share = np.zeros((count, 3), np.float32), np.full(count, 0.35, np.float32)
    view_mean = normalise(parameters[slicing.VIEW_MEAN : slicing.CENTER].T)
    slope = parameters[slicing.SLOPE : slicing.VELOCITY].T.reshape(-1, 3, 3)
    velocity = parameters[slicing.VELOCITY : slicing.VIEW_MEAN].T
    center, width = parameters[slicing.CENTER], np.exp(parameters[slicing.LOG_WIDTH])
    family = Ndgs(view_mean, slope, lower(parameters), nothing, share, velocity, center, width, share)
    cloud = SplatCloud(
        parameters[:3].T, normalise(parameters[slicing.TURN : slicing.OPACITY].T), np.exp(parameters[3:6].T),
        1 / (1 + np.exp(-parameters[slicing.OPACITY])), np.zeros((count, 1, 3)), family=family,
    )  # fmt: skip
    still = cloud.at(float(time), eye)
    np.testing.assert_allclose(sliced[:3].T, still.means, rtol=1e-4, atol=1e-4)
    expected = covariances(still.quats, still.scales)[:, ROWS, COLUMNS].T
    np.testing.assert_allclose(sliced[3:9], expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())
    np.testing.assert_allclose(sliced[9], still.opacities, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
def test_gradients_are_slopes_for_every_parameter(seed):
    parameters, eye, time = trained(seed, count=300)  # not a whole number of blocks
    d_sliced = np.random.default_rng(seed).normal(size=(slicing.SLICED, 300)).astype(np.float32)
    found = np.empty_like(parameters)
    slicing.cut_back(parameters, eye, time, d_sliced, found)
    exact, step = parameters.astype(np.float64), 1e-6
    for row in range(slicing.PARAMETERS):
        there, back = exact.copy(), exact.copy()
        there[row] += step
        back[row] -= step
        slopes = (d_sliced * (formula(there, eye, time) - formula(back, eye, time))).sum(axis=0) / (2 * step)
        assert np.linalg.norm(found[row] - slopes) <= 1e-3 * np.linalg.norm(slopes), (row, seed)


def test_still_splats_are_3d_gaussians_at_any_time_from_anywhere():
    parameters, eye, _ = trained(3)
    parameters[slicing.SLOPE : slicing.VIEW_MEAN] = 0
    parameters[slicing.FALL : slicing.LOG_WIDTH] = 0
    parameters[slicing.LOG_WIDTH] = 30
    first, second = np.empty((slicing.SLICED, 500), np.float32), np.empty((slicing.SLICED, 500), np.float32)
    slicing.cut(parameters, eye, np.float32(0), first)
    slicing.cut(parameters, -eye, np.float32(1), second)
    np.testing.assert_allclose(first, second, rtol=1e-6)
    np.testing.assert_array_equal(first[:3], parameters[:3])


def test_the_shortest_and_longest_lives_stay_finite():
    parameters, eye, time = trained(4)
    for width in (-25, 25):
        parameters[slicing.LOG_WIDTH] = width
        sliced, gradient = np.empty((slicing.SLICED, 500), np.float32), np.empty_like(parameters)
        slicing.cut(parameters, eye, time, sliced)
        slicing.cut_back(parameters, eye, time, np.ones_like(sliced), gradient)
        assert np.isfinite(sliced).all()
        assert np.isfinite(gradient).all()
