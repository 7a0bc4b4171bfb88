# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps splats in their file instead of the .blend, and finds the file again; a thread reads and writes."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from pathlib import Path
from typing import Generic, TypeVar

import bpy
from bpy_extras.io_utils import ExportHelper, ImportHelper

from ..backends.common.errors import Cancelled, VivantError
from ..backends.gaussian.cloud import SplatCloud
from ..engine.progress import State
from ..scene import columns, outside, playback, pointclouds
from .job import JobOperator

Result = TypeVar("Result")


class InThread(Generic[Result]):
    """Work of a thread, as `JobOperator` follows jobs: it is told of its progress, which raises where it is to stop."""

    warnings: tuple[str, ...] = ()

    def __init__(self, work: Callable[[Callable[[int, int], None]], Result], note: str) -> None:
        self._pool = ThreadPoolExecutor(1, "vivant files")
        self._stopped = False
        self.progress = State(note=note)
        self._future = self._pool.submit(work, self._told)

    def poll(self) -> bool:
        return self._future.done()

    def wait(self, seconds: float) -> bool:
        wait_for([self._future], seconds)
        return self.poll()

    def cancel(self) -> None:
        self._stopped = True

    def kill(self) -> None:
        if not self._future.done():
            self.cancel()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def result(self) -> Result:
        return self._future.result()

    def _told(self, done: int, total: int) -> None:
        if self._stopped:
            raise Cancelled("Nothing was changed.")
        self.progress = State(done, total, note=self.progress.note)


class Reading(InThread[SplatCloud]):
    """A file that is read: what was begun is read to its end, but nobody waits."""

    def poll(self) -> bool:
        return self._stopped or super().poll()

    def result(self) -> SplatCloud:
        if self._stopped:
            raise Cancelled("Nothing was changed.")
        return super().result()


class Outside(JobOperator):
    """Mixin: an operator on the active splats that reads their file; `path` says which, `take` what becomes of it."""

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return pointclouds.is_splats(context.active_object)

    def submit(self, context: bpy.types.Context) -> Reading:
        splats = context.active_object
        self._name = splats.name
        self._path = self.path(splats)
        path, overrides = self._path, pointclouds.facts_of(splats).get("overrides", {})
        return Reading(lambda told: outside.read(path, overrides), f"Reading {path.name}")

    def finish(self, context: bpy.types.Context, job: Reading) -> None:
        if splats := bpy.data.objects.get(self._name):
            self.take(splats, job.result())
            playback.show_now(splats, context.scene)
            size = f"{columns.bytes_of(splats.data) / 1e6:,.1f} MB"
            self.report({"INFO"}, f"{splats.name}: {size} stay in {self._path.name}; the .blend only says where that is.")

    def path(self, splats: bpy.types.Object) -> Path:
        raise NotImplementedError

    def take(self, splats: bpy.types.Object, cloud: SplatCloud) -> None:
        raise NotImplementedError


class VIVANT_OT_splats_keep_outside(Outside, bpy.types.Operator):
    """Leave the splats in the file that they were imported from: the .blend stays small and reads them when it is opened"""

    bl_idname = "vivant.splats_keep_outside"
    bl_label = "Keep Outside .blend"

    def path(self, splats: bpy.types.Object) -> Path:
        return outside.origin_of(splats)

    def take(self, splats: bpy.types.Object, cloud: SplatCloud) -> None:
        outside.keep(splats, cloud)


class VIVANT_OT_splats_find(Outside, bpy.types.Operator, ImportHelper):
    """Choose the file that these splats are in now"""

    bl_idname = "vivant.splats_find"
    bl_label = "Find File"

    filter_glob: bpy.props.StringProperty(default="*", options={"HIDDEN"})
    browse: bpy.props.BoolProperty(default=True, options={"HIDDEN", "SKIP_SAVE"})

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return outside.is_kept(context.active_object)

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        if self.browse:
            self.filepath, self.browse = str(outside.place_of(context.active_object)), False
            context.window_manager.fileselect_add(self)
            return {"RUNNING_MODAL"}
        return JobOperator.invoke(self, context, event)

    def execute(self, context: bpy.types.Context) -> set[str]:
        blocking = bpy.app.background or context.window is None
        return JobOperator.execute(self, context) if blocking else JobOperator.invoke(self, context, None)

    def path(self, splats: bpy.types.Object) -> Path:
        return Path(bpy.path.abspath(self.filepath)) if self.filepath else outside.place_of(splats)

    def take(self, splats: bpy.types.Object, cloud: SplatCloud) -> None:
        outside.find(splats, self._path, cloud)


class VIVANT_OT_splats_save_outside(JobOperator, bpy.types.Operator, ExportHelper):
    """Write the splats as they are to a file beside the .blend, and keep them there"""

    bl_idname = "vivant.splats_save_outside"
    bl_label = "Save Outside"

    filename_ext = ".ply"
    filter_glob: bpy.props.StringProperty(default="*.ply", options={"HIDDEN"})

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return pointclouds.is_splats(context.active_object)

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        folder = Path(bpy.data.filepath).parent if bpy.data.filepath else Path.home()
        self.filepath = str(folder / f"{bpy.path.clean_name(context.active_object.name)}.ply")
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        blocking = bpy.app.background or context.window is None
        return JobOperator.execute(self, context) if blocking else JobOperator.invoke(self, context, None)

    def submit(self, context: bpy.types.Context) -> InThread[outside.Written]:
        splats, path = context.active_object, Path(bpy.path.abspath(self.filepath))
        self._name = splats.name
        return InThread(outside.writing(splats, path), f"Writing {path.name}")

    def finish(self, context: bpy.types.Context, job: InThread[outside.Written]) -> None:
        written = job.result()
        if splats := bpy.data.objects.get(self._name):
            outside.take_saved(splats, written)
            self.report({"INFO"}, f"{splats.name} is in {written.path.name}; the .blend only says where that is.")


class VIVANT_OT_splats_bring_in(bpy.types.Operator):
    """Save the splats with the .blend again"""

    bl_idname = "vivant.splats_bring_in"
    bl_label = "Keep in .blend"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return outside.is_kept(context.active_object)

    def execute(self, context: bpy.types.Context) -> set[str]:
        try:
            outside.bring_in(context.active_object)
        except VivantError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}


CLASSES = (
    VIVANT_OT_splats_keep_outside,
    VIVANT_OT_splats_find,
    VIVANT_OT_splats_save_outside,
    VIVANT_OT_splats_bring_in,
)
