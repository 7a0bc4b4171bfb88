# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine's process: takes job folders from a pipe, works on them, answers one JSON object a line.

To the engine: {"run": FOLDER, "temporary": bool} and {"cancel": FOLDER}.  From it: `hello` once, `alive` each
second, and for the job that runs `progress` (done, total, eta_s, note), `preview` (file), `warning` (message),
then either `result` or `error` (kind, message, hint).  Values and arrays of a result lie in the job's folder.
When the pipe closes the engine ends, whatever it is doing.
"""

from __future__ import annotations

import faulthandler
import json
import os
import platform
import queue
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from .common import registry
from .common.arrays import FULL, atomic_folder, disk_full_explained, read_arrays, write_arrays
from .common.errors import BrokenFile, EngineFailed, NeedsEngine, VivantError
from .common.progress import Progress

LINE_LIMIT = 1 << 20  # bytes; nobody sends a longer line
HEARTBEAT = 1.0  # seconds


def perform(folder: Path, progress: Progress) -> None:
    """Do the job in a folder: request.json and in/*.npy become out/, which appears by one rename when complete.

    Raises VivantError for a request that makes no sense, and whatever the job raises.
    """
    try:
        request = json.loads((folder / "request.json").read_bytes())
        kind, parameters = str(request["kind"]), dict(request["parameters"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise BrokenFile(f"{folder / 'request.json'} is no job: {error}.", "Start the job again from Blender.") from error
    values, arrays = registry.find(kind)(parameters, read_arrays(folder / "in", mapped=True), progress)
    with disk_full_explained(folder), atomic_folder(folder / "out") as out:
        write_arrays(out, arrays)
        (out / "values.json").write_text(json.dumps(values, default=plain), "utf-8")


def plain(value: Any) -> Any:
    """What JSON takes, for NumPy's numbers and arrays and for paths."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


def explain(error: BaseException) -> VivantError:
    """The error that the user reads for anything that a job may raise."""
    if isinstance(error, VivantError):
        return error
    root = __name__.partition(".")[0]
    if isinstance(error, ModuleNotFoundError) and error.name and not error.name.startswith(root):
        package = error.name.partition(".")[0]
        return NeedsEngine(
            f"This needs {package}, which {sys.executable} does not have.",
            "Press Install engine in Vivant's preferences, or choose a Python that has it.",
        )
    if isinstance(error, OSError) and error.errno in FULL:
        return EngineFailed(f"The engine's disk is full: {error.strerror}.", "Free some space and try again.")
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # Python's and torch's
        return EngineFailed(f"The engine ran out of memory: {error}.", "Try a smaller input, or close other programs.")
    return EngineFailed(
        f"The job failed with {type(error).__name__}: {error}.", "This is a bug: press Copy report and send it to the authors."
    )


def failure(error: VivantError) -> dict[str, Any]:
    """The event that tells of an error; the client raises the same class again."""
    return {"event": "error", "kind": type(error).__name__, "message": error.message, "hint": error.hint}


class Server:
    """One job at a time in the main thread; one thread listens, one keeps the heart beating."""

    def __init__(self, requests: IO[bytes], answers: IO[bytes]) -> None:
        self._requests = requests
        self._answers = answers
        self._writing = threading.Lock()
        self._leaving = threading.Lock()
        self._folders: queue.SimpleQueue[Path] = queue.SimpleQueue()
        self._cancelled: set[Path] = set()
        self._progress: Progress | None = None
        self._litter: set[Path] = set()  # temporary folders that a client which dies cannot take away

    def send(self, event: dict[str, Any]) -> None:
        """One line to the client; the engine ends when there is none any more."""
        for key in ("message", "hint", "note"):
            if key in event:
                event[key] = str(event[key])[:10_000]
        line = json.dumps(event, default=plain).encode() + b"\n"
        try:
            with self._writing:
                self._answers.write(line)
                self._answers.flush()
        except (OSError, ValueError):
            self._leave()

    def serve(self) -> None:
        """Work until the client goes."""
        for loop in (self._listen, self._beat):
            threading.Thread(target=loop, name=loop.__name__, daemon=True).start()
        self.send({"event": "hello", "python": platform.python_version(), "pid": os.getpid()})
        while True:
            self.send(self._work(self._folders.get()))

    def _work(self, folder: Path) -> dict[str, Any]:
        """The last event of a job."""
        progress = self._progress = Progress(self.send, lambda: folder in self._cancelled, folder)
        try:
            with printing_to(folder / "log.txt"):
                try:
                    perform(folder, progress)
                except BaseException as error:
                    if not isinstance(error, VivantError):
                        traceback.print_exc()
                    known = explain(error)
                    return {"event": "error", "kind": type(known).__name__, "message": known.message, "hint": known.hint}
        except OSError as error:
            return {
                "event": "error",
                "kind": "EngineFailed",
                "message": f"The job's folder cannot be used: {error}.",
                "hint": "",
            }
        finally:
            self._progress = None
            self._cancelled.discard(folder)
        return {"event": "result"}

    def _listen(self) -> None:
        """Take requests the moment they come, also while a job runs."""
        while line := self._requests.readline(LINE_LIMIT):
            try:
                request = json.loads(line)
                if "run" in request:
                    folder = Path(request["run"])
                    self._cancelled.discard(folder)  # a late word about an earlier run
                    if request.get("temporary"):
                        self._litter = {other for other in self._litter if other.exists()} | {folder}
                    self._folders.put(folder)
                elif "cancel" in request:
                    self._cancelled.add(Path(request["cancel"]))
                else:
                    raise ValueError("neither run nor cancel")
            except (ValueError, TypeError) as error:
                self.send(failure(EngineFailed(f"The engine did not understand a request: {error}.", "Restart the engine.")))
        self._leave()

    def _beat(self) -> None:
        while True:
            time.sleep(HEARTBEAT)
            if progress := self._progress:
                progress.flush()
            self.send({"event": "alive"})

    def _leave(self) -> None:
        """The client is gone: take away what it can no longer take away, and end, with every child."""
        self._leaving.acquire()  # for good: one thread tidies up, the others wait for the end
        for folder in self._litter:
            if folder.exists():  # renamed first, lest the job write into it while it goes
                shutil.rmtree(folder.rename(folder.with_suffix(".left")), ignore_errors=True)
        if os.name == "posix" and os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)
        os._exit(0)


@contextmanager
def printing_to(path: Path) -> Iterator[None]:
    """Everything printed, by Python or by a C library, goes to a file; the working directory is that file's folder."""
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    point_output_at(log)
    os.chdir(path.parent)
    try:
        yield
    finally:
        os.chdir(tempfile.gettempdir())  # Windows removes no folder that is somebody's working directory
        point_output_at(os.open(os.devnull, os.O_WRONLY))


def point_output_at(descriptor: int) -> None:
    """Let standard output and error be this open file, which is closed under its own number."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # the old log's disk is full: what was printed is lost, the job's result need not be
            stream.flush()
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def serve() -> int:
    """Be the engine on this process's standard input and output, which nothing else can reach from then on."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, encoding="utf-8", errors="replace")  # type: ignore[union-attr]
    faulthandler.enable()
    Server(requests, answers).serve()
    return 0


def run(folder: Path) -> int:
    """Do the job in a folder once more, here, printing what it says; 1 when it failed."""

    def say(event: dict[str, Any]) -> None:
        print(" ".join(f"{key}={value}" for key, value in event.items() if key != "event"), flush=True)

    folder = folder.resolve()
    try:
        perform(folder, Progress(say, lambda: False, folder))
    except VivantError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    print(folder / "out")
    return 0
