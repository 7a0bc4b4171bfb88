# SPDX-License-Identifier: GPL-3.0-or-later
"""Poses of an armature under any action or any channels, evaluated by Blender on a double in a scene of its own.

The user's armature, scene and frame are never touched, meshes that follow the armature are not evaluated, and nothing is left
behind.  Sampling takes a slice of time between two `yield`s, so that a window can stay alive.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import bpy
import numpy as np
from bpy_extras import anim_utils
from mathutils import Matrix
from numpy.typing import NDArray

from ..backends.common.steps import at_once, told
from . import actions, rigs

__all__ = ["Double", "Poses", "aside", "at_once", "channels", "double", "poses", "told"]

Array = NDArray[np.floating]
Result = TypeVar("Result")

SLICE = 0.05  # seconds


@dataclass(frozen=True, eq=False)
class Poses:
    """At F frames: `worlds` (F, 4, 4) of the object, `matrices` (F, B, 4, 4) of bones in its space, and what their `channels`
    hold, `matrix_basis` (F, B, 4, 4)."""

    worlds: Array
    matrices: Array
    channels: Array

    @property
    def in_world(self) -> Array:
        """World matrices (F, B, 4, 4) of the bones."""
        return self.worlds[:, None] @ self.matrices

    def part(self, rows: Any, bones: Any = slice(None)) -> Poses:
        """Those at some frames, of some bones."""
        return Poses(self.worlds[rows], self.matrices[rows][:, bones], self.channels[rows][:, bones])


def poses(
    armature: bpy.types.Object,
    bones: Sequence[str] | None,
    action: bpy.types.Action,
    handle: int,
    frames: Sequence[float],
    alone: bool = False,
    kept: bool = True,
) -> Generator[str, None, Poses]:
    """Poses of bones (in Blender's order all, when None) at frames of the scene under the slot of an action with that handle.

    Yields how far it is.  alone: without the NLA, and the whole of the action.  kept: whether the double is there from the
    beginning to the end; who lets the user go on meanwhile has one made anew after each `yield`.
    """
    parts: list[Poses] = []
    done = 0
    while done < len(frames):
        with double(armature, action, handle, alone) as own:
            for part in own.slices(frames[done:], bones, gone=not kept):
                parts.append(part)
                done += len(part.worlds)
                if not kept:
                    break
                yield f"'{action.name}', frame {done} of {len(frames)}"
        if not kept:
            yield f"'{action.name}', frame {done} of {len(frames)}"
    return _joined(parts)


def aside(doing: str, work: Callable[[], Result]) -> Generator[str, None, Result]:
    """What a function that touches nothing of Blender returns, in a thread; yields what it does."""
    thread = futures.ThreadPoolExecutor(1)
    task = thread.submit(work)
    thread.shutdown(wait=False)
    while not futures.wait([task], SLICE).done:
        yield doing
    return task.result()


@contextmanager
def double(
    armature: bpy.types.Object, action: bpy.types.Action | None = None, handle: int | None = None, alone: bool = False
) -> Iterator[Double]:
    """The double of an armature under the slot of an action with that handle (its own when None); see `poses`.

    Datablocks come and go, so not for draw handlers.  Raises VivantError for what is no armature.
    """
    rigs.pose_of(armature)
    user = bpy.context.scene
    scene, copy = bpy.data.scenes.new("Vivant"), armature.copy()
    made = Double(copy, scene)
    try:
        for name in ("fps", "fps_base", "frame_map_old", "frame_map_new"):
            setattr(scene.render, name, getattr(user.render, name))
        scene.collection.objects.link(copy)
        if action is not None:
            actions.assign(copy, action, copy.animation_data.action_slot_handle if handle is None else handle)
        if alone:
            copy.animation_data.use_nla = False
            copy.animation_data.action_influence = 1.0
            copy.animation_data.action_blend_type = "REPLACE"
        yield made
    finally:
        bpy.data.objects.remove(copy)
        bpy.data.scenes.remove(scene)
        if made.action:
            bpy.data.actions.remove(made.action)


class Double:
    """A double of an armature in a scene of its own, whose channels may be changed."""

    def __init__(self, copy: bpy.types.Object, scene: bpy.types.Scene) -> None:
        self.copy, self.scene = copy, scene
        self.action: bpy.types.Action | None = None
        self._put: dict[tuple[str, int], bpy.types.FCurve] = {}

    def at(self, frame: float) -> bpy.types.Object:
        """The double as Blender evaluates it at a frame."""
        self.scene.frame_set(int(frame // 1), subframe=float(frame % 1))
        return self.copy.evaluated_get(self.scene.view_layers[0].depsgraph)

    def slices(self, frames: Sequence[float], bones: Sequence[str] | None = None, gone: bool = False) -> Iterator[Poses]:
        """Poses of bones (in Blender's order all, when None) at frames, as many at a time as a slice of time has.

        gone: the double will be after the first slice, which then lasts as long again as Blender took to lay out the scene.
        """
        columns = slice(None) if bones is None else [self.copy.pose.bones.find(bone) for bone in bones]
        flat = np.empty((len(self.copy.pose.bones), 4, 4), np.float32)
        found: list[tuple[Array, Array, Array]] = []
        until = time.perf_counter() + SLICE
        for number, frame in enumerate(frames, 1):
            began = time.perf_counter()
            evaluated = self.at(frame)
            both = []
            for name in ("matrix", "matrix_basis"):
                evaluated.pose.bones.foreach_get(name, flat.reshape(-1))
                both.append(flat.swapaxes(1, 2)[columns].astype(np.float64))
            found.append((np.array(evaluated.matrix_world), both[0], both[1]))
            now = time.perf_counter()
            if gone and number == 1:
                until = now + max(SLICE, now - began)
            if now > until or number == len(frames):
                yield Poses(*(np.array(column) for column in zip(*found, strict=True)))
                found, until = [], time.perf_counter() + SLICE

    def poses(self, frames: Sequence[float]) -> Generator[float, None, Poses]:
        """Poses of all bones in Blender's order; yields the share that is done."""
        parts: list[Poses] = []
        done = 0
        for part in self.slices(frames):
            parts.append(part)
            done += len(part.worlds)
            yield done / len(frames)
        return _joined(parts)

    def hold(self, frame: float) -> None:
        """Let every curve keep the value that it has at a frame."""
        for curve in actions.curves_of(*self._own()).values():
            key = np.zeros(1, actions.KEY)
            key["co"] = frame, curve.evaluate(frame)
            for modifier in list(curve.modifiers):
                curve.modifiers.remove(modifier)
            actions.write_keys(curve, key)

    def put(self, bone: str, frames: Sequence[float], bases: Array) -> None:
        """Give a bone these channels, `matrix_basis` (F, 4, 4), at frames."""
        pose = self.copy.pose.bones[bone]
        path = pose.path_from_id()
        keys = np.zeros(len(frames), actions.KEY[["co", "interpolation"]])
        keys["interpolation"] = actions.LINEAR
        for name, columns in channels(pose, bases).items():
            for index, column in enumerate(columns.T):
                keys["co"] = np.column_stack([frames, column])
                actions.write_keys(self._curve(f"{path}.{name}", index), keys)

    def _curve(self, path: str, index: int) -> bpy.types.FCurve:
        """A curve of the double's own for a channel, in place of that of the action."""
        if (path, index) not in self._put:
            action, slot = self._own()
            bag = anim_utils.action_get_channelbag_for_slot(action, slot)
            if curve := bag.fcurves.find(path, index=index):
                bag.fcurves.remove(curve)
            self._put[path, index] = bag.fcurves.new(path, index=index)
            actions.assign(self.copy, action, slot.handle)  # or Blender would not evaluate what hangs on a new curve
        return self._put[path, index]

    def _own(self) -> tuple[bpy.types.Action, bpy.types.ActionSlot]:
        """An action of the double's own."""
        data = self.copy.animation_data_create()
        if self.action is None:
            if data.action is not None and data.action_slot is not None:
                handle = data.action_slot.handle
                self.action = data.action.copy()
                actions.assign(self.copy, self.action, handle)
            else:
                self.action = bpy.data.actions.new("double")
                slot = self.action.slots.new(id_type="OBJECT", name="double")
                self.action.layers.new("Layer").strips.new(type="KEYFRAME").channelbag(slot, ensure=True)
                actions.assign(self.copy, self.action, slot.handle)
        return self.action, data.action_slot


def _joined(parts: Sequence[Poses]) -> Poses:
    columns = ([getattr(part, name) for part in parts] for name in ("worlds", "matrices", "channels"))
    return Poses(*(np.concatenate(column) for column in columns))


def channels(bone: bpy.types.PoseBone, bases: Array) -> dict[str, Array]:
    """Location, scale and the rotation in the bone's own mode (F, 3 or 4) of `matrix_basis` (F, 4, 4)."""
    parts = [Matrix(basis).decompose() for basis in bases]
    places, turns, scales = (np.array([tuple(part) for part in column]) for column in zip(*parts, strict=True))
    rotation = rigs.FOUR.get(bone.rotation_mode, "rotation_euler")
    start = np.array(getattr(bone, rotation))
    return {"location": places, rotation: rigs.from_quaternions(turns, bone.rotation_mode, start), "scale": scales}
