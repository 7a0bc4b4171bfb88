# SPDX-License-Identifier: GPL-3.0-or-later
"""OpenEXR files of several layers: 32-bit scan lines, ZIP compression (openexr.com, 'OpenEXR file layout')."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

_MAGIC, _VERSION, _LONG_NAMES = 20000630, 2, 0x400
_ZIP, _LINES = 3, 16  # the compression's number, and the scan lines it packs together
_FLOAT = 2


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


def _pack(raw: bytes) -> bytes:
    """ZIP as OpenEXR does it: even bytes before odd ones, differences, deflate; raw where that gains nothing."""
    values = np.frombuffer(raw, np.uint8)
    values = np.concatenate([values[::2], values[1::2]])
    values[1:] = values[1:] - values[:-1] + 128  # modulo 256
    packed = zlib.compress(values.tobytes())
    return packed if len(packed) < len(raw) else raw
