# SPDX-License-Identifier: GPL-3.0-or-later
"""Compressed PLY, by PlayCanvas: 256 splats a chunk, 16 bytes a splat within the chunk's bounds.

Elements chunk (bounds of position, log scale and, in newer files, colour), vertex (four packed words)
and, optionally, sh (bytes, channel after channel).  Frame RDF.
Source: playcanvas/splat-transform, decompress-ply.ts and compressed-chunk.ts.
"""

import itertools
from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...common.errors import BrokenFile
from ...common.threads import in_blocks
from .. import sh
from ..axes import change_axes
from ..cloud import Floats, Source, SplatCloud
from . import ply_dialects, ply_header
from .ply_header import Bytes, Header
from .repair import SMALLEST_SCALE, Draft

NAME = "compressed PLY"
AXES = "RDF"
CHUNK = 256

Words = NDArray[np.uint32]

_POSITIONS = ["x", "y", "z"]
_SCALES = ["scale_x", "scale_y", "scale_z"]
_COLOURS = ["r", "g", "b"]
_PACKED = ["packed_position", "packed_rotation", "packed_scale", "packed_color"]
_ROTATION_STEP = np.float32(np.sqrt(2) / 1023)


def is_compressed(header: Header) -> bool:
    """Whether a PLY header describes this format."""
    return "packed_position" in header.element("vertex").columns


def decode(data: Bytes) -> SplatCloud:
    """The cloud of a whole file; raises BrokenFile where chunks or columns are missing."""
    header = ply_header.parse(data[: ply_header.LONGEST_HEADER].tobytes())
    chunks, bounds_of = ply_header.rows_of(data, header, "chunk")
    count, vertex = ply_header.rows_of(data, header, "vertex")
    claimed = header.element("vertex").count
    count = min(count, chunks * CHUNK)
    bounds = _bounds(header, bounds_of(slice(0, chunks)), chunks)
    if not set(_PACKED) <= header.element("vertex").columns.keys() or count * 100 < claimed:
        raise BrokenFile("The compressed PLY lacks chunks or packed columns.", "Download or export it again.")

    warnings = [f"The file is cut off: {count:,} of {claimed:,} splats are there."] if count < claimed else []
    rest, cut_degree = ply_dialects.higher_degrees(header.element("sh").columns)
    warnings += [cut_degree] if cut_degree else []
    if rest:
        rows, bands = ply_header.rows_of(data, header, "sh") if count == claimed else (0, vertex)
        if rows < count:
            rest = []
            warnings.append("The spherical harmonics are cut off; only the base colours were read.")
    draft = Draft(count, len(rest) + 1)

    def block(rows: slice) -> Counter[str] | None:
        packed = vertex(rows)
        position, rotation, scale, colour = (np.asarray(packed[name], np.uint32) for name in _PACKED)
        chunk = np.arange(rows.start, rows.stop) // CHUNK
        draft.means[rows] = _lerp(bounds["position"], chunk, _unpack_11_10_11(position))
        draft.scales[rows] = np.exp(_lerp(bounds["scale"], chunk, _unpack_11_10_11(scale)))
        rgba = _unpack_bytes(colour)
        draft.sh[rows, 0] = sh.to_base(_lerp(bounds["colour"], chunk, rgba[:, :3]))
        draft.opacities[rows] = rgba[:, 3]
        draft.quats[rows] = _unpack_rotation(rotation)
        if rest:
            levels = bands(rows)
        for (k, names), channel in itertools.product(enumerate(rest, 1), range(3)):
            draft.sh[rows, k, channel] = _SH_LEVELS[levels[names[channel]].astype(np.uint8)]
        return None

    draft.fill(block)
    details = {"comments": list(header.comments)} if header.comments else {}
    return draft.finish(Source(NAME, axes=AXES, warnings=tuple(warnings), details=details), data)


