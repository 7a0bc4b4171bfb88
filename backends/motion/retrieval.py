# SPDX-License-Identifier: GPL-3.0-or-later
"""In-betweens from a library: the nearest stretches of motion, warped to the gap and bent onto the keys.

A stretch is laid onto the gap's first key.  What then is missing from it at the keys, and in velocity beside them, is a
residual that the velocity-matched cubic carries across the gap, so poses and velocities at both ends and partial keys inside
are met.  Several stretches bent so are averaged, nearer ones more, as departures from the spline: each tells what the spline
alone would miss, and their mean is nearer to the truth than any of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ..common import rotations as quaternions
from ..common.errors import VivantError
from . import interpolate, library
from .clip import Clip
from .library import Match, Query

Array = NDArray[np.floating]
Mask = NDArray[np.bool_]

LONGEST = 4.0  # seconds
# Chosen on windows of training takes for a low L2P at gaps of 5 to 45 frames, with the other takes of their performers as the
# library: 8 stretches, a power of 2 or FAR at 0.6 each lose up to two percent of SLERP's, one stretch seven or more.
NEAREST = 16  # stretches that are averaged, or that seeds choose from
POWER = 3.0  # a stretch weighs its distance to this power, inverse
FAR = 1.0  # distance at which the spline weighs as much as a stretch


def retrieve(clip: Clip, keys: Mask, clips: Sequence[Clip], seed: int) -> tuple[Clip, list[str]]:
    """The clip with every gap of keys (F, J) filled from `clips`, and sentences for the user.

    Seed 0 averages the nearest stretches of each gap; any other seed takes one of them alone, seed 1 the nearest.  A gap
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
        matches = library.search(searched, query, NEAREST) if query.length <= LONGEST * clip.fps else []
        if matches:
            _write(filled, base, keys, matches[(seed - 1) % len(matches) :][:1] if seed else matches, *gap)
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
    pose, velocity, heading = library.describe(base)
    whole = _whole(keys)
    for start, end in gaps:
        yield Query(
            end - start,
            (pose[start], pose[end]),
            (
                velocity[start] if start > 0 and whole[start - 1] else None,
                velocity[end + 1] if end + 1 < len(whole) and whole[end + 1] else None,
            ),
            quaternions.rotate(library.about_y(-heading[start]), (base.root[end] - base.root[start]).astype(np.float64)),
            float(heading[end] - heading[start]),
        )


def _write(filled: Clip, base: Clip, keys: Mask, matches: Sequence[Match], start: int, end: int) -> None:
    """Put the mean of bent matches into a clip, between frames `start` and `end`; `base` is what the spline makes of it.

    Where the motion goes on beyond a key, the frame there counts as known too: a measured velocity is met, and at a lone key
    both sides take the spline's.
    """
    frames = np.nonzero(_whole(keys))[0]
    first, last = max(start - 1, int(frames[0])), min(end + 1, int(frames[-1]))
    span, inner = slice(first, last + 1), slice(start + 1, end)
    known = keys[span] | ~keys.any(axis=0)
    known[: start - first + 1] = known[end - first :] = True

    found = [_aligned(match, base, start, end, first, last) for match in matches]
    closeness = np.array([max(match.distance, 1e-6) for match in matches]) ** -POWER
    weights = closeness / (closeness.sum() + FAR**-POWER)
    fill_vectors, fill_rotations = interpolate.cubics(base.fps)

    def known_of(joints: Sequence[int]) -> Mask:
        return np.tile(known[:, joints], len(found))

    goal = base.rotations[span].astype(np.float64)[:, None]
    turns = np.stack([one.rotations for one in found], axis=1)  # (F, K, J, 4)
    missing = quaternions.multiply(quaternions.conjugate(turns), goal)
    missing = fill_rotations(missing.reshape(len(goal), -1, 4), known_of(range(known.shape[1]))).reshape(turns.shape)
    departure = quaternions.difference(goal, quaternions.multiply(turns, missing))
    mean = quaternions.exp(np.tensordot(weights, departure, (0, 1)))
    run = quaternions.multiply(goal[:, 0], mean)[start - first : end - first]
    run[0] = base.rotations[start]  # signs go on from this key
    filled.rotations[inner] = quaternions.continuous(run)[1:]

    joints = [0, *base.translations]
    ways = np.stack([_paths(one) for one in found], axis=1)  # (F, K, M, 3)
    missing = (_paths(base)[span, None] - ways).reshape(len(ways), -1)
    missing = fill_vectors(missing, np.repeat(known_of(joints), 3, axis=1)).reshape(ways.shape)
    departure = ways + missing - _paths(base)[span, None]
    mean = np.tensordot(weights, departure, (0, 1))[start + 1 - first : end - first]
    for column, path in enumerate((filled.root, *filled.translations.values())):
        path[inner] += mean[:, column].astype(path.dtype)


def _paths(clip: Clip) -> Array:
    """The root's way and the animated offsets (F, M, 3)."""
    return np.stack([clip.root, *clip.translations.values()], axis=1).astype(np.float64)


def _aligned(match: Match, base: Clip, start: int, end: int, first: int, last: int) -> Clip:
    """Frames from first to last of a match warped to the gap from start to end and laid onto the pose at its start."""
    times = match.first + match.length / (end - start) * (np.arange(first, last + 1) - start)
    found = library.resample(match.clip, np.clip(times, 0, len(match.clip) - 1))
    turn = library.about_y(library.heading_of(base)[start] - library.heading_of(found)[start - first])
    rotations = found.rotations.astype(np.float64)
    rotations[:, 0] = quaternions.multiply(turn, rotations[:, 0])
    root = quaternions.rotate(turn, found.root.astype(np.float64) - found.root[start - first]) + base.root[start]
    still = {joint: np.broadcast_to(base.offsets[joint], found.root.shape) for joint in base.translations}
    translations = {joint: found.translations.get(joint, values) for joint, values in still.items()}
    return base.replace(rotations=rotations, root=root, translations=translations)


def _whole(keys: Mask) -> NDArray[np.bool_]:
    """Frames (F,) at which every joint is keyed that ever is."""
    return keys[:, keys.any(axis=0)].all(axis=1)


def _gaps(keys: Mask) -> Iterator[tuple[int, int]]:
    """The whole frames at both ends of each gap."""
    frames = np.nonzero(_whole(keys))[0]
    for start, end in zip(frames[:-1].tolist(), frames[1:].tolist(), strict=True):
        if end - start > 1:
            yield start, end
