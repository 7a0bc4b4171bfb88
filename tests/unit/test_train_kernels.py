# SPDX-License-Identifier: GPL-3.0-or-later
"""Colours and similarity of pictures, compiled: values of the formulas in float64, gradients that are their slopes."""

import numpy as np
import pytest

from vivant.backends.gaussian import sh

pytest.importorskip("numba", reason="compiles the kernels")
from vivant.backends.gaussian.train import harmonics, similarity

SEED = int(np.random.SeedSequence().entropy % 10_000)
STEP = 1e-7


def colour_formula(coefficients, means, eye):
    towards = means.T - eye
    towards = towards / np.linalg.norm(towards, axis=1, keepdims=True)
    values = sh.basis(towards, len(coefficients) // 3)
    return np.maximum(0.5 + np.einsum("nk,kcn->cn", values, coefficients.reshape(-1, 3, means.shape[1])), 0)


@pytest.mark.parametrize("count", [1, 4, 9, 16])
def test_colours_and_their_gradients(count):
    random = np.random.default_rng(SEED + count)
    inputs = [
        np.float32(values)
        for values in (random.normal(0, 0.4, (3 * count, 700)), random.normal(size=(3, 700)), random.normal(size=3))
    ]
    rgb = np.empty((3, 700), np.float32)
    harmonics.colours(*inputs, rgb)
    exact = [values.astype(np.float64) for values in inputs]
    np.testing.assert_allclose(rgb, colour_formula(*exact), atol=2e-6)

    d_rgb = random.normal(size=rgb.shape).astype(np.float32)
    found = np.empty_like(inputs[0]), np.empty_like(inputs[1])
    harmonics.colours_back(*inputs, rgb, d_rgb, *found)
    for index, gradient in enumerate(found):
        move = random.normal(size=gradient.shape)
        ends = []
        for sign in (1, -1):
            moved = list(exact)
            moved[index] = exact[index] + sign * STEP * move
            ends.append((colour_formula(*moved) * d_rgb).sum())
        assert (gradient * move).sum() == pytest.approx((ends[0] - ends[1]) / (2 * STEP), rel=1e-3, abs=1e-3), SEED


def similarity_formula(picture, target):
    """Wang et al. 2004, window by window: a sum of 121 shifted pictures."""
    offsets = np.arange(-5, 6)
    window = np.exp(-(offsets[:, None] ** 2 + offsets**2) / 4.5)
    window /= window.sum()

    def blurred(values):
        padded = np.pad(values, ((5, 5), (5, 5), (0, 0)))
        height, width = values.shape[:2]
        return sum(window[y, x] * padded[y : y + height, x : x + width] for y in range(11) for x in range(11))

    mean, other = blurred(picture), blurred(target)
    both = blurred(picture * target) - mean * other
    spread = blurred(picture**2) - mean**2, blurred(target**2) - other**2
    top = (2 * mean * other + 1e-4) * (2 * both + 9e-4)
    return float((top / ((mean**2 + other**2 + 1e-4) * (sum(spread) + 9e-4))).sum())


def test_similarity_and_its_gradient():
    random = np.random.default_rng(SEED)
    picture = random.uniform(size=(37, 23, 3))
    target = np.clip(picture + 0.2 * random.normal(size=picture.shape), 0, 1)
    flat = [np.float32(values).reshape(37, -1) for values in (picture, target)]
    maps = [np.empty_like(flat[0]) for _ in range(4)]
    value = similarity.similarity(*flat, 3, *maps[:3])
    assert value == pytest.approx(similarity_formula(picture, target), rel=1e-5), SEED
    similarity.similarity_back(*flat, 3, *maps)
    move = random.normal(size=picture.shape)
    ends = [similarity_formula(picture + sign * 1e-5 * move, target) for sign in (1, -1)]
    assert (maps[3].reshape(picture.shape) * move).sum() == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-3), SEED


def test_a_picture_is_like_itself():
    picture = np.random.default_rng(1).uniform(size=(20, 48)).astype(np.float32)
    maps = [np.empty_like(picture) for _ in range(4)]
    assert similarity.similarity(picture, picture, 3, *maps[:3]) == pytest.approx(picture.size, rel=1e-5)
    similarity.similarity_back(picture, picture, 3, *maps)
    assert np.abs(maps[3]).max() < 1e-3
