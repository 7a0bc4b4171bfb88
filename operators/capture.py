# SPDX-License-Identifier: GPL-3.0-or-later
"""Capture the scene from all around, to train splats on."""

from __future__ import annotations

import time
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

import bpy

from ..backends.common import room
from ..backends.common.errors import Cancelled, VivantError
from ..engine.progress import State
from ..scene import cameras
from .job import JobOperator

if TYPE_CHECKING:
    from ..scene import capture

SHELLS = [
    ("HEMISPHERE", "Hemisphere", "All around and above, as far away as the active camera and with its lens"),
    ("SPHERE", "Sphere", "All around, from below too, as far away as the active camera and with its lens"),
    ("ORBIT", "Orbit", "Once around at the height of the active camera, with its lens"),
    ("CAMERAS", "My Cameras", "Every camera of the scene, as it moves"),
]
_PASSES = [
    ("depth", "Depth", "Distance along the view"),
    ("normal", "Normal", "Which way surfaces face"),
    ("object_index", "Object Index", "The pass index of each object, which Cycles renders"),
    ("albedo", "Albedo", "Colour of surfaces without light"),
]


class Settings:
    """Mixin: what can be chosen of a capture, in the tab and in its operators."""

    directory: bpy.props.StringProperty(
        name="Folder",
        description="Where the pictures go; an interrupted capture goes on there",
        default="//capture/",
        subtype="DIR_PATH",
    )
    shell: bpy.props.EnumProperty(name="From", description="Where pictures are taken from", items=SHELLS)
    views: bpy.props.IntProperty(
        name="Pictures", description="How many to train on", default=100, min=2, soft_max=500, max=10_000
    )
    held_out: bpy.props.IntProperty(
        name="Held Out", description="Pictures more that are only used to measure the result", default=10, min=0, max=1000
    )
    every_frame: bpy.props.BoolProperty(
        name="At Every Frame",
        description="Take all pictures at each frame. Else each is taken at a frame of its own, which suffices for most motion",
    )
    longest: bpy.props.IntProperty(
        name="Longer Side",
        description="Pixels of each picture, 0 for the scene's",
        default=800,
        min=0,
        max=8192,
        subtype="PIXEL",
    )
    selected_only: bpy.props.BoolProperty(
        name="Selected Only", description="Only selected objects are seen; the others still cast light and shadows on them"
    )
    engine: bpy.props.EnumProperty(
        name="Engine",
        description="What renders the pictures",
        items=[
            ("SCENE", "The Scene's", "As F12 does"),
            ("EEVEE", "EEVEE", "Fast, on the graphics card"),
            ("CYCLES", "Cycles", "Path traced"),
        ],
    )
    samples: bpy.props.IntProperty(name="Samples", description="Per pixel, 0 for the scene's", min=0, soft_max=1024)
    transform: bpy.props.EnumProperty(
        name="Colours",
        description="What is trained: values as they are displayed",
        items=[
            ("Standard", "Standard", "Splats put into a scene with lights then look like the original there"),
            ("SCENE", "As Displayed", "With the scene's view transform, look and exposure baked in"),
        ],
    )
    passes: bpy.props.EnumProperty(
        name="Passes", description="Other layers, as EXR beside each picture", items=_PASSES, options={"ENUM_FLAG"}
    )


def settings_of(chosen: Settings) -> dict[str, object]:
    """What a scene's settings say, for an operator."""
    return {name: getattr(chosen, name) for name in Settings.__annotations__}


def wish_of(context: bpy.types.Context, chosen: Settings) -> capture.Wish:
    """What is to be captured.  Raises VivantError where only selected objects shall be seen, and none are."""
    from ..scene import borrowed, capture  # not before it is needed: Blender starts with this module

    objects = tuple(one.name for one in context.selected_objects if one.type != "CAMERA") if chosen.selected_only else ()
    if chosen.selected_only and not objects:
        raise VivantError("No object is selected.", "Select what is to be captured, or switch Selected Only off.")
    size = cameras.picture_size(context.scene)
    if chosen.longest:
        size = tuple(max(round(side * chosen.longest / max(size)), 1) for side in size)
    return capture.Wish(
        shell=chosen.shell,
        views=chosen.views,
        held_out=chosen.held_out,
        every_frame=chosen.every_frame,
        size=size,
        objects=objects,
        passes=tuple(name for name in borrowed.PASSES if name in chosen.passes),
        transform="" if chosen.transform == "SCENE" else chosen.transform,
        engine="" if chosen.engine == "SCENE" else chosen.engine,
        samples=chosen.samples,
    )


