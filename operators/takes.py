# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes: choose which one is shown and how strong it is, accept it, remove it, or reject all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import bpy

from ..backends.common.errors import VivantError
from ..scene import generated, rigs, takes
from ..scene.inbetween import SPLINE, Wish
from .filling import Filling, FillsGaps


class SettlesTake:
    """Mixin of the operators that end a take."""

    bl_options = {"REGISTER", "UNDO"}
    settle: Callable[..., bpy.types.Action]
    said: str

    def execute(self, context: bpy.types.Context) -> set[str]:
        try:
            action = self.settle(context.active_object)
        except VivantError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        self.report({"INFO"}, self.said.format(action.name))
        return {"FINISHED"}


class VIVANT_OT_take_accept(SettlesTake, bpy.types.Operator):
    """Keep what the take generated and remove the other takes. Your own keys stay as they are, but those that an edit by phase
    replaced"""

    bl_idname = "vivant.take_accept"
    bl_label = "Accept Take"
    said = "The take is now part of '{}'"

    into: bpy.props.EnumProperty(
        name="Into",
        items=[
            ("ACTION", "Your Action", "Merge the generated keys into your action"),
            ("SLOT", "New Slot", "A new slot of your action; the slot before keeps its keys as they were"),
            ("NEW", "New Action", "An action of its own; yours is kept as it was"),
            ("NLA", "NLA Strip", "A strip over the filled frames, above a strip of your action, which stays as it was"),
        ],
        options={"SKIP_SAVE"},
    )

    def settle(self, armature: bpy.types.Object) -> bpy.types.Action:
        return takes.ACCEPT[self.into](armature)


class VIVANT_OT_take_reject(SettlesTake, bpy.types.Operator):
    """Remove all takes of this armature and go back to your action, which is as you left it"""

    bl_idname = "vivant.take_reject"
    bl_label = "Reject Takes"
    settle = staticmethod(takes.reject)
    said = "Back to '{}'"


class VIVANT_OT_take_remove(SettlesTake, bpy.types.Operator):
    """Remove the take that is shown and keep the others"""

    bl_idname = "vivant.take_remove"
    bl_label = "Remove Take"
    settle = staticmethod(takes.remove)
    said = "Now shows '{}'"


class VIVANT_OT_generated_remove(SettlesTake, bpy.types.Operator):
    """Remove all generated keys from the action, also those of takes that were accepted; your own keys and those that you have
    changed stay as they are"""

    bl_idname = "vivant.generated_remove"
    bl_label = "Remove Generated Keys"
    said = "'{}' holds your own keys alone"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return takes.original_of(context.active_object) is None and takes.has_generated(context.active_object)

    def settle(self, armature: bpy.types.Object) -> bpy.types.Action:
        if kept := takes.remove_generated(armature):
            self.said = f"{VIVANT_OT_generated_remove.said}; generated ones that you changed are yours: {kept}"
        return armature.animation_data.action


class VIVANT_OT_take_step(bpy.types.Operator):
    """Show the next take, or the one before. Right-click to give it a key: Shift Alt Left and Right are free"""

    bl_idname = "vivant.take_step"
    bl_label = "Step Through Takes"
    bl_options = {"REGISTER", "UNDO"}

    by: bpy.props.IntProperty(name="By", description="How many takes further, or back where negative", default=1)

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return bool(takes.takes_of(context.active_object))

    def execute(self, context: bpy.types.Context) -> set[str]:
        armature = context.active_object
        every, shown = takes.takes_of(armature), armature.animation_data.action
        following = every.index(shown) + self.by if shown in every else min(self.by, 0)
        takes.show(armature, every[following % len(every)])
        return {"FINISHED"}


