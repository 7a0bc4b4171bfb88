# SPDX-License-Identifier: GPL-3.0-or-later
"""Files whose colours are linear light: renders emit them as they are, everything that shows display values encodes them."""

import json
import pathlib
import sys

import bpy
import gpu
import numpy as np
import pytest

import vivant
from vivant import api
from vivant.backends.gaussian import sh
from vivant.backends.gaussian.cloud import Source, SplatCloud
from vivant.backends.gaussian.edit.merge import merged
from vivant.backends.gaussian.formats import losses
from vivant.backends.gaussian.render.reference import render as reference
from vivant.scene import cameras, compat, drawing, pointclouds

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from pictures import load, psnr, render

BUDGET = 1_000_000


@pytest.fixture
def capture(scene, tmp_path):
    """A GLB with linear colours, some of them brighter than white, in the scene; and the cloud that it holds."""
    rng = np.random.default_rng(4)
    quats = rng.normal(size=(300, 4))
    quats /= np.linalg.norm(quats, axis=1, keepdims=True)
    colours = 0.1 * rng.normal(size=(300, 4, 3))
    colours[:, 0] = sh.to_base(rng.uniform(0, 1, (300, 3)) ** 2.2)
    colours[:5, 0] = sh.to_base(np.full(3, 1.5))
    source = Source(axes="RUB", details={"colour_space": "linear"})
    sizes = rng.uniform(0.03, 0.15, (300, 3))
    cloud = SplatCloud(rng.uniform(-0.9, 0.9, (300, 3)), quats, sizes, rng.uniform(0.3, 1, 300), colours, source=source)
    api.write_splats(cloud, tmp_path / "light.glb")
    made = api.import_splats(tmp_path / "light.glb")
    bpy.context.view_layer.update()
    return made


def truth(scene, splats, linear):
    camera = cameras.read(scene.camera, scene, bpy.context.evaluated_depsgraph_get())
    return reference([(pointclouds.cloud_of(splats), cameras.in_space_of(camera, splats))], linear=linear)


def test_a_render_in_scene_linear_light_blends_what_the_file_holds(scene, capture, tmp_path):
    render(scene, "EEVEE", tmp_path)  # sets the scene up for display values
    compat.set_modifier_input(pointclouds.drawer_of(capture), "Linear Light", True)
    scene.render.filepath = str(tmp_path / "light.exr")
    bpy.ops.render.render(write_still=True)
    assert psnr(load(scene.render.filepath), truth(scene, capture, True)) > 55


@pytest.mark.parametrize("engine", ["EEVEE", "CYCLES"])
def test_a_render_in_display_values_encodes_each_splat(scene, capture, engine, tmp_path):
    assert psnr(render(scene, engine, tmp_path), truth(scene, capture, False)) > 55
    assert psnr(truth(scene, capture, True), truth(scene, capture, False)) < 25


def test_the_viewport_encodes_each_splat(scene, capture):
    if not hasattr(gpu, "init"):
        pytest.skip("before 5.2 Blender draws only in windows")
    gpu.init()
    depsgraph = bpy.context.evaluated_depsgraph_get()
    size = scene.render.resolution_x, scene.render.resolution_y
    projection = scene.camera.calc_matrix_camera(depsgraph, x=size[0], y=size[1])
    view = drawing.View(size)
    nothing = gpu.types.Buffer("FLOAT", size[0] * size[1], np.ones(size[0] * size[1], np.float32))
    drawing.paint(view, [capture], depsgraph, BUDGET, scene.camera.matrix_world.inverted(), projection, nothing)
    pixels = view.framebuffer.read_color(0, 0, *size, 4, 0, "FLOAT")
    picture = np.array(pixels, np.float32).reshape(size[1], size[0], 4)[::-1]
    assert psnr(picture, truth(scene, capture, False)) > 50


def test_a_plate_blends_them_as_light(scene, capture):
    vivant.register()
    try:
        assert bpy.ops.vivant.splats_render() == {"FINISHED"}
    finally:
        vivant.unregister()
    image = bpy.data.images["Plate 0001"]
    picture = np.array(image.pixels[:], np.float32).reshape(*tuple(image.size)[::-1], 4)[::-1]
    np.testing.assert_allclose(picture, truth(scene, capture, True), atol=1e-5)


def test_they_stay_linear_on_the_way_out_and_are_not_mixed_with_others(capture, tmp_path):
    cloud = pointclouds.cloud_of(capture)
    api.write_splats(cloud, tmp_path / "again.glb")
    content = (tmp_path / "again.glb").read_bytes()
    document = json.loads(content[20 : 20 + int.from_bytes(content[12:16], "little")])
    (primitive,) = document["meshes"][0]["primitives"]
    assert primitive["extensions"]["KHR_gaussian_splatting"]["colorSpace"] == "lin_rec709_display"
    np.testing.assert_array_equal(api.read_splats(tmp_path / "again.glb").sh, api.read_splats(tmp_path / "light.glb").sh)
    assert any("linear light" in said for said in losses(cloud, "a.ply"))
    assert not losses(cloud, "a.glb")
    with pytest.raises(api.VivantError, match="linear light"):
        merged([cloud, cloud.replace(source=Source(axes=cloud.source.axes))])
