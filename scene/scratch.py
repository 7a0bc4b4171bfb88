# SPDX-License-Identifier: GPL-3.0-or-later
"""Poses of an armature under other actions, at other frames, evaluated in a scene of its own beside the user's.

Blender itself evaluates them, constraints, drivers and NLA included; the user's scene keeps its frame and its unkeyed poses.
"""

from __future__ import annotations

from collections.abc import Sequence

import bpy
import numpy as np
from numpy.typing import NDArray

from . import actions, rigs

Array = NDArray[np.floating]


def sample(
    armature: bpy.types.Object,
    shown: Sequence[bpy.types.Action],
    frames: Sequence[float],
    bones: Sequence[str] | None = None,
) -> Array:
    """World matrices (A, F, B, 4, 4) of bones (all when None) under each of some actions, at frames of the scene.

    The actions have the slot that animates the armature, as takes and their original do.  What else moves it is evaluated too.
    Nothing is left behind, but datablocks come and go: not for draw handlers.  Raises VivantError for what is no armature.
    """
    pose = rigs.pose_of(armature)
    names = [bone.name for bone in pose.bones] if bones is None else list(bones)
    matrices = np.empty((len(shown), len(frames), len(names), 4, 4))
    if not matrices.size:
        return matrices
    scene = bpy.context.scene
    beside, double = bpy.data.scenes.new("Vivant scratch"), armature.copy()
    try:
        beside.render.fps, beside.render.fps_base = scene.render.fps, scene.render.fps_base
        beside.collection.objects.link(double)
        layer = beside.view_layers[0]
        for of_action, action in zip(matrices, shown, strict=True):
            if double.animation_data.action != action:
                actions.assign(double, action, double.animation_data.action_slot_handle)
            for row, frame in zip(of_action, frames, strict=True):
                beside.frame_set(int(frame // 1), subframe=float(frame % 1))
                evaluated = double.evaluated_get(layer.depsgraph)
                found = evaluated.pose.bones
                row[:] = np.array(evaluated.matrix_world) @ np.array([found[name].matrix for name in names])
    finally:
        bpy.data.objects.remove(double)
        bpy.data.scenes.remove(beside)
    return matrices
