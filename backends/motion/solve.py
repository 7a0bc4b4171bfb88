# SPDX-License-Identifier: GPL-3.0-or-later
"""In-betweening of a clip: which solver runs, what it filled, and what the user should know."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..common import rotations as quaternions
from ..common.errors import VivantError
from . import spline
from .clip import Clip

Array = NDArray[np.floating]
Mask = NDArray[np.bool_]

SOLVERS = {
    "spline": (spline.fill_vectors, spline.fill_rotations),
    "slerp": (spline.lerp_fill, spline.slerp_fill),
}


@dataclass(frozen=True)
class Report:
    """What an in-between did: the solver that ran, gaps filled (over all joints), sentences for the user,
    and the largest change of a keyed value, which is 0.
    """

    solver: str
    gaps: int
    warnings: tuple[str, ...]
    key_error: float


def inbetween(clip: Clip, keys: Mask, solver: str = "spline", seed: int = 0) -> tuple[Clip, Report]:
    """Fill what is not keyed.

    keys: bool (F,) of keyed frames or (F, J) of keyed joints; the root's position is keyed where joint 0 is.  Values
    elsewhere are ignored.  `seed` is for solvers that draw; splines do not.
    Raises VivantError for a mask of another shape, an unknown solver or keyed values that are not finite.
    """
    if solver not in SOLVERS:
        raise VivantError(f"There is no in-between solver '{solver}'.", f"Choose one of: {', '.join(SOLVERS)}.")
    shape = clip.rotations.shape[:2]
    keys = np.asarray(keys, bool)
    if keys.shape not in (shape, shape[:1]):
        raise VivantError(f"The keys of this clip are of shape {shape[:1]} or {shape}, not {keys.shape}.")
    keys = np.broadcast_to(keys[:, None] if keys.ndim == 1 else keys, shape)
    fill_vectors, fill_rotations = SOLVERS[solver]
    rotations = fill_rotations(clip.rotations, keys)
    root = fill_vectors(clip.root, keys[:, 0])
    translations = {joint: fill_vectors(offset, keys[:, joint]) for joint, offset in clip.translations.items()}
    filled = clip.replace(rotations=rotations, root=root, translations=translations)
    gaps = spline.find_gaps(keys)
    error = max(np.abs(rotations - clip.rotations)[keys].max(initial=0), np.abs(root - clip.root)[keys[:, 0]].max(initial=0))
    return filled, Report(solver, len(gaps.column), _warnings(clip, gaps), float(error))


def _warnings(clip: Clip, gaps: spline.Gaps) -> tuple[str, ...]:
    a, b = (quaternions.normalise(clip.rotations[frame, gaps.column]) for frame in (gaps.start, gaps.end))
    angle = np.degrees(np.linalg.norm(quaternions.log(quaternions.multiply(quaternions.conjugate(a), b)), axis=-1))
    if not np.any(angle > 120):
        return ()
    worst = int(np.argmax(angle))
    return (
        f"{np.sum(angle > 120)} gaps turn a joint by more than 120° (worst: {clip.names[gaps.column[worst]]}, frames "
        f"{gaps.start[worst]} to {gaps.end[worst]}, {angle[worst]:.0f}°): which way round is a guess; add a key between.",
    )
