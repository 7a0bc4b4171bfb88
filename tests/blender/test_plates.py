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
from vivant.scene import cameras, plates, pointclouds

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
def splats(scene):
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


def test_the_compositor_finds_colour_and_depths_of_all_objects(splats, tmp_path):
    assert bpy.ops.vivant.splats_render(filepath=str(tmp_path / "deep" / "plate")) == {"FINISHED"}
    image = bpy.data.images["plate.exr"]
    assert image.type == "MULTILAYER"
    camera = cameras.read(splats.camera, splats, bpy.context.evaluated_depsgraph_get())
    shown = [one for one in splats.objects if pointclouds.is_splats(one)]
    truth = render_layers([(pointclouds.cloud_of(one), cameras.in_space_of(camera, one)) for one in shown])
    assert np.ptp(truth.depth[np.isfinite(truth.depth)]) > 0.1
    for output, depth in (("Depth", truth.depth), ("Nearest", truth.nearest)):
        read = through_the_compositor(splats, image, output, tmp_path)[..., 0]
        np.testing.assert_allclose(read, np.minimum(depth, 1e10), rtol=1e-5)
    colours = through_the_compositor(splats, image, "Combined", tmp_path)
    np.testing.assert_allclose(colours, truth.light, atol=1e-5)


def test_a_plate_that_cannot_be_written_says_so(splats, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RuntimeError, match=r"plate\.exr cannot be written"):
        bpy.ops.vivant.splats_render(filepath=str(tmp_path / "file" / "plate.exr"))


def plate(**options):
    """The image of a new plate, rows from the top."""
    before = set(bpy.data.images)
    assert bpy.ops.vivant.splats_render(**options) == {"FINISHED"}
    (image,) = set(bpy.data.images) - before
    pixels = np.array(image.pixels[:], np.float32).reshape(*tuple(image.size)[::-1], 4)[::-1]
    bpy.data.images.remove(image)
    return pixels


def settings_of(scene):
    """What a plate must leave alone."""
    render, image = scene.render, scene.render.image_settings
    return (
        [(one.name, one.hide_render, one.type) for one in scene.objects],
        (scene.frame_current, scene.frame_subframe, render.engine, render.filepath, render.film_transparent),
        (image.file_format, scene.view_settings.view_transform, scene.cycles.samples, len(bpy.data.scenes)),
        (len(bpy.data.meshes), len(bpy.data.images), len(bpy.data.materials)),
    )


def rays(scene):
    """Depth of the first surface behind each pixel's centre, by Blender's own rays."""
    width, height = scene.render.resolution_x, scene.render.resolution_y
    camera = cameras.read(scene.camera, scene, bpy.context.evaluated_depsgraph_get())
    pose, found = camera.camera_to_world, np.full((height, width), np.inf)
    for y, x in np.ndindex(height, width):
        direction = pose[:3, :3] @ np.linalg.solve(camera.intrinsics, (x + 0.5, y + 0.5, 1))
        hit, place, *_ = scene.ray_cast(bpy.context.evaluated_depsgraph_get(), pose[:3, 3], direction)
        if hit:
            found[y, x] = (np.array(place) - pose[:3, 3]) @ pose[:3, 2]
    return found


def truth_of(scene, **options):
    camera = cameras.read(scene.camera, scene, bpy.context.evaluated_depsgraph_get())
    shown = [one for one in scene.objects if pointclouds.is_splats(one)]
    return render_layers([(pointclouds.cloud_of(one), cameras.in_space_of(camera, one)) for one in shown], **options)


