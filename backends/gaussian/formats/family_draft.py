# SPDX-License-Identifier: GPL-3.0-or-later
"""The draft of a cloud that may also move in other ways than spacetime Gaussians do."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..cloud import Source, SplatCloud
from ..motion.family import Family
from .repair import Draft


class FamilyDraft(Draft):
    """A draft whose `family` and `warnings` a format fills in."""

    def __init__(self, count: int, coefficients: int = 1, moving: bool = False) -> None:
        super().__init__(count, coefficients, moving)
        self.family: Family | None = None
        self.warnings: list[str] = []

    def drop(self, bad: NDArray[np.bool_], name: str) -> None:
        """Leave splats (N,) out, and count them."""
        self.repairs[name] += int(np.count_nonzero(bad & self.keep))
        self.keep &= ~bad

    def reset(self, values: NDArray[Any], bad: NDArray[np.bool_], value: ArrayLike, name: str) -> None:
        """Mend values (bad of their shape) or whole rows (bad (N,)), and count the splats that they belong to."""
        if bad.any():
            self.repairs[name] += int(np.count_nonzero(bad.reshape(len(bad), -1).any(axis=1) & self.keep))
            values[bad] = value

    def finish(self, source: Source, encoded: NDArray[np.uint8] | None = None) -> SplatCloud:
        """The cloud without the dropped splats, as `Draft.finish` makes it, and how it moves."""
        source = dataclasses.replace(source, warnings=(*source.warnings, *self.warnings))
        keep = self.keep
        cloud = super().finish(source, encoded)
        if self.family is None:
            return cloud
        family = self.family if keep.all() else self.family.select(keep)
        if cloud.source.encoded is not None:
            for values in vars(family).values():
                if isinstance(values, np.ndarray):
                    values.flags.writeable = False
        return dataclasses.replace(cloud, family=family)
