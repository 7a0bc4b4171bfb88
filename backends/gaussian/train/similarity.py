# SPDX-License-Identifier: GPL-3.0-or-later
"""Structural similarity of two pictures and its derivative; compiled, on all cores.

Wang et al. 2004 with the constants of 3DGS: Gaussian window of 11 x 11 pixels, sigma 1.5, zeros beyond the borders,
C1 = 0.01^2, C2 = 0.03^2, averaged over pixels and channels.  A row of all channels is one vector, so that the window's
columns and rows are both sums of shifted vectors.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from ..render.projection import FAST, ONE, TILE, ZERO, Floats, f4

REACH = 5
WINDOW = np.exp(-(np.arange(-REACH, REACH + 1) ** 2) / 4.5)
WINDOW = (WINDOW / WINDOW.sum()).astype(np.float32)
C1, C2, TWO = f4(0.01**2), f4(0.03**2), f4(2)


@njit(inline="always", **FAST)
def _blur_row(row: Floats, padded: Floats, channels: int) -> None:
    """Blur a row (W * channels,) along itself; padded has REACH * channels zeros at both ends."""
    edge = np.uint64(REACH * channels)
    count = np.uint64(len(row))
    for x in range(np.uint64(0), count):
        padded[x + edge] = row[x]
        row[x] = ZERO
    for k in range(2 * REACH + 1):
        weight, shift = WINDOW[k], np.uint64(k * channels)
        for x in range(np.uint64(0), count):
            row[x] += weight * padded[x + shift]


@njit(parallel=True, **FAST)
def similarity(
    picture: Floats, target: Floats, channels: int, per_mean: Floats, per_square: Floats, per_product: Floats
) -> float:
    """Sum of the similarity over pictures (H, W * channels); fill its derivatives by the blurred x, x^2 and x y, same shape."""
    height, width = picture.shape
    sums = np.zeros(height, np.float64)
    for band in prange((height + TILE - 1) // TILE):
        rows = np.zeros((5, width), np.float32)
        padded = np.zeros(width + 2 * REACH * channels, np.float32)
        for y in range(band * TILE, min(height, (band + 1) * TILE)):
            rows[:] = ZERO
            for k in range(max(0, y - REACH), min(height, y + REACH + 1)):
                weight = WINDOW[k - y + REACH]
                for x in range(width):
                    p, t = picture[k, x], target[k, x]
                    rows[0, x] += weight * p
                    rows[1, x] += weight * t
                    rows[2, x] += weight * p * p
                    rows[3, x] += weight * t * t
                    rows[4, x] += weight * p * t
            for row in range(5):
                _blur_row(rows[row], padded, channels)
            total = ZERO
            for x in range(width):
                mean, other = rows[0, x], rows[1, x]
                a1 = TWO * mean * other + C1
                a2 = TWO * (rows[4, x] - mean * other) + C2
                b1 = mean * mean + other * other + C1
                b2 = rows[2, x] + rows[3, x] - mean * mean - other * other + C2
                inverse = ONE / (b1 * b2)
                value = a1 * a2 * inverse
                per_mean[y, x] = TWO * other * (a2 - a1) * inverse + TWO * mean * value * (ONE / b2 - ONE / b1)
                per_square[y, x] = -value / b2
                per_product[y, x] = TWO * a1 * inverse
                total += value
            sums[y] = total
    return sums.sum()


@njit(parallel=True, **FAST)
def similarity_back(
    picture: Floats, target: Floats, channels: int, per_mean: Floats, per_square: Floats, per_product: Floats, gradient: Floats
) -> None:
    """Fill gradient with the derivative of the sum by each value of the picture."""
    height, width = picture.shape
    for band in prange((height + TILE - 1) // TILE):
        rows = np.zeros((3, width), np.float32)
        padded = np.zeros(width + 2 * REACH * channels, np.float32)
        for y in range(band * TILE, min(height, (band + 1) * TILE)):
            rows[:] = ZERO
            for k in range(max(0, y - REACH), min(height, y + REACH + 1)):
                weight = WINDOW[k - y + REACH]
                for x in range(width):
                    rows[0, x] += weight * per_mean[k, x]
                    rows[1, x] += weight * per_square[k, x]
                    rows[2, x] += weight * per_product[k, x]
            for row in range(3):
                _blur_row(rows[row], padded, channels)
            for x in range(width):
                gradient[y, x] = rows[0, x] + TWO * picture[y, x] * rows[1, x] + target[y, x] * rows[2, x]
