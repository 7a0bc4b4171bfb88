# SPDX-License-Identifier: GPL-3.0-or-later
"""VP8L, the lossless bitstream of WebP, decoded with NumPy alone; every pixel as it was stored, alpha or not.

Codes are read one pixel after the other, which is all that Python does by itself; the transforms are undone on whole
images, the predictor on the diagonals whose pixels do not depend on each other.
Source: Google, "Specification for WebP Lossless Bitstream", RFC 9649.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray

from ...common.errors import BrokenFile
from . import vp8l_transforms

Bytes = NDArray[np.uint8]
Pixels = NDArray[np.uint32]

_LITERALS, _LENGTHS, _DISTANCES = 256, 24, 40
LENGTH_ORDER = [17, 18, 0, 1, 2, 3, 4, 5, 16, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]
_HASH = 0x1E35A7BD
_CHUNK = 1 << 16
_MOST_GROUPS, _GROUPS_AT_HAND = 1 << 13, 128

# the 120 nearest pixels, columns to the left and rows up: the nearest first, then the least far to a side, then the left one
_NEAR = sorted(
    ((x, y) for y in range(8) for x in range(-7, 9) if y or x > 0),
    key=lambda at: (at[0] ** 2 + at[1] ** 2, abs(at[0]), at[0] < 0),
)


class _Bits:
    """Bits of a stream, lowest first; past the end they are zero until `check` says so."""

    def __init__(self, data: Bytes) -> None:
        self.data = np.concatenate([data, np.zeros(16, np.uint8)])
        self.end = 8 * len(data)
        self.at = 0

    def read(self, count: int) -> int:
        first = min(self.at >> 3, len(self.data) - 8)
        word = int.from_bytes(self.data[first : first + 8].tobytes(), "little") >> (self.at & 7)
        self.at += count
        self.check()
        return word & ((1 << count) - 1)

    def check(self) -> None:
        if self.at > self.end:
            raise BrokenFile("A WebP image in the file is cut off.", "Download the file again.")

    def windows(self, first: int) -> list[int]:
        """The eight bytes from each of a chunk's bytes on, as one number each."""
        part = self.data[first : first + _CHUNK + 7]
        return np.lib.stride_tricks.sliding_window_view(part, 8).copy().view("<u8")[:, 0].tolist() if len(part) > 7 else [0]


@dataclass(frozen=True)
class _Code:
    """A prefix code as a table over the next bits: 16 x symbol + bits that it takes."""

    table: array[int]
    mask: int

    @property
    def only(self) -> int:
        """The one symbol of a code that takes no bits, -1 for others."""
        return self.table[0] >> 4 if not self.table[0] & 15 else -1


def decode(data: Bytes, most: int) -> Bytes:
    """RGBA (height, width, 4) of a VP8L stream of at most `most` pixels; raises BrokenFile for damaged or larger ones."""
    bits = _Bits(data)
    if bits.read(8) != 0x2F:
        raise BrokenFile("A WebP image in the file has no lossless stream.", "Export the file again.")
    width, height = bits.read(14) + 1, bits.read(14) + 1
    bits.read(4)  # whether alpha is used, a hint; the version
    if width * height > most:
        raise BrokenFile(f"A WebP image of {width} x {height} pixels is larger than its content.", "Export the file again.")
    undo: list[Callable[[Pixels], Pixels]] = []
    seen, columns = set(), width
    while bits.read(1):
        kind = bits.read(2)
        if kind in seen:
            raise BrokenFile("A WebP image in the file is transformed twice.", "Export the file again.")
        seen.add(kind)
        step, columns = _transform(bits, kind, columns, height)
        undo.append(step)
    pixels = _image(bits, columns, height, main=True).reshape(height, columns)
    for step in reversed(undo):
        pixels = step(pixels)
    bgra = np.ascontiguousarray(pixels, "<u4").view(np.uint8).reshape(height, width, 4)
    return bgra[..., [2, 1, 0, 3]]


