# SPDX-License-Identifier: GPL-3.0-or-later
"""Collect the wheels of a lock file for another platform and Python, less what Blender ships."""

import json
import pathlib
import subprocess
import sys

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

from .dev_envs import TORCH, Unavailable

# Wheel platforms that run where Blender runs (glibc 2.28 is Blender's own floor).
_GLIBC = [f"manylinux_2_{minor}" for minor in range(28, 4, -1)] + ["manylinux2014", "manylinux2010", "manylinux1", "linux"]
PLATFORMS = {
    "linux-x64": [f"{tag}_x86_64" for tag in _GLIBC],
    "linux-arm64": [f"{tag}_aarch64" for tag in _GLIBC],
    "windows-x64": ["win_amd64"],
    "windows-arm64": ["win_arm64"],
    "macos-arm64": ["macosx_14_0_arm64"],
    "macos-x64": ["macosx_14_0_x86_64"],
}
# What the environment markers of a lock say there.
SYSTEMS = {
    "linux": {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"},
    "windows": {"sys_platform": "win32", "platform_system": "Windows", "os_name": "nt"},
    "macos": {"sys_platform": "darwin", "platform_system": "Darwin", "os_name": "posix"},
}
MACHINES = {
    "linux-x64": "x86_64",
    "linux-arm64": "aarch64",
    "windows-x64": "AMD64",
    "windows-arm64": "ARM64",
    "macos-arm64": "arm64",
    "macos-x64": "x86_64",
}
# How PyTorch labels the build that an engine needs on a system; without a label it is the registry's own build there.
TORCH_BUILDS = {
    ("cpu", "linux"): "+cpu",
    ("cpu", "windows"): "",
    ("cpu", "macos"): "",
    ("cuda", "linux"): "",
    ("cuda", "windows"): "+cu130",
}


def torch_build(engine: str, platform: str) -> str:
    """The requirement of exactly the torch build that an engine ("cpu", "cuda") needs on a platform."""
    system = platform.partition("-")[0]
    if (engine, system) not in TORCH_BUILDS:
        raise Unavailable(f"There is no {engine} build of torch for {platform}.")
    return TORCH.replace("==", "===") + TORCH_BUILDS[engine, system]


def requirements(lock: pathlib.Path, platform: str, version: str) -> dict[NormalizedName, str]:
    """The lines of a lock (name -> requirement with its hashes) whose markers hold on a platform and Python."""
    there = {
        **SYSTEMS[platform.partition("-")[0]],
        "platform_machine": MACHINES[platform],
        "python_version": version,
        "python_full_version": f"{version}.0",
        "implementation_version": f"{version}.0",
    }
    wanted = {}
    for line in lock.read_text("utf8").replace("\\\n", " ").splitlines():
        text, *hashes = line.partition("#")[0].split("--hash=")
        if text.strip():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate(there):
                pinned = f"{requirement.name}{requirement.specifier}"
                wanted[canonicalize_name(requirement.name)] = " ".join([pinned, *(f"--hash={one.strip()}" for one in hashes)])
    return wanted


def shipped_by_blender(python: pathlib.Path) -> set[NormalizedName]:
    """Names of the packages that Blender brings itself: what its bpy wheel requires, and what those require."""
    code = "import importlib.metadata as m, json; print(json.dumps({d.name: d.requires or [] for d in m.distributions()}))"
    required = json.loads(subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout)
    graph = {canonicalize_name(name): [Requirement(text) for text in texts] for name, texts in required.items()}
    found: set[NormalizedName] = set()
    todo = {canonicalize_name("bpy")}
    while todo:
        found |= todo
        needed = [r for name in todo for r in graph[name] if r.marker is None or r.marker.evaluate({"extra": ""})]
        todo = ({canonicalize_name(r.name) for r in needed} & set(graph)) - found
    return found - {canonicalize_name("bpy")}


def collect(wanted: list[str], platform: str, version: str, source: pathlib.Path | None, target: pathlib.Path) -> None:
    """Put the wheels of pinned requirements into `target`: from the folder `source`, if given, and from the registry.

    Nothing that is not named is fetched, and nothing is built.  Requirements with hashes are checked against them.
    """
    options = ["--dest", str(target), "--no-deps", "--only-binary=:all:", "--implementation", "cp", "--python-version", version]
    options += [word for tag in PLATFORMS[platform] for word in ("--platform", tag)]
    if source:
        options += ["--find-links", str(source.resolve())]
    for hashed in (True, False):  # pip takes hashes for all of its requirements or for none
        lines = [line for line in wanted if ("--hash=" in line) == hashed]
        if lines:
            listing = target / "requirements.txt"
            listing.write_text("\n".join(lines), "utf8")
            command = [sys.executable, "-m", "pip", "download", "--quiet", *options, "-r", str(listing)]
            done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
            listing.unlink()
            if done.returncode:
                raise Unavailable(
                    f"Wheels cannot be had: {done.stderr.strip().splitlines()[-1]}. What the registry does not hold "
                    "(torch of another build) may lie in a folder: name it with --wheels."
                )
