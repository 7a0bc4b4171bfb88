# SPDX-License-Identifier: GPL-3.0-or-later
"""Warped clouds against affine maps and pictures of small pieces, and meshes around clouds against the bodies they cover."""

import dataclasses

import numpy as np
import pytest

from vivant.backends.common.errors import VivantError
from vivant.backends.common.rotations import from_euler, matrix, normalise
from vivant.backends.common.steps import at_once
from vivant.backends.gaussian.cloud import SplatCloud
from vivant.backends.gaussian.covariance import covariances
from vivant.backends.gaussian.edit import proxy
from vivant.backends.gaussian.edit.carry import transformed
from vivant.backends.gaussian.edit.deform import cage, deformed, skin
from vivant.backends.gaussian.edit.enclosed import inside
from vivant.backends.gaussian.motion.linear import Linear

CUBE = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
QUADS = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
SIDES = np.array([side for a, b, c, d in QUADS for side in ((a, b, c), (a, c, d))])
SHEAR = np.array([[1.2, 0.3, 0, 1], [0, 0.8, 0.2, 2], [0.1, 0, 1.5, -1], [0, 0, 0, 1]])


def made(count: int = 40) -> SplatCloud:
    rng = np.random.default_rng(6)
    always = np.full(count, np.inf, np.float32)
    family = Linear(rng.normal(size=(count, 3)).astype(np.float32), np.zeros(count, np.float32), always, -always, always)
    return SplatCloud(
        rng.uniform(-0.8, 0.8, (count, 3)), normalise(rng.normal(size=(count, 4))), np.exp(rng.normal(size=(count, 3)) - 4),
        rng.uniform(0.2, 1, count), 0.3 * rng.normal(size=(count, 9, 3)), family,
    )  # fmt: skip


def check_equal(one: SplatCloud, other: SplatCloud, atol: float) -> None:
    np.testing.assert_allclose(one.means, other.means, atol=atol)
    np.testing.assert_allclose(one.sh, other.sh, atol=atol)
    np.testing.assert_allclose(one.family.velocity, other.family.velocity, atol=atol)
    both = [covariances(cloud.quats.astype(float), cloud.scales) for cloud in (one, other)]
    np.testing.assert_allclose(*both, atol=atol)


def posed(points: np.ndarray, whole: np.ndarray = SHEAR) -> np.ndarray:
    return points @ whole[:3, :3].T + whole[:3, 3]


@pytest.mark.parametrize("kind", ["warp", "skin", "cage"])
def test_an_affine_warp_is_that_map(kind):
    warps = {
        "warp": posed,
        "skin": skin(CUBE[:3], CUBE[1:4], np.repeat(SHEAR[None], 3, axis=0)),
        "cage": cage(CUBE * 1.1, posed(CUBE * 1.1), SIDES),
    }
    check_equal(deformed(made(), warps[kind]), transformed(made(), SHEAR), 2e-5)


def test_a_bend_turns_and_stretches_each_splat_as_the_space_around_it():
    def bend(points):
        radius, angle = 2 + points[:, 0], 0.8 * points[:, 1]
        return np.stack([radius * np.cos(angle), radius * np.sin(angle), points[:, 2]], axis=1)

    cloud = made()
    warped = deformed(cloud, bend)
    # the analytic slope of the bend, splat by splat
    radius, angle = 2 + cloud.means[:, 0].astype(float), 0.8 * cloud.means[:, 1].astype(float)
    zero, one = np.zeros(40), np.ones(40)
    slope = np.array([
        [np.cos(angle), -0.8 * radius * np.sin(angle), zero],
        [np.sin(angle), 0.8 * radius * np.cos(angle), zero],
        [zero, zero, one],
    ]).transpose(2, 0, 1)  # fmt: skip
    expected = slope @ covariances(cloud.quats.astype(float), cloud.scales.astype(float)) @ slope.transpose(0, 2, 1)
    np.testing.assert_allclose(covariances(warped.quats.astype(float), warped.scales), expected, atol=1e-4)
    np.testing.assert_allclose(warped.family.velocity, np.einsum("nij,nj->ni", slope, cloud.family.velocity), atol=1e-3)


