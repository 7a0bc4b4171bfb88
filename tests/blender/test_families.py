# SPDX-License-Identifier: GPL-3.0-or-later
"""Every closed-form family's node group against its formula in NumPy."""

import dataclasses
import pathlib
import sys

import bpy
import numpy as np
import pytest
from mathutils import Vector

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from moving import evaluated, made, placed

from vivant.backends.gaussian.motion import FAMILIES
from vivant.backends.gaussian.motion.timing import INPUTS, Timing
from vivant.scene import compat, pointclouds

KINDS = ["STG", "STG full", "STG full without a network", "STG full clamped", "Linear", "4DGS", "4DGS 2 waves", "6D", "7D"]
CAMERAS = [(3.2, -2.6, 1.7), (-0.3, 4.0, -2.0), (0.2, 0.1, 0.0)]  # the last among the splats


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


@pytest.mark.parametrize("title", ["Start Frame", "Frames", "Speed", "Offset"])
def test_a_keyed_input_counts_with_its_curve_s_value_at_sub_frames(scene, title):
    cloud = made("STG")
    splats = placed(scene, cloud)
    mover = pointclouds.mover_of(splats)
    path = compat.modifier_input_path(mover, title)
    keys = {"Start Frame": (0, 9), "Frames": (30, 60), "Speed": (0.5, 1), "Offset": (0, 25)}[title]
    for frame, value in zip((4, 24), keys, strict=True):  # Blender's own easing between them
        compat.set_modifier_input(mover, title, float(value))
        splats.keyframe_insert(path, frame=frame)
    action, slot = splats.animation_data.action, splats.animation_data.action_slot
    curve = action.layers[0].strips[0].channelbag(slot).fcurves.find(path)
    for frame in (7.25, 11.5, 18.875, 23.9):
        scene.frame_set(int(frame), subframe=frame % 1)
        field = next(field for field, name in INPUTS.items() if name == title)
        timing = dataclasses.replace(Timing(5, 40), **{field: curve.evaluate(frame)})
        truth = cloud.at(timing.share(frame))
        np.testing.assert_allclose(evaluated(splats).means, truth.means, atol=2e-4)
