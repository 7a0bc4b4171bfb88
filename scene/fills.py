# SPDX-License-Identifier: GPL-3.0-or-later
"""Fills: which keys of a curve Vivant made, as it made them, and what it takes to have the curve back as it was.

Blender lets a key that is set over a generated one stay GENERATED, so the type alone does not tell whose a key is: a key
counts as generated while it still is where it was written.  Whatever the user moved, turned or retimed since is the user's.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import bpy
import numpy as np
from numpy.typing import NDArray

from . import actions

RECORD = ["co", *actions.HANDLES]  # of a key: its point, and where its handles point
NEAR = 0.01  # frames: Blender has one key there
TURN = 1e-3  # radians by which a handle may turn on the paper of frames and values: rounding, not a hand


@dataclass(frozen=True)
class Fill:
    """What was generated in one curve.

    gaps: times (start, end) of the keys around it; before: keys that had to change, as they were: see `actions.fill_gaps`;
    made: the generated keys as they were written (`packed`), None in files that did not keep them; replaced: all keys of the
    user's, packed, where the whole curve was written anew, else None; muted: which of its modifiers were muted then.
    """

    gaps: Sequence[actions.Gap] = ()
    before: Sequence[Sequence[float]] = ()
    made: str | None = None
    replaced: str | None = None
    muted: Sequence[int] = ()

    @property
    def span(self) -> actions.Gap:
        """First and last time of all gaps, the keys around them included."""
        first, last = self.gaps[0][0], self.gaps[-1][1]
        return (first, last) if self.replaced is None else (float(round(first)), float(round(last)))

    def followed_by(self, later: Fill) -> Fill:
        """The record after some gaps, perhaps moved since, were filled again: what was first is what comes back."""
        if later.replaced is not None:
            first = self.replaced is None
            return later if first else replace(later, replaced=self.replaced, muted=sorted({*self.muted, *later.muted}))
        kept = [gap for gap in self.gaps if not any(gap[0] < end and gap[1] > start for start, end in later.gaps)]
        before = {frame: (shape, handles) for frame, *shape, handles in map(_record, later.before)}
        for frame, *shape, handles in map(_record, self.before):
            before[frame] = shape, handles or before.get(frame, ((), ()))[1]
        made = None
        if later.made is not None and (self.made is not None or not self.gaps):
            earlier, new = (unpacked(one.made or "", RECORD) for one in (self, later))
            outside = ~actions.inside(earlier["co"][:, 0], later.gaps)
            made = packed(np.concatenate([earlier[outside], new]))
        return Fill(
            sorted([*kept, *later.gaps]) if self.replaced is None else self.gaps,
            [(frame, *shape, *handles) for frame, (shape, handles) in before.items()],
            made,
            self.replaced,
            self.muted,
        )


def _record(key: Sequence[float]) -> tuple:
    """A changed key with its handles, if they moved, as one entry."""
    return (*key[:4], tuple(key[4:]))


def packed(keys: actions.Keys) -> str:
    """Keys as text, to the last bit."""
    return base64.b64encode(zlib.compress(np.ascontiguousarray(keys).tobytes(), 1)).decode()


def unpacked(text: str, names: Sequence[str] = actions.KEY.names) -> actions.Keys:
    """Keys, or some of their properties, that were `packed`."""
    return np.frombuffer(zlib.decompress(base64.b64decode(text)) if text else b"", _packing(names))


def _packing(names: Sequence[str]) -> np.dtype:
    return np.dtype([(name, actions.KEY[name].base, actions.KEY[name].shape) for name in names])


def record(keys: actions.Keys, made: NDArray[np.bool_]) -> str:
    """Some keys of a curve as what `generated` will compare them with."""
    found = np.empty(int(made.sum()), _packing(RECORD))
    for name in RECORD:
        found[name] = keys[name][made]
    return packed(found)


def generated(keys: actions.Keys, fill: Fill) -> NDArray[np.bool_]:
    """Which keys of a curve (K,) are generated ones and as they were made; all others are the user's.

    keys: of `RECORD` and the type at least, in order of time.
    """
    ours = (keys["type"] == actions.GENERATED) & actions.inside(keys["co"][:, 0], fill.gaps)
    if fill.made is None:
        return ours
    made = unpacked(fill.made, RECORD)
    if not len(made):
        return np.zeros(len(keys), bool)
    made = made[np.argsort(made["co"][:, 0])]
    twin = made[np.clip(np.searchsorted(made["co"][:, 0], keys["co"][:, 0]), 0, len(made) - 1)]
    same = np.all(twin["co"] == keys["co"], axis=1)
    for name in actions.HANDLES:
        same &= _alike(twin[name] - twin["co"], keys[name] - keys["co"])
    return ours & same


def complete(keys: actions.Keys, fill: Fill, gap: actions.Gap) -> bool:
    """Whether a gap of a curve holds what was made there, all of it and nothing else."""
    within = actions.inside(keys["co"][:, 0], [gap])
    if not np.all(generated(keys, fill)[within]):
        return False
    return fill.made is None or within.sum() == actions.inside(unpacked(fill.made, RECORD)["co"][:, 0], [gap]).sum()


def merged(keys: actions.Keys, others: actions.Keys) -> actions.Keys:
    """Keys of a curve and others, which go before them where both have one."""
    near = np.abs(keys["co"][:, :1] - others["co"][:, 0]).min(axis=1, initial=np.inf) < NEAR
    every = np.concatenate([keys[~near], others])
    return every[np.argsort(every["co"][:, 0], kind="stable")]


def _alike(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Whether handles point the same way: a key that is set between two shortens theirs."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    across = np.abs(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0])
    return (across <= TURN * np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)) & (np.sum(a * b, axis=1) >= 0)


def emptied(curve: bpy.types.FCurve, fill: Fill) -> None:
    """Take what was generated out of a curve and give it back what it had; what the user changed since stays."""
    keys = actions.read_keys(curve)
    ours = generated(keys, fill)
    if fill.replaced is None:
        actions.empty_gaps(curve, ours, fill.before)
        return
    actions.restore_keys(curve, merged(unpacked(fill.replaced), keys[~ours]))
    for index in fill.muted:
        if index < len(curve.modifiers):
            curve.modifiers[index].mute = False
