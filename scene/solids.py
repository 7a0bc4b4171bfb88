# SPDX-License-Identifier: GPL-3.0-or-later
"""What hides splats in a plate: the surfaces of a scene, as the viewport has evaluated them."""

from __future__ import annotations

from collections.abc import Iterator

import bpy
import numpy as np
from numpy.typing import NDArray

from ..backends.gaussian.render.occluders import Solids
from . import pointclouds


def in_renders(view_layer: bpy.types.ViewLayer) -> set[bpy.types.Object]:
    """The objects that a render of a view layer shows: neither they nor their collections are switched off for it."""
    found: set[bpy.types.Object] = set()
    layers = [view_layer.layer_collection]
    while layers:
        layer = layers.pop()
        if not layer.exclude and not layer.collection.hide_render:
            found.update(one for one in layer.collection.objects if not one.hide_render)
            layers.extend(layer.children)
    return found


def read(view_layer: bpy.types.ViewLayer, depsgraph: bpy.types.Depsgraph) -> Solids | None:
    """The surfaces of all objects that a render's camera sees, copies by particles and nodes too; None without any.

    Each mesh is read once, however many copies there are.  Splats are none of them.
    """
    points, triangles, meshes, places = [], [], [], []
    first, count, known = [0], 0, {}
    for mesh, place in _copies(in_renders(view_layer), depsgraph):
        key = mesh.as_pointer()
        if key not in known:
            known[key] = len(known)
            corners = _triangles(mesh)
            points.append(_points(mesh))
            triangles.append(corners + np.int32(count))
            count += len(points[-1])
            first.append(first[-1] + len(corners))
        meshes.append(known[key])
        places.append(place)
    if not first[-1]:
        return None
    return Solids(
        np.concatenate(points), np.concatenate(triangles), np.array(first), np.array(meshes), np.array(places, np.float64)
    )


def _copies(
    shown: set[bpy.types.Object], depsgraph: bpy.types.Depsgraph
) -> Iterator[tuple[bpy.types.Mesh, NDArray[np.float64]]]:
    for copy in depsgraph.object_instances:
        what = copy.object
        owner = copy.parent.original if copy.is_instance and copy.parent else what.original
        if what.type != "MESH" or owner not in shown or pointclouds.is_splats(owner):
            continue
        # a collection's objects have a switch of their own; what nodes and particles copy is often switched off itself
        if copy.is_instance and owner.instance_type == "COLLECTION" and what.original.hide_render:
            continue
        if copy.show_self and owner.visible_camera and what.visible_camera:
            yield what.data, np.array(copy.matrix_world)


def _points(mesh: bpy.types.Mesh) -> NDArray[np.float32]:
    found = np.empty(len(mesh.vertices) * 3, np.float32)
    mesh.vertices.foreach_get("co", found)
    return found.reshape(-1, 3)


def _triangles(mesh: bpy.types.Mesh) -> NDArray[np.int32]:
    mesh.calc_loop_triangles()
    found = np.empty(len(mesh.loop_triangles) * 3, np.int32)
    mesh.loop_triangles.foreach_get("vertices", found)
    return found.reshape(-1, 3)
