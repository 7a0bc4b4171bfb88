# SPDX-License-Identifier: GPL-3.0-or-later
"""Changing a cloud's frame: the same splats, seen from the same places, in other coordinates."""

import dataclasses
import itertools

import numpy as np
import pytest

from vivant.backends.common import rotations
from vivant.backends.gaussian import axes, sh
from vivant.backends.gaussian.cloud import Source, SplatCloud
from vivant.backends.gaussian.motion.stg import Stg

FRAMES = ["RUB", "LDF", "RFU", "RBD", "FLU", "UFR", "LUB", "BUR"]  # turns, mirrors and changed places


def random_cloud(degree=4):
    rng = np.random.default_rng(3)
    count = 6
    family = Stg(*(rng.normal(size=shape).astype(np.float32) for shape in ((count, 3, 3), (count, 4), count)),
                 np.ones(count, np.float32))  # fmt: skip
    return SplatCloud(
        rng.normal(size=(count, 3)),
        rotations.normalise(rng.normal(size=(count, 4))),
        rng.uniform(0.1, 1, (count, 3)),
        rng.uniform(0, 1, count),
        rng.normal(size=(count, (degree + 1) ** 2, 3)),
        family=family,
        source=Source(axes="RDF"),
    )


def covariances(cloud):
    turned = rotations.matrix(cloud.quats.astype(np.float64)) * cloud.scales[:, None].astype(np.float64)
    return turned @ turned.transpose(0, 2, 1)


@pytest.mark.parametrize("frame", FRAMES)
def test_means_shapes_and_colours_are_those_of_the_same_splats(frame):
    cloud = random_cloud()
    change = axes.to_blender(frame).T @ axes.to_blender("RDF")
    for time in (None, 0.0, 0.4, 1.0):
        before = cloud if time is None else cloud.at(time)
        after = axes.change_axes(cloud, frame)
        after = after if time is None else after.at(time)
        np.testing.assert_allclose(after.means, before.means @ change.T, atol=1e-5)
        np.testing.assert_allclose(covariances(after), change @ covariances(before) @ change.T, atol=1e-5)
        directions = rotations.normalise(np.random.default_rng(1).normal(size=(6, 4)))[:, :3]
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        np.testing.assert_allclose(sh.colours(after.sh, directions @ change.T), sh.colours(before.sh, directions), atol=1e-4)
        np.testing.assert_array_equal(after.opacities, before.opacities)
    assert axes.change_axes(cloud, frame).source.axes == frame


@pytest.mark.parametrize("frame", ["RUB", "LDF", "LUB"])
def test_a_change_of_signs_there_and_back_is_exact(frame):
    cloud = random_cloud()
    back = axes.change_axes(axes.change_axes(cloud, frame), "RDF")
    for name in ("means", "quats", "scales", "sh"):
        np.testing.assert_array_equal(getattr(back, name), getattr(cloud, name))
    flips = axes.sign_flips("RDF", frame)
    np.testing.assert_array_equal(axes.change_axes(cloud, frame).sh, cloud.sh * sh.flip_signs(25, flips)[:, None].astype("f4"))
    fx, fy, fz = flips
    expected = cloud.quats * np.array([1, fy * fz, fx * fz, fx * fy], np.float32)
    np.testing.assert_array_equal(axes.change_axes(cloud, frame).quats, expected)


def test_a_cloud_already_in_the_frame_keeps_its_file():
    cloud = random_cloud()
    cloud = dataclasses.replace(cloud, source=dataclasses.replace(cloud.source, encoded=np.zeros(3, np.uint8)))
    assert axes.change_axes(cloud, "RDF") is cloud
    assert axes.change_axes(cloud, "RUB").source.encoded is None


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_harmonics_turn_with_any_rotation(seed):
    rng = np.random.default_rng(seed)
    turn = rotations.matrix(rotations.normalise(rng.normal(size=(1, 4))))[0]
    coefficients = rng.normal(size=(5, 25, 3))
    directions = rng.normal(size=(5, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    turned = axes.turn_sh(coefficients, turn)
    np.testing.assert_allclose(sh.colours(turned, directions @ turn.T), sh.colours(coefficients, directions), atol=1e-10)


def test_every_frame_has_a_way_to_every_other():
    cloud = random_cloud(1)
    for first, second in itertools.permutations(FRAMES, 2):
        direct = axes.change_axes(cloud, second)
        by_the_way = axes.change_axes(axes.change_axes(cloud, first), second)
        np.testing.assert_allclose(by_the_way.means, direct.means, atol=1e-6)
        np.testing.assert_allclose(by_the_way.sh, direct.sh, atol=1e-5)
        np.testing.assert_allclose(covariances(by_the_way), covariances(direct), atol=1e-5)
