# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the frames of a cloud lie that no node group moves: in a frame cache outside the .blend, or in a sequence's files;
and where the splats lie of one that is larger than memory: in a stream, which gives a stretch of time at once.

An object's facts say it: `moves_by`, the family; `path`, what was imported; of scenes that networks move also `samples`,
how many frames are baked; of these and of streams `cache`, the file, and `source`, its fingerprint; of streams `streamed`,
how many splats they have, and `samples`, how many windows.
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
from ..backends.gaussian import stream
from ..backends.gaussian.cache import EXTENSION, FrameCache
from ..backends.gaussian.cloud import SplatCloud
from ..backends.gaussian.motion.frames import Frames
from ..backends.gaussian.playback import CacheClip, Clip, FileClip

Facts = Mapping[str, Any]

AGAIN = "Press Prepare Again in the tab Vivant."
BAKE = "Press Bake Frames in the tab Vivant."


def is_sequence(facts: Facts) -> bool:
    """Whether the frames are the imported files themselves."""
    return facts.get("moves_by") == Frames.name


def is_streamed(facts: Facts) -> bool:
    """Whether a node group moves the splats, but only those are there that live about now."""
    return bool(facts.get("streamed"))


def times(facts: Facts) -> NDArray[np.float64]:
    """The times that are baked."""
    return np.linspace(*facts["time_range"], max(int(facts.get("samples", 0)), 2))


def cache_name(facts: Facts, camera: str = "") -> str:
    """The name of a cache file: of one scene baked alike always the same."""
    return _name(Path(facts["path"]), f"{facts.get('samples')}|{list(facts['time_range'])}|{camera}", EXTENSION)


def stream_name(scene: Path, overrides: Mapping[str, Any]) -> str:
    """The name of a stream of a file that is read with overrides."""
    return _name(scene, str(sorted(overrides.items())), stream.EXTENSION)


def _name(scene: Path, given: str, extension: str) -> str:
    return f"{re.sub(r'[^A-Za-z0-9_-]+', '_', scene.stem)[:40]}-{zlib.crc32(f'{scene}|{given}'.encode()):08x}{extension}"


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
    if is_streamed(facts):
        return _stream(facts, count)
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


def _stream(facts: Facts, count: int) -> stream.SplatStream:
    path = cache_of(facts)
    if path is None:
        raise VivantError(f"'{Path(facts['cache']).name}', which '{Path(facts['path']).name}' streams from, is gone.", AGAIN)
    found = stream.SplatStream(path)
    if found.source != facts["source"] or found.kind != facts["moves_by"] or found.most != count:
        raise VivantError(f"'{path.name}' is of something else.", AGAIN)
    return found


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
