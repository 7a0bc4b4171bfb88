# SPDX-License-Identifier: GPL-3.0-or-later
"""What the optimisation does to the spline's in-betweens on held-out CMU takes: sliding feet, distance from the truth, time.

    OPENBLAS_NUM_THREADS=1 python dev.py bench contacts [--data FOLDER] [--split heldout_take] [--every N] [--out FILE.json]

Skating is that of LaFAN1's windows, the floor under each being the 5th percentile of its true feet.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import time

import _mocap
import numpy as np
from _mocap import PAST

from vivant.backends.common import rotations as quaternions
from vivant.backends.motion import metrics, optimise, solve
from vivant.backends.motion.clip import Clip
from vivant.backends.motion.contacts import find_legs

ROOT = pathlib.Path(__file__).resolve().parents[1]
GAPS = (15, 30, 45)


def measure(windows: _mocap.Windows, sigma: _mocap.Array, every: int, gap: int, after: int) -> dict[str, float]:
    """Skating of truth, spline and optimised spline (centimetres a frame), their L2P and seconds a window."""
    feet = [leg.contact for leg in find_legs(windows.skeleton)]
    frames, missing = PAST + gap + after, slice(PAST, PAST + gap)
    keys = np.ones(frames, bool)
    keys[missing] = False
    skating: list[list[float]] = []
    places: list[list[_mocap.Array]] = []
    seconds = 0.0
    for index in range(0, len(windows), every):
        rows = windows.rotations[index], windows.root[index]
        whole = windows.skeleton.replace(rotations=rows[0], root=rows[1])
        truth = windows.skeleton.replace(rotations=rows[0][:frames], root=rows[1][:frames])
        prior = solve.inbetween(truth, keys, "spline")[0]
        start = time.perf_counter()
        result = optimise.optimise(truth, keys, prior)[0]
        seconds += time.perf_counter() - start
        assert np.array_equal(result.rotations[keys], truth.rotations[keys])
        assert np.array_equal(result.root[keys], truth.root[keys])
        positions = [clip.forward()[0] for clip in (truth, prior, result)]
        floor = metrics.floor_height(whole.forward()[0][:, feet])
        skating.append([metrics.skating(p[PAST - 1 : PAST + gap + 1, feet], floor) for p in positions])
        places.append([p[missing] for p in positions])
    truth_, prior_, result_ = (np.stack(column) for column in zip(*places, strict=True))
    slides = np.mean(skating, axis=0)
    return {
        "truth": slides[0], "spline": slides[1], "optimised": slides[2],
        "L2P spline": metrics.l2p(prior_, truth_, sigma), "L2P optimised": metrics.l2p(result_, truth_, sigma),
        "seconds": seconds / len(skating),
    }  # fmt: skip


def timing(joints: int = 60, gap: int = 45) -> float:
    """Seconds for one gap of a branching skeleton (best of three)."""
    rng = np.random.default_rng(1)
    parents = np.array([-1, *(joint - 1 if joint % 6 else 0 for joint in range(1, joints))])
    turns = quaternions.exp(np.cumsum(rng.normal(size=(gap + 20, joints, 3)) * 0.02, axis=0))
    path = np.cumsum(rng.normal(size=(gap + 20, 3)) * 0.01, axis=0)
    names = [f"bone{joint}" for joint in range(joints)]
    clip = Clip(names, parents, rng.normal(size=(joints, 3)) * 0.2, 30.0, turns, path)
    keys = np.ones(len(clip), bool)
    keys[10:-10] = False
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        optimise.optimise(clip, keys, clip)
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, default=ROOT.parent / "shared" / "data", help="folder with mocap/")
    parser.add_argument("--split", default="heldout_take")
    parser.add_argument("--every", type=int, default=1, help="measure every n-th window")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "out" / "bench" / "contacts.json")
    options = parser.parse_args()

    print(f"60 joints x 45 frames: {timing():.2f} s\n")
    folder = options.data if (options.data / "clips.py").is_file() else options.data / "mocap"
    if not (folder / "clips.py").is_file():
        raise SystemExit(f"{folder} holds no motion clips; name the data folder with --data.")
    splits = _mocap.load(folder)
    sigma = _mocap.sigma(splits["train"])
    windows = _mocap.windows(splits[options.split], 65, 40, cap=1200)
    print(f"{len(range(0, len(windows), options.every))} windows of {options.split}")
    print("after  gap   skating: truth  spline  optimised  of truth's   L2P: spline  optimised   change   ms")
    table = {}
    for after in (1, 10):
        for gap in GAPS:
            row = table[f"after {after}, gap {gap}"] = measure(windows, sigma, options.every, gap, after)
            share, worse = row["optimised"] / row["truth"], row["L2P optimised"] / row["L2P spline"] - 1
            print(
                f"{after:5}{gap:5}{row['truth']:17.3f}{row['spline']:8.3f}{row['optimised']:11.3f}{100 * share:10.0f} %"
                f"{row['L2P spline']:14.3f}{row['L2P optimised']:11.3f}{100 * worse:+8.2f} %{1000 * row['seconds']:6.0f}",
                flush=True,
            )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    print(f"\n{options.out}")


if __name__ == "__main__":
    main()
