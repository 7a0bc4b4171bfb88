# SPDX-License-Identifier: GPL-3.0-or-later
"""All in-between solvers side by side by LaFAN1's protocol, on whatever motion is at hand.

    python dev.py bench motion [--data PATH] [--skeleton NAME] [--split heldout_take] [--solvers a,b] [--weights FILE]
                               [--cap N] [--protocol NAME [--beside EARLIER.csv]] [--out FOLDER]

PATH: a BVH file, a folder or a zip of them (LaFAN1's as it is published), a folder of packs; a body is made up without one.
Ten frames are known before a gap.  Two protocols, each with a table (Markdown, CSV) and a plot of its own in the folder `out`:
LaFAN1's own, which knows one frame after it (`one_target`), and a timeline's, which knows ten (`frames_after`).  Solvers that
search a library have the takes for training.  `--beside` puts the rows of an earlier run into the table, and only of the same
motion, windows and protocol.  `--cap` thins the windows evenly.
"""

from __future__ import annotations

import argparse
import csv
import math
import pathlib
from collections.abc import Mapping, Sequence

import _mocap
import _plot
import _protocol
import _shots
from _mocap import Array, Windows
from _protocol import AFTER, BASELINE, GAPS
from _shots import Shots

from vivant.backends.common.errors import VivantError
from vivant.backends.motion import solve

ROOT = pathlib.Path(__file__).resolve().parents[1]
PROTOCOLS = {"one_target": 1, "frames_after": AFTER}  # known frames after a gap
WORDS = {"one_target": "one target frame (LaFAN1)", "frames_after": f"{AFTER} frames after the gap (not LaFAN1's protocol)"}
HELD = "zero velocity"
MEASURES = ("L2P", "L2Q", "NPSS", "foot skate", "boundary jump", "jerk", "key error", "seconds")
# What others report by `one_target` on LaFAN1: L2P and L2Q at 5, 15, 30 and 45 frames.
PUBLISHED = {
    "zero velocity (Harvey et al. 2020)": ((1.5230, 3.6946, 6.6005, 9.3293), (0.56, 1.10, 1.51, 1.81)),
    "interpolation (Harvey et al. 2020)": ((0.3729, 1.2489, 2.3159, 3.4471), (0.22, 0.62, 0.98, 1.25)),
    "Δ-interpolator (Oreshkin et al. 2022)": ((0.1290, 0.4670, 0.9954), (0.1138, 0.3175, 0.5723)),
    "two-stage (Qin et al. 2022)": ((0.1049, 0.3943, 0.8948, 1.6777), (0.0994, 0.2839, 0.5446, 0.8727)),
}
Row = dict[str, float]
Table = dict[str, dict[int, Row]]  # method -> gap -> measures


def measure(
    shots: Shots, windows: Windows, sigma: Array, solvers: Sequence[str], after: int, **options: str
) -> tuple[Table, list[str]]:
    """The table of one protocol, and sentences on the solvers that could not serve; options are theirs."""
    library = dict.fromkeys(windows.performers, tuple(shots.train))
    known = {HELD: (BASELINE, 0), **{name: (name, after) for name in dict.fromkeys((BASELINE, *solvers))}}
    table: Table = {}
    notes = []
    for method, (solver, frames) in known.items():
        tried = _protocol.fill(windows.first(1), _protocol.cases(frames), solver, library, **options).values()
        if all(one.refused for one in tried):
            notes.append(f"{method} cannot serve here: {' '.join(dict.fromkeys(why for one in tried for why in one.refused))}")
            continue
        filled = _protocol.fill(windows, _protocol.cases(frames), solver, library, **options)
        refused = {why: count for one in filled.values() for why, count in one.refused.items()}
        notes += [f"{method} could not serve {count} windows of some gap: {why}" for why, count in refused.items()]
        table[method] = {gap: _protocol.measure(windows, sigma, gap, filled[gap, frames]) for gap in GAPS}
        _show(method, table)
    truth = {gap: _protocol.skate(windows, windows.truth[0], gap) for gap in GAPS}
    if not math.isnan(truth[GAPS[0]]):
        notes.append("The truth's own foot skate: " + ", ".join(f"{gap}: {skate:.3f}" for gap, skate in truth.items()) + ".")
    return table, notes


def below(table: Mapping[str, Mapping[int, Row]], method: str) -> list[float]:
    """By how many percent a method's L2P is below SLERP's, for every gap."""
    return [100 * (1 - table[method][gap]["L2P"] / table[BASELINE][gap]["L2P"]) for gap in GAPS]


def _show(method: str, table: Table) -> None:
    cells = [f"{row['L2P']:8.4f}" for row in table[method].values()]
    less = [f"{value:6.1f}" for value in below(table, method)] if BASELINE in table else []
    print(f"{method:24}{''.join(cells)}  {''.join(less)}", flush=True)


