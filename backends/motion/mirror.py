# SPDX-License-Identifier: GPL-3.0-or-later
"""A clip as in a mirror: left and right of a skeleton by name, hierarchy and rest pose."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..common import rotations as quaternions
from .clip import Clip

Array = NDArray[np.floating]
Index = NDArray[np.intp]

ASYMMETRY = 0.1  # of the skeleton's size: a rest pose further than this from its mirror image has none
WORDS = ("Left", "Right"), ("left", "right"), ("LEFT", "RIGHT"), ("L", "R"), ("l", "r")
OTHER = {one: two for pair in WORDS for one, two in (pair, pair[::-1])}
# As a word anywhere; as a letter that stands alone (.L, l_, _R.001) or begins the name (lShin, rfemur).
SIDES = (r"Left|Right|left|right|LEFT|RIGHT", r"(?<![A-Za-z0-9])[lrLR](?![A-Za-z0-9])", r"^[lrLR](?=[A-Za-z])")


def counterparts(names: Sequence[str]) -> list[int]:
    """For each joint the one of the other side, by name (LeftArm, arm.L, l_arm, lArm, …); itself where there is none."""
    places = {name: joint for joint, name in enumerate(names)}
    other = list(range(len(names)))
    for joint, name in enumerate(names):
        swapped = (re.sub(side, lambda found: OTHER[found[0]], name) for side in SIDES)
        other[joint] = next((places[twin] for twin in swapped if twin != name and twin in places), joint)
    return [pair if other[pair] == joint else joint for joint, pair in enumerate(other)]


@dataclass(frozen=True)
class Mirror:
    """joints (J,): the counterpart of each; normal (3,): the horizontal direction from right to left in the rest pose."""

    joints: Index
    normal: Array


def mirror_of(clip: Clip) -> Mirror | None:
    """The mirror of a skeleton, or None where names, hierarchy or rest pose are not two-sided."""
    joints = np.array(counterparts(clip.names))
    parents = clip.parents
    paired = joints != np.arange(len(joints))
    if not paired.any() or not np.array_equal(joints[parents[1:]], parents[joints[1:]]):
        return None
    rest = _at_rest(clip).forward()[0][0].astype(np.float64)
    across = rest[paired] - rest[joints[paired]]
    across[:, 1] = 0
    across *= np.sign(across @ across[np.argmax(np.sum(across**2, axis=1))])[:, None]
    size = float(np.ptp(rest, axis=0).max())
    if np.linalg.norm(across, axis=1).max() < 1e-6 * max(size, 1e-12):
        return None
    normal = across.sum(axis=0) / np.linalg.norm(across.sum(axis=0))
    image = rest - rest[0] - 2 * ((rest - rest[0]) @ normal)[:, None] * normal
    if np.linalg.norm(image[joints] - (rest - rest[0]), axis=1).max() > ASYMMETRY * size:
        return None
    return Mirror(joints, normal)


def mirrored(clip: Clip, mirror: Mirror) -> Clip:
    """The clip as in a mirror: every joint does what its counterpart did, on the skeleton's own rest pose."""
    joints, normal = mirror.joints, mirror.normal

    def image(vectors: Array) -> Array:
        return vectors - 2 * (vectors @ normal)[..., None] * normal

    _, world = clip.forward()
    _, rest = _at_rest(clip).forward()
    since_rest = quaternions.multiply(world, quaternions.conjugate(rest))
    since_rest = np.concatenate([since_rest[..., :1], -image(since_rest[..., 1:])], axis=-1)  # an axis is no arrow
    turned = quaternions.multiply(since_rest[:, joints], rest)
    local = turned.copy()
    for joint, parent in enumerate(clip.parents):
        if parent >= 0:
            local[:, joint] = quaternions.multiply(quaternions.conjugate(turned[:, parent]), turned[:, joint])
    translations = {
        int(joints[joint]): quaternions.rotate(
            quaternions.conjugate(turned[:, joints[clip.parents[joint]]]),
            image(quaternions.rotate(world[:, clip.parents[joint]], values)),
        )
        for joint, values in clip.translations.items()
    }
    rotations = quaternions.continuous(local).astype(clip.rotations.dtype)
    return clip.replace(rotations=rotations, root=image(clip.root).astype(clip.root.dtype), translations=translations)


def _at_rest(clip: Clip) -> Clip:
    """One frame of the skeleton in its rest pose, root at the origin."""
    rest = np.broadcast_to(quaternions.IDENTITY, (len(clip.names), 4)) if clip.rest is None else clip.rest
    return clip.replace(rotations=np.asarray(rest, np.float64)[None], root=np.zeros((1, 3)), translations={})
