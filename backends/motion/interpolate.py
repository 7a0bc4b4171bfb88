# SPDX-License-Identifier: GPL-3.0-or-later
"""Interpolation of whole clips: all rotations, the root and the animated offsets, each channel between its own keys."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from . import spline
from .clip import Clip

Array = NDArray[np.floating]
Mask = NDArray[np.bool_]
Filler = Callable[[Array, Mask], Array]


def cubic(clip: Clip, keys: Mask) -> Clip:
    """The clip with every gap of keys (F, J) filled by the velocity-matched cubic; translations go with their joint."""
    return _fill(clip, keys, *cubics(clip.fps))


def linear(clip: Clip, keys: Mask) -> Clip:
    """The same at constant velocity: the baseline."""
    return _fill(clip, keys, spline.lerp_fill, spline.slerp_fill)


def cubics(fps: float) -> tuple[Filler, Filler]:
    """The functions that fill vectors (F, C) and rotations (F, J, 4) of this frame rate by the velocity-matched cubic."""
    return (
        functools.partial(spline.fill_vectors, damping=spline.TRAVEL.at(fps)),
        functools.partial(spline.fill_rotations, damping=spline.TURNS.at(fps)),
    )


def _fill(clip: Clip, keys: Mask, vectors: Filler, rotations: Filler) -> Clip:
    return clip.replace(
        rotations=rotations(clip.rotations, keys),
        root=vectors(clip.root, keys[:, 0]),
        translations={joint: vectors(values, keys[:, joint]) for joint, values in clip.translations.items()},
    )
