# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes frame caches frame by frame, goes on with those that were stopped, and bakes whole clips: job 'splats.bake'."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ..common.arrays import Arrays, disk_full_explained
from ..common.errors import VivantError
from ..common.progress import Progress
from . import cache
from .cache import LARGEST_LOGARITHM, STEPS, Floats, FrameCache, Ints
from .cloud import SplatCloud
from .formats import Overrides, network_scene, read_splats

ROWS = 32768
"""Splats whose network is asked at once, between two looks whether to stop."""
_INDEXED = (".webp", ".png", ".bin")
_SAMPLE = 1 << 20  # bytes of each end of a file that tell whether it is the same


def fingerprint(paths: Iterable[Path], whole: bool = False, /, **parameters: Any) -> str:
    """What frames are made from, in 32 letters: names, sizes and both ends (or all) of files, and parameters."""
    found = hashlib.sha256(json.dumps(parameters, sort_keys=True).encode())
    for path in sorted(paths):
        size = path.stat().st_size
        found.update(json.dumps([path.name, size]).encode())
        with path.open("rb") as file:
            if whole:
                for part in iter(lambda: file.read(_SAMPLE), b""):
                    found.update(part)
                continue
            found.update(file.read(_SAMPLE))
            file.seek(max(size - _SAMPLE, 0))
            found.update(file.read(_SAMPLE))
    return found.hexdigest()[:32]


class CacheWriter:
    """Writes frames one after the other beside `path` and puts the file there when the last one is in.

    base: the still cloud that columns are compared with; times (T,); source: the `fingerprint`.  The first `done`
    frames are there already where an earlier writer of the same was stopped.
    Raises VivantError where the folder cannot be written to or its disk is full.
    """

    def __init__(self, path: Path, base: SplatCloud, times: Sequence[float], source: str) -> None:
        self.path = path
        self.part = path.with_name(path.name + ".part")
        self.base = base
        self.times = [float(time) for time in times]
        self.done = 0
        self._keys: dict[str, tuple[int, Ints, int]] = {}  # frame, numbers and bytes of each column's last key
        self._columns = {name: (_column(base, name).shape[1], *_grid(base, name)) for name in STEPS}
        header = {"count": len(base), "times": self.times, "source": source, "columns": self._columns}
        try:
            self._file = self._open(cache.header_bytes(header))
        except OSError as error:
            raise VivantError(
                f"'{path}' cannot be written: {error.strerror or error}.", "Choose another folder for the frame cache."
            ) from error

    def add(self, cloud: SplatCloud) -> None:
        """The next frame: the still cloud at times[done], with as many splats as the base."""
        if self.done == len(self.times) or len(cloud) != len(self.base):
            raise ValueError("a cache takes as many frames and splats as it was told")
        entries: list[int] = []
        payloads = []
        for name in STEPS:
            key, payload = self._encoded(name, _column(cloud, name))
            entries += [key, len(payload)]
            payloads.append(payload)
        with disk_full_explained(self.path.parent):
            self._file.write(cache.record_bytes(self.done, entries, payloads))
        self.done += 1

    @property
    def size(self) -> int:
        """Bytes written."""
        return self._file.tell()

    def __enter__(self) -> CacheWriter:
        return self

    def __exit__(self, *error: object) -> None:
        """Put the file in its place if all frames are in; else another writer can go on with it."""
        with disk_full_explained(self.path.parent):
            self._file.close()
        if self.done == len(self.times):
            self.part.replace(self.path)

    def _encoded(self, name: str, values: Floats) -> tuple[int, bytes]:
        """The frame of the key, and the bytes of a column (N, C) of the next frame."""
        if np.array_equal(values, _column(self.base, name)):
            return cache.NONE, b""
        _, step, origin = self._columns[name]
        old = self._keys.get(name)
        if name == "quats" and old:  # of the two quaternions of a rotation the one nearer to the key's
            values = np.where(np.einsum("nc,nc->n", values, old[1]) < 0, -values.T, values.T).T
        if name == "scales":
            values = np.log(np.clip(values, np.exp(-LARGEST_LOGARITHM), np.exp(LARGEST_LOGARITHM)))
        with np.errstate(invalid="ignore"):
            numbers = np.clip(np.rint((values - np.array(origin)) / step), -(2**30), 2**30).astype(np.int32)
        if old:
            difference = cache.column_bytes(numbers - old[1])
            if len(difference) < old[2]:
                return old[0], difference
        payload = cache.column_bytes(numbers, least=1)
        self._keys[name] = self.done, numbers, len(payload)
        return self.done, payload

    def _open(self, header: bytes) -> IO[bytes]:
        """The file, after the last whole frame where an earlier writer of the same left it."""
        with suppress(OSError, VivantError):
            with self.part.open("rb") as begun:
                same = begun.read(len(header)) == header
            if same:
                earlier = FrameCache(self.part, partial=True)
                last = {name: frame for frame in range(len(earlier)) for name in earlier.keys_of(frame)}
                self._keys = {name: earlier.key(name, frame) for name, frame in last.items()}
                self.done, end = len(earlier), earlier.end
                rest: IO[bytes] = self.part.open("r+b")
                rest.truncate(end)
                rest.seek(end)
                return rest
        self.done = 0
        self._keys.clear()
        file: IO[bytes] = self.part.open("wb")
        file.write(header)
        return file


