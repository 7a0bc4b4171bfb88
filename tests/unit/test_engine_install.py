# SPDX-License-Identifier: GPL-3.0-or-later
"""Install engine: a private environment that is whole or not there, from wheels made here, without any network."""

import os
import pathlib
import subprocess
import sys
import time
import zipfile

import pytest

from vivant.backends.common.errors import Cancelled, EngineFailed, NeedsEngine, VivantError
from vivant.engine import install
from vivant.engine.install import Installation, installed

PYTHON = pathlib.Path(sys.executable)


def wheel(folder: pathlib.Path, name: str, version: str) -> None:
    """A wheel with one module that knows its version."""
    info = f"{name}-{version}.dist-info"
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{name}.py", f"VERSION = {version!r}\n")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", f"{name}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")


@pytest.fixture
def lock(tmp_path, monkeypatch):
    """A lock file whose one package pip finds beside it and nowhere else."""
    if not install.works(PYTHON, install.MAKES_ENVIRONMENTS):
        pytest.skip("this Python lacks venv or ensurepip")
    wheel(tmp_path / "wheels", "vivanttestpackage", "1.0")
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    lock = tmp_path / "engine.txt"
    lock.write_text("# what the engine holds\nvivanttestpackage==1.0\n")
    return lock


def test_an_installation_can_be_used_replaced_and_removed(tmp_path, lock):
    folder = tmp_path / "engine"
    assert installed(folder) is None
    job = Installation(folder, lock, online=True, python=PYTHON)
    python = job.result()
    assert installed(folder) == python
    assert job.progress.fraction == 1
    ask = [python, "-c", "import vivanttestpackage, sys; print(vivanttestpackage.VERSION, sys.prefix)"]
    assert subprocess.check_output(ask, text=True).split() == ["1.0", str(folder / "environment")]
    assert [path.name for path in folder.iterdir()] == ["environment"]

    wheel(tmp_path / "wheels", "vivanttestpackage", "2.0")
    lock.write_text("vivanttestpackage==2.0\n")
    assert Installation(folder, lock, online=True, python=PYTHON).result() == python
    assert subprocess.check_output(ask, text=True).startswith("2.0")

    lock.write_text("vivanttestpackage==3.0\n")
    failed = Installation(folder, lock, online=True, python=PYTHON)
    with pytest.raises(EngineFailed, match=r"vivanttestpackage==3\.0"):
        failed.result()
    assert "Could not find a version" in failed.log_tail()
    assert subprocess.check_output(ask, text=True).startswith("2.0"), "the one that was there still works"
    assert not (folder / "environment.partial").exists()

    install.remove(folder)
    assert installed(folder) is None


def test_a_stopped_installation_leaves_nothing_half(tmp_path, lock):
    folder = tmp_path / "engine"
    job = Installation(folder, lock, online=True, python=PYTHON)
    while "environment" not in job.progress.note:
        time.sleep(0.005)
    job.cancel()
    with pytest.raises(Cancelled):
        job.result()
    assert installed(folder) is None
    assert list(folder.iterdir()) == []


def test_offline_is_an_error_before_anything_starts(tmp_path, lock):
    with pytest.raises(VivantError, match="not allowed to go online"):
        Installation(tmp_path / "engine", lock, online=False)
    assert not (tmp_path / "engine").exists()


def test_no_usable_python_is_an_error(tmp_path, lock):
    with pytest.raises(NeedsEngine, match="No Python"):
        Installation(tmp_path / "engine", lock, online=True, python=tmp_path / "nowhere").result()


@pytest.mark.parametrize(("nvidia", "backend"), [(False, "cpu"), (True, "auto")])
def test_torch_comes_with_cuda_only_where_there_is_an_nvidia_card(monkeypatch, tmp_path, nvidia, backend):
    lock = tmp_path / "lock.txt"
    lock.write_text("torch==2.13.0\n")
    commands: list[list[str]] = []

    def succeed_but_for_local_wheels(self: Installation, step: int, note: str, command: list[str]) -> bool:
        commands.append(command)
        return "--no-index" not in command

    monkeypatch.setattr(Installation, "_call", succeed_but_for_local_wheels)
    monkeypatch.setattr(install.shutil, "which", lambda name: "/bin/nvidia-smi" if nvidia else None)
    Installation(tmp_path / "engine", lock, online=True, python=PYTHON).result()
    order = [
        next(i for i, command in enumerate(commands) if option in command) for option in ("--no-index", "uv", "--torch-backend")
    ]
    assert order == sorted(order)
    assert commands[order[-1]][-2:] == [backend, "torch==2.13.0"]


def test_the_python_that_runs_the_tests_is_found_first():
    assert install.find_python(install.local_pythons()) == PYTHON
