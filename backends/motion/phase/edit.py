# SPDX-License-Identifier: GPL-3.0-or-later
"""Larger, faster, later, or like another clip: edits of one body part's oscillation, on rotations.

The paper multiplies a part's amplitude or frequency and lets its network draw the pose anew.  Here the network only says
where in its cycle the part is: the rotations themselves are split into a mean over two cycles and an oscillation about it,
and the oscillation is scaled, or read elsewhere in the cycle, two neighbouring cycles blended (overlap-add).  So detail
stays, an edit of nothing changes nothing, and parts that are not named come back bit for bit; but no part follows another,
and legs that swing otherwise than they did will slide on the ground.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...common import rotations as quaternions
from ...common.errors import VivantError
from ..clip import Clip
from .parts import Parts
from .periodic import Latent, wrap

Array = NDArray[np.floating]
SLOWEST = 0.25  # hertz; a part that stands still keeps a clock


@dataclass(frozen=True)
class Edit:
    """What to do to a part: times its amplitude, times its tempo, and cycles (1 = a whole one) by which it is ahead."""

    amplitude: float = 1.0
    tempo: float = 1.0
    shift: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.amplitude < np.inf and 0 < self.tempo < np.inf and np.isfinite(self.shift)):
            raise VivantError("An amplitude is 0 or more, a tempo more than 0, a shift any finite number of cycles.")


def apply(clip: Clip, parts: Parts, latents: Mapping[str, Latent], edits: Mapping[str, Edit]) -> Clip:
    """The clip with some parts edited; `latents` are theirs at every frame of it.

    The root's path and all translations stay.  Raises VivantError for a part that the skeleton or the latents lack.
    """
    rotations = clip.rotations.copy()
    for part, edit in edits.items():
        joints = _joints(part, parts, latents, clip)
        if edit == Edit():
            continue
        cycles = clock(latents[part], fundamental(latents[part]), clip.fps)
        mean, swing = oscillation(rotations[:, joints], cycles)
        wanted = cycles[0] + edit.tempo * (cycles - cycles[0]) + edit.shift
        swing = edit.amplitude * _read(swing, cycles, wanted, np.arange(float(len(clip))))
        rotations[:, joints] = quaternions.multiply(mean, quaternions.exp(swing))
    return clip.replace(rotations=rotations)


def swap(
    clip: Clip, other: Clip, parts: Parts, latents: Mapping[str, Latent], others: Mapping[str, Latent], chosen: tuple[str, ...]
) -> Clip:
    """The clip with the chosen parts moving as in another clip of the same skeleton, in step with their own phase.

    latents, others: of both clips, by the same models.  Raises VivantError when the skeletons or frame rates differ.
    """
    if list(clip.names) != list(other.names) or abs(clip.fps - other.fps) > 1e-3:
        raise VivantError("Style is taken from a clip of the same skeleton and frame rate.", "Retarget and resample it first.")
    rotations = clip.rotations.copy()
    near = np.arange(len(clip)) * min(1.0, (len(other) - 1) / max(len(clip) - 1, 1))
    for part in chosen:
        joints = _joints(part, parts, latents, clip)
        _joints(part, parts, others, other)
        channel = fundamental(latents[part], others[part])
        wanted, cycles = clock(latents[part], channel, clip.fps), clock(others[part], channel, clip.fps)
        mean, swing = oscillation(other.rotations[:, joints], cycles)
        swing = _read(swing, cycles, wanted, near)
        rotations[:, joints] = quaternions.multiply(mean[np.rint(near).astype(int)], quaternions.exp(swing))
    return clip.replace(rotations=rotations)


def fundamental(*latents: Latent) -> int:
    """The channel that shows a part's whole cycle: of those at least half as strong as the strongest, and not a third
    faster than the slowest of them, the strongest."""
    strength = np.min([latent.amplitude.mean(axis=0) for latent in latents], axis=0)
    pace = np.mean([np.abs(wrap(np.diff(latent.phase, axis=0))).mean(axis=0) for latent in latents], axis=0)  # cycles a frame
    strong = strength >= strength.max() / 2
    return int(np.argmax(np.where(strong & (pace <= 4 / 3 * pace[strong].min()), strength, -1)))


def clock(latent: Latent, channel: int, fps: float) -> Array:
    """Cycles (F,) that a channel has gone through: its phase, unwrapped, and never slower than `SLOWEST`."""
    phase = latent.phase[:, channel]
    steps = np.maximum(wrap(np.diff(phase)), SLOWEST / fps)
    return phase[0] + np.concatenate([[0.0], np.cumsum(steps)])


def oscillation(rotations: Array, cycles: Array) -> tuple[Array, Array]:
    """Means (F, J, 4) of rotations over two cycles, and the rotation vectors (F, J, 3) from the mean to each.

    The window is Hann's on the clock, which lets no whole harmonic of it into the mean.
    """
    q = quaternions.continuous(rotations.astype(np.float64))
    mean = np.empty_like(q)
    first, last = np.searchsorted(cycles, cycles - 1, "left"), np.searchsorted(cycles, cycles + 1, "right")
    step = np.gradient(cycles)
    for frame, (a, b) in enumerate(zip(first, last, strict=True)):
        weight = (1 + np.cos(np.pi * (cycles[a:b] - cycles[frame]))) * step[a:b]
        mean[frame] = np.tensordot(weight, q[a:b], axes=1)
    mean = quaternions.normalise(mean)
    return mean, quaternions.difference(mean, q)


def _joints(part: str, parts: Parts, latents: Mapping[str, Latent], clip: Clip) -> list[int]:
    if part not in parts or part not in latents:
        known = sorted(parts.keys() & latents.keys())
        raise VivantError(f"There is no phase of a part “{part}”.", f"The parts are {', '.join(known) or 'none'}.")
    if len(latents[part].phase) != len(clip):
        raise VivantError(
            f"The phase of the {part} has {len(latents[part].phase)} frames, the clip {len(clip)}.", "Take it anew."
        )
    return list(parts[part])


def _read(curves: Array, cycles: Array, wanted: Array, near: Array) -> Array:
    """Curves (F', …) where the clock of theirs (F,) shows the wanted phase (F',), in the cycles before and after `near` (F',).

    The two weigh by how near they are, so the reading moves on to the next cycle without a jump.
    """
    frames = np.arange(len(cycles))
    here = np.interp(near, frames, cycles)
    ahead = (wanted - here) % 1

    def at(phase: Array) -> Array:
        frame = np.interp(phase, cycles, frames)
        below = np.minimum(frame.astype(int), max(len(cycles) - 2, 0))
        share = (frame - below).reshape(-1, *[1] * (curves.ndim - 1))
        return curves[below] * (1 - share) + curves[np.minimum(below + 1, len(cycles) - 1)] * share

    weight = ahead.reshape(-1, *[1] * (curves.ndim - 1))
    return (1 - weight) * at(here + ahead) + weight * at(here + ahead - 1)
