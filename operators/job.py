# SPDX-License-Identifier: GPL-3.0-or-later
"""Operators that run a job: modal with progress and Esc in a window, a blocking loop in background mode and scripts."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import bpy

from .. import preferences
from ..backends.common.errors import Cancelled, NeedsEngine, VivantError
from ..engine import install
from ..engine.client import Engine
from ..engine.install import Installation
from ..engine.jobs import Job

TICK = 0.1  # seconds between two looks at a running job

_engine = Engine(Path(sys.executable))
_running: list[Running] = []
_last: Job | Installation | None = None


def engine(context: bpy.types.Context | None = None) -> Engine:
    """The engine, in the Python of the preferences.  Raises EngineFailed or NeedsEngine when there is none."""
    _engine.python = preferences.engine_python(context)
    return _engine


def engine_for_networks(context: bpy.types.Context | None = None) -> Engine:
    """The engine, if its Python has PyTorch.  Raises NeedsEngine when it has not, and as `engine`."""
    found = engine(context)
    if not install.works(found.python, install.RUNS_NETWORKS):
        raise NeedsEngine("The engine has no PyTorch.", "Press Install engine in Vivant's preferences.")
    return found


def close_engine() -> None:
    """End all jobs and the engine's processes; the next job starts anew."""
    for entry in list(_running):
        entry.job.kill()
    _engine.close()


def running() -> list[Running]:
    """What runs now, for panels."""
    return list(_running)


def last() -> Job | Installation | None:
    """The job that was started last, by an operator or a script."""
    return _last or _engine.last


@dataclass(eq=False)
class Running:
    """A job that an operator waits for: `label` and `text` to show, `fraction` 0 to 1, `job.cancel()` to stop it."""

    label: str
    job: Job | Installation
    stopping: bool = False

    @property
    def fraction(self) -> float:
        return self.job.progress.fraction

    @property
    def text(self) -> str:
        return "stopping" if self.stopping else self.job.progress.text

    def cancel(self) -> None:
        """Stop the job, gently first; its operator ends when it has ended."""
        self.stopping = True
        self.job.cancel()


class JobOperator:
    """Mixin of an operator that runs a job; put it before bpy.types.Operator.

    Define `submit(context)`, which starts the job, and `finish(context, job)`, which takes `job.result()` and writes it;
    both may raise VivantError, which becomes a report.  Between the two the user goes on working: keep names, not
    references, of what is to be changed, and look it up again in `finish`.  Loading another file stops the job.
    """

    bl_options = {"REGISTER", "UNDO"}
    tick = TICK
    _entry: Running | None = None

    def submit(self, context: bpy.types.Context) -> Job | Installation:
        raise NotImplementedError

    def finish(self, context: bpy.types.Context, job: Job | Installation) -> None:
        raise NotImplementedError

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        try:
            self._entry = self._start(context)
        except VivantError as error:
            return self._fail(error)
        if self._entry.job.poll():
            _running.remove(self._entry)
            return self._apply(context, self._entry.job)
        self._timer, self._said = context.window_manager.event_timer_add(self.tick, window=context.window), ""
        context.window_manager.modal_handler_add(self)
        return {"RUNNING_MODAL"}

    def modal(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        if event.type == "ESC" and event.value == "PRESS":
            self._entry.cancel()
            return {"RUNNING_MODAL"}
        if event.type != "TIMER":
            return {"PASS_THROUGH"}
        if not self._entry.job.poll():
            said = f"{self._entry.label}: {self._entry.text}  (Esc stops it)"
            if said != self._said:
                self._said = said
                context.workspace.status_text_set(said)
                redraw(context)
            return {"PASS_THROUGH"}
        self._end(context)
        return self._apply(context, self._entry.job)

    def cancel(self, context: bpy.types.Context) -> None:
        """Blender ends the operator: its window closes, another file is loaded, or its file browser closes before it began."""
        if self._entry:
            self._end(context)

    def execute(self, context: bpy.types.Context) -> set[str]:
        try:
            entry = self._start(context)
        except VivantError as error:
            return self._fail(error)
        said = ""
        try:
            while not entry.job.wait(1.0):
                if entry.text != said:
                    said = entry.text
                    print(f"{entry.label}: {said}", flush=True)
        finally:
            entry.job.kill()
            _running.remove(entry)
        return self._apply(context, entry.job)

    def _start(self, context: bpy.types.Context) -> Running:
        global _last
        _last = self.submit(context)
        entry = Running(self.bl_label, _last)
        _running.append(entry)
        return entry

    def _end(self, context: bpy.types.Context) -> None:
        """Take down what `invoke` put up."""
        self._entry.job.kill()
        if self._entry in _running:
            _running.remove(self._entry)
        context.window_manager.event_timer_remove(self._timer)
        if context.workspace:
            context.workspace.status_text_set(None)
        redraw(context)

    def _apply(self, context: bpy.types.Context, job: Job | Installation) -> set[str]:
        for warning in job.warnings:
            self.report({"WARNING"}, warning)
        try:
            self.finish(context, job)
        except VivantError as error:
            return self._fail(error)
        return {"FINISHED"}

    def _fail(self, error: VivantError) -> set[str]:
        self.report({"WARNING"} if isinstance(error, Cancelled) else {"ERROR"}, str(error))
        return {"CANCELLED"}


def redraw(context: bpy.types.Context) -> None:
    """Let the sidebars and the preferences show the progress."""
    for window in context.window_manager.windows:
        for area in window.screen.areas:
            if area.type in {"VIEW_3D", "PREFERENCES"}:
                area.tag_redraw()


@bpy.app.handlers.persistent  # type: ignore[untyped-decorator]
def stop_all(*_: object) -> None:
    """Nothing of the file that goes may be written into the one that comes."""
    for entry in list(_running):
        entry.job.kill()
