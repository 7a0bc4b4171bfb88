# SPDX-License-Identifier: GPL-3.0-or-later
"""Which joints of a skeleton are a human's: 22 canonical joints, found by names, else by shape.

Names cover Rigify, Mixamo, the Unreal mannequins, Auto-Rig Pro, VRM, SMPL, CMU (ASF and DAZ) and 100STYLE.  Only limbs, neck
and head are found by name; pelvis and spine follow from the hierarchy, which no convention can misspell.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ..common.errors import VivantError

Array = NDArray[np.floating]
Parents = NDArray[np.integer]

LEG = ("thigh", "shin", "foot", "toe")
ARM = ("collar", "upper_arm", "forearm", "hand")
SPINE = ("spine1", "spine2", "spine3")
SIDES = ("L", "R")
JOINTS = ("pelvis", *SPINE, "neck", "head", *(f"{part}.{side}" for side in SIDES for part in (*LEG, *ARM)))
NEEDED = ("pelvis", *(f"{part}.{side}" for side in SIDES for part in ("thigh", "shin", "upper_arm", "forearm")))
PARENT: dict[str, str] = {
    **dict(itertools.pairwise(reversed(("pelvis", *SPINE, "neck", "head")))),
    **{
        f"{child}.{side}": f"{parent}.{side}"
        for side in SIDES
        for limb in (LEG, ARM)
        for parent, child in itertools.pairwise(limb)
    },
    **{f"thigh.{side}": "pelvis" for side in SIDES},
    **{f"collar.{side}": "spine3" for side in SIDES},
}

# Names without prefix, side and separators.  The first that exists counts; one bone is one joint, so the order matters:
# SMPL's 'shoulder' is an upper arm, Mixamo's a collar; SMPL's 'foot' is a toe, since it also has an 'ankle'.
SIDED = {
    "thigh": ("thigh", "upleg", "upperleg", "femur", "hip"),
    "shin": ("shin", "calf", "lowerleg", "leg", "tibia", "knee"),
    "foot": ("ankle", "foot"),
    "toe": ("toebase", "toes", "toe", "ball", "foot"),
    "upper_arm": ("upperarm", "arm", "shldr", "humerus", "shoulder"),
    "forearm": ("forearm", "lowerarm", "radius", "elbow"),
    "hand": ("wrist", "hand", "palm"),
    "collar": ("collar", "clavicle", "shoulder"),
}
CENTRAL = {"neck": ("neck", "neck1", "neck01", "lowerneck", "spine004"), "head": ("head", "spine006")}

# Control rigs have no hierarchy of a human: their controls are known by name alone.
RIGIFY = {"pelvis": "torso", "spine1": "spine_fk.002", "spine3": "spine_fk.003", "neck": "neck", "head": "head"}
AUTO_RIG_PRO = {
    "pelvis": "c_root_master.x",
    "spine1": "c_spine_01.x",
    "spine3": "c_spine_02.x",
    "neck": "c_neck.x",
    "head": "c_head.x",
}
# The bones in a Rigify rig that follow whichever of IK and FK is on: what a pose is read from.
RIGIFY_POSE = {"pelvis": "spine", "spine1": "spine.001", "spine2": "spine.002", "spine3": "spine.003"}
RIGIFY_POSE |= {"neck": "spine.004", "head": "spine.006"}
for _side in SIDES:
    for _joint, _bone, _pro in (
        ("thigh", "thigh_fk", "c_thigh_fk"),
        ("shin", "shin_fk", "c_leg_fk"),
        ("foot", "foot_fk", "c_foot_fk"),
        ("toe", "toe_fk", "c_toes_fk"),
        ("collar", "shoulder", "c_shoulder"),
        ("upper_arm", "upper_arm_fk", "c_arm_fk"),
        ("forearm", "forearm_fk", "c_forearm_fk"),
        ("hand", "hand_fk", "c_hand_fk"),
    ):
        RIGIFY[f"{_joint}.{_side}"] = f"{_bone}.{_side}"
        RIGIFY_POSE[f"{_joint}.{_side}"] = f"{_bone.removesuffix('_fk')}.{_side}"
        AUTO_RIG_PRO[f"{_joint}.{_side}"] = f"{_pro}.{_side.lower()}"
RIGIFY_POSE = {joint: f"ORG-{bone}" for joint, bone in RIGIFY_POSE.items()}
CONTROLS: tuple[Mapping[str, str], ...] = (RIGIFY, AUTO_RIG_PRO)

ALIKE = 0.05  # share by which the bones of a left and a right limb may differ in length
FLOOR = 0.15  # share of the height within which a leg's end stands on the floor


def find(names: Sequence[str], parents: Parents, positions: Array) -> dict[str, str]:
    """Canonical joint -> name, for as many of `JOINTS` as the skeleton has; `NEEDED` are always there.

    parents (J,) with -1 for roots, parents first; positions (J, 3) in the rest pose, Y up, any unit.
    Raises VivantError, naming joints that were not found, for whatever is no human.
    """
    for controls in CONTROLS:
        if set(controls.values()) <= set(names):
            return dict(controls)
    by_name = _by_names(names)
    found = _with_trunk(by_name, parents)
    if _missing(found):
        found = _with_trunk(_by_shape(parents, np.asarray(positions)), parents)
    if missing := _missing(found):
        missing = _missing(_with_trunk(by_name, parents)) or missing
        some = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
        raise VivantError(f"This skeleton is no human that Vivant knows: {some} not found.", "Name them in the rig's mapping.")
    return {joint: names[found[joint]] for joint in JOINTS if joint in found}


def check(human: Mapping[str, str], names: Sequence[str]) -> None:
    """Raises VivantError for a mapping that lacks joints of `NEEDED`, or names what the skeleton does not have."""
    if absent := [name for name in human.values() if name not in names]:
        raise VivantError(f"The mapping names '{absent[0]}', which the skeleton does not have.", "Correct the rig's mapping.")
    if missing := _missing(human):
        raise VivantError(f"The mapping lacks {', '.join(missing)}.", "Name them in the rig's mapping.")


def _missing(found: Mapping[str, object]) -> list[str]:
    return [joint for joint in NEEDED if joint not in found]


def split(name: str) -> tuple[str, str]:
    """A name's plain stem, in lower case without prefix and separators, and its side: "L", "R" or ""."""
    name = re.sub(r"^(J_Bip_(C_)?|Bip\d+[ _]|CC_Base_|ORG-|DEF-)", "", re.split(r"[:|]", name)[-1])
    for pattern in (
        r"[._ -](?P<side>l|r|left|right)$",
        r"^(?P<side>l|r|left|right)[._ -]+",
        r"^(?P<side>[Ll]eft|[Rr]ight|[lr])(?=[A-Z])",
        r"(?<=[a-z])(?P<side>Left|Right|L|R)$",
        r"^(?P<side>[lr])(?=femur|tibia|foot|toes|clavicle|humerus|radius|wrist|hand$)",
    ):
        flags = re.IGNORECASE if "[._ -]" in pattern else re.NOFLAG
        if match := re.search(pattern, name, flags):
            rest = name[: match.start()] + name[match.end() :]
            return _letters(rest), match["side"][0].upper()
    return _letters(re.sub(r"\.x$", "", name)), ""


