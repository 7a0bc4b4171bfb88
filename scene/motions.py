# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole body's motion around gaps: as a clip for solvers that know skeletons, and their clip back as channels of bones."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import bpy
import numpy as np
from mathutils import Matrix
from numpy.typing import NDArray

from ..backends.common import rotations as quaternions
from ..backends.motion.clip import Clip
from . import actions, beside, controls, limbs, rigs, skeletons
from .tracks import New, Track

Array = NDArray[np.floating]
Mask = NDArray[np.bool_]

CONTEXT = 30  # frames of the user's motion that solvers see before and after what is filled
STILL = 1e-5  # by how much the numbers of a matrix may differ and be rounding


@dataclass(frozen=True, eq=False)
class Question:
    """What `backends.motion.solve.inbetween` is asked; its answer goes to `channels`."""

    clip: Clip
    keys: Mask
    solver: str
    library: Sequence[Clip]
    seed: int
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Around:
    """Frames around gaps as the spline fills them: the number of the first one, poses, and their clip and what is keyed.

    every: the poses of all bones; still: names of bones that the poses have first, but the clip has not.
    """

    first: int
    every: beside.Poses
    poses: beside.Poses
    clip: Clip
    keys: Mask
    still: tuple[str, ...]


def around(
    armature: bpy.types.Object,
    action: bpy.types.Action,
    slot: bpy.types.ActionSlot,
    tracks: Sequence[Track],
    new: Sequence[New],
) -> Generator[str, None, Around]:
    """The motion around the gaps of some tracks, and inside them with these new keys; yields what it does."""
    lowest, highest = min(track.frames[0] for track in tracks), max(track.frames[-1] for track in tracks)
    first = min(lowest, max(lowest - CONTEXT, min(track.reach[0] for track in tracks)))
    last = max(highest, min(highest + CONTEXT, max(track.reach[1] for track in tracks)))
    frames = np.arange(first, last + 1)
    hierarchy = limbs.pose_bones(armature)
    skeleton = skeletons.skeleton_of(armature, hierarchy)
    names = list(skeleton.names)
    with _copy_with(action, slot, tracks, new) as copy:
        every = yield from beside.poses(armature, None, copy, slot.handle, frames.tolist())
        yield "looking for controls"
        moved = yield from _moved(armature, hierarchy, dict.fromkeys(track.bone for track in tracks), lowest, copy)
    poses = every.part(slice(None), [armature.pose.bones.find(name) for name in names])
    still = () if constrained(armature) else _still(hierarchy, names, poses)
    if still:
        kept = {name: "" if over in still else over for name, over in hierarchy.items() if name not in still}
        skeleton = skeletons.skeleton_of(armature, kept)
    names = list(skeleton.names)
    keys = np.ones((len(frames), len(names)), bool)
    for track in tracks:
        for bone in moved.get(track.bone, set()).difference(still):
            keys[:, names.index(bone)] &= track.knows(frames)
    yield "reading the motion"
    clip = skeletons.as_clip(skeleton, poses.in_world[:, len(still) :], skeleton.fps)
    return Around(int(first), every, poses, clip, keys, still)


def _still(hierarchy: Mapping[str, str], names: Sequence[str], poses: beside.Poses) -> tuple[str, ...]:
    """The bones at the top that do not move and carry just one: solvers take the first joint for what travels."""
    found: list[str] = []
    for index, name in enumerate(names[:-1]):
        below = [bone for bone, over in hierarchy.items() if over == name]
        if len(below) != 1 or below[0] != names[index + 1] or np.ptp(poses.in_world[:, index], axis=0).max() > STILL:
            break
        found.append(name)
    return tuple(found)


def _moved(
    armature: bpy.types.Object, hierarchy: Mapping[str, str], bones: Iterable[str], frame: int, action: bpy.types.Action
) -> Generator[str, None, dict[str, set[str]]]:
    """The bones of the pose that each of some keyed bones moves: itself, or what a control steers, with the limb it bends."""
    if not constrained(armature):
        return {bone: {bone} for bone in bones}
    steered = yield from beside.told("looking for controls", controls.driving(armature, bones, frame, action))
    moved = {bone: {target} for bone, target in steered.items()}
    evaluated = armature.evaluated_get(bpy.context.evaluated_depsgraph_get())
    for limb in limbs.limbs_of(armature, evaluated, hierarchy):
        line = [limb.last, *limbs.above(limb.last, hierarchy)]
        line = line[: line.index(limb.upper) + 1]
        for targets in moved.values():
            if not targets.isdisjoint({limb.upper, limb.last, limb.end}):
                targets.update(line)
    return moved


def constrained(armature: bpy.types.Object) -> bool:
    """Whether more than parents moves the bones."""
    return any(bone.constraints for bone in armature.pose.bones)


