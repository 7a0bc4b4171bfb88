# SPDX-License-Identifier: GPL-3.0-or-later
"""Damaged BVH files: each must read or fail with a VivantError, in time and in memory.

python dev.py python tests/fuzz/fuzz_bvh.py [--count 2000] [--seed 0] [FILE.bvh …]
"""

from __future__ import annotations

import argparse
import collections
import pathlib
import random
import tempfile
import time
import tracemalloc
from collections.abc import Sequence

import numpy as np

from vivant.backends.common.errors import VivantError
from vivant.backends.motion.formats.bvh import read_bvh

SEED = b"""HIERARCHY
ROOT Hips
{
  OFFSET 0 0 0
  CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
  JOINT Leg
  {
    OFFSET 10 -5 0
    CHANNELS 6 Xposition Yposition Zposition Xrotation Yrotation Zrotation
    End Site
    {
      OFFSET 0 -40 5
    }
  }
}
MOTION
Frames: 4
Frame Time: 0.0333333
1 90 2 0 0 0 10 -5 0 0 0 0
1 91 2 10 20 30 10 -5 0 0 1 0
1 92 2 20 20 30 10 -6 0 0 2 0
1 93 2 30 20 30 10 -7 0 0 3 0
"""
TOKENS = b"nan -inf 1e400 99999999999 -1 0 { } \n \r \0 \xff MOTION ROOT JOINT OFFSET CHANNELS Frames: End Xrotation".split(
    b" "
)


def mutate(seed: bytes, rng: random.Random) -> bytes:
    """One to eight damages: bytes changed, parts cut, doubled, moved or replaced by words that mean something."""
    text = bytearray(seed)
    for _ in range(rng.choice((1, 1, 2, 2, 4, 8))):
        a = rng.randrange(len(text) + 1)
        b = min(len(text), a + rng.choice((1, 1, 1, 4, 40, 400)))
        kind = rng.randrange(7)
        if kind == 0 and a < len(text):
            text[a] = rng.randrange(256)
        elif kind == 1:
            del text[a:b]
        elif kind == 2:
            text[a:a] = text[a:b]
        elif kind == 3:
            text[a:b] = rng.choice(TOKENS)
        elif kind == 4:
            text[a:a] = b" " + rng.choice(TOKENS) + b" "
        elif kind == 5:
            del text[a:]
        else:
            words = bytes(text).split(b" ")
            words[rng.randrange(len(words))] = rng.choice(TOKENS)
            text = bytearray(b" ".join(words))
    return bytes(text)


def check(text: bytes, path: pathlib.Path) -> str:
    """What became of one file: "read" or the error's name.  Fails when it breaks a promise."""
    path.write_bytes(text)
    tracemalloc.start()
    start = time.perf_counter()
    try:
        clip = read_bvh(path)
        outcome, message = "read", ""
    except VivantError as error:
        outcome, message = type(error).__name__, str(error)
    finally:
        seconds, peak = time.perf_counter() - start, tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert message or (np.all(np.isfinite(clip.forward()[0])) and len(clip) > 0 and clip.fps > 0), "the clip is not sound"
    assert "\n" not in message and len(message) < 400, f"no sentence: {message}"
    assert peak < 4 * len(text) + (64 << 20), f"{peak} bytes of memory for a file of {len(text)}"
    assert seconds < 5, f"{seconds:.1f} s"
    return outcome


def fuzz(seeds: Sequence[bytes], count: int, seed: int, folder: pathlib.Path) -> collections.Counter[str]:
    """How `count` damaged files ended; one that broke a promise stays in the folder, and its number is raised."""
    outcomes: collections.Counter[str] = collections.Counter()
    for number in range(count):
        rng = random.Random(f"{seed} {number}")
        try:
            outcomes[check(mutate(rng.choice(seeds), rng), folder / "damaged.bvh")] += 1
        except Exception as error:
            raise AssertionError(f"seed {seed}, mutation {number}: {error!r}") from error
    return outcomes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=pathlib.Path)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        seeds = [SEED, *(path.read_bytes() for path in options.files)]
        print(dict(fuzz(seeds, options.count, options.seed, pathlib.Path(folder))))


if __name__ == "__main__":
    main()
