# SPDX-License-Identifier: GPL-3.0-or-later
"""Edits of splats in the tab 'Vivant'."""

from __future__ import annotations

import bpy

from ..scene import pointclouds
from .sidebar import Tab


class VIVANT_PT_splats_edit(Tab, bpy.types.Panel):
    bl_label = "Edit"
    bl_parent_id = "VIVANT_PT_splats"
    bl_options = {"DEFAULT_CLOSED"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return pointclouds.is_splats(context.active_object)

    def draw(self, context: bpy.types.Context) -> None:
        column = self.layout.column(align=True)
        column.operator("vivant.splats_apply", text="Apply Transform", icon="OBJECT_ORIGIN")
        column.operator("vivant.splats_mirror", text="Mirror", icon="MOD_MIRROR")
        column.operator("vivant.splats_merge", text="Merge Selected Objects", icon="AUTOMERGE_ON")
        column = self.layout.column(align=True)
        column.operator("vivant.splats_select", text="Select by Value", icon="RESTRICT_SELECT_OFF")
        column.operator("vivant.splats_clean", text="Clean Up", icon="BRUSH_DATA")
        column.operator("vivant.splats_crop", text="Crop by Object", icon="MOD_BOOLEAN")
        column.operator("vivant.splats_tint", text="Tint", icon="COLOR")
        column = self.layout.column(align=True)
        column.operator("vivant.splats_deform", text="Deform by Object", icon="MOD_LATTICE")
        column.operator_menu_enum("vivant.splats_proxy", "purpose", text="Add Proxy Mesh", icon="MESH_ICOSPHERE")


CLASSES = (VIVANT_PT_splats_edit,)
