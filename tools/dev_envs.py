# SPDX-License-Identifier: GPL-3.0-or-later
"""The development environments: which Pythons they need, what is installed in them, how they are made.

Standard library of Python 3.10 only: this is what runs when nothing is installed yet.
"""

import contextlib
import ctypes.util
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass

ROOT = pathlib.Path(__file__).resolve().parents[1]
LOCKS = ROOT / "locks"
TORCH = "torch==2.13.0"


class Unavailable(Exception):
    """An environment cannot be made here; the text says why and what to install."""


class NoBlender(Unavailable):
    """The environment is there, but its bpy does not start."""


@dataclass(frozen=True)
class Environment:
    """A virtual environment of this checkout.

    `lock` names a file of locks/; `bpy` is installed beside it, without a fixed patch version, because the registry
    keeps only the newest ones; `megabytes` is what a first installation downloads, about.
    """

    folder: str
    python: str
    lock: str
    megabytes: int
    bpy: str = ""
    torch: bool = False


ENVIRONMENTS = {
    "blender-5.2": Environment(".venv", "3.13", "py313", 540, bpy="bpy==5.2.*"),
    "blender-4.5": Environment(".venv-4.5", "3.11", "py311", 400, bpy="bpy==4.5.*"),
    "blender-5.1": Environment(".venv-5.1", "3.13", "py313", 540, bpy="bpy==5.1.*"),
    "blender-5.0": Environment(".venv-5.0", "3.11", "py311", 400, bpy="bpy==5.0.*"),
    "lint": Environment(".venv-lint", "3.13", "lint", 60),
    "engine": Environment(".venv-engine", "3.11", "engine", 320, torch=True),
}

# Shared libraries that Blender links or opens on Linux: what each is called for Debian's and Fedora's package managers.
SYSTEM_LIBRARIES = {
    "libX11": ("libx11-6", "libX11"),
    "libXrender": ("libxrender1", "libXrender"),
    "libXfixes": ("libxfixes3", "libXfixes"),
    "libXi": ("libxi6", "libXi"),
    "libxkbcommon": ("libxkbcommon0", "libxkbcommon"),
    "libSM": ("libsm6", "libSM"),
    "libICE": ("libice6", "libICE"),
    "libGL": ("libgl1", "libglvnd-glx"),
    "libEGL": ("libegl1 libegl-mesa0 libgl1-mesa-dri", "libglvnd-egl mesa-libEGL mesa-dri-drivers"),
}

# Makes the checkout importable as `vivant` whatever its folder is called; a .pth file imports this when Python starts.
FINDER = '''\
"""Written by dev.py: finds the package `vivant` in its checkout."""

import importlib.util
import sys

ROOT = {root!r}


class Checkout:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "vivant":
            return importlib.util.spec_from_file_location(name, ROOT + "/__init__.py", submodule_search_locations=[ROOT])


sys.meta_path.append(Checkout)
'''


def say(text: str) -> None:
    print(f"[dev] {text}", file=sys.stderr, flush=True)


# --- Pythons and uv ---------------------------------------------------------------------------------------------------


def _answer(command: list[str]) -> str:
    """What a command prints, or "" where it fails or does not exist."""
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        if done.returncode == 0:
            return done.stdout.strip()
    return ""


def _candidates(version: str) -> Iterator[str]:
    """Where a Python of this version ("3.13") may be on this machine, likeliest first."""
    yield sys.executable
    for name in (f"python{version}", "python3", "python"):
        if found := shutil.which(name):
            yield found
    pyenv = pathlib.Path(os.environ.get("PYENV_ROOT") or pathlib.Path.home() / ".pyenv")
    for pattern in (f"versions/{version}.*/bin/python", f"pyenv-win/versions/{version}.*/python.exe"):
        yield from sorted(map(str, pyenv.glob(pattern)), reverse=True)
    if os.name == "nt" and (found := _answer(["py", f"-{version}", "-c", "import sys; print(sys.executable)"])):
        yield found


def find_python(version: str) -> str:
    """Path of a working Python of this version ("3.13"): one that is here, or else one that uv downloads."""
    probe = "import ctypes, ssl, sys, venv; print('%d.%d' % sys.version_info[:2])"
    for candidate in _candidates(version):
        if _answer([candidate, "-c", probe]) == version:
            return candidate
    if uv := find_uv():
        if found := _answer([uv, "python", "find", "--no-python-downloads", version]):
            return found
        say(f"no Python {version} on this machine: uv downloads one (about 35 MB)")
        subprocess.run([uv, "python", "install", version])
        if found := _answer([uv, "python", "find", version]):
            return found
    raise Unavailable(
        f"There is no Python {version} on this machine. Install it (apt install python{version}-venv, dnf install "
        f"python{version}, brew install python@{version}, winget install Python.Python.{version}, pyenv install {version})."
    )


