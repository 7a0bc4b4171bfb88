# SPDX-License-Identifier: GPL-3.0-or-later
"""What splats cost: bytes in the .blend, on the disk beside it and on the graphics card; and how to make them cost less."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import bpy

from ..backends.common.errors import VivantError
from ..backends.gaussian.sh import COEFFICIENTS
from . import clips, columns, compat, edits, outside, playback, pointclouds, rasteriser


@dataclass(frozen=True)
class Sizes:
    """Bytes that one object of splats takes."""

    inside: int
    """In the .blend before compression, columns that only its file's format knows included; what is shared counts in full."""

    outside: int
    """In the files that it needs beside the .blend: those that it is kept or plays from, and its frame cache."""

    card: int
    """On the graphics card while a viewport draws it, by what Vivant puts there."""


def bytes_of(splats: bpy.types.Object, budget: int) -> Sizes:
    """What an object of splats costs; budget: the most splats that viewports draw.  Reads no attribute, so panels may ask."""
    facts, points = pointclouds.facts_of(splats), splats.data
    held = 0 if points.library else columns.bytes_of(points) - outside.bytes_of(splats)
    files = 0
    if outside.is_kept(splats):
        files = int(facts[outside.FACT]["bytes"])
    elif playback.is_played(splats) and facts.get("path"):
        files = _on_disk(Path(bpy.path.abspath(facts["path"])))
    cache = clips.cache_of(facts)
    return Sizes(held, files + (cache.stat().st_size if cache else 0), _on_card(splats, budget))


def _on_card(splats: bpy.types.Object, budget: int) -> int:
    drawer = pointclouds.drawer_of(splats)
    count = len(splats.data.points)
    if drawer and compat.has_modifier_input(drawer, "Density"):
        count = round(count * min(compat.get_modifier_input(drawer, "Density"), 1.0))
    return rasteriser.bytes_on_card(min(count, budget), _coefficients(splats.data))


def _coefficients(points: bpy.types.PointCloud) -> int:
    """How many harmonics a channel has, those that make no full degree included."""
    return 1 + sum(f"{pointclouds.HIGHER}{index}" in points.attributes for index in range(COEFFICIENTS[-1] - 1))


def _on_disk(path: Path) -> int:
    """Bytes of the files of a sequence or a scene; a folder is looked through again when files come or go."""
    try:
        return _files(path, path.stat().st_mtime_ns)
    except OSError:  # gone; playback says so
        return 0


@lru_cache(16)
def _files(path: Path, changed: int) -> int:
    from ..backends.gaussian.cache_writer import sources  # not before it is needed: Blender starts with this module

    return sum(file.stat().st_size for file in sources(path))


def degree_of(splats: bpy.types.Object) -> int:
    """The SH degree that an object's data hold, a part of the highest one included."""
    count = _coefficients(splats.data)
    return next(degree for degree, full in enumerate(COEFFICIENTS) if full >= count)


def limit_degree(splats: bpy.types.Object, degree: int) -> int:
    """Remove the harmonics above a degree (0 to 3) from an object's data; the bytes that it needs less.

    Raises VivantError where it has none, for linked splats and for those whose frames are kept in files.
    """
    edits.check_editable(splats)
    if degree_of(splats) <= degree:
        raise VivantError(f"'{splats.name}' has no SH degree above {degree}.", "Choose a lower degree.")
    if splats.data.users > 1:
        splats.data = splats.data.copy()
    points = splats.data
    before = columns.bytes_of(points)
    for index in range(COEFFICIENTS[degree] - 1, COEFFICIENTS[-1] - 1):
        if attribute := points.attributes.get(f"{pointclouds.HIGHER}{index}"):
            points.attributes.remove(attribute)
    if drawer := pointclouds.drawer_of(splats):
        shown = compat.get_modifier_input(drawer, "SH Degree")
        compat.set_modifier_input(drawer, "SH Degree", min(shown, degree))
    points.update_tag()
    return before - columns.bytes_of(points)
