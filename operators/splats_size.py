# SPDX-License-Identifier: GPL-3.0-or-later
"""Splats that cost less."""

from __future__ import annotations

import bpy

from ..backends.common.errors import VivantError
from ..scene import columns, pointclouds, sizes
from .texts import megabytes


def _editable(cls: type[bpy.types.Operator], context: bpy.types.Context) -> bool:
    """Whether splats are active, and not in Edit Mode."""
    if not pointclouds.is_splats(context.active_object):
        cls.poll_message_set("Select splats")
        return False
    if context.active_object.mode != "OBJECT":
        cls.poll_message_set("Leave Edit Mode first")
        return False
    return True


class VIVANT_OT_splats_limit_degree(bpy.types.Operator):
    """Remove what colours do with the direction above a degree, to save memory: most of what large captures hold"""

    bl_idname = "vivant.splats_limit_degree"
    bl_label = "Limit SH Degree"
    bl_options = {"REGISTER", "UNDO"}

    degree: bpy.props.IntProperty(  # type: ignore[valid-type]
        name="SH Degree", default=1, min=0, max=3, description="The highest that stays; 0: the same colour from everywhere"
    )

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if not _editable(cls, context):
            return False
        if not sizes.degree_of(context.active_object):
            cls.poll_message_set("These splats have the same colour from everywhere")
            return False
        return True

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        self.degree = min(self.degree, sizes.degree_of(context.active_object) - 1)
        return context.window_manager.invoke_props_dialog(self, confirm_text="Remove")

    def execute(self, context: bpy.types.Context) -> set[str]:
        splats = context.active_object
        before = sizes.degree_of(splats)
        try:
            freed = sizes.limit_degree(splats, self.degree)
        except VivantError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        now = columns.bytes_of(splats.data)
        left = f"{megabytes(now + freed)} became {megabytes(now)}"
        self.report({"INFO"}, f"{splats.name}: SH degree {before} became {self.degree}, {left}.")
        return {"FINISHED"}


class VIVANT_OT_splats_renew(bpy.types.Operator):
    """Give these splats, which an older Vivant imported, the drawing of this one: its modifier gets new inputs"""

    bl_idname = "vivant.splats_renew"
    bl_label = "Update Drawing"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return _editable(cls, context) and pointclouds.is_drawn_by_old(context.active_object)

    def execute(self, context: bpy.types.Context) -> set[str]:
        pointclouds.renew_drawer(context.active_object)
        return {"FINISHED"}


CLASSES = (VIVANT_OT_splats_limit_degree, VIVANT_OT_splats_renew)
