# SPDX-License-Identifier: GPL-3.0-or-later
"""Poses of an armature under any action, evaluated by Blender on a double in a scene of its own.

The user's armature, scene and frame are never touched, meshes that follow the armature are not evaluated, and nothing is left
behind.  Sampling takes a slice of time between two `yield`s, so that a window can stay alive.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import bpy
import numpy as np
from numpy.typing import NDArray

from ..backends.motion.clip import Clip
from . import actions, skeletons

Array = NDArray[np.floating]
Result = TypeVar("Result")

SLICE = 0.1  # seconds


@dataclass(frozen=True, eq=False)
class Poses:
    """Evaluated poses: `worlds` (F, 4, 4) of the object and `matrices` (F, B, 4, 4) of bones in its space."""

    worlds: Array
    matrices: Array

    @property
    def in_world(self) -> Array:
        """World matrices (F, B, 4, 4) of the bones."""
        return self.worlds[:, None] @ self.matrices

    def clip(self, skeleton: Clip) -> Clip:
        """The poses in the world, where the bones are the skeleton's joints."""
        return skeletons.as_clip(skeleton, self.in_world, skeleton.fps)


def poses(
    armature: bpy.types.Object,
    bones: Sequence[str],
    action: bpy.types.Action,
    handle: int,
    frames: Sequence[int],
    alone: bool = False,
    pauses: bool = True,
) -> Generator[str, None, Poses]:
    """Poses of bones at whole frames of the scene under the slot of an action with that handle; yields how far it is.

    alone: without the NLA, and the whole of the action.  pauses: whether to yield before the end, after `SLICE` seconds or
    as long as it takes to make the double.
    """
    columns = [armature.pose.bones.find(bone) for bone in bones]
    worlds, matrices = np.empty((len(frames), 4, 4)), np.empty((len(frames), len(columns), 4, 4))
    flat = np.empty((len(armature.pose.bones), 4, 4), np.float32)
    done = 0
    while done < len(frames):
        started = time.perf_counter()
        with _double(armature, action, handle, alone) as at:
            at(frames[done])  # Blender makes the double's evaluation
            made = time.perf_counter()
            until = made + max(SLICE, made - started) if pauses else math.inf
            while done < len(frames) and time.perf_counter() < until:
                evaluated = at(frames[done])
                evaluated.pose.bones.foreach_get("matrix", flat.reshape(-1))
                worlds[done], matrices[done] = evaluated.matrix_world, flat.swapaxes(1, 2)[columns]
                done += 1
        yield f"'{action.name}', frame {done} of {len(frames)}"
    return Poses(worlds, matrices)


def at_once(steps: Generator[str, None, Result]) -> Result:
    """What a generator returns."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: Result = end.value
            return result


@contextlib.contextmanager
def _double(
    armature: bpy.types.Object, action: bpy.types.Action, handle: int, alone: bool
) -> Iterator[Callable[[int], bpy.types.Object]]:
    """The evaluated double of an armature, as a function of the frame."""
    user = bpy.context.scene
    scene, double = bpy.data.scenes.new("Vivant"), armature.copy()
    try:
        for name in ("fps", "fps_base", "frame_map_old", "frame_map_new"):
            setattr(scene.render, name, getattr(user.render, name))
        scene.collection.objects.link(double)
        actions.assign(double, action, handle)
        if alone:
            double.animation_data.use_nla = False
            double.animation_data.action_influence = 1.0
            double.animation_data.action_blend_type = "REPLACE"
        layer = scene.view_layers[0]

        def at(frame: int) -> bpy.types.Object:
            scene.frame_set(frame)
            return double.evaluated_get(layer.depsgraph)

        yield at
    finally:
        bpy.data.objects.remove(double)
        bpy.data.scenes.remove(scene)
