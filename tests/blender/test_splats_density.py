# SPDX-License-Identifier: GPL-3.0-or-later
"""Fewer splats that look like all of them: the drawing modifier's Density, the viewport's budget, and old files."""

import os
import pathlib
import subprocess
import sys

import bpy
import gpu
import numpy as np
import pytest

from vivant.backends.gaussian import density
from vivant.backends.gaussian.cloud import SplatCloud
from vivant.backends.gaussian.render.reference import render as reference
from vivant.scene import cameras, compat, drawing, pointclouds, together

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from pictures import load, psnr, render
from test_splats_drawing import made_up_cloud, made_up_motion, place


def captured_cloud(count: int, seed: int = 3) -> SplatCloud:
    """A ball of small splats, most of them faint, in smooth colours: what training makes of surfaces."""
    rng = np.random.default_rng(seed)
    means = rng.normal(size=(count, 3))
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    scales = np.exp(rng.normal(np.log(0.03), 0.5, (count, 3)))
    quats = rng.normal(size=(count, 4))
    quats /= np.linalg.norm(quats, axis=1, keepdims=True)
    sh = (2 * np.sin(3 * means + 1))[:, None]
    return SplatCloud(means, quats, scales, rng.beta(1, 2, count), sh)


def drawn(splats: bpy.types.Object) -> SplatCloud:
    """What the viewport is given."""
    geometry = splats.evaluated_get(bpy.context.evaluated_depsgraph_get()).evaluated_geometry()
    return pointclouds.read(geometry.pointcloud)


def set_density(splats: bpy.types.Object, value: float) -> None:
    compat.set_modifier_input(pointclouds.drawer_of(splats), "Density", value)


@pytest.mark.parametrize("value", [0.9, 0.5, 0.1, 0.02])
def test_the_node_group_thins_as_numpy_does(scene, value):
    cloud = captured_cloud(50_000)
    splats = place(scene, cloud)
    set_density(splats, value)
    share = density.shares(density.weights(cloud.scales, cloud.opacities), value)
    kept = density.chosen(share)
    now = drawn(splats)
    number = {place.tobytes(): index for index, place in enumerate(cloud.means)}
    rows = np.array([number[place.tobytes()] for place in now.means])
    assert len(np.setxor1d(rows, kept)) <= 2  # sums are rounded otherwise
    scales, opacities = density.compensated(cloud.scales[rows], cloud.opacities[rows], share[rows])
    np.testing.assert_allclose(now.opacities, opacities, atol=1e-4)
    np.testing.assert_allclose(now.scales, scales, rtol=1e-3)


def test_at_density_1_every_splat_is_as_it_was_bit_for_bit(scene):
    cloud = made_up_cloud(500, 4)
    splats = place(scene, cloud)
    for name in ("means", "quats", "scales", "opacities", "sh"):
        np.testing.assert_array_equal(getattr(drawn(splats), name), getattr(cloud, name))


def test_a_render_draws_what_the_reference_draws_of_the_thinned_cloud(scene, tmp_path):
    cloud = made_up_cloud(1500, 4)
    splats = place(scene, cloud)
    set_density(splats, 0.4)
    camera = cameras.in_space_of(cameras.read(scene.camera, scene, bpy.context.evaluated_depsgraph_get()), splats)
    expected = reference([(density.thinned(cloud, 0.4), camera)])
    assert psnr(render(scene, "CYCLES", tmp_path), expected) > 60


def test_lower_densities_choose_among_what_higher_ones_show(scene):
    splats = place(scene, captured_cloud(5000))
    before = np.inf
    shown = None
    for value in (1.0, 0.7, 0.4, 0.1):
        set_density(splats, value)
        now = {place.tobytes() for place in drawn(splats).means}
        assert len(now) < before and (shown is None or now <= shown)
        before, shown = len(now), now


def test_a_moving_cloud_shows_the_same_splats_at_every_time(scene):
    cloud = made_up_cloud(3000, 1).replace(family=made_up_motion(3000))
    splats = place(scene, cloud)
    set_density(splats, 0.3)
    frames = []
    for frame in (1, 8, 17):
        scene.frame_set(frame)
        frames.append(drawn(splats))
    kept = density.chosen(density.shares(density.weights(cloud.scales), 0.3))
    for frame, now in zip((1, 8, 17), frames, strict=True):
        assert abs(len(now) - len(kept)) <= 2
        if len(now) == len(kept):
            np.testing.assert_allclose(now.means, cloud.at((frame - 1) / 20).means[kept], atol=1e-4)
    assert len({len(now) for now in frames}) == 1


def test_density_can_be_keyed(scene):
    splats = place(scene, captured_cloud(2000))
    drawer = pointclouds.drawer_of(splats)
    path = compat.modifier_input_path(drawer, "Density")
    for frame, value in ((1, 1.0), (11, 0.2)):
        set_density(splats, value)
        splats.keyframe_insert(path, frame=frame)
    counts = []
    for frame in (1, 6, 11):
        scene.frame_set(frame)
        counts.append(len(drawn(splats)))
    assert counts[0] == 2000 and counts[0] > counts[1] > counts[2]
    assert counts[2] == pytest.approx(400, rel=0.1)


