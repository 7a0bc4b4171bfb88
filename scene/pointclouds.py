# SPDX-License-Identifier: GPL-3.0-or-later
"""SplatCloud <-> POINTCLOUD object, with the attribute names of Blender 5.3's native splats."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import bpy
import numpy as np
from mathutils import Matrix
from numpy.typing import NDArray

from ..backends.common.errors import VivantError
from ..backends.gaussian import axes
from ..backends.gaussian.cloud import Source, SplatCloud
from ..backends.gaussian.motion import FAMILIES
from ..backends.gaussian.motion.family import Family
from ..backends.gaussian.motion.frames import Frames
from ..backends.gaussian.motion.stg_full import Decoder, StgFull
from ..backends.gaussian.motion.timing import INPUTS, Timing
from ..backends.gaussian.playback import columns_of, padded
from ..backends.gaussian.sh import COEFFICIENTS
from . import clips, compat, materials
from .nodes import frames as frames_nodes
from .nodes import linear, ndgs, stg
from .nodes import splats as splat_nodes
from .nodes.build import STAMP

Floats = NDArray[np.float32]

BASE = "radiance:base"
HIGHER = "radiance:sh_"
KEY = "vivant"
FRAMES = Frames.name
"""The family of what no node group moves: its frames come from outside, see `scene.playback`."""
FAMILY_TREES: dict[str, Callable[[Any], bpy.types.NodeTree]] = {
    "STG": lambda family: stg.tree(),
    "STG full": lambda family: stg.tree_full(family.decoder),
    "Linear": lambda family: linear.tree(),
    "4DGS": lambda family: linear.tree_4d(family.waves.shape[1]),
    "NDGS": lambda family: ndgs.tree(),
}

# attribute type -> (name of the property that foreach_set writes, floats an element)
_LAYOUT = {
    "FLOAT": ("value", 1),
    "FLOAT_VECTOR": ("vector", 3),
    "QUATERNION": ("value", 4),
    "FLOAT_COLOR": ("color", 4),
    "FLOAT4": ("vector", 4),
}


def write_attribute(points: bpy.types.PointCloud, name: str, values: Floats, kind: str | None = None) -> None:
    """Create or overwrite a point attribute from float32 (N,), (N, 3) or (N, 4) values."""
    width = 1 if values.ndim == 1 else values.shape[1]
    kind = kind or {1: "FLOAT", 3: "FLOAT_VECTOR", 4: compat.FOUR_FLOATS}[width]
    attribute = points.attributes.get(name)
    if attribute is not None and attribute.data_type != kind:
        points.attributes.remove(attribute)
        attribute = None
    if attribute is None:
        attribute = points.attributes.new(name, kind, "POINT")
    if len(values):
        attribute.data.foreach_set(_LAYOUT[kind][0], np.ascontiguousarray(values, np.float32).reshape(-1))


def read_attribute(points: bpy.types.PointCloud, name: str) -> Floats | None:
    """Float values (N,), (N, 3) or (N, 4) of a point attribute; None where there is none."""
    attribute = points.attributes.get(name)
    if attribute is None or attribute.data_type not in _LAYOUT:
        return None
    key, width = _LAYOUT[attribute.data_type]
    values = np.empty(len(attribute.data) * width, np.float32)
    attribute.data.foreach_get(key, values)
    return values if width == 1 else values.reshape(-1, width)


def write(cloud: SplatCloud, name: str) -> bpy.types.PointCloud:
    """A new POINTCLOUD datablock that holds a cloud and its family."""
    points = compat.new_points(name, len(cloud))
    fill(points, cloud)
    if hasattr(points, "type"):
        points.type = "GAUSSIAN_SPLAT"
    return points


def fill(points: bpy.types.PointCloud, cloud: SplatCloud) -> None:
    """Write a cloud and its family into a datablock of as many points; its other attributes stay."""
    write_attribute(points, "position", cloud.means, "FLOAT_VECTOR")
    write_attribute(points, "scale", cloud.scales, "FLOAT_VECTOR")
    write_attribute(points, "rotation", cloud.quats, "QUATERNION")
    write_attribute(points, BASE, np.column_stack([cloud.sh[:, 0], cloud.opacities]))
    _write_higher(points, cloud.sh)
    for column, values in cloud.extras.items():
        write_attribute(points, column, values, "FLOAT")
    if cloud.family is not None:
        for column, values in cloud.family.attributes().items():
            write_attribute(points, column, values)


def _write_higher(points: bpy.types.PointCloud, sh: Floats) -> None:
    """Coefficients 1 and up, one attribute each; those of a cloud from a file lie ready, coefficient by coefficient."""
    for index, values in enumerate(sh.transpose(1, 0, 2)[1:]):
        write_attribute(points, f"{HIGHER}{index}", values, "FLOAT_VECTOR")


def read(points: bpy.types.PointCloud, facts: Mapping[str, Any] | None = None) -> SplatCloud:
    """The cloud that a datablock (also an evaluated one) holds.

    facts: what `to_object` noted on the object; without them the cloud is still.  Raises VivantError
    for a point cloud without splat attributes.
    """
    facts = facts or {}
    position, scale, rotation, base = (read_attribute(points, name) for name in ("position", "scale", "rotation", BASE))
    if position is None or scale is None or rotation is None or base is None:
        raise VivantError(f"The point cloud '{points.name}' holds no splats.", "Select an object that Vivant imported.")
    higher = [read_attribute(points, f"{HIGHER}{index}") for index in range(_higher_count(points))]
    family = None
    if (name := facts.get("family")) and name != FRAMES:
        first, last = facts.get("time_range", (0.0, 1.0))
        family = FAMILIES[name].from_attributes(_Columns(points), (float(first), float(last)))
        if isinstance(family, StgFull) and facts.get("decoder"):
            family = dataclasses.replace(family, decoder=Decoder.of(facts["decoder"]))
    return SplatCloud(
        means=position,
        quats=rotation,
        scales=scale,
        opacities=base[:, 3],
        sh=np.stack([base[:, :3], *higher], axis=1),
        family=family,
        extras={column: _need(points, column) for column in facts.get("extras", ())},
        source=Source(
            format=facts.get("format", ""),
            path=facts.get("path", ""),
            axes=facts.get("axes", "RDF"),
            antialiased=bool(facts.get("antialiased", False)),
            details={"colour_space": "linear"} if facts.get("colour_space") == "linear" else {},
        ),
    )


class _Columns(Mapping[str, Floats]):
    """A point cloud's attributes by name, read when they are asked for; a lost one is an error for the user."""

    def __init__(self, points: bpy.types.PointCloud) -> None:
        self.points = points

    def __getitem__(self, name: str) -> Floats:
        return _need(self.points, name)

    def __contains__(self, name: object) -> bool:
        return name in self.points.attributes

    def __iter__(self) -> Iterator[str]:
        return iter(self.points.attributes.keys())

    def __len__(self) -> int:
        return len(self.points.attributes)


