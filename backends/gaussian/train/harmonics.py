# SPDX-License-Identifier: GPL-3.0-or-later
"""Colours of splats from spherical harmonics up to degree 3, and gradients the way back; compiled, on all cores.

The basis of `gaussian.sh`.  Coefficients are rows of one array (3 K, N), the three channels of a coefficient together,
so that 16 splats are worked on at once.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from ..render.projection import FAST, HALF, ONE, ZERO, Floats, f4

BLOCK = 256  # splats worked on at a time
C0, C1 = f4(0.28209479177387814), f4(0.4886025119029199)
S0, S1, S2 = f4(1.0925484305920792), f4(0.31539156525252005), f4(0.5462742152960396)
R0, R1, R2, R3, R4 = (
    f4(value) for value in (0.5900435899266435, 2.890611442640554, 0.4570457994644658, 0.3731763325901154, 1.445305721320277)
)
TWO, THREE, FOUR, SIX, EIGHT = f4(2), f4(3), f4(4), f4(6), f4(8)


@njit(inline="always", **FAST)
def _directions(means: Floats, eye: Floats, start: int, size: int, towards: Floats) -> None:
    """Rows of towards: x, y, z of the unit vector from the eye, and one over the distance."""
    for i in range(size):
        x, y, z = means[0, start + i] - eye[0], means[1, start + i] - eye[1], means[2, start + i] - eye[2]
        away = ONE / np.sqrt(x * x + y * y + z * z + f4(1e-20))
        towards[0, i], towards[1, i], towards[2, i], towards[3, i] = x * away, y * away, z * away, away


@njit(inline="always", **FAST)
def _basis(towards: Floats, count: int, size: int, basis: Floats) -> None:
    for i in range(size):
        x, y, z = towards[0, i], towards[1, i], towards[2, i]
        basis[0, i] = C0
        if count > 1:
            basis[1, i], basis[2, i], basis[3, i] = -C1 * y, C1 * z, -C1 * x
        if count > 4:
            xx, yy, zz = x * x, y * y, z * z
            basis[4, i], basis[5, i], basis[6, i] = S0 * x * y, -S0 * y * z, S1 * (TWO * zz - xx - yy)
            basis[7, i], basis[8, i] = -S0 * x * z, S2 * (xx - yy)
        if count > 9:
            xx, yy, zz = x * x, y * y, z * z
            basis[9, i], basis[10, i] = -R0 * y * (THREE * xx - yy), R1 * x * y * z
            basis[11, i], basis[12, i] = -R2 * y * (FOUR * zz - xx - yy), R3 * z * (TWO * zz - THREE * xx - THREE * yy)
            basis[13, i], basis[14, i] = -R2 * x * (FOUR * zz - xx - yy), R4 * z * (xx - yy)
            basis[15, i] = -R0 * x * (xx - THREE * yy)


@njit(inline="always", **FAST)
def _slopes(towards: Floats, weight: Floats, count: int, size: int, along: Floats) -> None:
    """along (3, size): derivatives by x, y, z of the sum of basis functions, each times its row of weight."""
    for i in range(size):
        x, y, z = towards[0, i], towards[1, i], towards[2, i]
        dx, dy, dz = -C1 * weight[3, i], -C1 * weight[1, i], C1 * weight[2, i]
        if count > 4:
            w4, w5, w6, w7, w8 = weight[4, i], weight[5, i], weight[6, i], weight[7, i], weight[8, i]
            dx += S0 * (y * w4 - z * w7) + TWO * x * (S2 * w8 - S1 * w6)
            dy += S0 * (x * w4 - z * w5) - TWO * y * (S2 * w8 + S1 * w6)
            dz += FOUR * S1 * z * w6 - S0 * (y * w5 + x * w7)
        if count > 9:
            xx, yy, zz = x * x, y * y, z * z
            w9, w10, w11, w12 = -R0 * weight[9, i], R1 * weight[10, i], -R2 * weight[11, i], R3 * weight[12, i]
            w13, w14, w15 = -R2 * weight[13, i], R4 * weight[14, i], -R0 * weight[15, i]
            dx += SIX * x * y * w9 + y * z * w10 - TWO * x * y * w11 - SIX * x * z * w12
            dx += (FOUR * zz - THREE * xx - yy) * w13 + TWO * x * z * w14 + THREE * (xx - yy) * w15
            dy += THREE * (xx - yy) * w9 + x * z * w10 + (FOUR * zz - xx - THREE * yy) * w11 - SIX * y * z * w12
            dy += -TWO * x * y * w13 - TWO * y * z * w14 - SIX * x * y * w15
            dz += x * y * w10 + EIGHT * y * z * w11 + THREE * (TWO * zz - xx - yy) * w12 + EIGHT * x * z * w13 + (xx - yy) * w14
        along[0, i], along[1, i], along[2, i] = dx, dy, dz


@njit(parallel=True, **FAST)
def colours(coefficients: Floats, means: Floats, eye: Floats, rgb: Floats) -> None:
    """Fill rgb (3, N), nothing below 0, from coefficients (3 K, N) and means (3, N) seen from eye (3,)."""
    count, number = len(coefficients) // 3, coefficients.shape[1]
    for block in prange((number + BLOCK - 1) // BLOCK):
        start = block * BLOCK
        size = min(BLOCK, number - start)
        towards, basis = np.empty((4, BLOCK), np.float32), np.empty((16, BLOCK), np.float32)
        _directions(means, eye, start, size, towards)
        _basis(towards, count, size, basis)
        for channel in range(3):
            total = np.full(BLOCK, HALF, np.float32)
            for k in range(count):
                for i in range(size):
                    total[i] += basis[k, i] * coefficients[3 * k + channel, start + i]
            for i in range(size):
                rgb[channel, start + i] = max(total[i], ZERO)


@njit(parallel=True, **FAST)
def colours_back(
    coefficients: Floats, means: Floats, eye: Floats, rgb: Floats, d_rgb: Floats, d_coefficients: Floats, d_means: Floats
) -> None:
    """Set d_coefficients (3 K, N) and d_means (3, N) from d_rgb (3, N); rgb as `colours` filled it."""
    count, number = len(coefficients) // 3, coefficients.shape[1]
    for block in prange((number + BLOCK - 1) // BLOCK):
        start = block * BLOCK
        size = min(BLOCK, number - start)
        towards, basis = np.empty((4, BLOCK), np.float32), np.empty((16, BLOCK), np.float32)
        weight, along = np.zeros((16, BLOCK), np.float32), np.zeros((3, BLOCK), np.float32)
        _directions(means, eye, start, size, towards)
        _basis(towards, count, size, basis)
        for channel in range(3):
            live = np.empty(BLOCK, np.float32)
            for i in range(size):
                live[i] = d_rgb[channel, start + i] if rgb[channel, start + i] > ZERO else ZERO
            for k in range(count):
                for i in range(size):
                    d_coefficients[3 * k + channel, start + i] = basis[k, i] * live[i]
                    weight[k, i] += coefficients[3 * k + channel, start + i] * live[i]
        if count > 1:
            _slopes(towards, weight, count, size, along)
        for i in range(size):
            x, y, z, away = towards[0, i], towards[1, i], towards[2, i], towards[3, i]
            radial = x * along[0, i] + y * along[1, i] + z * along[2, i]
            d_means[0, start + i] = away * (along[0, i] - radial * x)
            d_means[1, start + i] = away * (along[1, i] - radial * y)
            d_means[2, start + i] = away * (along[2, i] - radial * z)