class Capturing:
    """Steps of a capture, to its operator a job (see `engine.jobs.Job`); each picture is rendered in Blender's own thread."""

    def __init__(self, steps: Generator[tuple[int, int, str], None, capture.Captured]) -> None:
        self.warnings: list[str] = []
        self.progress = State()
        self._steps = steps
        self._result: capture.Captured | VivantError | None = None
        self._first: tuple[int, float] | None = None  # pictures that were there, and when the others began

    def poll(self) -> bool:
        """Render the next picture; True when there is none left."""
        if self._result is None:
            try:
                done, total, note = next(self._steps)
            except StopIteration as end:
                self._result = end.value
            except VivantError as error:
                self._result = error
            else:
                self._first = self._first or (done, time.monotonic())
                new = done - self._first[0]
                left = (time.monotonic() - self._first[1]) / new * (total - done) if new else None
                self.progress = State(done, total, left, f"picture {done + 1} of {total}, {note}")
        return self._result is not None

    def wait(self, timeout: float | None = None) -> bool:
        """Render pictures until there is none left or `timeout` seconds are over; True when there is none."""
        until = None if timeout is None else time.monotonic() + timeout
        while not self.poll() and (until is None or time.monotonic() < until):
            pass
        return self._result is not None

    def cancel(self) -> None:
        """Stop; what has been rendered stays."""
        if self._result is None:
            self._steps.close()
            done, total = int(self.progress.done), int(self.progress.total)
            self._result = Cancelled(f"Stopped after {done} of {total} pictures.", "Capture into the same folder to go on.")

    kill = cancel

    def result(self) -> capture.Captured:
        """What was captured.  Raises VivantError where it was not, or not all."""
        self.wait()
        if isinstance(self._result, VivantError):
            raise self._result
        assert self._result is not None
        return self._result


class VIVANT_OT_scene_capture(Settings, JobOperator, bpy.types.Operator):
    """Render the scene from all around at all its frames, into a folder of posed pictures to train splats on"""

    bl_idname = "vivant.scene_capture"
    bl_label = "Capture Scene"
    bl_options = {"REGISTER"}

    def submit(self, context: bpy.types.Context) -> Capturing:
        from ..scene import capture

        folder = _folder(self.directory)
        return Capturing(capture.capturing(context.scene, context.view_layer, folder, wish_of(context, self)))

    def finish(self, context: bpy.types.Context, job: Capturing) -> None:
        found = job.result()
        kept = f", {found.kept} of them from before" if found.kept else ""
        self.report({"INFO"}, f"{found.pictures} pictures ({_size(found.bytes)}){kept}, in {found.folder}.")


class VIVANT_OT_scene_capture_estimate(Settings, bpy.types.Operator):
    """Render one picture of the capture, and say how long all will take and how large they will be"""

    bl_idname = "vivant.scene_capture_estimate"
    bl_label = "Estimate Time and Size"
    bl_options = {"REGISTER"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        from ..scene import capture

        try:
            wish = wish_of(context, self)
            free = room.free_disk(_folder(self.directory))
            found = capture.estimate(context.scene, context.view_layer, wish)
        except VivantError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        takes = f"{found.pictures} pictures: about {_duration(found.seconds)} and {_size(found.bytes)}"
        said = f"{takes}; {free / 1e9:,.0f} GB are free"
        context.scene.vivant_capture.estimate, context.scene.vivant_capture.estimated = said, repr(wish)
        self.report({"INFO"}, said)
        return {"FINISHED"}


class VIVANT_OT_cameras_pose(bpy.types.Operator):
    """List the background pictures of the scene's cameras with the cameras' poses, as a folder to train splats on"""

    bl_idname = "vivant.cameras_pose"
    bl_label = "Use Background Pictures"
    bl_options = {"REGISTER"}

    directory: bpy.props.StringProperty(name="Folder", description="The folder that holds all the pictures", subtype="DIR_PATH")
    held_out: bpy.props.IntProperty(name="Held Out", description="Cameras that are only used to measure the result", min=0)

    def execute(self, context: bpy.types.Context) -> set[str]:
        from ..scene import sequences

        try:
            folder = _folder(self.directory)
            counts = sequences.pose(context.scene, context.view_layer, folder, held_out=self.held_out)
        except VivantError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        self.report({"INFO"}, f"{counts['train']} pictures to train on, {counts['test']} held out, in {folder}.")
        return {"FINISHED"}


class VIVANT_PG_capture(Settings, bpy.types.PropertyGroup):
    """How a scene is captured"""

    estimate: bpy.props.StringProperty(description="What the last estimate said", options={"SKIP_SAVE"})
    estimated: bpy.props.StringProperty(description="What it was of", options={"SKIP_SAVE"})


def _folder(name: str) -> Path:
    """Raises VivantError for one relative to a .blend that was never saved."""
    if name.startswith("//") and not bpy.data.filepath:
        raise VivantError("There is no folder beside a file that was never saved.", "Save it, or give a whole path.")
    return Path(bpy.path.abspath(name)).absolute()


def _size(count: int) -> str:
    return f"{count / 1e6:,.0f} MB" if count >= 1e7 else f"{count / 1e3:,.0f} KB"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def register() -> None:
    """Attach the settings to scenes."""
    bpy.types.Scene.vivant_capture = bpy.props.PointerProperty(type=VIVANT_PG_capture)


def unregister() -> None:
    """Detach them."""
    del bpy.types.Scene.vivant_capture


CLASSES = (VIVANT_PG_capture, VIVANT_OT_scene_capture, VIVANT_OT_scene_capture_estimate, VIVANT_OT_cameras_pose)
