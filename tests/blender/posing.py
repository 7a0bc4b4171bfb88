# SPDX-License-Identifier: GPL-3.0-or-later
"""Small armatures with keys for the tests, and what the tests read back from them."""

import math

import bpy
import numpy as np
from bpy_extras import anim_utils

from vivant.scene import actions

# Keys of the default bone: frames and poses that turn, with motion on both sides of the gap from 10 to 20.
FRAMES = (1, 5, 10, 20, 26, 30)
ANGLES = (0.0, 0.4, -0.3, 0.8, 0.2, 0.9)


def armature(bones=("bone",), name="rig"):
    """An armature object with a chain of bones, linked to the scene and active."""
    rig = bpy.data.objects.new(name, bpy.data.armatures.new(name))
    bpy.context.scene.collection.objects.link(rig)
    bpy.context.view_layer.objects.active = rig
    bpy.ops.object.mode_set(mode="EDIT")
    parent = None
    for index, bone in enumerate(bones):
        made = rig.data.edit_bones.new(bone)
        made.head, made.tail = (0, 0, index), (0, 0, index + 1)
        made.parent = parent
        parent = made
    bpy.ops.object.mode_set(mode="OBJECT")
    select(rig, ())
    return rig


def select(rig, names):
    """Select just these pose bones."""
    for bone in rig.pose.bones:
        (bone if hasattr(bone, "select") else bone.bone).select = bone.name in names


def key(rig, bone, path, frames, rows, handles="AUTO_CLAMPED", interpolation="BEZIER", smoothing=None):
    """Key a bone's channel at frames; rows (frames, width)."""
    pose = rig.pose.bones[bone]
    for frame, row in zip(frames, rows, strict=True):
        setattr(pose, path, row)
        pose.keyframe_insert(path, frame=frame, group=bone)
    for curve in curves(rig, f"{pose.path_from_id()}.{path}"):
        for point in curve.keyframe_points:
            point.handle_left_type = point.handle_right_type = handles
            point.interpolation = interpolation
        if smoothing:
            curve.auto_smoothing = smoothing
        curve.update()
    bpy.context.view_layer.update()


def turning(mode, axis=(0.36, 0.48, 0.8), angles=ANGLES):
    """Rows of a bone's rotation channels for turns about a fixed axis."""
    from mathutils import Quaternion

    quats = [Quaternion(axis, angle) for angle in angles]
    if mode == "QUATERNION":
        return [tuple(quat) for quat in quats]
    if mode == "AXIS_ANGLE":
        return [(angle, *axis) for angle in angles]
    return [tuple(quat.to_euler(mode)) for quat in quats]


def turning_rig(mode="QUATERNION", frames=FRAMES, angles=ANGLES, **options):
    """An armature whose bone turns and travels."""
    rig = armature()
    rig.pose.bones["bone"].rotation_mode = mode
    path = {"QUATERNION": "rotation_quaternion", "AXIS_ANGLE": "rotation_axis_angle"}.get(mode, "rotation_euler")
    key(rig, "bone", path, frames, turning(mode, angles=angles), **options)
    key(rig, "bone", "location", frames, [(math.sin(a), a, 2 * a * a) for a in angles], **options)
    return rig


def curves(rig, prefix=""):
    """Curves of the object's slot whose path begins so."""
    data = rig.animation_data
    bag = anim_utils.action_get_channelbag_for_slot(data.action, data.action_slot)
    return [curve for curve in bag.fcurves if curve.data_path.startswith(prefix)]


def bits(rig):
    """Everything about all keys of the object's slot, as bytes, by channel."""
    return {
        (curve.data_path, curve.array_index): {name: keys[name].tobytes() for name in keys.dtype.names}
        for curve in curves(rig)
        for keys in [actions.read_keys(curve)]
    }


def motion(rig, times):
    """Values (curves, times) of all curves of the slot."""
    return np.array([[curve.evaluate(time) for time in times] for curve in curves(rig)])


def outside(start, end, first=-5.0, last=40.0):
    """Times before and after a gap, whole frames and between."""
    times = np.arange(first, last, 0.25)
    return times[(times <= start) | (times >= end)]
