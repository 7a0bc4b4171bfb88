# SPDX-License-Identifier: GPL-3.0-or-later
"""Node group 'Vivant Splats': draws a cloud as true projected Gaussians for the scene's camera.

Every splat becomes a quad parallel to the image plane, the exact EWA projection of its Gaussian
(Zwicker et al. 2001, as in 3DGS: J W S S^T W^T J^T + 0.3 px), and the quads are sorted far first:
EEVEE keeps the face order of one blended mesh, and Cycles sorts by itself.  The corner attribute
`splat_uv` is measured in standard deviations, so that the material needs five nodes.

In the viewport the group gives points instead (moved by the family before it), which the viewport's
own drawing reads; switch on 'Quads in Viewport' to see the render's quads there.  Below a Density of 1 fewer splats
stand for all of them in both (`density`).
"""

import bpy

from ...backends.gaussian.render.constants import ALPHA_MIN, FRUSTUM_MARGIN, LOW_PASS
from . import colour, density, screen
from .build import Nodes, Socket, arrange, ensure

NAME = "Vivant Splats"
VERSION = 2

_DENSITY = "Share of the splats that is drawn, denser and larger to look like all of them"
_MOVING = "The splats fade in and out: their size alone says which stay at a lower density, so that they are always the same"
_LINEAR_LIGHT = "Emit scene-linear light (view transform Standard); off: display values as trained (view transform Raw)"
_LINEAR_COLOURS = "The file holds colours as linear light, not as display values"


def tree(material: bpy.types.Material) -> bpy.types.NodeTree:
    """Input: points with `scale`, `rotation`, `radiance:*`.  Output: sorted, camera-facing quads."""
    made = ensure(NAME, VERSION, "GeometryNodeTree", _build)
    socket = next(item for item in made.interface.items_tree if item.name == "Material")
    if socket.default_value is None:
        socket.default_value = material
    return made


def _build(g: Nodes) -> None:
    geometry = g.input("Geometry", "Geometry")
    material = g.input("Material", "Material")
    share = g.input("Density", "Float", 1.0, min_value=0.01, max_value=1.0, subtype="FACTOR", description=_DENSITY)
    degree = g.input("SH Degree", "Int", 3, min_value=0, max_value=4, description="View-dependent colour, up to this degree")
    linear = g.input("Linear Light", "Bool", True, description=_LINEAR_LIGHT)
    smooth = g.input("Antialiased", "Bool", False, description="Trained with Mip-Splatting's low-pass compensation")
    in_light = g.input("Linear Colours", "Bool", False, description=_LINEAR_COLOURS)
    in_viewport = g.input("Quads in Viewport", "Bool", False, description="Show the render's quads; slow over 100,000 splats")
    moves = g.input("Moving", "Bool", False, description=_MOVING)

    thinned = g.group(density.tree(), {"Geometry": geometry, "Density": share, "Moving": moves}).outputs[0]
    geometry = g.switch("GEOMETRY", g.math("LESS_THAN", share, 1.0), geometry, thinned)
    position, to_camera, to_object = g("GeometryNodeInputPosition"), *_camera_frames(g)
    eye = g("FunctionNodeTransformPoint", ((0.0, 0.0, 0.0), to_object))
    towards = g.vector("NORMALIZE", g.vector("SUBTRACT", position, eye))
    rgb = g.group(colour.tree(), {"Direction": towards, "Degree": degree}).outputs[0]
    shown = g.switch("VECTOR", in_light, rgb, _linear_to_srgb(g, rgb))
    rgb = g.switch("VECTOR", linear, shown, g.switch("VECTOR", in_light, _srgb_to_linear(g, rgb), rgb))
    opacity = g.node("FunctionNodeSeparateColor", (g.attribute("radiance:base", "FLOAT_COLOR"),)).outputs[3]

    quads = _quads(g, geometry, material, position, to_camera, to_object, rgb, opacity, smooth)
    points = _points(g, geometry, material, rgb, opacity)
    only_points = g("FunctionNodeBooleanMath", (g("GeometryNodeIsViewport"), in_viewport), operation="NIMPLY")
    g.output("Geometry", "Geometry", g.switch("GEOMETRY", only_points, quads, points))
    arrange(g.tree)
    g.tree.is_modifier = True


def _camera_frames(g: Nodes) -> tuple[Socket, Socket]:
    """Matrices object -> camera and camera -> object; the camera looks along -Z, Y up."""
    camera = g("GeometryNodeInputActiveCamera")
    info = g.node("GeometryNodeObjectInfo", {"Object": camera}, transform_space="RELATIVE")
    to_object = info.outputs["Transform"]
    return g("FunctionNodeInvertMatrix", (to_object,)), to_object


