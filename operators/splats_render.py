# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures of splats: plates by the float64 rasteriser, and the scene's settings for faithful renders."""

from __future__ import annotations

import pathlib

import bpy

from ..backends.common.errors import VivantError
from ..backends.gaussian.render import job as render_job
from ..engine.jobs import Job
from ..scene import cameras, colour, images, pointclouds, together
from .job import JobOperator, engine


def _shown(scene: bpy.types.Scene) -> list[bpy.types.Object]:
    return [splats for splats in scene.objects if pointclouds.is_splats(splats) and not splats.hide_render]


class VIVANT_OT_splats_render(JobOperator, bpy.types.Operator):
    """Draw all visible splats through the scene's camera, exactly, into a new image (a plate)"""

    bl_idname = "vivant.splats_render"
    bl_label = "Render Plate"
    bl_options = {"REGISTER", "UNDO"}

    filepath: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="File",
        description="Write a multilayer EXR as well: colour, mean depth and nearest depth for the compositor; none when empty",
        subtype="FILE_PATH",
    )

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return any(pointclouds.is_splats(candidate) for candidate in context.scene.objects)

    def submit(self, context: bpy.types.Context) -> Job:
        scene = context.scene
        shown = _shown(scene)
        if not shown:
            raise VivantError("All splats are hidden in renders.", "Switch on the camera icon of one of them in the outliner.")
        camera = cameras.read(scene.camera, scene, context.evaluated_depsgraph_get())
        views = [(pointclouds.cloud_at(splats, scene), cameras.in_space_of(camera, splats)) for splats in shown]
        self._name = f"Plate {scene.frame_current:04d}"
        return engine(context).submit("splats.render", *render_job.request(views))

    def finish(self, context: bpy.types.Context, job: Job) -> None:
        _, arrays = job.result()
        image = images.write_plate(self._name, arrays["picture"])
        if self.filepath:
            path = pathlib.Path(bpy.path.abspath(self.filepath)).with_suffix(".exr")
            images.write_layers(path, arrays["picture"], depth=arrays["depth"], nearest=arrays["nearest"])
        self.report({"INFO"}, f"{image.name}: {image.size[0]} x {image.size[1]}, in the image editor.")


class VIVANT_OT_splats_together(bpy.types.Operator):
    """Sort the splats of all visible objects among each other in EEVEE, where they interpenetrate"""

    bl_idname = "vivant.splats_together"
    bl_label = "Sort Splats Together"
    bl_options = {"REGISTER", "UNDO"}

    separate: bpy.props.BoolProperty(  # type: ignore[valid-type]
        name="Separate", description="Let every object draw its own splats again"
    )

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return any(pointclouds.is_splats(candidate) for candidate in context.scene.objects)

    def execute(self, context: bpy.types.Context) -> set[str]:
        if self.separate:
            together.separate(context.scene)
        else:
            together.join(context.scene, _shown(context.scene))
        return {"FINISHED"}


class VIVANT_OT_display_setup(bpy.types.Operator):
    """Set the scene up so that splats alone look exactly as they were trained: display values, view transform Raw"""

    bl_idname = "vivant.display_setup"
    bl_label = "Match Training Colours"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        colour.display_blending(context.scene)
        return {"FINISHED"}


CLASSES = (VIVANT_OT_splats_render, VIVANT_OT_splats_together, VIVANT_OT_display_setup)
