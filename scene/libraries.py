# SPDX-License-Identifier: GPL-3.0-or-later
"""The motion that the file holds for an armature, as a library of clips for solvers that search one."""

from __future__ import annotations

import functools
import hashlib
import itertools
import math
from collections.abc import Generator, Iterator, Sequence

import bpy
import numpy as np

from ..backends.common import rotations as quaternions
from ..backends.motion.clip import Clip
from ..backends.motion.retarget import resample, retarget
from . import actions, beside, skeletons, takes
from .tracks import Track

SHORTEST = 10  # frames of a clip
LONGER = 1.25  # frames of a stretch that may fill a gap, over those of the gap
CLOSES, RISES = 0.1, 0.002  # radians (RMS of all joints), and share of the bones' length, between the ends of what goes round
REMEMBERED = 64  # clips
DENSE = 0.5  # keys a frame from which on what surrounds a gap is motion and no blocking

_clips: dict[tuple[int, int, int], tuple[bytes, Clip]] = {}


def library_of(
    armature: bpy.types.Object, skeleton: Clip, tracks: Sequence[Track], chosen: Sequence[Clip] = ()
) -> Generator[str, None, list[Clip]]:
    """Clips of a skeleton of the armature's bones: `chosen` ones, and those of the file's actions that move at least half of
    the tracks' bones.  Yields what it does.

    Takes are left out.  Of the action that is being filled, what lies outside of the gaps counts where it is keyed densely.
    Actions that end as they begin go round until they fill the longest gap, or a walk on the spot would lose against a jump.
    Chosen clips of another skeleton are retargeted from human to human.  An action is sampled once, until it changes.
    Raises VivantError for a chosen clip that cannot be retargeted.
    """
    present = {action.session_uid for action in bpy.data.actions}
    for name in [name for name in _clips if name[1] not in present]:
        del _clips[name]
    own = takes.original_of(armature) or armature.animation_data.action
    bones = {armature.pose.bones[track.bone].path_from_id() for track in tracks}
    longest = math.ceil(max(end - start for track in tracks for start, end in track.gaps))
    clips = [_fitted(armature, skeleton, clip) for clip in chosen]
    for action, slot in list(_moving(own, bones)):
        yield f"reading '{action.name}'"
        parts = [None]
        if action == own:
            if slot.handle != armature.animation_data.action_slot.handle:
                continue
            parts = list(_outside(_frames(action), tracks, _keyed_frames(action, slot, bones)))
        if parts:
            clip = yield from _sampled(armature, skeleton, action, slot)
            clips += [looped(clip, longest) if part is None else _part(clip, part.start, part.stop) for part in parts]
    return [clip for clip in clips if len(clip) >= SHORTEST]


@functools.lru_cache(maxsize=REMEMBERED)
def looped(clip: Clip, frames: int) -> Clip:
    """A clip shorter than a gap of some frames that ends as it begins, over and over, each round from where the last one ended.

    All that the gap may need then begins in any frame of the first round.  What little the end misses of the beginning is
    spread over the round.  Other clips are as they are.
    """
    period = len(clip) - 1
    if not SHORTEST <= period < frames:
        return clip
    missed = quaternions.difference(clip.rotations[-1], clip.rotations[0])
    rise, size = abs(clip.root[-1, 1] - clip.root[0, 1]), np.linalg.norm(clip.offsets[1:], axis=-1).sum()
    if np.sqrt(np.mean(np.sum(missed**2, axis=-1))) > CLOSES or rise > RISES * size:
        return clip
    rounds = math.ceil((period + LONGER * frames) / period)
    share = np.linspace(0, 1, len(clip))[:, None, None]
    round_ = clip.replace(rotations=quaternions.multiply(clip.rotations, quaternions.exp(share * missed)))
    whole = round_.part(np.append(np.tile(np.arange(period), rounds), period))
    numbers = np.append(np.repeat(np.arange(rounds), period), rounds - 1)
    way = (clip.root[-1] - clip.root[0]) * (1, 0, 1)
    return whole.replace(rotations=quaternions.continuous(whole.rotations), root=whole.root + numbers[:, None] * way)


