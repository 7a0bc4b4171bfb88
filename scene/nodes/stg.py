# SPDX-License-Identifier: GPL-3.0-or-later
"""Node group 'Vivant Family STG': moves a cloud by the scene's time, as `motion.stg.Stg.at` does."""

import bpy

from .build import Nodes, arrange, ensure

NAME = "Vivant Family STG"
VERSION = 1


def tree() -> bpy.types.NodeTree:
    """Inputs: Start Frame and Frames, the clip's place on the timeline.  Sub-frames included."""
    return ensure(NAME, VERSION, "GeometryNodeTree", _build)


def _build(g: Nodes) -> None:
    geometry = g.input("Geometry", "Geometry")
    start = g.input("Start Frame", "Float", 1.0, description="Frame at which the clip begins")
    frames = g.input("Frames", "Float", 50.0, min_value=1e-3, description="Length of the clip on the timeline")
    frame = g.node("GeometryNodeInputSceneTime").outputs["Frame"]
    time = g.clamp(g.div(g.sub(frame, start), frames), 0.0, 1.0)

    d = g.sub(time, g.attribute("time:center", "FLOAT"))
    path = g.scale(g.attribute("velocity:3", "FLOAT_VECTOR"), d)
    for order in (2, 1):
        path = g.scale(g.vector("ADD", path, g.attribute(f"velocity:{order}", "FLOAT_VECTOR")), d)

    turn = g.node("FunctionNodeRotationToQuaternion", (g.attribute("rotation", "QUATERNION"),)).outputs
    spin = (g.attribute("spin:w", "FLOAT"), *g.xyz(g.attribute("spin:xyz", "FLOAT_VECTOR")))
    turned = [g.add(part, g.mul(rate, d)) for part, rate in zip(turn, spin, strict=True)]
    length = g.math("SQRT", g.add(*[g.mul(part, part) for part in turned]))
    rotation = g("FunctionNodeQuaternionToRotation", [g.div(part, length) for part in turned])

    ratio = g.div(d, g.attribute("time:width", "FLOAT"))
    fade = g.math("EXPONENT", g.mul(ratio, ratio, -1.0))
    base = g.node("FunctionNodeSeparateColor", (g.attribute("radiance:base", "FLOAT_COLOR"),)).outputs
    faded = g("FunctionNodeCombineColor", (base[0], base[1], base[2], g.mul(base[3], fade)))

    # all fields are read from the points as they were: each store below changes one of them
    geometry, now = g.capture(geometry, path=("VECTOR", path), rotation=("ROTATION", rotation), faded=("RGBA", faded))
    geometry = g("GeometryNodeSetPosition", {"Geometry": geometry, "Offset": now["path"]})
    geometry = g.store(geometry, "rotation", "QUATERNION", now["rotation"])
    geometry = g.store(geometry, "radiance:base", "FLOAT_COLOR", now["faded"])
    g.output("Geometry", "Geometry", geometry)
    arrange(g.tree)
    g.tree.is_modifier = True
