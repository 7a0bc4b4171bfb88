# SPDX-License-Identifier: GPL-3.0-or-later
"""Actions: the curves of a slot, and their keys as arrays.

Keys are read and written whole, in bulk, as `Keys`: one array a property of Blender's keyframes, in
order of time.  The same calls serve Blender 4.5 to 5.2: slots and channelbags, never `Action.fcurves`.
"""

from __future__ import annotations

from collections.abc import Sequence

import bpy
import numpy as np
from bpy_extras import anim_utils
from numpy.typing import ArrayLike, NDArray

from ..backends.common.errors import VivantError

Keys = dict[str, NDArray]
Gap = tuple[float, float]

PROPERTIES: dict[str, tuple[type, int]] = {
    "co": (np.float32, 2),
    "handle_left": (np.float32, 2),
    "handle_right": (np.float32, 2),
    "handle_left_type": (np.int32, 1),
    "handle_right_type": (np.int32, 1),
    "interpolation": (np.int32, 1),
    "easing": (np.int32, 1),
    "back": (np.float32, 1),
    "amplitude": (np.float32, 1),
    "period": (np.float32, 1),
    "type": (np.int32, 1),
    "select_control_point": (np.bool_, 1),
    "select_left_handle": (np.bool_, 1),
    "select_right_handle": (np.bool_, 1),
}
HANDLES = ("handle_left", "handle_right")
HANDLE_TYPES = ("handle_left_type", "handle_right_type")
# What `Keyframe.interpolation`, `.handle_*_type` and `.type` are as numbers.
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
    bag = anim_utils.action_get_channelbag_for_slot(action, slot)
    curve = bag.fcurves.new(model.data_path, index=model.array_index)
    if model.group:
        curve.group = bag.groups.get(model.group.name) or bag.groups.new(model.group.name)
    return curve


def read_keys(curve: bpy.types.FCurve) -> Keys:
    """All keys of a curve: `co` and handles (K, 2) as (frame, value), everything else (K,)."""
    points = curve.keyframe_points
    keys = {}
    for name, (kind, width) in PROPERTIES.items():
        flat = np.empty(len(points) * width, kind)
        points.foreach_get(name, flat)
        keys[name] = flat.reshape(-1, width) if width > 1 else flat
    return keys


def write_keys(curve: bpy.types.FCurve, keys: Keys) -> None:
    """Replace all keys of a curve; Blender then recomputes the automatic handles."""
    points = curve.keyframe_points
    points.clear()
    points.add(len(keys["co"]))
    for name, values in keys.items():
        points.foreach_set(name, values.ravel())
    curve.update()


def select(keys: Keys, index: ArrayLike) -> Keys:
    """The keys that a mask or an index array picks."""
    return {name: values[index] for name, values in keys.items()}


def same(a: Keys, b: Keys) -> bool:
    """Whether two sets of keys are equal to the last bit."""
    return all(np.array_equal(a[name].view(np.uint8), b[name].view(np.uint8)) for name in PROPERTIES)


def inside(times: NDArray, gaps: Sequence[Gap]) -> NDArray[np.bool_]:
    """Which times lie strictly inside one of the gaps."""
    mask = np.zeros(len(times), bool)
    for start, end in gaps:
        mask |= (times > start) & (times < end)
    return mask


