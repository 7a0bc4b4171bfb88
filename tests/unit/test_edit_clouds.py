# SPDX-License-Identifier: GPL-3.0-or-later
"""Merging, recolouring and measuring clouds, and what is inside a surface."""

import dataclasses

import numpy as np
import pytest

from vivant.backends.common.errors import VivantError
from vivant.backends.common.rotations import normalise
from vivant.backends.common.steps import at_once
from vivant.backends.gaussian import sh
from vivant.backends.gaussian.cloud import Source, SplatCloud
from vivant.backends.gaussian.edit import colour, measures
from vivant.backends.gaussian.edit.deform import deformed
from vivant.backends.gaussian.edit.enclosed import inside
from vivant.backends.gaussian.edit.merge import merged
from vivant.backends.gaussian.motion import ndgs
from vivant.backends.gaussian.motion.frames import Frames
from vivant.backends.gaussian.motion.linear import Linear
from vivant.backends.gaussian.motion.rotor4d import Rotor4D
from vivant.backends.gaussian.motion.stg import Stg
from vivant.backends.gaussian.motion.stg_full import Decoder, StgFull

EYE = np.array([0.5, -2.0, 1.0])
KINDS = ["still", "Linear", "4DGS", "STG", "STG full", "NDGS"]
CUBE = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
QUADS = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
SIDES = np.array([side for a, b, c, d in QUADS for side in ((a, b, c), (a, c, d))])


def made(kind: str = "still", count: int = 20, seed: int = 1, coefficients: int = 4) -> SplatCloud:
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return rng.normal(size=(count, *shape)).astype(np.float32)

    family = None
    center, width = rng.uniform(0, 1, count).astype(np.float32), np.exp(normal())
    times = (center, width, np.full(count, -np.inf, np.float32), np.full(count, np.inf, np.float32))
    if kind == "Linear":
        family = Linear(normal(3), *times)
    elif kind == "4DGS":
        family = Rotor4D(normal(3), *times, (0.0, 1.0), normal(seed, coefficients, 3))
    elif kind == "STG":
        family = Stg(normal(3, 3), normal(4), center, width)
    elif kind == "STG full":
        family = StgFull(normal(3, 3), normal(4), center, width, (0.0, 1.0), normal(3), normal(3))
    elif kind == "NDGS":
        factor = 0.3 * normal(7, 7)
        towards = normal(3)
        towards /= np.linalg.norm(towards, axis=1, keepdims=True)
        joint = factor @ factor.transpose(0, 2, 1) + 0.1 * np.eye(7)
        _, _, family = ndgs.condition(joint, towards, center, np.full(count, 0.3), np.full(count, 0.4))
    return SplatCloud(
        normal(3), normalise(normal(4)), np.exp(normal(3)), rng.uniform(0.1, 0.9, count), normal(coefficients, 3), family,
        {f"extra{seed}": normal()},
    )  # fmt: skip


def check_equal(one: SplatCloud, other: SplatCloud, atol: float = 0) -> None:
    count = min(one.sh.shape[1], other.sh.shape[1])
    for name in ("means", "quats", "scales", "opacities"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), atol=atol)
    np.testing.assert_allclose(one.sh[:, :count], other.sh[:, :count], atol=atol)
    assert not one.sh[:, count:].any() and not other.sh[:, count:].any()


# ---- merging


@pytest.mark.parametrize("kind", KINDS)
def test_merged_clouds_are_what_they_were_at_any_time(kind):
    parts = [made(kind, 20, 1, 4), made(kind, 7, 2, 16)]
    whole = merged(parts)
    assert len(whole) == 27 and whole.degree == 3
    for time in (0.0, 0.4, 1.0):
        check_equal(whole.at(time, EYE).select(slice(0, 20)), parts[0].at(time, EYE), 1e-6)
        check_equal(whole.at(time, EYE).select(slice(20, None)), parts[1].at(time, EYE), 1e-6)
    np.testing.assert_array_equal(whole.extras["extra1"], [*parts[0].extras["extra1"], *np.zeros(7)])