class VIVANT_OT_take_again(FillsGaps, bpy.types.Operator):
    """Run the solver of the shown take again with the next seed"""

    bl_idname = "vivant.take_again"
    bl_label = "Redo Take"

    another: bpy.props.BoolProperty(
        name="As Another Take", description="Keep the take that is shown and make one more", options={"SKIP_SAVE"}
    )

    @classmethod
    def description(cls, context: bpy.types.Context, properties: bpy.types.OperatorProperties) -> str:
        if properties.another:
            return "One more take of the same gaps and bones, by the same solver with the next seed"
        return (
            "Make the selected bones of this take anew, at the playhead or in the preview range, by its solver with the next "
            "seed; all else stays as it is"
        )

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return bool(takes.takes_of(context.active_object))

    def wish(self, context: bpy.types.Context) -> Wish:
        armature, scene = context.active_object, context.scene
        every, shown = takes.takes_of(armature), armature.animation_data.action
        take = shown if shown in every else every[-1]
        made, frames = takes.made_of(take), takes.gap_of(take, armature.animation_data.action_slot)
        if made and made.edit:
            raise VivantError(f"The take '{take.name}' is an edit of the {made.edit['part']}.", "Change it in the panel Phase.")
        if made is None or frames is None:
            raise VivantError(f"The take '{take.name}' fills nothing.", "Use In-Between.")
        seed = 1 + max(one.seed for one in map(takes.made_of, every) if one)
        bones, scope, now = made.bones, made.scope, scene.frame_current_final
        if not self.another:
            bones = rigs.selected_bones(armature) or bones
            scope = "RANGE" if scene.use_preview_range else "GAP"
            frames = (scene.frame_preview_start, scene.frame_preview_end)
        elif not frames[0] <= now <= frames[1]:
            scope = "RANGE"
        return Wish(bones, scope, frames, now, made.solver, seed, made.output, self.another)

    def finish(self, context: bpy.types.Context, job: Filling[Any]) -> None:
        super().finish(context, job)
        if job.result().solver == SPLINE:
            self.report({"WARNING"}, "The spline draws nothing at random: another seed makes the same of the same keys")


def _number(settings: VIVANT_PG_takes) -> int:
    every, data = takes.takes_of(settings.id_data), settings.id_data.animation_data
    return every.index(data.action) + 1 if data and data.action in every else 0


def _show_number(settings: VIVANT_PG_takes, number: int) -> None:
    if every := takes.takes_of(settings.id_data):
        takes.show(settings.id_data, every[min(max(number, 1), len(every)) - 1])


def _index(settings: VIVANT_PG_takes) -> int:
    data = settings.id_data.animation_data
    return next((i for i, action in enumerate(bpy.data.actions) if data and action == data.action), -1)


def _show(settings: VIVANT_PG_takes, index: int) -> None:
    armature, action = settings.id_data, bpy.data.actions[index]
    if action in takes.takes_of(armature):
        takes.show(armature, action)


def _strength(settings: VIVANT_PG_takes) -> float:
    data = settings.id_data.animation_data
    return generated.strength_of(data.action) if data and data.action else 1.0


def _set_strength(settings: VIVANT_PG_takes, strength: float) -> None:
    if takes.original_of(settings.id_data):
        generated.set_strength(settings.id_data, strength)


class VIVANT_PG_takes(bpy.types.PropertyGroup):
    """An armature's takes; the properties read and change the actions themselves and store nothing"""

    shown: bpy.props.IntProperty(name="Take", description="The take that is shown", get=_index, set=_show)
    number: bpy.props.IntProperty(
        name="Take", description="The take that is shown; drag to scrub through them", get=_number, set=_show_number
    )
    strength: bpy.props.FloatProperty(
        name="Strength",
        description="How far the take goes from your curves (0) to what was generated (1), and beyond. Nothing is lost at 0",
        min=0,
        max=generated.STRONGEST,
        get=_strength,
        set=_set_strength,
    )


def register() -> None:
    """Attach the properties to objects."""
    bpy.types.Object.vivant_takes = bpy.props.PointerProperty(type=VIVANT_PG_takes)


def unregister() -> None:
    """Detach them."""
    del bpy.types.Object.vivant_takes


CLASSES = (
    VIVANT_OT_take_accept,
    VIVANT_OT_take_reject,
    VIVANT_OT_take_remove,
    VIVANT_OT_generated_remove,
    VIVANT_OT_take_step,
    VIVANT_OT_take_again,
    VIVANT_PG_takes,
)
