# SPDX-License-Identifier: GPL-3.0-or-later
"""What each creature's in-betweens are worth with frames on both sides of the gap: every solver's L2P against SLERP's.

    python dev.py bench species [--data FOLDER] [--solvers auto,spline] [--cap N] [--out FILE.csv]

Every clip of `creatures.clips.xz` is tested in all windows that fit.  Solvers that search a library have the creature's other
clips, never the one under test: "auto" is what a user gets who has those, "spline" what one gets who has none.  Sigma is that
of the creature's own windows.
"""

from __future__ import annotations

import argparse
import csv
import pathlib
from collections.abc import Sequence

import _mocap
import _protocol
import numpy as np
from _mocap import PAST, Take
from _protocol import AFTER, BASELINE

from vivant.backends.motion import solve

ROOT = pathlib.Path(__file__).resolve().parents[1]
GAPS = (5, 15)
STEP = 5  # frames between windows
LEAST = 0.1  # of the root mean square of all sigmas: an animator's creature has coordinates that hardly move
DEFAULTS = ("spline", solve.AUTO)


Rows = dict[str, dict[str, float]]  # solver -> measures


def measure(takes: Sequence[Take], gap: int, solvers: Sequence[str], cap: int | None) -> tuple[int, Rows]:
    """Number of windows, and the measures of every solver, on the clips of a creature; 0 where none is long enough."""
    size = PAST + gap + AFTER
    takes = [take.replace(performer=str(index)) for index, take in enumerate(takes) if len(take) > size]
    if not takes:
        return 0, {}
    ahead = _mocap.forward_of(takes[0])
    windows = _mocap.windows(takes, size, STEP, cap, ahead)
    sigma = _mocap.sigma(takes, size, STEP, ahead, LEAST)
    others = {take.performer: tuple(other for other in takes if other is not take) for take in takes}
    rows = {}
    for solver in dict.fromkeys((BASELINE, *solvers)):
        filled = _protocol.fill(windows, [(gap, AFTER)], solver, others)[gap, AFTER]
        rows[solver] = {**_protocol.measure(windows, sigma, gap, filled), "by the spline": filled.ran.get("spline", 0)}
    return len(windows), rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, default=ROOT.parent / "shared" / "data", help="folder with mocap/")
    parser.add_argument("--solvers", default=",".join(DEFAULTS), help="names, with commas between")
    parser.add_argument("--cap", type=int, help="at most so many windows a creature")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "out" / "bench" / "species.csv")
    options = parser.parse_args()
    pack = options.data / "mocap" / "creatures.clips.xz"
    if not pack.is_file():
        raise SystemExit(f"{pack} is not there; name the data folder with --data.")
    creatures: dict[str, list[Take]] = {}
    for take in _mocap.read(pack):
        creatures.setdefault(take.skeleton, []).append(take)

    solvers = options.solvers.split(",")
    less: dict[tuple[str, int], list[float]] = {}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with options.out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        print(f"L2P below SLERP's in percent, {PAST} frames known before a gap and {AFTER} after")
        print(f"{'creature':18}{'clips':>6}{'joints':>7}  gap windows" + "".join(f"{solver:>12}" for solver in solvers))
        for creature, takes in creatures.items():
            for gap in GAPS:
                count, rows = measure(takes, gap, solvers, options.cap)
                if not count:
                    continue
                cuts = [100 * (1 - rows[solver]["L2P"] / rows[BASELINE]["L2P"]) for solver in solvers]
                for solver, cut in zip(solvers, cuts, strict=True):
                    less.setdefault((solver, gap), []).append(cut)
                marks = ["*" if name != "spline" and rows[name]["by the spline"] else " " for name in solvers]
                cells = [f"{cut:11.1f}{mark}" for cut, mark in zip(cuts, marks, strict=True)]
                print(f"{creature:18}{len(takes):6}{len(takes[0].names):7}{gap:5}{count:8}{''.join(cells)}", flush=True)
                if file.tell() == 0:
                    writer.writerow(["creature", "gap", "windows", "solver", *rows[BASELINE]])
                writer.writerows([creature, gap, count, solver, *row.values()] for solver, row in rows.items())
    for gap in GAPS:
        cells = [f"{np.median(less[solver, gap]):11.1f} " for solver in solvers]
        print(f"{'median':31}{gap:5}{'':8}{''.join(cells)}")
    print(f"* the spline filled some of these windows\n\n{options.out}")


if __name__ == "__main__":
    main()
