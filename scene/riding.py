# SPDX-License-Identifier: GPL-3.0-or-later
"""What controls' channels must hold for a pose: each control rides on the pose bone that it steers.

All frames are solved at once, in rounds: correct every control by what its bone still misses, let Blender evaluate the rig,
look again.  Each frame keeps the channels of the round whose pose came nearest, so what cannot be reached is not run after.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass

import bpy
import numpy as np
from mathutils import Matrix
from numpy.typing import NDArray

from ..backends.common import rotations as quaternions
from . import rigs
from .beside import Double, Poses
from .limbs import Limb

Array = NDArray[np.floating]

ROUNDS = 10
CLOSE = 3e-4  # radians, and share of the rig's size, summed over the controls: what is near enough
SETTLED = 1e-4  # radians, and share of the rig's size: a control that was corrected by less is where it will stay
HINGE = 0.02  # share of a limb's length by which its hinge says where a limb that is almost straight bends
GAIN = (0.3, 3.0)  # least and most that a swivel turns for a turn of its limb's plane


@dataclass(frozen=True)
class Drive:
    """How a control steers a pose bone.

    turns: the bone turns as the control does, "SPACE" (by the same rotation in the armature's space) or "LOCAL" (by the same
    one in its own frame), or does not (""); share: of the control's turn; moves: the bone travels along, or, where it does not
    turn, the point of it at which the control stands.
    limb: the one whose plane the control turns, as a pole does by its place, or (swivel) by turning about itself.
    """

    bone: str
    target: str
    turns: str = "SPACE"
    share: float = 1.0
    moves: bool = True
    limb: Limb | None = None
    swivel: bool = False


@dataclass(frozen=True)
class Rig:
    """What the solver knows of a rig.

    bones: its pose bones; row: where each stands among them; size: of its rest pose; hierarchy: pose bone -> the one it hangs
    on; held: bones that more than their parent and channels moves; free: for each control which components of its location (3)
    and of its rotation (3 or 4, in the bone's own mode) may be changed; anew: those that have no curves yet, of which only the
    body's root, goals and poles travel.
    """

    bones: Mapping[str, bpy.types.PoseBone]
    row: Mapping[str, int]
    size: float
    hierarchy: Mapping[str, str]
    held: frozenset[str]
    free: Mapping[str, tuple[NDArray[np.bool_], NDArray[np.bool_]]]
    anew: frozenset[str]


def solve(
    rig: Rig,
    drives: Sequence[Drive],
    change: Mapping[str, Array],
    frames: Sequence[float],
    start: Poses,
    double: Double,
) -> Generator[float, None, dict[str, Array]]:
    """`matrix_basis` (F, 4, 4) of the bones of `drives` such that the pose changes as wanted.

    change: pose bone -> (F, 4, 4), the wanted change of its matrix in the world.  start: all poses at the frames as they are.
    double: of the armature, on which channels are tried out.  Yields the share that is done.
    """
    poses, channels = start.matrices, start.channels
    best = {drive.bone: channels[:, rig.row[drive.bone]].copy() for drive in drives}
    back = np.linalg.inv(start.worlds)
    targets = {bone: back @ turn @ start.worlds @ poses[:, rig.row[bone]] for bone, turn in change.items()}
    solver = _Solver(rig, drives, targets, start)
    rows = np.arange(len(frames))
    if not (drives and rig.held):
        # Nothing but the hierarchy moves bones: the first correction is exact.
        return best | solver.corrected(poses, channels, rows, True)

    least = solver.miss(poses, rows)
    going = least > CLOSE
    for number in range(1, ROUNDS):
        rows, poses, channels = rows[going], poses[going], channels[going]
        if not len(rows):
            break
        tried = solver.corrected(poses, channels, rows, number == 1)
        yield number / ROUNDS
        at = [frames[row] for row in rows]
        for bone, bases in tried.items():
            double.put(bone, at, bases)
        found = yield from _shared(double.poses(at), number, ROUNDS)
        moved = solver.moved(channels, found.channels)
        poses, channels = found.matrices, found.channels
        now = solver.miss(poses, rows)
        nearer = now < least[rows]
        for bone, bases in tried.items():
            best[bone][rows[nearer]] = bases[nearer]
        least[rows] = np.minimum(now, least[rows])
        going = (now > CLOSE) & (moved > SETTLED)
        yield (number + 1) / ROUNDS
    return best


def _shared(steps: Generator[float, None, Poses], number: int, of: int) -> Generator[float, None, Poses]:
    """The same steps, as the share of one round among several."""
    while True:
        try:
            share = next(steps)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        yield (number + share) / of


class _Solver:
    """One round's corrections, and what a pose misses; targets: pose bone -> wanted matrices (F, 4, 4), armature space."""

    def __init__(self, rig: Rig, drives: Sequence[Drive], targets: Mapping[str, Array], start: Poses) -> None:
        self.rig, self.drives, self.targets = rig, drives, targets
        self.bones, self.row = rig.bones, rig.row
        self.poses, self.channels = start.matrices, start.channels
        self.travels = {drive.bone: drive.moves and not drive.swivel for drive in drives}
        self.hinges = {drive.bone: self._hinge(drive.limb) for drive in drives if drive.limb}
        # Of swivels: how far they turned for how much of their plane in the round before.
        self.gains = {drive.bone: np.ones(len(self.poses)) for drive in drives if drive.swivel}
        self.asked = {bone: np.zeros((2, len(self.poses))) for bone in self.gains}

    def miss(self, poses: Array, rows: NDArray[np.intp]) -> Array:
        """What is left (F,) between poses and targets of all that the controls may change: radians and shares of the size."""
        total = np.zeros(len(rows))
        for drive in self.drives:
            places, turns = (bool(axes.any()) for axes in self.rig.free[drive.bone])
            if drive.limb:
                total += np.abs(self._off_plane(drive, poses, rows))
                continue
            now, wanted = poses[:, self.row[drive.target]], self.targets[drive.target][rows]
            if drive.turns and turns:
                total += np.linalg.norm(quaternions.difference(_turn(now), _turn(wanted)), axis=-1)
            if drive.moves and places:
                point = self._point(drive, rows)
                total += np.linalg.norm((now @ point - wanted @ point)[:, :3, 0], axis=-1) / self.rig.size
        return total

    def moved(self, one: Array, other: Array) -> Array:
        """How far (F,) channels lie apart at most: radians and shares of the size."""
        apart = []
        for row in (self.row[drive.bone] for drive in self.drives):
            apart.append(np.linalg.norm(one[:, row, :3, 3] - other[:, row, :3, 3], axis=-1) / self.rig.size)
            apart.append(np.linalg.norm(quaternions.difference(_turn(one[:, row]), _turn(other[:, row])), axis=-1))
        return np.max(apart, axis=0)

    def corrected(self, poses: Array, channels: Array, rows: NDArray[np.intp], first: bool) -> dict[str, Array]:
        """`matrix_basis` (F, 4, 4) of all controls, each corrected by what its bone misses in these poses."""
        goals: dict[str, Array] = {}
        found: dict[str, Array] = {}
        for drive in self.drives:
            basis = channels[:, self.row[drive.bone]]
            if drive.swivel:
                found[drive.bone] = basis if first else self._swivelled(drive, basis, poses, rows)
            elif drive.limb:
                goals[drive.bone] = self._pole(drive, poses, rows, first)
            else:
                goals[drive.bone] = self._ridden(drive, poses, rows)
        above: dict[str, Array] = {}
        for bone, goal in goals.items():
            if bone in self.rig.held:
                now = poses[:, self.row[bone]]
                found[bone] = channels[:, self.row[bone]] @ np.linalg.inv(now) @ goal
            else:
                parent = self.bones[bone].parent
                over = self._above(parent.name, goals, poses, rows, first, above) if parent else None
                found[bone] = _channels(self.bones[bone].bone, goal, over)
        for drive in self.drives:
            if drive.turns == "LOCAL":
                turn = quaternions.exp(quaternions.log(self._local_miss(drive, poses, rows)) / drive.share)
                turned = channels[:, self.row[drive.bone], :3, :3] @ quaternions.matrix(turn)
                found[drive.bone] = found[drive.bone].copy()
                found[drive.bone][:, :3, :3] = turned
        return {bone: self._allowed(bone, basis, rows) for bone, basis in found.items()}

    def _ridden(self, drive: Drive, poses: Array, rows: NDArray[np.intp]) -> Array:
        """Where a control that rides on its bone belongs, armature space."""
        now, wanted = poses[:, self.row[drive.target]], self.targets[drive.target][rows]
        goal = poses[:, self.row[drive.bone]].copy()
        if drive.turns == "LOCAL":
            goal[:, :3, 3] += (wanted[:, :3, 3] - now[:, :3, 3]) * drive.moves
            return goal
        if not drive.turns:
            goal[:, :3, 3] = (wanted @ self._point(drive, rows))[:, :3, 0]
            return goal
        missed = quaternions.multiply(_turn(wanted), quaternions.conjugate(_turn(now)))
        turn = quaternions.matrix(quaternions.exp(quaternions.log(missed) / drive.share))
        goal[:, :3, :3] = turn @ goal[:, :3, :3]
        if drive.moves:
            offset = goal[:, :3, 3:] - now[:, :3, 3:]
            goal[:, :3, 3:] = wanted[:, :3, 3:] + turn @ offset
        return goal

    def _point(self, drive: Drive, rows: NDArray[np.intp]) -> Array:
        """The point (F, 4, 1) of the bone that travels with the control, in the bone's frame."""
        if drive.turns:
            return np.broadcast_to([[0.0], [0.0], [0.0], [1.0]], (len(rows), 4, 1))
        first = self.poses[rows]
        return np.linalg.inv(first[:, self.row[drive.target]]) @ first[:, self.row[drive.bone], :, 3:]

    def _local_miss(self, drive: Drive, poses: Array, rows: NDArray[np.intp]) -> Array:
        """The turn (F, 4) that the bone lacks in its own frame, when the bone above it has arrived."""
        above = self.rig.hierarchy[drive.target]
        bones = [drive.target, above] if above else [drive.target]
        turns = []
        for at in ([poses[:, self.row[bone]] for bone in bones], [self.targets[bone][rows] for bone in bones]):
            turn, *over = (_turn(matrices) for matrices in at)
            turns.append(quaternions.multiply(quaternions.conjugate(over[0]), turn) if over else turn)
        return quaternions.multiply(quaternions.conjugate(turns[0]), turns[1])

    def _above(
        self, bone: str, goals: Mapping[str, Array], poses: Array, rows: NDArray[np.intp], first: bool, known: dict[str, Array]
    ) -> Array:
        """Where a bone above a control will be: at its own goal, carried by those above it, or where constraints held it."""
        if bone in goals:
            return goals[bone]
        if bone not in known:
            now, parent = poses[:, self.row[bone]], self.bones[bone].parent
            if first and self.rig.held and bone in self.targets:
                known[bone] = self.targets[bone][rows]
            elif parent is None or (bone in self.rig.held and not first):
                known[bone] = now
            else:
                over = self._above(parent.name, goals, poses, rows, first, known)
                known[bone] = over @ np.linalg.inv(poses[:, self.row[parent.name]]) @ now
        return known[bone]

    def _allowed(self, bone: str, basis: Array, rows: NDArray[np.intp]) -> Array:
        """The channels with what may not be changed, and the scale, as they were."""
        places, turns = self.rig.free[bone]
        places = places & self.travels[bone]
        start = self.channels[rows, self.row[bone]]
        result = basis.copy()
        result[:, :3, 3] = np.where(places, basis[:, :3, 3], start[:, :3, 3])
        if turns.all():
            turn = _turn(basis)
        elif not turns.any():
            turn = _turn(start)
        else:
            mode = self.bones[bone].rotation_mode
            kept = rigs.from_quaternions(_turn(start), mode, np.zeros(len(turns)))
            wanted = np.concatenate([rigs.from_quaternions(_turn(b)[None], mode, k) for b, k in zip(basis, kept, strict=True)])
            turn = rigs.to_quaternions(np.where(turns, wanted, kept), mode)
        result[:, :3, :3] = quaternions.matrix(turn) * np.linalg.norm(start[:, :3, :3], axis=1, keepdims=True)
        return result

    def _joints(self, limb: Limb, at: Mapping[str, Array]) -> tuple[Array, Array, Array]:
        """Where a limb begins, bends and ends (F, 3)."""
        end = at[limb.end] @ [[0.0], [self.bones[limb.end].length if limb.tail else 0.0], [0.0], [1.0]]
        return at[limb.upper][:, :3, 3], at[limb.lower][:, :3, 3], end[:, :3, 0]

    def _hinge(self, limb: Limb) -> Array:
        """The axis (3,) about which a limb bends, in the frame of its upper bone: as it does in these poses, else at rest."""
        rest = {name: np.array(self.bones[name].bone.matrix_local)[None] for name in (limb.upper, limb.lower, limb.end)}
        posed = {name: np.concatenate([self.poses[:, self.row[name]], self.targets[name]]) for name in rest}
        for at in (posed, rest):
            start, middle, end = self._joints(limb, at)
            back = quaternions.conjugate(_turn(at[limb.upper]))
            axis = quaternions.rotate(back, np.cross(middle - start, end - middle)).sum(axis=0)
            lengths = np.linalg.norm(middle - start, axis=-1) * np.linalg.norm(end - middle, axis=-1)
            if np.linalg.norm(axis) > HINGE * lengths.sum():
                return axis / np.linalg.norm(axis)
        return np.array([1.0, 0.0, 0.0])

    def _frame(self, drive: Drive, at: Mapping[str, Array]) -> Array:
        """A frame (F, 4, 4) at a limb's beginning: along x its end, towards y its knee."""
        start, middle, end = self._joints(drive.limb, at)
        x = _unit(end - start)
        hinge = quaternions.rotate(_turn(at[drive.limb.upper]), self.hinges[drive.bone])
        length = np.linalg.norm(middle - start, axis=-1) + np.linalg.norm(end - middle, axis=-1)
        # A straight limb has a plane as well, that of its hinge; bent ones hardly notice.
        y = _across(middle - start, x) + HINGE * length[:, None] * _unit(_across(np.cross(x, hinge), x))
        y = _unit(y)
        frame = np.zeros((len(x), 4, 4))
        frame[:, :3, 0], frame[:, :3, 1], frame[:, :3, 2], frame[:, :3, 3], frame[:, 3, 3] = x, y, np.cross(x, y), start, 1
        return frame

    def _frames(self, drive: Drive, poses: Array, rows: NDArray[np.intp]) -> tuple[Array, Array]:
        names = (drive.limb.upper, drive.limb.lower, drive.limb.end)
        now = {name: poses[:, self.row[name]] for name in names}
        return self._frame(drive, now), self._frame(drive, {name: self.targets[name][rows] for name in names})

    def _off_plane(self, drive: Drive, poses: Array, rows: NDArray[np.intp]) -> Array:
        """The angle (F,) about the way from a limb's beginning to its end by which its plane misses the wanted one."""
        now, wanted = self._frames(drive, poses, rows)
        axis, y = wanted[:, :3, 0], _across(now[:, :3, 1], wanted[:, :3, 0])
        across = np.sum(np.cross(y, wanted[:, :3, 1]) * axis, axis=-1)
        return np.arctan2(across, np.sum(y * wanted[:, :3, 1], axis=-1))

    def _pole(self, drive: Drive, poses: Array, rows: NDArray[np.intp], first: bool) -> Array:
        """Where a pole belongs: first along with its limb's plane, then turned about the limb by what is missed."""
        now, wanted = self._frames(drive, poses, rows)
        pole = poses[:, self.row[drive.bone]]
        if first:
            return wanted @ np.linalg.inv(now) @ pole
        angle = self._off_plane(drive, poses, rows)
        turn = quaternions.matrix(quaternions.exp(wanted[:, :3, 0] * angle[:, None]))
        goal, start = pole.copy(), wanted[:, :3, 3]
        goal[:, :3, :3] = turn @ pole[:, :3, :3]
        goal[:, :3, 3] = start + np.einsum("fij,fj->fi", turn, pole[:, :3, 3] - start)
        return goal

    def _swivelled(self, drive: Drive, basis: Array, poses: Array, rows: NDArray[np.intp]) -> Array:
        """A swivel turned about itself by what its limb's plane misses, as far as that helped the last time."""
        angle = self._off_plane(drive, poses, rows)
        gain, (step, missed) = self.gains[drive.bone][rows], self.asked[drive.bone][:, rows]
        closed = missed - angle
        useful = np.abs(closed) > 1e-6
        gain = np.where(useful, np.clip(step / np.where(useful, closed, 1), *GAIN), gain)
        gain[step == 0] = 1.0
        self.gains[drive.bone][rows], self.asked[drive.bone][:, rows] = gain, (gain * angle, angle)
        axis = np.array([0.0, 1.0, 0.0])
        return basis @ _affine(quaternions.matrix(quaternions.exp(axis * (gain * angle)[:, None])))


def _channels(bone: bpy.types.Bone, goal: Array, above: Array | None) -> Array:
    """Blender's own conversion of armature-space matrices (F, 4, 4) to channels, which knows all inheritance flags."""
    rest = bone.matrix_local
    if above is None:
        return np.array([bone.convert_local_to_pose(Matrix(m), rest, invert=True) for m in goal])
    rests = {"parent_matrix_local": bone.parent.matrix_local, "invert": True}
    return np.array(
        [
            bone.convert_local_to_pose(Matrix(m), rest, parent_matrix=Matrix(a), **rests)
            for m, a in zip(goal, above, strict=True)
        ]
    )


def _turn(matrices: Array) -> Array:
    """Rotations (…, 4) of matrices (…, 4, 4), of which scale goes."""
    axes = matrices[..., :3, :3]
    return quaternions.from_matrix(axes / np.linalg.norm(axes, axis=-2, keepdims=True))


def _affine(turns: Array) -> Array:
    matrices = np.tile(np.eye(4), (*turns.shape[:-2], 1, 1))
    matrices[..., :3, :3] = turns
    return matrices


def _unit(v: Array) -> Array:
    return v / np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), 1e-12)


def _across(v: Array, axis: Array) -> Array:
    """The part of v (F, 3) across unit axes."""
    return v - axis * np.sum(v * axis, axis=-1, keepdims=True)
