# SPDX-License-Identifier: GPL-3.0-or-later
import itertools

import numpy as np
import pytest

from vivant.backends.common import rotations as quaternions

ORDERS = ["".join(order) for order in itertools.permutations("XYZ")]


def random_rotations(seed: int, *shape: int) -> np.ndarray:
    return quaternions.normalise(np.random.default_rng(seed).normal(size=(*shape, 4)))


def turn_about(axis: str, angle: float) -> np.ndarray:
    """The textbook matrix, as an oracle."""
    i = "XYZ".index(axis)
    j, k = (i + 1) % 3, (i + 2) % 3
    m = np.eye(3)
    m[j, j] = m[k, k] = np.cos(angle)
    m[k, j], m[j, k] = np.sin(angle), -np.sin(angle)
    return m


def test_product_rotation_and_matrix_agree():
    a, b = random_rotations(1, 50), random_rotations(2, 50)
    v = np.random.default_rng(3).normal(size=(50, 3))
    both = quaternions.multiply(a, b)
    np.testing.assert_allclose(quaternions.rotate(both, v), quaternions.rotate(a, quaternions.rotate(b, v)), atol=1e-14)
    np.testing.assert_allclose(quaternions.matrix(both), quaternions.matrix(a) @ quaternions.matrix(b), atol=1e-14)


def test_a_matrix_gives_its_rotation_back_also_for_half_turns():
    halves = quaternions.exp(np.pi * np.concatenate([np.eye(3), -np.eye(3), [[0.6, 0, 0.8], [0, -0.8, 0.6]]]))
    for q in (random_rotations(6, 40, 5), halves, quaternions.IDENTITY):
        back = quaternions.from_matrix(quaternions.matrix(q))
        np.testing.assert_allclose(np.abs(np.sum(back * q, axis=-1)), 1, atol=1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_exp_and_log_are_inverse_up_to_half_a_turn(dtype):
    rng = np.random.default_rng(4)
    v = rng.normal(size=(200, 3))
    v *= (np.concatenate([[0, 1e-12, 1e-7], rng.uniform(0, np.pi - 1e-3, 197)]) / np.linalg.norm(v, axis=1))[:, None]
    q = quaternions.exp(v.astype(dtype))
    assert q.dtype == dtype
    np.testing.assert_allclose(quaternions.log(q), v, atol=1e-3 if dtype == np.float32 else 1e-12)


def test_log_takes_the_short_way_whatever_the_sign():
    q = random_rotations(5, 100)
    np.testing.assert_allclose(quaternions.log(-q), quaternions.log(q), atol=1e-14)
    assert np.linalg.norm(quaternions.log(q), axis=1).max() <= np.pi + 1e-12


def test_slerp_turns_at_constant_speed_about_one_axis():
    a, b = random_rotations(6, 20), random_rotations(7, 20)
    whole = quaternions.difference(a, b)
    for share in (0, 0.25, 0.7, 1):
        q = quaternions.slerp(a, b, np.full(20, share))
        np.testing.assert_allclose(quaternions.difference(a, q), share * whole, atol=1e-12)


@pytest.mark.parametrize("order", ORDERS)
def test_euler_angles_are_products_of_axis_turns_first_letter_first(order):
    angles = np.random.default_rng(8).uniform(-np.pi, np.pi, (30, 3))
    for angle, q in zip(angles, quaternions.from_euler(angles, order), strict=True):
        expected = np.eye(3)
        for axis in order:
            expected = turn_about(axis, angle["XYZ".index(axis)]) @ expected
        np.testing.assert_allclose(quaternions.matrix(q), expected, atol=1e-14)


@pytest.mark.parametrize("order", ORDERS)
def test_euler_angles_come_back_gimbal_lock_included(order):
    rng = np.random.default_rng(9)
    locked = rng.uniform(-np.pi, np.pi, (20, 3))
    locked[:, "XYZ".index(order[1])] = np.tile([np.pi / 2, -np.pi / 2], 10)
    q = np.concatenate([random_rotations(10, 200), quaternions.from_euler(locked, order)])
    back = quaternions.from_euler(quaternions.to_euler(q, order), order)
    np.testing.assert_allclose(quaternions.matrix(back), quaternions.matrix(q), atol=1e-7)


@pytest.mark.parametrize("order", ORDERS)
def test_continuous_euler_keeps_the_rotation_and_has_no_jumps(order):
    steps = np.random.default_rng(11).normal(size=(400, 5, 3)) * 0.05
    steps[:, :, "XYZ".index(order[0])] += 0.05  # the outer angle passes half a turn several times
    angles = np.cumsum(steps, axis=0)
    q = quaternions.from_euler(angles, order)
    smooth = quaternions.continuous_euler(quaternions.to_euler(q, order), order)
    np.testing.assert_allclose(quaternions.matrix(quaternions.from_euler(smooth, order)), quaternions.matrix(q), atol=1e-12)
    assert np.ptp(quaternions.to_euler(q, order), axis=0).max() < 2 * np.pi + 1e-9
    # Following the true angles from a common start, it must stay on them: they never jump by more than a step.
    offset = smooth[0] - angles[0]
    np.testing.assert_allclose(smooth - angles, np.broadcast_to(offset, angles.shape), atol=1e-6)


def test_continuous_signs_keep_the_rotation():
    q = quaternions.exp(np.cumsum(np.random.default_rng(12).normal(size=(100, 3, 3)) * 0.3, axis=0))
    signs = np.random.default_rng(13).choice([-1, 1], (100, 3, 1))
    smooth = quaternions.continuous(q * signs)
    assert np.sum(smooth[1:] * smooth[:-1], axis=-1).min() >= 0
    np.testing.assert_allclose(quaternions.matrix(smooth), quaternions.matrix(q), atol=1e-12)
