# SPDX-License-Identifier: GPL-3.0-or-later
"""Tracks: what is to be filled on an armature, channel by channel, and new keys for it from a spline or another motion."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import bpy
import numpy as np
from numpy.typing import NDArray

from ..backends.common import rotations as quaternions
from ..backends.common.errors import VivantError
from ..backends.motion import spline
from . import actions, rigs, takes
from .fills import RECORD, Fill, generated

Array = NDArray[np.floating]
# New keys of a track: times (n,), values (n, C), and the times of those that hold until the next key.
New = tuple[Array, Array, list[float]]
# The new keys of each track, and the bones of which the user should know something, by sentence.
Solved = tuple[list[New], dict[str, list[str]]]
Test = Callable[[float, float], bool]

WHOLE = 1 / 64  # frames: a key this near to a whole frame stands on it; Blender merges keys within a hundredth
AMBIGUOUS = 120.0  # degrees between two keys
STILL = 1e-5  # metres, radians or factors: less is rounding, not motion
NUDGE = 1 / 32  # frames: exact in float32, and more than the hundredth within which Blender merges keys


@dataclass(frozen=True)
class Track:
    """Curves of one bone that are interpolated as one: a single number, or (mode is not "") a whole rotation.

    gaps: times of the keys around what is to be filled; frames (F,), whole; known (F,) and values (F, C):
    channels, right where known; missing: frames that get a key; runs: rows (start, end) of the last known
    frame before each run of unknown ones and of the first one after it; reach: first and last frame up to which, going away
    from the gaps, the curves move as their keys say.
    """

    bone: str
    mode: str
    curves: tuple[bpy.types.FCurve, ...]
    gaps: tuple[actions.Gap, ...]
    frames: NDArray[np.intp]
    known: NDArray[np.bool_]
    values: Array
    missing: NDArray[np.bool_]
    runs: tuple[tuple[int, int], ...]
    reach: tuple[int, int]

    @property
    def stamp(self) -> tuple[object, ...]:
        """Equal for tracks of the same channels, gaps and keys, whatever Blender's objects are by now."""
        names = tuple(takes.curve_name(curve) for curve in self.curves)
        return self.bone, self.mode, names, self.gaps, self.frames.tobytes(), self.known.tobytes(), self.values.tobytes()

    def knows(self, frames: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Which of some frames show the motion that the user keyed."""
        beyond = (frames < self.frames[0]) | (frames > self.frames[-1])
        inside = np.clip(frames - self.frames[0], 0, len(self.frames) - 1)
        return np.where(beyond, (frames >= self.reach[0]) & (frames <= self.reach[1]), self.known[inside])


def scope_of(scope: str, frame_range: tuple[float, float] | None, now: float) -> tuple[list[Test], VivantError]:
    """Tests of a gap's two times, the next one for when none passes the first, and the error for when none passes any."""
    scene = bpy.context.scene
    if scope == "GAP":
        return [lambda start, end: start <= now < end, lambda start, end: start < now <= end], VivantError(
            f"Frame {now:g} lies in no gap between keys of these bones.",
            "Move the playhead between two keys that are at least two frames apart.",
        )
    if scope != "RANGE":
        raise VivantError(f"There is no scope '{scope}'.", "Use 'GAP' or 'RANGE'.")
    first, last = frame_range or (scene.frame_start, scene.frame_end)
    return [lambda start, end: first <= start and end <= last], VivantError(
        f"No two neighbouring keys of these bones lie between frames {first:g} and {last:g} and at least two frames apart.",
        "Choose a range that includes the keys at both ends of a gap.",
    )


def tracks_of(
    groups: Sequence[rigs.Group], fills: Mapping[str, Fill], tests: Iterable[Test], nothing: VivantError
) -> list[Track]:
    """What is to be filled, with everything that the solver needs to know; raises `nothing` when there is nothing."""
    read = ["interpolation", "type", *RECORD]
    keys = {curve: actions.read_keys(curve, read) for group in groups for curve in group.curves}
    theirs = {
        curve: has["co"][:, 0][~generated(has, fills.get(takes.curve_name(curve), Fill()))] for curve, has in keys.items()
    }
    for group in groups:
        if group.mode and group.whole:  # who changes one number of a rotation changes the rotation
            turned = np.concatenate([theirs[curve] for curve in group.curves])
            for curve in group.curves:
                times = keys[curve]["co"][:, 0]
                theirs[curve] = times[np.isin(times, turned)]
    gaps = {}
    for curve, times in theirs.items():
        users = times.tolist()
        gaps[curve] = [(start, end) for start, end in itertools.pairwise(users) if end - start > 2 - WHOLE]
    for wanted in tests:
        tracks = []
        for group in groups:
            chosen = [tuple(gap for gap in gaps[curve] if wanted(*gap)) for curve in group.curves]
            if group.mode and group.whole and len(set(chosen)) == 1:
                parts = [(group.mode, group.curves)]
            else:
                parts = [("", (curve,)) for curve in group.curves]
            for (mode, curves), gaps_of_part in zip(parts, chosen, strict=False):
                if gaps_of_part:
                    tracks.append(_track(group.bone, mode, curves, [keys[curve] for curve in curves], gaps_of_part))
        if tracks:
            return _without_bystanders(tracks)
    raise nothing


def _without_bystanders(tracks: list[Track]) -> list[Track]:
    """All tracks but those that stand still and whose gaps go beyond those of the tracks that move.

    Imported actions are full of channels which keep one value from a key at the start to a key at the end.
    """
    moving = [np.ptp(track.values[track.known], axis=0).max() > STILL for track in tracks]
    spans = [(track.gaps[0][0], track.gaps[-1][1]) for track, moves in zip(tracks, moving, strict=True) if moves]
    if not spans:
        return tracks
    first, last = min(start for start, _ in spans), max(end for _, end in spans)
    return [
        track
        for track, moves in zip(tracks, moving, strict=True)
        if moves or (first <= track.gaps[0][0] and track.gaps[-1][1] <= last)
    ]


def _track(
    bone: str, mode: str, curves: tuple[bpy.types.FCurve, ...], keys: list[actions.Keys], gaps: tuple[actions.Gap, ...]
) -> Track:
    """The frames around and inside some gaps, with the values of the known ones."""
    keys = [has[~actions.inside(has["co"][:, 0], gaps)] for has in keys]
    ends = []
    for start, end in gaps:
        lowest, highest = math.floor(start + WHOLE) + 1, math.ceil(end - WHOLE) - 1
        # Beside a key between two frames, the first whole frame inside the gap is taken from the user's curve.
        ends.append((lowest, highest, lowest - _stands_on_frame(start), highest + _stands_on_frame(end)))
    left, right = ends[0][2], ends[-1][3]
    before, after, reach = _context(curves[0], keys[0], gaps, left, right)
    frames = np.arange(min(left, before), max(right, after) + 1)
    origin = frames[0]
    known, missing = np.zeros(len(frames), bool), np.zeros(len(frames), bool)
    known[[before - origin, after - origin]] = True
    known[left - origin : right - origin + 1] = True
    for lowest, highest, start, end in ends:
        missing[lowest - origin : highest - origin + 1] = True
        known[start - origin + 1 : end - origin] = False
    values = np.zeros((len(frames), len(curves)))
    for column, curve, has in zip(values.T, curves, keys, strict=True):
        column[known] = _sample(curve, has, frames[known])
    if not np.all(np.isfinite(values)):
        raise VivantError(f"A key of '{bone}' at the gap is not a finite number.", "Key that pose anew.")
    runs = tuple((start - origin, end - origin) for _, _, start, end in ends if end - start > 1)
    return Track(bone, mode, curves, gaps, frames, known, values, missing, runs, reach)


def _stands_on_frame(time: float) -> bool:
    return abs(time - round(time)) < WHOLE


def _context(
    curve: bpy.types.FCurve, keys: actions.Keys, gaps: tuple[actions.Gap, ...], left: int, right: int
) -> tuple[int, int, tuple[int, int]]:
    """Known frames outside `left` and `right`, the ends of what is filled, that show the velocity there; and the reach.

    The neighbouring frame where the curve moves as its keys say, else the neighbouring key; the end itself
    where there is no further key.
    """
    times, kinds = keys["co"][:, 0], keys["interpolation"]
    first, last = np.searchsorted(times, [gaps[0][0], gaps[-1][1]])
    modified = any(not modifier.mute for modifier in curve.modifiers)
    steps = np.flatnonzero(kinds == actions.CONSTANT)
    before = start = left
    if first > 0:
        earlier = steps[steps < first]
        start = math.ceil(times[earlier[-1] + 1 if len(earlier) else 0])
        before = left - 1
        if modified or kinds[first - 1] == actions.CONSTANT:
            before = start = round(float(times[first - 1]))
    after = stop = right
    if last + 1 < len(times):
        later = steps[steps >= last]
        stop = math.floor(times[later[0] if len(later) else -1])
        after = right + 1
        if modified or kinds[last] == actions.CONSTANT:
            after = stop = round(float(times[last + 1]))
    return before, after, (start, stop)


def _sample(curve: bpy.types.FCurve, keys: actions.Keys, frames: NDArray[np.intp]) -> Array:
    """A curve's values at whole frames: its key's own where there is one, to the last bit."""
    times, values = keys["co"].T
    nearest = np.clip(np.searchsorted(times, frames - WHOLE), 0, len(times) - 1)
    keyed = np.abs(times[nearest] - frames) < WHOLE
    between = [0.0 if has else curve.evaluate(frame) for frame, has in zip(frames.tolist(), keyed, strict=True)]
    return np.where(keyed, values[nearest], between)


def splined(tracks: Sequence[Track]) -> Solved:
    """New keys along the velocity-matched cubic through what is known."""
    turned = _batched(spline.fill_rotations, spline.TURNS, tracks, _quaternions(tracks))

    def numbers(others: Iterable[int]) -> dict[int, Array]:
        return _batched(spline.fill_vectors, spline.TRAVEL, tracks, {index: tracks[index].values for index in others})

    return _as_keys(tracks, turned, numbers)


def bent(tracks: Sequence[Track], found: Sequence[Array]) -> Solved:
    """New keys along another motion, bent so that it meets what is known, in value and velocity.

    found: for each track its channels (F, C) in that motion, or for a rotation quaternions (F, 4).
    """
    known = _quaternions(tracks)
    missing = {index: quaternions.multiply(quaternions.conjugate(found[index])[:, None], q) for index, q in known.items()}
    bends = _batched(spline.fill_rotations, spline.TURNS, tracks, missing)
    turned = {index: quaternions.multiply(found[index][:, None], bend) for index, bend in bends.items()}

    def numbers(others: Iterable[int]) -> dict[int, Array]:
        motion = {
            index: rigs.from_quaternions(found[index], track.mode, track.values[0]) if track.mode else found[index]
            for index in others
            for track in [tracks[index]]
        }
        missing = {index: tracks[index].values - columns for index, columns in motion.items()}
        bends = _batched(spline.fill_vectors, spline.TRAVEL, tracks, missing)
        return {index: motion[index] + bend for index, bend in bends.items()}

    return _as_keys(tracks, turned, numbers)


def _quaternions(tracks: Sequence[Track]) -> dict[int, Array]:
    """Known rotations (F, 1, 4) of those tracks that are rotations, by index."""
    quats = {}
    for index, track in enumerate(tracks):
        if track.mode:
            quats[index] = np.zeros((len(track.frames), 1, 4))
            quats[index][track.known, 0] = rigs.to_quaternions(track.values[track.known], track.mode)
    return quats


def _as_keys(
    tracks: Sequence[Track], turned: Mapping[int, Array], numbers: Callable[[Iterable[int]], dict[int, Array]]
) -> Solved:
    """New keys from the rotations (F, 1, 4) of some tracks, by index, and from the numbers (F, C) of all others."""
    warnings: dict[str, list[str]] = defaultdict(list)
    new: dict[int, New] = {}
    for index, quats in turned.items():
        track, quats = tracks[index], quats[:, 0]
        if any(_turn(quats[start], quats[end]) > AMBIGUOUS for start, end in track.runs):
            warnings[f"Turns of more than {AMBIGUOUS:.0f}° between keys are ambiguous, key a pose between"].append(track.bone)
        keys = _rotation_keys(track, quats)
        if keys is None:
            warnings["Angles that do not follow the short way were in-betweened one by one"].append(track.bone)
            continue
        if keys[2]:
            warnings[f"Quaternions change sign; a key {NUDGE:g} frames before keeps the motion whole"].append(track.bone)
        new[index] = keys
    for index, values in numbers(index for index in range(len(tracks)) if index not in new).items():
        new[index] = tracks[index].frames[tracks[index].missing], values[tracks[index].missing], []
    return [new[index] for index in range(len(tracks))], warnings


def _batched(
    fill: Callable[..., Array], damping: spline.Damping, tracks: Sequence[Track], values: Mapping[int, Array]
) -> dict[int, Array]:
    """Filled values (F, C, …) of some tracks, by index; those with the same known frames are solved in one call."""
    render = bpy.context.scene.render
    damping = damping.at(render.fps / render.fps_base)
    batches: dict[bytes, list[int]] = defaultdict(list)
    for index in values:
        batches[tracks[index].known.tobytes()].append(index)
    filled = {}
    for members in batches.values():
        columns = np.concatenate([values[index] for index in members], axis=1)
        ends = np.cumsum([values[index].shape[1] for index in members])
        solved = np.split(fill(columns, tracks[members[0]].known, damping), ends[:-1], axis=1)
        filled.update(zip(members, solved, strict=True))
    return filled


def _turn(a: Array, b: Array) -> float:
    """Degrees between two unit quaternions."""
    return math.degrees(float(np.linalg.norm(quaternions.difference(a, b))))


def _rotation_keys(track: Track, quats: Array) -> New | None:
    """New keys in the bone's own channels; None when these arrive at another branch of a key's angles.

    A quaternion key of the opposite sign is the same pose, but blending towards it is not: it gets a
    key of its own pose in the run's sign just before it, held until then.
    """
    channels = track.values.copy()
    opposed = []
    for start, end in track.runs:
        run = rigs.from_quaternions(quats[start + 1 : end + 1], track.mode, channels[start])
        channels[start + 1 : end] = run[:-1]
        if track.mode == "QUATERNION":
            opposed += [end] if run[-1] @ channels[end] < 0 else []
        elif not rigs.reaches(run[-1], channels[end], track.mode):
            return None
    holds = track.frames[opposed] - NUDGE
    times = np.concatenate([track.frames[track.missing], holds])
    values = np.concatenate([channels[track.missing], -channels[opposed]])
    order = np.argsort(times)
    return times[order], values[order], holds.tolist()
