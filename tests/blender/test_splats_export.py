# SPDX-License-Identifier: GPL-3.0-or-later
"""What an artist exports is what stands in the scene, and what a file cannot hold is named."""

import pathlib
import sys

import bpy
import numpy as np
import pytest
from mathutils import Euler, Matrix

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))
sys.path.insert(0, str(pathlib.Path(__file__).parent))
import samples

import vivant
from vivant import api
from vivant.backends.common.errors import VivantError
from vivant.backends.gaussian.axes import change_axes, to_blender
from vivant.backends.gaussian.cloud import SplatCloud
from vivant.backends.gaussian.formats import EXTENSIONS, FORMATS, Overrides
from vivant.backends.gaussian.formats.format import SAMPLED
from vivant.operators import splats_export, splats_io
from vivant.scene import compat, edits, pointclouds


@pytest.fixture(autouse=True)
def extension(scene):
    vivant.register()
    yield
    vivant.unregister()


def imported(cloud: SplatCloud, folder: pathlib.Path, name: str = "a.ply") -> bpy.types.Object:
    api.write_splats(cloud, folder / name)
    made = api.import_splats(folder / name)
    bpy.context.view_layer.update()
    return made


def world(splats: bpy.types.Object, cloud: SplatCloud) -> np.ndarray:
    matrix = np.array(splats.matrix_world)
    return cloud.means @ matrix[:3, :3].T + matrix[:3, 3]


def in_blender(cloud: SplatCloud) -> np.ndarray:
    """Where a file's splats are in Blender's axes, sorted, because formats may sort."""
    means = change_axes(cloud, "RFU").means
    return means[np.lexsort(np.round(means, 2).T)]


def by_place(means: np.ndarray) -> np.ndarray:
    return means[np.lexsort(np.round(means, 2).T)]


@pytest.mark.parametrize("form", [form for form, *_ in splats_export.FORMS])
def test_every_format_holds_the_splats_where_they_stand_in_the_scene(tmp_path, form):
    splats = imported(samples.random_cloud(200, degree=1), tmp_path)
    splats.matrix_world = Matrix.Translation((0.5, -1, 2)) @ Euler((0.3, 0.2, 1)).to_matrix().to_4x4() @ splats.matrix_world
    bpy.context.view_layer.update()
    target = tmp_path / (f"b{form}" if form.startswith(".") else form)
    bpy.ops.vivant.splats_export(filepath=str(target), form=form)
    found = api.read_splats(target)
    expected = world(splats, api.cloud_of(splats))
    distance = np.linalg.norm(change_axes(found.at(1), "RFU").means[:, None] - expected[None], axis=2).min(axis=1)
    assert len(found) == 200 and distance.max() < 0.03


def test_what_was_not_touched_comes_back_as_it_was(tmp_path):
    cloud = samples.random_cloud(100)
    splats = imported(cloud, tmp_path)
    assert api.export_splats(tmp_path / "b.ply", [splats]) == ()
    again = api.read_splats(tmp_path / "b.ply")
    np.testing.assert_array_equal(again.means, cloud.means)
    np.testing.assert_array_equal(again.sh, cloud.sh)
    np.testing.assert_allclose(again.scales, cloud.scales, rtol=1e-6)


def test_without_apply_transform_a_file_is_in_the_coordinates_of_its_capture(tmp_path):
    splats = imported(samples.random_cloud(50), tmp_path)
    splats.location = (3, 2, 1)
    bpy.context.view_layer.update()
    api.export_splats(tmp_path / "b.spz", [splats], placed=False)
    found = change_axes(api.read_splats(tmp_path / "b.spz"), "RDF")
    np.testing.assert_allclose(found.means, api.cloud_of(splats).means, atol=1e-3)


def test_selected_objects_become_one_file(tmp_path):
    first = imported(samples.random_cloud(40, degree=0), tmp_path)
    second = imported(samples.random_cloud(30, degree=2, seed=5), tmp_path, "c.spz")
    second.location.x = 4
    bpy.context.view_layer.update()
    first.select_set(True)
    bpy.ops.vivant.splats_export(filepath=str(tmp_path / "b.glb"), form=".glb")
    found = api.read_splats(tmp_path / "b.glb")
    expected = np.concatenate([world(each, api.cloud_of(each)) for each in (second, first)])
    assert found.degree == 2
    np.testing.assert_allclose(in_blender(found), by_place(expected), atol=1e-4)


