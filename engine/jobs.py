# SPDX-License-Identifier: GPL-3.0-or-later
"""A job as its client sees it: the folder with the request, the events that come back, the result."""

from __future__ import annotations

import json
import os
import platform
import queue
import shutil
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..backends.common import errors
from ..backends.common.arrays import Arrays, disk_full_explained, read_arrays, write_arrays
from ..backends.common.errors import BrokenFile, Cancelled, EngineFailed, VivantError
from .progress import State

if TYPE_CHECKING:
    from .client import Worker

MEMORY_DISK = Path("/dev/shm")
TERMINATE_AFTER = 3.0  # seconds that a cancelled job has to stop by itself
KILL_AFTER = 5.0
AWAY = 2.0  # seconds without a poll after which the engine's silence proves nothing
COPY_REPORT = "Press Copy report in Vivant's preferences to see the whole log."

Event = dict[str, Any]


def scratch_folder(size: int) -> Path:
    """A new folder for `size` bytes of arrays that only this user can open: in memory where the system has a place for it."""
    import tempfile  # takes 20 ms, which Blender need not wait for when it starts

    base = Path(tempfile.gettempdir())
    # Four times: what goes there, what comes back, and as much for others; and a reserve for a result larger than its request.
    if os.access(MEMORY_DISK, os.W_OK) and shutil.disk_usage(MEMORY_DISK).free > 4 * size + (1 << 30):
        base = MEMORY_DISK
    return Path(tempfile.mkdtemp(prefix="vivant-job-", dir=base))


