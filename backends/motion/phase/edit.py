# SPDX-License-Identifier: GPL-3.0-or-later
"""Larger, faster, later, or like another clip: edits of one body part's oscillation, on rotations.

The paper multiplies a part's amplitude or frequency and lets its network draw the pose anew.  Here the network only says
where in its cycle the part is: the rotations themselves are split into a mean over two cycles and an oscillation about it,
and the oscillation is scaled, or read elsewhere in the cycle, two neighbouring cycles blended (overlap-add).  So detail
stays, an edit of nothing changes nothing, and parts that are not named come back bit for bit; but no part follows another,
and legs that swing otherwise than they did will slide on the ground.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ...common import rotations as quaternions
from ...common.errors import VivantError
from ..clip import Clip
from .parts import Parts
from .periodic import Latent, wrap

Array = NDArray[np.floating]
Curves = TypeVar("Curves", NDArray[np.floating], NDArray[np.complexfloating])
SLOWEST = 0.25  # hertz; a part that stands still keeps a clock
MOST = 3  # cycles of a channel in one swing


@dataclass(frozen=True)
class Edit:
    """What to do to a part: times its amplitude, times its tempo, and cycles (1 = a whole one) by which it is ahead."""

    amplitude: float = 1.0
    tempo: float = 1.0
    shift: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.amplitude < np.inf and 0 < self.tempo < np.inf and np.isfinite(self.shift)):
            raise VivantError("An amplitude is 0 or more, a tempo more than 0, a shift any finite number of cycles.")


def apply(clip: Clip, parts: Parts, latents: Mapping[str, Latent], edits: Mapping[str, Edit], origin: int = 0) -> Clip:
    """The clip with some parts edited; `latents` are theirs at every frame of it.

    Another tempo leaves the frame `origin` where it is in its cycle.
    The root's path and all translations stay.  Raises VivantError for a part that the skeleton or the latents lack.
    """
    rotations = clip.rotations.copy()
    for part, edit in edits.items():
        joints = _joints(part, parts, latents, clip)
        if edit == Edit():
            continue
        leader, channel = _leader(clip.fps, list(latents), [(latents, rotations[:, joints])])
        cycles = _once_a_swing(clock(latents[leader], channel, clip.fps), rotations[:, joints])
        cycles = np.maximum.accumulate(_locked(cycles, _harmonics(cycles, rotations[:, joints])))
        mean, swing = oscillation(rotations[:, joints], cycles)
        wanted = cycles[origin] + edit.tempo * (cycles - cycles[origin]) + edit.shift
        swing = edit.amplitude * _read(swing, cycles, wanted, np.arange(float(len(clip))))
        rotations[:, joints] = quaternions.multiply(mean, quaternions.exp(swing))
    return clip.replace(rotations=rotations)


def swap(
    clip: Clip, other: Clip, parts: Parts, latents: Mapping[str, Latent], others: Mapping[str, Latent], chosen: Sequence[str]
) -> Clip:
    """The clip with the chosen parts moving as in another clip of the same skeleton, in step with the clip's legs.

    They keep the beat they have there: where the clip's legs are in a stride, the chosen parts are where the other clip has
    them at that point of its stride.  Legs that are chosen, and bodies without legs, keep step with what they did before.
    latents, others: of both clips, by the same models.  Raises VivantError when the skeletons or frame rates differ.
    """
    if list(clip.names) != list(other.names) or abs(clip.fps - other.fps) > 1e-3:
        raise VivantError("Style is taken from a clip of the same skeleton and frame rate.", "Retarget and resample it first.")
    rotations = clip.rotations.copy()
    near = np.arange(len(clip)) * min(1.0, (len(other) - 1) / max(len(clip) - 1, 1))
    legs = [part for part in parts if " leg" in part and part in latents and part in others and part not in chosen]
    for part in chosen:
        joints = _joints(part, parts, latents, clip)
        _joints(part, parts, others, other)
        wanted, cycles = _in_step((clip, latents), (other, others), parts, legs or [part])
        mean, swing = oscillation(other.rotations[:, joints], cycles)
        swing = _read(swing, cycles, wanted, near)
        rotations[:, joints] = quaternions.multiply(mean[np.rint(near).astype(int)], quaternions.exp(swing))
    return clip.replace(rotations=rotations)


def _in_step(
    a: tuple[Clip, Mapping[str, Latent]], b: tuple[Clip, Mapping[str, Latent]], parts: Parts, leading: Sequence[str]
) -> tuple[Array, Array]:
    """Clocks (F,) and (F',) of two clips that show the same where the leading parts are alike.

    They go by one channel of one of these parts.  What still differs is the angle between the first harmonics, over two
    cycles, of how all of the leading parts turn; those of the first clip as a whole are the measure of both.
    """
    joints = [joint for part in leading for joint in parts[part]]
    turning = [clip.rotations[:, joints] for clip, _ in (a, b)]
    part, channel = _leader(a[0].fps, leading, [(latents, q) for (_, latents), q in zip((a, b), turning, strict=True)])
    clocks = [clock(latents[part], channel, clip.fps) for clip, latents in (a, b)]
    first, second = (_harmonics(cycles, q) for cycles, q in zip(clocks, turning, strict=True))
    return _locked(clocks[0], first), np.maximum.accumulate(_locked(clocks[1], second, first.mean(axis=0)))


def _once_a_swing(cycles: Array, rotations: Array) -> Array:
    """A clock (F,) that counts whole swings, where a channel beats several times in one, as slow steps and odd gaits have it.

    A swing is the fewest cycles after which joints turn as before, to a correlation of a half, else those that do best.
    """
    swing = oscillation(rotations, cycles)[1].reshape(len(cycles), -1)
    unlike = []
    for count in range(1, min(MOST, int(cycles[-1] - cycles[0]) - 1) + 1):
        now = np.flatnonzero(cycles + count <= cycles[-1])
        later = swing[np.rint(np.interp(cycles[now] + count, cycles, np.arange(len(cycles)))).astype(int)]
        unlike.append(float(np.sum((later - swing[now]) ** 2) / (np.sum(later**2) + np.sum(swing[now] ** 2) + 1e-12)))
        if unlike[-1] < 0.5:
            return cycles / count
    return cycles / (np.argmin(unlike) + 1) if unlike else cycles


def _harmonics(cycles: Array, rotations: Array) -> NDArray[np.complexfloating]:
    """First harmonics (F, C) of how joints turn on a clock, each over two cycles of it."""
    turns = oscillation(rotations, cycles)[1].reshape(len(cycles), -1)
    turned = turns.astype(np.complex128) * np.exp(-2j * np.pi * cycles)[:, None]
    return _over_two_cycles(turned, cycles)


def _locked(cycles: Array, harmonics: NDArray[np.complexfloating], measure: NDArray[np.complexfloating] | None = None) -> Array:
    """A clock set by the angle between first harmonics and those of a measure (C,), their own mean when None."""
    measure = harmonics.mean(axis=0) if measure is None else measure
    return cycles + np.unwrap(np.angle(harmonics @ np.conj(measure))) / (2 * np.pi)


def _leader(fps: float, leading: Sequence[str], motions: Sequence[tuple[Mapping[str, Latent], Array]]) -> tuple[str, int]:
    """The part, of some, and the channel of it whose phase tells most of how joints turn; latents and turns of each clip."""
    found = []
    for part in leading:
        shares = _shares(fps, *((latents[part], q) for latents, q in motions))
        found.append((float(shares.max()), part, int(np.argmax(shares))))
    _, part, channel = max(found)
    return part, channel


def fundamental(fps: float, *motions: tuple[Latent, Array]) -> int:
    """The channel whose phase tells most of how a part turns: latents and local rotations (F, J, 4) of it in each clip."""
    return int(np.argmax(_shares(fps, *motions)))


def _shares(fps: float, *motions: tuple[Latent, Array]) -> Array:
    """How much of the turning, about a mean of two seconds, is in step with exp(2πi·phase) of each channel (M,).

    The least of the clips counts.  (Amplitudes do not tell: the decoder may scale each channel as it likes.)
    """
    shares = []
    for latent, rotations in motions:
        turns = oscillation(rotations, np.arange(len(rotations)) / fps)[1].reshape(len(rotations), -1)
        step = np.exp(-2j * np.pi * latent.phase)
        shares.append((np.abs(step.T @ turns) ** 2).sum(axis=1) / (len(turns) * (turns**2).sum() + 1e-12))
    return np.min(shares, axis=0)


def clock(latent: Latent, channel: int, fps: float) -> Array:
    """Cycles (F,) that a channel has gone through: its phase, unwrapped and steadied, never slower than `SLOWEST`."""
    phase = latent.phase[:, channel]
    return _steady(phase[0] + np.concatenate([[0.0], np.cumsum(wrap(np.diff(phase)))]), fps)


def _steady(cycles: Array, fps: float) -> Array:
    """Cycles (F,) averaged over a second by Hann's window, at the ends over what is left of it on both sides; rising."""
    half = max(int(fps / 2), 1)
    mean = np.empty_like(cycles)
    for frame in range(len(cycles)):
        reach = min(half, frame, len(cycles) - 1 - frame)
        weight = np.hanning(2 * reach + 3)[1:-1]
        mean[frame] = weight @ cycles[frame - reach : frame + reach + 1] / weight.sum()
    steps = np.maximum(np.diff(mean), SLOWEST / fps)
    return mean[0] + np.concatenate([[0.0], np.cumsum(steps)])


def oscillation(rotations: Array, cycles: Array) -> tuple[Array, Array]:
    """Means (F, J, 4) of rotations over two cycles, and the rotation vectors (F, J, 3) from the mean to each."""
    q = quaternions.continuous(rotations.astype(np.float64))
    mean = quaternions.normalise(_over_two_cycles(q, cycles))
    return mean, quaternions.difference(mean, q)


def _over_two_cycles(curves: Curves, cycles: Array) -> Curves:
    """Sums of curves (F, …) about each frame; the window is Hann's on the clock, which lets no whole harmonic of it through."""
    sums = np.empty_like(curves)
    first, last = np.searchsorted(cycles, cycles - 1, "left"), np.searchsorted(cycles, cycles + 1, "right")
    step = np.gradient(cycles)
    for frame, (a, b) in enumerate(zip(first, last, strict=True)):
        weight = (1 + np.cos(np.pi * (cycles[a:b] - cycles[frame]))) * step[a:b]
        sums[frame] = np.tensordot(weight, curves[a:b], axes=1)
    return sums


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
