# SPDX-License-Identifier: GPL-3.0-or-later
"""Ellipses become pixels, a tile of 16 x 16 at a time, and gradients go the way back; compiled, on all cores.

Four channels at once.  The loop over the 16 pixels of a row has no branch, so that it becomes vector instructions: what
does not count is multiplied by nothing, and a pixel that is finished keeps its transmittance as a negative number.
Both directions walk near to far: going back, S is the scalar product of the gradient with all that lies behind, which
needs no list of what was drawn (dL/dalpha = T (f . g) - S / (1 - alpha)).  Every tile writes gradients into slots
of its own, so the result does not depend on the number of cores.

How fast this is hangs on details: indices are unsigned, because a signed one may count from the end; literals are
float32, because one double makes the whole loop double; all planes of a tile lie in one array, because
separate ones might overlap.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from . import constants
from .projection import FAST, HALF, ONE, TILE, ZERO, Floats, Integers, f4

CHANNELS = 4
ALPHA_MIN, ALPHA_MAX = f4(constants.ALPHA_MIN), f4(constants.ALPHA_MAX)
TRANSMITTANCE_MIN = f4(constants.TRANSMITTANCE_MIN)
PATIENCE = 31  # splats, one less than a power of two, between two looks at whether a tile is finished

U = np.uint64
SIDE, PLANE, FIRST = U(TILE), U(TILE * TILE), U(0)
PLANE_2, PLANE_3, PLANE_4, PLANE_5 = (U(k * TILE * TILE) for k in (2, 3, 4, 5))

LOWEST = f4(-5.6)  # exp(LOWEST) < ALPHA_MIN


def _exponential(degree: int = 5) -> list[np.float32]:
    """Coefficients of the polynomial nearest to exp, relatively, on an eighth of [LOWEST, 0]."""
    angles = (np.arange(4001) + 0.5) / 4001 * np.pi
    x = LOWEST / 16 * (1 + np.cos(angles))
    powers = np.vander(x, degree + 1, increasing=True) / np.exp(x)[:, None]
    return [f4(value) for value in np.linalg.lstsq(powers, np.ones_like(x), rcond=None)[0]]


E0, E1, E2, E3, E4, E5 = _exponential()


@njit(inline="always", **FAST)
def _exp(x: float) -> float:
    """exp on [LOWEST, 0] to 2e-6 of its value; below, exp(LOWEST)."""
    t = max(x, LOWEST) * f4(0.125)
    p = E0 + t * (E1 + t * (E2 + t * (E3 + t * (E4 + t * E5))))
    p = p * p
    p = p * p
    return p * p


@njit(inline="always", **FAST)
def _begin(planes: Floats, wide: int, high: int) -> None:
    """Transmittance 1 in the picture; what lies outside is finished."""
    for y in range(TILE):
        for x in range(TILE):
            planes[y * TILE + x] = ONE if x < wide and y < high else -ONE


@njit(inline="always", **FAST)
def _finished(planes: Floats) -> bool:
    most = -ONE
    for p in range(FIRST, PLANE):
        most = max(most, planes[p])
    return most <= ZERO


@njit(inline="always", **FAST)
def _rows(v: float, reach: float) -> tuple[np.uint64, np.uint64]:
    """First and last + 1 row of a tile that an ellipse touches."""
    return U(max(ZERO, np.ceil(v - reach))), U(max(ZERO, min(f4(TILE), np.floor(v + reach) + ONE)))


@njit(**FAST)
def _draw_tile(
    shapes: Floats, features: Floats, splats: Integers, start: int, end: int, left: float, top: float, wide: int, high: int,
    planes: Floats,
) -> int:  # fmt: skip
    """Planes: transmittance and four channels.  Returns how many splats were looked at."""
    _begin(planes, wide, high)
    for p in range(PLANE, PLANE_5):
        planes[p] = ZERO
    for k in range(start, end):
        if (k - start) & PATIENCE == PATIENCE and _finished(planes):
            return k - start
        i = splats[k]
        u, v, opacity = shapes[i, 0] - left, shapes[i, 1] - top, shapes[i, 5]
        a, b, c = -HALF * shapes[i, 2], -shapes[i, 3], -HALF * shapes[i, 4]
        f0, f1, f2, f3 = features[i, 0], features[i, 1], features[i, 2], features[i, 3]
        first, last = _rows(v, shapes[i, 6])
        for y in range(first, last):
            dy = f4(y) - v
            slope, level = b * dy, c * dy * dy
            row = y * SIDE
            for x in range(FIRST, SIDE):
                dx = f4(x) - u
                alpha = min(ALPHA_MAX, opacity * _exp(level + dx * (slope + a * dx)))
                alpha = alpha if alpha >= ALPHA_MIN else ZERO
                through = planes[row + x]
                weight = alpha * max(through, ZERO)
                left_over = through - weight
                stop = left_over < TRANSMITTANCE_MIN
                weight = ZERO if stop else weight
                planes[row + x] = -abs(through) if stop else left_over
                planes[row + x + PLANE] += weight * f0
                planes[row + x + PLANE_2] += weight * f1
                planes[row + x + PLANE_3] += weight * f2
                planes[row + x + PLANE_4] += weight * f3
    return end - start


@njit(**FAST)
def _draw_tile_back(
    shapes: Floats, features: Floats, splats: Integers, slots: Integers, start: int, end: int, left: float, top: float,
    wide: int, high: int, planes: Floats, d_shapes: Floats, d_features: Floats,
) -> None:  # fmt: skip
    """Planes: transmittance, the four channels' gradients, and S.  Adds to the slots' rows of d_shapes and d_features."""
    _begin(planes, wide, high)
    for k in range(start, end):
        if (k - start) & PATIENCE == PATIENCE and _finished(planes):
            return
        i = splats[k]
        u, v, opacity = shapes[i, 0] - left, shapes[i, 1] - top, shapes[i, 5]
        a, b, c = shapes[i, 2], shapes[i, 3], shapes[i, 4]
        f0, f1, f2, f3 = features[i, 0], features[i, 1], features[i, 2], features[i, 3]
        d0, d1, d2, d3 = ZERO, ZERO, ZERO, ZERO
        d_opacity, h_x, h_y, h_xx, h_xy, h_yy = ZERO, ZERO, ZERO, ZERO, ZERO, ZERO
        half_a = -HALF * a
        first, last = _rows(v, shapes[i, 6])
        for y in range(first, last):
            dy = f4(y) - v
            slope, level = -b * dy, -HALF * c * dy * dy
            row = y * SIDE
            sum_h, sum_hx = ZERO, ZERO
            for x in range(FIRST, SIDE):
                dx = f4(x) - u
                bell = _exp(level + dx * (slope + half_a * dx))
                full = opacity * bell
                alpha = min(ALPHA_MAX, full)
                alpha = alpha if alpha >= ALPHA_MIN else ZERO
                through = planes[row + x]
                weight = alpha * max(through, ZERO)
                left_over = through - weight
                stop = left_over < TRANSMITTANCE_MIN
                weight = ZERO if stop else weight
                planes[row + x] = -abs(through) if stop else left_over
                g0, g1 = planes[row + x + PLANE], planes[row + x + PLANE_2]
                g2, g3 = planes[row + x + PLANE_3], planes[row + x + PLANE_4]
                product = f0 * g0 + f1 * g1 + f2 * g2 + f3 * g3
                behind = planes[row + x + PLANE_5] - weight * product
                planes[row + x + PLANE_5] = behind
                d0 += weight * g0
                d1 += weight * g1
                d2 += weight * g2
                d3 += weight * g3
                d_alpha = through * product - behind / (ONE - alpha)
                d_alpha = d_alpha if weight > ZERO and full <= ALPHA_MAX else ZERO
                h = d_alpha * bell
                d_opacity += h
                h_x += h * dx
                sum_hx += h * dx
                h_xx += h * dx * dx
                sum_h += h
            h_y += sum_h * dy
            h_xy += sum_hx * dy
            h_yy += sum_h * dy * dy
        k = slots[k]
        d_shapes[k, 0] += opacity * (a * h_x + b * h_y)
        d_shapes[k, 1] += opacity * (c * h_y + b * h_x)
        d_shapes[k, 2] -= HALF * opacity * h_xx
        d_shapes[k, 3] -= opacity * h_xy
        d_shapes[k, 4] -= HALF * opacity * h_yy
        d_shapes[k, 5] += d_opacity
        d_features[k, 0], d_features[k, 1], d_features[k, 2], d_features[k, 3] = d0, d1, d2, d3


@njit(parallel=True, **FAST)
def draw(
    shapes: Floats, features: Floats, splats: Integers, starts: Integers, by_load: Integers, workers: int,
    picture: Floats, through: Floats,
) -> int:  # fmt: skip
    """Fill picture (H, W, CHANNELS), without background, and through (H, W); how many pairs of splat and tile were looked at.

    by_load: tiles, those with most splats first; each worker takes every `workers`-th.
    """
    height, width = through.shape
    columns = (width + TILE - 1) // TILE
    looked = np.zeros(workers, np.int64)
    for worker in prange(workers):
        planes = np.empty(5 * TILE * TILE, np.float32)
        for position in range(worker, len(by_load), workers):
            tile = by_load[position]
            left, top = tile % columns * TILE, tile // columns * TILE
            wide, high = min(TILE, width - left), min(TILE, height - top)
            looked[worker] += _draw_tile(
                shapes, features, splats, starts[tile], starts[tile + 1], f4(left), f4(top), wide, high, planes
            )
            for y in range(high):
                for x in range(wide):
                    p = y * TILE + x
                    through[top + y, left + x] = abs(planes[p])
                    for channel in range(CHANNELS):
                        picture[top + y, left + x, channel] = planes[p + (channel + 1) * TILE * TILE]
    return looked.sum()


@njit(parallel=True, **FAST)
def draw_back(
    shapes: Floats, features: Floats, splats: Integers, slots: Integers, starts: Integers, by_load: Integers, workers: int,
    d_picture: Floats, totals: Floats, d_shapes: Floats, d_features: Floats,
) -> None:  # fmt: skip
    """Add to d_shapes (M, ENTRIES) and set d_features (M, CHANNELS), a row a slot.

    d_picture (H, W, CHANNELS): gradients.  totals (H, W): S before the first splat: the scalar product of these channels with
    their gradients, and of all that the last transmittance carries with its own.
    """
    height, width = totals.shape
    columns = (width + TILE - 1) // TILE
    for worker in prange(workers):
        planes = np.empty(6 * TILE * TILE, np.float32)
        for position in range(worker, len(by_load), workers):
            tile = by_load[position]
            left, top = tile % columns * TILE, tile // columns * TILE
            wide, high = min(TILE, width - left), min(TILE, height - top)
            planes[:] = ZERO
            for y in range(high):
                for x in range(wide):
                    p = y * TILE + x
                    for channel in range(CHANNELS):
                        planes[p + (channel + 1) * TILE * TILE] = d_picture[top + y, left + x, channel]
                    planes[p + 5 * TILE * TILE] = totals[top + y, left + x]
            _draw_tile_back(
                shapes, features, splats, slots, starts[tile], starts[tile + 1], f4(left), f4(top), wide, high, planes,
                d_shapes, d_features,
            )  # fmt: skip


@njit(parallel=True, **FAST)
def gather(firsts: Integers, d_slots: Floats, sums: Floats) -> None:
    """Add up the slots of each splat: sums (N, CHANNELS)."""
    for i in prange(len(sums)):
        for k in range(firsts[i], firsts[i + 1]):
            for channel in range(CHANNELS):
                sums[i, channel] += d_slots[k, channel]
