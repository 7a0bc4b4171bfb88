# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes: results that the user compares, accepts or rejects.

A take is a copy of the user's action, assigned in its place; an object can have several, of which it shows one.  The custom
property `vivant` of an action holds what is known about it.  In a take: `original`, the user's action (a real reference, so
renaming and saving are harmless), `slot`, the handle of the object's slot, `fake_user`, the original's own flag, which is set
while a take is open, `made`, how it was made, `parts`, its generated frames (see `generated`), and `strength`.  In takes and
in actions that accepted one: `fills`, the generated gaps of each curve.  Takes find their original, and nothing lists them.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import bpy
import numpy as np

from ..backends.common.errors import VivantError
from ..backends.motion.report import Quality
from . import actions
from . import fills as fill_records
from .fills import Fill

KEY = "vivant"


@dataclass(frozen=True)
class Made:
    """How a take was made, last: solver, seed, scope, first and last frame, bones, BAKED or SPARSE, generated keys, the
    largest change of a key of the user's, why it was not the solver asked for, what it looks like (see `judged`), and the
    edit, if it is one (see `phases`)."""

    solver: str
    seed: int
    scope: str
    frames: Sequence[int]
    bones: Sequence[str]
    output: str
    keys: int
    key_error: float
    fallback: str = ""
    quality: Quality | None = None
    edit: Mapping[str, Any] | None = None


def original_of(armature: bpy.types.Object | None) -> bpy.types.Action | None:
    """The user's action when the object shows a take, else None."""
    data = armature.animation_data if armature else None
    return known_of(data.action, "original") if data and data.action else None


def takes_of(armature: bpy.types.Object | None) -> list[bpy.types.Action]:
    """The object's takes, in order of their names; also while it shows the user's action."""
    data = armature.animation_data if armature else None
    if not (data and data.action and data.action_slot):
        return []
    return _takes(original_of(armature) or data.action, data.action_slot.handle)


def open_take(armature: bpy.types.Object, another: bool = False) -> bpy.types.Action:
    """The take that the object shows; if it shows none, or for `another`, a new copy of the user's action, assigned."""
    with opened(armature, another) as take:
        return take


@contextlib.contextmanager
def opened(armature: bpy.types.Object, another: bool = False) -> Iterator[bpy.types.Action]:
    """`open_take`, but a new take is shown at the end alone; when its writing is stopped, all is as before."""
    action, slot = actions.animation_of(armature)
    original = original_of(armature)
    if original and not another:
        known, spare = _known(action), action.copy()
        del spare[KEY]  # or it would count as a take
        try:
            yield action
        except BaseException:
            _restore(action, slot, spare)
            action[KEY] = known
            raise
        finally:
            bpy.data.actions.remove(spare)
        return
    user = original or action
    siblings = [take for take in bpy.data.actions if known_of(take, "original") == user]
    unused = user.use_fake_user
    fake_user = known_of(siblings[0], "fake_user") if siblings else unused
    take = user.copy()
    try:
        take.name = f"{user.name} take"
        take[KEY] = {**_known(user), "original": user, "slot": slot.handle, "fake_user": fake_user, "strength": 1.0}
        take.use_fake_user = user.use_fake_user = True
        yield take
    except BaseException:
        bpy.data.actions.remove(take)
        user.use_fake_user = unused
        raise
    actions.assign(armature, take, slot.handle)


def _restore(action: bpy.types.Action, slot: bpy.types.ActionSlot, copy: bpy.types.Action) -> None:
    """Give the curves of a slot the keys back that they had when the action was copied."""
    before = actions.curves_of(copy, _own_slot(copy, slot))
    for channel, curve in actions.curves_of(action, slot).items():
        if channel not in before:
            actions.remove_curve(action, slot, curve)
            continue
        keys = actions.read_keys(before[channel])
        if keys.tobytes() != actions.read_keys(curve).tobytes():
            actions.restore_keys(curve, keys)


