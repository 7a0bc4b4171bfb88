# SPDX-License-Identifier: GPL-3.0-or-later
"""Motion families against numbers from their authors' formulas, and what holds for all of them."""

import dataclasses

import numpy as np
import pytest

from vivant.backends.common.rotations import matrix, normalise
from vivant.backends.gaussian import sh
from vivant.backends.gaussian.axes import change_axes
from vivant.backends.gaussian.cloud import SplatCloud
from vivant.backends.gaussian.covariance import covariances, decompose
from vivant.backends.gaussian.motion import FAMILIES, ndgs, rotor4d
from vivant.backends.gaussian.motion.linear import Linear
from vivant.backends.gaussian.motion.rotor4d import Rotor4D
from vivant.backends.gaussian.motion.stg import Stg
from vivant.backends.gaussian.motion.stg_full import Decoder, StgFull

CAMERA = np.array([0.4, -2.0, 3.0])


def random_covariances(count, dims, seed):
    factors = np.random.default_rng(seed).normal(size=(count, dims, dims)) * 0.3
    return factors @ factors.transpose(0, 2, 1) + 0.01 * np.eye(dims)


def made(name, count=40, seed=5, coefficients=4):
    """A random cloud of a family."""
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return rng.normal(size=(count, *shape)).astype(np.float32)

    means, quats, scales = normal(3), normalise(normal(4)), np.exp(0.5 * normal(3) - 2)
    center, width = rng.uniform(0, 1, count).astype(np.float32), np.exp(0.5 * normal() - 1)
    colours = 0.3 * normal(coefficients, 3)
    first, last = np.where(rng.random(count) < 0.5, -np.inf, 0.3), np.where(rng.random(count) < 0.5, np.inf, 0.8)
    times = (center, width, first.astype(np.float32), last.astype(np.float32))
    if name == "STG":
        family = Stg(normal(3, 3), 0.5 * normal(4), center, width)
    elif name == "STG full":
        decoder = Decoder(normal(12)[:6], normal(6)[:3])
        family = StgFull(normal(3, 3), 0.5 * normal(4), center, width, (0, 1), normal(3), normal(3), decoder)
        colours = colours[:, :1]
    elif name == "Linear":
        family = Linear(normal(3), *times)
    elif name == "4DGS":
        family = Rotor4D(normal(3), *times, (0.0, 2.0), 0.2 * normal(2, coefficients, 3))
    else:
        shares = rng.uniform(0.1, 0.9, (2, count))
        joint = random_covariances(count, 7, seed)
        towards = normal(3)
        towards /= np.linalg.norm(towards, axis=1, keepdims=True)
        quats, scales, family = ndgs.condition(joint, towards, center, *shares)
    return SplatCloud(means, quats, scales, rng.uniform(0.1, 1, count), colours, family=family)


def check_equal(one, other, atol=1e-5):
    """Two still clouds of the same Gaussians, however their axes are named."""
    np.testing.assert_allclose(one.means, other.means, atol=atol)
    np.testing.assert_allclose(one.opacities, other.opacities, atol=atol)
    np.testing.assert_allclose(one.sh, other.sh, atol=atol)
    np.testing.assert_allclose(
        covariances(one.quats.astype(float), one.scales), covariances(other.quats.astype(float), other.scales), atol=atol
    )


# ---- what holds for every family


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("axes", ["RUB", "LUB", "RFU"])
def test_it_is_the_same_motion_in_other_axes(name, axes):
    cloud = made(name)
    turned = change_axes(cloud, axes)
    change = change_axes(SplatCloud(CAMERA[None], [[1, 0, 0, 0]], np.ones((1, 3)), [1], np.zeros((1, 1, 3))), axes).means[0]
    for time in (0.0, 0.45, 1.0):
        check_equal(turned.at(time, change), change_axes(cloud.at(time, CAMERA), axes))


@pytest.mark.parametrize("name", FAMILIES)
def test_picked_splats_move_as_they_did_among_the_others(name):
    cloud, index = made(name), np.arange(40) % 3 == 1
    check_equal(cloud.select(index).at(0.7, CAMERA), cloud.at(0.7, CAMERA).select(index), atol=1e-7)


@pytest.mark.parametrize("name", FAMILIES)
def test_attributes_hold_the_whole_motion(name):
    cloud = made(name)
    columns = cloud.family.attributes()
    assert set(cloud.family.ATTRIBUTES) <= set(columns)
    again = FAMILIES[name].from_attributes(columns, cloud.family.time_range)
    assert type(again) is type(cloud.family)
    if name == "STG full":
        again = dataclasses.replace(again, decoder=cloud.family.decoder)
    check_equal(cloud.replace(family=again).at(0.3, CAMERA), cloud.at(0.3, CAMERA), atol=0)


