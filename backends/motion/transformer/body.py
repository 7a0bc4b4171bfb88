# SPDX-License-Identifier: GPL-3.0-or-later
"""The skeleton that the network knows, and windows of its motion as the network sees them.

Tensors are laid out components, joints, windows, frames; a window starts PAST frames before a gap.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from . import rotations

PAST = 10


@dataclass(frozen=True)
class Body:
    """J joints, parents before children: offsets (J, 3) in metres; mirror (J,): each joint's twin on the other side, or itself.

    Y is up; the body's left is +X and its front +Z where the root is not turned.
    """

    names: tuple[str, ...]
    parents: tuple[int, ...]
    offsets: tuple[tuple[float, float, float], ...]
    mirror: tuple[int, ...]


def forward_kinematics(body: Body, turns: Tensor, root: Tensor) -> tuple[Tensor, Tensor]:
    """Global positions (3, J, B, T) and rotations (4, J, B, T) of local rotations (4, J, B, T) and root positions (3, B, T)."""
    position, world = root[:, None], turns[:, :1]
    placed, row = [position], [0]  # joints, generation by generation
    turned = [world]
    generation = [0]
    while children := [j for j, parent in enumerate(body.parents) if parent in generation]:
        above = [generation.index(body.parents[j]) for j in children]
        offsets = torch.tensor([body.offsets[j] for j in children]).T.reshape(3, -1, *[1] * (root.dim() - 1))
        position, world = hang(position[:, above], world[:, above], turns[:, children], offsets)
        placed, turned, row = [*placed, position], [*turned, world], row + children
        generation = children
    order = [row.index(j) for j in range(len(row))]
    return torch.cat(placed, 1)[:, order], torch.cat(turned, 1)[:, order]


def hang(position: Tensor, world: Tensor, turn: Tensor, offset: Tensor) -> tuple[Tensor, Tensor]:
    """Joints under their parents."""
    return position + rotations.rotate(world, offset.expand_as(position)), rotations.multiply(world, turn)


def align(turns: Tensor, root: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Windows that face +X above the origin at frame PAST - 1; and the shift (3, B, 1) and the turn about Y after it (4, B, 1).

    Returned in the order rotations, root, turn, shift.
    """
    w, x, y, z = turns[:, 0, :, PAST - 1]
    half = torch.atan2(1 - 2 * (x * x + y * y), 2 * (x * z + w * y)) / 2
    turn = torch.stack([half.cos(), 0 * half, half.sin(), 0 * half])[..., None]
    shift = root[..., PAST - 1 : PAST] * root.new_tensor([1.0, 0.0, 1.0])[:, None, None]
    return *move(turns, root - shift, turn), turn, shift


def move(turns: Tensor, root: Tensor, turn: Tensor) -> tuple[Tensor, Tensor]:
    """Windows turned about the origin by `turn` (4, B, 1)."""
    turn = turn.expand(4, *root.shape[1:])
    return torch.cat([rotations.multiply(turn, turns[:, 0])[:, None], turns[:, 1:]], 1), rotations.rotate(turn, root)


def mirror(body: Body, turns: Tensor, root: Tensor) -> tuple[Tensor, Tensor]:
    """Left for right."""
    sides = turns.new_tensor([1.0, 1.0, -1.0, -1.0]).view(4, 1, 1, 1)
    return turns[:, list(body.mirror)] * sides, root * root.new_tensor([-1.0, 1.0, 1.0]).view(3, 1, 1)
