# SPDX-License-Identifier: GPL-3.0-or-later
"""The velocity-matched cubic: fills gaps between known frames and keeps every known value.

Each column (a channel, or the rotation of a joint) has its own known frames.  A gap is a run of missing frames between two
known ones.  Across it runs the path of constant velocity (a line, or SLERP), and on top of that a *bend* that vanishes at
both ends and gives the path the velocity which the known frames around the gap show.  All gaps of all columns are
solved at once, without a loop.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..common import rotations as quaternions

Array = NDArray[np.floating]
Mask = NDArray[np.bool_]
Index = NDArray[np.intp]


@dataclass(frozen=True)
class Damping:
    """How a measured velocity is forgotten inside a long gap.

    In gaps up to `free` frames it is not: the path is a plain cubic.  In longer ones what differs from constant velocity dies
    away as exp(-t / decay), fully so in the longest: a person who starts to turn does not go on turning for two seconds.
    """

    free: float
    decay: float

    def __call__(self, travelled: Index, length: Index) -> Array:
        """Share of the bend that is left `travelled` frames into a gap of `length` frames."""
        return np.exp(-travelled / self.decay * np.maximum(0, 1 - self.free / length))

    def at(self, fps: float) -> Damping:
        """The same in time for clips of another frame rate than 30."""
        return Damping(self.free * fps / 30, self.decay * fps / 30)


# At 30 frames a second.  Chosen on training takes of CMU motion, gaps of 5 to 80 frames, for the lowest L2P: 0.806 of SLERP's
# with one target frame, 0.669 with frames after it (0.874 and 0.719 undamped); `benchmarks/inbetween.py --tune spline`.
# A body's travel persists longer than the turn of a joint.
TURNS = Damping(free=16, decay=10)
TRAVEL = Damping(free=16, decay=40)


@dataclass(frozen=True)
class Gaps:
    """The G gaps of a mask (F, C), and the M missing frames inside them.

    column, start, end (G,): column, last known frame before, first known frame after;
    before, after (G,): the known frames next to those, outside the gap; equal to start or end where there is none;
    frame, gap (M,): each missing frame, and the gap it lies in.
    """

    column: Index
    start: Index
    end: Index
    before: Index
    after: Index
    frame: Index
    gap: Index


def neighbours(known: Mask) -> tuple[Index, Index]:
    """Last known frame at or before, first known frame at or after each entry (F, C); -1 and F where there is none."""
    frames = np.arange(len(known))[:, None]
    last = np.maximum.accumulate(np.where(known, frames, -1), axis=0)
    following = np.minimum.accumulate(np.where(known, frames, len(known))[::-1], axis=0)[::-1]
    return last, following


def find_gaps(known: Mask) -> Gaps:
    """All gaps of a mask (F, C); missing frames before the first or after the last known one belong to none."""
    count = len(known)
    last, following = neighbours(known)
    start, column = np.nonzero(known[:-1] & ~known[1:] & (following[1:] < count))
    end = following[start + 1, column]
    before, after = last[np.maximum(start - 1, 0), column], following[np.minimum(end + 1, count - 1), column]
    before, after = np.where(before < 0, start, before), np.where(after == count, end, after)
    frame, missing = np.nonzero(~known & (last >= 0) & (following < count))
    gap = np.empty(known.shape, np.intp)
    gap[start, column] = np.arange(len(start))
    return Gaps(column, start, end, before, after, frame, gap[last[frame, missing], missing])


def fill_vectors(values: Array, known: Mask, damping: Damping | None = TRAVEL) -> Array:
    """Values (F, C) with every gap filled by the velocity-matched cubic; known entries stay bit for bit.

    known (F, C) or (F,) bool; values elsewhere are ignored (NaN is fine).  Before its first known frame and after its last
    a column holds that value; a column without any known frame stays as it is.  Velocities and ends: see `_bend`.
    """
    filled, gaps = _prepare(values, known)
    x = filled.astype(np.float64)

    def velocity(a: Index, b: Index) -> Array:
        return ((x[b, gaps.column] - x[a, gaps.column]) / np.maximum(b - a, 1))[:, None]

    mean = velocity(gaps.start, gaps.end)
    bend = _bend(gaps, velocity(gaps.before, gaps.start), mean, velocity(gaps.end, gaps.after), damping)
    first, column = gaps.start[gaps.gap], gaps.column[gaps.gap]
    filled[gaps.frame, column] = x[first, column] + (gaps.frame - first) * mean[gaps.gap, 0] + bend[:, 0]
    return filled


def fill_rotations(quats: Array, known: Mask, damping: Damping | None = TURNS) -> Array:
    """Rotations (F, J, 4) wxyz with every gap filled by the velocity-matched cubic; known ones stay bit for bit, sign included.

    known (F, J) or (F,) bool; the rest as in `fill_vectors`.  q(t) = q0 · exp(mean t) · exp(bend(t)) with angular velocities in
    the body's frame, on the short way round: end poses and end velocities are met, and a turn about a fixed axis is the
    scalar cubic of its angle.  Generated signs continue from the known frame before the gap.
    """
    filled, gaps = _prepare(quats, known)
    q = quaternions.normalise(filled.astype(np.float64))

    def velocity(a: Index, b: Index) -> Array:
        return quaternions.difference(q[a, gaps.column], q[b, gaps.column]) / np.maximum(b - a, 1)[:, None]

    mean = velocity(gaps.start, gaps.end)
    bend = _bend(gaps, velocity(gaps.before, gaps.start), mean, velocity(gaps.end, gaps.after), damping)
    first, column = gaps.start[gaps.gap], gaps.column[gaps.gap]
    path = quaternions.exp(mean[gaps.gap] * (gaps.frame - first)[:, None])
    filled[gaps.frame, column] = quaternions.multiply(quaternions.multiply(q[first, column], path), quaternions.exp(bend))
    return filled


def lerp_fill(values: Array, known: Mask) -> Array:
    """Like `fill_vectors` at constant velocity: the baseline."""
    filled, gaps = _prepare(values, known)
    first, last, column = gaps.start[gaps.gap], gaps.end[gaps.gap], gaps.column[gaps.gap]
    share = (gaps.frame - first) / (last - first)
    filled[gaps.frame, column] = (1 - share) * filled[first, column] + share * filled[last, column]
    return filled


def slerp_fill(quats: Array, known: Mask) -> Array:
    """Like `fill_rotations` at constant angular velocity: the baseline."""
    filled, gaps = _prepare(quats, known)
    first, last, column = gaps.start[gaps.gap], gaps.end[gaps.gap], gaps.column[gaps.gap]
    q = quaternions.normalise(filled.astype(np.float64))
    share = (gaps.frame - first) / (last - first)
    filled[gaps.frame, column] = quaternions.slerp(q[first, column], q[last, column], share)
    return filled


def _prepare(values: Array, known: Mask) -> tuple[Array, Gaps]:
    """A copy of values (F, C, …) that holds each column's first and last known value outside of them, and the gaps."""
    shape = values.shape[:2]
    known = np.asarray(known, bool)
    known = np.broadcast_to(known[:, None] if known.ndim == 1 else known, shape)
    last, following = neighbours(known)
    source = np.where(last >= 0, last, following)
    source = np.where(known.any(axis=0), source, np.arange(len(known))[:, None])
    return values[source, np.arange(shape[1])], find_gaps(known)


