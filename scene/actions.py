# SPDX-License-Identifier: GPL-3.0-or-later
"""Actions: the curves of a slot, and their keys as arrays.

Keys are read and written whole, in bulk, as one record array of type `KEY` in order of time.  The same
calls serve Blender 4.5 to 5.2: slots and channelbags, never `Action.fcurves`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import bpy
import numpy as np
from bpy_extras import anim_utils
from numpy.typing import ArrayLike, NDArray

from ..backends.common.errors import VivantError

Keys = NDArray[np.void]
Gap = tuple[float, float]

# Every property of Blender's keyframes, by Blender's name; points are (frame, value).
KEY = np.dtype(
    [
        ("co", np.float32, 2),
        ("handle_left", np.float32, 2),
        ("handle_right", np.float32, 2),
        ("handle_left_type", np.int32),
        ("handle_right_type", np.int32),
        ("interpolation", np.int32),
        ("easing", np.int32),
        ("back", np.float32),
        ("amplitude", np.float32),
        ("period", np.float32),
        ("type", np.int32),
        ("select_control_point", np.bool_),
        ("select_left_handle", np.bool_),
        ("select_right_handle", np.bool_),
    ]
)
HANDLES = ["handle_left", "handle_right"]
# What a gap may change on the keys around it.
SHAPE = ["handle_left_type", "handle_right_type", "interpolation"]
# `interpolation`, `handle_*_type` and `type` as numbers.
CONSTANT, LINEAR, BEZIER = 0, 1, 2
FREE = 0
GENERATED = 5


def animation_of(owner: bpy.types.Object) -> tuple[bpy.types.Action, bpy.types.ActionSlot]:
    """The action and the slot that animate an object and that may be edited.

    Raises VivantError when there is none, or when it is linked or held by the NLA.
    """
    if not owner.is_editable:
        raise VivantError(f"'{owner.name}' is linked from another file.", "Make a library override of it first.")
    data = owner.animation_data
    if data and data.action is None and any(track.strips for track in data.nla_tracks):
        raise VivantError(
            f"'{owner.name}' moves by NLA strips alone.", "Assign a strip's action to it first, or bake the strips."
        )
    if data is None or data.action is None:
        raise VivantError(f"'{owner.name}' has no action.", "Key at least two poses first.")
    if data.use_tweak_mode:
        raise VivantError(
            f"'{owner.name}' is in the NLA editor's tweak mode.", "Leave tweak mode (Tab in the NLA editor) first."
        )
    if not data.action.is_editable:
        raise VivantError(f"The action '{data.action.name}' is linked from another file.", "Make it local first.")
    if data.action_slot is None:
        raise VivantError(f"'{owner.name}' uses no slot of the action '{data.action.name}'.", "Choose one beside its name.")
    return data.action, data.action_slot


def assign(owner: bpy.types.Object, action: bpy.types.Action, handle: int) -> None:
    """Animate an object by the slot of an action that has this handle (copies of an action share handles)."""
    data = owner.animation_data_create()
    data.action = action
    data.action_slot = next(slot for slot in action.slots if slot.handle == handle)


def curves_of(action: bpy.types.Action, slot: bpy.types.ActionSlot) -> dict[tuple[str, int], bpy.types.FCurve]:
    """The curves of one slot by data path and array index."""
    bag = anim_utils.action_get_channelbag_for_slot(action, slot)
    return {(curve.data_path, curve.array_index): curve for curve in bag.fcurves} if bag else {}


def add_curve_like(action: bpy.types.Action, slot: bpy.types.ActionSlot, model: bpy.types.FCurve) -> bpy.types.FCurve:
    """A curve without keys for the same channel as `model`, in a group of the same name."""
    return add_curve(action, slot, (model.data_path, model.array_index), model.group.name if model.group else "")


def add_curve(action: bpy.types.Action, slot: bpy.types.ActionSlot, channel: tuple[str, int], group: str) -> bpy.types.FCurve:
    """A curve without keys for a data path and array index, in a group of a name unless that is empty."""
    bag = anim_utils.action_get_channelbag_for_slot(action, slot)
    curve = bag.fcurves.new(channel[0], index=channel[1])
    if group:
        curve.group = bag.groups.get(group) or bag.groups.new(group)
    return curve


def remove_curve(action: bpy.types.Action, slot: bpy.types.ActionSlot, curve: bpy.types.FCurve) -> None:
    """Remove a curve of a slot."""
    anim_utils.action_get_channelbag_for_slot(action, slot).fcurves.remove(curve)


def read_keys(curve: bpy.types.FCurve, names: Sequence[str] = KEY.names) -> Keys:
    """All keys of a curve (K,), or some of their properties."""
    points = curve.keyframe_points
    keys = np.empty(len(points), KEY[list(names)])
    for name in names:
        column = np.empty(keys[name].shape, keys[name].dtype)
        points.foreach_get(name, column.reshape(-1))
        keys[name] = column
    return keys


def write_keys(curve: bpy.types.FCurve, keys: Keys) -> None:
    """Replace all keys of a curve, as far as their properties are given; Blender then recomputes the automatic handles."""
    points = curve.keyframe_points
    points.clear()
    points.add(len(keys))
    _write(curve, keys, keys.dtype.names or ())
    curve.update()


def restore_keys(curve: bpy.types.FCurve, keys: Keys) -> None:
    """Replace all keys of a curve by keys that were read from one, automatic handles to the last bit."""
    write_keys(curve, keys)
    _write(curve, keys, HANDLES)


def _write(curve: bpy.types.FCurve, keys: Keys, names: Sequence[str]) -> None:
    for name in names:
        curve.keyframe_points.foreach_set(name, keys[name].ravel())


def inside(times: NDArray, gaps: Sequence[Gap]) -> NDArray[np.bool_]:
    """Which times lie strictly inside one of the gaps."""
    mask = np.zeros(len(times), bool)
    for start, end in gaps:
        mask |= (times > start) & (times < end)
    return mask


@dataclass(frozen=True)
class Slopes:
    """Value per frame at new keys (n,), and at the starts and ends of gaps (G, 2), NaN where the curve is held."""

    new: NDArray[np.floating]
    ends: NDArray[np.floating]


def fill_gaps(
    curve: bpy.types.FCurve,
    gaps: Sequence[Gap],
    frames: ArrayLike,
    values: ArrayLike,
    holds: Sequence[float] = (),
    slopes: Slopes | None = None,
) -> list[tuple[float, ...]]:
    """Put GENERATED keys into gaps between keys, without touching any motion outside of them.

    gaps: times of keys (start, end), in order; keys strictly inside are replaced.  frames (n,), values (n,): the
    new keys, in order of time.  holds: frames whose key holds its value until the next one.
    With `slopes` the curve leaves, passes and reaches every key along them, with handles a third of the way to the next key.
    Without, it goes smoothly between new keys, from and to the keys at the ends straight, as their inner handles were
    made for another curve.  Returns what had to change on other keys, as it was:
    (frame, left handle type, right handle type, interpolation), and where a handle moved also both handles from the key, x, y.

    Automatic handles would follow their new neighbours and change the motion outside the gap.  So the
    keys at its ends get free handles where they are; and so does every other key whose handle Blender
    moves all the same (a curve smoothed by continuous acceleration is solved over whole runs of keys).
    """
    users = read_keys(curve)
    users = users[~inside(users["co"][:, 0], gaps)]
    times = users["co"][:, 0]
    starts, ends = (np.searchsorted(times, np.float32(bounds)) for bounds in zip(*gaps, strict=True))
    frames = np.asarray(frames, np.float64)
    new = np.zeros(len(frames), KEY)
    new["co"] = np.column_stack([frames, values])
    new["type"] = GENERATED
    new["interpolation"] = BEZIER
    if slopes is None:
        new["interpolation"][np.searchsorted(frames, times[ends]) - 1] = LINEAR
    new["interpolation"][np.searchsorted(frames, holds)] = CONSTANT

    places = np.searchsorted(times, frames)
    keys = np.insert(users, places, new)
    kept = np.insert(np.ones(len(users), bool), places, False)
    user, made = np.flatnonzero(kept), np.flatnonzero(~kept)
    keys["interpolation"][user[starts]] = LINEAR if slopes is None else BEZIER
    if curve.extrapolation == "LINEAR":
        _hold_straight_ends(keys, users, starts[0] == 0, ends[-1] == len(users) - 1)
    if slopes is None:
        _point_handles(keys, made, _chords(keys, made))
    else:
        _point_handles(keys, made, slopes.new)
        for name, at, slope in (
            ("handle_right", user[starts], slopes.ends[:, 0]),
            ("handle_left", user[ends], slopes.ends[:, 1]),
        ):
            met = np.isfinite(slope)
            _point_handles(keys, at[met], slope[met], [name])

    bezier = keys["interpolation"] == BEZIER
    shaping = kept & (bezier | np.concatenate([bezier[:1], bezier[:-1]]))
    loose = np.zeros(len(keys), bool)
    loose[user[[*starts, *ends]]] = True
    loose &= shaping
    while True:
        keys["handle_left_type"][loose] = keys["handle_right_type"][loose] = FREE
        write_keys(curve, keys)
        moved = (read_keys(curve, HANDLES) != keys[HANDLES]) & shaping & ~loose
        if not moved.any():
            break
        loose |= moved
    # Handles that shape nothing (of linear or stepped keys) were recomputed too: they get their bits back.
    _write(curve, keys, HANDLES)
    turned = keys[kept][HANDLES] != users[HANDLES]
    changed = np.flatnonzero((keys[kept][SHAPE] != users[SHAPE]) | turned)
    from_key = np.concatenate([users[name].astype(np.float64) - users["co"] for name in HANDLES], axis=1)
    return [
        (float(times[index]), *users[SHAPE][index].tolist(), *(from_key[index].tolist() if turned[index] else ()))
        for index in changed
    ]


def _chords(keys: Keys, index: NDArray[np.intp]) -> NDArray[np.float64]:
    """Slopes of the chords between the neighbours of some keys (at the last of a run, from the one before)."""
    times, values = keys["co"].astype(np.float64).T
    until = np.where(keys["interpolation"][index] == BEZIER, index + 1, index)
    return (values[until] - values[index - 1]) / (times[until] - times[index - 1])


def _point_handles(
    keys: Keys, index: NDArray[np.intp], slope: NDArray[np.floating], names: Sequence[str] = tuple(HANDLES)
) -> None:
    """Point the handles of some keys along slopes, a third of the way to the neighbours, where time runs evenly.

    They are free: automatic ones swing wildly between uneven keys when a curve is smoothed by continuous acceleration.
    """
    times, values = keys["co"].astype(np.float64).T
    for name in names:
        reach = (times[index + (1 if name == "handle_right" else -1)] - times[index]) / 3
        keys[name][index] = np.column_stack([times[index] + reach, values[index] + slope * reach])


def _hold_straight_ends(keys: Keys, users: Keys, first: bool, last: bool) -> None:
    """Let a straight extrapolation go on as it did, whatever key now follows the first or precedes the last one.

    Linear keys extrapolate towards their neighbour, stepped ones not at all, all others along the outer handle.
    """
    for touched, end, neighbour, outer in ((first, 0, 1, "handle_left"), (last, -1, -2, "handle_right")):
        kind = users["interpolation"][end]
        if not touched:
            continue
        if kind in (CONSTANT, LINEAR):
            run = users["co"][end] - users["co"][neighbour]
            keys[outer][end] = users["co"][end] + run / abs(run[0]) * (1, kind == LINEAR)
        keys["interpolation"][end] = BEZIER


def smooth_keys(times: NDArray[np.floating], values: NDArray[np.floating]) -> Keys:
    """GENERATED keys (n,) on a smooth curve through values at times; their handles are free, so none follows another key."""
    keys = np.zeros(len(times), KEY)
    keys["co"] = np.column_stack([times, values])
    keys["type"], keys["interpolation"] = GENERATED, BEZIER
    slope, reach = np.gradient(values, times), np.diff(times) / 3
    for name, step in (("handle_left", -np.insert(reach, 0, reach[0])), ("handle_right", np.append(reach, reach[-1]))):
        keys[name] = np.column_stack([times + step, values + step * slope])
    return keys


def empty_gaps(curve: bpy.types.FCurve, generated: NDArray[np.bool_], before: Sequence[Sequence[float]]) -> None:
    """Undo `fill_gaps`: remove the generated keys (K,) and give the other keys back what they had."""
    keys = read_keys(curve)[~generated]
    for frame, left, right, interpolation, *handles in before:
        at = keys["co"][:, 0] == np.float32(frame)
        for name, kind in zip(SHAPE, (left, right, interpolation), strict=True):
            keys[name][at] = kind
        for name, offset in zip(HANDLES, (handles[:2], handles[2:]), strict=True):
            if offset:
                keys[name][at] = keys["co"][at] + np.array(offset)
    restore_keys(curve, keys)