def slot_of(armature: bpy.types.Object, take: bpy.types.Action) -> bpy.types.ActionSlot:
    """The slot of one of its takes, shown or not, that animates an object."""
    return next(slot for slot in take.slots if slot.handle == armature.animation_data.action_slot_handle)


def show(armature: bpy.types.Object, take: bpy.types.Action) -> None:
    """Let the object show another of its takes.  Raises VivantError for an action that is none of them."""
    _, slot = actions.animation_of(armature)
    if take not in takes_of(armature):
        raise VivantError(f"'{take.name}' is no take of '{armature.name}'.", "Choose one from the list of takes.")
    actions.assign(armature, take, slot.handle)


def accept(armature: bpy.types.Object) -> bpy.types.Action:
    """Merge the shown take into the user's action, assign that again and remove all takes of the object.

    Every key of the object's slot that differs is carried over: the generated ones, and what the user
    keyed while the take was shown.  Returns the user's action.  Raises VivantError when no take is shown.
    """
    take, original, slot = _shown(armature)
    _merge(take, slot, original, _own_slot(original, slot))
    _close(armature, take, original, slot)
    return original


def accept_as_slot(armature: bpy.types.Object) -> bpy.types.Action:
    """Put the shown take into a new slot of the user's action, animate the object by that, and remove all its takes.

    The slot before keeps its keys as they were.  Returns the user's action.  Raises VivantError when no take is shown.
    """
    take, original, slot = _shown(armature)
    own = _own_slot(original, slot)
    copy = own.duplicate()
    copy.name_display = f"{own.name_display} take"
    _merge(take, slot, original, copy)
    planted = json.loads(known_of(original, "planted") or "{}")
    if str(own.handle) in planted:
        note(original, planted=json.dumps({**planted, str(copy.handle): planted[str(own.handle)]}))
    handle = copy.handle
    _close(armature, take, original, slot)
    actions.assign(armature, original, handle)
    return original


def accept_as_action(armature: bpy.types.Object) -> bpy.types.Action:
    """Make an action of its own of the shown take, which the object then shows, and remove its other takes.

    The user's action keeps its keys as they were, and a fake user.  Returns the new action.  Raises VivantError when no
    take is shown.
    """
    take, original, slot = _shown(armature)
    made = _detach(take, original)
    _close(armature, take, original, slot)
    original.use_fake_user = True
    actions.assign(armature, made, slot.handle)
    return made


def accept_as_strip(armature: bpy.types.Object) -> bpy.types.Action:
    """Put the shown take into the NLA as a strip over what it fills, above a strip of the user's action; remove all takes.

    Both strips use whole actions as they are, the user's from the first to the last frame that the scene or a key has.
    Returns the new action.  Raises VivantError when no take is shown, or the action is blended with the NLA below it.
    """
    take, original, slot = _shown(armature)
    data, handle, scene = armature.animation_data, slot.handle, bpy.context.scene
    gaps = [fill.span for fill in fills_of(take, slot).values()]
    if not gaps:
        raise VivantError(f"The take '{take.name}' fills nothing.", "Run In-Between again.")
    if data.action_blend_type != "REPLACE" or data.action_influence < 1:
        raise VivantError(
            f"The action of '{armature.name}' is blended with the NLA strips below it.", "Accept the take into the action."
        )
    start, end = min(start for start, _ in gaps), max(end for _, end in gaps)
    keyed = original.curve_frame_range
    made = _detach(take, original)
    extrapolation = data.action_extrapolation
    _close(armature, take, original, slot)
    data.action = None
    _add_strip(data, original, handle, min(keyed[0], scene.frame_start), max(keyed[1], scene.frame_end), extrapolation)
    _add_strip(data, made, handle, start, end, "NOTHING")
    return made


ACCEPT = {"ACTION": accept, "SLOT": accept_as_slot, "NEW": accept_as_action, "NLA": accept_as_strip}


