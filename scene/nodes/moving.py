# SPDX-License-Identifier: GPL-3.0-or-later
"""What the node groups of motion families share: the time, the camera, and how splats fade."""

from .build import Nodes, Socket


def time(g: Nodes) -> Socket:
    """The family's time at the scene's frame, sub-frames included, as `motion.timing.Timing` has it.

    Declares the inputs of `timing.INPUTS`, and First Time and Last Time.
    """
    start = g.input("Start Frame", "Float", 1.0, description="Frame at which the clip begins")
    frames = g.input("Frames", "Float", 50.0, min_value=1e-3, description="Length of the clip on the timeline")
    told = (
        "Frames of the clip a frame, all the way. To change it on the way give 0 and key the Offset, whose slope is the speed"
    )
    speed = g.input("Speed", "Float", 1.0, description=told)
    offset = g.input("Offset", "Float", 0.0, description="Frames of the clip that have passed at its start")
    loop = g.input("Loop", "Bool", False, description="Start over at the end")
    back = g.input("Back and Forth", "Bool", False, description="Turn around at both ends")
    reverse = g.input("Reverse", "Bool", False, description="Play from the last frame to the first")
    first = g.input("First Time", "Float", 0.0, description="The capture's own time at the clip's beginning")
    last = g.input("Last Time", "Float", 1.0, description="The capture's own time at the clip's end")
    frame = g.node("GeometryNodeInputSceneTime").outputs["Frame"]
    share = g.div(g.math("MULTIPLY_ADD", g.sub(frame, start), speed, offset), frames)
    once = g.clamp(share, 0.0, 1.0)
    shown = g.switch("FLOAT", back, g.switch("FLOAT", loop, once, g.math("FRACT", share)), g.math("PINGPONG", share, 1.0))
    share = g.switch("FLOAT", reverse, shown, g.sub(1.0, shown))
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
