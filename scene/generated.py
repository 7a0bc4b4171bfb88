# SPDX-License-Identifier: GPL-3.0-or-later
"""What a solver made, kept with the take: written at any strength, on every frame or as few keys, and written anew."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import bpy
import numpy as np
from numpy.typing import NDArray

from ..backends.common import rotations as quaternions
from ..backends.common.errors import VivantError
from ..backends.motion import sparse
from . import actions, beside, fills, rigs, takes

Array = NDArray[np.floating]

BAKED, SPARSE = "BAKED", "SPARSE"
STRONGEST = 1.5


@dataclass(frozen=True)
class Part:
    """The generated frames of one gap of a bone's channels that belong together.

    mode: the rotation mode, "" for numbers; curves (C,): their names (`takes.curve_name`); times (n,); values (n, C): the
    solver's; base (n, C): the curves before; holds: times of keys that hold until the next one; whole: no gap but all of the
    curves is written anew, the user's keys give way.
    """

    bone: str
    mode: str
    output: str
    curves: Sequence[str]
    gap: actions.Gap
    times: Sequence[float]
    values: Sequence[Sequence[float]]
    base: Sequence[Sequence[float]]
    holds: Sequence[float] = ()
    whole: bool = False

    def overlaps(self, other: Part) -> bool:
        """Whether both fill the same frames of a curve."""
        apart = self.gap[1] <= other.gap[0] or other.gap[1] <= self.gap[0]
        return not apart and not set(self.curves).isdisjoint(other.curves)


def parts_of(take: bpy.types.Action) -> list[Part]:
    """All parts of a take."""
    stored = json.loads(takes.known_of(take, "parts") or "[]")
    return [Part(**{**part, "gap": tuple(part["gap"])}) for part in stored]


def add(armature: bpy.types.Object, take: bpy.types.Action, parts: Sequence[Part]) -> int:
    """Write parts into the take that the armature shows, at its strength, and keep them; returns the number of new keys."""
    return beside.at_once(adding(armature, take, parts))


def adding(armature: bpy.types.Object, take: bpy.types.Action, parts: Sequence[Part]) -> Generator[float, None, int]:
    """`add` in steps, also of a take that the armature does not show yet: yields the share that is done."""
    kept = [old for old in parts_of(take) if not any(old.overlaps(new) for new in parts)]
    takes.note(take, parts=json.dumps([vars(part) for part in (*kept, *parts)]))
    yield 0.0
    return (yield from _writing(armature, take, parts, strength_of(take)))


def strength_of(take: bpy.types.Action) -> float:
    """How far a take goes from the curves before (0) to the solver's (1), and beyond."""
    known = takes.known_of(take, "strength")
    return 1.0 if known is None else float(known)


def set_strength(armature: bpy.types.Object, strength: float) -> None:
    """Write the shown take anew between the curves before (0) and the solver's (1), or beyond; rotations as rotations.

    The solver's frames are kept, so nothing is lost at 0.  Gaps in which the user has set, changed or removed keys since stay.
    Raises VivantError when no take is shown or the strength is outside 0 to 1.5.
    """
    if not 0 <= strength <= STRONGEST:
        raise VivantError(f"A strength of {strength:g} is outside 0 to {STRONGEST:g}.")
    if takes.original_of(armature) is None:
        raise VivantError(f"'{armature.name}' shows no take.", "Make one with In-Between first.")
    take, slot = actions.animation_of(armature)
    curves = actions.curves_of(take, slot)
    keys = {name: actions.read_keys(curves[name], ["type", *fills.RECORD]) for name in curves}
    known = takes.fills_of(take, slot)

    def stands(part: Part) -> bool:
        for name in part.curves:
            has, fill = keys.get(takes.channel(name)), known.get(name)
            if has is None or fill is None or not fills.complete(has, fill, part.gap):
                return False
            if not part.whole and not np.all(np.isin(np.float32(part.gap), has["co"][:, 0])):
                return False
        return True

    takes.note(take, strength=float(strength))
    beside.at_once(_writing(armature, take, [part for part in parts_of(take) if stands(part)], strength))
    take.update_tag()


