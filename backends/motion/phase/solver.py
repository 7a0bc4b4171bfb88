# SPDX-License-Identifier: GPL-3.0-or-later
"""Gaps filled by the phase-driven sampler, and parts of them larger, faster, later or like another clip.  Needs NumPy alone.

The sampler walks from the frames before a gap to its target along the velocity-matched cubic, and where it leaves that it
does so with the cubic's velocities at both ends.  Style and sliders then go by the phases of the filled clip.  What is still
missing at keys is carried across the gap by a cubic, so keys inside it are met as well.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...common import rotations as quaternions
from ...common import weights as weight_files
from ...common.errors import NeedsWeights, VivantError
from .. import humanoid, interpolate, library, stand_in
from ..clip import Clip
from ..retarget import indices, rest_pose, retarget
from ..stand_in import UnknownBody
from . import edit, sampler
from .edit import Edit
from .model import PhaseModel, load, reduced, written

Array = NDArray[np.floating]
Mask = NDArray[np.bool_]
Index = NDArray[np.intp]

WEIGHTS = "phase.safetensors"
PAST = 10  # frames before a gap that the sampler looks at
LONGEST = 6.0  # seconds
SLOWEST, FASTEST = 0.8, 1.25  # frame rates over that of the training
EASE, MANNER = 4, 10  # frames beside a key in which the sampler's departure grows, and that of another manner
ALIKE = 0.1  # difference of a bone from the model's, in the longest bone


def model_of(weights: str = "") -> PhaseModel:
    """The model of a file, or the one found.  Raises NeedsWeights when there is none, BrokenFile as `model.load`."""
    path = Path(weights) if weights else weight_files.find(WEIGHTS)
    try:
        changed = path.stat().st_mtime_ns
    except OSError as error:
        raise NeedsWeights(f"There is no file of weights {weights}.", "Name another one.") from error
    return _loaded(path, changed)


@functools.lru_cache(maxsize=2)
def _loaded(path: Path, changed: int) -> PhaseModel:
    return load(path)


def fill(
    clip: Clip,
    keys: Mask,
    clips: Sequence[Clip],
    seed: int,
    phase_model: str = "",
    style: Mapping[str, Clip | int] | None = None,
    amplitude: Mapping[str, float] | None = None,
    tempo: Mapping[str, float] | None = None,
    shift: Mapping[str, float] | None = None,
    human: Mapping[str, str] | None = None,
) -> tuple[Clip, list[str]]:
    """The clip with its gaps filled, and sentences for the user; see `solve.Solver`.

    The model's own skeleton is filled directly, humans of other skeletons and other frame rates by way of it.
    phase_model: a file of the user's own.  style: part -> the clip whose manner it takes, or the number of one in the library;
    amplitude, tempo: part -> factor; shift: part -> cycles by which it is ahead.  Parts are those of the model.
    human: canonical joint -> name, found by `humanoid.find` when None.
    Raises NeedsWeights, BrokenFile, VivantError for what is neither the model's skeleton nor a human, for parts that the model
    does not have, and where there is no gap to fill.
    """
    model = model_of(phase_model)
    edits = edits_of(amplitude or {}, tempo or {}, shift or {})
    if strange := sorted((edits.keys() | (style or {}).keys()) - model.autoencoders.keys()):
        raise VivantError(
            f"The phase model has no part “{strange[0]}”.", f"The parts are {', '.join(sorted(model.autoencoders))}."
        )
    manners = {part: on_body(_clip(one, clips), model, human) for part, one in (style or {}).items()}
    return stand_in.fill(clip, keys, human, body_of(model), lambda c, k: _filled(model, c, k, manners, edits))


def _filled(
    model: PhaseModel, clip: Clip, keys: Mask, style: Mapping[str, Clip], edits: Mapping[str, Edit]
) -> tuple[Clip, list[str]]:
    """A clip of the model's skeleton with its gaps filled, and sentences for the user.  Raises UnknownBody for others."""
    if not SLOWEST * model.fps <= clip.fps <= FASTEST * model.fps:
        raise UnknownBody(
            f"The phase model learnt motion at {model.fps:g} frames a second, the clip has {clip.fps:g}.",
            "Use another solver, or another frame rate.",
        )
    cubic = interpolate.cubic(clip, keys)
    small = fitted(cubic, model)
    known = np.stack([keys[:, list(clip.names).index(name)] for name in model.names], axis=1)
    gaps = list(_gaps(known))
    if not gaps:
        raise VivantError("No gap lies between two frames that are keyed on every joint of the model.", "Key two whole poses.")
    short = [(start, end) for start, end in gaps if end - start <= LONGEST * clip.fps]
    if not short:
        raise VivantError(f"The gap is longer than the {LONGEST:.0f} seconds that phase fills.", "Key a pose between.")
    small = walked(model, small, known, short)
    if style or edits:
        small = _styled(model, small, known, short, style, edits)
    said = [] if len(short) == len(gaps) else [f"{len(gaps) - len(short)} gaps are longer than {LONGEST:.0f} seconds."]
    return written(cubic, small), said


