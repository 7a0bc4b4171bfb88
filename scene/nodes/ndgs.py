# SPDX-License-Identifier: GPL-3.0-or-later
"""Node group 'Vivant Family NDGS': 6D and 7D Gaussians by the scene's time and camera, as `motion.ndgs.Ndgs.at` does."""

import bpy

from . import moving
from .build import Nodes, arrange, ensure

NAME = "Vivant Family NDGS"
VERSION = 3


def tree() -> bpy.types.NodeTree:
    """Inputs: those of `moving.time`.  The view is that of the scene's active camera."""
    return ensure(NAME, VERSION, "GeometryNodeTree", _build)


def _build(g: Nodes) -> None:
    geometry = g.input("Geometry", "Geometry")
    d = g.sub(moving.time(g), g.attribute("time:center", "FLOAT"))
    towards = g.vector("NORMALIZE", g.vector("SUBTRACT", g("GeometryNodeInputPosition"), moving.eye(g)))
    # kept on the points, as opacities and places both ask for it: a seventh of the time less
    geometry, kept = g.capture(geometry, e=("VECTOR", g.vector("SUBTRACT", towards, g.attribute("view:mean", "FLOAT_VECTOR"))))
    e = kept["e"]

    seen = g.combine(*(g.dot(g.attribute(f"view:slope_{axis}", "FLOAT_VECTOR"), e) for axis in "xyz"))
    path = g.vector("ADD", seen, g.scale(g.attribute("velocity:1", "FLOAT_VECTOR"), d))

    exponent = moving.bell(g, d)
    for axis in "xyz":
        along = g.dot(g.attribute(f"view:fall_{axis}", "FLOAT_VECTOR"), e)
        exponent = g.math("MULTIPLY_ADD", along, along, exponent)

    geometry = moving.fade(g, geometry, moving.decay(g, exponent))
    g.output("Geometry", "Geometry", moving.shift(g, geometry, path))
    arrange(g.tree)
    g.tree.is_modifier = True
