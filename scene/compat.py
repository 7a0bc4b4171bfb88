# SPDX-License-Identifier: GPL-3.0-or-later
"""What differs between Blender 4.5, 5.0, 5.1 and 5.2 and later: the one module that asks."""

from typing import Any

import bpy

# Blender 5.2 knows four floats as FLOAT4; before, FLOAT_COLOR holds the same sixteen bytes.
FOUR_FLOATS = "FLOAT4" if bpy.app.version >= (5, 2, 0) else "FLOAT_COLOR"

CAN_RESIZE = "resize" in bpy.types.PointCloud.bl_rna.functions
"""Whether points can be added to a point cloud (5.1 and later)."""

EEVEE = "BLENDER_EEVEE" if bpy.app.version >= (5, 0, 0) else "BLENDER_EEVEE_NEXT"


def new_points(name: str, count: int) -> bpy.types.PointCloud:
    """A point cloud datablock of `count` points with no attribute but `position`.

    Before 5.1 Python cannot size a point cloud: a mesh of as many vertices is converted by a node
    tree, and the result copied into an ordinary datablock.
    """
    cloud = bpy.data.pointclouds.new(name)
    if hasattr(cloud, "resize"):
        cloud.resize(count)
        return cloud
    if count == 0:
        return cloud
    tree = bpy.data.node_groups.new(name, "GeometryNodeTree")
    tree.interface.new_socket("Geometry", in_out="OUTPUT", socket_type="NodeSocketGeometry")
    points = tree.nodes.new("GeometryNodePoints")
    points.inputs["Count"].default_value = count
    tree.links.new(points.outputs[0], tree.nodes.new("NodeGroupOutput").inputs[0])
    maker = bpy.data.objects.new(name, cloud)
    scene = bpy.context.scene
    scene.collection.objects.link(maker)
    maker.modifiers.new(name, "NODES").node_group = tree
    made = maker.evaluated_get(bpy.context.evaluated_depsgraph_get()).data.copy()
    bpy.data.objects.remove(maker)
    bpy.data.pointclouds.remove(cloud)
    bpy.data.node_groups.remove(tree)
    made.name = name
    return made


def _identifier(modifier: bpy.types.NodesModifier, name: str) -> str:
    for item in modifier.node_group.interface.items_tree:
        if item.item_type == "SOCKET" and item.in_out == "INPUT" and item.name == name:
            return item.identifier
    raise KeyError(f"{modifier.node_group.name} has no input {name!r}")


def has_modifier_input(modifier: bpy.types.NodesModifier, name: str) -> bool:
    """Whether a nodes modifier has an input of that name; groups of older versions lack some."""
    items = modifier.node_group.interface.items_tree
    return any(item.item_type == "SOCKET" and item.in_out == "INPUT" and item.name == name for item in items)


def get_modifier_input(modifier: bpy.types.NodesModifier, name: str) -> Any:
    """Value of a nodes modifier's input, by the input's name."""
    identifier = _identifier(modifier, name)
    if hasattr(modifier, "properties"):
        return getattr(modifier.properties.inputs, identifier).value
    return modifier[identifier]


def set_modifier_input(modifier: bpy.types.NodesModifier, name: str, value: Any) -> None:
    """Set a nodes modifier's input, by the input's name, and let the object be evaluated anew."""
    identifier = _identifier(modifier, name)
    if hasattr(modifier, "properties"):
        getattr(modifier.properties.inputs, identifier).value = value
    else:
        modifier[identifier] = value
    modifier.id_data.update_tag()


def modifier_input_path(modifier: bpy.types.NodesModifier, name: str) -> str:
    """Data path, from the object, of a nodes modifier's input: what its keys and drivers go by."""
    identifier = _identifier(modifier, name)
    if hasattr(modifier, "properties"):
        return f"{modifier.path_from_id()}.properties.inputs.{identifier}.value"
    return f'{modifier.path_from_id()}["{identifier}"]'


def draw_modifier_input(layout: bpy.types.UILayout, modifier: bpy.types.NodesModifier, name: str) -> None:
    """Put a nodes modifier's input into a panel."""
    identifier = _identifier(modifier, name)
    if hasattr(modifier, "properties"):
        layout.prop(getattr(modifier.properties.inputs, identifier), "value", text=name)
    else:
        layout.prop(modifier, f'["{identifier}"]', text=name)


def node_tree(owner: bpy.types.Material | bpy.types.World) -> bpy.types.NodeTree:
    """The node tree of a material or world, which before 5.0 is born without one."""
    if owner.node_tree is None:
        owner.use_nodes = True
    return owner.node_tree


def picture_format(settings: bpy.types.ImageFormatSettings, layers: bool) -> None:
    """Write pictures as 8-bit RGBA PNG, or with all layers as one part of a 32-bit EXR."""
    if hasattr(settings, "media_type"):
        settings.media_type = "MULTI_LAYER_IMAGE" if layers else "IMAGE"
    settings.file_format = "OPEN_EXR_MULTILAYER" if layers else "PNG"
    if not layers:
        settings.color_mode, settings.color_depth, settings.compression = "RGBA", "8", 15
        return
    settings.color_depth, settings.exr_codec = "32", "ZIP"
    if hasattr(settings, "use_exr_interleave"):
        settings.use_exr_interleave = True
