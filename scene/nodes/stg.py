# SPDX-License-Identifier: GPL-3.0-or-later
"""Node group 'Vivant Family STG': moves a cloud by the scene's time, as `motion.stg.Stg.at` does.

It serves the full model too, whose colours stay those of its base features.
"""

import bpy

from . import moving
from .build import Nodes, arrange, ensure

NAME = "Vivant Family STG"
VERSION = 2


def tree() -> bpy.types.NodeTree:
    """Inputs: those of `moving.time`."""
    return ensure(NAME, VERSION, "GeometryNodeTree", _build)


def _build(g: Nodes) -> None:
    geometry = g.input("Geometry", "Geometry")
    d = g.sub(moving.time(g), g.attribute("time:center", "FLOAT"))
    path = g.scale(g.attribute("velocity:3", "FLOAT_VECTOR"), d)
    for order in (2, 1):
        path = g.scale(g.vector("ADD", path, g.attribute(f"velocity:{order}", "FLOAT_VECTOR")), d)

    turn = g.node("FunctionNodeRotationToQuaternion", (g.attribute("rotation", "QUATERNION"),)).outputs
    spin = (g.attribute("spin:w", "FLOAT"), *g.xyz(g.attribute("spin:xyz", "FLOAT_VECTOR")))
    turned = [g.add(part, g.mul(rate, d)) for part, rate in zip(turn, spin, strict=True)]
    length = g.math("SQRT", g.add(*[g.mul(part, part) for part in turned]))
    rotation = g("FunctionNodeQuaternionToRotation", [g.div(part, length) for part in turned])

    # each of these changes one attribute that the others do not read
    geometry = moving.fade(g, geometry, moving.decay(g, moving.bell(g, d)))
    geometry = g.store(geometry, "rotation", "QUATERNION", rotation)
    g.output("Geometry", "Geometry", moving.shift(g, geometry, path))
    arrange(g.tree)
    g.tree.is_modifier = True
