# SPDX-License-Identifier: GPL-3.0-or-later
"""SplatCloud: the one structure that every reader makes, every writer takes and every backend works on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..common.errors import VivantError
from . import sh
from .motion.family import Family

Floats = NDArray[np.float32]

COLUMNS = ("means", "quats", "scales", "opacities", "sh")
"""The arrays that every cloud has."""


@dataclass(frozen=True, eq=False)
class Source:
    """Where a cloud came from and what was done to it on the way.

    `repairs` counts what a reader had to mend, by name ("positions not finite: dropped" -> 3);
    `warnings` are sentences for the user; `details` is what the format's own writer needs to write
    the file back (comments, cameras, …); `encoded` the untouched columns of the file, which the same
    format writes back byte for byte as long as the cloud was not changed.
    """

    format: str = ""
    path: str = ""
    axes: str = "RDF"
    antialiased: bool = False
    repairs: Mapping[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    encoded: Any = field(default=None, repr=False)

    @property
    def linear(self) -> bool:
        """Whether colours are linear light (Rec. 709), as some glTF files say; else display values."""
        return self.details.get("colour_space") == "linear"


@dataclass(frozen=True, eq=False)
class SplatCloud:
    """N Gaussians, float32, in the capture's own axes (`source.axes`).

    means (N, 3) metres; quats (N, 4) wxyz, unit, local axes to the capture's; scales (N, 3) standard
    deviations; opacities (N,) 0 to 1; sh (N, K, 3) with K = 1, 4, 9, 16 or 25 in the basis of
    `sh.basis`, in any order in memory (readers lay it out coefficient by coefficient, as Blender's
    attributes are); family says how the cloud moves (None: it does not); extras holds float columns (N,)
    that no reader understood, kept by name and written back.
    Raises VivantError when the arrays do not belong together.
    """

    means: Floats
    quats: Floats
    scales: Floats
    opacities: Floats
    sh: Floats
    family: Family | None = None
    extras: Mapping[str, Floats] = field(default_factory=dict)
    source: Source = field(default_factory=Source)

    def __post_init__(self) -> None:
        for name in ("means", "quats", "scales", "opacities"):
            object.__setattr__(self, name, np.ascontiguousarray(getattr(self, name), np.float32))
        object.__setattr__(self, "sh", np.asarray(self.sh, np.float32))
        count = len(self.means)
        shapes = {
            "means": (count, 3),
            "quats": (count, 4),
            "scales": (count, 3),
            "opacities": (count,),
            "sh": (count, self.sh.shape[1] if self.sh.ndim == 3 else 0, 3),
        }
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                raise VivantError(f"A cloud of {count} splats needs {name} of shape {shape}, not {getattr(self, name).shape}.")
        if self.sh.shape[1] not in sh.COEFFICIENTS:
            raise VivantError(f"{self.sh.shape[1]} SH coefficients are no full degree.", f"Give one of {sh.COEFFICIENTS}.")

    def __len__(self) -> int:
        return len(self.means)

    def __repr__(self) -> str:
        moves = f", {self.family.name}" if self.family else ""
        return f"<SplatCloud: {len(self):,} splats, SH degree {self.degree}{moves}, {self.source.format or 'made here'}>"

    @property
    def degree(self) -> int:
        """SH degree, 0 to 4."""
        return sh.degree(self.sh.shape[1])

    def replace(self, **changes: Any) -> SplatCloud:
        """A copy with some fields changed; the file's untouched columns no longer belong to it."""
        source = dataclasses.replace(changes.pop("source", self.source), encoded=None)
        return dataclasses.replace(self, source=source, **changes)

    def select(self, index: Any) -> SplatCloud:
        """The splats that `index` (a mask, slice or index array) picks, with everything they carry."""
        return self.replace(
            means=self.means[index],
            quats=self.quats[index],
            scales=self.scales[index],
            opacities=self.opacities[index],
            sh=self.sh[index],
            family=self.family.select(index) if self.family else None,
            extras={name: column[index] for name, column in self.extras.items()},
        )

    def at(self, time: float, camera: ArrayLike | None = None) -> SplatCloud:
        """The still cloud at a time (in the family's own unit), as many splats as before.

        camera: the camera's centre (3,) in the capture's axes, for families that depend on the view.
        """
        return self.family.at(self, time, camera) if self.family else self
