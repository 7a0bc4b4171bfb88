# SPDX-License-Identifier: GPL-3.0-or-later
"""Clouds under affine maps: against turned cameras, transformed covariances, and what moves by the same map."""

import dataclasses
import itertools
import math

import numpy as np
import pytest

from vivant.backends.common.cameras import Camera
from vivant.backends.common.errors import VivantError
from vivant.backends.common.rotations import from_matrix, matrix, normalise
from vivant.backends.gaussian import sh
from vivant.backends.gaussian.cloud import SplatCloud
from vivant.backends.gaussian.covariance import covariances, decompose
from vivant.backends.gaussian.edit.carry import carried, transformed
from vivant.backends.gaussian.formats import read_splats
from vivant.backends.gaussian.motion import ndgs
from vivant.backends.gaussian.motion.frames import Frames
from vivant.backends.gaussian.motion.linear import Linear
from vivant.backends.gaussian.motion.rotor4d import Rotor4D
from vivant.backends.gaussian.motion.stg import Stg
from vivant.backends.gaussian.motion.stg_full import Decoder, StgFull
from vivant.backends.gaussian.render.reference import render

CAMERA = Camera(np.array([[90.0, 0, 48], [0, 90, 36], [0, 0, 1]]), np.eye(4), 96, 72)
KINDS = ["Linear", "4DGS", "STG", "STG full", "NDGS"]


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def scene(coefficients: int = 16, count: int = 150, seed: int = 3) -> SplatCloud:
    """Splats of all shapes in front of CAMERA."""
    rng = np.random.default_rng(seed)
    return SplatCloud(
        rng.uniform((-1, -0.8, 3), (1, 0.8, 5), (count, 3)),
        normalise(rng.normal(size=(count, 4))),
        np.exp(rng.normal(size=(count, 3)) * 0.7 - 2.7),
        rng.uniform(0.2, 1, count),
        0.25 * rng.normal(size=(count, coefficients, 3)),
    )


def moving(kind: str, count: int = 30) -> SplatCloud:
    rng = np.random.default_rng(8)

    def normal(*shape):
        return rng.normal(size=(count, *shape)).astype(np.float32)

    cloud = scene(4, count)
    center, width = rng.uniform(0, 1, count).astype(np.float32), np.exp(normal() * 0.3)
    times = (center, width, np.full(count, -np.inf, np.float32), np.full(count, np.inf, np.float32))
    if kind == "Linear":
        return cloud.replace(family=Linear(normal(3), *times))
    if kind == "4DGS":
        return cloud.replace(family=Rotor4D(normal(3), *times, (0.0, 1.0), 0.2 * normal(2, 4, 3)))
    if kind == "STG":
        return cloud.replace(family=Stg(normal(3, 3), 0.5 * normal(4), center, width))
    if kind == "STG full":
        decoder = Decoder(rng.normal(size=(6, 12)), rng.normal(size=(3, 6)))
        family = StgFull(normal(3, 3), 0.5 * normal(4), center, width, (0.0, 1.0), normal(3), normal(3), decoder)
        return cloud.replace(sh=cloud.sh[:, :1], family=family)
    joint = 0.3 * rng.normal(size=(count, 7, 7))
    towards = unit(normal(3))
    shares = rng.uniform(0.1, 0.9, (2, count))
    quats, scales, family = ndgs.condition(
        joint @ joint.transpose(0, 2, 1) + 0.03 * np.eye(7), towards, center, shares[0], shares[1]
    )
    return cloud.replace(quats=quats, scales=scales, family=family)


def rotation(seed: int) -> np.ndarray:
    return matrix(normalise(np.random.default_rng(seed).normal(size=4)))


def affine(linear, shift=(0.0, 0.0, 0.0)) -> np.ndarray:
    whole = np.eye(4)
    whole[:3, :3], whole[:3, 3] = linear, shift
    return whole


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return -10 * math.log10(max(np.square(np.clip(a, 0, 1) - np.clip(b, 0, 1)).mean(), 1e-20))


def check_equal(one: SplatCloud, other: SplatCloud, atol: float = 2e-5) -> None:
    for name in ("means", "opacities", "sh"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), atol=atol)
    both = [covariances(cloud.quats.astype(float), cloud.scales) for cloud in (one, other)]
    np.testing.assert_allclose(*both, atol=atol)


