# SPDX-License-Identifier: GPL-3.0-or-later
"""What the network looks at where a gap is short: the whole window at once, through one perceptron.

There the answer is nearly linear in how joints move at both ends of the gap, which a linear path finds at once; the perceptron
beside it learns what is not.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from . import rotations
from .body import PAST, Body, forward_kinematics

GAP, LENGTH = 8, 25  # frames of the longest gap, and of its windows
BLOCKS = 3


class Short(nn.Module):
    def __init__(self, body: Body, width: int) -> None:
        super().__init__()
        self.body = body
        joints = len(body.names)
        seen = 3 * (joints + 1) * (2 * LENGTH - 3) + joints * LENGTH + 9 * joints + joints + 1 + GAP + 1
        self.inputs, self.linear = nn.Linear(seen, width), nn.Linear(seen, 3 * (joints + 1) * GAP)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
            for _ in range(BLOCKS)
        )
        self.head = nn.Linear(width, 3 * (joints + 1) * GAP)
        for layer in (self.linear, self.head):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, prior: tuple[Tensor, Tensor], known: Tensor, steps: Tensor, active: Tensor, gap: Tensor) -> Tensor:
        """The correction (J + 1, 3, B, LENGTH), in units; see `network.Network`.

        steps: `speeds` in units of `activity`, (3, J + 1, B, LENGTH - 1); active: by `activity`, (J + 1, B).
        """
        turns, root = (values[..., PAST - 1 : PAST] for values in prior)
        places, _ = forward_kinematics(self.body, turns, root)
        pose = torch.cat([rotations.axes(turns), places - root[:, None] * root.new_tensor([1.0, 0.0, 1.0]).view(3, 1, 1, 1)])
        parts = (limited(steps), limited(4 * steps.diff(dim=-1)), known[None].to(root.dtype), pose)
        seen = [part.permute(2, 0, 1, 3).flatten(1) for part in parts]
        x = torch.cat([*seen, active.T.log() + 3, nn.functional.one_hot(gap, GAP + 1).to(root.dtype)], 1)
        hidden = self.inputs(x)
        for block in self.blocks:
            hidden = hidden + block(hidden)
        found = (self.linear(x) + self.head(hidden)).float().unflatten(1, (active.shape[0], 3, GAP))
        return nn.functional.pad(found.permute(1, 2, 0, 3), (PAST, LENGTH - PAST - GAP))

    def matrices(self) -> list[Tensor]:
        """The weights inside of the blocks."""
        return [layer.weight for block in self.blocks for layer in (block[1], block[3])]


def limited(x: Tensor) -> Tensor:
    """Nearly x up to a few units, and never more than eight."""
    return x / (1 + x.abs() / 8)
