# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs that show whether an engine works and what it has to work with."""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping
from importlib import metadata
from typing import Any

from numpy.typing import NDArray

from .arrays import Arrays
from .progress import Progress

PACKAGES = ("numpy", "scipy", "numba", "torch", "gsplat", "diffusers", "safetensors")


def echo(parameters: dict[str, Any], arrays: Mapping[str, NDArray[Any]], progress: Progress) -> tuple[dict[str, Any], Arrays]:
    """Engine job 'echo': the same parameters and arrays again."""
    progress(1, 1, "answering")
    return parameters, dict(arrays)


def doctor(parameters: dict[str, Any], arrays: Mapping[str, NDArray[Any]], progress: Progress) -> tuple[dict[str, Any], Arrays]:
    """Engine job 'doctor': values python, executable, system, packages {name: version} and graphics (a sentence)."""
    packages: dict[str, str] = {}
    for name in PACKAGES:
        try:
            packages[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    progress(1, 2, "asking for the graphics card")
    values = {
        "python": platform.python_version(),
        "executable": sys.executable,
        "system": platform.platform(),
        "packages": packages,
        "graphics": graphics(),
    }
    return values, {}


def graphics() -> str:
    """What torch can compute on, in a few words."""
    try:
        import torch
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == "torch"
        return "no torch" if missing else f"torch does not load: {error}"
    if torch.cuda.is_available():
        return f"torch with CUDA {torch.version.cuda} on {torch.cuda.get_device_name()}"
    return "torch with Metal" if torch.backends.mps.is_available() else "torch on the CPU"
