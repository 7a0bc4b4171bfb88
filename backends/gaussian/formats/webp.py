# SPDX-License-Identifier: GPL-3.0-or-later
"""Lossless WebP images as arrays of bytes: written and read with NumPy alone, read faster where Blender 5.2
or Pillow does it.

The encoder knows two of the format's means, prefix codes and the difference to the pixel on the left, and takes the
shorter of both; images of splats hold little else that repeats.
Source: RFC 9649, "WebP Image Format".
"""

from __future__ import annotations

import contextlib
import heapq
import importlib
import io
import itertools
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...common.errors import BrokenFile, UnsupportedFormat
from . import vp8l

Bytes = NDArray[np.uint8]
Words = NDArray[np.uint64]

_LONGEST_CODE = 15
_GREENS = 256 + 24
_BLOCK = 9  # logarithm of the largest block that a predictor may have


def decode(file: Bytes, most: int) -> Bytes:
    """RGBA (height, width, 4), as stored; raises BrokenFile for damaged images and for more than `most` pixels."""
    stream, canvas = None, None
    head = file[:12].tobytes()
    if head[:4] != b"RIFF" or head[8:] != b"WEBP":
        raise BrokenFile("An image in the file is no WebP.", "Export the file again.")
    at = 12
    while at + 8 <= len(file) and stream is None:
        kind, size = struct.unpack("<4sI", file[at : at + 8].tobytes())
        if kind in (b"VP8L", b"VP8 ", b"ANMF"):
            stream, canvas = file[at + 8 : at + 8 + size], kind
        at += 8 + size + size % 2
    if stream is None or canvas != b"VP8L":
        raise UnsupportedFormat(
            "A WebP image in the file is packed with losses, moves or is none.", "Export the file again, with lossless images."
        )
    word = int.from_bytes(stream[1:5].tobytes(), "little")
    if ((word & 16383) + 1) * ((word >> 14 & 16383) + 1) > most:
        raise BrokenFile("A WebP image in the file is larger than its content.", "Export the file again.")
    if library := _library():
        try:
            return library(file.tobytes())
        except (OSError, ValueError, SyntaxError) as error:
            raise BrokenFile("A WebP image in the file is damaged.", "Download the file again.") from error
    return vp8l.decode(stream, most)


def encode(pixels: Bytes) -> bytes:
    """A lossless file of RGBA (height, width, 4), at most 16,384 pixels a side; colours stay where alpha is 0."""
    height, width = pixels.shape[:2]
    plain = pixels.reshape(-1, 4)
    moved = pixels.copy()
    moved[:, 1:] -= pixels[:, :-1]
    moved[1:, 0] -= pixels[:-1, 0]
    moved[:1, :1, 3] += 1  # the pixel before the first is opaque black
    moved = moved.reshape(-1, 4)
    counts = [np.stack([np.bincount(channel, minlength=256) for channel in image.T]) for image in (plain, moved)]
    predicted = _entropy(counts[1]) < _entropy(counts[0])
    head = [(0x2F, 8), (width - 1, 14), (height - 1, 14), (1, 1), (0, 3)]
    if predicted:  # one mode, "left", for all blocks: an image that takes no bits
        head += [(1, 1), (0, 2), (_BLOCK - 2, 3), (0, 1), *_single(1), *_single(0) * 4]
    head += [(0, 1), (0, 1), (0, 1)]  # no more transforms, no cache, one group of codes
    codes = []
    for channel in (1, 0, 2, 3):
        lengths = _code_lengths(counts[predicted][channel])
        codes.append((_canonical(lengths), lengths.astype(np.uint64)))
        head += _described(lengths, _GREENS if channel == 1 else 256)
    head += _single(0)  # of distances, never used
    values, sizes = _packed(moved if predicted else plain, codes)
    stream = _joined(np.concatenate([_words(head)[0], values]), np.concatenate([_words(head)[1], sizes]))
    chunk = b"VP8L" + struct.pack("<I", len(stream)) + stream + bytes(len(stream) % 2)
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


def _library() -> Callable[[bytes], Bytes] | None:
    """What decodes a whole file faster, every pixel as stored: Blender's images from 5.2 on, or Pillow."""
    with contextlib.suppress(ImportError):
        imbuf: Any = importlib.import_module("imbuf")
        if hasattr(imbuf.types.ImBuf, "with_buffer"):

            def by_blender(file: bytes) -> Bytes:
                with imbuf.load_from_buffer(file).with_buffer() as rows:
                    return np.array(rows)[::-1]

            return by_blender
    with contextlib.suppress(ImportError):
        pillow: Any = importlib.import_module("PIL.Image")

        def by_pillow(file: bytes) -> Bytes:
            with pillow.open(io.BytesIO(file), formats=["WEBP"]) as image:
                return np.asarray(image.convert("RGBA"))

        return by_pillow
    return None


