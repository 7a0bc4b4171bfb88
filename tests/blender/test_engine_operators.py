# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine from inside Blender: preferences, operators that run a job, the report, the cache."""

import os
import pathlib
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import bpy
import numpy as np
import pytest

from vivant import preferences
from vivant.backends.common.errors import VivantError
from vivant.engine import client, install
from vivant.operators import engine as engine_operators
from vivant.operators import job as jobs

# The real server with two kinds of jobs more.
PROGRAM = """
import pathlib, sys, time
sys.path.insert(0, CONFTEST)
import conftest
from vivant.backends import server
from vivant.backends.common import registry
registry.KINDS["slow"] = "__main__:slow"
registry.KINDS["deaf"] = "__main__:deaf"
registry.KINDS["needy"] = "__main__:needy"
registry.KINDS["buggy"] = "__main__:buggy"
def slow(parameters, arrays, progress):
    progress.warning("this takes a while")
    for step in range(parameters["steps"]):
        progress(step, parameters["steps"], "digging")
        time.sleep(0.01)
    print("dug")
    return {}, {"depth": arrays["depth"] + 1}
def deaf(parameters, arrays, progress):
    time.sleep(60)
def needy(parameters, arrays, progress):
    import torch_of_the_future
def buggy(parameters, arrays, progress):
    return 1 / 0
server.serve()
"""


class VIVANT_OT_test_dig(jobs.JobOperator, bpy.types.Operator):
    """Makes an object as deep as the engine says"""

    bl_idname = "vivant.test_dig"
    bl_label = "Dig"

    kind: bpy.props.StringProperty(default="slow")
    steps: bpy.props.IntProperty(default=3)

    def submit(self, context):
        return jobs.engine(context).submit(self.kind, {"steps": self.steps}, {"depth": np.zeros(3, np.float32)})

    def finish(self, context, job):
        _, arrays = job.result()
        bpy.data.objects.new(f"hole {arrays['depth'][0]:.0f}", None)


@pytest.fixture(autouse=True)
def vivant(tmp_path, monkeypatch):
    """A factory file, the engine's own modules registered, a server that knows the test's jobs."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    mine = [cls for cls in (*preferences.CLASSES, *engine_operators.CLASSES, VIVANT_OT_test_dig) if not cls.is_registered]
    for cls in mine:
        bpy.utils.register_class(cls)
    bpy.app.handlers.load_pre.append(jobs.stop_all)
    program = tmp_path / "server.py"
    program.write_text(PROGRAM.replace("CONFTEST", repr(str(pathlib.Path(__file__).parents[1]))))
    monkeypatch.setattr(jobs._engine, "program", program)
    monkeypatch.setattr(preferences, "user_folder", lambda name: tmp_path / "user" / name)
    jobs.close_engine()
    yield
    jobs.close_engine()
    bpy.app.handlers.load_pre.remove(jobs.stop_all)
    for cls in reversed(mine):
        bpy.utils.unregister_class(cls)
    preferences.findings.clear()


@pytest.fixture
def settings():
    """Vivant's preferences as they are when it is installed."""
    addon = bpy.context.preferences.addons.new()
    addon.module = preferences.__package__
    yield addon.preferences
    bpy.context.preferences.addons.remove(addon)


def later(action, seconds=0.3):
    timer = threading.Timer(seconds, action)
    timer.start()
    return timer


def once_it_runs(action) -> threading.Thread:
    """Act when the job has made its first progress, however long the engine takes to start."""

    def wait():
        until = time.monotonic() + 60
        while time.monotonic() < until and not any(entry.fraction for entry in jobs.running()):
            time.sleep(0.02)
        action()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_the_result_is_there_when_the_operator_returns(capfd):
    assert bpy.ops.vivant.test_dig() == {"FINISHED"}
    assert "hole 1" in bpy.data.objects
    assert jobs.running() == []
    assert "dug" in jobs.last().log_tail()


def test_progress_is_printed_in_background(capfd):
    assert bpy.ops.vivant.test_dig(steps=150) == {"FINISHED"}
    assert "Dig: digging, " in capfd.readouterr().out


