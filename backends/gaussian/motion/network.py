# SPDX-License-Identifier: GPL-3.0-or-later
"""What the families share that ask a network how each splat moves.

A network was trained in the capture's frame on the splats as they lay there; it is always asked about those
canonical points, so that a splat which was moved, turned or scaled since keeps its own motion.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...common.errors import VivantError
from ...common.rotations import multiply, normalise
from ..axes import turn, turn_quats, turn_sh
from .family import Family

if TYPE_CHECKING:
    from ..cloud import SplatCloud

Floats = NDArray[np.float32]

LARGEST = np.float32(1e12)
"""A network that says more has gone wrong: the splat stays as it is."""
THINNEST = np.float32(1e-8)
"""Standard deviation of a splat that its network shrinks to nothing or beyond."""


@dataclass(frozen=True, eq=False, kw_only=True)
class NetworkFamily(Family):
    """Per splat: points (N, 3), canonical positions in the network's frame; lengths (N,), of the quaternions that it
    adds its own to (a cloud's are unit).  frame (3, 3) takes the network's coordinates to the cloud's.
    """

    ATTRIBUTES: ClassVar[tuple[str, ...]] = ("canonical:point", "canonical:length")

    PER_SPLAT: ClassVar[tuple[str, ...]] = ("points", "lengths")
    """Names of the fields that hold a row a splat."""

    points: Floats
    lengths: Floats
    frame: NDArray[np.float64] = dataclasses.field(default_factory=lambda: np.eye(3))
    time_range: tuple[float, float] = (0.0, 1.0)

    def change(self, time: float) -> dict[str, Floats]:
        """What the network says of every splat at a time within the range, in its own frame: 'means' (N, 3) and 'quats'
        (N, 4) to add, 'turns' (N, 4) to multiply by, 'scales' to add or 'log_scales' (N, 3), 'logits' (N,), 'sh' (N, K, 3).
        """
        raise NotImplementedError

    def at(self, cloud: SplatCloud, time: float, camera: ArrayLike | None = None) -> SplatCloud:
        with np.errstate(all="ignore"):
            change = self.change(float(np.clip(time, *self.time_range)))
            change = {name: np.where(np.abs(values) < LARGEST, values, np.float32(0)) for name, values in change.items()}
            return self._changed(cloud, change)

    def select(self, index: Any) -> Self:
        return dataclasses.replace(self, **{name: getattr(self, name)[index] for name in self.PER_SPLAT})

    def change_axes(self, change: NDArray[np.floating]) -> Self:
        return dataclasses.replace(self, frame=change @ self.frame)

    def attributes(self) -> Mapping[str, Floats]:
        return {"canonical:point": self.points, "canonical:length": self.lengths}

    @classmethod
    def from_attributes(cls, columns: Mapping[str, Floats], time_range: tuple[float, float] = (0.0, 1.0)) -> Self:
        """Raises VivantError: a network is no attribute of splats."""
        raise VivantError(f"Splats of the family {cls.name} move by a network.", "Read the folder that they came from.")

    def _changed(self, cloud: SplatCloud, change: Mapping[str, Floats]) -> SplatCloud:
        changed: dict[str, Floats] = {}
        if "means" in change:
            changed["means"] = cloud.means + turn(change["means"], self.frame).astype(np.float32)
        if "quats" in change:
            changed["quats"] = normalise(cloud.quats * self.lengths[:, None] + turn_quats(change["quats"], self.frame))
        if "turns" in change:
            changed["quats"] = normalise(multiply(cloud.quats, turn_quats(change["turns"], self.frame)))
        if "scales" in change:
            changed["scales"] = np.maximum(
                cloud.scales + turn(change["scales"], np.abs(self.frame)), THINNEST, dtype=np.float32
            )
        if "log_scales" in change:
            changed["scales"] = cloud.scales * np.exp(np.clip(turn(change["log_scales"], np.abs(self.frame)), -40, 40))
        if "logits" in change:
            changed["opacities"] = shifted_opacities(cloud.opacities, change["logits"])
        if "sh" in change:
            turned = change["sh"] if np.array_equal(self.frame, np.eye(3)) else turn_sh(change["sh"], self.frame)
            changed["sh"] = cloud.sh + turned[:, : cloud.sh.shape[1]]
        return cloud.replace(family=None, **changed)


def shifted_opacities(opacities: Floats, logits: Floats) -> Floats:
    """Opacities whose logits are larger by `logits` (N,)."""
    odds = opacities * np.exp(np.clip(logits, -60, 60))
    return odds / np.maximum(odds + (1 - opacities), np.finfo(np.float32).tiny)
