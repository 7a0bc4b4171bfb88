# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of the tab that makes pictures of splats, and says which way is for what."""

import bpy

from ..operators.texts import paragraph
from ..scene import colour, plates, pointclouds, together
from .sidebar import Tab


class VIVANT_PT_splats_render(Tab, bpy.types.Panel):
    bl_label = "Render"
    bl_parent_id = "VIVANT_PT_splats"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return pointclouds.is_splats(context.active_object)

    def draw(self, context: bpy.types.Context) -> None:
        layout, scene = self.layout, context.scene
        if scene.camera is None:
            paragraph(layout, context, "Add a camera: every picture is seen through it.", icon="ERROR")
            layout.operator("vivant.cameras_import", text="Import Cameras…", icon="OUTLINER_DATA_CAMERA")
        paragraph(layout, context, "F12 draws the splats among meshes and lights, by EEVEE or Cycles.", icon="RENDER_STILL")
        if context.engine == "CYCLES" and (layers := scene.cycles.transparent_max_bounces) < colour.LAYERS:
            paragraph(layout, context, f"Cycles sees through {layers} splats on a ray; what is behind is black.", icon="ERROR")
            layout.prop(scene.cycles, "transparent_max_bounces", text="Splats on a Ray")
        layout.operator("vivant.display_setup", icon="COLOR")
        self._sorting(context)
        layout.separator()
        paragraph(
            layout, context, "A plate is an exact picture of the splats alone, to lay over a render.", icon="NODE_COMPOSITING"
        )
        layout.prop(scene.vivant, "plates_behind")
        row = layout.row()
        row.scale_y = 1.2
        row.operator("vivant.splats_render", icon="IMAGE_DATA").hide_behind = scene.vivant.plates_behind
        column = layout.column(align=True)
        column.prop(scene.vivant, "plates", text="")
        text = f"Render Plates {scene.frame_start} to {scene.frame_end}"
        many = column.operator("vivant.splats_render", text=text, icon="RENDER_ANIMATION")
        many.animation, many.hide_behind = True, scene.vivant.plates_behind

    def _sorting(self, context: bpy.types.Context) -> None:
        """Only where there is something to sort."""
        layout, drawer = self.layout, together.drawer(context.scene)
        shown = len(plates.splats_of(context.view_layer))
        if drawer is None and shown < 2:
            return
        if drawer is None:
            paragraph(layout, context, f"EEVEE draws the {shown} objects one after the other. Where they overlap:", icon="INFO")
            layout.operator("vivant.splats_together", icon="SORTSIZE")
            return
        collection = together.drawn_by(drawer)
        joined = len(collection.objects) if collection else 0
        left = f" of {shown}" if joined < shown else ""
        paragraph(layout, context, f"EEVEE sorts the splats of {joined}{left} objects together.", icon="CHECKMARK")
        row = layout.row(align=True)
        if left:
            row.operator("vivant.splats_together", text="Sort All Together", icon="SORTSIZE")
        row.operator("vivant.splats_together", text="Separate", icon="X").separate = True


CLASSES = (VIVANT_PT_splats_render,)
