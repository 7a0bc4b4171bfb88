# SPDX-License-Identifier: GPL-3.0-or-later
"""What the node group costs a camera move, and the floor: one memcpy of what it writes.

Per splat the group writes a quad: four corners of position, place in the Gaussian, colour and opacity.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import statistics
import sys
import time

import bpy
import numpy as np

from vivant.scene import compat, pointclouds

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tools"))
import samples

CORNER_BYTES = 4 * (3 + 3 + 3 + 1) * 4


def seconds_a_move(splats: bpy.types.Object, quads: bool, rounds: int) -> float:
    """Median seconds to evaluate an object after its camera moved."""
    compat.set_modifier_input(pointclouds.drawer_of(splats), "Quads in Viewport", quads)
    bpy.context.view_layer.update()
    taken = []
    for _ in range(rounds):
        bpy.context.scene.camera.location.x += 0.01
        splats.update_tag()
        start = time.perf_counter()
        bpy.context.view_layer.update()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def memcpy(count: int) -> float:
    """Median seconds to copy what the quads of so many splats hold."""
    source = np.ones(count * CORNER_BYTES // 4, np.float32)
    target = np.empty_like(source)
    taken = []
    for _ in range(5):
        start = time.perf_counter()
        np.copyto(target, source)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--counts", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene.camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    scene.collection.objects.link(scene.camera)
    scene.camera.location, scene.camera.rotation_euler = (0, -6, 0), (np.pi / 2, 0, 0)
    print(f"Blender {bpy.app.version_string}, SH degree 3, median of {options.rounds}")
    print(f"{'splats':>10} {'quads s':>9} {'points s':>9} {'memcpy s':>9} {'quads / memcpy':>15}")
    rows = []
    for count in options.counts:
        splats = pointclouds.add(bpy.context, samples.random_cloud(count))
        quads, points = (seconds_a_move(splats, kind, options.rounds) for kind in (True, False))
        floor = memcpy(count)
        rows.append({"splats": count, "quads": quads, "points": points, "memcpy": floor})
        print(f"{count:>10,} {quads:9.3f} {points:9.3f} {floor:9.3f} {quads / floor:15.1f}")
        bpy.data.pointclouds.remove(splats.data)
    if options.json:
        options.json.write_text(json.dumps(rows))


if __name__ == "__main__":
    main()
