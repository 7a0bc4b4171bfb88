# SPDX-License-Identifier: GPL-3.0-or-later
"""LaFAN1's protocol: windows, their alignment, statistics (Harvey et al. 2020); and the packs of a data folder's mocap/.

That folder brings `clips.py`, the reader of its container; here its clips become ours.
"""

from __future__ import annotations

import functools
import importlib.util
import pathlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vivant.backends.common import rotations as quaternions
from vivant.backends.motion import library
from vivant.backends.motion.clip import Clip
from vivant.backends.motion.mirror import mirror_of

Array = NDArray[np.floating]

PAST = 10
FORWARD = np.array([0.0, 0.0, 1.0], np.float32)  # the hip's forward axis in the Daz conversion of CMU


@dataclass(frozen=True, eq=False)
class Take(Clip):
    """A clip, who performs it, on which skeleton, and whether it is for training."""

    performer: str = ""
    skeleton: str = ""
    split: str = "train"


@dataclass(frozen=True)
class Windows:
    """N windows of T frames, one skeleton: rotations (N, T, J, 4) local, root (N, T, 3), aligned at the last past frame.

    performers (N,): who performs each; translations: joint -> (N, T, 3) of those whose offset is animated.
    """

    skeleton: Clip
    rotations: Array
    root: Array
    performers: list[str]
    translations: Mapping[int, Array] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rotations)

    @functools.cached_property
    def truth(self) -> tuple[Array, Array]:
        """Global positions (N, T, J, 3) and rotations (N, T, J, 4)."""
        return self.forward(self.rotations, self.root, self.translations)

    def first(self, count: int) -> Windows:
        """Only that many."""
        moving = {joint: values[:count] for joint, values in self.translations.items()}
        return Windows(self.skeleton, self.rotations[:count], self.root[:count], self.performers[:count], moving)

    def clips(self, frames: int) -> Iterator[Clip]:
        """The first frames of each window."""
        for index, (rotations, root) in enumerate(zip(self.rotations, self.root, strict=True)):
            moving = {joint: values[index, :frames] for joint, values in self.translations.items()}
            yield self.skeleton.replace(rotations=rotations[:frames], root=root[:frames], translations=moving)

    def forward(self, rotations: Array, root: Array, translations: Mapping[int, Array]) -> tuple[Array, Array]:
        """The same of other windows on this skeleton."""
        shape = rotations.shape
        flat = self.skeleton.replace(
            rotations=rotations.reshape(-1, *shape[2:]),
            root=root.reshape(-1, 3),
            translations={joint: values.reshape(-1, 3) for joint, values in translations.items()},
        )
        positions, world = flat.forward()
        return positions.reshape(*shape[:3], 3), world.reshape(shape)


def read(folder: pathlib.Path, match: Callable[[Any], bool] | None = None) -> list[Take]:
    """All clips of a folder's packs (or of one pack beside its `clips.py`) that `match` finds, as takes."""
    spec = importlib.util.spec_from_file_location(
        "mocap_container", (folder if folder.is_dir() else folder.parent) / "clips.py"
    )
    assert spec and spec.loader
    container: Any = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = container
    spec.loader.exec_module(container)
    return [
        Take(
            names=clip.names, parents=clip.parents, offsets=clip.offsets, fps=clip.fps, rotations=clip.rotations,
            root=clip.root, rest=clip.rest, translations=clip.moving, performer=clip.subject, skeleton=clip.skeleton,
            split=clip.split,
        )
        for clip in container.load(folder, match)
    ]  # fmt: skip


def load(folder: pathlib.Path, skeleton: str = "cmu_daz") -> dict[str, list[Take]]:
    """All clips on one skeleton by split, reduced to the joints that move anywhere (17 of the Daz body's 43)."""
    splits: dict[str, list[Take]] = {}
    for take in reduced(read(folder, lambda clip: clip.skeleton == skeleton)):
        splits.setdefault(take.split, []).append(take)
    return splits


