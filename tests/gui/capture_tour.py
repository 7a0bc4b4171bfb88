# SPDX-License-Identifier: GPL-3.0-or-later
"""A capture in a window: estimated, stopped by Esc, and gone on with, by the settings in the panel.

test_capture.py looks at what came of it.
"""

import importlib
import time

import bpy

PACKAGE = "bl_ext.user_default.vivant"
PATIENCE = 240  # seconds for a capture


def module(name):
    return importlib.import_module(f"{PACKAGE}.{name}")


def state(scene):
    """What a capture could leave changed."""
    render = scene.render
    return [
        scene.frame_current,
        scene.camera.name,
        render.engine,
        render.resolution_x,
        render.film_transparent,
        render.image_settings.file_format,
        scene.view_settings.view_transform,
        sorted(one.name for one in (*bpy.data.objects, *bpy.data.cameras, *bpy.data.scenes)),
    ]


def steps(window):
    scene, jobs = bpy.context.scene, module("operators.job")
    window.space.show_region_ui = True
    chosen = scene.vivant_capture
    chosen.directory, chosen.views, chosen.held_out, chosen.longest = str(window.folder / "capture"), 20, 2, 96
    chosen.engine, chosen.samples, chosen.shell = "CYCLES", 4, "SPHERE"
    scene.frame_start, scene.frame_end = 1, 10
    scene.frame_set(4)
    panel = module("panels.capture").VIVANT_PT_capture
    bpy.utils.unregister_class(panel)
    panel.bl_options = set()  # so that it is open and drawn
    bpy.utils.register_class(panel)
    yield 1.0
    window.show_tab()
    wish = module("operators.capture").settings_of(chosen)
    noted = window.noted
    noted["before"] = state(scene)
    window.call(bpy.ops.vivant.scene_capture_estimate, "EXEC_DEFAULT", True, **wish)
    noted["estimate"] = chosen.estimate
    yield 1.0
    window.photograph("estimate")
    for name, stop_after in (("stopped", 3), ("whole", None)):
        answer = window.call(bpy.ops.vivant.scene_capture, "INVOKE_DEFAULT", True, **wish)
        states, fractions, until = [], [], time.monotonic() + PATIENCE
        while jobs.running() and time.monotonic() < until:
            states.append(state(scene))
            fractions.append(jobs.running()[0].fraction)
            window.redraw()
            pictures = len(list((window.folder / "capture").rglob("r_*.png")))
            if stop_after and pictures >= stop_after:
                window.photograph("capturing")
                window.press("ESC")
                stop_after = None
            yield 0.05
        yield 0.5
        noted[name] = {
            "answer": sorted(answer),
            "pictures": len(list((window.folder / "capture").rglob("r_*.png"))),
            "untouched": all(each == noted["before"] for each in states),
            "fractions": fractions,
        }
    noted["after"] = state(scene)
    chosen.shell, chosen.selected_only = "CAMERAS", True
    bpy.ops.object.select_all(action="DESELECT")
    yield 0.5
    window.photograph("captured")
