# SPDX-License-Identifier: GPL-3.0-or-later
"""How long every format takes to read and write, beside the libraries of others, in turn in the same run.

python3 dev.py bench formats_speed [--peers PYTHON] [--node FOLDER] [--page docs/speed.md]

To read is to have float32 arrays of positions, unit quaternions, standard deviations, opacities and SH in memory; to write
is to start from such arrays (or from what a library makes of a PLY file) and have a file.  Files lie in the page cache.
--peers (or VIVANT_PEERS): a Python that has gsply[spz,sogs], gaussforge, plyfile, ply2splat, sogpy, pygltflib and
usd-core, or some of them.  --node (or VIVANT_NODE_PEERS): a folder where @playcanvas/splat-transform is installed.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import platform
import selectors
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vivant.backends.gaussian.cloud import SplatCloud
from vivant.backends.gaussian.formats import files, read_splats, spz, write_splats

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tools"))
import samples

HERE = pathlib.Path(__file__).resolve().parent
FORMATS = (
    ("PLY", "splats.ply", ("gsply", "gsply C++", "gsply views", "gaussforge", "plyfile", "splat-transform")),
    ("SPZ 3", "splats3.spz", ("gsply", "gsply C++", "gaussforge", "splat-transform")),
    ("SPZ 4", "splats4.spz", ("gsply", "gsply C++", "gaussforge", "splat-transform")),
    ("compressed PLY", "splats.compressed.ply", ("gsply", "gaussforge", "splat-transform")),
    ("SOG", "splats.sog", ("gsply", "gaussforge", "sogpy", "splat-transform")),
    ("splat", "splats.splat", ("gaussforge", "ply2splat", "splat-transform")),
    ("ksplat", "splats.ksplat", ("gaussforge", "splat-transform")),
    ("glTF", "splats.glb", ("pygltflib", "splat-transform")),
    ("USD", "splats.usdc", ("usd-core",)),
)
NODE = ("splat-transform",)
WARM = 2000
"""Splats of the file that lets a library compile and load what it needs before it is timed."""
INTRODUCTION = """# Speed

How long Vivant takes to read and write {count:,} splats with spherical harmonics of degree {degree}, beside other
libraries, in turn in one run: the least of {rounds} rounds of three calls, in seconds, on {cores} cores that other
work shared. The splats are made: spread, and with coefficients that fall with the degree, as those of captures. A ratio
below 1 is faster than the other. This page is made by `python3 dev.py bench formats_speed --page docs/speed.md`.

"""
NOTES = """
To read is to have float32 arrays of positions, unit quaternions, standard deviations, opacities and SH coefficients in
memory; where a library leaves logarithms and logits, its own function or NumPy makes them ready, and that is in its time.
To write is to start from such arrays; SPZ by gsply, and all by gaussforge, plyfile and splat-transform, from what they
make of a PLY file, logarithms and logits. *gsply views* is gsply without either: one table as it lies in the file.
splat-transform's columns are taken as they are. usd-core maps a file and copies arrays alone, unchecked.
The files that are read are Vivant's own, but for .ksplat, which gaussforge writes.
*MB (write)* are the sizes that each writes. ply2splat and sogpy write from a PLY file, and reading it is in their time.
Vivant checks every value and counts what it mends while it reads, and uses NumPy and what comes with Blender's Python:
zlib and zstandard. gsply compiles its loops with Numba, and unpacks gzip by Intel's ISA-L, the faster one.
"""


@dataclass
class Worker:
    """A process that does tasks, started when first asked and again after it was stopped for being slow."""

    command: list[str]
    folder: pathlib.Path
    process: subprocess.Popen[bytes] | None = None

    def ask(self, patience: float, **task: str) -> dict[str, Any]:
        """The answer to a task, or why there is none."""
        if self.process is None or self.process.poll() is not None:
            self.process = subprocess.Popen(
                self.command, cwd=self.folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
            )
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write((json.dumps(task) + "\n").encode())
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while selector.select(patience):
                line = self.process.stdout.readline()
                if not line:
                    return {"absent": "the process ended"}
                if line.startswith(b"ANSWER "):
                    return dict(json.loads(line.removeprefix(b"ANSWER ")))
        self.process.kill()
        self.process.wait()
        return {"absent": f"took more than {patience:g} s"}

    def stop(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()


@dataclass
class Figures:
    """Of one library and format: times and sizes, or why there are none."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: {"read": [], "write": []})
    absent: dict[str, str] = field(default_factory=dict)
    megabytes: float = 0.0
    sums: dict[str, float] = field(default_factory=dict)

    def best(self, action: str) -> float | None:
        return min(self.seconds[action], default=None)


