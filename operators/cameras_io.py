# SPDX-License-Identifier: GPL-3.0-or-later
"""Import and export cameras: COLMAP, cameras.json, transforms.json and the settings of SuperSplat's viewer."""

from __future__ import annotations

import pathlib

import bpy
from bpy_extras.io_utils import ExportHelper, ImportHelper

from ..backends.common.camera_files import camera_losses, read_cameras, write_cameras
from ..backends.common.cameras import CameraSet
from ..backends.common.errors import VivantError
from ..backends.common.steps import told
from ..scene import camera_sets, cameras, pointclouds
from .filling import Filling, InSlices

FORMS = (
    ("TRANSFORMS", "NeRF (transforms.json)", "For Nerfstudio, instant-ngp and gsplat, with times"),
    ("COLMAP", "COLMAP Text", "cameras.txt, images.txt and points3D.txt in the chosen folder"),
    ("INRIA", "3DGS (cameras.json)", "As 3DGS writes it beside its splats; lenses without shift"),
    ("SUPERSPLAT", "SuperSplat (settings.json)", "A camera path for SuperSplat's viewer; without roll and shift"),
)
NAMES = {"TRANSFORMS": "transforms.json", "COLMAP": "cameras.txt", "INRIA": "cameras.json", "SUPERSPLAT": "settings.json"}


def active_splats(context: bpy.types.Context) -> bpy.types.Object | None:
    """The active object where it holds splats."""
    return context.active_object if pointclouds.is_splats(context.active_object) else None


class VIVANT_OT_cameras_import(bpy.types.Operator, ImportHelper):
    """Import the cameras of a capture or a camera path: COLMAP, transforms.json, cameras.json, SuperSplat's settings.json"""

    bl_idname = "vivant.cameras_import"
    bl_label = "Import Cameras"
    bl_options = {"REGISTER", "UNDO", "PRESET"}

    filter_glob: bpy.props.StringProperty(default="*.json;*.bin;*.txt;*.splatv", options={"HIDDEN"})
    layout_as: bpy.props.EnumProperty(
        name="As",
        description="What becomes of the pictures or keys in the file",
        items=(
            ("AUTO", "As in the File", "A path becomes one animated camera, pictures become one camera each"),
            ("CAMERAS", "One Camera Each", "A camera for every picture or key"),
            ("PATH", "One Animated Camera", "A single camera with a key for every picture"),
        ),
    )
    match_splats: bpy.props.BoolProperty(
        name="Match Active Splats",
        default=True,
        description="Place the cameras as those that the active splats were trained on, and let them follow the splats; "
        "otherwise they stand upright under an empty",
    )
    start_frame: bpy.props.FloatProperty(name="Start Frame", default=1.0, description="Frame of the first picture or key")
    frames: bpy.props.FloatProperty(
        name="Frames", default=50.0, min=1e-3, description="Length of a capture with times; files do not say it"
    )
    markers: bpy.props.BoolProperty(
        name="Bind Markers", description="A marker at each picture's frame switches the scene to its camera"
    )
    pictures: bpy.props.BoolProperty(
        name="Background Images", description="Show each picture behind its camera, where it lies beside the file"
    )
    fit_scene: bpy.props.BoolProperty(
        name="Set Scene Resolution", default=True, description="Give renders the size and pixel aspect of the first picture"
    )

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        splats = active_splats(context)
        self.start_frame, self.frames = camera_sets.clip_of(context.scene, splats)
        return ImportHelper.invoke(self, context, event)

    def execute(self, context: bpy.types.Context) -> set[str]:
        path = pathlib.Path(bpy.path.abspath(self.filepath))
        try:
            found = read_cameras(path, cameras.picture_size(context.scene))
            made, warnings = camera_sets.add(
                context,
                found,
                path.stem or path.name,
                active_splats(context) if self.match_splats else None,
                self.layout_as,
                self.start_frame,
                self.frames,
                self.markers,
                self.pictures,
                self.fit_scene,
            )
        except VivantError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        for warning in warnings:
            self.report({"WARNING"}, warning)
        count = f"{len(made):,} cameras" if len(made) > 1 else "one camera"
        keys = f" with {len(found):,} keys" if len(found) > len(made) else ""
        self.report({"INFO"}, f"{path.name}: {count}{keys}.")
        return {"FINISHED"}


class VIVANT_OT_cameras_export(InSlices, bpy.types.Operator, ExportHelper):
    """Export the scene's camera over its frames, or the selected cameras, for trainers and viewers of splats"""

    bl_idname = "vivant.cameras_export"
    bl_label = "Export Cameras"
    bl_options = {"REGISTER", "PRESET"}

    filename_ext = ".json"
    check_extension = None
    filter_glob: bpy.props.StringProperty(default="*.json;*.txt", options={"HIDDEN"})
    form: bpy.props.EnumProperty(name="Format", items=FORMS, description="The kind of file, which its name follows")
    source: bpy.props.EnumProperty(
        name="Cameras",
        description="Whose views are written",
        items=(
            ("SCENE", "Scene Camera", "What the scene's camera sees at every frame, bound markers included"),
            ("SELECTED", "Selected", "Each selected camera as it stands at the current frame"),
        ),
    )
    step: bpy.props.IntProperty(
        name="Frame Step", default=1, min=1, description="Frames from one view of the scene's camera to the next"
    )
    match_splats: bpy.props.BoolProperty(
        name="Match Active Splats",
        default=True,
        description="Write poses in the coordinates that the active splats were trained in; otherwise in the scene's, "
        "turned to the format's axes",
    )

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        if not self.filepath:  # type: ignore[has-type]
            self.filepath = NAMES[self.form]
        return ExportHelper.invoke(self, context, event)

    def check(self, context: bpy.types.Context) -> bool:
        """Follow the format with the name, while the user has not chosen one of their own."""
        path = pathlib.Path(self.filepath)
        if path.name in {*NAMES.values(), ""} and path.name != NAMES[self.form]:
            self.filepath = str(path.parent / NAMES[self.form])
            return True
        return False

    def execute(self, context: bpy.types.Context) -> set[str]:
        blocking = bpy.app.background or context.window is None
        return InSlices.execute(self, context) if blocking else InSlices.invoke(self, context, None)

    def submit(self, context: bpy.types.Context) -> Filling[CameraSet]:
        chosen = [each for each in context.selected_objects if each.type == "CAMERA"] if self.source == "SELECTED" else None
        splats = active_splats(context) if self.match_splats else None
        steps = camera_sets.gathering(context, self.form, chosen, step=self.step, splats=splats)
        return Filling(told("looking through the camera", steps))

    def finish(self, context: bpy.types.Context, job: Filling[CameraSet]) -> None:
        found = job.result()
        write_cameras(found, bpy.path.abspath(self.filepath), self.form)
        for sentence in camera_losses(found, self.form):
            self.report({"WARNING"}, sentence)
        self.report({"INFO"}, f"{pathlib.Path(self.filepath).name}: {len(found):,} cameras.")


CLASSES = (VIVANT_OT_cameras_import, VIVANT_OT_cameras_export)