@pytest.mark.parametrize("coefficients", sh.COEFFICIENTS)
def test_turning_the_cloud_is_turning_the_camera(coefficients):
    cloud = scene(coefficients)
    # the picture stays inside, so the cloud turns about its own middle
    middle = np.array([0.0, 0, 4])
    turn = rotation(5)
    whole = affine(turn, middle - turn @ middle)
    pose = np.linalg.inv(whole)
    turned = render([(transformed(cloud, whole), CAMERA)])
    expected = render([(cloud, dataclasses.replace(CAMERA, camera_to_world=pose))])
    assert expected[..., 3].max() > 0.9
    assert psnr(turned, expected) >= 100


def test_turning_a_real_capture_is_turning_the_camera(data):
    cloud = read_splats(data / "splats" / "playbot5.ply")
    middle, size = cloud.means.mean(axis=0).astype(float), float(np.ptp(cloud.means, axis=0).max())
    whole = affine(rotation(5), middle - rotation(5) @ middle)
    pose = affine(np.eye(3), middle - [0, 0, 1.3 * size])
    turned = render([(transformed(cloud, whole), dataclasses.replace(CAMERA, camera_to_world=pose, near=0.01))])
    view = dataclasses.replace(CAMERA, camera_to_world=np.linalg.inv(whole) @ pose, near=0.01)
    assert psnr(turned, render([(cloud, view)])) >= 100


def test_a_mirrored_cloud_has_the_mirrored_picture():
    cloud = scene()
    picture = render([(transformed(cloud, np.diag([-1.0, 1, 1, 1])), CAMERA)])
    assert psnr(picture[:, ::-1], render([(cloud, CAMERA)])) >= 100


def test_a_stretch_gives_the_picture_of_the_transformed_covariances():
    cloud = scene()
    stretch = rotation(2) @ np.diag([1.6, 0.5, 0.9]) @ rotation(9)
    whole = affine(stretch, np.array([0, 0, 4]) - stretch @ [0, 0, 4])
    spread = stretch @ covariances(cloud.quats.astype(float), cloud.scales.astype(float)) @ stretch.T
    quats, scales = decompose(spread)  # Jacobi, where the edit takes singular values
    left, _, right = np.linalg.svd(stretch)
    axes = left @ right
    directions = unit(np.random.default_rng(0).normal(size=(400, 3)))
    seen = sh.basis(directions @ axes, 16)
    turned = np.linalg.lstsq(sh.basis(directions, 16), np.einsum("dk,nkc->dnc", seen, cloud.sh).reshape(400, -1), rcond=None)[0]
    expected = SplatCloud(
        cloud.means @ stretch.T + whole[:3, 3], quats, scales, cloud.opacities, turned.reshape(16, -1, 3).transpose(1, 0, 2)
    )
    assert psnr(render([(transformed(cloud, whole), CAMERA)]), render([(expected, CAMERA)])) >= 100


