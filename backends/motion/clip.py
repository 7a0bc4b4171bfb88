# SPDX-License-Identifier: GPL-3.0-or-later
"""Clip: the motion of one skeleton, and the positions it puts the joints at."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..common import rotations as quaternions
from ..common.errors import VivantError

Array = NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Clip:
    """F frames of J joints; metres, right-handed, Y up, quaternions wxyz.

    names (J,); parents (J,) with -1 for the root, parents before children; offsets (J, 3) from the
    parent joint, in its frame; fps; rotations (F, J, 4) local, unit; root (F, 3) position of joint 0.
    rest (J, 4): local rotations of the bind pose (identity when None).  translations: joint -> (F, 3)
    for the few joints whose offset is animated.
    Raises VivantError when the arrays do not belong together.
    """

    names: Sequence[str]
    parents: NDArray[np.integer]
    offsets: Array
    fps: float
    rotations: Array
    root: Array
    rest: Array | None = None
    translations: Mapping[int, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "parents", np.asarray(self.parents, np.int32))
        for name in ("offsets", "rotations", "root"):
            value = np.asarray(getattr(self, name))
            object.__setattr__(self, name, value if value.dtype.kind == "f" else value.astype(np.float64))
        joints, frames = len(self.names), len(self.rotations)
        shapes = {"parents": (joints,), "offsets": (joints, 3), "rotations": (frames, joints, 4), "root": (frames, 3)}
        for name, shape in shapes.items():
            found = getattr(self, name).shape
            if found != shape:
                raise VivantError(f"A clip of {frames} frames and {joints} joints needs {name} of shape {shape}, not {found}.")
        if any(parent >= joint for joint, parent in enumerate(self.parents)):
            raise VivantError("A joint comes before its parent.", "Order the joints from the root outwards.")

    def __len__(self) -> int:
        return len(self.rotations)

    def replace(self, **changes: Any) -> Clip:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    def part(self, frames: NDArray[np.integer] | slice) -> Clip:
        """The clip of some frames."""
        moved = {joint: values[frames] for joint, values in self.translations.items()}
        return self.replace(rotations=self.rotations[frames], root=self.root[frames], translations=moved)

    def forward(self, frames: NDArray[np.integer] | slice = slice(None)) -> tuple[Array, Array]:
        """World positions (F, J, 3) and world rotations (F, J, 4) of the chosen frames."""
        local = self.rotations[frames]
        kind = np.result_type(self.offsets, *self.translations.values())
        offsets = np.array(np.broadcast_to(self.offsets, (*local.shape[:2], 3)), kind)
        for joint, places in self.translations.items():
            offsets[:, joint] = places[frames]
        positions = np.empty((*local.shape[:2], 3), local.dtype)
        world = np.empty_like(local)
        for joints in self._levels():  # all joints of a level at once: rigs have hundreds of joints, but few levels
            above = self.parents[joints]
            if above[0] < 0:
                positions[:, joints], world[:, joints] = self.root[frames][:, None], local[:, joints]
                continue
            positions[:, joints] = positions[:, above] + quaternions.rotate(world[:, above], offsets[:, joints])
            world[:, joints] = quaternions.multiply(world[:, above], local[:, joints])
        return positions, world

    def _levels(self) -> list[list[int]]:
        """Joints by how many others they hang on, from the root outwards."""
        depth: list[int] = []
        for parent in self.parents:
            depth.append(depth[parent] + 1 if parent >= 0 else 0)
        return [[joint for joint, at in enumerate(depth) if at == level] for level in range(max(depth, default=-1) + 1)]
