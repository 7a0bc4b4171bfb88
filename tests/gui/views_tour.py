# SPDX-License-Identifier: GPL-3.0-or-later
"""A ball of splats in viewports that come, go and change their size; test_views.py looks whether it is in each of them."""

import importlib
import time

import bpy
import numpy as np
from mathutils import Vector

PACKAGE = "bl_ext.user_default.vivant"
SPLATS = 30_000
RADIUS = 1.0


def module(name):
    return importlib.import_module(f"{PACKAGE}.{name}")


def steps(window):
    for unwanted in list(bpy.data.objects):
        if unwanted.type != "CAMERA":
            bpy.data.objects.remove(unwanted)
    window.space.overlay.show_overlays = False
    window.space.region_3d.view_location, window.space.region_3d.view_distance = (0, 0, 0), 16.0
    ball()
    yield from seen(window, "first")
    yield from resized(window)
    yield from several(window)
    yield from special(window)
    yield from states(window)
    window.noted["trouble"] = module("scene.drawing").trouble


def resized(window):
    """The region gets narrower, or another region lies over it; the area fills the window."""
    preferences = bpy.context.preferences.system
    for overlap in (True, False):
        preferences.use_region_overlap = overlap
        for sidebar in (True, False):
            window.space.show_region_ui = sidebar
            yield from seen(window, f"{'over' if overlap else 'beside'}_sidebar_{'shown' if sidebar else 'hidden'}")
    preferences.use_region_overlap = True
    window.call(bpy.ops.screen.screen_full_area)
    yield from seen(window, "maximised")
    window.call(bpy.ops.screen.screen_full_area)
    yield from seen(window, "small_again")


def several(window):
    """Two viewports of different sizes, which show different sides; then one of them again."""
    window.call(bpy.ops.screen.area_split, direction="VERTICAL", factor=0.35)
    yield 0.5
    areas = viewports()
    areas[-1].spaces.active.region_3d.view_distance = 20.0
    yield from seen(window, "two")
    for drawn in range(2):
        areas[drawn].tag_redraw()
        yield 0.5
    yield from seen(window, "two_by_turns")
    with bpy.context.temp_override(window=bpy.context.window_manager.windows[0], area=viewports()[-1]):
        bpy.ops.screen.area_close()
    yield from seen(window, "joined")
    window.call(bpy.ops.screen.region_quadview)
    yield from seen(window, "four")
    window.call(bpy.ops.screen.region_quadview)
    yield from seen(window, "one_of_four")


def special(window):
    """Through the camera, whose surroundings are dimmed; the ball alone; all kinds of shading."""
    camera = bpy.context.scene.camera
    camera.location = (9.0, -9.0, 3.0)
    camera.rotation_euler = camera.location.to_track_quat("Z", "Y").to_euler()
    camera.data.passepartout_alpha = 0.9
    window.space.overlay.show_overlays = True
    window.space.region_3d.view_perspective = "CAMERA"
    yield from seen(window, "camera")
    window.space.region_3d.view_perspective = "PERSP"
    window.space.overlay.show_overlays = False
    bpy.data.objects["Ball"].select_set(True)
    window.call(bpy.ops.view3d.localview, frame_selected=False)
    yield from seen(window, "local")
    window.call(bpy.ops.view3d.localview, frame_selected=False)
    for shading in ("WIREFRAME", "MATERIAL", "SOLID"):
        window.space.shading.type = shading
        yield from seen(window, f"shading_{shading.lower()}")


def states(window):
    """Undo, redo and another file, with a sort under way each time: every order is late, and takes a while."""
    sorting, drawing = module("scene.sorting"), module("scene.drawing")
    at_once, sorting.AT_ONCE = sorting.AT_ONCE, 0
    window.call(bpy.ops.ed.undo_push, message="Ball")
    bpy.data.objects["Ball"].location.x = 1.5
    window.call(bpy.ops.ed.undo_push, message="Ball moved")
    path = str(window.folder / "ball.blend")
    for name, step in (
        ("moved", lambda: None),
        ("undone", lambda: window.call(bpy.ops.ed.undo)),
        ("redone", lambda: window.call(bpy.ops.ed.redo)),
        ("opened", lambda: bpy.ops.wm.open_mainfile(filepath=path)),
    ):
        bpy.ops.wm.save_as_mainfile(filepath=path)
        hold(sorting)
        turn(window)
        yield 0.1
        window.noted[f"sorting_{name}"] = any(view.order.coming for view in drawing._views.values())
        step()
        yield from seen(window, name)
    hold(sorting)
    turn(window)
    yield 0.1
    bpy.ops.preferences.addon_disable(module=PACKAGE)  # in the middle of a sort
    yield 1.0
    bpy.ops.preferences.addon_enable(module=PACKAGE)
    yield from seen(window, "switched")
    module("scene.sorting").AT_ONCE = at_once


def hold(sorting):
    """Keep the thread that sorts busy for a moment, so that what happens next happens during a sort."""
    sorting._sorter().submit(time.sleep, 0.4)


def turn(window):
    window.space.region_3d.view_rotation @= Vector((0, 0, 1)).rotation_difference(Vector((0.3, 0.2, 1)))
    window.area.tag_redraw()


def viewports():
    """The areas that are 3D viewports, the largest first."""
    areas = bpy.context.window_manager.windows[0].screen.areas
    return sorted((area for area in areas if area.type == "VIEW_3D"), key=lambda area: -area.width)


def seen(window, name):
    """Photograph what Blender comes to show by itself, and NAME_anew: what one drawing shows to which every view is new."""
    yield 1.0
    window.photograph(name)
    module("scene.drawing")._views.clear()
    window.redraw()
    yield 0.5
    window.photograph(f"{name}_anew")
    place = bpy.data.objects["Ball"].matrix_world.translation
    window.noted.setdefault("views", {})[name] = [
        {
            "corner": (region.x, region.y),
            "size": (region.width, region.height),
            "matrix": [list(row) for row in region.data.perspective_matrix],
            "ball": [*place, RADIUS],
            "axes": not region.data.lock_rotation,  # three of four quarters have none
        }
        for area in viewports()
        for region in area.regions
        if region.type == "WINDOW" and min(region.width, region.height) > 1
    ]


def ball():
    """Magenta splats all over a sphere."""
    around = np.random.default_rng(5).normal(size=(SPLATS, 3))
    around *= RADIUS / np.linalg.norm(around, axis=1, keepdims=True)
    colours = np.tile([1.7, -1.7, 1.7], (SPLATS, 1, 1))
    scales, quats = np.full((SPLATS, 3), 0.01), np.tile([1.0, 0, 0, 0], (SPLATS, 1))
    cloud = module("backends.gaussian.cloud").SplatCloud(around, quats, scales, np.full(SPLATS, 0.95), colours)
    bpy.context.scene.collection.objects.link(module("scene.pointclouds").to_object(cloud, "Ball"))
