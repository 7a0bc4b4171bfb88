# SPDX-License-Identifier: GPL-3.0-or-later
"""gzip and Zstandard that never unpack more than they were told to expect; lists of zip archives that are too long.

Zstandard comes with Python from 3.14 on, and with Blender as the module `zstandard` before that.
"""

import importlib
import struct
import threading
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

LARGEST_DIRECTORY = 8 << 20
"""Bytes of a zip archive's list of files; a hundred thousand frames need less."""
TAIL = (1 << 16) + 100
"""Bytes at the end of a zip archive that say how long its list is."""
_END, _END_64 = b"PK\x05\x06", b"PK\x06\x07"

_BLOCK, _SAMPLE, _SLICE = 4 << 20, 1 << 16, 1 << 17
_WAYS = ((1, zlib.Z_HUFFMAN_ONLY), (4, zlib.Z_DEFAULT_STRATEGY), (6, zlib.Z_DEFAULT_STRATEGY))
_LEVELS, _LEVELS_SAMPLE = (1, 5, 12), 1 << 20  # of a smaller sample, the slow level promises what it does not keep


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


def check_directory(tail: bytes) -> None:
    """Raise BrokenFile where the list of a zip archive, told by its last TAIL bytes, is too long, before anybody reads it."""
    end = tail.rfind(_END)
    claims = [int.from_bytes(tail[end + 12 : end + 16], "little")] if end >= 0 else []
    if (large := tail.rfind(_END_64, 0, max(end, 0))) >= 56:  # the record of 56 bytes before it counts instead
        claims.append(int.from_bytes(tail[large - 56 + 40 : large - 56 + 48], "little"))
    if any(claim > LARGEST_DIRECTORY for claim in claims):
        raise BrokenFile("The zip archive lists more files than any capture has.", "Get it from a source that you trust.")


def gunzip(data: Bytes, most: int) -> Bytes:
    """At most `most` unpacked bytes; whatever follows the stream is ignored."""
    begin = data[: max(4 * most, _SLICE)]  # zlib copies all that it leaves, which would be the file to see how it begins
    try:
        return np.frombuffer(zlib.decompressobj(31).decompress(begin, most), np.uint8)
    except zlib.error as error:
        raise BrokenFile("The gzip stream in the file is damaged.", "Download the file again.") from error


class Unpacking:
    """A gzip stream that a thread of its own unpacks into `content`: its beginning can be used before its end is there.

    At most `size` bytes are unpacked; whatever follows them or the stream is ignored.
    """

    def __init__(self, data: Bytes, size: int) -> None:
        self.content = np.empty(size, np.uint8)
        self._filled, self._ended, self._more = 0, False, threading.Condition()
        self._error: Exception | None = None
        threading.Thread(target=self._unpack, args=(data,), daemon=True).start()

    def until(self, end: int) -> int:
        """How many bytes are there, as soon as `end` are or there are no more; raises BrokenFile for damaged streams."""
        with self._more:
            self._more.wait_for(lambda: self._ended or self._filled >= end)
        if self._filled < end and self._error:
            raise BrokenFile("The gzip stream in the file is damaged.", "Download the file again.") from self._error
        return self._filled

    def _unpack(self, data: Bytes) -> None:
        stream, size = zlib.decompressobj(31), len(self.content)
        try:
            for start in range(0, len(data), _SLICE):
                found = stream.decompress(data[start : start + _SLICE], size - self._filled)
                self.content[self._filled : self._filled + len(found)] = np.frombuffer(found, np.uint8)
                with self._more:
                    self._filled += len(found)
                    self._more.notify_all()
                if stream.eof or self._filled == size:
                    break
        except (zlib.error, MemoryError) as error:
            self._error = error
        finally:
            with self._more:
                self._ended = True
                self._more.notify_all()


def gzipped(parts: Sequence[Any]) -> bytes:
    """A gzip stream of one member, packed by several threads a block each; parts are bytes or contiguous arrays.

    Each part is packed as its sample says: bytes of quantised numbers hardly repeat, and many are smallest, and packed
    in a twentieth of the time, where no repeats are looked for at all.
    """
    views = [memoryview(part).cast("B") for part in parts if memoryview(part).nbytes]
    ways = [lambda data, way=way: _deflated(data, *way) for way in _WAYS]
    chosen = in_blocks(lambda turn: _quickest(ways, views[turn.start], _SAMPLE), len(views), 1)
    blocks = [
        (way, view[start : start + _BLOCK])
        for way, view in zip(chosen, views, strict=True)
        for start in range(0, len(view), _BLOCK)
    ]

    def deflate(turn: slice) -> bytes:
        way, content = blocks[turn.start]
        return way(content)  # ends on a whole byte, so blocks may be joined

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


def _quickest(ways: Sequence[Pack], content: memoryview, sample: int) -> Pack:
    """The first of some ways to pack, quickest first, that packs a sample at most a fiftieth larger than the best does."""
    middle = max(0, len(content) - sample) // 2
    sizes = [len(way(content[middle : middle + sample])) for way in ways]
    return next(way for way, size in zip(ways, sizes, strict=True) if size <= 1.02 * min(sizes))


def unzstd(frame: Bytes, size: int) -> Bytes:
    """One Zstandard frame of exactly `size` unpacked bytes.

    Raises BrokenFile for damaged frames and for other sizes, VivantError where no module can unpack them.
    """
    module = _zstandard()
    # a frame may ask for a window far larger than its content; libzstd refuses beyond this
    window = min(max((max(size, 1) - 1).bit_length(), 23), 31)
    try:
        unpacked = _unpack(module, frame, size, window)
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

    def pack(turn: slice) -> bytes:
        content = memoryview(parts[-1 - turn.start]).cast("B")  # the last is the largest of SPZ, and begins first
        return _quickest([at(level) for level in _LEVELS], content, _LEVELS_SAMPLE)(content)

    return in_blocks(pack, len(parts), 1)[::-1]


def can_zstd() -> bool:
    """Whether a module is there that packs and unpacks Zstandard."""
    try:
        _zstandard()
    except VivantError:
        return False
    return True


def _unpack(module: Any, frame: Bytes, size: int, window: int) -> Bytes:
    """What a frame holds, at most a byte more than `size`."""
    if module.__name__ == "zstandard":
        unpacked, filled = np.empty(size + 1, np.uint8), 0
        with module.ZstdDecompressor(max_window_size=1 << window).stream_reader(frame) as reader:
            while filled <= size and (found := reader.readinto(memoryview(unpacked)[filled:])):
                filled += found
        return unpacked[:filled]
    options = {module.DecompressionParameter.window_log_max: window}
    return np.frombuffer(module.ZstdDecompressor(options=options).decompress(frame, max_length=size + 1), np.uint8)


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
