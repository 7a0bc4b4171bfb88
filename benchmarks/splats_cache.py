# SPDX-License-Identifier: GPL-3.0-or-later
"""What a frame from the frame cache costs, beside a memcpy of the same columns as floats; and what networks take to bake.

Every splat moves, turns, grows and fades in every frame, each in its own way, which is the worst case.  On a machine
that does other things too the clock says little; beside it is what the processor spent.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np

from vivant.backends.common.rotations import normalise
from vivant.backends.gaussian import cache_writer
from vivant.backends.gaussian.cache import EXTENSION, FrameCache
from vivant.backends.gaussian.cloud import SplatCloud
from vivant.backends.gaussian.motion.control_nodes import ControlNodes, Nodes
from vivant.backends.gaussian.motion.deformation import Deformable, DeformationNetwork
from vivant.backends.gaussian.motion.hexplane import HexPlane, HexPlaneNetwork

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tools"))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests" / "unit"))
import samples
from network_weights import control_nodes, deformation_shapes, golden_hexplane, waves

FRAMES = 31


def moved(cloud: SplatCloud, time: float) -> SplatCloud:
    """A cloud all of whose splats are on their way."""
    random = np.random.default_rng(1)
    share = np.float32(np.sin(6 * time + 0.5))

    def noise(size: float, width: int) -> np.ndarray:
        return share * np.float32(size) * random.standard_normal((len(cloud), width), np.float32)

    return cloud.replace(
        means=cloud.means + noise(0.05, 3),
        quats=normalise(cloud.quats + noise(0.1, 4)),
        scales=cloud.scales * np.exp(noise(0.1, 3)),
        opacities=np.clip(cloud.opacities + 0.1 * share, 0, 1),
    )


def milliseconds(calls: list[Callable[[], object]]) -> dict[str, float]:
    """Of calls in a row: the least and the median by the clock, the median and the most by the thread's processor."""
    clock, processor = [], []
    for call in calls:
        start, used = time.perf_counter(), time.thread_time()
        call()
        clock.append(1000 * (time.perf_counter() - start))
        processor.append(1000 * (time.thread_time() - used))
    found = {"least": min(clock), "median": float(np.median(clock))}
    return found | {"processor": float(np.median(processor)), "processor most": max(processor)}


def measure_cache(count: int, rounds: int) -> dict[str, dict[str, float]]:
    cloud = samples.random_cloud(count, 0)
    times = np.linspace(0, 1, FRAMES)
    random = np.random.default_rng(2)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        path = pathlib.Path(folder) / f"bench{EXTENSION}"
        cache_writer.write(path, cloud, times, (moved(cloud, time) for time in times))
        frames = FrameCache(path)
        floats = np.ones((count, 11), np.float32)
        target = np.zeros_like(floats)
        orders = {"forwards": np.tile(np.arange(FRAMES), rounds), "anywhere": random.integers(0, FRAMES, FRAMES * rounds)}
        found = {name: milliseconds([lambda i=i: frames.read(i) for i in order]) for name, order in orders.items()}
        found["memcpy"] = milliseconds([lambda: np.copyto(target, floats)] * 20)
        print(f"{count:,} splats, {path.stat().st_size / FRAMES / 1e6:.1f} MB a frame (floats: {floats.nbytes / 1e6:.1f} MB)")
    print(f"{'milliseconds':>14} {'least':>8} {'median':>8} {'processor':>10} {'most':>8}")
    for name, row in found.items():
        print(f"{name:>14} {row['least']:8.2f} {row['median']:8.2f} {row['processor']:10.2f} {row['processor most']:8.2f}")
    return found


def measure_networks(count: int) -> dict[str, float]:
    """Processor seconds that a frame takes, of the networks' published sizes."""
    random = np.random.default_rng(3)
    cloud = samples.random_cloud(count, 0)
    points, lengths = cloud.means, np.ones(count, np.float32)
    nodes = Nodes.of(control_nodes(512, 8))
    index, share = nodes.nearest(np.concatenate([points, random.normal(0, 0.01, (count, 8)).astype(np.float32)], axis=1))
    families = {
        "HexPlane": HexPlane(points=points, lengths=lengths, network=HexPlaneNetwork.of(golden_hexplane())),
        "Control Nodes": ControlNodes(points=points, lengths=lengths, nodes=nodes, index=index, share=share),
        "Deformable": Deformable(
            points=points, lengths=lengths, network=DeformationNetwork.of(waves(deformation_shapes(), 0.05))
        ),
    }
    found = {}
    print(f"\nprocessor seconds of a frame, {count:,} splats")
    for name, family in families.items():
        family.at(cloud, 0.1)
        start = time.process_time()
        family.at(cloud, 0.6)
        found[name] = time.process_time() - start
        print(f"{name:>14} {found[name]:8.3f}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=250_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--networks", type=int, default=100_000, help="splats that networks are asked about, 0 for none")
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    figures = {"cache": measure_cache(options.count, options.rounds)}
    if options.networks:
        figures["networks"] = measure_networks(options.networks)  # type: ignore[assignment]
    if options.json:
        options.json.write_text(json.dumps(figures))


if __name__ == "__main__":
    main()
