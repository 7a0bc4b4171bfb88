# SPDX-License-Identifier: GPL-3.0-or-later
"""How far an in-between is from the truth, in the measures of LaFAN1 (Harvey et al. 2020), and how much feet slide.

Arrays are N windows × T missing frames × J joints; positions and quaternions (wxyz) are global.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


def l2q(predicted: Array, truth: Array) -> float:
    """Mean over windows and frames of the distance between all quaternions (N, T, J, 4) of a frame, component by component.

    Signs count as they are, so both must continue from the last known frame.
    """
    return float(np.sqrt(np.sum((predicted - truth) ** 2, axis=(2, 3))).mean())


def l2p(predicted: Array, truth: Array, sigma: Array) -> float:
    """Mean over windows and frames of the distance between all positions (N, T, J, 3) of a frame, in units of sigma.

    sigma (J, 3): standard deviation of every coordinate over the training windows.
    """
    return float(np.sqrt(np.sum(((predicted - truth) / sigma) ** 2, axis=(2, 3))).mean())


def npss(predicted: Array, truth: Array) -> float:
    """Normalised power spectrum similarity (N, T, …): earth mover's distance of spectra over time, weighted by true power.

    As in LaFAN1, power is the squared real part alone.  A feature without power weighs nothing: below 1e-8 of its energy it
    is rounding noise (Gopalakrishnan et al. 2019).
    """
    spectra = []
    for sequence in (predicted, truth):
        flat = np.reshape(sequence, (*np.shape(sequence)[:2], -1)).astype(np.float64)
        power = np.fft.fft(flat, axis=1).real ** 2
        noise = 1e-8 * len(flat[0]) * np.sum(flat**2, axis=1, keepdims=True)
        spectra.append(np.where(power.sum(axis=1, keepdims=True) > noise, power, 0))
    ours, true = (power / np.maximum(power.sum(axis=1, keepdims=True), 1e-30) for power in spectra)
    distance = np.abs(np.cumsum(ours - true, axis=1)).sum(axis=1)
    weight = spectra[1].sum(axis=1)
    return float(np.sum(distance * weight) / np.maximum(np.sum(weight), 1e-30))


def skating(feet: Array, floor: float = 0.0) -> float:
    """How fast feet (F, K, 3) near the floor move: centimetres a frame (RSMT, Tang et al. 2023).

    Positions in metres, Y up.  A foot weighs 2 - 2^(height / 2.5 cm), none above 2.5 cm; the mean is over the steps in which a
    foot has weight.  The measure is sharp in `floor`: see `floor_height`.
    """
    step, weight = steps(feet, floor)
    return float(np.sum(step * weight) / max(int(np.count_nonzero(weight)), 1))


def steps(feet: Array, floor: float = 0.0) -> tuple[Array, Array]:
    """Lengths in centimetres (F - 1, K) of the steps that `skating` counts, and their weights."""
    height = 100 * np.abs(feet[1:, :, 1] - floor)
    return 100 * np.linalg.norm(np.diff(feet, axis=0), axis=-1), np.clip(2 - 2 ** (height / 2.5), 0, 1)


def floor_height(toes: Array) -> float:
    """The floor under a clip: the 5th percentile of the toes' heights (F, K, 3), Y up."""
    return float(np.percentile(toes[..., 1], 5))


def penetration(feet: Array, floor: float = 0.0) -> float:
    """The deepest that any foot (F, K, 3) goes below the floor, in metres."""
    return float(np.max(floor - feet[..., 1], initial=0))
