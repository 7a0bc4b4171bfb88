# SPDX-License-Identifier: GPL-3.0-or-later
"""In-betweens of many armatures, of one scene or of all, each in a take of its own."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import bpy

from ..backends.common.errors import Cancelled, VivantError
from . import generated, judged
from .inbetween import SPLINE, Answer, Report, Wish, answered, inbetweening
from .motions import Question

Datablock = TypeVar("Datablock", bound=bpy.types.ID)


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
    """Fill every gap in the frames of each shot's scene as `inbetween.inbetween_object` does, and judge each take.

    One that fails is left as it was, and the next one follows.
    """
    outcomes: list[Outcome] = []
    steps, answer = inbetweening_shots(shots, outcomes, solver, seed, output, another), None
    while True:
        try:
            step = steps.send(answer)
        except StopIteration:
            return outcomes
        answer = answered(step) if isinstance(step, Question) else None


def inbetweening_shots(
    shots: Sequence[Shot],
    outcomes: list[Outcome],
    solver: str = SPLINE,
    seed: int = 0,
    output: str = generated.BAKED,
    another: bool = False,
) -> Generator[str | Question, Answer | None, list[Outcome]]:
    """`inbetween_shots` in steps, as `inbetween.inbetweening`; appends to `outcomes`, and returns them.

    To close it leaves the shots that are done as they are, and the others as they were.
    """
    known = [(shot.armature.name, shot.armature.session_uid, shot.scene.session_uid) for shot in shots]
    for index, (name, armature, scene) in enumerate(known, 1):
        steps, answer = None, None
        try:
            while True:
                shot = Shot(_found(bpy.data.objects, armature, name), _found(bpy.data.scenes, scene, "The scene"))
                with bpy.context.temp_override(scene=shot.scene, view_layer=_layer_of(shot)):
                    wish = _wish(shot.scene, solver, seed, output, another)
                    steps = steps or judged.judged(inbetweening(shot.armature, wish))
                    try:
                        step = steps.send(answer)
                    except StopIteration:
                        break
                if isinstance(step, Report):
                    outcomes.append(Outcome(name, step))
                    step, answer = "measuring it", None
                answer = yield step if isinstance(step, Question) else f"{name}, {index} of {len(known)}: {step}"
        except Cancelled:
            raise
        except VivantError as error:
            outcomes.append(Outcome(name, None, error.message))
        finally:
            if steps:
                steps.close()
    return outcomes


def _wish(scene: bpy.types.Scene, solver: str, seed: int, output: str, another: bool) -> Wish:
    frames = scene.frame_start, scene.frame_end
    return Wish(None, "RANGE", frames, scene.frame_current_final, solver, seed, output, another)


def _found(among: Iterable[Datablock], uid: int, name: str) -> Datablock:
    """What the user may have renamed, or undone and done again, meanwhile."""
    found = next((thing for thing in among if thing.session_uid == uid), None)
    if found is None:
        raise VivantError(f"'{name}' was removed meanwhile.", "The others are filled all the same.")
    return found


def _layer_of(shot: Shot) -> bpy.types.ViewLayer:
    """The first view layer of the shot's scene that has the armature."""
    layers = list(shot.scene.view_layers)
    return next((layer for layer in layers if shot.armature.name in layer.objects), layers[0])
