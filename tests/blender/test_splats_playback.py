# SPDX-License-Identifier: GPL-3.0-or-later
"""Moving clouds on the timeline: retimed by keyable inputs, and played from files and from the frame cache."""

import pathlib
import sys

import bpy
import numpy as np
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from test_families import evaluated, made, placed

from vivant.backends.gaussian.motion.timing import INPUTS, Timing
from vivant.scene import compat, pointclouds

TIMINGS = [
    Timing(5, 40, speed=1.7, offset=-3.3),
    Timing(5, 17, loop=True, offset=4),
    Timing(5, 17, back_and_forth=True, speed=-0.8),
    Timing(9, 30, reverse=True, loop=True),
]


def retime(splats: bpy.types.Object, timing: Timing) -> None:
    for field, title in INPUTS.items():
        compat.set_modifier_input(pointclouds.mover_of(splats), title, getattr(timing, field))


def key(splats: bpy.types.Object, title: str, keys: dict[float, float]) -> None:
    """Straight keys of an input of the motion's modifier."""
    mover = pointclouds.mover_of(splats)
    for frame, value in keys.items():
        compat.set_modifier_input(mover, title, value)
        splats.keyframe_insert(compat.modifier_input_path(mover, title), frame=frame)
    for layer in splats.animation_data.action.layers:
        for strip in layer.strips:
            for curve in strip.channelbags[0].fcurves:
                for point in curve.keyframe_points:
                    point.interpolation = "LINEAR"


@pytest.mark.parametrize("timing", TIMINGS)
@pytest.mark.parametrize("kind", ["STG", "Linear", "7D"])
def test_every_input_of_a_node_group_does_what_it_says(scene, kind, timing):
    cloud = made(kind)
    splats = placed(scene, cloud)
    retime(splats, timing)
    first, last = cloud.family.time_range
    for frame in np.linspace(-20.2, 61.7, 8):
        scene.frame_set(int(np.floor(frame)), subframe=frame % 1)
        eye = splats.matrix_world.inverted() @ scene.camera.matrix_world.translation
        truth = cloud.at(first + timing.share(frame) * (last - first), eye)
        np.testing.assert_allclose(evaluated(splats).means, truth.means, atol=2e-4)


def test_a_keyed_offset_is_the_speed_curve_of_a_native_cloud(scene):
    cloud = made("STG")
    splats = placed(scene, cloud)
    retime(splats, Timing(5, 40, speed=0))
    key(splats, "Offset", {1: 0.0, 11: 20.0, 21: 10.0})
    for frame, clip_frame in ((1, 0), (6, 10), (11, 20), (16, 15), (30, 10)):
        scene.frame_set(frame)
        np.testing.assert_allclose(evaluated(splats).means, cloud.at(clip_frame / 40).means, atol=1e-4)
