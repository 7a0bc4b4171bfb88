# SPDX-License-Identifier: GPL-3.0-or-later
"""7D Gaussians under a camera at a time: what is to be drawn, and gradients the way back; compiled, on all cores.

A splat is a normal distribution over direction of view d, time t and place p, in this order, with covariance L L^T and
L = diag(s) (I + l): s positive, l strictly lower triangular, within -1 and 1 (7DGS, 2503.07946, in the form of the
authors' code, whose order is p, d, t).  With the query first, the cut at a query needs one forward substitution
L_qq y = q - mean_q and no inverse: the splat lies at mean_p + L_pq y with covariance L_pp L_pp^T, and |y_d|^2 measures how far
the direction is off.  Opacity falls by exp(-view_lambda |y_d|^2) and exp(-time_lambda (t - mean_t)^2 / S_tt): of the
two marginals, as in the paper.

Parameters are rows of one array (PARAMETERS, N), so that 16 splats are worked on at once: mean_p, mean_t, mean_d,
logarithms of s, l before `tanh(x / 2)`, row by row, and the logits of opacity, view_lambda and time_lambda.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from ..render.projection import FAST, HALF, ONE, Floats, f4

MEAN, MEAN_TIME, MEAN_VIEW, LOG_SIZE, COUPLING, OPACITY, VIEW_LAMBDA, TIME_LAMBDA = 0, 3, 4, 7, 14, 35, 36, 37
PARAMETERS = 38
SLICED = 10
"""Rows of what is drawn: mean (3), covariance (6) as xx xy xz yy yz zz, opacity."""

BLOCK = 128  # splats worked on at a time: all their rows stay in the nearest cache
B = np.uint64(BLOCK)
B2, B3, B4, B5, B6, B7, B8, B9 = (np.uint64(k * BLOCK) for k in range(2, 10))
RESULT = np.uint64(PARAMETERS * BLOCK)  # of the scratch array: after the parameters
GRADIENT = np.uint64((PARAMETERS + SLICED) * BLOCK)


@njit(inline="always", **FAST)
def _exp(x: float) -> float:
    """exp on [-30, 30] to 1e-6 of its value, without a branch."""
    t = min(max(x, f4(-30)), f4(30)) * f4(1 / 64)
    p = ONE + t * (ONE + t * (HALF + t * (f4(1 / 6) + t * (f4(1 / 24) + t * (f4(1 / 120) + t * f4(1 / 720))))))
    p = p * p
    p = p * p
    p = p * p
    p = p * p
    p = p * p
    return p * p


@njit(inline="always", **FAST)
def _tanh_half(x: float) -> float:
    """tanh(x / 2) = 2 sigmoid(x) - 1."""
    grown = _exp(x)
    return (grown - ONE) / (grown + ONE)


def _coupling(row: int, column: int) -> np.uint64:
    """Where l of a row and column lies in the scratch array."""
    return np.uint64((COUPLING + row * (row - 1) // 2 + column) * BLOCK)


P0, P1, P2 = (np.uint64((MEAN + k) * BLOCK) for k in range(3))
T0 = np.uint64(MEAN_TIME * BLOCK)
D0, D1, D2 = (np.uint64((MEAN_VIEW + k) * BLOCK) for k in range(3))
S0, S1, S2, S3, S4, S5, S6 = (np.uint64((LOG_SIZE + k) * BLOCK) for k in range(7))
L10 = _coupling(1, 0)
L20, L21 = (_coupling(2, k) for k in range(2))
L30, L31, L32 = (_coupling(3, k) for k in range(3))
L40, L41, L42, L43 = (_coupling(4, k) for k in range(4))
L50, L51, L52, L53, L54 = (_coupling(5, k) for k in range(5))
L60, L61, L62, L63, L64, L65 = (_coupling(6, k) for k in range(6))
O0, V0, U0 = (np.uint64(k * BLOCK) for k in (OPACITY, VIEW_LAMBDA, TIME_LAMBDA))
FIRST = np.uint64(0)


@njit(inline="always", **FAST)
def _activate(a: Floats) -> None:
    """Sizes, couplings and shares in place of what is trained."""
    for i in range(S0, S6 + B):
        a[i] = _exp(a[i])
    for i in range(L10, O0):
        a[i] = _tanh_half(a[i])
    for i in range(O0, U0 + B):
        a[i] = HALF + HALF * _tanh_half(a[i])


@njit(inline="always", **FAST)
def _query(a: Floats, i: np.uint64, eye: Floats, time: float) -> tuple[float, ...]:
    """Distance, direction to the mean, length of mean_d, mean direction, and y with the remaining time."""
    x, y, z = a[i + P0] - eye[0], a[i + P1] - eye[1], a[i + P2] - eye[2]
    away = ONE / np.sqrt(x * x + y * y + z * z + f4(1e-20))
    x, y, z = x * away, y * away, z * away
    m0, m1, m2 = a[i + D0], a[i + D1], a[i + D2]
    shrink = ONE / np.sqrt(m0 * m0 + m1 * m1 + m2 * m2 + f4(1e-20))
    m0, m1, m2 = m0 * shrink, m1 * shrink, m2 * shrink
    later = time - a[i + T0]
    e0, e1, e2, e3 = (x - m0) / a[i + S0], (y - m1) / a[i + S1], (z - m2) / a[i + S2], later / a[i + S3]
    y0 = e0
    y1 = e1 - a[i + L10] * y0
    y2 = e2 - a[i + L20] * y0 - a[i + L21] * y1
    y3 = e3 - a[i + L30] * y0 - a[i + L31] * y1 - a[i + L32] * y2
    return x, y, z, away, m0, m1, m2, shrink, later, e0, e1, e2, e3, y0, y1, y2, y3


@njit(inline="always", **FAST)
def _lag(a: Floats, i: np.uint64, later: float) -> tuple[float, float]:
    """(t - mean_t)^2 / S_tt, and S_tt / s_t^2."""
    widening = ONE + a[i + L30] * a[i + L30] + a[i + L31] * a[i + L31] + a[i + L32] * a[i + L32]
    return later * later / (a[i + S3] * a[i + S3] * widening), widening


@njit(parallel=True, **FAST)
def cut(parameters: Floats, eye: Floats, time: float, sliced: Floats) -> None:
    """Fill sliced (SLICED, N) from parameters (PARAMETERS, N), a camera's centre (3,) and a time."""
    count = parameters.shape[1]
    for block in prange((count + BLOCK - 1) // BLOCK):
        a = np.zeros((PARAMETERS + SLICED) * BLOCK, np.float32)
        start, end = block * BLOCK, min(count, (block + 1) * BLOCK)
        for row in range(PARAMETERS):
            a[row * BLOCK : row * BLOCK + end - start] = parameters[row, start:end]
        _activate(a)
        for i in range(FIRST, B):
            _, _, _, _, _, _, _, _, later, _, _, _, _, y0, y1, y2, y3 = _query(a, i, eye, time)
            lag, _ = _lag(a, i, later)
            r = i + RESULT
            a[r] = a[i + P0] + a[i + S4] * (a[i + L40] * y0 + a[i + L41] * y1 + a[i + L42] * y2 + a[i + L43] * y3)
            a[r + B] = a[i + P1] + a[i + S5] * (a[i + L50] * y0 + a[i + L51] * y1 + a[i + L52] * y2 + a[i + L53] * y3)
            a[r + B2] = a[i + P2] + a[i + S6] * (a[i + L60] * y0 + a[i + L61] * y1 + a[i + L62] * y2 + a[i + L63] * y3)
            sx, sy, sz, xy, xz, yz = a[i + S4], a[i + S5], a[i + S6], a[i + L54], a[i + L64], a[i + L65]
            a[r + B3] = sx * sx
            a[r + B4] = sx * sy * xy
            a[r + B5] = sx * sz * xz
            a[r + B6] = sy * sy * (xy * xy + ONE)
            a[r + B7] = sy * sz * (xy * xz + yz)
            a[r + B8] = sz * sz * (xz * xz + yz * yz + ONE)
            a[r + B9] = a[i + O0] * _exp(-a[i + V0] * (y0 * y0 + y1 * y1 + y2 * y2) - a[i + U0] * lag)
        for row in range(SLICED):
            first = (PARAMETERS + row) * BLOCK
            sliced[row, start:end] = a[first : first + end - start]


@njit(parallel=True, **FAST)
def cut_back(parameters: Floats, eye: Floats, time: float, d_sliced: Floats, d_parameters: Floats) -> None:
    """Add to d_parameters (PARAMETERS, N) the gradients that d_sliced (SLICED, N) means for what `cut` was given."""
    count = parameters.shape[1]
    for block in prange((count + BLOCK - 1) // BLOCK):
        a = np.zeros((2 * PARAMETERS + SLICED) * BLOCK, np.float32)
        start, end = block * BLOCK, min(count, (block + 1) * BLOCK)
        for row in range(PARAMETERS):
            a[row * BLOCK : row * BLOCK + end - start] = parameters[row, start:end]
        for row in range(SLICED):
            first = (PARAMETERS + row) * BLOCK
            a[first : first + end - start] = d_sliced[row, start:end]
        _activate(a)
        for i in range(FIRST, B):
            x, y, z, away, m0, m1, m2, shrink, later, e0, e1, e2, e3, y0, y1, y2, y3 = _query(a, i, eye, time)
            lag, widening = _lag(a, i, later)
            r, g = i + RESULT, i + GRADIENT
            sx, sy, sz, xy, xz, yz = a[i + S4], a[i + S5], a[i + S6], a[i + L54], a[i + L64], a[i + L65]

            # the mean: what moved it was its size times its couplings times y
            gx, gy, gz = sx * a[r], sy * a[r + B], sz * a[r + B2]
            a[g + L40], a[g + L41], a[g + L42], a[g + L43] = gx * y0, gx * y1, gx * y2, gx * y3
            a[g + L50], a[g + L51], a[g + L52], a[g + L53] = gy * y0, gy * y1, gy * y2, gy * y3
            a[g + L60], a[g + L61], a[g + L62], a[g + L63] = gz * y0, gz * y1, gz * y2, gz * y3
            grown_x = gx * (a[i + L40] * y0 + a[i + L41] * y1 + a[i + L42] * y2 + a[i + L43] * y3)
            grown_y = gy * (a[i + L50] * y0 + a[i + L51] * y1 + a[i + L52] * y2 + a[i + L53] * y3)
            grown_z = gz * (a[i + L60] * y0 + a[i + L61] * y1 + a[i + L62] * y2 + a[i + L63] * y3)
            d0 = gx * a[i + L40] + gy * a[i + L50] + gz * a[i + L60]
            d1 = gx * a[i + L41] + gy * a[i + L51] + gz * a[i + L61]
            d2 = gx * a[i + L42] + gy * a[i + L52] + gz * a[i + L62]
            d3 = gx * a[i + L43] + gy * a[i + L53] + gz * a[i + L63]

            # the covariance
            cxx, cxy, cxz = a[r + B3] * sx * sx, a[r + B4] * sx * sy, a[r + B5] * sx * sz
            cyy, cyz, czz = a[r + B6] * sy * sy, a[r + B7] * sy * sz, a[r + B8] * sz * sz
            mixed = xy * xz + yz
            a[g + S4] = grown_x + f4(2) * cxx + cxy * xy + cxz * xz
            a[g + S5] = grown_y + f4(2) * cyy * (xy * xy + ONE) + cxy * xy + cyz * mixed
            a[g + S6] = grown_z + f4(2) * czz * (xz * xz + yz * yz + ONE) + cxz * xz + cyz * mixed
            a[g + L54] = cxy + f4(2) * cyy * xy + cyz * xz
            a[g + L64] = cxz + f4(2) * czz * xz + cyz * xy
            a[g + L65] = cyz + f4(2) * czz * yz

            # the opacity
            off = y0 * y0 + y1 * y1 + y2 * y2
            opacity, view_lambda, time_lambda = a[i + O0], a[i + V0], a[i + U0]
            h = a[r + B9] * opacity * _exp(-view_lambda * off - time_lambda * lag)
            a[g + O0] = h * (ONE - opacity)
            a[g + V0] = -h * off * view_lambda * (ONE - view_lambda)
            a[g + U0] = -h * lag * time_lambda * (ONE - time_lambda)
            per_y, per_lag = -f4(2) * h * view_lambda, f4(2) * h * time_lambda * lag
            d0, d1, d2 = d0 + per_y * y0, d1 + per_y * y1, d2 + per_y * y2
            inner = per_lag / widening

            # back through the substitution, last row first
            d2 -= d3 * a[i + L32]
            d1 -= d3 * a[i + L31] + d2 * a[i + L21]
            d0 -= d3 * a[i + L30] + d2 * a[i + L20] + d1 * a[i + L10]
            a[g + L30] = inner * a[i + L30] - d3 * y0
            a[g + L31] = inner * a[i + L31] - d3 * y1
            a[g + L32] = inner * a[i + L32] - d3 * y2
            a[g + L20], a[g + L21], a[g + L10] = -d2 * y0, -d2 * y1, -d1 * y0
            a[g + S0], a[g + S1], a[g + S2], a[g + S3] = -d0 * e0, -d1 * e1, -d2 * e2, per_lag - d3 * e3
            spread = a[i + S3] * a[i + S3] * widening
            a[g + T0] = f4(2) * h * time_lambda * later / spread - d3 / a[i + S3]

            # the two unit vectors
            d0, d1, d2 = d0 / a[i + S0], d1 / a[i + S1], d2 / a[i + S2]
            along = x * d0 + y * d1 + z * d2
            a[g + P0] = a[r] + away * (d0 - along * x)
            a[g + P1] = a[r + B] + away * (d1 - along * y)
            a[g + P2] = a[r + B2] + away * (d2 - along * z)
            along = m0 * d0 + m1 * d1 + m2 * d2
            a[g + D0], a[g + D1], a[g + D2] = shrink * (along * m0 - d0), shrink * (along * m1 - d1), shrink * (along * m2 - d2)
        for i in range(L10, O0):
            a[i + GRADIENT] *= HALF * (ONE - a[i] * a[i])
        for row in range(PARAMETERS):
            first = (PARAMETERS + SLICED + row) * BLOCK
            for i in range(end - start):
                d_parameters[row, start + i] += a[first + i]
