# SPDX-License-Identifier: GPL-3.0-or-later
"""What splats can be selected by: a number for each of a still cloud."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import sh
from ..cloud import Floats, SplatCloud
from .colour import LUMA


def _rgb(cloud: SplatCloud) -> Floats:
    return np.asarray(sh.to_rgb(cloud.sh[:, 0]), np.float32)


def _saturation(cloud: SplatCloud) -> Floats:
    rgb = np.maximum(_rgb(cloud), 0)
    return np.asarray(np.ptp(rgb, axis=1) / np.maximum(rgb.max(axis=1), np.finfo(np.float32).tiny), np.float32)


def _stretch(cloud: SplatCloud) -> Floats:
    middle = np.maximum(np.median(cloud.scales, axis=1), np.finfo(np.float32).tiny)
    return np.asarray(cloud.scales.max(axis=1) / middle, np.float32)


MEASURES: dict[str, Callable[[SplatCloud], Floats]] = {
    "OPACITY": lambda cloud: cloud.opacities,
    "SIZE": lambda cloud: cloud.scales.max(axis=1),
    "STRETCH": _stretch,
    "X": lambda cloud: cloud.means[:, 0],
    "Y": lambda cloud: cloud.means[:, 1],
    "Z": lambda cloud: cloud.means[:, 2],
    "RED": lambda cloud: _rgb(cloud)[:, 0],
    "GREEN": lambda cloud: _rgb(cloud)[:, 1],
    "BLUE": lambda cloud: _rgb(cloud)[:, 2],
    "BRIGHTNESS": lambda cloud: _rgb(cloud) @ LUMA.astype(np.float32),
    "SATURATION": _saturation,
}
"""By name: opacity 0 to 1; largest standard deviation, metres; length to width; place; display colours of degree 0."""


def between(cloud: SplatCloud, measure: str, low: float, high: float) -> NDArray[np.bool_]:
    """Which splats (N,) of a still cloud have a measure (a name of MEASURES) from low to high, both included."""
    values = MEASURES[measure](cloud)
    return (values >= np.float32(low)) & (values <= np.float32(high))


def near_colour(cloud: SplatCloud, rgb: ArrayLike, distance: float) -> NDArray[np.bool_]:
    """Which splats (N,) have a display colour of degree 0 no farther than `distance` from rgb (3,)."""
    return np.linalg.norm(_rgb(cloud) - np.asarray(rgb, np.float32), axis=1) <= distance
