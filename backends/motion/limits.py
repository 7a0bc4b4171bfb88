# SPDX-License-Identifier: GPL-3.0-or-later
"""Limits of joints, learned from motion: how far each has been seen to turn about each axis, and in-betweens kept near that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..common import rotations as quaternions

Array = NDArray[np.floating]
Mask = NDArray[np.bool_]

# Frames that tell how far a joint turns, and that are looked at.  With 120 of a performer's frames, his other takes go further.
FEWEST, MOST = 3000, 20_000
MARGIN = np.radians(10)  # that a joint may turn further, at most
WIDEST = np.radians(140)  # from the middle: beyond it rotation vectors are no measure


@dataclass(frozen=True)
class Limits:
    """Boxes of rotation vectors around the middles of J joints: middle (J, 4), lower, upper (J, 3), infinite where unknown."""

    middle: Array
    lower: Array
    upper: Array

    def within(self, rotations: Array) -> Array:
        """Rotations (F, J, 4) brought back to less than MARGIN beyond the box, smoothly; those in it stay bit for bit."""
        turns = quaternions.log(quaternions.multiply(quaternions.conjugate(self.middle), rotations))
        beyond = turns - np.clip(turns, self.lower, self.upper)
        out = (beyond != 0).any(axis=-1)
        back = np.sign(beyond) * MARGIN * -np.expm1(-np.abs(beyond) / MARGIN) - beyond
        nearer = quaternions.multiply(self.middle, quaternions.exp(turns + back))
        same = np.sum(nearer * rotations, axis=-1, keepdims=True) >= 0
        return np.where(out[..., None], np.where(same, nearer, -nearer), rotations)


def learn(seen: Sequence[tuple[Array, Mask]]) -> Limits:
    """The limits of J joints from rotations (F, J, 4) and which of them (F, J) count.

    The root has none, nor has a joint of which fewer than FEWEST frames are known or that turns almost all the way round.
    """
    joints = seen[0][0].shape[1]
    middle = np.tile(quaternions.IDENTITY, (joints, 1))
    lower, upper = np.full((joints, 3), -np.inf), np.full((joints, 3), np.inf)
    for joint in range(1, joints):
        found = np.concatenate([q[known[:, joint], joint] for q, known in seen])
        if len(found) < FEWEST:
            continue
        found = quaternions.normalise(found[:: len(found) // MOST + 1].astype(np.float64))
        mean = np.linalg.eigh(found.T @ found)[1][:, -1]  # of rotations, whatever the signs (Markley et al. 2007)
        turns = quaternions.log(quaternions.multiply(quaternions.conjugate(mean), found))
        if np.linalg.norm(turns, axis=-1).max() < WIDEST:
            middle[joint], lower[joint], upper[joint] = mean, turns.min(axis=0), turns.max(axis=0)
    return Limits(middle, lower, upper)
