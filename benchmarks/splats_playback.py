# SPDX-License-Identifier: GPL-3.0-or-later
"""What a new frame of cached splats costs in Blender: reading it, and setting the attributes.

Every splat moves, turns, grows and fades in every frame.  On a machine that does other things too the clock says
little; beside it is what the thread that Blender waits for spent on its processor.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import sys
import tempfile
import time

import bpy
import numpy as np

from vivant.backends.gaussian import cache_writer
from vivant.backends.gaussian.cache import EXTENSION
from vivant.scene import playback, pointclouds

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tools"))
import samples
from splats_cache import milliseconds, moved


def measure(count: int, frames: int, rounds: int) -> dict[str, dict[str, float]]:
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    cloud = samples.random_cloud(count, 0)
    times = np.linspace(0, 1, frames)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        path = pathlib.Path(folder) / f"bench{EXTENSION}"
        cache_writer.write(path, cloud, times, (moved(cloud, time) for time in times), "bench")
        splats = pointclouds.to_object(cloud, "Bench")
        scene.collection.objects.link(splats)
        told = {"family": pointclouds.FRAMES, "moves_by": "bench", "path": "", "time_range": [0.0, 1.0], "samples": frames}
        for name, value in (told | {"cache": str(path), "source": "bench"}).items():
            splats[pointclouds.KEY][name] = value
        order = np.tile(times, rounds)
        playback.show(splats, 1.0)

        def swap(moment: float) -> None:
            playback.show(splats, moment)

        found = {}
        clock, used = [], []
        for moment in order:
            time.sleep(1 / 24)  # as a player that keeps the time: the frame is read ahead meanwhile
            start, spent = time.perf_counter(), time.thread_time()
            swap(moment)
            clock.append(1000 * (time.perf_counter() - start))
            used.append(1000 * (time.thread_time() - spent))
            bpy.context.view_layer.update()  # so that Blender holds a copy of the last frame, as it does when playing
        paced = {"least": min(clock), "median": float(np.median(clock))}
        found["swap at 24 a second"] = paced | {"processor": float(np.median(used)), "processor most": max(used)}
        found["swap"] = milliseconds([lambda moment=moment: swap(moment) for moment in order])
        floats = np.ones((count, 14), np.float32)
        target = np.zeros_like(floats)
        found["memcpy"] = milliseconds([lambda: np.copyto(target, floats)] * 20)
        size = path.stat().st_size
    print(f"{count:,} splats, {frames} frames, {size / frames / 1e6:.1f} MB a frame in the cache")
    print(f"{'milliseconds':>20} {'least':>8} {'median':>8} {'processor':>10} {'most':>8}")
    for name, row in found.items():
        print(f"{name:>20} {row['least']:8.2f} {row['median']:8.2f} {row['processor']:10.2f} {row['processor most']:8.2f}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=250_000)
    parser.add_argument("--frames", type=int, default=31)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    figures = measure(options.count, options.frames, options.rounds)
    if options.json:
        options.json.write_text(json.dumps(figures))
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
