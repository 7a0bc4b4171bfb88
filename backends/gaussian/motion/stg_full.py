# SPDX-License-Identifier: GPL-3.0-or-later
"""Spacetime Gaussians, the 'full' model: the lite model's motion, and colours that a small network makes.

The authors splat nine features and decode every pixel: base + W2 relu(W1 [specular, d temporal, ray]), through a
sigmoid.  Here every splat is decoded for the ray to its own mean: an APPROXIMATION, exact only where single splats
cover pixels.  Source: Li et al., "Spacetime Gaussian Feature Splatting", section 4.2, and its code (Sandwich).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import sh
from .stg import Floats, Stg

if TYPE_CHECKING:
    from ..cloud import SplatCloud


class Decoder(NamedTuple):
    """hidden (6, 12) and output (3, 6), without biases; inputs are specular, temporal, camera centre, unit direction.

    sigmoid: whether colours pass through it at the end ('Sandwich'; 'Sandwichnoact' clamps them to 0 and 1).
    turn (3, 3) takes the cloud's frame to the one that the network was trained in.
    """

    hidden: NDArray[np.floating]
    output: NDArray[np.floating]
    sigmoid: bool = True
    turn: NDArray[np.floating] = np.eye(3)

    @property
    def numbers(self) -> list[float]:
        """All of it as one list."""
        return [*self.hidden.ravel().tolist(), *self.output.ravel().tolist(), float(self.sigmoid), *self.turn.ravel().tolist()]

    @classmethod
    def of(cls, numbers: Sequence[float]) -> Decoder:
        """The decoder whose `numbers` these are."""
        hidden, output, sigmoid, turn = np.split(np.asarray(numbers, np.float64), (72, 90, 91))
        return cls(hidden.reshape(6, 12), output.reshape(3, 6), bool(sigmoid[0]), turn.reshape(3, 3))


@dataclass(frozen=True, eq=False)
class StgFull(Stg):
    """`Stg`, features specular and temporal (N, 3), and the decoder where there is one.

    The cloud's base colours are those of the base features alone; without a decoder or a camera they stay.
    """

    name: ClassVar[str] = "STG full"
    ATTRIBUTES: ClassVar[tuple[str, ...]] = (*Stg.ATTRIBUTES, "feature:specular", "feature:temporal")

    specular: Floats = dataclasses.field(default_factory=lambda: np.empty((0, 3), np.float32))
    temporal: Floats = dataclasses.field(default_factory=lambda: np.empty((0, 3), np.float32))
    decoder: Decoder | None = None

    def at(self, cloud: SplatCloud, time: float, camera: ArrayLike | None = None) -> SplatCloud:
        still = super().at(cloud, time)
        if self.decoder is None or camera is None:
            return still
        hidden, output, sigmoid, frame = self.decoder
        d = np.float32(np.clip(time, *self.time_range)) - self.center
        eye = np.asarray(camera, np.float64)
        towards = still.means - eye
        towards /= np.maximum(np.linalg.norm(towards, axis=1, keepdims=True), 1e-12)
        rays = np.concatenate([np.broadcast_to(eye, towards.shape) @ frame.T, towards @ frame.T], axis=1)
        inputs = np.concatenate([self.specular, self.temporal * d[:, None], rays], axis=1)
        base = sh.to_rgb(cloud.sh[:, 0].astype(np.float64))
        if sigmoid:
            base = np.clip(base, 1e-6, 1 - 1e-6)
            base = np.log(base / (1 - base))
        decoded = base + np.maximum(inputs @ hidden.T, 0) @ output.T
        with np.errstate(over="ignore"):
            rgb = 1 / (1 + np.exp(-decoded)) if sigmoid else np.clip(decoded, 0, 1)
        return still.replace(sh=sh.to_base(rgb)[:, None])

    def select(self, index: Any) -> Self:
        columns = ("velocity", "spin", "center", "width", "specular", "temporal")
        return dataclasses.replace(self, **{name: getattr(self, name)[index] for name in columns})

    def change_axes(self, change: NDArray[np.floating]) -> Self:
        decoder = self.decoder and self.decoder._replace(turn=self.decoder.turn @ np.linalg.inv(change))
        return dataclasses.replace(super().change_axes(change), decoder=decoder)

    def attributes(self) -> Mapping[str, Floats]:
        features = {"feature:specular": self.specular, "feature:temporal": self.temporal}
        return {**Stg.attributes(self), **features}

    @classmethod
    def from_attributes(cls, columns: Mapping[str, Floats], time_range: tuple[float, float] = (0.0, 1.0)) -> StgFull:
        base = Stg.from_attributes(columns)
        features = columns["feature:specular"], columns["feature:temporal"]
        return StgFull(base.velocity, base.spin, base.center, base.width, time_range, *features)
