# SPDX-License-Identifier: GPL-3.0-or-later
""".4dgs, version 1, of the temporal model 'gaussian-birth': splats on straight paths that fade and have windows.

Records of an opcode, a length and a body between two magics.  Chunks hold one packed stream of integers an
attribute, on grids whose steps one record names; the grids of motion and time are finer for shorter lives.
Read only.  Frame RDF, times in seconds.  Source: the Apache-2.0 package `fourdgs`, 0.6.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...common.errors import BrokenFile, UnsupportedFormat
from .. import sh
from ..cloud import Source, SplatCloud
from ..motion.linear import Linear
from .compression import check_expansion, unzstd
from .ply_header import Bytes
from .repair import FASTEST, LATEST, Draft

NAME = "4dgs"
AXES = "RDF"
MAGIC = b"\x894DGS1\r\n"

_HEADER, _QUANTISATION, _WINDOWS, _CHUNK, _HARMONICS = 0x01, 0x03, 0x04, 0x05, 0x07
_CHANNELS = {0: 3, 1: 3, 2: 1, 3: 3, 4: 3, 5: 1, 6: 3, 7: 1, 8: 1, 9: 1, 10: 1}
_POSITION, _SCALE, _LARGEST, _REST, _COLOUR, _OPACITY, _MOTION, _CENTER, _SIGMA, _FLAGS, _WINDOW = _CHANNELS
_OBJECT = 14
_NEVER_FADES = 1
_BYTES_A_SPLAT = 4 * (3 + 4 + 3 + 1 + 3 + 7)
_OTHERS = np.array([[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]])  # of a quaternion's components, by the largest
_DAMAGED = "Download it again."

Ints = NDArray[np.int64]


class _Steps(NamedTuple):
    """Sizes of the grids' cells; those of sizes are of logarithms."""

    position: float
    scale: float
    quat: float
    rgb: float
    opacity: float
    motion: float
    time: float
    sigma: float


@dataclass
class _Chunk:
    count: int
    streams: bytes
    harmonics: dict[int, memoryview] = field(default_factory=dict)


class _Cursor:
    """Reads a record's fields in order; a field past the end is an error."""

    def __init__(self, data: memoryview) -> None:
        self.data, self.at = data, 0

    def take(self, count: int) -> memoryview:
        if count > len(self.data) - self.at:
            raise BrokenFile("A record of the .4dgs file is too short.", _DAMAGED)
        self.at += count
        return self.data[self.at - count : self.at]

    def fields(self, form: str) -> tuple[Any, ...]:
        return struct.unpack(f"<{form}", self.take(struct.calcsize(f"<{form}")))

    def text(self) -> str:
        return self.take(self.fields("I")[0]).tobytes().decode("utf-8", "replace")

    @property
    def ended(self) -> bool:
        return self.at == len(self.data)