def test_a_stopped_job_leaves_the_file_as_it_was():
    seen = []

    def stop():
        seen.extend((entry.label, entry.fraction, entry.text) for entry in jobs.running())
        bpy.ops.vivant.job_cancel()

    timer = once_it_runs(stop)
    assert bpy.ops.vivant.test_dig(steps=100_000) == {"CANCELLED"}
    timer.join()
    assert seen[0][0] == "Dig"
    assert 0 < seen[0][1] < 1
    assert "left" in seen[0][2]
    assert not bpy.data.objects
    pid = jobs.last().worker.pid
    assert bpy.ops.vivant.test_dig() == {"FINISHED"}
    assert jobs.last().worker.pid == pid, "a job that stops by itself leaves its process warm"


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
def test_a_deaf_job_is_stopped_by_force_within_six_seconds():
    timer = later(lambda: jobs.running()[0].cancel(), 0.5)
    started = time.monotonic()
    assert bpy.ops.vivant.test_dig(kind="deaf") == {"CANCELLED"}
    timer.join()
    assert time.monotonic() - started < 6
    assert not bpy.data.objects


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
def test_a_killed_engine_is_one_sentence_and_the_next_job_runs():
    timer = once_it_runs(lambda: os.kill(jobs.last().worker.pid, 9))
    with pytest.raises(RuntimeError, match=r"The engine died during “slow”: killed by SIGKILL"):
        bpy.ops.vivant.test_dig(steps=100_000)
    timer.join()
    assert not bpy.data.objects
    assert bpy.ops.vivant.test_dig() == {"FINISHED"}


def test_what_the_engine_lacks_is_named():
    with pytest.raises(RuntimeError, match=r"needs torch_of_the_future, which .* does not have\. Press Install engine"):
        bpy.ops.vivant.test_dig(kind="needy")


def test_a_bug_in_a_job_is_one_sentence_and_its_traceback_is_in_the_report():
    with pytest.raises(RuntimeError, match="ZeroDivisionError: division by zero"):
        bpy.ops.vivant.test_dig(kind="buggy")
    report = engine_operators.report_text()
    assert "Traceback" in report
    assert "return 1 / 0" in report
    assert f"Blender {bpy.app.version_string}" in report
    assert np.__version__ in report
    assert "Last job: buggy: " in report


def test_loading_a_file_stops_what_runs():
    job = jobs.engine().submit("slow", {"steps": 100_000}, {"depth": np.zeros(1)})
    jobs._running.append(jobs.Running("Dig", job))
    bpy.ops.wm.read_homefile(use_empty=True)
    assert job.done
    assert job.worker.ended.wait(2)
    jobs._running.clear()


class Window:
    """The little of a window that a modal operator touches."""

    def __init__(self):
        self.status = []
        self.timers = 0
        self.window = None
        self.window_manager = SimpleNamespace(
            windows=[], event_timer_add=self.add, event_timer_remove=self.remove, modal_handler_add=lambda operator: None
        )
        self.workspace = SimpleNamespace(status_text_set=self.status.append)

    def add(self, seconds, window):
        self.timers += 1

    def remove(self, timer):
        self.timers -= 1


class Dig(jobs.JobOperator):
    bl_label = "Dig"
    steps = 30

    def __init__(self):
        self.reports = []
        self.finished = None

    def report(self, level, text):
        self.reports.append((level, text))

    def submit(self, context):
        return jobs.engine().submit("slow", {"steps": self.steps}, {"depth": np.zeros(1)})

    def finish(self, context, job):
        self.finished = job.result()[1]["depth"]


def drive(operator, window, event):
    """Events until the modal operator ends; returns its answers."""
    answers = [operator.invoke(window, None)]
    longest = 0.0
    while answers[-1] & {"RUNNING_MODAL", "PASS_THROUGH"}:
        started = time.perf_counter()
        answers.append(operator.modal(window, SimpleNamespace(**event(len(answers)))))
        longest = max(longest, time.perf_counter() - started)
        time.sleep(0.02)
    assert longest < 0.2, "Blender stays awake"
    return answers


def tick(count):
    return {"type": "TIMER", "value": "NOTHING"}


def test_a_window_shows_progress_and_stays_awake():
    operator, window = Dig(), Window()
    assert drive(operator, window, tick)[-1] == {"FINISHED"}
    np.testing.assert_array_equal(operator.finished, 1)
    assert any("digging" in text and "Esc" in text for text in window.status if text)
    assert window.status[-1] is None
    assert window.timers == 0
    assert ({"WARNING"}, "this takes a while") in operator.reports
    assert jobs.running() == []


def test_esc_stops_and_other_keys_pass_through():
    operator, window = Dig(), Window()
    operator.steps = 100_000
    keys = {5: ("A", "PRESS"), 20: ("ESC", "PRESS")}
    answers = drive(operator, window, lambda n: dict(zip(("type", "value"), keys[n], strict=True)) if n in keys else tick(n))
    assert answers[5] == {"PASS_THROUGH"}
    assert answers[20] == {"RUNNING_MODAL"}
    assert answers[-1] == {"CANCELLED"}
    assert operator.finished is None
    assert ({"WARNING"}, "The job was stopped.") in operator.reports
    assert window.timers == 0


