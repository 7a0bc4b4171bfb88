# SPDX-License-Identifier: GPL-3.0-or-later
"""Splats kept outside of a .blend, in a window: saved, opened again, undone across a save, lost and found.

test_splats_outside_window.py looks at what came of it.
"""

import importlib
import time

import bpy
from mathutils import Vector

PACKAGE = "bl_ext.user_default.vivant"
PATIENCE = 60  # seconds for a job


def module(name):
    return importlib.import_module(f"{PACKAGE}.{name}")


def cloud():
    return next(one for one in bpy.context.view_layer.objects if one.type == "POINTCLOUD")


def state():
    outside = module("scene.outside")
    splats = cloud()
    return {
        "points": len(splats.data.points),
        "kept": outside.is_kept(splats),
        "datablocks": len(bpy.data.pointclouds),
        "trouble": dict(outside.trouble),
        "x": splats.location.x,
    }


def look(window):
    """From the side, with the tab open."""
    window.space.show_region_ui = True
    seen = window.space.region_3d
    seen.view_perspective, seen.view_distance, seen.view_location = "PERSP", 6.0, (0, 0, 0.4)
    seen.view_rotation = Vector((2.0, -3.0, 1.2)).to_track_quat("Z", "Y")
    bpy.context.view_layer.objects.active = cloud()
    cloud().select_set(True)
    yield 1.0
    window.show_tab()
    yield 1.5


def finished(window):
    jobs = module("operators.job")
    until = time.monotonic() + PATIENCE
    while jobs.running() and time.monotonic() < until:
        window.redraw()
        yield 0.1
    yield 0.5


def steps(window):
    noted, folder = window.noted, window.folder
    for unwanted in list(bpy.data.objects):
        if unwanted.type != "CAMERA":
            bpy.data.objects.remove(unwanted)
    files = bpy.context.preferences.filepaths
    (folder / "auto").mkdir(exist_ok=True)
    files.temporary_directory = str(folder / "auto")
    files.use_auto_save_temporary_files, files.auto_save_time = True, 1
    window.call(bpy.ops.vivant.splats_import, "EXEC_DEFAULT", True, filepath=str(folder / "knot.ply"))
    yield 1.0
    bpy.ops.wm.save_as_mainfile(filepath=str(folder / "inside.blend"), copy=True)
    window.call(bpy.ops.vivant.splats_keep_outside, "INVOKE_DEFAULT", True)
    yield from finished(window)
    yield from look(window)
    window.photograph("kept")
    noted["kept"] = state()

    # Undo and redo go across a save.
    cloud().location.x = 0.3
    window.call(bpy.ops.ed.undo_push, message="Move")
    bpy.ops.wm.save_as_mainfile(filepath=str(folder / "outside.blend"))
    noted["saved"] = state()
    for name, step in (("undone", bpy.ops.ed.undo), ("redone", bpy.ops.ed.redo)):
        window.call(step)
        yield 1.0
        noted[name] = state()
    window.photograph("redone")
    noted["sizes"] = [(folder / f"{name}.blend").stat().st_size for name in ("inside", "outside")]

    # File > Open, in the window.
    window.call(bpy.ops.wm.open_mainfile, "EXEC_DEFAULT", filepath=str(folder / "outside.blend"))
    yield 3.0
    yield from look(window)
    window.photograph("opened")
    noted["opened"] = state()

    # Written to a file of their own.
    window.call(bpy.ops.vivant.splats_save_outside, "EXEC_DEFAULT", True, filepath=str(folder / "own.ply"))
    yield from finished(window)
    noted["own"] = state() | {"place": module("scene.outside").place_of(cloud()).name}
    bpy.ops.wm.save_mainfile()

    # The file is gone: the tab says so, and Find File brings the splats back.
    (folder / "own.ply").rename(folder / "moved.ply")
    window.call(bpy.ops.wm.open_mainfile, "EXEC_DEFAULT", filepath=str(folder / "outside.blend"))
    yield 2.0
    yield from look(window)
    window.photograph("missing")
    noted["missing"] = state()
    window.call(bpy.ops.vivant.splats_find, "EXEC_DEFAULT", True, filepath=str(folder / "moved.ply"))
    yield from finished(window)
    yield from look(window)
    window.photograph("found")
    noted["found"] = state()

    # Blender saves by itself every minute, with all splats.
    cloud().location.x = 0.4
    window.call(bpy.ops.ed.undo_push, message="Move")
    yield 65.0
    noted["later"] = state()
    noted["saved by itself"] = [file.stat().st_size for file in (folder / "auto").glob("*.blend")]
    noted["drawing"] = module("scene.drawing").trouble