def test_a_density_holds_where_splats_are_sorted_together(scene):
    members = [place(scene, captured_cloud(1000, seed)) for seed in (1, 2)]
    made = together.join(scene, members)
    tree = made.modifiers[0].node_group
    faces = []
    for value in (1.0, 0.3):
        for member in members:
            set_density(member, value)
            compat.set_modifier_input(pointclouds.drawer_of(member), "Quads in Viewport", True)
        # the group gives nothing in viewports: the switch is taken out to count
        switch = next(node for node in tree.nodes if node.bl_idname == "GeometryNodeSwitch")
        if switch.inputs["Switch"].is_linked:
            tree.links.remove(switch.inputs["Switch"].links[0])
        bpy.context.view_layer.update()
        faces.append(len(made.evaluated_get(bpy.context.evaluated_depsgraph_get()).data.polygons))
    assert 0.2 < faces[1] / faces[0] < 0.5


def test_a_saved_file_keeps_its_density_without_vivant(scene, tmp_path):
    splats = place(scene, captured_cloud(3000))
    set_density(splats, 0.3)
    ours = render(scene, "CYCLES", tmp_path)
    blend, picture = tmp_path / "saved.blend", tmp_path / "CYCLES.exr"
    bpy.ops.wm.save_as_mainfile(filepath=str(blend))
    picture.unlink()
    script = (
        f"import os, bpy; bpy.ops.wm.open_mainfile(filepath={str(blend)!r})\n"
        "bpy.ops.render.render(write_still=True); os._exit(0)"
    )
    environment = {**os.environ, "PYTHONPATH": ""}
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, env=environment)
    np.testing.assert_array_equal(load(str(picture)), ours)


# ---- the viewport's budget


@pytest.fixture
def card():
    if not hasattr(gpu, "init"):
        pytest.skip("before 5.2 Blender draws only in windows")
    gpu.init()
    yield
    drawing._forget_all()


def painted(scene: bpy.types.Scene, made: list[bpy.types.Object], budget: int) -> np.ndarray:
    """The viewport's picture through the scene's camera, rows from the top."""
    depsgraph = bpy.context.evaluated_depsgraph_get()
    size = scene.render.resolution_x, scene.render.resolution_y
    projection = scene.camera.calc_matrix_camera(depsgraph, x=size[0], y=size[1])
    view = drawing.View(size)
    nothing = gpu.types.Buffer("FLOAT", size[0] * size[1], np.ones(size[0] * size[1], np.float32))
    drawing.paint(view, made, depsgraph, budget, scene.camera.matrix_world.inverted(), projection, nothing)
    with view.framebuffer.bind():
        pixels = gpu.state.active_framebuffer_get().read_color(0, 0, *size, 4, 0, "FLOAT")
    return np.array(pixels, np.float32).reshape(size[1], size[0], 4)[::-1]


def test_within_its_budget_the_viewport_shows_what_density_would(scene, card):
    clouds = [made_up_cloud(1500, 4, 1), made_up_cloud(1000, 9, 2)]
    made = [place(scene, cloud) for cloud in clouds]
    picture = painted(scene, made, 1000)
    assert drawing.stood_for == 2500 and drawing.drawn == pytest.approx(1000, abs=30)

    share = density.shares(np.concatenate([density.weights(cloud.scales, cloud.opacities) for cloud in clouds]), 0.4)
    camera = cameras.read(scene.camera, scene, bpy.context.evaluated_depsgraph_get())
    views = []
    for cloud, own, splats in zip(clouds, np.split(share, [1500]), made, strict=True):
        kept = density.chosen(own)
        scales, opacities = density.compensated(cloud.scales[kept], cloud.opacities[kept], own[kept])
        part = cloud.select(kept).replace(scales=scales, opacities=opacities)
        views.append((part, cameras.in_space_of(camera, splats)))
    assert psnr(picture, reference(views)) > 50


def test_a_budget_that_is_not_reached_changes_nothing(scene, card):
    cloud = made_up_cloud(1500, 4)
    made = place(scene, cloud)
    camera = cameras.in_space_of(cameras.read(scene.camera, scene, bpy.context.evaluated_depsgraph_get()), made)
    assert psnr(painted(scene, [made], 1500), reference([(cloud, camera)])) > 50
    assert not drawing.stood_for


def test_a_budget_shows_the_same_splats_of_a_moving_cloud_at_every_time(scene, card):
    made = place(scene, made_up_cloud(1500, 4).replace(family=made_up_motion(1500)))
    rows = []
    for frame in (1, 9, 18):
        scene.frame_set(frame)
        drawing._changes.clear()
        drawing._gathered.clear()
        painted(scene, [made], 500)
        rows.append(next(iter(drawing._gathered.values())).rows[0])
    assert np.array_equal(rows[0], rows[1]) and np.array_equal(rows[0], rows[2])
