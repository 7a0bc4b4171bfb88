# SPDX-License-Identifier: GPL-3.0-or-later
"""SOG, PlayCanvas's spatially ordered Gaussians: a list of contents (meta.json) and lossless WebP images of quantised columns.

Pixel i is splat i.  Positions have two bytes on a signed logarithmic axis, rotations the three smallest components, scales
and colours one byte each (a code book in version 2, linear in version 1), spherical harmonics a palette.  A folder, or a
stored zip of one (.sog).  Frame RDF.  Source: playcanvas/splat-transform, read-sog.ts, read-sog-v1.ts and write-sog.ts.
"""

from __future__ import annotations

import io
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from ...common.errors import BrokenFile, UnsupportedFormat, VivantError
from .. import sh
from ..axes import change_axes
from ..cloud import Floats, Source, SplatCloud
from . import compression, files, palette, webp
from .compressed_ply import morton_order
from .format import pieces
from .ply_header import Bytes
from .repair import LARGEST_LOGIT, SMALLEST_SCALE, Draft

NAME = "SOG"
AXES = "RDF"
DEGREE = 3
LONGEST_JSON = 2 << 20
PALETTE_COLUMNS = 64
MOST_SPLATS = 1 << 27

_BYTES_A_SPLAT = 20
_SPARE_PIXELS = 1 << 20
_DAMAGED = "The SOG file's list of contents is damaged or lacks something."
_AGAIN = "Export the file again."
_TAGS = 252
_ROOT = np.float32(np.sqrt(0.5))

Load = Callable[[str], Bytes]


def is_zip(data: Bytes) -> bool:
    """Whether bytes are a zip with a SOG's list of contents."""
    if data[:4].tobytes() != b"PK\x03\x04":
        return False
    ends = data[: 1 << 16].tobytes() + data[-(1 << 16) :].tobytes()
    return re.search(rb"(?:^|[^\w.-])?meta\.json", ends) is not None and b"means_l.webp" in ends


def is_index(data: Bytes, path: Path) -> bool:
    """Whether bytes are a SOG's list of contents, or a folder has one."""
    if not len(data) and path.is_dir():
        index = path / "meta.json"
        return index.is_file() and is_index(files.load(index, LONGEST_JSON), index)
    text = data[:LONGEST_JSON].tobytes()
    return text.lstrip()[:1] == b"{" and re.search(rb'"means"\s*:', text) is not None and b".webp" in text


def decode(data: Bytes) -> SplatCloud:
    """The cloud of a .sog file; raises BrokenFile for damaged ones and for archives that unpack to too much."""
    compression.check_directory(data[-compression.TAIL :].tobytes())
    try:
        with zipfile.ZipFile(io.BytesIO(data.data)) as archive:
            index = next(name for name in archive.namelist() if name.rpartition("/")[2] == "meta.json")
            folder = index[: -len("meta.json")]
            if any(entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for entry in archive.infolist()):
                raise UnsupportedFormat("The SOG archive is packed in an unusual way.", "Export it again.")
            compression.check_expansion(sum(entry.file_size for entry in archive.infolist()), len(data))
            return _cloud(lambda name: np.frombuffer(archive.read(folder + name), np.uint8), len(data), lambda: data)
    except (
        zipfile.BadZipFile,
        zlib.error,
        struct.error,
        StopIteration,
        LookupError,
        EOFError,
        RuntimeError,
        ValueError,
        OSError,
    ) as error:
        raise BrokenFile("The SOG archive is damaged or lacks a file.", "Download it again.") from error


def read(path: Path) -> SplatCloud:
    """The cloud of a folder, or of the meta.json in it; images are taken from that folder alone."""
    index = path / "meta.json" if path.is_dir() else path
    found: dict[str, Bytes] = {}

    def load(name: str) -> Bytes:
        if name != Path(name).name or "\\" in name or ":" in name:
            raise BrokenFile(f"The SOG folder asks for '{name[:60]}', which is not in it.", _AGAIN)
        file = index if name == "meta.json" else index.parent / name
        found[name] = files.load(file)
        return found[name]

    names = [name for name in _names(_parse(load("meta.json"))) if (index.parent / name).is_file()]
    size = sum((index.parent / name).stat().st_size for name in names) + len(found["meta.json"])
    return _cloud(load, size, lambda: np.frombuffer(_archive(found), np.uint8))


