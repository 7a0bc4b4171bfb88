# SPDX-License-Identifier: GPL-3.0-or-later
"""In-betweens put right: feet that stand, jumps that fall, joints in range, no jerks; keyed values stay bit for bit.

Around the pose q that another solver made, each free frame gets rotation vectors r (and the root a shift) that minimise

    wa |q̈|² + wx |ẍ|² + wp |x - x_prior|² + wr |r|² + wf Σ_standing |x_foot - place|² + wh Σ max(0, floor - y_foot)²

with q exp(r) as rotations and x the joints' positions by forward kinematics, in units of the body's size.  Keyed (joint,
frame) entries are no variables at all.  The rest are solved by Levenberg and Marquardt's method: frames couple with
their next two only, so the normal equations are block-tridiagonal.  What is left of a foot's slide is taken by the leg alone.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..common import rotations as quaternions
from ..common.errors import VivantError
from . import contacts as feet
from . import flight, ik, interpolate, limits, metrics, retrieval, spline
from .clip import Clip

Array = NDArray[np.floating]
Mask = NDArray[np.bool_]

ITERATIONS = 2
CHUNK = 90  # frames solved at once
# Accelerations count as at 30 frames a second.  wf of 30, 3 and 1 on training takes: feet the same, poses nearer with less.
TURN, PATH, NEAR, STAND, GROUND = 0.003, 0.03, 1.0, 3.0, 30.0  # wa, wx, wp, wf, wh
LOOSE = 0.1  # share of a bone's length by which a foot apart may come off it
KEEP = 0.01  # wr, for turns that no position tells: those of tips, and about bones.  Of people's training takes nearest with it


@dataclass(frozen=True)
class Problem:
    """F frames around `pose`; free (F, 3 J + 3): the entries of the variables (rotation vectors, root shift) that may move.

    places, pull (F, J, 3), (F, J): where joints are drawn to, and how strongly; feet: joints that the floor holds; size:
    the unit of length.
    """

    pose: Clip
    free: Mask
    places: Array
    pull: Array
    feet: list[int]
    floor: float
    size: float

    @functools.cached_property
    def bend(self) -> Array:
        """Angular acceleration (F - 2, J, 3) of the pose, radians a frame squared."""
        turn = quaternions.difference(self.pose.rotations[:-1], self.pose.rotations[1:])
        return np.diff(turn, axis=0)

    @functools.cached_property
    def second(self) -> Array:
        """The second difference over time as a matrix (F - 2, F), at 30 frames a second."""
        frames = len(self.pose)
        rows = np.eye(frames)
        return (rows[2:] - 2 * rows[1:-1] + rows[:-2]) * (self.pose.fps / 30) ** 2

    def posed(self, variables: Array) -> Clip:
        """The clip at variables (F, 3 J + 3)."""
        turns = variables[:, :-3].reshape(*self.pose.rotations.shape[:2], 3)
        rotations = quaternions.multiply(self.pose.rotations, quaternions.exp(turns))
        return self.pose.replace(rotations=rotations, root=self.pose.root + variables[:, -3:] * self.size)

    def _residuals(self, variables: Array, positions: Array) -> tuple[Array, Array, Array, Array]:
        """Angular and linear accelerations, distances from the places, depths of the feet under the floor."""
        turns = variables[:, :-3].reshape(len(variables), -1, 3)
        scale = (self.pose.fps / 30) ** 2
        bend = self.bend * scale + np.tensordot(self.second, turns, 1)
        path = np.tensordot(self.second, positions, 1) / self.size
        depth = np.maximum(self.floor - positions[:, self.feet, 1], 0) / self.size
        return bend, path, (positions - self.places) / self.size, depth

    def energy(self, variables: Array) -> float:
        """What is minimised."""
        positions = self.posed(variables).forward()[0]
        bend, path, away, depth = self._residuals(variables, positions)
        squares = TURN * np.sum(bend**2) + PATH * np.sum(path**2) + GROUND * np.sum(depth**2)
        return float(squares + np.sum(self.pull[..., None] * away**2) + KEEP * np.sum(variables[:, :-3] ** 2)) / 2

    def linearised(self, variables: Array) -> tuple[Array, Array]:
        """Gradient (F, D) and the three upper block diagonals (3, F, D, D) of the Gauss-Newton matrix."""
        frames, size = self.free.shape
        clip = self.posed(variables)
        positions, world = clip.forward()
        slopes = _slopes(clip.parents, positions, world, variables, self.size) * self.free[:, None]
        bend, path, away, depth = self._residuals(variables, positions)

        force = self.pull[..., None] * away + PATH * np.tensordot(self.second.T, path, 1)
        force[:, self.feet, 1] -= GROUND * depth
        gradient = np.einsum("fpd,fp->fd", slopes, force.reshape(frames, -1))
        gradient[:, :-3] += TURN * np.tensordot(self.second.T, bend, 1).reshape(frames, -1) + KEEP * variables[:, :-3]

        stiff = np.repeat(self.pull, 3, axis=1)
        under = np.zeros((frames, len(clip.parents), 3))
        under[:, self.feet, 1] = GROUND * (depth > 0)
        stiff += under.reshape(frames, -1)
        coupling = self.second.T @ self.second
        turning = np.append(np.full(size - 3, TURN), np.zeros(3))
        blocks = np.zeros((3, frames, size, size))
        for ahead in range(min(3, frames)):
            a, b = slopes[: frames - ahead], slopes[ahead:]
            share = np.diagonal(coupling, ahead)[:, None, None]
            weights = PATH * share + (stiff[..., None] if ahead == 0 else 0)
            block = np.swapaxes(a, 1, 2) @ (weights * b)
            block[:, range(size), range(size)] += share[..., 0] * turning * self.free[: frames - ahead] * self.free[ahead:]
            blocks[ahead, : frames - ahead] = block
        keeping = np.append(np.full(size - 3, KEEP), np.zeros(3))
        blocks[0][:, range(size), range(size)] += np.where(self.free, keeping, 1)
        return gradient * self.free, blocks

    def solve(self) -> Array:
        """The variables (F, 3 J + 3) of least energy."""
        best = np.zeros(self.free.shape)
        energy, damping = self.energy(best), 1e-6
        gradient, blocks = self.linearised(best)
        for iteration in range(ITERATIONS):
            step = solve_blocks(blocks, -gradient, damping)
            found = self.energy(best + step)
            if not found < energy:
                damping *= 100
                continue
            gain, best, energy = 1 - found / energy, best + step, found
            if gain < 1e-3 or iteration == ITERATIONS - 1:
                break
            gradient, blocks = self.linearised(best)
        return best


def _slopes(parents: NDArray[np.integer], positions: Array, world: Array, variables: Array, size: float) -> Array:
    """Derivatives (F, 3 J, 3 J + 3) of all positions over `size` by the variables."""
    frames, joints = positions.shape[:2]
    below = np.zeros((joints, joints), bool)  # [joint, one of its ancestors]
    for joint, parent in enumerate(parents):
        if parent >= 0:
            below[joint] = below[parent]
            below[joint, parent] = True
    turns = variables[:, :-3].reshape(frames, joints, 3)
    axes = quaternions.matrix(world) @ _right_jacobian(turns)  # columns: the axes of the variables in the world
    arm = np.where(below[..., None], positions[:, :, None] - positions[:, None], 0)[..., None] / size
    x, y, z = arm[..., 0, :], arm[..., 1, :], arm[..., 2, :]
    ax, ay, az = (axes[:, None, :, k] for k in range(3))
    result = np.empty((frames, joints, 3, 3 * joints + 3))
    for k, column in enumerate((ay * z - az * y, az * x - ax * z, ax * y - ay * x)):
        result[:, :, k, :-3] = column.reshape(frames, joints, -1)
    result[..., -3:] = np.eye(3)
    return result.reshape(frames, 3 * joints, -1)


def _right_jacobian(v: Array) -> Array:
    """Matrices (…, 3, 3) with exp(v + d) = exp(v) exp(J d) to first order in d; rotation vectors v (…, 3)."""
    angle = np.linalg.norm(v, axis=-1)[..., None, None]
    small = angle < 1e-4
    safe = np.where(small, 1, angle)
    first = np.where(small, 0.5, (1 - np.cos(safe)) / safe**2)
    second = np.where(small, 1 / 6, (safe - np.sin(safe)) / safe**3)
    x, y, z = np.moveaxis(v, -1, 0)
    o = np.zeros_like(x)
    cross = np.stack([np.stack(row, axis=-1) for row in ((o, -z, y), (z, o, -x), (-y, x, o))], axis=-2)
    return np.eye(3) - first * cross + second * (cross @ cross)


def solve_blocks(blocks: Array, right: Array, damping: float = 0.0) -> Array:
    """Solution (F, D) of a symmetric positive definite system whose frames couple with the next two.

    blocks (3, F, D, D): each frame with itself, with the next, with the one after it; right (F, D).  `damping` scales the
    diagonal up.  Two frames make one block of a block-tridiagonal matrix, which is eliminated from first to last.
    """
    frames, size = right.shape
    pairs = (frames + 1) // 2
    own = np.zeros((pairs, 2 * size, 2 * size))
    own[:, range(2 * size), range(2 * size)] = 1
    following = np.zeros_like(own)
    first, second = blocks[0, 0::2], blocks[0, 1::2]
    own[:, :size, :size] = first
    own[: len(second), size:, size:] = second
    own[: len(second), :size, size:] = blocks[1, 0::2][: len(second)]
    own[: len(second), size:, :size] = np.swapaxes(blocks[1, 0::2][: len(second)], 1, 2)
    following[: pairs - 1, :size, :size] = blocks[2, 0::2][: pairs - 1]
    following[: pairs - 1, size:, :size] = blocks[1, 1::2][: pairs - 1]
    following[: len(second), size:, size:] = blocks[2, 1::2][: len(second)]
    own[:, range(2 * size), range(2 * size)] *= 1 + damping
    rest = np.zeros((2 * pairs, size))
    rest[:frames] = right
    rest = rest.reshape(pairs, 2 * size)

    result = np.empty_like(rest)
    factors: list[Array] = []
    for pair in range(pairs):
        if pair:
            own[pair] -= following[pair - 1].T @ factors[-1]
            rest[pair] -= following[pair - 1].T @ result[pair - 1]
        both = np.linalg.solve(own[pair], np.concatenate([following[pair], rest[pair][:, None]], axis=1))
        factors.append(both[:, :-1])
        result[pair] = both[:, -1]
    for pair in reversed(range(pairs - 1)):
        result[pair] -= factors[pair] @ result[pair + 1]
    return result.reshape(-1, size)[:frames]


def optimise(
    clip: Clip,
    keys: Mask,
    prior: Clip,
    contacts: Mask | None = None,
    ground: float | None = None,
    library: Sequence[Clip] = (),
) -> Clip:
    """A filled clip with feet that do not slide or sink and joints that do not jerk.

    keys: bool (F,) or (F, J) of what is keyed in `clip`; prior: the clip that a solver filled.  Only what lies between two
    keys of a joint changes.  contacts (F, J): joints that the user wants to stand; those of a foot replace what is found
    for its leg.  ground: its height, or None for that where the keyed feet are lowest.  Where the keys show no feet that stand
    (no legs, walking on the spot, flight) the motion is only smoothed.  library: clips that show, like the keys, how far the
    joints turn, if they are of the same joints.
    """
    shape = clip.rotations.shape[:2]
    keys = np.broadcast_to(keys[:, None] if keys.ndim == 1 else keys, shape)
    last, following = spline.neighbours(keys)
    free = ~keys & (last >= 0) & (following < len(keys))
    if not free.any():
        return prior
    pose = prior.replace(
        rotations=quaternions.normalise(prior.rotations.astype(np.float64)),
        root=prior.root.astype(np.float64),
        translations={joint: values.astype(np.float64) for joint, values in prior.translations.items()},
    )
    shown = [other.rotations for other in library if list(other.names) == list(clip.names)]
    allowed = limits.learn([(clip.rotations, keys), *((q, np.ones(q.shape[:2], bool)) for q in shown)])
    pose.rotations[:] = np.where(free[..., None], allowed.within(pose.rotations), pose.rotations)
    positions = pose.forward()[0]
    size = float(np.linalg.norm(np.ptp(positions, axis=1), axis=-1).mean()) or 1.0
    legs, floor = _on_ground(feet.find_legs(clip), keys, pose, positions, contacts, ground)
    if legs:
        positions[..., 1] += _fall(legs, keys, free, pose, positions, floor)[:, None]
    places, pull = positions.copy(), np.full(shape, NEAR)
    standing, held = None, _held(legs, clip.parents, contacts)
    if held:
        standing = _stances(held, free, positions, clip.fps, contacts, floor)
        touch = [leg.contact for leg in held]
        bound = np.array([not leg.apart for leg in held])
        if not bound.all():  # feet that no turn of the leg moves are first of all where they belong
            _plant(held, pose, free, standing, ~bound)
            places[:] = pose.forward()[0]
        places[:, touch] = np.where(standing.near[..., None], standing.places, places[:, touch])
        pull[:, touch] = np.where(standing.near & bound, STAND, NEAR)
    if contacts is not None:
        _pin(contacts, {leg.contact for leg in held}, ~free, places, pull)

    entries = np.concatenate([np.repeat(free, 3, axis=1), np.repeat(free[:, :1], 3, axis=1)], axis=1)
    for first, final in feet.runs(free.any(axis=1)):
        for start in range(first, final + 1, CHUNK):
            rows = slice(max(start - 2, 0), min(start + CHUNK, final + 1) + 2)
            inside = np.arange(len(free))[rows]
            part = _cut(pose, rows)
            movable = entries[rows] & ((inside >= start) & (inside < start + CHUNK))[:, None]
            sinking = [leg.contact for leg in legs if not leg.apart]
            problem = Problem(part, movable, places[rows], pull[rows], sinking, floor, size)
            solved = problem.posed(problem.solve())
            turned = np.where(movable[:, :-3:3, None], allowed.within(solved.rotations), solved.rotations)
            pose.rotations[rows], pose.root[rows] = turned, solved.root
    if standing is not None:
        _plant(held, pose, free, standing)

    rotations = np.where(free[..., None], pose.rotations, prior.rotations).astype(prior.rotations.dtype)
    root = np.where(free[:, :1], pose.root, prior.root).astype(prior.root.dtype)
    moved = {
        joint: np.where(free[:, joint, None], pose.translations[joint], old).astype(old.dtype)
        for joint, old in prior.translations.items()
    }
    return prior.replace(rotations=rotations, root=root, translations=moved)


Ranges = Sequence[tuple[int, int]]  # first and last frame of each


def solve_optimise(
    clip: Clip,
    keys: Mask,
    library: Sequence[Clip] = (),
    seed: int = 0,
    contacts: Mapping[str, Ranges] | None = None,
    ground: float | None = None,
) -> tuple[Clip, list[str]]:
    """The in-betweens of a library, else of the spline, optimised; and sentences for the user.

    keys (F, J); seed: as in `retrieval.retrieve`; contacts: joint -> frames in which it stays where it is; ground: see
    `optimise`.  Raises VivantError for contacts of a joint that the clip has not.
    """
    painted = None if contacts is None else _painted(clip, contacts)
    try:
        prior, said = retrieval.retrieve(clip, keys, library, seed) if library else (interpolate.cubic(clip, keys), [])
    except VivantError as error:
        prior, said = interpolate.cubic(clip, keys), [f"{error.message} The spline was optimised instead."]
    return optimise(clip, keys, prior, painted, ground, library), said


def _painted(clip: Clip, contacts: Mapping[str, Ranges]) -> Mask:
    """Contacts by name and range as (F, J)."""
    result = np.zeros(clip.rotations.shape[:2], bool)
    for name, ranges in contacts.items():
        if name not in clip.names:
            raise VivantError(f"There is no joint '{name}' to plant.", "Name a joint of the clip.")
        for first, last in ranges:
            result[max(first, 0) : last + 1, list(clip.names).index(name)] = True
    return result


def _held(legs: tuple[feet.Leg, ...], parents: NDArray[np.integer], contacts: Mask | None) -> tuple[feet.Leg, ...]:
    """The legs; one whose foot is painted for each of its painted joints, the ankle last, which so is exact."""
    found: list[feet.Leg] = []
    for leg in legs:
        joints = _painted_of(leg, parents, contacts)
        found += [dataclasses.replace(leg, contact=joint) for joint in joints] or [leg]
    return tuple(found)


def _painted_of(leg: feet.Leg, parents: NDArray[np.integer], contacts: Mask | None) -> list[int]:
    """The painted joints of a foot, the ankle last."""
    painted = [] if contacts is None else np.flatnonzero(contacts.any(axis=0))[::-1].tolist()
    return [joint for joint in painted if leg.ankle in feet.ancestors(parents, joint)]


def _cut(clip: Clip, rows: slice) -> Clip:
    """Some frames of a clip."""
    moved = {joint: values[rows] for joint, values in clip.translations.items()}
    return clip.replace(rotations=clip.rotations[rows], root=clip.root[rows], translations=moved)


def _on_ground(
    legs: tuple[feet.Leg, ...], keys: Mask, pose: Clip, positions: Array, contacts: Mask | None, ground: float | None
) -> tuple[tuple[feet.Leg, ...], float]:
    """Those of the legs that stand, by what the keys show, or that are painted; and the height of the ground."""
    if not legs:
        return (), 0.0
    touch = [leg.contact for leg in legs]
    paths, sizes = positions[:, touch], _lengths(legs, positions)
    whole = _whole(legs, keys, pose)
    followed = np.array([_follows(leg, pose, positions, known) for leg, known in zip(legs, whole.T, strict=True)])
    painted = np.array([bool(_painted_of(leg, pose.parents, contacts)) for leg in legs])
    # Feet apart have curves of their own, which hardly slide: to plan them gained nothing on training takes.
    bound = np.array([not leg.apart for leg in legs])
    kept = (painted | (bound & feet.reaching(paths, positions[..., 1].min(axis=1), sizes, whole))) & followed
    if not kept.any():
        return (), 0.0
    paths, sizes, whole = paths[:, kept], sizes[kept], whole[:, kept]
    floor = metrics.floor_height(paths[whole] if whole.any() else paths) if ground is None else ground
    bears = feet.bearing(positions[:, [leg.hip for leg in legs]], _lengths(legs, positions), floor)[:, kept]
    if ground is None and not feet.stands(paths, sizes, pose.fps, floor, whole & bears):
        kept = painted & followed
    return tuple(leg for leg, chosen in zip(legs, kept, strict=True) if chosen), floor


def _follows(leg: feet.Leg, pose: Clip, positions: Array, known: Mask) -> bool:
    """Whether a foot is carried by its leg, or, where it is apart, travels as if it were, in known frames (F,)."""
    if not leg.apart:
        return True
    length = np.linalg.norm(positions[known, leg.ankle] - positions[known, leg.knee], axis=-1)
    return leg.ankle in pose.translations and len(length) > 0 and bool(np.ptp(length) < LOOSE * length.mean())


def _whole(legs: tuple[feet.Leg, ...], keys: Mask, pose: Clip) -> Mask:
    """In which frames the place of each foot is keyed (F, K)."""
    return np.stack([keys[:, feet.ancestors(pose.parents, leg.contact)].all(axis=1) for leg in legs], axis=1)


def _fall(legs: tuple[feet.Leg, ...], keys: Mask, free: Mask, pose: Clip, positions: Array, floor: float) -> Array:
    """Bring the root onto the parabolas of jumps, in place; by how much it rose in each frame (F,)."""
    clear = positions[..., 1].min(axis=1) - floor  # of hands too: who stands on them does not fly
    clear[~free[:, 0] & ~_whole(legs, keys, pose).all(axis=1)] = np.nan
    height = pose.root[:, 1].copy()
    pose.root[:, 1] = flight.fall(height, ~free[:, 0], clear, float(_lengths(legs, positions).max()), pose.fps)
    return np.asarray(pose.root[:, 1] - height)


def _lengths(legs: tuple[feet.Leg, ...], positions: Array) -> Array:
    """Lengths (K,) of the legs from hip to ankle, metres."""
    chains = [[leg.hip, leg.knee, leg.ankle] for leg in legs]
    pieces = np.linalg.norm(np.diff(positions[:, chains], axis=2), axis=-1)
    return np.asarray(np.median(pieces.sum(axis=2), axis=0))


def _stances(
    legs: tuple[feet.Leg, ...], free: Mask, positions: Array, fps: float, contacts: Mask | None, floor: float
) -> feet.Plan:
    """Where the feet belong."""
    touch = [leg.contact for leg in legs]
    fixed = np.stack([~free[:, [leg.hip, leg.knee, leg.ankle]].all(axis=1) for leg in legs], axis=1)
    painted = None if contacts is None else contacts[:, touch]
    sizes = _lengths(legs, positions)
    bears = feet.bearing(positions[:, [leg.hip for leg in legs]], sizes, floor)
    return feet.plan(positions[:, touch], fixed, sizes, fps, floor, bears, painted)


def _pin(contacts: Mask, legs: set[int], fixed: Mask, places: Array, pull: Array) -> None:
    """Draw painted joints that are no feet to one place for each painted run: that of its keys, else the middle."""
    for joint in set(np.flatnonzero(contacts.any(axis=0)).tolist()) - legs:
        for first, last in feet.runs(contacts[:, joint]):
            rows = np.arange(first, last + 1)
            keyed = rows[fixed[rows, joint]]
            places[rows, joint] = places[keyed if len(keyed) else rows, joint].mean(axis=0)
            pull[rows, joint] = STAND


def _plant(legs: tuple[feet.Leg, ...], pose: Clip, free: Mask, standing: feet.Plan, some: Mask | None = None) -> None:
    """Take what is left of each (or some) foot's way to its place by its leg alone, in place; it keeps its orientation."""
    ease = max(round(feet.EASE * pose.fps), 1)
    for index, leg in enumerate(legs):
        if some is not None and not some[index]:
            continue
        positions, world = pose.forward()
        chain = [leg.hip, leg.knee, leg.ankle]
        movable = free[:, chain].all(axis=1)
        offset = np.where(standing.near[:, index, None], standing.places[:, index] - positions[:, leg.contact], 0)
        rows = np.flatnonzero(_faded(offset, standing.near[:, index], movable, ease).any(axis=1) & movable)
        if not len(rows):
            continue
        hip, knee, ankle = (positions[rows, joint] for joint in chain)
        frame = world[rows, leg.hip]
        bend = quaternions.rotate(quaternions.conjugate(frame), np.cross(knee - hip, ankle - knee)).sum(axis=0)
        upper, lower = ik.two_bone(hip, knee, ankle, ankle + offset[rows], quaternions.rotate(frame, bend))
        parents = [world[rows, pose.parents[leg.hip]]]
        parents += [quaternions.multiply(upper, frame), quaternions.multiply(lower, world[rows, leg.knee])]
        turned = [*parents[1:], world[rows, leg.ankle]]
        if leg.apart:
            above = world[rows, pose.parents[leg.ankle]]
            pose.translations[leg.ankle][rows] += quaternions.rotate(quaternions.conjugate(above), offset[rows])
            parents[2] = above
        for joint, above, own in zip(chain, parents, turned, strict=True):
            local = quaternions.multiply(quaternions.conjugate(above), own)
            same = np.sum(local * pose.rotations[rows, joint], axis=-1, keepdims=True) >= 0
            pose.rotations[rows, joint] = np.where(same, local, -local)


def _faded(offset: Array, near: Mask, movable: Mask, ease: int) -> Array:
    """Offsets (F, 3), in place, that fade over up to `ease` movable frames beside each run of `near`."""
    for first, last in feet.runs(near):
        for edge, step in ((first, -1), (last, 1)):
            room = 0
            while room < ease and 0 <= edge + step * (room + 1) < len(near):
                frame = edge + step * (room + 1)
                if near[frame] or not movable[frame]:
                    break
                room += 1
            for n in range(1, room + 1):
                offset[edge + step * n] += (1 - n / (room + 1)) ** 2 * offset[edge]
    return offset
