# SPDX-License-Identifier: GPL-3.0-or-later
"""Edits of splat objects as a user makes them: what stays where it was, what follows, what is refused, and one undo."""

import bpy
import numpy as np
import pytest
from mathutils import Euler, Matrix

import vivant
from vivant import api
from vivant.backends.common.rotations import normalise
from vivant.backends.gaussian import sh
from vivant.backends.gaussian.cloud import Source, SplatCloud
from vivant.backends.gaussian.covariance import covariances
from vivant.backends.gaussian.motion.linear import Linear
from vivant.backends.gaussian.motion.rotor4d import Rotor4D
from vivant.backends.gaussian.motion.stg_full import Decoder, StgFull
from vivant.backends.gaussian.render.reference import render
from vivant.scene import cameras, compat, pointclouds

from .pictures import psnr


@pytest.fixture(autouse=True)
def extension(scene):
    """Vivant registered, with an empty scene."""
    vivant.register()
    yield
    vivant.unregister()


def made(count: int = 60, seed: int = 1, family: str = "", coefficients: int = 16) -> SplatCloud:
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return rng.normal(size=(count, *shape)).astype(np.float32)

    times = (rng.uniform(0, 1, count).astype(np.float32), np.exp(normal()))
    always = (np.full(count, -np.inf, np.float32), np.full(count, np.inf, np.float32))
    moves = None
    if family == "Linear":
        moves = Linear(normal(3), *times, *always)
    elif family == "4DGS":
        moves = Rotor4D(normal(3), *times, *always, (0.0, 1.0), 0.1 * normal(seed, coefficients, 3))
    elif family == "STG full":
        decoder = Decoder(0.5 * rng.normal(size=(6, 12)), rng.normal(size=(3, 6)))
        moves = StgFull(normal(3, 3), normal(4), *times, (0.0, 1.0), normal(3), normal(3), decoder)
    return SplatCloud(
        0.4 * normal(3), normalise(normal(4)), np.exp(0.6 * normal(3) - 3), rng.uniform(0.2, 1, count),
        0.25 * normal(coefficients, 3), moves, {"confidence": normal()}, Source("3DGS PLY", axes="RDF"),
    )  # fmt: skip


def placed(scene: bpy.types.Scene, cloud: SplatCloud, turn: Matrix | None = None) -> bpy.types.Object:
    """An object of a cloud, active and selected alone; `turn` comes on top of the upright matrix."""
    splats = pointclouds.to_object(cloud, "Splats")
    scene.collection.objects.link(splats)
    splats.matrix_world = (turn or Matrix()) @ splats.matrix_world
    for other in scene.objects:
        other.select_set(other == splats)
    bpy.context.view_layer.objects.active = splats
    bpy.context.view_layer.update()
    return splats


def picture(splats: bpy.types.Object, scene: bpy.types.Scene) -> np.ndarray:
    bpy.context.view_layer.update()
    camera = cameras.read(scene.camera, scene, bpy.context.evaluated_depsgraph_get())
    return render([(pointclouds.cloud_at(splats, scene), cameras.in_space_of(camera, splats))])