def write_request(folder: Path, kind: str, parameters: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    """request.json and in/*.npy.  Raises VivantError when the disk is full or the folder cannot be written."""
    versions = {"python": platform.python_version(), "numpy": np.__version__}
    request = {"kind": kind, "parameters": dict(parameters), "versions": versions}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with disk_full_explained(folder):
            shutil.rmtree(folder / "in", ignore_errors=True)  # of an earlier run
            write_arrays(folder / "in", arrays)
            (folder / "request.json").write_text(json.dumps(request, indent=1), "utf-8")
    except OSError as error:
        raise VivantError(
            f"The job's folder {folder} cannot be written: {error.strerror}.", "Choose another folder."
        ) from error


class Job:
    """One piece of work in the engine.  `poll` it from a timer or `wait` for it, then take the `result`.

    progress is a State; warnings are sentences for the user; preview is the last picture that the job sent.
    """

    def __init__(
        self, kind: str, folder: Path, temporary: bool, worker: Worker, ended: Callable[[Job], None], silence: float
    ) -> None:
        self.kind = kind
        self.folder = folder
        self.worker = worker
        self.progress = State()
        self.warnings: list[str] = []
        self.preview: NDArray[Any] | None = None
        self.error: VivantError | None = None
        self.done = False
        self.started = self._polled = time.monotonic()
        self.seconds = 0.0
        self._ended = ended
        self._silence = silence
        self._log = ""
        self._cancelled_at: float | None = None
        self._remove = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True) if temporary else None
        worker.heard = self.started
        worker.send({"run": str(folder), "temporary": temporary})

    def poll(self) -> bool:
        """Take what the engine said, never blocking; True when the job has ended, well or not."""
        self._pump(0)
        return self.done

    def wait(self, timeout: float | None = None) -> bool:
        """Block until the job ends or `timeout` seconds are over; True when it has ended."""
        until = None if timeout is None else time.monotonic() + timeout
        while not self.done and (until is None or time.monotonic() < until):
            self._pump(0.1 if until is None else max(0.0, min(0.1, until - time.monotonic())))
        return self.done

    def cancel(self) -> None:
        """Ask the job to stop; it is ended by force if it does not within three seconds of polling."""
        if not self.done and self._cancelled_at is None:
            self._cancelled_at = time.monotonic()
            self.worker.send({"cancel": str(self.folder)})

    def kill(self) -> None:
        """Stop at once, with the process."""
        if not self.done:
            self.worker.kill()
            self._end(Cancelled("The job was stopped."))

    def result(self) -> tuple[dict[str, Any], Arrays]:
        """Values and arrays that the job returned; its folder goes.  Waits if need be.

        Raises the job's own VivantError, EngineFailed or Cancelled.
        """
        self.wait()
        if self.error:
            raise self.error
        out = self.folder / "out"
        try:
            values = json.loads((out / "values.json").read_bytes())
            arrays = read_arrays(out, mapped=False)
        except (OSError, ValueError) as error:
            raise EngineFailed(f"The engine's result cannot be read: {error}.", "Run it again.") from error
        if self._remove:
            threading.Thread(target=self._remove).start()  # giving back hundreds of MB takes the system a while
        return values, arrays

    def log_tail(self, lines: int = 50) -> str:
        """The end of what the job printed, and of what the process sent that is no event."""
        return "\n".join([*self._read_log(lines), *self.worker.noise[-lines:]]) if not self.done else self._log

    def _pump(self, timeout: float) -> None:
        now = time.monotonic()
        if now - self._polled > AWAY:  # Blender was busy, and our own thread may not have listened either
            self.worker.heard = max(self.worker.heard, now)
        while not self.done:
            try:
                event = self.worker.events.get(timeout=timeout) if timeout else self.worker.events.get_nowait()
            except queue.Empty:
                break
            timeout = 0
            self._take(event)
        self._polled = time.monotonic()
        if not self.done:
            self._watch(self._polled)

    def _take(self, event: Event | None) -> None:
        if event is None:
            self._end(self._death())
            return
        try:
            match event["event"]:
                case "progress":
                    self.progress = State.of(event)
                case "warning":
                    self.warnings.append(str(event["message"]))
                case "preview":
                    self.preview = self._read_preview(str(event["file"]))
                case "result":
                    self._end(None)
                case "error":
                    kind = getattr(errors, str(event["kind"]), EngineFailed)
                    known = isinstance(kind, type) and issubclass(kind, VivantError)
                    self._end((kind if known else EngineFailed)(str(event["message"]), str(event.get("hint", ""))))
        except (KeyError, TypeError, ValueError, OSError, BrokenFile) as error:
            self.worker.noise.append(f"{event!r:.200}: {error}")

    def _read_preview(self, name: str) -> NDArray[Any]:
        """A picture by its name relative to the folder, which it may not leave."""
        path = (self.folder / name).resolve()
        if not path.is_relative_to(self.folder.resolve()):
            raise BrokenFile(f"{name} lies outside the job's folder.")
        picture: NDArray[Any] = np.load(path, allow_pickle=False)
        return picture

    def _watch(self, now: float) -> None:
        """Force what does not go by itself."""
        if self._cancelled_at is not None:
            if now - self._cancelled_at > KILL_AFTER:
                self.kill()
            elif now - self._cancelled_at > TERMINATE_AFTER:
                self.worker.terminate()
        elif now - self.worker.heard > self._silence:
            self.worker.kill()
            said = self._last_words()
            self._end(EngineFailed(f"The engine stopped answering during “{self.kind}” and was ended{said}.", COPY_REPORT))

    def _death(self) -> VivantError:
        if self._cancelled_at is not None:
            return Cancelled("The job was stopped.")
        how, said = self.worker.ending(), self._last_words()
        if not self.worker.greeted:
            hint = "Choose a Python 3.11 or newer with NumPy in Vivant's preferences, or press Install engine there."
            return EngineFailed(f"The engine did not start: {how}{said}.", hint)
        return EngineFailed(f"The engine died during “{self.kind}”: {how}{said}.", COPY_REPORT)

    def _last_words(self) -> str:
        tail = [line.strip() for line in self.log_tail(3).splitlines() if line.strip()]
        return "; its log ends: " + " | ".join(tail)[-500:] if tail else ""

    def _read_log(self, lines: int) -> list[str]:
        try:
            with (self.folder / "log.txt").open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - 200 * lines))
                return file.read().decode("utf-8", "replace").splitlines()[-lines:]
        except FileNotFoundError:
            return []

    def _end(self, error: VivantError | None) -> None:
        self._log = self.log_tail()
        self.seconds = time.monotonic() - self.started
        self.done, self.error = True, error
        if error and self._remove:
            self._remove()
        self._ended(self)
