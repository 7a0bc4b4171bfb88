# SPDX-License-Identifier: GPL-3.0-or-later
"""A short way to write node trees: every call makes one node and gives its output socket."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import bpy

STAMP = "vivant_version"

Socket = bpy.types.NodeSocket
Value = Any  # a socket to link, or a default value


def ensure(name: str, version: int, kind: str, build: Callable[[Nodes], None]) -> bpy.types.NodeTree:
    """The file's node tree of this name and version; built when the file has none.

    A tree of another version, or one that a user changed the name of, is left alone.
    """
    for tree in bpy.data.node_groups:
        if tree.get(STAMP) == version and tree.name.split(".")[0] == name and tree.library is None:
            return tree
    tree = bpy.data.node_groups.new(name, kind)
    tree[STAMP] = version
    build(Nodes(tree))
    return tree


class Nodes:
    """Writes into one node tree."""

    def __init__(self, tree: bpy.types.NodeTree) -> None:
        self.tree = tree

    def input(self, name: str, kind: str, default: Value = None, **settings: Any) -> Socket:
        """Declare an input of the group (kind: 'Float', 'Geometry', …) and give its socket inside."""
        socket = self.tree.interface.new_socket(name, in_out="INPUT", socket_type=f"NodeSocket{kind}")
        if default is not None:
            socket.default_value = default
        for key, value in settings.items():
            setattr(socket, key, value)
        found = next((node for node in self.tree.nodes if node.bl_idname == "NodeGroupInput"), None)
        return (found or self.tree.nodes.new("NodeGroupInput")).outputs[name]

    def output(self, name: str, kind: str, value: Socket) -> None:
        """Declare an output of the group and link it."""
        self.tree.interface.new_socket(name, in_out="OUTPUT", socket_type=f"NodeSocket{kind}")
        found = next((node for node in self.tree.nodes if node.bl_idname == "NodeGroupOutput"), None)
        self.tree.links.new(value, (found or self.tree.nodes.new("NodeGroupOutput")).inputs[name])

    def node(self, kind: str, inputs: Sequence[Value] | Mapping[str, Value] = (), **properties: Any) -> bpy.types.Node:
        """A node; its properties are set before its inputs, whose sockets may depend on them."""
        node = self.tree.nodes.new(kind)
        for key, value in properties.items():
            setattr(node, key, value)
        for key, value in inputs.items() if isinstance(inputs, Mapping) else enumerate(inputs):
            if isinstance(value, Socket):
                self.tree.links.new(value, node.inputs[key])
            elif value is not None:
                node.inputs[key].default_value = value
        return node

    def __call__(self, kind: str, inputs: Sequence[Value] | Mapping[str, Value] = (), **properties: Any) -> Socket:
        """A node's first output."""
        return self.node(kind, inputs, **properties).outputs[0]

    def group(self, tree: bpy.types.NodeTree, inputs: Sequence[Value] | Mapping[str, Value] = ()) -> bpy.types.Node:
        """An instance of another group."""
        kind = {"GeometryNodeTree": "GeometryNodeGroup", "ShaderNodeTree": "ShaderNodeGroup"}[tree.bl_idname]
        return self.node(kind, inputs, node_tree=tree)

    # ---- arithmetic

    def math(self, operation: str, *operands: Value) -> Socket:
        return self("ShaderNodeMath", operands, operation=operation)

    def add(self, first: Value, *rest: Value) -> Socket:
        for value in rest:
            first = self.math("ADD", first, value)
        return first

    def sub(self, a: Value, b: Value) -> Socket:
        return self.math("SUBTRACT", a, b)

    def mul(self, first: Value, *rest: Value) -> Socket:
        for value in rest:
            first = self.math("MULTIPLY", first, value)
        return first

    def div(self, a: Value, b: Value) -> Socket:
        return self.math("DIVIDE", a, b)

    def clamp(self, value: Value, low: Value, high: Value) -> Socket:
        return self.math("MAXIMUM", self.math("MINIMUM", value, high), low)

    def vector(self, operation: str, *operands: Value) -> Socket:
        return self("ShaderNodeVectorMath", operands, operation=operation)

    def scale(self, vector: Value, factor: Value) -> Socket:
        return self("ShaderNodeVectorMath", {"Vector": vector, "Scale": factor}, operation="SCALE")

    def dot(self, a: Value, b: Value) -> Socket:
        return self.node("ShaderNodeVectorMath", (a, b), operation="DOT_PRODUCT").outputs["Value"]

    def xyz(self, vector: Value) -> tuple[Socket, Socket, Socket]:
        x, y, z = self.node("ShaderNodeSeparateXYZ", (vector,)).outputs
        return x, y, z

    def combine(self, x: Value, y: Value, z: Value) -> Socket:
        return self("ShaderNodeCombineXYZ", (x, y, z))

    def switch(self, kind: str, condition: Value, false: Value, true: Value) -> Socket:
        return self("GeometryNodeSwitch", {"Switch": condition, "False": false, "True": true}, input_type=kind)

    # ---- geometry

    def attribute(self, name: str, kind: str) -> Socket:
        return self("GeometryNodeInputNamedAttribute", {"Name": name}, data_type=kind)

    def store(self, geometry: Socket, name: str, kind: str, value: Value) -> Socket:
        inputs = {"Geometry": geometry, "Name": name, "Value": value}
        return self("GeometryNodeStoreNamedAttribute", inputs, data_type=kind, domain="POINT")

    def capture(self, geometry: Socket, **values: tuple[str, Socket]) -> tuple[Socket, dict[str, Socket]]:
        """Evaluate fields on the points as they are now: name -> (item type, field).

        Gives the geometry and the captured values by name, which later changes leave alone.
        """
        node = self.node("GeometryNodeCaptureAttribute", {"Geometry": geometry}, domain="POINT")
        for name, (kind, value) in values.items():
            node.capture_items.new(kind, name)
            self.tree.links.new(value, node.inputs[name])
        return node.outputs["Geometry"], {name: node.outputs[name] for name in values}

    def forget_attributes(self, geometry: Socket) -> Socket:
        """Remove every named attribute that can be removed."""
        node = self.node("GeometryNodeRemoveAttribute", {"Geometry": geometry, "Name": "*"})
        node.warning_propagation = "NONE"  # it would warn that the position stays
        if "Pattern Mode" in node.inputs:  # a socket from 5.0 on
            node.inputs["Pattern Mode"].default_value = "Wildcard"
        else:
            node.pattern_mode = "WILDCARD"
        return node.outputs[0]

    def delete(self, geometry: Socket, selection: Socket) -> Socket:
        return self("GeometryNodeDeleteGeometry", {"Geometry": geometry, "Selection": selection}, domain="POINT")


def arrange(tree: bpy.types.NodeTree) -> None:
    """Put the nodes into columns by their distance from the output, so that a person can read the tree."""
    column = dict.fromkeys((node.name for node in tree.nodes), 0)
    for _ in range(len(tree.nodes)):
        moved = False
        for link in tree.links:
            need = column[link.to_node.name] + 1
            if column[link.from_node.name] < need:
                column[link.from_node.name] = need
                moved = True
        if not moved:
            break
    rows: dict[int, int] = {}
    for node in tree.nodes:
        place = column[node.name]
        rows[place] = rows.get(place, -1) + 1
        node.location = (-220 * place, -190 * rows[place])
        node.hide = node.bl_idname.startswith("ShaderNodeMath") or node.bl_idname.startswith("ShaderNodeVectorMath")