def before(
    action: bpy.types.Action, slot: bpy.types.ActionSlot, wanted: Mapping[tuple[str, int], Sequence[float]]
) -> dict[tuple[str, int], list[float]]:
    """Values of some curves at times as they are without their modifiers and without the take, if the action is one.

    Those of the user's action, or where the take has got other keys of the user's, of the curve through these.
    """
    original = takes.known_of(action, "original")
    copies = [one.copy() for one in (action, original) if one]
    try:
        shown, *user = (
            actions.curves_of(copy, next(one for one in copy.slots if one.handle == slot.handle)) for copy in copies
        )
        known = takes.fills_of(action, slot)
        accepted = takes.fills_of(original, slot) if original else {}
        values = {}
        for channel, times in wanted.items():
            curve = shown[channel]
            if user:
                fills.emptied(curve, known.get(takes.curve_name(curve), fills.Fill()))
                theirs = user[0].get(channel)
                if theirs and np.array_equal(actions.read_keys(curve, ["co"]), _points_without(theirs, accepted)):
                    curve = theirs
            for modifier in curve.modifiers:
                modifier.mute = True
            values[channel] = [curve.evaluate(time) for time in times]
        return values
    finally:
        for copy in copies:
            bpy.data.actions.remove(copy)


def _points_without(curve: bpy.types.FCurve, known: Mapping[str, fills.Fill]) -> actions.Keys:
    """Points of the keys of a curve but for generated ones."""
    keys = actions.read_keys(curve, ["type", *fills.RECORD])
    return keys[["co"]][~fills.generated(keys, known.get(takes.curve_name(curve), fills.Fill()))]


@dataclass
class _New:
    """What one curve gets, gap by gap; see `actions.fill_gaps`."""

    gaps: list[actions.Gap] = field(default_factory=list)
    frames: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    holds: list[float] = field(default_factory=list)
    slopes: list[float] = field(default_factory=list)
    ends: list[tuple[float, float]] = field(default_factory=list)


@dataclass(frozen=True)
class _Run:
    """The parts of one bone over the same frames of one gap, side by side."""

    gap: actions.Gap
    parts: Sequence[Part]

    @property
    def curves(self) -> list[str]:
        return [name for part in self.parts for name in part.curves]

    def rows(self, strength: float, keys: Mapping[str, actions.Keys]) -> Array:
        """Values (n + 2, C) at the key before, the generated frames and the key after."""
        first, last = ([_value(keys[name], time) for name in self.curves] for time in self.gap)
        rows, column = [], 0
        for part in self.parts:
            own = slice(column, column := column + len(part.curves))
            rows.append(_blend(part, strength, np.array(first[own]), np.array(last[own])))
        return np.concatenate([[first], np.concatenate(rows, axis=1), [last]])