def test_a_window_that_closes_takes_its_job_along():
    operator, window = Dig(), Window()
    operator.steps = 100_000
    operator.invoke(window, None)
    job = jobs.last() if jobs.last() is operator._entry.job else operator._entry.job
    operator.cancel(window)
    assert job.done
    assert window.timers == 0
    assert jobs.running() == []


def test_a_file_browser_that_closes_before_the_job_began_says_nothing():
    operator, window = Dig(), Window()
    operator.cancel(window)
    assert operator.reports == []
    assert window.timers == 0


def test_the_test_button_finds_what_the_engine_has():
    assert bpy.ops.vivant.engine_test() == {"FINISHED"}
    text = " ".join(preferences.findings)
    assert f"numpy {np.__version__}" in text
    assert "Python 3." in text


def test_an_engine_python_that_does_not_exist_is_one_sentence(settings):
    settings.engine_python = "/no/such/python"
    with pytest.raises(RuntimeError, match=r"Python .*python does not exist\. Choose another"):
        bpy.ops.vivant.engine_test()
    with pytest.raises(RuntimeError, match="does not exist"):
        bpy.ops.vivant.test_dig()
    settings.engine_python = sys.executable
    assert bpy.ops.vivant.test_dig() == {"FINISHED"}


def test_a_new_engine_python_takes_the_next_job(settings, tmp_path):
    bpy.ops.vivant.test_dig()
    first = jobs.last().worker.pid
    other = tmp_path / "python"
    other.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    other.chmod(0o755)
    settings.engine_python = str(other)
    bpy.ops.vivant.test_dig()
    assert jobs.last().worker.pid != first
    assert jobs.last().worker.python == other


def test_no_python_at_all_is_one_sentence(monkeypatch):
    monkeypatch.setattr(install, "local_pythons", list)
    with pytest.raises(RuntimeError, match=r"No Python .* with NumPy was found"):
        bpy.ops.vivant.engine_test()


def test_preferences_fall_back_to_defaults_in_scripts():
    assert isinstance(preferences.get(), preferences.Defaults)
    assert preferences.weights_folders() == []
    assert preferences.cache_folder().name == "cache"
    assert preferences.engine_python() == pathlib.Path(sys.executable)


def test_weights_folders_are_added_and_removed(settings, tmp_path):
    for _ in range(2):
        bpy.ops.vivant.weights_folder_add()
    settings.weights_folders[1].path = str(tmp_path)
    bpy.ops.vivant.weights_folder_remove(index=0)
    assert preferences.weights_folders() == [tmp_path]


def test_clearing_the_cache_spares_what_lies_beside_it(settings, tmp_path):
    settings.cache_folder = str(tmp_path)
    (tmp_path / "holiday.jpg").write_bytes(b"mine")
    cache = preferences.cache_folder()
    (cache / "a").mkdir(parents=True)
    (cache / "a" / "b").write_bytes(bytes(1000))
    preferences.forget_cache_size()
    assert preferences.cache_size() == 1000
    assert bpy.ops.vivant.cache_clear() == {"FINISHED"}
    assert preferences.cache_size() == 0
    assert not cache.exists()
    assert (tmp_path / "holiday.jpg").exists()


def test_installing_respects_blenders_online_switch():
    if bpy.app.online_access:
        pytest.skip("this Blender may go online")
    with pytest.raises(RuntimeError, match="not allowed to go online"):
        bpy.ops.vivant.engine_install()


def test_an_installed_engine_is_used_until_it_is_removed(tmp_path):
    python = install.python_in(install.environment_in(preferences.user_folder("engine")))
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    assert preferences.engine_python() == python
    assert bpy.ops.vivant.engine_remove() == {"FINISHED"}
    assert preferences.engine_python() == pathlib.Path(sys.executable)


def test_importing_the_engines_side_loads_nothing_heavy():
    code = (
        f"import os, sys; sys.path.insert(0, {str(pathlib.Path(__file__).parents[1])!r}); import bpy, numpy, conftest\n"
        "before = set(sys.modules)\n"
        "from vivant import preferences; from vivant.operators import engine\n"
        "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before}), flush=True)\n"
        "os._exit(0)\n"
    )
    modules = subprocess.check_output([sys.executable, "-c", code], text=True, env=client.clean_environment()).split()
    assert "vivant" in modules
    assert not {"torch", "numba", "scipy", "PIL", "multiprocessing"} & set(modules)


def test_errors_reach_the_user_as_their_own_kind():
    job = jobs.engine().submit("nonsense", {})
    with pytest.raises(VivantError, match="knows no job"):
        job.result()
