# SPDX-License-Identifier: GPL-3.0-or-later
"""The zip that users install: small, complete, the same every time, and clean in this Blender, with and without wheels."""

import os
import pathlib
import platform
import shutil
import subprocess
import sys
import zipfile

import pytest

from tools import dev_build, dev_wheels
from tools.dev_envs import Unavailable

ROOT = pathlib.Path(__file__).resolve().parents[2]
PYTHON = "{}.{}".format(*sys.version_info)
PLATFORM = {"linux": "linux", "win32": "windows", "darwin": "macos"}[sys.platform] + (
    "-arm64" if platform.machine() in ("arm64", "aarch64") else "-x64"
)

pytestmark = pytest.mark.skipif(
    not shutil.which("git") or not (ROOT / ".git").exists(), reason="a zip is built from a git checkout"
)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return dev_build.write_zip(tmp_path_factory.mktemp("zip") / "vivant-0.1.0.zip", [], {})


def names(archive: pathlib.Path) -> list[str]:
    with zipfile.ZipFile(archive) as opened:
        return opened.namelist()


def test_the_zip_is_small_and_holds_nothing_for_developers(archive: pathlib.Path) -> None:
    dev_build.check_size(archive)
    held = names(archive)
    assert {"blender_manifest.toml", "__init__.py", "LICENSE", "wheels/engine.txt"} <= set(held)
    unwanted = ("tests/", "tools/", "docs/", "benchmarks/", "locks/", ".", "dev.py", "pyproject.toml")
    assert [name for name in held if name.startswith(unwanted) or name.endswith((".whl", ".pyc", ".blend"))] == []


@pytest.mark.parametrize(("name", "size"), [("weights/a.safetensors", 30_000_000), ("scene/a.npz", 4_900_000)])
def test_weights_have_a_limit_of_their_own(tmp_path: pathlib.Path, name: str, size: int) -> None:
    for megabytes, sound in ((0, True), (6, False)):
        with zipfile.ZipFile(tmp_path / "new.zip", "w") as made:
            made.writestr(name, bytes(size + megabytes * 1_000_000))
        if sound:
            dev_build.check_size(tmp_path / "new.zip")
        else:
            with pytest.raises(Unavailable, match="promised"):
                dev_build.check_size(tmp_path / "new.zip")


def test_the_zip_holds_every_module_of_the_package_and_the_weights(archive: pathlib.Path) -> None:
    packages = ["backends", "engine", "operators", "panels", "scene", "weights"]
    listed = subprocess.run(["git", "ls-files", *packages], cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(listed.stdout.splitlines()) <= set(names(archive))


def test_building_again_gives_the_same_bytes(archive: pathlib.Path, tmp_path: pathlib.Path) -> None:
    again = dev_build.write_zip(tmp_path / "again.zip", [], {})
    assert again.read_bytes() == archive.read_bytes()


def test_blenders_validator_refuses_a_wrong_tag(tmp_path: pathlib.Path) -> None:
    with pytest.raises(Unavailable, match="Point Cloud"):
        dev_build.write_zip(tmp_path / "wrong.zip", [], {"tags": ["Point Cloud"]})


def test_it_installs_imports_and_leaves_without_a_word(archive: pathlib.Path) -> None:
    assert dev_build.install(archive, pathlib.Path(sys.executable)).startswith("installed in Blender")


def test_it_installs_from_the_repository_that_the_build_writes(archive: pathlib.Path, tmp_path: pathlib.Path) -> None:
    dev_build.write_repository(archive)
    script = f"""
import os, bpy, addon_utils
bpy.context.preferences.system.use_online_access = True  # Blender asks for it, though this address is a file
repositories = bpy.context.preferences.extensions.repos
repositories.new(name="Vivant", module="vivant_here", remote_url={(archive.parent / "index.json").as_uri()!r})
index = [repository.module for repository in repositories].index("vivant_here")
bpy.ops.extensions.repo_sync(repo_index=index)
bpy.ops.extensions.package_install(repo_index=index, pkg_id="vivant", enable_on_install=True)
assert addon_utils.check("bl_ext.vivant_here.vivant") == (True, True)
os._exit(0)
"""
    environment = {**os.environ, "BLENDER_USER_RESOURCES": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_engine_zip_brings_pure_and_compiled_wheels_along(tmp_path: pathlib.Path) -> None:
    lock = pathlib.Path(__file__).with_name("small_engine.txt")
    try:
        archive = dev_build.build_engine("small", lock, [], PLATFORM, PYTHON, None, tmp_path)
    except Unavailable as problem:
        if "No matching distribution" not in str(problem):
            raise
        pytest.skip("needs the package registry")
    wheels = [name for name in names(archive) if name.endswith(".whl")]
    assert sorted(name.partition("-")[0] for name in wheels) == [
        "wheels/msgpack",
        "wheels/safetensors",
        "wheels/tomli_w",
    ]  # NumPy is Blender's
    manifest = zipfile.ZipFile(archive).read("blender_manifest.toml").decode()
    assert f'platforms = ["{PLATFORM}"]' in manifest
    assert dev_build.install(archive, pathlib.Path(sys.executable), "msgpack._cmsgpack", "tomli_w")


def test_a_lock_is_read_for_another_platform(tmp_path: pathlib.Path) -> None:
    lock = tmp_path / "lock.txt"
    lock.write_text(
        "# a comment\n"
        "everywhere==1.0 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\n"
        "windows-only==2.0 ; sys_platform == 'win32' \\\n    --hash=sha256:cc\n"
        "older==3.0 ; python_full_version < '3.12'\n"
    )
    assert dev_wheels.requirements(lock, "windows-x64", "3.13") == {
        "everywhere": "everywhere==1.0 --hash=sha256:aa --hash=sha256:bb",
        "windows-only": "windows-only==2.0 --hash=sha256:cc",
    }
    assert set(dev_wheels.requirements(lock, "linux-x64", "3.11")) == {"everywhere", "older"}


def test_what_blender_ships_stays_out_of_engine_zips() -> None:
    shipped = dev_wheels.shipped_by_blender(pathlib.Path(sys.executable))
    assert {"numpy", "requests", "urllib3", "zstandard"} <= shipped
    assert not shipped & {"bpy", "pytest", "pip", "scipy"}


def test_the_cpu_engine_never_takes_the_registrys_cuda_build_of_torch() -> None:
    assert dev_wheels.torch_build("cpu", "linux-x64").endswith("+cpu")
    with pytest.raises(Unavailable, match="no cuda build"):
        dev_wheels.torch_build("cuda", "macos-arm64")
