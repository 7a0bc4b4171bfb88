# SPDX-License-Identifier: GPL-3.0-or-later
"""How much fewer splats look like all of them, by ways to choose and to make up for the others; and what choosing costs.

    python3 dev.py bench splats_density FILE [FILE …] [--size W H]

PSNR (dB, values clipped to 0..1) and SSIM (Wang et al. 2004, Gaussian window of 1.5 px) of the float64 rasteriser's pictures of
a part against those of the whole, from a side that fills the picture, from near and from afar.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import pathlib
import sys
import time
from collections.abc import Callable

import bpy
import numpy as np
from numpy.typing import NDArray

from vivant import api
from vivant.backends.common.cameras import Camera
from vivant.backends.gaussian import density
from vivant.backends.gaussian.cloud import SplatCloud
from vivant.backends.gaussian.render.reference import render
from vivant.scene import compat, pointclouds

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tools"))
import samples

Array = NDArray[np.floating]
DENSITIES = (0.5, 0.25, 0.1)
VIEWS = {"whole": ((-0.5, -0.15, 1.0), 1.2), "near": ((0.9, -0.4, -0.5), 0.5), "far": ((0.2, -0.1, -1.0), 4.0)}


def look(cloud: SplatCloud, away: tuple[float, float, float], distance: float, size: tuple[int, int]) -> Camera:
    """A 35 mm camera off the middle of a capture with Y down, so many of its sizes away."""
    low, high = np.percentile(cloud.means, [2, 98], axis=0)
    ahead = -np.array(away) / np.linalg.norm(away)
    right = np.cross([0.0, 1, 0], ahead)
    right /= np.linalg.norm(right)
    to_world = np.eye(4)
    to_world[:3, :3] = np.stack([right, np.cross(ahead, right), ahead], axis=1)
    to_world[:3, 3] = (low + high) / 2 - ahead * distance * np.linalg.norm(high - low)
    focal = 35 / 36 * size[0]
    intrinsics = np.array([[focal, 0, size[0] / 2], [0, focal, size[1] / 2], [0, 0, 1]])
    return Camera(intrinsics, to_world, *size, near=0.01)


def psnr(a: Array, b: Array) -> float:
    return -10 * math.log10(max(np.square(np.clip(a, 0, 1) - np.clip(b, 0, 1)).mean(), 1e-20))


def ssim(a: Array, b: Array) -> float:
    bell = np.exp(-0.5 * np.square(np.arange(-5, 6) / 1.5))
    bell /= bell.sum()

    def blur(values: Array) -> Array:
        for axis in (0, 1):
            values = np.apply_along_axis(np.convolve, axis, values, bell, "same")
        return values

    a, b = np.clip(a, 0, 1), np.clip(b, 0, 1)
    mean_a, mean_b = blur(a), blur(b)
    both = blur(a * b) - mean_a * mean_b
    squares, spreads = mean_a**2 + mean_b**2, blur(a * a) - mean_a**2 + blur(b * b) - mean_b**2
    return float(np.mean((2 * mean_a * mean_b + 1e-4) * (2 * both + 9e-4) / ((squares + 1e-4) * (spreads + 9e-4))))


# ---- ways to draw fewer


def by_chance(cloud: SplatCloud, value: float) -> SplatCloud:
    return cloud.select(np.random.default_rng(1).random(len(cloud)) < value)


def most_important(cloud: SplatCloud, value: float) -> SplatCloud:
    count = round(value * len(cloud))
    importance = np.square(density.weights(cloud.scales, cloud.opacities))
    return cloud.select(np.sort(np.argpartition(-importance, count)[:count]))


def chance_denser(cloud: SplatCloud, value: float) -> SplatCloud:
    return made_up_for(cloud, np.full(len(cloud), value, np.float32))


def in_proportion(cloud: SplatCloud, value: float) -> SplatCloud:
    return made_up_for(cloud, density.shares(np.square(density.weights(cloud.scales, cloud.opacities)), value))


def without_making_up(cloud: SplatCloud, value: float) -> SplatCloud:
    return cloud.select(density.chosen(density.shares(density.weights(cloud.scales, cloud.opacities), value)))


def by_size(cloud: SplatCloud, value: float) -> SplatCloud:
    return made_up_for(cloud, density.shares(density.weights(cloud.scales), value))


def made_up_for(cloud: SplatCloud, share: NDArray[np.float32]) -> SplatCloud:
    kept = density.chosen(share)
    part = cloud.select(kept)
    scales, opacities = density.compensated(part.scales, part.opacities, share[kept])
    return part.replace(scales=scales, opacities=opacities)


WAYS: dict[str, Callable[[SplatCloud, float], SplatCloud]] = {
    "random": by_chance,
    "most important only": most_important,
    "even, denser and larger": chance_denser,
    "by importance, denser and larger": in_proportion,
    "by its root, as they are": without_making_up,
    "by its root, denser and larger (Density)": density.thinned,
    "the same by size alone (Density, moving)": by_size,
}


def compare(path: pathlib.Path, size: tuple[int, int]) -> dict[str, dict[str, list[float]]]:
    """Print and return, of every density and way, PSNR and SSIM from every view."""
    cloud = api.read_splats(path)
    cameras = [look(cloud, away, distance, size) for away, distance in VIEWS.values()]
    whole = [render([(cloud, camera)]) for camera in cameras]
    print(f"\n{path.name}, {len(cloud):,} splats, {size[0]} x {size[1]}; PSNR in dB / SSIM {', '.join(VIEWS)}")
    scores: dict[str, dict[str, list[float]]] = {}
    for value in DENSITIES:
        scores[f"{value}"] = {}
        for name, way in WAYS.items():
            part = way(cloud, value)
            pictures = [render([(part, camera)]) for camera in cameras]
            row = [score(a, b) for a, b in zip(pictures, whole, strict=True) for score in (psnr, ssim)]
            cells = "  ".join(f"{row[i]:5.1f} / {row[i + 1]:.3f}" for i in range(0, len(row), 2))
            print(f"  {value:4.2f}  {name:<42} {cells}", flush=True)
            scores[f"{value}"][name] = row
    return scores


def cost(count: int) -> dict[str, float]:
    """Print and return milliseconds that Blender takes to evaluate the drawing's points, least of seven, by density."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    splats = pointclouds.to_object(samples.random_cloud(count), "Bench")
    bpy.context.scene.collection.objects.link(splats)
    drawer = pointclouds.drawer_of(splats)
    found = {}
    print(f"\n{count:,} splats, one evaluation; milliseconds")
    for value in (1.0, *DENSITIES):
        compat.set_modifier_input(drawer, "Density", value)
        bpy.context.view_layer.update()
        times = []
        for _ in range(7):
            splats.data.update_tag()
            started = time.perf_counter()
            bpy.context.view_layer.update()
            times.append(1000 * (time.perf_counter() - started))
        found[f"{value}"] = min(times)
        print(f"  density {value:4.2f}  {min(times):7.1f}", flush=True)
    columns = [pointclouds.read_attribute(splats.data, name) for name in ("scale", pointclouds.BASE)]
    times = []
    for _ in range(7):
        started = time.perf_counter()
        share = density.shares(density.weights(columns[0], columns[1][:, 3]), 0.5)
        kept = density.chosen(share)
        density.compensated(columns[0][kept], columns[1][kept, 3], share[kept])
        times.append(1000 * (time.perf_counter() - started))
    found["NumPy 0.5"] = min(times)
    print(f"  the viewport's budget of a half, in NumPy {min(times):7.1f}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=pathlib.Path, nargs="*", help="splat files")
    parser.add_argument("--size", type=int, nargs=2, default=(240, 180), help="picture, pixels")
    parser.add_argument("--count", type=int, default=1_000_000, help="splats whose cost is measured")
    parser.add_argument("--out", type=pathlib.Path, help="write the numbers as JSON")
    options = parser.parse_args()
    print(f"Blender {bpy.app.version_string}")
    result: dict[str, object] = {path.name: compare(path, tuple(options.size)) for path in options.files}
    result["milliseconds"] = cost(options.count)
    if options.out:
        options.out.write_text(json.dumps(result, indent=1))
    sys.stdout.flush()
    os._exit(0)  # Blender 4.5 as a module may hang at a normal exit


if __name__ == "__main__":
    main()
