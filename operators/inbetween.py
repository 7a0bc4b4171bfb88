# SPDX-License-Identifier: GPL-3.0-or-later
"""Fill gaps between key poses, and accept or reject the take that holds the result."""

from __future__ import annotations

from collections.abc import Callable

import bpy

from ..backends.common.errors import VivantError
from ..scene import rigs, takes
from ..scene.inbetween import inbetween_object


class VIVANT_OT_motion_inbetween(bpy.types.Operator):
    """Fill the gaps between the keys of the selected bones (all if none is selected) in a take; your action stays as it is"""

    bl_idname = "vivant.motion_inbetween"
    bl_label = "In-Between"
    bl_options = {"REGISTER", "UNDO"}

    scope: bpy.props.EnumProperty(
        name="Scope",
        items=[
            ("GAP", "Gap at Playhead", "Each channel between its own keys before and after the current frame"),
            ("RANGE", "Frame Range", "Every gap whose keys lie in a range of frames"),
        ],
    )
    frame_start: bpy.props.IntProperty(name="Start", description="First frame of the range", options={"SKIP_SAVE"})
    frame_end: bpy.props.IntProperty(name="End", description="Last frame of the range", options={"SKIP_SAVE"})
    solver: bpy.props.EnumProperty(
        name="Solver", items=[("spline", "Spline", "Cubic that meets the keys and the velocity of the motion around them")]
    )

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        layout.use_property_split = True
        layout.prop(self, "scope")
        if self.scope == "RANGE":
            layout.prop(self, "frame_start")
            layout.prop(self, "frame_end")
        layout.prop(self, "solver")

    def execute(self, context: bpy.types.Context) -> set[str]:
        for name in ("frame_start", "frame_end"):
            if not self.properties.is_property_set(name):
                setattr(self, name, getattr(context.scene, name))
        armature = context.active_object
        try:
            chosen = rigs.selected_bones(armature)
            report = inbetween_object(armature, chosen, self.scope, (self.frame_start, self.frame_end), self.solver)
        except VivantError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        for warning in report.warnings:
            self.report({"WARNING"}, warning)
        first, last = report.frames
        bones = f"{len(report.bones)} bones" if len(report.bones) > 1 else f"'{report.bones[0]}'"
        self.report({"INFO"}, f"Filled frames {first} to {last} of {bones}; accept or reject the take")
        return {"FINISHED"}


class SettlesTake:
    """Mixin of the operators that end a take."""

    bl_options = {"REGISTER", "UNDO"}
    settle: Callable[[bpy.types.Object], bpy.types.Action]
    said: str

    def execute(self, context: bpy.types.Context) -> set[str]:
        try:
            action = type(self).settle(context.active_object)
        except VivantError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        self.report({"INFO"}, self.said.format(action.name))
        return {"FINISHED"}


class VIVANT_OT_take_accept(SettlesTake, bpy.types.Operator):
    """Merge the generated keys into your action"""

    bl_idname = "vivant.take_accept"
    bl_label = "Accept Take"
    settle = staticmethod(takes.accept)
    said = "The take is now part of '{}'"


class VIVANT_OT_take_reject(SettlesTake, bpy.types.Operator):
    """Remove the take and go back to your action"""

    bl_idname = "vivant.take_reject"
    bl_label = "Reject Take"
    settle = staticmethod(takes.reject)
    said = "Back to '{}'"


CLASSES = (VIVANT_OT_motion_inbetween, VIVANT_OT_take_accept, VIVANT_OT_take_reject)
