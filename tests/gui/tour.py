# SPDX-License-Identifier: GPL-3.0-or-later
"""What a newcomer does in the window, step by step; test_window.py looks at what came of it."""

import importlib
import time

import bpy
from bpy_extras.view3d_utils import location_3d_to_region_2d
from mathutils import Quaternion, Vector

PACKAGE = "bl_ext.user_default.vivant"


def module(name):
    return importlib.import_module(f"{PACKAGE}.{name}")


def registered():
    """Everything that an add-on may leave behind."""
    handlers = {
        name: len(getattr(bpy.app.handlers, name)) for name in dir(bpy.app.handlers) if name.endswith(("_post", "_pre"))
    }
    return {
        "types": sorted(name for name in dir(bpy.types) if "VIVANT" in name.upper()),
        "operators": "vivant" in dir(bpy.ops),
        "handlers": handlers,
        "scene": hasattr(bpy.types.Scene, "vivant"),
    }


def quiet_viewport(window, quiet):
    space = window.space
    space.overlay.show_overlays = space.show_gizmo = not quiet
    space.show_region_ui = space.show_region_toolbar = space.show_region_header = not quiet


def view_from(window, direction, perspective="PERSP", distance=6.0):
    seen = window.space.region_3d
    seen.view_perspective = perspective
    seen.view_location = (0, 0, 0.4)
    seen.view_rotation = Vector(direction).to_track_quat("Z", "Y")
    seen.view_distance = distance


def splats():
    return next(one for one in bpy.context.view_layer.objects if one.type == "POINTCLOUD")


def plates():
    return [image.name for image in bpy.data.images if image.name.startswith("Plate")]


def steps(window):
    noted = window.noted
    yield from first_look(window)
    yield from still_cloud(window)
    yield from selection(window)
    yield from plate_cancelled(window)
    yield from moving_cloud(window)
    yield from saved_file(window)
    yield from switched_off(window)
    yield from in_between(window)
    noted["trouble"] = module("scene.drawing").trouble


def first_look(window):
    for unwanted in list(bpy.data.objects):
        if unwanted.type != "CAMERA":
            bpy.data.objects.remove(unwanted)
    window.space.show_region_ui = True
    yield 1.0
    window.show_tab()
    yield 1.0
    window.photograph("start")
    window.noted["tab"] = window.region("UI").active_panel_category


def still_cloud(window):
    noted = window.noted
    quiet_viewport(window, True)
    view_from(window, (2.0, -3.0, 1.2))
    yield 2.0
    window.photograph("empty")
    noted["imported"] = sorted(
        window.call(bpy.ops.vivant.splats_import, "EXEC_DEFAULT", True, filepath=str(window.folder / "knot.ply"))
    )
    yield 3.0
    window.photograph("still")
    noted["still"] = {**window.view(), "matrix": [list(row) for row in splats().matrix_world]}
    view_from(window, (0.3, -1.0, 0.2), "ORTHO")
    yield 2.0
    window.photograph("parallel")
    noted["parallel"] = {**window.view(), "matrix": [list(row) for row in splats().matrix_world]}
    view_from(window, (2.0, -3.0, 1.2))

    bpy.context.scene.vivant.viewport_splats = 2000
    yield 1.0
    noted["over_budget"] = module("scene.drawing").drawn
    bpy.context.scene.vivant.viewport_splats = 1_000_000

    bpy.ops.mesh.primitive_plane_add(size=50, location=Vector((2.0, -3.0, 1.2)).normalized() * 3)
    wall = bpy.context.object
    wall.rotation_euler = Vector((2.0, -3.0, 1.2)).to_track_quat("Z", "Y").to_euler()
    yield 2.0
    window.photograph("behind_wall")
    splats().hide_set(True)
    yield 1.0
    window.photograph("wall")
    bpy.data.objects.remove(wall)
    yield 1.0
    window.photograph("off")
    splats().hide_set(False)
    quiet_viewport(window, False)
    yield 2.0
    window.show_tab()
    yield 1.0
    window.photograph("splats")


def selection(window):
    """A click on the bounds selects; undo takes an import back, redo brings it again."""
    cloud, noted = splats(), window.noted
    corners = [cloud.matrix_world @ Vector(corner) for corner in cloud.bound_box]
    middle = location_3d_to_region_2d(window.region(), window.space.region_3d, (corners[0] + corners[1]) / 2)
    cloud.select_set(False)
    yield 1.0
    window.call(bpy.ops.view3d.select, location=(int(middle.x), int(middle.y)))
    noted["clicked"] = cloud.select_get()
    noted["bounds_in_file"] = cloud.show_bounds
    path = str(window.folder / "knot.spz")
    window.call(bpy.ops.vivant.splats_import, "EXEC_DEFAULT", True, filepath=path)
    yield 1.0
    noted["clouds"] = [len([one for one in bpy.data.objects if one.type == "POINTCLOUD"])]
    for step in (bpy.ops.ed.undo, bpy.ops.ed.redo, bpy.ops.ed.undo):
        window.call(step)
        yield 1.0
        noted["clouds"].append(len([one for one in bpy.data.objects if one.type == "POINTCLOUD"]))


