# SPDX-License-Identifier: GPL-3.0-or-later
"""Node groups 'Vivant Family Linear' and 'Vivant Family 4DGS': as `motion.linear.Linear.at` and `motion.rotor4d.Rotor4D.at`.

4D Gaussians move straight on; their groups differ by the number of waves in which the colours swing.
"""

import functools
import math

import bpy

from ...backends.gaussian.motion.rotor4d import wave_attribute
from . import moving
from .build import Nodes, Socket, arrange, ensure

VERSION = 2
COEFFICIENTS = 16
"""Of a wave: those of degree 3."""


def tree() -> bpy.types.NodeTree:
    """Inputs: those of `moving.time`."""
    return ensure("Vivant Family Linear", VERSION, "GeometryNodeTree", _build)


def tree_4d(waves: int) -> bpy.types.NodeTree:
    """The same with so many waves of SH degree 3."""
    name = "Vivant Family 4DGS" + (f" {waves} Wave{'s' * (waves > 1)}" if waves else "")
    return ensure(name, VERSION, "GeometryNodeTree", functools.partial(_build, waves=waves))


def _build(g: Nodes, waves: int = 0) -> None:
    geometry = g.input("Geometry", "Geometry")
    now = moving.time(g)
    d = g.sub(now, g.attribute("time:center", "FLOAT"))
    begun = g.sub(1.0, g.math("LESS_THAN", now, g.attribute("time:first", "FLOAT")))
    there = g.mul(begun, g.math("LESS_THAN", now, g.attribute("time:last", "FLOAT")))
    colours = _swinging(g, d, waves)
    geometry = moving.fade(g, geometry, g.mul(there, moving.decay(g, moving.bell(g, d))), *colours[:1])
    for k, colour in enumerate(colours[1:]):
        geometry = g.store(geometry, f"radiance:sh_{k}", "FLOAT_VECTOR", colour)
    g.output("Geometry", "Geometry", moving.shift(g, geometry, g.scale(g.attribute("velocity:1", "FLOAT_VECTOR"), d)))
    arrange(g.tree)
    g.tree.is_modifier = True


def _swinging(g: Nodes, d: Socket, waves: int) -> list[Socket]:
    """All coefficients with the waves added; none without waves."""
    if not waves:
        return []
    inputs = next(node for node in g.tree.nodes if node.bl_idname == "NodeGroupInput").outputs
    angle = g.mul(g.div(d, g.sub(inputs["Last Time"], inputs["First Time"])), 2 * math.pi)
    swings = [g.math("COSINE", g.mul(angle, float(order))) for order in range(1, waves + 1)]
    colours = []
    for k in range(COEFFICIENTS):
        colour = g.attribute(f"radiance:sh_{k - 1}" if k else "radiance:base", "FLOAT_VECTOR")
        for order, swing in enumerate(swings, 1):
            wave = g.attribute(wave_attribute(order, k), "FLOAT_VECTOR")
            factor = g.combine(swing, swing, swing)
            colour = g("ShaderNodeVectorMath", (wave, factor, colour), operation="MULTIPLY_ADD")
        colours.append(colour)
    return colours
