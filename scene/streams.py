# SPDX-License-Identifier: GPL-3.0-or-later
"""Objects whose splats stream from a file: only those are in memory that live about now, and a node group moves them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import bpy

from ..backends.common.errors import VivantError
from ..backends.gaussian.stream import SplatStream
from . import playback, pointclouds


def add(
    context: bpy.types.Context,
    scene: Path,
    made: Path,
    overrides: Mapping[str, Any],
    start_frame: float = 1.0,
    frames: float = 0.0,
) -> bpy.types.Object:
    """Put a capture into the active collection that streams from `made`, which the job 'splats.stream' made of `scene`.

    Raises VivantError where that cannot be read.
    """
    stream = SplatStream(made)
    first = stream.cloud(0)
    name = scene.name.split(".")[0] or "Splats"
    splats = pointclouds.to_object(first, name, start_frame, frames)
    told = {
        "path": str(scene),
        "overrides": dict(overrides),
        "family": pointclouds.FRAMES,
        "streamed": stream.count,
        "samples": len(stream),
    }
    for fact, value in (told | {"cache": str(made), "source": stream.source}).items():
        splats[pointclouds.KEY][fact] = value
    context.collection.objects.link(splats)
    splats.select_set(True)
    context.view_layer.objects.active = splats
    playback.show_now(splats, context.scene)
    return splats


def renew(splats: bpy.types.Object, made: Path, source: str) -> None:
    """Play from a stream that was made again.  Raises VivantError where its windows are of another size."""
    stream = SplatStream(made)
    if stream.most != len(splats.data.points) or stream.kind != pointclouds.facts_of(splats)["moves_by"]:
        name = Path(pointclouds.facts_of(splats)["path"]).name
        raise VivantError(f"'{name}' is not what '{splats.name}' was streamed from.", "Stream it as a new object.")
    splats[pointclouds.KEY]["cache"], splats[pointclouds.KEY]["source"] = str(made), source
    playback.forget(splats)
