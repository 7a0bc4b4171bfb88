# SPDX-License-Identifier: GPL-3.0-or-later
"""The compiled rasteriser draws what the float64 reference draws, and its gradients are those of the reference."""

import dataclasses

import numpy as np
import pytest

from vivant.backends.common.cameras import Camera, intrinsics
from vivant.backends.gaussian.cloud import Source
from vivant.backends.gaussian.covariance import covariances
from vivant.backends.gaussian.render.reference import render_layers
from vivant.backends.gaussian.sh import C0

pytest.importorskip("numba", reason="compiles the rasteriser")
from vivant.backends.gaussian.render import cpu

SEEDS = (1, 2, int(np.random.SeedSequence().entropy % 10_000))
BACKGROUND = np.array([0.2, 0.3, 0.4], np.float32)
ROWS, COLUMNS = [0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 2, 2]


@dataclasses.dataclass
class Doubles:
    """What the reference reads of a SplatCloud, whose own arrays are float32, too coarse for differences."""

    means: np.ndarray
    quats: np.ndarray
    scales: np.ndarray
    opacities: np.ndarray
    sh: np.ndarray
    source: Source


def packed(quats, scales):
    return covariances(quats, scales)[:, ROWS, COLUMNS]


def scene(seed, count=150, model="perspective", antialiased=False, size=(61, 50), spread=1.6):
    """A cloud with colours only, and a camera that looks at it from anywhere, with its principal point off the middle."""
    random = np.random.default_rng(seed)
    quats = random.normal(size=(count, 4))
    quats /= np.linalg.norm(quats, axis=1, keepdims=True)
    cloud = Doubles(
        random.uniform(-spread, spread, (count, 3)),
        quats,
        random.uniform(0.02, 0.25, (count, 3)),
        random.uniform(0.02, 1, count),
        random.uniform(-1.5, 1.5, (count, 1, 3)),
        Source(antialiased=antialiased),
    )
    turn = np.linalg.qr(random.normal(size=(3, 3)))[0]
    turn *= np.linalg.det(turn)
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = turn, -2.4 * turn[:, 2]
    focal = 14.0 if model == "orthographic" else 60.0
    return cloud, Camera(intrinsics(focal, 1.1 * focal, size[0] / 2 + 2, size[1] / 2 - 1), pose, *size, model)


def colours(cloud):
    return np.maximum(0.5 + C0 * cloud.sh[:, 0], 0)


def drawn(cloud, camera):
    return cpu.draw(
        cloud.means, packed(cloud.quats, cloud.scales), cloud.opacities, colours(cloud), camera, BACKGROUND,
        cloud.source.antialiased,
    )  # fmt: skip


def expected(cloud, camera):
    """Colours over the background, depth times alpha, alpha: by the reference."""
    layers = render_layers([(cloud, camera)])
    alpha = layers.picture[..., 3]
    depth = np.where(alpha > 0, np.where(alpha > 0, layers.depth, 0) * alpha, 0)
    return layers.picture[..., :3] + (1 - alpha[..., None]) * BACKGROUND, depth, alpha


@pytest.mark.parametrize("antialiased", [False, True])
@pytest.mark.parametrize("model", ["perspective", "orthographic"])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_picture_is_the_references(seed, model, antialiased):
    cloud, camera = scene(seed, model=model, antialiased=antialiased)
    made = drawn(cloud, camera)
    for found, right in zip((made.features, made.depth, made.alpha), expected(cloud, camera), strict=True):
        error = np.abs(found - right)
        assert np.quantile(error, 0.999) < 2e-5  # a pixel may fall on the other side of 1/255
        assert error.max() < 0.02


def scalar(cloud, camera, weights):
    return sum(float((part * weight).sum()) for part, weight in zip(expected(cloud, camera), weights, strict=True))


@pytest.mark.parametrize("model", ["perspective", "orthographic"])
@pytest.mark.parametrize("seed", SEEDS)
def test_gradients_are_the_slopes_of_the_reference(seed, model):
    """Along a random direction of each input, by central differences in float64."""
    cloud, camera = scene(seed, count=60, model=model, antialiased=bool(seed % 2), size=(40, 30))
    cloud = dataclasses.replace(cloud, sh=np.abs(cloud.sh))  # no colour is cut at 0
    random = np.random.default_rng(seed)
    made = drawn(cloud, camera)
    weights = [random.normal(size=part.shape).astype(np.float32) for part in (made.features, made.depth, made.alpha)]
    found = made.backward(*weights)

    step = 1e-7
    moves = {
        "means": random.normal(size=cloud.means.shape),
        "scales": random.normal(size=cloud.scales.shape) * cloud.scales,
        "opacities": random.normal(size=cloud.opacities.shape) * 0.1,
        "sh": random.normal(size=cloud.sh.shape),
    }
    spread = [packed(cloud.quats, cloud.scales + sign * step * moves["scales"]) for sign in (1, -1)]
    along = {
        "means": (found.means, moves["means"]),
        "scales": (found.covariances, (spread[0] - spread[1]) / (2 * step)),
        "opacities": (found.opacities, moves["opacities"]),
        "sh": (found.features, C0 * moves["sh"][:, 0]),
    }
    for name, move in moves.items():
        there, back = (
            scalar(dataclasses.replace(cloud, **{name: getattr(cloud, name) + sign * step * move}), camera, weights)
            for sign in (1, -1)
        )
        gradient, direction = along[name]
        assert float((gradient * direction).sum()) == pytest.approx((there - back) / (2 * step), rel=2e-3, abs=2e-3), name

    nudge = random.normal(size=(3, 4))
    views = []
    for sign in (1, -1):
        view = np.linalg.inv(camera.camera_to_world)
        view[:3] += sign * step * nudge
        views.append(scalar(cloud, dataclasses.replace(camera, camera_to_world=np.linalg.inv(view)), weights))
    slope = (views[0] - views[1]) / (2 * step)
    assert float((found.view * nudge).sum()) == pytest.approx(slope, rel=2e-3, abs=2e-2), "view"


