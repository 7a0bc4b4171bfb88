# SPDX-License-Identifier: GPL-3.0-or-later
"""In-betweening of a clip: runs a solver, and says what it filled and what the user should know."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..common import rotations as quaternions
from ..common.errors import VivantError
from . import spline
from .clip import Clip

Array = NDArray[np.floating]
Mask = NDArray[np.bool_]
Filler = Callable[[Array, Mask], Array]

SOLVERS = ("spline", "slerp")
AMBIGUOUS = 120.0  # degrees across a gap


@dataclass(frozen=True)
class Report:
    """What an in-between did.

    solver: the one that really ran; gaps: frame ranges filled; warnings: sentences for the user; key_error: largest change of
    a keyed value, which is 0.
    """

    solver: str
    gaps: int
    warnings: tuple[str, ...]
    key_error: float


def inbetween(clip: Clip, keys: Mask, solver: str = "spline", seed: int = 0) -> tuple[Clip, Report]:
    """Fill whatever is not keyed; keyed values come back bit for bit.

    keys: bool (F,) of keyed frames or (F, J) of keyed joints; translations (the root's is joint 0's) are keyed where their
    joint is.  Values elsewhere are ignored.  Frames outside a joint's keys hold the nearest key, a joint without keys
    its rest pose.  `seed` is for solvers that draw: "spline" (velocity-matched cubic) and "slerp" do not.
    Raises VivantError for an unknown solver, keys of another shape or keyed values that are not finite.
    """
    if solver not in SOLVERS:
        raise VivantError(f"There is no in-between solver '{solver}'.", f"Choose one of: {', '.join(SOLVERS)}.")
    shape = clip.rotations.shape[:2]
    keys = np.asarray(keys, bool)
    if keys.shape not in (shape, shape[:1]):
        raise VivantError(f"Keys for this clip have the shape {shape[:1]} or {shape}, not {keys.shape}.")
    keys = np.broadcast_to(keys[:, None] if keys.ndim == 1 else keys, shape)
    moving = {0: clip.root, **clip.translations}
    if not np.all(np.isfinite(clip.rotations[keys])) or not all(np.all(np.isfinite(moving[j][keys[:, j]])) for j in moving):
        raise VivantError("A keyed value is not a finite number.", "Key that frame anew, or leave it out.")

    fill_vectors, fill_rotations = _fillers(solver, clip.fps)
    keyed = keys.any(axis=0)
    rest = quaternions.IDENTITY if clip.rest is None else clip.rest
    rotations = fill_rotations(np.where(keyed[:, None], clip.rotations, rest).astype(clip.rotations.dtype), keys)
    moved = {
        joint: fill_vectors(values if keyed[joint] else np.broadcast_to(clip.offsets[joint], values.shape), keys[:, joint])
        for joint, values in moving.items()
    }
    filled = clip.replace(rotations=rotations, root=moved.pop(0), translations=moved)

    changes = [np.abs(rotations - clip.rotations)[keys], np.abs(filled.root - clip.root)[keys[:, 0]]]
    changes += [np.abs(values - clip.translations[joint])[keys[:, joint]] for joint, values in moved.items()]
    gaps = spline.find_gaps(keys)
    ranges = set(zip(gaps.start.tolist(), gaps.end.tolist(), strict=True))
    warnings = tuple(_warnings(clip, keys, gaps))
    return filled, Report(solver, len(ranges), warnings, float(max(np.max(change, initial=0) for change in changes)))


def _fillers(solver: str, fps: float) -> tuple[Filler, Filler]:
    """The functions that fill vectors and rotations (values, known) of clips of this frame rate."""
    if solver == "slerp":
        return spline.lerp_fill, spline.slerp_fill
    return (
        functools.partial(spline.fill_vectors, damping=spline.TRAVEL.at(fps)),
        functools.partial(spline.fill_rotations, damping=spline.TURNS.at(fps)),
    )


def _warnings(clip: Clip, keys: Mask, gaps: spline.Gaps) -> Iterator[str]:
    names = [clip.names[column] for column in gaps.column]
    start, end = (quaternions.normalise(clip.rotations[frame, gaps.column]) for frame in (gaps.start, gaps.end))
    turn = np.degrees(np.linalg.norm(quaternions.difference(start, end), axis=-1))
    if np.any(turn > AMBIGUOUS):
        most = int(np.argmax(turn))
        yield (
            f"{np.sum(turn > AMBIGUOUS)} turns between two keys exceed {AMBIGUOUS:.0f}° and went the short way, which "
            f"may be wrong (most: {names[most]}, {turn[most]:.0f}° from frame {gaps.start[most]} to {gaps.end[most]}); "
            "key a pose between."
        )
    opposed = np.nonzero(np.sum(start * end, axis=-1) < 0)[0]
    if len(opposed):
        first = opposed[np.argmin(gaps.end[opposed])]
        yield (
            f"{len(opposed)} keys at the end of a gap have a quaternion of opposite sign (first: "
            f"{names[first]}, frame {gaps.end[first]}); every frame is right, but blending its components "
            "with those of the frame before is not."
        )
    last, following = spline.neighbours(keys)
    keyed = keys.any(axis=0)
    if np.any(((last < 0) | (following == len(keys))) & keyed):
        yield "Frames before the first key or after the last one hold that key."
    unkeyed = [name for name, has in zip(clip.names, keyed, strict=True) if not has]
    if unkeyed:
        yield f"{len(unkeyed)} joints without a key keep their rest pose (first: {unkeyed[0]})."
