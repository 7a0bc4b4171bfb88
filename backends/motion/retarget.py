# SPDX-License-Identifier: GPL-3.0-or-later
"""Retargeting: one human's motion on another's skeleton.

Every joint's world rotation is carried over as its turn away from the rest pose.  Where the rest poses differ, as a T-pose from
an A-pose, the target's limbs are first brought into the source's, so limbs point where the source's point.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ..common import rotations as quaternions
from ..common.errors import VivantError
from . import humanoid
from .clip import Clip

Array = NDArray[np.floating]
Mapped = Mapping[str, str]

LIMBS = (("thigh", "shin"), ("shin", "foot"), ("upper_arm", "forearm"), ("forearm", "hand"))
SUNK = 0.25  # share of the hip height by which a rest pose reaches below the floor when it is none to stand in
CONTACT = 5.0  # percentile of the feet's heights that is the floor


def rest_pose(clip: Clip) -> tuple[Array, Array]:
    """World positions (J, 3) and rotations (J, 4) of a clip's bind pose, its root at offsets[0]."""
    rest = np.broadcast_to(quaternions.IDENTITY, (*clip.offsets.shape[:1], 4)) if clip.rest is None else clip.rest
    still = clip.replace(rotations=np.asarray(rest, np.float64)[None], root=clip.offsets[:1], translations={})
    positions, rotations = still.forward()
    return positions[0], rotations[0]


def resample(clip: Clip, fps: float) -> Clip:
    """The clip at another frame rate, as by `sample`; it begins at the same time."""
    if math.isclose(fps, clip.fps, rel_tol=1e-6):
        return clip
    count = math.floor((len(clip) - 1) * fps / clip.fps + 1e-6) + 1
    return sample(clip, np.arange(count) * (clip.fps / fps)).replace(fps=fps)


def sample(clip: Clip, times: Array) -> Clip:
    """The clip at some times (N,) in frames, rotations by slerp and positions in straight lines."""
    times = np.minimum(times, len(clip) - 1)
    before = np.minimum(times.astype(int), max(len(clip) - 2, 0))
    after = np.minimum(before + 1, len(clip) - 1)
    share = times - before

    def straight(values: Array) -> Array:
        return values[before] + share[:, None] * (values[after] - values[before])

    turned = quaternions.slerp(clip.rotations[before], clip.rotations[after], share[:, None])
    moved = {joint: straight(values) for joint, values in clip.translations.items()}
    return clip.replace(rotations=turned, root=straight(clip.root), translations=moved)


def retarget(
    clip: Clip, target: Clip, source_human: Mapped | None = None, target_human: Mapped | None = None, in_place: bool = False
) -> Clip:
    """The clip's motion on the skeleton of `target`, whose own frames do not matter.

    source_human, target_human: canonical joint -> name, found by `humanoid.find` when None.  Limbs point where the source's do
    in the world; a joint that the source lacks keeps its rest pose on its parent; a joint that is no canonical one follows its
    namesake.  The pelvis travels as the source's, scaled by the height of the hips; in_place: up and down alone.
    Raises VivantError where a skeleton is no human, or the clip has no frames.
    """
    if not len(clip):
        raise VivantError("The source has no motion.", "Choose a file or an action with frames.")
    source_rest, target_rest = rest_pose(clip), rest_pose(target)
    source = indices(clip, source_human, source_rest[0])
    into = indices(target, target_human, target_rest[0])
    positions, rotations = clip.forward()

    turns = {
        joint: quaternions.multiply(rotations[:, at], quaternions.conjugate(source_rest[1][at])) for joint, at in source.items()
    }
    turns.update(spine_turns(turns, source, into, source_rest[0], target_rest[0]))
    fitted = _fitted_rest(source, into, source_rest[0], target_rest)
    world_of = {into[joint]: quaternions.multiply(turns[joint], fitted[joint]) for joint in into if joint in turns}

    pelvis = into["pelvis"]
    above = target.parents[pelvis]
    local = _followers(clip, target, set(world_of), pelvis)
    world = np.empty_like(local)
    for joint, parent in enumerate(target.parents):
        below = world[:, parent] if parent >= 0 else quaternions.IDENTITY
        if joint in world_of:
            local[:, joint] = quaternions.multiply(quaternions.conjugate(below), world_of[joint])
        world[:, joint] = quaternions.multiply(below, local[:, joint])
    still = target.replace(
        fps=clip.fps, rotations=quaternions.continuous(local), root=np.tile(target.offsets[0], (len(clip), 1))
    )

    def placed(places: Array) -> Clip:
        if above < 0:
            return _attached(still.replace(root=places, translations={}), into, target_rest)
        offset = quaternions.rotate(quaternions.conjugate(target_rest[1][above]), places - target_rest[0][above])
        return _attached(still.replace(translations={pelvis: offset}), into, target_rest)

    feet = [[human[joint] for joint in _feet(source, into)] for human in (source, into)]
    places = _travel(positions[:, source["pelvis"]], source, into, source_rest[0], target_rest[0])
    if in_place:
        places[:, [0, 2]] = target_rest[0][pelvis, [0, 2]]
    if _hangs(source_rest[0], source, feet[0]):
        # Its rest pose says nothing of the floor: the floor is where the feet go.
        lowest = placed(places).forward()[0][:, feet[1], 1].min(axis=1)
        floor = target_rest[0][:, 1].min() if _hangs(target_rest[0], into, feet[1]) else 0.0
        places[:, 1] += target_rest[0][feet[1], 1].mean() - floor - np.percentile(lowest, CONTACT)
    return placed(places)


