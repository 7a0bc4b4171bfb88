# SPDX-License-Identifier: GPL-3.0-or-later
"""The in-between network: looks at a window of motion whose gaps hold the prior, and says what to add to it.

A transformer does; where the gap is short, `short.Short` instead.

A window starts PAST frames before a gap.  A token is PATCH frames of one window, so that a window is a few tokens, the widths
can be large and nothing is spent on neighbouring frames that are nearly alike.  Tensors are laid out components, joints,
windows, frames.
"""

from __future__ import annotations

import json
import math
import pathlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from ...common.errors import BrokenFile, NeedsWeights
from . import rotations
from .body import PAST, Body, forward_kinematics
from .prior import Neighbours, fill_rotations, fill_vectors
from .short import GAP as SHORT
from .short import LENGTH, Short, limited

LONGEST = 90  # frames of a gap
LENGTHS = ((SHORT, LENGTH), (20, 40), (40, 60), (55, 75), (LONGEST, 110))  # up to this gap, a window is this long


@dataclass(frozen=True)
class Size:
    """Of the transformer; and the width of what looks at short gaps, 0 where the transformer does."""

    width: int = 384
    layers: int = 6
    heads: int = 6
    patch: int = 5
    short: int = 256


def speeds(turns: Tensor, root: Tensor) -> Tensor:
    """Turn of each joint from frame to frame, in its own axes, and the root's way (3, J + 1, B, T - 1); radians and metres."""
    turn = _steps(turns[..., :-1], turns[..., 1:])
    return torch.cat([turn, root.diff(dim=-1)[:, None]], 1)


def activity(turns: Tensor, root: Tensor, gap: Tensor, steps: Tensor) -> Tensor:
    """How much each joint moves (J + 1, B), the root's path last: what the prior's error grows with.

    Fitted to the prior's errors on training takes, where it explains half of the variance of their logarithm: speed and change
    of speed before the gap, and the mean speed across it, radians or metres a frame.  steps: by `speeds`.
    """
    target = (PAST + gap)[:, None]
    turn = _steps(turns[..., PAST - 1 : PAST], turns.gather(-1, target.expand(*turns.shape[:3], 1)))
    way = root.gather(-1, target.expand(*root.shape[:2], 1)) - root[..., PAST - 1 : PAST]
    past, across = steps[..., : PAST - 1], torch.cat([turn, way[:, None]], 1)
    return (0.22 * _rms(past) + 0.14 * _rms(past.diff(dim=-1)) + 0.64 * _rms(across) / (gap + 1) + 5e-4) ** 0.8


def _steps(a: Tensor, b: Tensor) -> Tensor:
    return rotations.log(rotations.multiply(rotations.conjugate(a), b))


def _rms(x: Tensor) -> Tensor:
    return x.square().sum(0).mean(-1).sqrt()


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(width, bias=False) for _ in range(2))
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor, shapes: list[tuple[int, int]]) -> Tensor:
        """x: the tokens of all windows in one row; shapes: windows × tokens, one batch after another."""
        rows = self.qkv(self.norms[0](x)).split([windows * tokens for windows, tokens in shapes])
        x = x + self.out(torch.cat([self._attend(row.unflatten(0, shape)) for row, shape in zip(rows, shapes, strict=True)]))
        return x + self.down(functional.gelu(self.up(self.norms[1](x)), approximate="tanh"))

    def _attend(self, qkv: Tensor) -> Tensor:
        q, k, v = qkv.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        weights = (q * q.shape[-1] ** -0.5 @ k.mT).softmax(-1)  # with so few tokens quicker than the fused attention
        return (weights @ v).transpose(1, 2).flatten(2).flatten(0, 1)


@dataclass(frozen=True)
class Windows:
    """B windows of T frames: rotations (4, J, B, T), root (3, B, T), known (J, B, T), and what is known around each entry.

    gap (B,): frames of the gap, which begins at PAST.  Entries that are not known are not looked at.  The
    root faces +X at frame PAST - 1, near X = Z = 0.
    """

    turns: Tensor
    root: Tensor
    known: Tensor
    around: Neighbours
    gap: Tensor


