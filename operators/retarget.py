# SPDX-License-Identifier: GPL-3.0-or-later
"""Retarget the motion of another armature, or of a BVH file, to the active armature."""

from __future__ import annotations

import math
import pathlib

import bpy

from ..backends.common.errors import VivantError
from ..backends.motion.clip import Clip
from ..backends.motion.formats.bvh import read_bvh
from ..scene import skeletons


def source_of(context: bpy.types.Context) -> bpy.types.Object | None:
    """The selected armature besides the active one, when there is exactly one."""
    others = [thing for thing in context.selected_objects if thing.type == "ARMATURE" and thing != context.active_object]
    return others[0] if len(others) == 1 else None


class VIVANT_OT_motion_retarget(bpy.types.Operator):
    """Put the motion of the other selected armature, or of a BVH file, on the active armature, as a new action"""

    bl_idname = "vivant.motion_retarget"
    bl_label = "Retarget Motion"
    bl_options = {"REGISTER", "UNDO"}

    filepath: bpy.props.StringProperty(subtype="FILE_PATH", options={"SKIP_SAVE"})
    filter_glob: bpy.props.StringProperty(default="*.bvh", options={"HIDDEN"})
    in_place: bpy.props.BoolProperty(name="In Place", description="Leave out the way over the ground")

    def draw(self, context: bpy.types.Context) -> None:
        self.layout.prop(self, "in_place")

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        if self.filepath or source_of(context):
            return self.execute(context)
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        try:
            clip, human, name, start = self._source(context)
            action = skeletons.retarget_to(context.active_object, clip, name, human, self.in_place, start)
        except VivantError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        self.report(
            {"INFO"}, "'{}' has frames {:g} to {:g}; the action before is kept".format(action.name, *action.frame_range)
        )
        return {"FINISHED"}

    def _source(self, context: bpy.types.Context) -> tuple[Clip, dict[str, str] | None, str, float | None]:
        """The clip, its mapping, the new action's name and first frame."""
        if self.filepath:
            path = pathlib.Path(bpy.path.abspath(self.filepath))
            return read_bvh(path), None, path.stem, None
        source = source_of(context)
        if source is None:
            raise VivantError("No source is chosen.", "Select another armature first and the target last, or name a BVH file.")
        data = source.animation_data
        if data is None or data.action is None:
            raise VivantError(f"'{source.name}' has no motion.", "Give it an action.")
        human = skeletons.posed_human_of(source)
        frames = range(math.floor(data.action.frame_range[0]), math.ceil(data.action.frame_range[1]) + 1)
        return skeletons.clip_of(source, frames), human, data.action.name, frames[0]


CLASSES = (VIVANT_OT_motion_retarget,)