def edits_of(amplitude: Mapping[str, float], tempo: Mapping[str, float], shift: Mapping[str, float]) -> dict[str, Edit]:
    """The edit of each part that anything is asked of.  Raises VivantError for values that no part can have."""
    parts = {**amplitude, **tempo, **shift}
    every = {part: Edit(amplitude.get(part, 1.0), tempo.get(part, 1.0), shift.get(part, 0.0)) for part in parts}
    return {part: one for part, one in every.items() if one != Edit()}


def fitted(clip: Clip, model: PhaseModel) -> Clip:
    """The clip on the model's joints.  Raises UnknownBody when its skeleton is another."""
    small = reduced(clip, model.names)
    offsets, ours = small.offsets[1:], np.asarray(model.offsets)[1:]
    scale = float(np.sum(ours * offsets)) / max(float(np.sum(ours**2)), 1e-12)
    longest = float(np.max(np.linalg.norm(ours, axis=1)))
    if (
        tuple(small.parents) != model.parents
        or scale <= 0
        or np.linalg.norm(offsets - scale * ours, axis=1).max() > ALIKE * scale * longest
    ):
        raise UnknownBody(
            "The phase model was learned on a skeleton of other proportions.",
            "Train one on this rig's clips, or retarget first.",
        )
    return small


def body_of(model: PhaseModel) -> Clip:
    """The model's skeleton without frames; at which height it stands does not matter to the model."""
    return stand_in.standing(model.names, model.parents, model.offsets, model.fps)


def on_body(clip: Clip, model: PhaseModel, human: Mapping[str, str] | None = None) -> Clip:
    """The clip on the model's joints, retargeted where it is another human's.

    human: canonical joint -> name, as far as the clip has these; else found.  Raises UnknownBody for what is no human.
    """
    try:
        return fitted(clip, model)
    except UnknownBody as unlike:
        mapping = human if human and set(human.values()) <= set(clip.names) else None
        try:
            return reduced(retarget(clip, body_of(model), mapping), model.names)
        except VivantError:
            raise unlike from None


def _clip(style: Clip | int, clips: Sequence[Clip]) -> Clip:
    if isinstance(style, Clip):
        return style
    if not 0 <= style < len(clips):
        raise VivantError(f"The library has no clip {style} to take style from.", f"It has {len(clips)}, counted from 0.")
    return clips[style]


def _gaps(known: Mask) -> Iterator[tuple[int, int]]:
    """The frames at both ends of each gap at which everything is known."""
    frames = np.nonzero((known | ~known.any(axis=0)).all(axis=1))[0]
    for start, end in zip(frames[:-1].tolist(), frames[1:].tolist(), strict=True):
        if end - start > 1:
            yield start, end


def walked(model: PhaseModel, small: Clip, known: Mask, gaps: Sequence[tuple[int, int]] | None = None) -> Clip:
    """A clip on the model's joints, its gaps of known (F, J), or some of them, filled by the sampler, others by the spline."""
    base = filled = interpolate.cubic(small, known)
    for start, end in _gaps(known) if gaps is None else gaps:
        filled = _walk(model, filled, base, known, start, end)
    return filled


def _walk(model: PhaseModel, small: Clip, base: Clip, known: Mask, start: int, end: int) -> Clip:
    """The clip with one gap filled by the sampler; `base` is what the spline makes of it."""
    first = max(start - PAST + 1, 0)
    span = np.arange(first, end + 1)
    parts = [[model.names.index(name) for name in members] for members in model.parts.values()]
    body = sampler.skeleton(model.parents, base.offsets, parts)
    turn = library.about_y(-library.heading_of(small)[start])
    centre = small.root[start] * library.GROUND
    world = quaternions.multiply(turn, small.forward(span)[1].astype(np.float64))
    root = quaternions.rotate(turn, small.root[span] - centre) / body.size
    ends = np.r_[: start - first + 1, len(span) - 1]
    inner = slice(start - first + 1, len(span) - 1)
    turns, places, _ = sampler.sample(body, model.sampler, small.fps, world[ends], root[ends], world[inner], root[inner])
    turns = quaternions.multiply(quaternions.conjugate(turn), turns)
    local = turns.copy()
    for joint, parent in enumerate(model.parents):
        if parent >= 0:
            local[:, joint] = quaternions.multiply(quaternions.conjugate(turns[:, parent]), turns[:, joint])
    places = quaternions.rotate(quaternions.conjugate(turn), places * body.size) + centre
    walked = small.rotations.copy(), small.root.copy()
    walked[0][start + 1 : end], walked[1][start + 1 : end] = local, places
    moved = small.replace(rotations=walked[0], root=walked[1])
    return _met(_eased(moved, small, start, end, EASE), base, known, start, end)


