# SPDX-License-Identifier: GPL-3.0-or-later
"""Cuts of 7D Gaussians are those of the family that plays them, and their gradients are slopes of the formula in float64."""

import numpy as np
import pytest

from vivant.backends.gaussian.cloud import SplatCloud
from vivant.backends.gaussian.covariance import covariances
from vivant.backends.gaussian.motion import ndgs

pytest.importorskip("numba", reason="compiles the cut")
from vivant.backends.gaussian.train import slicing

SEEDS = (1, 2, int(np.random.SeedSequence().entropy % 10_000))
PLACE_FIRST = [4, 5, 6, 0, 1, 2, 3]
ROWS, COLUMNS = [0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 2, 2]


def trained(seed, count=500):
    random = np.random.default_rng(seed)
    parameters = random.normal(size=(slicing.PARAMETERS, count))
    parameters[slicing.MEAN_TIME] = random.uniform(0, 1, count)
    parameters[slicing.LOG_SIZE : slicing.LOG_SIZE + 7] *= 0.3
    eye, time = random.normal(size=3) * 3, random.uniform(0, 1)
    return np.float32(parameters), np.float32(eye), np.float32(time)


def factor(parameters):
    """L of each splat, (N, 7, 7), in the order direction, time, place."""
    size = np.exp(parameters[slicing.LOG_SIZE : slicing.COUPLING]).T
    whole = np.tile(np.eye(7), (parameters.shape[1], 1, 1))
    rows, columns = np.tril_indices(7, -1)
    whole[:, rows, columns] = np.tanh(parameters[slicing.COUPLING : slicing.OPACITY] / 2).T
    return size[:, :, None] * whole


def formula(parameters, eye, time):
    """Rows as of `cut`, by matrices and inverses in the dtype given."""
    place, later = parameters[:3].T, time - parameters[slicing.MEAN_TIME]
    mean_view = parameters[slicing.MEAN_VIEW : slicing.MEAN_VIEW + 3].T
    towards = place - eye
    off = towards / np.linalg.norm(towards, axis=1)[:, None] - mean_view / np.linalg.norm(mean_view, axis=1)[:, None]
    root = factor(parameters)
    covariance = root @ root.transpose(0, 2, 1)
    query, across = covariance[:, :4, :4], covariance[:, 4:, :4]
    gain = across @ np.linalg.inv(query)
    means = place + np.einsum("nij,nj->ni", gain, np.column_stack([off, later]))
    cut = covariance[:, 4:, 4:] - gain @ across.transpose(0, 2, 1)
    opacity, view_lambda, time_lambda = 1 / (1 + np.exp(-parameters[slicing.OPACITY :]))
    exponent = view_lambda * np.einsum("ni,nij,nj->n", off, np.linalg.inv(covariance[:, :3, :3]), off)
    exponent += time_lambda * later**2 / covariance[:, 3, 3]
    return np.concatenate([means.T, cut[:, ROWS, COLUMNS].T, (opacity * np.exp(-exponent))[None]])


@pytest.mark.parametrize("seed", SEEDS)
def test_a_cut_is_what_the_family_plays(seed):
    parameters, eye, time = trained(seed)
    sliced = np.empty((slicing.SLICED, parameters.shape[1]), np.float32)
    slicing.cut(parameters, eye, time, sliced)

    root = factor(parameters.astype(np.float64))
    joint = (root @ root.transpose(0, 2, 1))[:, PLACE_FIRST][:, :, PLACE_FIRST]
    mean_view = parameters[slicing.MEAN_VIEW : slicing.MEAN_VIEW + 3].T
    mean_view = mean_view / np.linalg.norm(mean_view, axis=1, keepdims=True)
    opacity, view_lambda, time_lambda = 1 / (1 + np.exp(-parameters[slicing.OPACITY :]))
    quats, scales, family = ndgs.condition(joint, mean_view, parameters[slicing.MEAN_TIME], view_lambda, time_lambda)
    cloud = SplatCloud(parameters[:3].T, quats, scales, opacity, np.zeros((len(quats), 1, 3)), family=family)
    still = cloud.at(float(time), eye)
    np.testing.assert_allclose(sliced[:3].T, still.means, rtol=1e-3, atol=1e-3)
    expected = covariances(still.quats, still.scales)[:, ROWS, COLUMNS].T
    np.testing.assert_allclose(sliced[3:9], expected, rtol=2e-3, atol=2e-3 * np.abs(expected).max())
    np.testing.assert_allclose(sliced[9], still.opacities, rtol=2e-3, atol=1e-5)


@pytest.mark.parametrize("seed", SEEDS)
def test_gradients_are_slopes_for_every_parameter(seed):
    parameters, eye, time = trained(seed, count=300)  # not a whole number of blocks
    d_sliced = np.random.default_rng(seed).normal(size=(slicing.SLICED, 300)).astype(np.float32)
    found = np.zeros_like(parameters)
    slicing.cut_back(parameters, eye, time, d_sliced, found)
    exact, step = parameters.astype(np.float64), 1e-6
    for row in range(slicing.PARAMETERS):
        there, back = exact.copy(), exact.copy()
        there[row] += step
        back[row] -= step
        slopes = (d_sliced * (formula(there, eye, time) - formula(back, eye, time))).sum(axis=0) / (2 * step)
        assert np.linalg.norm(found[row] - slopes) <= 1e-3 * np.linalg.norm(slopes), (row, seed)


def test_short_lives_and_strong_couplings_stay_finite():
    parameters, eye, time = trained(4)
    parameters[slicing.LOG_SIZE + 3] = -12  # lives of a few millionths of the clip
    parameters[slicing.COUPLING : slicing.OPACITY] = 12 * np.sign(parameters[slicing.COUPLING : slicing.OPACITY])
    sliced, gradient = np.empty((slicing.SLICED, 500), np.float32), np.zeros_like(parameters)
    slicing.cut(parameters, eye, time, sliced)
    slicing.cut_back(parameters, eye, time, np.ones_like(sliced), gradient)
    assert np.isfinite(sliced).all()
    assert np.isfinite(gradient).all()
    assert (sliced[[3, 6, 8]] > 0).all()
