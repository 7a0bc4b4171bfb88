# SPDX-License-Identifier: GPL-3.0-or-later
"""A body that stands in for a human's: what a solver that knows one skeleton does to the same motion there is brought back.

The motion is retargeted to the body.  How far the solver leaves the spline there, as turns in the world and a shift of the
pelvis, is added to the clip's own spline: where nothing changes, nothing changes, and what the body does not have (fingers,
twist bones, props) follows its parent.  Needs NumPy alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ..common import rotations as quaternions
from ..common.errors import VivantError
from . import humanoid, interpolate
from .clip import Clip
from .retarget import CONTACT, indices, rest_pose, retarget, sample, spine_turns, stride
from .spline import neighbours

Array = NDArray[np.floating]
Mask = NDArray[np.bool_]
Joints = Mapping[str, int]  # canonical joint -> index
Fill = Callable[[Clip, Mask], tuple[Clip, list[str]]]
Edit = Callable[[Clip], Clip]
Answered = Callable[[Clip, Mask], tuple[Clip, Clip, list[str]]]

SLOWEST, FASTEST = 0.95, 1.05  # frame rates over the body's that are not resampled
ELSEWHERE = 0.5  # metres from its floor beyond which networks do worse
ANKLE = 0.07  # metres above the floor on which feet stand in what we train on (median of takes)


class UnknownBody(VivantError):
    """The skeleton, or the frame rate, is not the one that a solver knows."""


def standing(names: Sequence[str], parents: Sequence[int], offsets: Array, fps: float) -> Clip:
    """A body without frames, on the floor as it stands in what we train on; the rest pose turns nothing."""
    offsets = np.array(offsets, float)
    still = Clip(names, np.array(parents), offsets, fps, np.empty((0, len(offsets), 4)), np.empty((0, 3)))
    offsets[0, 1] += ANKLE - rest_pose(still)[0][:, 1].min()
    return still.replace(offsets=offsets)


def fill(clip: Clip, keys: Mask, human: Mapping[str, str] | None, body: Clip, fill_on_body: Fill) -> tuple[Clip, list[str]]:
    """The clip with its gaps filled, and sentences for the user: directly where the solver knows it, else by way of its body.

    human: canonical joint -> name of the clip's, found by `humanoid.find` when None; body: the skeleton and frame rate that
    the solver knows, as by `standing`; fill_on_body(clip, keys (F, J)) raises UnknownBody for others.  Any frame rate will do.
    Raises VivantError for what is no human, and as the solver.
    """
    try:
        return fill_on_body(clip, keys)
    except UnknownBody as unlike:
        refusal = unlike
    filled = interpolate.cubic(clip, keys)
    last, following = neighbours(keys)
    known = keys | (last < 0) | (following == len(clip))

    def answered(asked: Clip, given: Mask) -> tuple[Clip, Clip, list[str]]:
        answer, said = fill_on_body(asked, given)
        return interpolate.cubic(asked, given), answer, said

    return _by_way_of(body, filled, known, human, answered, refusal)


def edit(clip: Clip, joints: Sequence[int], human: Mapping[str, str] | None, body: Clip, edit_on_body: Edit) -> Clip:
    """The clip with some joints turned otherwise: directly where edit_on_body(clip) knows it, else as its body turns otherwise.

    All else stays bit for bit.  Arguments and errors as those of `fill`.
    """
    try:
        return edit_on_body(clip)
    except UnknownBody as unlike:
        refusal = unlike
    fixed = np.ones(clip.rotations.shape[:2], bool)
    fixed[:, list(joints)] = False
    return _by_way_of(body, clip, fixed, human, lambda asked, given: (asked, edit_on_body(asked), []), refusal)[0]


def _by_way_of(
    body: Clip, filled: Clip, known: Mask, human: Mapping[str, str] | None, answered: Answered, refusal: UnknownBody
) -> tuple[Clip, list[str]]:
    """A clip with what is not known (F, J) changed as a body's motion is, and sentences for the user.

    answered: the body's motion, and where it is known (F, J'), as they were and are to be.  Raises the refusal of a body that
    is no human.
    """
    rests = rest_pose(body)[0], rest_pose(filled)[0]
    try:
        theirs = indices(body, None, rests[0])
    except VivantError:
        raise refusal from None  # the solver knows another creature
    ours = indices(filled, human, rests[1])
    _check_legs(filled, ours)
    seen = _seen(known, filled, ours, theirs, len(body.names))
    times, rate = timeline(seen, filled.fps, body.fps)
    moved = retarget(filled, body, _named(filled, ours), _named(body, theirs))
    asked = sample(_on_the_floor(moved, theirs), times).replace(fps=rate)
    given = seen[np.floor(times).astype(int)] & seen[np.ceil(times).astype(int)]
    before, after, said = answered(asked, given)
    turns, shift = _change(before, after)

    at = np.interp(np.arange(len(filled)), times, np.arange(len(times)))
    rows = np.flatnonzero(_between(np.abs(turns).max(axis=(1, 2)) + np.abs(shift).max(axis=1), at) > 0)
    change = quaternions.exp(_between(turns, at[rows]))
    by_joint = {joint: change[:, index] for joint, index in theirs.items()}
    by_joint |= spine_turns(by_joint, theirs, ours, *rests)
    driven = {ours[joint]: turn for joint, turn in by_joint.items() if joint in ours}
    return _applied(filled, known, rows, driven, ours["pelvis"], _between(shift, at[rows]) * stride(theirs, ours, *rests)), said


def _on_the_floor(moved: Clip, theirs: Joints) -> Clip:
    """The body's motion, lowered to the height of the training's floor where it goes about far above or below that."""
    lowest = [theirs.get(f"foot.{side}", theirs[f"shin.{side}"]) for side in humanoid.SIDES]
    feet = moved.forward()[0][:, lowest, 1]
    floor = np.percentile(feet.min(axis=1), CONTACT) - ANKLE
    return moved.replace(root=moved.root - [0, floor, 0]) if abs(floor) > ELSEWHERE else moved


def timeline(known: Mask, fps: float, rate: float) -> tuple[Array, float]:
    """Times (N,) in frames of the clip, ascending, that are neighbouring frames to a solver of some rate; and their rate.

    A frame rate near the solver's stays.  Others become the solver's, each stretch between two ends of gaps in known (F, J)
    rounded to whole frames, so that every end is one of the times.
    """
    if SLOWEST * rate <= fps <= FASTEST * rate:
        return np.arange(len(known), dtype=float), fps
    edge = known[1:] != known[:-1]
    ends = np.zeros(len(known), bool)
    ends[:-1] |= (edge & known[:-1]).any(axis=1)
    ends[1:] |= (edge & known[1:]).any(axis=1)
    ends[[0, -1]] = True
    marks = np.flatnonzero(ends)
    steps = np.maximum(1, np.rint(np.diff(marks) * rate / fps))
    places = np.concatenate([[0.0], np.cumsum(steps)])
    return np.interp(np.arange(places[-1] + 1), places, marks), rate


def _named(clip: Clip, human: Joints) -> dict[str, str]:
    return {joint: clip.names[at] for joint, at in human.items()}


def _check_legs(clip: Clip, ours: Joints) -> None:
    for side in humanoid.SIDES:
        foot = ours.get(f"foot.{side}")
        if foot is not None and ours[f"shin.{side}"] not in _ancestors(clip, foot):
            raise VivantError(f"The foot '{clip.names[foot]}' hangs on no leg.", "In-between the controls that move it.")


def _ancestors(clip: Clip, joint: int) -> set[int]:
    """The joint and everything above it."""
    chain = set()
    while joint >= 0:
        chain.add(joint)
        joint = int(clip.parents[joint])
    return chain


def _seen(known: Mask, clip: Clip, ours: Joints, theirs: Joints, joints: int) -> Mask:
    """Which rotations of the body are known (F, joints), its root's with its place: where the clip's joints between are."""
    spine = [joint for joint in ("pelvis", *humanoid.SPINE) if joint in ours]
    chest = _ancestors(clip, ours[spine[-1]]) - _ancestors(clip, ours["pelvis"])
    seen = np.ones((len(known), joints), bool)
    for joint, index in theirs.items():
        if joint == "pelvis":
            path = _ancestors(clip, ours["pelvis"])
        elif joint in humanoid.SPINE:
            path = chest
        elif joint in ours:
            above = humanoid.PARENT[joint]
            while above not in ours or above not in theirs:
                above = humanoid.PARENT[above]
            top = ours[spine[-1]] if above in humanoid.SPINE else ours[above]
            path = _ancestors(clip, ours[joint]) ^ _ancestors(clip, top)
        else:
            continue  # at rest
        seen[:, index] = known[:, sorted(path)].all(axis=1)
    return seen


def _change(spline: Clip, answer: Clip) -> tuple[Array, Array]:
    """What turns each joint from the one to the other in the world (F, J, 3), radians, and where to the root moves (F, 3)."""
    same = (spline.rotations == answer.rotations).all(axis=(1, 2)) & (spline.root == answer.root).all(axis=1)
    (_, before), (_, after) = spline.forward(), answer.forward()
    turns = quaternions.log(quaternions.multiply(after, quaternions.conjugate(before)))
    return np.where(same[:, None, None], 0, turns), answer.root - spline.root


def _between(values: Array, at: Array) -> Array:
    """Values (F, …) at fractions of frames (N,), by Catmull and Rom's cubic; where frames are whole those frames' own."""
    start = np.clip(np.floor(at).astype(int), 0, max(len(values) - 2, 0))
    share = (at - start).reshape(-1, *[1] * (values.ndim - 1))
    if not share.any():
        return values[start]
    last = len(values) - 1
    a, b, c, d = (values[np.clip(start + step, 0, last)] for step in (-1, 0, 1, 2))
    cubic = (2 * a - 5 * b + 4 * c - d) + share * (3 * b - a - 3 * c + d)
    return b + share / 2 * (c - a + share * cubic)


def _applied(clip: Clip, known: Mask, rows: NDArray[np.intp], driven: Mapping[int, Array], pelvis: int, shift: Array) -> Clip:
    """The clip with some joints turned in the world, (N, 4) each at frames rows (N,), and the pelvis shifted (N, 3).

    Local rotations and places that are known (F, J) stay; the pelvis is moved by the nearest joint above that has a place.
    """
    _, world = clip.forward(rows)
    local, turned = clip.rotations[rows], np.empty_like(world)
    for joint, parent in enumerate(clip.parents):
        above = turned[:, parent] if parent >= 0 else quaternions.IDENTITY
        if joint in driven:
            wanted = quaternions.multiply(quaternions.conjugate(above), quaternions.multiply(driven[joint], world[:, joint]))
            wanted *= np.where(np.sum(wanted * local[:, joint], axis=1) < 0, -1, 1)[:, None]
            local[:, joint] = np.where(known[rows, joint, None], local[:, joint], wanted)
        turned[:, joint] = quaternions.multiply(above, local[:, joint])

    carrier = pelvis
    while carrier and carrier not in clip.translations:
        carrier = int(clip.parents[carrier])
    shift = np.where(known[rows, carrier, None], 0, shift)
    rotations, root, translations = clip.rotations.copy(), clip.root.copy(), dict(clip.translations)
    rotations[rows] = local
    if carrier:
        translations[carrier] = translations[carrier].copy()
        translations[carrier][rows] += quaternions.rotate(quaternions.conjugate(world[:, clip.parents[carrier]]), shift)
    else:
        root[rows] += shift
    return clip.replace(rotations=rotations, root=root, translations=translations)
