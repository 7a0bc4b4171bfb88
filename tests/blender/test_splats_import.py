# SPDX-License-Identifier: GPL-3.0-or-later
"""The import, plate and colour operators, as a user calls them."""

import pathlib
import sys

import bpy
import numpy as np
import pytest

import vivant
from vivant import api
from vivant.scene import compat, pointclouds

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))
import samples


@pytest.fixture(autouse=True)
def extension(scene):
    """Vivant registered, with an empty scene."""
    vivant.register()
    yield
    vivant.unregister()


def import_file(path: pathlib.Path) -> bpy.types.Object:
    assert bpy.ops.vivant.splats_import(filepath=str(path)) == {"FINISHED"}
    return bpy.context.active_object


def refused(path: pathlib.Path) -> str:
    """The sentence with which a file is refused; nothing may have changed."""
    before = {name: len(getattr(bpy.data, name)) for name in ("objects", "pointclouds", "node_groups", "materials")}
    with pytest.raises(RuntimeError) as error:
        bpy.ops.vivant.splats_import(filepath=str(path))
    assert before == {name: len(getattr(bpy.data, name)) for name in before}
    return str(error.value)


def test_every_format_becomes_a_selected_object_with_the_same_splats(tmp_path):
    for path in samples.write_still(tmp_path):
        splats = import_file(path)
        cloud = api.read_splats(path)
        assert splats.select_get()
        assert len(splats.data.points) == len(cloud)
        np.testing.assert_array_equal(api.cloud_of(splats).means, cloud.means)
        assert pointclouds.facts_of(splats)["format"] == cloud.source.format


def test_a_moving_file_plays_from_the_start_frame_on(tmp_path):
    path = samples.write_moving(tmp_path)
    bpy.ops.vivant.splats_import(filepath=str(path), start_frame=11, frames=40)
    splats, cloud = bpy.context.active_object, api.read_splats(path)
    bpy.context.scene.frame_set(31)
    geometry = splats.evaluated_get(bpy.context.evaluated_depsgraph_get()).evaluated_geometry()
    np.testing.assert_allclose(pointclouds.read(geometry.pointcloud).means, cloud.at(0.5).means, atol=1e-4)


def test_several_files_come_in_one_go(tmp_path):
    paths = samples.write_still(tmp_path)
    bpy.ops.vivant.splats_import(directory=str(tmp_path), files=[{"name": path.name} for path in paths])
    assert len([obj for obj in bpy.data.objects if pointclouds.is_splats(obj)]) == len(paths)


def test_what_is_no_splat_file_is_named_and_nothing_changes(tmp_path):
    mesh = tmp_path / "mesh.ply"
    mesh.write_bytes(
        b"ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\n"
        b"element face 1\nproperty list uchar int vertex_indices\nend_header\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n"
    )
    assert "mesh" in refused(mesh)
    assert "1 face" in refused(mesh)
    assert "No such file" in refused(tmp_path / "missing.ply")
    truncated = tmp_path / "cut.spz"
    still = next(path for path in samples.write_still(tmp_path) if path.suffix == ".spz")
    truncated.write_bytes(still.read_bytes()[:500])
    refused(truncated)


def test_one_bad_file_among_several_brings_in_none(tmp_path):
    good = samples.write_still(tmp_path)[0]
    (tmp_path / "bad.ply").write_bytes(b"ply\n")
    with pytest.raises(RuntimeError):
        bpy.ops.vivant.splats_import(directory=str(tmp_path), files=[{"name": good.name}, {"name": "bad.ply"}])
    assert not bpy.data.pointclouds


def test_repairs_are_noted_on_the_object(tmp_path):
    path = tmp_path / "holes.ply"
    cloud = samples.random_cloud(50, degree=0)
    api.write_splats(cloud, path)
    data = bytearray(path.read_bytes())
    start = data.index(b"end_header\n") + len(b"end_header\n")
    data[start : start + 4] = np.float32(np.nan).tobytes()
    path.write_bytes(data)
    splats = import_file(path)
    assert len(splats.data.points) == 49
    assert sum(pointclouds.facts_of(splats)["repairs"].values()) == 1


def test_a_plate_is_what_the_reference_draws(tmp_path, scene):
    import_file(samples.write_moving(tmp_path))
    scene.frame_set(20)
    scene.render.resolution_x, scene.render.resolution_y = 96, 64
    assert bpy.ops.vivant.splats_render() == {"FINISHED"}
    plate = bpy.data.images["Plate 0020"]
    assert tuple(plate.size) == (96, 64)
    pixels = np.array(plate.pixels[:]).reshape(64, 96, 4)
    assert pixels[..., 3].max() > 0.5
    assert bpy.ops.vivant.splats_render() == {"FINISHED"}
    assert "Plate 0020.001" in bpy.data.images


def test_a_plate_without_a_camera_says_what_to_do(tmp_path, scene):
    import_file(samples.write_moving(tmp_path))
    scene.camera = None
    with pytest.raises(RuntimeError, match="no camera"):
        bpy.ops.vivant.splats_render()
    assert not [image for image in bpy.data.images if image.name.startswith("Plate")]


def test_matching_training_colours_sets_scene_and_splats(tmp_path, scene):
    splats = import_file(samples.write_moving(tmp_path))
    assert bpy.ops.vivant.display_setup() == {"FINISHED"}
    assert scene.view_settings.view_transform == "Raw"
    assert not compat.get_modifier_input(pointclouds.drawer_of(splats), "Linear Light")


def test_the_file_browser_shows_every_format():
    from vivant.backends.gaussian.formats import FORMATS
    from vivant.operators.splats_io import SHOWN

    assert set(SHOWN.split(";")) == {f"*{end}" for form in FORMATS for end in form.extensions} | {"*.gz"}
