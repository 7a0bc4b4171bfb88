# SPDX-License-Identifier: GPL-3.0-or-later
"""Export splats with their edits to every format that Vivant writes: from the menu, with what gets lost named beforehand."""

from __future__ import annotations

import pathlib
import time
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor

import bpy
from bpy_extras.io_utils import ExportHelper

from ..backends.common.errors import Cancelled, VivantError
from ..backends.gaussian.cloud import SplatCloud
from ..scene import exports, pointclouds
from . import splats_io
from .texts import megabytes, paragraph

# A test holds these to the table of formats: loading that would make Blender start more slowly.
FORMS = (
    (".ply", "PLY (.ply)", "Read by nearly everything; exact, with motion by formula in the columns of its own project"),
    (".compressed.ply", "Compressed PLY (.compressed.ply)", "A quarter of a PLY's size, for PlayCanvas and SuperSplat"),
    (".spz", "SPZ (.spz)", "A tenth of a PLY's size, for Niantic's tools and many viewers"),
    (".sog", "SOG (.sog)", "A fifteenth of a PLY's size, for the web: PlayCanvas and SuperSplat"),
    ("meta.json", "SOG in Several Files (meta.json)", "As SOG, as a list of contents and images beside it"),
    (".glb", "glTF (.glb)", "KHR_gaussian_splatting in one file, exact"),
    (".gltf", "glTF in Several Files (.gltf)", "KHR_gaussian_splatting as text with its numbers in a file beside it, exact"),
    (".usdc", "USD (.usdc)", "Gaussian splats of OpenUSD 26.03, exact; any motion as samples, which Blender 5.3 plays"),
    (".usda", "USD as Text (.usda)", "As USD, but large and slow"),
    (".usdz", "USD Package (.usdz)", "As USD, in one package"),
    (".splatv", "splatv (.splatv)", "Spacetime Gaussians for the web viewer; one colour a splat"),
    (".splat", "splat (.splat)", "For the oldest web viewers; one colour a splat"),
    (".zip", "PLY Sequence (.zip)", "A PLY a frame in one archive; any motion, exact"),
)
SAMPLED = (".usdc", ".usda", ".usdz", ".zip")
SLICE = 0.05  # seconds of frames that the scene is set to, between two looks at the user

_lost: tuple[object, tuple[str, ...]] = (None, ())


def chosen(context: bpy.types.Context) -> list[bpy.types.Object]:
    """The selected splats, the active ones first."""
    found = [each for each in context.selected_objects if pointclouds.is_splats(each)]
    active = context.active_object
    return [active, *(each for each in found if each != active)] if pointclouds.is_splats(active) else found


def retitled(name: str, form: str, fallback: str) -> str:
    """A file's name with the ending of another format."""
    old = next((known for known, *_ in sorted(FORMS, key=lambda each: -len(each[0])) if name.lower().endswith(known)), "")
    stem = "" if old == "meta.json" else name[: len(name) - len(old)]
    return (stem or fallback) + form if form.startswith(".") else form


