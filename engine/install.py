# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the engine's Python comes from: one that is here, or a private environment made on the user's wish."""

from __future__ import annotations

import atexit
import functools
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable
from pathlib import Path

from ..backends.common.arrays import atomic_folder
from ..backends.common.errors import Cancelled, EngineFailed, NeedsEngine, VivantError
from .client import clean_environment
from .progress import State

RUNS_JOBS = "import sys, numpy; sys.exit(sys.version_info < (3, 11))"
RUNS_NETWORKS = "import sys; from importlib.util import find_spec as f; sys.exit(not (f('torch') and f('safetensors')))"
MAKES_ENVIRONMENTS = "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))"


def python_in(environment: Path) -> Path:
    """The interpreter of a virtual environment."""
    return environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def environment_in(folder: Path) -> Path:
    """The environment below the folder given to `Installation`."""
    return folder / "environment"


def installed(folder: Path) -> Path | None:
    """The interpreter that an Installation in this folder made; None without one."""
    python = python_in(environment_in(folder))
    return python if python.is_file() else None


def remove(folder: Path) -> None:
    """Take an installation away, with what it had downloaded."""
    shutil.rmtree(folder, ignore_errors=True)


def local_pythons() -> list[Path]:
    """Interpreters to try: the one that runs this process first (Blender's own), then those on the PATH, newest first."""
    running = [Path(sys.executable)] if Path(sys.executable).name.lower().startswith("python") else []
    names = [f"python3.{minor}" for minor in range(14, 10, -1)] + ["python3", "python"]
    return running + [Path(path) for name in names if (path := shutil.which(name))]


@functools.cache
def works(python: Path, code: str) -> bool:
    """Whether an interpreter runs a line of code with exit status 0."""
    try:
        command = [str(python), "-c", code]
        return (
            subprocess.run(
                command,
                env=clean_environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=20,
                check=False,
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            ).returncode
            == 0
        )
    except (OSError, subprocess.TimeoutExpired):
        return False


def find_python(candidates: Iterable[Path], code: str = RUNS_JOBS) -> Path:
    """The first interpreter that runs the code.  Raises NeedsEngine when none does."""
    for python in candidates:
        if works(python, code):
            return python
    what = "NumPy" if code == RUNS_JOBS else "venv and pip"
    raise NeedsEngine(
        f"No Python 3.11 or newer with {what} was found.",
        "Install Python from python.org, then choose it in Vivant's preferences.",
    )