def reduced(takes: Sequence[Take]) -> list[Take]:
    """Takes of one skeleton without the joints that turn in none of them: their offsets add up."""
    first = takes[0]
    still = np.max([np.ptp(take.rotations, axis=0).max(axis=-1) for take in takes], axis=0) < 0.01
    still[[0, *{joint for take in takes for joint in take.translations}]] = False
    turned = np.max([np.abs(take.rotations[..., 1:]).max(axis=(0, 2)) for take in takes], axis=0) > 0.01
    carries = ~still
    for joint in range(len(still) - 1, 0, -1):
        still[joint] &= not (turned[joint] and carries[joint])  # a bent joint that carries a moving one
        carries[first.parents[joint]] |= carries[joint]
    kept = np.nonzero(~still)[0].tolist()
    parents, offsets = [-1], [np.zeros(3, np.float32)]
    for joint in kept[1:]:
        parent, offset = int(first.parents[joint]), first.offsets[joint]
        while still[parent]:
            offset, parent = offset + first.offsets[parent], int(first.parents[parent])
        parents.append(kept.index(parent))
        offsets.append(offset)
    return [
        take.replace(
            names=[take.names[joint] for joint in kept], parents=np.array(parents), offsets=np.array(offsets),
            rotations=take.rotations[:, kept], rest=None if take.rest is None else take.rest[kept],
            translations={kept.index(joint): values for joint, values in take.translations.items()},
        )
        for take in takes
    ]  # fmt: skip


def forward_of(clip: Clip) -> Array:
    """The root's axis (3,) along the body at rest, ahead or back: across the line from side to side, Z where there is none."""
    mirror = mirror_of(clip)
    ahead = FORWARD if mirror is None else np.cross(mirror.normal, library.UP)
    return ahead if clip.rest is None else quaternions.rotate(quaternions.conjugate(clip.rest[0]), ahead)


def windows(clips: Sequence[Take], size: int, step: int, cap: int | None = None, ahead: Array = FORWARD) -> Windows:
    """All windows of `size` frames that start every `step` frames (strictly inside each clip), evenly thinned to `cap`.

    Each is centred on its mean X and Z and turned about Y so that the root's axis `ahead` faces +X at the last past frame.
    """
    places = [(clip, first) for clip in clips for first in range(0, len(clip) - size, step)]
    if cap and len(places) > cap:
        places = [places[index] for index in np.linspace(0, len(places) - 1, cap).astype(int)]
    rotations = np.stack([clip.rotations[first : first + size] for clip, first in places])
    root = np.stack([clip.root[first : first + size] for clip, first in places])
    ground = np.array([1, 0, 1], root.dtype)
    facing = quaternions.rotate(rotations[:, PAST - 1, 0], ahead)
    half = np.arctan2(facing[:, 2], facing[:, 0]) / 2
    turn = np.stack([np.cos(half), 0 * half, np.sin(half), 0 * half], axis=-1)[:, None]
    root = quaternions.rotate(turn, root - root.mean(axis=1, keepdims=True) * ground)
    rotations[:, :, 0] = quaternions.multiply(turn, rotations[:, :, 0])
    translations = {
        joint: np.stack([
            clip.translations[joint][first : first + size]
            if joint in clip.translations
            else np.broadcast_to(clip.offsets[joint], (size, 3))
            for clip, first in places
        ])
        for joint in sorted({joint for clip in clips for joint in clip.translations})
    }  # fmt: skip
    return Windows(clips[0], rotations, root, [clip.performer for clip, _ in places], translations)


def sigma(clips: Sequence[Take], size: int = 50, step: int = 20, ahead: Array = FORWARD, least: float = 1e-3) -> Array:
    """Standard deviation (J, 3) of every global coordinate over all windows of the training clips.

    One that is a smaller share than `least` of their root mean square counts as that: nothing can be measured in zeros.
    """
    count, total, squares = 0, 0.0, 0.0
    for clip in clips:
        if len(clip) <= size:
            continue
        positions = windows([clip], size, step, ahead=ahead).truth[0].astype(np.float64)
        count += positions.shape[0] * positions.shape[1]
        total = total + positions.sum(axis=(0, 1))
        squares = squares + (positions**2).sum(axis=(0, 1))
    deviation = np.sqrt(np.maximum(squares / count - (total / count) ** 2, 0))
    return np.maximum(deviation, least * np.sqrt(np.mean(deviation**2)))
