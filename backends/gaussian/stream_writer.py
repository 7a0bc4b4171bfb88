# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes streams part by part, never holding more than one of a moving cloud: job 'splats.stream'."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..common.arrays import Arrays, disk_full_explained
from ..common.errors import VivantError
from ..common.progress import Progress
from . import stream
from .cache_writer import fingerprint, sources
from .cloud import SplatCloud
from .formats import Overrides
from .formats.ply_parts import Parts, parts_of
from .motion.stg_full import StgFull
from .render.constants import ALPHA_MIN
from .stream import BASE, HIGHER, SplatStream

LEAST_SEEN = ALPHA_MIN / 4
"""Splats below this opacity are not there: four times what no picture shows, for whatever may make them denser."""
PER_WINDOW = 2_000_000
"""Bytes of the whole file that are to begin in one window."""
MOST_WINDOWS = 4096


def write(path: Path, parts: Parts, source: str, windows: int = 0, progress: Progress | None = None) -> None:
    """A stream of a moving cloud that comes in parts; windows: a power of two, 0 for as many as its size asks for.

    source: the `fingerprint`.  The file appears when it is complete.  Raises VivantError for clouds whose splats have no times
    of their own, and where the folder cannot be written to or its disk is full.
    """
    first = next(parts.read(), None)
    if first is None or first.family is None or "time:center" not in first.family.attributes():
        raise VivantError("This capture's splats do not come and go, so it cannot be streamed.", "Import it instead.")
    kind, span, facts = first.family.name, first.family.time_range, _facts(first)
    columns = {name: 1 if values.ndim == 1 else values.shape[1] for name, values in _attributes(first).items()}
    width = 2 + sum(columns.values())
    windows = windows or min(1 << int(np.ceil(np.log2(max(parts.count * width * 4 / PER_WINDOW, 1)))), MOST_WINDOWS)
    begun = np.zeros(windows + 1, np.int64)  # how many more splats each window has than the one before
    runs: list[NDArray[np.int32]] = []
    part_path = path.with_name(path.name + ".part")
    done = 0
    with disk_full_explained(path.parent), part_path.open("wb") as file:
        file.write(bytes(stream.START))
        for part in parts.read():
            rows, levels, bins = _placed(part, columns, span, windows)
            for edge, sign in ((np.floor(rows[:, 0] - stream.MARGIN), 1), (np.floor(rows[:, 1] + stream.MARGIN) + 1, -1)):
                begun += sign * np.bincount(np.clip(edge, 0, windows).astype(np.intp), minlength=windows + 1)
            order = np.lexsort((bins, levels))
            keys = np.stack([levels[order], bins[order]], axis=1)
            starts = np.flatnonzero(np.any(np.diff(keys, axis=0, prepend=-1), axis=1))
            sizes = np.diff(starts, append=len(order))
            runs.append(np.column_stack([keys[starts], sizes]).astype(np.int32))
            file.write(rows[order].tobytes())
            done += len(part)
            if progress:
                progress(done, parts.count, "Sorting splats by time")
        table = np.concatenate(runs)
        file.write(table.tobytes())
        header = {"source": source, "family": kind, "count": done, "most": int(np.cumsum(begun).max()), "windows": windows}
        text = json.dumps(header | {"span": span, "columns": columns, "runs": len(table), "facts": facts}).encode()
        place = file.tell()
        file.write(text)
        file.seek(0)
        file.write(stream.MAGIC + place.to_bytes(8, "little") + len(text).to_bytes(8, "little"))
    part_path.replace(path)


