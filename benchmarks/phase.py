# SPDX-License-Identifier: GPL-3.0-or-later
"""Phase against SLERP, the spline and retrieval on walks and runs it has not seen, and what style and sliders do to a walk.

    python dev.py bench phase [--data FOLDER] [--weights FILE] [--split heldout_take] [--cap N] [--library all|none] [--edits]

Windows of ten frames before the gap and one, then ten, after it; retrieval searches the clips that the model learned from.
Sliders and the swap of arms are measured on whole walks by what the hands and feet do, apart from any phase; --edits does
that alone.
"""

from __future__ import annotations

import argparse
import pathlib
from collections.abc import Sequence

import _mocap
import numpy as np
from _mocap import Array

from vivant.backends.common import rotations as quaternions
from vivant.backends.common import weights as weight_files
from vivant.backends.motion import retrieval
from vivant.backends.motion.clip import Clip
from vivant.backends.motion.phase import edit, evaluate, model, solver
from vivant.backends.motion.phase.edit import Edit

ROOT = pathlib.Path(__file__).resolve().parents[1]
GAPS = (15, 30, 45, 60, 90)
STYLES = ("walk", "run", "locomotion", "walk_styled")
ENDS = {
    "left arm": ("lHand", "chest"),
    "right arm": ("rHand", "chest"),
    "left leg": ("lFoot", "hip"),
    "right leg": ("rFoot", "hip"),
}
AMPLITUDES, TEMPOS = (0.5, 0.8, 1.0, 1.3, 1.6, 2.0), (0.7, 0.85, 1.0, 1.1, 1.2, 1.35)
SLOWEST, SWINGS = 0.3, 0.6  # hertz, and share of the power within a fifth of the strongest frequency, of a limb that swings


def path(clip: Clip, part: str) -> Array:
    """The way of a hand or foot (F, 3) as seen from the chest or the hip."""
    positions, world = clip.forward()
    end, base = (list(clip.names).index(name) for name in ENDS[part])
    return quaternions.rotate(quaternions.conjugate(world[:, base]), positions[:, end] - positions[:, base])


def spectrum(way: Array, fps: float, slowest: float = SLOWEST) -> tuple[Array, Array]:
    """Frequencies above the slowest, in hertz, and the power of a way there."""
    power = np.abs(np.fft.rfft((way - way.mean(axis=0)) * np.hanning(len(way))[:, None], 8192, axis=0)) ** 2
    hertz = np.fft.rfftfreq(8192, 1 / fps)
    return hertz[hertz > slowest], power.sum(axis=1)[hertz > slowest]


def dominant(way: Array, fps: float, slowest: float = SLOWEST) -> tuple[float, float]:
    """The strongest frequency, and the share of the power within a fifth of it."""
    hertz, power = spectrum(way, fps, slowest)
    best = float(hertz[np.argmax(power)])
    return best, float(power[np.abs(hertz / best - 1) < 0.2].sum() / power.sum())


def speed(clip: Clip, joints: Sequence[int]) -> float:
    turns = clip.rotations[:, list(joints)]
    return float(np.linalg.norm(quaternions.difference(turns[:-1], turns[1:]), axis=-1).mean())


def lag(clip: Clip, arm: str) -> float:
    """Cycles by which an arm follows the opposite leg, at that leg's strongest frequency."""
    leg = "right leg" if arm == "left arm" else "left leg"
    ways = [path(clip, part)[:, 2] for part in (arm, leg)]
    hertz, _ = dominant(path(clip, leg), clip.fps)
    wave = np.exp(-2j * np.pi * hertz * np.arange(len(clip)) / clip.fps) * np.hanning(len(clip))
    a, b = ((way - way.mean()) @ wave for way in ways)
    return float(np.angle(a * np.conj(b)) / (2 * np.pi))