def encode(cloud: SplatCloud) -> list[bytes | NDArray[Any]]:
    """Splats are put in Morton order, so that those of a chunk lie close together and its bounds are tight."""
    cloud = change_axes(cloud, AXES)
    count, rest = len(cloud), 3 * (cloud.sh.shape[1] - 1)
    order = morton_order(cloud.means)
    base = cloud.replace(sh=cloud.sh[:, :1])
    words = np.empty((count, len(_PACKED)), "<u4")
    chunks = np.empty((-(-count // CHUNK), 18), "<f4")
    levels = np.empty((count, rest), np.uint8)

    def block(rows: slice) -> None:
        part = base.select(order[rows])
        position, position_bounds = _quantise(part.means)
        scale, scale_bounds = _quantise(np.log(np.maximum(part.scales, SMALLEST_SCALE)))
        colour, colour_bounds = _quantise(sh.to_rgb(part.sh[:, 0]))
        alpha = np.floor(255 * part.opacities + 0.5).astype(np.uint32)
        words[rows, 0] = _pack(position, (11, 10, 11))
        words[rows, 1] = _pack_rotation(part.quats)
        words[rows, 2] = _pack(scale, (11, 10, 11))
        words[rows, 3] = _pack(np.column_stack([colour, alpha / 255]), (8, 8, 8, 8))
        bounds = np.concatenate([*position_bounds, *scale_bounds, *colour_bounds], axis=1)
        chunks[rows.start // CHUNK :][: len(bounds)] = bounds

    in_blocks(block, count, 32 * CHUNK)
    if rest:  # made in the cloud's order, then put in the other: a row of bytes is one place in memory, floats are many
        in_blocks(lambda rows: _pack_coefficients(cloud.sh[rows, 1:], levels[rows]), count)
        levels = levels.take(order, axis=0)

    groups = (_POSITIONS, _SCALES, _COLOURS)
    columns = [f"{end}_{name}" for names in groups for end in ("min", "max") for name in names]
    lines = ["ply", "format binary_little_endian 1.0", "comment Written by Vivant", f"element chunk {len(chunks)}"]
    lines += [f"property float {name}" for name in columns]
    lines += [f"element vertex {count}", *(f"property uint {name}" for name in _PACKED)]
    if rest:
        lines += [f"element sh {count}", *(f"property uchar f_rest_{i}" for i in range(rest))]
    header = "\n".join([*lines, "end_header", ""]).encode()
    return [header, chunks, words, levels]


def clips(cloud: SplatCloud) -> list[str]:
    """What of a cloud is out of the format's range."""
    beyond = np.abs(cloud.sh[:, 1:]).max(initial=0) > 4
    return ["Spherical harmonics beyond -4 to 4 are clipped: compressed PLY holds no others."] if beyond else []


def _bounds(header: Header, chunk: ply_header.Columns, count: int) -> dict[str, tuple[Floats, Floats]]:
    """Lower and upper ends (chunks, 3) of each quantity; old files have no colour bounds: 0 to 1."""
    names = header.element("chunk").columns

    def ends(columns: list[str]) -> tuple[Floats, Floats]:
        if not {f"{end}_{name}" for name in columns for end in ("min", "max")} <= names.keys():
            raise BrokenFile("The compressed PLY's chunks lack bounds.", "Export it again.")
        with np.errstate(over="ignore"):  # doubles beyond float32 become infinite, and are mended as such
            low, high = (
                np.stack([np.asarray(chunk[f"{end}_{name}"], np.float32) for name in columns], axis=1) for end in ("min", "max")
            )
        return low, high

    unit = np.zeros((count, 3), np.float32), np.ones((count, 3), np.float32)
    colour = ends(_COLOURS) if "min_r" in names else unit
    return {"position": ends(_POSITIONS), "scale": ends(_SCALES), "colour": colour}


def _lerp(bounds: tuple[Floats, Floats], chunk: NDArray[np.int64], at: Floats) -> Floats:
    low, high = (end[chunk] for end in bounds)
    return low * (1 - at) + high * at


def _unpack_11_10_11(words: Words) -> Floats:
    parts = [(words >> 21) / np.float32(2047), (words >> 11 & 1023) / np.float32(1023), (words & 2047) / np.float32(2047)]
    return np.stack(parts, axis=1).astype(np.float32)


def _unpack_bytes(words: Words) -> Floats:
    return np.stack([words >> shift & 255 for shift in (24, 16, 8, 0)], axis=1).astype(np.float32) / np.float32(255)


def _unpack_rotation(words: Words) -> Floats:
    """Two bits say which of w, x, y, z is the largest; the three others follow in order."""
    others = np.stack([words >> shift & 1023 for shift in (20, 10, 0)], axis=1).astype(np.float32)
    others = others * _ROTATION_STEP - np.float32(np.sqrt(0.5))
    largest = np.sqrt(np.maximum(0, 1 - np.square(others).sum(axis=1)))
    which = words >> 30
    quats = np.empty((len(words), 4), np.float32)
    for index in range(4):
        rows = which == index
        quats[rows] = np.insert(others[rows], index, largest[rows], axis=1)
    return quats


def _pack_coefficients(bands: Floats, out: Bytes) -> None:
    """Bytes (n, 3 K), channel after channel, of coefficients (n, K, 3)."""
    scaled = np.ascontiguousarray(bands.transpose(1, 0, 2)) * np.float32(32)
    scaled += 128
    levels = np.clip(scaled, 0, 255, out=scaled).astype(np.uint8)
    out.reshape(len(out), 3, -1)[:] = levels.transpose(1, 2, 0)


def _pack_rotation(quats: Floats) -> Words:
    which = np.argmax(np.abs(quats), axis=1)
    quats = quats * np.where(np.take_along_axis(quats, which[:, None], 1) < 0, -1, 1)
    others = quats[np.arange(4) != which[:, None]].reshape(-1, 3)
    top: Words = which.astype(np.uint32) << np.uint32(30)
    return top | _pack(others * np.float32(np.sqrt(0.5)) + 0.5, (10, 10, 10))


def _pack(values: Floats, bits: tuple[int, ...]) -> Words:
    """Values 0 to 1 (N, parts) as one word each, first part in the highest bits."""
    words: Words = np.zeros(len(values), np.uint32)
    for column, width in zip(values.T, bits, strict=True):
        top = 2**width - 1
        levels: Words = np.clip(np.floor(column * top + 0.5), 0, top).astype(np.uint32)
        words = np.bitwise_or(words << np.uint32(width), levels, dtype=np.uint32)
    return words


def _quantise(values: Floats) -> tuple[Floats, tuple[Floats, Floats]]:
    """Values (N, 3) as 0 to 1 within their chunk's bounds, and the bounds (chunks, 3)."""
    starts = np.arange(0, len(values), CHUNK)
    low, high = (
        np.clip(end.reduceat(values, starts), -3e38, 3e38) if len(values) else values for end in (np.minimum, np.maximum)
    )
    chunk = np.arange(len(values)) // CHUNK
    span = (high - low)[chunk]
    at = np.where(span < 1e-5, 0, (values - low[chunk]) / np.where(span < 1e-5, 1, span))
    return at.astype(np.float32), (low, high)


def morton_order(means: Floats) -> NDArray[np.int64]:
    """Indices that walk through space along a Z curve, two million cells a side: a far outlier does no harm."""
    if not len(means):
        return np.empty(0, np.int64)
    low, size = means.min(axis=0), np.maximum(np.ptp(means, axis=0), 1e-30)
    cells: Any = np.minimum((means - low).astype(np.float64) / size * 2**21, 2**21 - 1).astype(np.uint64)
    for shift, mask in _SPREAD:
        cells = (cells | cells << np.uint64(shift)) & np.uint64(mask)
    code = cells[:, 0] << np.uint64(2) | cells[:, 1] << np.uint64(1) | cells[:, 2]
    return np.argsort(code, kind="stable")


# steps that put two zero bits after each of 21 bits
_SPREAD = [
    (32, 0x001F00000000FFFF),
    (16, 0x001F0000FF0000FF),
    (8, 0x100F00F00F00F00F),
    (4, 0x10C30C30C30C30C3),
    (2, 0x1249249249249249),
]
_SH_LEVELS = ((np.arange(256) + 0.5) / 256 * 8 - 4).astype(np.float32)
_SH_LEVELS[[0, 255]] = -4, 4
