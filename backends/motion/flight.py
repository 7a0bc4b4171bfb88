# SPDX-License-Identifier: GPL-3.0-or-later
"""Jumps: between a key in the air and a key on the ground, the body falls as bodies do.

In the air the root's height is the parabola y = y₀ + v₀ t - g t² / 2 from the key; on the ground a cubic leads from it to
where the legs of the pose as it was stand, each at its velocity.  The ground begins where its feet reach it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from . import contacts

Array = NDArray[np.floating]
Mask = NDArray[np.bool_]

GRAVITY, LEG = 9.81, 0.85  # m/s²; metres from hip to ankle of the human whom it pulls so: others fall in legs as he does
HIGH = 0.15  # legs above the floor that a foot is at least in a key in the air
SHORTEST = 0.1  # seconds in the air that are worth a parabola
PUSH = 0.3  # seconds in which legs push a body off, or catch it
FALLS = (0.5, 1.5)  # share of gravity with which the known frames of a flight fall, where they can tell


def fall(height: Array, known: Mask, clear: Array, size: float, fps: float) -> Array:
    """The root's heights (F,), metres, with those between a key in the air and one on the ground put right.

    known (F,): frames whose height stays as it is; clear (F,): how far the body's lowest joint is above the floor, NaN in those
    of them whose feet are not known; size: the leg's length.  A single key in the air counts if the keys before and after it
    are on the ground and lower, a run of keys if it falls; where there is no time to fall, nothing changes.
    """
    result = height.copy()
    gravity = GRAVITY * size / LEG / fps**2
    for first, last in contacts.runs(~known):
        for air, ground in ((first - 1, last + 1), (last + 1, first - 1)):
            inside = min(air, ground) >= 0 and max(air, ground) < len(height)
            if inside and clear[ground] < contacts.HIGH * size and _flies(air, height, known, clear, gravity, size):
                _land(result, height, known, clear, air, ground, gravity, fps)
    return result


def _flies(air: int, height: Array, known: Mask, clear: Array, gravity: float, size: float) -> bool:
    """Whether the body is in the air at a known frame."""
    if not clear[air] >= HIGH * size:
        return False
    first, last = next(run for run in contacts.runs(known) if run[0] <= air <= run[1])
    run = slice(max(first, air - 3), min(last, air + 3) + 1)
    if first == last:
        beside = [np.flatnonzero(known[:air]), np.flatnonzero(known[air + 1 :]) + air + 1]
        if not all(len(side) for side in beside):
            return False
        keys = np.array([beside[0][-1], beside[1][0]])
        return bool(np.all(clear[keys] < contacts.HIGH * size) and np.all(height[keys] < height[air]))
    bend = -np.diff(height[run], 2) / gravity
    return len(bend) > 0 and bool(np.all(clear[run] > contacts.HIGH * size) and FALLS[0] < bend.mean() < FALLS[1])


def _land(result: Array, height: Array, known: Mask, clear: Array, air: int, ground: int, gravity: float, fps: float) -> None:
    """Fill `result` from frame `air` to frame `ground`, which may be earlier: a landing backwards is a take-off."""
    step = 1 if ground > air else -1
    frames = np.arange(air, ground + step, step)
    start = _velocity(height, known, air, gravity) * step
    time = np.arange(len(frames))
    falling = height[air] + start * time - gravity * time**2 / 2
    down = height - clear + clear[ground]  # where the feet of the pose are on the ground
    below = np.flatnonzero(falling < down[frames])
    if not len(below) or below[0] <= SHORTEST * fps or below[0] >= len(frames) - 1:
        return
    touch = int(below[0]) - 1
    count = min(len(frames) - 1 - touch, round(PUSH * fps))
    rest = frames[touch + count]
    share = np.arange(1, count) / count
    a, b = falling[touch], down[rest]
    va, vb = (start - gravity * touch) * count, _velocity(down, known, int(rest), 0.0) * step * count
    h = share * share * (3 - 2 * share)
    result[frames[1 : touch + 1]] = falling[1 : touch + 1]
    result[frames[touch + 1 : touch + count]] = a + (b - a) * h + share * (1 - share) * ((1 - share) * va - share * vb)
    result[frames[touch + count : -1]] = down[frames[touch + count : -1]]


def _velocity(height: Array, known: Mask, frame: int, gravity: float) -> float:
    """Of a known frame, in metres a frame: by the known frame beside it, else as it was."""
    for beside in (frame - 1, frame + 1):
        if 0 <= beside < len(known) and known[beside]:
            return float((height[frame] - height[beside]) * (frame - beside) - gravity * (frame - beside) / 2)
    return float(height[frame + 1] - height[frame - 1]) / 2 if 0 < frame < len(height) - 1 else 0.0
