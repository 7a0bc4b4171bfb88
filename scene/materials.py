# SPDX-License-Identifier: GPL-3.0-or-later
"""The material that draws splat quads: alpha = min(0.99, opacity exp(-d^2 / 2)), nothing under 1/255."""

import bpy

from ..backends.gaussian.render.constants import ALPHA_MAX, ALPHA_MIN
from . import compat
from .nodes.build import STAMP, Nodes, Socket, arrange

NAME = "Vivant Splats"
VERSION = 1


def splats() -> bpy.types.Material:
    """The file's splat material; made when the file has none."""
    for material in bpy.data.materials:
        if material.get(STAMP) == VERSION and material.name.split(".")[0] == NAME and material.library is None:
            return material
    material = bpy.data.materials.new(NAME)
    material[STAMP] = VERSION
    material.surface_render_method = "BLENDED"  # EEVEE then blends the faces in their order
    material.use_transparency_overlap = True
    material.use_backface_culling = False
    tree = compat.node_tree(material)
    tree.nodes.clear()
    g = Nodes(tree)

    def attribute(name: str, output: str) -> Socket:
        return g.node("ShaderNodeAttribute", attribute_name=name, attribute_type="GEOMETRY").outputs[output]

    uv = attribute("splat_uv", "Vector")
    alpha = g.mul(attribute("splat_opacity", "Fac"), g.math("EXPONENT", g.mul(g.dot(uv, uv), -0.5)))
    alpha = g.math("MINIMUM", alpha, ALPHA_MAX)
    alpha = g.mul(alpha, g.math("GREATER_THAN", alpha, ALPHA_MIN))
    light = g("ShaderNodeEmission", {"Color": attribute("splat_rgb", "Vector"), "Strength": 1.0})
    clear = g("ShaderNodeBsdfTransparent", {"Color": (1.0, 1.0, 1.0, 1.0)})
    out = g.node("ShaderNodeOutputMaterial")
    tree.links.new(g("ShaderNodeMixShader", (alpha, clear, light)), out.inputs["Surface"])
    arrange(tree)
    return material