def _cache() -> pathlib.Path:
    """The folder of this user for things that all checkouts share."""
    if os.name == "nt":
        return pathlib.Path(os.environ.get("LOCALAPPDATA") or pathlib.Path.home() / "AppData" / "Local") / "vivant" / "dev"
    if sys.platform == "darwin":
        return pathlib.Path.home() / "Library" / "Caches" / "vivant" / "dev"
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "vivant" / "dev"


def find_uv() -> str:
    """Path of uv: from PATH, or installed once into the user's cache folder; "" where it cannot be had."""
    if (found := shutil.which("uv")) and _answer([found, "--version"]):
        return found
    uv = _bin(_cache() / "uv") / ("uv.exe" if os.name == "nt" else "uv")
    if _answer([str(uv), "--version"]):
        return str(uv)
    say("getting uv, which installs packages (about 25 MB, once for all checkouts)")
    _cache().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=_cache(), ignore_cleanup_errors=True) as temporary:
        for starter in dict.fromkeys(_candidates("{}.{}".format(*sys.version_info[:2]))):
            made = subprocess.run([starter, "-m", "venv", f"{temporary}/uv"], capture_output=True).returncode == 0
            pip = [str(_bin(pathlib.Path(temporary, "uv")) / "python"), "-m", "pip", "install", "--quiet", "uv>=0.9"]
            if made and subprocess.run(pip).returncode == 0:
                shutil.rmtree(_cache() / "uv", ignore_errors=True)
                with contextlib.suppress(OSError):  # somebody else was quicker
                    pathlib.Path(temporary, "uv").rename(_cache() / "uv")
                break
    return str(uv) if _answer([str(uv), "--version"]) else ""


# --- making an environment --------------------------------------------------------------------------------------------


def _bin(folder: pathlib.Path) -> pathlib.Path:
    return folder / ("Scripts" if os.name == "nt" else "bin")


def interpreter(name: str) -> pathlib.Path:
    """Where the Python of an environment is, or would be."""
    return _bin(ROOT / ENVIRONMENTS[name].folder) / ("python.exe" if os.name == "nt" else "python")


def ready(name: str) -> bool:
    """Whether the environment is there and was made from today's lock, for this folder."""
    stamp = ROOT / ENVIRONMENTS[name].folder / "vivant-stamp"
    return stamp.is_file() and stamp.read_text("utf8") == _stamp(name) and interpreter(name).exists()


def _stamp(name: str) -> str:
    environment = ENVIRONMENTS[name]
    lock = (LOCKS / f"{environment.lock}.txt").read_bytes()
    return hashlib.sha256(repr((environment, str(ROOT), FINDER, lock)).encode()).hexdigest()