@pytest.mark.parametrize("kind", KINDS[1:])
@pytest.mark.parametrize("coefficients", [4, 16])
def test_still_splats_stand_still_among_moving_ones(kind, coefficients):
    still, moving = made(coefficients=coefficients), made(kind, 9, 2)
    whole = merged([still, moving])
    assert whole.family.name == kind
    for time in (0.0, 0.7):
        check_equal(whole.at(time, EYE).select(slice(0, 20)), still, 2e-5)
        check_equal(whole.at(time, EYE).select(slice(20, None)), moving.at(time, EYE), 1e-6)


def test_merged_7d_splats_have_joint_covariances_for_their_files():
    whole = merged([made(), made("NDGS", 9, 2)])
    factor = ndgs.factor(whole.quats, whole.scales, whole.family, 7)
    assert np.isfinite(factor).all()
    _, scales, _ = ndgs.condition(
        factor @ factor.transpose(0, 2, 1), whole.family.view_mean, whole.family.center, whole.family.view_lambda,
        whole.family.time_lambda,
    )  # fmt: skip
    np.testing.assert_allclose(np.sort(scales), np.sort(whole.scales), rtol=1e-3)


def test_what_does_not_belong_together_is_refused():
    with pytest.raises(VivantError, match="different ways: Linear and STG"):
        merged([made("STG"), made("Linear")])
    late = made("Linear")
    late = late.replace(family=dataclasses.replace(late.family, time_range=(0.0, 2.0)))
    with pytest.raises(VivantError, match="different times"):
        merged([made("Linear"), late])
    with pytest.raises(VivantError, match="frames"):
        merged([made(), made().replace(source=Source(axes="RUB"))])
    with pytest.raises(VivantError, match="anti-aliasing"):
        merged([made(), made().replace(source=Source(antialiased=True))])
    full = made("STG full", coefficients=1)
    network = full.replace(family=dataclasses.replace(full.family, decoder=Decoder(np.ones((6, 12)), np.ones((3, 6)))))
    with pytest.raises(VivantError, match="network"):
        merged([network, made(coefficients=1)])
    assert merged([network, network]).family.decoder is network.family.decoder


# ---- colours


@pytest.mark.parametrize("kind", ["still", "4DGS"])
def test_every_colour_changes_as_the_matrix_says_from_every_side(kind):
    cloud = made(kind, coefficients=16)
    matrix, offset = colour.grading((0.9, 0.5, 0.2), 1.3, 0.8, 0.4)
    where = np.arange(20) % 2 == 0
    changed = colour.recoloured(cloud, matrix, offset, where)
    direction = np.array([[0.48, -0.6, 0.64]])
    values = sh.basis(direction, 16)[0]
    for time in (0.1, 0.8):
        before, after = (0.5 + np.einsum("k,nkc->nc", values, made.at(time).sh) for made in (cloud, changed))
        np.testing.assert_allclose(after[where], before[where] @ matrix.T + offset, atol=1e-4)
        np.testing.assert_array_equal(after[~where], before[~where])


def test_what_would_not_reach_the_colours_of_a_time_is_refused():
    frames = made().replace(family=Frames(np.arange(3), lambda index: made(), True))
    edits = [
        lambda cloud: colour.recoloured(cloud, np.eye(3) / 2),
        lambda cloud: colour.faded(cloud, 0.5),
        lambda cloud: colour.limited(cloud, 0),
        lambda cloud: deformed(cloud, lambda points: points + 1),
    ]
    for edit in edits:
        with pytest.raises(VivantError, match="in files"):
            edit(frames)
        assert len(edit(frames.at(1.0))) == 20


