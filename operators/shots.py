# SPDX-License-Identifier: GPL-3.0-or-later
"""Fill the gaps of many armatures at once."""

from __future__ import annotations

import bpy

from ..scene import generated, shots


class VIVANT_OT_shots_inbetween(bpy.types.Operator):
    """Fill every gap of several armatures in the frames of their scenes, each in a take of its own"""

    bl_idname = "vivant.shots_inbetween"
    bl_label = "In-Between Many"
    bl_options = {"REGISTER", "UNDO"}

    which: bpy.props.EnumProperty(
        name="Armatures",
        items=[
            ("SELECTED", "All Selected", "The selected armatures"),
            ("SCENE", "In This Scene", "Every armature of this scene that has an action"),
            ("FILE", "All Shots", "Every armature of every scene that has an action"),
        ],
    )
    solver: bpy.props.EnumProperty(
        name="Solver", items=[("spline", "Spline", "Cubic that meets the keys and the velocity of the motion around them")]
    )
    output: bpy.props.EnumProperty(
        name="Output",
        items=[
            (generated.BAKED, "Every Frame", "A key on every frame"),
            (generated.SPARSE, "Few Keys", "As few keys as stay within half a degree and 2 mm, to edit by hand"),
        ],
    )
    another: bpy.props.BoolProperty(
        name="As Other Takes", description="Keep the takes that are shown and make one more of each", options={"SKIP_SAVE"}
    )

    def execute(self, context: bpy.types.Context) -> set[str]:
        others = [scene for scene in bpy.data.scenes if scene != context.scene] if self.which == "FILE" else []
        chosen = shots.shots_of([context.scene, *others])
        if self.which == "SELECTED":
            chosen = [
                shots.Shot(thing, context.scene) for thing in context.view_layer.objects.selected if thing.type == "ARMATURE"
            ]
        if not chosen:
            self.report({"ERROR"}, "There is no armature to fill. Select the rigs, or key poses first.")
            return {"CANCELLED"}
        done, failed = 0, []
        progress = context.window_manager
        progress.progress_begin(0, len(chosen))
        try:
            for outcome in shots.inbetween_shots(chosen, self.solver, output=self.output, another=self.another):
                if outcome.report is None:
                    failed.append(f"'{outcome.name}' ({outcome.reason.rstrip('.')})")
                else:
                    done += 1
                progress.progress_update(done + len(failed))
        finally:
            progress.progress_end()
        summary = f"Filled {done} of {len(chosen)} armatures"
        if failed:
            self.report({"WARNING"}, f"{summary}; not {', '.join(failed)}")
        else:
            self.report({"INFO"}, f"{summary}; accept or reject their takes")
        return {"FINISHED"} if done else {"CANCELLED"}


CLASSES = (VIVANT_OT_shots_inbetween,)
