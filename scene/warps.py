# SPDX-License-Identifier: GPL-3.0-or-later
"""What armatures, lattices and cages do to the space around them at the scene's frame, as functions of points."""

from __future__ import annotations

import bpy
import numpy as np
from mathutils import Matrix
from numpy.typing import NDArray

from ..backends.common.errors import VivantError
from ..backends.gaussian.edit import deform

Doubles = NDArray[np.float64]

KINDS = ("ARMATURE", "LATTICE", "MESH")
"""Types of the objects that deform splats."""


def of(deformer: bpy.types.Object, splats: bpy.types.Object) -> deform.Warp:
    """The warp of an armature's pose, a lattice's points or a mesh's modifiers and shape keys, in the splats' own space.

    Raises VivantError for other objects and for those that deform nothing.
    """
    if deformer.type == "ARMATURE":
        warp = _armature(deformer)
    elif deformer.type == "MESH":
        warp = _cage(deformer)
    elif deformer.type == "LATTICE":
        return _lattice(deformer, splats)
    else:
        raise VivantError(f"'{deformer.name}' deforms nothing.", "Select an armature, a lattice or a closed mesh.")
    there = np.array(deformer.matrix_world.inverted() @ splats.matrix_world)
    back = np.linalg.inv(there)
    return lambda points: _placed(warp(_placed(points, there)), back)


def _armature(armature: bpy.types.Object) -> deform.Warp:
    posed = armature.evaluated_get(bpy.context.evaluated_depsgraph_get())
    bones = [bone for bone in posed.pose.bones if bone.bone.use_deform]
    if not bones:
        raise VivantError(f"'{armature.name}' has no bone that deforms.", "Switch on Deform for some of its bones.")
    poses = np.array([bone.matrix @ bone.bone.matrix_local.inverted() for bone in bones])
    heads, tails = (np.array([getattr(bone.bone, f"{end}_local") for bone in bones]) for end in ("head", "tail"))
    return deform.skin(heads, tails, poses)


def _cage(mesh: bpy.types.Object) -> deform.Warp:
    evaluated = mesh.evaluated_get(bpy.context.evaluated_depsgraph_get())
    made = evaluated.to_mesh()
    try:
        posed = _coordinates(made.vertices)
    finally:
        evaluated.to_mesh_clear()
    keys = mesh.data.shape_keys
    rest = _coordinates(keys.reference_key.data if keys else mesh.data.vertices)
    if len(rest) != len(posed):
        raise VivantError(f"Modifiers of '{mesh.name}' change its number of vertices.", "Keep only modifiers that deform.")
    if np.array_equal(rest, posed):
        raise VivantError(
            f"'{mesh.name}' is not deformed, so neither would the splats be.", "Deform the cage by shape keys or modifiers."
        )
    mesh.data.calc_loop_triangles()
    triangles = np.empty(len(mesh.data.loop_triangles) * 3, np.int32)
    mesh.data.loop_triangles.foreach_get("vertices", triangles)
    return deform.cage(rest, posed, triangles.reshape(-1, 3))


def _lattice(lattice: bpy.types.Object, splats: bpy.types.Object) -> deform.Warp:
    """Blender's own lattice, asked with a mesh of the points that stands where the splats do."""

    def warp(points: Doubles) -> Doubles:
        mesh = bpy.data.meshes.new("Vivant probes")
        probes = bpy.data.objects.new("Vivant probes", mesh)
        collection = bpy.context.scene.collection
        try:
            mesh.vertices.add(len(points))
            mesh.vertices.foreach_set("co", points.astype(np.float32).ravel())
            collection.objects.link(probes)
            probes.matrix_world = splats.matrix_world
            probes.modifiers.new("Lattice", "LATTICE").object = lattice
            evaluated = probes.evaluated_get(bpy.context.evaluated_depsgraph_get())
            return _coordinates(evaluated.data.vertices)
        finally:
            bpy.data.objects.remove(probes)
            bpy.data.meshes.remove(mesh)

    return warp


def _coordinates(vertices: bpy.types.bpy_prop_collection) -> Doubles:
    values = np.empty(len(vertices) * 3, np.float32)
    vertices.foreach_get("co", values)
    return values.reshape(-1, 3).astype(np.float64)


def _placed(points: Doubles, matrix: Doubles | Matrix) -> Doubles:
    return points @ np.asarray(matrix)[:3, :3].T + np.asarray(matrix)[:3, 3]
