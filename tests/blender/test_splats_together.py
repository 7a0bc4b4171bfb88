# SPDX-License-Identifier: GPL-3.0-or-later
"""Several splat objects in one EEVEE picture, and a mesh between their splats."""

import pathlib
import sys

import bpy
import numpy as np
import pytest

import vivant
from vivant.backends.gaussian import sh
from vivant.backends.gaussian.cloud import SplatCloud
from vivant.backends.gaussian.render.reference import render as reference
from vivant.scene import cameras, colour, pointclouds, together

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from pictures import psnr, render


@pytest.fixture
def mixed(scene):
    """Two clouds whose splats lie between each other's, one of them stretched."""
    rng = np.random.default_rng(5)
    made = []
    for _ in range(2):
        quats = rng.normal(size=(300, 4))
        quats /= np.linalg.norm(quats, axis=1, keepdims=True)
        colours = sh.to_base(rng.uniform(0, 1, (300, 1, 3)))
        sizes = rng.uniform(0.02, 0.15, (300, 3))
        cloud = SplatCloud(rng.uniform(-0.8, 0.8, (300, 3)), quats, sizes, rng.uniform(0.3, 1, 300), colours)
        made.append(pointclouds.to_object(cloud, "Splats"))
        scene.collection.objects.link(made[-1])
    made[1].rotation_euler, made[1].location, made[1].scale = (0.4, 1.1, -0.3), (0.3, 0.1, 0.1), (1.2, 0.7, 1)
    bpy.context.view_layer.update()
    colour.display_blending(scene)
    return made


def expected(scene, made, occluders=None):
    camera = cameras.read(scene.camera, scene, bpy.context.evaluated_depsgraph_get())
    return reference([(pointclouds.cloud_of(one), cameras.in_space_of(camera, one)) for one in made], occluders=occluders)


def test_eevee_sorts_the_splats_of_joined_objects_among_each_other(scene, mixed, tmp_path):
    truth = expected(scene, mixed)
    alone = psnr(render(scene, "EEVEE", tmp_path), truth)
    together.join(scene, mixed)
    assert psnr(render(scene, "EEVEE", tmp_path), truth) > 50 > 40 > alone


def test_an_opaque_mesh_hides_just_the_splats_behind_it(scene, mixed, tmp_path):
    together.join(scene, mixed)
    bpy.ops.mesh.primitive_plane_add(size=20, rotation=scene.camera.rotation_euler)  # square to the view, at the origin
    material = bpy.data.materials.new("Black")
    from vivant.scene import compat

    tree = compat.node_tree(material)
    tree.nodes.clear()
    emission, out = tree.nodes.new("ShaderNodeEmission"), tree.nodes.new("ShaderNodeOutputMaterial")
    emission.inputs["Color"].default_value = (0, 0, 0, 1)
    tree.links.new(emission.outputs[0], out.inputs["Surface"])
    bpy.context.object.data.materials.append(material)
    picture = render(scene, "EEVEE", tmp_path)
    truth = expected(scene, mixed, np.full(picture.shape[:2], scene.camera.location.length))
    assert picture[..., 3].min() == 1
    assert psnr(picture[..., :3], truth[..., :3]) > 50


def test_separating_brings_everything_back(scene, mixed):
    objects, meshes = set(scene.objects), len(bpy.data.meshes)
    vivant.register()
    try:
        assert bpy.ops.vivant.splats_together() == {"FINISHED"}
        assert together.drawer(scene) and not any(one.visible_camera or one.visible_shadow for one in mixed)
        assert bpy.ops.vivant.splats_together() == {"FINISHED"}
        assert len(scene.objects) == len(objects) + 1
        assert bpy.ops.vivant.splats_together(separate=True) == {"FINISHED"}
    finally:
        vivant.unregister()
    assert set(scene.objects) == objects
    assert len(bpy.data.meshes) == meshes
    assert all(one.visible_camera and one.visible_shadow for one in mixed)
