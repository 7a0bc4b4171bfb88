# SPDX-License-Identifier: GPL-3.0-or-later
"""4D Gaussian Splatting of Wu et al.: six feature planes over pairs of x, y, z and time, and small networks that read them.

A splat's features are the products of the six planes' values at its canonical position and the time, for each
resolution; heads of two layers turn them into changes of mean, scale, rotation, opacity and colour, added before
activation.  Source: "4D Gaussian Splatting for Real-Time Dynamic Scene Rendering", and the shapes of its published networks.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ...common.errors import BrokenFile, UnsupportedFormat
from ...common.threads import in_blocks
from .layers import Linear, Weights, array, linear, relu
from .network import NetworkFamily

Floats = NDArray[np.float32]

PAIRS = ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))
"""Coordinates (0 to 2: x, y, z; 3: time) along a plane's width and height."""
HEADS = {"pos_deform": ("means", 3), "scales_deform": ("log_scales", 3), "rotations_deform": ("quats", 4),
         "opacity_deform": ("logits", 1), "shs_deform": ("sh", 48)}  # fmt: skip
"""What each head changes, and how many values it gives."""
MOST_LEVELS, MOST_LAYERS = 16, 32
ROWS = 8192


@dataclass(frozen=True, eq=False)
class HexPlaneNetwork:
    """levels: for each resolution the six planes (height, width, channels); box (2, 3): the corners that planes begin
    and end at; trunk and heads: layers.
    """

    levels: tuple[tuple[Floats, ...], ...]
    box: Floats
    trunk: tuple[Linear, ...]
    heads: dict[str, tuple[Linear, Linear]]

    @classmethod
    def of(cls, weights: Weights) -> HexPlaneNetwork:
        """The network in a state dict (deformation.pth).  Raises BrokenFile when it is none."""
        prefix = "deformation_net."
        if any(
            name.startswith((f"{prefix}static_mlp.", f"{prefix}grid.empty_voxel", f"{prefix}empty_voxel")) for name in weights
        ):
            raise UnsupportedFormat("This 4D-GS network masks still regions, which Vivant does not read.", "Train it without.")
        box = array(weights, f"{prefix}grid.aabb", 2)
        if box.shape != (2, 3) or not (np.abs(box[0] - box[1]) > 1e-9).all():
            raise BrokenFile("The network's box (grid.aabb) has no volume.", "Export it again.")
        levels: list[tuple[Floats, ...]] = []
        while f"{prefix}grid.grids.{len(levels)}.0" in weights and len(levels) < MOST_LEVELS:
            names = (f"{prefix}grid.grids.{len(levels)}.{i}" for i in range(len(PAIRS)))
            planes = tuple(array(weights, name, 4) for name in names)
            if any(plane.shape[:2] != (1, planes[0].shape[1]) for plane in planes):
                raise BrokenFile(f"Planes of level {len(levels)} do not belong together.", "Export the network again.")
            levels.append(tuple(np.ascontiguousarray(plane[0].transpose(1, 2, 0)) for plane in planes))
        width = sum(planes[0].shape[-1] for planes in levels)
        trunk: list[Linear] = []
        while f"{prefix}feature_out.{2 * len(trunk)}.weight" in weights and len(trunk) < MOST_LAYERS:
            trunk.append(linear(weights, f"{prefix}feature_out.{2 * len(trunk)}", width))
            width = len(trunk[-1].bias)
        if not levels or not trunk:
            raise BrokenFile("The file holds no network of 4D-GS.", "Give the deformation.pth of a trained scene.")
        heads = {}
        for name, (_, size) in HEADS.items():
            if f"{prefix}{name}.1.weight" in weights:
                hidden = linear(weights, f"{prefix}{name}.1", width)
                heads[name] = hidden, linear(weights, f"{prefix}{name}.3", len(hidden.bias), size)
        return cls(tuple(levels), box, tuple(trunk), heads)

    def still(self, points: Floats) -> Floats:
        """The part of the features (N, levels · C) that no time changes: the product of the planes xy, xz and yz."""
        places = self._places(points)
        parts = []
        for planes in self.levels:
            product: Floats | None = None
            for (a, b), plane in zip(PAIRS, planes, strict=True):
                if b < 3:
                    value = _bilinear(plane, places[:, a], places[:, b])
                    product = value if product is None else np.multiply(product, value, out=product)
            assert product is not None
            parts.append(product)
        return np.concatenate(parts, axis=1)

    def hidden(self, points: Floats, still: Floats, time: float) -> Floats:
        """What the heads read (N, W) of points (N, 3) with their still features, at a time from 0 to 1."""
        places = self._places(points)
        parts = []
        for planes in self.levels:
            product: Floats | None = None
            for (a, b), plane in zip(PAIRS, planes, strict=True):
                if b == 3:
                    value = _on_line(_bilinear_row(plane, time), places[:, a])
                    product = value if product is None else np.multiply(product, value, out=product)
            assert product is not None
            parts.append(product)
        rows: Floats = np.concatenate(parts, axis=1) * still
        for i, layer in enumerate(self.trunk):
            rows = layer(relu(rows) if i else rows)
        return rows

    def _places(self, points: Floats) -> Floats:
        """Coordinates from -1 to 1 across the box."""
        first, last = self.box
        return (points - first) * (2 / (last - first)) - 1


