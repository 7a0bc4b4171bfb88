# SPDX-License-Identifier: GPL-3.0-or-later
"""What node groups cost a camera move and a frame, and the floor: one memcpy.

Per splat the drawing group writes a quad: four corners of position, place in the Gaussian, colour and opacity.

The groups of motion families are measured by themselves, beside two memcpys: of the bytes that they touch (every attribute they
read, and those they write), and of the stored splats (all their attributes, spherical harmonics as of degree 3: what a frame
that comes from outside would have to bring).  On a machine that does other things too the clock says little; what the
processor spent, shared by all cores, is what the clock would say if they were free.
"""

from __future__ import annotations

import argparse
import json
import os
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


def milliseconds_a_frame(splats: bpy.types.Object, rounds: int) -> tuple[float, float]:
    """Least time to evaluate the motion of an object alone for another frame: by the clock, and the processor's by cores."""
    pointclouds.drawer_of(splats).show_viewport = False
    scene = bpy.context.scene
    taken = []
    for frame in range(1, rounds + 2):
        start, used = time.perf_counter(), time.process_time()
        scene.frame_set(frame)
        taken.append((time.perf_counter() - start, time.process_time() - used))
    clock, processor = (1000 * min(column) for column in zip(*taken[1:], strict=True))
    return clock, processor / (os.cpu_count() or 1)


def touched(splats: bpy.types.Object) -> int:
    """Bytes that the node group of an object's motion reads and writes."""
    attributes = splats.data.attributes
    names = ["position", "position"]  # read and written by nodes of their own
    for node in pointclouds.mover_of(splats).node_group.nodes:
        if node.bl_idname in ("GeometryNodeInputNamedAttribute", "GeometryNodeStoreNamedAttribute"):
            names.append(node.inputs["Name"].default_value)
    sizes = {"FLOAT": 4, "FLOAT_VECTOR": 12}
    return len(splats.data.points) * sum(sizes.get(attributes[name].data_type, 16) for name in names)


def memcpy(size: int) -> tuple[float, float]:
    """Least seconds to copy so many bytes: by the clock, and the processor's."""
    source = np.ones(size // 4, np.float32)
    target = np.empty_like(source)
    taken = []
    for _ in range(9):
        start, used = time.perf_counter(), time.process_time()
        np.copyto(target, source)
        taken.append((time.perf_counter() - start, time.process_time() - used))
    clock, processor = (min(column) for column in zip(*taken, strict=True))
    return clock, processor


def measure_families(count: int, rounds: int) -> list[dict[str, float | str]]:
    """A row a family: milliseconds of a frame and of the two floors, by the clock and by what free cores would take."""
    print(f"\n{count:,} moving splats, least of {rounds} frames; milliseconds by the clock / on {os.cpu_count()} free cores")
    print(f"{'family':>8} {'frame':>15} {'touched, memcpy':>22} {'ratio':>13} {'stored, memcpy':>22} {'ratio':>13}")
    rows: list[dict[str, float | str]] = []
    for family in ("Linear", "4DGS", "STG", "NDGS"):
        cloud = samples.random_moving(family, count)
        splats = pointclouds.add(bpy.context, cloud)
        frame = milliseconds_a_frame(splats, rounds)
        arrays = (cloud.means, cloud.quats, cloud.scales, cloud.opacities, *cloud.family.attributes().values())
        whole = count * 16 * 3 * 4 + sum(values.nbytes for values in arrays)
        row: dict[str, float | str] = {"family": family, "clock": frame[0], "free": frame[1]}
        line = f"{family:>8} {frame[0]:7.1f}/{frame[1]:7.1f}"
        for name, size in (("touched", touched(splats)), ("stored", whole)):
            floor = [1000 * seconds for seconds in memcpy(size)]
            row |= {f"{name} bytes": size, f"{name} clock": floor[0], f"{name} free": floor[1]}
            line += (
                f" {size / 1e6:3.0f} MB {floor[0]:7.1f}/{floor[1]:7.1f} {frame[0] / floor[0]:6.2f}/{frame[1] / floor[1]:6.2f}"
            )
        print(line)
        rows.append(row)
        bpy.data.pointclouds.remove(splats.data)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--counts", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--moving", type=int, default=1_000_000, help="splats of each motion family, 0 for none")
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
        floor = memcpy(count * CORNER_BYTES)[0]
        rows.append({"splats": count, "quads": quads, "points": points, "memcpy": floor})
        print(f"{count:>10,} {quads:9.3f} {points:9.3f} {floor:9.3f} {quads / floor:15.1f}")
        bpy.data.pointclouds.remove(splats.data)
    families = measure_families(options.moving, 4 * options.rounds) if options.moving else []
    if options.json:
        options.json.write_text(json.dumps({"quads": rows, "families": families}))


if __name__ == "__main__":
    main()
