# SPDX-License-Identifier: GPL-3.0-or-later
"""Trying channels out: a double of an armature, evaluated by Blender in a scene of its own, beside the user's.

The user's scene, rig and actions stay as they are, and nothing that hangs on the rig, as its meshes, is evaluated along.
Sweeps over frames take a slice of time between two `yield`s, so that a window can stay alive.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import bpy
import numpy as np
from bpy_extras import anim_utils
from mathutils import Matrix
from numpy.typing import NDArray

from . import actions, rigs

Array = NDArray[np.floating]
Puts = Mapping[str, tuple[Sequence[float], Array]]  # bone -> frames (F,) and its channels there, `matrix_basis` (F, 4, 4)

SLICE = 0.2  # seconds
CHANNELS = ("location", "rotation_quaternion", "rotation_axis_angle", "rotation_euler", "scale")


@dataclass(frozen=True, eq=False)
class Sweep:
    """At F frames: the object's world matrices (F, 4, 4), its bones' in its space and their channels (F, B, 4, 4)."""

    worlds: Array
    poses: Array
    channels: Array


def sweep(
    armature: bpy.types.Object,
    action: bpy.types.Action | None,
    frames: Sequence[float],
    puts: Puts,
    held: float | None = None,
) -> Generator[float, None, Sweep]:
    """An armature at frames under an action, some bones' channels replaced; yields the share that is done.

    held: the frame whose values all other curves keep.  Bones are in Blender's order.
    """
    count = len(armature.pose.bones)
    worlds = np.empty((len(frames), 4, 4))
    poses, channels = (np.empty((len(frames), count, 4, 4)) for _ in range(2))
    done = 0
    while done < len(frames):
        began = time.perf_counter()
        with trial(armature, action) as own:
            if held is not None:
                own.hold(held)
            for bone, (at, bases) in puts.items():
                own.put(bone, at, bases)
            # To lay everything out anew for each slice must not take longer than what it is laid out for.
            now = time.perf_counter()
            until = now + max(SLICE, 2 * (now - began))
            for found in own.run(frames[done:]):
                worlds[done], poses[done], channels[done] = found
                done += 1
                if time.perf_counter() > until:
                    break
        yield done / len(frames)
    return Sweep(worlds, poses, channels)


class Trial:
    """A double of an armature with a copy of an action, in a scene of its own."""

    def __init__(self, double: bpy.types.Object, scene: bpy.types.Scene) -> None:
        self.double, self.scene = double, scene
        self.action: bpy.types.Action | None = None

    def curves(self) -> dict[tuple[str, int], bpy.types.FCurve]:
        """The double's own curves, by data path and array index."""
        action, slot = self._own()
        return actions.curves_of(action, slot)

    def hold(self, frame: float) -> None:
        """Let every curve keep the value that it has at a frame."""
        for curve in self.curves().values():
            key = np.zeros(1, actions.KEY)
            key["co"] = frame, curve.evaluate(frame)
            for modifier in list(curve.modifiers):
                curve.modifiers.remove(modifier)
            actions.write_keys(curve, key)

    def put(self, bone: str, frames: Sequence[float], bases: Array) -> None:
        """Give a bone these channels, `matrix_basis` (F, 4, 4), at frames."""
        action, slot = self._own()
        bag = anim_utils.action_get_channelbag_for_slot(action, slot)
        pose = self.double.pose.bones[bone]
        path = pose.path_from_id()
        for name in CHANNELS:
            for index in range(4):
                if curve := bag.fcurves.find(f"{path}.{name}", index=index):
                    bag.fcurves.remove(curve)
        for name, columns in channels(pose, bases).items():
            for index, column in enumerate(columns.T):
                curve = bag.fcurves.new(f"{path}.{name}", index=index)
                keys = np.zeros(len(frames), actions.KEY)
                keys["co"] = np.column_stack([frames, column])
                keys["interpolation"] = actions.LINEAR
                actions.write_keys(curve, keys)

    def evaluated(self, frame: float) -> bpy.types.Object:
        """The double as Blender evaluates it at a frame."""
        self.scene.frame_set(int(frame // 1), subframe=float(frame % 1))
        return self.double.evaluated_get(self.scene.view_layers[0].depsgraph)

    def run(self, frames: Sequence[float]) -> Iterator[tuple[Array, Array, Array]]:
        """At each frame what a `Sweep` holds."""
        shape = (len(self.double.pose.bones), 4, 4)
        flat = np.empty(shape, np.float32)
        for frame in frames:
            evaluated = self.evaluated(frame)
            found = []
            for name in ("matrix", "matrix_basis"):
                evaluated.pose.bones.foreach_get(name, flat.reshape(-1))
                found.append(flat.swapaxes(1, 2).astype(np.float64))
            yield np.array(evaluated.matrix_world), found[0], found[1]

    def _own(self) -> tuple[bpy.types.Action, bpy.types.ActionSlot]:
        """An action of the double's own."""
        data = self.double.animation_data_create()
        if self.action is None:
            if data.action is not None and data.action_slot is not None:
                handle = data.action_slot.handle
                self.action = data.action.copy()
                actions.assign(self.double, self.action, handle)
            else:
                self.action = bpy.data.actions.new("trial")
                slot = self.action.slots.new(id_type="OBJECT", name="trial")
                self.action.layers.new("Layer").strips.new(type="KEYFRAME").channelbag(slot, ensure=True)
                actions.assign(self.double, self.action, slot.handle)
        return self.action, data.action_slot


@contextmanager
def trial(armature: bpy.types.Object, action: bpy.types.Action | None = None) -> Iterator[Trial]:
    """A `Trial` of an armature under an action with its slot (its own when None); nothing is left behind.

    Datablocks come and go, so not for draw handlers.  Raises VivantError for what is no armature.
    """
    rigs.pose_of(armature)
    user = bpy.context.scene
    scene, double = bpy.data.scenes.new("Vivant"), armature.copy()
    made = Trial(double, scene)
    try:
        for name in ("fps", "fps_base", "frame_map_old", "frame_map_new"):
            setattr(scene.render, name, getattr(user.render, name))
        scene.collection.objects.link(double)
        scene.frame_set(user.frame_current, subframe=user.frame_subframe)
        if action is not None:
            actions.assign(double, action, double.animation_data.action_slot_handle)
        yield made
    finally:
        bpy.data.objects.remove(double)
        bpy.data.scenes.remove(scene)
        if made.action:
            bpy.data.actions.remove(made.action)


def channels(bone: bpy.types.PoseBone, bases: Array) -> dict[str, Array]:
    """Location, scale and the rotation in the bone's own mode (F, 3 or 4) of `matrix_basis` (F, 4, 4)."""
    parts = [Matrix(basis).decompose() for basis in bases]
    places, turns, scales = (np.array([tuple(part) for part in column]) for column in zip(*parts, strict=True))
    rotation = rigs.FOUR.get(bone.rotation_mode, "rotation_euler")
    start = np.array(getattr(bone, rotation))
    return {"location": places, rotation: rigs.from_quaternions(turns, bone.rotation_mode, start), "scale": scales}
