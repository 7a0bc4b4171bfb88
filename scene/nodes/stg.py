# SPDX-License-Identifier: GPL-3.0-or-later
"""Node groups 'Vivant Family STG' and 'Vivant Family STG full': move a cloud by the scene's time, as `motion.stg.Stg.at` does.

The full model's group holds the weights of its network, which decodes each splat for its own ray, as
`motion.stg_full.StgFull.at` does; without a network, colours stay those of the base features.
"""

import functools
import zlib

import bpy
import numpy as np

from ...backends.gaussian.motion.stg_full import Decoder
from ...backends.gaussian.sh import C0
from . import moving
from .build import Nodes, Socket, arrange, ensure

NAME = "Vivant Family STG"
VERSION = 3


def tree() -> bpy.types.NodeTree:
    """Inputs: those of `moving.time`."""
    return ensure(NAME, VERSION, "GeometryNodeTree", _build)


def tree_full(decoder: Decoder | None) -> bpy.types.NodeTree:
    """The same for the full model, one group a network."""
    if decoder is None:
        return tree()
    version = zlib.crc32(np.array([VERSION, *decoder.numbers])) >> 1  # a property of Blender's holds 31 bits
    return ensure("Vivant Family STG full", version, "GeometryNodeTree", functools.partial(_build, decoder=decoder))


def _build(g: Nodes, decoder: Decoder | None = None) -> None:
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
    colour = _decoded(g, d, path, decoder) if decoder else None
    geometry = moving.fade(g, geometry, moving.decay(g, moving.bell(g, d)), colour)
    geometry = g.store(geometry, "rotation", "QUATERNION", rotation)
    g.output("Geometry", "Geometry", moving.shift(g, geometry, path))
    arrange(g.tree)
    g.tree.is_modifier = True


def _decoded(g: Nodes, d: Socket, path: Socket, decoder: Decoder) -> Socket:
    """Coefficients of degree 0 of the colours that the network makes."""
    eye = moving.eye(g)
    towards = g.vector("NORMALIZE", g.vector("SUBTRACT", g.vector("ADD", g("GeometryNodeInputPosition"), path), eye))
    specular = g.attribute("feature:specular", "FLOAT_VECTOR")
    inputs = (specular, g.scale(g.attribute("feature:temporal", "FLOAT_VECTOR"), d), eye, towards)
    rgb = g.vector("MULTIPLY_ADD", g.attribute("radiance:base", "FLOAT_VECTOR"), (C0,) * 3, (0.5,) * 3)
    added: Socket | tuple[float, float, float] = (0.0, 0.0, 0.0)
    for row, column in zip(decoder.hidden.reshape(6, 4, 3), decoder.output.T, strict=True):
        weights = (*row[:2], *(row[2:] @ decoder.turn))
        total = g.add(*(g.dot(value, tuple(weight)) for value, weight in zip(inputs, weights, strict=True)))
        active = g.math("MAXIMUM", total, 0.0)
        added = g.vector("MULTIPLY_ADD", g.combine(active, active, active), tuple(column), added)
    if decoder.sigmoid:  # sigmoid(logit(base) + added), channel by channel
        channels = []
        for base, more in zip(g.xyz(rgb), g.xyz(added), strict=True):
            held = g.clamp(base, 1e-6, 1 - 1e-6)
            channels.append(g.div(held, g.math("MULTIPLY_ADD", g.sub(1.0, held), moving.decay(g, more), held)))
        rgb = g.combine(*channels)
    else:
        rgb = g.vector("MINIMUM", g.vector("MAXIMUM", g.vector("ADD", rgb, added), (0.0,) * 3), (1.0,) * 3)
    return g.vector("MULTIPLY_ADD", rgb, (1 / C0,) * 3, (-0.5 / C0,) * 3)
