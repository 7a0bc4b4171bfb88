# SPDX-License-Identifier: GPL-3.0-or-later
"""USD's Gaussian splats: the schema ParticleField3DGaussianSplat (OpenUSD 26.03) in .usdc, .usda and .usdz files.

Everything is activated: positions, quaternions, standard deviations, opacities 0 to 1; SH coefficients lie splat after
splat, degree 0 first.  Time samples make a moving cloud, which Blender 5.3 plays by itself.  The stage's up axis says
the frame: Y is RUB, Z is RFU.
"""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...common.errors import BrokenFile, UnsupportedFormat
from .. import sh
from ..axes import change_axes
from ..cloud import Floats, Source, SplatCloud
from ..motion.frames import Frames, sampling
from ..transform import Splats, transformed
from . import crate, crate_writer, files, usd_xform, usda
from .ply_header import Bytes
from .repair import Draft
from .usd_layer import Attribute, Column, Prim, Stage

NAME = "USD"
AXES = "RUB"
SCHEMA = "ParticleField3DGaussianSplat"
EXTENSIONS = (".usdc", ".usda", ".usdz", ".usd")
FRAMES_A_SECOND = 24.0
MOST_CODES = 10_000
"""Time codes at which a moving transform is looked at, besides its samples."""

_FRAMES = {"X": "UBR", "Y": "RUB", "Z": "RFU"}
_ZIP = b"PK\x03\x04"
_SH = "radiance:sphericalHarmonicsCoefficients"
_DEGREE = "radiance:sphericalHarmonicsDegree"


def is_usd(data: Bytes, path: Path) -> bool:
    """Text, binary, or a zip archive whose first file is either."""
    head = data[:300].tobytes()
    if head.startswith(_ZIP):
        name = head[30 : 30 + int.from_bytes(head[26:28], "little")]
        return name.lower().endswith((b".usdc", b".usda", b".usd"))
    return head.startswith((crate.MAGIC, usda.MAGIC))


def decode(data: Bytes) -> SplatCloud:
    """The cloud of a whole file: of several prims the one with the most splats.

    Raises UnsupportedFormat where there are no splats in it, BrokenFile for damaged files.
    """
    return _cloud(_find(data), data)


def read(path: Path) -> SplatCloud:
    """The cloud of a file; samples of a moving one stay in the file until they are asked for."""
    found = _find(files.view(path))
    return _cloud(found, None) if len(found.times) > 1 else decode(files.load(path))


def write(
    cloud: SplatCloud,
    path: Path,
    times: ArrayLike | None = None,
    done: Callable[[int, int], None] | None = None,
) -> None:
    """Write a file, binary unless its name ends with .usda; frame RUB, metres.

    A moving cloud is written as samples: those of its frames at their own times, else at `times` (by default 50 from first
    to last), one a frame from 1 on.  done(n, of) is told when frame n is worked on.
    """
    container = {".usd": ".usdc"}.get(path.suffix.lower(), path.suffix.lower())
    packed = container == ".usdz"
    if cloud.source.encoded is not None and cloud.source.format == NAME and cloud.source.details.get("container") == container:
        files.save(path, [cloud.source.encoded])
        return
    stage = _stage(cloud, times, done)
    with files.saving(path) as file:
        if not packed:
            (usda if container == ".usda" else crate_writer).write(file, stage)
            return
        name = f"{stage.name}.usdc"
        with tempfile.TemporaryFile(dir=path.parent) as inner:
            crate_writer.write(inner, stage)
            inner.seek(0)
            info = zipfile.ZipInfo(name)
            padding = -(30 + len(name) + 4) % 64  # the content of a .usdz begins at multiples of 64 bytes
            info.extra = b"\x86\x19" + padding.to_bytes(2, "little") + bytes(padding)
            with zipfile.ZipFile(file, "w") as archive, archive.open(info, "w") as member:
                shutil.copyfileobj(inner, member)


def clips(cloud: SplatCloud) -> tuple[str, ...]:
    """What becomes of motion."""
    if cloud.family is None or isinstance(cloud.family, Frames):
        return ()
    return (f"Motion is written as frames (50 if nothing else is said), not as the family {cloud.family.name}.",)


