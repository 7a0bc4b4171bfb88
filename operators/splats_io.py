# SPDX-License-Identifier: GPL-3.0-or-later
"""Import splat files: from the menu, by dropping them into the viewport, from scripts."""

from __future__ import annotations

import pathlib
from concurrent.futures import Future, ThreadPoolExecutor

import bpy
from bpy_extras.io_utils import ImportHelper

from ..backends.common.errors import VivantError
from ..backends.gaussian.cloud import SplatCloud
from ..scene import pointclouds

DROPPED = ".ply;.splat;.spz;.splatv;.sog;.ksplat;.4dgs"
# The names of all formats, which a test holds to the table: loading that would make Blender start more slowly.
SHOWN = (
    "*.pth;*.pt;*.ckpt;*.compressed.ply;*.ply;*.spz;*.splatv;*.glb;*.gltf;*.usdc;*.usda;*.usdz;*.usd;*.sog;*meta.json;*.4dgs;*.ksplat;"
    "*.zip;*.splat;*.gz"
)
BLOCKING_BYTES = 32 << 20  # smaller files are read at once: well under a second


class VIVANT_OT_splats_import(bpy.types.Operator, ImportHelper):
    """Import Gaussian splats, still or moving, from any format that Vivant reads; also folders of frames or trained scenes"""

    bl_idname = "vivant.splats_import"
    bl_label = "Import Splats"
    bl_options = {"REGISTER", "UNDO", "PRESET"}

    filter_glob: bpy.props.StringProperty(default=SHOWN, options={"HIDDEN"})
    directory: bpy.props.StringProperty(subtype="DIR_PATH", options={"HIDDEN", "SKIP_SAVE"})
    files: bpy.props.CollectionProperty(type=bpy.types.OperatorFileListElement, options={"HIDDEN", "SKIP_SAVE"})
    start_frame: bpy.props.FloatProperty(
        name="Start Frame", default=1.0, description="Frame at which a moving capture begins; change it later in the modifier"
    )
    frames: bpy.props.FloatProperty(
        name="Frames",
        default=0.0,
        min=0.0,
        description="Length of a moving capture, which files do not say; 0: as many as a sequence has, else 50",
    )

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        self.start_frame = context.scene.frame_start
        if self.directory or self.properties.is_property_set("filepath"):
            return self.invoke_popup(context)  # dropped into the window
        return ImportHelper.invoke(self, context, event)

    def execute(self, context: bpy.types.Context) -> set[str]:
        from ..backends.gaussian.formats import read_splats

        paths = self._paths()
        size = sum(path.stat().st_size for path in paths if path.is_file())
        if bpy.app.background or size < BLOCKING_BYTES:
            try:
                clouds = [read_splats(path) for path in paths]
            except VivantError as error:
                return self._fail(error)
            return self._finish(context, clouds)
        self._pool = ThreadPoolExecutor(1)
        self._reading: Future[list[SplatCloud]] = self._pool.submit(lambda: [read_splats(path) for path in paths])
        self._timer = context.window_manager.event_timer_add(0.05, window=context.window)
        context.window_manager.modal_handler_add(self)
        context.workspace.status_text_set(f"Reading {size / 1e6:,.0f} MB of splats: Esc cancels")
        return {"RUNNING_MODAL"}

    def modal(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        if event.type == "ESC":
            self._stop(context)
            return {"CANCELLED"}
        if event.type != "TIMER" or not self._reading.done():
            return {"PASS_THROUGH"}
        self._stop(context)
        try:
            clouds = self._reading.result()
        except VivantError as error:
            return self._fail(error)
        return self._finish(context, clouds)

    def cancel(self, context: bpy.types.Context) -> None:
        self._stop(context)

    def _paths(self) -> list[pathlib.Path]:
        folder = pathlib.Path(bpy.path.abspath(self.directory))
        named = [folder / file.name for file in self.files if file.name]
        return named or [pathlib.Path(bpy.path.abspath(self.filepath))]

    def _stop(self, context: bpy.types.Context) -> None:
        context.window_manager.event_timer_remove(self._timer)
        context.workspace.status_text_set(None)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _fail(self, error: VivantError) -> set[str]:
        self.report({"ERROR"}, str(error))
        return {"CANCELLED"}

    def _finish(self, context: bpy.types.Context, clouds: list[SplatCloud]) -> set[str]:
        if context.mode != "OBJECT":
            bpy.ops.object.mode_set(mode="OBJECT")
        for chosen in context.selected_objects:
            chosen.select_set(False)
        for cloud in clouds:
            made = pointclouds.add(context, cloud, self.start_frame, self.frames)
            self.report({"INFO"}, describe(made, cloud))
            for warning in warnings_of(cloud):
                self.report({"WARNING"}, warning)
        return {"FINISHED"}


def describe(made: bpy.types.Object, cloud: SplatCloud) -> str:
    """One sentence on what came in."""
    moving = f", moving ({cloud.family.name})" if cloud.family else ""
    return f"{made.name}: {len(cloud):,} splats, SH degree {cloud.degree}{moving}."


def warnings_of(cloud: SplatCloud) -> list[str]:
    """What the reader wants the user to know, repairs counted."""
    repairs = [f"{name} ({count:,})." for name, count in cloud.source.repairs.items()]
    return [*cloud.source.warnings, *repairs]


class VIVANT_FH_splats(bpy.types.FileHandler):
    bl_idname = "VIVANT_FH_splats"
    bl_label = "Gaussian Splats"
    bl_import_operator = "vivant.splats_import"
    bl_file_extensions = DROPPED

    @classmethod
    def poll_drop(cls, context: bpy.types.Context) -> bool:
        return context.area is not None and context.area.type in {"VIEW_3D", "OUTLINER"}


CLASSES = (VIVANT_OT_splats_import, VIVANT_FH_splats)