def test_grading_does_what_its_names_say():
    grey, red = np.full(3, 0.5), np.array([0.8, 0.2, 0.2])

    def graded(rgb, **settings):
        matrix, offset = colour.grading(**settings)
        return matrix @ rgb + offset

    np.testing.assert_allclose(graded(red), red)
    np.testing.assert_allclose(graded(red, saturation=0), np.full(3, red @ colour.LUMA))
    np.testing.assert_allclose(graded(grey, contrast=3.0), grey)
    np.testing.assert_allclose(graded(red, contrast=0.5), (red + 0.5) / 2)
    np.testing.assert_allclose(graded(red, brightness=2, colour=(1, 0, 1)), [1.6, 0, 0.4])


def test_opacities_stay_opacities():
    cloud = made()
    np.testing.assert_allclose(colour.faded(cloud, 0.5).opacities, cloud.opacities / 2)
    assert colour.faded(cloud, 9).opacities.max() == 1
    np.testing.assert_array_equal(colour.faded(cloud, 9, np.zeros(20, bool)).opacities, cloud.opacities)


# ---- measures


def test_measures_are_what_they_are_called():
    scales = [[0.1, 0.1, 0.4], [0.2, 0.2, 0.2]]
    rgb = np.array([[[0.8, 0.2, 0.2]], [[0.5, 0.5, 0.5]]])
    cloud = SplatCloud([[1, 2, 3], [4, 5, 6]], [[1, 0, 0, 0]] * 2, scales, [0.3, 0.9], sh.to_base(rgb))
    expected = {
        "OPACITY": (0.3, 0.9), "SIZE": (0.4, 0.2), "STRETCH": (4, 1), "X": (1, 4), "Y": (2, 5), "Z": (3, 6),
        "RED": (0.8, 0.5), "GREEN": (0.2, 0.5), "BLUE": (0.2, 0.5), "BRIGHTNESS": (0.32756, 0.5), "SATURATION": (0.75, 0),
    }  # fmt: skip
    assert set(expected) == set(measures.MEASURES)
    for name, values in expected.items():
        np.testing.assert_allclose(measures.MEASURES[name](cloud), values, atol=1e-6)
    np.testing.assert_array_equal(measures.between(cloud, "OPACITY", 0.3, 0.5), [True, False])
    np.testing.assert_array_equal(measures.near_colour(cloud, (0.8, 0.25, 0.2), 0.1), [True, False])


# ---- inside a surface


def test_a_cube_and_a_turned_box_hold_what_lies_within_their_sides():
    points = np.random.default_rng(4).uniform(-2, 2, (4000, 3))
    points[:200] = np.round(points[:200] * 2) / 2 + [0, 0, 1e-3]  # in line with corners and edges
    deep = np.abs(points).max(axis=1)
    clear = np.abs(deep - 1) > 1e-9
    np.testing.assert_array_equal(at_once(inside(points, CUBE, SIDES))[clear], (deep < 1)[clear])
    np.testing.assert_array_equal(at_once(inside(points, CUBE, SIDES[:, ::-1]))[clear], (deep < 1)[clear])
    shear = np.array([[1, 0.3, 0], [0, 0.7, 0.2], [0.4, 0, 1.5]])
    np.testing.assert_array_equal(at_once(inside(points @ shear.T, CUBE @ shear.T, SIDES))[clear], (deep < 1)[clear])


def test_bodies_that_overlap_hold_together_and_an_open_one_holds_nothing():
    both, sides = np.concatenate([CUBE, CUBE + 1]), np.concatenate([SIDES, SIDES + 8])
    np.testing.assert_array_equal(
        at_once(inside([[0.5, 0.5, 0.6], [-0.5, 0, 0], [1.5, 1.2, 1.1], [-0.5, 1.5, 0]], both, sides)), [1, 1, 1, 0]
    )
    with pytest.raises(VivantError, match="holes"):
        at_once(inside(np.zeros((1, 3)), CUBE, SIDES[1:]))
