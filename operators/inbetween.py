# SPDX-License-Identifier: GPL-3.0-or-later
"""Fill gaps between key poses in a take."""

from __future__ import annotations

import bpy

from ..scene import rigs
from ..scene.inbetween import SPLINE, Wish
from .filling import OUTPUTS, FillsGaps, solver_items


class VIVANT_OT_motion_inbetween(FillsGaps, bpy.types.Operator):
    """Fill the gaps between the keys of the selected bones (all if none is selected) in a take; your action stays as it is"""

    bl_idname = "vivant.motion_inbetween"
    bl_label = "In-Between"

    scope: bpy.props.EnumProperty(
        name="Scope",
        items=[
            ("GAP", "Gap at Playhead", "Each channel between its own keys before and after the current frame"),
            ("RANGE", "Frame Range", "Every gap whose keys lie in a range of frames"),
        ],
    )
    frame_start: bpy.props.IntProperty(name="Start", description="First frame of the range", options={"SKIP_SAVE"})
    frame_end: bpy.props.IntProperty(name="End", description="Last frame of the range", options={"SKIP_SAVE"})
    solver: bpy.props.EnumProperty(name="Solver", items=solver_items(), default=SPLINE)
    seed: bpy.props.IntProperty(
        name="Seed", description="Another number gives another motion, where the solver chooses among several", min=0
    )
    output: bpy.props.EnumProperty(name="Output", items=OUTPUTS)
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
        layout.prop(self, "seed")
        layout.prop(self, "output")
        layout.prop(self, "another")

    def wish(self, context: bpy.types.Context) -> Wish:
        for name in ("frame_start", "frame_end"):
            if not self.properties.is_property_set(name):
                setattr(self, name, getattr(context.scene, name))
        return Wish(
            rigs.selected_bones(context.active_object),
            self.scope,
            (self.frame_start, self.frame_end),
            context.scene.frame_current_final,
            self.solver,
            self.seed,
            self.output,
            self.another,
        )


CLASSES = (VIVANT_OT_motion_inbetween,)