def _stage(cloud: SplatCloud, times: ArrayLike | None, done: Callable[[int, int], None] | None) -> Stage:
    """What is written of a cloud, evaluated frame by frame when a container asks for it."""
    cloud = change_axes(cloud, AXES)
    moments = sampling(cloud) if times is None or not cloud.family else np.asarray(times, np.float64)
    codes = moments if isinstance(cloud.family, Frames) and times is None else np.arange(1.0, len(moments) + 1)

    @lru_cache(2)
    def frame(index: int) -> SplatCloud:
        if done:
            done(index + 1, len(moments))
        return cloud.at(float(moments[index]))

    def quats(index: int) -> Floats:
        return np.roll(frame(index).quats, -1, axis=1)

    def extent(index: int) -> Floats:
        if not len(now := frame(index)):
            return np.zeros((2, 3), np.float32)
        reach = 3 * now.scales.max(axis=1, keepdims=True)
        return np.stack([(now.means - reach).min(axis=0), (now.means + reach).max(axis=0)])

    first = frame(0)
    columns = [
        Column("float3", "extent", extent),
        Column("point3f", "positions", lambda index: frame(index).means),
        Column("quatf", "orientations", quats),
        Column("float3", "scales", lambda index: frame(index).scales),
        Column("float", "opacities", lambda index: frame(index).opacities),
        Column("float3", _SH, lambda index: frame(index).sh.reshape(-1, 3), first.sh.shape[1]),
    ]
    metadata: dict[str, float | str] = {"metersPerUnit": 1.0, "upAxis": "Y"}
    if len(codes) > 1:
        rate = float(cloud.source.details.get("frames_a_second", FRAMES_A_SECOND))
        metadata |= {
            "startTimeCode": float(codes[0]),
            "endTimeCode": float(codes[-1]),
            "timeCodesPerSecond": rate,
            "framesPerSecond": rate,
        }
    return Stage(metadata, SCHEMA, "Splats", {_DEGREE: ("int", first.degree)}, columns, codes.tolist())


class _Found(NamedTuple):
    """The splats of a file before their numbers are read; `most` is more elements than any array of it can have."""

    prim: Prim
    times: NDArray[np.float64]
    unit: float
    place: usd_xform.Placement
    source: Source
    most: int


def _find(data: Bytes) -> _Found:
    container, inner = _unzipped(data)
    layer = usda.read(inner) if inner[:5].tobytes() == usda.MAGIC else crate.read(inner)
    fields = [prim for prim in layer.prims if prim.type == SCHEMA]
    if not fields:
        kinds = sorted({prim.type for prim in layer.prims if prim.type}) or ["nothing"]
        raise UnsupportedFormat(
            f"This USD file holds no Gaussian splats, but {', '.join(kinds[:5])}.", "Import it with File > Import > USD."
        )
    most = len(inner)
    prim = max(fields, key=lambda each: len(_array(each, "positions", None, 3, most))) if len(fields) > 1 else fields[0]
    said = layer.metadata.get("metersPerUnit")
    unit = float(said) if isinstance(said, float | int) and 1e-9 < said < 1e9 else None
    warnings = [
        *([f"The file has {len(fields)} clouds; the largest was read, {prim.path}."] if len(fields) > 1 else []),
        *([] if unit else ["The file does not say its unit; metres were assumed."]),
    ]
    rate = layer.metadata.get("timeCodesPerSecond")
    details = {"container": container, "frames_a_second": rate if isinstance(rate, float) else FRAMES_A_SECOND}
    axes = _FRAMES.get(str(layer.metadata.get("upAxis", "Y")).upper(), AXES)
    place = usd_xform.of(layer, prim)
    times = np.unique(
        np.concatenate([place.times, *(_of(prim, name).times for name in prim.attributes if not name.startswith("xformOp"))])
    )
    if len(place.times) > 1 and np.ptp(times) <= MOST_CODES:  # what turns goes no straight way from sample to sample
        times = np.union1d(times, np.arange(np.ceil(place.times[0]), place.times[-1]))
    return _Found(prim, times, unit or 1.0, place, Source(NAME, "", axes, False, {}, tuple(warnings), details), most)


def _cloud(found: _Found, data: Bytes | None) -> SplatCloud:
    """The cloud, with the family Frames where there are several times; `data` is the whole file of a still one."""
    prim, times = found.prim, found.times
    if len(times) < 2:
        return _still(found, times[0] if len(times) else None, data)
    first = _still(found, times[0])
    moments = np.concatenate([_of(prim, name).times for name in ("positions", "positionsh")])
    linked = all(len(_array(prim, "positions", time, 3, found.most)) == len(first) for time in moments)
    return first.replace(family=Frames(times, lambda index: _still(found, times[index]), linked))