def indices(clip: Clip, human: Mapped | None, places: Array) -> dict[str, int]:
    """Canonical joint -> index of a mapping, or of what is found (places (J, 3): the rest pose).  Raises as `retarget`."""
    names = list(clip.names)
    found = humanoid.find(names, clip.parents, places) if human is None else human
    humanoid.check(found, names)
    return {joint: names.index(name) for joint, name in found.items()}


def spine_turns(
    turns: Mapping[str, Array], source: Mapping[str, int], into: Mapping[str, int], source_rest: Array, target_rest: Array
) -> dict[str, Array]:
    """Turns (F, 4) of the target's spine, taken from the source's at the same share of the way from pelvis to chest."""
    shares, wanted = (_shares(human, rest) for human, rest in ((source, source_rest), (into, target_rest)))
    joints, marks = list(shares), np.array(list(shares.values()))
    result = {}
    for joint, share in wanted.items():
        last = int(np.clip(np.searchsorted(marks, share, "right") - 1, 0, max(len(marks) - 2, 0)))
        following = min(last + 1, len(marks) - 1)
        between = (share - marks[last]) / (marks[following] - marks[last]) if following > last else 0.0
        result[joint] = quaternions.slerp(turns[joints[last]], turns[joints[following]], np.array(between))
    return result


def _shares(human: Mapping[str, int], rest: Array) -> dict[str, float]:
    """How far along the spine its joints lie: pelvis 0, chest 1."""
    joints = [joint for joint in ("pelvis", *humanoid.SPINE) if joint in human]
    steps = np.linalg.norm(np.diff(rest[[human[joint] for joint in joints]], axis=0), axis=1)
    along = np.concatenate([[0.0], np.cumsum(np.maximum(steps, 1e-9))])
    return dict(zip(joints, (along / max(along[-1], 1e-9)).tolist(), strict=True))


def _fitted_rest(
    source: Mapping[str, int], into: Mapping[str, int], source_rest: Array, target_rest: tuple[Array, Array]
) -> dict[str, Array]:
    """World rotations (4,) of the target's joints when it stands as the source does in its rest pose, facing the same way."""
    places, rotations = target_rest
    about = quaternions.multiply(_yaw(source, source_rest), quaternions.conjugate(_yaw(into, places)))
    fits: dict[str, Array] = {}
    child_of = {f"{a}.{side}": f"{b}.{side}" for a, b in LIMBS for side in humanoid.SIDES}
    for joint in humanoid.JOINTS:
        part = joint.partition(".")[0]
        parent = humanoid.PARENT.get(joint, "")
        # Soles are flat in every rest pose, however far the legs are apart: feet keep what they have.
        fits[joint] = fits[parent] if part in ("shin", "forearm", "hand") else about
        child = child_of.get(joint)
        if child and all(name in human for name in (joint, child) for human in (source, into)):
            mine = quaternions.rotate(fits[joint], places[into[child]] - places[into[joint]])
            theirs = source_rest[source[child]] - source_rest[source[joint]]
            fits[joint] = quaternions.multiply(_shortest(mine, theirs), fits[joint])
    return {joint: quaternions.multiply(fits[joint], rotations[at]) for joint, at in into.items()}


