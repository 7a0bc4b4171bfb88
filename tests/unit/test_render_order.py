# SPDX-License-Identifier: GPL-3.0-or-later
"""Splats are ordered from far to near, as a comparison sort of their exact depths orders them."""

import numpy as np
import pytest

from vivant.backends.gaussian.render.order import depths_of, far_first


@pytest.mark.parametrize("perspective", [True, False])
def test_the_order_begins_far_away(perspective):
    depths = np.random.default_rng(5).uniform(0.2, 50, 10_000).astype(np.float32)
    order = far_first(depths, perspective)
    np.testing.assert_array_equal(np.sort(order), np.arange(10_000))
    found = depths[order]
    step = found[:-1] * 1.0002 if perspective else found[:-1] + 0.001
    assert np.all(found[1:] <= step)


def test_parallel_views_show_what_lies_behind_the_eye():
    assert far_first(np.array([3, -1, 7], np.float32), False).tolist() == [2, 0, 1]


def test_equal_depths_keep_their_order():
    assert far_first(np.full(5, 2, np.float32), True).tolist() == [0, 1, 2, 3, 4]


def test_nothing_has_an_order():
    assert far_first(np.empty(0, np.float32), True).tolist() == []


def test_depths_are_measured_along_each_clouds_own_line():
    rng = np.random.default_rng(6)
    clouds = [rng.normal(size=(count, 3)).astype(np.float32) for count in (40, 0, 7)]
    matrices = rng.normal(size=(3, 4, 4))
    seen = [(matrix @ np.c_[means, np.ones(len(means))].T)[2] for means, matrix in zip(clouds, matrices, strict=True)]
    found = depths_of(clouds, np.float32([matrix[2] for matrix in matrices]))
    np.testing.assert_allclose(found, -np.concatenate(seen), atol=1e-5)