def _merge(take: bpy.types.Action, slot: bpy.types.ActionSlot, original: bpy.types.Action, into: bpy.types.ActionSlot) -> None:
    """Carry all keys of a take that differ into a slot of the user's action, and what was generated."""
    targets, fills = actions.curves_of(original, into), fills_of(take, slot)
    for channel, curve in actions.curves_of(take, slot).items():
        keys = actions.read_keys(curve)
        target = targets.get(channel)
        if target is None:
            target = actions.add_curve_like(original, into, curve)
        elif keys.tobytes() == actions.read_keys(target).tobytes():
            continue
        actions.restore_keys(target, keys)
        if fill := fills.get(curve_name(curve)):
            for index in fill.muted:
                target.modifiers[index].mute = True
    set_fills(original, into, fills)


def _own_slot(original: bpy.types.Action, slot: bpy.types.ActionSlot) -> bpy.types.ActionSlot:
    """The slot of the user's action that a take's slot is a copy of."""
    own = next((own for own in original.slots if own.handle == slot.handle), None)
    if not original.is_editable or own is None:
        raise VivantError(f"The action '{original.name}' can no longer take up the take.", "Reject the take and run again.")
    return own


def _detach(take: bpy.types.Action, original: bpy.types.Action) -> bpy.types.Action:
    """A copy of a take that is an action like any other; what was generated and planted is still known."""
    made = take.copy()
    made.name = f"{original.name} in-between"
    facts = {"fills": known_of(take, "fills"), "planted": known_of(original, "planted")}
    made[KEY] = {name: fact for name, fact in facts.items() if fact}
    made.use_fake_user = False
    return made


def _add_strip(
    data: bpy.types.AnimData, action: bpy.types.Action, handle: int, first: float, last: float, extrapolation: str
) -> None:
    """A strip of an action over a range of frames, on a track above all others."""
    track = data.nla_tracks.new(prev=data.nla_tracks[-1] if data.nla_tracks else None)
    track.name = action.name
    strip = track.strips.new(action.name, math.floor(first), action)
    strip.action_slot = next(slot for slot in action.slots if slot.handle == handle)
    strip.use_sync_length = False
    strip.action_frame_end = last  # neither end can pass the other, wherever Blender put them
    strip.action_frame_start, strip.action_frame_end = first, last
    strip.frame_start, strip.frame_end = first, last
    strip.extrapolation, strip.blend_type = extrapolation, "REPLACE"


def reject(armature: bpy.types.Object) -> bpy.types.Action:
    """Remove all takes of the object and assign the user's action again, which is returned.

    Raises VivantError when no take is shown.
    """
    take, original, slot = _shown(armature)
    _close(armature, take, original, slot)
    return original


def remove(armature: bpy.types.Object) -> bpy.types.Action:
    """Remove the shown take alone; another one is shown, or after the last the user's action.  Returns what is shown.

    Raises VivantError when no take is shown.
    """
    take, _, slot = _shown(armature)
    every = takes_of(armature)
    others = [other for other in every if other != take]
    if not others:
        return reject(armature)
    following = others[min(every.index(take), len(others) - 1)]
    take.user_remap(following)
    actions.assign(armature, following, slot.handle)
    bpy.data.actions.remove(take)
    return following


def remove_generated(armature: bpy.types.Object) -> int:
    """Take all generated keys out of the object's action again, also long after they were accepted.

    Keys whose handles had to be freed get their handle types back, curves that were written anew their keys.  Generated keys
    that the user has changed are the user's and stay; returns how many.  Raises VivantError without an action.
    """
    action, slot = actions.animation_of(armature)
    curves = actions.curves_of(action, slot)
    kept = 0
    for name, fill in fills_of(action, slot).items():
        if (curve := curves.get(channel(name))) is not None:
            keys = actions.read_keys(curve, ["type", *fill_records.RECORD])
            inside = actions.inside(keys["co"][:, 0], fill.gaps) & (keys["type"] == actions.GENERATED)
            kept += int(np.sum(inside & ~fill_records.generated(keys, fill)))
            fill_records.emptied(curve, fill)
            if not len(curve.keyframe_points):
                actions.remove_curve(action, slot, curve)
    set_fills(action, slot, {})
    return kept