def decode(data: Bytes) -> SplatCloud:
    """The moving cloud of a whole file, cut off or not.

    Raises UnsupportedFormat for other temporal models, BrokenFile for damaged files.
    """
    view = memoryview(data).cast("B")
    header = quantisation = None
    windows = np.empty((0, 2))
    chunks: list[_Chunk] = []
    unpacked = 0
    whole = False
    for opcode, body in _records(view):
        cursor = _Cursor(body)
        if opcode == _HEADER:
            cursor.text(), cursor.text()
            duration, claimed, cutoff = cursor.fields("dQd")
            header = (duration, claimed, cutoff, cursor.text())
        elif opcode == _QUANTISATION:
            cursor.text()
            origin, quantisation = cursor.fields("3d"), _Steps(*cursor.fields("8d"))
        elif opcode == _WINDOWS:
            windows = np.frombuffer(cursor.take(16 * cursor.fields("I")[0]), "<f8").reshape(-1, 2)
        elif opcode == _CHUNK:
            chunks.append(_chunk(cursor, unpacked, len(data)))
            unpacked += len(chunks[-1].streams)
        elif opcode == _HARMONICS and chunks:
            chunks[-1].harmonics[cursor.fields("B")[0]] = body[1:]
        whole = opcode == 0
    if header is None or quantisation is None:
        raise BrokenFile("The .4dgs file lacks its header.", _DAMAGED)
    duration, claimed, cutoff, model = header
    if model != "gaussian-birth":
        raise UnsupportedFormat(f"This is a .4dgs file of the model '{model[:40]}'.", "Convert it with the package fourdgs.")
    if not (0 < duration < 1e9 and 0 < cutoff <= 1 and np.isfinite([*quantisation, *origin]).all()):
        raise BrokenFile("The .4dgs file's header makes no sense.", _DAMAGED)
    count = sum(chunk.count for chunk in chunks)
    bands = next((n for n in range(4) if not all(n + 1 in chunk.harmonics for chunk in chunks)), 3) if chunks else 0
    check_expansion(count * (_BYTES_A_SPLAT + 12 * ((bands + 1) ** 2 - 1)), len(data))

    draft = Draft(count, (bands + 1) ** 2)
    center, sigma, motion = np.zeros(count), np.full(count, np.inf), np.zeros((count, 3))
    first, last = np.full(count, -np.inf), np.full(count, np.inf)
    reach = float(np.sqrt(-2 * np.log(cutoff)))
    start = 0
    for chunk in chunks:
        rows = slice(start, start := start + chunk.count)
        values = _streams(chunk, draft)
        fades = values[_FLAGS][:, 0] & _NEVER_FADES == 0
        with np.errstate(all="ignore"):
            spread = np.exp(values[_SIGMA][:, 0] * quantisation.sigma)
            window = _windows_of(values[_WINDOW][:, 0], windows, draft)
            _still(draft, rows, values, quantisation, np.array(origin))
            finer = _class(np.where(fades, reach * spread, window[:, 1] - window[:, 0]) / 0.5)
            motion[rows] = values[_MOTION] * (quantisation.motion * 2.0**-finer)[:, None]
            finest = np.where(fades, np.minimum(1, 0.05 * spread / quantisation.time), 1)
            finest = np.clip(np.floor(np.log2(finest)), -10, 0)
            center[rows] = values[_CENTER][:, 0] * quantisation.time * 2.0**finest
            sigma[rows] = np.where(fades, spread, np.inf)
            ends = np.where(window[:, 1] >= duration, np.inf, window[:, 1])  # the last moment belongs to the clip
            first[rows] = np.maximum(window[:, 0], center[rows] - reach * sigma[rows])
            last[rows] = np.minimum(ends, np.nextafter(np.float32(center[rows] + reach * sigma[rows]), np.float32(np.inf)))
        for band in range(1, bands + 1):
            _fill_band(draft.sh[rows], band, chunk, len(data))
    draft.fill(lambda rows: None)
    lost = ~(np.abs(center) <= LATEST) | np.isnan(first) | np.isnan(last) | ~(sigma > 0)
    draft.drop(lost, "times not finite: splats dropped")
    draft.reset(motion, ~(np.abs(motion) <= FASTEST), 0, "motion not finite: set to 0")
    if claimed > count or not whole:
        draft.warnings.append(f"The file is cut off: {count:,} of {max(claimed, count):,} splats are there.")
    width = np.sqrt(2) * sigma
    with np.errstate(over="ignore"):  # ends of windows may be as good as infinite; splats of such centers are dropped
        times = center.astype("f4"), width.astype("f4"), first.astype("f4"), last.astype("f4")
    draft.family = Linear(motion.astype("f4"), *times, (0.0, duration))
    draft.warnings = [*dict.fromkeys(draft.warnings)]
    return draft.finish(Source(NAME, axes=AXES), data)


