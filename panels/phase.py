# SPDX-License-Identifier: GPL-3.0-or-later
"""The panel 'Phase': edit body parts of the active armature, or learn them first."""

from __future__ import annotations

import bpy

from ..operators.texts import paragraph
from ..scene import phases
from .sidebar import Tab


class VIVANT_PT_phase(Tab, bpy.types.Panel):
    bl_label = "Phase"
    bl_options = {"DEFAULT_CLOSED"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return context.active_object is not None and context.active_object.type == "ARMATURE"

    def draw(self, context: bpy.types.Context) -> None:
        found, why_not = phases.parts_of(context.active_object)
        if found:
            paragraph(
                self.layout,
                context,
                "Let one part swing wider, faster, earlier or in another style, in a take. Its bones get a key on every frame.",
            )
            column = self.layout.column(align=True)
            for part in found:
                column.operator("vivant.phase_choose", text=f"{part.title()}…").part = part
        else:
            paragraph(self.layout, context, why_not, icon="INFO")
            paragraph(self.layout, context, "Or let Vivant learn the cycles of this very rig from its actions.")
        self.layout.operator("vivant.phase_train", icon="PLAY" if not found else "FILE_REFRESH")


CLASSES = (VIVANT_PT_phase,)