def _need(points: bpy.types.PointCloud, name: str) -> Floats:
    values = read_attribute(points, name)
    if values is None:
        raise VivantError(f"The point cloud '{points.name}' lost its attribute '{name}'.", "Undo, or import the file again.")
    return values


def _higher_count(points: bpy.types.PointCloud) -> int:
    """Number of coefficients above degree 0 that make full degrees."""
    found = 0
    while f"{HIGHER}{found}" in points.attributes:
        found += 1
    return max(count - 1 for count in COEFFICIENTS if count - 1 <= found)


def to_object(cloud: SplatCloud, name: str, start_frame: float = 1.0, frames: float = 0.0) -> bpy.types.Object:
    """A new object, in no collection yet, that draws a cloud and plays it.

    Its matrix puts the capture upright; a moving cloud's clip begins at start_frame and lasts so many frames (0: a sequence's
    own, else 50).
    """
    moves = cloud.family
    cloud = shown_first(cloud)
    made = bpy.data.objects.new(name, write(cloud, name))
    made.matrix_world = Matrix(axes.to_blender(cloud.source.axes).tolist()).to_4x4()
    made[KEY] = {
        "format": cloud.source.format,
        "path": cloud.source.path,
        "axes": cloud.source.axes,
        "antialiased": cloud.source.antialiased,
        "colour_space": "linear" if cloud.source.linear else "",
        "family": cloud.family.name if cloud.family else FRAMES if moves else "",
        "moves_by": moves.name if moves else "",
        "time_range": list(moves.time_range) if moves else [],
        "decoder": decoder_numbers(cloud),
        "extras": list(cloud.extras),
        "repairs": dict(cloud.source.repairs),
        "warnings": list(cloud.source.warnings),
        "overrides": cloud.source.details.get("overrides", {}),
    }
    if moves is not None:
        mover = made.modifiers.new(f"Vivant Family {cloud.family.name if cloud.family else FRAMES}", "NODES")
        mover.node_group = FAMILY_TREES[moves.name](moves) if cloud.family else frames_nodes.tree()
        first, last = moves.time_range
        frames = frames or (len(moves.times) - 1 if isinstance(moves, Frames) else 0) or 50.0
        times = {"Start Frame": start_frame, "Frames": frames, "First Time": first, "Last Time": last}
        for title, value in times.items():
            compat.set_modifier_input(mover, title, float(value))
    drawer = made.modifiers.new(splat_nodes.NAME, "NODES")
    drawer.node_group = splat_nodes.tree(materials.splats())
    compat.set_modifier_input(drawer, "SH Degree", cloud.degree)
    compat.set_modifier_input(drawer, "Antialiased", cloud.source.antialiased)
    compat.set_modifier_input(drawer, "Linear Colours", cloud.source.linear)
    compat.set_modifier_input(drawer, "Moving", moves is not None)
    if hasattr(made.data, "type"):  # Blender 5.3 draws splats itself
        drawer.show_viewport = drawer.show_render = False
    return made