def write(path: Path, base: SplatCloud, times: Sequence[float], clouds: Iterable[SplatCloud], source: str = "") -> None:
    """A cache of the still clouds of all times, one after the other."""
    path.with_name(path.name + ".part").unlink(missing_ok=True)
    with CacheWriter(path, base, times, source) as writer:
        for cloud in clouds:
            writer.add(cloud)


def bake(
    cloud: SplatCloud,
    path: Path,
    times: Sequence[float],
    source: str,
    progress: Progress,
    cameras: NDArray[np.floating] | None = None,
    most: int = 0,
) -> None:
    """Cache a moving cloud at all times, going on where an earlier bake of the same was stopped.

    cameras: the camera's centre (T, 3) at each time, in the cloud's axes, for families that depend on the view.
    most: bytes that the file may have (0: any number).  Raises VivantError, and leaves no file, when it needs more.
    """
    base = cloud.replace(family=None)
    parts = [cloud.select(slice(start, start + ROWS)) for start in range(0, len(cloud), ROWS)]
    with CacheWriter(path, base, times, source) as writer:
        while writer.done < len(times):
            camera = None if cameras is None else cameras[writer.done]
            done = []
            for i, part in enumerate(parts):
                progress(writer.done + i / len(parts), len(times), "Baking frames")
                done.append(part.at(times[writer.done], camera))
            writer.add(_joined(base, done))
            if most and writer.size > most:
                break
    if writer.done < len(times):
        writer.part.unlink()
        raise VivantError(
            f"The frame cache needs more than {most / 1e9:g} GB: {writer.done} of {len(times)} frames have filled them.",
            "Bake fewer frames, or allow it more.",
        )


def request(
    scene: Path,
    path: Path,
    times: Sequence[float],
    index: NDArray[Any] | None = None,
    cameras: NDArray[np.floating] | None = None,
    most: int = 0,
    overrides: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any], Arrays]:
    """Parameters and arrays of the job: bake a scene's file or folder at times into a cache at `path`.

    index: the splats (integers or a mask) that are left of those in the file; cameras, most: as in `bake`, in the file's axes;
    overrides: what `Overrides.told` gives.
    """
    parameters = {"scene": str(scene), "path": str(path), "times": [float(time) for time in times], "most": most}
    if overrides:
        parameters["overrides"] = dict(overrides)
    arrays = {"index": index, "cameras": cameras}
    return parameters, {name: np.asarray(array) for name, array in arrays.items() if array is not None}


def run(parameters: dict[str, Any], arrays: Mapping[str, NDArray[Any]], progress: Progress) -> tuple[dict[str, Any], Arrays]:
    """Engine job 'splats.bake': values path, frames, bytes and source of the cache.  A stopped bake goes on when run again."""
    scene, path, times = Path(parameters["scene"]), Path(parameters["path"]), parameters["times"]
    progress(0, len(times), "Reading the scene")
    overrides = parameters.get("overrides", {})
    cloud = read_splats(scene, Overrides.of(overrides))
    if not cloud.family:
        raise VivantError(f"'{scene.name}' does not move.", "Give a scene with a motion family.")
    if "index" in arrays:
        cloud = cloud.select(np.asarray(arrays["index"]))
    given = {name: hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest() for name, array in arrays.items()}
    given |= {"overrides": overrides} if overrides else {}
    source = fingerprint(sources(scene), times=times, **given)
    bake(cloud, path, times, source, progress, arrays.get("cameras"), parameters.get("most", 0))
    return {"path": str(path), "frames": len(times), "bytes": path.stat().st_size, "source": source}, {}


def sources(scene: Path) -> list[Path]:
    """The files that a scene is read from."""
    if found := network_scene.find(scene):
        files = [found.splats, found.network, found.settings]
    else:
        files = sorted(scene.iterdir()) if scene.is_dir() else [scene, scene.with_suffix(".pt")]
        if scene.suffix.lower() in (".json", ".gltf"):  # an index of files beside it
            files = sorted(file for file in scene.parent.iterdir() if file == scene or file.suffix.lower() in _INDEXED)
    return [file for file in files if file.is_file()]


def _column(cloud: SplatCloud, name: str) -> Floats:
    """A column as a table (N, C)."""
    values = getattr(cloud, name)
    return values.reshape(len(cloud), -1 if len(cloud) else int(np.prod(values.shape[1:])))


def _grid(base: SplatCloud, name: str) -> tuple[float, list[float]]:
    """Step of a column, and the values that are its zeros."""
    if name != "means" or not len(base):
        return STEPS[name], [0.0] * _column(base, name).shape[1]
    low, middle, high = np.percentile(base.means.astype(np.float64), [1, 50, 99], axis=0)
    farthest = np.abs(base.means - middle).max() / 1024  # numbers reach 16,384 sizes
    return STEPS[name] * max(float((high - low).max()), farthest, 10 * float(np.median(base.scales))), middle.tolist()


def _joined(base: SplatCloud, parts: Sequence[SplatCloud]) -> SplatCloud:
    if not parts:
        return base
    return base.replace(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in STEPS})
