# SPDX-License-Identifier: GPL-3.0-or-later
"""In-betweening of an armature: from keyed channels to arrays, and from the solver's frames to a take."""

from __future__ import annotations

import itertools
import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass

import bpy
import numpy as np
from numpy.typing import NDArray

from ..backends.common import rotations as quaternions
from ..backends.common.errors import VivantError
from ..backends.motion import spline
from . import actions, generated, rigs, takes

Array = NDArray[np.floating]
# New keys of a track: times (n,), values (n, C), and the times of those that hold until the next key.
New = tuple[Array, Array, list[float]]

WHOLE = 1e-3  # frames: a key this near to a whole frame stands on it
AMBIGUOUS = 120.0  # degrees between two keys
STILL = 1e-5  # metres, radians or factors: less is rounding, not motion
NUDGE = 1 / 32  # frames: exact in float32, and more than the hundredth within which Blender merges keys


@dataclass(frozen=True)
class Report:
    """What an in-between of an armature did.

    take: the action that holds the result and that the armature now shows; solver: the one that really
    ran; bones: those filled; frames: first and last frame that was filled; keys: how many were
    generated; warnings: sentences for the user; key_error: largest change of a key of the user's, which is 0.
    """

    take: bpy.types.Action
    solver: str
    bones: tuple[str, ...]
    frames: tuple[int, int]
    keys: int
    warnings: tuple[str, ...]
    key_error: float


