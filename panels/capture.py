# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of the tab that captures the scene."""

import bpy

from ..backends.common.errors import VivantError
from ..operators import capture
from .sidebar import Tab, paragraph


class VIVANT_PT_capture(Tab, bpy.types.Panel):
    bl_label = "Capture Scene"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        layout, chosen = self.layout, context.scene.vivant_capture
        paragraph(layout, context, "Pictures of this scene from all around, to train splats on.", icon="CAMERA_DATA")
        layout.use_property_split = True
        layout.use_property_decorate = False
        column = layout.column()
        column.prop(chosen, "shell")
        if chosen.shell != "CAMERAS" or not chosen.every_frame:
            column.prop(chosen, "views")
        for name in ("held_out", "every_frame", "longest", "selected_only", "engine", "samples", "transform"):
            column.prop(chosen, name)
        layout.column().prop(chosen, "passes")
        column.prop(chosen, "directory")
        self._buttons(layout, context, chosen)

    def _buttons(self, layout: bpy.types.UILayout, context: bpy.types.Context, chosen: capture.VIVANT_PG_capture) -> None:
        try:
            wish = capture.wish_of(context, chosen)
        except VivantError as error:
            paragraph(layout, context, str(error), icon="ERROR")
            return
        if chosen.estimated == repr(wish):
            paragraph(layout, context, chosen.estimate, icon="TIME")
        column = layout.column(align=True)
        for name, icon in (("vivant.scene_capture_estimate", "TIME"), ("vivant.scene_capture", "RENDER_ANIMATION")):
            button = column.operator(name, icon=icon)
            for setting, value in capture.settings_of(chosen).items():
                setattr(button, setting, value)
        if chosen.shell == "CAMERAS":
            paragraph(layout, context, "Or take the footage that the cameras have behind them, in the folder above:")
            button = layout.operator("vivant.cameras_pose", icon="CAMERA_STEREO")
            button.directory, button.held_out = chosen.directory, chosen.held_out


CLASSES = (VIVANT_PT_capture,)
