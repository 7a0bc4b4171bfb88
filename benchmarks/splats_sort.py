# SPDX-License-Identifier: GPL-3.0-or-later
"""What turning the viewport costs: sorting the splats in a thread, and what Blender's main thread does for a redraw meanwhile.

The sort goes from places to the texels that the graphics card wants; beside it stands a stable argsort of as many
random 16-bit keys.  The redraws turn the view every time, sixty a second; the graphics card's own drawing is left out,
because where there is none the processor would be measured drawing.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import sys
import time
from collections.abc import Callable

import bpy
import gpu
import numpy as np
from mathutils import Matrix

from vivant.scene import drawing, pointclouds, rasteriser, sorting

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tools"))
import samples

SIZE = (1920, 1080)
PROJECTION = Matrix(((1.7, 0, 0, 0), (0, 3.0, 0, 0), (0, 0, -1.0002, -0.02), (0, 0, -1, 0)))


def milliseconds(calls: list[Callable[[], object]], pause: float = 0.0) -> dict[str, float]:
    """The least, the median and the most of calls with a pause (seconds) before each."""
    times = []
    for call in calls:
        time.sleep(pause)
        start = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - start))
    return {"least": min(times), "median": float(np.median(times)), "most": max(times)}


def measure(count: int, rounds: int) -> dict[str, dict[str, float]]:
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    splats = pointclouds.to_object(samples.random_cloud(count, 0), "Bench")
    scene.collection.objects.link(splats)
    bpy.context.view_layer.update()
    depsgraph = bpy.context.evaluated_depsgraph_get()
    view = drawing.View(SIZE)
    empty = gpu.types.GPUOffScreen(*SIZE)
    angles = np.linspace(0, 2 * np.pi, rounds)

    def redraw(angle: float, may_be_late: bool) -> None:
        with empty.bind():
            depth = gpu.state.active_framebuffer_get().read_depth(0, 0, *SIZE)
        to_view = Matrix.Translation((0, 0, -8)) @ Matrix.Rotation(angle, 4, "Y")
        drawing.paint(view, [splats], depsgraph, count, to_view, PROJECTION, depth, may_be_late)

    rasteriser.draw = lambda *arguments: None
    redraw(0.1, False)
    points, new_orders = view.order.of.points, 0
    keys = np.random.default_rng(0).integers(0, 65536, len(points.names)).astype(np.uint16)

    def sort(angle: float) -> None:
        line = tuple(Matrix.Rotation(angle, 4, "Y")[2])
        sorting.sort(sorting.Wanted(points, ((*line[:3], -8.0),), 0.1, True))

    def late(angle: float) -> None:
        nonlocal new_orders
        before = view.order.texture
        redraw(angle, True)
        new_orders += view.order.texture is not before

    found = {
        "stable argsort of 16 bits": milliseconds([lambda: np.argsort(keys, kind="stable")] * rounds),
        "sort, in the thread": milliseconds([lambda angle=angle: sort(angle) for angle in angles]),
        "redraw, main thread": milliseconds([lambda angle=angle: late(angle) for angle in angles], 1 / 60),
        "redraw that waits": milliseconds([lambda angle=angle: redraw(angle, False) for angle in angles], 1 / 60),
    }
    print(f"{len(points.names):,} splats, {SIZE[0]} x {SIZE[1]} pixels; {new_orders} new orders in {rounds} redraws")
    print(f"{'milliseconds':>26} {'least':>8} {'median':>8} {'most':>8}")
    for name, row in found.items():
        print(f"{name:>26} {row['least']:8.2f} {row['median']:8.2f} {row['most']:8.2f}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    gpu.init()
    figures = measure(options.count, options.rounds)
    if options.json:
        options.json.write_text(json.dumps(figures))
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
