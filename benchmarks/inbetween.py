# SPDX-License-Identifier: GPL-3.0-or-later
"""In-betweens against SLERP on held-out CMU takes, by LaFAN1's protocol, and the time they take.

    python dev.py bench inbetween [--data FOLDER] [--split heldout_take] [--library own|all|none] [--weights FILE] [--cap N]
                                          [--out FILE] [--tune spline|retrieval]

Retrieval searches the performer's own training takes ("own"; windows of performers without any are left out) or all training
takes ("all"), never a held-out one, or is left out ("none").  `--weights` adds the trained model, in a Python that has torch.
`--cap` thins the windows evenly.  `--tune` repeats on training takes the search that chose the spline's damping, or
that of retrieval's constants.
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
import _protocol
import numpy as np
from _mocap import PAST, Array, Take, Windows
from _protocol import AFTER, BASELINE, GAPS, Filled

from vivant.backends.common import rotations as quaternions
from vivant.backends.motion import library, metrics, retrieval, solve, spline
from vivant.backends.motion.clip import Clip
from vivant.backends.motion.spline import Damping

ROOT = pathlib.Path(__file__).resolve().parents[1]
Filler = Callable[[Array, Array], Array]
Libraries = Mapping[str, Sequence[Take]]  # performer -> takes that may be searched

SLERP = "SLERP"
METHODS = {  # solver, frames known after the gap
    "zero velocity": (BASELINE, 0),
    SLERP: (BASELINE, 1),
    "spline": ("spline", 1),
    "spline, frames after": ("spline", AFTER),
}
RETRIEVAL = {
    "retrieval": ("retrieval", 1),
    "retrieval, frames after": ("retrieval", AFTER),
    "optimised, frames after": ("optimise", AFTER),
}
MODEL = {"model": 1, "model, frames after": AFTER}
Rows = dict[str, dict[int, Filled]]  # method -> gap -> what was missing


def fill(windows: Windows, methods: Mapping[str, tuple[str, int]], libraries: Libraries) -> Rows:
    """The missing frames by the solvers of some methods, retrieval from the library of each window's performer."""
    cases: dict[str, list[tuple[int, int]]] = {}  # all of a solver's at once, for a library is indexed once
    for solver, after in methods.values():
        cases.setdefault(solver, []).extend(_protocol.cases(after))
    filled = {solver: _protocol.fill(windows, some, solver, libraries) for solver, some in cases.items()}
    return {method: {gap: filled[solver][gap, after] for gap in GAPS} for method, (solver, after) in methods.items()}


def predict(windows: Windows, weights: pathlib.Path) -> Rows:
    """The same by the trained model."""
    import torch

    from vivant.backends.motion.transformer import network, solver

    torch.set_num_threads(1)
    net = network.load(weights)
    rows: Rows = {method: {} for method in MODEL}
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
        rows[method][gap] = Filled(q, p, {})
    return rows


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
    """Milliseconds of processor for one gap of this many joints from an indexed library this long (median of 5)."""
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
        start = time.process_time()
        solve.inbetween(shot, known, "retrieval", library)
        seconds.append(time.process_time() - start)
    return 1000 * float(np.median(seconds[1:]))  # the first builds the index


