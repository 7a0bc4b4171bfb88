# SPDX-License-Identifier: GPL-3.0-or-later
"""A searchable library of motion: which stretch of it begins, travels and ends as a gap does (motion matching, Clavet 2016).

A frame is described in its own heading frame (the ground axes turned by the root's yaw): where the joints are, and how fast
they move.  A stretch is compared with a gap by its first frame, its last one and the root's way between them, so frames
are described once, for gaps of every length.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..common import rotations as quaternions
from ..common.errors import VivantError
from .clip import Clip
from .mirror import mirror_of, mirrored

Array = NDArray[np.floating]
Index = NDArray[np.intp]
Bend = tuple[Array, Array]

UP = np.array([0.0, 1.0, 0.0])
GROUND = np.array([1.0, 0.0, 1.0])
WARP = (0.8, 1.25)  # length of a stretch over that of the gap
STIFF = 20  # gaps of fewer frames take stretches as long as they: what resampling does to them would count
FINENESS = 2  # frames between the lengths that are tried
PIECE = 0.5  # of a library at most is left out together: a clip and its mirror image, or a part of a long one


@dataclass(frozen=True)
class Weights:
    """Of squared differences: pose and velocity at each end, the root's way relative to the library's, its turn in radians."""

    pose: float = 1.0
    velocity: float = 1.0
    way: float = 0.3
    turn: float = 1.0


# Chosen on training takes for a low L2P at gaps of 5 to 45 frames, with the other takes of their performers as the library.
WEIGHTS = Weights()
# Chosen on training takes likewise, for gaps of 5 to 45 frames: `benchmarks/inbetween.py --tune retrieval`.
REACH = 0.9  # distance over which stretches are alike
BEND = 0.2  # variance of what a side's change of velocity tells, and of what its turns tell
NOISE = 0.5  # variance of what stretches do that are alike, over that of what they have in common


@dataclass(frozen=True, eq=False)
class Library:
    """All frames (N) of clips of one skeleton and frame rate, mirrored ones too, laid end to end.

    motion: them as one clip; end (N,): one past the last frame of a frame's own clip; piece (N,): the number of the piece of
    motion that a frame is of, the same in the mirror; pose, velocity (N, 3 J + 1): see `describe`, divided by their root mean
    squares, `scales`, and each row's squared length; turning (N, 3 J): see `describe`; facing (N,): the heading h as
    exp(ih); ground (N,): the root's z + ix, which a turn by h multiplies with that; height (N,): the root's.
    """

    motion: Clip
    end: Index
    piece: Index
    pose: Array
    velocity: Array
    turning: Array
    scales: tuple[float, float]
    facing: NDArray[np.complexfloating]
    ground: NDArray[np.complexfloating]
    height: Array


@dataclass(frozen=True)
class Query:
    """A gap of `length` frames between two keys, in the terms of `describe` and `bend`; what is not known is None."""

    length: int
    poses: tuple[Array, Array]
    velocities: tuple[Array | None, Array | None]
    bends: tuple[Bend | None, Bend | None]
    way: Array
    turn: float


@dataclass(frozen=True)
class Matches:
    """K stretches of a library, nearest first: first frame, length in frames and squared distance from the query, each (K,)."""

    first: Index
    length: Index
    distance: Array

    def __len__(self) -> int:
        return len(self.first)

    def __getitem__(self, chosen: slice) -> Matches:
        return Matches(self.first[chosen], self.length[chosen], self.distance[chosen])


def same_skeleton(a: Clip, b: Clip) -> bool:
    """Whether joints have equal names and parents."""
    return list(a.names) == list(b.names) and np.array_equal(a.parents, b.parents)


@functools.lru_cache(maxsize=2)
def index(clips: tuple[Clip, ...], fps: float) -> Library:
    """The library of clips of one skeleton, resampled to `fps`; remembered for the clips it was made of.

    Raises VivantError for values that are not finite.
    """
    if not all(
        np.all(np.isfinite(values)) for clip in clips for values in (clip.rotations, clip.root, *clip.translations.values())
    ):
        raise VivantError("A value in the library is not a finite number.", "Leave that clip out.")
    clips = tuple(_at_rate(clip, fps) for clip in clips)
    pieces = _pieces(clips)
    mirror = mirror_of(clips[0])
    if mirror is not None:
        clips += tuple(mirrored(clip, mirror) for clip in clips)
        pieces = np.tile(pieces, 2)
    described = [describe(clip) for clip in clips]
    pose, velocity, turning, heading = (np.concatenate([one[part] for one in described]) for part in range(4))
    lengths = np.array([len(clip) for clip in clips])
    scales = _spread(pose), _spread(velocity)
    motion = _end_to_end(clips)
    root = motion.root.astype(np.float64)
    return Library(
        motion=motion,
        end=np.repeat(np.cumsum(lengths), lengths),
        piece=pieces,
        pose=_table(pose / scales[0]),
        velocity=_table(velocity / scales[1]),
        turning=turning.astype(np.float32),
        scales=scales,
        facing=np.exp(1j * heading),
        ground=root[:, 2] + 1j * root[:, 0],
        height=root[:, 1],
    )


def _at_rate(clip: Clip, fps: float) -> Clip:
    if clip.fps == fps:
        return clip
    return resample(clip, np.arange(0, len(clip) - 1 + 1e-6, clip.fps / fps)).replace(fps=fps)


def _pieces(clips: Sequence[Clip]) -> Index:
    longest = max(round(PIECE * sum(map(len, clips))), 1)
    return np.cumsum(np.concatenate([np.arange(len(clip)) % longest == 0 for clip in clips]))


def _end_to_end(clips: Sequence[Clip]) -> Clip:
    moving = {joint for clip in clips for joint in clip.translations}

    def path(clip: Clip, joint: int) -> Array:
        return clip.translations.get(joint, np.broadcast_to(clip.offsets[joint], clip.root.shape))

    return clips[0].replace(
        rotations=np.concatenate([clip.rotations for clip in clips]),
        root=np.concatenate([clip.root for clip in clips]),
        translations={joint: np.concatenate([path(clip, joint) for clip in clips]) for joint in sorted(moving)},
    )


def describe(clip: Clip) -> tuple[Array, Array, Array, Array]:
    """Pose, velocity and turning (F, 3 J) and heading (F,) of every frame, of any skeleton.

    Pose: positions from the root, in the heading frame; the root's own is its height.  Velocity: how far joints moved since
    the frame before, likewise (the first frame repeats the second one's).  Turning: how far they turned since then, rotation
    vectors in their own frames.  The heading is the root's twist about Y since its rest pose.
    """
    positions, _ = clip.forward()
    positions = positions.astype(np.float64)
    heading = heading_of(clip)
    steps = np.diff(positions, axis=0, prepend=positions[:1])
    turning = quaternions.difference(clip.rotations[np.maximum(np.arange(len(clip)) - 1, 0)], clip.rotations)
    steps[0], turning[0] = steps[min(1, len(clip) - 1)], turning[min(1, len(clip) - 1)]
    pose = positions - positions[:, :1]
    pose[:, 0] = positions[:, 0] * UP
    back = about_y(-heading)[:, None]
    return _rows(quaternions.rotate(back, pose)), _rows(quaternions.rotate(back, steps)), _rows(turning), heading


def bend(velocity: Array, turning: Array, across: Array, near: Index | int, far: Index | int) -> Bend:
    """How motion beyond a key differs from that at constant velocity, which no cubic through the keys can tell.

    That is how much the velocity changes from row `far` to row `near`, the step beside the gap; and how much faster joints
    turn in both steps than `across` the gap, on average.
    """
    return velocity[near] - velocity[far], np.concatenate([turning[near] - across, turning[far] - across], axis=-1)


def _rows(vectors: Array) -> Array:
    return vectors.reshape(len(vectors), math.prod(vectors.shape[1:]))


def _table(rows: Array) -> Array:
    """Rows (N, D) and their squared lengths, so that one product gives distances: (N, D + 1)."""
    return np.concatenate([rows, np.sum(rows**2, axis=1, keepdims=True)], axis=1, dtype=np.float32)


def _spread(values: Array) -> float:
    """Root mean square; 1 where everything is zero."""
    return float(np.sqrt(np.mean(values**2))) or 1.0


def heading_of(clip: Clip) -> Array:
    """Yaw (F,) of the root, radians about Y since the rest pose."""
    rest = quaternions.IDENTITY if clip.rest is None else clip.rest[0]
    turned = quaternions.multiply(clip.rotations[:, 0].astype(np.float64), quaternions.conjugate(np.asarray(rest, np.float64)))
    return 2 * np.arctan2(turned[:, 2], turned[:, 0])


def about_y(angle: Array) -> Array:
    """Quaternions (…, 4) of turns about Y, radians."""
    return quaternions.exp(np.asarray(angle)[..., None] * UP)


def search(library: Library, query: Query, count: int, apart: int, weights: Weights = WEIGHTS) -> Matches:
    """The `count` nearest stretches, which begin more than `apart` frames from each other; fewer where there are no more.

    A stretch has a frame beyond each of its ends.
    """
    from_start, from_end = _distances(library.pose, query.poses, library.scales[0], weights.pose)
    at_start, at_end = _distances(library.velocity, query.velocities, library.scales[1], weights.velocity)
    from_start = from_start + at_start
    frames = len(library.facing)
    usual = _usual_way(library, query.length)
    way, turn = complex(query.way[2], query.way[0]), np.exp(1j * query.turn)
    cost, length = np.full(frames, np.inf), np.zeros(frames, np.intp)
    shortest, longest = (max(round(share * query.length), 1) for share in WARP) if query.length >= STIFF else [query.length] * 2
    for tried in np.unique(np.linspace(shortest, longest, (longest - shortest) // FINENESS + 2).astype(int)).tolist():
        if frames < tried + 3:
            break
        begin, stop = slice(1, frames - tried - 1), slice(tried + 1, frames - 1)
        back = np.conj(library.facing[begin])
        travelled = back * (library.ground[stop] - library.ground[begin])
        rise = library.height[stop] - library.height[begin]
        total = from_start[begin] + from_end[stop] + at_end[tried + 2 :]
        total += weights.way / usual * (np.abs(travelled - way) ** 2 + (rise - query.way[1]) ** 2)
        total += weights.turn * np.abs(library.facing[stop] * back - turn) ** 2
        whole = library.end[: frames - tried - 2] == library.end[tried + 2 :]
        better = whole & (total < cost[begin])
        cost[begin][better], length[begin][better] = total[better], tried
    few = min(count * (2 * apart + 1), frames)  # enough, for each that is taken rules out so many
    nearest = np.argpartition(cost, few - 1)[:few]
    nearest = nearest[np.isfinite(cost[nearest])]
    chosen: list[int] = []
    ruled_out = np.zeros(frames, bool)
    for frame in nearest[np.argsort(cost[nearest], kind="stable")].tolist():
        if not ruled_out[frame] and len(chosen) < count:
            chosen.append(frame)
            ruled_out[max(frame - apart, 0) : frame + apart + 1] = True
    return Matches(np.array(chosen, np.intp), length[chosen], cost[chosen])


def predict(library: Library, query: Query, matches: Matches, weights: Weights = WEIGHTS) -> Array:
    """How much each of K stretches tells about a gap, and about each other: the weights of a Gaussian process (1 + K, K).

    What stretches do beyond the spline is taken to be alike where their ends are (a Gaussian of the distance), to grow in
    proportion with the velocities at the ends and with how they change there (see `bend`), and to be uncertain by as much
    again.  Stretches that are alike share their weight, and what no stretch resembles gets little.  The first row is the gap's
    (kriging); the others are what the same process makes of each stretch without its own piece of the library
    (leave-one-out, in closed form).
    """
    alike = _alike(library, query, matches, weights)
    inverse = np.linalg.inv(alike[1:, 1:] + NOISE * np.eye(len(matches)))
    told = np.concatenate([alike[:1, 1:], inverse])
    told[0] = told[0] @ inverse
    pieces = library.piece[matches.first]
    for piece in np.unique(pieces):
        own = np.nonzero(pieces == piece)[0]
        told[1 + own] = -np.linalg.solve(inverse[np.ix_(own, own)], inverse[own])
    told[1:][pieces[:, None] == pieces] = 0
    return told


def _alike(library: Library, query: Query, matches: Matches, weights: Weights) -> Array:
    """The covariances (1 + K, 1 + K) of what a gap and its matches do beyond the spline."""
    posed, moving, travelled = _vectors(library, query, matches, weights)
    here = np.concatenate([posed, moving, travelled], axis=1)
    squares = np.sum(here**2, axis=1)
    apart = squares[:, None] + squares - 2 * here @ here.T
    alike = np.exp(-np.maximum(apart, 0) / (2 * REACH**2)) + moving @ moving.T
    for side in _bends(library, query, matches):
        alike += BEND * len(matches) / max(float(np.sum(side[1:] ** 2)), 1e-12) * side @ side.T
    return alike


def _vectors(library: Library, query: Query, matches: Matches, weights: Weights) -> tuple[Array, Array, Array]:
    """Pose, velocity, way and turn (1 + K, …) of a query and its matches: their squared distances are those of `search`."""
    first, last = matches.first, matches.first + matches.length

    def rows(table: Array, places: Sequence[Index], points: Sequence[Array | None], scale: float, weight: float) -> Array:
        known = [(table[at, :-1], point / scale) for at, point in zip(places, points, strict=True) if point is not None]
        both = [np.concatenate([point[None], found]) for found, point in known]
        return np.concatenate([np.zeros((1 + len(first), 0)), *both], axis=1) * np.sqrt(weight / (table.shape[1] - 1))

    back = np.conj(library.facing[first])
    ground = np.append(complex(query.way[2], query.way[0]), back * (library.ground[last] - library.ground[first]))
    rise = np.append(query.way[1], library.height[last] - library.height[first])
    turn = np.append(np.exp(1j * query.turn), back * library.facing[last]) * np.sqrt(weights.turn)
    share = np.sqrt(weights.way / _usual_way(library, query.length))
    return (
        rows(library.pose, (first, last), query.poses, library.scales[0], weights.pose),
        rows(library.velocity, (first, last + 1), query.velocities, library.scales[1], weights.velocity),
        np.stack([ground.real * share, ground.imag * share, rise * share, turn.real, turn.imag], axis=1),
    )


def _bends(library: Library, query: Query, matches: Matches) -> Iterator[Array]:
    """The two parts of each known `bend` of a query, and of its matches (1 + K, …)."""
    first, last = matches.first, matches.first + matches.length
    rotations = library.motion.rotations
    across = _rows(quaternions.difference(rotations[first], rotations[last])) / matches.length[:, None]
    steps = (first, first - 1), (last + 1, np.minimum(last + 2, library.end[last] - 1))
    for known, (near, far) in zip(query.bends, steps, strict=True):
        if known is not None:
            found = bend(library.velocity[:, :-1], library.turning, across, near, far)
            for point, scale, rows in zip(known, (library.scales[1], 1.0), found, strict=True):
                yield np.concatenate([point[None] / scale, rows])


def _usual_way(library: Library, length: int) -> float:
    """Mean square of how far the root gets in so many frames."""
    ground, rise = (values[length:] - values[:-length] for values in (library.ground, library.height))
    within = library.end[length:] == library.end[:-length]
    return max(float(np.mean((np.abs(ground) ** 2 + rise**2)[within])) if within.any() else 0.0, 1e-12)


def _distances(rows: Array, points: Sequence[Array | None], scale: float, weight: float) -> list[Array]:
    """Weighted mean squared distance of all rows of a table (N, D + 1) from points (D,) in units of `scale`; 0 from None."""
    targets = np.zeros((len(points), rows.shape[1]), np.float32)
    for target, point in zip(targets, points, strict=True):
        if point is not None:
            target[:-1], target[-1] = -2 * point / scale, 1
    apart = targets @ rows.T + np.sum(targets[:, :-1] ** 2, axis=1, keepdims=True) / 4
    return list(weight / (rows.shape[1] - 1) * np.maximum(apart, 0))


def resample(clip: Clip, times: Array, first: Index | int = 0, last: Index | int | None = None) -> Clip:
    """The clip at fractional frames `times` (T,): rotations by SLERP, positions by lines.

    first, last ((T,) or one for all): the frames that may be read, two at least; beyond them motion goes on at its velocity.
    """
    before = np.clip(np.floor(times).astype(int), first, np.maximum((len(clip) if last is None else last + 1) - 2, first))
    after = np.minimum(before + 1, len(clip) - 1)
    share = times - before

    def between(values: Array) -> Array:
        return values[before] + share[:, None] * (values[after] - values[before])

    shares = np.broadcast_to(share[:, None], (len(times), len(clip.names)))
    return clip.replace(
        rotations=quaternions.slerp(clip.rotations[before], clip.rotations[after], shares),
        root=between(clip.root),
        translations={joint: between(values) for joint, values in clip.translations.items()},
    )
