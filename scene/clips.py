# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the frames of a cloud lie that no node group moves: in a frame cache outside the .blend, or in a sequence's files.

An object's facts say it: `moves_by`, the family; `path`, what was imported; of scenes that networks move also `samples`,
how many frames are baked, `cache`, the file, and `source`, its fingerprint.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import bpy
import numpy as np
from numpy.typing import NDArray

from ..backends.common.errors import VivantError
from ..backends.gaussian.cache import EXTENSION, FrameCache
from ..backends.gaussian.cloud import SplatCloud
from ..backends.gaussian.motion.frames import Frames
from ..backends.gaussian.playback import CacheClip, Clip, FileClip

Facts = Mapping[str, Any]

BAKE = "Press Bake Frames in the tab Vivant."


def is_sequence(facts: Facts) -> bool:
    """Whether the frames are the imported files themselves."""
    return facts.get("moves_by") == Frames.name


def times(facts: Facts) -> NDArray[np.float64]:
    """The times that are baked."""
    return np.linspace(*facts["time_range"], max(int(facts.get("samples", 0)), 2))


def cache_name(facts: Facts, camera: str = "") -> str:
    """The name of a cache file: of one scene baked alike always the same."""
    scene = Path(facts["path"])
    given = f"{scene}|{facts.get('samples')}|{list(facts['time_range'])}|{camera}"
    return f"{re.sub(r'[^A-Za-z0-9_-]+', '_', scene.stem)[:40]}-{zlib.crc32(given.encode()):08x}{EXTENSION}"


def folder_beside() -> Path | None:
    """The folder of frame caches beside the .blend; None while that was never saved."""
    return Path(bpy.data.filepath).with_suffix(".vivant") if bpy.data.filepath else None


def cache_of(facts: Facts) -> Path | None:
    """The cache file, beside the .blend or where it was baked; None where there is none."""
    if not facts.get("cache"):
        return None
    baked = Path(facts["cache"])
    beside = folder_beside()
    return next((path for path in ([beside / baked.name] if beside else []) + [baked] if path.is_file()), None)


def read(facts: Facts) -> SplatCloud:
    """The cloud of the imported file or folder, as it was imported.  Raises VivantError when it is gone or broken."""
    from ..backends.gaussian.formats import Overrides, read_splats  # not before it is needed: Blender starts with this module

    return read_splats(scene_of(facts), Overrides.of(facts.get("overrides", {})))


def scene_of(facts: Facts) -> Path:
    """The imported file or folder.  Raises VivantError when it is gone."""
    path = Path(bpy.path.abspath(facts["path"])).absolute()
    if not path.exists():
        raise VivantError(f"'{path}' is gone.", "Put it back, or import it from where it is now.")
    return path


def read_clip(facts: Facts, count: int) -> Clip:
    """The frames of an object of so many splats.  Raises VivantError where they are gone or are not its own."""
    if is_sequence(facts):
        cloud = read(facts)
        if not isinstance(cloud.family, Frames):
            raise VivantError(f"'{facts['path']}' is no sequence any more.", "Put its files back.")
        return FileClip(cloud)
    return CacheClip(_cache(facts, count), lambda: read(facts))


def family_of(facts: Facts, cloud: SplatCloud) -> Frames | None:
    """The family that plays the frames for scripts and export; None where nothing is baked."""
    if is_sequence(facts):
        family = read(facts).family
        return family if isinstance(family, Frames) else None
    if cache_of(facts) is None:
        return None
    cache = _cache(facts, len(cloud))
    return cache.family(read(facts) if cache.partly else cloud)


def _cache(facts: Facts, count: int) -> FrameCache:
    path = cache_of(facts)
    if path is None:
        gone = f"The frame cache '{Path(facts['cache']).name}' is gone." if facts.get("cache") else "No frames are baked."
        raise VivantError(gone, BAKE)
    cache = FrameCache(path)
    if cache.count != count:
        raise VivantError(f"The object has {count:,} splats, its frame cache {cache.count:,}.", "Undo, or import it again.")
    if cache.source != facts.get("source") or not np.array_equal(cache.times, times(facts)):
        raise VivantError(f"The frame cache '{path.name}' is of something else.", BAKE)
    return cache
