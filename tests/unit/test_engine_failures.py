# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever happens to the engine's process: one clear error, no half-written result, no zombie, and the next job runs."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from vivant.backends.common.errors import BrokenFile, Cancelled, EngineFailed, NeedsEngine, VivantError
from vivant.engine import client, jobs
from vivant.engine.client import Engine

PYTHON = pathlib.Path(sys.executable)
posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals or scripts")

# A worker written for the test: BODY sees `say(event)`, `job` (the folder) and the functions of time, os and signal.
FAKE = """
import json, os, pathlib, signal, sys, threading, time
def say(event): print(json.dumps(event), flush=True)
say({{"event": "hello"}})
for line in sys.stdin:
    request = json.loads(line)
    if "run" not in request: continue
    job = pathlib.Path(request["run"])
{body}
"""


def fake(tmp_path: pathlib.Path, body: str, silence: float = 30.0) -> Engine:
    """An engine whose process does what a test wants of it."""
    program = tmp_path / "fake.py"
    program.write_text(FAKE.format(body="\n".join("    " + line for line in body.splitlines())))
    return Engine(PYTHON, program, silence)


def script(tmp_path: pathlib.Path, text: str) -> pathlib.Path:
    """An executable shell script that stands for a Python."""
    path = tmp_path / "python"
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return path


def gone(pid: int) -> bool:
    """Whether no process, not even a zombie, has this number (asked for at most two seconds)."""
    for _ in range(200):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.01)
    return False


def orphan_ended(pid: int) -> bool:
    """The same for a process whose parent died: that the system has not reaped it yet is not ours to mend."""
    for _ in range(200):
        ran = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
        if ran.stdout.strip()[:1] in ("", "Z"):
            return True
        time.sleep(0.01)
    return False


def check_usable(engine: Engine) -> None:
    values, arrays = engine.submit("echo", {"n": 1}, {"x": np.arange(5)}).result()
    assert values == {"n": 1}
    np.testing.assert_array_equal(arrays["x"], np.arange(5))


@posix
def test_a_killed_process_is_one_error_with_its_signal_and_log(tmp_path):
    engine = fake(tmp_path, 'print("loading weights", file=sys.stderr, flush=True)\ntime.sleep(60)')
    job = engine.submit("echo", {}, {"x": np.ones(3)})
    while "loading" not in job.log_tail():
        time.sleep(0.01)
    os.kill(job.worker.pid, signal.SIGKILL)
    with pytest.raises(EngineFailed, match=r"died.*SIGKILL.*loading weights"):
        job.result()
    assert gone(job.worker.pid)
    assert not job.folder.exists()
    engine.program = client.PROGRAM
    check_usable(engine)
    engine.close()


@posix
def test_a_process_killed_in_the_middle_of_writing_leaves_no_result(tmp_path):
    body = '(job / "out.partial").mkdir()\n(job / "out.partial" / "x.npy").write_bytes(b"half")\nos.kill(os.getpid(), 9)'
    engine = fake(tmp_path, body)
    folder = tmp_path / "job"
    with pytest.raises(EngineFailed, match="SIGKILL"):
        engine.submit("echo", {}, folder=folder).result()
    assert not (folder / "out").exists()
    engine.program = client.PROGRAM
    engine.submit("echo", {}, {"x": np.ones(2)}, folder=folder).result()
    assert sorted(path.name for path in folder.iterdir()) == ["in", "log.txt", "out", "request.json"]


def test_a_crash_is_one_error_with_its_exit_status_and_log(tmp_path):
    engine = fake(tmp_path, 'print("no such device", file=sys.stderr)\nsys.exit(7)')
    with pytest.raises(EngineFailed, match=r"exit status 7.*no such device"):
        engine.submit("echo", {}).result()
    assert "no such device" in engine.last.log_tail()


@posix
@pytest.mark.parametrize("kilobytes", [1000, 3000])
def test_a_full_disk_is_one_error_and_leaves_no_result(tmp_path, kilobytes):
    """A file size limit stands for the disk: the client writes 4 MB freely, the process hits the limit."""
    engine = Engine(script(tmp_path, f'ulimit -f {kilobytes * 2}\nexec {sys.executable} "$@"\n'))
    folder = tmp_path / "job"
    with pytest.raises(VivantError, match=r"Writing to .* failed: File too large"):
        engine.submit("echo", {}, {"x": np.ones(1_000_000, np.float64)}, folder).result()
    assert sorted(path.name for path in folder.iterdir()) == ["in", "log.txt", "request.json"]
    check_usable(engine)
    engine.close()


