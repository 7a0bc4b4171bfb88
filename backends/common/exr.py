# SPDX-License-Identifier: GPL-3.0-or-later
"""OpenEXR files of several layers: scan lines in one part, 32-bit out, ZIP compression (openexr.com, 'OpenEXR file layout')."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from .errors import BrokenFile, UnsupportedFormat

_MAGIC, _VERSION, _LONG_NAMES = 20000630, 2, 0x400
_ZIP, _LINES = 3, 16  # the compression's number, and the scan lines it packs together
_FLOAT = 2
_OTHER_KINDS = 0x200 | 0x800 | 0x1000  # tiles, deep pixels, several parts
_PACKED_LINES = {0: 1, 2: 1, 3: 16}  # none, ZIP of single lines, ZIP
_TYPES = {0: "<u4", 1: "<f2", 2: "<f4"}
_MOST = 1 << 31  # bytes of all pixels


def encode(channels: Mapping[str, NDArray[np.floating]]) -> bytes:
    """A file of float32 channels (H, W), rows from the top, by full name: 'Layer.Pass.Channel'."""
    names = sorted(channels)
    planes = np.stack([np.asarray(channels[name], "<f4") for name in names], axis=1)  # (H, channels, W), as a file holds them
    height, _, width = planes.shape
    window = struct.pack("<4i", 0, 0, width - 1, height - 1)
    listed = b"".join(name.encode() + b"\0" + struct.pack("<iB3xii", _FLOAT, 0, 1, 1) for name in names) + b"\0"
    attributes = {
        ("channels", "chlist"): listed,
        ("compression", "compression"): bytes([_ZIP]),
        ("dataWindow", "box2i"): window,
        ("displayWindow", "box2i"): window,
        ("lineOrder", "lineOrder"): b"\0",
        ("pixelAspectRatio", "float"): struct.pack("<f", 1),
        ("screenWindowCenter", "v2f"): struct.pack("<2f", 0, 0),
        ("screenWindowWidth", "float"): struct.pack("<f", 1),
    }
    header = struct.pack("<2i", _MAGIC, _VERSION | _LONG_NAMES)
    for (name, kind), value in attributes.items():
        header += f"{name}\0{kind}\0".encode() + struct.pack("<i", len(value)) + value
    header += b"\0"

    chunks = []
    for first in range(0, height, _LINES):
        packed = _pack(planes[first : first + _LINES].tobytes())
        chunks.append(struct.pack("<2i", first, len(packed)) + packed)
    ends = len(header) + 8 * len(chunks) + np.cumsum([0, *map(len, chunks)])
    return header + ends[:-1].astype("<u8").tobytes() + b"".join(chunks)


def decode(data: bytes, name: str = "picture.exr") -> dict[str, NDArray[np.float32]]:
    """Channels (H, W) by full name, rows from the top.

    Raises UnsupportedFormat for tiles, several parts, sampled channels and other compressions than ZIP; BrokenFile for damage.
    """
    try:
        return _decode(data, name)
    except (struct.error, IndexError, ValueError, zlib.error) as error:
        raise BrokenFile(f"'{name}' is damaged or cut off.", "Render or export it again.") from error


def _decode(data: bytes, name: str) -> dict[str, NDArray[np.float32]]:
    magic, version = struct.unpack_from("<2i", data)
    if magic != _MAGIC:
        raise BrokenFile(f"'{name}' is no OpenEXR picture.", "Render or export it again.")
    attributes, at = {}, 8
    while data[at]:
        key, form = data[at : at + 600].split(b"\0", 2)[:2]
        at += len(key) + len(form) + 2
        (size,) = struct.unpack_from("<I", data, at)
        attributes[key.decode()] = data[at + 4 : at + 4 + size]
        at += 4 + size
    at += 1
    compression = attributes.get("compression", b"\xff")[0]
    channels = _channels(attributes.get("channels", b"\0"))
    if version & _OTHER_KINDS or compression not in _PACKED_LINES or any(sampling != (1, 1) for _, _, sampling in channels):
        raise UnsupportedFormat(f"'{name}' is an OpenEXR picture of a kind that Vivant does not read.", "Save scan lines, ZIP.")
    left, top, right, bottom = struct.unpack("<4i", attributes.get("dataWindow", b""))
    width, height = right - left + 1, bottom - top + 1
    line = sum(np.dtype(_TYPES[kind]).itemsize for _, kind, _ in channels) * width
    if width < 1 or height < 1 or line * height > min(_MOST, 1100 * len(data)):  # deflate packs to a 1032nd at most
        raise BrokenFile(f"'{name}' is damaged: it says it has {width} x {height} pixels.", "Render or export it again.")
    found = {title: np.zeros((height, width), np.float32) for title, _, _ in channels}
    lines = _PACKED_LINES[compression]
    for start in struct.unpack_from(f"<{-(-height // lines)}Q", data, at):
        first, size = struct.unpack_from("<iI", data, start)
        rows = min(lines, bottom + 1 - first)
        raw = data[start + 8 : start + 8 + size]
        if len(raw) < line * rows:
            raw = _unpack(raw, line * rows)
        place = 0
        for row in range(first - top, first - top + rows):
            for title, kind, _ in channels:
                found[title][row] = np.frombuffer(raw, _TYPES[kind], width, place)
                place += width * np.dtype(_TYPES[kind]).itemsize
    return found


def _channels(listed: bytes) -> list[tuple[str, int, tuple[int, int]]]:
    """Name, type and sampling of each channel, in the order of the file."""
    found = []
    while len(listed) > 1:
        title, rest = listed.split(b"\0", 1)
        kind, across, down = struct.unpack_from("<i4x2i", rest)
        if kind not in _TYPES:
            raise ValueError(kind)
        found.append((title.decode(), kind, (across, down)))
        listed = rest[16:]
    return found


def _unpack(packed: bytes, size: int) -> bytes:
    values = np.frombuffer(zlib.decompressobj().decompress(packed, size), np.uint8)
    if len(values) != size:
        raise ValueError(size)
    values = np.cumsum(values.astype(np.int64) - np.concatenate([[0], np.full(size - 1, 128)]))
    half = (size + 1) // 2
    mixed = np.empty(size, np.uint8)
    mixed[::2], mixed[1::2] = values[:half] & 255, values[half:] & 255
    return mixed.tobytes()


def _pack(raw: bytes) -> bytes:
    """ZIP as OpenEXR does it: even bytes before odd ones, differences, deflate; raw where that gains nothing."""
    values = np.frombuffer(raw, np.uint8)
    values = np.concatenate([values[::2], values[1::2]])
    values[1:] = values[1:] - values[:-1] + 128  # modulo 256
    packed = zlib.compress(values.tobytes())
    return packed if len(packed) < len(raw) else raw
