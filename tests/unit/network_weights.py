# SPDX-License-Identifier: GPL-3.0-or-later
"""State dicts of the networks that move splats, made by rules: those of the goldens, and random control nodes."""

import numpy as np

from vivant.backends.gaussian.cloud import SplatCloud
from vivant.backends.gaussian.motion.hexplane import HEADS

POINTS = np.float32([[0.1, 0.2, 0.3], [-0.5, 0.4, -0.9], [1.2, -1.1, 0.05], [0, 0, 0]])


def waves(shapes, size):
    """Weights as the goldens were made with: A sin(0.1 (n + 1) + 0.7 k), n counting values, k the sorted names."""
    weights = {}
    for k, name in enumerate(sorted(shapes)):
        n = np.arange(np.prod(shapes[name], dtype=int))
        weights[name] = (size * np.sin(0.1 * (n + 1) + 0.7 * k)).astype(np.float32).reshape(shapes[name])
    return weights


def layer(name, outputs, inputs):
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def deformation_shapes(blender=False, screw=False, prefix=""):
    inputs = 93 if blender else 84
    shapes = {}
    for i in range(8):
        shapes |= layer(f"linear.{i}", 256, inputs if i == 0 else inputs + 256 if i == 5 else 256)
    if blender:
        shapes |= layer("timenet.0", 256, 13) | layer("timenet.2", 30, 256)
    for name, size in (("branch_w", 3), ("branch_v", 3)) if screw else (("gaussian_warp", 3),):
        shapes |= layer(name, size, 256)
    shapes |= layer("gaussian_rotation", 4, 256) | layer("gaussian_scaling", 3, 256)
    return {prefix + name: shape for name, shape in shapes.items()}


def hexplane_shapes(width=64, channels=32, resolution=64, times=25, levels=(1, 2)):
    shapes = {"time_poc": (4,), "pos_poc": (10,), "rotation_scaling_poc": (2,), "opacity_poc": (2,)}
    shapes |= layer("timenet.0", width, 9) | layer("timenet.2", 30, width)
    net = "deformation_net."
    shapes[f"{net}grid.aabb"] = (2, 3)
    for level, factor in enumerate(levels):
        sizes = [resolution * factor] * 3 + [times]
        for i, (a, b) in enumerate([(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]):
            shapes[f"{net}grid.grids.{level}.{i}"] = (1, channels, sizes[b], sizes[a])
    shapes |= layer(f"{net}feature_out.0", width, len(levels) * channels)
    for name, (_, size) in HEADS.items():
        shapes |= layer(f"{net}{name}.1", width, width) | layer(f"{net}{name}.3", size, width)
    return shapes


def golden_hexplane():
    shapes = hexplane_shapes()
    assert len(shapes) == 43
    weights = waves(shapes, 0.5)
    top = np.float32([1.3, 1.2, 1.1])
    weights["deformation_net.grid.aabb"] = np.stack([top, -top])
    return weights


def still_cloud(points=POINTS, seed=0, coefficients=16):
    random = np.random.default_rng(seed)
    count = len(points)
    quats = random.normal(size=(count, 4))
    return SplatCloud(
        means=points,
        quats=quats / np.linalg.norm(quats, axis=1, keepdims=True),
        scales=np.exp(random.normal(-3, 0.3, (count, 3))),
        opacities=random.uniform(0.1, 0.9, count),
        sh=random.normal(0, 0.3, (count, coefficients, 3)),
    )


def control_nodes(count=20, hyper=2, local=False):
    """Weights of nodes about the points, whose network is small but not zero."""
    random = np.random.default_rng(5)
    weights = waves(deformation_shapes(prefix="network."), 0.05)
    if local:
        weights |= waves(layer("network.local_rotation", 4, 256), 0.05)
    weights["nodes"] = random.normal(0, 0.5, (count, 3 + hyper)).astype(np.float32)
    weights["_node_radius"] = random.normal(-1, 0.2, count).astype(np.float32)
    weights["_node_weight"] = random.normal(0, 1, (count, 1)).astype(np.float32)
    return weights