def sliders(phases: model.PhaseModel, clips: Sequence[Clip]) -> None:
    """Print how often the sliders act one way, step by step, and how far, on limbs of whole walks.

    By the amplitude a limb turns faster (mean speed), by the tempo its strongest frequency rises; the tempo is asked of limbs
    that have most of their power there.
    """
    gains, tempos = [], []
    for clip in clips:
        parts, latents = phases.parts_of(clip), phases.latents(clip)
        for part in ENDS:
            edited = (edit.apply(clip, parts, latents, {part: Edit(amplitude=k)}) for k in AMPLITUDES)
            gains.append([speed(one, parts[part]) for one in edited])
            hertz, share = dominant(path(clip, part), clip.fps)
            if share > SWINGS:
                slowest = min(SLOWEST, 0.9 * TEMPOS[0] * hertz)  # what is slower is drift
                edited = (edit.apply(clip, parts, latents, {part: Edit(tempo=k)}) for k in TEMPOS)
                tempos.append([dominant(path(one, part), clip.fps, slowest)[0] for one in edited])
    for name, values, measured in (("amplitude", AMPLITUDES, gains), ("tempo", TEMPOS, tempos)):
        found = np.array(measured) / np.array(measured)[:, [values.index(1.0)]]
        one_way = np.all(np.diff(found, axis=1) > 0, axis=1)
        middle = "  ".join(f"{value:g}: {ratio:.2f}" for value, ratio in zip(values, np.median(found, axis=0), strict=True))
        print(f"{name:10} acts one way on {np.sum(one_way)} of {len(found)} limbs; median of what comes out: {middle}")
        off = np.abs(found - values).max(axis=1)
        print(f"           off by up to {np.median(off):.2f} (median of limbs; 9 of 10: {np.quantile(off, 0.9):.2f})")


def swaps(phases: model.PhaseModel, clips: Sequence[Clip]) -> None:
    """Print what taking the arms of another walk does to legs and to the arms' beat."""
    latents = [phases.latents(clip) for clip in clips]
    legs, before, after = 0.0, [], []
    for i, clip in enumerate(clips):
        parts = phases.parts_of(clip)
        rest = [joint for part in ("left leg", "right leg") for joint in parts[part]]
        for j, other in enumerate(clips):
            swinging = [arm for arm in ("left arm", "right arm") if dominant(path(other, arm), other.fps)[1] > SWINGS]
            if i == j or not swinging:
                continue
            dressed = edit.swap(clip, other, parts, latents[i], latents[j], ("left arm", "right arm"))
            turned = quaternions.difference(dressed.rotations[:, rest], clip.rotations[:, rest])
            legs = max(legs, float(np.degrees(np.linalg.norm(turned, axis=-1)).max()))
            for arm in swinging:
                style = lag(other, arm)
                before.append(abs((lag(clip, arm) - style + 0.5) % 1 - 0.5))
                after.append(abs((lag(dressed, arm) - style + 0.5) % 1 - 0.5))
    within = (
        f"{np.median(after):.3f} of a cycle (median, before {np.median(before):.3f}; 9 of 10: {np.quantile(after, 0.9):.3f})"
    )
    print(f"swap       {len(after)} arms of other walks: legs turn by up to {legs:.6f}°")
    print(f"           the lag of arms behind legs is the style's within {within}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, default=ROOT.parent / "shared" / "data", help="folder with mocap/")
    parser.add_argument("--weights", type=pathlib.Path, help="of a phase model, instead of the one that comes along")
    parser.add_argument("--split", default="heldout_take")
    parser.add_argument("--cap", type=int, help="at most so many windows a gap")
    parser.add_argument("--library", choices=("all", "none"), default="none", help="what retrieval searches")
    parser.add_argument("--edits", action="store_true", help="measure sliders and swaps alone")
    options = parser.parse_args()
    folder = options.data if (options.data / "clips.py").is_file() else options.data / "mocap"
    if not (folder / "clips.py").is_file():
        raise SystemExit(f"{folder} holds no motion clips; name the data folder with --data.")
    phases = model.load(options.weights or weight_files.find(solver.WEIGHTS))
    takes = _mocap.read(folder, lambda clip: clip.skeleton == "cmu_daz" and clip.style in STYLES)
    clips = [model.reduced(take, phases.names) for take in takes if take.split == options.split]
    others: dict[str, evaluate.Method] = {}
    if options.library == "all" and not options.edits:
        library = tuple(model.reduced(take, phases.names) for take in takes if take.split == "train")
        others["retrieval"] = lambda clip, keys: retrieval.retrieve(clip, keys, library, 0)[0]
    for after in () if options.edits else (1, 10):
        print(f"\n{options.split}, ten frames before, {after} after")
        print(*evaluate.lines(evaluate.table(phases, clips, GAPS, after, cap=options.cap, others=others)), sep="\n", flush=True)
    long = [clip for clip in clips if len(clip) >= 150 and dominant(path(clip, "right leg"), clip.fps)[1] > SWINGS]
    print(f"\n{options.split}, {len(long)} whole walks and runs")
    sliders(phases, long)
    swaps(phases, long[:8])


if __name__ == "__main__":
    main()
