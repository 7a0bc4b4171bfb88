# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine's server around jobs that print, show, count, crash, eat memory and stop when they are told to."""

import os
import pathlib
import sys
import time

import numpy as np
import pytest

from vivant.backends.common.arrays import atomic_folder, read_arrays, write_arrays
from vivant.backends.common.errors import BrokenFile, Cancelled, EngineFailed
from vivant.backends.common.progress import Progress
from vivant.engine.client import Engine
from vivant.engine.progress import State, duration

# The real server; every function below is a kind of job.
PROGRAM = """
import ctypes, os, subprocess, sys, time
sys.path.insert(0, CONFTEST)
import conftest
import numpy as np
from vivant.backends import server
from vivant.backends.common import registry
def chatty(parameters, arrays, progress):
    print('{"event": "result"}')
    os.write(1, b"from C\\n")
    subprocess.run([sys.executable, "-c", "print('from a child')"])
    return {"input": sys.stdin.read(), "here": os.getcwd() == str(progress.folder)}, {}
def crash(parameters, arrays, progress):
    ctypes.string_at(0)
def greedy(parameters, arrays, progress):
    np.ones(1 << 55)
def quits(parameters, arrays, progress):
    sys.exit("enough")
def artist(parameters, arrays, progress):
    for shade in range(3):
        progress.preview(np.full((2, 3, 4), shade, np.float32))
    progress.warning("the last one is the best")
    return {"numbers": [np.float32(0.5), np.int64(7)], "array": np.arange(3), "nan": float("nan")}, {}
def writes(parameters, arrays, progress):
    arrays["x"][0] = 1
def slow(parameters, arrays, progress):
    for step in range(10**6):
        progress(step, 10**6, "working")
        time.sleep(0.001)
registry.KINDS.update({name: f"__main__:{name}" for name in ["chatty", "crash", "greedy", "quits", "artist", "writes", "slow"]})
server.serve()
"""


@pytest.fixture
def engine(tmp_path):
    program = tmp_path / "server.py"
    program.write_text(PROGRAM.replace("CONFTEST", repr(str(pathlib.Path(__file__).parents[1]))))
    engine = Engine(pathlib.Path(sys.executable), program)
    yield engine
    engine.close()


def test_what_a_job_prints_goes_to_its_log_and_never_into_the_protocol(engine):
    values, _ = engine.submit("chatty", {}).result()
    assert values == {"input": "", "here": True}
    assert engine.last.log_tail().splitlines() == ['{"event": "result"}', "from C", "from a child"]
    assert engine.last.worker.noise == []


@pytest.mark.skipif(os.name != "posix", reason="names a POSIX signal")
def test_a_crash_in_compiled_code_is_told_with_the_line_it_came_from(engine):
    with pytest.raises(EngineFailed, match="died during “crash”: killed by SIGSEGV"):
        engine.submit("crash", {}).result()
    assert "string_at" in engine.last.log_tail()


def test_running_out_of_memory_is_told_and_the_process_lives_on(engine):
    with pytest.raises(EngineFailed, match="ran out of memory"):
        engine.submit("greedy", {}).result()
    pid = engine.last.worker.pid
    with pytest.raises(EngineFailed, match="SystemExit: enough"):
        engine.submit("quits", {}).result()
    assert engine.last.worker.pid == pid


def test_a_job_cannot_change_what_it_was_given(engine):
    with pytest.raises(EngineFailed, match="read-only"):
        engine.submit("writes", {}, {"x": np.zeros(3)}).result()


def test_previews_warnings_and_numpy_numbers_arrive(engine):
    job = engine.submit("artist", {})
    values, _ = job.result()
    np.testing.assert_array_equal(job.preview, np.full((2, 3, 4), 2, np.float32))
    assert job.warnings == ["the last one is the best"]
    assert values["numbers"] == [0.5, 7]
    assert values["array"] == [0, 1, 2]
    assert np.isnan(values["nan"])