def _bend(gaps: Gaps, earlier: Array, mean: Array, later: Array, damping: Damping | None) -> Array:
    """How far (M, D) the cubic leaves the path of constant velocity at each missing frame.

    earlier, mean, later (G, D): mean velocities from the known frame before the gap to its start, across it, and from its
    end to the known frame after.  Where there is none beyond an end, the acceleration vanishes at that end.  Only
    velocities measured on neighbouring frames are damped; those between lone keys are the animator's.
    """
    span_before, span_after = gaps.start - gaps.before, gaps.after - gaps.end
    length = gaps.end - gaps.start
    leaving = np.where(span_before[:, None] > 0, _tangent(earlier, span_before, mean, length) - mean, 0)
    arriving = np.where(span_after[:, None] > 0, _tangent(later, span_after, mean, length) - mean, 0)
    # With two frames on each side the cubic goes through all four, which is the least-acceleration path between them.
    four = (span_before == 1) & (span_after == 1)
    through = np.where(four, 1 / (length + 2), 0)[:, None] * (leaving + arriving)

    frames = length[gaps.gap]
    passed = gaps.frame - gaps.start[gaps.gap]

    def side(excess: Array, span: Index, opposite: Index, travelled: Index) -> Array:
        s = travelled / frames
        shape = travelled * (1 - s) * (1 - s + np.where(opposite[gaps.gap] > 0, 0, s / 2))
        if damping is not None:
            shape = np.where(span[gaps.gap] == 1, damping(travelled, frames), 1) * shape
        return shape[:, None] * excess[gaps.gap]

    return side(leaving - through, span_before, span_after, passed) - side(
        arriving - through, span_after, span_before, frames - passed
    )


def _tangent(beyond: Array, span: Index, mean: Array, length: Index) -> Array:
    """Velocity (G, D) at a known frame, from the mean velocities over `span` frames on one side and `length` on the other.

    It is that of the parabola through the three known frames (Bessel), which beside neighbouring frames is nearly the
    measured velocity.  Between lone keys it is limited as by Fritsch and Carlson (1980): at most three times the smaller of
    both velocities, and none where the motion turns back, so that held poses stay still and no channel overshoots its keys.
    """
    weight = (length / (length + span))[:, None]
    bessel = weight * beyond + (1 - weight) * mean
    sizes = np.linalg.norm(beyond, axis=1), np.linalg.norm(mean, axis=1)
    cosine = np.sum(beyond * mean, axis=1) / np.maximum(sizes[0] * sizes[1], 1e-300)
    limit = 3 * np.minimum(*sizes) * np.clip(1 + cosine, 0, 1)
    limited = bessel * np.minimum(1, limit / np.maximum(np.linalg.norm(bessel, axis=1), 1e-300))[:, None]
    return np.where(span[:, None] == 1, bessel, limited)
