# SPDX-License-Identifier: GPL-3.0-or-later
"""From poses back to what the animator keys: which pose bone each control steers, and what its channels must hold.

What a control steers is asked of Blender, not of names: on a double of the rig each control is nudged, and the bones that
follow are those it steers, through whatever constraints, drivers and IK/FK switches there are.  `riding` finds the channels.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import TypeVar

import bpy
import numpy as np
from mathutils import Matrix, Vector
from numpy.typing import NDArray

from ..backends.common import rotations as quaternions
from ..backends.common.errors import VivantError
from ..backends.motion.clip import Clip
from . import actions, beside, limbs, riding, rigs
from .riding import Drive

Array = NDArray[np.floating]
Curves = Mapping[tuple[str, int], bpy.types.FCurve]
Result = TypeVar("Result")

TURN, MOVE = 0.1, 0.02  # nudges: radians, and share of the rig's size
ALIKE = 0.06  # share of a nudge by which a bone may miss it and still follow
FEEBLE = 0.02  # share of a nudge below which a bone does not move
LOOSELY = 0.3  # the same for bones that follow in part, as a blend of rotations is no even share of one
HALF = 0.4  # share of a control's turn from which a bone may stand for one that follows it whole
STILL = 1e-5  # share of the rig's size: less is rounding, not motion
LEAST = 0.1  # share of a control's turn below which it does not steer a bone
AXIS = np.array([0.6, 0.48, 0.64])  # of the nudges: none of a bone's own axes
NEAR = 0.2  # share of the rig's size: a control further from its bone is the root of all, and goes only before no other
STEP = 1 / 32  # frames between two nudges; Blender takes keys within a hundredth for one
STATES = 8
REMEMBERED = 16  # states of rigs
BLOCK = 64  # frames that are solved at once
TO_Z_UP = quaternions.exp(np.array([np.pi / 2, 0.0, 0.0]))


def driven(
    armature: bpy.types.Object,
    bones: Iterable[str],
    frame: float | None = None,
    action: bpy.types.Action | None = None,
    anew: bool = False,
) -> dict[str, str]:
    """Each control -> the pose bone (of `limbs.pose_bones`) that it steers, as switches stand at a frame (the scene's).

    A bone of the pose that nothing constrains steers itself; an IK target the bone at the end of its chain, a pole or a swivel
    the first bone of it.  Not in it, and to be left as they are: controls without effect (those for FK of a limb on IK), second
    ones on a bone (foot rolls, the root above the torso), and those that are locked or driven altogether.
    anew: as if none of them had curves yet.  Raises VivantError for a name that is no bone.
    """
    return beside.at_once(driving(armature, bones, frame, action, anew))


def driving(
    armature: bpy.types.Object,
    bones: Iterable[str],
    frame: float | None = None,
    action: bpy.types.Action | None = None,
    anew: bool = False,
) -> Generator[float, None, dict[str, str]]:
    """`driven` in steps: yields the share that is done."""
    at = bpy.context.scene.frame_current_final if frame is None else frame
    rig = _rig(armature, list(bones), {} if anew else _curves(armature, action), limbs.pose_bones(armature))
    yield 0.0
    with beside.double(armature, action) as double:
        found = yield from _drives(armature, rig, at, action, double)
    return {drive.bone: drive.target for drive in found}


def bases(
    armature: bpy.types.Object,
    before: Clip,
    after: Clip,
    frames: Sequence[float],
    bones: Iterable[str],
    action: bpy.types.Action | None = None,
    hierarchy: Mapping[str, str] | None = None,
) -> dict[str, Array]:
    """`matrix_basis` (n, 4, 4), what the channels of controls must hold at n frames for the pose to become that of `after`.

    before, after: clips of `limbs.pose_bones`, a frame for each of `frames`; `before` is the pose that the armature has there
    now, under `action` (one with its slot; its own when None).  Only bones of `driven` (as at each frame: switches may be
    keyed) are in the result; other bones stay as they are, and so do locked and driven channels, and, on bones that have
    curves, those without one.  Where both clips agree the channels are as before.  The armature is not touched.
    hierarchy: of other bones that `after` is the pose of.
    Raises VivantError for what may not be written, names that are no bones, and switches that change too often.
    """
    return beside.at_once(solving(armature, before, after, frames, bones, action, hierarchy))


def solving(
    armature: bpy.types.Object,
    before: Clip,
    after: Clip,
    frames: Sequence[float],
    bones: Iterable[str],
    action: bpy.types.Action | None = None,
    hierarchy: Mapping[str, str] | None = None,
    known: beside.Poses | None = None,
) -> Generator[float, None, dict[str, Array]]:
    """`bases` in steps: yields the share that is done; to close it at any step changes nothing.

    known: all poses at the frames as they are, if somebody has sampled them.
    """
    check_writable(armature)
    if tuple(before.names) != tuple(after.names) or not len(before) == len(after) == len(frames):
        raise VivantError("The poses before and after differ in bones or frames.", "Sample both alike.")
    rig = _rig(armature, list(bones), _curves(armature, action), hierarchy or limbs.pose_bones(armature))
    yield 0.0
    turns = _change(before, after)
    yield 0.0
    parts, done = [], 0
    for rows in _states(armature, frames, action):
        at = [frames[row] for row in rows]
        with beside.double(armature, action) as double:
            drives = yield from _drives(armature, rig, at[0], action, double)
            start = known.part(rows) if known else (yield from double.poses(at))
            solved = []
            for own in (slice(first, first + BLOCK) for first in range(0, len(rows), BLOCK)):
                change = {bone: turns[rows[own], joint] for joint, bone in enumerate(before.names)}
                steps = riding.solve(rig, drives, change, at[own], start.part(own), double)
                solved.append((yield from _shared(steps, done, len(rows[own]), len(frames))))
                done += len(rows[own])
        parts.append((rows, start.channels, solved))
    result: dict[str, Array] = {}
    for rows, _, solved in parts:
        for bone in solved[0]:
            if bone not in result:  # where nothing steers, channels stay
                result[bone] = np.empty((len(frames), 4, 4))
                for others, as_they_are, _ in parts:
                    result[bone][others] = as_they_are[:, rig.row[bone]]
            result[bone][rows] = np.concatenate([block[bone] for block in solved])
    return result


def _shared(steps: Generator[float, None, Result], done: int, share: int, of: int) -> Generator[float, None, Result]:
    """The same steps, as a share of what there is to do."""
    while True:
        try:
            own = next(steps)
        except StopIteration as end:
            found: Result = end.value
            return found
        yield (done + own * share) / of


def check_writable(armature: bpy.types.Object) -> None:
    """Raises VivantError for an armature that Vivant has no right to write, or cannot."""
    rigs.pose_of(armature)
    if not armature.is_editable:
        raise VivantError(f"'{armature.name}' is linked from another file.", "Make a library override of it first.")
    if armature.matrix_world.determinant() <= 0:
        raise VivantError(f"'{armature.name}' is mirrored or flattened by its scale.", "Apply its scale first.")
    if armature.animation_data and armature.animation_data.use_tweak_mode:
        raise VivantError(
            f"'{armature.name}' is in the NLA editor's tweak mode.", "Leave tweak mode (Tab in the NLA editor) first."
        )


def _change(before: Clip, after: Clip) -> Array:
    """How the bones' matrices change in Blender's world (F, J, 4, 4)."""
    matrices = []
    for clip in (before, after):
        positions, rotations = (part.astype(np.float64) for part in clip.forward())
        found = np.zeros((*positions.shape[:2], 4, 4))
        found[..., :3, :3] = quaternions.matrix(quaternions.multiply(TO_Z_UP, rotations))
        found[..., :3, 3], found[..., 3, 3] = quaternions.rotate(TO_Z_UP, positions), 1
        matrices.append(found)
    return matrices[1] @ np.linalg.inv(matrices[0])


def _rig(armature: bpy.types.Object, bones: Sequence[str], curves: Curves, hierarchy: Mapping[str, str]) -> riding.Rig:
    """What the solver knows of a rig and some of its bones; `held` counts every constraint, muted or not."""
    pose = rigs.pose_of(armature)
    if unknown := [bone for bone in bones if bone not in pose.bones]:
        raise VivantError(f"'{armature.name}' has no bone '{unknown[0]}'.", "Give names of its pose bones.")
    held = set()
    for bone in pose.bones:
        for constraint in bone.constraints:
            held.add(bone.name)
            if constraint.type == "IK":
                held.update(link.name for link in limbs.chain_of(bone, constraint))
    return riding.Rig(
        pose.bones,
        {bone.name: row for row, bone in enumerate(pose.bones)},
        limbs.size_of(armature),
        hierarchy,
        frozenset(held),
        {bone: _free(armature, bone, curves) for bone in bones},
        frozenset(bone for bone in bones if not _keyed(armature, bone, curves)),
    )


def _curves(armature: bpy.types.Object, action: bpy.types.Action | None) -> Curves:
    """The curves that animate an armature under an action with its slot (its own when None)."""
    data = armature.animation_data
    action = action or (data and data.action)
    slot = next((own for own in action.slots if own.handle == data.action_slot_handle), None) if action else None
    return actions.curves_of(action, slot) if slot else {}


def _keyed(armature: bpy.types.Object, name: str, curves: Curves) -> bool:
    """Whether a bone has curves."""
    path = armature.pose.bones[name].path_from_id()
    return any(channel.startswith(f"{path}.") for channel, _ in curves)


def _free(armature: bpy.types.Object, name: str, curves: Curves) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which components of a bone's location and rotation may be changed: not locked, not driven, and keyed if any is."""
    bone = armature.pose.bones[name]
    data = armature.animation_data
    drivers = {(curve.data_path, curve.array_index) for curve in data.drivers} if data else set()
    path, keyed = bone.path_from_id(), _keyed(armature, name, curves)
    masks = []
    for channel, locks in (
        ("location", [lock or bone.bone.use_connect for lock in bone.lock_location]),
        (rigs.FOUR.get(bone.rotation_mode, "rotation_euler"), rigs.rotation_locks(bone)),
    ):
        paths = [(f"{path}.{channel}", index) for index in range(len(locks))]
        free = [not lock and at not in drivers and (at in curves or not keyed) for at, lock in zip(paths, locks, strict=True)]
        masks.append(np.array(free))
    return masks[0], masks[1]


def _states(armature: bpy.types.Object, frames: Sequence[float], action: bpy.types.Action | None) -> list[NDArray[np.intp]]:
    """Rows of frames at which the keyed switches of constraints stand alike: off, on or between."""
    data = armature.animation_data
    watched = set()
    for driver in data.drivers if data else ():
        if driver.data_path.endswith((".influence", ".mute", ".enabled")):
            watched |= {target.data_path for variable in driver.driver.variables for target in variable.targets}
    switches = [
        curve
        for (path, _), curve in _curves(armature, action).items()
        if path in watched or path.endswith((".influence", ".mute", ".enabled"))
    ]
    values = np.array([[curve.evaluate(frame) for curve in switches] for frame in frames]).reshape(len(frames), -1)
    state = np.where(np.isclose(values, np.round(values), atol=1e-3), np.round(values), np.floor(values) + 0.5)
    kinds, which = np.unique(state, axis=0, return_inverse=True)
    if len(kinds) > STATES:
        raise VivantError(
            f"The IK/FK switches of '{armature.name}' stand in {len(kinds)} ways in the range.",
            "Fill a shorter range.",
        )
    return [np.flatnonzero(which.ravel() == kind) for kind in range(len(kinds))]


def _drives(
    armature: bpy.types.Object, rig: riding.Rig, frame: float, action: bpy.types.Action | None, double: beside.Double
) -> Generator[float, None, list[Drive]]:
    """What each control steers at a frame, no two the same bone; yields how far it is.  double: as it is under the action."""
    bones = armature.pose.bones
    free = [bone for bone, (places, turns) in rig.free.items() if places.any() or turns.any()]
    found = [Drive(bone, bone) for bone in free if bone in rig.hierarchy and bone not in rig.held]
    asked = [bone for bone in free if bone not in {drive.bone for drive in found}]
    if not asked or not rig.held:
        return found
    evaluated = double.at(frame)
    yield 0.0
    stamp = _stamp(rig, evaluated, asked)
    if stamp in _known:
        return _known[stamp]
    chains = limbs.limbs_of(armature, evaluated, rig.hierarchy)
    yield 0.0
    with beside.double(armature, action) as held:
        held.hold(frame)
        steps = yield from _nudged(held, rig, asked, frame)
    holds, swings = [], []
    goals = {next((name for name in _lineage(bones, limb.goal) if name in asked), ""): limb for limb in chains}
    for at, bone in enumerate(asked):
        yield 1.0
        own = steps[[0, 1 + 3 * at, 2 + 3 * at, 3 + 3 * at]]
        rank, drives, spare = _followers(rig, bone, own)
        if bone in goals:
            rank, drives = _reaching(bone, goals[bone], rank, drives)
        if drives:
            far = (bones[bone].bone.head_local - bones[drives[0].target].bone.head_local).length / rig.size
            holds.append(((rank, len(drives), not rig.free[bone][0].any(), far), drives, spare))
        else:
            swings += _swings(rig, bone, own, chains)
    taken: dict[str, Drive] = {drive.target: drive for drive in found}
    # Those that carry least first: of what the chest and the hips carry, the torso gets what neither does.
    for (*_, far), drives, spare in sorted(holds, key=lambda hold: hold[0]):
        first = drives[0]
        left = [drive for drive in drives + spare if drive.target not in taken]
        other = taken.get(first.target)
        if far < NEAR and not left and other and bones[first.bone] in bones[other.bone].parent_recursive:
            # A second control between, as a foot's spin: the main one has the bone.
            found[found.index(other)] = taken[first.target] = first
        elif left and (left[0] is first or far < NEAR):
            found.append(left[0])
        taken = dict.fromkeys((drive.target for drive in drives), left[0] if left else first) | taken
    roots = [bone for bone, over in rig.hierarchy.items() if not over]
    found = [
        dataclasses.replace(drive, moves=False)
        if drive.bone in rig.anew and drive.bone != drive.target and drive.bone not in goals and drive.target not in roots
        else drive
        for drive in found
    ]
    planes = set()
    for drive in sorted(swings, key=lambda drive: drive.swivel):
        if drive.limb not in planes:
            found.append(drive)
            planes.add(drive.limb)
    while len(_known) >= REMEMBERED:
        del _known[next(iter(_known))]
    _known[stamp] = found
    return found


_known: dict[bytes, list[Drive]] = {}  # by `_stamp`


def _stamp(rig: riding.Rig, evaluated: bpy.types.Object, asked: Sequence[str]) -> bytes:
    """Changes with everything that what controls steer depends on: the rig as it stands, its constraints and its drivers."""
    free = [(bone, [axes.tolist() for axes in rig.free[bone]], bone in rig.anew) for bone in rig.free]
    stamp = hashlib.blake2b(repr((list(rig.row), rig.hierarchy, sorted(rig.held), free, list(asked), rig.size)).encode())
    flat = np.empty(16 * len(rig.row), np.float32)
    for bones, name in (
        (evaluated.data.bones, "matrix_local"),
        (evaluated.pose.bones, "matrix"),
        (evaluated.pose.bones, "matrix_basis"),
    ):
        bones.foreach_get(name, flat)
        stamp.update(flat.tobytes())
    for bone in evaluated.pose.bones:
        chain = bone.ik_stretch, bone.lock_ik_x, bone.lock_ik_y, bone.lock_ik_z
        inherits = bone.bone.use_inherit_rotation, bone.bone.use_local_location, bone.bone.inherit_scale
        stamp.update(repr((bone.rotation_mode, chain, inherits, [_settings(one) for one in bone.constraints])).encode())
    for curve in evaluated.animation_data.drivers if evaluated.animation_data else ():
        stamp.update(repr((curve.data_path, curve.array_index, curve.mute, _settings(curve.driver))).encode())
    return stamp.digest()


def _settings(thing: bpy.types.bpy_struct) -> list[object]:
    """What is set of anything of Blender's: all its numbers, names and choices, and the names of what it points at."""
    found: list[object] = []
    for name, several in _properties(type(thing)):
        value = getattr(thing, name)
        found.append([_settings(one) for one in value] if several else getattr(value, "name", None) or str(value))
    return found


@functools.cache
def _properties(kind: type[bpy.types.bpy_struct]) -> list[tuple[str, bool]]:
    """Names of what can be set, and whether each is a collection."""
    several = {prop.identifier: prop.type == "COLLECTION" for prop in kind.bl_rna.properties}
    return [(name, many) for name, many in several.items() if many or not kind.bl_rna.properties[name].is_readonly]


def _nudged(double: beside.Double, rig: riding.Rig, controls: Sequence[str], frame: float) -> Generator[float, None, Array]:
    """Poses (1 + 3 N, B, 4, 4): as they are, and with each control turned, moved, and moved the other way."""
    turn = np.array(Matrix.Rotation(TURN, 4, Vector(AXIS)))
    move, other = np.eye(4), np.eye(4)
    move[:3, 3], other[:3, 3] = MOVE * rig.size * AXIS, -MOVE * rig.size * AXIS
    times = [float(frame + STEP * step) for step in range(2 + 3 * len(controls))]
    evaluated = double.at(frame)
    now = {control: np.array(evaluated.pose.bones[control].matrix_basis) for control in controls}
    for at, (control, basis) in enumerate(now.items()):
        yield 0.0
        tried = np.array([basis, basis @ turn, basis @ move, basis @ other, basis])
        double.put(control, times[3 * at : 3 * at + 5], tried)
    yield 0.0
    found = yield from double.poses(times[:-1])
    return found.matrices


def _followers(rig: riding.Rig, control: str, steps: Array) -> tuple[int, list[Drive], list[Drive]]:
    """How well pose bones follow a nudged control (0 is best), and those that do it best, the highest first.

    The second list has bones above them that follow by half or more, as a spine's do: for want of a better one.
    """
    places, turns = (bool(axes.any()) for axes in rig.free[control])
    own = steps[:, rig.row[control]]
    asked = _unit_axes(own[0]) @ (TURN * AXIS)
    if np.linalg.norm(_arc(own[0], own[1]) - asked) > ALIKE * TURN:
        return 0, [], []  # Something else turns it: a link of a chain, say.
    moved = own[2:, :3, 3] - own[0, :3, 3]
    way = MOVE * rig.size
    stirred = np.abs(steps[1:] - steps[0]).max(axis=(0, 2, 3)) > STILL * rig.size
    follow = [bone for bone in rig.hierarchy if stirred[rig.row[bone]]]
    depth = {bone: len(limbs.above(bone, rig.hierarchy)) for bone in follow}
    ranked: dict[int, list[Drive]] = {0: [], 1: [], 2: [], 3: []}
    mine, bones = rig.bones[control].bone, rig.bones
    apart = {
        bone: (bones[bone].bone.head_local - mine.head_local).length + (bones[bone].bone.tail_local - mine.tail_local).length
        for bone in follow
    }
    for bone in sorted(follow, key=lambda bone: (depth[bone], apart[bone])):
        at = steps[:, rig.row[bone]]
        travel = at[2:, :3, 3] - at[0, :3, 3]
        moves = _alike(travel, moved, way)
        if turns and (found := _turning(at, asked)):
            kind, share = found
            whole = share == 1
            drive = Drive(control, bone, kind, share, places and moves and whole)
            about = own[1] @ np.linalg.inv(own[0]) @ at[0, :, 3] - at[1, :, 3]
            rigid = kind == "SPACE" and np.linalg.norm(about) < ALIKE * MOVE * rig.size
            ranked[0 if whole and (moves or rigid) else 1 if whole else 3].append(drive)
            continue
        tail = np.array([0.0, rig.bones[bone].length, 0.0, 1.0])
        ends = at[2:] @ tail - at[0] @ tail
        if places and (moves or _alike(ends[:, :3], moved, way)):
            ranked[2].append(Drive(control, bone, "", 1.0, True))
    rank = next((rank for rank, drives in ranked.items() if drives), 0)
    over = limbs.above(ranked[rank][0].target, rig.hierarchy) if ranked[rank] and rank < 3 else []
    return rank, ranked[rank], [drive for drive in ranked[3] if drive.target in over and drive.share > HALF]


def _reaching(control: str, limb: limbs.Limb, rank: int, drives: list[Drive]) -> tuple[int, list[Drive]]:
    """The same for the goal of a limb, which may be out of reach at the moment: what it turns is at the limb's end as well."""
    if drives and drives[0].moves:
        return rank, drives
    turned = [dataclasses.replace(drive, moves=True) for drive in drives if drive.target == limb.end and drive.share == 1]
    return (0, turned) if turned else (2, [Drive(control, limb.last, "")])


def _lineage(bones: Mapping[str, bpy.types.PoseBone], name: str) -> list[str]:
    """A bone and all above it."""
    return [name, *(above.name for above in bones[name].parent_recursive)] if name in bones else []


def _swings(rig: riding.Rig, control: str, steps: Array, chains: Sequence[limbs.Limb]) -> list[Drive]:
    """The limbs whose plane a nudged control turns, as a pole or as a link of the chain."""
    found = []
    bones = rig.bones
    for limb in chains:
        at = steps[:, rig.row[limb.upper]]
        pole = control in _lineage(bones, limb.pole)
        turned = max(float(np.linalg.norm(_arc(at[0], step))) for step in (at[2:] if pole else at[1:2]))
        if (pole or control in limb.chain) and turned > (FEEBLE if pole else LEAST) * TURN:
            found.append(Drive(control, limb.upper, limb=limb, swivel=not pole))
    return found


def _turning(steps: Array, asked: Array) -> tuple[str, float] | None:
    """In which frame, and by which share, a bone turns along with a control's turn (3,) in the armature's space."""
    space = _arc(steps[0], steps[1])
    local = _unit_axes(steps[0]).T @ space
    partly = []
    for kind, turned, wanted in (("SPACE", space, asked), ("LOCAL", local, TURN * AXIS)):
        share = float(turned @ wanted) / TURN**2
        missed = float(np.linalg.norm(turned - share * wanted)) / TURN
        if abs(share - 1) < ALIKE and missed < ALIKE:
            return kind, 1.0
        if share > LEAST and missed < LOOSELY * share:
            partly.append((missed, kind, share))
    return min(partly)[1:] if partly else None


def _unit_axes(matrix: Array) -> Array:
    return matrix[:3, :3] / np.linalg.norm(matrix[:3, :3], axis=0)


def _alike(travels: Array, wanted: Array, way: float) -> bool:
    """Whether something went the same way (2, 3), of which one is enough: a straight limb cannot reach further."""
    went = np.linalg.norm(wanted, axis=-1) > way / 2
    missed = np.linalg.norm(travels - wanted, axis=-1)
    return bool(np.any(went & (missed < ALIKE * way)))


def _arc(a: Array, b: Array) -> Array:
    """The small turn (3,) that leads from one matrix's rotation to another's, as a vector in their space."""
    return quaternions.log(np.array(Matrix(b).to_quaternion() @ Matrix(a).to_quaternion().inverted()))
