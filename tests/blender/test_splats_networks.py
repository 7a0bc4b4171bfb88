# SPDX-License-Identifier: GPL-3.0-or-later
"""Scenes that a network moves come into Blender as they stand at the start of their clip, and say so."""

import pathlib
import sys

import numpy as np
import pytest

import vivant
from vivant import api
from vivant.backends.gaussian import cache_writer
from vivant.backends.gaussian.cache import FrameCache
from vivant.scene import pointclouds

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "unit"))
from network_weights import deformation_shapes, waves
from test_network_scenes import scene as trained_scene


@pytest.fixture(autouse=True)
def extension(scene):
    """Vivant registered, with an empty scene."""
    vivant.register()
    yield
    vivant.unregister()


def test_frames_from_a_cache_come_in_the_same_way(tmp_path):
    trained_scene(tmp_path, waves(deformation_shapes(), 0.05))
    cloud = api.read_splats(tmp_path)
    path = tmp_path / "a.vivantframes"
    cache_writer.write(path, cloud.replace(family=None), [0, 0.5, 1], map(cloud.at, (0, 0.5, 1)))
    made = pointclouds.to_object(cloud.replace(family=FrameCache(path).family(cloud)), "Cached")
    np.testing.assert_allclose(api.cloud_of(made).means, cloud.at(0).means, atol=1e-4)
