# SPDX-License-Identifier: GPL-3.0-or-later
"""What a filled range looks like beside the motion around it: how feet slide, and how jerky it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from . import metrics

Array = NDArray[np.floating]
Mask = NDArray[np.bool_]

STILL = 1e-3  # metres a second cubed: less is rounding, not jerk


@dataclass(frozen=True)
class Quality:
    """Measures of what was filled; None where there is nothing to measure, or to compare with.

    slide, slide_around: centimetres a second that feet near the floor move, in the filled range and around it (see
    `metrics.skating`); jerk: mean size of the third derivative of all joints' places over that around it.
    """

    slide: float | None
    slide_around: float | None
    jerk: float | None


def assess(places: Array, filled: Mask, others: Mask, fps: float, feet: Sequence[int] = ()) -> Quality:
    """Quality of the filled frames (F,) among places (F, J, 3) of joints in metres, Y up, beside that of the others (F,).

    feet: joints on the ground.  A velocity or a jerk belongs to what is filled when any of the frames it is taken from does,
    to the others when all do.
    """
    jerks = np.linalg.norm(np.diff(places, 3, axis=0), axis=-1) * fps**3
    inside, around = _means(jerks, np.ones_like(jerks), filled, others)
    slides: tuple[float | None, float | None] = None, None
    if len(feet) and len(places):
        on_ground = places[:, list(feet)]
        length, weight = metrics.steps(on_ground, metrics.floor_height(on_ground))
        slides = _means(length * fps, weight, filled, others)
    return Quality(*slides, inside / around if inside is not None and around is not None and around > STILL else None)


def _means(values: Array, weights: Array, filled: Mask, others: Mask) -> tuple[float | None, float | None]:
    """Means of values (N, K) that reach into the filled frames (F,), and of those within the others; None without weight.

    As in `metrics.skating`, a value counts as one however small its weight.
    """
    span = len(filled) - len(values) + 1
    rows = range(len(values))
    means: list[float | None] = []
    for chosen in ([filled[row : row + span].any() for row in rows], [others[row : row + span].all() for row in rows]):
        mask = np.array(chosen, bool)
        count = np.count_nonzero(weights[mask])
        means.append(float(np.sum((values * weights)[mask]) / count) if count else None)
    return means[0], means[1]
