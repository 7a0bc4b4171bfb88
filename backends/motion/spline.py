# SPDX-License-Identifier: GPL-3.0-or-later
"""The velocity-matched cubic: fills gaps between known frames, exact at every known value.

Each column (a channel, or a joint's rotation) has its own known frames.  A gap is the run of missing frames between
two known ones; all gaps of all columns are solved at once, without a loop.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..common import rotations as quaternions

Array = NDArray[np.floating]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Gaps:
    """The G gaps of a mask (F, C), and the M missing frames inside them.

    column, start, end (G,): column, last known frame before, first known frame after;
    before, after (G,): the known frames beyond those, -1 where there is none;
    frame, gap (M,): each missing frame and the gap it lies in.
    """

    column: NDArray[np.intp]
    start: NDArray[np.intp]
    end: NDArray[np.intp]
    before: NDArray[np.intp]
    after: NDArray[np.intp]
    frame: NDArray[np.intp]
    gap: NDArray[np.intp]


def _neighbours(known: Mask) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Last known frame at or before, first known frame at or after each entry (F, C); -1 and F where there is none."""
    frames = np.arange(len(known))[:, None]
    last = np.maximum.accumulate(np.where(known, frames, -1), axis=0)
    following = np.minimum.accumulate(np.where(known, frames, len(known))[::-1], axis=0)[::-1]
    return last, following


def find_gaps(known: Mask) -> Gaps:
    """All gaps of a mask (F, C); missing frames before the first or after the last known one belong to none."""
    last, following = _neighbours(known)
    count = len(known)
    start, column = np.nonzero(known[:-1] & ~known[1:] & (following[1:] < count))
    end = following[start + 1, column]
    before = np.where(start > 0, last[start - 1, column], -1)
    after = following[np.minimum(end + 1, count - 1), column]
    after = np.where((end + 1 < count) & (after < count), after, -1)
    frame, missing = np.nonzero(~known & (last >= 0) & (following < count))
    gap = np.empty(known.shape, np.intp)
    gap[start, column] = np.arange(len(start))
    return Gaps(column, start, end, before, after, frame, gap[last[frame, missing], missing])


def _tangent(near: Array, far: Array, span: NDArray[np.intp], length: NDArray[np.intp]) -> Array:
    """Velocity (G, D) at a known frame: `near` is the mean velocity across the gap (`length` frames), `far` beyond (`span`).

    The slope of the parabola through the three known frames (Bessel); beside a single frame (`span` 1) that is the measured
    velocity.  Between lone keys it is at most three times the smaller of both velocities and none where the motion
    turns back, so that held poses stay still and nothing overshoots (Fritsch and Carlson 1980).
    """
    weight = (length / (length + span))[:, None]
    bessel = weight * far + (1 - weight) * near
    size = np.linalg.norm(bessel, axis=1)
    limit = 3 * np.minimum(np.linalg.norm(near, axis=1), np.linalg.norm(far, axis=1))
    limit[np.sum(near * far, axis=1) < 0] = 0
    scale = np.where(size > limit, limit / np.where(size > 0, size, 1), 1)
    return np.where(span[:, None] == 1, bessel, bessel * scale[:, None])


def _bend(gaps: Gaps, mean: Array, earlier: Array, later: Array) -> Array:
    """How far (M, D) the cubic leaves the constant-velocity path at each missing frame.

    mean, earlier, later (G, D): mean velocities across the gap, before it and after it.  Where there is no known frame
    beyond an end, the second derivative vanishes there (natural end).
    """
    length = gaps.end - gaps.start
    left, right = gaps.before >= 0, gaps.after >= 0
    leaving = np.where(left[:, None], _tangent(mean, earlier, np.maximum(gaps.start - gaps.before, 1), length) - mean, 0)
    arriving = np.where(right[:, None], _tangent(mean, later, np.maximum(gaps.after - gaps.end, 1), length) - mean, 0)
    leaving = np.where(left[:, None], leaving, -arriving / 2)
    arriving = np.where(right[:, None], arriving, -leaving / 2)
    k = (gaps.frame - gaps.start[gaps.gap])[:, None]
    s = k / length[gaps.gap][:, None]
    return k * (1 - s) * ((1 - s) * leaving[gaps.gap] - s * arriving[gaps.gap])


