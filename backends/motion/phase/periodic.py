# SPDX-License-Identifier: GPL-3.0-or-later
"""Sinusoids of latent curves and the arithmetic of phase: the FFT layer of DeepPhase (Starke et al. 2022, §4).

Phases are in cycles, frequencies in hertz, curves have time on their last axis.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


@dataclass(frozen=True)
class Latent:
    """Sinusoids of F frames and M channels, all (F, M): each describes the window centred on its frame.

    The latent curve around a frame is amplitude · sin(2π (frequency · τ + phase)) + offset, τ in seconds from that frame.
    """

    amplitude: Array
    frequency: Array
    offset: Array
    phase: Array


def times(samples: int, window: float) -> Array:
    """Seconds (T,) of the samples of a window about its centre; `window` spans T steps, so whole cycles are periodic in it."""
    return (np.arange(samples) - samples // 2) * (window / samples)


def spectrum(curves: Array, window: float) -> tuple[Array, Array, Array]:
    """Amplitude, frequency (the mean weighted by power) and offset (…,) of curves (…, T) over `window` seconds.

    Exact for one sinusoid of whole cycles in the window; others leak into the neighbouring frequencies.
    """
    samples = curves.shape[-1]
    c = np.fft.rfft(curves, axis=-1)
    power = np.abs(c[..., 1:]) ** 2
    total = power.sum(axis=-1)
    hertz = np.arange(1, power.shape[-1] + 1) / window
    frequency = (power @ hertz) / np.where(total > 0, total, 1)
    return 2 * np.sqrt(total) / samples, frequency, c[..., 0].real / samples


def bin_phase(curves: Array, bins: NDArray[np.integer]) -> Array:
    """Phase (…,) at the first sample of curves (…, T), read from one bin (…,) of their spectrum, in [0, 1)."""
    c = np.take_along_axis(np.fft.rfft(curves, axis=-1), bins[..., None], axis=-1)[..., 0]
    return (np.angle(c) / (2 * np.pi) + 0.25) % 1


def sinusoid(amplitude: Array, frequency: Array, offset: Array, phase: Array, seconds: Array) -> Array:
    """The curves (…, T) that these parameters (…,) describe; phase is that of second 0."""
    turns = frequency[..., None] * seconds + phase[..., None]
    return amplitude[..., None] * np.sin(2 * np.pi * turns) + offset[..., None]


def wrap(cycles: Array) -> Array:
    """The same phase difference in (-0.5, 0.5]."""
    return 0.5 - (0.5 - np.asarray(cycles)) % 1


def rate(phase: Array, fps: float) -> Array:
    """Frequency (F-1, …) that the phases of frames (F, …) show: their wrapped differences."""
    return wrap(np.diff(phase, axis=0)) * fps


def vector(amplitude: Array, phase: Array) -> Array:
    """Phase vectors (…, 2): (A sin 2πS, A cos 2πS), in the paper's order."""
    return amplitude[..., None] * np.stack([np.sin(2 * np.pi * phase), np.cos(2 * np.pi * phase)], axis=-1)


def advance(vectors: Array, frequency: Array, seconds: float) -> Array:
    """Phase vectors (…, 2) after some time at these frequencies (…,): turned by 2πF·dt."""
    turn = 2 * np.pi * np.asarray(frequency) * seconds
    s, c = vectors[..., 0], vectors[..., 1]
    return np.stack([s * np.cos(turn) + c * np.sin(turn), c * np.cos(turn) - s * np.sin(turn)], axis=-1)
