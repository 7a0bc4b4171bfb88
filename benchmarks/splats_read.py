# SPDX-License-Identifier: GPL-3.0-or-later
"""File to SplatCloud in every format, beside the time that it takes to copy the file's bytes into memory."""

from __future__ import annotations

import argparse
import json
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np

from vivant.backends.gaussian.formats import EXTENSIONS, read_splats, write_splats

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tools"))
import samples


def seconds(call: Callable[[], object], rounds: int) -> float:
    """Median of some rounds after one that warms up; each result is dropped before the next."""
    times = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--degree", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    cloud = samples.random_cloud(options.count, options.degree)
    print(f"{options.count:,} splats, SH degree {options.degree} where the format has it, median of {options.rounds}")
    print(f"  {'format':<16}{'file MB':>9}{'write s':>9}{'read s':>9}{'bytes s':>9}{'ratio':>8}")
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        for extension in EXTENSIONS:
            path = pathlib.Path(folder) / f"splats{extension}"
            start = time.perf_counter()
            write_splats(cloud, path)
            write = time.perf_counter() - start
            size = path.stat().st_size / 1e6
            read = seconds(lambda path=path: read_splats(path), options.rounds)
            floor = seconds(lambda path=path: np.fromfile(path, np.uint8), options.rounds)
            path.unlink()
            print(f"  {extension:<16}{size:>9.1f}{write:>9.2f}{read:>9.3f}{floor:>9.3f}{read / floor:>8.1f}", flush=True)
            figures[extension] = {"megabytes": size, "write": write, "read": read, "bytes": floor}
    if options.json:
        options.json.write_text(json.dumps(figures))


if __name__ == "__main__":
    main()