def _hold(values: Array, known: Mask) -> Array:
    """A copy in which missing frames before the first known one and after the last repeat it."""
    last, following = _neighbours(known)
    source = np.where(last >= 0, last, following)
    columns = np.broadcast_to(np.arange(known.shape[1]), known.shape)
    frames, any_known = np.clip(source, 0, len(known) - 1), known.any(axis=0)
    held = values[frames, columns]
    held[:, ~any_known] = values[:, ~any_known]
    return held


def _mask(known: Mask, shape: tuple[int, int]) -> Mask:
    known = np.asarray(known, bool)
    return np.broadcast_to(known[:, None] if known.ndim == 1 else known, shape)


def fill_vectors(values: Array, known: Mask) -> Array:
    """Values (F, C) with every gap filled by the velocity-matched cubic; known entries stay bit for bit.

    known (F, C) or (F,) bool; values elsewhere are ignored (NaN is fine).  Before the first known frame and after the
    last one the nearest is held; a column without any known frame stays as it is.
    """
    known = _mask(known, values.shape)
    filled, gaps = _hold(values, known), find_gaps(known)
    x = filled.astype(np.float64)

    def velocity(a: NDArray[np.intp], b: NDArray[np.intp]) -> Array:
        return ((x[b, gaps.column] - x[a, gaps.column]) / np.maximum(b - a, 1))[:, None]

    mean = velocity(gaps.start, gaps.end)
    bend = _bend(gaps, mean, velocity(gaps.before, gaps.start), velocity(gaps.end, gaps.after))
    first, column = gaps.start[gaps.gap], gaps.column[gaps.gap]
    filled[gaps.frame, column] = x[first, column] + (gaps.frame - first) * mean[gaps.gap, 0] + bend[:, 0]
    return filled


def fill_rotations(quats: Array, known: Mask) -> Array:
    """Rotations (F, J, 4) with every gap filled by the velocity-matched cubic on the sphere; known ones stay bit for bit.

    known (F, J) or (F,) bool.  q(t) = q0 · exp(mean t) · exp(bend(t)), the bend being the same cubic as of vectors, in the
    body's frame: poses and angular velocities at both ends are met, and a turn about one axis is the scalar cubic of
    its angle.  Generated signs continue from the known frame before the gap; the short way round is taken.
    """
    known = _mask(known, quats.shape[:2])
    filled, gaps = _hold(quats, known), find_gaps(known)
    q = quaternions.normalise(filled.astype(np.float64))

    def velocity(a: NDArray[np.intp], b: NDArray[np.intp]) -> Array:
        turn = quaternions.multiply(quaternions.conjugate(q[a, gaps.column]), q[b, gaps.column])
        return quaternions.log(turn) / np.maximum(b - a, 1)[:, None]

    mean = velocity(gaps.start, gaps.end)
    bend = _bend(gaps, mean, velocity(gaps.before, gaps.start), velocity(gaps.end, gaps.after))
    first, column = gaps.start[gaps.gap], gaps.column[gaps.gap]
    path = quaternions.exp(mean[gaps.gap] * (gaps.frame - first)[:, None])
    filled[gaps.frame, column] = quaternions.multiply(quaternions.multiply(q[first, column], path), quaternions.exp(bend))
    return filled


def lerp_fill(values: Array, known: Mask) -> Array:
    """Like `fill_vectors`, at constant velocity: the baseline."""
    known = _mask(known, values.shape)
    filled, gaps = _hold(values, known), find_gaps(known)
    share = (gaps.frame - gaps.start[gaps.gap]) / (gaps.end - gaps.start)[gaps.gap]
    first, last, column = gaps.start[gaps.gap], gaps.end[gaps.gap], gaps.column[gaps.gap]
    filled[gaps.frame, column] = (1 - share) * filled[first, column] + share * filled[last, column]
    return filled


def slerp_fill(quats: Array, known: Mask) -> Array:
    """Like `fill_rotations`, at constant angular velocity: the baseline."""
    known = _mask(known, quats.shape[:2])
    filled, gaps = _hold(quats, known), find_gaps(known)
    share = (gaps.frame - gaps.start[gaps.gap]) / (gaps.end - gaps.start)[gaps.gap]
    first, last, column = gaps.start[gaps.gap], gaps.end[gaps.gap], gaps.column[gaps.gap]
    q = quaternions.normalise(filled.astype(np.float64))
    filled[gaps.frame, column] = quaternions.slerp(q[first, column], q[last, column], share)
    return filled
