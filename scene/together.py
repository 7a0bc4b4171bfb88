# SPDX-License-Identifier: GPL-3.0-or-later
"""Splat objects that interpenetrate, drawn by one mesh, so that EEVEE sorts their splats among each other.

Viewport, plates and Cycles need no such thing.  The splats stay objects of their own: they move, play and are
edited as before, but no ray of a render meets them; a further object draws all their quads.
"""

from collections.abc import Sequence

import bpy

from . import compat, pointclouds
from .nodes import together as nodes

_RAYS = ("camera", "diffuse", "glossy", "transmission", "volume_scatter", "shadow")


def drawer(scene: bpy.types.Scene) -> bpy.types.Object | None:
    """The object that draws the scene's splats together."""
    for candidate in scene.objects:
        if candidate.type == "MESH" and any(
            modifier.type == "NODES" and modifier.node_group and modifier.node_group.name.startswith(nodes.NAME)
            for modifier in candidate.modifiers
        ):
            return candidate
    return None


def drawn_by(made: bpy.types.Object) -> bpy.types.Collection | None:
    """The collection of the splat objects that such an object draws."""
    return compat.get_modifier_input(made.modifiers[nodes.NAME], "Splats")


def join(scene: bpy.types.Scene, members: Sequence[bpy.types.Object]) -> bpy.types.Object:
    """Draw these splat objects together, and no others; the object that does it."""
    separate(scene)
    collection = bpy.data.collections.new("Splats Together")
    for member in members:
        collection.objects.link(member)
    _show(members, False)
    made = bpy.data.objects.new("Splats Together", bpy.data.meshes.new("Splats Together"))
    scene.collection.objects.link(made)
    modifier = made.modifiers.new(nodes.NAME, "NODES")
    modifier.node_group = nodes.tree()
    compat.set_modifier_input(modifier, "Splats", collection)
    return made


def separate(scene: bpy.types.Scene) -> None:
    """Let each splat object draw itself again."""
    made = drawer(scene)
    if made is None:
        return
    collection = drawn_by(made)
    bpy.data.meshes.remove(made.data)  # and the object
    if collection is not None:
        _show([member for member in collection.objects if pointclouds.is_splats(member)], True)
        bpy.data.collections.remove(collection)


def _show(members: Sequence[bpy.types.Object], visible: bool) -> None:
    for member in members:
        for ray in _RAYS:
            setattr(member, f"visible_{ray}", visible)
