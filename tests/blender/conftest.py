# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests that run inside bpy; each begins with an empty factory file."""

import os
import sys

import pytest

_STATUS = pytest.StashKey[int]()

bpy = pytest.importorskip("bpy", reason="needs Blender's Python module")


@pytest.fixture
def scene():
    """An empty factory scene with a camera that looks at the origin."""
    from mathutils import Vector

    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    scene.collection.objects.link(camera)
    scene.camera = camera
    camera.location = (3.2, -2.6, 1.7)
    camera.rotation_euler = Vector((-3.2, 2.6, -1.7)).to_track_quat("-Z", "Y").to_euler()
    camera.data.lens = 40
    camera.data.clip_start = 0.2
    scene.render.resolution_x, scene.render.resolution_y = 192, 128
    bpy.context.view_layer.update()
    return scene


@pytest.fixture
def operators():
    """Vivant's motion operators, registered for one test."""
    from vivant.operators import inbetween, takes

    classes = (*inbetween.CLASSES, *takes.CLASSES)
    for cls in classes:
        bpy.utils.register_class(cls)
    takes.register()
    yield
    takes.unregister()
    for cls in classes:
        bpy.utils.unregister_class(cls)


def pytest_sessionfinish(session, exitstatus):
    """Remember how it went for the hook below."""
    session.config.stash[_STATUS] = int(exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config):
    """End at once: bpy 4.5 may wait for its own threads for ever when a process with it exits in the ordinary way."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(config.stash.get(_STATUS, 3))