def shown_first(cloud: SplatCloud) -> SplatCloud:
    """What a new datablock holds of a cloud: of one that no node group moves its first frame, until others are set."""
    moves = cloud.family
    if moves is None or moves.name in FAMILY_TREES:
        return cloud
    return _with_room(cloud.at(moves.time_range[0]).replace(source=cloud.source), moves)


def decoder_numbers(cloud: SplatCloud) -> list[float]:
    """The numbers of the network that makes a cloud's colours, none for other clouds."""
    return cloud.family.decoder.numbers if isinstance(cloud.family, StgFull) and cloud.family.decoder else []


def _with_room(cloud: SplatCloud, family: Family) -> SplatCloud:
    """A cloud with as many splats as the largest frame of its sequence, where points cannot be added to a datablock later."""
    if not isinstance(family, Frames) or family.linked or compat.CAN_RESIZE:
        return cloud
    count = max(len(family.at(cloud, float(time))) for time in family.times)
    columns = padded(columns_of(cloud), count)
    return cloud.replace(**{**columns, "sh": columns["sh"].reshape(count, -1, 3)}, extras={})


def add(context: bpy.types.Context, cloud: SplatCloud, start_frame: float = 1.0, frames: float = 0.0) -> bpy.types.Object:
    """Put a cloud into the active collection as a new, selected, active object named after its file."""
    name = pathlib.Path(cloud.source.path).name.split(".")[0] or "Splats"
    made = to_object(cloud, name, start_frame, frames)
    context.collection.objects.link(made)
    made.select_set(True)
    context.view_layer.objects.active = made
    return made


def facts_of(splats: bpy.types.Object) -> dict[str, Any]:
    """What `to_object` noted on an object; empty for other objects."""
    noted = splats.get(KEY)
    return noted.to_dict() if hasattr(noted, "to_dict") else {}


