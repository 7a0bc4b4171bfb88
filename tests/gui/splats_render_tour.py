# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures of splats in a window: F12 of a moving cloud and of two that overlap, plates of a range.

test_splats_render.py looks at what came of it.
"""

import importlib
import time

import bpy
from mathutils import Vector

PACKAGE = "bl_ext.user_default.vivant"
PATIENCE = 240  # seconds for a picture


def module(name):
    return importlib.import_module(f"{PACKAGE}.{name}")


def steps(window):
    scene = bpy.context.scene
    for unwanted in list(bpy.data.objects):
        if unwanted.type != "CAMERA":
            bpy.data.objects.remove(unwanted)
    render = scene.render
    render.resolution_x, render.resolution_y, render.film_transparent = 240, 160, True
    render.image_settings.file_format, render.image_settings.color_depth = "OPEN_EXR", "32"
    bpy.context.preferences.view.render_display_type = "AREA"
    camera = scene.camera
    camera.location = (2.4, -3.9, 2.2)
    camera.rotation_euler = Vector((2.2, -3.9, 1.6)).to_track_quat("Z", "Y").to_euler()
    camera.data.lens = 40
    window.space.show_region_ui = True
    yield 1.0
    window.show_tab()
    yield from moving(window, scene)
    yield from overlapping(window, scene)
    yield from plates(window, scene)
    window.noted["trouble"] = module("scene.drawing").trouble


def take_in(window, name):
    window.call(bpy.ops.vivant.splats_import, "EXEC_DEFAULT", True, filepath=str(window.folder / name))
    return bpy.context.active_object


def f12(window, name):
    """Press F12, wait for the picture, keep it as NAME.exr, photograph the window, and close what F12 opened."""
    scene, ended = bpy.context.scene, []
    handlers = (bpy.app.handlers.render_complete, bpy.app.handlers.render_cancel)
    for handler in handlers:
        handler.append(lambda *_: ended.append(True))
    window.press("F12")
    until = time.monotonic() + PATIENCE
    while not ended and time.monotonic() < until:
        yield 0.2
    for handler in handlers:
        handler.pop()
    yield 1.0
    window.photograph(name)
    bpy.data.images["Render Result"].save_render(str(window.folder / f"{name}.exr"), scene=scene)
    clouds = [one for one in scene.objects if one.type == "POINTCLOUD"]
    window.noted[name] = {
        "ended": bool(ended),
        "camera": [list(row) for row in scene.camera.matrix_world],
        "lens": scene.camera.data.lens / scene.camera.data.sensor_width,
        "near": scene.camera.data.clip_start,
        "frame": scene.frame_current_final,
        "matrices": [[list(row) for row in one.matrix_world] for one in clouds],
    }
    for area in bpy.context.window_manager.windows[0].screen.areas:
        if area.type == "IMAGE_EDITOR":
            area.type = "VIEW_3D"
    yield 1.0


def moving(window, scene):
    take_in(window, "knot.splatv")
    window.call(bpy.ops.vivant.display_setup)
    for name, frame, part in (("moving_early", 11, 0.0), ("moving_late", 30, 0.5)):
        scene.frame_set(frame, subframe=part)
        yield 2.0
        yield from f12(window, name)


def overlapping(window, scene):
    bpy.data.objects.remove(bpy.context.active_object)
    for shift in ((0.0, 0.0, 0.0), (0.5, 0.3, 0.1)):
        take_in(window, "knot.ply").location = shift
    window.call(bpy.ops.vivant.display_setup)
    yield 2.0
    window.photograph("panel_apart")
    yield from f12(window, "apart")
    window.call(bpy.ops.vivant.splats_together, "EXEC_DEFAULT", True)
    yield 2.0
    window.photograph("panel_together")
    yield from f12(window, "together")


def plates(window, scene):
    """A range of plates that Esc ends, and one that runs to its end, both with a mesh in the scene."""
    noted, jobs = window.noted, module("operators.job")
    bpy.ops.mesh.primitive_cube_add(size=0.5, location=(0.25, -0.2, 0.55), rotation=(0.4, 0.2, 0.5))
    scene.frame_start, scene.frame_end = 1, 40
    scene.frame_set(17)
    for name, end, stop_after in (("stopped", 40, 2), ("whole", 3, None)):
        scene.frame_end = end
        folder = window.folder / name
        answer = window.call(
            bpy.ops.vivant.splats_render, "INVOKE_DEFAULT", True, animation=True, filepath=str(folder / "plate_####")
        )
        frames, seen, until = set(), [], time.monotonic() + PATIENCE
        while jobs.running() and time.monotonic() < until:
            frames.add(scene.frame_current)
            seen.append(jobs.running()[0].fraction)
            window.redraw()
            if stop_after and len(list(folder.glob("*.exr"))) >= stop_after:
                window.photograph("plates")
                window.press("ESC")
                stop_after = None
            yield 0.1
        noted[name] = {
            "answer": sorted(answer),
            "files": sorted(path.name for path in folder.iterdir()),
            "frames": sorted(frames),
            "seen": seen,
            "left": len(jobs.running()),
            "images": [image.name for image in bpy.data.images if image.source == "SEQUENCE"],
        }
        yield 0.5
