# SPDX-License-Identifier: GPL-3.0-or-later
"""In-betweens of many armatures, of one scene or of all, each in a take of its own."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass

import bpy

from ..backends.common.errors import Cancelled, VivantError
from . import generated
from .inbetween import SPLINE, Answer, Report, Wish, answered, inbetweening
from .motions import Question


@dataclass(frozen=True)
class Shot:
    """An armature in the scene whose frames and rate count for it."""

    armature: bpy.types.Object
    scene: bpy.types.Scene


@dataclass(frozen=True)
class Outcome:
    """What became of an armature, by its name: the report, or why there is none."""

    name: str
    report: Report | None
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
    shots: Sequence[Shot], solver: str = SPLINE, seed: int = 0, output: str = generated.BAKED, another: bool = False
) -> list[Outcome]:
    """Fill every gap in the frames of each shot's scene, one after the other, as `inbetween.inbetween_object` does.

    One that fails is left as it was, and the next one follows.
    """
    steps, answer = inbetweening_shots(shots, solver, seed, output, another), None
    while True:
        try:
            step = steps.send(answer)
        except StopIteration as end:
            outcomes: list[Outcome] = end.value
            return outcomes
        answer = answered(step) if isinstance(step, Question) else None


def inbetweening_shots(
    shots: Sequence[Shot], solver: str = SPLINE, seed: int = 0, output: str = generated.BAKED, another: bool = False
) -> Generator[str | Question, Answer | None, list[Outcome]]:
    """`inbetween_shots` in steps, as `inbetween.inbetweening`; to close it leaves the shots that are done as they are."""
    names, outcomes = [shot.armature.name for shot in shots], []
    for index, (name, shot) in enumerate(zip(names, shots, strict=True), 1):
        try:
            report = yield from _filled(shot, solver, seed, output, another, f"{name}, {index} of {len(shots)}")
            outcomes.append(Outcome(name, report))
        except Cancelled:
            raise
        except VivantError as error:
            outcomes.append(Outcome(name, None, error.message))
        except ReferenceError:
            outcomes.append(Outcome(name, None, "It was removed meanwhile."))
    return outcomes


def _filled(
    shot: Shot, solver: str, seed: int, output: str, another: bool, note: str
) -> Generator[str | Question, Answer | None, Report]:
    """The in-betweens of one shot, each step in the context of its own scene."""
    scene = shot.scene
    wish = Wish(None, "RANGE", (scene.frame_start, scene.frame_end), scene.frame_current_final, solver, seed, output, another)
    steps, answer = inbetweening(shot.armature, wish), None
    while True:
        with bpy.context.temp_override(scene=scene, view_layer=_layer_of(shot)):
            try:
                step = steps.send(answer)
            except StopIteration as end:
                report: Report = end.value
                return report
        answer = yield step if isinstance(step, Question) else f"{note}: {step}"


def _layer_of(shot: Shot) -> bpy.types.ViewLayer:
    """The first view layer of the shot's scene that has the armature."""
    layers = list(shot.scene.view_layers)
    return next((layer for layer in layers if shot.armature.name in layer.objects), layers[0])