def test_selected_splats_degree_and_axes_are_the_user_s(tmp_path):
    splats = imported(samples.random_cloud(50), tmp_path)
    mask = np.arange(50) % 2 == 0
    edits.select(splats, mask)
    bpy.ops.vivant.splats_export(filepath=str(tmp_path / "b.ply"), form=".ply", selected_only=True, degree=1, axes="RFU")
    found = api.read_splats(tmp_path / "b.ply")
    assert len(found) == 25 and found.degree == 1
    cloud = api.cloud_of(splats)
    np.testing.assert_allclose(found.means, cloud.means[mask] @ to_blender("RDF").T, atol=1e-5)
    edits.select(splats, mask & False)
    with pytest.raises(VivantError, match="is selected"):
        api.export_splats(tmp_path / "c.ply", [splats], selected_only=True)


def test_motion_is_kept_by_formula_as_samples_or_in_a_file_a_frame(tmp_path, scene):
    splats = imported(samples.moving_cloud().select(slice(0, 300)), tmp_path)
    splats.location = (1, 2, 3)
    scene.frame_start, scene.frame_end = 11, 14
    scene.frame_set(7)
    compat.set_modifier_input(pointclouds.mover_of(splats), "Start Frame", 11.0)
    compat.set_modifier_input(pointclouds.mover_of(splats), "Frames", 6.0)
    splats.keyframe_insert("location", index=0, frame=11)
    splats.location.x = 4
    splats.keyframe_insert("location", index=0, frame=14)
    bpy.context.view_layer.update()
    cloud = api.cloud_of(splats)

    bpy.ops.vivant.splats_export(filepath=str(tmp_path / "b.ply"), form=".ply")
    native = api.read_splats(tmp_path / "b.ply")
    assert native.family.name == "STG"
    np.testing.assert_allclose(change_axes(native, "RFU").at(0.5).means, world(splats, cloud.at(0.5)), atol=1e-4)

    bpy.ops.vivant.splats_export(filepath=str(tmp_path / "b.usdc"), form=".usdc")
    samples_of = api.read_splats(tmp_path / "b.usdc")
    assert samples_of.family.time_range == (11, 14) and scene.frame_current == 7
    bpy.ops.vivant.splats_export(filepath=str(tmp_path / "c.spz"), form=".spz", motion="FILES")
    assert sorted(path.name for path in tmp_path.glob("c_*")) == [f"c_{frame:04}.spz" for frame in range(11, 15)]
    for frame in range(11, 15):
        scene.frame_set(frame)
        expected = world(splats, pointclouds.cloud_at(splats, scene))
        np.testing.assert_allclose(change_axes(samples_of, "RFU").at(frame).means, expected, atol=1e-4)
        one = api.read_splats(tmp_path / f"c_{frame:04}.spz")
        np.testing.assert_allclose(change_axes(one, "RFU").means, expected, atol=2e-3)


def test_motion_that_a_format_cannot_hold_becomes_the_current_frame_and_is_named(tmp_path, scene):
    splats = imported(samples.moving_cloud().select(slice(0, 300)), tmp_path)
    scene.frame_set(20)
    assert any("Motion is not written" in loss for loss in api.export_splats(tmp_path / "b.spz", [splats]))
    found = change_axes(api.read_splats(tmp_path / "b.spz"), "RFU")
    np.testing.assert_allclose(found.means, world(splats, pointclouds.cloud_at(splats, scene)), atol=2e-3)
    assert not any("Motion" in loss for loss in api.export_splats(tmp_path / "b.spz", [splats], motion="FRAME"))
    compat.set_modifier_input(pointclouds.mover_of(splats), "Speed", 2.0)
    assert any("speed" in loss for loss in api.export_splats(tmp_path / "b.ply", [splats]))