def plate_cancelled(window):
    """A job runs while Blender stays awake; Esc ends it, and so does the panel's button."""
    noted, jobs = window.noted, module("operators.job")
    bpy.context.scene.render.resolution_percentage = 200
    bpy.context.scene.camera.location = (2.4, -3.2, 1.6)
    bpy.context.scene.camera.rotation_euler = Vector((2.4, -3.2, 1.2)).to_track_quat("Z", "Y").to_euler()
    yield 1.0
    for way, stop in (("esc", lambda: window.press("ESC")), ("button", lambda: bpy.ops.vivant.job_cancel())):
        before = plates()
        answer = window.call(bpy.ops.vivant.splats_render, "INVOKE_DEFAULT")
        seen, ticks, until = [], 0, time.monotonic() + 60
        while jobs.running() and jobs.running()[0].fraction < 0.05 and time.monotonic() < until:
            ticks += 1
            window.redraw()
            yield 0.1
        seen = [entry.text for entry in jobs.running()]
        window.photograph(f"job_{way}")
        asked = time.monotonic()
        stop()
        yield 0.1
        while jobs.running() and time.monotonic() < asked + 30:
            yield 0.1
        noted[f"job_{way}"] = {
            "answer": sorted(answer),
            "ticks": ticks,
            "seen": seen,
            "seconds": time.monotonic() - asked,
            "left": len(jobs.running()),
            "new": len(plates()) - len(before),
        }
        yield 1.0


def moving_cloud(window):
    noted, scene = window.noted, bpy.context.scene
    bpy.data.objects.remove(splats())
    window.call(bpy.ops.vivant.splats_import, "EXEC_DEFAULT", True, filepath=str(window.folder / "knot.splatv"))
    quiet_viewport(window, True)
    for name, frame, part in (("moving_a", 11, 0.0), ("moving_b", 30, 0.5)):
        scene.frame_set(frame, subframe=part)
        yield 2.0
        window.photograph(name)
        noted[name] = {**window.view(), "matrix": [list(row) for row in splats().matrix_world], "frame": frame + part}
    quiet_viewport(window, False)


def saved_file(window):
    """A file that is opened is drawn at once, without dots."""
    path = str(window.folder / "saved.blend")
    quiet_viewport(window, True)
    yield 1.0
    bpy.ops.wm.save_as_mainfile(filepath=path)
    bpy.ops.wm.open_mainfile(filepath=path)
    yield 4.0
    window.photograph("opened")
    window.noted["opened"] = {**window.view(), "matrix": [list(row) for row in splats().matrix_world], "frame": 30.5}
    quiet_viewport(window, False)


def switched_off(window):
    """Without Vivant the file still shows something, and nothing of Vivant is left in Blender."""
    noted = window.noted
    noted["before"] = registered()
    bpy.ops.preferences.addon_disable(module=PACKAGE)
    yield 2.0
    noted["disabled"] = registered()
    quiet_viewport(window, True)
    yield 2.0
    window.photograph("dots")
    quiet_viewport(window, False)
    bpy.ops.preferences.addon_enable(module=PACKAGE)
    yield 2.0
    noted["after"] = registered()


def in_between(window):
    """Four poses of an arm; the gap under the playhead is filled, and the take accepted."""
    noted, scene = window.noted, bpy.context.scene
    bpy.data.objects.remove(splats())
    bpy.ops.object.armature_add()
    rig = bpy.context.object
    bpy.ops.object.mode_set(mode="EDIT")
    second = rig.data.edit_bones.new("Hand")
    second.head, second.tail, second.parent = (0, 0, 1), (0, 0, 1.8), rig.data.edit_bones[0]
    bpy.ops.object.mode_set(mode="POSE")
    for frame, angle in ((1, 0.0), (11, 0.7), (31, -0.6), (41, 0.2)):
        for bone in rig.pose.bones:
            bone.rotation_quaternion = Quaternion((1, 0, 0), angle)
            bone.keyframe_insert("rotation_quaternion", frame=frame)
    keyed = rig.animation_data.action.name
    scene.frame_set(20)
    yield 1.0
    window.show_tab()
    yield 1.0
    window.photograph("armature")
    answer = window.call(bpy.ops.vivant.motion_inbetween, "INVOKE_DEFAULT", True, scope="GAP")
    yield 1.0
    window.photograph("take")
    noted["take"] = {"answer": sorted(answer), "keyed": keyed, "shown": rig.animation_data.action.name, "keys": keys_of(rig)}
    window.call(bpy.ops.vivant.take_accept, "INVOKE_DEFAULT", True)
    yield 1.0
    noted["accepted"] = {"shown": rig.animation_data.action.name, "keys": keys_of(rig)}


def keys_of(rig):
    """Frames that the action keys in the first curve."""
    action = rig.animation_data.action
    curve = action.layers[0].strips[0].channelbags[0].fcurves[0]
    return [round(point.co[0]) for point in curve.keyframe_points]
