# SPDX-License-Identifier: GPL-3.0-or-later
"""Edit a body part by its phase, and learn the phases of a rig's own motion."""

from __future__ import annotations

from pathlib import Path

import bpy

from ..backends.common.errors import VivantError
from ..backends.motion.phase import job as phase_job
from ..backends.motion.phase.edit import Edit
from ..engine.jobs import Job
from ..scene import phases
from .job import JobOperator, engine

_items: list[tuple[str, str, str]] = []  # Blender does not keep the texts of a list that is made anew


def _parts(self: bpy.types.Operator, context: bpy.types.Context) -> list[tuple[str, str, str]]:
    found = phases.parts_of(context.active_object) if context.active_object else []
    _items[:] = [(part, part.capitalize(), "") for part in found] or [("", "No Part", "")]
    return _items


def _is_rig(context: bpy.types.Context) -> bool:
    return context.active_object is not None and context.active_object.type == "ARMATURE"


class VIVANT_OT_motion_phase(bpy.types.Operator):
    """Make one part of the body move larger, faster, earlier or as in another action, in a copy of the action"""

    bl_idname = "vivant.motion_phase"
    bl_label = "Edit Part by Phase"
    bl_options = {"REGISTER", "UNDO"}

    part: bpy.props.EnumProperty(name="Part", items=_parts)
    amplitude: bpy.props.FloatProperty(
        name="Amplitude", description="How far the part swings, times what it did", default=1, min=0, soft_max=2
    )
    tempo: bpy.props.FloatProperty(
        name="Tempo", description="How fast the part swings, times what it did", default=1, min=0.1, soft_max=2, max=10
    )
    shift: bpy.props.FloatProperty(
        name="Shift", description="By how many of its cycles the part is ahead", soft_min=-0.5, soft_max=0.5
    )
    style: bpy.props.StringProperty(name="Style", description="An action of this rig that the part moves as in")

    poll = classmethod(lambda cls, context: _is_rig(context))

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        layout.use_property_split = True
        layout.prop(self, "part")
        for name in ("amplitude", "tempo", "shift"):
            layout.prop(self, name, slider=True)
        layout.prop_search(self, "style", bpy.data, "actions")

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        return context.window_manager.invoke_props_dialog(self)

    def execute(self, context: bpy.types.Context) -> set[str]:
        try:
            style = bpy.data.actions.get(self.style)
            if self.style and style is None:
                raise VivantError(f"There is no action “{self.style}”.", "Choose another style.")
            action = phases.edited(context.active_object, self.part, Edit(self.amplitude, self.tempo, self.shift), style)
        except VivantError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        self.report({"INFO"}, f"“{action.name}” has the edited part; the action before is kept")
        return {"FINISHED"}


class VIVANT_OT_phase_train(JobOperator, bpy.types.Operator):
    """Learn the phases of this rig's parts from all its actions in this file, into a file beside it"""

    bl_idname = "vivant.phase_train"
    bl_label = "Train on This Rig's Actions"
    bl_options = {"REGISTER", "UNDO"}

    minutes: bpy.props.FloatProperty(name="Minutes", description="How long to learn", default=20, min=0.01, soft_max=120)

    poll = classmethod(lambda cls, context: _is_rig(context))

    def submit(self, context: bpy.types.Context) -> Job:
        if not bpy.data.filepath:
            raise VivantError("The model is kept beside the Blender file, which has no name yet.", "Save it first.")
        rig = context.active_object
        self._rig, self._file = rig.name, f"//phase_{bpy.path.clean_name(rig.name)}.safetensors"
        request = phase_job.request(Path(bpy.path.abspath(self._file)), phases.lessons(rig), minutes=self.minutes)
        return engine(context).submit("motion.phase_train", *request)

    def finish(self, context: bpy.types.Context, job: Job) -> None:
        values, _ = job.result()
        rig = bpy.data.objects.get(self._rig)
        if rig is None:
            raise VivantError(f"“{self._rig}” is gone; its phase model is in {values['file']}.")
        rig[phases.MODEL] = self._file
        self.report({"INFO"}, f"Learned {', '.join(values['parts'])} from {values['frames']} frames")


CLASSES = (VIVANT_OT_motion_phase, VIVANT_OT_phase_train)
