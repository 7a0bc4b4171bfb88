# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine: test it, install it, restart it, stop its jobs, tell what happened; and the cache."""

from __future__ import annotations

import platform
import shutil
import tomllib
from pathlib import Path

import bpy
import numpy as np

from .. import preferences
from ..backends.common.errors import VivantError
from ..engine import install
from ..engine.install import Installation
from ..engine.jobs import Job
from . import job as jobs

ROOT = Path(__file__).resolve().parents[1]


class VIVANT_OT_engine_test(jobs.JobOperator, bpy.types.Operator):
    """Start the engine and ask what it has to work with"""

    bl_idname = "vivant.engine_test"
    bl_label = "Test Engine"
    bl_options = {"INTERNAL"}

    def submit(self, context: bpy.types.Context) -> Job:
        preferences.findings[:] = []
        return jobs.engine(context).submit("doctor", {})

    def finish(self, context: bpy.types.Context, job: Job) -> None:
        try:
            values, _ = job.result()
        except VivantError as error:
            preferences.findings[:] = [error.message, error.hint]
            raise
        packages = ", ".join(f"{name} {version}" for name, version in values["packages"].items())
        preferences.findings[:] = [
            f"The engine works: Python {values['python']}, {values['graphics']}",
            f"{values['executable']}: {packages}",
        ]
        self.report({"INFO"}, ". ".join(preferences.findings))


class VIVANT_OT_engine_install(jobs.JobOperator, bpy.types.Operator):
    """Download PyTorch and what else the heavy work needs (0.3 GB, 3 GB with an NVIDIA card) into a folder of Vivant's own"""

    bl_idname = "vivant.engine_install"
    bl_label = "Install Engine…"
    bl_options = {"INTERNAL"}

    def submit(self, context: bpy.types.Context) -> Installation:
        jobs.close_engine()  # Windows replaces no Python that runs
        return Installation(preferences.user_folder("engine"), ROOT / "wheels" / "engine.txt", bpy.app.online_access)

    def finish(self, context: bpy.types.Context, job: Installation) -> None:
        python = job.result()
        jobs.close_engine()  # what was started meanwhile runs in the environment that is gone
        preferences.findings.clear()
        self.report({"INFO"}, f"The engine is installed: {python}.")

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        cls.poll_message_set("Stop the work that is going on first")
        return not jobs.running()


class VIVANT_OT_engine_remove(bpy.types.Operator):
    """Delete the environment that Install Engine made"""

    bl_idname = "vivant.engine_remove"
    bl_label = "Remove Engine"
    bl_options = {"INTERNAL"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        jobs.close_engine()
        install.remove(preferences.user_folder("engine"))
        preferences.findings.clear()
        self.report({"INFO"}, "The installed engine is removed.")
        return {"FINISHED"}


class VIVANT_OT_engine_restart(bpy.types.Operator):
    """Stop all jobs and end the engine; the next job starts it anew"""

    bl_idname = "vivant.engine_restart"
    bl_label = "Restart Engine"
    bl_options = {"INTERNAL"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        jobs.close_engine()
        install.works.cache_clear()
        self.report({"INFO"}, "The engine starts anew with the next job.")
        return {"FINISHED"}


class VIVANT_OT_job_cancel(bpy.types.Operator):
    """Stop the work that is going on"""

    bl_idname = "vivant.job_cancel"
    bl_label = "Stop"
    bl_options = {"INTERNAL"}

    index: bpy.props.IntProperty(
        name="Job", description="Which of the running jobs; -1: all of them", default=-1, min=-1, options={"SKIP_SAVE"}
    )

    def execute(self, context: bpy.types.Context) -> set[str]:
        entries = jobs.running()
        for entry in entries if self.index < 0 else entries[self.index : self.index + 1]:
            entry.cancel()
        return {"FINISHED"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return bool(jobs.running())


class VIVANT_OT_report_copy(bpy.types.Operator):
    """Copy versions, the last job and the end of its log, to send them to the authors"""

    bl_idname = "vivant.report_copy"
    bl_label = "Copy Report"
    bl_options = {"INTERNAL"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        context.window_manager.clipboard = report_text()
        self.report({"INFO"}, "The report is on the clipboard.")
        return {"FINISHED"}


def report_text() -> str:
    """Versions, the engine, the last job and the end of its log."""
    manifest = ROOT / "blender_manifest.toml"
    version = tomllib.loads(manifest.read_text("utf-8"))["version"] if manifest.is_file() else "from source"
    try:
        python = str(preferences.engine_python())
    except VivantError as error:
        python = str(error)
    lines = [
        f"Vivant {version}",
        f"Blender {bpy.app.version_string} ({bpy.app.build_hash.decode()}), {platform.platform()}",
        f"Python {platform.python_version()}, NumPy {np.__version__}",
        f"Engine: {python}",
        *preferences.findings,
    ]
    if work := jobs.last():
        state = str(work.error or "done") if work.done else work.progress.text
        lines += [f"Last job: {work.kind}: {state}", *work.warnings, "Log:", work.log_tail()]
    return "\n".join(lines) + "\n"


class VIVANT_OT_cache_clear(bpy.types.Operator):
    """Delete what Vivant keeps to be faster the next time; nothing that you made is in it"""

    bl_idname = "vivant.cache_clear"
    bl_label = "Clear Cache"
    bl_options = {"INTERNAL"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        folder = preferences.cache_folder(context)
        try:
            if folder.is_dir():
                shutil.rmtree(folder)
        except OSError as error:
            self.report({"ERROR"}, f"The cache {folder} cannot be deleted: {error.strerror}. Close what uses it and try again.")
            return {"CANCELLED"}
        finally:
            preferences.forget_cache_size()
        self.report({"INFO"}, "The cache is empty.")
        return {"FINISHED"}


def register() -> None:
    """Watch for files being loaded."""
    bpy.app.handlers.load_pre.append(jobs.stop_all)


def unregister() -> None:
    """Stop watching, and end the engine."""
    bpy.app.handlers.load_pre.remove(jobs.stop_all)
    jobs.close_engine()


CLASSES = (
    VIVANT_OT_engine_test,
    VIVANT_OT_engine_install,
    VIVANT_OT_engine_remove,
    VIVANT_OT_engine_restart,
    VIVANT_OT_job_cancel,
    VIVANT_OT_report_copy,
    VIVANT_OT_cache_clear,
)