def _eased(moved: Clip, clip: Clip, start: int, end: int, frames: int) -> Clip:
    """The clip, departing towards the moved one between two frames: fully from some frames on, without a velocity at first."""
    inside = np.arange(start + 1, end)
    share = np.clip(np.minimum(inside - start, end - inside) / max(frames, 1), 0, 1)
    share = share * share * (3 - 2 * share)
    rotations, root = clip.rotations.copy(), clip.root.copy()
    departure = quaternions.difference(rotations[inside], moved.rotations[inside]) * share[:, None, None]
    rotations[inside] = quaternions.multiply(rotations[inside], quaternions.exp(departure))
    root[inside] += (moved.root[inside] - root[inside]) * share[:, None]
    return clip.replace(rotations=rotations, root=root)


def _met(moved: Clip, goal: Clip, known: Mask, start: int, end: int) -> Clip:
    """The moved clip bent so that it is the goal at what is known, between two frames; outside of them it is the goal.

    The frames beyond count as known, so velocities are the goal's as well.
    """
    first, last = max(start - 1, 0), min(end + 1, len(goal) - 1)
    span, inside = slice(first, last + 1), slice(start + 1, end)
    there = known[span].copy()
    there[: start - first + 1] = there[end - first :] = True
    vectors, rotations = interpolate.cubics(goal.fps)
    missing = quaternions.multiply(quaternions.conjugate(moved.rotations[span]), goal.rotations[span])
    turned = quaternions.multiply(moved.rotations[span], rotations(missing, there))
    travel = moved.root[span] + vectors(goal.root[span] - moved.root[span], np.repeat(there[:, :1], 3, axis=1))
    turns, root = goal.rotations.copy(), goal.root.copy()
    turns[inside], root[inside] = turned[start + 1 - first : end - first], travel[start + 1 - first : end - first]
    return goal.replace(rotations=turns, root=root)


def _styled(
    model: PhaseModel,
    small: Clip,
    known: Mask,
    gaps: Sequence[tuple[int, int]],
    style: Mapping[str, Clip],
    edits: Mapping[str, Edit],
) -> Clip:
    """The clip with parts of its gaps in other manners; what is outside of the gaps, and other parts, stay bit for bit."""
    parts = model.parts_of(small)
    changed = small
    for part, other in style.items():
        changed = styled(model, changed, small, part, other)
    found = model.latents(changed) if edits else {}
    result = small
    touched = np.zeros(len(model.names), bool)
    touched[[joint for part in (*style, *edits) for joint in parts[part]]] = True
    for start, end in gaps:
        edited = edit.apply(changed, parts, found, edits, start) if edits else changed
        bent = _met(_eased(edited, small, start, end, min(MANNER, (end - start) // 3)), small, known, start, end)
        rotations = result.rotations.copy()
        rotations[start + 1 : end, touched] = bent.rotations[start + 1 : end, touched]
        result = result.replace(rotations=rotations)
    return result


def edited(
    model: PhaseModel,
    clip: Clip,
    part: str,
    change: Edit,
    style: Clip | None = None,
    human: Mapping[str, str] | None = None,
) -> Clip:
    """The clip with one part larger, faster or later, or in the manner of another clip, and all else bit for bit.

    Humans of other skeletons than the model's are edited by way of it; `human` as in `fill`.
    Raises VivantError for what is neither the model's skeleton nor a human, and for a clip shorter than a window of the model.
    """

    def on_its_own(whole: Clip) -> Clip:
        small = changed = fitted(whole, model)
        if style is not None:
            changed = styled(model, small, small, part, on_body(style, model, human))
        if change != Edit():
            changed = edit.apply(changed, model.parts_of(small), model.latents(changed), {part: change})
        return written(whole, changed)

    joints = [clip.names.index(name) for name in members_of(model, part, clip, human)]
    return stand_in.edit(clip, joints, human, body_of(model), on_its_own)


def members_of(model: PhaseModel, part: str, clip: Clip, human: Mapping[str, str] | None = None) -> list[str]:
    """The joints of a part that a clip of the model's skeleton has, or a human of another one.  Raises as `edited`."""
    if set(model.names) <= set(clip.names):
        return list(model.parts[part])
    body = body_of(model)
    wanted = {joint for joint, at in indices(body, None, rest_pose(body)[0]).items() if body.names[at] in model.parts[part]}
    if not wanted.isdisjoint(humanoid.SPINE):
        wanted.update(humanoid.SPINE)
    return [clip.names[at] for joint, at in indices(clip, human, rest_pose(clip)[0]).items() if joint in wanted]


def styled(model: PhaseModel, changed: Clip, small: Clip, part: str, other: Clip) -> Clip:
    """A clip with one part as `edit.swap` makes it of the small clip and of another one of any frame rate."""
    parts, given = model.parts_of(small), on_body(other, model)
    if abs(given.fps - small.fps) > 1e-3:
        given = library.resample(given, np.arange(0, len(given) - 1 + 1e-6, given.fps / small.fps)).replace(fps=small.fps)
    swapped = edit.swap(small, given, parts, model.latents(small), model.latents(given), (part,))
    return changed.replace(rotations=_only(changed, swapped, parts[part]))


def _only(clip: Clip, other: Clip, joints: Sequence[int]) -> Array:
    rotations = clip.rotations.copy()
    rotations[:, list(joints)] = other.rotations[:, list(joints)]
    return rotations
