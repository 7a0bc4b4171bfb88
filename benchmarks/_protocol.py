# SPDX-License-Identifier: GPL-3.0-or-later
"""A solver on all windows of LaFAN1's protocol, and how far its in-betweens are from the truth."""

from __future__ import annotations

import collections
import itertools
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from _mocap import PAST, Array, Windows

from vivant.backends.common import rotations as quaternions
from vivant.backends.motion import metrics, solve
from vivant.backends.motion.clip import Clip
from vivant.backends.motion.contacts import find_legs

GAPS = (5, 15, 30, 45)
AFTER = 10  # frames known after the gap, target included, where any are
BASELINE = "slerp"
Case = tuple[int, int]  # missing frames, known frames after them


@dataclass(frozen=True)
class Filled:
    """The missing frames of N windows as a solver fills them: rotations (N, gap, J, 4) local, root, translations.

    key_error: the largest change of a known value; seconds: the median of one window's; ran: solver -> windows that it filled;
    refused: why another than the one asked for had to -> windows.
    """

    rotations: Array
    root: Array
    translations: Mapping[int, Array]
    key_error: float = 0.0
    seconds: float = float("nan")
    ran: Mapping[str, int] = field(default_factory=dict)
    refused: Mapping[str, int] = field(default_factory=dict)


def fill(
    windows: Windows,
    cases: Collection[Case],
    solver: str,
    libraries: Mapping[str, Sequence[Clip]] | None = None,
    **options: Any,
) -> dict[Case, Filled]:
    """All windows by one solver with its options, which may search the library of a window's performer.

    Without known frames after the gap it sees the past alone.
    """
    found: dict[Case, list[tuple[Clip, solve.Report, float]]] = {case: [] for case in cases}
    longest = max(PAST + gap + max(after, 1) for gap, after in cases)
    for clip, performer in zip(windows.clips(longest), windows.performers, strict=True):
        for gap, after in cases:
            frames = PAST + gap + max(after, 1)
            known = np.arange(frames) < PAST
            known[PAST + gap :] = after > 0
            seen = {joint: values[:frames] for joint, values in clip.translations.items()}
            shot = clip.replace(rotations=clip.rotations[:frames], root=clip.root[:frames], translations=seen)
            start = time.perf_counter()
            result, report = solve.inbetween(shot, known, solver, (libraries or {}).get(performer, ()), **options)
            found[gap, after].append((result, report, time.perf_counter() - start))
    return {(gap, after): _gathered(solver, results, slice(PAST, PAST + gap)) for (gap, after), results in found.items()}


def _gathered(solver: str, results: Sequence[tuple[Clip, solve.Report, float]], missing: slice) -> Filled:
    clips, reports, seconds = zip(*results, strict=True)
    return Filled(
        np.stack([clip.rotations[missing] for clip in clips]),
        np.stack([clip.root[missing] for clip in clips]),
        {joint: np.stack([clip.translations[joint][missing] for clip in clips]) for joint in clips[0].translations},
        max(report.key_error for report in reports),
        float(np.median(seconds)),
        collections.Counter(report.solver for report in reports),
        collections.Counter(report.fallback for report in reports if solver not in (solve.AUTO, report.solver)),
    )


def measure(windows: Windows, sigma: Array, gap: int, filled: Filled) -> dict[str, float]:
    """L2P, L2Q and NPSS of the missing frames; key error; foot skate, boundary jump and jerk; seconds a window.

    Skate: centimetres a frame, the floor under each window being the 5th percentile of its true feet; NaN without feet.
    Boundary jump: how much all joints' velocity changes at the two known frames around the gap, jerk: their third differences
    from there to there; both in units of the truth's.
    """
    missing = slice(PAST, PAST + gap)
    true_positions, true_rotations = windows.truth
    p, q = windows.forward(filled.rotations, filled.root, filled.translations)
    run = np.concatenate([true_rotations[:, PAST - 1 : PAST], q], axis=1)  # signs continue from the last past frame
    q = np.swapaxes(quaternions.continuous(np.swapaxes(run, 0, 1)), 0, 1)[:, 1:]
    positions = true_positions.copy()
    positions[:, missing] = p
    return {
        "L2P": metrics.l2p(p, true_positions[:, missing], sigma),
        "L2Q": metrics.l2q(q, true_rotations[:, missing]),
        "NPSS": metrics.npss(q, true_rotations[:, missing]),
        "foot skate": skate(windows, positions, gap),
        "boundary jump": _share(_jumps(positions, gap), _jumps(true_positions, gap)),
        "jerk": _share(_jerks(positions, gap), _jerks(true_positions, gap)),
        "key error": filled.key_error,
        "seconds": filled.seconds,
    }


def skate(windows: Windows, positions: Array, gap: int) -> float:
    """Mean over windows of how fast feet slide, in the gap and onto its ends; positions (N, T, J, 3)."""
    feet = [leg.contact for leg in find_legs(windows.skeleton)]
    if not feet:
        return float("nan")
    true = windows.truth[0][:, :, feet]
    around = positions[:, PAST - 1 : PAST + gap + 1, feet]
    with np.errstate(over="ignore"):  # feet of giants, far above the floor
        slides = [metrics.skating(some, metrics.floor_height(all_)) for some, all_ in zip(around, true, strict=True)]
    return float(np.mean(slides))


def _jumps(positions: Array, gap: int) -> Array:
    return np.diff(positions, 2, axis=1)[:, [PAST - 2, PAST + gap - 1]]


def _jerks(positions: Array, gap: int) -> Array:
    return np.diff(positions[:, PAST - 3 : PAST + gap + 3], 3, axis=1)


def _share(ours: Array, true: Array) -> float:
    sizes = [float(np.linalg.norm(values.astype(np.float64), axis=-1).mean()) for values in (ours, true)]
    return sizes[0] / sizes[1] if sizes[1] > 1e-12 else float("nan")


def cases(after: int, gaps: Sequence[int] = GAPS) -> list[Case]:
    """All gaps with this many known frames after."""
    return list(itertools.product(gaps, (after,)))