def test_needles_and_discs_keep_their_shape_under_a_stretch():
    scales = np.array([[1.0, 1e-5, 1e-5], [1, 1, 1e-6], [0.3, 2e-4, 5]])
    quats = normalise(np.random.default_rng(1).normal(size=(3, 4)))
    cloud = SplatCloud(np.zeros((3, 3)), quats, scales, np.ones(3), np.zeros((3, 1, 3)))
    stretch = rotation(1) @ np.diag([3.0, 0.2, 1]) @ rotation(2)
    made = transformed(cloud, affine(stretch))
    factors = stretch @ matrix(cloud.quats.astype(float)) * cloud.scales[:, None, :]
    np.testing.assert_allclose(made.scales, np.linalg.svd(factors)[1], rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_moving_cloud_that_is_turned_moves_as_it_did(kind, mirrored):
    cloud = moving(kind)
    turn = rotation(4) @ np.diag([-1.0 if mirrored else 1.0, 1, 1])
    shift = (0.0, 0, 0) if kind == "STG full" else (0.3, -1, 2)
    whole = affine(turn if kind == "STG full" else 1.7 * turn, shift)
    eye = np.array([0.4, -2.0, 1.0])
    for time in (0.0, 0.37, 1.0):
        expected = transformed(cloud.at(time, eye), whole)
        check_equal(transformed(cloud, whole).at(time, whole[:3, :3] @ eye + whole[:3, 3]), expected, 1e-4)


@pytest.mark.parametrize("kind", ["Linear", "4DGS"])
def test_straight_paths_are_exact_under_a_stretch(kind):
    cloud, stretch = moving(kind), affine(rotation(1) @ np.diag([2.0, 0.4, 1]), (1, 2, 3))
    for time in (0.1, 0.9):
        check_equal(transformed(cloud, stretch).at(time), transformed(cloud.at(time), stretch), 1e-4)


def test_curved_paths_are_exact_under_a_stretch_and_turns_about_right():
    cloud, stretch = moving("STG"), affine(np.diag([1.3, 0.8, 1]))
    now, expected = transformed(cloud, stretch).at(0.8), transformed(cloud.at(0.8), stretch)
    np.testing.assert_allclose(now.means, expected.means, atol=1e-4)
    still = transformed(cloud.at(0.8).replace(quats=cloud.quats), stretch)  # had they not turned

    def off(other):
        return np.abs(covariances(other.quats, other.scales) - covariances(expected.quats, expected.scales)).mean()

    assert off(now) < 0.7 * off(still)


def test_frames_follow_when_they_are_read():
    stills = [scene(4, 10, seed) for seed in (1, 1)]
    stills[1] = stills[1].replace(means=stills[1].means + np.float32(0.5))
    flip = np.diag([1.0, -1, -1])
    family = Frames(np.array([0.0, 1.0]), lambda i: stills[i], linked=True, frame=flip)
    cloud = transformed(stills[0], affine(flip)).replace(family=family)
    whole = affine(1.5 * rotation(2), (1, 0, 2))
    for time in (0.0, 0.4, 1.0):
        check_equal(transformed(cloud, whole).at(time), transformed(cloud.at(time), whole), 1e-4)


def test_a_map_for_each_splat_is_that_map_for_it_alone():
    cloud = scene(25, 12)
    maps = np.stack([rotation(i) @ np.diag([1, 1 + i / 9, 0.7]) @ np.diag([1, 1, (-1) ** i]) for i in range(12)])
    together = carried(cloud, cloud.means + 1, maps)
    for i in range(12):
        alone = transformed(cloud.select([i]), affine(maps[i], cloud.means[i] + 1 - maps[i] @ cloud.means[i]))
        check_equal(together.select([i]), alone, 1e-5)


def test_there_and_back_is_where_it_was():
    cloud = scene(25)
    for linear, shift in itertools.product([rotation(3), np.diag([2.0, 0.5, -1])], [(0, 0, 0), (5, 1, 2)]):
        whole = affine(linear, shift)
        check_equal(transformed(transformed(cloud, whole), np.linalg.inv(whole)), cloud, 1e-5)


def test_moving_alone_changes_positions_alone_and_nothing_changes_nothing():
    cloud = scene()
    assert transformed(cloud, np.eye(4)) is cloud
    moved = transformed(cloud, affine(np.eye(3), (1, 2, 3)))
    for name in ("quats", "scales", "opacities", "sh"):
        np.testing.assert_array_equal(getattr(moved, name), getattr(cloud, name))


def test_what_cannot_be_carried_is_refused():
    with pytest.raises(VivantError, match="flattened"):
        transformed(scene(), affine(np.diag([1.0, 0, 1])))
    with pytest.raises(VivantError, match="not finite"):
        transformed(scene(), affine(np.full((3, 3), np.nan)))
    with pytest.raises(VivantError, match="where its scene is"):
        transformed(moving("STG full"), affine(np.eye(3), (1, 0, 0)))
    with pytest.raises(VivantError, match="own size"):
        transformed(moving("STG full"), affine(2 * np.eye(3)))


def test_quaternions_stay_unit():
    made = transformed(scene(), affine(rotation(1) @ np.diag([1.0, 2, -3])))
    np.testing.assert_allclose(np.linalg.norm(made.quats, axis=1), 1, atol=1e-6)
    assert from_matrix(matrix(made.quats)).shape == made.quats.shape
