# SPDX-License-Identifier: GPL-3.0-or-later
"""SPZ by Niantic, versions 1 to 4: quantised splats, gzip around them or, in version 4, Zstandard in streams.

Attributes lie one after the other: positions, alphas, colours, scales, rotations, spherical harmonics,
and records of extensions.  Frame RUB unless an extension names another.
Source: nianticlabs/spz, load-spz.cc, splat-utils.h and splat-types.h.
"""

import itertools
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from ...common.errors import BrokenFile, UnsupportedFormat, VivantError
from ...common.threads import in_blocks
from .. import sh
from ..axes import change_axes
from ..cloud import Floats, Source, SplatCloud
from . import compression
from .ply_header import Bytes
from .repair import SMALLEST_SCALE, Draft

NAME = "SPZ"
AXES = "RUB"
MAGIC = b"NGSP"

_HEADER = struct.Struct("<4sIIBBBB")
_ANTIALIASED, _EXTENDED = 1, 2
_FRAME_EXTENSION = 0xADBE0003
_FRAMES = "LDB RDB LUB RUB LDF RDF LUF RUF LFD RFD LFU RFU LBD RBD LBU RBU".split()
_COLOUR_SCALE = 0.15
_DARKEST = 0.5 - sh.C0 * 0.5 / _COLOUR_SCALE
_LONG_HEADER = 32
_HALF = np.float32(np.sqrt(0.5))
_BYTES = np.arange(256, dtype=np.float32)
_COLOURS = (_BYTES / np.float32(255) - np.float32(0.5)) / np.float32(_COLOUR_SCALE)
_SCALES = np.exp(_BYTES / np.float32(16) - np.float32(10))
_COMPONENTS = (np.array([[1.0], [-1.0]]) * np.arange(512) * (np.sqrt(0.5) / 511)).astype(np.float32).ravel()
"""Of a quaternion: a sign bit and nine bits, as floats."""


@dataclass(frozen=True)
class _Head:
    version: int
    count: int
    degree: int
    fraction_bits: int
    flags: int
    streams: int

    @property
    def widths(self) -> tuple[int, ...]:
        """Bytes a splat in each attribute, in the file's order."""
        return (6 if self.version == 1 else 9, 1, 3, 3, 3 if self.version < 3 else 4, 3 * ((self.degree + 1) ** 2 - 1))

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(self.count * width for width in self.widths)


def decode(data: Bytes) -> SplatCloud:
    """The cloud of a whole file, values in the frame that the file has them in."""
    head, parts, extensions, wait = _split(data)
    axes = AXES
    for kind, payload in _records(extensions):
        if kind == _FRAME_EXTENSION and len(payload) >= 4:
            index = int.from_bytes(payload[:4], "little")
            if not 1 <= index <= len(_FRAMES):
                raise BrokenFile(f"The SPZ file names coordinate system {index}, which does not exist.", "Export it again.")
            axes = _FRAMES[index - 1]
    positions, alphas, colours, scales, rotations, bands = (
        part.reshape(head.count, width) for part, width in zip(parts, head.widths, strict=True)
    )
    draft = Draft(head.count, (head.degree + 1) ** 2)
    odd_sign = _odd_sign(axes)

    def block(rows: slice) -> Counter[str] | None:
        wait(rows.stop)
        draft.means[rows] = _positions(positions[rows], head)
        draft.opacities[rows] = alphas[rows, 0] / np.float32(255)
        draft.sh[rows, 0] = _COLOURS[colours[rows]]
        draft.scales[rows] = _SCALES[scales[rows]]
        _rotations(rotations[rows], head.version, draft.quats[rows])
        if head.degree:
            _coefficients(bands[rows], draft.sh[rows, 1:])
            draft.sh[rows, 24:] *= odd_sign
        return None

    draft.fill(block)
    source = Source(
        NAME,
        axes=axes,
        antialiased=bool(head.flags & _ANTIALIASED),
        details={"version": head.version, "fraction_bits": head.fraction_bits},
    )
    return draft.finish(source, data)


