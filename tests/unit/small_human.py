# SPDX-License-Identifier: GPL-3.0-or-later
"""A human of 22 joints for tests."""

import numpy as np

from vivant.backends.common import rotations as quaternions
from vivant.backends.motion.clip import Clip

# The joints of a small human: parent, place in the T-pose (Y up, facing +Z).
BODY = {
    "pelvis": ("", (0, 1.0, 0)),
    "spine1": ("pelvis", (0, 1.1, 0)),
    "spine2": ("spine1", (0, 1.2, 0)),
    "spine3": ("spine2", (0, 1.35, 0)),
    "neck": ("spine3", (0, 1.55, 0)),
    "head": ("neck", (0, 1.65, 0)),
}
for _side, _sign in (("L", 1), ("R", -1)):
    BODY |= {
        f"thigh.{_side}": ("pelvis", (_sign * 0.1, 0.95, 0)),
        f"shin.{_side}": (f"thigh.{_side}", (_sign * 0.1, 0.5, 0)),
        f"foot.{_side}": (f"shin.{_side}", (_sign * 0.1, 0.08, 0)),
        f"toe.{_side}": (f"foot.{_side}", (_sign * 0.1, 0.02, 0.15)),
        f"collar.{_side}": ("spine3", (_sign * 0.03, 1.45, 0)),
        f"upper_arm.{_side}": (f"collar.{_side}", (_sign * 0.18, 1.45, 0)),
        f"forearm.{_side}": (f"upper_arm.{_side}", (_sign * 0.46, 1.45, 0)),
        f"hand.{_side}": (f"forearm.{_side}", (_sign * 0.7, 1.45, 0)),
    }
PLACES = BODY | {f"finger.{side}": (f"hand.{side}", (sign * 0.8, 1.45, 0)) for side, sign in (("L", 1), ("R", -1))}


def body(size=1.0, frames=1, seed=None, drop=0.0, yaw=0.0, leave=()):
    """A T-pose human; drop: degrees its arms hang down; yaw: where it faces; seed: bones with axes at random."""
    rng = np.random.default_rng(seed)
    names = [name for name in PLACES if name not in leave]
    parent_of = {}
    for name in names:
        parent = PLACES[name][0]
        while parent in leave:
            parent = PLACES[parent][0]
        parent_of[name] = parent
    places = {name: np.array(place, float) * size for name, (_, place) in PLACES.items()}
    for sign, side in ((1, "L"), (-1, "R")):
        turn = quaternions.exp(np.radians([0.0, 0.0, -sign * drop]))
        for name in (f"forearm.{side}", f"hand.{side}", f"finger.{side}"):
            shoulder = places[f"upper_arm.{side}"]
            places[name] = shoulder + quaternions.rotate(turn, places[name] - shoulder)
    facing = quaternions.exp(np.radians([0.0, yaw, 0.0]))
    places = {name: quaternions.rotate(facing, place) for name, place in places.items()}
    axes = {name: quaternions.IDENTITY if seed is None else quaternions.normalise(rng.normal(size=4)) for name in names}
    parents = np.array([names.index(parent_of[name]) if parent_of[name] else -1 for name in names])
    rest, offsets = np.empty((len(names), 4)), np.empty((len(names), 3))
    for index, name in enumerate(names):
        parent = parent_of[name]
        back = quaternions.conjugate(axes[parent]) if parent else quaternions.IDENTITY
        rest[index] = quaternions.multiply(back, axes[name])
        offsets[index] = quaternions.rotate(back, places[name] - (places[parent] if parent else 0))
    return Clip(names, parents, offsets, 30.0, np.tile(rest, (frames, 1, 1)), np.tile(offsets[0], (frames, 1)), rest)