def _yaw(human: Mapping[str, int], rest: Array) -> Array:
    """The turn about Y that brings +X to the left of a body in its rest pose."""
    x, _, z = rest[human["thigh.L"]] - rest[human["thigh.R"]]
    return quaternions.exp(np.array([0.0, -math.atan2(z, x), 0.0]))


def _shortest(a: Array, b: Array) -> Array:
    """The shortest turn from one direction to another; none for bones without length."""
    a, b = (v / max(float(np.linalg.norm(v)), 1e-12) for v in (a, b))
    axis, cosine = np.cross(a, b), float(a @ b)
    length = float(np.linalg.norm(axis))
    if length < 1e-12:
        if cosine >= 0:
            return quaternions.IDENTITY
        axis, length = np.cross(a, np.eye(3)[np.argmin(np.abs(a))]), 1.0
        return quaternions.exp(axis / np.linalg.norm(axis) * math.pi)
    return quaternions.exp(axis / length * math.atan2(length, cosine))


def _attached(clip: Clip, human: Mapping[str, int], rest: tuple[Array, Array]) -> Clip:
    """The clip with feet that hang on no leg, as in rigs made for IK, carried along by the shins."""
    translations = dict(clip.translations)
    for side in humanoid.SIDES:
        shin, foot = human[f"shin.{side}"], human.get(f"foot.{side}", -1)
        above = foot
        while above > shin:
            above = int(clip.parents[above])
        if foot < 0 or above == shin:
            continue
        positions, rotations = clip.forward()
        turn = quaternions.multiply(rotations[:, shin], quaternions.conjugate(rest[1][shin]))
        place = positions[:, shin] + quaternions.rotate(turn, rest[0][foot] - rest[0][shin])
        parent = clip.parents[foot]
        translations[foot] = quaternions.rotate(quaternions.conjugate(rotations[:, parent]), place - positions[:, parent])
    return clip.replace(translations=translations)


def _feet(source: Mapping[str, int], into: Mapping[str, int]) -> list[str]:
    """The lowest joints of the legs that both have."""
    part = "foot" if all(f"foot.{side}" in human for side in humanoid.SIDES for human in (source, into)) else "shin"
    return [f"{part}.{side}" for side in humanoid.SIDES]


def _hangs(rest: Array, human: Mapping[str, int], feet: list[int]) -> bool:
    """Whether a rest pose hangs about the origin, as in capture files, instead of standing on the floor."""
    foot = rest[feet, 1].mean()
    return bool(foot < -SUNK * (rest[human["pelvis"], 1] - foot))


def _travel(pelvis: Array, source: Mapping[str, int], into: Mapping[str, int], source_rest: Array, target_rest: Array) -> Array:
    """Where the target's pelvis goes (F, 3): from its rest as the source's from its own, scaled by the lengths of the legs."""
    scale = stride(source, into, source_rest, target_rest)
    return target_rest[into["pelvis"]] + scale * (pelvis - source_rest[source["pelvis"]])


def stride(source: Mapping[str, int], into: Mapping[str, int], source_rest: Array, target_rest: Array) -> float:
    """How many times as long the target's legs are as the source's, by their rest poses (J, 3)."""
    joints = [f"thigh.{side}" for side in humanoid.SIDES], _feet(source, into)
    hips, feet = ([[human[joint] for joint in part] for human in (source, into)] for part in joints)
    rests = (source_rest, target_rest)
    legs = [np.linalg.norm(rest[hip] - rest[foot], axis=1).sum() for rest, hip, foot in zip(rests, hips, feet, strict=True)]
    return float(legs[1] / max(legs[0], 1e-9))


def _followers(clip: Clip, target: Clip, driven: set[int], pelvis: int) -> Array:
    """Local rotations (F, J, 4) of the target: at rest, or turned as the source's joint of the same name."""
    rest = np.broadcast_to(quaternions.IDENTITY, (len(target.names), 4)) if target.rest is None else np.asarray(target.rest)
    local = np.tile(rest.astype(np.float64), (len(clip), 1, 1))
    above = pelvis
    while above >= 0:
        driven = driven | {above}
        above = int(target.parents[above])
    theirs = {name: index for index, name in enumerate(clip.names)}
    for joint, name in enumerate(target.names):
        if joint not in driven and name in theirs:
            at = theirs[name]
            was = quaternions.IDENTITY if clip.rest is None else clip.rest[at]
            turn = quaternions.multiply(quaternions.conjugate(was), clip.rotations[:, at])
            local[:, joint] = quaternions.multiply(rest[joint], turn)
    return local
