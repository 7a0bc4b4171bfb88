# SPDX-License-Identifier: GPL-3.0-or-later
"""What a capture costs that streams from the disk: memory beside the size of its file, and a frame beside a memcpy.

A PLY file of straight stretches, so many segments of so many splats each, is made part by part, sorted into a stream, and
played at sub-frames, forwards and anywhere; each step runs in a process of its own, whose most memory is counted.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tools"))


def megabytes() -> float:
    """The most memory that this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def make(path: pathlib.Path, segments: int, count: int, degree: int) -> None:
    """A file whose splats live for a segment each, in no order."""
    from vivant.backends.gaussian.formats import ply

    names = ["x", "y", "z", "f_dc_0", "f_dc_1", "f_dc_2", *(f"f_rest_{i}" for i in range(3 * ((degree + 1) ** 2 - 1)))]
    names += ["opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"]
    names += ["velocity_0", "velocity_1", "velocity_2", "t", "sigma_t", "t_start", "t_end"]
    random = np.random.default_rng(0)
    with path.open("wb") as file:
        file.write(ply._header(segments * count, names, []))
        for _ in range(segments):
            rows = 0.3 * random.standard_normal((count, len(names)), np.float32)
            segment = random.integers(0, segments, count)
            rows[:, names.index("t")] = (segment + 0.5) / segments
            rows[:, names.index("sigma_t")] = 0
            rows[:, -2], rows[:, -1] = segment / segments, (segment + 1) / segments
            rows[:, names.index("scale_0") :][:, :3] -= 5
            file.write(rows.astype("<f4").tobytes())


def sort(path: pathlib.Path, made: pathlib.Path) -> dict[str, float]:
    from vivant.backends.gaussian import stream_writer

    before, start = megabytes(), time.perf_counter()
    stream_writer.run(*stream_writer.request(path, made, {}), lambda *_: None)
    return {"seconds": time.perf_counter() - start, "memory": megabytes() - before}


def play(path: pathlib.Path, made: pathlib.Path) -> dict[str, float]:
    import bpy

    from vivant.scene import playback, pointclouds, streams

    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    before = megabytes()
    splats = streams.add(bpy.context, path, made, {}, 1.0, 120.0)
    playback.register()
    frames = np.linspace(1, 121, 480)
    random = np.random.default_rng(1).uniform(1, 121, 60)
    found: dict[str, float] = {}
    for name, order in (("forwards", frames), ("anywhere", random)):
        clock, processor = [], []
        for frame in order:
            moment = pointclouds.time_at(splats, float(frame))
            time.sleep(1 / 48)  # as a player that keeps the time: what comes next is read meanwhile
            old = playback._players[splats.data.session_uid].columns
            start, spent = time.perf_counter(), time.thread_time()
            playback.show(splats, moment)
            taken, used = 1000 * (time.perf_counter() - start), 1000 * (time.thread_time() - spent)
            new = playback._players[splats.data.session_uid].columns
            if new["position"] is not old["position"]:  # other splats came
                clock.append(taken)
                processor.append(used)
            scene.frame_set(int(frame), subframe=float(frame) % 1)
        found |= {f"{name} swaps": len(clock), f"{name} least": min(clock), f"{name} median": float(np.median(clock))}
        found |= {f"{name} most": max(clock), f"{name} processor": float(np.median(processor))}
    floats = np.ones(sum(each.size for each in playback._players[splats.data.session_uid].columns.values()), np.float32)
    target, copies = np.zeros_like(floats), []
    for _ in range(10):
        start = time.perf_counter()
        np.copyto(target, floats)
        copies.append(1000 * (time.perf_counter() - start))
    most = len(splats.data.points)
    return found | {
        "memcpy": min(copies),
        "memory": megabytes() - before,
        "splats at once": most,
        "window": floats.nbytes / 1e6,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--segments", type=int, default=200)
    parser.add_argument("--count", type=int, default=50_000, help="splats of a segment")
    parser.add_argument("--degree", type=int, default=1)
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--step", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        step, path, made = options.step
        figures = (sort if step == "sort" else play)(pathlib.Path(path), pathlib.Path(made))
        print("FIGURES", json.dumps(figures), flush=True)
        os._exit(0)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        path, made = pathlib.Path(folder) / "big.ply", pathlib.Path(folder) / "big.vivantstream"
        make(path, options.segments, options.count, options.degree)
        size = path.stat().st_size / 1e6
        found = {}
        for step in ("sort", "play"):
            command = [sys.executable, *sys.argv[:1], "--step", step, str(path), str(made)]
            ran = subprocess.run(command, capture_output=True, text=True, check=False)
            line = next((line for line in ran.stdout.splitlines() if line.startswith("FIGURES ")), None)
            if line is None:
                sys.exit(ran.stdout + ran.stderr)
            found[step] = json.loads(line.removeprefix("FIGURES "))
        on_disk = made.stat().st_size / 1e6
    print(f"{options.segments * options.count:,} splats of degree {options.degree}: {size:,.0f} MB, sorted {on_disk:,.0f} MB")
    for step, row in found.items():
        print(f"{step:>6}: " + ", ".join(f"{name} {value:,.1f}" for name, value in row.items()))
    print(f"the file is {size / found['play']['memory']:.1f} times the memory that playing it adds")
    if options.json:
        options.json.write_text(json.dumps({"file": size, **found}))


if __name__ == "__main__":
    main()
