# SPDX-License-Identifier: GPL-3.0-or-later
"""Node group 'Vivant Density': a share of the splats that looks like all of them, as `backends.gaussian.density` has it."""

import bpy

from ...backends.gaussian.density import PLACES, ROUNDS, STRIDE
from ...backends.gaussian.render.constants import ALPHA_MAX
from . import moving
from .build import Nodes, Socket, arrange, ensure

NAME = "Vivant Density"
VERSION = 2


def tree() -> bpy.types.NodeTree:
    """Inputs: splats; Density, the share to keep; Moving, whether their opacity changes in time.  Output: those that stay."""
    return ensure(NAME, VERSION, "GeometryNodeTree", _build)


def _build(g: Nodes) -> None:
    geometry = g.input("Geometry", "Geometry")
    density = g.input("Density", "Float", 1.0)
    moves = g.input("Moving", "Bool")
    scale = g.attribute("scale", "FLOAT_VECTOR")
    opacity = g.node("FunctionNodeSeparateColor", (g.attribute("radiance:base", "FLOAT_COLOR"),)).outputs[3]

    x, y, z = g.xyz(scale)
    area = g.add(g.mul(x, y), g.mul(y, z), g.mul(z, x))
    weight = g.math("SQRT", g.mul(area, g.switch("FLOAT", moves, opacity, 1.0)))
    share = g.math("MINIMUM", g.mul(weight, _factor(g, geometry, weight, density)), 1.0)

    # the ID is the index, unless somebody named the points so that they can be told apart when others go
    step = g("FunctionNodeIntegerMath", (g("GeometryNodeInputID"), PLACES), operation="FLOORED_MODULO")
    step = g("FunctionNodeIntegerMath", (step, STRIDE), operation="MULTIPLY")
    step = g("FunctionNodeIntegerMath", (step, PLACES), operation="MODULO")
    geometry = g.delete(geometry, g.math("GREATER_THAN", g.div(g.add(step, 0.5), float(PLACES)), share))

    thicker = g.sub(1.0, g.math("POWER", g.sub(1.0, g.math("MINIMUM", opacity, ALPHA_MAX)), g.div(1.0, share)))
    denser = g.math("MAXIMUM", opacity, g.math("MINIMUM", thicker, ALPHA_MAX))
    geometry, kept = g.capture(
        geometry,
        denser=("FLOAT", g.div(denser, opacity)),
        larger=("FLOAT", g.math("SQRT", g.div(opacity, g.mul(share, denser)))),
    )
    geometry = moving.fade(g, geometry, kept["denser"])
    geometry = g.store(geometry, "scale", "FLOAT_VECTOR", g.scale(scale, kept["larger"]))
    g.output("Geometry", "Geometry", geometry)
    arrange(g.tree)


def _factor(g: Nodes, geometry: Socket, weight: Socket, density: Socket) -> Socket:
    """What weights are multiplied by so that `density` of the splats stay; Newton's method on sums over all of them."""
    factor: Socket | float = 0.0
    for _ in range(ROUNDS):
        sure = g.math("GREATER_THAN", g.mul(weight, factor), 1.0)
        both = g.combine(sure, g.mul(weight, g.sub(1.0, sure)), 0.0)
        inputs = {"Geometry": geometry, "Attribute": both}
        mean = g("GeometryNodeAttributeStatistic", inputs, data_type="FLOAT_VECTOR", domain="POINT")
        ready, rest, _ = g.xyz(mean)
        factor = g.div(g.sub(density, ready), rest)
    return factor
