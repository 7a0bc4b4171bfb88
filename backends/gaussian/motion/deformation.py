# SPDX-License-Identifier: GPL-3.0-or-later
"""Deformable 3D Gaussians: a network of eight layers says where each splat goes, how it turns and how it grows.

It takes the encoded canonical position and time (0 to 1); its answers are added to mean, unit quaternion and
standard deviations; the kind with six degrees of freedom moves points by a screw instead.
Source: Yang et al., "Deformable 3D Gaussians for High-Fidelity Monocular Dynamic Scene Reconstruction", and the shapes
of its published networks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ...common.threads import in_blocks
from .layers import Linear, Weights, linear, octaves, relu
from .network import NetworkFamily

Floats = NDArray[np.float32]

DEPTH, WIDTH = 8, 256
SKIP = 5  # the layer that sees the input again
POINT_OCTAVES, TIME_OCTAVES, BLENDER_TIME_OCTAVES = 10, 10, 6
ENCODED_POINT = 3 * (1 + 2 * POINT_OCTAVES)
ROWS = 4096
"""Splats a block: what its layers hold stays in a core's cache."""


@dataclass(frozen=True, eq=False)
class DeformationNetwork:
    """The layers; `time_layers` compress the time first (networks trained on Blender's synthetic scenes), or are empty."""

    layers: tuple[Linear, ...]
    heads: dict[str, Linear]
    time_layers: tuple[Linear, ...]

    @classmethod
    def of(cls, weights: Weights, prefix: str = "") -> DeformationNetwork:
        """The network in a state dict whose names begin with `prefix`.  Raises BrokenFile when it is none."""
        if f"{prefix}timenet.0.weight" in weights:
            hidden = linear(weights, f"{prefix}timenet.0", 1 + 2 * BLENDER_TIME_OCTAVES)
            time_layers: tuple[Linear, ...] = (hidden, linear(weights, f"{prefix}timenet.2", len(hidden.bias)))
            encoded = ENCODED_POINT + len(time_layers[1].bias)
        else:
            time_layers, encoded = (), ENCODED_POINT + 1 + 2 * TIME_OCTAVES
        inputs = [WIDTH] * DEPTH
        inputs[0], inputs[SKIP] = encoded, encoded + WIDTH
        layers = tuple(linear(weights, f"{prefix}linear.{i}", size, WIDTH) for i, size in enumerate(inputs))
        sizes = {"gaussian_rotation": 4, "gaussian_scaling": 3}
        if f"{prefix}branch_w.weight" in weights:
            sizes |= {"branch_w": 3, "branch_v": 3}
        else:
            sizes["gaussian_warp"] = 3
        if f"{prefix}local_rotation.weight" in weights:
            sizes["local_rotation"] = 4
        heads = {name: linear(weights, prefix + name, WIDTH, size) for name, size in sizes.items()}
        return cls(layers, heads, time_layers)

    def __call__(self, points: Floats, time: float) -> dict[str, Floats]:
        """What each head says of points (N, 3) at a time, by the head's name."""
        layers = self._at_time(time)
        answers = {name: np.empty((len(points), len(head.bias)), np.float32) for name, head in self.heads.items()}

        def block(rows: slice) -> None:
            with np.errstate(all="ignore"):
                encoded = octaves(points[rows], POINT_OCTAVES)
                hidden = encoded
                for i, layer in enumerate(layers):
                    hidden = relu(layer(np.concatenate([encoded, hidden], axis=1) if i == SKIP else hidden))
                for name, head in self.heads.items():
                    answers[name][rows] = head(hidden)

        in_blocks(block, len(points), ROWS)
        return answers

    def _at_time(self, time: float) -> list[Linear]:
        """The layers with the time, which is the same for all splats, put into their biases."""
        if self.time_layers:
            first, second = self.time_layers
            encoded = second(relu(first(octaves(np.full((1, 1), time, np.float32), BLENDER_TIME_OCTAVES))))[0]
        else:
            encoded = octaves(np.full(1, time, np.float32), TIME_OCTAVES)
        columns = slice(ENCODED_POINT, ENCODED_POINT + len(encoded))
        return [layer.with_constant(columns, encoded) if i in (0, SKIP) else layer for i, layer in enumerate(self.layers)]


@dataclass(frozen=True, eq=False, kw_only=True)
class Deformable(NetworkFamily):
    """Per splat as in NetworkFamily (lengths are 1: the network adds to unit quaternions)."""

    name: ClassVar[str] = "Deformable"

    network: DeformationNetwork

    def change(self, time: float) -> dict[str, Floats]:
        answers = self.network(self.points, time)
        if "gaussian_warp" in answers:
            shift = answers["gaussian_warp"]
        else:
            shift = screwed(self.points, answers["branch_w"], answers["branch_v"]) - self.points
        return {"means": shift, "quats": answers["gaussian_rotation"], "scales": answers["gaussian_scaling"]}


def screwed(points: Floats, w: Floats, v: Floats) -> Floats:
    """Points (N, 3) moved by screws as the networks give them: w turns and v shifts, both per length of w.

    The small number added to both after the division is the published code's; so is what it does to very small turns.
    """
    angle = np.maximum(np.linalg.norm(w, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    axis, along = w / angle + np.float32(1e-5), v / angle + np.float32(1e-5)
    sine, versine = np.sin(angle), 1 - np.cos(angle)
    turned = points + sine * np.cross(axis, points) + versine * np.cross(axis, np.cross(axis, points))
    shift = angle * along + versine * np.cross(axis, along) + (angle - sine) * np.cross(axis, np.cross(axis, along))
    return turned + shift
