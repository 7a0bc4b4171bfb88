# SPDX-License-Identifier: GPL-3.0-or-later
"""A view that orbits a large cloud, and a graphics card that cannot draw splats; test_orbit.py looks at what came of it."""

import importlib

import bpy
import numpy as np
from mathutils import Vector

PACKAGE = "bl_ext.user_default.vivant"
SPLATS = 200_000
STEPS = 12


def module(name):
    return importlib.import_module(f"{PACKAGE}.{name}")


def steps(window):
    noted, drawing, sorting = window.noted, module("scene.drawing"), module("scene.sorting")
    for unwanted in list(bpy.data.objects):
        bpy.data.objects.remove(unwanted)
    space = window.space
    space.overlay.show_overlays = space.show_gizmo = False
    space.show_region_ui = space.show_region_toolbar = space.show_region_header = False
    noted["late"] = []
    shell()
    look(window, 0.0)
    yield 3.0
    yield from settled(sorting)
    window.photograph("first")
    waited = sorting.Order.update

    def watched(order, wanted, may_be_late):
        waited(order, wanted, may_be_late)
        noted["late"].append(order.of != wanted)

    sorting.Order.update = watched
    for step in range(1, STEPS + 1):
        look(window, step / STEPS)
        yield 0.05
    yield from settled(sorting)
    sorting.Order.update = waited
    window.photograph("orbited")
    noted["view"] = window.view()
    late, sorting.AT_ONCE = sorting.AT_ONCE, SPLATS  # every drawing waits for its order
    drawing._forget_all()  # and this one knows nothing of those before
    look(window, 1.0)
    yield 1.0
    window.photograph("exact")
    sorting.AT_ONCE = late
    bpy.ops.wm.save_as_mainfile(filepath=str(window.folder / "orbit.blend"))
    yield from broken_card(window, drawing)


def broken_card(window, drawing):
    """The shader cannot be compiled; another file is drawn by one that can."""
    noted, rasteriser = window.noted, module("scene.rasteriser")
    space, right = window.space, rasteriser._VERTEX
    rasteriser._VERTEX = "void main() { gl_Position = nowhere; }"
    rasteriser.forget()
    drawing._views.clear()
    look(window, 0.0)
    yield 3.0
    noted["trouble"] = drawing.trouble
    window.photograph("points")
    bpy.context.view_layer.objects.active = bpy.data.objects["Shell"]
    space.show_region_ui = True
    yield 1.0
    window.show_tab()
    yield 1.0
    window.photograph("panel")
    space.show_region_ui = False
    rasteriser._VERTEX = right
    bpy.ops.wm.open_mainfile(filepath=str(window.folder / "orbit.blend"))
    look(window, 0.0)
    yield 3.0
    yield from settled(module("scene.sorting"))
    window.photograph("again")
    noted["cured"] = drawing.trouble


def settled(sorting):
    """Wait until no view waits for an order, and what came last has been drawn."""
    for _ in range(40):
        yield 0.5
        if not bpy.app.timers.is_registered(sorting._redraw_when_sorted):
            break
    yield 2.0


def shell():
    """Splats all over two spheres, one in the other: half of them hide the others, whichever way one looks."""
    rng = np.random.default_rng(11)
    around = rng.normal(size=(SPLATS, 3))
    around /= np.linalg.norm(around, axis=1, keepdims=True)
    radius = np.where(np.arange(SPLATS) % 2, 1.0, 0.6)[:, None]
    colours = np.where(around > 0, 1.0, -1.0)[:, None] * np.where(radius > 0.8, 1.2, -1.2)[:, None]
    cloud = module("backends.gaussian.cloud").SplatCloud(
        around * radius,
        np.tile([1.0, 0, 0, 0], (SPLATS, 1)),
        np.full((SPLATS, 3), 0.006),
        rng.uniform(0.2, 0.9, SPLATS),
        colours,
    )
    bpy.context.scene.collection.objects.link(module("scene.pointclouds").to_object(cloud, "Shell"))


def look(window, part):
    """From a part of the way around."""
    seen = window.space.region_3d
    seen.view_perspective, seen.view_distance, seen.view_location = "PERSP", 5.0, (0, 0, 0)
    angle = 2.5 * part
    seen.view_rotation = Vector((np.cos(angle), np.sin(angle), 0.3)).to_track_quat("Z", "Y")
    window.area.tag_redraw()
