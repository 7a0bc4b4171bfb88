# SPDX-License-Identifier: GPL-3.0-or-later
"""The transforms of VP8L undone on whole images: green's share, colours' shares, tables of colours, prediction.

Source: RFC 9649, section 4.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Pixels = NDArray[np.uint32]
Ints = NDArray[np.int16]


def _channels(pixels: Pixels) -> Bytes:
    """Blue, green, red and alpha (…, 4) of ARGB numbers, in the same memory."""
    return np.ascontiguousarray(pixels, "<u4").view(np.uint8).reshape(*pixels.shape, 4)


def cumulative(table: Pixels) -> Pixels:
    """A table of colours from the steps between them."""
    return np.cumsum(_channels(table), axis=0, dtype=np.uint8).view("<u4")[:, 0]


def look_up(pixels: Pixels, table: Pixels, packing: int, columns: int) -> Pixels:
    """Colours of a table, several of whose indices may share one pixel's green."""
    width = 8 >> packing
    indices = pixels >> np.uint32(8) & np.uint32(255)
    if packing:
        shifts = np.arange(0, 8, width, dtype=np.uint32)
        indices = (indices[..., None] >> shifts & np.uint32((1 << width) - 1)).reshape(len(pixels), -1)[:, :columns]
    table = np.concatenate([table, np.zeros(256 - len(table), np.uint32)])
    return table[indices]


def add_green(pixels: Pixels) -> Pixels:
    """Red and blue put right by the green that was taken from them."""
    channels = _channels(pixels).copy()
    channels[..., [0, 2]] += channels[..., 1:2]
    return channels.view("<u4")[..., 0]


def add_colours(pixels: Pixels, blocks: Pixels, shift: int) -> Pixels:
    """Red and blue put right by what each block says of green's and red's share in them."""
    channels = _channels(pixels).copy()
    rows, columns = (np.arange(size) >> shift for size in pixels.shape)
    for row in range(0, len(pixels), 1 << shift):  # the rows of one row of blocks
        part = channels[row : row + (1 << shift)]
        green_to_red, green_to_blue, red_to_blue = np.moveaxis(_channels(blocks[rows[row]])[columns, :3].view(np.int8), -1, 0)

        def share(factor: NDArray[np.int8], of: Bytes) -> Bytes:
            return (factor.astype(np.int16) * of.view(np.int8) >> 5).astype(np.uint8)

        part[..., 2] += share(green_to_red, part[..., 1])
        part[..., 0] += share(green_to_blue, part[..., 1]) + share(red_to_blue, part[..., 2])
    return channels.view("<u4")[..., 0]


def unpredict(pixels: Pixels, blocks: Pixels, shift: int) -> Pixels:
    """Each pixel plus what its block's mode makes of those to the left and above, in the diagonals x + 2 y."""
    height, width = pixels.shape
    out = _channels(pixels).copy().reshape(-1, 4)
    out[:1, 3] += 255
    out[:width] = np.cumsum(out[:width], axis=0, dtype=np.uint8)
    first = np.arange(0, height * width, width)
    out[first] = np.cumsum(out[first], axis=0, dtype=np.uint8)
    modes = _channels(blocks)[..., 1] & 15
    for diagonal in range(3, width + 2 * (height - 1)):
        y = np.arange(max((diagonal - width) // 2 + 1, 1), (diagonal - 1) // 2 + 1)
        y = y[y < height]
        if not len(y):
            continue
        x = diagonal - 2 * y
        at = y * width + x
        mode = modes[y >> shift, x >> shift]
        near = (out[where].astype(np.int16) for where in (at - 1, at - width, at - width + 1, at - width - 1))
        out[at] += _predict(mode, *near).astype(np.uint8)
    return out.view("<u4").reshape(height, width)


def _predict(mode: Bytes, left: Ints, top: Ints, right: Ints, corner: Ints) -> Ints:
    """What each pixel's mode expects, from the pixels to the left, above, above to the right and above to the left (n, 4)."""
    guess = np.zeros_like(left)
    guess[:, 3] = 255
    for present in np.flatnonzero(np.bincount(mode, minlength=14)[:14]).tolist():
        rows = mode == present
        guess[rows] = _PREDICTORS[present](left[rows], top[rows], right[rows], corner[rows])
    return guess


def _select(left: Ints, top: Ints, right: Ints, corner: Ints) -> Ints:
    nearer = np.abs(top - corner).sum(axis=1) < np.abs(left - corner).sum(axis=1)
    return np.where(nearer[:, None], left, top)


def _half(left: Ints, top: Ints, right: Ints, corner: Ints) -> Ints:
    middle = left + top >> 1
    rise = middle - corner
    return np.clip(middle + (np.sign(rise) * (np.abs(rise) >> 1)), 0, 255)


_PREDICTORS: list[Callable[[Ints, Ints, Ints, Ints], Ints]] = [
    lambda left, top, right, corner: np.broadcast_to(np.array([0, 0, 0, 255], np.int16), left.shape),
    lambda left, top, right, corner: left,
    lambda left, top, right, corner: top,
    lambda left, top, right, corner: right,
    lambda left, top, right, corner: corner,
    lambda left, top, right, corner: (left + right >> 1) + top >> 1,
    lambda left, top, right, corner: left + corner >> 1,
    lambda left, top, right, corner: left + top >> 1,
    lambda left, top, right, corner: corner + top >> 1,
    lambda left, top, right, corner: top + right >> 1,
    lambda left, top, right, corner: (left + corner >> 1) + (top + right >> 1) >> 1,
    _select,
    lambda left, top, right, corner: np.clip(left + top - corner, 0, 255),
    _half,
]