def _entropy(counts: NDArray[np.int64]) -> float:
    """Bits that the best codes would need."""
    return float((counts.sum(axis=1) * np.log2(counts.sum(axis=1))).sum() - (counts * np.log2(np.maximum(counts, 1))).sum())


def _code_lengths(counts: NDArray[np.int64]) -> Bytes:
    """Huffman's lengths; counts are evened out until none is too long."""
    lengths = np.zeros(len(counts), np.uint8)
    used = np.flatnonzero(counts)
    weights = counts[used]
    while len(used) > 1:
        order = itertools.count(len(used))
        heap = [(int(weight), i) for i, weight in enumerate(weights)]
        heapq.heapify(heap)
        parents: dict[int, int] = {}
        while len(heap) > 1:
            (a, first), (b, second) = heapq.heappop(heap), heapq.heappop(heap)
            parents[first] = parents[second] = node = next(order)
            heapq.heappush(heap, (a + b, node))
        depths = {heap[0][1]: 0}
        for node in sorted(parents, reverse=True):  # parents have larger numbers than their children
            depths[node] = depths[parents[node]] + 1
        lengths[used] = [depths[i] for i in range(len(used))]
        if lengths.max() <= _LONGEST_CODE:
            break
        weights = (weights + 1) // 2
    else:
        lengths[used] = 1
    return lengths


def _canonical(lengths: Bytes) -> Words:
    """The codes of those lengths, in the order in which their bits are written."""
    codes = np.zeros(len(lengths), np.uint64)
    used = np.flatnonzero(lengths)
    code = last = 0
    for symbol in sorted(used.tolist(), key=lambda symbol: (lengths[symbol], symbol)):
        length = int(lengths[symbol])
        code <<= length - last
        codes[symbol] = int(f"{code:0{length}b}"[::-1], 2)
        code, last = code + 1, length
    return codes if len(used) > 1 else np.zeros_like(codes)


def _single(symbol: int) -> list[tuple[int, int]]:
    """A code of one symbol, which takes no bits: numbers and their bits."""
    return [(1, 1), (0, 1), (1, 1), (symbol, 8)]


def _described(lengths: Bytes, size: int) -> list[tuple[int, int]]:
    """A code as the file describes it: its symbol if there is one, else the length of every symbol's code in four bits."""
    used = np.flatnonzero(lengths)
    if len(used) == 1:
        return _single(int(used[0]))
    head = [(0, 1), (15, 4)] + [(0 if symbol > 15 else 4, 3) for symbol in vp8l.LENGTH_ORDER] + [(0, 1)]
    reverse = [int(f"{length:04b}"[::-1], 2) for length in range(16)]
    return head + [(reverse[length], 4) for length in lengths.tolist()] + [(0, 4)] * (size - len(lengths))


def _packed(pixels: Bytes, codes: list[tuple[Words, Words]]) -> tuple[Words, Words]:
    """The four codes of every pixel as one number of at most 60 bits, and how many."""
    values, sizes = np.zeros(len(pixels), np.uint64), np.zeros(len(pixels), np.uint64)
    for channel, (code, lengths) in zip((1, 0, 2, 3), codes, strict=True):
        values |= code[pixels[:, channel]] << sizes
        sizes += lengths[pixels[:, channel]] if np.count_nonzero(lengths) > 1 else np.uint64(0)
    return values, sizes


def _words(numbers: list[tuple[int, int]]) -> tuple[Words, Words]:
    table = np.array(numbers, np.uint64)
    return table[:, 0], table[:, 1]


def _joined(values: Words, sizes: Words) -> bytes:
    """Numbers of so many bits one after the other, lowest bit first."""
    ends = np.cumsum(sizes)
    starts = ends - sizes
    words = np.zeros(int(ends[-1]) // 64 + 2, np.uint64)
    at, shift = (starts >> np.uint64(6)).astype(np.int64), starts & np.uint64(63)
    np.add.at(words, at, values << shift)  # no bit is set twice, so that sums are unions
    np.add.at(words, at + 1, values >> np.uint64(1) >> (np.uint64(63) - shift))
    return words.astype("<u8").tobytes()[: -(-int(ends[-1]) // 8)]
