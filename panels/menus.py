# SPDX-License-Identifier: GPL-3.0-or-later
"""Vivant's entries in Blender's own menus."""

import bpy

from ..scene import takes


def _import(self: bpy.types.Menu, context: bpy.types.Context) -> None:
    self.layout.operator("vivant.splats_import", text="Gaussian Splats (.ply/.spz/.sog/.glb/.usd)")


def _export(self: bpy.types.Menu, context: bpy.types.Context) -> None:
    self.layout.operator("vivant.splats_export", text="Gaussian Splats (.ply/.spz/.sog/.glb/.usd)")


def _import_cameras(self: bpy.types.Menu, context: bpy.types.Context) -> None:
    self.layout.operator("vivant.cameras_import", text="Cameras of a Capture (COLMAP/transforms/SuperSplat)")


def _export_cameras(self: bpy.types.Menu, context: bpy.types.Context) -> None:
    self.layout.operator("vivant.cameras_export", text="Cameras for Splats (COLMAP/transforms/SuperSplat)")


def fill(layout: bpy.types.UILayout, context: bpy.types.Context, scope: str, **look: str) -> None:
    """A button that fills gaps by the scene's solver."""
    settings = context.scene.vivant
    button = layout.operator("vivant.motion_inbetween", **look)
    button.scope, button.solver, button.output = scope, settings.solver, settings.output
    button.frame_start, button.frame_end = context.scene.frame_start, context.scene.frame_end


def fill_many(layout: bpy.types.UILayout, context: bpy.types.Context, which: str, **look: str) -> None:
    """A button that fills the gaps of many armatures by the scene's solver."""
    settings = context.scene.vivant
    button = layout.operator("vivant.shots_inbetween", **look)
    button.which, button.solver, button.output = which, settings.solver, settings.output


class VIVANT_MT_shots(bpy.types.Menu):
    """Fill the gaps of many armatures"""

    bl_label = "Fill Many (Vivant)"

    def draw(self, context: bpy.types.Context) -> None:
        for which, text in (("SELECTED", "All Selected"), ("SCENE", "In This Scene"), ("FILE", "All Shots")):
            fill_many(self.layout, context, which, text=text)


def _inbetween(self: bpy.types.Menu, context: bpy.types.Context) -> None:
    """Where an armature is active: the gaps, and what to do with its take while it shows one."""
    armature = context.active_object
    if armature is None or armature.type != "ARMATURE":
        return
    layout = self.layout
    layout.separator()
    fill(layout, context, "GAP", text="Fill Gap (Vivant)")
    fill(layout, context, "RANGE", text="Fill Every Gap (Vivant)")
    layout.menu("VIVANT_MT_shots")
    if takes.original_of(armature):
        layout.operator_menu_enum("vivant.take_accept", "into")
        layout.operator("vivant.take_reject")
    elif takes.has_generated(armature):
        layout.operator("vivant.generated_remove")


ENTRIES = (
    ("TOPBAR_MT_file_import", _import),
    ("TOPBAR_MT_file_import", _import_cameras),
    ("TOPBAR_MT_file_export", _export),
    ("TOPBAR_MT_file_export", _export_cameras),
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


CLASSES = (VIVANT_MT_shots,)
