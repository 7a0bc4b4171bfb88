# SPDX-License-Identifier: GPL-3.0-or-later
"""Vivant's entries in Blender's own menus."""

import bpy

from ..scene import takes


def _import(self: bpy.types.Menu, context: bpy.types.Context) -> None:
    self.layout.operator("vivant.splats_import", text="Gaussian Splats (.ply/.splat/.spz/.splatv)")


def _inbetween(self: bpy.types.Menu, context: bpy.types.Context) -> None:
    """Where an armature is active: the gaps, and what to do with its take while it shows one."""
    armature = context.active_object
    if armature is None or armature.type != "ARMATURE":
        return
    layout = self.layout
    layout.separator()
    layout.operator("vivant.motion_inbetween", text="Fill Gap (Vivant)").scope = "GAP"
    layout.operator("vivant.motion_inbetween", text="Fill Every Gap (Vivant)").scope = "RANGE"
    layout.operator_menu_enum("vivant.shots_inbetween", "which", text="Fill Many (Vivant)")
    if takes.original_of(armature):
        layout.operator_menu_enum("vivant.take_accept", "into")
        layout.operator("vivant.take_reject")


ENTRIES = (
    ("TOPBAR_MT_file_import", _import),
    ("VIEW3D_MT_pose_slide", _inbetween),  # Pose ▸ In-Betweens
    ("DOPESHEET_MT_key", _inbetween),
    ("GRAPH_MT_key", _inbetween),
)


def register() -> None:
    """Append the entries."""
    for menu, entry in ENTRIES:
        getattr(bpy.types, menu).append(entry)


def unregister() -> None:
    """Remove them."""
    for menu, entry in reversed(ENTRIES):
        getattr(bpy.types, menu).remove(entry)


CLASSES = ()