def _records(view: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Opcodes and bodies of the records that are whole; 0 at the end of a file that is."""
    at = len(MAGIC)
    while len(view) - at >= 9:
        opcode, length = struct.unpack_from("<BQ", view, at)
        if length > len(view) - at - 9:
            return
        yield opcode, view[at + 9 : at + 9 + length]
        at += 9 + length
    if view[at:] == MAGIC:
        yield 0, view[:0]


def _chunk(cursor: _Cursor, unpacked: int, packed: int) -> _Chunk:
    """A chunk after others of so many bytes, in a file of `packed` bytes."""
    count = cursor.fields("ddII")[3]
    packing = cursor.text()
    size, length = cursor.fields("QQ")
    body = cursor.take(length)
    if packing in ("", "none"):
        return _Chunk(count, body.tobytes())
    check_expansion(unpacked + size, packed)
    codec = {"deflate": 0, "zlib": 0, "zstd": 1}.get(packing)
    return _Chunk(count, _unpack(body, -1 if codec is None else codec, size))


def _unpack(body: memoryview, codec: int, size: int) -> bytes:
    """Exactly `size` bytes."""
    if codec == 1:
        return unzstd(np.frombuffer(body, np.uint8), size).tobytes()
    if codec != 0:
        raise BrokenFile("The .4dgs file is packed in an unknown way.", _DAMAGED)
    try:
        found = zlib.decompressobj().decompress(body, size + 1)
    except zlib.error as error:
        raise BrokenFile("A stream of the .4dgs file is damaged.", _DAMAGED) from error
    if len(found) != size:
        raise BrokenFile("A stream of the .4dgs file has another length than it claims.", _DAMAGED)
    return found


def _stream(cursor: _Cursor, count: int, known: Mapping[int, int]) -> tuple[int, Ints | None]:
    """An attribute and its integers (count, channels), none where it is not among the known ones, which have channels."""
    attribute, width, mode, codec, channels, rows, length = cursor.fields("BBBBBIQ")
    body = cursor.take(length)
    if attribute not in known:
        return attribute, None
    if rows != count or width not in (1, 2, 4) or mode > 2 or channels != known[attribute]:
        raise BrokenFile("A stream of the .4dgs file does not fit its chunk.", _DAMAGED)
    symbols = channels * (min(rows, 1) if mode == 2 else rows)
    planes = np.frombuffer(_unpack(body, codec, symbols * width) if symbols else b"", np.uint8).reshape(width, symbols)
    folded = np.ascontiguousarray(planes.T).view(f"<u{width}").reshape(-1, channels).astype(np.int64)
    values = (folded >> 1) ^ -(folded & 1)
    return attribute, np.broadcast_to(values, (rows, channels)) if mode == 2 else np.cumsum(values, axis=0) if mode else values


def _streams(chunk: _Chunk, draft: Draft) -> dict[int, Ints]:
    cursor, found = _Cursor(memoryview(chunk.streams)), {}
    while not cursor.ended:
        attribute, values = _stream(cursor, chunk.count, _CHANNELS)
        if values is not None:
            found[attribute] = values
        elif attribute == _OBJECT:
            draft.warnings.append("Objects that move as a whole stay where they are; their tracks are not read.")
    if not _CHANNELS.keys() <= found.keys():
        raise BrokenFile("A chunk of the .4dgs file lacks some of its streams.", _DAMAGED)
    return found


def _still(draft: Draft, rows: slice, values: dict[int, Ints], steps: _Steps, origin: NDArray[np.float64]) -> None:
    """What does not move of a chunk."""
    draft.means[rows] = values[_POSITION] * steps.position + origin
    draft.scales[rows] = np.exp(values[_SCALE] * steps.scale)
    largest = values[_LARGEST][:, 0]
    if len(largest) and not 0 <= largest.min() <= largest.max() <= 3:
        raise BrokenFile("A rotation of the .4dgs file makes no sense.", _DAMAGED)
    rest = np.clip(values[_REST] * steps.quat, -1, 1)
    xyzw = np.empty((len(largest), 4))
    np.put_along_axis(xyzw, _OTHERS[largest], rest, axis=1)
    xyzw[np.arange(len(largest)), largest] = np.sqrt(np.maximum(1 - np.square(rest).sum(axis=1), 0))
    draft.quats[rows] = xyzw[:, [3, 0, 1, 2]]
    green, red, blue = values[_COLOUR].T
    rgb = np.stack([red + green, green, blue + green], axis=1) * steps.rgb
    draft.sh[rows, 0] = sh.to_base(np.clip(rgb, 0, 1))
    draft.opacities[rows] = np.clip(values[_OPACITY][:, 0] * steps.opacity, 0, 1)


def _windows_of(index: Ints, windows: NDArray[np.float64], draft: Draft) -> NDArray[np.float64]:
    if not len(windows):
        draft.warnings.append("The file has no windows of time; its splats are there all the time.")
        return np.tile([-np.inf, np.inf], (len(index), 1))
    if len(index) and not 0 <= index.min() <= index.max() < len(windows):
        raise BrokenFile("The .4dgs file names windows of time that it does not have.", _DAMAGED)
    return windows[index]


def _class(halves: NDArray[np.float64]) -> NDArray[np.float64]:
    """By how many powers of two motion is finer for lives so long, in halves of a second."""
    return np.clip(np.ceil(np.log2(np.clip(halves, 0.04, 4))), -4, 2)


def _fill_band(coefficients: NDArray[np.float32], band: int, chunk: _Chunk, size: int) -> None:
    """A band of spherical harmonics, bytes on -4 to 4, channel after channel."""
    width = 2 * band + 1
    check_expansion(chunk.count * 3 * width * 8, 8 * size)
    values = _stream(_Cursor(chunk.harmonics[band]), chunk.count, {_HARMONICS: 3 * width})[1]
    if values is None:
        raise BrokenFile("A band of colours of the .4dgs file does not fit its chunk.", _DAMAGED)
    coefficients[:, band * band : (band + 1) ** 2] = (values.reshape(-1, 3, width).transpose(0, 2, 1) * (8 / 255)) - 4