def test_meshes_hide_the_splats_behind_them_and_nothing_of_the_scene_changes(splats):
    alone = plate()
    bpy.ops.mesh.primitive_torus_add(location=(-0.2, 0.2, 0), rotation=(0.4, 0.9, 0), major_radius=0.5, minor_radius=0.15)
    bpy.ops.object.text_add(location=(0.2, 0, 0.1), rotation=(1.3, 0, 0.8))
    before = settings_of(splats)
    behind = plate()
    assert settings_of(splats) == before
    expected = truth_of(splats, occluders=rays(splats)).light
    assert np.mean(np.abs(behind - expected).max(axis=2) < 1e-5) > 0.998  # rays along an edge may go either way
    assert np.abs(behind - alone).max() > 0.1
    np.testing.assert_array_equal(plate(hide_behind=False), alone)


def test_only_what_a_render_shows_hides_splats(splats):
    alone = plate()
    bpy.ops.mesh.primitive_cube_add(size=0.4, location=(1.2, -1, 0.6))
    box = bpy.context.object
    copied = bpy.data.collections.new("Copied")
    copied.objects.link(box)
    splats.collection.objects.unlink(box)
    holder = bpy.data.objects.new("Copies", None)
    holder.instance_type, holder.instance_collection = "COLLECTION", copied
    splats.collection.objects.link(holder)
    bpy.context.view_layer.update()
    assert np.abs(plate() - alone).max() > 0.1
    for owner, name, off in (
        (box, "hide_render", True),
        (box, "visible_camera", False),
        (holder, "hide_render", True),
    ):
        before = getattr(owner, name)
        setattr(owner, name, off)
        np.testing.assert_array_equal(plate(), alone)
        setattr(owner, name, before)
    group = bpy.data.collections.new("Group")
    splats.collection.children.link(group)
    group.objects.link(holder)
    splats.collection.objects.unlink(holder)
    assert np.abs(plate() - alone).max() > 0.1
    group.hide_render = True
    np.testing.assert_array_equal(plate(), alone)


def test_plates_of_a_range_show_their_frames_and_the_scene_stays_where_it_was(splats, tmp_path):
    one = next(one for one in splats.objects if pointclouds.is_splats(one))
    one.keyframe_insert("location", frame=4)
    one.location.x += 0.5
    one.keyframe_insert("location", frame=8)
    splats.frame_start, splats.frame_end, splats.frame_step = 4, 8, 2
    splats.frame_set(11)
    before = settings_of(splats)[1]
    assert bpy.ops.vivant.splats_render(animation=True, filepath=str(tmp_path / "shot.010_##.exr")) == {"FINISHED"}
    assert settings_of(splats)[1] == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shot.010_04.exr", "shot.010_06.exr", "shot.010_08.exr"]
    (image,) = bpy.data.images
    assert image.source == "SEQUENCE"
    splats.frame_set(6)
    expected = truth_of(splats)
    single = bpy.data.images.load(str(tmp_path / "shot.010_06.exr"), check_existing=False)
    colours = through_the_compositor(splats, single, "Combined", tmp_path)
    np.testing.assert_allclose(colours, expected.light, atol=1e-5)
    splats.frame_set(8)
    assert np.abs(truth_of(splats).light - expected.light).max() > 0.1


def test_a_range_that_fails_says_so_and_leaves_the_frame(splats, tmp_path):
    splats.camera.data.type = "PANO"
    with pytest.raises(RuntimeError, match="panoramic"):
        bpy.ops.vivant.splats_render(animation=True, filepath=str(tmp_path / "shot"))
    assert splats.frame_current == 1 and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "numbered", "expected"),
    [
        ("a.exr", False, "a.exr"),
        ("a", True, "a0012.exr"),
        ("a.b_######", True, "a.b_000012.exr"),
        ("a#.EXR", False, "a12.exr"),
        ("a/", True, "a/0012.exr"),
    ],
)
def test_files_of_frames_are_named_as_blender_names_them(tmp_path, name, numbered, expected):
    assert plates.file_of(f"{tmp_path}/{name}", 12, numbered) == tmp_path / expected


def test_a_folder_beside_a_file_that_was_never_saved_is_an_error(splats):
    with pytest.raises(RuntimeError, match="never saved"):
        bpy.ops.vivant.splats_render(animation=True)
