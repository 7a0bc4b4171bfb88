# SPDX-License-Identifier: GPL-3.0-or-later
"""The node group's quads are what a float64 rasteriser draws."""

import pathlib
import subprocess
import sys

import bpy
import numpy as np
import pytest

from vivant.backends.gaussian import sh
from vivant.backends.gaussian.cloud import Source, SplatCloud
from vivant.backends.gaussian.motion.stg import Stg
from vivant.backends.gaussian.render.reference import render as reference
from vivant.scene import cameras, colour, compat, pointclouds

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from pictures import psnr, render


def made_up_cloud(count: int, coefficients: int, seed: int = 7) -> SplatCloud:
    rng = np.random.default_rng(seed)
    quats = rng.normal(size=(count, 4))
    quats /= np.linalg.norm(quats, axis=1, keepdims=True)
    colours = rng.normal(size=(count, coefficients, 3)) * 0.3
    colours[:, 0] *= 4
    scales = np.exp(rng.uniform(np.log(0.004), np.log(0.12), (count, 3)))
    return SplatCloud(rng.uniform(-1.4, 1.4, (count, 3)), quats, scales, rng.uniform(0.05, 1, count), colours)


def made_up_motion(count: int, seed: int = 8) -> Stg:
    rng = np.random.default_rng(seed)
    return Stg(
        rng.normal(0, 0.4, (count, 3, 3)).astype(np.float32),
        rng.normal(0, 0.6, (count, 4)).astype(np.float32),
        rng.uniform(0, 1, count).astype(np.float32),
        rng.uniform(0.1, 0.6, count).astype(np.float32),
    )


def place(scene: bpy.types.Scene, cloud: SplatCloud) -> bpy.types.Object:
    made = pointclouds.to_object(cloud, "Splats", start_frame=1, frames=20)
    scene.collection.objects.link(made)
    made.rotation_euler, made.location, made.scale = (0.2, -0.4, 0.7), (0.1, 0.05, -0.1), (0.9, 0.9, 0.9)
    bpy.context.view_layer.update()
    return made


def expected(scene: bpy.types.Scene, made: bpy.types.Object, cloud: SplatCloud) -> np.ndarray:
    camera = cameras.read(scene.camera, scene, bpy.context.evaluated_depsgraph_get())
    return reference([(cloud, cameras.in_space_of(camera, made))])


def evaluated_points(made: bpy.types.Object) -> SplatCloud:
    geometry = made.evaluated_get(bpy.context.evaluated_depsgraph_get()).evaluated_geometry()
    return pointclouds.read(geometry.pointcloud)


@pytest.mark.parametrize("coefficients", [1, 4, 9, 16, 25])
def test_cycles_draws_every_sh_degree_as_the_reference(scene, tmp_path, coefficients):
    cloud = made_up_cloud(1500, coefficients)
    made = place(scene, cloud)
    assert psnr(render(scene, "CYCLES", tmp_path), expected(scene, made, cloud)) > 60


def test_eevee_draws_as_the_reference(scene, tmp_path):
    cloud = made_up_cloud(1500, 16)
    made = place(scene, cloud)
    assert psnr(render(scene, "EEVEE", tmp_path), expected(scene, made, cloud)) > 50


@pytest.mark.parametrize("lens", ["shifted", "portrait", "vertical fit", "parallel", "half size", "wide pixels"])
def test_every_lens_is_followed(scene, tmp_path, lens):
    data, output = scene.camera.data, scene.render
    if lens == "shifted":
        data.shift_x, data.shift_y = 0.08, -0.12
    elif lens == "portrait":
        output.resolution_x, output.resolution_y = 110, 160
    elif lens == "vertical fit":
        data.sensor_fit, data.sensor_height = "VERTICAL", 30
    elif lens == "parallel":
        data.type, data.ortho_scale = "ORTHO", 4
    elif lens == "half size":
        output.resolution_percentage = 50
    else:
        output.pixel_aspect_x = 2
    cloud = made_up_cloud(800, 4)
    made = place(scene, cloud)
    assert psnr(render(scene, "CYCLES", tmp_path), expected(scene, made, cloud)) > 60


def test_an_uneven_object_scale_stretches_the_gaussians(scene, tmp_path):
    cloud = made_up_cloud(800, 4)
    made = place(scene, cloud)
    made.scale = (0.5, 1.4, 0.9)
    bpy.context.view_layer.update()
    assert psnr(render(scene, "CYCLES", tmp_path), expected(scene, made, cloud)) > 60


