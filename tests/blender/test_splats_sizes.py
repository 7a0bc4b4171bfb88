# SPDX-License-Identifier: GPL-3.0-or-later
"""What splats are said to cost is what they cost, and less of them costs less."""

import pathlib
import sys

import bpy
import gpu
import numpy as np
import pytest

from vivant import registration
from vivant.backends.common.errors import VivantError
from vivant.backends.gaussian.render.reference import render as reference
from vivant.scene import cameras, columns, compat, outside, pointclouds, rasteriser, sizes

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from pictures import psnr, render
from test_splats_drawing import made_up_cloud, made_up_motion, place

BUDGET = 10**6


@pytest.fixture
def extension(scene):
    """The whole extension, registered for one test."""
    registration.register()
    yield bpy.context.scene
    registration.unregister()


def saved(folder: pathlib.Path) -> int:
    path = folder / "saved.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(path), compress=False)
    return path.stat().st_size


@pytest.mark.parametrize("coefficients", [1, 16])
def test_the_blend_grows_by_what_is_said(scene, tmp_path, coefficients):
    rng = np.random.default_rng(1)
    extras = {"confidence": rng.random(30_000).astype(np.float32)}
    cloud = made_up_cloud(30_000, coefficients).replace(family=made_up_motion(30_000), extras=extras)
    splats = place(scene, cloud.select(slice(1)))
    small = saved(tmp_path)
    bpy.data.objects.remove(splats)
    bpy.ops.outliner.orphans_purge(do_recursive=True)
    splats = place(scene, cloud)
    for name, kind in ((".selection", "BOOLEAN"), ("mark", "INT8"), ("segment", "INT"), ("tint", "BYTE_COLOR")):
        columns.write(splats.data, name, kind, rng.integers(0, 2, (30_000, 4) if kind == "BYTE_COLOR" else 30_000))
    grown = saved(tmp_path) - small
    assert sizes.bytes_of(splats, BUDGET).inside == pytest.approx(grown, rel=0.03)
    assert sizes.bytes_of(splats, BUDGET).outside == 0


def test_files_beside_the_blend_are_counted(extension, tmp_path, data):
    frames = data / "splats" / "frames"
    bpy.ops.vivant.splats_import(filepath=str(frames))
    splats = bpy.context.active_object
    assert sizes.bytes_of(splats, BUDGET).outside == sum(file.stat().st_size for file in frames.iterdir())


def test_what_is_kept_outside_is_counted_there(extension, data):
    path = data / "splats" / "playbot5.ply"
    bpy.ops.vivant.splats_import(filepath=str(path))
    splats = bpy.context.active_object
    before = sizes.bytes_of(splats, BUDGET)
    assert before.inside == columns.bytes_of(splats.data) and before.outside == 0
    outside.keep(splats)
    after = sizes.bytes_of(splats, BUDGET)
    assert after.inside == 0 and after.outside == path.stat().st_size


