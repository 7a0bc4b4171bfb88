# SPDX-License-Identifier: GPL-3.0-or-later
import numpy as np
import pytest

from vivant.backends.common.errors import VivantError
from vivant.backends.gaussian import axes, sh
from vivant.backends.gaussian.cloud import SplatCloud
from vivant.backends.gaussian.motion.stg import Stg


def cloud_of(count: int, coefficients: int = 4) -> SplatCloud:
    rng = np.random.default_rng(3)
    quats = rng.normal(size=(count, 4))
    quats /= np.linalg.norm(quats, axis=1, keepdims=True)
    return SplatCloud(
        rng.normal(size=(count, 3)), quats, rng.uniform(0.1, 1, (count, 3)), rng.uniform(0, 1, count),
        rng.normal(size=(count, coefficients, 3)),
    )  # fmt: skip


def test_arrays_that_do_not_belong_together_are_refused():
    cloud = cloud_of(5)
    with pytest.raises(VivantError, match="scales of shape"):
        cloud.replace(scales=np.ones((4, 3)))
    with pytest.raises(VivantError, match="no full degree"):
        cloud.replace(sh=np.ones((5, 5, 3)))


def test_flipping_axes_equals_looking_along_flipped_directions():
    rng = np.random.default_rng(5)
    directions = rng.normal(size=(64, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    for flips in ([1, -1, -1], [-1, 1, 1], [-1, -1, 1]):
        flipped = sh.basis(directions * flips, 25)
        np.testing.assert_allclose(flipped, sh.basis(directions, 25) * sh.flip_signs(25, np.array(flips)), atol=1e-12)


def test_sh_basis_is_orthonormal_on_the_sphere():
    rng = np.random.default_rng(7)
    directions = rng.normal(size=(400_000, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    values = sh.basis(directions, 25)
    np.testing.assert_allclose(values.T @ values * (4 * np.pi / len(values)), np.eye(25), atol=0.05)


def test_axes_map_the_training_frame_upright():
    np.testing.assert_array_equal(axes.to_blender("RDF") @ [1, 2, 3], [1, 3, -2])
    np.testing.assert_array_equal(axes.to_blender("RUB") @ [1, 2, 3], [1, -3, 2])
    np.testing.assert_array_equal(axes.to_blender("RFU"), np.eye(3))
    np.testing.assert_array_equal(axes.sign_flips("RUB", "RDF"), [1, -1, -1])
    assert axes.sign_flips("RUB", "RFU") is None
    with pytest.raises(VivantError):
        axes.to_blender("RRU")


def test_stg_at_its_center_is_the_cloud_itself_and_follows_its_cubic():
    cloud = cloud_of(3)
    family = Stg(np.arange(27, dtype=np.float32).reshape(3, 3, 3), np.zeros((3, 4), np.float32),
                 np.full(3, 0.5, np.float32), np.full(3, 0.25, np.float32))  # fmt: skip
    moving = cloud.replace(family=family)
    np.testing.assert_array_equal(moving.at(0.5).means, cloud.means)
    d = 0.75 - 0.5
    expected = cloud.means + family.velocity[:, 0] * d + family.velocity[:, 1] * d**2 + family.velocity[:, 2] * d**3
    np.testing.assert_allclose(moving.at(0.75).means, expected, rtol=1e-5)
    np.testing.assert_allclose(moving.at(0.75).opacities, cloud.opacities * np.exp(-1), rtol=1e-5)
    assert moving.at(0.75).family is None
    np.testing.assert_array_equal(moving.at(7.0).means, moving.at(1.0).means)
