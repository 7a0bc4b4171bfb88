# SPDX-License-Identifier: GPL-3.0-or-later
"""Few keys instead of one a frame: a piecewise cubic through chosen frames, within a bound at every frame.

The curve is a cubic Hermite spline with continuous slope, whose keys all channels share; values and slopes of the inner keys
are least squares over all frames.  Keys are added where the bound is exceeded most, then each one that the others can do
without is removed.  Bézier handles a third of the way to the neighbouring keys, along the slopes, draw exactly this curve.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..common import rotations as quaternions

Array = NDArray[np.floating]
Index = NDArray[np.intp]
# How far rows of channels (T, C) are from those that are wanted, each (T,), as a share of what is allowed.
Excess = Callable[[Array], Array]

DEGREES = 0.5
METRES = 0.002


@dataclass(frozen=True)
class Keys:
    """K keys: places (K,) among the samples, values (K, C) and slopes (K, C) per unit of time."""

    places: Index
    values: Array
    slopes: Array


def fit(times: Array, values: Array, excess: Excess, slopes: Array | None = None, fixed: Sequence[int] = ()) -> Keys:
    """The keys of a curve that stays within `excess(curve) <= 1` at every sample; the first and last sample are kept exactly.

    times (T,), rising, T >= 2; values (T, C), the samples; slopes (2, C): those at both ends, NaN where the samples
    decide; fixed: places of other keys that stay, with their exact values.  As many keys as samples meet any bound, so there
    is always an answer.
    """
    times, values = np.asarray(times, np.float64), np.asarray(values, np.float64)
    exact = np.array(sorted({0, *fixed, len(times) - 1}))
    places = exact
    while True:
        found = _least_squares(times, values, places, slopes, exact)
        over = excess(_curve(times, found))
        if np.all(over <= 1):
            break
        added = [
            start + 1 + int(np.argmax(over[start + 1 : end]))
            for start, end in zip(places[:-1].tolist(), places[1:].tolist(), strict=True)
            if end > start + 1 and np.any(over[start : end + 1] > 1)
        ]
        if not added:
            return found  # every sample is a key: nothing but rounding is left
        places = np.sort([*places.tolist(), *added])
    for place in np.setdiff1d(places, exact).tolist():
        fewer = _least_squares(times, values, found.places[found.places != place], slopes, exact)
        if np.all(excess(_curve(times, fewer)) <= 1):
            found = fewer
    return found


def turned(wanted: Array, mode: str, degrees: float = DEGREES) -> Excess:
    """Excess of rotation channels (T, 3 or 4) of a mode ("QUATERNION", "AXIS_ANGLE" or an order of Euler angles) by the angle.

    It is the angle of the whole rotation, as Blender shows it: quaternions need not have unit length.
    """
    target = to_quaternions(wanted, mode)

    def excess(channels: Array) -> Array:
        off = quaternions.difference(target, to_quaternions(channels, mode))
        return np.degrees(np.linalg.norm(off, axis=-1)) / degrees

    return excess


def moved(wanted: Array, distance: float = METRES) -> Excess:
    """Excess of vectors (T, C) by their distance, in the unit of the values."""
    return lambda channels: np.linalg.norm(channels - wanted, axis=-1) / distance


def to_quaternions(channels: Array, mode: str) -> Array:
    """Unit quaternions (T, 4) of a bone's rotation channels (T, 3 or 4)."""
    channels = np.asarray(channels, np.float64)
    if mode == "QUATERNION":
        return quaternions.normalise(channels)
    if mode == "AXIS_ANGLE":
        length = np.linalg.norm(channels[:, 1:], axis=1, keepdims=True)
        return quaternions.exp(channels[:, :1] * channels[:, 1:] / np.where(length > 0, length, 1))
    return quaternions.from_euler(channels, mode)


def _least_squares(times: Array, values: Array, places: Index, slopes: Array | None, exact: Index) -> Keys:
    """The keys at these places that follow all samples best; of equally good ones those nearest to the samples."""
    near, steep = values[places], np.gradient(values, times, axis=0)[places]
    free: NDArray[np.bool_] = np.ones((2, len(places), values.shape[1]), bool)
    free[0, np.isin(places, exact)] = False
    if slopes is not None:
        given = np.isfinite(slopes)
        steep[[0, -1]] = np.where(given, slopes, steep[[0, -1]])
        free[1, [0, -1]] = ~given
    basis = _basis(times, times[places])
    start = np.concatenate([near, steep])
    rest = values - basis @ start
    free = free.reshape(start.shape)
    for columns in {tuple(np.flatnonzero((free == free[:, [column]]).all(axis=0))) for column in range(values.shape[1])}:
        rows = free[:, columns[0]]
        start[np.ix_(rows, columns)] += np.linalg.lstsq(basis[:, rows], rest[:, columns], rcond=1e-10)[0]
    return Keys(places, *np.split(start, 2))


def _curve(times: Array, keys: Keys) -> Array:
    return _basis(times, times[keys.places]) @ np.concatenate([keys.values, keys.slopes])


def _basis(times: Array, at: Array) -> Array:
    """Share (T, 2 K) of the keys' values and slopes in the curve at each time."""
    count = len(at)
    piece = np.clip(np.searchsorted(at, times, side="right") - 1, 0, count - 2)
    span = at[piece + 1] - at[piece]
    s = (times - at[piece]) / span
    basis = np.zeros((len(times), 2 * count))
    row = np.arange(len(times))
    basis[row, piece], basis[row, piece + 1] = (1 + 2 * s) * (1 - s) ** 2, s * s * (3 - 2 * s)
    basis[row, count + piece], basis[row, count + piece + 1] = span * s * (1 - s) ** 2, span * s * s * (s - 1)
    return basis
