# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of the tab that says where a cloud's splats are kept, and what to do when they are not there."""

import bpy

from ..operators.texts import megabytes, paragraph
from ..scene import columns, outside, pointclouds
from .sidebar import Tab


class VIVANT_PT_splats_outside(Tab, bpy.types.Panel):
    bl_label = "Storage"
    bl_parent_id = "VIVANT_PT_splats"
    bl_options = {"DEFAULT_CLOSED"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return pointclouds.is_splats(context.active_object)

    def draw(self, context: bpy.types.Context) -> None:
        splats, layout = context.active_object, self.layout
        size = megabytes(columns.bytes_of(splats.data))
        if not outside.is_kept(splats):
            paragraph(layout, context, f"{size} in the .blend, before compression.", icon="FILE_BLEND")
            layout.operator("vivant.splats_keep_outside", icon="UNLINKED")
            layout.operator("vivant.splats_save_outside", text="Save Outside…", icon="EXPORT")
            return
        name = outside.place_of(splats).name
        missing = outside.is_missing(splats)
        if missing:
            paragraph(layout, context, outside.reason(splats), icon="ERROR")
        elif outside.is_edited(splats):
            paragraph(layout, context, f"Edited since '{name}' was read, so they are saved in the .blend.", icon="INFO")
            layout.operator("vivant.splats_save_outside", text="Save Outside…", icon="EXPORT")
        else:
            paragraph(layout, context, f"{size} stay in '{name}' and are read when this .blend is opened.", icon="FILE_FOLDER")
        layout.operator("vivant.splats_find", text="Find File…", icon="FILEBROWSER")
        text = "Read Again" if missing else "Take New Version"
        newer = layout.operator("vivant.splats_find", text=text, icon="FILE_REFRESH")
        newer.filepath, newer.browse = str(outside.place_of(splats)), False
        row = layout.row()
        row.enabled = not missing
        row.operator("vivant.splats_bring_in", icon="PACKAGE")


CLASSES = (VIVANT_PT_splats_outside,)
