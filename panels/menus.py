# SPDX-License-Identifier: GPL-3.0-or-later
"""Vivant's entries in Blender's own menus."""

import bpy


def _import(self: bpy.types.Menu, context: bpy.types.Context) -> None:
    self.layout.operator("vivant.splats_import", text="Gaussian Splats (.ply/.splat/.spz/.splatv)")


def _pose(self: bpy.types.Menu, context: bpy.types.Context) -> None:
    self.layout.separator()
    self.layout.operator("vivant.motion_inbetween", text="Fill Gap (Vivant)")


def register() -> None:
    """Append the entries."""
    bpy.types.TOPBAR_MT_file_import.append(_import)
    bpy.types.VIEW3D_MT_pose.append(_pose)


def unregister() -> None:
    """Remove them."""
    bpy.types.VIEW3D_MT_pose.remove(_pose)
    bpy.types.TOPBAR_MT_file_import.remove(_import)


CLASSES = ()