def _placed(
    part: SplatCloud, columns: Mapping[str, int], span: tuple[float, float], windows: int
) -> tuple[NDArray[np.float32], NDArray[np.intp], NDArray[np.intp]]:
    """Rows (n, C) of the splats that are ever seen, their levels and bins."""
    attributes = _attributes(part)
    lives = (np.stack(lives_of(attributes), axis=1) - span[0]) / (span[1] - span[0]) * windows
    seen = (lives[:, 0] <= lives[:, 1]) & (lives[:, 1] >= 0) & (lives[:, 0] <= windows)
    lives = np.clip(lives[seen], 0, windows)
    tables = [np.asarray(attributes[name], np.float32)[seen].reshape(len(lives), -1) for name in columns]
    rows = np.concatenate([_outwards(lives), *tables], axis=1, dtype=np.float32)
    levels = np.ceil(np.log2(np.maximum(rows[:, 1] - rows[:, 0], 1))).astype(np.intp)
    return rows, levels, rows[:, 0].astype(np.intp) >> levels


def _outwards(lives: NDArray[np.float64]) -> NDArray[np.float32]:
    """First and last times as float32, never later or earlier than they are."""
    rounded = lives.astype(np.float32)
    first, last = np.where(rounded > lives, np.nextafter(rounded, [-np.inf, np.inf], dtype=np.float32), rounded).T
    last = np.where(rounded[:, 1] < lives[:, 1], np.nextafter(rounded[:, 1], np.float32(np.inf)), rounded[:, 1])
    return np.stack([np.maximum(first, 0), last], axis=1)


def lives_of(attributes: Mapping[str, NDArray[np.float32]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """When each splat (N,) is seen first and last, in the family's unit; first after last for those that never are."""
    opacities = attributes[BASE][:, 3].astype(np.float64)
    center, width = (attributes[f"time:{name}"].astype(np.float64) for name in ("center", "width"))
    reach = width * np.sqrt(np.log(np.maximum(opacities / LEAST_SEEN, 1)))
    reach = np.where(opacities < LEAST_SEEN, -np.inf, np.where(np.isnan(reach), np.inf, reach))
    first, last = (attributes.get(f"time:{name}", np.float32(edge)) for name, edge in (("first", -np.inf), ("last", np.inf)))
    return np.maximum(center - reach, first), np.minimum(center + reach, last)


def _attributes(cloud: SplatCloud) -> dict[str, NDArray[np.float32]]:
    """A cloud's columns by the names of Blender's attributes."""
    assert cloud.family is not None
    higher = {f"{HIGHER}{i}": cloud.sh[:, i + 1] for i in range(cloud.sh.shape[1] - 1)}
    base = np.column_stack([cloud.sh[:, 0], cloud.opacities])
    own = {"position": cloud.means, "rotation": cloud.quats, "scale": cloud.scales, BASE: base}
    return {**own, **higher, **cloud.family.attributes()}


def _facts(cloud: SplatCloud) -> dict[str, Any]:
    """What a reader of the stream must know besides."""
    source = cloud.source
    decoder = cloud.family.decoder.numbers if isinstance(cloud.family, StgFull) and cloud.family.decoder else []
    return {
        "decoder": decoder,
        "format": source.format,
        "axes": source.axes,
        "antialiased": source.antialiased,
        "warnings": source.warnings,
    }


def request(scene: Path, path: Path, overrides: Mapping[str, Any], windows: int = 0) -> tuple[dict[str, Any], Arrays]:
    """Parameters and arrays of the job: make a stream of a scene's file at `path`.

    overrides: as `Overrides.told` gives them; windows: as in `write`.
    """
    return {"scene": str(scene), "path": str(path), "overrides": dict(overrides), "windows": windows}, {}


def run(parameters: dict[str, Any], arrays: Mapping[str, NDArray[Any]], progress: Progress) -> tuple[dict[str, Any], Arrays]:
    """Engine job 'splats.stream': values path, count, most, windows and source of the stream."""
    scene, path, told = Path(parameters["scene"]), Path(parameters["path"]), parameters["overrides"]
    progress(0, 1, "Reading the scene")
    source = fingerprint(sources(scene), overrides=told)
    write(path, parts_of(scene, Overrides.of(told)), source, parameters["windows"], progress)
    made = SplatStream(path)
    return {"path": str(path), "count": made.count, "most": made.most, "windows": len(made), "source": source}, {}
