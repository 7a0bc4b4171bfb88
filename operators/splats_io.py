# SPDX-License-Identifier: GPL-3.0-or-later
"""Import splat files: from the menu, by dropping them into the viewport, from scripts."""

from __future__ import annotations

import pathlib
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import bpy
from bpy_extras.io_utils import ImportHelper

from ..backends.common.errors import Cancelled, VivantError
from ..backends.gaussian.cloud import SplatCloud
from ..scene import pointclouds
from .texts import paragraph

if TYPE_CHECKING:
    from ..backends.gaussian.formats import Overrides

DROPPED = ".ply;.splat;.spz;.splatv;.sog;.ksplat;.4dgs"
# The names of all formats, which a test holds to the table: loading that would make Blender start more slowly.
SHOWN = (
    "*.pth;*.pt;*.ckpt;*.compressed.ply;*.ply;*.spz;*.splatv;*.glb;*.gltf;*.usdc;*.usda;*.usdz;*.usd;*.sog;*meta.json;*lod-meta.json;*.4dgs;*.ksplat;"
    "*.zip;*.splat;*.gz"
)
AXES = (
    ("RDF", "Y Down, Z Forward", "As COLMAP and nearly all trainers: PLY, splat, SOG"),
    ("RUB", "Y Up, Z Back", "As OpenGL, glTF, SPZ and USD"),
    ("RFU", "Z Up, Y Forward", "As Blender"),
    ("RBD", "Z Down, Y Back", "As some scans"),
    ("RUF", "Y Up, Z Forward", "As Unity; mirrored"),
    ("FRU", "Z Up, X Forward", "As Unreal and ROS drivers with Y to the right; mirrored"),
    ("FLU", "Z Up, X Forward, Y Left", "As ROS"),
)
BLOCKING_BYTES = 32 << 20  # smaller files are read at once: well under a second


