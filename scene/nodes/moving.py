# SPDX-License-Identifier: GPL-3.0-or-later
"""What the node groups of motion families share: the time, the camera, and how splats fade."""

from .build import Nodes, Socket


def time(g: Nodes) -> Socket:
    """The family's time at the scene's frame, sub-frames included, held within the clip.

    Declares the inputs Start Frame and Frames, the clip's place on the timeline, and First Time and Last Time.
    """
    start = g.input("Start Frame", "Float", 1.0, description="Frame at which the clip begins")
    frames = g.input("Frames", "Float", 50.0, min_value=1e-3, description="Length of the clip on the timeline")
    first = g.input("First Time", "Float", 0.0, description="The capture's own time at the clip's beginning")
    last = g.input("Last Time", "Float", 1.0, description="The capture's own time at the clip's end")
    frame = g.node("GeometryNodeInputSceneTime").outputs["Frame"]
    share = g.clamp(g.div(g.sub(frame, start), frames), 0.0, 1.0)
    return g.math("MULTIPLY_ADD", share, g.sub(last, first), first)


def eye(g: Nodes) -> Socket:
    """The active camera's centre in the object's own space."""
    camera = g("GeometryNodeInputActiveCamera")
    return g.node("GeometryNodeObjectInfo", {"Object": camera}, transform_space="RELATIVE").outputs["Location"]


def bell(g: Nodes, d: Socket) -> Socket:
    """(d / width)^2, the exponent of a bell of opacity in time."""
    ratio = g.div(d, g.attribute("time:width", "FLOAT"))
    return g.mul(ratio, ratio)


def fade(g: Nodes, geometry: Socket, factor: Socket, colour: Socket | None = None) -> Socket:
    """Multiply the opacities; `colour`, a vector, replaces the coefficients of degree 0."""
    base = g.node("FunctionNodeSeparateColor", (g.attribute("radiance:base", "FLOAT_COLOR"),)).outputs
    rgb = g.xyz(colour) if colour else base[:3]
    faded = g("FunctionNodeCombineColor", (*rgb, g.mul(base[3], factor)))
    return g.store(geometry, "radiance:base", "FLOAT_COLOR", faded)


def decay(g: Nodes, exponent: Socket) -> Socket:
    """exp(-exponent)."""
    return g.math("EXPONENT", g.mul(exponent, -1.0))


def shift(g: Nodes, geometry: Socket, offset: Socket) -> Socket:
    """Move the points."""
    return g("GeometryNodeSetPosition", {"Geometry": geometry, "Offset": offset})