def fill_gaps(
    curve: bpy.types.FCurve, gaps: Sequence[Gap], frames: ArrayLike, values: ArrayLike, holds: Sequence[float] = ()
) -> list[tuple[float, int, int, int]]:
    """Put GENERATED keys into gaps between keys, without touching any motion outside of them.

    gaps: times of keys (start, end); keys strictly inside are replaced.  frames (n,), values (n,): the
    new keys, in order of time.  holds: frames whose key holds its value until the next one.
    Between new keys it goes smoothly, from and to the keys at the ends straight, as their inner handles were
    made for another curve.  Returns what had to change on other keys, as it was:
    (frame, left handle type, right handle type, interpolation).

    Automatic handles would follow their new neighbours and change the motion outside the gap.  So the
    keys at its ends get free handles where they are; and so does every other key whose handle Blender
    moves all the same (a curve smoothed by continuous acceleration is solved over whole runs of keys).
    """
    keys = read_keys(curve)
    keys = select(keys, ~inside(keys["co"][:, 0], gaps))
    before = {name: keys[name].copy() for name in (*HANDLE_TYPES, "interpolation")}
    times = keys["co"][:, 0]
    starts, ends = (np.isin(times, bounds) for bounds in zip(*gaps, strict=True))
    straight = curve.extrapolation == "LINEAR"
    if straight:
        _hold_straight_ends(keys, starts[0], ends[-1])
    keys["interpolation"][starts & ~(straight & (times == times[0]))] = LINEAR

    fresh = {name: np.zeros((len(frames), *old.shape[1:]), old.dtype) for name, old in keys.items()}
    fresh["co"][:] = np.column_stack([frames, values])
    fresh["type"][:] = GENERATED
    gap = np.searchsorted(times[starts], frames) - 1
    final = np.append(np.diff(gap) > 0, True)
    fresh["interpolation"][:] = np.where(final, LINEAR, BEZIER)
    fresh["interpolation"][np.isin(frames, holds)] = CONSTANT

    order = np.argsort(np.concatenate([times, fresh["co"][:, 0]]), kind="stable")
    merged = {name: np.concatenate([keys[name], fresh[name]])[order] for name in PROPERTIES}
    kept = order < len(times)
    _smooth(merged, np.flatnonzero(~kept))
    bezier = merged["interpolation"] == BEZIER
    shaping = kept & (bezier | np.concatenate([bezier[:1], bezier[:-1]]))
    loose = np.concatenate([starts | ends, np.zeros(len(frames), bool)])[order] & shaping
    while True:
        for name in HANDLE_TYPES:
            merged[name][loose] = FREE
        write_keys(curve, merged)
        now = read_keys(curve)
        moved = np.any([(now[name] != merged[name]).any(axis=1) for name in HANDLES], axis=0) & shaping & ~loose
        if not moved.any():
            break
        loose |= moved
    # Handles that shape nothing (of linear or stepped keys) were recomputed too: they get their bits back.
    for name in HANDLES:
        curve.keyframe_points.foreach_set(name, merged[name].ravel())

    changed = np.any([before[name] != merged[name][kept] for name in before], axis=0)
    columns = [times[changed].tolist(), *(before[name][changed].tolist() for name in before)]
    return list(zip(*columns, strict=True))


def _smooth(keys: Keys, index: NDArray[np.intp]) -> None:
    """Point the handles of some keys along the chord between their neighbours (at the last of a run, along the one before).

    They are free: automatic ones swing wildly between uneven keys when a curve is smoothed by continuous acceleration.
    """
    before, here, after = (keys["co"][index + step].astype(np.float64) for step in (-1, 0, 1))
    straight = keys["interpolation"][index] != BEZIER
    run = np.where(straight[:, None], here, after) - before
    for name, neighbour in zip(HANDLES, (before, after), strict=True):
        third = (neighbour[:, :1] - here[:, :1]) / 3
        keys[name][index] = here + third * run / run[:, :1]


def _hold_straight_ends(keys: Keys, first: bool, last: bool) -> None:
    """Let a straight extrapolation go on as it does, whatever key will follow the first or precede the last one.

    Linear keys extrapolate towards their neighbour, stepped ones not at all, all others along the outer handle.
    """
    for touched, end, neighbour, outer in ((first, 0, 1, "handle_left"), (last, -1, -2, "handle_right")):
        kind = keys["interpolation"][end]
        if not touched or kind == BEZIER:
            continue
        if kind in (CONSTANT, LINEAR):
            run = keys["co"][end] - keys["co"][neighbour]
            keys[outer][end] = keys["co"][end] + run / abs(run[0]) * (1, kind == LINEAR)
        keys["interpolation"][end] = BEZIER


def empty_gaps(curve: bpy.types.FCurve, gaps: Sequence[Gap], before: Sequence[Sequence[float]]) -> None:
    """Undo `fill_gaps`: remove the GENERATED keys inside the gaps and give the other keys back what they had."""
    keys = read_keys(curve)
    keys = select(keys, ~(inside(keys["co"][:, 0], gaps) & (keys["type"] == GENERATED)))
    wanted = {name: keys[name].copy() for name in HANDLES}
    for frame, *kinds in before:
        for name, kind in zip((*HANDLE_TYPES, "interpolation"), kinds, strict=True):
            keys[name][keys["co"][:, 0] == np.float32(frame)] = kind
    write_keys(curve, keys)
    for name, values in wanted.items():
        curve.keyframe_points.foreach_set(name, values.ravel())