def in_world(splats: bpy.types.Object, time: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Means and covariances in the world, at a time of the family."""
    bpy.context.view_layer.update()
    world, cloud = np.array(splats.matrix_world), pointclouds.cloud_of(splats).at(time)
    spread = world[:3, :3] @ covariances(cloud.quats.astype(float), cloud.scales.astype(float)) @ world[:3, :3].T
    return cloud.means @ world[:3, :3].T + world[:3, 3], spread


def check_world(before, after, atol: float = 1e-5) -> None:
    for one, other in zip(before, after, strict=True):
        np.testing.assert_allclose(one, other, atol=atol)


TURNED = Matrix.LocRotScale((0.3, -0.2, 0.1), Euler((0.5, -0.7, 1.1)), (1.3, 1.3, 1.3))
STRETCHED = Matrix.LocRotScale((0.3, -0.2, 0.1), Euler((0.5, -0.7, 1.1)), (1.5, 0.6, 1.0))


# ---- apply transform


def test_applying_a_turn_a_place_and_a_size_changes_no_pixel(scene):
    splats = placed(scene, made(), TURNED)
    before = picture(splats, scene)
    upright = placed(scene, made()).matrix_world.copy()
    bpy.context.view_layer.objects.active = splats
    assert bpy.ops.vivant.splats_apply() == {"FINISHED"}
    np.testing.assert_allclose(splats.matrix_world, upright, atol=1e-6)
    assert before[..., 3].max() > 0.5
    assert psnr(picture(splats, scene), before) >= 80


@pytest.mark.parametrize("parts", [(1, 1, 1), (0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 1, 1)])
def test_any_part_of_the_transform_can_be_applied_and_nothing_moves(scene, parts):
    splats = placed(scene, made(family="Linear"), STRETCHED)
    upright = pointclouds.to_object(made(), "Upright").matrix_world.copy()
    before = [in_world(splats, time) for time in (0.0, 0.6)]
    bpy.ops.vivant.splats_apply(**dict(zip(("location", "rotation", "scale"), map(bool, parts), strict=True)))
    for time, then in zip((0.0, 0.6), before, strict=True):
        check_world(then, in_world(splats, time))
    place, _, scale = (splats.matrix_world @ upright.inverted()).decompose()
    if parts[0]:
        np.testing.assert_allclose(place, 0, atol=1e-6)
    if parts == (1, 1, 1):
        np.testing.assert_allclose(scale, 1, atol=1e-5)


def test_a_file_written_after_applying_holds_what_is_seen(scene, tmp_path):
    splats = placed(scene, made(), STRETCHED)
    before = in_world(splats)
    bpy.ops.vivant.splats_apply()
    api.write_splats(api.cloud_of(splats), tmp_path / "applied.ply")
    again = api.import_splats(tmp_path / "applied.ply")
    check_world(before, in_world(again))
    np.testing.assert_allclose(api.cloud_of(again).extras["confidence"], made().extras["confidence"])


def test_one_undo_brings_back_what_was(scene):
    splats = placed(scene, made(), STRETCHED)
    name, matrix, means = splats.name, splats.matrix_world.copy(), pointclouds.cloud_of(splats).means
    bpy.ops.ed.undo_push(message="before")
    bpy.ops.vivant.splats_apply()
    bpy.ops.ed.undo_push(message="after")
    bpy.ops.ed.undo()
    splats = bpy.data.objects[name]
    np.testing.assert_allclose(splats.matrix_world, matrix)
    np.testing.assert_array_equal(pointclouds.cloud_of(splats).means, means)


def test_objects_that_share_the_splats_keep_theirs_and_children_stay(scene):
    splats = placed(scene, made(), STRETCHED)
    twin = bpy.data.objects.new("Twin", splats.data)
    child = bpy.data.objects.new("Child", None)
    for other in (twin, child):
        scene.collection.objects.link(other)
    child.parent, child.location = splats, (1, 2, 3)
    bpy.context.view_layer.update()
    where, means = child.matrix_world.copy(), pointclouds.read(twin.data).means
    bpy.ops.vivant.splats_apply()
    bpy.context.view_layer.update()
    np.testing.assert_allclose(child.matrix_world, where, atol=1e-5)
    np.testing.assert_array_equal(pointclouds.read(twin.data).means, means)
    assert twin.data != splats.data


def test_in_a_stretched_parent_nothing_moves_nor_do_children(scene):
    splats, parent, child = placed(scene, made(), TURNED), *(bpy.data.objects.new(name, None) for name in ("Parent", "Child"))
    for other in (parent, child):
        scene.collection.objects.link(other)
    parent.matrix_world = STRETCHED
    splats.parent, child.parent = parent, splats
    child.location, child.rotation_euler, child.scale = (1, 2, 3), (0.1, 0.9, 0.4), (1, 2, 0.5)
    bpy.context.view_layer.update()
    before, where = in_world(splats), child.matrix_world.copy()
    upright = pointclouds.to_object(made(), "Upright").matrix_world.copy()
    bpy.ops.vivant.splats_apply()
    check_world(before, in_world(splats))
    np.testing.assert_allclose(splats.matrix_world, upright, atol=1e-5)
    np.testing.assert_allclose(child.matrix_world, where, atol=1e-5)
    parent.location.x += 1
    check_world((before[0] + [1, 0, 0], before[1]), in_world(splats))


def test_attributes_that_are_no_splats_stay(scene):
    splats = placed(scene, made(), STRETCHED)
    splats.data.attributes.new("segment", "INT", "POINT").data.foreach_set("value", np.arange(60, dtype=np.int32))
    bpy.ops.vivant.splats_apply()
    assert splats.data.attributes["segment"].data[7].value == 7


def test_a_network_of_colours_turns_with_its_splats(scene):
    splats = placed(scene, made(family="STG full", coefficients=1), Euler((0.5, -0.7, 1.1)).to_matrix().to_4x4())
    scene.frame_set(21)
    before = picture(splats, scene)
    bpy.ops.vivant.splats_apply()
    assert psnr(picture(splats, scene), before) >= 60
    assert compat.get_modifier_input(pointclouds.mover_of(splats), "Frames") == 50


def refused(operator, match: str, **options) -> None:
    """An operator refuses with a sentence, and the active splats are as they were."""
    splats = bpy.context.view_layer.objects.active
    before, matrix = pointclouds.cloud_of(splats), splats.matrix_world.copy()
    count = len(bpy.data.pointclouds), len(bpy.data.objects)
    with pytest.raises(RuntimeError, match=match):
        operator(**options)
    after = pointclouds.cloud_of(splats)
    np.testing.assert_array_equal(before.means, after.means)
    np.testing.assert_array_equal(before.sh, after.sh)
    assert splats.matrix_world == matrix and count == (len(bpy.data.pointclouds), len(bpy.data.objects))


def test_what_cannot_be_applied_is_refused(scene):
    splats = placed(scene, made(), Matrix.Diagonal((1, 0, 1, 1)))
    refused(bpy.ops.vivant.splats_apply, "scale is zero")
    refused(bpy.ops.vivant.splats_mirror, "scale is zero")
    splats = placed(scene, made(family="STG full", coefficients=1), TURNED)
    refused(bpy.ops.vivant.splats_apply, "own size|where its scene is")
    splats = placed(scene, made())
    splats.constraints.new("COPY_LOCATION").target = scene.camera
    bpy.context.view_layer.update()
    refused(bpy.ops.vivant.splats_apply, "Constraints")


def test_what_plays_from_files_is_refused(scene, tmp_path):
    for index in range(2):
        api.write_splats(made(), tmp_path / f"frame_{index:03}.ply")
    api.import_splats(tmp_path)
    bpy.context.view_layer.update()
    for operator in (bpy.ops.vivant.splats_apply, bpy.ops.vivant.splats_mirror, bpy.ops.vivant.splats_tint):
        refused(operator, "are in files")


# ---- mirror


@pytest.mark.parametrize("axis", "XYZ")
def test_a_mirror_is_one_of_the_world_at_the_origin_of_the_object_or_the_cursor(scene, axis):
    splats = placed(scene, made(family="4DGS"), STRETCHED)
    matrix, sign = splats.matrix_world.copy(), np.array([-1 if axis == each else 1 for each in "XYZ"])
    for at_cursor in (False, True):
        scene.cursor.location = (0.4, 0.5, -0.6)
        about = np.array(scene.cursor.location if at_cursor else splats.matrix_world.translation)
        means, spread = in_world(splats, 0.3)
        bpy.ops.vivant.splats_mirror(axis=axis, at_cursor=at_cursor)
        check_world(((means - about) * sign + about, spread * np.outer(sign, sign)), in_world(splats, 0.3))
    assert splats.matrix_world == matrix


# ---- merge


def test_merged_objects_look_as_they_did_and_carry_everything(scene):
    other = placed(scene, made(20, 2, "4DGS", 9), TURNED)
    other.data.attributes.new("segment", "INT", "POINT").data.foreach_set("value", np.arange(20, dtype=np.int32))
    splats = placed(scene, made(60, 1, "4DGS", 4), Matrix.Translation((0.2, 0, 0)))
    before = [[in_world(one, time) for one in (splats, other)] for time in (0.0, 0.7)]
    other.select_set(True)
    assert bpy.ops.vivant.splats_merge() == {"FINISHED"}
    assert [one for one in scene.objects if pointclouds.is_splats(one)] == [splats]
    for time, parts in zip((0.0, 0.7), before, strict=True):
        check_world([np.concatenate(both) for both in zip(*parts, strict=True)], in_world(splats, time), 2e-5)
    cloud = pointclouds.cloud_of(splats)
    assert cloud.degree == compat.get_modifier_input(pointclouds.drawer_of(splats), "SH Degree") == 2
    assert cloud.family.waves.shape == (80, 2, 9, 3)
    assert "confidence" in cloud.extras
    segments = np.empty(80, np.int32)
    splats.data.attributes["segment"].data.foreach_get("value", segments)
    np.testing.assert_array_equal(segments, [*np.zeros(60), *range(20)])
    assert len(bpy.data.pointclouds) == 1
    # the group that plays them knows all their waves
    scene.frame_set(36)
    geometry = splats.evaluated_get(bpy.context.evaluated_depsgraph_get()).evaluated_geometry()
    np.testing.assert_allclose(pointclouds.read(geometry.pointcloud).sh[:, :9], cloud.at(0.7).sh, atol=1e-4)


def test_what_does_not_merge_is_refused(scene):
    moving = placed(scene, made(family="Linear"))
    late = placed(scene, made(family="Linear"))
    compat.set_modifier_input(pointclouds.mover_of(late), "Start Frame", 20.0)
    moving.select_set(True)
    refused(bpy.ops.vivant.splats_merge, "same time")
    placed(scene, made())
    moving.select_set(True)
    refused(bpy.ops.vivant.splats_merge, "does not move")


# ---- select, delete, crop


@pytest.mark.parametrize("version", ["low", "colour"])
def test_selected_splats_can_be_deleted_in_edit_mode_and_the_others_stay_whole(scene, version):
    cloud = made(family="4DGS")
    splats = placed(scene, cloud)
    if version == "low":
        bpy.ops.vivant.splats_select(measure="OPACITY", low=0, high=0.5)
        chosen = cloud.opacities <= 0.5
    else:
        rgb = sh.to_rgb(cloud.sh[:, 0])
        chosen = np.linalg.norm(rgb - rgb[3], axis=1) <= 0.15
        bpy.ops.vivant.splats_select(measure="COLOUR", colour=np.clip(rgb[3], 0, 1), distance=0.15)
    assert splats.mode == "EDIT" and 0 < chosen.sum() < 60
    bpy.ops.pointcloud.delete()
    bpy.ops.object.mode_set(mode="OBJECT")
    left, expected = pointclouds.cloud_of(splats), cloud.select(~chosen)
    for name in ("means", "quats", "scales", "opacities", "sh"):
        np.testing.assert_array_equal(getattr(left, name), getattr(expected, name))
    np.testing.assert_array_equal(left.family.waves, expected.family.waves)
    np.testing.assert_array_equal(left.extras["confidence"], expected.extras["confidence"])


def test_selections_add_up_and_positions_are_those_of_the_world(scene):
    splats = placed(scene, made(), STRETCHED)
    bpy.ops.vivant.splats_select(measure="Z", low=0.1, high=99)
    bpy.ops.vivant.splats_select(measure="X", low=0.2, high=99, combine="REMOVE")
    world, _ = in_world(splats)
    chosen = np.empty(60, bool)
    splats.data.attributes[".selection"].data.foreach_get("value", chosen)
    np.testing.assert_array_equal(chosen, (world[:, 2] >= 0.1) & (world[:, 0] < 0.2))
    bpy.ops.object.mode_set(mode="OBJECT")


@pytest.mark.parametrize("keep", ["INSIDE", "OUTSIDE"])
def test_a_crop_keeps_what_is_in_the_mesh_at_this_frame(scene, keep):
    cloud = made(family="Linear")
    splats = placed(scene, cloud, STRETCHED)
    splats.data.attributes.new("segment", "INT8", "POINT").data.foreach_set("value", np.arange(60, dtype=np.int32))
    scene.frame_set(31)
    world, _ = in_world(splats, 0.6)
    box = Matrix.LocRotScale((0.2, 0, 0), Euler((0.3, 0.2, 0.1)), (0.7, 0.8, 0.9))
    bpy.ops.mesh.primitive_cube_add(size=2)
    body = bpy.context.active_object
    body.matrix_world = box
    local = np.linalg.inv(box) @ np.column_stack([world, np.ones(60)]).T
    inside = np.abs(local[:3]).max(axis=0) < 1
    splats.select_set(True)
    bpy.context.view_layer.objects.active = splats
    bpy.context.view_layer.update()
    bpy.ops.vivant.splats_crop(keep=keep)
    kept = inside if keep == "INSIDE" else ~inside
    assert 0 < kept.sum() < 60
    left = pointclouds.cloud_of(splats)
    np.testing.assert_array_equal(left.means, cloud.means[kept])
    np.testing.assert_array_equal(left.family.velocity, cloud.family.velocity[kept])
    assert [each.value for each in splats.data.attributes["segment"].data] == list(np.flatnonzero(kept))
    assert splats.data.materials.keys() == [] and pointclouds.drawer_of(splats)


@pytest.mark.parametrize("keep", ["INSIDE", "OUTSIDE"])
def test_a_crop_by_several_bodies_goes_by_all_of_them(scene, keep):
    """Boxes that overlap, one of them inside out, and one flat: what is in any counts."""
    cloud = made(count=3000)
    splats = placed(scene, cloud, STRETCHED)
    world, _ = in_world(splats)
    inside = np.zeros(3000, bool)
    for scale in ((0.7, 0.5, -0.9), (0.4, 0.9, 0.3), (1, 1, 0)):
        bpy.ops.mesh.primitive_cube_add(size=2)
        body = bpy.context.active_object
        body.matrix_world = box = Matrix.LocRotScale((0.3, -0.1, 0), Euler((0.3, 0.2, 0.1)), scale)
        if scale[2]:
            inside |= np.abs((np.linalg.inv(box) @ np.column_stack([world, np.ones(3000)]).T)[:3]).max(axis=0) < 1
    for other in scene.objects:
        other.select_set(True)
    bpy.context.view_layer.objects.active = splats
    bpy.context.view_layer.update()
    bpy.ops.vivant.splats_crop(keep=keep)
    assert 100 < inside.sum() < 2900
    np.testing.assert_array_equal(pointclouds.cloud_of(splats).means, cloud.means[inside if keep == "INSIDE" else ~inside])


def test_a_crop_that_leaves_nothing_and_an_open_mesh_are_refused(scene):
    splats = placed(scene, made())
    bpy.ops.mesh.primitive_cube_add(size=0.01, location=(50, 0, 0))
    splats.select_set(True)
    bpy.context.view_layer.objects.active = splats
    refused(bpy.ops.vivant.splats_crop, "would be left")
    for other in [each for each in scene.objects if each.type == "MESH"]:
        bpy.data.objects.remove(other)
    bpy.ops.mesh.primitive_plane_add()
    splats.select_set(True)
    bpy.context.view_layer.objects.active = splats
    refused(bpy.ops.vivant.splats_crop, "holes")
    splats.scale.x = 0
    bpy.context.view_layer.update()
    refused(bpy.ops.vivant.splats_crop, "flattened")


# ---- tint


def test_a_tint_reaches_the_picture_and_only_the_selected_ones_in_edit_mode(scene):
    cloud = made()
    splats = placed(scene, cloud)
    bpy.ops.vivant.splats_tint(colour=(1, 0.5, 0.25), opacity=0.5)
    tinted = pointclouds.cloud_of(splats)
    np.testing.assert_allclose(sh.to_rgb(tinted.sh[:, 0]), sh.to_rgb(cloud.sh[:, 0]) * [1, 0.5, 0.25], atol=1e-5)
    np.testing.assert_allclose(tinted.opacities, cloud.opacities / 2)
    bpy.ops.vivant.splats_select(measure="OPACITY", low=0, high=0.25)
    bpy.ops.vivant.splats_tint(saturation=0)
    bpy.ops.object.mode_set(mode="OBJECT")
    grey = pointclouds.cloud_of(splats)
    faint = tinted.opacities <= 0.25
    assert np.ptp(grey.sh[faint], axis=2).max() < 1e-5
    np.testing.assert_array_equal(grey.sh[~faint], tinted.sh[~faint])


@pytest.mark.parametrize("mode", ["OBJECT", "EDIT"])
@pytest.mark.parametrize("edit", ["splats_tint", "splats_clean"])
def test_edits_of_shared_splats_reach_all_objects_in_edit_mode_and_one_in_object_mode(scene, mode, edit):
    cloud = made()
    cloud = cloud.replace(opacities=np.where(np.arange(60) < 5, 0.001, cloud.opacities))
    splats = placed(scene, cloud)
    twin = bpy.data.objects.new("Twin", splats.data)
    scene.collection.objects.link(twin)
    blocks = len(bpy.data.pointclouds)
    bpy.ops.object.mode_set(mode=mode)
    properties = {"brightness": 0.5} if edit == "splats_tint" else {"action": "DELETE", "kinds": {"INVISIBLE"}}
    assert getattr(bpy.ops.vivant, edit)(**properties) == {"FINISHED"}
    bpy.ops.object.mode_set(mode="OBJECT")
    own, others = pointclouds.cloud_of(splats), pointclouds.cloud_of(twin)
    assert len(own) < 60 or not np.array_equal(own.sh, cloud.sh)
    assert (splats.data == twin.data) == (mode == "EDIT")
    np.testing.assert_array_equal(others.sh, (own if mode == "EDIT" else cloud).sh)
    assert len(bpy.data.pointclouds) == blocks + (mode == "OBJECT")


# ---- deform


def chosen_after(deformer: bpy.types.Object, splats: bpy.types.Object) -> None:
    deformer.select_set(True)
    splats.select_set(True)
    bpy.context.view_layer.objects.active = splats
    bpy.context.view_layer.update()


SHEAR = np.array([[1.1, 0.2, 0, 0.1], [0, 0.9, 0.1, -0.2], [0.1, 0, 1.2, 0.3], [0, 0, 0, 1]])


def sheared(world) -> tuple[np.ndarray, np.ndarray]:
    means, spread = world
    return means @ SHEAR[:3, :3].T + SHEAR[:3, 3], SHEAR[:3, :3] @ spread @ SHEAR[:3, :3].T


@pytest.mark.parametrize("kind", ["LATTICE", "MESH"])
def test_a_lattice_and_a_cage_under_a_shear_shear_the_splats_and_their_paths(scene, kind):
    splats = placed(scene, made(family="Linear"), TURNED)
    before = [in_world(splats, time) for time in (0.0, 0.5)]
    if kind == "LATTICE":
        data = bpy.data.lattices.new("Lattice")
        data.interpolation_type_u = data.interpolation_type_v = data.interpolation_type_w = "KEY_LINEAR"
        deformer = bpy.data.objects.new("Lattice", data)
        deformer.scale = (8, 8, 8)
    else:
        bpy.ops.mesh.primitive_ico_sphere_add(subdivisions=2, radius=1)
        deformer = bpy.context.active_object
        deformer.scale, deformer.location = (4, 5, 6), (0.2, 0.1, 0)
        deformer.shape_key_add(name="Basis")
        deformer.shape_key_add(name="Sheared").value = 1
    if kind == "LATTICE":
        scene.collection.objects.link(deformer)
    bpy.context.view_layer.update()
    local = deformer.matrix_world.inverted() @ Matrix(SHEAR) @ deformer.matrix_world
    points = deformer.data.points if kind == "LATTICE" else deformer.data.shape_keys.key_blocks[1].data
    for point in points:
        if kind == "LATTICE":
            point.co_deform = local @ point.co
        else:
            point.co = local @ point.co
    chosen_after(deformer, splats)
    objects, meshes = len(bpy.data.objects), len(bpy.data.meshes)
    assert bpy.ops.vivant.splats_deform() == {"FINISHED"}
    assert (objects, meshes) == (len(bpy.data.objects), len(bpy.data.meshes))
    for time, then in zip((0.0, 0.5), before, strict=True):
        check_world(sheared(then), in_world(splats, time), 2e-3)


def test_a_posed_bone_turns_what_hangs_on_it(scene):
    splats = placed(scene, made(), Matrix.Translation((0.1, 0, 0)))
    before = picture(splats, scene)
    armature = bpy.data.objects.new("Armature", bpy.data.armatures.new("Armature"))
    scene.collection.objects.link(armature)
    armature.location = (0.3, 0.2, 0)
    bpy.context.view_layer.objects.active = armature
    bpy.ops.object.mode_set(mode="EDIT")
    armature.data.edit_bones.new("Bone").tail = (0, 0, 1)
    bpy.ops.object.mode_set(mode="OBJECT")
    armature.pose.bones["Bone"].matrix_basis = Matrix.Rotation(0.7, 4, "Y")
    bpy.context.view_layer.update()
    world = armature.matrix_world
    turn = world @ armature.pose.bones["Bone"].matrix @ armature.data.bones["Bone"].matrix_local.inverted() @ world.inverted()
    chosen_after(armature, splats)
    bpy.ops.vivant.splats_deform()
    splats.matrix_world = turn.inverted() @ splats.matrix_world
    assert psnr(picture(splats, scene), before) >= 60  # one bone is a rigid turn, which taken back leaves every pixel


def test_a_cage_that_is_not_deformed_is_refused(scene):
    splats = placed(scene, made())
    bpy.ops.mesh.primitive_cube_add(size=9)
    cube = bpy.context.active_object
    chosen_after(cube, splats)
    refused(bpy.ops.vivant.splats_deform, "not deformed")
    cube.modifiers.new("Array", "ARRAY")
    bpy.context.view_layer.update()
    refused(bpy.ops.vivant.splats_deform, "number of vertices")


# ---- proxies


def test_a_proxy_holds_the_splats_and_follows_them(scene):
    splats = placed(scene, made(400), TURNED)
    bpy.ops.vivant.splats_proxy(purpose="SHADOW", cells=24, level=0.2)
    shadow = bpy.data.objects["Splats Shadow"]
    bpy.context.view_layer.update()
    assert not shadow.visible_camera and shadow.visible_shadow and not shadow.hide_render
    np.testing.assert_allclose(shadow.matrix_world, splats.matrix_world, atol=1e-6)
    means, _ = in_world(splats)
    corners = np.array([shadow.matrix_world @ vertex.co for vertex in shadow.data.vertices])
    np.testing.assert_allclose((corners.min(axis=0), corners.max(axis=0)), (means.min(axis=0), means.max(axis=0)), atol=0.6)
    bpy.ops.vivant.splats_proxy(purpose="COLLISION", cells=16, level=0.2)
    body = bpy.data.objects["Splats Collision"]
    assert body.hide_render and [modifier.type for modifier in body.modifiers] == ["COLLISION"]
    assert bpy.context.active_object == splats
    bpy.ops.vivant.splats_tint(opacity=0.01)
    refused(bpy.ops.vivant.splats_proxy, "opaque enough")
