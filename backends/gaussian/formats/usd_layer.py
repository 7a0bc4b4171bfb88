# SPDX-License-Identifier: GPL-3.0-or-later
"""What a USD file holds, whichever container it came in: prims with attributes, whose values are read when asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Attribute:
    """times (T,) of its samples, increasing, in time codes; `get(sample, most)` is the value at one of them, or the default
    for None: a number, a name, or an array (n,) or (n, components) of at most `most` elements; None where it has no value.
    """

    times: NDArray[np.float64]
    has_default: bool
    get: Callable[[int | None, int], Any]

    def at(self, time: float | None, most: int = 1) -> Any:
        """The value of the last sample up to a time, of the first one before that, or the default where there are none."""
        if not len(self.times):
            return self.get(None, most)
        return self.get(0 if time is None else max(int(np.searchsorted(self.times, time, "right")) - 1, 0), most)


@dataclass(frozen=True)
class Prim:
    """An object by its path; type is the schema's name."""

    path: str
    type: str
    attributes: dict[str, Attribute] = field(default_factory=dict)


@dataclass(frozen=True)
class Layer:
    """A file's stage metadata (upAxis, metersPerUnit, timeCodesPerSecond, …) and prims."""

    metadata: Mapping[str, Any]
    prims: list[Prim]


@dataclass(frozen=True)
class Column:
    """An array attribute to write: the schema's type and name, its value (n,) or (n, components) in each frame (quaternions
    xyzw), and how many elements belong to one splat, 0 where that is not said.
    """

    kind: str
    name: str
    get: Callable[[int], NDArray[np.float32]]
    size: int = 0


@dataclass(frozen=True)
class Stage:
    """A file to write: stage metadata and one prim at the root.

    singles: uniform attributes, by name their type and value; times: the time code of each frame, one where nothing moves.
    """

    metadata: Mapping[str, float | str]
    type: str
    name: str
    singles: Mapping[str, tuple[str, int | str]]
    columns: list[Column]
    times: list[float]
    comment: str = "Written by Vivant"
