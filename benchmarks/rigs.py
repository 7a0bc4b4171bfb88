# SPDX-License-Identifier: GPL-3.0-or-later
"""Seconds that a gap of 45 frames takes in Blender, and how long a window would be deaf meanwhile.

    OMP_NUM_THREADS=1 python dev.py bench rigs [--data FOLDER] [--rigs chain,rigify_fk,rigify_ik,mixamo,fox]

First on an armature of 60 bones, by solver.  It moves in one action of 300 frames, which is the library; its own has 45 frames
of that missing.  `all` is processor time from the call to the take; `writing` is the part that puts keys into curves, the same
for every solver.  The best of three calls counts, so sampling the library, which is done once, does not.

Then on rigs as animators have them, with a walk that was retargeted to them (the fox has its own) as library, and every eighth
frame of it as keys: processor time of the main thread of all steps and of the longest one, between which a window draws and
listens (what solvers take in their thread does not count), what Blender needs to lay the rig out and to evaluate one frame of
it, and what the longest step did.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import sys
import time
from collections.abc import Generator
from typing import Any, NamedTuple

import bpy
import numpy as np
from mathutils import Quaternion

from vivant.backends.motion import solve
from vivant.backends.motion.formats.bvh import read_bvh
from vivant.scene import actions, beside, generated, judged, skeletons, takes
from vivant.scene.inbetween import Question, Wish, answered, inbetween_object, inbetweening

ROOT = pathlib.Path(__file__).resolve().parent.parent
BONES, FRAMES, GAP = 60, 300, (110, 156)
POSES, PLAYHEAD = (1, 9, 17, 25, 71, 79, 87, 95), 48.0
RIGS = ("chain", "rigify_fk", "rigify_ik", "mixamo", "fox")


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
    write, spent = generated.adding, 0.0

    def timed(*arguments: Any) -> Generator[float, None, int]:
        nonlocal spent
        steps = write(*arguments)
        while True:
            begun = time.process_time()
            try:
                share = next(steps)
            except StopIteration as end:
                return int(end.value)
            finally:
                spent += time.process_time() - begun
            yield share

    generated.adding = timed
    try:
        begun = time.process_time()
        report = inbetween_object(rig, solver=solver)
        whole = time.process_time() - begun
    finally:
        generated.adding = write
    takes.reject(rig)
    return whole, spent, report.solver


def by_solver() -> None:
    rig = armature()
    frames = np.arange(1, FRAMES + 1)
    perform(rig, "library", frames)
    perform(rig, "own", frames[(frames <= GAP[0]) | (frames >= GAP[1])])
    bpy.context.scene.frame_set(GAP[0] + 5)
    print(f"{'solver':<12}{'all':>8}{'writing':>9}")
    for solver in (one.name for one in solve.solvers() if not one.engine):
        whole, writing, ran = min(seconds(rig, solver) for _ in range(3))
        print(f"{solver:<12}{whole:8.3f}{writing:9.3f}" + ("" if ran == solver else f"   {ran} ran"))


class Spent(NamedTuple):
    """Processor seconds of the main thread: all, the longest step, and what that was doing."""

    all: float
    longest: float
    doing: str


def stepwise(steps: Generator[Any, Any, Any]) -> Spent:
    """Work as a window does it, one step after the other."""
    every, doing, answer = [], "beginning", None
    while True:
        begun = time.thread_time()
        try:
            step = steps.send(answer)
        except StopIteration:
            step = None
        every.append((time.thread_time() - begun, doing))
        if step is None:
            return Spent(sum(seconds for seconds, _ in every), *max(every))
        answer = answered(step) if isinstance(step, Question) else None
        doing = step if isinstance(step, str) else "writing" if answer is None else "taking the answer"


def rigify(inverse: bool) -> bpy.types.Object:
    """A generated human, its limbs on inverse or forward kinematics."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.ops.preferences.addon_enable(module="rigify")
    bpy.ops.object.armature_human_metarig_add()
    meta = bpy.context.object
    bpy.ops.pose.rigify_generate()
    bpy.data.objects.remove(meta)
    rig = bpy.context.view_layer.objects.active
    for limb in ("thigh_parent", "upper_arm_parent"):
        for side in "LR":
            rig.pose.bones[f"{limb}.{side}"]["IK_FK"] = float(not inverse)
    return rig


def imported(path: pathlib.Path) -> bpy.types.Object:
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.ops.import_scene.gltf(filepath=str(path), loglevel=50)
    return next(thing for thing in bpy.data.objects if thing.type == "ARMATURE")


def evaluation(rig: bpy.types.Object) -> tuple[float, float]:
    """Processor seconds that Blender takes to lay a rig out, and to evaluate a frame of it."""
    with beside.double(rig) as double:
        seconds = []
        for frame in range(1, 12):
            begun = time.thread_time()
            double.at(frame)
            seconds.append(time.thread_time() - begun)
    return seconds[0], min(seconds[1:])


def animator(name: str, data: pathlib.Path) -> None:
    """What an animator does with a rig: retarget a walk to it, block it, fill a gap, twice."""
    files = {"mixamo": "human_mixamo_names.glb", "fox": "fox.glb"}
    rig = imported(data / "rigs" / files[name]) if name in files else rigify(name == "rigify_ik")
    bpy.context.scene.render.fps = 30
    done: dict[str, Spent] = {}
    if name == "fox":
        walk = bpy.data.actions["Walk"]
        actions.assign(rig, walk, walk.slots[0].handle)
    else:
        clip = read_bvh(data / "mocap" / "bvh" / "cmu_35_28_walk_asf.bvh")
        done["retargeting"] = stepwise(skeletons.retargeting(rig, clip, "walk"))
        walk = rig.animation_data.action
    walk.use_fake_user = True
    first, last = walk.frame_range
    blocking = walk.copy()
    for curve in actions.curves_of(blocking, blocking.slots[0]).values():
        keys = np.zeros(len(POSES), actions.KEY)
        keys["co"] = [(pose, curve.evaluate(first + (pose - 1) * 1.08 % (last - first))) for pose in POSES]
        keys["interpolation"] = actions.BEZIER
        actions.write_keys(curve, keys)
    actions.assign(rig, blocking, blocking.slots[0].handle)
    bpy.context.view_layer.objects.active = rig
    for call in ("first fill", "second fill"):
        wish = Wish(None, "GAP", None, PLAYHEAD, "retrieval")
        done[call] = stepwise(judged.judged(inbetweening(rig, wish)))
        takes.reject(rig)
    layout, frame = evaluation(rig)
    for what, spent in done.items():
        print(f"{name:<11}{what:<13}{spent.all:8.3f}{spent.longest:9.3f}{layout:8.3f}{frame:7.4f}   {spent.doing}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--data", type=pathlib.Path, default=ROOT.parent / "shared" / "data", help="folder with rigs/ and mocap/"
    )
    parser.add_argument("--rigs", default=",".join(RIGS), help="which of them")
    options = parser.parse_args()
    chosen = options.rigs.split(",")
    if "chain" in chosen:
        by_solver()
    others = [name for name in chosen if name != "chain"]
    if others and not (options.data / "rigs").is_dir():
        raise SystemExit(f"{options.data / 'rigs'} is not there; name the data folder with --data.")
    if others:
        print(f"{'rig':<11}{'':<13}{'all':>8}{'longest':>9}{'layout':>8}{'frame':>7}   the longest step was")
    for name in others:
        animator(name, options.data)


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)  # Rigify keeps Blender as a module from ending