@functools.lru_cache(maxsize=REMEMBERED)
def _part(clip: Clip, start: int, stop: int) -> Clip:
    """The same clip for the same frames, as solvers remember what they made of clips."""
    return clip.part(slice(start, stop))


def _moving(own: bpy.types.Action, bones: set[str]) -> Iterator[tuple[bpy.types.Action, bpy.types.ActionSlot]]:
    """Actions, no takes, with the slots that move at least half of some bones, given as data paths."""
    for action in bpy.data.actions:
        if takes.known_of(action, "original"):
            continue
        for slot in action.slots:
            moved = {path.rpartition(".")[0] for path, _ in actions.curves_of(action, slot)}
            if 2 * len(moved & bones) >= len(bones):
                yield action, slot


def _sampled(
    armature: bpy.types.Object, skeleton: Clip, action: bpy.types.Action, slot: bpy.types.ActionSlot
) -> Generator[str, None, Clip]:
    """The clip of all frames of an action; kept until something changes."""
    name, stamp = (armature.session_uid, action.session_uid, slot.handle), _stamp(skeleton, action, slot)
    if _clips.get(name, (b"",))[0] != stamp:
        frames = _frames(action)
        poses = yield from beside.poses(armature, skeleton.names, action, slot.handle, frames, alone=True)
        _clips[name] = stamp, skeletons.as_clip(skeleton, poses.in_world, skeleton.fps)
    return _clips[name][1]


def _frames(action: bpy.types.Action) -> range:
    return range(math.floor(action.frame_range[0]), math.ceil(action.frame_range[1]) + 1)


def _stamp(skeleton: Clip, action: bpy.types.Action, slot: bpy.types.ActionSlot) -> bytes:
    """Changes with the bones' rest pose, the frame rate and every key."""
    stamp = hashlib.blake2b(repr((skeleton.names, skeleton.fps)).encode() + skeleton.offsets.tobytes())
    for (path, index), curve in actions.curves_of(action, slot).items():
        stamp.update(repr((path, index, curve.mute, len(curve.modifiers))).encode())
        for name in ("co", "handle_left", "handle_right", "interpolation"):
            stamp.update(actions.read_keys(curve, [name])[name].tobytes())
    return stamp.digest()


def _keyed_frames(action: bpy.types.Action, slot: bpy.types.ActionSlot, bones: set[str]) -> set[int]:
    """Frames at which one of the bones has a key."""
    curves = [curve for (path, _), curve in actions.curves_of(action, slot).items() if path.rpartition(".")[0] in bones]
    return {round(time) for curve in curves for time in actions.read_keys(curve, ["co"])["co"][:, 0].tolist()}


def _outside(frames: Sequence[int], tracks: Sequence[Track], keyed: set[int]) -> Iterator[slice]:
    """Of frames what lies between the gaps of some tracks, is keyed densely and long enough."""
    gaps = {int(frame) for track in tracks for frame in track.frames[track.missing]}
    for free, run in itertools.groupby(range(len(frames)), lambda row: frames[row] not in gaps):
        rows = list(run)
        part = slice(rows[0], rows[-1] + 1)
        if free and len(rows) >= SHORTEST and len(keyed.intersection(frames[part])) >= DENSE * len(rows):
            yield part


def _fitted(armature: bpy.types.Object, skeleton: Clip, clip: Clip) -> Clip:
    """A clip of the skeleton's own joints as it is, one of another human retargeted."""
    if list(clip.names) == list(skeleton.names) and np.array_equal(clip.parents, skeleton.parents):
        return clip
    return retarget(resample(clip, skeleton.fps), skeleton, None, skeletons.posed_human_of(armature))