def has_generated(armature: bpy.types.Object | None) -> bool:
    """Whether the action that an armature shows has keys that `remove_generated` would remove."""
    data = armature.animation_data if armature else None
    return bool(data and data.action and data.action_slot and fills_of(data.action, data.action_slot))


def fills_of(action: bpy.types.Action, slot: bpy.types.ActionSlot) -> dict[str, Fill]:
    """What was generated in the curves of a slot, by `curve_name`."""
    fills = json.loads(_known(action).get("fills", "{}")).get(str(slot.handle), {})
    return {name: Fill([tuple(gap) for gap in gaps], *others) for name, (gaps, *others) in fills.items()}


def set_fills(action: bpy.types.Action, slot: bpy.types.ActionSlot, fills: Mapping[str, Fill]) -> None:
    """Record what was generated in the curves of a slot; other slots' records stay."""
    known = _known(action)
    every = json.loads(known.get("fills", "{}"))
    every[str(slot.handle)] = {
        name: (fill.gaps, fill.before, fill.made, fill.replaced, fill.muted) for name, fill in fills.items()
    }
    action[KEY] = {**known, "fills": json.dumps(every)}


def made_of(take: bpy.types.Action) -> Made | None:
    """How a take was made; None for other actions."""
    facts = json.loads(known_of(take, "made") or "{}")
    quality = facts.pop("quality", None)
    return Made(**facts, quality=Quality(**quality) if quality else None) if facts else None


def gap_of(take: bpy.types.Action, slot: bpy.types.ActionSlot) -> actions.Gap | None:
    """Times of the outermost keys around the frames in which a take was filled last; None for what is no take."""
    made = made_of(take)
    every = [gap for fill in fills_of(take, slot).values() for gap in fill.gaps] if made else []
    gaps = [gap for gap in every if gap[0] < made.frames[1] and gap[1] > made.frames[0]]
    return (min(start for start, _ in gaps), max(end for _, end in gaps)) if gaps else None


def note(take: bpy.types.Action, **facts: object) -> None:
    """Record something of a take, by the names of this module's docstring; other facts stay."""
    take[KEY] = {**_known(take), **facts}


def known_of(take: bpy.types.Action, fact: str) -> Any:
    """What was recorded of a take by that name, or None."""
    group = take.get(KEY)
    return group.get(fact) if group else None


def curve_name(curve: bpy.types.FCurve) -> str:
    """How a record names a curve: data path and array index."""
    return f"{curve.data_path}[{curve.array_index}]"


def channel(name: str) -> tuple[str, int]:
    """Data path and array index of a name by `curve_name`."""
    path, _, index = name.rpartition("[")
    return path, int(index[:-1])


def _known(action: bpy.types.Action) -> dict[str, object]:
    group = action.get(KEY)
    return {name: group[name] for name in group.keys()} if group else {}  # noqa: SIM118 (an IDPropertyGroup iterates its values)


def _shown(armature: bpy.types.Object) -> tuple[bpy.types.Action, bpy.types.Action, bpy.types.ActionSlot]:
    original = original_of(armature)
    if original is None:
        name = f"'{armature.name}'" if armature else "The scene"
        raise VivantError(f"{name} shows no take.", "Make one with In-Between first.")
    take, slot = actions.animation_of(armature)
    return take, original, slot


def _takes(original: bpy.types.Action, handle: int) -> list[bpy.types.Action]:
    return [take for take in bpy.data.actions if known_of(take, "original") == original and known_of(take, "slot") == handle]


def _close(armature: bpy.types.Object, take: bpy.types.Action, original: bpy.types.Action, slot: bpy.types.ActionSlot) -> None:
    fake_user = take[KEY]["fake_user"]
    handle = slot.handle
    for ended in _takes(original, handle):
        ended.user_remap(original)
        bpy.data.actions.remove(ended)
    actions.assign(armature, original, handle)
    if not any(known_of(other, "original") == original for other in bpy.data.actions):
        original.use_fake_user = bool(fake_user)
