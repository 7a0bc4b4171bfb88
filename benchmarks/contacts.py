# SPDX-License-Identifier: GPL-3.0-or-later
"""What the optimisation does to in-betweens on held-out CMU takes: sliding and sinking feet, contacts, distance from the truth.

    OPENBLAS_NUM_THREADS=1 python dev.py bench contacts [--data FOLDER] [--split heldout_take] [--every N] [--gaps 5 15 30 45]
                                                        [--after 1 10] [--out FILE.json] [--tune]

Windows are those of LaFAN1's protocol, with one frame known after the gap and with ten; the floor under each is the 5th
percentile of its true feet.  Stances that the optimisation plans need not be the true ones; precision and recall tell.
`--tune` shows instead, on training takes of people and creatures alone, what other thresholds and weights would do.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import _mocap
import _protocol
import numpy as np
from _mocap import PAST, Take
from _protocol import AFTER

from vivant.backends.common import rotations as quaternions
from vivant.backends.motion import contacts, metrics, optimise, solve
from vivant.backends.motion.clip import Clip
from vivant.backends.motion.contacts import find_legs

ROOT = pathlib.Path(__file__).resolve().parents[1]
GAPS = (5, 15, 30, 45)
SHORTEST = 0.1  # seconds that a foot stands at least
TRUTH = "truth"
METHODS = {"spline": False, "retrieval": True}  # solver that is optimised, and whether it has a library
TUNED: tuple[tuple[Any, str, tuple[float, ...]], ...] = (
    (contacts, "STANDS", (0.0, 0.3, 0.4, 0.5, 0.6, 0.8)),
    (contacts, "BEARS", (0.0, 0.3, 0.5, 0.7)),
    (contacts, "SOON", (0.0, 0.25, 0.35, 0.5)),
    (optimise, "KEEP", (0.0, 0.001, 0.003, 0.01, 0.03)),
)
LEAST = 0.1  # of the root mean square of all sigmas, as for species
TUNED_ON = 120, 12  # windows of people and of each creature


def measure(
    windows: _mocap.Windows, libraries: Mapping[str, Sequence[Clip]], sigma: _mocap.Array, every: int, gap: int, after: int
) -> dict[str, dict[str, float]]:
    """Of the truth and every method: skating (cm a frame), depth below the floor (mm), contacts found and missed, L2P, seconds.

    Those of an optimisation are its own.
    Contacts are those of `contacts.standing`, in the missing frames of both feet: precision is the share of the method's that
    are the truth's, recall the share of the truth's that are the method's.
    """
    legs = find_legs(windows.skeleton)
    feet = [leg.contact for leg in legs]
    sizes = np.linalg.norm(windows.skeleton.offsets[[[leg.knee, leg.ankle] for leg in legs]], axis=-1).sum(axis=1)
    frames, missing = PAST + gap + after, slice(PAST, PAST + gap)
    keys = np.ones(frames, bool)
    keys[missing] = False
    slides: dict[str, list[list[float]]] = {}
    places: dict[str, list[_mocap.Array]] = {}
    standing: dict[str, list[_mocap.Array]] = {}
    for index in range(0, len(windows), every):
        rows = windows.rotations[index], windows.root[index]
        whole = windows.skeleton.replace(rotations=rows[0], root=rows[1])
        floor = metrics.floor_height(whole.forward()[0][:, feet])
        truth = windows.skeleton.replace(rotations=rows[0][:frames], root=rows[1][:frames])
        library = libraries.get(windows.performers[index], ())
        results = {TRUTH: (truth, 0.0)}
        for solver, searched in METHODS.items():
            start = time.perf_counter()
            prior, report = solve.inbetween(truth, keys, solver, library if searched else ())
            seconds = time.perf_counter() - start
            assert report.solver == solver and report.key_error == 0
            start = time.perf_counter()
            better = optimise.optimise(truth, keys, prior, library=library if searched else ())
            results[solver] = prior, seconds
            results[f"{solver}, optimised"] = better, time.perf_counter() - start
        for method, (clip, seconds) in results.items():
            path = clip.forward()[0]
            soles = path[PAST - 1 : PAST + gap + 1, feet]
            depth = 1000 * metrics.penetration(path[missing][:, feet], floor)
            slides.setdefault(method, []).append([metrics.skating(soles, floor), depth, seconds])
            places.setdefault(method, []).append(path[missing])
            standing.setdefault(method, []).append(contacts.standing(path[:, feet], sizes, clip.fps, SHORTEST)[missing])
    table = {}
    true = np.array(standing[TRUTH])
    for method, rows in slides.items():
        found = np.array(standing[method])
        skating, depth, seconds = np.mean(rows, axis=0)
        table[method] = {
            "skating": float(skating), "depth": float(depth), "seconds": float(seconds),
            "precision": float((found & true).sum() / max(found.sum(), 1)),
            "recall": float((found & true).sum() / max(true.sum(), 1)),
            "L2P": metrics.l2p(np.stack(places[method]), np.stack(places[TRUTH]), sigma),
        }  # fmt: skip
    return table


def tune(people: Sequence[Take], creatures: Sequence[Take], gap: int) -> None:
    """Print what each value of TUNED does to the spline's in-betweens of training takes with frames on both sides.

    Of people and creatures with legs: distance of the feet from the true ones in percent of a leg; L2P and L2Q as shares of the
    spline's; skating as a share of the true feet's.  All are means, over the kinds of creatures too.
    """
    size, step = PAST + gap + AFTER, 5
    kinds = {"people": [people], "creatures": []}
    for name in dict.fromkeys(take.skeleton for take in creatures):
        takes = [take for take in creatures if take.skeleton == name and len(take) > size]
        if takes and find_legs(takes[0]):
            kinds["creatures"].append(takes)
    print(f"gap {gap}, {AFTER} frames after{'':14}feet %     L2P     L2Q  skating")
    for (kind, groups), cap in zip(kinds.items(), TUNED_ON, strict=True):
        tested = []
        for takes in groups:
            ahead = _mocap.forward_of(takes[0]) if kind == "creatures" else _mocap.FORWARD
            windows = _mocap.windows(takes, size, step, cap, ahead)
            sigma = _mocap.sigma(takes[:: len(takes) // 100 + 1], size, step, ahead, LEAST)
            tested.append((windows, sigma, _protocol.fill(windows, [(gap, AFTER)], "spline")[gap, AFTER]))
        for module, name, values in TUNED:
            chosen = getattr(module, name)
            for value in values:
                setattr(module, name, value)
                means = np.mean([_optimised(*group, gap) for group in tested], axis=0)
                mark = "*" if value == chosen else " "
                print(f"{kind:12}{name:>8} {value:<7}{mark}{'':6}" + "".join(f"{mean:8.3f}" for mean in means), flush=True)
            setattr(module, name, chosen)


def _optimised(windows: _mocap.Windows, sigma: _mocap.Array, before: _protocol.Filled, gap: int) -> list[float]:
    """Distance of the feet, shares of L2P, L2Q and skating of in-betweens of the spline after the optimisation."""
    after = _protocol.fill(windows, [(gap, AFTER)], "optimise")[gap, AFTER]
    ours, theirs = (_protocol.measure(windows, sigma, gap, filled) for filled in (after, before))
    legs, missing = find_legs(windows.skeleton), slice(PAST, PAST + gap)
    true = windows.truth[0]
    feet = windows.forward(after.rotations, after.root, after.translations)[0][:, :, [leg.contact for leg in legs]]
    away = np.linalg.norm(feet - true[:, missing][:, :, [leg.contact for leg in legs]], axis=-1).mean()
    chains = true[:, :, [[leg.hip, leg.knee, leg.ankle] for leg in legs]]
    leg = np.linalg.norm(np.diff(chains, axis=3), axis=-1).sum(axis=3).mean()
    slides = _protocol.skate(windows, true, gap)
    return [100 * away / leg, ours["L2P"] / theirs["L2P"], ours["L2Q"] / theirs["L2Q"], ours["foot skate"] / slides]


def timing(joints: int = 60, gap: int = 45) -> float:
    """Seconds of one processor for one gap of a branching skeleton (best of three), whatever else runs there."""
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
        start = time.process_time()
        optimise.optimise(clip, keys, clip)
        seconds.append(time.process_time() - start)
    return min(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, default=ROOT.parent / "shared" / "data", help="folder with mocap/")
    parser.add_argument("--split", default="heldout_take")
    parser.add_argument("--every", type=int, default=1, help="measure every n-th window")
    parser.add_argument("--gaps", type=int, nargs="+", default=GAPS)
    parser.add_argument("--after", type=int, nargs="+", default=(1, AFTER), help="frames known after a gap")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "out" / "bench" / "contacts.json")
    parser.add_argument("--tune", action="store_true", help="show other thresholds and weights on training takes")
    options = parser.parse_args()

    folder = options.data if (options.data / "clips.py").is_file() else options.data / "mocap"
    if not (folder / "clips.py").is_file():
        raise SystemExit(f"{folder} holds no motion clips; name the data folder with --data.")
    splits = _mocap.load(folder)
    if options.tune:
        pack = _mocap.read(folder / "creatures.clips.xz")
        for gap in options.gaps:
            tune(splits["train"], [take for take in pack if take.split == "train"], gap)
        return
    print(f"60 joints x 45 frames: {timing():.2f} s of one processor\n")
    sigma = _mocap.sigma(splits["train"])
    performers = sorted({take.performer for take in splits[options.split]})
    libraries = {name: tuple(take for take in splits["train"] if take.performer == name) for name in performers}
    takes = [take for name in performers if libraries[name] for take in splits[options.split] if take.performer == name]
    windows = _mocap.windows(takes, 65, 40)
    print(
        f"{len(range(0, len(windows), options.every))} windows of {options.split}, library: the performer's own training takes"
    )
    print("after  gap  method" + " " * 22 + "skating  of truth's  depth mm  precision  recall     L2P      ms")
    table = {}
    for after in options.after:
        for gap in options.gaps:
            rows = table[f"after {after}, gap {gap}"] = measure(windows, libraries, sigma, options.every, gap, after)
            for method, row in rows.items():
                share = 100 * row["skating"] / rows[TRUTH]["skating"]
                print(
                    f"{after:5}{gap:5}  {method:26}{row['skating']:9.3f}{share:10.0f} %{row['depth']:10.1f}"
                    f"{row['precision']:11.2f}{row['recall']:8.2f}{row['L2P']:8.3f}{1000 * row['seconds']:8.0f}",
                    flush=True,
                )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    print(f"\n{options.out}")


if __name__ == "__main__":
    main()