def encode(cloud: SplatCloud, version: int = 0) -> list[bytes]:
    """Frame RUB; coefficients beyond -1 to 1, colours beyond -0.44 to 1.44 and scales beyond e^-10 to e^5.94 are clipped.

    version: 1 to 4; 0 stands for 4 where the cloud came from such a file and Zstandard is there, for 3 elsewhere, which
    most programs read.  Versions 1 and 2 hold SH to degree 3.
    Raises VivantError for positions too far from the origin, and for version 4 without Zstandard.
    """
    if not version:
        came_from_4 = cloud.source.format == NAME and cloud.source.details.get("version") == 4
        version = 4 if came_from_4 and compression.can_zstd() else 3
    degree = min(cloud.degree, 3 if version < 3 else 4)
    farthest = float(np.abs(cloud.means).max(initial=0))
    if version == 1 and farthest > np.finfo(np.float16).max:
        raise VivantError("SPZ of version 1 holds positions up to 65,504 from the origin.", "Write version 3.")
    fraction_bits = next((bits for bits in range(12, -1, -1) if farthest * 2**bits < 2**23 - 1), None)
    if fraction_bits is None:
        raise VivantError(
            f"SPZ holds positions up to 8,388,607 from the origin, not {farthest:,.0f}.", "Move the splats closer."
        )
    layout = _Head(version, len(cloud), degree, fraction_bits, 0, 0)
    parts = [np.empty((len(cloud), width), np.uint8) for width in layout.widths]

    def block(rows: slice) -> None:
        piece = change_axes(cloud.select(rows), AXES)  # block by block, while it is in the cache
        positions, alphas, colours, scales, rotations, bands = (part[rows] for part in parts)
        if version == 1:
            positions[:] = piece.means.astype("<f2").view(np.uint8)
        else:
            fixed = np.rint(piece.means.astype(np.float64) * 2**fraction_bits).astype("<i4")
            positions[:] = fixed.view(np.uint8).reshape(-1, 3, 4)[:, :, :3].reshape(-1, 9)
        alphas[:, 0] = _byte(piece.opacities * 255.0)
        colours[:] = _byte(piece.sh[:, 0] * (_COLOUR_SCALE * 255) + 127.5)
        scales[:] = _byte((np.log(np.maximum(piece.scales, SMALLEST_SCALE)) + 10) * 16)
        rotations[:] = _pack_rotations(piece.quats) if version >= 3 else _pack_imaginary(piece.quats)
        if degree:
            _pack_coefficients(piece.sh[:, 1 : (degree + 1) ** 2], bands)

    in_blocks(block, len(cloud))
    parts = [part for part in parts if part.size]
    streams = len(parts) if version == 4 else 0
    flags = _ANTIALIASED * cloud.source.antialiased
    head = _HEADER.pack(MAGIC, version, len(cloud), degree, fraction_bits, flags, streams)
    if version < 4:
        return [compression.gzipped([head, *parts])]
    packed = compression.zstded(parts)
    sizes = [struct.pack("<QQ", len(small), part.size) for small, part in zip(packed, parts, strict=True)]
    return [head, struct.pack("<I12x", _LONG_HEADER), *sizes, *packed]


def clips(cloud: SplatCloud) -> list[str]:
    """What of a cloud is out of the format's range."""
    found = []
    if np.abs(cloud.sh[:, 1:]).max(initial=0) > 1:
        found.append("Spherical harmonics beyond -1 to 1 are clipped: SPZ holds no others.")
    rgb = sh.to_rgb(cloud.sh[:, 0])
    if rgb.min(initial=0) < _DARKEST or rgb.max(initial=1) > 1 - _DARKEST:
        found.append(f"Colours beyond {_DARKEST:.2f} to {1 - _DARKEST:.2f} are clipped: SPZ holds no others.")
    if cloud.scales.min(initial=1) < np.exp(-10.04) or cloud.scales.max(initial=1) > np.exp(5.97):
        found.append("Scales beyond e^-10 to e^5.94 are clipped: SPZ holds no others.")
    return found