def beside(path: pathlib.Path, head: Mapping[str, str]) -> Table:
    """The rows of an earlier run's CSV.  Raises VivantError where it measured something else than `head` says."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for what, here in head.items():
        there = {row.get(what, "") for row in rows}
        if there != {here}:
            raise VivantError(
                f"{path.name} was measured with another {what} ({', '.join(sorted(there)) or 'none'}) than this run ({here}), "
                "and figures of two protocols do not belong in one table.",
                "Measure both in the same way.",
            )
    table: Table = {}
    for row in rows:
        name = f"{row['method']} ({path.stem})"
        table.setdefault(name, {})[int(row["gap"])] = {measure: float(row[measure]) for measure in MEASURES}
    return table


def write(
    folder: pathlib.Path, protocol: str, head: Mapping[str, str], table: Table, notes: Sequence[str], lafan: bool
) -> None:
    """The table as CSV and Markdown, and the plot."""
    with (folder / f"{protocol}.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*head, "method", "gap", *MEASURES])
        for method, rows in table.items():
            writer.writerows([*head.values(), method, gap, *(row[name] for name in MEASURES)] for gap, row in rows.items())

    text = [f"# In-betweens: {WORDS[protocol]}", "", ", ".join(f"{what}: {value}" for what, value in head.items()) + ".", ""]
    header = ["method", *(f"gap {gap}" for gap in GAPS)]
    sections = {"L2P below SLERP's, %": {method: [f"{x:.1f}" for x in below(table, method)] for method in table}}
    for name in MEASURES:
        sections[name] = {method: [_figure(name, row[name]) for row in rows.values()] for method, rows in table.items()}
    for name, cells in sections.items():
        text += [f"## {name}", "", _line(header), _line(["---"] * len(header))]
        text += [_line([method, *row]) for method, row in cells.items()]
        text.append("")
    if lafan and protocol == "one_target":
        text += ["## Published", "", _line(["L2P / L2Q", *header[1:]]), _line(["---"] * len(header))]
        for method, (l2p, l2q) in PUBLISHED.items():
            cells = [f"{p:.4f} / {q:.4f}" for p, q in zip(l2p, l2q, strict=True)]
            text.append(_line([method, *cells, *["–"] * (len(GAPS) - len(cells))]))
        text.append("")
    text += [f"- {note}" for note in notes]
    (folder / f"{protocol}.md").write_text("\n".join(text) + "\n", encoding="utf-8")
    _plot.lines(
        folder / f"{protocol}.png",
        f"In-betweens, {WORDS[protocol]}",
        "missing frames",
        "L2P below SLERP's, %",
        GAPS,
        {method: below(table, method) for method in table if method != HELD},
    )


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _figure(name: str, value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2g}" if name == "key error" else f"{value:.4f}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, help="BVH file, folder or zip of them, folder of packs")
    parser.add_argument("--skeleton", default="", help="which one, where the data mixes several")
    parser.add_argument("--split", default="heldout_take", help="of packs: what to test on")
    parser.add_argument("--protocol", choices=PROTOCOLS, help="only this one of the two")
    parser.add_argument("--solvers", default=",".join(solve.SOLVERS), help="names, with commas between")
    parser.add_argument("--weights", type=pathlib.Path, help="of the trained model, in a Python that has torch")
    parser.add_argument("--cap", type=int, help="at most so many windows")
    parser.add_argument("--beside", type=pathlib.Path, help="CSV of an earlier run")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "out" / "bench" / "motion")
    options = parser.parse_args(arguments)
    try:
        _run(options)
    except VivantError as error:
        raise SystemExit(str(error)) from None


def _run(options: argparse.Namespace) -> None:
    shots = _shots.read(options.data, options.skeleton, options.split)
    if not any(len(take) > 65 for take in shots.test) or not any(len(take) > 50 for take in shots.train):
        raise VivantError(
            f"The takes of {shots.name} are too short for windows of 65 frames.", "`bench species` cuts shorter ones."
        )
    windows = _mocap.windows(shots.test, 65, 40, options.cap, shots.ahead)
    sigma = _mocap.sigma(shots.train, ahead=shots.ahead)
    choices = {"weights": str(options.weights)} if options.weights else {}
    options.out.mkdir(parents=True, exist_ok=True)
    for protocol in [options.protocol] if options.protocol else PROTOCOLS:
        head = {"protocol": protocol, "motion": "LaFAN1" if shots.lafan else shots.name, "windows": str(len(windows))}
        earlier = beside(options.beside, head) if options.beside else {}
        print(f"\n{WORDS[protocol]}: {head['motion']}, {len(windows)} windows; L2P at gaps {GAPS}, percent below SLERP's")
        table, notes = measure(shots, windows, sigma, options.solvers.split(","), PROTOCOLS[protocol], **choices)
        write(options.out, protocol, head, table | earlier, notes, shots.lafan)
        print(*notes, options.out / f"{protocol}.md", sep="\n")


if __name__ == "__main__":
    main()