def _transform(bits: _Bits, kind: int, columns: int, rows: int) -> tuple[Callable[[Pixels], Pixels], int]:
    """What undoes a transform, and how many columns the image has before it is undone."""
    if kind == 2:
        return vp8l_transforms.add_green, columns
    if kind == 3:
        size = bits.read(8) + 1
        table = vp8l_transforms.cumulative(_image(bits, size, 1))
        packing = 3 if size <= 2 else 2 if size <= 4 else 1 if size <= 16 else 0
        return lambda pixels: vp8l_transforms.look_up(pixels, table, packing, columns), -(-columns >> packing)
    shift = bits.read(3) + 2
    shape = -(-rows >> shift), -(-columns >> shift)
    blocks = _image(bits, shape[1], shape[0]).reshape(shape)
    undo = vp8l_transforms.unpredict if kind == 0 else vp8l_transforms.add_colours
    return lambda pixels: undo(pixels, blocks, shift), columns


def _image(bits: _Bits, columns: int, rows: int, main: bool = False) -> Pixels:
    """The pixels of an image, ARGB in one number each; the main one may have several groups of codes."""
    cache_bits = bits.read(4) if bits.read(1) else 0
    if cache_bits > 11:
        raise BrokenFile("A WebP image in the file has too large a cache.", "Download the file again.")
    blocks, shift = np.zeros((1, 1), np.int64), 14
    if main and bits.read(1):
        shift = bits.read(3) + 2
        shape = -(-rows >> shift), -(-columns >> shift)
        blocks = (_image(bits, shape[1], shape[0]).reshape(shape) >> np.uint32(8) & np.uint32(0xFFFF)).astype(np.int64)
    count = int(blocks.max()) + 1
    if count > min(_MOST_GROUPS, bits.end // 5):
        raise BrokenFile("A WebP image in the file has more codes than sense.", "Download the file again.")
    green = _LITERALS + _LENGTHS + (1 << cache_bits if cache_bits else 0)
    groups = [[_read_lengths(bits, size) for size in (green, 256, 256, 256, _DISTANCES)] for _ in range(count)]
    return np.frombuffer(_read_pixels(bits, groups, blocks, shift, columns, rows, cache_bits), np.uint32)


def _read_lengths(bits: _Bits, size: int) -> Bytes:
    """How many bits each symbol's code takes; 0 for symbols without one."""
    lengths = np.zeros(size, np.uint8)
    if bits.read(1):  # one or two symbols, named
        two = bits.read(1)
        symbols = [bits.read(8 if bits.read(1) else 1)] + ([bits.read(8)] if two else [])
        if max(symbols) >= size:
            raise BrokenFile("A WebP image in the file has a code of unknown symbols.", "Download the file again.")
        lengths[symbols] = 1
        return lengths
    of_lengths = np.zeros(19, np.uint8)
    count = 4 + bits.read(4)
    for symbol in LENGTH_ORDER[:count]:
        of_lengths[symbol] = bits.read(3)
    code = _code(of_lengths)
    left = 2 + bits.read(2 + 2 * bits.read(3)) if bits.read(1) else size
    at, last = 0, 8
    while at < size and left:
        left -= 1
        entry = code.table[int.from_bytes(bits.data[bits.at >> 3 :][:4].tobytes(), "little") >> (bits.at & 7) & code.mask]
        bits.read(entry & 15)
        symbol, times = entry >> 4, 1
        if symbol < 16:
            length = symbol
            last = symbol or last
        else:
            length = last if symbol == 16 else 0
            times = 3 + bits.read(2) if symbol == 16 else 3 + bits.read(3) if symbol == 17 else 11 + bits.read(7)
        if at + times > size:
            raise BrokenFile("A WebP image in the file has a code that is too long.", "Download the file again.")
        lengths[at : at + times] = length
        at += times
    return lengths


def _code(lengths: Bytes) -> _Code:
    """The canonical prefix code of those lengths; raises BrokenFile where bits would be left without meaning."""
    symbols = np.flatnonzero(lengths)
    if len(symbols) == 1:
        return _Code(array("H", [int(symbols[0]) << 4]), 0)
    used = lengths[symbols].astype(np.int64)
    longest = int(used.max(initial=0))
    if not longest or int((1 << longest - used).sum()) != 1 << longest:
        raise BrokenFile("A WebP image in the file has a code that is not whole.", "Download the file again.")
    order = np.argsort(used, kind="stable")
    by_code = np.repeat(symbols[order] << 4 | used[order], 1 << longest - used[order])  # highest bit first
    return _Code(array("H", by_code[_reversed(longest)].astype(np.uint16).tobytes()), (1 << longest) - 1)


@cache
def _reversed(bits: int) -> NDArray[np.int64]:
    """All numbers of so many bits with their bits the other way round."""
    numbers = np.arange(1 << bits)
    return sum(((numbers >> bit & 1) << bits - 1 - bit for bit in range(bits)), np.zeros_like(numbers))


def _read_pixels(
    bits: _Bits, lengths: list[list[Bytes]], blocks: NDArray[np.int64], shift: int, columns: int, rows: int, cache_bits: int
) -> array[int]:
    """The loop over the pixels: literals, stretches copied from before, and colours seen lately."""
    count = columns * rows
    out = array("I", bytes(4 * count))
    codes = lru_cache(_GROUPS_AT_HAND)(lambda group: [_code(of_symbols) for of_symbols in lengths[group]])
    recent, cached, cache_shift = [0] * (1 << cache_bits), 0, 32 - cache_bits
    window, base, at = bits.windows(bits.at >> 3), bits.at >> 3, bits.at
    last = len(window) - 9
    i = 0
    while i < count:
        y, x = divmod(i, columns)
        greens, reds, blues, alphas, distances = codes(int(blocks[y >> shift, x >> shift]))
        stop = count if len(lengths) == 1 else min(columns, ((x >> shift) + 1) << shift) - x + i
        if greens.only < _LITERALS and min(code.only for code in (greens, reds, blues, alphas)) >= 0:
            pixel = alphas.only << 24 | reds.only << 16 | greens.only << 8 | blues.only
            out[i:stop] = array("I", [pixel]) * (stop - i)
            i = stop
            continue
        green_table, green_mask = greens.table, greens.mask
        red_table, red_mask = reds.table, reds.mask
        blue_table, blue_mask = blues.table, blues.mask
        alpha_table, alpha_mask = alphas.table, alphas.mask
        while i < stop:
            index = (at >> 3) - base
            if index > last:
                if at > bits.end:
                    bits.at = at
                    bits.check()
                base += index
                window, index = bits.windows(base), 0
                last = len(window) - 9
            word = window[index] >> (at & 7)
            entry = green_table[word & green_mask]
            used = entry & 15
            if entry < 4096:  # a literal
                red = red_table[word >> used & red_mask]
                used += red & 15
                blue = blue_table[word >> used & blue_mask]
                used += blue & 15
                if used > 42:  # what is left of the word may be too short
                    at += used
                    word, used = window[(at >> 3) - base] >> (at & 7), 0
                alpha = alpha_table[word >> used & alpha_mask]
                at += used + (alpha & 15)
                out[i] = (alpha >> 4) << 24 | (red >> 4) << 16 | (entry >> 4) << 8 | blue >> 4
                i += 1
                continue
            symbol = (entry >> 4) - _LITERALS
            if symbol >= _LENGTHS:
                at += used
                while cached < i:  # colours enter the cache no sooner than it is asked
                    pixel = out[cached]
                    recent[(_HASH * pixel & 0xFFFFFFFF) >> cache_shift] = pixel
                    cached += 1
                out[i] = recent[symbol - _LENGTHS]
                i += 1
                continue
            bits.at = at + used
            length = _spread(bits, symbol)
            word = int.from_bytes(bits.data[bits.at >> 3 :][:4].tobytes(), "little") >> (bits.at & 7)
            entry = distances.table[word & distances.mask]
            bits.at += entry & 15
            distance = _spread(bits, entry >> 4)
            at = bits.at
            if distance > len(_NEAR):
                distance -= len(_NEAR)
            else:
                left, up = _NEAR[distance - 1]
                distance = max(left + up * columns, 1)
            if distance > i or i + length > count:
                raise BrokenFile("A WebP image in the file repeats pixels that it does not have.", "Download the file again.")
            if distance >= length:
                out[i : i + length] = out[i - distance : i - distance + length]
            else:
                pattern = out[i - distance : i]
                out[i : i + length] = (pattern * (length // distance + 1))[:length]
            i += length
    bits.at = at
    bits.check()
    return out


def _spread(bits: _Bits, symbol: int) -> int:
    """A length or distance: a few bits that follow its symbol tell it from its neighbours."""
    if symbol < 4:
        return symbol + 1
    extra = symbol - 2 >> 1
    return ((2 + (symbol & 1)) << extra) + bits.read(extra) + 1
