# SPDX-License-Identifier: GPL-3.0-or-later
"""Starts the engine's process, keeps one warm, and gives it jobs."""

from __future__ import annotations

import atexit
import json
import os
import queue
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..backends.common.errors import EngineFailed
from .jobs import Event, Job, scratch_folder, write_request

PROGRAM = Path(__file__).resolve().parents[1] / "backends"
LINE_LIMIT = 1 << 20  # bytes; a longer line is noise
SILENCE = 30.0  # seconds without a word after which the engine hangs
CHOOSE = "Choose another one in Vivant's preferences, or clear the field there."

# Blender's own settings, which would lead another Python and its libraries astray.
FOREIGN_PREFIXES = ("PYTHON", "BLENDER_", "__PYVENV")
FOREIGN = {
    "LD_LIBRARY_PATH",
    "__EGL_VENDOR_LIBRARY_FILENAMES",
    "LIBGL_DRIVERS_PATH",
    "GBM_BACKENDS_PATH",
    "VK_DRIVER_FILES",
    "XKB_CONFIG_ROOT",
}


def clean_environment() -> dict[str, str]:
    """This process's environment without what only Blender's own Python and libraries understand."""
    return {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN_PREFIXES) and name not in FOREIGN}


class Worker:
    """One engine process, and the thread that listens to it."""

    def __init__(self, python: Path, program: Path, folder: Path) -> None:
        self.events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self.heard = time.monotonic()
        self.greeted = False
        self.killed = False
        self.python = python
        self.noise: list[str] = []
        self.ended = threading.Event()
        with (folder / "log.txt").open("ab") as log:
            self._process = subprocess.Popen(
                [str(python), str(program), "serve"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=folder,
                env=clean_environment(),
                start_new_session=True,  # a group of its own: whatever it starts ends with it
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
        self.pid = self._process.pid
        threading.Thread(target=self._listen, name="vivant engine", daemon=True).start()

    def send(self, request: Event) -> None:
        """One line to the process; that it is gone is told by the events, not here."""
        assert self._process.stdin
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except (OSError, ValueError):
            self.kill()

    def terminate(self) -> None:
        """Ask the process and its children to end."""
        self.killed = True
        if os.name == "posix":
            self._signal(signal.SIGTERM)
        else:
            self._process.terminate()

    def kill(self) -> None:
        """End the process and its children, whatever they do."""
        self.killed = True
        if os.name == "posix":
            self._signal(signal.SIGKILL)
        else:
            self._process.kill()

    def ending(self) -> str:
        """How the process ended, in words."""
        code = self._process.returncode
        if code is None:
            return "it still runs"
        if code < 0:
            name = signal.Signals(-code).name if -code in {s.value for s in signal.Signals} else f"signal {-code}"
            return f"killed by {name}" + (", perhaps because memory ran out" if name == "SIGKILL" else "")
        return f"exit status {code}"

    def _signal(self, number: int) -> None:
        if self._process.returncode is None:  # its number is still its own
            try:
                os.killpg(self.pid, number)
            except ProcessLookupError:
                return

    def _listen(self) -> None:
        """Turn lines into events until the process ends, then reap it: this thread alone waits for it."""
        assert self._process.stdin and self._process.stdout
        whole = True
        while line := self._process.stdout.readline(LINE_LIMIT):
            whole, continued = line.endswith(b"\n"), not whole
            event = None if continued or not whole else parse(line)
            if event is None:
                self._hear_noise(line)
                continue
            self.heard = time.monotonic()
            match event["event"]:
                case "hello":
                    self.greeted = True
                case "alive":
                    pass
                case _:
                    self.events.put(event)
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:  # it closed its output and lives on
            self.kill()
            self._process.wait()
        for pipe in (self._process.stdout, self._process.stdin):
            try:
                pipe.close()
            except OSError:
                continue  # unsent requests of a process that is gone
        self.ended.set()
        self.events.put(None)

    def _hear_noise(self, line: bytes) -> None:
        self.noise.append(line[:200].decode("utf-8", "replace").rstrip())
        del self.noise[:-50]


def parse(line: bytes) -> Event | None:
    """The protocol event in a line, or None."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) and isinstance(event.get("event"), str) else None


class Engine:
    """Gives jobs to processes of one Python, one job a process; the one that is free stays warm for the next.

    python: the interpreter (set another, and the next job starts in it); program: what it runs, given "serve";
    silence: seconds without a word before a process counts as hanging.
    """

    def __init__(self, python: Path, program: Path = PROGRAM, silence: float = SILENCE) -> None:
        self.python = python
        self.program = program
        self.silence = silence
        self.last: Job | None = None
        self._warm: Worker | None = None
        self._jobs: list[Job] = []
        atexit.register(self.close)

    def submit(
        self,
        kind: str,
        parameters: Mapping[str, Any],
        arrays: Mapping[str, NDArray[Any]] | None = None,
        folder: Path | None = None,
    ) -> Job:
        """Start a job of a kind in `backends.common.registry`.

        parameters go as JSON, arrays as .npy; folder (made if need be) is kept, so that the job can be run again or go on
        from its checkpoints; without one it works in a private folder which goes with the job.
        Raises EngineFailed when the Python cannot be started, VivantError when the folder cannot be written.
        """
        arrays = arrays or {}
        temporary = folder is None
        if folder is None:
            folder = scratch_folder(sum(np.asarray(array).nbytes for array in arrays.values()))
        try:
            write_request(folder, kind, parameters, arrays)
            job = Job(kind, folder, temporary, self._worker(folder), self._ended, self.silence)
        except BaseException:
            if temporary:
                shutil.rmtree(folder, ignore_errors=True)
            raise
        self._jobs.append(job)
        self.last = job
        return job

    def close(self) -> None:
        """End every process, and with it every job; the next job starts a new one."""
        workers = [job.worker for job in self._jobs]
        for job in list(self._jobs):
            job.kill()
        if self._warm:
            self._warm.kill()
            workers.append(self._warm)
            self._warm = None
        for worker in workers:
            worker.ended.wait(1)

    def _worker(self, folder: Path) -> Worker:
        warm, self._warm = self._warm, None
        if warm and warm.python == self.python and not warm.ended.is_set():
            warm.noise.clear()
            return warm
        if warm:
            warm.kill()
        if not self.python.is_file():
            raise EngineFailed(f"The engine's Python {self.python} does not exist.", CHOOSE)
        try:
            return Worker(self.python, self.program, folder)
        except OSError as error:
            raise EngineFailed(f"The engine's Python {self.python} cannot be started: {error.strerror}.", CHOOSE) from error

    def _ended(self, job: Job) -> None:
        self._jobs.remove(job)
        worker = job.worker
        if self._warm is None and worker.greeted and not worker.killed and not worker.ended.is_set():
            self._warm = worker
        else:
            worker.kill()