@pytest.mark.parametrize("name", FAMILIES)
def test_time_is_held_within_the_clip(name):
    cloud = made(name)
    check_equal(cloud.at(-3, CAMERA), cloud.at(cloud.family.time_range[0], CAMERA), atol=0)
    check_equal(cloud.at(9, CAMERA), cloud.at(cloud.family.time_range[1], CAMERA), atol=0)
    assert cloud.at(0.5, CAMERA).family is None


# ---- covariances


def test_covariances_are_taken_apart_exactly_whatever_their_sizes():
    rng = np.random.default_rng(2)
    quats, scales = normalise(rng.normal(size=(20_000, 4))), np.exp(rng.normal(size=(20_000, 3)) * 2 - 3)
    whole = covariances(quats, scales)
    again_quats, again_scales = decompose(whole)
    size = np.abs(whole).max(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(covariances(again_quats, again_scales) / size, whole / size, atol=1e-14)
    np.testing.assert_allclose(np.sort(again_scales), np.sort(scales), rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(again_quats, axis=1), 1, atol=1e-12)


def test_degenerate_covariances_give_finite_parts():
    whole = np.array([np.zeros((3, 3)), np.eye(3), np.diag([1, 4, 9]), np.ones((3, 3)), np.diag([1, 0, -1e-9])])
    quats, scales = decompose(whole)
    np.testing.assert_allclose(scales, [[0] * 3, [1] * 3, [1, 2, 3], [0, 0, 3**0.5], [1, 0, 0]], atol=1e-6)
    np.testing.assert_array_equal(quats[[0, 1, 2, 4]], [[1, 0, 0, 0]] * 4)
    assert (scales > 0).all()


# ---- linear velocity


def test_linear_motion_is_a_straight_path_a_bell_and_an_interval():
    cloud = made("Linear")
    family = cloud.family
    for i, time in enumerate((0.0, 0.25, 0.5, 0.79, 0.81)):
        still = cloud.at(time)
        d = time - float(family.center[i])
        np.testing.assert_allclose(still.means[i], cloud.means[i] + family.velocity[i] * d, rtol=1e-5)
        there = family.first[i] <= time < family.last[i]
        expected = there * cloud.opacities[i] * np.exp(-((d / float(family.width[i])) ** 2))
        assert still.opacities[i] == pytest.approx(expected, rel=1e-5)


def test_an_infinite_width_never_fades():
    cloud = made("Linear")
    forever = np.full(40, np.inf, np.float32)
    family = dataclasses.replace(cloud.family, width=forever, first=-forever, last=forever)
    np.testing.assert_array_equal(cloud.replace(family=family).at(0.9).opacities, cloud.opacities)


# ---- 4DGS


def test_4d_gaussians_are_cut_as_in_their_authors_code():
    left, right = np.array([[0.9, 0.1, -0.3, 0.2]]), np.array([[0.8, -0.2, 0.4, 0.1]])
    turn = rotor4d.rotation(left, right)[0]
    np.testing.assert_allclose(turn[0], [0.97929, -0.055641, -0.166924, 0.100155], atol=1e-6)
    assert np.linalg.det(turn) == pytest.approx(1)
    quats, scales, velocity, variance = rotor4d.cut(left, right, np.array([[0.1, 0.2, 0.3, 0.4]]))
    assert variance[0] == pytest.approx(0.0947988, abs=1e-7)
    assert np.exp(-(0.3**2) / 2 / variance[0]) == pytest.approx(0.622078, abs=1e-6)
    np.testing.assert_allclose(velocity[0] * 0.3, [0.034977, -0.164598, 0.081417], atol=1e-6)
    np.testing.assert_allclose(np.diagonal(covariances(quats, scales)[0]), [0.012538, 0.063166, 0.092690], atol=1e-6)


def test_equal_rotors_turn_space_alone_and_identities_nothing():
    one = np.array([[1.0, 0, 0, 0]])
    np.testing.assert_allclose(rotor4d.rotation(one, one)[0], np.eye(4), atol=1e-15)
    quat = normalise(np.random.default_rng(1).normal(size=(9, 4)))
    turn = rotor4d.rotation(quat, quat)
    np.testing.assert_allclose(turn[:, 3], np.tile([0, 0, 0, 1], (9, 1)), atol=1e-12)
    np.testing.assert_allclose(turn[:, :3, :3], matrix(quat)[:, ::-1, ::-1], atol=1e-12)
    velocity = rotor4d.cut(quat, quat, np.full((9, 4), 0.2))[2]
    np.testing.assert_allclose(velocity, 0, atol=1e-12)


def test_rotors_are_found_again_from_the_cut():
    rng = np.random.default_rng(3)
    left, right = normalise(rng.normal(size=(500, 4))), normalise(rng.normal(size=(500, 4)))
    found = rotor4d.quaternions(rotor4d.rotation(left, right))
    np.testing.assert_allclose(rotor4d.rotation(*found), rotor4d.rotation(left, right), atol=1e-12)
    parts = rotor4d.cut(left, right, np.exp(rng.normal(size=(500, 4)) - 1))
    again = rotor4d.cut(*rotor4d.uncut(*parts))
    np.testing.assert_allclose(covariances(*again[:2]), covariances(*parts[:2]), atol=1e-10)
    np.testing.assert_allclose(again[2], parts[2], atol=1e-8)
    np.testing.assert_allclose(again[3], parts[3], rtol=1e-9)


def test_colours_swing_in_time_about_their_own_moment():
    cloud = made("4DGS")
    family = cloud.family
    still = cloud.at(0.9)
    for n in range(5):
        d = 0.9 - float(family.center[n])
        swings = sum(np.cos(2 * np.pi * order * d / 2.0) * family.waves[n, order - 1] for order in (1, 2))
        np.testing.assert_allclose(still.sh[n], cloud.sh[n] + swings, atol=1e-5)


# ---- 6D and 7D


def joint(cloud, dims):
    factors = ndgs.factor(cloud.quats, cloud.scales, cloud.family, dims)
    return factors @ factors.transpose(0, 2, 1)


def golden_a():
    sizes = np.array([0.3, 0.2, 0.25, 0.4, 0.4, 0.4, 0.15])
    raw = 0.9 * np.sin(np.arange(1, 22))
    factor = np.eye(7)
    factor[np.tril_indices(7, -1)] = 2 / (1 + np.exp(-raw)) - 1
    factor = sizes[:, None] * factor
    share = np.array([0.35])
    quats, scales, family = ndgs.condition((factor @ factor.T)[None], [[0, 0, 1]], np.array([0.5]), share, share)
    return SplatCloud([[0.1, 0.2, 0.3]], quats, scales, [1.0], np.zeros((1, 1, 3)), family=family)


def test_7d_gaussians_are_cut_as_in_their_authors_code():
    cloud = golden_a()
    camera = cloud.means[0] - 5 * np.array([0.6, 0, 0.8])
    still = cloud.at(0.7, camera)
    np.testing.assert_allclose(still.means[0], [0.120462, 0.095908, 0.118948], atol=2e-6)
    shape = covariances(still.quats.astype(float), still.scales)[0]
    np.testing.assert_allclose(np.diagonal(shape), [0.073794, 0.028782, 0.057635], atol=2e-6)
    assert still.opacities[0] == pytest.approx(0.273792 * 0.673479, abs=2e-6)
    assert cloud.at(0.7).opacities[0] == pytest.approx(0.673479, abs=2e-6), "seen from its own direction"
    assert cloud.at(0.5, camera).opacities[0] == pytest.approx(0.273792, abs=2e-6)
    assert joint(cloud, 7)[0, 6, 6] == pytest.approx(0.0354163, rel=1e-5)


def test_a_general_slice_is_the_conditional_gaussian():
    factor = np.tril(0.2 * np.sin(0.9 * np.arange(1, 50)).reshape(7, 7), -1) + np.diag([0.3, 0.2, 0.25, 0.15, 0.4, 0.4, 0.4])
    order = [0, 1, 2, 4, 5, 6, 3]  # that case counts time before the direction
    whole = (factor @ factor.T)[np.ix_(order, order)][None]
    half = np.array([0.5])
    quats, scales, family = ndgs.condition(whole, [[0, 0, 1]], half, half, half)
    cloud = SplatCloud([[0.1, 0.2, 0.3]], quats, scales, [1.0], np.zeros((1, 1, 3)), family=family)
    camera = cloud.means[0] - np.array([0.6, 0, 0.8])
    np.testing.assert_allclose(cloud.at(0.7, camera).means[0], [0.22931, 0.37071, 0.519273], atol=2e-6)
    shape = covariances(quats.astype(float), scales)[0]
    np.testing.assert_allclose(np.diagonal(shape), [0.057497, 0.009803, 0.036157], atol=2e-6)
    assert cloud.at(0.7).opacities[0] == pytest.approx(0.804137, abs=2e-6)
    assert cloud.at(0.5, camera).opacities[0] == pytest.approx(0.439189, abs=2e-6)


def test_the_share_of_an_exponent_counts_without_a_half():
    whole = np.diag([0.04, 0.04, 0.04, 1, 1, 1, 0.1])
    whole[0, 6] = whole[6, 0] = 0.05
    for share, expected in ((0.35, 0.7297888743), (0.5, 0.6376281517)):
        quats, scales, family = ndgs.condition(whole[None], [[0, 0, 1]], np.zeros(1), np.array([share]), np.array([share]))
        cloud = SplatCloud(np.zeros((1, 3)), quats, scales, [1.0], np.zeros((1, 1, 3)), family=family)
        assert family.velocity[0, 0] == pytest.approx(0.5)
        assert cloud.at(0.3).means[0, 0] == pytest.approx(0.15)
        assert cloud.at(0.3).opacities[0] == pytest.approx(expected, rel=1e-6)
        assert covariances(quats, scales)[0, 0, 0] == pytest.approx(0.015, rel=1e-5)
    behind, beside = cloud.at(0, [0, 0, 1]).opacities[0], cloud.at(0, [1, 0, 0]).opacities[0]
    assert behind == pytest.approx(np.exp(-0.5 * 4), rel=1e-5) and beside == pytest.approx(np.exp(-0.5 * 2), rel=1e-5)


@pytest.mark.parametrize("dims", [6, 7])
def test_the_joint_covariance_is_found_again(dims):
    whole = random_covariances(300, dims, 8)
    shares = np.random.default_rng(1).uniform(0.1, 0.9, (2, 300))
    timed = (np.zeros(300), shares[0], shares[1]) if dims == 7 else (None, shares[0], None)
    quats, scales, family = ndgs.condition(whole, np.tile([0, 0, 1], (300, 1)), *timed)
    cloud = SplatCloud(np.zeros((300, 3)), quats, scales, np.ones(300), np.zeros((300, 1, 3)), family=family)
    assert family.moves == (dims == 7)
    np.testing.assert_allclose(joint(cloud, dims), whole, atol=2e-6)
    inverse = np.linalg.inv(np.linalg.inv(whole)[:, :3, :3])
    np.testing.assert_allclose(covariances(quats.astype(float), scales), inverse, atol=1e-6)


# ---- spacetime Gaussians, full


def test_the_full_model_decodes_each_splat_for_its_own_ray():
    cloud = made("STG full")
    family = cloud.family
    still = cloud.at(0.2, CAMERA)
    assert isinstance(cloud.family, StgFull) and still.degree == 0
    for n in range(5):
        shown = np.clip(sh.to_rgb(cloud.sh[n, 0].astype(float)), 1e-6, 1 - 1e-6)
        towards = still.means[n] - CAMERA
        d = 0.2 - family.center[n]
        inputs = [*family.specular[n], *(family.temporal[n] * d), *CAMERA, *(towards / np.linalg.norm(towards))]
        hidden = np.maximum(family.decoder.hidden @ np.array(inputs), 0)
        rgb = 1 / (1 + (1 / shown - 1) * np.exp(-(family.decoder.output @ hidden)))
        np.testing.assert_allclose(sh.to_rgb(still.sh[n, 0]), rgb, atol=1e-4)
    np.testing.assert_array_equal(cloud.at(0.2).sh, cloud.sh)
    np.testing.assert_array_equal(Stg.at(cloud.family, cloud, 0.2).means, still.means)


def test_the_shortest_lives_end_without_a_warning():
    """A splat at the middle of the clip, with a width as small as float32 goes."""
    one = np.ones(1, np.float32)
    family = FAMILIES["Linear"](np.zeros((1, 3), np.float32), 0.5 * one, 1e-38 * one, 0 * one, 2 * one)
    cloud = SplatCloud(np.zeros((1, 3)), np.eye(4)[:1], np.ones((1, 3)), one, np.zeros((1, 1, 3)), family=family)
    with np.errstate(all="raise", under="ignore"):
        assert [float(cloud.at(time).opacities[0]) for time in (0.1, 0.5, 0.9)] == [0, 1, 0]
