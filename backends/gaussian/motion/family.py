# SPDX-License-Identifier: GPL-3.0-or-later
"""What every motion family offers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from ..cloud import SplatCloud


class Family(Protocol):
    """How a cloud moves: per-splat arrays and the formula that reads them.

    `at` in NumPy is the truth; what Blender plays (a node group, a cache) must equal it.
    """

    name: ClassVar[str]
    """Short name, as in the node group 'Vivant Family STG'."""

    ATTRIBUTES: ClassVar[tuple[str, ...]]
    """Names of the per-splat attributes in Blender that every cloud of the family has."""

    time_range: tuple[float, float]
    """First and last time of the clip, in the unit of `at`; outside it, time is clamped."""

    def at(self, cloud: SplatCloud, time: float, camera: ArrayLike | None = None) -> SplatCloud:
        """The cloud at `time`, without a family."""
        ...

    def select(self, index: Any) -> Family:
        """The family of the splats that `index` picks."""
        ...

    def change_axes(self, change: NDArray[np.floating]) -> Family:
        """The same motion in a new frame; `change` (3, 3) takes old coordinates to new ones."""
        ...

    def attributes(self) -> Mapping[str, NDArray[np.float32]]:
        """Per-splat arrays by their attribute names in Blender, (N,), (N, 3) or (N, 4)."""
        ...

    @classmethod
    def from_attributes(cls, columns: Mapping[str, NDArray[np.float32]], time_range: tuple[float, float]) -> Family:
        """The family whose `attributes` these are; there may be others among the columns."""
        ...
