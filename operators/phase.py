# SPDX-License-Identifier: GPL-3.0-or-later
"""Edit a body part by its phase, and learn the phases of a rig's own motion."""

from __future__ import annotations

from pathlib import Path

import bpy

from ..backends.common.errors import VivantError
from ..backends.motion.phase import job as phase_job
from ..backends.motion.phase.edit import Edit
from ..engine.jobs import Job
from ..scene import phases, takes
from .filling import Filling, InSlices
from .job import JobOperator, engine

Edited = tuple[bpy.types.Action, list[str]]  # the take, and bones that were left as they are

SLIDERS = ("amplitude", "tempo", "shift", "style")

_items: list[tuple[str, str, str]] = []  # Blender does not keep the texts of a list that is made anew


def _parts(self: bpy.types.Operator, context: bpy.types.Context) -> list[tuple[str, str, str]]:
    found = phases.parts_of(context.active_object)[0] if context.active_object else []
    _items[:] = [(part, part.title(), "") for part in found] or [("", "No Part", "")]
    return _items


def _is_rig(context: bpy.types.Context) -> bool:
    return context.active_object is not None and context.active_object.type == "ARMATURE"


class EditsPart:
    """Mixin: what is done to which part."""

    bl_label = "Edit Part by Phase"
    bl_description = (
        "Make one part of the body move larger, faster, earlier or as in another action, in a take. Its bones get a key on "
        "every frame, to which yours there give way; all other bones stay as they are"
    )

    part: bpy.props.EnumProperty(name="Part", items=_parts)
    amplitude: bpy.props.FloatProperty(
        name="Amplitude",
        description="How far the part swings, times what it did",
        default=1,
        min=0,
        soft_max=2,
        options={"SKIP_SAVE"},
    )
    tempo: bpy.props.FloatProperty(
        name="Tempo",
        description="How fast the part swings, times what it did",
        default=1,
        min=0.1,
        soft_max=2,
        max=10,
        options={"SKIP_SAVE"},
    )
    shift: bpy.props.FloatProperty(
        name="Shift",
        description="By how many of its cycles the part is ahead",
        soft_min=-0.5,
        soft_max=0.5,
        options={"SKIP_SAVE"},
    )
    style: bpy.props.StringProperty(
        name="Style", description="An action of this rig that the part moves as in; none: as it does", options={"SKIP_SAVE"}
    )
    another: bpy.props.BoolProperty(
        name="As Another Take", description="Keep the take that is shown and make one more", options={"SKIP_SAVE"}
    )

    poll = classmethod(lambda cls, context: _is_rig(context))

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        layout.use_property_split = True
        layout.prop(self, "part")
        for name in ("amplitude", "tempo", "shift"):
            layout.prop(self, name, slider=True)
        layout.prop_search(self, "style", bpy.data, "actions")
        if takes.original_of(context.active_object):
            layout.prop(self, "another")


class VIVANT_OT_motion_phase(EditsPart, InSlices, bpy.types.Operator):
    """Edit a part of the body in a take"""

    bl_idname = "vivant.motion_phase"

    def submit(self, context: bpy.types.Context) -> Filling[Edited]:
        style = bpy.data.actions.get(self.style)
        if self.style and style is None:
            raise VivantError(f"There is no action “{self.style}”.", "Choose another style.")
        change = Edit(self.amplitude, self.tempo, self.shift)
        return Filling(phases.editing(context.active_object, self.part, change, style, self.another))

    def finish(self, context: bpy.types.Context, job: Filling[Edited]) -> None:
        take, held = job.result()
        if held:
            self.report({"WARNING"}, f"Locked, muted or driven rotations were left as they are: {', '.join(held)}")
        self.report({"INFO"}, f"“{take.name}” has the edited {self.part}; accept or reject the take")


class VIVANT_OT_phase_choose(EditsPart, bpy.types.Operator):
    """Choose how a part of the body is edited"""

    # A dialog of its own, without an undo step: what a dialog confirms runs at once, and a long edit goes on in slices.
    bl_idname = "vivant.phase_choose"
    bl_options = {"INTERNAL"}

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        if takes.original_of(context.active_object):
            made = takes.made_of(context.active_object.animation_data.action)
            if made and made.edit and made.edit["part"] == self.part:  # to be changed from where it is
                self.amplitude, self.tempo, self.shift, self.style = (made.edit[name] for name in SLIDERS)
        return set(context.window_manager.invoke_props_dialog(self, confirm_text="Edit"))

    def execute(self, context: bpy.types.Context) -> set[str]:
        chosen = {name: getattr(self, name) for name in ("part", "another", *SLIDERS)}
        return set(bpy.ops.vivant.motion_phase("INVOKE_DEFAULT", True, **chosen))


class VIVANT_OT_phase_train(JobOperator, bpy.types.Operator):
    """Learn the cycles of this rig's limbs from all its actions in this file, in the background; what is learned is kept in
    a file beside this one, and learning goes on there the next time"""

    bl_idname = "vivant.phase_train"
    bl_label = "Train on This Rig's Actions"
    bl_options = {"REGISTER", "UNDO"}

    minutes: bpy.props.FloatProperty(
        name="Minutes",
        description="How long to learn; Esc stops it, and what was learned is kept",
        default=20,
        min=0.01,
        soft_max=120,
    )

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


CLASSES = (VIVANT_OT_motion_phase, VIVANT_OT_phase_choose, VIVANT_OT_phase_train)
