# SPDX-License-Identifier: GPL-3.0-or-later
"""Fewer splats: how many stay, which, and that a picture of them is the picture of all."""

import numpy as np
import pytest

from vivant.backends.common.cameras import Camera
from vivant.backends.gaussian import density
from vivant.backends.gaussian.cloud import SplatCloud
from vivant.backends.gaussian.formats import read_splats
from vivant.backends.gaussian.motion.stg import Stg
from vivant.backends.gaussian.render.reference import render


def ball(count: int, seed: int = 3, size: float = 0.03) -> SplatCloud:
    """Splats on a unit ball, most of them faint, in smooth colours: what training makes of surfaces."""
    rng = np.random.default_rng(seed)
    means = rng.normal(size=(count, 3))
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    scales = np.exp(rng.normal(np.log(size), 0.5, (count, 3)))
    return SplatCloud(
        means, np.tile([1.0, 0, 0, 0], (count, 1)), scales, rng.beta(1, 2, count), (2 * np.sin(3 * means + 1))[:, None]
    )


def look(cloud: SplatCloud, width: int = 80) -> Camera:
    """A camera in front of a capture, whose axes are right, down, forward."""
    low, high = np.percentile(cloud.means, [2, 98], axis=0)
    to_world = np.diag([-1.0, 1, -1, 1])
    to_world[:3, 3] = (low + high) / 2 + [0, 0, 1.2 * np.linalg.norm(high - low)]
    return Camera(
        np.array([[width, 0, width / 2], [0, width, 0.375 * width], [0, 0, 1]]), to_world, width, width * 3 // 4, near=0.01
    )


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return -10 * np.log10(np.square(np.clip(a, 0, 1) - np.clip(b, 0, 1)).mean())


@pytest.mark.parametrize("value", [0.01, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("spread", [0.0, 0.7, 1.4])
def test_as_many_stay_as_asked_for(value, spread):
    weight = np.random.default_rng(1).lognormal(0, spread, 40_000).astype(np.float32)
    kept = density.chosen(density.shares(weight, value))
    assert len(kept) / len(weight) == pytest.approx(value, rel=0.06, abs=1e-3)


def test_large_opaque_splats_always_stay_and_stay_as_they_are():
    cloud = ball(3000)
    large = np.arange(10)
    scales, opacities = cloud.scales.copy(), cloud.opacities.copy()
    scales[large], opacities[large] = 5, 1
    cloud = cloud.replace(scales=scales, opacities=opacities)
    for value in (0.1, 0.5, 0.9):
        thinned = density.thinned(cloud, value)
        assert np.array_equal(thinned.means[large], cloud.means[large])
        np.testing.assert_allclose(thinned.scales[large], cloud.scales[large], rtol=1e-6)
        np.testing.assert_array_equal(thinned.opacities[large], 1)


def test_lower_densities_choose_among_what_higher_ones_keep():
    weight = np.random.default_rng(2).lognormal(0, 1, 5000).astype(np.float32)
    before = np.arange(5000)
    for value in (0.8, 0.5, 0.2, 0.05):
        kept = density.chosen(density.shares(weight, value))
        assert np.isin(kept, before).all() and len(kept) < len(before)
        before = kept


def test_opacity_times_area_is_kept_on_average():
    cloud = ball(200_000)

    def covered(part: SplatCloud) -> float:
        return float(np.sum(part.opacities.astype(float) * density.weights(part.scales).astype(float) ** 2))

    for value in (0.5, 0.2, 0.05):
        assert covered(density.thinned(cloud, value)) == pytest.approx(covered(cloud), rel=0.02)


def test_a_capture_looks_more_like_all_of_it_than_by_chance_or_by_importance(data):
    cloud = read_splats(data / "splats" / "guitar.compressed.ply")
    value = 0.25
    count = int(value * len(cloud))
    seen = look(cloud)
    whole = render([(cloud, seen)])
    most = np.sort(np.argpartition(-cloud.opacities * density.weights(cloud.scales) ** 2, count)[:count])
    random = np.random.default_rng(1).permutation(len(cloud))[:count]
    score, by_importance, by_chance = (
        psnr(render([(part, seen)]), whole)
        for part in (density.thinned(cloud, value), cloud.select(most), cloud.select(random))
    )
    assert score > 30
    assert score > max(by_importance, by_chance) + 3


def test_a_moving_cloud_keeps_the_same_splats_whatever_its_opacities():
    count = 500
    cloud, rng = ball(count), np.random.default_rng(5)
    family = Stg(
        np.zeros((count, 3, 3), np.float32), np.zeros((count, 4), np.float32), rng.random(count).astype(np.float32),
        np.full(count, 0.2, np.float32),
    )  # fmt: skip
    moving = cloud.replace(family=family)
    faded = moving.replace(opacities=cloud.opacities * rng.random(count).astype(np.float32))
    assert np.array_equal(density.thinned(moving, 0.3).means, density.thinned(faded, 0.3).means)


def test_nothing_is_done_at_density_1():
    cloud = ball(100)
    assert density.thinned(cloud, 1.0) is cloud


def test_splats_without_size_or_opacity_are_the_first_to_go():
    cloud = ball(100)
    invisible = cloud.opacities.copy()
    invisible[::2] = 0
    thinned = density.thinned(cloud.replace(opacities=invisible), 0.5)
    assert len(thinned) and (thinned.opacities > 0).all() and np.isfinite(thinned.scales).all()
    assert len(density.thinned(cloud.replace(opacities=np.zeros(100)), 0.5)) == 0


@pytest.mark.parametrize("share", [0.05, 0.25, 0.5])
@pytest.mark.parametrize("layout", ["golden angle", "grid"])
def test_what_stays_is_spread_over_layouts_in_order(layout, share):
    """A sky of a Fibonacci sphere keeps all its sides, a grid all its columns."""
    count = 40_000
    along = np.arange(count) * (np.sqrt(5) - 1) / 2 if layout == "golden angle" else np.arange(count) / 200
    sectors = (along % 1 * 10).astype(int)
    kept = density.chosen(np.full(count, share, np.float32))
    found = np.bincount(sectors[kept], minlength=10) / np.bincount(sectors)
    np.testing.assert_allclose(found, share, atol=0.02)
