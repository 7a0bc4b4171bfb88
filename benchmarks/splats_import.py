# SPDX-License-Identifier: GPL-3.0-or-later
"""File to finished point cloud, a million splats of SH degree 3, beside Blender's own PLY importer.

Both read the same file in the same run, in turn; the ratio is the figure to quote.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import statistics
import sys
import tempfile
import time

import bpy

from vivant import api
from vivant.scene import pointclouds

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tools"))
import samples


def ours(path: pathlib.Path) -> tuple[float, float]:
    """Seconds to read, and in all."""
    start = time.perf_counter()
    cloud = api.read_splats(path)
    read = time.perf_counter() - start
    made = pointclouds.to_object(cloud, "Splats")
    bpy.context.collection.objects.link(made)
    total = time.perf_counter() - start
    count = len(made.data.points)
    data = made.data
    bpy.data.objects.remove(made)
    bpy.data.pointclouds.remove(data)
    assert count == len(cloud)
    return read, total


def theirs(path: pathlib.Path) -> float:
    """Seconds of Blender's own importer, which leaves the columns as they are."""
    start = time.perf_counter()
    bpy.ops.wm.ply_import(filepath=str(path))
    total = time.perf_counter() - start
    mesh = bpy.context.object.data
    bpy.data.objects.remove(bpy.context.object)
    bpy.data.meshes.remove(mesh)
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "splats.ply"
        samples.write_random_ply(path, options.count)
        rounds = [(*ours(path), theirs(path)) for _ in range(options.rounds + 1)][1:]
        size = path.stat().st_size / 1e6
    read, total, blender = (statistics.median(column) for column in zip(*rounds, strict=True))
    ratio = statistics.median(mine / its for _, mine, its in rounds)
    print(f"Blender {bpy.app.version_string}, {options.count:,} splats, {size:.0f} MB, median of {options.rounds}")
    print(f"  Vivant, read              {read:6.2f} s")
    print(f"  Vivant, to finished cloud {total:6.2f} s")
    print(f"  wm.ply_import             {blender:6.2f} s")
    print(f"  ratio Vivant / Blender    {ratio:6.2f}   (pair by pair; under 1 is faster)")
    if options.json:
        options.json.write_text(json.dumps({"read": read, "total": total, "ply_import": blender, "ratio": ratio}))


if __name__ == "__main__":
    main()