def capture(count: int, degree: int) -> SplatCloud:
    """Splats spread as those of captures: SH coefficients that fall with the degree, most of them small."""
    cloud = samples.random_cloud(count, degree)
    rng = np.random.default_rng(2)
    size = np.repeat([0.16, 0.08, 0.05, 0.03][:degree], [2 * band + 1 for band in range(1, degree + 1)]).astype(np.float32)
    coefficients = np.array(cloud.sh)
    coefficients[:, 1:] = size[:, None] * rng.laplace(size=(count, len(size), 3)).astype(np.float32)
    coefficients[:, 0] *= 5
    return cloud.replace(sh=coefficients)


def write_all(cloud: SplatCloud, folder: pathlib.Path, peers: Worker | None, options: argparse.Namespace) -> None:
    """One file a format; ksplat, which holds SH to degree 2, by a peer: Vivant does not write it."""
    folder.mkdir()
    for form, name, _ in FORMATS:
        path = folder / name
        if options.only and form not in ("PLY", *options.only):  # writers take their splats from the PLY
            continue
        if form.startswith("SPZ"):
            files.save(path, spz.encode(cloud, int(form[-1])))
        elif form != "ksplat":
            write_splats(cloud, path)
        elif peers:
            source = folder / "degree2.ply"
            write_splats(cloud.replace(sh=cloud.sh[:, :9]), source)
            task = {"action": "write", "format": form, "path": str(path), "source": str(source)}
            peers.ask(options.patience, library="gaussforge", **task)


def measure(options: argparse.Namespace, folder: pathlib.Path) -> tuple[dict[str, str], dict[tuple[str, str], Figures]]:
    """Versions by library, and figures by format and library."""
    worker = str(HERE / "_formats_worker.py")
    ours = Worker([sys.executable, worker], folder)
    peers = Worker([str(pathlib.Path(options.peers).absolute()), worker], folder) if options.peers else None
    node = Worker(["node", str(HERE / "_formats_worker.mjs")], pathlib.Path(options.node).absolute()) if options.node else None
    workers = [each for each in (ours, peers, node) if each]

    def of(library: str) -> Worker | None:
        return ours if library == "Vivant" else node if library in NODE else peers

    cloud = read_splats(options.cloud) if options.cloud else capture(options.count, options.degree)
    write_all(cloud.select(slice(WARM)), folder / "warm", peers, options)
    write_all(cloud, folder / "full", peers, options)
    versions: dict[str, str] = {}
    figures: dict[tuple[str, str], Figures] = {}
    try:
        for form, name, libraries in FORMATS:
            if options.only and form not in options.only:
                continue
            for library in ("Vivant", *libraries):
                figures[form, library] = Figures()
                found = each.ask(options.patience, library=library, action="version") if (each := of(library)) else {}
                versions[library] = found.get("version", "")
            for turn in range(options.rounds + 1):  # the first warms up
                for action in ("read", "write"):
                    for library in ("Vivant", *libraries):
                        record(figures[form, library], of(library), options, folder, (form, name, library, action), turn)
            for (row, library), found in figures.items():
                if row == form:
                    print(line_of(form, library, found, figures[form, "Vivant"]), flush=True)
    finally:
        for each in workers:
            each.stop()
    return versions, figures