def encode(cloud: SplatCloud) -> list[bytes]:
    """A .sog file of version 2: splats in Morton order, SH to degree 3 by a palette of at most 65,536."""
    if not 0 < len(cloud) <= MOST_SPLATS:
        raise VivantError(f"A SOG file cannot hold {len(cloud):,} splats.", f"Give 1 to {MOST_SPLATS:,} of them.")
    cloud = change_axes(cloud, AXES)
    cloud = cloud.select(morton_order(cloud.means))
    count = len(cloud)
    width = 4 * int(np.ceil(np.sqrt(count) / 4))
    height = 4 * int(np.ceil(count / width / 4))

    def image(columns: NDArray[Any]) -> bytes:
        pixels = np.zeros((width * height, 4), np.uint8)
        pixels[:, 3] = 255
        pixels[:count, : columns.shape[1]] = columns
        return webp.encode(pixels.reshape(height, width, 4))

    logarithms = np.sign(cloud.means) * np.log1p(np.abs(cloud.means, dtype=np.float64))
    low, high = logarithms.min(axis=0), logarithms.max(axis=0)
    fixed = np.rint((logarithms - low) / np.where(high > low, high - low, 1) * 65535).astype(np.uint16)
    scales, scale_book = palette.code_book(np.log(np.maximum(cloud.scales, SMALLEST_SCALE)))
    colours, colour_book = palette.code_book(cloud.sh[:, 0])
    opacities = np.rint(cloud.opacities * 255)[:, None]
    contents: dict[str, bytes] = {
        "means_l.webp": image(fixed & 255),
        "means_u.webp": image(fixed >> 8),
        "quats.webp": image(_pack_rotations(cloud.quats)),
        "scales.webp": image(scales),
        "sh0.webp": image(np.column_stack([colours, opacities])),
    }
    meta: dict[str, Any] = {
        "version": 2, "asset": {"generator": "Vivant"}, "count": count,
        "means": {"mins": low.tolist(), "maxs": high.tolist(), "files": ["means_l.webp", "means_u.webp"]},
        "scales": {"codebook": scale_book.tolist(), "files": ["scales.webp"]},
        "quats": {"files": ["quats.webp"]},
        "sh0": {"codebook": colour_book.tolist(), "files": ["sh0.webp"]},
    }  # fmt: skip
    if cloud.source.antialiased:
        meta["model"] = "antialiased"
    if cloud.degree:
        bands = min(cloud.degree, DEGREE)
        rest = np.ascontiguousarray(cloud.sh[:, 1 : (bands + 1) ** 2]).reshape(count, -1)
        labels, centroids = palette.of_rows(rest)
        levels, rest_book = palette.code_book(centroids)
        table = np.zeros((-len(centroids) % PALETTE_COLUMNS + len(centroids), rest.shape[1] // 3, 4), np.uint8)
        table[..., 3] = 255
        table[: len(centroids), :, :3] = levels.reshape(len(centroids), -1, 3)
        contents["shN_centroids.webp"] = webp.encode(table.reshape(-1, PALETTE_COLUMNS * table.shape[1], 4))
        contents["shN_labels.webp"] = image(np.column_stack([labels & 255, labels >> 8]))
        meta["shN"] = {"count": len(centroids), "bands": bands, "codebook": rest_book.tolist()}
        meta["shN"]["files"] = ["shN_centroids.webp", "shN_labels.webp"]
    contents["meta.json"] = json.dumps(meta, separators=(",", ":")).encode()
    return [_archive(contents)]


def write(cloud: SplatCloud, path: Path) -> None:
    """A meta.json under that name and its images beside it; the list of contents appears last."""
    data = b"".join(bytes(piece) for piece in pieces(cloud, NAME, encode))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = {name.rpartition("/")[2]: archive.read(name) for name in archive.namelist()}
    index = entries.pop("meta.json")
    for name, content in entries.items():
        files.save(path.with_name(name), [content])
    files.save(path, [index])


def clips(cloud: SplatCloud) -> list[str]:
    """What of a cloud is out of the format's range."""
    if not cloud.degree or (entries := palette.entries(len(cloud))) == len(cloud):
        return []
    return [f"Spherical harmonics of {len(cloud):,} splats are told by the {entries:,} most fitting ones."]


def _cloud(load: Load, size: int, encoded: Callable[[], Bytes]) -> SplatCloud:
    """The cloud of a list of contents and its images, whose bytes are `size` together."""
    meta = _parse(load("meta.json"))
    means, scales, base = _table(meta, "means"), _table(meta, "scales"), _table(meta, "sh0")
    modern = "version" in meta
    count = meta.get("count") if modern else (_numbers(means, "shape", 2) or [0])[0]
    if not _is_number(count) or not 0 < count <= MOST_SPLATS or count != int(count):
        raise BrokenFile(_DAMAGED, _AGAIN)
    count = int(count)
    compression.check_expansion(count * _BYTES_A_SPLAT, size)

    def image(table: Mapping[str, Any], index: int = 0) -> Bytes:
        names = table.get("files")
        if not isinstance(names, list) or len(names) <= index or not isinstance(names[index], str):
            raise BrokenFile(_DAMAGED, _AGAIN)
        pixels = webp.decode(load(names[index]), 2 * count + _SPARE_PIXELS).reshape(-1, 4)
        if len(pixels) < count:
            raise BrokenFile(
                f"The SOG image '{names[index][:40]}' has too few pixels for {count:,} splats.", "Export it again."
            )
        return pixels[:count]

    palette_of = _palette(meta["shN"], modern, load) if isinstance(meta.get("shN"), dict) else None
    draft = Draft(count, 1 + (palette_of.shape[1] if palette_of is not None else 0))
    low, high = _range(means, 3)
    span = np.where(high == low, 1, high - low)
    with np.errstate(all="ignore"):
        fixed = image(means, 0)[:, :3] + np.uint16(256) * image(means, 1)[:, :3]
        # as 65,536 exact values an axis: no rounding of float32 is added to the file's own
        axis = low + span * (np.arange(65536)[:, None] / 65535)
        axis = (np.sign(axis) * np.expm1(np.abs(axis))).astype(np.float32)
        draft.means[:] = np.take_along_axis(axis, fixed.astype(np.int64), 0)
        scale_levels = np.exp(_levels(scales, modern, 3)).astype(np.float32)
        draft.scales[:] = np.take_along_axis(scale_levels, image(_table(meta, "scales"))[:, :3].astype(np.int64), 0)
        draft.quats[:] = _unpack_rotations(image(_table(meta, "quats")))
        rgba = image(base)
        colour_levels = _levels(base, modern, 4)
        draft.sh[:, 0] = np.take_along_axis(colour_levels[:, :3], rgba[:, :3].astype(np.int64), 0)
        alphas = rgba[:, 3] / np.float32(255)
        if not modern:
            alphas = (1 / (1 + np.exp(-np.clip(colour_levels[:, 3], -LARGEST_LOGIT, LARGEST_LOGIT))))[rgba[:, 3]]
        draft.opacities[:] = alphas
        if palette_of is not None:
            pixels = image(meta["shN"], 1)
            labels = pixels[:, 0] + 256 * pixels[:, 1].astype(np.int64)
            draft.repairs["SH palette entries that do not exist: set to none"] = int(
                np.count_nonzero(labels >= len(palette_of))
            )
            padded = np.concatenate([palette_of, np.zeros((1, *palette_of.shape[1:]), np.float32)])
            draft.sh[:, 1:] = padded[np.minimum(labels, len(palette_of))]
    draft.fill(lambda rows: None)
    anti = meta.get("antialias") is True or meta.get("model") == "antialiased"
    return draft.finish(Source(NAME, axes=AXES, antialiased=anti, details={"version": 2 if modern else 1}), encoded())


def _palette(table: Mapping[str, Any], modern: bool, load: Load) -> Floats:
    """Coefficients (entries, K - 1, 3) of the palette."""
    names = table.get("files")
    if not isinstance(names, list) or not names or not isinstance(names[0], str):
        raise BrokenFile(_DAMAGED, _AGAIN)
    pixels = webp.decode(load(names[0]), _SPARE_PIXELS)
    width, rest = divmod(pixels.shape[1], PALETTE_COLUMNS)
    if rest or width + 1 not in sh.COEFFICIENTS[1 : DEGREE + 1]:
        raise BrokenFile("The SOG file's palette of spherical harmonics has no full degree.", _AGAIN)
    levels = _levels(table, modern, 1)[:, 0]
    return levels[pixels[..., :3]].reshape(-1, width, 3)


def _levels(table: Mapping[str, Any], modern: bool, channels: int) -> Floats:
    """What each byte stands for (256, channels): a code book, or in version 1 a straight line."""
    if modern:
        book = np.array(_numbers(table, "codebook", 256) or [], np.float32)
        if len(book) != 256:
            raise BrokenFile(_DAMAGED, _AGAIN)
        return np.repeat(book[:, None], channels, axis=1)
    low, high = _range(table, channels)
    return (low + (high - low) * (np.arange(256)[:, None] / 255)).astype(np.float32)


def _range(table: Mapping[str, Any], channels: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    found = (table.get(name) for name in ("mins", "maxs"))
    ends = [end if isinstance(end, list) else [end] for end in found]
    if any(len(end) != channels or not all(map(_is_number, end)) for end in ends):
        raise BrokenFile(_DAMAGED, _AGAIN)
    return np.array(ends[0], np.float64), np.array(ends[1], np.float64)


def _numbers(table: Mapping[str, Any], name: str, least: int) -> list[float] | None:
    """A list of at least so many numbers; null at the start of a code book, an old writer's slip, is its first step back."""
    values = table.get(name)
    if not isinstance(values, list) or len(values) < least or len(values) > 256:
        return None
    if values[0] is None and len(values) > 2:
        values = [2 * values[1] - values[2], *values[1:]] if all(map(_is_number, values[1:3])) else []
    return values if values and all(map(_is_number, values)) else None


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e30


def _table(meta: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    if not isinstance(table := meta.get(name), dict):
        raise BrokenFile(_DAMAGED, _AGAIN)
    return table


def _parse(data: Bytes) -> dict[str, Any]:
    if len(data) > LONGEST_JSON:
        raise UnsupportedFormat("The SOG file's list of contents is far longer than splats need.", _AGAIN)
    try:
        meta = json.loads(data.tobytes())
    except (ValueError, RecursionError) as error:
        raise BrokenFile(_DAMAGED, "Download or export the file again.") from error
    if not isinstance(meta, dict):
        raise BrokenFile(_DAMAGED, _AGAIN)
    return meta


def _names(meta: Mapping[str, Any]) -> list[str]:
    """All files that a list of contents names, as far as they are plain names."""
    lists = [table["files"] for table in meta.values() if isinstance(table, dict) and isinstance(table.get("files"), list)]
    names = {name for found in lists for name in found if isinstance(name, str)}
    return sorted(name for name in names if name == Path(name).name and "\0" not in name)


def _archive(contents: Mapping[str, Any]) -> bytes:
    """A stored zip, the same bytes for the same contents."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, content in contents.items():
            archive.writestr(zipfile.ZipInfo(name), bytes(content))
    return out.getvalue()


def _unpack_rotations(pixels: Bytes) -> Floats:
    """Quaternions of the three smaller components in order of w, x, y, z; alpha says which is missing."""
    others = (pixels[:, :3] / np.float32(127.5) - 1) * _ROOT
    largest = np.sqrt(np.maximum(0, 1 - np.square(others).sum(axis=1)))
    quats = np.zeros((len(pixels), 4), np.float32)
    for index in range(4):
        rows = pixels[:, 3] == _TAGS + index
        quats[rows] = np.insert(others[rows], index, largest[rows], axis=1)
    return quats  # without a known tag: zero, which is mended and counted


def _pack_rotations(quats: Floats) -> Bytes:
    which = np.argmax(np.abs(quats), axis=1)
    quats = quats * np.where(np.take_along_axis(quats, which[:, None], 1) < 0, -1, 1)
    others = quats[np.arange(4) != which[:, None]].reshape(-1, 3)
    return np.column_stack([np.clip(np.rint((others / _ROOT + 1) * 127.5), 0, 255), _TAGS + which]).astype(np.uint8)