def _writing(
    armature: bpy.types.Object, take: bpy.types.Action, parts: Iterable[Part], strength: float
) -> Generator[float, None, int]:
    """Put parts into the curves of the take and record the gaps; returns the number of keys.  Yields the share that is done."""
    slot = takes.slot_of(armature, take)
    curves = {takes.curve_name(curve): curve for curve in actions.curves_of(take, slot).values()}
    known, parts = takes.fills_of(take, slot), list(parts)
    rewritten = 0
    for part in (part for part in parts if part.whole):
        rows = _blend(part, strength, np.array(part.base[0]), np.array(part.base[-1]))
        for name, column in zip(part.curves, rows.T, strict=True):
            new_keys = actions.smooth_keys(np.array(part.times), column)
            curve = curves.get(name) or actions.add_curve(take, slot, takes.channel(name), part.bone)
            known[name] = _rewrite(curve, known.get(name, fills.Fill()), part.gap, new_keys)
            rewritten += len(new_keys)
    parts = [part for part in parts if not part.whole]
    side_by_side: dict[tuple, list[Part]] = defaultdict(list)
    for part in parts:
        side_by_side[part.bone, part.output, part.gap, tuple(part.times)].append(part)
    new: dict[tuple[str, str], _New] = defaultdict(_New)
    keys = {
        name: actions.read_keys(curves[name]) for members in side_by_side.values() for part in members for name in part.curves
    }
    chains: list[tuple[str, list[_Run]]] = []
    for (_, output, gap, _), members in sorted(side_by_side.items(), key=lambda item: item[0][:3]):
        run = _Run(gap, members)
        last = chains[-1][1][-1] if chains else None
        if (
            last
            and output == SPARSE
            and chains[-1][0] == output
            and last.curves == run.curves
            and last.gap[1] == gap[0]
            and not any(part.holds for part in last.parts)
        ):
            chains[-1][1].append(run)
        else:
            chains.append((output, [run]))
    size = armature.matrix_world.median_scale * bpy.context.scene.unit_settings.scale_length
    for number, (output, runs) in enumerate(chains):
        yield 0.5 * number / len(chains)
        for run, times, values, slopes in _keys_of(output, runs, strength, keys, curves, sparse.METRES / (size or 1.0)):
            for name, column, slope in zip(run.curves, values.T, slopes.T, strict=True):
                got = new[name, output]
                got.gaps.append(run.gap)
                got.frames += times.tolist()
                got.values += column[1:-1].tolist()
                got.slopes += slope[1:-1].tolist()
                got.ends.append((slope[0], slope[-1]))
                got.holds += next(part.holds for part in run.parts if name in part.curves)
    for number, ((name, output), got) in enumerate(new.items()):
        yield 0.5 + 0.5 * number / len(new)
        slopes = actions.Slopes(np.array(got.slopes), np.array(got.ends)) if output == SPARSE else None
        changed = actions.fill_gaps(curves[name], got.gaps, got.frames, got.values, got.holds, slopes)
        written = actions.read_keys(curves[name], fills.RECORD)
        made = fills.record(written, actions.inside(written["co"][:, 0], got.gaps))
        known[name] = known.get(name, fills.Fill()).followed_by(fills.Fill(got.gaps, changed, made))
    takes.set_fills(take, slot, known)
    return rewritten + sum(len(got.frames) for got in new.values())


def _rewrite(curve: bpy.types.FCurve, fill: fills.Fill, span: actions.Gap, new: actions.Keys) -> fills.Fill:
    """Give a curve new keys instead of all it has, but for those that the user has set since that was done before.

    Modifiers that shape the curve there are part of what is new, and muted.  Returns the record.
    """
    replaced, muted, theirs = fill.replaced, [], np.empty(0, actions.KEY)
    if replaced is None:
        fills.emptied(curve, fill)
        replaced = fills.packed(actions.read_keys(curve))
        on = [index for index, modifier in enumerate(curve.modifiers) if not modifier.mute]
        shaped = [curve.evaluate(time) for time in new["co"][:, 0]]
        for index in on:
            curve.modifiers[index].mute = True
        if np.allclose(shaped, [curve.evaluate(time) for time in new["co"][:, 0]], rtol=0, atol=1e-6):
            for index in on:  # a cycle's, say, that begins where the keys end
                curve.modifiers[index].mute = False
        else:
            muted = on
    else:
        keys = actions.read_keys(curve)
        theirs = keys[~fills.generated(keys, fill)]
    actions.restore_keys(curve, fills.merged(new, theirs))
    keys = actions.read_keys(curve)
    made = fills.record(keys, ~np.isin(keys["co"][:, 0], theirs["co"][:, 0]))
    return fill.followed_by(fills.Fill([span], (), made, replaced, muted))