def record(
    figure: Figures,
    worker: Worker | None,
    options: argparse.Namespace,
    folder: pathlib.Path,
    what: tuple[str, str, str, str],
    turn: int,
) -> None:
    """One timed call, unless there is no such library or it was slow already."""
    form, name, library, action = what
    slow = turn > 1 and max(figure.seconds[action], default=0) > options.patience / 6
    if worker is None or action in figure.absent or slow:
        return
    source = folder / ("full" if turn else "warm")
    path = source / name if action == "read" else folder / f"written.{name.partition('.')[2]}"
    task = {"library": library, "action": action, "format": form, "path": str(path), "source": str(source / "splats.ply")}
    found = worker.ask(options.patience, **task)
    if "seconds" not in found:
        figure.absent[action] = found["absent"]
    elif turn:
        figure.seconds[action].append(found["seconds"])
        figure.sums = found.get("sums", figure.sums)
        if action == "write":
            figure.megabytes = path.stat().st_size / 1e6


def words(figure: Figures, ours: Figures) -> list[str]:
    """Read, ratio, write, ratio, size."""
    found = []
    for action in ("read", "write"):
        theirs, mine = figure.best(action), ours.best(action)
        late = "took more" in figure.absent.get(action, "")
        found.append(f"{theirs:.3f}" if theirs else figure.absent[action].replace("took more than", ">") if late else "—")
        found.append(f"{mine / theirs:.2f}" if theirs and mine and figure is not ours else "—")
    return [*found, f"{figure.megabytes:.1f}" if figure.megabytes else "—"]


def line_of(form: str, library: str, figure: Figures, ours: Figures) -> str:
    """A row of the terminal, with what went wrong behind it, and where the arrays are not ours."""
    notes = [f"{action}: {why}" for action, why in figure.absent.items() if "has no" not in why and library != "Vivant"]
    if figure.sums and ours.sums:
        notes += [
            f"{name} {figure.sums[name]:.4g} against {ours.sums[name]:.4g}"
            for name in ours.sums
            if abs(figure.sums[name] - ours.sums[name]) > 0.02 * abs(ours.sums[name])
        ]
    return f"{form:<16}{library:<17}" + "".join(f"{word:>10}" for word in words(figure, ours)) + "  " + "; ".join(notes)


def as_page(options: argparse.Namespace, versions: dict[str, str], figures: dict[tuple[str, str], Figures]) -> str:
    """The table in Markdown, with its words around it."""
    heads = ["format", "library", "read s", "Vivant / it", "write s", "Vivant / it", "MB (write)"]
    rows = [heads, ["---"] * len(heads)]
    for (form, library), figure in figures.items():
        if figure.best("read") or figure.best("write"):
            rows.append([form, f"**{library}**" if library == "Vivant" else library, *words(figure, figures[form, "Vivant"])])
    unnamed = ("Vivant", "gsply C++", "gsply views")
    used = ", ".join(f"{name} {number}" for name, number in versions.items() if number and name not in unnamed)
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    machine = f"\nPython {platform.python_version()}, NumPy {np.__version__}; {used}.\n"
    return INTRODUCTION.format(cores=os.cpu_count(), **vars(options)) + table + "\n" + NOTES + machine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--degree", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cloud", type=pathlib.Path, help="a splat file to use instead of made splats")
    parser.add_argument("--only", action="append", help="one format of the table; may be given again")
    parser.add_argument("--patience", type=float, default=100, help="seconds after which a call is given up")
    parser.add_argument("--peers", default=os.environ.get("VIVANT_PEERS"), help="Python that has the other libraries")
    parser.add_argument("--node", default=os.environ.get("VIVANT_NODE_PEERS"), help="folder of the Node libraries")
    parser.add_argument("--page", type=pathlib.Path, help="write the table as Markdown")
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    print(f"{options.count:,} splats, SH degree {options.degree}, least of {options.rounds} rounds, {os.cpu_count()} cores")
    print(
        f"{'format':<16}{'library':<17}"
        + "".join(f"{head:>10}" for head in ("read s", "ours/its", "write s", "ours/its", "MB"))
    )
    with tempfile.TemporaryDirectory() as folder:
        versions, figures = measure(options, pathlib.Path(folder))
    if options.page:
        options.page.write_text(as_page(options, versions, figures), "utf8")
    if options.json:
        options.json.write_text(json.dumps({f"{form}, {library}": vars(found) for (form, library), found in figures.items()}))


if __name__ == "__main__":
    main()
