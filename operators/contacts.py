# SPDX-License-Identifier: GPL-3.0-or-later
"""Contacts: paint in which frames bones must stay where they are, or let Vivant find them."""

from __future__ import annotations

import bpy
import numpy as np

from ..backends.common.errors import VivantError
from ..scene import actions, planted, rigs, traces


class PaintsContacts:
    """Mixin of the operators on a range of frames: by default the preview range, else that of the selected keys."""

    bl_options = {"REGISTER", "UNDO"}

    frame_start: bpy.props.IntProperty(name="Start", description="First frame of the contact", options={"SKIP_SAVE"})
    frame_end: bpy.props.IntProperty(name="End", description="Last frame of the contact", options={"SKIP_SAVE"})

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return context.active_object is not None and context.active_object.type == "ARMATURE"

    def execute(self, context: bpy.types.Context) -> set[str]:
        try:
            if not (self.properties.is_property_set("frame_start") and self.properties.is_property_set("frame_end")):
                self.frame_start, self.frame_end = self.chosen(context)
            said = self.paint(context.active_object)
        except VivantError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        self.report({"INFO"}, said)
        return {"FINISHED"}

    def chosen(self, context: bpy.types.Context) -> tuple[int, int]:
        return _preview_range(context.scene) or _selected_keys(context.active_object)

    def bones(self, armature: bpy.types.Object) -> list[str]:
        chosen = rigs.selected_bones(armature)
        if chosen is None:
            raise VivantError("No bone is selected.", "Select the feet or hands in Pose Mode.")
        return chosen

    def paint(self, armature: bpy.types.Object) -> str:
        raise NotImplementedError


def _preview_range(scene: bpy.types.Scene) -> tuple[int, int] | None:
    return (scene.frame_preview_start, scene.frame_preview_end) if scene.use_preview_range else None


def _selected_keys(armature: bpy.types.Object) -> tuple[int, int]:
    """First and last frame of the selected keys of the selected bones."""
    action, slot = actions.animation_of(armature)
    names = set(rigs.selected_bones(armature) or ())
    times = [
        keys["co"][keys["select_control_point"], 0]
        for curve in actions.curves_of(action, slot).values()
        if traces.bone_of(curve) in names
        for keys in [actions.read_keys(curve, ["co", "select_control_point"])]
    ]
    every = np.concatenate([np.empty(0), *times])
    if not len(every) or np.ptp(every) < 1:
        raise VivantError(
            "No range of frames is chosen.",
            "Set a preview range (P in the Timeline), or select keys at the start and the end of the contact.",
        )
    return round(every.min()), round(every.max())


class VIVANT_OT_contact_plant(PaintsContacts, bpy.types.Operator):
    """Keep the selected bones where they are in the preview range, or from the first to the last of their selected keys"""

    bl_idname = "vivant.contact_plant"
    bl_label = "Plant Bones"

    def paint(self, armature: bpy.types.Object) -> str:
        bones = self.bones(armature)
        planted.plant(armature, bones, self.frame_start, self.frame_end)
        return f"Planted {_called(bones)} from frame {self.frame_start} to {self.frame_end}"


class VIVANT_OT_contact_release(PaintsContacts, bpy.types.Operator):
    """Let the selected bones move again in the preview range, or from the first to the last of their selected keys"""

    bl_idname = "vivant.contact_release"
    bl_label = "Release Bones"

    def paint(self, armature: bpy.types.Object) -> str:
        bones = self.bones(armature)
        planted.release(armature, bones, self.frame_start, self.frame_end)
        return f"Released {_called(bones)} from frame {self.frame_start} to {self.frame_end}"


class VIVANT_OT_contact_detect(PaintsContacts, bpy.types.Operator):
    """Find when the feet stand in the motion as it is, in the preview range or in all that the scene plays"""

    bl_idname = "vivant.contact_detect"
    bl_label = "Detect Contacts"

    def chosen(self, context: bpy.types.Context) -> tuple[int, int]:
        return _preview_range(context.scene) or (context.scene.frame_start, context.scene.frame_end)

    def paint(self, armature: bpy.types.Object) -> str:
        found = planted.detect(armature, self.frame_start, self.frame_end)
        return f"{sum(map(len, found.values()))} contacts of {_called(list(found))}" if found else "No foot stands"


def _called(bones: list[str]) -> str:
    return f"'{bones[0]}'" if len(bones) == 1 else f"{len(bones)} bones"


CLASSES = (VIVANT_OT_contact_plant, VIVANT_OT_contact_release, VIVANT_OT_contact_detect)
