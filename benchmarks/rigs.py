# SPDX-License-Identifier: GPL-3.0-or-later
"""Seconds that a gap of 45 frames takes on an armature of 60 bones in Blender, by solver.

    OMP_NUM_THREADS=1 python dev.py bench rigs

The armature moves in one action of 300 frames, which is the library; its own has 45 frames of that missing.  `all` is processor
time from the call to the take; `writing` is the part that puts keys into curves, the same for every solver.  The best of three
calls counts, so sampling the library, which is done once, does not.
"""

from __future__ import annotations

import time

import bpy
import numpy as np
from mathutils import Quaternion

from vivant.backends.motion import solve
from vivant.scene import actions, generated, takes
from vivant.scene.inbetween import inbetween_object

BONES, FRAMES, GAP = 60, 300, (110, 156)


def armature() -> bpy.types.Object:
    """A chain of bones without any motion."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    rig = bpy.data.objects.new("rig", bpy.data.armatures.new("rig"))
    bpy.context.scene.collection.objects.link(rig)
    bpy.context.view_layer.objects.active = rig
    bpy.ops.object.mode_set(mode="EDIT")
    parent = None
    for index in range(BONES):
        bone = rig.data.edit_bones.new(f"bone {index}")
        bone.head, bone.tail, bone.parent = (0, 0, 0.1 * index), (0, 0, 0.1 * index + 0.1), parent
        parent = bone
    bpy.ops.object.mode_set(mode="OBJECT")
    return rig


def perform(rig: bpy.types.Object, name: str, frames: np.ndarray) -> None:
    """A new action that turns every bone, keyed at frames."""
    action = bpy.data.actions.new(name)
    slot = action.slots.new(id_type="OBJECT", name=rig.name)
    bag = action.layers.new("Layer").strips.new(type="KEYFRAME").channelbag(slot, ensure=True)
    rng = np.random.default_rng(0)
    for index, bone in enumerate(rig.pose.bones):
        axis = rng.normal(size=3)
        rows = np.array([Quaternion(axis, 0.5 * np.sin(0.13 * frame + index)) for frame in frames.tolist()])
        for component, column in enumerate(rows.T):
            keys = np.zeros(len(frames), actions.KEY)
            keys["co"], keys["interpolation"] = np.column_stack([frames, column]), actions.LINEAR
            actions.write_keys(bag.fcurves.new(f"{bone.path_from_id()}.rotation_quaternion", index=component), keys)
    action.use_fake_user = True
    actions.assign(rig, action, slot.handle)


def seconds(rig: bpy.types.Object, solver: str) -> tuple[float, float, str]:
    """Processor time of the whole call and of the writing, and the solver that ran."""
    write = generated.add
    spent = []

    def timed(*arguments: object) -> int:
        begun = time.process_time()
        count = write(*arguments)
        spent.append(time.process_time() - begun)
        return count

    generated.add = timed
    try:
        begun = time.process_time()
        report = inbetween_object(rig, solver=solver)
        whole = time.process_time() - begun
    finally:
        generated.add = write
    takes.reject(rig)
    return whole, spent[0], report.solver


def main() -> None:
    rig = armature()
    frames = np.arange(1, FRAMES + 1)
    perform(rig, "library", frames)
    perform(rig, "own", frames[(frames <= GAP[0]) | (frames >= GAP[1])])
    bpy.context.scene.frame_set(GAP[0] + 5)
    print(f"{'solver':<12}{'all':>8}{'writing':>9}")
    for solver in (one.name for one in solve.solvers() if not one.engine):
        whole, writing, ran = min(seconds(rig, solver) for _ in range(3))
        print(f"{solver:<12}{whole:8.3f}{writing:9.3f}" + ("" if ran == solver else f"   {ran} ran"))


if __name__ == "__main__":
    main()
