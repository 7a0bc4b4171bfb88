# SPDX-License-Identifier: GPL-3.0-or-later
"""In-betweens against SLERP on held-out CMU takes, by LaFAN1's protocol, and the time they take.

    python dev.py bench inbetween [--data FOLDER] [--split heldout_take] [--library own|all|none] [--weights FILE] [--cap N]
                                          [--out FILE] [--tune]

Retrieval searches the performer's own training takes ("own"; windows of performers without any are left out) or all training
takes ("all"), never a held-out one, or is left out ("none").  `--weights` adds the trained model, in a Python that has torch.
`--cap` thins the windows evenly.  `--tune` repeats the grid search on the training
takes that chose the spline's damping.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence

import _mocap
import numpy as np
from _mocap import PAST, Array, Take, Windows

from vivant.backends.common import rotations as quaternions
from vivant.backends.motion import metrics, solve, spline
from vivant.backends.motion.clip import Clip
from vivant.backends.motion.spline import Damping

ROOT = pathlib.Path(__file__).resolve().parents[1]
GAPS = (5, 15, 30, 45)
AFTER = 10  # frames known after the gap, target included, where any are
Filler = Callable[[Array, Array], Array]
Libraries = Mapping[str, Sequence[Take]]  # performer -> takes that may be searched

BASELINE = "SLERP"
RETRIEVAL = {"retrieval": 1, "retrieval, frames after": AFTER}
MODEL = {"model": 1, "model, frames after": AFTER}
Rows = dict[tuple[str, int], tuple[Array, Array]]  # method and gap -> global positions and rotations of what was missing
METHODS: dict[str, tuple[Filler, Filler, int]] = {  # vectors, rotations, frames known after the gap
    "zero velocity": (spline.lerp_fill, spline.slerp_fill, 0),
    BASELINE: (spline.lerp_fill, spline.slerp_fill, 1),
    "spline": (spline.fill_vectors, spline.fill_rotations, 1),
    "spline, frames after": (spline.fill_vectors, spline.fill_rotations, AFTER),
}


def fill(windows: Windows, gap: int, after: int, vectors: Filler, rotations: Filler) -> tuple[Array, Array]:
    """Global positions and rotations of the missing frames of all windows, each a column of its own to the solver."""
    frames = PAST + gap + max(after, 1)
    missing = slice(PAST, PAST + gap)
    known = np.ones(frames, bool)
    known[missing] = False
    if not after:
        known[PAST:] = False
    count, _, joints, _ = windows.rotations.shape
    truth = np.swapaxes(windows.rotations[:, :frames], 0, 1).reshape(frames, -1, 4)
    path = np.swapaxes(windows.root[:, :frames], 0, 1).reshape(frames, -1)
    turned, moved = rotations(truth, known), vectors(path, known)
    assert np.array_equal(turned[known], truth[known]) and np.array_equal(moved[known], path[known])  # keys are exact
    turned = np.swapaxes(turned.reshape(frames, count, joints, 4), 0, 1)[:, missing]
    moved = np.swapaxes(moved.reshape(frames, count, 3), 0, 1)[:, missing]
    return windows.forward(turned, moved)


def retrieve(windows: Windows, libraries: Libraries) -> Rows:
    """The same by the retrieval solver, for all its rows and gaps: window by window, for a library is indexed once."""
    filled: dict[tuple[str, int], list[Clip]] = {row: [] for row in itertools.product(RETRIEVAL, GAPS)}
    for rotations, root, performer in zip(windows.rotations, windows.root, windows.performers, strict=True):
        for (method, gap), clips in filled.items():
            frames = PAST + gap + RETRIEVAL[method]
            known = np.ones(frames, bool)
            known[PAST : PAST + gap] = False
            clip = windows.skeleton.replace(rotations=rotations[:frames], root=root[:frames])
            clips.append(solve.inbetween(clip, known, "retrieval", libraries[performer])[0])
    return {
        (method, gap): windows.forward(
            np.stack([clip.rotations[PAST : PAST + gap] for clip in clips]),
            np.stack([clip.root[PAST : PAST + gap] for clip in clips]),
        )
        for (method, gap), clips in filled.items()
    }


def predict(windows: Windows, weights: pathlib.Path) -> Rows:
    """The same by the trained model."""
    import torch

    from vivant.backends.motion.transformer import network, solver

    torch.set_num_threads(1)
    net = network.load(weights)
    rows: Rows = {}
    for (method, after), gap in itertools.product(MODEL.items(), GAPS):
        length = next(length for longest, length in network.LENGTHS if gap <= longest)
        known = np.zeros(length, bool)
        known[:PAST] = known[PAST + gap : PAST + gap + after] = True
        kept = np.nonzero(known)[0]
        parts = []
        for first in range(0, len(windows), 64):
            truth = windows.rotations[first : first + 64, kept], windows.root[first : first + 64, kept]
            q, p = (np.full((len(x), length, *x.shape[2:]), np.nan, x.dtype) for x in truth)  # the rest is not to be seen
            q[:, kept], p[:, kept] = truth
            mask = np.broadcast_to(known[:, None], q.shape[:3])
            parts.append(solver.correct(net, q, p, mask, np.full(len(q), gap)))
        q, p = (np.concatenate(part)[:, PAST : PAST + gap] for part in zip(*parts, strict=True))
        rows[method, gap] = windows.forward(q, p)
    return rows


def measure(windows: Windows, sigma: Array, rows: Rows) -> dict[str, dict[int, dict[str, float]]]:
    """L2P, L2Q and NPSS of every method at every gap; `rows` are the rows of methods that go by windows."""
    positions, rotations = windows.forward()
    table: dict[str, dict[int, dict[str, float]]] = {method: {} for method in (*METHODS, *dict.fromkeys(m for m, _ in rows))}
    for method, gap in itertools.product(table, GAPS):
        missing = slice(PAST, PAST + gap)
        if (method, gap) in rows:
            p, q = rows[method, gap]
        else:
            vectors, turns, after = METHODS[method]
            p, q = fill(windows, gap, after, vectors, turns)
        run = np.concatenate([rotations[:, PAST - 1 : PAST], q], axis=1)  # signs continue from the last past frame
        q = np.swapaxes(quaternions.continuous(np.swapaxes(run, 0, 1)), 0, 1)[:, 1:]
        table[method][gap] = {
            "L2P": metrics.l2p(p, positions[:, missing], sigma),
            "L2Q": metrics.l2q(q, rotations[:, missing]),
            "NPSS": metrics.npss(q, rotations[:, missing]),
        }
    return table


def timing(joints: int, gap: int) -> float:
    """Milliseconds for one gap of `gap` frames of this many joints, rotations and locations (median of 15)."""
    rng = np.random.default_rng(1)
    walk = np.cumsum(rng.normal(size=(gap + 2 * PAST, joints, 3)) * 0.05, axis=0)
    known = np.ones(len(walk), bool)
    known[PAST:-PAST] = False
    quats, path = quaternions.exp(walk), walk.reshape(len(walk), -1)
    seconds = []
    for _ in range(15):
        start = time.perf_counter()
        spline.fill_rotations(quats, known)
        spline.fill_vectors(path, known)
        seconds.append(time.perf_counter() - start)
    return 1000 * float(np.median(seconds))


def retrieval_timing(joints: int, gap: int, minutes: float) -> float:
    """Milliseconds for one gap of this many joints from a library this long, once that is indexed (median of 5)."""
    rng = np.random.default_rng(1)

    side = rng.normal(size=((joints - 1) // 2, 3)) * 0.1
    offsets = np.concatenate([np.zeros((1, 3)), np.stack([side, side * [-1, 1, 1]], axis=1).reshape(-1, 3)])
    names = ["hips", *(f"{side} {joint}" for joint in range(joints // 2) for side in ("left", "right"))][: len(offsets)]
    parents = np.maximum(np.arange(len(offsets)) - 2, -1)
    parents[1:3] = 0

    def clip(frames: int) -> Clip:
        turns = np.cumsum(rng.normal(size=(frames, len(names), 3)).astype(np.float32) * 0.02, axis=0)
        return Clip(names, parents, offsets, 30.0, quaternions.exp(turns), turns[:, 0])

    library = tuple(clip(900) for _ in range(round(minutes * 2)))
    shot = clip(gap + 2 * PAST)
    known = np.ones(len(shot), bool)
    known[PAST:-PAST] = False
    seconds = []
    for _ in range(6):
        start = time.perf_counter()
        solve.inbetween(shot, known, "retrieval", library)
        seconds.append(time.perf_counter() - start)
    return 1000 * float(np.median(seconds[1:]))  # the first builds the index


def tune(windows: Windows, sigma: Array) -> None:
    """Sum over gaps of L2P relative to SLERP, one target frame and frames after, for a grid of dampings."""
    positions = windows.forward()[0]
    gaps = (5, 10, 15, 20, 30, 45, 60, 80)

    def cost(vectors: Filler, turns: Filler) -> Array:
        return np.array([
            [metrics.l2p(fill(windows, gap, after, vectors, turns)[0], positions[:, PAST : PAST + gap], sigma) for gap in gaps]
            for after in (1, AFTER)
        ])  # fmt: skip

    base = cost(spline.lerp_fill, spline.slerp_fill)
    print("free  turns  travel   mean L2P, SLERP = 1 (one target, frames after)")
    for free, turns, travel in itertools.product((8, 12, 16, 20), (8, 10, 14), (20, 30, 40)):
        share = cost(
            functools.partial(spline.fill_vectors, damping=Damping(free, travel)),
            functools.partial(spline.fill_rotations, damping=Damping(free, turns)),
        )
        print(f"{free:4}  {turns:5}  {travel:6}  ", *(f"{row:.4f}" for row in (share / base).mean(axis=1)), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, default=ROOT.parent / "shared" / "data", help="folder with mocap/")
    parser.add_argument("--split", default="heldout_take")
    parser.add_argument("--cap", type=int, help="at most so many windows")
    parser.add_argument("--library", choices=("own", "all", "none"), default="own")
    parser.add_argument("--weights", type=pathlib.Path, help="of the trained model, see tools/train_inbetween.py")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "out" / "bench" / "inbetween.json")
    parser.add_argument("--tune", action="store_true")
    options = parser.parse_args()

    folder = options.data if (options.data / "clips.py").is_file() else options.data / "mocap"
    if not (folder / "clips.py").is_file():
        raise SystemExit(f"{folder} holds no motion clips; name the data folder with --data.")
    splits = _mocap.load(folder)
    sigma = _mocap.sigma(splits["train"])
    if options.tune:
        tune(_mocap.windows(splits["train"], 105, 40, cap=600), sigma)
        return
    takes = splits[options.split]
    performers = {take.performer for take in takes}
    libraries: Libraries = {}
    if options.library == "all":
        everything = tuple(splits["train"])
        libraries = dict.fromkeys(performers, everything)
    elif options.library == "own":
        own = {name: tuple(take for take in splits["train"] if take.performer == name) for name in sorted(performers)}
        libraries = {name: library for name, library in own.items() if library}
        takes = [take for name in libraries for take in takes if take.performer == name]
        if not takes:
            raise SystemExit(f"No performer of {options.split} has training takes; use --library all.")
    windows = _mocap.windows(takes, 65, 40, options.cap)
    rows = retrieve(windows, libraries) if libraries else {}
    if options.weights:
        rows |= predict(windows, options.weights)
    table = measure(windows, sigma, rows)
    times = {f"{joints} joints x {gap} frames": timing(joints, gap) for joints, gap in ((60, 45), (700, 100))}
    if libraries:
        times["retrieval, 61 joints x 45 frames, 30 minutes"] = retrieval_timing(61, 45, 30)

    print(
        f"{len(windows)} windows of {options.split}, {windows.rotations.shape[2]} joints, 30 fps; one target frame unless said"
        f"; library: {options.library}"
    )
    for measure_name in ("L2P", "L2Q", "NPSS"):
        print(f"\n{measure_name:24}" + "".join(f"{f'gap {gap}':>9}" for gap in GAPS) + f"    less than {BASELINE}, %")
        for method, row in table.items():
            values = [row[gap][measure_name] for gap in GAPS]
            less = [100 * (1 - value / table[BASELINE][gap][measure_name]) for value, gap in zip(values, GAPS, strict=True)]
            print(f"{method:24}" + "".join(f"{v:9.4f}" for v in values) + "   " + "".join(f"{x:7.1f}" for x in less))
    print()
    for what, milliseconds in times.items():
        print(f"{what:46}{milliseconds:7.1f} ms")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    result = {
        "split": options.split,
        "library": options.library,
        "windows": len(windows),
        "methods": table,
        "milliseconds": times,
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"\n{options.out}")


if __name__ == "__main__":
    main()