class VIVANT_OT_splats_export(bpy.types.Operator, ExportHelper):
    """Export the selected splats as one file, with all edits, where they stand in the scene; still or moving"""

    bl_idname = "vivant.splats_export"
    bl_label = "Export Splats"
    bl_options = {"REGISTER", "PRESET"}

    filename_ext = ""
    check_extension = None
    filter_glob: bpy.props.StringProperty(default=splats_io.SHOWN, options={"HIDDEN"})
    form: bpy.props.EnumProperty(name="Format", items=FORMS, description="The kind of file, which its name follows")
    motion: bpy.props.EnumProperty(
        name="Motion",
        description="What is written of splats that move",
        items=(
            (exports.MOTION, "With Motion", "The whole clip, where the format can hold it"),
            (exports.FRAME, "Current Frame", "The splats as they are at the current frame"),
            (exports.FILES, "A File a Frame", "Numbered files, in any format"),
        ),
    )
    frame_start: bpy.props.IntProperty(name="Frame Start", description="First frame of what is written frame by frame")
    frame_end: bpy.props.IntProperty(name="End", description="Last frame of what is written frame by frame")
    placed: bpy.props.BoolProperty(
        name="Apply Transform",
        default=True,
        description="Write the splats where they stand in the scene; otherwise where they were in their capture",
    )
    selected_only: bpy.props.BoolProperty(
        name="Selected Only", description="Write only the splats that are selected in Edit Mode"
    )
    degree: bpy.props.IntProperty(
        name="SH Degree", default=4, min=0, max=4, description="Keep colours by direction up to this degree; 0 is one colour"
    )
    axes: bpy.props.EnumProperty(
        name="Axes",
        items=(("AUTO", "Automatic", "As the format says"), *splats_io.AXES),
        description="Which way is up, where the program that will read the file expects something else than the format says",
    )

    _timer: bpy.types.Timer | None = None
    _steps: Generator[float, None, SplatCloud] | None = None

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if chosen(context):
            return True
        cls.poll_message_set("Select splats")
        return False

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        global _lost
        _lost = None, ()  # the splats may be others since the last dialog
        scene = context.scene
        self.frame_start, self.frame_end = scene.frame_start, scene.frame_end
        self.filepath = retitled(self.filepath or chosen(context)[0].name, self.form, "splats")  # type: ignore[has-type]
        return ExportHelper.invoke(self, context, event)

    def check(self, context: bpy.types.Context) -> bool:
        """Follow the format with the name."""
        path = pathlib.Path(self.filepath)
        name = retitled(path.name, self.form, chosen(context)[0].name)
        self.filepath = str(path.with_name(name))
        return name != path.name

    def draw(self, context: bpy.types.Context) -> None:
        layout, splats = self.layout, chosen(context)
        layout.use_property_split = True
        layout.use_property_decorate = False
        layout.prop(self, "form")
        if any(pointclouds.mover_of(each) for each in splats):
            layout.prop(self, "motion")
            if self.motion == exports.FILES or (self.motion == exports.MOTION and self.form in SAMPLED):
                column = layout.column(align=True)
                column.prop(self, "frame_start")
                column.prop(self, "frame_end")
        layout.prop(self, "degree")
        column = layout.column(heading="Splats")
        column.prop(self, "placed")
        column.prop(self, "selected_only")
        layout.prop(self, "axes")
        if lost := self._lost(context, splats):
            box = layout.box()
            box.label(text="Not in the File", icon="INFO")
            for sentence in lost:
                paragraph(box, context, sentence)

    def execute(self, context: bpy.types.Context) -> set[str]:
        splats, path = chosen(context), pathlib.Path(bpy.path.abspath(self.filepath))
        path = path.with_name(retitled(path.name, self.form, "splats")) if self.properties.is_property_set("form") else path
        choices = self._choices()
        try:
            self._said = exports.losses(context.scene, splats, path, choices)
            if bpy.app.background:
                exports.write(context.scene, splats, path, choices)
                return self._finish(path)
            self._steps = exports.gather(context.scene, splats, path, choices)
        except VivantError as error:
            return self._fail(error)
        self._path, self._choice, self._stopped, self._share = choices.named(path), choices, False, 0.0
        self._pool = ThreadPoolExecutor(1)
        self._writing: Future[None] | None = None
        self._timer = context.window_manager.event_timer_add(0.05, window=context.window)
        context.window_manager.modal_handler_add(self)
        return {"RUNNING_MODAL"}

    def modal(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        if event.type == "ESC" and event.value == "PRESS":
            self._stopped = True
        elif event.type != "TIMER":
            return {"PASS_THROUGH"}
        try:
            if self._steps:
                self._advance(context)
            elif self._writing and self._writing.done():
                self._end(context)
                self._writing.result()
                return self._finish(self._path)
        except VivantError as error:
            self._end(context)
            return self._fail(error)
        said = "Stopping" if self._stopped else f"Writing {self._path.name}: {self._share:.0%}, Esc cancels"
        context.workspace.status_text_set(said)
        return {"RUNNING_MODAL"}

    def cancel(self, context: bpy.types.Context) -> None:
        """Blender ends the operator: its window closes, or the file browser does before anything began."""
        self._stopped = True
        if self._timer:
            self._end(context)

    def _advance(self, context: bpy.types.Context) -> None:
        """Look at some frames; after the last one a thread writes."""
        assert self._steps
        until = time.monotonic() + SLICE
        try:
            while time.monotonic() < until:
                self._told(0, 1)
                self._share = next(self._steps) / 2
        except StopIteration as end:
            self._steps = None
            self._writing = self._pool.submit(exports.save, end.value, self._path, self._choice.axes, self._told)

    def _told(self, number: int, of: int) -> None:
        """Progress of the writing; raises Cancelled where the user wants no more of it."""
        if self._stopped:
            raise Cancelled("The export was stopped; nothing was written.")
        self._share = 0.5 + number / of / 2 if of > 1 else self._share

    def _choices(self) -> exports.Choices:
        frames = (self.frame_start, self.frame_end) if self.properties.is_property_set("frame_start") else None
        axes = "" if self.axes == "AUTO" else self.axes
        return exports.Choices(self.motion, frames, self.placed, self.selected_only, self.degree, axes)

    def _lost(self, context: bpy.types.Context, splats: list[bpy.types.Object]) -> tuple[str, ...]:
        """What the file will not hold, found once for the same choices."""
        global _lost
        choices = self._choices()
        key = (*(each.name_full for each in splats), self.form, choices, context.scene.frame_current)
        if _lost[0] != key:
            try:
                _lost = key, exports.losses(context.scene, splats, pathlib.Path(retitled("a", self.form, "a")), choices)
            except VivantError as error:
                _lost = key, (str(error),)
        return _lost[1]

    def _end(self, context: bpy.types.Context) -> None:
        if self._steps:
            self._steps.close()  # sets the scene back to its frame
        context.window_manager.event_timer_remove(self._timer)
        if context.workspace:
            context.workspace.status_text_set(None)
        self._pool.shutdown(wait=False)

    def _finish(self, path: pathlib.Path) -> set[str]:
        for sentence in self._said:
            self.report({"WARNING"}, sentence)
        size = f", {megabytes(path.stat().st_size)}" if path.is_file() else ""
        self.report({"INFO"}, f"{path.name} is written{size}.")
        return {"FINISHED"}

    def _fail(self, error: VivantError) -> set[str]:
        self.report({"WARNING"} if isinstance(error, Cancelled) else {"ERROR"}, str(error))
        return {"CANCELLED"}


CLASSES = (VIVANT_OT_splats_export,)
