# SPDX-License-Identifier: GPL-3.0-or-later
"""In-betweens from a library: the nearest stretches of motion, warped to the gap and bent onto the keys.

A stretch departs from the spline through its own frames at the gap's keys: that is what the spline alone would miss, and
it vanishes at the keys, in velocity too.  The departures of many stretches, weighed by a Gaussian process
(`library.predict`) and shrunk as far as the same process fails on those stretches themselves, are added to the spline of
the gap, so poses and velocities at both ends and partial keys inside are met.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ..common import rotations as quaternions
from ..common.errors import VivantError
from . import interpolate, library
from .clip import Clip
from .library import Library, Matches, Query

Array = NDArray[np.floating]
Index = NDArray[np.intp]
Mask = NDArray[np.bool_]

LONGEST = 4.0  # seconds
# Frames of all stretches of a gap together: many stretches where it is short, for little happens in each.
FRAMES, MOST, LEAST = 4096, 768, 64
TAKES = 16  # stretches that are takes of their own
DOUBT = 8.0  # of the variance of a slope over the slope, which is taken off: 1 (James and Stein 1961) harms some animals


def retrieve(clip: Clip, keys: Mask, clips: Sequence[Clip], seed: int) -> tuple[Clip, list[str]]:
    """The clip with every gap of keys (F, J) filled from `clips`, and sentences for the user.

    Seed 0 blends the nearest stretches of each gap; any other seed takes one of them alone, seed 1 the nearest.  A gap
    between whole poses that no stretch is long enough for is filled by the spline, as are the ends of partial keys beyond
    them.  Raises VivantError where nothing could be found for any gap.
    """
    fitting = tuple(one for one in clips if len(one) > 1 and library.same_skeleton(one, clip))
    if not fitting:
        raise VivantError(
            "The library has no clip of this skeleton." if clips else "Retrieval needs a library of clips.",
            "Give clips with equal joint names and parents.",
        )
    gaps = list(_gaps(keys))
    if not gaps:
        raise VivantError("No gap lies between two frames that are keyed on every keyed joint.", "Key two whole poses.")
    searched = library.index(fitting, clip.fps)
    base = interpolate.cubic(clip, keys)
    filled = base.replace(
        rotations=base.rotations.copy(),
        root=base.root.copy(),
        translations={joint: values.copy() for joint, values in base.translations.items()},
    )
    unmatched = []
    for gap, query in zip(gaps, queries(base, keys, gaps), strict=True):
        found = _choice(searched, query, seed) if query.length <= LONGEST * clip.fps else None
        if found and len(found[0]):
            _write(filled, base, keys, searched, *found, *gap)
        else:
            unmatched.append(gap)
    if len(unmatched) == len(gaps):
        if min(end - start for start, end in gaps) > LONGEST * clip.fps:
            raise VivantError(f"The gap is longer than the {LONGEST:.0f} seconds that retrieval fills.", "Key a pose between.")
        raise VivantError("The library has no stretch of motion as long as the gap.", "Add clips, or key a pose between.")
    if unmatched:
        first = "from frame {} to {}".format(*unmatched[0])
        return filled, [f"{len(unmatched)} gaps have no match in the library and were filled by the spline (first: {first})."]
    return filled, []


def queries(base: Clip, keys: Mask, gaps: Sequence[tuple[int, int]]) -> Iterator[Query]:
    """What to look for in each gap of a clip that the spline has filled."""
    pose, velocity, turning, heading = library.describe(base)
    whole = np.append(_whole(keys), [False, False])  # none are beyond the clip
    for start, end in gaps:
        across = quaternions.difference(base.rotations[start], base.rotations[end]).ravel() / (end - start)
        yield Query(
            end - start,
            (pose[start], pose[end]),
            (
                velocity[start] if whole[start - 1] else None,
                velocity[end + 1] if whole[end + 1] else None,
            ),
            (
                library.bend(velocity, turning, across, start, start - 1) if whole[[start - 1, start - 2]].all() else None,
                library.bend(velocity, turning, across, end + 1, end + 2) if whole[[end + 1, end + 2]].all() else None,
            ),
            quaternions.rotate(library.about_y(-heading[start]), (base.root[end] - base.root[start]).astype(np.float64)),
            float(heading[end] - heading[start]),
        )


def _choice(searched: Library, query: Query, seed: int) -> tuple[Matches, Array]:
    """The stretches to blend, and their weights for `_trusted`."""
    if not seed:
        count = int(np.clip(FRAMES // query.length, LEAST, MOST))
        matches = library.search(searched, query, count, max(query.length // 4 - 1, 0))
        return matches, library.predict(searched, query, matches)
    matches = library.search(searched, query, TAKES, max(query.length // 2, 1))
    return matches[(seed - 1) % max(len(matches), 1) :][:1], np.ones((1, min(len(matches), 1)))


def _write(
    filled: Clip, base: Clip, keys: Mask, searched: Library, matches: Matches, weights: Array, start: int, end: int
) -> None:
    """Put what matches tell into a clip, between frames `start` and `end`; `base` is what the spline makes of it.

    Where the motion goes on beyond a key, the frame there counts as known too: a measured velocity is met, and at a lone key
    both sides take the spline's.
    """
    frames = np.nonzero(_whole(keys))[0]
    first, last = max(start - 1, int(frames[0])), min(end + 1, int(frames[-1]))
    span, inner, inside = slice(first, last + 1), slice(start + 1, end), slice(start + 1 - first, end - first)
    known = keys[span] | ~keys.any(axis=0)
    known[: start - first + 1] = known[end - first :] = True
    fill_vectors, fill_rotations = interpolate.cubics(base.fps)

    pieces = searched.piece[matches.first]
    found = _aligned(searched, matches, base, start, end, first, last)
    turns = np.swapaxes(found.rotations.reshape(len(matches), *base.rotations[span].shape), 0, 1)  # (F, K, J, 4)
    columns = turns.reshape(len(turns), -1, 4)
    own = fill_rotations(columns, np.tile(known, len(matches))).reshape(turns.shape)
    turn = _trusted(quaternions.difference(own[inside], turns[inside]), weights, pieces, matches.distance)
    run = base.rotations[start:end].astype(np.float64)
    run[1:] = quaternions.multiply(run[1:], quaternions.exp(turn))
    filled.rotations[inner] = quaternions.continuous(run)[1:]

    joints = [0, *base.translations]
    ways = np.swapaxes(_paths(found, joints).reshape(len(matches), len(turns), -1), 0, 1)  # (F, K, 3 M)
    lines = ways.reshape(len(turns), -1)
    own = fill_vectors(lines, np.tile(np.repeat(known[:, joints], 3, axis=1), len(matches))).reshape(ways.shape)
    shift = _trusted((ways - own)[inside].reshape(-1, len(matches), len(joints), 3), weights, pieces, matches.distance)
    for column, path in enumerate((filled.root, *filled.translations.values())):
        path[inner] += shift[:, column].astype(path.dtype)


def _trusted(departures: Array, weights: Array, pieces: Index, distance: Array) -> Array:
    """The departure (F, C, 3) of each channel that stretches' (F, K, C, 3) tell by their weights (1, K) or (1 + K, K).

    Where there are weights for each stretch too, a prediction is worth what those were worth: it is multiplied with the slope
    of the true departures on theirs, which is 1 for an honest one and 0 for one no better than none.  Stretches at a small
    `distance` (K,) from the gap count more, and of what is small or large only its share: a wild stretch says nothing of a
    calm one.  As far as the pieces (K,) of the library disagree about the slope it is shrunk itself (see DOUBT).
    """
    frames, count, channels = departures.shape[:3]
    told = (weights @ departures.reshape(frames, count, -1)).reshape(frames, -1, channels, 3)
    if len(weights) == 1:
        return told[:, 0]
    agreement, size = (np.einsum("fkcx,fkcx->kc", told[:, 1:], values) for values in (departures, told[:, 1:]))
    whole = np.sum(size, axis=1) + np.einsum("fkcx,fkcx->k", departures, departures)
    counts = 1 / (np.maximum(distance, 1e-3) ** 2 * np.sqrt(np.maximum(whole, 1e-12)))
    of_piece = np.where(np.unique(pieces)[:, None] == pieces, counts, 0)
    agreement, size = of_piece @ agreement, of_piece @ size  # (P, C)
    total = np.maximum(size.sum(axis=0), 1e-30)
    slope = np.maximum(agreement.sum(axis=0) / total, 1e-9)
    variance = np.sum((agreement - slope * size) ** 2, axis=0) / total**2
    return told[:, 0] * np.clip(slope - DOUBT * variance / slope, 0, 1)[:, None]


def _paths(clip: Clip, joints: Sequence[int]) -> Array:
    """The root's way and the offsets of other joints (F, M, 3)."""
    still = [np.broadcast_to(clip.offsets[joint], clip.root.shape) for joint in joints[1:]]
    moved = [clip.translations.get(joint, values) for joint, values in zip(joints[1:], still, strict=True)]
    return np.stack([clip.root, *moved], axis=1).astype(np.float64)


