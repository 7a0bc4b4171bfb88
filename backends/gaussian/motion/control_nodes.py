# SPDX-License-Identifier: GPL-3.0-or-later
"""SC-GS: some hundred control nodes move by a network, and every splat follows the few nodes that are nearest to it.

Nearness counts in space and in learnt coordinates; the weights of the nodes never change, so they are found once.
Source: Huang et al., "SC-GS: Sparse-Controlled Gaussian Splatting", and the shapes of its published networks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ...common.errors import BrokenFile, UnsupportedFormat
from ...common.rotations import IDENTITY, matrix, normalise
from ...common.threads import in_blocks
from .deformation import DeformationNetwork
from .layers import Weights, array
from .network import NetworkFamily

Floats = NDArray[np.float32]

NEIGHBOURS = 3
MOST_NODES = 1 << 16
LEAST_WEIGHT = np.float32(1e-7)
DISTANCES = 1 << 20
"""Between splats and nodes, worked out by a thread at a time."""


@dataclass(frozen=True, eq=False)
class Nodes:
    """Control nodes: places (M, 3 + H) in space and in learnt coordinates; radii (M,); strengths (M,)."""

    places: Floats
    radii: Floats
    strengths: Floats
    network: DeformationNetwork

    @classmethod
    def of(cls, weights: Weights) -> Nodes:
        """The nodes in a state dict (deform.pth).  Raises BrokenFile or UnsupportedFormat when they cannot be used."""
        if any(name.startswith(("network.hashgrid", "network.gaussian_opacity", "network.gaussian_color")) for name in weights):
            raise UnsupportedFormat(
                "This SC-GS network uses a hash grid or changes opacities or colours, which Vivant does not read.",
                "Train it with SC-GS's own defaults.",
            )
        if "_node_radius" not in weights:
            raise UnsupportedFormat("This SC-GS scene is skinned to all nodes at once.", "Train it without --skinning.")
        places, radii = array(weights, "nodes", 2), array(weights, "_node_radius", 1)
        strengths = (
            array(weights, "_node_weight", 2)[:, 0] if "_node_weight" in weights else np.full(len(places), np.inf, np.float32)
        )
        if (
            not NEIGHBOURS <= len(places) <= MOST_NODES
            or places.shape[1] < 3
            or not len(places) == len(radii) == len(strengths)
        ):
            raise BrokenFile("The control nodes' columns do not belong together.", "Export the scene again.")
        sigmoid = 1 / (1 + np.exp(-np.clip(strengths, -60, None)))
        return cls(
            places, np.exp(np.clip(radii, -20, 20)), sigmoid.astype(np.float32), DeformationNetwork.of(weights, "network.")
        )

    def nearest(self, places: Floats) -> tuple[NDArray[np.intp], Floats]:
        """The nodes (N, 3) that splats at places (N, 3 + H) follow, and their shares (N, 3), which add up to 1."""
        indices = np.empty((len(places), NEIGHBOURS), np.intp)
        shares = np.empty((len(places), NEIGHBOURS), np.float32)
        with np.errstate(over="ignore"):
            lengths = np.sum(np.square(self.places), axis=1)

        def block(rows: slice) -> None:
            with np.errstate(all="ignore"):
                indices[rows], shares[rows] = self._nearest(places[rows], lengths)

        in_blocks(block, len(places), max(1, DISTANCES // len(self.places)))
        return indices, shares

    def _nearest(self, places: Floats, lengths: Floats) -> tuple[NDArray[np.intp], Floats]:
        # |n|^2 - 2 n·p orders the nodes as distances do; those of the few are then computed exactly
        near = np.argpartition(lengths - 2 * (places @ self.places.T), NEIGHBOURS - 1, axis=1)[:, :NEIGHBOURS]
        squares = np.sum(np.square(self.places[near] - places[:, None]), axis=2)
        weight = np.exp(-squares / (2 * np.square(self.radii[near]))) * self.strengths[near]
        weight = np.nan_to_num(weight) + LEAST_WEIGHT
        return near, weight / weight.sum(axis=1, keepdims=True)


@dataclass(frozen=True, eq=False, kw_only=True)
class ControlNodes(NetworkFamily):
    """Per splat besides NetworkFamily's: index (N, 3) of nodes and share (N, 3) of their motion that it takes (they add
    up to 1 where it moves with them, to 0 where it stays).
    """

    name: ClassVar[str] = "Control Nodes"
    ATTRIBUTES: ClassVar[tuple[str, ...]] = (*NetworkFamily.ATTRIBUTES, "node:index", "node:share")
    PER_SPLAT: ClassVar[tuple[str, ...]] = (*NetworkFamily.PER_SPLAT, "index", "share")

    nodes: Nodes
    index: NDArray[np.intp]
    share: Floats

    def change(self, time: float) -> dict[str, Floats]:
        answers = self.nodes.network(self.nodes.places[:, :3], time)
        means = self._mixed(answers["gaussian_warp"])
        if "local_rotation" in answers:
            means += self._turned(answers["local_rotation"])
        return {
            "means": means,
            "quats": self._mixed(answers["gaussian_rotation"]),
            "scales": self._mixed(answers["gaussian_scaling"]),
        }

    def attributes(self) -> Mapping[str, Floats]:
        columns = {"node:index": self.index.astype(np.float32), "node:share": self.share}
        return dict(super().attributes()) | columns

    def _mixed(self, values: Floats) -> Floats:
        """What splats (N, C) take of values (M, C) of the nodes."""
        first, second, third = self.index.T
        result = self.share[:, :1] * values[first]
        result += self.share[:, 1:2] * values[second]
        result += self.share[:, 2:] * values[third]
        return result

    def _turned(self, rotations: Floats) -> Floats:
        """Shifts (N, 3) of points that turn about their nodes by quaternions (M, 4), which are given less the identity."""
        turns = matrix(normalise(rotations + IDENTITY.astype(np.float32))) - np.eye(3, dtype=np.float32)
        shift = np.zeros_like(self.points)
        for column in range(NEIGHBOURS):
            near = self.index[:, column]
            arm = self.points - self.nodes.places[near, :3]
            shift += self.share[:, column, None] * np.einsum("nij,nj->ni", turns[near], arm)
        return shift
