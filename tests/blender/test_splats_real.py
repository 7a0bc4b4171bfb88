# SPDX-License-Identifier: GPL-3.0-or-later
"""Real captures: pictures and playback against the float64 truth."""

import pathlib
import sys

import bpy
import numpy as np
import pytest
from mathutils import Vector

from vivant import api
from vivant.backends.gaussian.render.reference import render as reference
from vivant.scene import cameras, pointclouds

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from pictures import psnr, render


def look_at(scene: bpy.types.Scene, splats: bpy.types.Object) -> None:
    """Frame most of an object's splats from the front."""
    means = api.cloud_of(splats).means @ np.array(splats.matrix_world)[:3, :3].T
    low, high = np.percentile(means, [2, 98], axis=0)
    away = Vector((-0.5, 1.0, 0.15)).normalized()
    scene.camera.location = Vector((low + high) / 2) + away * float(np.linalg.norm(high - low)) * 1.2
    scene.camera.rotation_euler = (-away).to_track_quat("-Z", "Y").to_euler()
    scene.camera.data.clip_start = 0.01
    bpy.context.view_layer.update()


@pytest.mark.parametrize("name", ["biker.spz", "guitar.compressed.ply"])
def test_eevee_draws_real_captures_as_the_reference(scene, data, tmp_path, name):
    splats = api.import_splats(data / "splats" / name)
    look_at(scene, splats)
    camera = cameras.read(scene.camera, scene, bpy.context.evaluated_depsgraph_get())
    truth = reference([(api.cloud_of(splats), cameras.in_space_of(camera, splats))])
    assert truth[..., 3].mean() > 0.05
    measured = psnr(render(scene, "EEVEE", tmp_path), truth)
    print(f"{name}: {measured:.2f} dB")
    assert measured >= 50


@pytest.mark.parametrize("name", ["hanabi2.splatv", "stg_lite_256.splatv"])
@pytest.mark.parametrize("time", [0.0, 0.25, 0.5, 0.785, 1.0])
def test_splatv_plays_in_nodes_as_at_says(scene, data, name, time):
    cloud = api.read_splats(data / "splats" / name)
    splats = api.import_splats(data / "splats" / name, start_frame=1, frames=48)
    frame = 1 + 48 * time
    scene.frame_set(int(frame), subframe=frame % 1)
    geometry = splats.evaluated_get(bpy.context.evaluated_depsgraph_get()).evaluated_geometry()
    now, truth = pointclouds.read(geometry.pointcloud), cloud.at(time)
    np.testing.assert_allclose(now.means, truth.means, atol=1e-4)
    np.testing.assert_allclose(now.opacities, truth.opacities, atol=1e-4)
    np.testing.assert_allclose(now.quats * np.sign(np.sum(now.quats * truth.quats, axis=1))[:, None], truth.quats, atol=1e-4)
    np.testing.assert_array_equal(now.scales, truth.scales)


def test_captures_of_either_frame_stand_the_same_way_up(scene, data):
    from_ply = api.import_splats(data / "splats" / "biker.compressed.ply")
    from_spz = api.import_splats(data / "splats" / "biker.spz")
    worlds = [api.cloud_of(splats).means @ np.array(splats.matrix_world)[:3, :3].T for splats in (from_ply, from_spz)]
    np.testing.assert_allclose(worlds[0], worlds[1], atol=1.3e-4)
    assert worlds[0][:, 2].mean() > 1.5  # the rider stands on the floor