class Network(nn.Module):
    """The body's J joints in, corrections of the prior out.

    `spread` (2, LONGEST + 2, LONGEST + 2, 2): the prior's mean error for rotations and root, in units of `activity`, by the
    frames since the last known one and until the next, where one frame is known after the gap and where more are; `share`
    (J + 1): each joint's part of it, root's position last.  They keep outputs of order one at every gap whether a joint rests
    or flies, and make the correction vanish where a value is known.
    """

    spread: Tensor
    share: Tensor

    def __init__(self, body: Body, size: Size) -> None:
        super().__init__()
        self.body, self.size = body, size
        joints = len(body.names)
        self.register_buffer("spread", torch.zeros(2, LONGEST + 2, LONGEST + 2, 2))
        self.register_buffer("share", torch.ones(joints + 1))
        self.inputs = nn.Linear(size.patch * (19 * joints + 9), size.width)
        self.time = nn.Sequential(nn.Linear(28 + joints, size.width), nn.SiLU(), nn.Linear(size.width, size.width))
        self.blocks = nn.ModuleList(Block(size.width, size.heads) for _ in range(size.layers))
        self.norm, self.head = nn.LayerNorm(size.width), nn.Linear(size.width, size.patch * (3 * joints + 3))
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.short = Short(body, size.short) if size.short else None
        for block in self.blocks:
            for layer in (block.out, block.down):
                nn.init.normal_(layer.weight, std=0.02 / size.layers**0.5)

    def forward(self, batches: Sequence[Windows]) -> list[tuple[Tensor, Tensor]]:
        """Rotations (4, J, B, T) and root positions (3, B, T) of each batch, with missing entries filled.

        The windows of all batches are those of short gaps, or of none.
        """
        priors = [self._prior(batch) for batch in batches]
        moving = [speeds(*prior) for prior in priors]
        active = [
            activity(*prior, batch.gap, steps) * self.share[:, None]
            for prior, batch, steps in zip(priors, batches, moving, strict=True)
        ]
        steps = [steps / a[..., None] for steps, a in zip(moving, active, strict=True)]
        if self.short is not None and batches[0].known.shape[-1] == LENGTH:
            corrections = [
                self.short(prior, batch.known, step, a, batch.gap)
                for batch, prior, step, a in zip(batches, priors, steps, active, strict=True)
            ]
        else:
            tokens = [
                self._features(*prior, batch.known, step) for batch, prior, step in zip(batches, priors, steps, strict=True)
            ]
            corrections = self._correction(tokens, active, [batch.gap for batch in batches])
        return [self._add(*each) for each in zip(batches, priors, active, corrections, strict=True)]

    def matrices(self) -> list[Tensor]:
        """The weights inside of the transformer's blocks."""
        return [layer.weight for block in self.blocks for layer in (block.qkv, block.out, block.up, block.down)]

    def _prior(self, windows: Windows) -> tuple[Tensor, Tensor]:
        return fill_rotations(windows.turns, windows.around), fill_vectors(windows.root, windows.around.of(0))

    def _add(self, windows: Windows, prior: tuple[Tensor, Tensor], active: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
        around, frames = windows.around, torch.arange(windows.known.shape[-1])
        since, until = (frames - around.start).clamp(0, LONGEST + 1), (around.end - frames).clamp(0, LONGEST + 1)
        spread = self.spread[(around.after > around.end).long(), since, until] * (around.start < around.end)[..., None]
        half = 0.5 * steps[:-1].movedim(1, 0) * spread[..., 0] * active[:-1, :, None]
        turned = rotations.multiply(prior[0], rotations.normalise(torch.cat([torch.ones_like(half[:1]), half])))
        moved = prior[1] + steps[-1] * spread[0, ..., 1] * active[-1, :, None]
        return torch.where(windows.known, windows.turns, turned), torch.where(windows.known[0], windows.root, moved)

    def _features(self, turns: Tensor, root: Tensor, known: Tensor, steps: Tensor) -> Tensor:
        """What a token sees of its frames (B, N, features), of order one.

        steps: `speeds` in units of `activity`, in which the correction is nearly linear in them and in their changes; these are
        taken here, as numbers in half precision are too coarse to take small differences of.
        """
        positions, _ = forward_kinematics(self.body, turns, root)
        ground = root.new_tensor([1.0, 0.0, 1.0]).view(3, 1, 1, 1)
        parts = (
            rotations.axes(turns),
            2 * (positions - root[:, None] * ground),
            30 * _padded(torch.diff(positions, dim=-1)),
            known[None].to(root.dtype),
            limited(_padded(steps)),
            limited(4 * _padded(_padded(steps.diff(dim=-1)))),
        )
        features = torch.cat([*(part.flatten(0, 1) for part in parts), root])
        return features.unflatten(-1, (-1, self.size.patch)).permute(1, 2, 3, 0).flatten(2)

    def _correction(self, batches: list[Tensor], active: list[Tensor], gaps: list[Tensor]) -> list[Tensor]:
        """(J + 1, 3, B, T) of the tokens (B, N, features) of each batch."""
        shapes = [(len(batch), batch.shape[1]) for batch in batches]
        clocks = [
            torch.cat([self._clock(tokens, gap), (a.T.log() + 3)[:, None].expand(-1, tokens, -1)], -1)
            for (_, tokens), gap, a in zip(shapes, gaps, active, strict=True)
        ]
        x = torch.cat([(self.inputs(f) + self.time(c)).flatten(0, 1) for f, c in zip(batches, clocks, strict=True)])
        for block in self.blocks:
            x = block(x, shapes)
        x = self.head(self.norm(x)).float().unflatten(-1, (self.size.patch, -1, 3))  # tokens, patch, J + 1, 3
        parts = x.split([windows * tokens for windows, tokens in shapes])
        return [part.unflatten(0, shape).permute(3, 4, 0, 1, 2).flatten(3) for part, shape in zip(parts, shapes, strict=True)]

    def _clock(self, tokens: int, gap: Tensor) -> Tensor:
        """When each token is (B, N, 27): frames since the last key before the gap, until its target, and the gap."""
        first = torch.arange(tokens) * self.size.patch - PAST + 1.0
        times = torch.stack([first.expand(len(gap), -1), gap[:, None] - first])
        waves = times[..., None] * (2 * math.pi / torch.tensor([4.0, 8, 16, 32, 64, 128]))
        plain = torch.cat([times / 16, (gap / 16)[None, :, None].expand(1, *times.shape[1:])]).permute(1, 2, 0)
        return torch.cat([plain, *waves.sin(), *waves.cos()], -1)


def _padded(steps: Tensor) -> Tensor:
    return torch.cat([steps[..., :1], steps], -1)


def save(network: Network, path: pathlib.Path) -> None:
    """Weights in half precision, with the body and the sizes as metadata."""
    body, size = json.dumps(vars(network.body)), json.dumps(vars(network.size))
    save_file({k: v.half().contiguous() for k, v in network.state_dict().items()}, path, {"body": body, "size": size})


def load(path: pathlib.Path) -> Network:
    """The network of a file by `save`.  Raises NeedsWeights when there is none, BrokenFile when it is not such a file."""
    if not path.is_file():
        raise NeedsWeights(f"The weights of the trained in-betweener are missing: {path}.", "Choose the spline, or add them.")
    try:
        with safe_open(path, "pt") as file:
            body, size = (json.loads(file.metadata()[k]) for k in ("body", "size"))
            values = {k: file.get_tensor(k).float() for k in file.keys()}  # noqa: SIM118
        body["offsets"] = map(tuple, body["offsets"])
        network = Network(Body(**{k: tuple(v) for k, v in body.items()}), Size(**size))
        network.load_state_dict(values)
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise BrokenFile(f"{path.name} does not hold the weights of an in-between network ({error}).") from error
    return network.eval()