@contextlib.contextmanager
def _copy_with(
    action: bpy.types.Action, slot: bpy.types.ActionSlot, tracks: Sequence[Track], new: Sequence[New]
) -> Iterator[bpy.types.Action]:
    """A copy of an action with new keys, whose filled curves are what the keys say: their modifiers are muted."""
    copy = action.copy()
    try:
        curves = actions.curves_of(copy, next(own for own in copy.slots if own.handle == slot.handle))
        for track, (times, values, holds) in zip(tracks, new, strict=True):
            for curve, column in zip(track.curves, values.T, strict=True):
                own = curves[curve.data_path, curve.array_index]
                _lay(own, track.gaps, times, column, holds)
                for modifier in own.modifiers:
                    modifier.mute = True
        yield copy
    finally:
        bpy.data.actions.remove(copy)


def _lay(curve: bpy.types.FCurve, gaps: Sequence[actions.Gap], times: Array, values: Array, holds: Sequence[float]) -> None:
    """Straight lines through new keys in the gaps of a curve that nobody will see; outside of them it stays."""
    users = actions.read_keys(curve)
    users = users[~actions.inside(users["co"][:, 0], gaps)]
    new = np.zeros(len(times), actions.KEY)
    new["co"], new["interpolation"] = np.column_stack([times, values]), actions.LINEAR
    new["interpolation"][np.searchsorted(times, holds)] = actions.CONSTANT
    users["interpolation"][np.searchsorted(users["co"][:, 0], np.float32([start for start, _ in gaps]))] = actions.LINEAR
    actions.restore_keys(curve, np.insert(users, np.searchsorted(users["co"][:, 0], times), new))


def channels(
    armature: bpy.types.Object,
    action: bpy.types.Action,
    slot: bpy.types.ActionSlot,
    known: Around,
    filled: Clip,
    tracks: Sequence[Track],
    new: Sequence[New],
) -> Generator[str, None, dict[int, Array]]:
    """What tracks, by index, would hold at their frames in the filled clip: numbers (F, C), or quaternions (F, 4) of rotations.

    Left out are tracks of scale, as a clip has none, and of controls that do not move the pose.  Yields what it does.
    """
    rows = np.unique(np.concatenate([track.frames for track in tracks])) - known.first
    bones = list(dict.fromkeys(track.bone for track in tracks))
    if constrained(armature):
        frames, before, after = (known.first + rows).tolist(), known.clip.part(rows), filled.part(rows)
        with _copy_with(action, slot, tracks, new) as copy:
            steps = controls.solving(armature, before, after, frames, bones, copy, known=known.every.part(rows))
            bases = yield from beside.told("setting the controls", steps)
    else:
        bases = _bases(armature, known, filled, rows, bones)
    found = {}
    for index, track in enumerate(tracks):
        own = np.searchsorted(rows, track.frames - known.first)
        path = track.curves[0].data_path.rpartition(".")[2]
        if path == "scale" or track.bone not in bases:
            continue
        basis, column = bases[track.bone][own], track.curves[0].array_index
        if path == "location":
            found[index] = basis[:, [column], 3]
            continue
        turns = quaternions.from_matrix(basis[:, :3, :3] / np.linalg.norm(basis[:, :3, :3], axis=1, keepdims=True))
        if not track.mode:
            bone = armature.pose.bones[track.bone]
            turns = rigs.from_quaternions(turns, bone.rotation_mode, np.array(getattr(bone, path)))[:, [column]]
        found[index] = turns
    return found


def _bases(
    armature: bpy.types.Object, known: Around, filled: Clip, rows: NDArray[np.intp], bones: Iterable[str]
) -> dict[str, Array]:
    """`matrix_basis` (n, 4, 4) of bones that give the pose of a filled clip at some of its rows, where only parents move bones.

    The bones' scale stays as it was.
    """
    back = quaternions.conjugate(skeletons.TO_Y_UP)
    (_, before), (places, after) = known.clip.forward(rows), filled.forward(rows)
    turn = quaternions.multiply(after, quaternions.conjugate(before))
    turn = quaternions.multiply(quaternions.multiply(back, turn), skeletons.TO_Y_UP)
    worlds = known.poses.worlds[rows][:, None]
    wanted = worlds @ known.poses.matrices[rows]
    moved = wanted[:, len(known.still) :]
    moved[..., :3, :3] = quaternions.matrix(turn) @ moved[..., :3, :3]
    moved[..., :3, 3] = quaternions.rotate(back, places)
    wanted = np.linalg.inv(worlds) @ wanted
    names = [*known.still, *filled.names]
    bases = {}
    for bone in (armature.data.bones[name] for name in bones):
        own = wanted[:, names.index(bone.name)]
        above = wanted[:, names.index(bone.parent.name)] if bone.parent else None
        bases[bone.name] = _local(bone, own, above)
    return bases


def _local(bone: bpy.types.Bone, pose: Array, above: Array | None) -> Array:
    """What a bone's channels hold (n, 4, 4) where it stands so and its parent so, in the armature's space."""
    rest = np.array(bone.matrix_local)
    if above is None:
        return np.linalg.inv(rest) @ pose
    if bone.use_inherit_rotation and bone.use_local_location and bone.inherit_scale == "FULL":
        return np.linalg.inv(above @ np.linalg.inv(bone.parent.matrix_local) @ rest) @ pose
    pairs = zip(pose, above, strict=True)
    return np.array([skeletons._local(bone, Matrix(own), Matrix(parent), True) for own, parent in pairs])