def test_the_order_of_splats_and_the_number_of_cores_change_nothing():
    numba = pytest.importorskip("numba")
    cloud, camera = scene(5, count=900)
    shuffle = np.random.default_rng(5).permutation(900)
    columns = (getattr(cloud, name)[shuffle] for name in ("means", "quats", "scales", "opacities", "sh"))
    shuffled = Doubles(*columns, cloud.source)
    first = drawn(cloud, camera)
    np.testing.assert_array_equal(drawn(shuffled, camera).features, first.features)
    threads = numba.get_num_threads()
    numba.set_num_threads(1)
    alone = drawn(cloud, camera)
    numba.set_num_threads(threads)
    np.testing.assert_array_equal(alone.features, first.features)
    gradient = np.random.default_rng(6).normal(size=first.features.shape).astype(np.float32)
    found, same = first.backward(gradient), alone.backward(gradient)
    for name in ("means", "covariances", "opacities", "features", "view"):
        np.testing.assert_array_equal(getattr(found, name), getattr(same, name))


def test_many_features_are_drawn_as_colours_are():
    cloud, camera = scene(7)
    features = np.random.default_rng(7).normal(size=(len(cloud.means), 11)).astype(np.float32)
    shape = cloud.means, packed(cloud.quats, cloud.scales), cloud.opacities
    together = cpu.draw(*shape, features, camera, np.arange(11) / 11)
    weights = np.random.default_rng(8).normal(size=together.features.shape).astype(np.float32)
    whole, sums = together.backward(weights), 0.0
    for start in range(0, 11, 3):
        part = np.s_[..., start : start + 3]
        alone = cpu.draw(*shape, features[part], camera, (np.arange(11) / 11)[part])
        np.testing.assert_allclose(alone.features, together.features[part], atol=1e-6)
        back = alone.backward(weights[part])
        np.testing.assert_allclose(back.features, whole.features[part], rtol=1e-4, atol=1e-4)
        sums = sums + back.means
    np.testing.assert_allclose(sums, whole.means, rtol=1e-3, atol=1e-3 * np.abs(whole.means).max())


def test_gradients_of_ones_are_the_weights_that_splats_have_in_the_picture():
    cloud, camera = scene(9, count=30)
    made = cpu.draw(
        cloud.means, packed(cloud.quats, cloud.scales), cloud.opacities, np.eye(len(cloud.means)), camera
    )  # every splat in a channel of its own
    weights = made.backward(np.ones_like(made.features)).features
    np.testing.assert_allclose(weights[:, 0], made.features.sum(axis=(0, 1)), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("distance", "alpha"), [(0, 0.8), (1, 0.5445699187), (2, 0.3706954954), (4, 0.1717687679), (9, 0.0251051566)]
)
def test_one_splat_fades_as_worked_out_by_hand(distance, alpha):
    """Squared distance in pixels from the centre of a splat of opacity 0.8 whose variance is 1 + 0.3."""
    camera = Camera(intrinsics(100, 100, 8.5, 8.5), np.eye(4), 17, 17)
    covariance = np.array([[0.04**2, 0, 0, 0.04**2, 0, 0.04**2]])
    made = cpu.draw(np.array([[0, 0, 4.0]]), covariance, np.array([0.8]), np.ones((1, 1)), camera)
    y, x = {0: (8, 8), 1: (8, 9), 2: (9, 9), 4: (8, 10), 9: (8, 11)}[distance]
    assert made.alpha[y, x] == pytest.approx(alpha, rel=1e-5)
    assert made.depth[y, x] == pytest.approx(4 * alpha, rel=1e-5)


def test_nothing_to_draw_is_the_background():
    camera = scene(1)[1]
    for count in (0, 3):
        behind = np.tile(camera.camera_to_world[:3, 3] - 5 * camera.camera_to_world[:3, 2], (count, 1)).reshape(count, 3)
        made = cpu.draw(behind, np.ones((count, 6)), np.ones(count), np.ones((count, 3)), camera, BACKGROUND)
        assert np.array_equal(made.features, np.broadcast_to(BACKGROUND, made.features.shape))
        assert not made.backward(np.ones_like(made.features)).means.any()


def test_a_number_that_is_not_finite_is_refused():
    cloud, camera = scene(1)
    cloud.means[3, 1] = np.nan
    with pytest.raises(FloatingPointError, match="not finite"):
        drawn(cloud, camera)
