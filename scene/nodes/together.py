# SPDX-License-Identifier: GPL-3.0-or-later
"""Node group 'Vivant Splats Together': the quads of several splat objects as one mesh, sorted among each other.

EEVEE blends the faces of one mesh in their order, but whole objects by the distance of their origins.  Quads
are parallel to the image plane, so the middle of a quad's corners is as deep as its splat.
"""

import bpy

from .build import Nodes, arrange, ensure

NAME = "Vivant Splats Together"
VERSION = 1


def tree() -> bpy.types.NodeTree:
    """Input: the collection of splat objects with their quads.  Output: all quads, far first; nothing in viewports."""
    return ensure(NAME, VERSION, "GeometryNodeTree", _build)


def _build(g: Nodes) -> None:
    g.input("Geometry", "Geometry")
    wanted = {"Collection": g.input("Splats", "Collection"), "Separate Children": True, "Reset Children": False}
    instances = g("GeometryNodeCollectionInfo", wanted, transform_space="RELATIVE")
    quads = g("GeometryNodeRealizeInstances", {"Geometry": instances})
    camera = g("GeometryNodeInputActiveCamera")
    to_object = g.node("GeometryNodeObjectInfo", {"Object": camera}, transform_space="RELATIVE").outputs["Transform"]
    place = g("FunctionNodeTransformPoint", (g("GeometryNodeInputPosition"), g("FunctionNodeInvertMatrix", (to_object,))))
    quads = g("GeometryNodeSortElements", {"Geometry": quads, "Sort Weight": g.xyz(place)[2]}, domain="FACE")
    g.output("Geometry", "Geometry", g.switch("GEOMETRY", g("GeometryNodeIsViewport"), quads, None))
    arrange(g.tree)
    g.tree.is_modifier = True
