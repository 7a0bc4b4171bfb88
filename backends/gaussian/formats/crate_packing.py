# SPDX-License-Identifier: GPL-3.0-or-later
"""How USD's binary container packs its tables: a coding of integers by their differences, and LZ4 blocks around it.

Written are blocks of nothing but literals and differences of four bytes: our tables are short.
Source: OpenUSD, pxr/usd/usd/integerCoding.cpp and pxr/base/tf/fastCompression.cpp; the LZ4 block format.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from ...common.errors import BrokenFile
from .ply_header import Bytes


def broken(what: str) -> BrokenFile:
    """The error of a USD file that contradicts itself."""
    return BrokenFile(f"The USD file is damaged: {what}.", "Export or download it again.")


def unpack_lz4(packed: Bytes, most: int) -> bytes:
    """At most `most` bytes of LZ4 blocks as USD stores them: how many (0 is one without its length), length and block each.

    Raises BrokenFile for damaged ones.
    """
    if not len(packed):
        raise broken("a packed table is empty")
    chunks, data, out = int(packed[0]), packed[1:].tobytes(), bytearray()
    at = 0
    for _ in range(max(chunks, 1)):
        size = len(data) if not chunks else int.from_bytes(data[at : at + 4], "little")
        at += 4 if chunks else 0
        _unpack_block(data[at : at + size], out, most)
        at += size
    return bytes(out)


def _unpack_block(block: bytes, out: bytearray, most: int) -> None:
    """Literals and copies of what came before, in turn."""
    at, start = 0, len(out)
    try:
        while at < len(block):
            token = block[at]
            at += 1
            length = token >> 4
            if length == 15:
                while (more := block[at]) == 255:
                    length, at = length + 255, at + 1
                length, at = length + more, at + 1
            out += block[at : at + length]
            at += length
            if at >= len(block):
                break
            offset = block[at] | block[at + 1] << 8
            at += 2
            length = token & 15
            if length == 15:
                while (more := block[at]) == 255:
                    length, at = length + 255, at + 1
                length, at = length + more, at + 1
            length += 4
            if not 0 < offset <= len(out) - start or len(out) + length > most:
                raise broken("a packed table unpacks to nonsense")
            copy = out[-offset:] if offset >= length else out[-offset:] * (length // offset + 1)
            out += copy[:length]
    except IndexError:
        raise broken("a packed table ends too soon") from None
    if len(out) > most:
        raise broken("a packed table unpacks to more than it should")


def decode_integers(coded: bytes, count: int) -> NDArray[np.int32]:
    """`count` integers: the commonest difference, two bits each that say whether a difference is it or has 1, 2 or 4 bytes."""
    if not count:
        return np.empty(0, np.int32)
    data = np.frombuffer(coded, np.uint8)
    first = 4 + (count + 3) // 4
    if len(data) < first:
        raise broken("a table is shorter than it claims")
    codes = (data[4:first, None] >> np.array([0, 2, 4, 6], np.uint8) & 3).reshape(-1)[:count]
    widths = np.array([0, 1, 2, 4])[codes]
    ends = first + np.cumsum(widths)
    if ends[-1] > len(data):
        raise broken("a table is shorter than it claims")
    differences = np.full(count, data[:4].view("<i4")[0], np.int64)
    for code, kind in ((1, "i1"), (2, "<i2"), (3, "<i4")):
        chosen = codes == code
        width = np.dtype(kind).itemsize
        places = (ends[chosen] - width)[:, None] + np.arange(width)
        differences[chosen] = np.ascontiguousarray(data[places]).view(kind).reshape(-1)
    return np.cumsum(differences).astype(np.uint64).astype(np.uint32).view(np.int32)


def as_lz4(data: bytes) -> bytes:
    """One LZ4 block of nothing but literals."""
    length = len(data)
    more = bytes([255] * ((length - 15) // 255) + [(length - 15) % 255]) if length >= 15 else b""
    return bytes([0, min(length, 15) << 4]) + more + data


def sized(packed: bytes) -> bytes:
    return struct.pack("<Q", len(packed)) + packed


def encode_integers(values: Iterable[int]) -> bytes:
    """Packed integers, all differences with four bytes: the tables are short."""
    numbers = np.fromiter((value & 0xFFFFFFFF for value in values), np.uint32)
    differences = np.diff(numbers, prepend=np.uint32(0)).astype("<u4")
    return sized(as_lz4(bytes(4) + bytes([255] * ((len(numbers) + 3) // 4)) + differences.tobytes()))


def counted(values: Sequence[int]) -> bytes:
    return struct.pack("<Q", len(values)) + encode_integers(values)
