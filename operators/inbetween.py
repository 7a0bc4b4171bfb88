# SPDX-License-Identifier: GPL-3.0-or-later
"""Fill gaps between key poses in a take."""

from __future__ import annotations

import bpy

from ..backends.common.errors import VivantError
from ..scene import judged, rigs
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
    output: bpy.props.EnumProperty(
        name="Output",
        items=[
            ("BAKED", "Every Frame", "A key on every frame"),
            ("SPARSE", "Few Keys", "As few keys as stay within half a degree and 2 mm, to edit by hand"),
        ],
    )
    another: bpy.props.BoolProperty(
        name="As Another Take", description="Keep the take that is shown and make one more", options={"SKIP_SAVE"}
    )

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        layout.use_property_split = True
        layout.prop(self, "scope")
        if self.scope == "RANGE":
            layout.prop(self, "frame_start")
            layout.prop(self, "frame_end")
        layout.prop(self, "solver")
        layout.prop(self, "output")
        layout.prop(self, "another")

    def execute(self, context: bpy.types.Context) -> set[str]:
        for name in ("frame_start", "frame_end"):
            if not self.properties.is_property_set(name):
                setattr(self, name, getattr(context.scene, name))
        armature = context.active_object
        try:
            report = inbetween_object(
                armature,
                rigs.selected_bones(armature),
                self.scope,
                (self.frame_start, self.frame_end),
                self.solver,
                output=self.output,
                another=self.another,
            )
        except VivantError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        for warning in report.warnings:
            self.report({"WARNING"}, warning)
        judged.judge(armature)
        first, last = report.frames
        bones = f"{len(report.bones)} bones" if len(report.bones) > 1 else f"'{report.bones[0]}'"
        self.report({"INFO"}, f"Filled frames {first} to {last} of {bones}; accept or reject the take")
        return {"FINISHED"}


CLASSES = (VIVANT_OT_motion_inbetween,)
