# SPDX-License-Identifier: GPL-3.0-or-later
"""LaFAN1's protocol on the CMU clips of a data folder: windows, alignment, statistics (Harvey et al. 2020).

The folder brings `clips.py`, the reader of its container; here its clips become ours, on the joints that ever move.
"""

from __future__ import annotations

import importlib.util
import pathlib
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vivant.backends.common import rotations as quaternions
from vivant.backends.motion.clip import Clip

Array = NDArray[np.floating]

PAST = 10
FORWARD = np.array([0.0, 0.0, 1.0], np.float32)  # the hip's forward axis in the Daz conversion of CMU


@dataclass(frozen=True, eq=False)
class Take(Clip):
    """A clip and who performs it."""

    performer: str = ""


@dataclass(frozen=True)
class Windows:
    """N windows of T frames, one skeleton: rotations (N, T, J, 4) local, root (N, T, 3), aligned at the last past frame.

    performers (N,): who performs each.
    """

    skeleton: Clip
    rotations: Array
    root: Array
    performers: list[str]

    def __len__(self) -> int:
        return len(self.rotations)

    def forward(self, rotations: Array | None = None, root: Array | None = None) -> tuple[Array, Array]:
        """Global positions (N, T, J, 3) and rotations (N, T, J, 4), of these windows or of others on their skeleton."""
        rotations = self.rotations if rotations is None else rotations
        root = self.root if root is None else root
        shape = rotations.shape
        flat = self.skeleton.replace(rotations=rotations.reshape(-1, *shape[2:]), root=root.reshape(-1, 3))
        positions, world = flat.forward()
        return positions.reshape(*shape[:3], 3), world.reshape(shape)


def load(folder: pathlib.Path, skeleton: str = "cmu_daz") -> dict[str, list[Take]]:
    """All clips on one skeleton by split, reduced to the joints that move anywhere (17 of 43)."""
    spec = importlib.util.spec_from_file_location("mocap_container", folder / "clips.py")
    assert spec and spec.loader
    container: Any = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = container
    spec.loader.exec_module(container)
    found = container.load(folder, lambda clip: clip.skeleton == skeleton)
    moves = np.max([np.ptp(clip.rotations, axis=0).max(axis=-1) for clip in found], axis=0) > 0.01
    moves[0] = True
    kept = [int(joint) for joint in np.nonzero(moves)[0]]
    parents, offsets = [-1], [np.zeros(3, np.float32)]
    for joint in kept[1:]:  # joints that never move have no rotation, so their offsets add up
        parent, offset = int(found[0].parents[joint]), found[0].offsets[joint]
        while not moves[parent]:
            offset, parent = offset + found[0].offsets[parent], int(found[0].parents[parent])
        parents.append(kept.index(parent))
        offsets.append(offset)
    splits: dict[str, list[Take]] = {}
    for clip in found:
        reduced = Take(
            names=[clip.names[joint] for joint in kept], parents=np.array(parents), offsets=np.array(offsets),
            fps=clip.fps, rotations=clip.rotations[:, kept], root=clip.root, performer=clip.subject,
        )  # fmt: skip
        splits.setdefault(clip.split, []).append(reduced)
    return splits


def windows(clips: list[Take], size: int, step: int, cap: int | None = None) -> Windows:
    """All windows of `size` frames that start every `step` frames (strictly inside each clip), evenly thinned to `cap`.

    Each is centred on its mean X and Z and turned about Y so that the root faces +X at the last past frame.
    """
    places = [(clip, first) for clip in clips for first in range(0, len(clip) - size, step)]
    if cap and len(places) > cap:
        places = [places[index] for index in np.linspace(0, len(places) - 1, cap).astype(int)]
    rotations = np.stack([clip.rotations[first : first + size] for clip, first in places])
    root = np.stack([clip.root[first : first + size] for clip, first in places])
    ground = np.array([1, 0, 1], root.dtype)
    facing = quaternions.rotate(rotations[:, PAST - 1, 0], FORWARD)
    half = np.arctan2(facing[:, 2], facing[:, 0]) / 2
    turn = np.stack([np.cos(half), 0 * half, np.sin(half), 0 * half], axis=-1)[:, None]
    root = quaternions.rotate(turn, root - root.mean(axis=1, keepdims=True) * ground)
    rotations[:, :, 0] = quaternions.multiply(turn, rotations[:, :, 0])
    return Windows(clips[0], rotations, root, [clip.performer for clip, _ in places])


def sigma(clips: list[Take], size: int = 50, step: int = 20) -> Array:
    """Standard deviation (J, 3) of every global coordinate over all windows of the training clips."""
    count, total, squares = 0, 0.0, 0.0
    for clip in clips:
        if len(clip) <= size:
            continue
        positions = windows([clip], size, step).forward()[0].astype(np.float64)
        count += positions.shape[0] * positions.shape[1]
        total = total + positions.sum(axis=(0, 1))
        squares = squares + (positions**2).sum(axis=(0, 1))
    return np.sqrt(squares / count - (total / count) ** 2)