def python(name: str) -> pathlib.Path:
    """The Python of an environment, which is made first if it is not there or its lock has changed.

    Raises Unavailable with what to install when that cannot be done.
    """
    if not ready(name):
        with _alone():
            if not ready(name):
                _make(name)
    return interpreter(name)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Let one process at a time make environments in this checkout; the system frees the lock if we die."""
    (ROOT / ".cache").mkdir(exist_ok=True)
    with (ROOT / ".cache" / "environments.lock").open("w") as file:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make(name: str) -> None:
    environment = ENVIRONMENTS[name]
    folder = ROOT / environment.folder
    start = time.monotonic()
    base = find_python(environment.python)
    uv = find_uv()
    what = " and ".join(filter(None, [environment.bpy, TORCH * environment.torch, f"locks/{environment.lock}.txt"]))
    say(f"making {environment.folder}: Python {environment.python}, {what}")
    say(f"  downloads up to {environment.megabytes} MB the first time, nothing when another checkout has done it")
    if uv:
        _do([uv, "venv", "--quiet", "--clear", "--no-project", "--python", base, str(folder)])
        install = [uv, "pip", "install", "--python", str(interpreter(name))]
    else:
        say("  uv cannot be had here: pip does it, more slowly")
        _do([base, "-m", "venv", "--clear", str(folder)])
        install = [str(interpreter(name)), "-m", "pip", "install"]
    _do([*install, "--require-hashes", "-r", str(LOCKS / f"{environment.lock}.txt")])
    if environment.bpy:
        _do([*install, "--no-deps", environment.bpy])
    if environment.torch:
        _install_torch(interpreter(name), uv)
    _link_checkout(interpreter(name))
    if environment.bpy:
        check_blender(name)
    (folder / "vivant-stamp").write_text(_stamp(name), "utf8")
    say(f"{environment.folder} is ready after {time.monotonic() - start:.0f} s")


def _do(command: list[str]) -> None:
    """Run a step whose output the user sees; Unavailable when it fails."""
    if subprocess.run(command).returncode:
        raise Unavailable(f"This step failed, see above: {' '.join(command)}")


def _link_checkout(python: pathlib.Path) -> None:
    packages = pathlib.Path(_answer([str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]))
    (packages / "_vivant_checkout.py").write_text(FINDER.format(root=str(ROOT)), "utf8")
    (packages / "vivant_checkout.pth").write_text("import _vivant_checkout\n", "utf8")


def checkout_as_package(parent: pathlib.Path) -> pathlib.Path:
    """A folder named `vivant` inside `parent` that is this checkout, for tools that go by folder names."""
    link = parent / "vivant"
    if not link.exists() or link.resolve() != ROOT:
        shutil.rmtree(parent, ignore_errors=True)
        parent.mkdir(parents=True)
        if os.name == "nt":  # a junction needs no privilege, a symbolic link does
            _do(["cmd", "/c", "mklink", "/J", str(link), str(ROOT)])
        else:
            link.symlink_to(ROOT, target_is_directory=True)
    return link


def check_blender(name: str) -> None:
    """Import bpy once; NoBlender names the system library that is missing, a lacking EGL is only said."""
    done = subprocess.run([interpreter(name), "-c", "import bpy"], capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise NoBlender(f"{ENVIRONMENTS[name].bpy} does not start: {last}. {library_advice(last)}".strip())
    if sys.platform == "linux" and not ctypes.util.find_library("EGL"):
        say(f"  EEVEE will not render here: libEGL is missing. {library_advice('libEGL')}")


def library_advice(error: str) -> str:
    """Which packages hold the shared library that a loader's error names; "" for any other error."""
    for library, (debian, fedora) in SYSTEM_LIBRARIES.items():
        if f"{library}.so" in error or error == library:
            everything = " ".join(names for names, _ in SYSTEM_LIBRARIES.values())
            return f"Install {debian} (apt) or {fedora} (dnf); all that Blender needs on Debian: {everything}."
    return ""


def _install_torch(python: pathlib.Path, uv: str) -> None:
    """Install torch: the CUDA build where there is an NVIDIA GPU, the CPU build elsewhere.

    The registry's own Linux build brings gigabytes of CUDA, so it is never asked for: a folder of wheels that pip is
    configured with (find-links) comes first, then PyTorch's index, which uv knows.
    """
    backend = "auto" if shutil.which("nvidia-smi") else "cpu"
    if backend == "cpu":
        local = [str(python), "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", TORCH]
        if subprocess.run(local, capture_output=True).returncode == 0:
            return
    if (
        uv
        and subprocess.run([uv, "pip", "install", "--python", str(python), "--torch-backend", backend, TORCH]).returncode == 0
    ):
        return
    raise Unavailable(
        f"No {'CPU build' if backend == 'cpu' else 'build'} of {TORCH} can be had: download its wheel into a folder, "
        "set PIP_FIND_LINKS to that folder and start again."
    )


# --- lock files -------------------------------------------------------------------------------------------------------


def write_locks() -> None:
    """Choose the newest versions that fit for every *.in file, and write the *.txt files beside them."""
    uv = find_uv()
    if not uv:
        raise Unavailable("Lock files are made with uv, which cannot be had here: install uv.")
    for source in sorted(path for folder in ("locks", "wheels", "tests/blender") for path in (ROOT / folder).glob("*.in")):
        version = source.read_text("utf8").removeprefix("# Python ")[:4]  # each file begins with it
        lock = source.with_suffix(".txt")
        say(f"{lock.relative_to(ROOT).as_posix()} for Python {version}")
        options = "--quiet --upgrade --universal --generate-hashes --no-emit-package bpy --no-emit-package torch --no-annotate"
        command = [uv, "pip", "compile", *options.split(), "--custom-compile-command", "python3 dev.py lock"]
        _do([*command, "--python-version", version, str(source), "--output-file", str(lock)])
