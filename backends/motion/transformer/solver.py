# SPDX-License-Identifier: GPL-3.0-or-later
"""The trained in-betweener on clips: the spline everywhere, corrected by the network wherever it knows the skeleton."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .. import solve
from ..clip import Clip
from ..spline import neighbours as known_around
from . import body as bodies
from . import rotations
from .body import PAST, Body
from .network import LENGTHS, LONGEST, Network, Windows
from .prior import neighbours

Array = NDArray[np.floating]
Mask = NDArray[np.bool_]
Index = NDArray[np.intp]

SLOWEST, FASTEST = 24.0, 37.5  # frames a second: the training varies the speed of 30 that far
AFTER = 10  # known frames beyond a gap that the network looks at


def inbetween(clip: Clip, keys: Mask, network: Network) -> tuple[Clip, solve.Report]:
    """Fill whatever is not keyed, as `solve.inbetween` does; keyed values come back bit for bit.

    A gap runs between two frames where every joint of the network's body is keyed, whatever is keyed inside.  Gaps longer than
    LONGEST, other skeletons and other frame rates get the spline, and the report says so.
    """
    filled, report = solve.inbetween(clip, keys, "spline")
    reason, joints, scale = _fit(clip, network.body)
    if reason:
        return filled, _explain(report, "spline", f"{reason}; the spline was used.")
    shape = clip.rotations.shape[:2]
    keys = np.broadcast_to(np.asarray(keys, bool).reshape(len(clip), -1), shape)[:, joints]
    last, following = known_around(keys)
    known = keys | (last < 0) | (following == len(clip))  # a joint is held outside of its keys
    starts, ends = _gaps(keys, known)
    short = ends - starts - 1 <= LONGEST
    if not short.any():
        why = f"Gaps are longer than {LONGEST} frames" if len(starts) else "There is no gap between two whole poses"
        return filled, _explain(report, "spline", f"{why}; the spline was used.")

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
        q, p = correct(network, filled.rotations[frames][:, :, joints], filled.root[frames] / scale, seen, gap)
        within = (np.arange(length) >= PAST) & (np.arange(length) < PAST + gap[:, None])
        missing = ~known[frames] & within[..., None]
        window, frame, joint = np.nonzero(missing)
        turns[frames[window, frame], joints[joint]] = q[missing]
        here = missing[..., 0]
        root[frames[here]] = p[here] * scale
    if not short.all():
        report = _explain(report, "model", f"{np.sum(~short)} gaps are longer than {LONGEST} frames; the spline filled those.")
    return filled.replace(rotations=turns, root=root), dataclasses.replace(report, solver="model")


@torch.no_grad()
def correct(network: Network, turns: Array, root: Array, known: Mask, gap: Index) -> tuple[Array, Array]:
    """Windows (B, T, J, 4) and (B, T, 3) with what is not known (B, T, J) filled; each gap (B,) begins at frame PAST.

    The mean of the network's answer and its answer to the mirrored question, each in the place and heading of the window.
    """
    q = torch.from_numpy(np.moveaxis(np.asarray(turns, np.float32), (3, 2), (0, 1)).copy())
    p = torch.from_numpy(np.moveaxis(np.asarray(root, np.float32), 2, 0).copy())
    mask, gaps = torch.from_numpy(np.moveaxis(known, 2, 0).copy()), torch.from_numpy(np.asarray(gap))
    answers = []
    for flipped in (False, True):
        a, b = bodies.mirror(network.body, q, p) if flipped else (q, p)
        seen = mask[list(network.body.mirror)] if flipped else mask
        a, b, turn, shift = bodies.align(rotations.normalise(a), b)
        a, b = network([Windows(a, b, seen, neighbours(seen), gaps)])[0]
        a, b = bodies.move(a, b, rotations.conjugate(turn))
        b = b + shift
        answers.append(bodies.mirror(network.body, a, b) if flipped else (a, b))
    (q, p), (other_q, other_p) = answers
    q = rotations.normalise(q + torch.where((q * other_q).sum(0, keepdim=True) < 0, -other_q, other_q))
    return _array(q, (2, 3, 1, 0)), _array((p + other_p) / 2, (1, 2, 0))


def _array(x: Tensor, order: tuple[int, ...]) -> Array:
    return x.permute(order).numpy()


def _gaps(keys: Mask, known: Mask) -> tuple[Index, Index]:
    """Last whole frame before and first whole frame after each run of frames where something is missing."""
    whole = known.all(axis=1)
    starts = np.nonzero(whole[:-1] & ~whole[1:])[0]
    ends = np.nonzero(~whole[:-1] & whole[1:])[0] + 1
    ends = ends[ends > starts[0]] if len(starts) else ends[:0]
    return starts[: len(ends)], ends


def _fit(clip: Clip, body: Body) -> tuple[str, Index, float]:
    """Why the clip is not of the network's body, or nothing; the clip's joints that are the body's; its size relative to it."""
    none = np.empty(0, np.intp)
    if not SLOWEST <= clip.fps <= FASTEST:
        return f"The trained model knows motion at 30 frames a second, not {clip.fps:g}", none, 1.0
    names = list(clip.names)
    absent = [name for name in body.names if name not in names]
    if absent:
        return f"The trained model does not know this skeleton (it has no {absent[0]})", none, 1.0
    joints = np.array([names.index(name) for name in body.names])
    offsets = np.zeros((len(joints), 3))
    for row, joint in enumerate(joints[1:], 1):
        offsets[row], above = clip.offsets[joint], clip.parents[joint]
        while above >= 0 and above not in joints:  # joints between that never turn only add their offset
            if np.any(np.abs(clip.rotations[:, above, 1:]) > 1e-3):
                return f"The trained model does not know this skeleton ({names[above]} turns)", none, 1.0
            offsets[row], above = offsets[row] + clip.offsets[above], clip.parents[above]
        if above != joints[body.parents[row]]:
            return f"The trained model does not know this skeleton ({names[joint]} hangs elsewhere)", none, 1.0
    ours = np.array(body.offsets)
    scale = float(np.sum(ours[1:] * offsets[1:]) / np.sum(ours[1:] ** 2))
    longest = np.linalg.norm(ours, axis=1).max()
    if scale <= 0 or np.abs(offsets[1:] - scale * ours[1:]).max() > 0.05 * scale * longest:
        return "The trained model does not know this skeleton (its proportions differ)", none, 1.0
    if set(clip.translations) & set(joints.tolist()):
        return "The trained model does not move joints away from their parents", none, 1.0
    return "", joints, scale


def _explain(report: solve.Report, solver: str, sentence: str) -> solve.Report:
    return dataclasses.replace(report, solver=solver, warnings=(*report.warnings, sentence))
