# SPDX-License-Identifier: GPL-3.0-or-later
"""Fill the gaps of many armatures at once."""

from __future__ import annotations

import bpy

from ..backends.common.errors import Cancelled, VivantError
from ..scene import shots
from ..scene.inbetween import SPLINE
from .filling import OUTPUTS, Filling, FillsGaps, solver_items


class VIVANT_OT_shots_inbetween(FillsGaps, bpy.types.Operator):
    """Fill every gap of several armatures in the frames of their scenes, each in a take of its own"""

    bl_idname = "vivant.shots_inbetween"
    bl_label = "In-Between Many"

    which: bpy.props.EnumProperty(
        name="Armatures",
        items=[
            ("SELECTED", "All Selected", "The selected armatures"),
            ("SCENE", "In This Scene", "Every armature of this scene that has an action"),
            ("FILE", "All Shots", "Every armature of every scene that has an action"),
        ],
    )
    solver: bpy.props.EnumProperty(name="Solver", items=solver_items(), default=SPLINE)
    output: bpy.props.EnumProperty(name="Output", items=OUTPUTS)
    another: bpy.props.BoolProperty(
        name="As Other Takes", description="Keep the takes that are shown and make one more of each", options={"SKIP_SAVE"}
    )

    def submit(self, context: bpy.types.Context) -> Filling[list[shots.Outcome]]:
        others = [scene for scene in bpy.data.scenes if scene != context.scene] if self.which == "FILE" else []
        chosen = shots.shots_of([context.scene, *others])
        if self.which == "SELECTED":
            selected = context.view_layer.objects.selected
            chosen = [shots.Shot(thing, context.scene) for thing in selected if thing.type == "ARMATURE"]
        if not chosen:
            raise VivantError("There is no armature to fill.", "Select the rigs, or key poses first.")
        self._count, self._outcomes = len(chosen), []
        return Filling(shots.inbetweening_shots(chosen, self._outcomes, self.solver, output=self.output, another=self.another))

    def finish(self, context: bpy.types.Context, job: Filling[list[shots.Outcome]]) -> None:
        filled, stopped = [outcome for outcome in self._outcomes if outcome.report], ""
        try:
            job.result()
        except Cancelled:  # what is done stays, as a step to undo
            if not filled:
                raise
            stopped = "; stopped before the others"
        failed = [f"'{one.name}' ({one.reason.rstrip('.')})" for one in self._outcomes if not one.report]
        summary = f"Filled {len(filled)} of {self._count} armatures{stopped}"
        if not filled:
            raise VivantError(f"{summary}{': ' if failed else ''}{', '.join(failed)}.", "")
        if failed:
            self.report({"WARNING"}, f"{summary}; not {', '.join(failed)}")
        else:
            self.report({"INFO"}, f"{summary}; accept or reject their takes")


CLASSES = (VIVANT_OT_shots_inbetween,)