def test_an_antialiased_cloud_keeps_small_splats_faint(scene, tmp_path):
    cloud = made_up_cloud(800, 1).replace(source=Source(antialiased=True))
    cloud = cloud.replace(scales=cloud.scales * 0.1)
    made = place(scene, cloud)
    picture = render(scene, "CYCLES", tmp_path)
    assert psnr(picture, expected(scene, made, cloud)) > 60
    assert psnr(picture, expected(scene, made, cloud.replace(source=Source()))) < 40


def test_single_splats_keep_their_display_colour_in_a_linear_scene(scene, tmp_path):
    rgb = np.array([[0.8, 0.4, 0.02]])
    cloud = SplatCloud(np.zeros((1, 3)), [[1, 0, 0, 0]], np.full((1, 3), 0.5), [1.0], sh.to_base(rgb)[:, None])
    made = place(scene, cloud)
    raw = render(scene, "CYCLES", tmp_path)
    compat.set_modifier_input(pointclouds.drawer_of(made), "Linear Light", True)
    scene.render.filepath = str(tmp_path / "linear.exr")
    bpy.ops.render.render(write_still=True)
    from pictures import load

    linear = load(scene.render.filepath)[64, 96, :3] / raw[64, 96, 3]
    back = np.where(linear < 0.0031308, linear * 12.92, 1.055 * np.maximum(linear, 0) ** (1 / 2.4) - 0.055)
    np.testing.assert_allclose(back, rgb[0], atol=2e-3)


@pytest.mark.parametrize("frame", [1.0, 8.37, 15.5, 21.0])
def test_the_stg_node_group_moves_points_as_numpy_does_sub_frames_included(scene, frame):
    cloud = made_up_cloud(600, 4).replace(family=made_up_motion(600))
    made = place(scene, cloud)
    scene.frame_set(int(frame), subframe=frame % 1)
    now, truth = evaluated_points(made), cloud.at((frame - 1) / 20)
    np.testing.assert_allclose(now.means, truth.means, atol=1e-4)
    np.testing.assert_allclose(now.opacities, truth.opacities, atol=1e-4)
    np.testing.assert_allclose(np.abs(np.sum(now.quats * truth.quats, axis=1)), 1, atol=1e-6)
    np.testing.assert_array_equal(now.scales, truth.scales)
    np.testing.assert_allclose(pointclouds.cloud_at(made, scene).means, truth.means, atol=1e-5)


def test_a_cloud_comes_back_from_its_object_bit_for_bit(scene):
    cloud = made_up_cloud(257, 9).replace(family=made_up_motion(257), extras={"confidence": np.arange(257, dtype=np.float32)})
    back = pointclouds.cloud_of(pointclouds.to_object(cloud, "Splats"))
    for name in ("means", "quats", "scales", "opacities", "sh"):
        np.testing.assert_array_equal(getattr(back, name), getattr(cloud, name))
    for name, values in cloud.family.attributes().items():
        np.testing.assert_array_equal(back.family.attributes()[name], values)
    np.testing.assert_array_equal(back.extras["confidence"], cloud.extras["confidence"])


def test_a_saved_file_plays_and_draws_the_same_without_vivant(scene, tmp_path):
    place(scene, made_up_cloud(500, 4).replace(family=made_up_motion(500)))
    scene.frame_set(7, subframe=0.5)
    ours = render(scene, "CYCLES", tmp_path)
    blend, picture = tmp_path / "saved.blend", tmp_path / "CYCLES.exr"
    bpy.ops.wm.save_as_mainfile(filepath=str(blend))
    picture.unlink()
    script = (
        f"import os, bpy; bpy.ops.wm.open_mainfile(filepath={str(blend)!r})\n"
        "bpy.ops.render.render(write_still=True); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    from pictures import load

    np.testing.assert_array_equal(load(str(picture)), ours)


def test_two_imports_share_one_node_group_and_material(scene):
    for _ in range(2):
        place(scene, made_up_cloud(10, 1))
    assert len([tree for tree in bpy.data.node_groups if tree.name.startswith("Vivant Splats")]) == 1
    assert len(bpy.data.materials) == 1


def test_captures_stand_upright(scene):
    upright = pointclouds.to_object(made_up_cloud(10, 1).replace(source=Source(axes="RDF")), "Splats")
    np.testing.assert_allclose(np.array(upright.matrix_world)[:3, :3] @ [0, -1, 0], [0, 0, 1], atol=1e-6)


def test_display_blending_touches_only_splats(scene):
    mesh = bpy.data.objects.new("Mesh", bpy.data.meshes.new("Mesh"))
    scene.collection.objects.link(mesh)
    colour.display_blending(scene)
    assert scene.view_settings.view_transform == "Raw"