def _letters(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())


def _by_names(names: Sequence[str]) -> dict[str, int]:
    """Joints of limbs, neck and head by their names."""
    stems: dict[tuple[str, str], int] = {}
    for index, name in enumerate(names):
        stems.setdefault(split(name), index)
    found: dict[str, int] = {}
    for table, sides in ((SIDED, SIDES), (CENTRAL, ("",))):
        for side, (joint, aliases) in itertools.product(sides, table.items()):
            for alias in aliases:
                index = stems.get((alias, side), -1)
                if index >= 0 and index not in found.values():
                    found[f"{joint}.{side}" if side else joint] = index
                    break
    return found


def _ancestors(joint: int, parents: Parents) -> list[int]:
    """The joint and everything above it, upwards."""
    chain = []
    while joint >= 0:
        chain.append(int(joint))
        joint = int(parents[joint])
    return chain


def _meeting(joints: Sequence[int], parents: Parents) -> int:
    """The nearest ancestor that several joints share, -1 when there is none."""
    shared = [set(_ancestors(int(parents[joint]), parents)) for joint in joints]
    return max(set.intersection(*shared), default=-1)


def _with_trunk(found: Mapping[str, int], parents: Parents) -> dict[str, int]:
    """The joints with pelvis and spine, which lie where legs and arms meet; limbs whose joints are in the wrong order go."""
    result = dict(found)
    for side, (upper, lower) in itertools.product(SIDES, (("thigh", "shin"), ("upper_arm", "forearm"))):
        pair = (f"{upper}.{side}", f"{lower}.{side}")
        if all(joint in result for joint in pair) and result[pair[0]] not in _ancestors(result[pair[1]], parents):
            del result[pair[1]]
    if not all(f"{part}.{side}" in result for part in ("thigh", "upper_arm") for side in SIDES):
        return result
    chest = _meeting([result[f"upper_arm.{side}"] for side in SIDES], parents)
    legs = [result[f"thigh.{side}"] for side in SIDES]
    pelvis = max(set(_ancestors(_meeting(legs, parents), parents)) & set(_ancestors(chest, parents)), default=-1)
    if pelvis < 0 or chest < 0:
        return result
    result["pelvis"] = pelvis
    chain = [joint for joint in reversed(_ancestors(chest, parents)) if joint > pelvis and joint not in result.values()]
    if chain:
        result["spine3"] = chain[-1]
    if len(chain) > 1:
        result["spine1"] = chain[0]
    if len(chain) > 2:
        result["spine2"] = chain[(len(chain) - 1) // 2]
    return result


def _by_shape(parents: Parents, positions: Array) -> dict[str, int]:
    """Limbs, neck and head of a body with two legs that stand on the floor and two arms that do not."""
    count = len(parents)
    children = [[child for child in range(count) if parents[child] == joint] for joint in range(count)]
    lengths = np.where(parents >= 0, np.linalg.norm(positions - positions[parents], axis=1), 0)
    reach = np.zeros(count)
    for joint in reversed(range(count)):
        reach[joint] = lengths[joint] + max((reach[child] for child in children[joint]), default=0)
    low, height = positions[:, 1].min(), np.ptp(positions[:, 1])

    def chain(joint: int) -> list[int]:
        line = [joint]
        while children[line[-1]]:
            line.append(max(children[line[-1]], key=lambda child: reach[child]))
        return line

    def pairs(joint: int) -> list[tuple[list[int], list[int]]]:
        lines = [line for line in map(chain, children[joint]) if len(line) > 2]
        return [
            (a, b)
            for a, b in itertools.combinations(lines, 2)
            if len(a) == len(b) and np.abs(lengths[a[1:]] - lengths[b[1:]]).max() <= ALIKE * reach[a[0]]
        ]

    def stands(line: list[int]) -> bool:
        return bool(positions[line, 1].min() - low < FLOOR * height)

    legs = [(a, b) for joint in range(count) for a, b in pairs(joint) if stands(a) and stands(b)]
    arms = [(joint, a, b) for joint in range(count) for a, b in pairs(joint) if not stands(a) and not stands(b)]
    if len(legs) != 1 or not arms:
        return {}
    chest, *both = max(arms, key=lambda pair: reach[pair[1][0]])
    back = positions[chest] - positions[parents[legs[0][0][0]]]
    if back[1] < np.hypot(back[0], back[2]):
        return {}  # a bird: humans stand upright
    found: dict[str, int] = {}
    left = _left(legs[0], positions, lengths)
    if left is None:
        return {}
    for parts, lines in ((LEG, legs[0]), (ARM, both)):
        across = (positions[lines[0]] - positions[lines[1]]).mean(axis=0) @ left
        for side, line in zip(SIDES if across > 0 else SIDES[::-1], lines, strict=True):
            first = _longest(line, lengths)
            start = first - parts.index("upper_arm") if parts is ARM else first
            named = zip(parts, range(start, start + 4), strict=True)
            found.update({f"{part}.{side}": line[at] for part, at in named if 0 <= at < len(line)})
    upwards = [child for child in children[chest] if child not in (both[0][0], both[1][0])]
    if upwards:
        line = chain(max(upwards, key=lambda child: positions[chain(child), 1].max()))
        found["neck"] = line[0]
        if len(line) > 1:
            found["head"] = line[1]
    return found


def _longest(line: list[int], lengths: Array) -> int:
    """Where in a limb its two long bones begin."""
    return max(range(len(line) - 2), key=lambda at: lengths[line[at + 1]] + lengths[line[at + 2]])


def _left(legs: tuple[list[int], list[int]], positions: Array, lengths: Array) -> Array | None:
    """The body's left, by where the toes point; None when it has no toes."""
    forward = np.zeros(3)
    for line in legs:
        foot = _longest(line, lengths) + 2
        forward += positions[line[-1]] - positions[line[foot]]
    forward[1] = 0
    return np.cross([0.0, 1.0, 0.0], forward) if np.linalg.norm(forward) > 1e-6 else None