@dataclass(frozen=True)
class Track:
    """Curves of one bone that are interpolated as one: a single number, or (mode is not "") a whole rotation.

    gaps: times of the keys around what is to be filled; frames (F,), whole; known (F,) and values (F, C):
    channels, right where known; missing: frames that get a key; runs: rows (start, end) of the last known
    frame before each run of unknown ones and of the first one after it.
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


def inbetween_object(
    armature: bpy.types.Object,
    bones: Iterable[str] | None = None,
    scope: str = "GAP",
    frame_range: tuple[float, float] | None = None,
    solver: str = "spline",
    seed: int = 0,
    output: str = generated.BAKED,
    another: bool = False,
) -> Report:
    """Fill gaps between the keys of an armature's bones (names; all when None) in a take, and show that.

    scope "GAP": the gap around the current frame, on a key the one after it, else the one before;
    "RANGE": every gap whose two keys lie in `frame_range` (the scene's when None).  A gap is two frames or
    longer between neighbouring keys of a *curve*, so partial keys count: a breakdown on one hand splits
    that hand's gap and nobody else's.  The curves of a rotation are filled as a rotation where they are
    keyed together, else one by one.  Only channels that have keys, and are neither locked nor muted, get
    any; those that stand still take part inside the gaps of those that move.  Velocities at both ends are
    those of the motion outside, or, where it is stepped or has curve modifiers, of the neighbouring keys.

    The user's action is kept; the take is a copy with GENERATED keys inside the gaps: on every whole frame ("BAKED"), or
    as few as stay within 0.5° and 2 mm of it ("SPARSE", see `backends.motion.sparse`).  While a take is shown, a further call
    adds to it, and fills anew what it had filled itself; `another` makes one more take from the user's action.
    `seed` is for solvers that draw at random; "spline" (see `backends.motion.spline`) does not.
    Raises VivantError, having changed nothing, when there is nothing to fill or no right to.
    """
    if solver != "spline":
        raise VivantError(f"There is no in-between solver '{solver}' for rigs.", "Use 'spline'.")
    if output not in (generated.BAKED, generated.SPARSE):
        raise VivantError(f"There is no output '{output}'.", "Use 'BAKED' or 'SPARSE'.")
    rigs.pose_of(armature)
    action, slot = actions.animation_of(armature)
    if another:
        action = takes.original_of(armature) or action
        slot = next((own for own in action.slots if own.handle == slot.handle), slot)
    curves = actions.curves_of(action, slot)
    groups, left_out = rigs.keyed_groups(armature, bones, curves)
    if not groups:
        some = "No bone" if bones is None else "None of the chosen bones"
        if left_out:
            raise VivantError(f"{some} of '{armature.name}' has keys that are neither locked nor muted.", "Unlock a channel.")
        raise VivantError(
            f"{some} of '{armature.name}' has keys in the action '{action.name}'.", "Key at least two poses first."
        )
    fills = takes.fills_of(action, slot)
    tracks = _tracks(groups, fills, *_scope(scope, frame_range))

    filled, warnings = _solve(tracks)
    for reason, names in left_out.items():
        warnings[f"Some channels are {reason} and were left as they are"] = names

    parts = _parts(tracks, filled, output, action, slot)
    users = [(channel, gaps, _keys_outside(curves[channel], gaps)) for channel, gaps in _filled_channels(tracks)]
    take = takes.open_take(armature, another)
    slot = armature.animation_data.action_slot
    count = generated.add(armature, take, parts)
    report = Report(
        take,
        solver,
        tuple(dict.fromkeys(track.bone for track in tracks)),
        (
            min(int(track.frames[track.missing][0]) for track in tracks),
            max(int(track.frames[track.missing][-1]) for track in tracks),
        ),
        count,
        tuple(f"{sentence}: {_listed(names)}." for sentence, names in warnings.items()),
        _key_error(users, actions.curves_of(take, slot)),
    )
    made = takes.Made(solver, seed, scope, report.frames, report.bones, output, count, report.key_error)
    takes.note(take, made=json.dumps(asdict(made)))
    take.update_tag()
    return report


def _parts(
    tracks: list[Track], filled: list[New], output: str, action: bpy.types.Action, slot: bpy.types.ActionSlot
) -> list[generated.Part]:
    """What was solved, gap by gap, with what the curves said before."""
    wanted = {
        (curve.data_path, curve.array_index): times.tolist()
        for track, (times, _, _) in zip(tracks, filled, strict=True)
        for curve in track.curves
    }
    base = generated.before(action, slot, wanted)
    parts = []
    for track, (times, values, holds) in zip(tracks, filled, strict=True):
        names = [takes.curve_name(curve) for curve in track.curves]
        earlier = np.column_stack([base[curve.data_path, curve.array_index] for curve in track.curves])
        for gap in track.gaps:
            own = actions.inside(times, [gap])
            parts.append(
                generated.Part(
                    track.bone,
                    track.mode,
                    output,
                    names,
                    gap,
                    times[own].tolist(),
                    values[own].tolist(),
                    earlier[own].tolist(),
                    [time for time in holds if gap[0] < time < gap[1]],
                )
            )
    return parts


def _filled_channels(tracks: list[Track]) -> list[tuple[tuple[str, int], tuple[actions.Gap, ...]]]:
    return [((curve.data_path, curve.array_index), track.gaps) for track in tracks for curve in track.curves]


def _keys_outside(curve: bpy.types.FCurve, gaps: tuple[actions.Gap, ...]) -> Array:
    points = actions.read_keys(curve, ["co"])["co"].astype(np.float64)
    return points[~actions.inside(points[:, 0], gaps)]


def _key_error(
    users: list[tuple[tuple[str, int], tuple[actions.Gap, ...], Array]], curves: Mapping[tuple[str, int], bpy.types.FCurve]
) -> float:
    """How far the keys around the gaps have moved, read back from the curves; infinite when one is missing."""
    error = 0.0
    for channel, gaps, wanted in users:
        found = _keys_outside(curves[channel], gaps)
        error = max(error, np.max(np.abs(found - wanted), initial=0) if found.shape == wanted.shape else np.inf)
    return float(error)


def _scope(scope: str, frame_range: tuple[float, float] | None) -> tuple[list[Callable[[float, float], bool]], VivantError]:
    """Tests of a gap's two times, the next one for when none passes the first, and the error for when none passes any."""
    scene = bpy.context.scene
    if scope == "GAP":
        now = scene.frame_current_final
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


def _tracks(
    groups: Iterable[rigs.Group],
    fills: Mapping[str, takes.Fill],
    tests: Iterable[Callable[[float, float], bool]],
    nothing: VivantError,
) -> list[Track]:
    """What is to be filled, with everything that the solver needs to know; raises `nothing` when there is nothing."""
    keys = {curve: actions.read_keys(curve, ["co", "interpolation", "type"]) for group in groups for curve in group.curves}
    gaps = {}
    for curve, has in keys.items():
        times = has["co"][:, 0]
        fill = fills.get(takes.curve_name(curve), takes.Fill())
        own = (has["type"] == actions.GENERATED) & actions.inside(times, fill.gaps)
        users = times[~own].tolist()
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
    before, after = _context(curves[0], keys[0], gaps, left, right)
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
    return Track(bone, mode, curves, gaps, frames, known, values, missing, runs)


def _stands_on_frame(time: float) -> bool:
    return abs(time - round(time)) < WHOLE


def _context(
    curve: bpy.types.FCurve, keys: actions.Keys, gaps: tuple[actions.Gap, ...], left: int, right: int
) -> tuple[int, int]:
    """Known frames outside `left` and `right`, the ends of what is filled, that show the velocity there.

    The neighbouring frame where the curve moves as its keys say, else the neighbouring key; the end itself
    where there is no further key.
    """
    times, kinds = keys["co"][:, 0], keys["interpolation"]
    first, last = np.searchsorted(times, [gaps[0][0], gaps[-1][1]])
    modified = any(not modifier.mute for modifier in curve.modifiers)
    before, after = left, right
    if first > 0:
        before = round(float(times[first - 1])) if modified or kinds[first - 1] == actions.CONSTANT else left - 1
    if last + 1 < len(times):
        after = round(float(times[last + 1])) if modified or kinds[last] == actions.CONSTANT else right + 1
    return before, after


def _sample(curve: bpy.types.FCurve, keys: actions.Keys, frames: NDArray[np.intp]) -> Array:
    """A curve's values at whole frames: its key's own where there is one, to the last bit."""
    times, values = keys["co"].T
    nearest = np.clip(np.searchsorted(times, frames - WHOLE), 0, len(times) - 1)
    keyed = np.abs(times[nearest] - frames) < WHOLE
    between = [0.0 if has else curve.evaluate(frame) for frame, has in zip(frames.tolist(), keyed, strict=True)]
    return np.where(keyed, values[nearest], between)


def _solve(tracks: list[Track]) -> tuple[list[New], dict[str, list[str]]]:
    """The new keys of each track, and the bones of which the user should know something, by sentence."""
    render = bpy.context.scene.render
    fps = render.fps / render.fps_base
    warnings: dict[str, list[str]] = defaultdict(list)

    rotations = [index for index, track in enumerate(tracks) if track.mode]
    quats = {}
    for index in rotations:
        track = tracks[index]
        quats[index] = np.zeros((len(track.frames), 1, 4))
        quats[index][track.known, 0] = rigs.to_quaternions(track.values[track.known], track.mode)
    new: dict[int, New] = {}
    for index, values in _batched(spline.fill_rotations, spline.TURNS.at(fps), tracks, quats).items():
        track, turned = tracks[index], values[:, 0]
        if any(_turn(turned[start], turned[end]) > AMBIGUOUS for start, end in track.runs):
            warnings[f"Turns of more than {AMBIGUOUS:.0f}° between keys are ambiguous, key a pose between"].append(track.bone)
        keys = _rotation_keys(track, turned)
        if keys is None:
            warnings["Angles that do not follow the short way were in-betweened one by one"].append(track.bone)
            continue
        if keys[2]:
            warnings[f"Quaternions change sign; a key {NUDGE:g} frames before keeps the motion whole"].append(track.bone)
        new[index] = keys

    numbers = {index: track.values for index, track in enumerate(tracks) if index not in new}
    for index, values in _batched(spline.fill_vectors, spline.TRAVEL.at(fps), tracks, numbers).items():
        new[index] = tracks[index].frames[tracks[index].missing], values[tracks[index].missing], []
    return [new[index] for index in range(len(tracks))], warnings


def _batched(
    fill: Callable[..., Array], damping: spline.Damping, tracks: list[Track], values: Mapping[int, Array]
) -> dict[int, Array]:
    """Filled values (F, C, …) of some tracks, by index; those with the same known frames are solved in one call."""
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


def _listed(names: list[str], most: int = 3) -> str:
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
