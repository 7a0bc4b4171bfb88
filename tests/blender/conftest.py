# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests that run inside bpy; each begins with an empty factory file."""

import os
import subprocess
import sys

import pytest

_STATUS = pytest.StashKey[int]()

bpy = pytest.importorskip("bpy", reason="needs Blender's Python module")


# In a process of its own that ends at once: Blender 4.5 as a module hangs at exit when Rigify has run in it.
GENERATE = """
import os, sys
import bpy
import addon_utils
bpy.ops.wm.read_factory_settings(use_empty=True)
addon_utils.enable("rigify", default_set=True)
bpy.ops.object.armature_human_metarig_add()
bpy.context.object.name = "metarig"
bpy.ops.pose.rigify_generate()
bpy.context.view_layer.objects.active.name = "human"
bpy.ops.wm.save_as_mainfile(filepath=sys.argv[1])
os._exit(0)
"""


@pytest.fixture(scope="session")
def rigify_file(tmp_path_factory):
    """A .blend with a generated Rigify human, made once."""
    path = tmp_path_factory.mktemp("rigify") / "human.blend"
    made = subprocess.run([sys.executable, "-c", GENERATE, str(path)], capture_output=True, text=True, timeout=120, check=False)
    assert path.is_file(), made.stderr
    return path


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
