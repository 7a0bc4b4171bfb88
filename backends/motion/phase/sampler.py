# SPDX-License-Identifier: GPL-3.0-or-later
"""The phase-driven sampler: walks through a gap frame by frame, each part posed by experts that its own phase blends.

After Dai et al. 2025 and RSMT (Tang et al. 2023): an LSTM looks at the pose, the target and the time to it, and says how the
phases of the parts go on and a code z; the state model, a mixture of experts for each part whose gate sees that part's phase
and z, turns that into the next pose.  Ours: the experts add to the step of a prior (the velocity-matched cubic), and what
they have added is given back evenly until the target, so an untrained network is the cubic and the target is always met; both
networks are trained together, z has no encoder of its own.  Needs NumPy alone; `network` is the same in torch, to train it.

Poses are windows seen from the root's place and heading at their last known frame, in units of the skeleton's size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...common import rotations as quaternions

Array = NDArray[np.floating]
Index = NDArray[np.intp]
Weights = Mapping[str, Array]

CODE = 16  # components of z
ROOT_STEP = 0.01  # sizes a frame that count as one
TURN_STEP = 0.05  # of six-dimensional rotations


@dataclass(frozen=True)
class Skeleton:
    """J joints: parents, offsets in sizes; P parts: place (J,) of each joint among the P·K outputs of the experts."""

    parents: Index
    offsets: Array
    size: float
    place: Index
    parts: int

    @property
    def widest(self) -> int:
        """K, joints of the largest part."""
        return int(np.max(self.place) // self.parts + 1)

    def paths(self) -> Array:
        """(J, J): whether a joint (column) is on the way from the root to another (row), itself included."""
        paths = np.eye(len(self.parents))
        for joint, parent in enumerate(self.parents):
            if parent >= 0:
                paths[joint] += paths[parent]
        return paths


def skeleton(parents: Sequence[int], offsets: Array, parts: Sequence[Sequence[int]]) -> Skeleton:
    """A body divided into parts; joints of none, such as the root, go with the last one.

    Its size is the largest distance of a joint from the root along the bones, divided by two.
    """
    joints = len(parents)
    reach = np.zeros(joints)
    for joint, parent in enumerate(parents):
        if parent >= 0:
            reach[joint] = reach[parent] + np.linalg.norm(offsets[joint])
    size = float(reach.max()) / 2 or 1.0
    free = sorted(set(range(joints)) - {joint for members in parts for joint in members})
    place = np.zeros(joints, np.intp)
    for part, members in enumerate([*parts[:-1], [*parts[-1], *free]]):
        place[list(members)] = part + np.arange(len(members)) * len(parts)  # joint by joint, so that K need not be known
    return Skeleton(np.asarray(parents, np.intp), np.asarray(offsets, np.float64) / size, size, place, len(parts))


def six(world: Array) -> Array:
    """First two columns (…, 6) of the matrices of quaternions (…, 4)."""
    matrix = quaternions.matrix(world)
    return np.concatenate([matrix[..., 0], matrix[..., 1]], axis=-1)


def frames_of(columns: Array) -> Array:
    """Rotation matrices (…, 3, 3) of two columns (…, 6), by Gram and Schmidt."""
    a, b = columns[..., :3], columns[..., 3:]
    a = a / np.linalg.norm(a, axis=-1, keepdims=True)
    b = b - np.sum(a * b, axis=-1, keepdims=True) * a
    b = b / np.linalg.norm(b, axis=-1, keepdims=True)
    return np.stack([a, b, np.cross(a, b)], axis=-1)


def until(frames: Array) -> Array:
    """What the network sees (…, 4) of the number of frames to the target."""
    return np.stack([frames / 30, 3 / (2 + frames), np.exp(-frames / 10), np.ones_like(frames)], axis=-1)


def sample(
    body: Skeleton, weights: Weights, fps: float, known: Array, root: Array, prior: Array, prior_root: Array
) -> tuple[Array, Array, Array]:
    """Fill a gap: world rotations (G, J, 4), root (G, 3) in sizes, phase vectors (G, P, M, 2) of its frames.

    known (N + 1, J, 4), root (N + 1, 3): world rotations and root's place at the N frames before the gap and at the target;
    prior (G, J, 4), prior_root (G, 3): the same in the gap.
    """
    past, gap, parts = len(known) - 1, len(prior), body.parts
    weights = {name: np.asarray(value, np.float32) for name, value in weights.items()}
    every = six(np.concatenate([known[:-1], prior, known[-1:]]))
    way = np.concatenate([root[:-1], prior_root, root[-1:]])
    paths = body.paths()
    amplitude = weights["amplitude"]
    phase = np.zeros((*amplitude.shape, 2))
    h: Array = np.zeros(weights["cell.weight_hh"].shape[1])
    c = h
    pose, place = every[0], way[0]
    before = _positions(body, paths, every[0]) + way[0]
    turns, places, phases = np.empty((gap, *pose.shape)), np.empty((gap, 3)), np.empty((gap, *phase.shape))
    drift: Array = np.zeros_like(pose)
    root_drift: Array = np.zeros(3)
    for frame in range(past + gap - 1):
        left = past + gap - frame
        joints = _positions(body, paths, pose)
        velocity = (joints + place - before) * fps
        before = joints + place
        state = np.concatenate([pose.ravel(), joints.ravel(), velocity.ravel()])
        state = (state - weights["mean"]) / weights["spread"]
        x = np.concatenate([
            state, (every[-1] - pose).ravel(), way[-1] - place, (every[frame + 1] - pose).ravel() / TURN_STEP,
            (way[frame + 1] - place) / ROOT_STEP, until(np.array(float(left))), phase.ravel(),
        ])  # fmt: skip
        h, c = _cell(weights, _elu(_linear(weights, "inputs", x)), h, c)
        out = _linear(weights, "outputs", _elu(_linear(weights, "hidden", h)))
        z, out = out[:CODE], out[CODE:]
        wanted, size, hertz, step = np.split(out, np.cumsum([phase.size, phase.size // 2, phase.size // 2]))
        turn = np.exp(2j * np.pi * (1 + hertz.reshape(amplitude.shape)) / fps)  # phase vectors are (sin, cos)
        gone = (phase[..., 1] + 1j * phase[..., 0]) * turn
        wanted = wanted.reshape(phase.shape)
        both = _unit(wanted) + _unit(np.stack([gone.imag, gone.real], axis=-1))
        phase = np.logaddexp(0, size.reshape(amplitude.shape))[..., None] * _unit(both)
        if frame + 1 < past:
            pose, place = every[frame + 1], way[frame + 1]
            continue
        keep = (left - 1) / left
        added = experts(weights, parts, state, z, phase)[body.place]
        drift = drift * keep + TURN_STEP * added
        root_drift = root_drift * keep + ROOT_STEP * step
        matrix = frames_of(every[frame + 1] + drift)
        pose, place = np.concatenate([matrix[..., 0], matrix[..., 1]], axis=-1), way[frame + 1] + root_drift
        turns[frame + 1 - past], places[frame + 1 - past], phases[frame + 1 - past] = pose, place, phase
    return quaternions.from_matrix(frames_of(turns)), places, phases * amplitude[..., None]


def experts(weights: Weights, parts: int, state: Array, z: Array, phase: Array) -> Array:
    """What each part's experts add (K · P, 6), blended by its gate."""
    seen = np.concatenate([phase.reshape(parts, -1), np.broadcast_to(z, (parts, len(z)))], axis=1)
    hidden = _elu(np.einsum("pi,pih->ph", seen, weights["gate1"]) + weights["gate1_bias"])
    gate = np.einsum("ph,phe->pe", hidden, weights["gate2"]) + weights["gate2_bias"]
    gate = np.exp(gate - gate.max(axis=1, keepdims=True))
    gate /= gate.sum(axis=1, keepdims=True)
    x = np.broadcast_to(np.concatenate([state, z]), (parts, len(state) + len(z)))
    for layer in ("1", "2", "3"):
        each = (x[:, None, None] @ weights[f"expert{layer}"])[:, :, 0] + weights[f"expert{layer}_bias"]
        x = np.einsum("pe,peh->ph", gate, each)
        x = x if layer == "3" else _elu(x)
    return x.reshape(parts, -1, 6).swapaxes(0, 1).reshape(-1, 6)


def _positions(body: Skeleton, paths: Array, pose: Array) -> Array:
    """Joints (J, 3) as seen from the root's place."""
    bones = np.zeros((len(pose), 3))
    bones[1:] = np.einsum("jab,jb->ja", frames_of(pose)[body.parents[1:]], body.offsets[1:])
    return paths @ bones


def _unit(v: Array) -> Array:
    return v / np.sqrt(np.sum(v**2, axis=-1, keepdims=True) + 1e-8)


def _linear(weights: Weights, name: str, x: Array) -> Array:
    return weights[f"{name}.weight"] @ x + weights[f"{name}.bias"]


def _elu(x: Array) -> Array:
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def _cell(weights: Weights, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
    """One step of an LSTM, gates in the order input, forget, cell, output."""
    gates = weights["cell.weight_ih"] @ x + weights["cell.bias_ih"] + weights["cell.weight_hh"] @ h + weights["cell.bias_hh"]
    i, f, g, o = np.split(gates, 4)
    c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
    return _sigmoid(o) * np.tanh(c), c


def _sigmoid(x: Array) -> Array:
    return 0.5 + 0.5 * np.tanh(x / 2)