def _aligned(searched: Library, matches: Matches, base: Clip, start: int, end: int, first: int, last: int) -> Clip:
    """Frames first to last of K matches, one after another, warped to the gap from start to end; their way is laid onto its."""
    count = last + 1 - first
    times = matches.first[:, None] + matches.length[:, None] / (end - start) * (np.arange(first, last + 1) - start)
    outermost = (np.repeat(matches.first + beyond, count) for beyond in (-1, matches.length + 1))
    found = library.resample(searched.motion, times.ravel(), *outermost)
    facing = np.angle(searched.facing[matches.first])
    turn = library.about_y(np.repeat(library.heading_of(base)[start] - facing, count))
    root = found.root.reshape(len(matches), count, 3).astype(np.float64)
    root -= root[:, start - first, None]
    return found.replace(root=quaternions.rotate(turn, root.reshape(-1, 3)) + base.root[start])


def _whole(keys: Mask) -> NDArray[np.bool_]:
    """Frames (F,) at which every joint is keyed that ever is."""
    return keys[:, keys.any(axis=0)].all(axis=1)


def _gaps(keys: Mask) -> Iterator[tuple[int, int]]:
    """The whole frames at both ends of each gap."""
    frames = np.nonzero(_whole(keys))[0]
    for start, end in zip(frames[:-1].tolist(), frames[1:].tolist(), strict=True):
        if end - start > 1:
            yield start, end
