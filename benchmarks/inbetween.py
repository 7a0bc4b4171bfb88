# SPDX-License-Identifier: GPL-3.0-or-later
"""In-betweens against SLERP on held-out CMU takes, by LaFAN1's protocol, and the time they take.

    python dev.py bench inbetween [--data FOLDER] [--split heldout_take] [--weights FILE] [--out FILE.json] [--tune]

`--weights` adds the trained model, in a Python that has torch.  `--tune` repeats the grid search on the training takes that
chose the spline's damping.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import pathlib
import time
from collections.abc import Callable

import _mocap
import numpy as np
from _mocap import PAST, Array, Windows

from vivant.backends.common import rotations as quaternions
from vivant.backends.motion import metrics, spline
from vivant.backends.motion.spline import Damping

ROOT = pathlib.Path(__file__).resolve().parents[1]
GAPS = (5, 15, 30, 45)
AFTER = 10  # frames known after the gap, target included, where any are
Filler = Callable[[Array, Array], Array]
Method = Callable[[Windows, int, int], tuple[Array, Array]]  # windows, gap, frames known after it: what is missing, global

BASELINE = "SLERP"


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


METHODS: dict[str, tuple[Method, int]] = {  # and the frames known after the gap
    "zero velocity": (functools.partial(fill, vectors=spline.lerp_fill, rotations=spline.slerp_fill), 0),
    BASELINE: (functools.partial(fill, vectors=spline.lerp_fill, rotations=spline.slerp_fill), 1),
    "spline": (functools.partial(fill, vectors=spline.fill_vectors, rotations=spline.fill_rotations), 1),
    "spline, frames after": (functools.partial(fill, vectors=spline.fill_vectors, rotations=spline.fill_rotations), AFTER),
}


def model(weights: pathlib.Path) -> Method:
    """The trained model of a file."""
    import torch

    from vivant.backends.motion.transformer import network, solver

    torch.set_num_threads(1)
    net = network.load(weights)

    def method(windows: Windows, gap: int, after: int) -> tuple[Array, Array]:
        length = next(length for longest, length in network.LENGTHS if gap <= longest)
        known = np.zeros(length, bool)
        known[:PAST] = known[PAST + gap : PAST + gap + after] = True
        hidden = [np.full((len(windows), length, *x.shape[2:]), np.nan, x.dtype) for x in (windows.rotations, windows.root)]
        for values, truth in zip(hidden, (windows.rotations, windows.root), strict=True):
            values[:, known] = truth[:, np.nonzero(known)[0]]
        parts = []
        for first in range(0, len(windows), 64):
            q, p = (values[first : first + 64] for values in hidden)
            mask = np.broadcast_to(known[:, None], q.shape[:3])
            parts.append(solver.correct(net, q, p, mask, np.full(len(q), gap)))
        q, p = (np.concatenate(part)[:, PAST : PAST + gap] for part in zip(*parts, strict=True))
        return windows.forward(q, p)

    return method


def measure(windows: Windows, sigma: Array, methods: dict[str, tuple[Method, int]]) -> dict[str, dict[int, dict[str, float]]]:
    """L2P, L2Q and NPSS of every method at every gap."""
    positions, rotations = windows.forward()
    table: dict[str, dict[int, dict[str, float]]] = {name: {} for name in methods}
    for (name, (method, after)), gap in itertools.product(methods.items(), GAPS):
        missing = slice(PAST, PAST + gap)
        p, q = method(windows, gap, after)
        run = np.concatenate([rotations[:, PAST - 1 : PAST], q], axis=1)  # signs continue from the last past frame
        q = np.swapaxes(quaternions.continuous(np.swapaxes(run, 0, 1)), 0, 1)[:, 1:]
        table[name][gap] = {
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
    windows = _mocap.windows(splits[options.split], 65, 40)
    methods = dict(METHODS)
    if options.weights:
        methods |= {"model": (model(options.weights), 1), "model, frames after": (model(options.weights), AFTER)}
    table = measure(windows, sigma, methods)
    times = {f"{joints} joints x {gap} frames": timing(joints, gap) for joints, gap in ((60, 45), (700, 100))}

    print(
        f"{len(windows)} windows of {options.split}, {windows.rotations.shape[2]} joints, 30 fps; one target frame unless said"
    )
    for measure_name in ("L2P", "L2Q", "NPSS"):
        print(f"\n{measure_name:22}" + "".join(f"{f'gap {gap}':>9}" for gap in GAPS) + f"    less than {BASELINE}, %")
        for method, row in table.items():
            values = [row[gap][measure_name] for gap in GAPS]
            less = [100 * (1 - value / table[BASELINE][gap][measure_name]) for value, gap in zip(values, GAPS, strict=True)]
            print(f"{method:22}" + "".join(f"{v:9.4f}" for v in values) + "   " + "".join(f"{x:7.1f}" for x in less))
    print()
    for what, milliseconds in times.items():
        print(f"{what:24}{milliseconds:7.1f} ms")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    result = {"split": options.split, "windows": len(windows), "methods": table, "milliseconds": times}
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"\n{options.out}")


if __name__ == "__main__":
    main()
