# SPDX-License-Identifier: GPL-3.0-or-later
"""Every closed-form family's node group against its formula in NumPy."""

import bpy
import numpy as np
import pytest
from mathutils import Vector

from vivant.backends.common.rotations import normalise
from vivant.backends.gaussian.cloud import SplatCloud
from vivant.backends.gaussian.motion import FAMILIES, ndgs
from vivant.backends.gaussian.motion.linear import Linear
from vivant.backends.gaussian.motion.rotor4d import Rotor4D
from vivant.backends.gaussian.motion.stg import Stg
from vivant.backends.gaussian.motion.stg_full import Decoder, StgFull
from vivant.scene import pointclouds

COUNT = 400
KINDS = ["STG", "STG full", "STG full without a network", "STG full clamped", "Linear", "4DGS", "4DGS 2 waves", "6D", "7D"]
CAMERAS = [(3.2, -2.6, 1.7), (-0.3, 4.0, -2.0), (0.2, 0.1, 0.0)]  # the last among the splats


def made(kind: str) -> SplatCloud:
    rng = np.random.default_rng(11)

    def normal(*shape):
        return rng.normal(size=(COUNT, *shape)).astype(np.float32)

    means, quats, scales = normal(3), normalise(normal(4)), np.exp(0.5 * normal(3) - 2)
    center, width = rng.uniform(0, 1, COUNT).astype(np.float32), np.exp(0.5 * normal() - 1)
    width[::7] = np.inf
    colours = 0.3 * normal(16 if "waves" in kind else 4, 3)
    first = np.where(rng.random(COUNT) < 0.5, -np.inf, 0.3217).astype(np.float32)
    last = np.where(rng.random(COUNT) < 0.5, np.inf, 0.8163).astype(np.float32)
    if kind == "STG":
        family = Stg(normal(3, 3), 0.5 * normal(4), center, np.minimum(width, 1e6), (0.0, 1.0))
    elif kind.startswith("STG full"):
        decoder = Decoder(0.5 * normal(12)[:6], 0.5 * normal(6)[:3], "clamped" not in kind)
        decoder = None if "without" in kind else decoder
        colours = colours[:, :1]
        family = StgFull(
            normal(3, 3), 0.5 * normal(4), center, np.minimum(width, 1e6), (0.0, 1.0), normal(3), normal(3), decoder
        )
    elif kind == "Linear":
        family = Linear(normal(3), center, width, first, last, (0.0, 1.3))
    elif kind.startswith("4DGS"):
        waves = 0.2 * normal(2, 16, 3) if "waves" in kind else np.empty((COUNT, 0, 1, 3), np.float32)
        family = Rotor4D(normal(3), center, width, first, last, (-0.5, 2.0), waves)
    else:
        dims = int(kind[0])
        factors = 0.3 * rng.normal(size=(COUNT, dims, dims))
        joint = factors @ factors.transpose(0, 2, 1) + 0.03 * np.eye(dims)
        towards = normal(3)
        towards /= np.linalg.norm(towards, axis=1, keepdims=True)
        shares = rng.uniform(0.1, 0.9, (2, COUNT))
        timed = (center, shares[0], shares[1]) if dims == 7 else (None, shares[0], None)
        quats, scales, family = ndgs.condition(joint, towards, *timed)
    return SplatCloud(means, quats, scales, rng.uniform(0.1, 1, COUNT), colours, family=family)


def placed(scene: bpy.types.Scene, cloud: SplatCloud) -> bpy.types.Object:
    splats = pointclouds.to_object(cloud, "Splats", start_frame=5, frames=40)
    scene.collection.objects.link(splats)
    splats.rotation_euler, splats.location, splats.scale = (0.2, -0.4, 0.7), (0.1, 0.05, -0.1), (0.9, 0.9, 0.9)
    bpy.context.view_layer.update()
    return splats


def evaluated(splats: bpy.types.Object) -> SplatCloud:
    geometry = splats.evaluated_get(bpy.context.evaluated_depsgraph_get()).evaluated_geometry()
    return pointclouds.read(geometry.pointcloud)


@pytest.mark.parametrize("kind", KINDS)
def test_the_node_group_equals_the_formula_at_ten_times_from_three_cameras(scene, kind):
    cloud = made(kind)
    splats = placed(scene, cloud)
    first, last = cloud.family.time_range
    for camera in CAMERAS:
        scene.camera.location = camera
        for frame in np.linspace(3.3, 47.1, 10):  # before the clip, within, after it
            scene.frame_set(int(frame), subframe=frame % 1)
            eye = splats.matrix_world.inverted() @ Vector(camera)
            truth = cloud.at(first + (frame - 5) / 40 * (last - first), eye)
            now = evaluated(splats)
            np.testing.assert_allclose(now.means, truth.means, atol=1e-4)
            np.testing.assert_allclose(now.opacities, truth.opacities, atol=1e-4)
            np.testing.assert_allclose(now.sh, truth.sh, atol=1e-4)
            np.testing.assert_array_equal(now.scales, truth.scales)
            np.testing.assert_allclose(np.abs(np.sum(now.quats * truth.quats, axis=1)), 1, atol=1e-6)
            by_scene = pointclouds.cloud_at(splats, scene)
            np.testing.assert_allclose(by_scene.means, truth.means, atol=1e-4)
            np.testing.assert_allclose(by_scene.opacities, truth.opacities, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_moving_cloud_comes_back_from_its_object_bit_for_bit(scene, kind):
    cloud = made(kind)
    back = pointclouds.cloud_of(placed(scene, cloud))
    assert type(back.family) is type(cloud.family) and back.family.time_range == cloud.family.time_range
    for name, values in cloud.family.attributes().items():
        np.testing.assert_array_equal(back.family.attributes()[name], values)
    if kind == "STG full":
        assert back.family.decoder.numbers == pytest.approx(cloud.family.decoder.numbers)


def test_each_network_has_a_group_of_its_own(scene):
    first, second = (placed(scene, made(kind)) for kind in ("STG full", "STG full clamped"))
    assert pointclouds.mover_of(first).node_group != pointclouds.mover_of(second).node_group
    assert pointclouds.mover_of(placed(scene, made("STG full"))).node_group == pointclouds.mover_of(first).node_group


def test_every_family_has_a_node_group_or_a_cache():
    assert set(pointclouds.FAMILY_TREES) <= set(FAMILIES)


def test_the_camera_moves_what_depends_on_it_without_a_change_of_frame(scene):
    splats = placed(scene, made("6D"))
    before = evaluated(splats).means
    scene.camera.location.x += 1
    bpy.context.view_layer.update()
    assert np.abs(evaluated(splats).means - before).max() > 1e-3
