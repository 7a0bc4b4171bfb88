# SPDX-License-Identifier: GPL-3.0-or-later
"""The trained in-betweener on humans that are not its own: held-out CMU takes on their performers' own skeletons.

    PYTHONPATH=<folder with the checkout as vivant> python benchmarks/humans.py [--weights FILE] [--data FOLDER] [--cap N]

In a Python that has torch.  ASF skeletons have 31 joints and each performer's proportions; the network knows one body of 17.
Ten frames before the gap and after it, so not LaFAN1's protocol; per cent less L2P than SLERP.
"""

from __future__ import annotations

import argparse
import itertools
import pathlib

import _mocap
import numpy as np
from _mocap import PAST

from vivant.backends.motion import metrics, solve

ROOT = pathlib.Path(__file__).resolve().parents[1]
GAPS = (5, 15, 30, 45)
SOLVERS = ("slerp", "spline", "model")


def measure(windows: _mocap.Windows, sigma: _mocap.Array, weights: str) -> dict[tuple[str, int], float]:
    """L2P of every solver at every gap."""
    table = {}
    for solver, gap in itertools.product(SOLVERS, GAPS):
        missing = slice(PAST, PAST + gap)
        keys = np.ones(PAST + gap + 10, bool)
        keys[missing] = False
        filled = []
        for clip in windows.clips(len(keys)):
            result, report = solve.inbetween(clip, keys, solver, weights=weights)
            assert report.solver == solver and report.key_error == 0, report
            filled.append(result.forward(missing)[0])
        table[solver, gap] = metrics.l2p(np.stack(filled), windows.truth[0][:, missing], sigma)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, default=ROOT.parent / "shared" / "data" / "mocap", help="with clips.py")
    parser.add_argument("--weights", default="", help="else those that come along")
    parser.add_argument("--cap", type=int, default=60, help="at most so many windows of a skeleton")
    options = parser.parse_args()
    takes = _mocap.read(options.data, lambda clip: clip.skeleton.startswith("cmu_asf") and clip.split != "train")
    takes.sort(key=lambda take: take.skeleton)
    print(f"{'':16}{'windows':>8}  {'':8}" + "".join(f"{f'gap {gap}':>9}" for gap in GAPS))
    for skeleton, own in itertools.groupby(takes, lambda take: take.skeleton):
        clips = [take for take in own if len(take) > 66]
        if not clips:
            continue
        windows = _mocap.windows(clips, 66, 40, options.cap)
        table = measure(windows, _mocap.sigma(clips), options.weights)
        for solver in SOLVERS[1:]:
            less = [100 * (1 - table[solver, gap] / table["slerp", gap]) for gap in GAPS]
            print(f"{skeleton:16}{len(windows):8}  {solver:8}" + "".join(f"{x:9.1f}" for x in less), flush=True)


if __name__ == "__main__":
    main()