def _odd_sign(axes: str) -> int:
    """Sign of the last coefficient of degree 4 in SPZ files.

    The library that writes them flips it with the y axis although the function is even in y, so files
    whose y is not that of its own frame RDF hold its negative.
    """
    return -1 if axes[1] == "U" else 1


def _split(data: Bytes) -> tuple[_Head, list[Bytes], bytes, Callable[[int], None]]:
    """Header, the six attributes as bytes, the extension records, and what waits until so many splats are unpacked.

    Sizes are checked before anything is unpacked; where that is still going on, the attributes fill from their beginnings.
    """
    packed = data[:2].tobytes() == compression.GZIP
    start = compression.gunzip(data, _HEADER.size) if packed else data[: _HEADER.size]
    if len(start) < _HEADER.size:
        raise BrokenFile("The SPZ header is cut off.", "Download the file again.")
    magic, version, *numbers = _HEADER.unpack(start.tobytes())
    head = _Head(version, *numbers)
    if magic != MAGIC:
        raise UnsupportedFormat("This is a gzip file that holds no splats.", "Unpack it and give what is inside.")
    if not 1 <= version <= 4 or head.degree > 4 or head.fraction_bits > 31:
        raise BrokenFile(
            f"The SPZ header makes no sense (version {version}, SH degree {head.degree}).", "Download or export it again."
        )
    compression.check_expansion(sum(head.sizes), len(data))
    if version == 4:
        return head, *_split_streams(data, head), lambda splats: None

    end = _HEADER.size + sum(head.sizes)
    extended = bool(head.flags & _EXTENDED)
    stream = compression.Unpacking(data, end + (1 << 20 if extended else 0)) if packed else None

    def present(needed: int) -> int:
        found = stream.until(needed) if stream else len(data)
        if found < min(needed, end):
            raise BrokenFile(f"The SPZ file lacks {end - found:,} of its {end:,} bytes.", "Download it again.")
        return found

    filled = present(end + (1 << 20) if extended or not stream else _HEADER.size)
    body = stream.content if stream else data
    offsets = np.cumsum([_HEADER.size, *head.sizes])
    parts = [body[first:last] for first, last in itertools.pairwise(offsets)]
    extensions = body[end:filled].tobytes() if extended else b""

    def wait(splats: int) -> None:
        present(int(offsets[-2]) + splats * head.widths[-1])

    return head, parts, extensions, wait


def _split_streams(data: Bytes, head: _Head) -> tuple[list[Bytes], bytes]:
    """Attributes of version 4: a table of sizes, then a Zstandard frame for each attribute that is not empty."""
    table = int.from_bytes(data[16:20].tobytes(), "little")
    frames = table + 16 * head.streams
    if table < _LONG_HEADER or frames > len(data) or head.streams != np.count_nonzero(head.sizes):
        raise BrokenFile("The SPZ file's table of streams is damaged or cut off.", "Download it again.")
    sizes = iter(np.frombuffer(data[table:frames].tobytes(), "<u8").reshape(-1, 2).tolist())
    packs = []
    for size in head.sizes:
        packed, unpacked = next(sizes) if size else (0, 0)
        if unpacked != size or packed > len(data) - frames:
            raise BrokenFile("The SPZ file's streams do not have the sizes that its header promises.", "Download it again.")
        packs.append((data[frames : frames + packed], size))
        frames += packed

    def unpack(turn: slice) -> Bytes:
        frame, size = packs[-1 - turn.start]  # the last is the largest, and begins first
        return compression.unzstd(frame, size) if size else np.empty(0, np.uint8)

    return in_blocks(unpack, len(packs), 1)[::-1], data[_LONG_HEADER:table].tobytes()


