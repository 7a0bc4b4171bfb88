# SPDX-License-Identifier: GPL-3.0-or-later
"""Where cameras stand that look at one point from all around it."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Shell = Literal["SPHERE", "HEMISPHERE", "ORBIT"]

_GOLDEN = (math.sqrt(5) - 1) / 2
_HIGHEST = 0.98  # sine of the elevation: straight above no side is up


def poses(shell: Shell, count: int, centre: ArrayLike, distance: float, elevation: float = 0.0) -> NDArray[np.float64]:
    """Camera-to-world matrices (count, 4, 4), OpenCV axes, of level cameras in a world with Z up.

    "SPHERE" all around, "HEMISPHERE" not from below: evenly spread, and so that any few in a row are spread too (van der
    Corput's sequence up, the golden ratio around).  "ORBIT" once around at an elevation, radians.
    """
    index = np.arange(count)
    if shell == "ORBIT":
        around = index / max(count, 1)
        up = np.full(count, math.sin(elevation))
    else:
        around = index * np.float64(_GOLDEN) % 1
        up = np.array([_mirrored_bits(each + 1) for each in range(count)])
        up = up if shell == "HEMISPHERE" else 2 * up - 1
    up = np.clip(up, -_HIGHEST, _HIGHEST)
    angle, level = 2 * math.pi * around, np.sqrt(1 - up**2)
    forward = -np.stack([level * np.cos(angle), level * np.sin(angle), up], axis=1)
    right = np.stack([-np.sin(angle), np.cos(angle), np.zeros(count)], axis=1)
    made = np.tile(np.eye(4), (count, 1, 1))
    made[:, :3, 0], made[:, :3, 1], made[:, :3, 2] = right, np.cross(forward, right), forward
    made[:, :3, 3] = np.asarray(centre) - distance * forward
    return made


def _mirrored_bits(number: int) -> float:
    """A whole number's bits behind the point, in reverse."""
    result, share = 0.0, 0.5
    while number:
        result += share * (number & 1)
        number, share = number >> 1, share / 2
    return result
