# SPDX-License-Identifier: GPL-3.0-or-later
"""Covariances of Gaussians, and the rotations and standard deviations that they are made of."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..common.rotations import IDENTITY, matrix, normalise
from ..common.threads import in_blocks

Array = NDArray[np.floating]

MOST_SWEEPS = 12
"""Jacobi's method squares its error a sweep: five do for double precision, huge ratios of sizes take a few more."""

SMALLEST_VARIANCE = 1e-24
_ENTRIES = ((0, 0), (1, 1), (2, 2), (1, 2), (2, 0), (0, 1))


def covariances(quats: Array, scales: Array) -> Array:
    """Matrices (N, 3, 3) of unit quaternions (N, 4) and standard deviations (N, 3): R S S R^T."""
    axes = matrix(quats) * scales[:, None, :]
    return axes @ axes.transpose(0, 2, 1)


def decompose(matrices: Array) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Unit quaternions (N, 4) and standard deviations (N, 3) of symmetric matrices (N, 3, 3); inverse of `covariances`.

    An almost diagonal matrix gives an almost empty turn, so what was upright stays upright.  Variances
    below 1e-24 (and those that rounding made negative) count as 1e-24.  Cyclic Jacobi rotations (Golub and
    Van Loan, 8.5) on all matrices at once, collected as quaternions; float64 inside.
    """
    quats, scales = np.empty((len(matrices), 4)), np.empty((len(matrices), 3))

    def block(rows: slice) -> None:
        entries = np.array([matrices[rows, i, j] for i, j in _ENTRIES], np.float64)
        turn = np.repeat(IDENTITY[:, None], entries.shape[1], axis=1)
        diagonal, off = entries[:3], entries[3:]
        with np.errstate(all="ignore"):
            for _ in range(MOST_SWEEPS):
                for axis in range(3):
                    _turn_about(axis, diagonal, off, turn)
                if not (np.abs(off).sum(0) > 1e-15 * np.abs(diagonal).sum(0)).any():
                    break
        quats[rows] = normalise(turn.T)
        scales[rows] = np.sqrt(np.maximum(diagonal, SMALLEST_VARIANCE)).T

    in_blocks(block, len(matrices))
    return quats, scales


def _turn_about(axis: int, diagonal: Array, off: Array, turn: Array) -> None:
    """Turn about one axis such that its entry of `off` vanishes; `off[r]` couples the two axes other than r."""
    p, q = (axis + 1) % 3, (axis + 2) % 3
    coupling, gap = off[axis], diagonal[q] - diagonal[p]
    tangent = np.copysign(2.0, gap) * coupling / (np.abs(gap) + np.hypot(gap, 2 * coupling) + 1e-300)
    cosine = 1 / np.sqrt(1 + tangent * tangent)
    sine = tangent * cosine
    shift = tangent * coupling
    diagonal[p] -= shift
    diagonal[q] += shift
    off[axis] = 0
    off[q], off[p] = cosine * off[q] - sine * off[p], sine * off[q] + cosine * off[p]

    half = np.sqrt((1 + cosine) / 2)
    w, along, first, second = (turn[i] for i in (0, 1 + axis, 1 + p, 1 + q))
    s = -sine / (2 * half)
    turn[[0, 1 + axis, 1 + p, 1 + q]] = (
        w * half - along * s, along * half + w * s, first * half + second * s, second * half - first * s,
    )  # fmt: skip