@dataclass(frozen=True, eq=False, kw_only=True)
class HexPlane(NetworkFamily):
    """Per splat as in NetworkFamily; heads: those of HEADS that the scene was trained with; multiplies: quaternions are
    multiplied by the network's instead of added to.
    """

    name: ClassVar[str] = "HexPlane"

    network: HexPlaneNetwork
    heads: tuple[str, ...] = ("pos_deform", "scales_deform", "rotations_deform")
    multiplies: bool = False

    @cached_property
    def _still(self) -> Floats:
        channels = sum(planes[0].shape[-1] for planes in self.network.levels)
        features = np.empty((len(self.points), channels), np.float32)

        def block(rows: slice) -> None:
            with np.errstate(all="ignore"):
                features[rows] = self.network.still(self.points[rows])

        in_blocks(block, len(features), ROWS)
        return features

    def answers(self, time: float) -> dict[str, Floats]:
        """What each head says of every splat, by the head's name."""
        still = self._still
        answers = {name: np.empty((len(self.points), HEADS[name][1]), np.float32) for name in self.heads}

        def block(rows: slice) -> None:
            with np.errstate(all="ignore"):
                hidden = relu(self.network.hidden(self.points[rows], still[rows], time))
                for name in self.heads:
                    first, second = self.network.heads[name]
                    answers[name][rows] = second(relu(first(hidden)))

        in_blocks(block, len(still), ROWS)
        return answers

    def change(self, time: float) -> dict[str, Floats]:
        answers = self.answers(time)
        change = {HEADS[name][0]: values for name, values in answers.items()}
        if "logits" in change:
            change["logits"] = change["logits"][:, 0]
        if "sh" in change:
            change["sh"] = change["sh"].reshape(-1, 16, 3)
        if self.multiplies and "quats" in change:
            change["turns"] = change.pop("quats")
        return change


def _bilinear(plane: Floats, x: Floats, y: Floats) -> Floats:
    """Values (N, C) of a plane (H, W, C) at x along its width and y along its height, -1 to 1 from edge to edge."""
    height, width, channels = plane.shape
    column, next_column, right = _between(x, width)
    row, next_row, down = _between(y, height)
    flat = plane.reshape(-1, channels)
    upper = _mix(flat[row * width + column], flat[row * width + next_column], right)
    lower = _mix(flat[next_row * width + column], flat[next_row * width + next_column], right)
    return _mix(upper, lower, down)


def _bilinear_row(plane: Floats, y: float) -> Floats:
    """The row (W, C) of a plane (H, W, C) at height y."""
    row, next_row, down = _between(np.full(1, y, np.float32), len(plane))
    return _mix(plane[row[0]], plane[next_row[0]], down)


def _on_line(line: Floats, x: Floats) -> Floats:
    """Values (N, C) of a line (W, C) at x, -1 to 1 from end to end."""
    place, next_place, share = _between(x, len(line))
    return _mix(line[place], line[next_place], share)


def _between(x: Floats, count: int) -> tuple[NDArray[np.intp], NDArray[np.intp], Floats]:
    """The two of `count` samples from -1 to 1 that x lies between, held at the ends, and its share of the way."""
    place = np.clip((x + 1) * np.float32((count - 1) / 2), 0, count - 1)
    index = place.astype(np.intp)
    return index, np.minimum(index + 1, count - 1), (place - index).astype(np.float32)


def _mix(a: Floats, b: Floats, share: Floats) -> Floats:
    """a (N, C) where share (N,) is 0, b where it is 1."""
    b = np.subtract(b, a)
    b *= share[:, None]
    b += a
    return b