def tune_retrieval(takes: Sequence[Take], sigma: Array, cap: int) -> None:
    """L2P relative to SLERP's by retrieval with one constant changed at a time, frames known on both sides.

    Windows of so many takes, each with the other takes of its performer as the library.
    """
    tried: dict[str, Sequence[float]] = {
        "REACH": (0.6, 1.3), "NOISE": (0.25, 1), "BEND": (0.05, 0.5), "FRAMES": (2048, 8192), "DOUBT": (1, 16)
    }  # fmt: skip
    where = {name: library if hasattr(library, name) else retrieval for name in tried}
    cases = _protocol.cases(AFTER)
    costs: dict[str, list[Array]] = {}

    def measure(name: str, solver: str, windows: Windows, others: Sequence[Take]) -> None:
        filled = _protocol.fill(windows, cases, solver, dict.fromkeys(windows.performers, others))
        true = windows.truth[0][:, PAST:]
        l2p = [metrics.l2p(windows.forward(f.rotations, f.root, {})[0], true[:, :gap], sigma) for (gap, _), f in filled.items()]
        costs.setdefault(name, []).append(len(windows) * np.array(l2p))

    long = [take for take in takes if len(take) > 65]
    for take in (long[index] for index in np.linspace(0, len(long) - 1, cap).astype(int)):
        others = tuple(other for other in takes if other.performer == take.performer and other is not take)
        if not others:
            continue
        windows = _mocap.windows([take], 65, 40, 3)
        for solver in (BASELINE, "spline", "retrieval"):
            measure(solver, solver, windows, others)
        for name, values in tried.items():
            kept = getattr(where[name], name)
            for value in values:
                setattr(where[name], name, value)
                measure(f"{name} = {value}, not {kept}", "retrieval", windows, others)
            setattr(where[name], name, kept)
    print(f"{'':24}" + "".join(f"{f'gap {gap}':>9}" for gap, _ in cases))
    for name, parts in costs.items():
        print(f"{name:24}" + "".join(f"{share:9.4f}" for share in sum(parts) / sum(costs[BASELINE])), flush=True)


def tune_spline(windows: Windows, sigma: Array) -> None:
    """Sum over gaps of L2P relative to SLERP, one target frame and frames after, for a grid of dampings."""
    positions = windows.truth[0]
    gaps = (5, 10, 15, 20, 30, 45, 60, 80)

    def l2p(gap: int, after: int, vectors: Filler, turns: Filler) -> float:
        """Of all windows at once, each a column of its own to the spline."""
        missing = slice(PAST, PAST + gap)
        known = np.ones(PAST + gap + after, bool)
        known[missing] = False
        truth = windows.rotations[:, : len(known)], windows.root[:, : len(known)]
        count, _, joints, _ = truth[0].shape
        q = turns(np.swapaxes(truth[0], 0, 1).reshape(len(known), -1, 4), known).reshape(len(known), count, joints, 4)
        p = vectors(np.swapaxes(truth[1], 0, 1).reshape(len(known), -1), known).reshape(len(known), count, 3)
        q, p = (np.swapaxes(values, 0, 1)[:, missing] for values in (q, p))
        return metrics.l2p(windows.forward(q, p, {})[0], positions[:, missing], sigma)

    def cost(vectors: Filler, turns: Filler) -> Array:
        return np.array([[l2p(gap, after, vectors, turns) for gap in gaps] for after in (1, AFTER)])

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
    parser.add_argument("--tune", choices=("spline", "retrieval"))
    options = parser.parse_args()

    folder = options.data if (options.data / "clips.py").is_file() else options.data / "mocap"
    if not (folder / "clips.py").is_file():
        raise SystemExit(f"{folder} holds no motion clips; name the data folder with --data.")
    splits = _mocap.load(folder)
    sigma = _mocap.sigma(splits["train"])
    if options.tune == "spline":
        return tune_spline(_mocap.windows(splits["train"], 105, 40, cap=600), sigma)
    if options.tune == "retrieval":
        return tune_retrieval(splits["train"], sigma, options.cap or 100)
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
    rows = fill(windows, METHODS | (RETRIEVAL if libraries else {}), libraries)
    if options.weights:
        rows |= predict(windows, options.weights)
    table = {
        method: {gap: _protocol.measure(windows, sigma, gap, filled) for gap, filled in some.items()}
        for method, some in rows.items()
    }
    times = {f"{joints} joints x {gap} frames": timing(joints, gap) for joints, gap in ((60, 45), (700, 100))}
    if libraries:
        times["retrieval, 61 joints x 45 frames, 30 minutes"] = retrieval_timing(61, 45, 30)

    print(
        f"{len(windows)} windows of {options.split}, {windows.rotations.shape[2]} joints, 30 fps; one target frame unless said"
        f"; library: {options.library}"
    )
    for measure_name in ("L2P", "L2Q", "NPSS"):
        print(f"\n{measure_name:24}" + "".join(f"{f'gap {gap}':>9}" for gap in GAPS) + f"    less than {SLERP}, %")
        for method, row in table.items():
            values = [row[gap][measure_name] for gap in GAPS]
            less = [100 * (1 - value / table[SLERP][gap][measure_name]) for value, gap in zip(values, GAPS, strict=True)]
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
