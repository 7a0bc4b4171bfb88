# SPDX-License-Identifier: GPL-3.0-or-later
"""gzip and Zstandard that never unpack more than they were told to expect.

Zstandard comes with Python from 3.14 on, and with Blender as the module `zstandard` before that.
"""

import importlib
import struct
import zlib
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...common.errors import BrokenFile, VivantError
from ...common.threads import in_blocks

Bytes = NDArray[np.uint8]
Pack = Callable[[memoryview], bytes]

GZIP = b"\x1f\x8b"
_GZIP_HEAD = GZIP + b"\x08\0\0\0\0\0\0\xff"  # deflate, no name, no time, made on no system in particular

_BLOCK, _SAMPLE = 4 << 20, 1 << 16
_WAYS = ((1, zlib.Z_HUFFMAN_ONLY), (4, zlib.Z_DEFAULT_STRATEGY), (6, zlib.Z_DEFAULT_STRATEGY))
_LEVELS = (1, 5, 12)


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


def gzipped(parts: Sequence[Any]) -> bytes:
    """A gzip stream of one member, packed by several threads a block each; parts are bytes or contiguous arrays.

    Each block is packed as its sample says: bytes of quantised numbers hardly repeat, and many are smallest, and packed
    in a twentieth of the time, where no repeats are looked for at all.
    """
    views = [memoryview(part).cast("B") for part in parts if memoryview(part).nbytes]
    blocks = [view[start : start + _BLOCK] for view in views for start in range(0, len(view), _BLOCK)]

    def deflate(block: slice) -> bytes:
        content = blocks[block.start]
        ways = [lambda data, way=way: _deflated(data, *way) for way in _WAYS]
        return _quickest(ways, content)(content)  # ends on a whole byte, so blocks may be joined

    packed = in_blocks(deflate, len(blocks), 1)
    last = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS).flush()
    check = 0
    for view in views:
        check = zlib.crc32(view, check)
    size = sum(map(len, views))
    return b"".join([_GZIP_HEAD, *packed, last, struct.pack("<II", check, size & 0xFFFFFFFF)])


def _deflated(data: memoryview, level: int, strategy: int) -> bytes:
    packer = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS, 9, strategy)
    return packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH)


def _quickest(ways: Sequence[Pack], content: memoryview) -> Pack:
    """The first of some ways to pack, quickest first, that packs a sample at most a fiftieth larger than the best does."""
    middle = max(0, len(content) - _SAMPLE) // 2
    sizes = [len(way(content[middle : middle + _SAMPLE])) for way in ways]
    return next(way for way, size in zip(ways, sizes, strict=True) if size <= 1.02 * min(sizes))


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


def zstded(parts: Sequence[Any]) -> list[bytes]:
    """A Zstandard frame that states its size for each part, bytes or a contiguous array, at the level its sample asks for.

    Raises VivantError where no module can pack them.
    """
    module: Any = _zstandard()

    def at(level: int) -> Pack:
        packer = module.ZstdCompressor(level=level)
        if module.__name__ == "zstandard":
            return lambda data: bytes(packer.compress(data))
        return lambda data: bytes(packer.compress(data, packer.FLUSH_FRAME))

    def pack(part: slice) -> bytes:
        content = memoryview(parts[part.start]).cast("B")
        return _quickest([at(level) for level in _LEVELS], content)(content)

    return in_blocks(pack, len(parts), 1)


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
