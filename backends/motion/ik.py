# SPDX-License-Identifier: GPL-3.0-or-later
"""Inverse kinematics of a limb: two rigid pieces that bend at one joint, in closed form, all frames at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..common import rotations as quaternions

Array = NDArray[np.floating]

SOFT = 0.97  # share of a limb's length from which it straightens ever more slowly (soft knee)


def two_bone(hip: Array, knee: Array, ankle: Array, target: Array, hinge: Array) -> tuple[Array, Array]:
    """World rotations (…, 4) that bring the ankle to the target: of the upper piece, and of the lower one.

    hip, knee, ankle, target (…, 3): world positions; the pieces may have other lengths in every frame, as those of a limb
    of more than two bones do.  hinge (…, 3): where the limb is straight, the axis about which it bends.  Both rotations
    turn about the piece's own upper end.  The knee stays in its plane, and a target out of reach is approached without a
    snap: nothing moves where the target is the ankle.
    """
    upper, lower, reach = knee - hip, ankle - knee, target - hip
    a, b, c = (np.linalg.norm(v, axis=-1) for v in (upper, lower, ankle - hip))
    wanted = _within_reach(np.linalg.norm(reach, axis=-1), np.abs(a - b), a + b, c)

    def opening(side: Array) -> Array:
        """The angle between both pieces that puts their ends `side` apart."""
        return np.arccos(np.clip((a**2 + b**2 - side**2) / np.maximum(2 * a * b, 1e-12), -1, 1))

    normal = np.cross(upper, lower)
    bent = np.linalg.norm(normal, axis=-1, keepdims=True) > 1e-4 * (a * b)[..., None]
    across = hinge - _along(hinge, upper)
    axis = quaternions.normalise(np.concatenate([0 * normal[..., :1], np.where(bent, normal, across)], axis=-1))[..., 1:]
    bend = quaternions.exp(axis * (opening(c) - opening(wanted))[..., None])
    swing = shortest_arc(upper + quaternions.rotate(bend, lower), reach)
    return swing, quaternions.multiply(swing, bend)


def shortest_arc(a: Array, b: Array) -> Array:
    """The rotations (…, 4) of least angle that turn the directions a (…, 3) to those of b; identity where one is zero."""
    lengths = np.linalg.norm(a, axis=-1, keepdims=True) * np.linalg.norm(b, axis=-1, keepdims=True)
    cosine = np.sum(a * b, axis=-1, keepdims=True)
    q = np.concatenate([lengths + cosine, np.cross(a, b)], axis=-1)
    # Opposite directions: any axis across them will do.
    least = np.eye(3)[np.argmin(np.abs(a), axis=-1)]
    half_turn = np.concatenate([np.zeros_like(cosine), np.cross(a, least)], axis=-1)
    q = np.where(lengths + cosine > 1e-9 * lengths, q, half_turn)
    return quaternions.normalise(np.where(lengths > 1e-12, q, quaternions.IDENTITY))


def _within_reach(distance: Array, least: Array, most: Array, now: Array) -> Array:
    """Distances that the limb can span; near its full length (and beyond its length `now`) they approach it asymptotically."""
    knee = np.maximum(SOFT * most, np.minimum(now, most))
    rest = np.maximum(most - knee, 1e-9)
    soft = knee + rest * -np.expm1(-np.maximum(distance - knee, 0) / rest)
    return np.maximum(np.where(distance > knee, soft, distance), least)


def _along(v: Array, direction: Array) -> Array:
    """The part of v (…, 3) along a direction."""
    squared = np.maximum(np.sum(direction**2, axis=-1, keepdims=True), 1e-24)
    return direction * np.sum(v * direction, axis=-1, keepdims=True) / squared