_CHANGES = (
    ("AUTO", "Automatic", "As the scene's settings say, else guessed from the network's size"),
    ("MOVE", "Change", "The network changes them over time"),
    ("STAY", "Stay", "They stay as they are"),
)
_LOST = "For folders of 4D-GS that lost their cfg_args: what their network was trained to change"


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

    # overrides are for this file: the next one, dropped in with their panel folded, would be turned or tinted unseen
    axes: bpy.props.EnumProperty(
        name="Axes",
        items=(("AUTO", "Automatic", "As the file or its format says"), *AXES),
        description="Which way is up, where the capture lies on its side or stands on its head",
        options={"SKIP_SAVE"},
    )
    activation: bpy.props.EnumProperty(
        name="Numbers",
        items=(
            ("AUTO", "Automatic", "As the file's format has them"),
            ("raw", "As Trained", "Opacities and sizes on the trainer's own scales, as nearly all PLY files have them"),
            ("activated", "Ready to Draw", "Opacities from 0 to 1 and sizes in the scene's units, as some converters write"),
        ),
        description="How a PLY means its opacities and sizes; try the other where splats are giant or see-through blobs",
        options={"SKIP_SAVE"},
    )
    colour_space: bpy.props.EnumProperty(
        name="Colours",
        items=(
            ("AUTO", "Automatic", "As the file says, else sRGB"),
            ("display", "sRGB", "Colours as on a screen: what trainers make of photographs"),
            ("linear", "Linear Rec. 709", "Linear light, trained on renders or raw photographs"),
        ),
        description="What the colours are, where they look washed out or too dark",
        options={"SKIP_SAVE"},
    )
    set_times: bpy.props.BoolProperty(
        name="Set Time Range", description="Say which times of a moving capture are played", options={"SKIP_SAVE"}
    )
    first_time: bpy.props.FloatProperty(name="First Time", default=0.0, description="In the file's own unit, mostly 0 to 1")
    last_time: bpy.props.FloatProperty(name="Last Time", default=1.0, description="In the file's own unit, mostly 0 to 1")
    opacities: bpy.props.EnumProperty(name="Opacity", items=_CHANGES, description=_LOST, options={"SKIP_SAVE"})
    colours: bpy.props.EnumProperty(name="Colour", items=_CHANGES, description=_LOST, options={"SKIP_SAVE"})

    _timer: bpy.types.Timer | None = None

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        layout.use_property_split = True
        layout.use_property_decorate = False
        column = layout.column(align=True)
        column.prop(self, "start_frame")
        column.prop(self, "frames")
        header, body = layout.panel("vivant_import_overrides", default_closed=True)
        header.label(text="Overrides")
        if body is None:
            return
        paragraph(body, context, "For files that do not say what they mean. Leave these alone while the splats look right.")
        for name in ("axes", "activation", "colour_space"):
            body.prop(self, name)
        body.prop(self, "set_times")
        if self.set_times:
            column = body.column(align=True)
            column.prop(self, "first_time")
            column.prop(self, "last_time")
        column = body.column(align=True)
        column.label(text="Moved by the Network")
        column.prop(self, "opacities")
        column.prop(self, "colours")

    def _overrides(self) -> Overrides:
        from ..backends.gaussian.formats import Overrides

        axes, activation, space = ("" if each == "AUTO" else each for each in (self.axes, self.activation, self.colour_space))
        opacities, colours = (None if each == "AUTO" else each == "MOVE" for each in (self.opacities, self.colours))
        times = (self.first_time, self.last_time) if self.set_times else None
        return Overrides(axes, activation, space, times, opacities, colours)

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        self.start_frame = context.scene.frame_start
        if self.directory or self.properties.is_property_set("filepath"):
            return self.invoke_popup(context)  # dropped into the window
        return ImportHelper.invoke(self, context, event)

    def execute(self, context: bpy.types.Context) -> set[str]:
        from ..backends.gaussian.formats import read_splats

        paths = self._paths()
        try:
            overrides = self._overrides()
        except VivantError as error:
            return self._fail(error)
        size = sum(path.stat().st_size for path in paths if path.is_file())
        if bpy.app.background or size < BLOCKING_BYTES:
            try:
                clouds = [read_splats(path, overrides) for path in paths]
            except VivantError as error:
                return self._fail(error)
            return self._finish(context, clouds)
        self._pool = ThreadPoolExecutor(1)
        self._reading: Future[list[SplatCloud]] = self._pool.submit(lambda: [read_splats(path, overrides) for path in paths])
        self._timer = context.window_manager.event_timer_add(0.05, window=context.window)
        context.window_manager.modal_handler_add(self)
        context.workspace.status_text_set(f"Reading {size / 1e6:,.0f} MB of splats: Esc cancels")
        return {"RUNNING_MODAL"}

    def modal(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        if event.type == "ESC" and event.value == "PRESS":  # to let go of it may end what was stopped before
            self._stop(context)
            return self._fail(Cancelled("The import was stopped; nothing has changed."))
        if event.type != "TIMER" or not self._reading.done():
            return {"PASS_THROUGH"}
        self._stop(context)
        try:
            clouds = self._reading.result()
        except VivantError as error:
            return self._fail(error)
        return self._finish(context, clouds)

    def cancel(self, context: bpy.types.Context) -> None:
        """Blender ends the operator: its window closes, or the file browser does before anything began."""
        if self._timer:
            self._stop(context)

    def _paths(self) -> list[pathlib.Path]:
        folder = pathlib.Path(bpy.path.abspath(self.directory))
        named = [folder / file.name for file in self.files if file.name]
        return named or [pathlib.Path(bpy.path.abspath(self.filepath))]

    def _stop(self, context: bpy.types.Context) -> None:
        context.window_manager.event_timer_remove(self._timer)
        if context.workspace:  # not while another file is loaded
            context.workspace.status_text_set(None)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _fail(self, error: VivantError) -> set[str]:
        self.report({"WARNING"} if isinstance(error, Cancelled) else {"ERROR"}, str(error))
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
