# SPDX-License-Identifier: GPL-3.0-or-later
"""Columns of motion beside those of a 3DGS PLY: one module a dialect, all of them listed in DIALECTS.

A dialect is a module with
    FAMILY         the family that it holds;
    COMMENTS       lines of the header that say what the columns do not;
    columns(types) names of the columns that it reads, none where the file is not of the dialect;
    read(draft, columns, header, activation)  the family of all splats of a draft that holds what 3DGS knows of them;
    write(cloud)   columns by name, beside and instead of those of 3DGS, with None for those that the dialect lacks;
    clips(cloud)   sentences on what its columns cannot say exactly.
Columns are float32 (N,).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from ..cloud import Floats, SplatCloud
from ..motion.family import Family
from . import ply_linear, ply_ndgs, ply_rotor4d, ply_stg_full
from .ply_header import Header
from .repair import Draft


class Dialect(Protocol):
    """What the module of a dialect offers."""

    @property
    def FAMILY(self) -> type[Family]: ...

    @property
    def COMMENTS(self) -> tuple[str, ...]: ...

    def columns(self, types: Collection[str]) -> tuple[str, ...]: ...

    def read(self, draft: Draft, columns: Mapping[str, Floats], header: Header, activation: str) -> Family: ...

    def write(self, cloud: SplatCloud) -> dict[str, Floats | None]: ...

    def clips(self, cloud: SplatCloud) -> list[str]: ...


DIALECTS: tuple[Dialect, ...] = (ply_ndgs, ply_stg_full, ply_linear, ply_rotor4d)
"""In the order in which a file's columns are shown to them."""


def find(types: Collection[str]) -> tuple[Dialect | None, tuple[str, ...]]:
    """The dialect of a file with such columns, and those that are its own."""
    for dialect in DIALECTS:
        if names := dialect.columns(types):
            return dialect, names
    return None, ()


def of(cloud: SplatCloud) -> Dialect | None:
    """The dialect that a cloud's family is written in."""
    return next((dialect for dialect in DIALECTS if type(cloud.family) is dialect.FAMILY), None)


def clips(cloud: SplatCloud) -> list[str]:
    """What of a cloud's motion its dialect cannot say exactly."""
    dialect = of(cloud)
    return dialect.clips(cloud) if dialect else []