def _srgb_to_linear(g: Nodes, rgb: Socket) -> Socket:
    """IEC 61966-2-1 on each channel; colours may exceed 1."""
    channels = []
    for value in g.xyz(rgb):
        curve = g.math("POWER", g.div(g.add(g.math("MAXIMUM", value, 0.0), 0.055), 1.055), 2.4)
        channels.append(g.switch("FLOAT", g.math("LESS_THAN", value, 0.04045), curve, g.div(value, 12.92)))
    return g.combine(*channels)


def _linear_to_srgb(g: Nodes, rgb: Socket) -> Socket:
    """The inverse, of channels that are not negative."""
    channels = []
    for value in g.xyz(rgb):
        curve = g.sub(g.mul(g.math("POWER", value, 1 / 2.4), 1.055), 0.055)
        channels.append(g.switch("FLOAT", g.math("LESS_THAN", value, 0.0031308), curve, g.mul(value, 12.92)))
    return g.combine(*channels)


def _points(g: Nodes, geometry: Socket, material: Socket, rgb: Socket, opacity: Socket) -> Socket:
    """The viewport's points: small spheres in the splats' colours."""
    x, y, z = g.xyz(g.attribute("scale", "FLOAT_VECTOR"))
    radius = g.mul(g.math("POWER", g.mul(x, y, z), 1.0 / 3.0), 0.5)
    geometry = g("GeometryNodeSetPointRadius", {"Points": geometry, "Radius": radius})
    geometry = g.store(geometry, "splat_rgb", "FLOAT_VECTOR", rgb)
    geometry = g.store(geometry, "splat_opacity", "FLOAT", opacity)
    return g("GeometryNodeSetMaterial", {"Geometry": geometry, "Material": material})


