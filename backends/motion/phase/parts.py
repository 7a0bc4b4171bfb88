# SPDX-License-Identifier: GPL-3.0-or-later
"""Body parts of any skeleton, from the names of its joints and the shape of its tree.

A limb is a branch of at least two joints on one side of the body.  Limbs become parts of their own, everything on the
middle line but the root (which travels, and belongs to the whole) becomes the torso.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ...common import rotations as quaternions
from ...common.errors import VivantError
from ..clip import Clip

Array = NDArray[np.floating]
Parts = dict[str, tuple[int, ...]]

TORSO = "torso"
SIDE = re.compile(r"(?P<left>left|(^|[^a-z])l(?=[^a-z]|$))|(?P<right>right|(^|[^a-z])r(?=[^a-z]|$))")
PREFIXED = re.compile(r"^([lr])(?=[A-Z])")  # lShldr, rThigh
GLUED = re.compile(  # lfemur, rclavicle: the names of ASF
    r"^([lr])(?=(hipjoint|femur|tibia|foot|toes|clavicle|humerus|radius|wrist|hand|fingers|thumb)$)"
)
UPPER = re.compile(r"arm|shoulder|shldr|clav|collar|scapula|humer|hand|wing|front|fore|fin|flipper")
LOWER = re.compile(r"leg|thigh|hip|pelvis|femur|buttock|knee|foot")
HELPER = re.compile(r"(^|[^a-z])(ik|ff|ffb|pt|ctrl|mch)(?=[^a-z]|$)|pole|target|^ik")
BEHIND = re.compile(r"back|hind|(^|[^a-z])rear")
HEAD = re.compile(r"head|skull|jaw|mouth|(^|[^a-z])(ear|horn|eye)")


def side(name: str) -> str:
    """ "left", "right" or "" as a joint's name says it."""
    bare = re.split(r"[:|]", name)[-1]
    glued = PREFIXED.match(bare) or GLUED.match(bare)
    if glued:
        return "left" if glued[1] == "l" else "right"
    found = SIDE.search(bare.lower())
    return "" if not found else "left" if found["left"] else "right"


def find(names: Sequence[str], parents: Sequence[int], offsets: Array | None = None, count: int = 5) -> Parts:
    """Parts of a skeleton: joint indices by the part's name, limbs first.

    count 5: each limb and the torso ("left arm", "right leg", … on a human; further pairs are numbered).  count 2: "arms",
    which are all upper limbs, and "torso", which is the rest.  Sides come from names; where none has one, from branches of
    equal shape whose offsets (J, 3) mirror each other.  A limb is upper if its names say so, else if it leaves the middle line
    farther from the root than another pair does.  The controls of IK belong to no part.
    Raises VivantError for another count, and for 2 parts of a skeleton without upper limbs.
    """
    if count not in (2, 5):
        raise VivantError(
            f"A body is divided into 5 or 2 parts, not {count}.", "Name the joints of each part for another division."
        )
    bare = [re.split(r"[:|]", name)[-1].lower() for name in names]
    depth, helper, headed = [0] * len(names), [False] * len(names), [False] * len(names)
    for joint, parent in enumerate(parents):
        helper[joint] = bool(HELPER.search(bare[joint])) or (parent >= 0 and helper[parent])
        headed[joint] = bool(HEAD.search(bare[joint])) or (parent >= 0 and headed[parent])
        depth[joint] = depth[parent] + 1 if parent >= 0 else 0
    sides = [side(name) for name in names]
    if not any(sides) and offsets is not None:
        sides = _mirrored(parents, offsets)

    top = [-1] * len(names)  # of the limb that a joint belongs to
    for joint, parent in enumerate(parents):
        if parent >= 0 and not helper[joint] and not headed[joint]:
            top[joint] = top[parent] if top[parent] >= 0 else joint if sides[joint] else -1
    limbs = {first: tuple(joint for joint in range(len(names)) if top[joint] == first) for first in sorted({*top} - {-1})}
    limbs = {first: joints for first, joints in limbs.items() if any(parents[joint] in joints for joint in joints)}
    nearest = min((depth[first] for first in limbs), default=0)
    parts: Parts = {}
    for first, joints in limbs.items():
        words = " ".join(bare[joint] for joint in joints)
        behind, lower = BEHIND.search(words), LOWER.search(words)
        upper = not behind and bool(UPPER.search(words) or (not lower and depth[first] > nearest))
        kind = f"{sides[first]} {'arm' if upper else 'leg'}"
        same = sum(part.startswith(kind) for part in parts)
        parts[f"{kind} {same + 1}" if same else kind] = joints
    in_limb = {joint for joints in limbs.values() for joint in joints}
    loose = {
        joint for joint, parent in enumerate(parents) if parent >= 0 and parents[parent] < 0 and sides[joint]
    }  # feet to pull
    torso = tuple(j for j, parent in enumerate(parents) if parent >= 0 and j not in in_limb | loose and not helper[j])
    if count == 5:
        return {**parts, **({TORSO: torso} if torso else {})}
    arms = sorted(joint for part, joints in parts.items() if " arm" in part for joint in joints)
    if not arms:
        raise VivantError("This skeleton has no upper limbs to be one of two parts.", "Divide it into 5, or name the joints.")
    legs = [joint for part, joints in parts.items() if " leg" in part for joint in joints]
    return {"arms": tuple(arms), TORSO: tuple(sorted([*torso, *legs]))}


