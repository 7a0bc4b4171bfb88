# SPDX-License-Identifier: GPL-3.0-or-later
"""Meshes that stand for splats where those cannot: casting shadows on other objects, and colliding."""

from __future__ import annotations

import bpy

from ..backends.gaussian.edit import proxy
from . import pointclouds


def add(
    splats: bpy.types.Object, scene: bpy.types.Scene, purpose: str, cells: int = 64, level: float = 0.5
) -> bpy.types.Object:
    """A closed mesh around what the splats cover at the scene's frame, which follows their object.

    purpose: "SHADOW", seen by no camera but by light, or "COLLISION", in no render but with collisions for cloth and particles.
    Raises VivantError where nothing is opaque enough.
    """
    vertices, quads = proxy.surface(pointclouds.cloud_at(splats, scene), cells, level)
    name = f"{splats.name} {purpose.title()}"
    mesh = bpy.data.meshes.new(name)
    mesh.from_pydata(vertices.tolist(), [], quads.tolist(), shade_flat=False)
    made = bpy.data.objects.new(name, mesh)
    for collection in splats.users_collection:
        collection.objects.link(made)
    made.parent = splats
    made.display_type = "WIRE"
    if purpose == "SHADOW":
        made.visible_camera = False
    else:
        made.hide_render = True
        made.modifiers.new("Collision", "COLLISION")
    return made
