# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures of splats: plates by the float64 rasteriser, and the scene's settings for faithful renders."""

from __future__ import annotations

from pathlib import Path

import bpy

from ..backends.common.errors import VivantError
from ..engine.jobs import Job
from ..scene import colour, images, plates, pointclouds, together
from .job import JobOperator, engine
from .series import Series


class InScene:
    """Mixin: an operator on all splats of a scene."""

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if any(pointclouds.is_splats(candidate) for candidate in context.scene.objects):
            return True
        cls.poll_message_set("This scene has no splats")
        return False


class VIVANT_OT_splats_render(InScene, JobOperator, bpy.types.Operator):
    """Draw all visible splats through the scene's camera, exactly, into a new image or into files for the compositor"""

    bl_idname = "vivant.splats_render"
    bl_label = "Render Plate"
    bl_options = {"REGISTER", "UNDO"}

    filepath: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="File",
        description="Write a multilayer EXR instead of an image: colour, mean depth and nearest depth for the compositor. "
        "# stand for the frame's digits",
        subtype="FILE_PATH",
        options={"SKIP_SAVE", "OUTPUT_PATH", "PATH_SUPPORTS_BLEND_RELATIVE"},
    )
    animation: bpy.props.BoolProperty(  # type: ignore[valid-type]
        name="Animation",
        description="Write a file for every frame of the scene; without a file name, under the one in the tab Vivant",
        options={"SKIP_SAVE"},
    )
    hide_behind: bpy.props.BoolProperty(  # type: ignore[valid-type]
        name="Hide Behind Objects",
        description="Leave out what lies behind the scene's other objects, so that the plate fits over their render",
        default=True,
    )

    def submit(self, context: bpy.types.Context) -> Job | Series:
        scene = context.scene
        name = self.filepath or (scene.vivant.plates if self.animation else "")
        self._first, self._name = None, f"Plate {scene.frame_current:04d}"
        self._frames = range(scene.frame_start, scene.frame_end + 1, scene.frame_step)
        if not self.animation:
            self._first = plates.file_of(name, scene.frame_current, False) if name else None
            return _begin(context, scene, context.view_layer, self.hide_behind, self._first)
        self._first = plates.file_of(name, scene.frame_start, True)
        names, hide = (scene.name, context.view_layer.name), self.hide_behind

        def begin(frame: int) -> Job:
            # asked for anew each time: the user goes on working while this runs
            scene = bpy.data.scenes.get(names[0])
            view_layer = scene and scene.view_layers.get(names[1])
            if view_layer is None:
                raise VivantError(f"The scene “{names[0]}” is gone.", "Render the plates again.")
            with plates.at_frame(scene, frame):
                return _begin(context, scene, view_layer, hide, plates.file_of(name, frame, True))

        return Series(begin, self._frames, lambda frame: f"frame {frame}")

    def finish(self, context: bpy.types.Context, job: Job | Series) -> None:
        result = job.result()
        if self._first is None:
            image = images.write_plate(self._name, result[1]["light"])
            self.report({"INFO"}, f"{image.name}: {image.size[0]} x {image.size[1]}, in the image editor.")
            return
        image = images.load_layers(self._first, self.animation and len(self._frames) > 1)
        many = f"{len(self._frames)} files from " if self.animation else ""
        self.report({"INFO"}, f"{many}{self._first}, for the compositor's Image node: “{image.name}”.")


def _begin(
    context: bpy.types.Context, scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer, hide: bool, path: Path | None
) -> Job:
    return engine(context).submit("splats.render", *plates.request(scene, view_layer, hide, path))


class VIVANT_OT_splats_together(InScene, bpy.types.Operator):
    """Sort the splats of all visible objects among each other in EEVEE, where they interpenetrate"""

    bl_idname = "vivant.splats_together"
    bl_label = "Sort Splats Together"
    bl_options = {"REGISTER", "UNDO"}

    separate: bpy.props.BoolProperty(  # type: ignore[valid-type]
        name="Separate", description="Let every object draw its own splats again"
    )

    def execute(self, context: bpy.types.Context) -> set[str]:
        if self.separate:
            together.separate(context.scene)
        else:
            together.join(context.scene, plates.splats_of(context.view_layer))
        return {"FINISHED"}


class VIVANT_OT_display_setup(InScene, bpy.types.Operator):
    """Set the scene up so that splats alone look exactly as they were trained: display values, view transform Raw"""

    bl_idname = "vivant.display_setup"
    bl_label = "Match Training Colours"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        colour.display_blending(context.scene)
        return {"FINISHED"}


CLASSES = (VIVANT_OT_splats_render, VIVANT_OT_splats_together, VIVANT_OT_display_setup)
