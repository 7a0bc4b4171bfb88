# SPDX-License-Identifier: GPL-3.0-or-later
"""Multilayer plates, read back by Blender's own OpenEXR."""

import pathlib
import sys

import bpy
import numpy as np
import pytest

import vivant
from vivant.backends.common import exr
from vivant.backends.gaussian import sh
from vivant.backends.gaussian.cloud import SplatCloud
from vivant.backends.gaussian.render.reference import render_layers
from vivant.scene import cameras, images, pointclouds

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from pictures import load


@pytest.mark.parametrize("size", [(1, 1), (16, 5), (37, 130)])
def test_blender_reads_what_was_written(tmp_path, size):
    rng = np.random.default_rng(size[0])
    picture = rng.normal(size=(*size, 4)).astype(np.float32)
    path = tmp_path / "noise.exr"
    path.write_bytes(exr.encode(dict(zip("RGBA", picture.transpose(2, 0, 1), strict=True))))
    np.testing.assert_array_equal(load(str(path)), picture)
    flat = {name: np.full(size, value, np.float32) for name, value in zip("RGBA", (0.25, 1, -3, 1), strict=True)}
    path.write_bytes(exr.encode(flat))
    np.testing.assert_array_equal(load(str(path))[-1, -1], (0.25, 1, -3, 1))


def through_the_compositor(scene, image, output, folder):
    """One output of an Image node as (H, W, 4), rows from the top."""
    if bpy.app.version >= (5, 0, 0):
        tree = scene.compositing_node_group = bpy.data.node_groups.new("Compositing", "CompositorNodeTree")
        tree.interface.new_socket("Image", in_out="OUTPUT", socket_type="NodeSocketColor")
        out = tree.nodes.new("NodeGroupOutput")
    else:
        scene.use_nodes = True
        tree = scene.node_tree
        tree.nodes.clear()
        out = tree.nodes.new("CompositorNodeComposite")
    node = tree.nodes.new("CompositorNodeImage")
    node.image = image
    tree.links.new(node.outputs[output], out.inputs[0])
    scene.render.image_settings.file_format, scene.render.image_settings.color_depth = "OPEN_EXR", "32"
    scene.render.image_settings.color_mode = "RGBA"
    scene.render.filepath = str(folder / f"{output}.exr")
    bpy.ops.render.render(write_still=True)
    return load(scene.render.filepath)


@pytest.fixture
def plates(scene):
    """Vivant registered, and two round splats in objects of their own, one before the other."""
    rgb = np.array([[[0.8, 0.4, 0.1]]])
    for place in ((0.0, 0.0, 0.0), (-0.6, 0.5, -0.3)):
        cloud = SplatCloud([place], [[1, 0, 0, 0]], np.full((1, 3), 0.4), [0.7], sh.to_base(rgb))
        scene.collection.objects.link(pointclouds.to_object(cloud, "Splats"))
    scene.render.resolution_x, scene.render.resolution_y = 48, 32
    bpy.context.view_layer.update()
    vivant.register()
    yield scene
    vivant.unregister()


def test_the_compositor_finds_colour_and_depths_of_all_objects(plates, tmp_path):
    assert bpy.ops.vivant.splats_render(filepath=str(tmp_path / "deep" / "plate")) == {"FINISHED"}
    image = bpy.data.images["plate.exr"]
    assert image.type == "MULTILAYER"
    camera = cameras.read(plates.camera, plates, bpy.context.evaluated_depsgraph_get())
    shown = [one for one in plates.objects if pointclouds.is_splats(one)]
    truth = render_layers([(pointclouds.cloud_of(one), cameras.in_space_of(camera, one)) for one in shown])
    assert np.ptp(truth.depth[np.isfinite(truth.depth)]) > 0.1
    for output, depth in (("Depth", truth.depth), ("Nearest", truth.nearest)):
        read = through_the_compositor(plates, image, output, tmp_path)[..., 0]
        np.testing.assert_allclose(read, np.minimum(depth, 1e10), rtol=1e-5)
    colours = through_the_compositor(plates, image, "Combined", tmp_path)
    np.testing.assert_allclose(colours, images.to_light(truth.picture), atol=1e-5)


def test_a_plate_that_cannot_be_written_says_so(plates, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RuntimeError, match=r"plate\.exr cannot be written"):
        bpy.ops.vivant.splats_render(filepath=str(tmp_path / "file" / "plate.exr"))
