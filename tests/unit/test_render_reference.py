# SPDX-License-Identifier: GPL-3.0-or-later
import numpy as np
import pytest

from vivant.backends.common.cameras import Camera
from vivant.backends.gaussian import sh
from vivant.backends.gaussian.cloud import Source, SplatCloud
from vivant.backends.gaussian.render import job
from vivant.backends.gaussian.render.occluders import Solids, depths
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
    wall = solids([(-9, -9, 3), (9, -9, 3), (0, 0, 3)], [(0, 1, 2)])
    steps: list[tuple[int, int]] = []
    _, result = job.run(
        *job.request([(cloud, camera())], camera(), wall), lambda done, total, note: steps.append((done, total))
    )
    layers = render_layers([(cloud, camera())], occluders=depths(wall, camera()))
    assert 0 < (layers.picture[..., 3] > 0).sum() < (render([(cloud, camera())])[..., 3] > 0).sum()
    np.testing.assert_allclose(result["light"], layers.light, atol=1e-6)
    np.testing.assert_allclose(result["depth"], layers.depth)
    assert steps[-1] == (1, 1)


def in_light(cloud: SplatCloud) -> SplatCloud:
    """The same numbers, said to be linear light."""
    return cloud.replace(source=Source(details={"colour_space": "linear"}))


def encoded(light):
    """The sRGB curve, from its definition."""
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * np.maximum(light, 1e-9) ** (1 / 2.4) - 0.055)


def test_colours_in_linear_light_are_blended_as_light_and_shown_as_display_values():
    near, far = one_splat((0, 0, 3), (0.5, 0.05, 0), 0.6, 1), one_splat((0, 0, 5), (0.1, 0.8, 1.7), 0.8, 1)
    views = [(in_light(near), camera()), (in_light(far), camera())]
    same_numbers = render([(near, camera()), (far, camera())])
    np.testing.assert_array_equal(render(views, linear=True), same_numbers)
    centre = render([(in_light(near), camera())])[24, 32]
    np.testing.assert_allclose(centre[:3] / centre[3], encoded(np.array([0.5, 0.05, 0])), atol=1e-6)
    parameters, arrays = job.request(views, camera())
    np.testing.assert_allclose(job.run(parameters, arrays, lambda *_: None)[1]["light"], same_numbers, atol=1e-6)


def test_display_colours_blended_as_light_differ_only_where_splats_overlap():
    near, far = one_splat((-0.7, 0, 3), (0.9, 0.2, 0.4), 0.6, 0.1), one_splat((0.7, 0, 4), (0.1, 0.8, 0.3), 0.8, 0.1)
    layers = render_layers([(near, camera()), (far, camera())])
    light = render([(near, camera()), (far, camera())], linear=True)
    np.testing.assert_allclose(light, layers.light, atol=1e-9)
    blue = one_splat((-0.7, 0, 5), (0, 0, 1), 0.9, 0.5)
    apart = render_layers([(near, camera()), (blue, camera())]).light - render(
        [(near, camera()), (blue, camera())], linear=True
    )
    assert np.abs(apart).max() > 0.05


def solids(points, triangles, places=None) -> Solids:
    return Solids(
        np.array(points, np.float32),
        np.array(triangles, np.int32),
        np.array([0, len(triangles)]),
        np.zeros(1 if places is None else len(places), int),
        np.eye(4)[None] if places is None else places,
    )


@pytest.mark.parametrize("model", ["perspective", "orthographic"])
def test_depths_of_triangles_are_where_rays_meet_them(model):
    """Against one ray after the other, by Moeller and Trumbore; some triangles reach behind the eye."""
    rng = np.random.default_rng(3)
    points = rng.uniform((-2, -2, -1.5), (2, 2, 5), (60, 3)).astype(np.float32)
    triangles = rng.integers(0, 60, (40, 3))
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    places = np.tile(np.eye(4), (2, 1, 1))
    places[1, :3, :3], places[1, :3, 3] = turn * (0.5, 1.5, 1), (0.3, -0.2, 1)
    pose = np.eye(4)
    pose[:3, 3] = 0.2, 0.1, -0.6
    intrinsics = np.array([[20.0, 0, 17], [0, 22, 10], [0, 0, 1]]) if model == "perspective" else np.diag([9.0, 8, 1])
    intrinsics[:2, 2] = 17, 10
    seen = Camera(intrinsics, pose, 32, 24, model, 0.3)
    found = depths(solids(points, triangles, places), seen)
    expected = np.full((24, 32), np.inf)
    for y, x in np.ndindex(24, 32):
        direction = np.linalg.solve(intrinsics, (x + 0.5, y + 0.5, 1))
        origin = pose[:3, 3].copy()
        if model == "orthographic":
            origin, direction = origin + np.append(direction[:2], 0), np.array([0.0, 0, 1])
        for place in places:
            corners = points.astype(float) @ place[:3, :3].T + place[:3, 3]
            for a, b, c in corners[triangles]:
                normal = np.cross(direction, c - a)
                det = (b - a) @ normal
                if abs(det) < 1e-12:
                    continue
                u = (origin - a) @ normal / det
                across = np.cross(origin - a, b - a)
                v, t = direction @ across / det, (c - a) @ across / det
                if min(u, v, 1 - u - v) >= 0 and t >= 0.3:
                    expected[y, x] = min(expected[y, x], t)
    assert np.isfinite(expected).mean() > 0.5
    assert (np.isfinite(found) == np.isfinite(expected)).mean() > 0.999
    both = np.isfinite(found) & np.isfinite(expected)
    assert np.mean(np.abs(found[both] - expected[both]) < 1e-9) > 0.999


def test_a_finely_cut_wall_has_no_gaps():
    x, y = np.meshgrid(np.linspace(-2, 2, 301), np.linspace(-2, 2, 301))
    points = np.stack([x, y, 3 + 0.3 * x], axis=2).reshape(-1, 3)
    corner = (np.arange(300)[:, None] * 301 + np.arange(300)).reshape(-1)
    triangles = np.concatenate([corner[:, None] + (0, 1, 302), corner[:, None] + (0, 302, 301)])
    found = depths(solids(points, triangles), camera())
    slope = (np.arange(64) + 0.5 - 32) / 100
    np.testing.assert_allclose(found, np.tile(3 / (1 - 0.3 * slope), (48, 1)), rtol=1e-6)


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
