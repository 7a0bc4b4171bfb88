# SPDX-License-Identifier: GPL-3.0-or-later
"""What a take looks like beside the user's motion around it, measured in the poses that Blender evaluates."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Generator

import bpy
import numpy as np

from ..backends.motion.report import Quality, assess
from . import actions, beside, planted, takes, traces
from .inbetween import Answer, Question, Report

CONTEXT = 20  # frames on either side


def judge(armature: bpy.types.Object) -> Quality | None:
    """Measure the take that the armature shows, in the frames that were filled last, and keep that with how it was made.

    Joints are the heads of the bones that deform, and around counts what the user's keys span and nothing was generated in.
    None when no take is shown.
    """
    return beside.at_once(judging(armature))


def judging(armature: bpy.types.Object) -> Generator[str, None, Quality | None]:
    """`judge` in steps: yields what it does; to close it at any step changes nothing."""
    take = armature.animation_data.action if takes.original_of(armature) else None
    made = takes.made_of(take) if take else None
    if take is None or made is None:
        return None
    keyed = take.frame_range
    first = max(math.ceil(keyed[0]), made.frames[0] - CONTEXT)
    last = min(math.floor(keyed[1]), made.frames[1] + CONTEXT)
    frames = np.arange(min(first, made.frames[0]), max(last, made.frames[1]) + 1)
    gaps = [gap for fill in takes.fills_of(take, armature.animation_data.action_slot).values() for gap in fill.gaps]
    generated = actions.inside(frames, gaps)
    filled = (frames >= made.frames[0]) & (frames <= made.frames[1])
    feet = list(planted.feet_of(armature))
    names = [armature.pose.bones[index].name for index in traces.ghost_bones(armature)]
    bones = [*feet, *(name for name in names if name not in feet)]
    unit = bpy.context.scene.unit_settings.scale_length
    handle = armature.animation_data.action_slot_handle
    poses = yield from beside.poses(armature, bones, take, handle, frames.tolist())
    places = poses.in_world[..., :3, 3][..., [0, 2, 1]] * (unit, unit, -unit)
    render = bpy.context.scene.render
    quality = assess(places, filled, ~filled & ~generated, render.fps / render.fps_base, range(len(feet)))
    takes.note(take, made=json.dumps(dataclasses.asdict(dataclasses.replace(made, quality=quality))))
    return quality


def judged(
    steps: Generator[str | Question, Answer | None, Report],
) -> Generator[str | Question | Report, Answer | None, Report]:
    """`inbetween.inbetweening`, then `judging`; between them it yields the report, from which on the take is there."""
    report = yield from steps
    yield report
    yield from judging(report.armature)
    return report
