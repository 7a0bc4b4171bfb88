# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine's process seen from its client: arrays go and come, processes stay warm, wrong requests are answered."""

import json
import os
import pathlib
import stat
import subprocess
import sys
import time

import numpy as np
import pytest

from vivant.backends.common.errors import BrokenFile, VivantError
from vivant.engine import client
from vivant.engine.client import Engine

PYTHON = pathlib.Path(sys.executable)


def check_usable(engine: Engine) -> None:
    values, arrays = engine.submit("echo", {"n": 1}, {"x": np.arange(5)}).result()
    assert values == {"n": 1}
    np.testing.assert_array_equal(arrays["x"], np.arange(5))


@pytest.mark.parametrize("seed", [1, 2])
def test_arrays_of_any_shape_and_type_come_back_bit_for_bit(engine, seed):
    random = np.random.default_rng(seed)
    sent = {
        "floats": random.standard_normal((7, 3)).astype(np.float32),
        "strided": random.standard_normal((8, 6))[::2, ::-1],
        "fortran": np.asfortranarray(random.integers(0, 255, (3, 4, 5), np.uint8)),
        "empty": np.zeros((0, 3), np.float32),
        "scalar": np.float64(random.standard_normal()),
        "flags": random.random(9) < 0.5,
        "names": np.array(["hip", "Rückgrat"]),
        "time:centre/x..": np.array([np.nan, np.inf, -0.0]),
    }
    values, got = engine.submit("echo", {"deep": {"list": [1, 2.5, None, "ü"]}}, sent).result()
    assert values == {"deep": {"list": [1, 2.5, None, "ü"]}}
    assert got.keys() == sent.keys()
    for name, array in sent.items():
        assert got[name].dtype == np.asarray(array).dtype
        assert got[name].tobytes() == np.asarray(array).tobytes(), name
    got["floats"][0] = 1  # the result is the caller's own


def test_one_process_stays_warm(engine):
    pids = []
    for _ in range(3):
        job = engine.submit("echo", {})
        job.result()
        pids.append(job.worker.pid)
    assert len(set(pids)) == 1


def test_two_jobs_at_once_do_not_wait_for_each_other(engine):
    jobs = [engine.submit("echo", {"n": n}) for n in range(2)]
    assert jobs[0].worker.pid != jobs[1].worker.pid
    assert [job.result()[0]["n"] for job in reversed(jobs)] == [1, 0]


def test_the_folder_is_private_and_goes_with_the_job(engine):
    job = engine.submit("echo", {}, {"x": np.ones(3)})
    assert os.name != "posix" or stat.S_IMODE(job.folder.stat().st_mode) == 0o700
    _, arrays = job.result()
    for _ in range(100):
        if not job.folder.exists():
            break
        time.sleep(0.02)
    assert not job.folder.exists()
    np.testing.assert_array_equal(arrays["x"], 1)


def test_a_kept_folder_runs_again_by_itself(engine, tmp_path):
    folder = tmp_path / "kept"
    engine.submit("echo", {"a": 1}, {"x": np.arange(3)}, folder).result()
    (folder / "out" / "x.npy").unlink()
    program = client.PROGRAM
    again = subprocess.run([PYTHON, program, "run", folder], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert str(folder / "out") in again.stdout
    np.testing.assert_array_equal(np.load(folder / "out" / "x.npy"), np.arange(3))
    assert json.loads((folder / "out" / "values.json").read_text()) == {"a": 1}


def test_running_a_folder_that_is_no_job_says_so(tmp_path):
    ran = subprocess.run([PYTHON, client.PROGRAM, "run", tmp_path], capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert "is no job" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_the_doctor_names_what_the_engine_has(engine):
    values, _ = engine.submit("doctor", {}).result()
    assert values["packages"]["numpy"] == np.__version__
    assert pathlib.Path(values["executable"]) == PYTHON
    assert values["graphics"]


def test_an_unknown_kind_is_named_and_the_process_lives_on(engine):
    with pytest.raises(VivantError, match="no job “nonsense”"):
        engine.submit("nonsense", {}).result()
    pid = engine.last.worker.pid
    check_usable(engine)
    assert engine.last.worker.pid == pid


def test_a_broken_request_file_is_named_and_the_process_lives_on(engine, monkeypatch):
    check_usable(engine)
    pid = engine.last.worker.pid
    monkeypatch.setattr(client, "write_request", lambda folder, *_: (folder / "request.json").write_text("{kind"))
    with pytest.raises(BrokenFile, match="no job"):
        engine.submit("echo", {}).result()
    monkeypatch.undo()
    check_usable(engine)
    assert engine.last.worker.pid == pid


@pytest.mark.parametrize("line", [b"{not json\n", b"[1]\n", b"7\n", b'{"run": 5}\n', b'{"dance": 1}\n', b"\xff\xfe\n"])
def test_a_broken_request_line_is_answered_and_the_process_lives_on(line):
    process = subprocess.Popen([PYTHON, client.PROGRAM, "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=False)
    assert json.loads(process.stdout.readline())["event"] == "hello"
    process.stdin.write(line)
    process.stdin.flush()
    answer = json.loads(process.stdout.readline())
    assert (answer["event"], answer["kind"]) == ("error", "EngineFailed")
    assert json.loads(process.stdout.readline())["event"] == "alive"
    process.stdin.close()
    process.wait(5)
    process.stdout.close()


def test_the_process_sees_nothing_of_blenders_environment(monkeypatch):
    for name in ("PYTHONHOME", "PYTHONPATH", "BLENDER_USER_RESOURCES", "LD_LIBRARY_PATH", "LIBGL_DRIVERS_PATH"):
        monkeypatch.setenv(name, "/nonsense")
    monkeypatch.setenv("HOME", "/kept")
    clean = client.clean_environment()
    assert "/nonsense" not in clean.values()
    assert clean["HOME"] == "/kept"
    engine = Engine(PYTHON)
    check_usable(engine)
    engine.close()
