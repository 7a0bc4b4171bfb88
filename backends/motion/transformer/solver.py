# SPDX-License-Identifier: GPL-3.0-or-later
"""The trained in-betweener on clips: the spline everywhere, corrected by the network wherever it knows the skeleton."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import Module

from ...common.errors import VivantError
from .. import interpolate, solve
from ..clip import Clip
from ..spline import neighbours as known_around
from ..stand_in import FASTEST, SLOWEST, UnknownBody
from . import body as bodies
from . import rotations
from .body import PAST, Body
from .network import LENGTHS, LONGEST, Network, Windows
from .prior import neighbours

Array = NDArray[np.floating]
Mask = NDArray[np.bool_]
Index = NDArray[np.intp]

RATE = 30.0  # frames a second of the training
# Share of the spread of a block's output by which seeds shift it in gaps of WIDE frames, less in shorter ones.  On 120 held-out
# windows hands and feet moved up to 1, 4 and 8 cm in gaps of 15, 30 and 45 frames (median), at an L2P 1, 4 and 9 % higher.
VARIETY, WIDE = 0.16, 45
AFTER = 10  # known frames beyond a gap that the network looks at


def solver(network: Network) -> solve.Solver:
    """The network as one of `solve.SOLVERS`."""
    needs = "the weights, and a skeleton such as CMU's Daz conversion"
    does = "A network trained on human motion corrects the spline"
    return solve.Solver("model", does, needs, lambda clip, keys, library, seed: fill(network, clip, keys, seed))


def fill(network: Network, clip: Clip, keys: Mask, seed: int = 0) -> tuple[Clip, list[str]]:
    """The clip with its gaps filled, and sentences for the user; see `solve.Solver` and, for the seed, `correct`.

    A gap runs between two frames where every joint of the network's body is keyed, whatever is keyed inside; longer ones than
    LONGEST get the spline.  Raises UnknownBody for other skeletons and frame rates, VivantError where there is no gap to fill.
    """
    joints, scale = _fit(clip, network.body)
    filled = interpolate.cubic(clip, keys)
    keys = keys[:, joints]
    last, following = known_around(keys)
    known = keys | (last < 0) | (following == len(clip))  # a joint is held outside of its keys
    starts, ends = _gaps(known)
    short = ends - starts - 1 <= LONGEST
    if not short.any():
        few = "The gaps are longer than the trained model fills" if len(starts) else "There is no gap between two whole poses"
        raise VivantError(f"{few}.", f"Key whole poses at most {LONGEST + 1} frames apart.")

    turns, root = filled.rotations.copy(), filled.root.copy()
    for low, (high, length) in zip((0, *(high for high, _ in LENGTHS)), LENGTHS, strict=False):
        chosen = (ends - starts - 1 > low) & (ends - starts - 1 <= high)
        if not chosen.any():
            continue
        gap = ends[chosen] - starts[chosen] - 1
        frames = starts[chosen][:, None] - PAST + 1 + np.arange(length)
        inside = (frames >= 0) & (frames < len(clip)) & (frames < ends[chosen][:, None] + AFTER)
        frames = np.clip(frames, 0, len(clip) - 1)
        seen = known[frames] & inside[..., None]
        q, p = correct(network, filled.rotations[frames][:, :, joints], filled.root[frames] / scale, seen, gap, seed)
        within = (np.arange(length) >= PAST) & (np.arange(length) < PAST + gap[:, None])
        missing = ~known[frames] & within[..., None]
        window, frame, joint = np.nonzero(missing)
        turns[frames[window, frame], joints[joint]] = q[missing]
        here = missing[..., 0]
        root[frames[here]] = p[here] * scale
    said = [] if short.all() else [f"{np.sum(~short)} gaps are longer than {LONGEST} frames; the spline filled those."]
    return filled.replace(rotations=turns, root=root), said


@contextmanager
def varied(network: Network, seed: int, gap: Tensor) -> Iterator[None]:
    """The network a little different for every seed but 0: each block's output is shifted by a random vector.

    gap (B,): frames of the gaps of the windows that it is asked about.  Long ones leave room for more.
    """
    random = torch.Generator().manual_seed(seed)
    share = VARIETY * (gap / WIDE).clamp(max=1)

    def shift(block: Module, given: object, x: Tensor) -> Tensor:
        by = torch.randn(x.shape[-1], generator=random)
        return x + share.repeat_interleave(len(x) // len(gap))[:, None] * x.std(-1, keepdim=True) * by

    handles = [block.register_forward_hook(shift) for block in network.blocks] if seed else []
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def correct(network: Network, turns: Array, root: Array, known: Mask, gap: Index, seed: int = 0) -> tuple[Array, Array]:
    """Windows (B, T, J, 4) and (B, T, 3) with what is not known (B, T, J) filled; each gap (B,) begins at frame PAST.

    The mean of the network's answer and its answer to the mirrored question, each in the place and heading of the window.
    seed: 0 for the best answer, other numbers for others about as good, see `VARIETY`.
    """
    q = torch.from_numpy(np.moveaxis(np.asarray(turns, np.float32), (3, 2), (0, 1)).copy())
    p = torch.from_numpy(np.moveaxis(np.asarray(root, np.float32), 2, 0).copy())
    mask, gaps = torch.from_numpy(np.moveaxis(known, 2, 0).copy()), torch.from_numpy(np.asarray(gap))
    answers = []
    for flipped in (False, True):
        a, b = bodies.mirror(network.body, q, p) if flipped else (q, p)
        seen = mask[list(network.body.mirror)] if flipped else mask
        a, b, turn, shift = bodies.align(rotations.normalise(a), b)
        with varied(network, seed, gaps):
            a, b = network([Windows(a, b, seen, neighbours(seen), gaps)])[0]
        a, b = bodies.move(a, b, rotations.conjugate(turn))
        b = b + shift
        answers.append(bodies.mirror(network.body, a, b) if flipped else (a, b))
    (q, p), (other_q, other_p) = answers
    q = rotations.normalise(q + torch.where((q * other_q).sum(0, keepdim=True) < 0, -other_q, other_q))
    return _array(q, (2, 3, 1, 0)), _array((p + other_p) / 2, (1, 2, 0))


def _array(x: Tensor, order: tuple[int, ...]) -> Array:
    return x.permute(order).numpy()


def _gaps(known: Mask) -> tuple[Index, Index]:
    """Last whole frame before and first whole frame after each run of frames where something is missing."""
    whole = known.all(axis=1)
    starts = np.nonzero(whole[:-1] & ~whole[1:])[0]
    ends = np.nonzero(~whole[:-1] & whole[1:])[0] + 1
    ends = ends[ends > starts[0]] if len(starts) else ends[:0]
    return starts[: len(ends)], ends


def _fit(clip: Clip, body: Body) -> tuple[Index, float]:
    """The clip's joints that are the body's, and its size relative to it.  Raises UnknownBody when it is not such a body."""

    def refuse(why: str) -> UnknownBody:
        return UnknownBody(f"The trained model does not know this {why}.", "Use another solver.")

    if not SLOWEST * RATE <= clip.fps <= FASTEST * RATE:
        raise refuse(f"frame rate, {clip.fps:g}: it learnt motion at {RATE:g} frames a second")
    names = list(clip.names)
    absent = [name for name in body.names if name not in names]
    if absent:
        raise refuse(f"skeleton (it has no {absent[0]})")
    joints = np.array([names.index(name) for name in body.names])
    offsets = np.zeros((len(joints), 3))
    for row, joint in enumerate(joints[1:], 1):
        offsets[row], above = clip.offsets[joint], clip.parents[joint]
        while above >= 0 and above not in joints:  # joints between that never turn only add their offset
            if not np.all(np.abs(clip.rotations[:, above, 1:]) < 1e-3):
                raise refuse(f"skeleton ({names[above]} turns)")
            offsets[row], above = offsets[row] + clip.offsets[above], clip.parents[above]
        if above != joints[body.parents[row]]:
            raise refuse(f"skeleton ({names[joint]} hangs elsewhere)")
    ours = np.array(body.offsets)
    scale = float(np.sum(ours[1:] * offsets[1:]) / np.sum(ours[1:] ** 2))
    longest = np.linalg.norm(ours, axis=1).max()
    if scale <= 0 or np.abs(offsets[1:] - scale * ours[1:]).max() > 0.05 * scale * longest:
        raise refuse("skeleton (its proportions differ)")
    if set(clip.translations) & set(joints.tolist()):
        raise refuse("skeleton (its joints move away from their parents)")
    return joints, scale