def _records(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Extension records: type, payload.  What follows a cut record is ignored."""
    offset = 0
    while offset + 8 <= len(data):
        kind, length = struct.unpack_from("<II", data, offset)
        offset += 8 + length
        if offset <= len(data):
            yield kind, data[offset - length : offset]


def _positions(parts: Bytes, head: _Head) -> Floats:
    if head.version == 1:
        return np.ascontiguousarray(parts).view("<f2").astype(np.float32)
    low, middle, high = (parts.reshape(-1, 3, 3)[:, :, i].astype(np.int32) for i in range(3))
    fixed = (high << 24 | middle << 16 | low << 8) >> 8  # the shift back carries the sign
    return (fixed * 2.0**-head.fraction_bits).astype(np.float32)


def _rotations(parts: Bytes, version: int, out: Floats) -> None:
    """Quaternions wxyz: three components, or from version 3 on the three smallest of x, y, z, w."""
    if version < 3:
        out[:, 1:] = parts / np.float32(127.5) - 1
        out[:, 0] = np.sqrt(np.maximum(0, 1 - np.square(out[:, 1:]).sum(axis=1)))
        return
    words = np.ascontiguousarray(parts).view("<u4")[:, 0]
    first, second, third = (_COMPONENTS[words >> shift & 1023] for shift in (20, 10, 0))
    largest = np.sqrt(np.maximum(0, 1 - first * first - second * second - third * third))
    which = (words >> 30).astype(np.uint8)
    out[:, 0] = np.where(which == 3, largest, third)
    out[:, 1] = np.where(which == 0, largest, first)
    out[:, 2] = np.where(which == 1, largest, np.where(which == 0, first, second))
    out[:, 3] = np.where(which == 2, largest, np.where(which == 3, third, second))


def _coefficients(parts: Bytes, out: Floats) -> None:
    """SH coefficients (n, K, 3) of bytes (n, 3 K): transposed as bytes, which is a quarter of the work."""
    by_coefficient = np.empty((out.shape[1], len(parts), 3), np.uint8)
    for channel in range(3):
        by_coefficient[:, :, channel] = parts[:, channel::3].T
    by_coefficient ^= 128  # the byte less 128, as a signed one
    np.multiply(by_coefficient.view(np.int8), np.float32(1 / 128), out=out.transpose(1, 0, 2), dtype=np.float32)


def _pack_coefficients(bands: Floats, out: Bytes) -> None:
    """Bytes (n, 3 K) of coefficients (n, K, 3): steps of 8 in degree 1, of 16 above."""
    scaled = np.ascontiguousarray(bands.transpose(1, 0, 2)) * np.float32(128)
    scaled[23:] *= _odd_sign(AXES)
    levels = np.clip(np.rint(scaled, out=scaled), -1024, 1024, out=scaled).astype(np.int16)
    steps = np.array([8] * 3 + [16] * 21, np.int16)[: len(levels), None, None]
    levels += 128 + steps // 2
    levels &= -steps  # down to a multiple
    np.clip(levels, 0, 255, out=levels)
    for channel in range(3):
        out[:, channel::3] = levels[:, :, channel].T


def _pack_rotations(quats: Floats) -> Bytes:
    xyzw = np.roll(quats, -1, axis=1)
    which = np.argmax(np.abs(xyzw), axis=1)
    others = xyzw[np.arange(4) != which[:, None]].reshape(-1, 3)
    negative = (others < 0) != (np.take_along_axis(xyzw, which[:, None], 1) < 0)
    fields = np.minimum(np.floor(np.abs(others) / _HALF * 511 + 0.5), 511).astype(np.uint32) | negative.astype(np.uint32) << 9
    words = which.astype(np.uint32) << 30 | fields[:, 0] << 20 | fields[:, 1] << 10 | fields[:, 2]
    return words.astype("<u4").view(np.uint8).reshape(-1, 4)


def _pack_imaginary(quats: Floats) -> Bytes:
    """The imaginary parts of quaternions whose real part is positive, as versions 1 and 2 hold them."""
    return _byte((quats[:, 1:] * np.where(quats[:, :1] < 0, -1, 1) + 1) * 127.5)


def _byte(values: Floats) -> Bytes:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
