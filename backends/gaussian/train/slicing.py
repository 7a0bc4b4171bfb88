# SPDX-License-Identifier: GPL-3.0-or-later
"""7D Gaussians under a camera at a time: what is to be drawn, and gradients the way back; compiled, on all cores.

A 7D Gaussian (7DGS, 2503.07946) is a normal distribution over place, direction of view and time.  What is trained is not its
Cholesky factor but what a cut through it is made of, the columns of the family `motion.ndgs`: every such distribution
is one set of them and the other way round, and the cut needs neither a factorisation nor an inverse.  With
e = direction - view_mean and d = time - center a splat lies at mean + slope e + velocity d, has the covariance
R diag(scale^2) R^T from everywhere and always, and its opacity falls by exp(-|fall e|^2 - (d / width)^2); the paper's shares
lambda are part of fall and width.  With slope, velocity and fall 0 and an endless width it is a still 3D Gaussian.

Parameters are rows of one array (PARAMETERS, N), so that 16 splats are worked on at once.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from ..render.projection import FAST, HALF, ONE, TWO, Floats, f4

MEAN, LOG_SCALE, TURN, OPACITY, SLOPE, VELOCITY, VIEW_MEAN, CENTER, FALL, LOG_WIDTH = 0, 3, 6, 10, 11, 20, 23, 26, 27, 33
PARAMETERS = 34
"""Rows: mean 3, logarithms of scale 3, quaternion of any length 4, logit of opacity, slope 9 (row by row), velocity 3,
view_mean of any length 3, center, fall 6 (lower triangle, row by row), logarithm of width."""

SLICED = 10
"""Rows of what is drawn: mean 3, covariance 6 as xx xy xz yy yz zz, opacity."""

BLOCK = 128  # splats worked on at a time: all their rows stay in the nearest cache
B = np.uint64(BLOCK)
RESULT = np.uint64(PARAMETERS * BLOCK)  # of the scratch array: after the parameters
GRADIENT = np.uint64((PARAMETERS + SLICED) * BLOCK)
FIRST = np.uint64(0)


def _planes(first: int, count: int) -> tuple[np.uint64, ...]:
    """Where rows lie in the scratch array, unsigned as `tiles` explains."""
    return tuple(np.uint64(row * BLOCK) for row in range(first, first + count))


P0, P1, P2 = _planes(MEAN, 3)
S0, S1, S2 = _planes(LOG_SCALE, 3)
Q0, Q1, Q2, Q3 = _planes(TURN, 4)
(O0,) = _planes(OPACITY, 1)
A00, A01, A02, A10, A11, A12, A20, A21, A22 = _planes(SLOPE, 9)
V0, V1, V2 = _planes(VELOCITY, 3)
D0, D1, D2 = _planes(VIEW_MEAN, 3)
(T0,) = _planes(CENTER, 1)
F00, F10, F11, F20, F21, F22 = _planes(FALL, 6)
(W0,) = _planes(LOG_WIDTH, 1)
_, R1, R2, R3, R4, R5, R6, R7, R8, R9 = _planes(0, SLICED)


@njit(inline="always", **FAST)
def _load(rows: Floats, start: int, end: int, a: Floats, first: int) -> None:
    """Copy a block of all rows into the scratch array, from its row `first` on."""
    begin, size = np.uint64(start), np.uint64(end - start)
    for row in range(np.uint64(len(rows))):
        plane = (np.uint64(first) + row) * B
        for i in range(FIRST, size):
            a[plane + i] = rows[row, begin + i]


@njit(inline="always", **FAST)
def _store(a: Floats, first: int, rows: Floats, start: int, end: int) -> None:
    """The way back of `_load`."""
    begin, size = np.uint64(start), np.uint64(end - start)
    for row in range(np.uint64(len(rows))):
        plane = (np.uint64(first) + row) * B
        for i in range(FIRST, size):
            rows[row, begin + i] = a[plane + i]


@njit(inline="always", **FAST)
def _exp(x: float) -> float:
    """exp on [-30, 30] to 3e-6 of its value, without a branch."""
    t = min(max(x, f4(-30)), f4(30)) * f4(1 / 64)
    p = ONE + t * (ONE + t * (HALF + t * (f4(1 / 6) + t * (f4(1 / 24) + t * f4(1 / 120)))))
    p = p * p
    p = p * p
    p = p * p
    p = p * p
    p = p * p
    return p * p


@njit(inline="always", **FAST)
def _query(a: Floats, i: np.uint64, eye: Floats, time: float) -> tuple[float, ...]:
    """Direction to the mean and one over the distance, view_mean and one over its length, e, d, fall e, 1 / width."""
    x, y, z = a[i + P0] - eye[0], a[i + P1] - eye[1], a[i + P2] - eye[2]
    away = ONE / np.sqrt(x * x + y * y + z * z + f4(1e-20))
    x, y, z = x * away, y * away, z * away
    m0, m1, m2 = a[i + D0], a[i + D1], a[i + D2]
    shrink = ONE / np.sqrt(m0 * m0 + m1 * m1 + m2 * m2 + f4(1e-20))
    m0, m1, m2 = m0 * shrink, m1 * shrink, m2 * shrink
    e0, e1, e2 = x - m0, y - m1, z - m2
    y0 = a[i + F00] * e0
    y1 = a[i + F10] * e0 + a[i + F11] * e1
    y2 = a[i + F20] * e0 + a[i + F21] * e1 + a[i + F22] * e2
    return x, y, z, away, m0, m1, m2, shrink, e0, e1, e2, time - a[i + T0], y0, y1, y2, _exp(-a[i + W0])


@njit(inline="always", **FAST)
def _axes(a: Floats, i: np.uint64) -> tuple[float, ...]:
    """Quaternion of length 1, one over its length, scales, and the rotation matrix row by row."""
    w, x, y, z = a[i + Q0], a[i + Q1], a[i + Q2], a[i + Q3]
    shrink = ONE / np.sqrt(w * w + x * x + y * y + z * z + f4(1e-20))
    w, x, y, z = w * shrink, x * shrink, y * shrink, z * shrink
    return (
        w, x, y, z, shrink, _exp(a[i + S0]), _exp(a[i + S1]), _exp(a[i + S2]),
        ONE - TWO * (y * y + z * z), TWO * (x * y - w * z), TWO * (x * z + w * y),
        TWO * (x * y + w * z), ONE - TWO * (x * x + z * z), TWO * (y * z - w * x),
        TWO * (x * z - w * y), TWO * (y * z + w * x), ONE - TWO * (x * x + y * y),
    )  # fmt: skip


@njit(parallel=True, **FAST)
def cut(parameters: Floats, eye: Floats, time: float, sliced: Floats) -> None:
    """Fill sliced (SLICED, N) from parameters (PARAMETERS, N), a camera's centre (3,) and a time."""
    count = parameters.shape[1]
    for block in prange((count + BLOCK - 1) // BLOCK):
        a = np.zeros((PARAMETERS + SLICED) * BLOCK, np.float32)
        start, end = block * BLOCK, min(count, (block + 1) * BLOCK)
        _load(parameters, start, end, a, 0)
        for i in range(FIRST, B):
            _, _, _, _, _, _, _, _, e0, e1, e2, d, y0, y1, y2, narrow = _query(a, i, eye, time)
            r = i + RESULT
            a[r] = a[i + P0] + a[i + A00] * e0 + a[i + A01] * e1 + a[i + A02] * e2 + a[i + V0] * d
            a[r + R1] = a[i + P1] + a[i + A10] * e0 + a[i + A11] * e1 + a[i + A12] * e2 + a[i + V1] * d
            a[r + R2] = a[i + P2] + a[i + A20] * e0 + a[i + A21] * e1 + a[i + A22] * e2 + a[i + V2] * d
            a[r + R9] = _exp(-(y0 * y0 + y1 * y1 + y2 * y2) - d * d * narrow * narrow) / (ONE + _exp(-a[i + O0]))
        for i in range(FIRST, B):
            _, _, _, _, _, s0, s1, s2, m00, m01, m02, m10, m11, m12, m20, m21, m22 = _axes(a, i)
            s0, s1, s2 = s0 * s0, s1 * s1, s2 * s2
            r = i + RESULT
            a[r + R3] = s0 * m00 * m00 + s1 * m01 * m01 + s2 * m02 * m02
            a[r + R4] = s0 * m00 * m10 + s1 * m01 * m11 + s2 * m02 * m12
            a[r + R5] = s0 * m00 * m20 + s1 * m01 * m21 + s2 * m02 * m22
            a[r + R6] = s0 * m10 * m10 + s1 * m11 * m11 + s2 * m12 * m12
            a[r + R7] = s0 * m10 * m20 + s1 * m11 * m21 + s2 * m12 * m22
            a[r + R8] = s0 * m20 * m20 + s1 * m21 * m21 + s2 * m22 * m22
        _store(a, PARAMETERS, sliced, start, end)


@njit(parallel=True, **FAST)
def cut_back(parameters: Floats, eye: Floats, time: float, d_sliced: Floats, d_parameters: Floats) -> None:
    """Set d_parameters (PARAMETERS, N) to what d_sliced (SLICED, N) means for what `cut` was given."""
    count = parameters.shape[1]
    for block in prange((count + BLOCK - 1) // BLOCK):
        a = np.zeros((2 * PARAMETERS + SLICED) * BLOCK, np.float32)
        start, end = block * BLOCK, min(count, (block + 1) * BLOCK)
        _load(parameters, start, end, a, 0)
        _load(d_sliced, start, end, a, PARAMETERS)
        for i in range(FIRST, B):
            x, y, z, away, m0, m1, m2, shrink, e0, e1, e2, d, y0, y1, y2, narrow = _query(a, i, eye, time)
            r, g = i + RESULT, i + GRADIENT
            gx, gy, gz = a[r], a[r + R1], a[r + R2]
            a[g + A00], a[g + A01], a[g + A02] = gx * e0, gx * e1, gx * e2
            a[g + A10], a[g + A11], a[g + A12] = gy * e0, gy * e1, gy * e2
            a[g + A20], a[g + A21], a[g + A22] = gz * e0, gz * e1, gz * e2
            a[g + V0], a[g + V1], a[g + V2] = gx * d, gy * d, gz * d
            sure = ONE / (ONE + _exp(-a[i + O0]))
            lag = d * d * narrow * narrow
            h = a[r + R9] * sure * _exp(-(y0 * y0 + y1 * y1 + y2 * y2) - lag)
            a[g + O0] = h * (ONE - sure)
            a[g + W0] = TWO * h * lag
            a[g + T0] = TWO * h * d * narrow * narrow - gx * a[i + V0] - gy * a[i + V1] - gz * a[i + V2]
            h = -TWO * h
            y0, y1, y2 = h * y0, h * y1, h * y2
            a[g + F00], a[g + F10], a[g + F11] = y0 * e0, y1 * e0, y1 * e1
            a[g + F20], a[g + F21], a[g + F22] = y2 * e0, y2 * e1, y2 * e2
            d0 = a[i + F00] * y0 + a[i + F10] * y1 + a[i + F20] * y2 + gx * a[i + A00] + gy * a[i + A10] + gz * a[i + A20]
            d1 = a[i + F11] * y1 + a[i + F21] * y2 + gx * a[i + A01] + gy * a[i + A11] + gz * a[i + A21]
            d2 = a[i + F22] * y2 + gx * a[i + A02] + gy * a[i + A12] + gz * a[i + A22]
            along = x * d0 + y * d1 + z * d2
            a[g + P0] = gx + away * (d0 - along * x)
            a[g + P1] = gy + away * (d1 - along * y)
            a[g + P2] = gz + away * (d2 - along * z)
            along = m0 * d0 + m1 * d1 + m2 * d2
            a[g + D0], a[g + D1], a[g + D2] = shrink * (along * m0 - d0), shrink * (along * m1 - d1), shrink * (along * m2 - d2)
        for i in range(FIRST, B):
            w, x, y, z, shrink, s0, s1, s2, m00, m01, m02, m10, m11, m12, m20, m21, m22 = _axes(a, i)
            r, g = i + RESULT, i + GRADIENT
            xx, xy, xz, yy, yz, zz = a[r + R3], HALF * a[r + R4], HALF * a[r + R5], a[r + R6], HALF * a[r + R7], a[r + R8]
            # G M of each column of the rotation; the covariance is M diag(scale^2) M^T
            n00, n10, n20 = xx * m00 + xy * m10 + xz * m20, xy * m00 + yy * m10 + yz * m20, xz * m00 + yz * m10 + zz * m20
            n01, n11, n21 = xx * m01 + xy * m11 + xz * m21, xy * m01 + yy * m11 + yz * m21, xz * m01 + yz * m11 + zz * m21
            n02, n12, n22 = xx * m02 + xy * m12 + xz * m22, xy * m02 + yy * m12 + yz * m22, xz * m02 + yz * m12 + zz * m22
            s0, s1, s2 = TWO * s0 * s0, TWO * s1 * s1, TWO * s2 * s2
            a[g + S0] = s0 * (m00 * n00 + m10 * n10 + m20 * n20)
            a[g + S1] = s1 * (m01 * n01 + m11 * n11 + m21 * n21)
            a[g + S2] = s2 * (m02 * n02 + m12 * n12 + m22 * n22)
            n00, n10, n20, n01, n11, n21 = s0 * n00, s0 * n10, s0 * n20, s1 * n01, s1 * n11, s1 * n21
            n02, n12, n22 = s2 * n02, s2 * n12, s2 * n22
            dw = TWO * (x * (n21 - n12) + y * (n02 - n20) + z * (n10 - n01))
            dx = TWO * (w * (n21 - n12) + y * (n01 + n10) + z * (n02 + n20) - TWO * x * (n11 + n22))
            dy = TWO * (w * (n02 - n20) + x * (n01 + n10) + z * (n12 + n21) - TWO * y * (n00 + n22))
            dz = TWO * (w * (n10 - n01) + x * (n02 + n20) + y * (n12 + n21) - TWO * z * (n00 + n11))
            along = w * dw + x * dx + y * dy + z * dz
            a[g + Q0], a[g + Q1] = shrink * (dw - along * w), shrink * (dx - along * x)
            a[g + Q2], a[g + Q3] = shrink * (dy - along * y), shrink * (dz - along * z)
        _store(a, PARAMETERS + SLICED, d_parameters, start, end)