@pytest.mark.parametrize("coefficients", [1, 4, 9, 16])
def test_the_card_holds_what_is_said(coefficients):
    if not hasattr(gpu, "init"):
        pytest.skip("before 5.2 Blender draws only in windows")
    gpu.init()
    cloud = made_up_cloud(5000, coefficients)
    owners = np.zeros(5000, np.float32)
    radiance, _ = rasteriser.pack_radiance([list(cloud.sh.transpose(1, 0, 2))])
    textures = {
        16: rasteriser.pack_shape(cloud.means, cloud.quats, cloud.scales, cloud.opacities, owners),
        8: radiance,
    }
    held = sum(texel * texture.width * texture.height for texel, texture in textures.items())
    order = 4 * rasteriser.ROW * -(-5000 // rasteriser.ROW)
    assert rasteriser.bytes_on_card(5000, coefficients) == held + order


def test_density_and_budget_save_the_card(scene):
    splats = place(scene, made_up_cloud(50_000, 16))
    whole = sizes.bytes_of(splats, BUDGET).card
    assert sizes.bytes_of(splats, 10_000).card == pytest.approx(whole / 5, rel=0.1)
    compat.set_modifier_input(pointclouds.drawer_of(splats), "Density", 0.2)
    assert sizes.bytes_of(splats, BUDGET).card == pytest.approx(whole / 5, rel=0.1)


# ---- fewer harmonics


@pytest.mark.parametrize("degree", [0, 1, 2])
def test_a_limited_degree_removes_the_rest_and_keeps_what_stays_bit_for_bit(scene, tmp_path, degree):
    cloud = made_up_cloud(1500, 16)
    splats = place(scene, cloud)
    before = columns.bytes_of(splats.data)
    kept = (degree + 1) ** 2
    assert sizes.limit_degree(splats, degree) == 1500 * 12 * (16 - kept)
    assert columns.bytes_of(splats.data) == before - 1500 * 12 * (16 - kept)
    left = pointclouds.cloud_of(splats)
    assert left.degree == degree == sizes.degree_of(splats)
    np.testing.assert_array_equal(left.sh, cloud.sh[:, :kept])
    camera = cameras.in_space_of(cameras.read(scene.camera, scene, bpy.context.evaluated_depsgraph_get()), splats)
    if degree == 1:
        assert psnr(render(scene, "CYCLES", tmp_path), reference([(left, camera)])) > 60


def test_objects_that_share_the_data_keep_theirs(scene):
    splats = place(scene, made_up_cloud(100, 16))
    twin = splats.copy()
    sizes.limit_degree(splats, 0)
    assert pointclouds.cloud_of(twin).degree == 3 and pointclouds.cloud_of(splats).degree == 0


def test_nothing_to_remove_is_an_error_that_changes_nothing(scene):
    splats = place(scene, made_up_cloud(100, 4))
    with pytest.raises(VivantError, match="no SH degree above 1"):
        sizes.limit_degree(splats, 1)
    assert pointclouds.cloud_of(splats).degree == 1


def test_the_operator_is_one_undo_step_and_has_nothing_to_do_twice(extension):
    splats = place(bpy.context.scene, made_up_cloud(1000, 16))
    bpy.context.view_layer.objects.active = splats
    assert bpy.ops.vivant.splats_limit_degree(degree=0) == {"FINISHED"}
    assert pointclouds.cloud_of(splats).degree == 0
    assert "UNDO" in bpy.types.VIVANT_OT_splats_limit_degree.bl_options
    assert not bpy.ops.vivant.splats_limit_degree.poll()


# ---- the drawing of older files


def test_what_an_older_vivant_drew_gets_today_s_drawing_and_keeps_its_settings(extension):
    splats = place(bpy.context.scene, made_up_cloud(500, 9).replace(family=made_up_motion(500)))
    drawer = pointclouds.drawer_of(splats)
    compat.set_modifier_input(drawer, "SH Degree", 1)
    compat.set_modifier_input(drawer, "Linear Light", False)
    old = drawer.node_group
    old["vivant_version"] = 1
    for name in ("Density", "Moving"):
        old.interface.remove(next(item for item in old.interface.items_tree if item.name == name))
    assert pointclouds.is_drawn_by_old(splats)
    bpy.context.view_layer.objects.active = splats
    assert bpy.ops.vivant.splats_renew() == {"FINISHED"}
    drawer = pointclouds.drawer_of(splats)
    assert drawer.node_group != old and not pointclouds.is_drawn_by_old(splats)
    values = {name: compat.get_modifier_input(drawer, name) for name in ("SH Degree", "Linear Light", "Density", "Moving")}
    assert values == {"SH Degree": 1, "Linear Light": False, "Density": 1.0, "Moving": True}
    assert compat.get_modifier_input(drawer, "Material") is not None
    assert not bpy.ops.vivant.splats_renew.poll()
