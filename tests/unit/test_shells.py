# SPDX-License-Identifier: GPL-3.0-or-later
"""Cameras all around a point."""

import math

import numpy as np
import pytest

from vivant.backends.common import shells

CENTRE = np.array([1.0, -2.0, 0.5])


@pytest.mark.parametrize("shell", ["SPHERE", "HEMISPHERE", "ORBIT"])
@pytest.mark.parametrize("count", [1, 7, 200])
def test_cameras_stand_upright_and_look_at_the_centre(shell, count):
    made = shells.poses(shell, count, CENTRE, 3.0, 0.4)
    turn, place = made[:, :3, :3], made[:, :3, 3]
    np.testing.assert_allclose(turn @ turn.transpose(0, 2, 1), np.tile(np.eye(3), (count, 1, 1)), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(turn), 1)
    np.testing.assert_allclose(place + 3.0 * turn[:, :, 2], np.tile(CENTRE, (count, 1)), atol=1e-12)
    np.testing.assert_allclose(turn[:, 2, 0], 0, atol=1e-12)  # level
    assert (turn[:, 2, 1] < 0).all()  # down is down
    lowest = {"SPHERE": -3.0, "HEMISPHERE": 0.0, "ORBIT": 3 * math.sin(0.4) - 1e-9}[shell]
    assert (place[:, 2] - CENTRE[2] >= lowest).all()


@pytest.mark.parametrize("shell", ["SPHERE", "HEMISPHERE"])
@pytest.mark.parametrize("first", [0, 37])
def test_cameras_are_evenly_spread_and_so_are_any_in_a_row(shell, first):
    """No direction is further from a camera than about twice what the best spread of so many allows."""
    rng = np.random.default_rng(7)
    toward = rng.normal(size=(4000, 3))
    toward /= np.linalg.norm(toward, axis=1, keepdims=True)
    if shell == "HEMISPHERE":
        toward[:, 2] = np.abs(toward[:, 2])
    count = 64
    made = -shells.poses(shell, first + count, np.zeros(3), 1.0)[first:, :3, 2]
    farthest = np.arccos(np.clip(toward @ made.T, -1, 1).max(axis=1)).max()
    area = (2 if shell == "HEMISPHERE" else 4) * math.pi / count
    assert farthest < 2.3 * math.sqrt(area / math.pi)