def _still(found: _Found, time: float | None, data: Bytes | None = None) -> SplatCloud:
    """The cloud of a prim where it stands at a time code; `data` is the file, where the cloud is all of it."""
    prim, _, unit, placement, source, most = found
    place = placement.at(time)
    place[:3, 3] *= unit
    positions = _array(prim, "positions", time, 3, most)
    count = len(positions)
    scales = _array(prim, "scales", time, 3, count)
    quats = _array(prim, "orientations", time, 4, count)
    opacities = _array(prim, "opacities", time, 1, count)
    coefficients = _array(prim, _SH, time, 3, 25 * count)
    colours = _array(prim, "primvars:displayColor", time, 3, count) if not len(coefficients) else coefficients[:0]
    for name, array in (("scales", scales), ("orientations", quats), ("opacities", opacities)):
        if len(array) not in (0, count):
            raise BrokenFile(f"The file has {count:,} positions, but {len(array):,} {name}.", "Export it again.")
    warnings = list(source.warnings)
    stride = len(coefficients) // count if count and not len(coefficients) % count else 0
    if len(coefficients) and not stride:
        raise BrokenFile(
            f"The file has {count:,} positions and {len(coefficients):,} coefficients, which do not go together.",
            "Export it again.",
        )
    degree = _of(prim, _DEGREE).at(time)
    kept = max((k for k in sh.COEFFICIENTS if k <= stride), default=1)
    if isinstance(degree, float | int) and degree in range(5) and (int(degree) + 1) ** 2 < kept:
        kept = (int(degree) + 1) ** 2
    if stride > kept:
        warnings.append(f"Only {kept} of {stride} coefficients a splat were read, those of degree {sh.degree(kept)}.")
    for name, array in (("scales", scales), ("orientations", quats), ("opacities", opacities)):
        if not len(array) and count:
            warnings.append(f"The file has no {name}.")
    if not stride and len(colours) != count:
        warnings.append("The file has no colours; the splats are grey.")
    draft = Draft(count, kept)
    table = coefficients.reshape(count, stride, 3) if stride else coefficients
    columns = (draft.means, draft.quats, draft.scales, draft.opacities, draft.sh)
    stands = np.array_equal(place, np.eye(4))

    def block(rows: slice) -> Counter[str]:
        draft.means[rows] = positions[rows] if unit == 1 else positions[rows] * np.float32(unit)
        draft.scales[rows] = np.abs(scales[rows]) * np.float32(unit) if len(scales) else unit
        draft.quats[rows] = np.roll(quats[rows], 1, axis=1) if len(quats) else (1, 0, 0, 0)
        draft.opacities[rows] = opacities[rows].reshape(-1) if len(opacities) else 1
        if stride:
            draft.sh[rows] = table[rows, :kept]
        else:
            draft.sh[rows, 0] = sh.to_base(colours[rows]) if len(colours) == count else 0
        beyond = ~((draft.opacities[rows] >= 0) & (draft.opacities[rows] <= 1)) & ~np.isnan(draft.opacities[rows])
        np.clip(draft.opacities[rows], 0, 1, out=draft.opacities[rows])
        if not stands:
            splats = transformed(Splats(*(array[rows] for array in columns)), place)
            for column, values in zip(columns, dataclasses.astuple(splats), strict=True):
                column[rows] = values
        return Counter({"opacities beyond 0 to 1: clamped": int(np.count_nonzero(beyond))})

    draft.fill(block)
    return draft.finish(dataclasses.replace(source, warnings=tuple(warnings)), data)


def _of(prim: Prim, name: str) -> Attribute:
    return prim.attributes.get(name) or Attribute(np.empty(0), False, lambda sample, most: None)


def _array(prim: Prim, name: str, time: float | None, components: int, most: int) -> NDArray[Any]:
    """An attribute's value at a time, from its float32 or its half form; empty where there is neither."""
    for each in (name, name + "h"):
        value = _of(prim, each).at(time, most)
        if isinstance(value, np.ndarray) and len(value):
            if value.ndim != (2 if components > 1 else 1) or (components > 1 and value.shape[1] != components):
                raise BrokenFile(f"The file's {each} have another type than the schema asks for.", "Export it again.")
            return value
    return np.empty((0, components) if components > 1 else 0, np.float32)


def _unzipped(data: Bytes) -> tuple[str, Bytes]:
    """Which container it is, and the bytes of the layer, which lie unpacked in a .usdz."""
    head = data[:30].tobytes()
    if not head.startswith(_ZIP):
        return (".usda" if head.startswith(usda.MAGIC) else ".usdc"), data
    if len(head) < 30 or head[8:10] != b"\0\0":
        raise BrokenFile("The .usdz file is packed, which the format does not allow.", "Export it again.")
    size, start = (
        int.from_bytes(head[18:22], "little"),
        30 + int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little"),
    )
    if head[6] & 8 or size == 0xFFFFFFFF:  # the size stands behind the content: whatever follows does no harm
        size = len(data) - start
    return ".usdz", data[start : start + size]
