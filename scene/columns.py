# SPDX-License-Identifier: GPL-3.0-or-later
"""Attributes of point clouds of any type, copied and joined bit for bit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import bpy
import numpy as np
from numpy.typing import NDArray

from ..backends.common.errors import VivantError

# attribute type -> (property that foreach_get reads, NumPy type, numbers an element)
_LAYOUT: dict[str, tuple[str, type, int]] = {
    "FLOAT": ("value", np.float32, 1),
    "INT": ("value", np.int32, 1),
    "INT8": ("value", np.int32, 1),
    "BOOLEAN": ("value", np.bool_, 1),
    "FLOAT2": ("vector", np.float32, 2),
    "INT32_2D": ("value", np.int32, 2),
    "INT16_2D": ("value", np.int32, 2),
    "FLOAT_VECTOR": ("vector", np.float32, 3),
    "QUATERNION": ("value", np.float32, 4),
    "FLOAT_COLOR": ("color", np.float32, 4),
    "BYTE_COLOR": ("color_srgb", np.float32, 4),
    "FLOAT4": ("vector", np.float32, 4),
    "FLOAT4X4": ("value", np.float32, 16),
}


# bytes an element in Blender's memory and files, where they are not four a number
_PACKED = {"INT8": 1, "BOOLEAN": 1, "BYTE_COLOR": 4, "INT16_2D": 4}


def bytes_of(points: bpy.types.PointCloud) -> int:
    """Bytes of all attributes of a point cloud, which are not read."""
    kinds = [attribute.data_type for attribute in points.attributes]
    return len(points.points) * sum(_PACKED.get(kind) or 4 * (_LAYOUT[kind][2] if kind in _LAYOUT else 1) for kind in kinds)


def read(attribute: bpy.types.Attribute) -> NDArray[Any]:
    """Values (N,) or (N, numbers an element).  Raises VivantError for a type that cannot be carried."""
    if attribute.data_type not in _LAYOUT:
        raise VivantError(f"The attribute '{attribute.name}' cannot be carried along.", "Remove it, or store it as numbers.")
    name, kind, width = _LAYOUT[attribute.data_type]
    values = np.empty(len(attribute.data) * width, kind)
    attribute.data.foreach_get(name, values)
    return values if width == 1 else values.reshape(-1, width)


def write(points: bpy.types.PointCloud, name: str, data_type: str, values: NDArray[Any]) -> None:
    """Create or overwrite a point attribute of a type."""
    attribute = points.attributes.get(name) or points.attributes.new(name, data_type, "POINT")
    key, kind, _ = _LAYOUT[data_type]
    if len(values):
        attribute.data.foreach_set(key, np.ascontiguousarray(values, kind).reshape(-1))


def copy(source: bpy.types.PointCloud, target: bpy.types.PointCloud, mask: NDArray[np.bool_]) -> None:
    """Every attribute of the source for the points of the mask, in order, into a target of as many points."""
    for attribute in source.attributes:
        write(target, attribute.name, attribute.data_type, read(attribute)[mask])


def append(target: bpy.types.PointCloud, parts: Sequence[bpy.types.PointCloud]) -> None:
    """Attributes of point clouds that make up the target, one after the other, where the target has none of that name.

    Points of parts without the attribute (or with one of another type) have zeros.
    """
    known = set(target.attributes.keys())
    for name, data_type in {each.name: each.data_type for part in reversed(parts) for each in part.attributes}.items():
        if name in known:
            continue
        width = _LAYOUT[data_type][2] if data_type in _LAYOUT else 1
        values = []
        for part in parts:
            attribute = part.attributes.get(name)
            if attribute is not None and attribute.data_type == data_type:
                values.append(read(attribute))
            else:
                values.append(np.zeros((len(part.points), width)[: 1 + (width > 1)]))
        write(target, name, data_type, np.concatenate(values))
