# SPDX-License-Identifier: GPL-3.0-or-later
"""Edits of moving splats by their buttons, exported and read back: the float64 rasteriser's pictures at three times."""

from collections.abc import Callable, Sequence

import bpy
import numpy as np
import pytest
from mathutils import Euler, Matrix

import vivant
from vivant import api
from vivant.backends.gaussian.cloud import SplatCloud
from vivant.backends.gaussian.motion import ndgs
from vivant.backends.gaussian.render.reference import render
from vivant.scene import cameras, pointclouds

from .moving import made, placed
from .pictures import psnr

FRAMES = (8, 25.5, 40)
KINDS = ["Linear", "STG", "4DGS waves", "7D"]
TURN = Matrix.LocRotScale((0.3, -0.2, 0.1), Euler((0.5, -0.7, 1.1)), (1.2, 1.2, 1.2))
Pictures = list[np.ndarray]


@pytest.fixture(autouse=True)
def extension(scene):
    """Vivant registered, and a camera in the world's plane X = 0."""
    vivant.register()
    scene.camera.location, scene.camera.rotation_euler = (0, -7, 0.4), (np.pi / 2, 0, 0)
    scene.render.resolution_x, scene.render.resolution_y = 48, 36
    bpy.context.view_layer.update()
    yield
    vivant.unregister()


def leaning_little() -> SplatCloud:
    """7D splats whose joint covariances their files hold in any axes."""
    rng, cloud = np.random.default_rng(5), made("7D")
    count = len(cloud)
    factors = np.tril(0.02 * rng.normal(size=(count, 7, 7)), -1)
    factors[:, range(7), range(7)] = np.exp(0.1 * rng.normal(size=(count, 7)) - [2, 2, 2, 0, 0, 0, 0.5])
    shares = rng.uniform(0.1, 0.9, (2, count))
    quats, scales, family = ndgs.condition(
        factors @ factors.transpose(0, 2, 1), cloud.family.view_mean, cloud.family.center, shares[0], shares[1]
    )
    return cloud.replace(quats=quats, scales=scales, family=family)


def pictures(scene, objects: Sequence[bpy.types.Object], chosen: np.ndarray | slice = slice(None)) -> Pictures:
    """What a camera sees of objects at FRAMES, or of some of their splats."""
    found = []
    for frame in FRAMES:
        scene.frame_set(int(frame), subframe=frame % 1)
        camera = cameras.read(scene.camera, scene, bpy.context.evaluated_depsgraph_get())
        clouds = [pointclouds.cloud_at(one, scene).select(chosen) for one in objects]
        found.append(render([(cloud, cameras.in_space_of(camera, one)) for cloud, one in zip(clouds, objects, strict=True)]))
    return found


def choose(*others: bpy.types.Object) -> None:
    """Select objects, the last one active."""
    for one in bpy.context.scene.objects:
        one.select_set(one in others)
    bpy.context.view_layer.objects.active = others[-1]
    bpy.context.view_layer.update()


def applied(scene, splats) -> Pictures:
    splats.matrix_world = TURN @ splats.matrix_world
    bpy.context.view_layer.update()
    expected = pictures(scene, [splats])
    bpy.ops.vivant.splats_apply()
    return expected


def mirrored(scene, splats) -> Pictures:
    expected = pictures(scene, [splats])
    bpy.ops.vivant.splats_mirror(axis="X", at_cursor=True)
    return [picture[:, ::-1] for picture in expected]


def merged(scene, splats) -> Pictures:
    twin = splats.copy()
    twin.data = splats.data.copy()
    scene.collection.objects.link(twin)
    twin.matrix_world = TURN @ splats.matrix_world
    choose(twin, splats)
    expected = pictures(scene, [splats, twin])
    bpy.ops.vivant.splats_merge()
    return expected


def cropped(scene, splats) -> Pictures:
    scene.frame_set(20)
    box = Matrix.LocRotScale((0.3, 0, 0), Euler((0.3, 0.2, 0.1)), (0.9, 1.6, 1.1))
    bpy.ops.mesh.primitive_cube_add(size=2)
    body = bpy.context.active_object
    body.matrix_world = box
    choose(body, splats)
    world = np.linalg.inv(box) @ np.array(splats.matrix_world)
    inside = np.abs(pointclouds.cloud_at(splats, scene).means @ world[:3, :3].T + world[:3, 3]).max(axis=1) < 1
    assert 20 < inside.sum() < 380
    expected = pictures(scene, [splats], inside)
    scene.frame_set(20)
    bpy.ops.vivant.splats_crop()
    return expected


def deleted(scene, splats) -> Pictures:
    stay = pointclouds.cloud_of(splats).opacities > 0.5
    assert 20 < stay.sum() < 380
    expected = pictures(scene, [splats], stay)
    bpy.ops.vivant.splats_select(measure="OPACITY", low=0, high=0.5)
    bpy.ops.pointcloud.delete()
    bpy.ops.object.mode_set(mode="OBJECT")
    return expected


def tinted(scene, splats) -> Pictures:
    expected = pictures(scene, [splats])
    bpy.ops.vivant.splats_tint(colour=(0.9, 0.5, 0.3))
    return [picture * [0.9, 0.5, 0.3, 1] for picture in expected]


def deformed(scene, splats) -> Pictures:
    """By an armature of one bone, which turns all there is."""
    bpy.ops.object.armature_add(location=(0.2, 0.1, -0.6))
    armature = bpy.context.object
    armature.pose.bones[0].matrix_basis = Matrix.LocRotScale((0.1, 0, 0.2), Euler((0.3, -0.5, 0.4)), None)
    choose(armature, splats)
    bone = armature.pose.bones[0]
    moved = armature.matrix_world @ bone.matrix @ bone.bone.matrix_local.inverted() @ armature.matrix_world.inverted()
    stood = splats.matrix_world.copy()
    splats.matrix_world = moved @ stood
    bpy.context.view_layer.update()
    expected = pictures(scene, [splats])
    splats.matrix_world = stood
    bpy.context.view_layer.update()
    bpy.ops.vivant.splats_deform()
    return expected


@pytest.mark.parametrize("edit", [applied, mirrored, merged, cropped, deleted, tinted, deformed])
@pytest.mark.parametrize("kind", KINDS)
def test_edited_and_exported_motion_looks_as_it_should_when_it_is_read(scene, tmp_path, kind, edit: Callable):
    cloud = leaning_little() if kind == "7D" else made(kind)
    api.write_splats(cloud, tmp_path / "capture.ply")
    cloud = api.read_splats(tmp_path / "capture.ply")  # as its files hold it
    splats = placed(scene, cloud)
    choose(splats)
    expected = edit(scene, splats)
    assert api.export_splats(tmp_path / "edited.ply", [splats]) == ()
    again = api.import_splats(tmp_path / "edited.ply", 5, 40)
    assert type(api.cloud_of(again).family) is type(cloud.family)
    scores = [psnr(*both) for both in zip(pictures(scene, [again]), expected, strict=True)]
    assert expected[0][..., 3].max() > 0.5
    assert min(scores) >= 60, scores
