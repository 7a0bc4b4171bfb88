# SPDX-License-Identifier: GPL-3.0-or-later
"""7D Gaussians with their refinement network: four small networks correct every splat at a time before it is cut.

They take the canonical mean, the time at which the splat is at its best, the direction it is best seen from, and waves of
the time asked for, and add to the mean, that time, that direction, and the 28 numbers of the joint covariance's
factor diag(exp s)(1 + 2 sigmoid(l) - 1); what follows is `Ndgs`.
Source: Gao et al., "7DGS" (2503.07946), section 3.4.  No file of its authors is public: names, order (s, then l) and
waves, sin and cos of 2^k pi t, are Vivant's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...common.errors import BrokenFile
from ...common.threads import in_blocks
from ..axes import turn, turn_quats
from . import ndgs
from .layers import Linear, Weights, linear, relu
from .network import LARGEST, NetworkFamily

if TYPE_CHECKING:
    from ..cloud import SplatCloud

Floats = NDArray[np.float32]

OUTPUTS = {"mean": 3, "time": 1, "view": 3, "shape": 28}
"""The networks, named 'refine.NAME.0' and 'refine.NAME.2' in a state dict, and how many values each gives."""
MOST_WAVES = 16
ROWS = 8192

_BELOW = np.tril_indices(7, -1)


@dataclass(frozen=True, eq=False)
class RefinementNetwork:
    """Two layers for each of OUTPUTS; waves: how many octaves of the time they see."""

    layers: Mapping[str, tuple[Linear, Linear]]
    waves: int

    @classmethod
    def of(cls, weights: Weights) -> RefinementNetwork:
        """The network in a state dict.  Raises BrokenFile when it is none."""
        first = weights.get("refine.mean.0.weight")
        inputs = first.shape[1] if isinstance(first, np.ndarray) and first.ndim == 2 else 0
        waves = (inputs - 7) // 2
        if inputs % 2 == 0 or not 0 <= waves <= MOST_WAVES:
            raise BrokenFile("The file holds no refinement network of 7D Gaussians.", "Train the scene again.")
        layers = {}
        for name, size in OUTPUTS.items():
            hidden = linear(weights, f"refine.{name}.0", inputs)
            layers[name] = hidden, linear(weights, f"refine.{name}.2", len(hidden.bias), size)
        return cls(layers, waves)

    def __call__(self, rows: Floats, time: float) -> dict[str, Floats]:
        """Corrections of splats whose mean, best time and best direction (n, 7) these are."""
        phase = np.pi * time * 2.0 ** np.arange(self.waves)
        seen = np.stack([np.sin(phase), np.cos(phase)], axis=1).ravel().astype(np.float32)
        columns = slice(7, 7 + len(seen))
        answers = {}
        for name, (first, second) in self.layers.items():
            values = second(relu(first.with_constant(columns, seen)(rows)))
            answers[name] = np.where(np.abs(values) < LARGEST, values, np.float32(0))
        return answers


@dataclass(frozen=True, eq=False, kw_only=True)
class Refined(NetworkFamily):
    """Per splat besides NetworkFamily's (whose lengths mean nothing here), in the network's frame: sizes (N, 7) and lower
    (N, 21), the raw numbers of the factor; view (N, 3) unit; center, view_lambda and time_lambda (N,).

    Shapes are the network's own: turns and scales of single splats do not reach them.
    """

    name: ClassVar[str] = "NDGS refined"
    PER_SPLAT: ClassVar[tuple[str, ...]] = (
        *NetworkFamily.PER_SPLAT,
        *("sizes", "lower", "view", "center", "view_lambda", "time_lambda"),
    )

    network: RefinementNetwork
    sizes: Floats
    lower: Floats
    view: Floats
    center: Floats
    view_lambda: Floats
    time_lambda: Floats

    def at(self, cloud: SplatCloud, time: float, camera: ArrayLike | None = None) -> SplatCloud:
        time = float(np.clip(time, *self.time_range))
        back = np.asarray(self.frame.T, np.float64)
        means, quats, scales = np.empty_like(cloud.means), np.empty_like(cloud.quats), np.empty_like(cloud.scales)
        opacities = np.empty_like(cloud.opacities)
        centre = None if camera is None else back @ np.asarray(camera, np.float64)

        def block(rows: slice) -> None:
            with np.errstate(all="ignore"):
                part = self._cut(cloud.select(rows), rows, time)
                part = part.replace(means=turn(cloud.means[rows], back) + part.means).at(time, centre)
            means[rows] = turn(part.means, self.frame)
            quats[rows] = turn_quats(part.quats, self.frame)
            scales[rows] = turn(part.scales, np.abs(self.frame))
            opacities[rows] = part.opacities

        in_blocks(block, len(cloud), ROWS)
        return cloud.replace(means=means, quats=quats, scales=scales, opacities=opacities, family=None)

    def _cut(self, part: SplatCloud, rows: slice, time: float) -> SplatCloud:
        """Some splats as 7D Gaussians with the network's corrections; their means are the corrections of the means."""
        change = self.network(np.column_stack([self.points[rows], self.center[rows], self.view[rows]]), time)
        sizes = np.exp(np.clip(self.sizes[rows] + change["shape"][:, :7].astype(np.float64), -20, 20))
        factor = np.zeros((len(sizes), 7, 7))
        factor[:, *_BELOW] = (
            2 / (1 + np.exp(-np.clip(self.lower[rows] + change["shape"][:, 7:].astype(np.float64), -40, 40))) - 1
        )
        factor[:, range(7), range(7)] = 1
        factor *= sizes[:, :, None]
        view = self.view[rows] + change["view"]
        lengths = np.linalg.norm(view, axis=1, keepdims=True)
        view = np.where(lengths > 1e-6, view / np.maximum(lengths, 1e-6), self.view[rows])
        quats, scales, family = ndgs.condition(
            factor @ factor.transpose(0, 2, 1),
            view,
            self.center[rows] + change["time"][:, 0],
            self.view_lambda[rows],
            self.time_lambda[rows],
        )
        return part.replace(means=change["mean"], quats=quats, scales=scales, family=family)
