# SPDX-License-Identifier: GPL-3.0-or-later
"""Rigs for the demo: an imported one, or a walker of sticks that is made here."""

from __future__ import annotations

import math
import pathlib

import bpy
import numpy as np
from mathutils import Vector


def import_rig(path: pathlib.Path) -> bpy.types.Object:
    """A glTF rig, with the importer's helper shapes taken away."""
    bpy.ops.import_scene.gltf(filepath=str(path))
    rig = next(obj for obj in bpy.context.selected_objects if obj.type == "ARMATURE")
    for bone in rig.pose.bones:
        bone.custom_shape = None
    for obj in [obj for obj in bpy.data.objects if obj.name.startswith("Icosphere")]:
        bpy.data.objects.remove(obj)
    return rig


def show(rig: bpy.types.Object, action: bpy.types.Action) -> None:
    """Let a rig play an action with one slot."""
    rig.animation_data_create().action = action
    rig.animation_data.action_slot = action.slots[0]


def import_fox(path: pathlib.Path) -> bpy.types.Object:
    """A glTF rig in its walk."""
    rig = import_rig(path)
    show(rig, bpy.data.actions["Walk"])
    return rig


def keep_only_poses(rig: bpy.types.Object, frames: tuple[int, ...]) -> None:
    """Replace a rig's motion by its poses at some frames, as an animator blocks them."""
    scene = bpy.context.scene
    poses = {}
    for frame in frames:
        scene.frame_set(frame)
        poses[frame] = {bone.name: bone.matrix_basis.copy() for bone in rig.pose.bones}
    rig.animation_data.action = bpy.data.actions.new("Blocking")
    for frame, pose in poses.items():
        for bone in rig.pose.bones:
            bone.matrix_basis = pose[bone.name]
            bone.keyframe_insert("location", frame=frame)
            bone.keyframe_insert({"QUATERNION": "rotation_quaternion"}.get(bone.rotation_mode, "rotation_euler"), frame=frame)
    scene.frame_set(frames[0])


def made_up_walker() -> bpy.types.Object:
    """Two legs, two arms, a spine and a head of boxes, walking on the spot."""
    data = bpy.data.armatures.new("Walker")
    rig = bpy.data.objects.new("Walker", data)
    bpy.context.scene.collection.objects.link(rig)
    bpy.context.view_layer.objects.active = rig
    bpy.ops.object.mode_set(mode="EDIT")
    bones = {
        "hips": (None, (0, 0, 1.0), (0, 0, 1.2)),
        "chest": ("hips", (0, 0, 1.2), (0, 0, 1.6)),
        "head": ("chest", (0, 0, 1.65), (0, 0, 1.9)),
    }
    for side, x in (("L", 0.12), ("R", -0.12)):
        bones[f"thigh.{side}"] = ("hips", (x, 0, 1.0), (x, -0.02, 0.52))
        bones[f"shin.{side}"] = (f"thigh.{side}", (x, -0.02, 0.52), (x, 0.02, 0.06))
        bones[f"arm.{side}"] = ("chest", (2 * x, 0, 1.55), (2.2 * x, 0.02, 1.2))
        bones[f"forearm.{side}"] = (f"arm.{side}", (2.2 * x, 0.02, 1.2), (2.2 * x, -0.03, 0.85))
    for name, (parent, head, tail) in bones.items():
        bone = data.edit_bones.new(name)
        bone.head, bone.tail = head, tail
        bone.parent = data.edit_bones.get(parent) if parent else None
        bone.roll = 0
    bpy.ops.object.mode_set(mode="OBJECT")
    _skin(rig, {name: (Vector(head), Vector(tail)) for name, (_, head, tail) in bones.items()})
    _walk(rig)
    return rig


def _skin(rig: bpy.types.Object, bones: dict[str, tuple[Vector, Vector]]) -> None:
    """A box along every bone, bound to it."""
    corners, faces, groups = [], [], {}
    for name, (head, tail) in bones.items():
        half = 0.09 if name in {"hips", "chest", "head"} else 0.05
        first = len(corners)
        for end in (head, tail):
            corners += [end + Vector((dx, dy, 0)) for dx, dy in ((-half, -half), (half, -half), (half, half), (-half, half))]
        quads = ((0, 3, 2, 1), (4, 5, 6, 7), (0, 1, 5, 4), (1, 2, 6, 5), (2, 3, 7, 6), (3, 0, 4, 7))
        faces += [tuple(first + corner for corner in quad) for quad in quads]
        groups[name] = list(range(first, first + 8))
    mesh = bpy.data.meshes.new("Walker Skin")
    mesh.from_pydata(corners, [], faces)
    skin = bpy.data.objects.new("Walker Skin", mesh)
    bpy.context.scene.collection.objects.link(skin)
    for name, vertices in groups.items():
        skin.vertex_groups.new(name=name).add(vertices, 1.0, "REPLACE")
    skin.modifiers.new("Armature", "ARMATURE").object = rig
    skin.parent = rig


def _walk(rig: bpy.types.Object, period: int = 24) -> None:
    """Swing the limbs against each other; one key a frame."""
    for frame in range(1, period + 2):
        phase = 2 * math.pi * (frame - 1) / period
        for side, offset in (("L", 0.0), ("R", math.pi)):
            swing = math.sin(phase + offset)
            bends = {
                "thigh": 0.5 * swing,
                "shin": -0.25 - 0.45 * max(0.0, math.sin(phase + offset + 1.3)),
                "arm": -0.4 * swing,
                "forearm": 0.5,
            }
            for name, angle in bends.items():
                bone = rig.pose.bones[f"{name}.{side}"]
                bone.rotation_mode = "QUATERNION"
                bone.rotation_quaternion = (math.cos(angle / 2), math.sin(angle / 2), 0, 0)
                bone.keyframe_insert("rotation_quaternion", frame=frame)
        hips = rig.pose.bones["hips"]
        hips.location = np.array([0, 0.03 * math.cos(2 * phase), 0])
        hips.keyframe_insert("location", frame=frame)