def named(names: Sequence[str], parts: Mapping[str, Sequence[str]]) -> Parts:
    """A division of the user's own: part -> names of its joints.

    Joints in no part are left alone.  Raises VivantError for an unknown joint, a joint in two parts, or an empty part.
    """
    index = {name: joint for joint, name in enumerate(names)}
    owner: dict[str, str] = {}
    for part, joints in parts.items():
        if not joints:
            raise VivantError(f"The part “{part}” has no joints.")
        for joint in joints:
            if joint not in index:
                raise VivantError(f"The skeleton has no joint “{joint}”, which the part “{part}” names.")
            if joint in owner:
                raise VivantError(
                    f"The joint “{joint}” is named twice (in “{owner[joint]}” and “{part}”).", "Keep it in one part."
                )
            owner[joint] = part
    return {part: tuple(sorted(index[joint] for joint in joints)) for part, joints in parts.items()}


def _mirrored(parents: Sequence[int], offsets: Array) -> list[str]:
    """Sides of joints by shape: of two sibling branches with equal trees and one mirrored coordinate, plus is left."""
    children: list[list[int]] = [[] for _ in parents]
    for joint, parent in enumerate(parents):
        if parent >= 0:
            children[parent].append(joint)
    shape: list[tuple] = [()] * len(parents)
    for joint in reversed(range(len(parents))):
        shape[joint] = tuple(sorted(shape[child] for child in children[joint]))
    sides = [""] * len(parents)
    for siblings in children:
        for a, b in itertools.combinations(siblings, 2):
            axis = int(np.argmax(np.abs(offsets[a] - offsets[b])))
            mirror = offsets[b] * np.where(np.arange(3) == axis, -1, 1)
            close = np.linalg.norm(offsets[a] - mirror) < 0.05 * np.linalg.norm(offsets[a])
            if shape[a] == shape[b] and close and not sides[a] and not sides[b]:
                sides[a], sides[b] = ("left", "right") if offsets[a][axis] > 0 else ("right", "left")
    return sides


def velocities(clip: Clip, joints: Sequence[int]) -> Array:
    """Velocities (F-1, 3 · joints), metres a second, of joints as seen from the root."""
    positions, world = clip.forward()
    seen = quaternions.rotate(quaternions.conjugate(world[:, :1]), positions[:, list(joints)] - positions[:, :1])
    return (np.diff(seen, axis=0) * clip.fps).reshape(len(clip) - 1, -1)
