# SPDX-License-Identifier: GPL-3.0-or-later
"""The velocity-matched cubic of `motion.spline` on batches of windows, without branches: what the network corrects.

Time is the last axis.  Known entries come back as they are; a missing one takes its nearest known value outside of the
known frames, and the cubic between two.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..spline import TRAVEL, TURNS, Damping
from . import rotations


@dataclass(frozen=True)
class Neighbours:
    """For every entry (…, T) the known frames around it, `before` ≤ `start` ≤ it ≤ `end` ≤ `after`.

    start == end where the entry is known or held; before == start and end == after where there is none beyond.
    """

    before: Tensor
    start: Tensor
    end: Tensor
    after: Tensor

    def of(self, row: int) -> Neighbours:
        """Those of one row of the first axis."""
        return Neighbours(self.before[row], self.start[row], self.end[row], self.after[row])


def neighbours(known: Tensor) -> Neighbours:
    """Known frames around each entry of a mask (…, T); each row has a known frame."""
    count = known.shape[-1]
    frames = torch.arange(count).expand(known.shape)
    last = torch.where(known, frames, -1).cummax(-1).values
    following = torch.where(known, frames, count).flip(-1).cummin(-1).values.flip(-1)
    start, end = torch.where(last < 0, following, last), torch.where(following == count, last, following)
    before = torch.where(start > 0, last.gather(-1, (start - 1).clamp(min=0)), -1)
    after = torch.where(end < count - 1, following.gather(-1, (end + 1).clamp(max=count - 1)), count)
    return Neighbours(torch.where(before < 0, start, before), start, end, torch.where(after == count, end, after))


def fill_vectors(x: Tensor, around: Neighbours) -> Tensor:
    """Vectors (D, …, T) with each component filled by the cubic on its own."""
    before, start, end, after = (_at(x, frame) for frame in (around.before, around.start, around.end, around.after))
    path = _Path(around)
    mean = (end - start) / path.length
    earlier, later = (start - before) / path.span_before.clamp(min=1), (after - end) / path.span_after.clamp(min=1)
    # each component is a channel of its own: a norm over one component
    bend = torch.cat(
        [path.bend(a[None], b[None], c[None], TRAVEL) for a, b, c in zip(earlier, mean, later, strict=True)],
    )
    return torch.where(path.inside, start + path.passed * mean + bend, start)


def fill_rotations(q: Tensor, around: Neighbours) -> Tensor:
    """Unit quaternions (4, …, T) filled by the cubic of rotations."""
    before, start, end, after = (_at(q, frame) for frame in (around.before, around.start, around.end, around.after))
    path = _Path(around)
    mean = rotations.log(rotations.multiply(rotations.conjugate(start), end)) / path.length
    earlier = rotations.log(rotations.multiply(rotations.conjugate(before), start)) / path.span_before.clamp(min=1)
    later = rotations.log(rotations.multiply(rotations.conjugate(end), after)) / path.span_after.clamp(min=1)
    bend = path.bend(earlier, mean, later, TURNS)
    turned = rotations.multiply(rotations.multiply(start, rotations.exp(path.passed * mean)), rotations.exp(bend))
    return torch.where(path.inside, turned, start)


def _at(x: Tensor, frame: Tensor) -> Tensor:
    return x.gather(-1, frame.expand(x.shape))


class _Path:
    """Where each entry lies in its gap, and the bend there; the formulas and their reasons are `spline._bend`'s."""

    def __init__(self, around: Neighbours) -> None:
        frames = torch.arange(around.start.shape[-1])
        self.inside = around.start < around.end
        self.length = (around.end - around.start).clamp(min=1).float()
        self.passed = (frames - around.start).float()
        self.span_before, self.span_after = (around.start - around.before).float(), (around.after - around.end).float()

    def bend(self, earlier: Tensor, mean: Tensor, later: Tensor, damping: Damping) -> Tensor:
        before, after, length = self.span_before, self.span_after, self.length
        leaving = torch.where(before > 0, _tangent(earlier, before, mean, length) - mean, 0)
        arriving = torch.where(after > 0, _tangent(later, after, mean, length) - mean, 0)
        through = torch.where((before == 1) & (after == 1), 1 / (length + 2), 0) * (leaving + arriving)

        def side(excess: Tensor, span: Tensor, opposite: Tensor, travelled: Tensor) -> Tensor:
            s = travelled / length
            left = torch.exp(-travelled / damping.decay * (1 - damping.free / length).clamp(min=0))
            shape = travelled * (1 - s) * (1 - s + torch.where(opposite > 0, 0, s / 2))
            return torch.where(span == 1, left, 1) * shape * excess

        return side(leaving - through, before, after, self.passed) - side(
            arriving - through, after, before, length - self.passed
        )


def _tangent(beyond: Tensor, span: Tensor, mean: Tensor, length: Tensor) -> Tensor:
    weight = length / (length + span)
    bessel = weight * beyond + (1 - weight) * mean
    sizes = beyond.square().sum(0).sqrt(), mean.square().sum(0).sqrt()
    cosine = (beyond * mean).sum(0) / (sizes[0] * sizes[1]).clamp(min=1e-30)
    limit = 3 * torch.minimum(*sizes) * (1 + cosine).clamp(0, 1)
    limited = bessel * (limit / bessel.square().sum(0).sqrt().clamp(min=1e-30)).clamp(max=1)
    return torch.where(span == 1, bessel, limited)
