# SPDX-License-Identifier: GPL-3.0-or-later
import numpy as np
import pytest

from vivant.backends.common.cameras import Camera
from vivant.backends.gaussian import sh
from vivant.backends.gaussian.cloud import SplatCloud
from vivant.backends.gaussian.render import job
from vivant.backends.gaussian.render.reference import render, render_layers

K = np.array([[100.0, 0, 32], [0, 100, 24], [0, 0, 1]])


def camera(pose: np.ndarray | None = None) -> Camera:
    return Camera(K, np.eye(4) if pose is None else pose, 64, 48)


def one_splat(mean, rgb, opacity=1.0, scale=0.2) -> SplatCloud:
    return SplatCloud([mean], [[1, 0, 0, 0]], np.full((1, 3), scale), [opacity], sh.to_base(np.array([[rgb]])))


def test_a_round_splat_has_the_closed_form_of_its_projection():
    picture = render([(one_splat((0, 0, 4), (1, 0.5, 0.25), 0.8), camera())])
    variance = (100 / 4 * 0.2) ** 2 + 0.3
    y, x = np.mgrid[:48, :64]
    alpha = 0.8 * np.exp(-((x + 0.5 - 32) ** 2 + (y + 0.5 - 24) ** 2) / 2 / variance)
    alpha[alpha < 1 / 255] = 0
    np.testing.assert_allclose(picture[..., 3], alpha, atol=1e-6)
    np.testing.assert_allclose(picture[..., :3], alpha[..., None] * [1, 0.5, 0.25], atol=1e-6)


def test_colours_are_clamped_before_they_are_blended():
    # a colour below 0 counts as 0 for each splat by itself, one above 1 stays
    near, far = one_splat((0, 0, 4), (-1, 0.5, 2), 0.5), one_splat((0, 0, 5), (1, 1, 1), 0.5)
    centre = render([(near, camera()), (far, camera())])[24, 32]
    assert centre[0] == pytest.approx(0.25, abs=2e-2)
    assert centre[2] == pytest.approx(1.25, abs=3e-2)


def test_nearer_splats_cover_farther_ones_whatever_their_order_and_object():
    red, blue = one_splat((0, 0, 3), (1, 0, 0), 0.9, 1), one_splat((0, 0, 5), (0, 0, 1), 0.9, 1)
    first, second = render([(red, camera()), (blue, camera())]), render([(blue, camera()), (red, camera())])
    np.testing.assert_array_equal(first, second)
    assert first[24, 32, 0] > 0.85 > 0.15 > first[24, 32, 2]


def test_what_lies_behind_the_camera_is_not_drawn():
    assert render([(one_splat((0, 0, -3), (1, 1, 1)), camera())]).max() == 0
    assert render([(one_splat((0, 0, 0.1), (1, 1, 1)), camera())]).max() == 0


def test_moving_camera_and_cloud_together_changes_nothing():
    rng = np.random.default_rng(1)
    quats = rng.normal(size=(40, 4))
    quats /= np.linalg.norm(quats, axis=1, keepdims=True)
    cloud = SplatCloud(
        rng.uniform((-1, -1, 3), (1, 1, 5), (40, 3)), quats, rng.uniform(0.02, 0.3, (40, 3)), rng.uniform(0.1, 1, 40),
        rng.normal(size=(40, 1, 3)),
    )  # fmt: skip
    shift = np.array([3.0, -2, 5])
    pose = np.eye(4)
    pose[:3, 3] = shift
    moved = cloud.replace(means=cloud.means + shift.astype(np.float32))
    np.testing.assert_allclose(render([(moved, camera(pose))]), render([(cloud, camera())]), atol=1e-4)


def test_the_engine_job_draws_what_a_direct_call_draws():
    cloud = one_splat((0.1, 0.2, 4), (0.2, 0.9, 0.4))
    steps: list[tuple[int, int]] = []
    parameters, arrays = job.request([(cloud, camera())])
    _, result = job.run(parameters, arrays, lambda done, total, note: steps.append((done, total)))
    np.testing.assert_allclose(result["picture"], render([(cloud, camera())]), atol=1e-6)
    assert steps[-1] == (1, 1)


def test_depths_are_those_of_what_adds_to_a_pixel():
    near, far = one_splat((0, 0, 3), (1, 0, 0), 0.6, 1), one_splat((0, 0, 5), (0, 0, 1), 0.5, 1)
    layers = render_layers([(far, camera()), (near, camera())])
    alpha, behind = 0.6, 0.4 * 0.5
    assert layers.depth[24, 32] == pytest.approx((alpha * 3 + behind * 5) / (alpha + behind), abs=1e-2)
    assert layers.nearest[24, 32] == 3
    assert np.isinf(render_layers([(one_splat((0, 0, 4), (1, 1, 1), 1, 0.01), camera())]).depth[0, 0])


def test_what_is_opaque_hides_the_splats_behind_it():
    red, blue = one_splat((0, 0, 3), (1, 0, 0), 0.9, 1), one_splat((0, 0, 5), (0, 0, 1), 0.9, 1)
    wall = np.full((48, 64), np.inf)
    wall[:, :32] = 4
    hidden = render([(red, camera()), (blue, camera())], occluders=wall)
    np.testing.assert_array_equal(hidden[:, :32], render([(red, camera())])[:, :32])
    np.testing.assert_array_equal(hidden[:, 32:], render([(red, camera()), (blue, camera())])[:, 32:])
