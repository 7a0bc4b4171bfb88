# SPDX-License-Identifier: GPL-3.0-or-later
"""Adam on rows of parameters, and the moves of 3DGS as Markov chain Monte Carlo (Kheradmand et al. 2024, 2404.09591)."""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from ..render.projection import FAST, ONE, Floats, f4
from . import slicing

BETA_1, BETA_2, EPSILON = f4(0.9), f4(0.999), f4(1e-15)
DEAD = 0.005
"""Opacity below which a splat is of no use where it is."""

MOST_COPIES = 51


@njit(parallel=True, **FAST)
def adam(values: Floats, gradients: Floats, firsts: Floats, seconds: Floats, rates: Floats, step: int) -> None:
    """One step, in place, of every row (rows, N) with its rate (rows,); rows whose rate is 0 stay.  step: 1 at first."""
    unbias_1 = ONE / (ONE - f4(BETA_1) ** f4(step))
    unbias_2 = ONE / (ONE - f4(BETA_2) ** f4(step))
    for row in prange(len(values)):
        rate = rates[row] * unbias_1
        if rate == f4(0):
            continue
        value, gradient, first, second = values[row], gradients[row], firsts[row], seconds[row]
        for i in range(len(value)):
            first[i] = BETA_1 * first[i] + (ONE - BETA_1) * gradient[i]
            second[i] = BETA_2 * second[i] + (ONE - BETA_2) * gradient[i] * gradient[i]
            value[i] -= rate * first[i] / (np.sqrt(second[i] * unbias_2) + EPSILON)


def shake(parameters: Floats, covariances: Floats, size: float, random: np.random.Generator) -> None:
    """Let faint splats wander within their own shapes: size times a normal number, gated by opacity (equation 9).

    covariances (6, N) as xx xy xz yy yz zz.
    """
    logits = parameters[slicing.OPACITY]
    faint = np.flatnonzero(logits < -2.2)  # opacity 0.1: the gate is below 1e-4 from there on
    opacity = 1 / (1 + np.exp(-logits[faint]))
    amount = random.standard_normal((3, len(faint)), np.float32) * (size / (1 + np.exp(100 * (opacity - DEAD)))).astype(
        np.float32
    )
    xx, xy, xz, yy, yz, zz = covariances[:, faint]
    x, y, z = amount
    parameters[:3, faint] += np.stack([xx * x + xy * y + xz * z, xy * x + yy * y + yz * z, xz * x + yz * y + zz * z])


def shared(opacity: NDArray[np.float64], copies: NDArray[np.integer]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Opacity of each of so many equal splats that look like one, and the factor of their scales (equation 9 there)."""
    each = 1 - (1 - opacity) ** (1 / copies)
    total = np.zeros_like(opacity)
    for i in range(1, int(copies.max(initial=1)) + 1):
        term = sum(math.comb(i - 1, k) * (-1) ** k * each ** (k + 1) / math.sqrt(k + 1) for k in range(i))
        total += np.where(i <= copies, term, 0)
    return each, opacity / total


def relocate(
    columns: list[Floats], moments: list[Floats], rows: NDArray[np.integer], random: np.random.Generator
) -> NDArray[np.integer]:
    """Put splats on top of others, drawn by opacity, that then share theirs; the pictures stay as they were.

    columns: (rows, N) arrays whose columns are splats, the first with the rows of `slicing`; moments: as many more, set to 0
    where something moved.  Returns on which splat each one lies now.
    """
    parameters = columns[0]
    opacity = 1 / (1 + np.exp(-parameters[slicing.OPACITY].astype(np.float64)))
    chance = opacity.copy()
    chance[rows] = 0
    onto = random.choice(len(chance), len(rows), p=chance / chance.sum())
    sources, hits = np.unique(onto, return_counts=True)
    each, factor = shared(np.minimum(opacity[sources], 1 - 1e-6), np.minimum(hits + 1, MOST_COPIES))
    each = np.clip(each, DEAD, 1 - 1e-6)
    parameters[slicing.OPACITY, sources] = np.log(each / (1 - each))
    parameters[slicing.LOG_SCALE : slicing.TURN, sources] += np.log(factor)
    for column in columns:
        column[:, rows] = column[:, onto]
    for moment in moments:
        moment[:, rows] = 0
        moment[:, sources] = 0
    return onto