def _keys_of(
    output: str,
    runs: Sequence[_Run],
    strength: float,
    keys: Mapping[str, actions.Keys],
    curves: Mapping[str, bpy.types.FCurve],
    distance: float,
) -> Iterator[tuple[_Run, Array, Array, Array]]:
    """Of each run of a chain the times (n,) of new keys, and values and slopes (n + 2, C), the keys around them included."""
    every = [run.rows(strength, keys) for run in runs]
    if output == BAKED:
        for run, rows in zip(runs, every, strict=True):
            yield run, np.array(run.parts[0].times), rows, np.zeros_like(rows)
        return
    held = bool(runs[-1].parts[0].holds)  # the curve ends at the key that holds, not at the user's
    times = np.concatenate([[runs[0].gap[0]], *([*run.parts[0].times, run.gap[1]] for run in runs)])
    rows = np.concatenate([every[0][:1], *(one[1:] for one in every)])
    fixed = np.searchsorted(times, [run.gap[1] for run in runs[:-1]])
    ends = np.full((2, rows.shape[1]), np.nan)
    for column, name in enumerate(runs[0].curves):
        for row, side in ((0, -1), (-1, 1)):
            if _moves_freely(curves[name], keys[name], times[row], side):
                step = times[row] - times[row - side]  # away from the gap
                ends[row, column] = (curves[name].evaluate(times[row] + step) - rows[row - side, column]) / (2 * step)
    channels: dict[tuple[str, str], list[int]] = defaultdict(list)
    owners = [part for part in runs[0].parts for _ in part.curves]
    for column, (part, name) in enumerate(zip(owners, runs[0].curves, strict=True)):
        channels[part.mode, takes.channel(name)[0]].append(column)
    checks = [(own, _excess(mode, path, rows[: len(rows) - held, own], distance)) for (mode, path), own in channels.items()]
    if held:
        ends[1] = np.nan
    found = sparse.fit(
        times[: len(times) - held],
        rows[: len(rows) - held],
        lambda curve: np.max([check(curve[:, own]) for own, check in checks], axis=0),
        ends,
        fixed.tolist(),
    )
    places, values, slopes = found.places, found.values, found.slopes
    if held:
        places = np.append(places, len(times) - 1)
        values, slopes = np.append(values, rows[-1:], axis=0), np.append(slopes, np.full((1, rows.shape[1]), np.nan), axis=0)
    for run in runs:
        chosen = np.flatnonzero((times[places] >= run.gap[0]) & (times[places] <= run.gap[1]))
        yield run, times[places[chosen[1:-1]]], values[chosen], slopes[chosen]


def _excess(mode: str, path: str, rows: Array, distance: float) -> sparse.Excess:
    """How far channels of a bone are off, as a share of 2 mm, half a degree, or two thousandths of the size."""
    if mode:
        return sparse.turned(rows, mode)
    if path.endswith("location"):
        return sparse.moved(rows, distance)
    # Lone components of a rotation turn the bone by at most twice as much.
    return sparse.moved(rows, sparse.METRES if path.endswith("scale") else np.radians(sparse.DEGREES) / 2)


def _moves_freely(curve: bpy.types.FCurve, keys: actions.Keys, time: float, side: int) -> bool:
    """Whether a curve before (side -1) or after (1) a key shows a velocity that a gap there should meet."""
    index = int(np.searchsorted(keys["co"][:, 0], np.float32(time)))
    return (
        0 <= index + side < len(keys)
        and keys["interpolation"][min(index, index + side)] != actions.CONSTANT
        and all(modifier.mute for modifier in curve.modifiers)
    )


def _value(keys: actions.Keys, time: float) -> float:
    return float(keys["co"][np.searchsorted(keys["co"][:, 0], np.float32(time)), 1])


def _blend(part: Part, strength: float, first: Array, last: Array) -> Array:
    """Rows (n, C) between the curves before and the solver's frames; rotations turn evenly, in the branch of the key before."""
    base, values = np.array(part.base, np.float64), np.array(part.values, np.float64)
    if strength in (0.0, 1.0):
        return values if strength else base
    straight = base + strength * (values - base)
    if not part.mode:
        return straight
    q = quaternions.slerp(rigs.to_quaternions(base, part.mode), rigs.to_quaternions(values, part.mode), np.float64(strength))
    rows = rigs.from_quaternions(q, part.mode, first)
    if part.mode == "QUATERNION" or np.max(np.abs(rows[-1] - values[-1])) < np.pi:
        return rows
    return straight
