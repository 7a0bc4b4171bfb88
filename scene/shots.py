# SPDX-License-Identifier: GPL-3.0-or-later
"""In-betweens of many armatures, of one scene or of all, each in a take of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import bpy

from ..backends.common.errors import VivantError
from . import generated, inbetween


@dataclass(frozen=True)
class Shot:
    """An armature in the scene whose frames and rate count for it."""

    armature: bpy.types.Object
    scene: bpy.types.Scene


@dataclass(frozen=True)
class Outcome:
    """What became of a shot: the report, or why there is none."""

    shot: Shot
    report: inbetween.Report | None
    reason: str = ""


def shots_of(scenes: Iterable[bpy.types.Scene]) -> list[Shot]:
    """Every armature with an action, in the first of some scenes that has it."""
    first: dict[int, Shot] = {}
    for scene in scenes:
        for thing in scene.objects:
            data = thing.animation_data if thing.type == "ARMATURE" else None
            if data and data.action:
                first.setdefault(thing.session_uid, Shot(thing, scene))
    return list(first.values())


def inbetween_shots(
    shots: Iterable[Shot], solver: str = "spline", seed: int = 0, output: str = generated.BAKED, another: bool = False
) -> Iterator[Outcome]:
    """Fill every gap in the frames of each shot's scene, one after the other, as `inbetween.inbetween_object` does.

    One that fails is left as it was, and the next one follows.
    """
    for shot in shots:
        try:
            with bpy.context.temp_override(scene=shot.scene, view_layer=_layer_of(shot)):
                report = inbetween.inbetween_object(
                    shot.armature, None, "RANGE", None, solver, seed, output=output, another=another
                )
            yield Outcome(shot, report)
        except VivantError as error:
            yield Outcome(shot, None, error.message)


def _layer_of(shot: Shot) -> bpy.types.ViewLayer:
    """The first view layer of the shot's scene that has the armature."""
    layers = list(shot.scene.view_layers)
    return next((layer for layer in layers if shot.armature.name in layer.objects), layers[0])
