# SPDX-License-Identifier: GPL-3.0-or-later
"""gzip and Zstandard that never unpack more than they were told to expect.

Zstandard comes with Python from 3.14 on, and with Blender as the module `zstandard` before that.
"""

import importlib
import struct
import zlib
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...common.errors import BrokenFile, VivantError
from ...common.threads import in_blocks

Bytes = NDArray[np.uint8]

GZIP = b"\x1f\x8b"
_GZIP_HEAD = GZIP + b"\x08\0\0\0\0\0\0\xff"  # deflate, no name, no time, made on no system in particular


def most_unpacked(packed: int) -> int:
    """Bytes that `packed` bytes of splats may unpack to: real ones pack to a half, a bomb to a thousandth."""
    return 8 * packed + (12 << 20)


def check_expansion(unpacked: int, packed: int) -> None:
    """Raise BrokenFile when that many bytes cannot have come from so small a file."""
    if unpacked > most_unpacked(packed):
        raise BrokenFile(
            f"The file of {packed:,} bytes claims to unpack to {unpacked:,}, which no real capture does.",
            "It is damaged or made to exhaust memory; get it again from a source that you trust.",
        )


def gunzip(data: Bytes, most: int) -> Bytes:
    """At most `most` unpacked bytes; whatever follows the stream is ignored."""
    try:
        return np.frombuffer(zlib.decompressobj(31).decompress(data, most), np.uint8)
    except zlib.error as error:
        raise BrokenFile("The gzip stream in the file is damaged.", "Download the file again.") from error


def gzipped(data: bytes) -> bytes:
    """A gzip stream of one member, packed by several threads a block each."""
    view = memoryview(data)

    def deflate(rows: slice) -> bytes:
        packer = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
        return packer.compress(view[rows]) + packer.flush(zlib.Z_SYNC_FLUSH)  # ends on a whole byte, so blocks may be joined

    blocks = in_blocks(deflate, len(data), 1 << 20)
    last = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS).flush()
    return b"".join([_GZIP_HEAD, *blocks, last, struct.pack("<II", zlib.crc32(data), len(data) & 0xFFFFFFFF)])


def unzstd(frame: Bytes, size: int) -> bytes:
    """One Zstandard frame of exactly `size` unpacked bytes.

    Raises BrokenFile for damaged frames and for other sizes, VivantError where no module can unpack them.
    """
    module = _zstandard()
    # a frame may ask for a window far larger than its content; libzstd refuses beyond this
    window = min(max((max(size, 1) - 1).bit_length(), 23), 31)
    try:
        unpacked = _unpack(module, frame.tobytes(), size, window)
    except (module.ZstdError, MemoryError) as error:
        raise BrokenFile("A Zstandard stream in the file is damaged.", "Download the file again.") from error
    if len(unpacked) != size:
        raise BrokenFile("A Zstandard stream in the file has another length than it claims.", "Download the file again.")
    return unpacked


def zstded(data: bytes) -> bytes:
    """One Zstandard frame that states its size; raises VivantError where no module can pack it."""
    module: Any = _zstandard()
    packer = module.ZstdCompressor(level=12)
    return bytes(packer.compress(data) if module.__name__ == "zstandard" else packer.compress(data, packer.FLUSH_FRAME))


def can_zstd() -> bool:
    """Whether a module is there that packs and unpacks Zstandard."""
    try:
        _zstandard()
    except VivantError:
        return False
    return True


def _unpack(module: Any, frame: bytes, size: int, window: int) -> bytes:
    if module.__name__ == "zstandard":
        with module.ZstdDecompressor(max_window_size=1 << window).stream_reader(frame) as reader:
            return reader.read(size + 1)
    options = {module.DecompressionParameter.window_log_max: window}
    return module.ZstdDecompressor(options=options).decompress(frame, max_length=size + 1)


def _zstandard() -> ModuleType:
    for name in ("compression.zstd", "zstandard"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise VivantError(
        "SPZ of version 4 is packed with Zstandard, which this Python does not have.",
        "Use Blender's own Python or Python 3.14, install the package 'zstandard', or save the file as SPZ version 3.",
    )
