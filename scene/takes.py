# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes: results that the user accepts or rejects.

A take is a copy of the user's action, assigned in its place.  The custom property `vivant` of an
action holds what is known about it: in a take `original`, the user's action (a real reference, so
renaming and saving are harmless), and `fake_user`, that action's own flag, which is set while the take
is open; in takes and in actions that accepted one `fills`, the generated gaps of each curve.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import bpy

from ..backends.common.errors import VivantError
from . import actions

KEY = "vivant"


@dataclass(frozen=True)
class Fill:
    """What was generated in one curve.

    gaps: times (start, end) of the keys around it; before: keys that had to change, as they were:
    (frame, left handle type, right handle type, interpolation).
    """

    gaps: Sequence[actions.Gap] = ()
    before: Sequence[Sequence[float]] = ()

    def followed_by(self, later: Fill) -> Fill:
        """The record after some gaps, perhaps moved since, were filled again: what was first is what comes back."""
        kept = [gap for gap in self.gaps if not any(gap[0] < end and gap[1] > start for start, end in later.gaps)]
        before = {frame: (frame, *kinds) for frame, *kinds in (*later.before, *self.before)}
        return Fill(sorted([*kept, *later.gaps]), list(before.values()))


def original_of(armature: bpy.types.Object | None) -> bpy.types.Action | None:
    """The user's action when the object shows a take, else None."""
    data = armature.animation_data if armature else None
    known = data.action.get(KEY) if data and data.action else None
    return known.get("original") if known else None


def open_take(armature: bpy.types.Object) -> bpy.types.Action:
    """The take that the object shows; if it shows none, a new one is made from its action and assigned."""
    action, slot = actions.animation_of(armature)
    if original_of(armature):
        return action
    take = action.copy()
    take.name = f"{action.name} take"
    take[KEY] = {**_known(action), "original": action, "fake_user": action.use_fake_user}
    action.use_fake_user = True
    actions.assign(armature, take, slot.handle)
    return take


def accept(armature: bpy.types.Object) -> bpy.types.Action:
    """Merge the shown take into the user's action, assign that again and remove the take.

    Every key of the object's slot that differs is carried over: the generated ones, and what the user
    keyed while the take was shown.  Returns the user's action.  Raises VivantError when no take is shown.
    """
    take, original, slot = _shown(armature)
    target_slot = next((s for s in original.slots if s.handle == slot.handle), None)
    if not original.is_editable or target_slot is None:
        raise VivantError(f"The action '{original.name}' can no longer take up the take.", "Reject the take and run again.")
    targets = actions.curves_of(original, target_slot)
    for channel, curve in actions.curves_of(take, slot).items():
        keys = actions.read_keys(curve)
        target = targets.get(channel)
        if target is None:
            target = actions.add_curve_like(original, target_slot, curve)
        elif keys.tobytes() == actions.read_keys(target).tobytes():
            continue
        actions.write_keys(target, keys)
    set_fills(original, slot, fills_of(take, slot))
    _close(armature, take, original, slot)
    return original


def reject(armature: bpy.types.Object) -> bpy.types.Action:
    """Remove the shown take and assign the user's action again, which is returned.

    Raises VivantError when no take is shown.
    """
    take, original, slot = _shown(armature)
    _close(armature, take, original, slot)
    return original


def remove_generated(armature: bpy.types.Object) -> None:
    """Take all generated keys out of the object's action again, also long after they were accepted.

    Keys whose handles had to be freed get their handle types back.  Raises VivantError without an action.
    """
    action, slot = actions.animation_of(armature)
    curves = actions.curves_of(action, slot)
    for name, fill in fills_of(action, slot).items():
        if (curve := curves.get(_channel(name))) is not None:
            actions.empty_gaps(curve, fill.gaps, fill.before)
    set_fills(action, slot, {})


def fills_of(action: bpy.types.Action, slot: bpy.types.ActionSlot) -> dict[str, Fill]:
    """What was generated in the curves of a slot, by `curve_name`."""
    fills = json.loads(_known(action).get("fills", "{}")).get(str(slot.handle), {})
    return {name: Fill([tuple(gap) for gap in gaps], before) for name, (gaps, before) in fills.items()}


def set_fills(action: bpy.types.Action, slot: bpy.types.ActionSlot, fills: Mapping[str, Fill]) -> None:
    """Record what was generated in the curves of a slot; other slots' records stay."""
    known = _known(action)
    every = json.loads(known.get("fills", "{}"))
    every[str(slot.handle)] = {name: (fill.gaps, fill.before) for name, fill in fills.items()}
    action[KEY] = {**known, "fills": json.dumps(every)}


def curve_name(curve: bpy.types.FCurve) -> str:
    """How a record names a curve: data path and array index."""
    return f"{curve.data_path}[{curve.array_index}]"


def _channel(name: str) -> tuple[str, int]:
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


def _close(armature: bpy.types.Object, take: bpy.types.Action, original: bpy.types.Action, slot: bpy.types.ActionSlot) -> None:
    fake_user = take[KEY]["fake_user"]
    handle = slot.handle
    take.user_remap(original)
    actions.assign(armature, original, handle)
    original.use_fake_user = bool(fake_user)
    bpy.data.actions.remove(take)