def test_a_cancelled_job_stops_by_itself_and_its_process_stays_warm(engine):
    job = engine.submit("slow", {})
    while job.progress.done == 0:
        job.wait(0.05)
    assert job.progress.note == "working"
    job.cancel()
    started = time.monotonic()
    with pytest.raises(Cancelled):
        job.result()
    assert time.monotonic() - started < 1
    assert not job.folder.exists()
    engine.submit("artist", {}).result()
    assert engine.last.worker.pid == job.worker.pid


def test_polling_never_blocks(engine):
    job = engine.submit("slow", {})
    started, longest = time.monotonic(), 0.0
    while time.monotonic() - started < 0.5:
        before = time.perf_counter()
        assert not job.poll()
        longest = max(longest, time.perf_counter() - before)
    assert longest < 0.1
    job.kill()


def test_progress_is_thinned_out_and_the_last_word_is_not_lost(tmp_path):
    said = []
    progress = Progress(said.append, lambda: False, tmp_path)
    start = time.monotonic()
    while time.monotonic() - start < 0.35:
        progress(time.monotonic() - start, 1.0, "measuring")
    assert 3 <= len(said) <= 5
    assert abs(said[-1]["eta_s"] - (1.0 - said[-1]["done"])) < 0.2
    progress(0.99, 1.0, "measuring")
    progress.flush()
    assert said[-1]["done"] == 0.99
    count = len(said)
    progress.flush()
    assert len(said) == count


def test_a_new_phase_is_not_timed_by_the_one_before(tmp_path, monkeypatch):
    said, clock = [], [100.0]
    monkeypatch.setattr("vivant.backends.common.progress.time.monotonic", lambda: clock[0])
    progress = Progress(said.append, lambda: False, tmp_path)
    for phase, seconds, total in (("loading", 1.0, 2), ("training", 5.0, 10)):
        for step in range(total):
            progress(step, total, phase)
            clock[0] += seconds
    training = [event["eta_s"] for event in said if event["note"] == "training"]
    assert training[0] is None
    assert training[1:] == pytest.approx([5.0 * left for left in range(9, 0, -1)])


@pytest.mark.parametrize(
    ("state", "text", "fraction"),
    [
        (State(), "starting", 0),
        (State(1, 4, 125.0, "drawing"), "drawing, 25 %, 2 min left", 0.25),
        (State(9, 4, 3.0, "drawing"), "drawing, 100 %", 1),
        (State(0, 0, None, "loading"), "loading", 0),
    ],
)
def test_progress_reads_well(state, text, fraction):
    assert state.text == text
    assert state.fraction == fraction


def test_times_are_told_in_two_digits():
    assert [duration(s) for s in (0.2, 42, 89, 120, 3600, 9000)] == ["0 s", "42 s", "89 s", "2 min", "60 min", "2.5 h"]


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "out"
    with pytest.raises(IsADirectoryError if os.name == "posix" else PermissionError), atomic_folder(path) as partial:
        partial.write_text("a file where the folder is")
    assert list(tmp_path.iterdir()) == []
    for content in ("first", "second"):
        with atomic_folder(path) as partial:
            (partial / "x").write_text(content)
            assert not path.exists() or (path / "x").read_text() == "first"
        assert (path / "x").read_text() == content
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("cut", [0, 5, 60, 127, 135])
@pytest.mark.parametrize("mapped", [True, False])
def test_a_truncated_array_is_named(tmp_path, cut, mapped):
    write_arrays(tmp_path, {"x": np.arange(4.0)})
    whole = (tmp_path / "x.npy").read_bytes()
    (tmp_path / "x.npy").write_bytes(whole[:cut])
    with pytest.raises(BrokenFile, match=r"x\.npy is no whole array"):
        read_arrays(tmp_path, mapped)


def test_names_of_arrays_stay_in_their_folder(tmp_path):
    write_arrays(tmp_path / "in", {"../../escape": np.ones(1), "a/b": np.ones(1), "..": np.ones(1)})
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    assert set(read_arrays(tmp_path / "in", mapped=False)) == {"../../escape", "a/b", ".."}


def test_an_array_of_objects_is_refused(tmp_path):
    with pytest.raises(TypeError, match="'x' holds Python objects"):
        write_arrays(tmp_path, {"x": np.array([print])})
