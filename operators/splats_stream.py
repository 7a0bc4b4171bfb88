# SPDX-License-Identifier: GPL-3.0-or-later
"""Plays captures that are larger than memory from a file that is sorted by time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import bpy
from bpy_extras.io_utils import ImportHelper

from ..backends.common.errors import VivantError
from ..engine.jobs import Job
from ..scene import clips, playback, pointclouds, streams
from . import splats_playback
from .job import JobOperator, engine


def submit(scene: Path, overrides: Mapping[str, Any], windows: int = 0) -> Job:
    """Start to sort a capture by time, into a file beside the .blend or in the user's cache folder.

    windows: what its time is cut into, 0 for as many as its size asks for.
    """
    from ..backends.gaussian import stream_writer

    path = splats_playback.frames_folder(splats_playback.MOST) / clips.stream_name(scene, overrides)
    return engine().submit("splats.stream", *stream_writer.request(scene, path, overrides, windows))


def submit_again(splats: bpy.types.Object) -> Job:
    """The same for an object whose file is gone.  Raises VivantError when the capture is gone, too."""
    facts = pointclouds.facts_of(splats)
    return submit(clips.scene_of(facts), facts["overrides"], int(facts["samples"]))


def take(splats: bpy.types.Object, job: Job) -> None:
    """Stream from what a job has made.  Raises what the job did."""
    values, _ = job.result()
    streams.renew(splats, Path(values["path"]), values["source"])


class VIVANT_OT_splats_stream(JobOperator, bpy.types.Operator, ImportHelper):
    """Import a moving capture of any size: its splats are sorted by time into a file on the disk, and only those that live
    about the current frame are in memory"""

    bl_idname = "vivant.splats_stream"
    bl_label = "Stream Large Capture"

    filter_glob: bpy.props.StringProperty(default="*.ply;*.4dgs;*.splatv", options={"HIDDEN"})
    start_frame: bpy.props.FloatProperty(name="Start Frame", default=1.0, description="Frame at which the capture begins")
    frames: bpy.props.FloatProperty(
        name="Frames", default=50.0, min=1.0, description="Length of the capture, which files do not say"
    )

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        self.start_frame = context.scene.frame_start
        return ImportHelper.invoke(self, context, event)

    def execute(self, context: bpy.types.Context) -> set[str]:
        blocking = bpy.app.background or context.window is None
        return JobOperator.execute(self, context) if blocking else JobOperator.invoke(self, context, None)

    def submit(self, context: bpy.types.Context) -> Job:
        self._scene = Path(bpy.path.abspath(self.filepath)).absolute()
        if not self._scene.is_file():
            raise VivantError(f"'{self._scene}' is no file.", "Choose a moving capture.")
        return submit(self._scene, {})

    def finish(self, context: bpy.types.Context, job: Job) -> None:
        values, _ = job.result()
        if context.mode != "OBJECT":
            bpy.ops.object.mode_set(mode="OBJECT")
        made = streams.add(context, self._scene, Path(values["path"]), {}, self.start_frame, self.frames)
        context.scene.render.use_lock_interface = True  # renders in a window set points too
        self.report({"INFO"}, f"{made.name}: {values['count']:,} splats, at most {values['most']:,} at once.")


class VIVANT_OT_splats_stream_again(JobOperator, bpy.types.Operator):
    """Make the file again that these splats stream from"""

    bl_idname = "vivant.splats_stream_again"
    bl_label = "Prepare Again"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return clips.is_streamed(pointclouds.facts_of(context.active_object)) if context.active_object else False

    def submit(self, context: bpy.types.Context) -> Job:
        self._name = context.active_object.name
        return submit_again(context.active_object)

    def finish(self, context: bpy.types.Context, job: Job) -> None:
        if splats := bpy.data.objects.get(self._name):
            take(splats, job)
            playback.show_now(splats, context.scene)


@bpy.app.handlers.persistent  # type: ignore[untyped-decorator]
def prepare_missing(scene: bpy.types.Scene, *_: object) -> None:
    """A render begins: a file that is gone is made again before the first picture."""
    splats_playback.renew_missing(scene, clips.is_streamed, submit_again, take)


def register() -> None:
    """Make what is missing when a render begins."""
    bpy.app.handlers.render_init.append(prepare_missing)


def unregister() -> None:
    """Leave renders alone."""
    bpy.app.handlers.render_init.remove(prepare_missing)


CLASSES = (VIVANT_OT_splats_stream, VIVANT_OT_splats_stream_again)