@posix
def test_a_disk_that_is_full_before_the_job_starts_leaves_nothing(engine, monkeypatch, tmp_path):
    monkeypatch.setattr(client, "scratch_folder", lambda size: tmp_path / "job")
    (tmp_path / "job").mkdir()
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, limits[1]))
    try:
        with pytest.raises(VivantError, match="File too large"):
            engine.submit("echo", {}, {"x": np.ones(1 << 16)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not (tmp_path / "job").exists()
    check_usable(engine)


@posix
def test_a_full_file_system_is_one_error(engine, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("needs the right to mount a small file system")
    try:
        with pytest.raises(VivantError, match="No space left"):
            engine.submit("echo", {}, {"x": np.ones(1 << 20)}, disk / "a")
        with pytest.raises(VivantError, match="No space left"):
            engine.submit("echo", {}, {"x": np.ones(90_000)}, disk / "b").result()
        assert not (disk / "b" / "out").exists()
        assert not (disk / "b" / "out.partial").exists()
        check_usable(engine)
    finally:
        engine.close()
        subprocess.run(["umount", disk], check=True)


def test_a_read_only_folder_is_one_error(engine, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(VivantError, match="cannot be written"):
        engine.submit("echo", {}, folder=tmp_path / "file" / "job")
    check_usable(engine)


@pytest.mark.parametrize(
    "noise",
    [
        'sys.stdout.write("\\x00\\xff{{{ not json\\n" * 100)',
        'sys.stdout.write("y" * (3 << 20) + "\\n")',
        'say([1, 2]); say({"event": 5}); say({"no": "event"}); say({"event": "someday"})',
        'say({"event": "progress", "done": "much"}); say({"event": "progress"}); say({"event": "error"})',
        'say({"event": "preview", "file": "../../../etc/passwd"}); say({"event": "preview", "file": "in"})',
        'print("[" * 100000)',
    ],
)
def test_noise_in_the_pipe_does_no_harm(tmp_path, noise):
    out = '(job / "out").mkdir(exist_ok=True)\n(job / "out" / "values.json").write_text("{}")\nsay({"event": "result"})'
    engine = fake(tmp_path, f"{noise}\n{out}")
    assert engine.submit("echo", {}).result() == ({}, {})
    assert engine.last.preview is None
    engine.close()


def test_nothing_but_noise_is_one_error_that_quotes_it(tmp_path):
    program = tmp_path / "noise.py"
    program.write_text('print("Segmentation of the moon complete")')
    with pytest.raises(EngineFailed, match=r"did not start.*exit status 0.*moon"):
        Engine(PYTHON, program).submit("echo", {}).result()


def test_a_result_that_is_missing_or_no_array_is_one_error(tmp_path):
    engine = fake(tmp_path, 'say({"event": "result"})')
    with pytest.raises(EngineFailed, match="result cannot be read"):
        engine.submit("echo", {}).result()
    body = '(job/"out").mkdir()\n(job/"out"/"values.json").write_text("{}")\n(job/"out"/"x.npy").write_bytes(b"\\x93NUMPY")\n'
    engine = fake(tmp_path, body + 'say({"event": "result"})')
    with pytest.raises(BrokenFile, match=r"x\.npy is no whole array"):
        engine.submit("echo", {}).result()


def test_a_pickle_in_the_result_is_refused(tmp_path):
    save = 'import numpy\nnumpy.save(job / "out" / "x.npy", numpy.array([print]), allow_pickle=True)\nsay({"event": "result"})'
    engine = fake(tmp_path, f'(job/"out").mkdir()\n(job/"out"/"values.json").write_text("{{}}")\n{save}')
    with pytest.raises(BrokenFile):
        engine.submit("echo", {}).result()


@posix
@pytest.mark.parametrize("how", ["time.sleep(60)", "os.kill(os.getpid(), signal.SIGSTOP)"])
def test_a_process_that_falls_silent_is_ended_and_called_hanging(tmp_path, how):
    engine = fake(tmp_path, how, silence=0.5)
    started = time.monotonic()
    with pytest.raises(EngineFailed, match="stopped answering"):
        engine.submit("echo", {}).result()
    assert time.monotonic() - started < 5
    assert gone(engine.last.worker.pid)
    engine.program, engine.silence = client.PROGRAM, 30
    check_usable(engine)
    engine.close()


def test_a_busy_client_does_not_mistake_its_own_absence_for_a_hang(tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "AWAY", 0.2)
    engine = fake(tmp_path, 'time.sleep(1); say({"event": "warning", "message": "slow"}); time.sleep(60)', silence=0.5)
    job = engine.submit("echo", {})
    job.worker.heard -= 100  # the listening thread got no turn either
    time.sleep(0.3)
    assert not job.poll()
    job.kill()


def test_work_that_holds_no_heartbeat_back_is_not_a_hang(tmp_path):
    beats = 'for _ in range(15):\n    say({"event": "alive"})\n    time.sleep(0.1)\n'
    engine = fake(tmp_path, beats + 'say({"event": "error", "kind": "BrokenFile", "message": "m"})', silence=0.6)
    with pytest.raises(BrokenFile, match="m"):
        engine.submit("echo", {}).result()
    engine.close()


@posix
def test_cancel_ends_a_deaf_process_by_force(tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "TERMINATE_AFTER", 0.2)
    monkeypatch.setattr(jobs, "KILL_AFTER", 0.5)
    engine = fake(tmp_path, "signal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(60)")
    job = engine.submit("echo", {})
    job.wait(0.3)
    job.cancel()
    with pytest.raises(Cancelled):
        job.result()
    assert gone(job.worker.pid)
    assert not job.folder.exists()


@posix
def test_ending_a_job_ends_what_it_started(tmp_path):
    start = 'import subprocess\nchild = subprocess.Popen(["sleep", "60"])\n'
    engine = fake(tmp_path, start + 'say({"event": "warning", "message": str(child.pid)})\ntime.sleep(60)')
    job = engine.submit("echo", {})
    while not job.warnings:
        job.wait(0.05)
    job.kill()
    assert job.done
    assert orphan_ended(int(job.warnings[0]))
    assert gone(job.worker.pid)


@posix
@pytest.mark.parametrize("end", ["pass", "job.wait()"], ids=["in the middle", "before the result is taken"])
def test_the_engine_ends_with_its_client_and_takes_its_litter_along(tmp_path, end):
    program = tmp_path / "blender.py"
    program.write_text(
        f"import sys, time; sys.path.insert(0, {str(pathlib.Path(__file__).parents[1])!r}); import conftest, pathlib, numpy\n"
        "from vivant.engine.client import Engine\n"
        "engine = Engine(pathlib.Path(sys.executable)); engine.submit('echo', {}).result()\n"
        "job = engine.submit('echo', {}, {'x': numpy.ones(9)}); END\n"
        "print(job.worker.pid, job.folder, flush=True); time.sleep(60)\n".replace("END", end)
    )
    blender = subprocess.Popen([PYTHON, program], stdout=subprocess.PIPE, text=True)
    pid, folder = blender.stdout.readline().split()
    blender.kill()
    blender.wait()
    blender.stdout.close()
    assert orphan_ended(int(pid))
    assert not pathlib.Path(folder).exists()


@posix
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("exit 0", "exit status 0"),
        ("echo 'I am a shell, sorry' >&2; exit 3", "exit status 3; its log ends: I am a shell, sorry"),
        ("yes | head -c 500000; exit 1", "exit status 1"),
    ],
)
def test_a_program_that_is_no_python_is_one_error(tmp_path, text, reason):
    with pytest.raises(EngineFailed, match=f"did not start: {reason}"):
        Engine(script(tmp_path, text)).submit("echo", {}).result()


@posix
def test_a_file_that_is_no_program_is_one_error(tmp_path):
    path = tmp_path / "picture.png"
    path.write_bytes(b"\x89PNG")
    with pytest.raises(EngineFailed, match="cannot be started: Permission denied"):
        Engine(path).submit("echo", {})
    path.chmod(0o755)
    with pytest.raises(EngineFailed, match="cannot be started: Exec format error"):
        Engine(path).submit("echo", {})


@posix
def test_a_python_without_numpy_is_told_apart(tmp_path):
    engine = Engine(script(tmp_path, f'exec {sys.executable} -S "$@"\n'))
    with pytest.raises(NeedsEngine, match="no working NumPy"):
        engine.submit("echo", {}).result()
    assert gone(engine.last.worker.pid)
