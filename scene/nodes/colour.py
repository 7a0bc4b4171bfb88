# SPDX-License-Identifier: GPL-3.0-or-later
"""Node group 'Vivant Colour': the colour of splats seen along a direction, by spherical harmonics."""

import bpy

from ...backends.gaussian.sh import C0, C1
from .build import Nodes, Socket, arrange, ensure

NAME = "Vivant Colour"
VERSION = 1


def tree() -> bpy.types.NodeTree:
    """Inputs: Direction (unit, camera to splat, object space), Degree 0 to 4.  Output: display Colour >= 0."""
    return ensure(NAME, VERSION, "GeometryNodeTree", _build)


def _build(g: Nodes) -> None:
    direction = g.input("Direction", "Vector")
    degree = g.input("Degree", "Int", 3, min_value=0, max_value=4)
    colour = g.vector("ADD", g.scale(g.attribute("radiance:base", "FLOAT_VECTOR"), C0), (0.5, 0.5, 0.5))
    by_degree, index = [colour], 0
    for band in _bands(g, direction):
        for value in band:
            coefficient = g.attribute(f"radiance:sh_{index}", "FLOAT_VECTOR")
            colour = g("ShaderNodeVectorMath", (coefficient, g.combine(value, value, value), colour), operation="MULTIPLY_ADD")
            index += 1
        by_degree.append(colour)
    # a switch on a single value evaluates the chosen branch alone
    choose = g.node("GeometryNodeIndexSwitch", data_type="VECTOR")
    while len(choose.index_switch_items) < len(by_degree):
        choose.index_switch_items.new()
    g.tree.links.new(degree, choose.inputs["Index"])
    for position, value in enumerate(by_degree, start=1):
        g.tree.links.new(value, choose.inputs[position])
    g.output("Colour", "Vector", g.vector("MAXIMUM", choose.outputs[0], (0.0, 0.0, 0.0)))
    arrange(g.tree)


def _bands(g: Nodes, direction: Socket) -> list[list[Socket]]:
    """Basis values of degrees 1 to 4, written as in `backends.gaussian.sh.basis`."""
    x, y, z = g.xyz(direction)
    xx, yy, zz = g.mul(x, x), g.mul(y, y), g.mul(z, z)
    xy, yz, xz = g.mul(x, y), g.mul(y, z), g.mul(x, z)
    xx_yy = g.sub(xx, yy)
    three_xx_yy, xx_3yy = g.sub(g.mul(xx, 3.0), yy), g.sub(xx, g.mul(yy, 3.0))
    four_zz = g.sub(g.mul(zz, 5.0), 1.0)  # 4zz - xx - yy on the unit sphere
    seven_zz = g.mul(zz, 7.0)
    seven_1, seven_3 = g.sub(seven_zz, 1.0), g.sub(seven_zz, 3.0)
    return [
        [g.mul(y, -C1), g.mul(z, C1), g.mul(x, -C1)],
        [
            g.mul(xy, 1.0925484305920792),
            g.mul(yz, -1.0925484305920792),
            g.mul(g.sub(g.mul(zz, 3.0), 1.0), 0.31539156525252005),
            g.mul(xz, -1.0925484305920792),
            g.mul(xx_yy, 0.5462742152960396),
        ],
        [
            g.mul(y, three_xx_yy, -0.5900435899266435),
            g.mul(xy, z, 2.890611442640554),
            g.mul(y, four_zz, -0.4570457994644658),
            g.mul(z, g.sub(g.mul(zz, 5.0), 3.0), 0.3731763325901154),
            g.mul(x, four_zz, -0.4570457994644658),
            g.mul(z, xx_yy, 1.445305721320277),
            g.mul(x, xx_3yy, -0.5900435899266435),
        ],
        [
            g.mul(xy, xx_yy, 2.5033429417967046),
            g.mul(yz, three_xx_yy, -1.7701307697799304),
            g.mul(xy, seven_1, 0.9461746957575601),
            g.mul(yz, seven_3, -0.6690465435572892),
            g.mul(g.add(g.mul(zz, g.sub(g.mul(zz, 35.0), 30.0)), 3.0), 0.10578554691520431),
            g.mul(xz, seven_3, -0.6690465435572892),
            g.mul(xx_yy, seven_1, 0.47308734787878004),
            g.mul(xz, xx_3yy, -1.7701307697799304),
            g.mul(g.sub(g.mul(xx, xx_3yy), g.mul(yy, three_xx_yy)), 0.6258357354491761),
        ],
    ]