class Installation:
    """Makes a private environment in `folder`/environment from a lock file, in a thread; used like an engine's Job.

    It is built beside and renamed, so that it is whole or not there; finished downloads are kept until it is whole,
    so that a second try goes on where the first stopped.  python: the interpreter to build on (else a local one).
    Raises VivantError at once when online is False.
    """

    kind = "install"

    def __init__(self, folder: Path, lock: Path, online: bool, python: Path | None = None) -> None:
        if not online:
            raise VivantError(
                "Blender is not allowed to go online.",
                "Tick Preferences ▸ System ▸ Allow Online Access, then press Install engine again.",
            )
        self.progress = State(note="looking for a Python")
        self.warnings: list[str] = []
        self.error: VivantError | None = None
        self.done = False
        self._folder = folder
        self._lock = lock
        self._candidates = [python] if python else local_pythons()
        self._lines: list[str] = []
        self._cancelled = False
        self._process: subprocess.Popen[str] | None = None
        self._thread = threading.Thread(target=self._run, name="vivant install", daemon=True)
        atexit.register(self.kill)
        self._thread.start()

    def poll(self) -> bool:
        """True when it has ended, well or not."""
        return self.done

    def wait(self, timeout: float | None = None) -> bool:
        """Block until it ends or `timeout` seconds are over; True when it has ended."""
        self._thread.join(timeout)
        return self.done

    def cancel(self) -> None:
        """Stop; nothing is left but finished downloads."""
        self._cancelled = True
        process = self._process
        if process and process.poll() is None:
            if os.name == "posix":
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()

    def kill(self) -> None:
        """Stop, and wait until everything is tidy."""
        self.cancel()
        self._thread.join(10)

    def result(self) -> Path:
        """The new environment's interpreter.  Raises what went wrong."""
        self.wait()
        if self.error:
            raise self.error
        return python_in(environment_in(self._folder))

    def log_tail(self, lines: int = 50) -> str:
        """The end of what pip said."""
        return "\n".join(self._lines[-lines:])

    def _run(self) -> None:
        try:
            self._install()
        except VivantError as error:
            self.error = error
        except OSError as error:
            self.error = EngineFailed(
                f"The engine's folder {self._folder} cannot be written: {error}.", "Free some space and try again."
            )
        finally:
            atexit.unregister(self.kill)
            self.done = True

    def _install(self) -> None:
        requirements = [line for line in self._lock.read_text("utf-8").splitlines() if re.match(r"\w", line)]
        torch = [line for line in requirements if re.match(r"torch\b", line)]
        downloads = self._folder / "downloads"
        base = find_python(self._candidates, MAKES_ENVIRONMENTS)
        with atomic_folder(environment_in(self._folder)) as partial:
            self._need(0, "making an environment", [str(base), "-m", "venv", str(partial)])
            pip = [str(python_in(partial)), "-m", "pip", "--disable-pip-version-check", "--no-input"]
            if torch:
                self._install_torch(pip, partial, torch, downloads)
            install = [*pip, "install", "--cache-dir", str(downloads), "--only-binary=:all:", "--progress-bar=off"]
            self._need(2, "packages", [*install, "--requirement", str(self._lock)])
            self._need(3, "checking", [*pip, "check"])
        shutil.rmtree(downloads, ignore_errors=True)
        self.progress = State(4, 4, None, "ready")

    def _install_torch(self, pip: list[str], partial: Path, torch: list[str], downloads: Path) -> None:
        """The CUDA build where there is an NVIDIA GPU, the CPU build elsewhere.

        The registry's own build would bring gigabytes of CUDA on Linux and none on Windows.  A folder of wheels that pip is
        configured with comes first; uv knows where PyTorch keeps the others.
        """
        if self._call(1, "torch", [*pip, "install", "--no-index", "--no-deps", *torch]):
            return
        self._need(1, "uv", [*pip, "install", "--cache-dir", str(downloads), "--progress-bar=off", "uv"])
        uv = [str(python_in(partial)), "-m", "uv", "pip", "install", "--cache-dir", str(downloads / "uv")]
        backend = "auto" if shutil.which("nvidia-smi") else "cpu"
        self._need(1, "torch", [*uv, "--python", str(python_in(partial)), "--no-deps", "--torch-backend", backend, *torch])

    def _need(self, step: int, note: str, command: list[str]) -> None:
        """Run a command that must succeed."""
        if self._call(step, note, command):
            return
        faults = [line for line in self._lines if line.startswith(("ERROR", "error"))] or self._lines or ["no word of why"]
        raise EngineFailed(
            f"Installing the engine failed ({note}): {faults[-1].removeprefix('ERROR: ')}.",
            "Check the connection and the disk, then press Install engine again: finished downloads are kept.",
        )

    def _call(self, step: int, note: str, command: list[str]) -> bool:
        """Run a command to its end, its lines becoming the progress; whether it succeeded."""
        if self._cancelled:
            raise Cancelled("The installation was stopped.")
        self.progress = State(step, 4, None, note)
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            env=clean_environment(),
            cwd=self._folder,
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        with self._process as process:
            if self._cancelled:  # between the look above and the start
                self.cancel()
            assert process.stdout
            for line in process.stdout:
                self._lines.append(line.rstrip())
                if line.strip():
                    self.progress = State(step, 4, None, f"{note}: {line.strip():.80}")
        if self._cancelled:
            raise Cancelled("The installation was stopped.")
        return process.returncode == 0
