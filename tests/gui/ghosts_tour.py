# SPDX-License-Identifier: GPL-3.0-or-later
"""Ghosts and trails of two takes in the window; test_ghosts.py looks at what came of it."""

import importlib

import bpy
from mathutils import Quaternion, Vector

PACKAGE = "bl_ext.user_default.vivant"


def module(name):
    return importlib.import_module(f"{PACKAGE}.{name}")


def steps(window):
    noted, ghosts = window.noted, module("scene.ghosts")
    space = window.space
    rig = arm()
    space.show_gizmo = space.show_region_ui = space.show_region_toolbar = space.show_region_header = False
    space.overlay.show_floor = space.overlay.show_axis_x = space.overlay.show_axis_y = space.overlay.show_text = False
    space.overlay.show_cursor = space.overlay.show_object_origins = space.overlay.show_outline_selected = False
    seen = space.region_3d
    seen.view_perspective = "ORTHO"
    seen.view_location, seen.view_distance = (0, 0, 1.2), 7.0
    seen.view_rotation = Vector((0, -1, 0)).to_track_quat("Z", "Y")
    yield 1.0
    window.photograph("off")
    noted["view"] = window.view()

    scene = bpy.context.scene
    for _ in range(2):
        window.call(bpy.ops.vivant.motion_inbetween, "EXEC_DEFAULT", True, scope="GAP", another=True)
    rig.vivant_takes.strength = 0.0
    window.call(bpy.ops.vivant.take_step, "EXEC_DEFAULT", True, by=-1)
    noted["original"], noted["take"] = rig.animation_data.action.name, module("scene.takes").takes_of(rig)[0].name
    rig.pose.bones["Hand"].location = (0.1, 0, 0)  # not keyed: it must stay
    yield 1.0
    scene.vivant.show_trails = True
    yield from drawn_anew(ghosts)
    window.photograph("trails")
    noted["trails"] = drawn(ghosts, rig)
    noted["unkeyed"] = list(rig.pose.bones["Hand"].location)
    scene.vivant.show_ghosts = True
    yield from drawn_anew(ghosts)
    window.photograph("ghosts")
    noted["sampled"] = [ghosts.sampled]
    yield 3.0
    noted["sampled"].append(ghosts.sampled)  # nothing changed: nothing is sampled
    scene.frame_set(24)
    yield 1.0
    window.photograph("later")
    noted["sampled"].append(ghosts.sampled)
    scene.frame_set(20)
    module("scene.planted").plant(rig, ["Hand"], 11, 14)
    scene.vivant.ghosts_of_all = True
    yield from drawn_anew(ghosts)
    window.photograph("planted")
    noted["sampled"].append(ghosts.sampled)
    curve = rig.animation_data.action.layers[0].strips[0].channelbags[0].fcurves[0]
    curve.keyframe_points[0].co.y += 0.3
    curve.update()
    rig.animation_data.action.update_tag()
    yield from drawn_anew(ghosts)
    noted["sampled"].append(ghosts.sampled)  # one action changed
    window.call(bpy.ops.vivant.take_step, "EXEC_DEFAULT", True, by=1)
    yield from drawn_anew(ghosts)
    window.photograph("stepped")
    for step in (bpy.ops.ed.undo, bpy.ops.ed.redo):  # what was sampled was of other states
        window.call(step)
        yield from drawn_anew(ghosts)
    space.overlay.show_overlays = False
    yield 1.0
    window.photograph("no_overlays")
    space.overlay.show_overlays = True
    space.show_region_ui = True
    yield 1.0
    window.show_tab()
    yield 1.0
    window.photograph("panel")
    noted["trouble"] = ghosts.trouble
    noted["scenes"] = [scene.name for scene in bpy.data.scenes]


def drawn_anew(ghosts, seconds=20):
    """Wait until the ghosts are up to date and have been drawn."""
    yield 1.0
    for _ in range(int(seconds / 0.25)):
        if not bpy.app.timers.is_registered(ghosts._update_or_stop):
            break
        yield 0.25
    yield 1.0


def arm():
    """Two bones that swing, with a gap from frame 11 to 31."""
    for unwanted in list(bpy.data.objects):
        bpy.data.objects.remove(unwanted)
    bpy.ops.object.armature_add()
    rig = bpy.context.object
    bpy.ops.object.mode_set(mode="EDIT")
    first = rig.data.edit_bones[0]
    first.name = "Arm"
    second = rig.data.edit_bones.new("Hand")
    second.head, second.tail, second.parent = (0, 0, 1), (0, 0, 1.8), first
    bpy.ops.object.mode_set(mode="POSE")
    for frame, angle in ((1, 0.0), (11, 0.9), (31, -0.9), (41, 0.2)):
        for bone in rig.pose.bones:
            bone.rotation_quaternion = Quaternion((0, 0, 1), angle)
            bone.keyframe_insert("rotation_quaternion", frame=frame)
    bpy.ops.pose.select_all(action="DESELECT")
    bpy.context.scene.frame_set(20)
    return rig


def drawn(ghosts, rig):
    """The trails of every take as they are drawn, and where dots stand."""
    picture = ghosts._pictures[rig.session_uid]
    return [
        {"shown": seen.shown, "trails": seen.trails.tolist(), "keys": seen.keys.tolist(), "ghosts": len(seen.ghosts)}
        for seen in picture.seen
    ]