def is_linear(splats: bpy.types.Object) -> bool:
    """Whether an object's colours are linear light, not display values."""
    noted = splats.get(KEY)
    return bool(noted) and noted.get("colour_space") == "linear"


def is_splats(candidate: bpy.types.Object | None) -> bool:
    """Whether an object is a point cloud that holds splats."""
    return candidate is not None and candidate.type == "POINTCLOUD" and BASE in candidate.data.attributes


def cloud_of(splats: bpy.types.Object) -> SplatCloud:
    """The cloud of an object, with its family, in the capture's own axes; without one where its frames are not baked.
    Of a streamed one it is the whole cloud, from its file.

    Raises VivantError for other objects.
    """
    if not is_splats(splats):
        raise VivantError(f"'{splats.name}' holds no splats.", "Select an object that Vivant imported.")
    facts = facts_of(splats)
    if clips.is_streamed(facts):
        return clips.read(facts)
    cloud = read(splats.data, facts)
    return dataclasses.replace(cloud, family=clips.family_of(facts, cloud)) if facts.get("family") == FRAMES else cloud


def drawer_of(splats: bpy.types.Object) -> bpy.types.NodesModifier | None:
    """The modifier that draws an object's splats."""
    return _modifier(splats, splat_nodes.NAME)


def is_drawn_by_old(splats: bpy.types.Object) -> bool:
    """Whether an object of this file is drawn by the node group of an older Vivant."""
    drawer = drawer_of(splats)
    return drawer is not None and not splats.library and drawer.node_group.get(STAMP) != splat_nodes.VERSION


def renew_drawer(splats: bpy.types.Object) -> None:
    """Let this Vivant's node group draw an object's splats, with the inputs that the old one had."""
    drawer = drawer_of(splats)
    assert drawer is not None
    items = drawer.node_group.interface.items_tree
    names = [item.name for item in items if item.item_type == "SOCKET" and item.in_out == "INPUT" and item.name != "Geometry"]
    values = {name: compat.get_modifier_input(drawer, name) for name in names}
    drawer.node_group = splat_nodes.tree(materials.splats())
    values |= {"Moving": mover_of(splats) is not None, "Linear Colours": is_linear(splats)}
    for name, value in values.items():
        if compat.has_modifier_input(drawer, name):
            compat.set_modifier_input(drawer, name, value)


def mover_of(splats: bpy.types.Object) -> bpy.types.NodesModifier | None:
    """The modifier that moves an object's splats."""
    return _modifier(splats, "Vivant Family ")


def _modifier(splats: bpy.types.Object, prefix: str) -> bpy.types.NodesModifier | None:
    for modifier in splats.modifiers:
        if modifier.type == "NODES" and modifier.node_group and modifier.node_group.name.startswith(prefix):
            return modifier
    return None


def timing_of(mover: bpy.types.NodesModifier) -> Timing:
    """The inputs that say how a clip runs, of a mover or of its evaluated copy."""
    return Timing(**{field: compat.get_modifier_input(mover, title) for field, title in INPUTS.items()})


def time_at(splats: bpy.types.Object, frame: float) -> float:
    """Time in the family's unit at a frame (with its fraction) of the scene; of an evaluated object by its keyed inputs."""
    mover = mover_of(splats)
    if mover is None:
        return 0.0
    first, last = facts_of(splats).get("time_range", (0.0, 1.0))
    return first + timing_of(mover).share(frame) * (last - first)


def cloud_at(splats: bpy.types.Object, scene: bpy.types.Scene) -> SplatCloud:
    """The still cloud of an object at the scene's current frame, seen from its camera, in the object's own space."""
    time = time_at(splats, scene.frame_current_final)
    eye = scene.camera and splats.matrix_world.inverted() @ scene.camera.matrix_world.translation
    facts = facts_of(splats)
    if clips.is_streamed(facts):  # what is there shows all that can be seen now
        return read(splats.data, {**facts, "family": facts["moves_by"]}).at(time, eye)
    return cloud_of(splats).at(time, eye)
