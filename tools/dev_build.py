# SPDX-License-Identifier: GPL-3.0-or-later
"""`dev.py build`: the extension's zip, tried out in every Blender at hand, and a static repository; or an engine zip.

The zip holds the files that git tracks less the manifest's `paths_exclude_pattern`, is built and validated by Blender's
own command-line tool, and is the same to the last byte when it is built again.  An engine zip also holds the wheels of
one of the locks in wheels/, for one platform and one Python, so that its engine needs nothing else.
"""

import argparse
import importlib.util
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tools import dev_envs, dev_manifest, dev_wheels
from tools.dev_envs import ROOT, Unavailable, say

DIST = ROOT / "dist"
SIZE_LIMIT = 5_000_000  # bytes of the zip without wheels and weights
WEIGHTS_LIMIT = 35_000_000

# Which environment stands for a Python, and what its wheels' extension says about Blender versions.
BLENDERS = {
    "3.11": ("blender-4.5", {"blender_version_max": "5.1.0"}),
    "3.13": ("blender-5.2", {"blender_version_min": "5.1.0"}),
}

# Lines that Blender prints while it installs an extension and that mean nothing.
EXPECTED = re.compile(r"STATUS |DONE|Info: |installed in Blender |Deleted |Not freed memory blocks|.*leak detector|^$")


# --- Blender's own tool -----------------------------------------------------------------------------------------------


def blender_tool(*arguments: str | pathlib.Path) -> None:
    """Run Blender's extension tool, a plain Python file that every bpy wheel carries; Unavailable when it objects."""
    bpy = importlib.util.find_spec("bpy")  # found, not imported
    assert bpy and bpy.origin
    scripts = next(pathlib.Path(bpy.origin).parent.glob("*/scripts"))
    tool = scripts / "addons_core" / "bl_pkg" / "cli" / "blender_ext.py"
    tags = scripts / "modules" / "_bpy_internal" / "extensions" / "tags.py"
    with_tags = ["--valid-tags", tags] if arguments[0] in ("validate", "build") else []
    done = subprocess.run([sys.executable, *map(str, (tool, *arguments, *with_tags))], capture_output=True, text=True)
    if done.returncode:
        raise Unavailable(f"Blender's {arguments[0]} says: {(done.stdout + done.stderr).strip()}")


# --- the zip ----------------------------------------------------------------------------------------------------------


def tracked_files() -> list[str]:
    """The checkout's files that git tracks and that are there, relative, with forward slashes."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        raise Unavailable(f"A zip is built from a git checkout: {listed.stderr.strip()}")
    return [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def write_zip(target: pathlib.Path, wheels: list[pathlib.Path], changes: dict[str, str | list[str]]) -> pathlib.Path:
    """Build `target` from the tracked files and these wheels, with `changes` made to the manifest's top level."""
    with tempfile.TemporaryDirectory(prefix="vivant-build-") as temporary:
        stage = pathlib.Path(temporary, "vivant")
        for name in tracked_files():
            (stage / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, stage / name)
        (stage / "wheels").mkdir(exist_ok=True)
        for wheel in wheels:
            shutil.copy(wheel, stage / "wheels")
        if wheels:
            changes = {**changes, "wheels": [f"./wheels/{wheel.name}" for wheel in wheels]}
        manifest = stage / "blender_manifest.toml"
        manifest.write_text(change_manifest(manifest.read_text("utf8"), changes), "utf8")
        blender_tool("build", "--source-dir", stage, "--output-filepath", stage.parent / "built.zip")
        target.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(stage.parent / "built.zip") as built, zipfile.ZipFile(target, "w") as zipped:
            for name in sorted(name for name in built.namelist() if not name.endswith("/")):
                entry = zipfile.ZipInfo(name)  # 1980, so that the same files make the same zip
                entry.external_attr = 0o644 << 16
                entry.compress_type = zipfile.ZIP_STORED if name.endswith(".whl") else zipfile.ZIP_DEFLATED
                with built.open(name) as source, zipped.open(entry, "w", force_zip64=name.endswith(".whl")) as copy:
                    shutil.copyfileobj(source, copy, 1 << 20)
    blender_tool("validate", target)
    return target


def change_manifest(text: str, changes: dict[str, str | list[str]]) -> str:
    """The manifest's text with these keys of its top level set."""
    for key, value in changes.items():
        text = f"{key} = {json.dumps(value)}\n" + re.sub(rf"(?m)^{key} = .*\n", "", text)
    return text


def install(archive: pathlib.Path, python: pathlib.Path, *modules: str) -> str:
    """Install a zip into a scratch user folder of this Python's bpy and use it (dev_install.py); what it printed last.

    Raises Unavailable when that fails or when Blender prints anything that is not part of installing.
    """
    with tempfile.TemporaryDirectory(prefix="vivant-install-", ignore_cleanup_errors=True) as scratch:
        environment = {**os.environ, "BLENDER_USER_RESOURCES": scratch}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)  # enabling is timed as users have it
        command = [str(python), str(ROOT / "tools" / "dev_install.py"), str(archive), *modules]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=scratch)
    lines = (done.stdout + done.stderr).splitlines()
    unexpected = [line for line in lines if not EXPECTED.match(line)]
    if done.returncode or unexpected:
        raise Unavailable("The zip was tried out and this came: " + "\n".join(unexpected or lines))
    return next(line for line in lines if line.startswith("installed in"))