def test_a_bone_takes_what_is_near_it_along_and_leaves_the_rest():
    turn = np.eye(4)
    turn[:3, :3] = matrix(from_euler(np.array([0.0, 0, 0.9])))
    turn[:3, 3] = [1, 0, 0] - turn[:3, :3] @ [1, 0, 0]  # the second bone turns about its head
    warp = skin([[0, 0, 0], [1, 0, 0]], [[1, 0, 0], [2, 0, 0]], [np.eye(4), turn])
    points = np.array([[0.2, 0.05, 0], [1.8, 0.05, 0], [1, 0, 0]])
    moved = warp(points)
    np.testing.assert_allclose(moved[0], points[0], atol=1e-3)
    np.testing.assert_allclose(moved[1], posed(points[1:2], turn)[0], atol=1e-3)
    np.testing.assert_allclose(moved[2], points[2], atol=1e-12)


def test_a_cage_takes_its_surface_along():
    moved = CUBE + np.random.default_rng(3).normal(size=CUBE.shape) * 0.2
    warp = cage(CUBE, moved, SIDES)
    np.testing.assert_allclose(warp(CUBE * (1 - 1e-7)), moved, atol=1e-5)
    middles, there = CUBE[SIDES].mean(axis=1), moved[SIDES].mean(axis=1)
    np.testing.assert_allclose(warp(middles), there, atol=1e-5)
    np.testing.assert_allclose(warp(middles * 1.000001), there, atol=1e-4)


def test_where_space_is_folded_flat_splats_become_discs():
    flat = deformed(made(), lambda points: points * [1, 1, 0])
    assert np.isfinite(flat.scales).all() and (flat.scales > 0).all()
    np.testing.assert_allclose(flat.means[:, 2], 0)
    assert (np.abs(covariances(flat.quats, flat.scales)[:, 2, 2]) < 1e-5).all()
    with pytest.raises(VivantError, match="not finite"):
        deformed(made(), lambda points: points * np.nan)


# ---- proxies


def shell(radius: float, count: int = 4000) -> SplatCloud:
    """Round splats all over a sphere."""
    directions = np.random.default_rng(1).normal(size=(count, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return SplatCloud(
        directions * radius + [1, 2, 3],
        [[1, 0, 0, 0]] * count,
        np.full((count, 3), 0.03),
        np.full(count, 0.9),
        np.zeros((count, 1, 3)),
    )


def test_the_surface_is_closed_faces_outwards_and_lies_where_the_splats_are():
    vertices, quads = proxy.surface(shell(1.0), cells=24)
    edges = np.concatenate([quads[:, [a, (a + 1) % 4]] for a in range(4)])
    keys, ways = edges.min(axis=1) * len(vertices) + edges.max(axis=1), np.where(edges[:, 0] < edges[:, 1], 1, -1)
    _, index = np.unique(keys, return_inverse=True)
    assert not np.bincount(index, ways).any()  # as often one way as the other: closed
    away = np.linalg.norm(vertices - [1, 2, 3], axis=1)
    assert away.min() > 0.8 and away.max() < 1.2
    outer = away[quads].mean(axis=1) > 1
    a, b, c, d = (vertices[quads[:, i]] for i in range(4))
    facing = np.einsum("qi,qi->q", np.cross(c - a, d - b), (a + b + c + d) / 4 - [1, 2, 3])
    assert (facing[outer] > 0).mean() > 0.99 and (facing[~outer] < 0).mean() > 0.99
    triangles = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    assert at_once(inside(shell(1.0).means[:200], vertices, triangles)).mean() > 0.98
    assert not at_once(inside([[1.0, 2, 4.5], [1, 2, 3]], vertices, triangles)).any()  # neither outside nor in the hollow


def test_a_floater_does_not_spoil_the_grid_and_nothing_opaque_is_refused():
    cloud = shell(1.0)
    far = cloud.means.copy()
    far[0] = 1e6
    vertices, _ = proxy.surface(cloud.replace(means=far), cells=32)
    assert np.abs(vertices - [1, 2, 3]).max() < 1.3
    with pytest.raises(VivantError, match="opaque enough"):
        proxy.surface(cloud.replace(opacities=np.full(4000, 0.01)))
    with pytest.raises(VivantError, match="opaque enough"):
        proxy.surface(cloud.select(slice(0, 3)).replace(opacities=np.full(3, 0.3)), level=0.9)


def test_a_thin_disc_between_grid_points_is_found():
    disc = SplatCloud([[0, 0, 0.013]], [[1, 0, 0, 0]], [[0.3, 0.3, 1e-5]], [0.95], np.zeros((1, 1, 3)))
    two = dataclasses.replace(disc, means=[[0, 0, 0.013], [0.5, 0, 0.013]], **{
        name: np.repeat(getattr(disc, name), 2, axis=0) for name in ("quats", "scales", "opacities", "sh")
    })  # fmt: skip
    vertices, _ = proxy.surface(two, cells=16, level=0.4)
    assert np.ptp(vertices[:, 0]) > 0.5
