# SPDX-License-Identifier: GPL-3.0-or-later
"""Retarget the motion of another armature, or of a BVH file, to the active armature."""

from __future__ import annotations

import math
import pathlib
from collections.abc import Generator

import bpy

from ..backends.common.errors import VivantError
from ..backends.motion.formats.bvh import read_bvh
from ..scene import beside, skeletons
from .filling import Filling, InSlices

Steps = Generator[str, None, bpy.types.Action]


def source_of(context: bpy.types.Context) -> bpy.types.Object | None:
    """The selected armature besides the active one, when there is exactly one."""
    others = [thing for thing in context.selected_objects if thing.type == "ARMATURE" and thing != context.active_object]
    return others[0] if len(others) == 1 else None


class VIVANT_OT_motion_retarget(InSlices, bpy.types.Operator):
    """Put the motion of the other selected armature, or of a BVH file, on the active armature, as a new action"""

    bl_idname = "vivant.motion_retarget"
    bl_label = "Retarget Motion"

    filepath: bpy.props.StringProperty(subtype="FILE_PATH", options={"SKIP_SAVE"})
    in_place: bpy.props.BoolProperty(name="In Place", description="Leave out the way over the ground")

    def draw(self, context: bpy.types.Context) -> None:
        self.layout.prop(self, "in_place")

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        if self.filepath or source_of(context):
            result: set[str] = super().invoke(context, event)
            return result
        bpy.ops.vivant.motion_choose("INVOKE_DEFAULT", in_place=self.in_place)
        return {"CANCELLED"}

    def submit(self, context: bpy.types.Context) -> Filling[bpy.types.Action]:
        target = context.active_object
        return Filling(self._from_file(target) if self.filepath else self._from_armature(source_of(context), target))

    def finish(self, context: bpy.types.Context, job: Filling[bpy.types.Action]) -> None:
        action = job.result()
        self.report(
            {"INFO"}, "'{}' has frames {:g} to {:g}; the action before is kept".format(action.name, *action.frame_range)
        )

    def _from_file(self, target: bpy.types.Object) -> Steps:
        path = pathlib.Path(bpy.path.abspath(self.filepath))
        clip = yield from beside.aside("reading the file", lambda: read_bvh(path))
        return (yield from skeletons.retargeting(target, clip, path.stem, None, self.in_place))

    def _from_armature(self, source: bpy.types.Object | None, target: bpy.types.Object) -> Steps:
        if source is None:
            raise VivantError("No source is chosen.", "Select another armature first and the target last, or name a BVH file.")
        data = source.animation_data
        if data is None or data.action is None:
            raise VivantError(f"'{source.name}' has no motion.", "Give it an action.")
        human = skeletons.posed_human_of(source)
        frames = range(math.floor(data.action.frame_range[0]), math.ceil(data.action.frame_range[1]) + 1)
        clip = yield from skeletons.sampling(source, frames)
        return (yield from skeletons.retargeting(target, clip, data.action.name, human, self.in_place, frames[0]))


class VIVANT_OT_motion_choose(bpy.types.Operator):
    """Choose a BVH file whose motion is put on the active armature"""

    # An operator of its own, without an undo step: Blender makes one when a file is chosen, and the other when all is done.
    bl_idname = "vivant.motion_choose"
    bl_label = "Retarget Motion"
    bl_options = {"INTERNAL"}

    filepath: bpy.props.StringProperty(subtype="FILE_PATH", options={"SKIP_SAVE"})
    filter_glob: bpy.props.StringProperty(default="*.bvh", options={"HIDDEN"})
    in_place: bpy.props.BoolProperty(name="In Place", description="Leave out the way over the ground")

    def draw(self, context: bpy.types.Context) -> None:
        self.layout.prop(self, "in_place")

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        retarget = bpy.ops.vivant.motion_retarget
        return set(retarget("INVOKE_DEFAULT", True, filepath=self.filepath, in_place=self.in_place))


CLASSES = (VIVANT_OT_motion_retarget, VIVANT_OT_motion_choose)