def write_repository(archive: pathlib.Path) -> None:
    """Write index.json and index.html beside the zip: a static repository for Blender's extension platform."""
    with tempfile.TemporaryDirectory(prefix="vivant-index-") as temporary:
        shutil.copy(archive, temporary)
        blender_tool("server-generate", "--repo-dir", temporary, "--html")
        for name in ("index.json", "index.html"):
            shutil.copy(pathlib.Path(temporary, name), archive.parent / name)


def check_size(archive: pathlib.Path) -> None:
    """Raises Unavailable when a zip without wheels is larger than was promised."""
    with zipfile.ZipFile(archive) as opened:
        weights = sum(entry.compress_size for entry in opened.infolist() if entry.filename.startswith("weights/"))
    for what, size, limit in (
        ("The zip without weights", archive.stat().st_size - weights, SIZE_LIMIT),
        ("Its weights", weights, WEIGHTS_LIMIT),
    ):
        if size > limit:
            raise Unavailable(f"{what}: {size / 1e6:.1f} MB, more than the {limit / 1e6:.0f} MB that were promised.")


def build_plain() -> None:
    """The zip for everybody: no wheels, tried out in every Blender that can be had here."""
    version = dev_manifest.read()["version"]
    archive = write_zip(DIST / f"vivant-{version}.zip", [], {})
    check_size(archive)
    say(f"{archive.relative_to(ROOT)}: {archive.stat().st_size / 1e6:.2f} MB, valid")
    for name in ("blender-5.2", "blender-4.5", "blender-5.1", "blender-5.0"):
        if dev_envs.ready(name) or name in ("blender-5.2", "blender-4.5"):
            try:
                python = dev_envs.python(name)
            except Unavailable as problem:
                say(f"not tried in {name}: {problem}")
                continue
            say(install(archive, python))
    write_repository(archive)
    print(f"""
{archive}
    Install it by dropping it on a Blender window, or in Preferences ▸ Get Extensions ▸ ⌄ ▸ Install from Disk.
{DIST / "index.json"}
    A repository: put it beside the zip on any web server (or leave it here); in Blender, Preferences ▸ Get Extensions ▸
    Repositories ▸ + ▸ Add Remote Repository takes its address (here {(DIST / "index.json").as_uri()}).""")


# --- engine zips ------------------------------------------------------------------------------------------------------


def build_engine(
    name: str,
    lock: pathlib.Path,
    more: list[str],
    platform: str,
    version: str,
    source: pathlib.Path | None,
    folder: pathlib.Path,
) -> pathlib.Path:
    """A zip that brings its engine along, for a platform and a Python ("3.11" or "3.13"); its path in `folder`.

    The wheels are those of `lock` and of the requirements `more`, less what Blender ships; `source` is a folder of wheels
    that comes before the registry.
    """
    environment, bounds = BLENDERS[version]
    wanted = dev_wheels.requirements(lock, platform, version)
    ours = version == "{}.{}".format(*sys.version_info)
    shipped = dev_wheels.shipped_by_blender(pathlib.Path(sys.executable) if ours else dev_envs.python(environment))
    say(f"left to Blender: {', '.join(sorted(shipped & set(wanted))) or 'nothing'}")
    with tempfile.TemporaryDirectory(prefix="vivant-wheels-") as collected:
        lines = [*(line for package, line in wanted.items() if package not in shipped), *more]
        dev_wheels.collect(lines, platform, version, source, pathlib.Path(collected))
        wheels = sorted(pathlib.Path(collected).glob("*.whl"))
        archive = folder / f"vivant-{dev_manifest.read()['version']}-{name}-{platform}-cp{version.replace('.', '')}.zip"
        write_zip(archive, wheels, {**bounds, "platforms": [platform]})
    say(f"{archive}: {len(wheels)} wheels, {archive.stat().st_size / 1e6:.1f} MB, valid")
    return archive


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser("dev.py build", description="Without options: the zip without an engine, tried out.")
    parser.add_argument("--engine", choices=("cpu", "cuda"), help="a zip that brings the engine's packages along")
    parser.add_argument("--platform", choices=tuple(dev_wheels.PLATFORMS), help="whose wheels")
    parser.add_argument("--python", choices=tuple(BLENDERS), default="3.13", help="3.11: Blender 4.5, 5.0; 3.13: 5.1, 5.2")
    parser.add_argument("--wheels", type=pathlib.Path, metavar="FOLDER", help="look for wheels here too")
    options = parser.parse_args(arguments)
    if (options.engine is None) != (options.platform is None):
        parser.error("--engine and --platform belong together")
    try:
        if wrong := dev_manifest.problems(dev_manifest.read()):
            raise Unavailable("blender_manifest.toml: " + "; ".join(wrong))
        if options.engine:
            lock = ROOT / "wheels" / f"engine-{options.engine}-cp{options.python.replace('.', '')}.txt"
            torch = dev_wheels.torch_build(options.engine, options.platform)
            build_engine(options.engine, lock, [torch], options.platform, options.python, options.wheels, DIST)
        else:
            build_plain()
    except Unavailable as problem:
        print(f"dev.py build: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