def test_a_sequence_on_the_disk_is_written_with_its_transform(tmp_path, scene):
    moving = samples.moving_cloud().select(slice(0, 60))
    (tmp_path / "frames").mkdir()
    api.write_splats(moving, tmp_path / "frames" / "f_##.ply", times=np.linspace(0, 1, 4))
    splats = api.import_splats(tmp_path / "frames")
    splats.location.z = 2
    scene.frame_start, scene.frame_end = 1, 4
    api.export_splats(tmp_path / "b.zip", [splats])
    found = change_axes(api.read_splats(tmp_path / "b.zip"), "RFU")
    for frame, share in zip(range(1, 5), np.linspace(0, 1, 4), strict=True):
        expected = change_axes(moving, "RFU").at(share).means + np.array([0, 0, 2])
        np.testing.assert_allclose(found.at(frame).means, expected, atol=1e-4)


def test_nothing_is_left_where_an_export_fails_or_is_stopped(tmp_path):
    splats = imported(samples.random_cloud(10), tmp_path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(RuntimeError, match="cannot be written"):
        bpy.ops.vivant.splats_export(filepath=str(tmp_path / "none" / "b.ply"), form=".ply")
    splats.scale.x = 0
    bpy.context.view_layer.update()
    with pytest.raises(RuntimeError, match="flattened"):
        bpy.ops.vivant.splats_export(filepath=str(tmp_path / "b.ply"), form=".ply")
    assert sorted(tmp_path.iterdir()) == before


def test_the_menu_of_formats_is_the_table_of_formats():
    assert {form for form, *_ in splats_export.FORMS} == set(EXTENSIONS) - {".usd"}
    sampled = {end for form in FORMATS if form.holds is SAMPLED for end in form.extensions} - {".usd"}
    assert set(splats_export.SAMPLED) == sampled
    assert splats_export.retitled("bust.compressed.ply", ".spz", "a") == "bust.spz"
    assert splats_export.retitled("meta.json", ".spz", "bust") == "bust.spz"
    assert splats_export.retitled("bust.spz", "meta.json", "bust") == "meta.json"
    assert splats_export.retitled("v1.2", ".ply", "a") == "v1.2.ply"


def test_what_a_file_does_not_say_can_be_said_when_it_is_imported(tmp_path):
    api.write_splats(samples.moving_cloud().select(slice(0, 50)), tmp_path / "a.splatv")
    bpy.ops.vivant.splats_import(
        filepath=str(tmp_path / "a.splatv"), axes="RFU", colour_space="linear", set_times=True, first_time=0.2, last_time=0.7
    )
    splats = bpy.context.active_object
    facts = pointclouds.facts_of(splats)
    assert splats.matrix_world == Matrix.Identity(4) and list(facts["time_range"]) == pytest.approx([0.2, 0.7])
    told = Overrides.of(facts["overrides"])
    assert told.axes == "RFU" and told.colour_space == "linear" and told.time_range == pytest.approx((0.2, 0.7))
    with pytest.raises(RuntimeError, match="does not follow"):
        bpy.ops.vivant.splats_import(filepath=str(tmp_path / "a.splatv"), set_times=True, first_time=1, last_time=0)
    with pytest.raises(RuntimeError, match="no doubt about activations"):
        bpy.ops.vivant.splats_import(filepath=str(tmp_path / "a.splatv"), activation="raw")


def test_a_sequence_plays_as_it_was_imported(tmp_path, scene):
    cloud = samples.random_cloud(20, degree=0)
    plain = cloud.replace(opacities=1 / (1 + np.exp(-cloud.opacities)), scales=np.exp(cloud.scales))
    for frame in (1, 2, 3):
        api.write_splats(plain.replace(means=plain.means + frame), tmp_path / f"f_{frame}.ply")
    splats = api.import_splats(tmp_path, overrides=Overrides(activation="activated"))
    np.testing.assert_allclose(api.cloud_of(splats).at(2).scales, cloud.scales, rtol=1e-4)


def test_the_overrides_offer_axes_that_are_frames():
    for axes, *_ in splats_io.AXES:
        to_blender(axes)