def _quads(
    g: Nodes,
    geometry: Socket,
    material: Socket,
    position: Socket,
    to_camera: Socket,
    to_object: Socket,
    rgb: Socket,
    opacity: Socket,
    smooth: Socket,
) -> Socket:
    info = g.node("GeometryNodeCameraInfo", (g("GeometryNodeInputActiveCamera"),)).outputs
    lens = g.node("FunctionNodeSeparateMatrix", (info["Projection Matrix"],)).outputs
    zoom_x, zoom_y, shift_x, shift_y = lens[0], lens[5], lens[8], lens[9]  # column-major
    ortho = info["Is Orthographic"]
    width, height = g.group(screen.tree()).outputs
    focal_x, focal_y = g.mul(zoom_x, width, 0.5), g.mul(zoom_y, height, 0.5)

    # camera space, x right, y down, z forward
    x, up, back = g.xyz(g("FunctionNodeTransformPoint", (position, to_camera)))
    y, z = g.mul(up, -1.0), g.mul(back, -1.0)
    # what lies behind the near plane goes before anything divides by z
    geometry = g.delete(geometry, g.math("LESS_THAN", z, info["Clip Start"]))

    depth = g.switch("FLOAT", ortho, z, 1.0)
    inverse = g.div(1.0, depth)
    slope_x, slope_y = g.mul(x, inverse), g.mul(y, inverse)
    # the Jacobian's slopes are held within the picture and 30 % of its half size beyond, as 3DGS does
    held_x = g.clamp(slope_x, g.div(g.sub(shift_x, FRUSTUM_MARGIN), zoom_x), g.div(g.add(shift_x, FRUSTUM_MARGIN), zoom_x))
    held_y = g.clamp(
        slope_y,
        g.div(g.sub(g.mul(shift_y, -1.0), FRUSTUM_MARGIN), zoom_y),
        g.div(g.sub(FRUSTUM_MARGIN, shift_y), zoom_y),
    )
    tilt = g.switch("FLOAT", ortho, 1.0, 0.0)  # a parallel projection does not depend on depth
    held_x, held_y = g.mul(held_x, tilt), g.mul(held_y, tilt)
    pixel_x, pixel_y = g.mul(focal_x, inverse), g.mul(focal_y, inverse)

    # columns of rotation * scale, through camera and Jacobian one by one: covariance = sum of their squares
    rotation = g.attribute("rotation", "QUATERNION")
    sizes = g.xyz(g.attribute("scale", "FLOAT_VECTOR"))
    columns = []
    for axis in range(3):
        unit: list[float | Socket] = [0.0, 0.0, 0.0]
        unit[axis] = sizes[axis]
        spread = g("FunctionNodeRotateVector", (g.combine(*unit), rotation))
        dx, d_up, d_back = g.xyz(g("FunctionNodeTransformDirection", (spread, to_camera)))
        dy, dz = g.mul(d_up, -1.0), g.mul(d_back, -1.0)
        columns.append((g.mul(pixel_x, g.sub(dx, g.mul(held_x, dz))), g.mul(pixel_y, g.sub(dy, g.mul(held_y, dz)))))
    raw_a = g.add(*[g.mul(u, u) for u, _ in columns])
    raw_c = g.add(*[g.mul(v, v) for _, v in columns])
    b = g.add(*[g.mul(u, v) for u, v in columns])
    a, c = g.add(raw_a, LOW_PASS), g.add(raw_c, LOW_PASS)
    bb = g.mul(b, b)
    shrink = g.math("SQRT", g.math("MAXIMUM", g.div(g.sub(g.mul(raw_a, raw_c), bb), g.sub(g.mul(a, c), bb)), 0.0))
    opacity = g.mul(opacity, g.switch("FLOAT", smooth, 1.0, shrink))

    # eigenvalues, and the angle of the first eigenvector
    middle, half = g.mul(g.add(a, c), 0.5), g.mul(g.sub(a, c), 0.5)
    root = g.math("SQRT", g.add(g.mul(half, half), bb))
    sigma_1 = g.math("SQRT", g.add(middle, root))
    sigma_2 = g.math("SQRT", g.math("MAXIMUM", g.sub(middle, root), LOW_PASS))
    angle = g.mul(g.math("ARCTAN2", b, half), 0.5)
    cos, sin = g.math("COSINE", angle), g.math("SINE", angle)
    # the quad ends where alpha falls to 1/255; two per cent more keeps that edge inside
    brightest = g.math("MAXIMUM", g.div(opacity, ALPHA_MIN), 1.0001)
    reach = g.mul(g.math("SQRT", g.mul(g.math("LOGARITHM", brightest, 2.718281828459045), 2.0)), 1.02)

    # outside the picture (and a margin for depth of field), or too faint to count
    half_x, half_y = g.mul(reach, g.math("SQRT", a)), g.mul(reach, g.math("SQRT", c))
    off_x = g.sub(g.math("ABSOLUTE", g.sub(g.mul(zoom_x, slope_x), g.mul(shift_x, 1.0))), FRUSTUM_MARGIN)
    off_y = g.sub(g.math("ABSOLUTE", g.add(g.mul(zoom_y, slope_y), g.mul(shift_y, 1.0))), FRUSTUM_MARGIN)
    unseen = g("FunctionNodeBooleanMath", (
        g.math("GREATER_THAN", g.mul(off_x, width, 0.5), half_x),
        g.math("GREATER_THAN", g.mul(off_y, height, 0.5), half_y),
    ), operation="OR")  # fmt: skip
    unseen = g("FunctionNodeBooleanMath", (unseen, g.math("LESS_THAN", opacity, ALPHA_MIN)), operation="OR")

    # half axes of the quad in camera space, back to y up, then to object space
    unit_x, unit_y = g.div(1.0, pixel_x), g.div(1.0, pixel_y)
    long, short = g.mul(reach, sigma_1), g.mul(reach, sigma_2)
    axis_1 = g.combine(g.mul(cos, long, unit_x), g.mul(sin, long, unit_y, -1.0), 0.0)
    axis_2 = g.combine(g.mul(sin, short, unit_x), g.mul(cos, short, unit_y), 0.0)
    axis_1 = g("FunctionNodeTransformDirection", (axis_1, to_object))
    axis_2 = g("FunctionNodeTransformDirection", (axis_2, to_object))

    geometry, kept = g.capture(
        g.delete(geometry, unseen),
        center=("VECTOR", position),
        axis_1=("VECTOR", axis_1),
        axis_2=("VECTOR", axis_2),
        reach=("FLOAT", reach),
        rgb=("VECTOR", rgb),
        opacity=("FLOAT", opacity),
        order=("FLOAT", g.mul(z, -1.0)),
    )
    # only what the quads need is sorted, and copied to four corners
    geometry = g.forget_attributes(geometry)
    # far first: the order of the points becomes the order of the faces
    geometry = g("GeometryNodeSortElements", {"Geometry": geometry, "Sort Weight": kept["order"]}, domain="POINT")

    quad = g("GeometryNodeMeshGrid", {"Size X": 2.0, "Size Y": 2.0, "Vertices X": 2, "Vertices Y": 2})
    quad, corner = g.capture(quad, corner=("VECTOR", g("GeometryNodeInputPosition")))
    geometry = g("GeometryNodeInstanceOnPoints", {"Points": geometry, "Instance": quad})
    geometry = g("GeometryNodeRealizeInstances", {"Geometry": geometry})
    u, v, _ = g.xyz(corner["corner"])
    offset = g.vector("ADD", g.scale(kept["axis_1"], u), g.scale(kept["axis_2"], v))
    geometry = g("GeometryNodeSetPosition", {"Geometry": geometry, "Position": g.vector("ADD", kept["center"], offset)})
    geometry = g.store(geometry, "splat_uv", "FLOAT_VECTOR", g.scale(corner["corner"], kept["reach"]))
    geometry = g.store(geometry, "splat_rgb", "FLOAT_VECTOR", kept["rgb"])
    geometry = g.store(geometry, "splat_opacity", "FLOAT", kept["opacity"])
    return g("GeometryNodeSetMaterial", {"Geometry": geometry, "Material": material})
