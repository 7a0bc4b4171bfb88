# SPDX-License-Identifier: GPL-3.0-or-later
"""A million splats (62 float32 each) to a warm engine and back, beside memcpy of the same bytes in the same run.

    python dev.py bench engine_roundtrip [--count 1000000] [--rounds 7] [--out FILE.json]

The answer lies in memory of our own, not in mapped files that nobody has looked at yet.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import statistics
import sys
import time

import numpy as np

from vivant.engine.client import Engine

ROOT = pathlib.Path(__file__).resolve().parents[1]
COLUMNS = 62


def roundtrip(engine: Engine, sent: np.ndarray) -> tuple[float, float]:
    """Seconds until the job is submitted, and until its arrays are back."""
    start = time.perf_counter()
    job = engine.submit("echo", {}, {"splats": sent})
    submitted = time.perf_counter() - start
    _, arrays = job.result()
    back = time.perf_counter() - start
    assert np.array_equal(arrays["splats"].view(np.uint32), sent.view(np.uint32))
    return submitted, back


def memcpy(sent: np.ndarray) -> float:
    """Seconds to copy there and back, both times into new memory, as another process would have to."""
    start = time.perf_counter()
    sent.copy().copy()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "out" / "bench" / "engine_roundtrip.json")
    options = parser.parse_args()

    sent = np.random.default_rng(0).random((options.count, COLUMNS), dtype=np.float32)
    engine = Engine(pathlib.Path(sys.executable))
    start = time.perf_counter()
    engine.submit("echo", {}).result()
    cold = time.perf_counter() - start
    empty = []
    for _ in range(20):
        start = time.perf_counter()
        engine.submit("echo", {}).result()
        empty.append(time.perf_counter() - start)
    rounds = [(*roundtrip(engine, sent), memcpy(sent)) for _ in range(options.rounds + 1)][1:]
    engine.close()

    submitted, back, copied = (statistics.median(column) for column in zip(*rounds, strict=True))
    ratio = statistics.median(mine / floor for _, mine, floor in rounds)
    print(f"{options.count:,} × {COLUMNS} float32, {sent.nbytes / 1e6:.0f} MB, median of {options.rounds}")
    print(f"  first job, engine started     {cold * 1e3:8.1f} ms")
    print(f"  empty job, engine warm        {statistics.median(empty) * 1e3:8.1f} ms")
    print(f"  arrays sent                   {submitted * 1e3:8.1f} ms")
    print(f"  arrays back                   {back * 1e3:8.1f} ms   (bar: 600 ms, or 3 × memcpy if that is longer)")
    print(f"  memcpy there and back         {copied * 1e3:8.1f} ms")
    print(f"  ratio                         {ratio:8.2f}")
    result = {
        "cold": cold,
        "empty": statistics.median(empty),
        "sent": submitted,
        "back": back,
        "memcpy": copied,
        "ratio": ratio,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
