# SPDX-License-Identifier: GPL-3.0-or-later
"""An evening of an artist with captures: dropped in, looked at, played, kept outside, rendered, exported, filmed.

Every step is undone and redone.  The folder holds what test_splats_desk.py wrote; it looks at what came of it.
"""

import pathlib
import sys
import time

import bpy
import numpy as np
from mathutils import Vector

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from rigs_tour import watched
from splats_edit_tour import Tour, module, splats

OPEN = ("VIVANT_PT_splats_outside",)  # panels that are folded at first, in the order of their need


def steps(window):
    tour = Desk(window)
    yield from tour.settle_in()
    yield from tour.dropped()
    yield from tour.dialog()
    yield from tour.look()
    yield from tour.playback()
    yield from tour.network()
    yield from tour.storage()
    yield from tour.render()
    yield from tour.exported()
    yield from tour.cameras()
    window.noted["wrong"], window.noted["trouble"] = tour.wrong, module("scene.drawing").trouble


def clouds():
    return [one for one in bpy.context.view_layer.objects if module("scene.pointclouds").is_splats(one)]


def arrived():
    """What an artist sees of every cloud: its name, its splats, its columns, what moves it."""
    mover_of = module("scene.pointclouds").mover_of
    return {
        one.name: [
            len(one.data.points),
            sorted(each.name for each in one.data.attributes if not each.name.startswith(".")),
            mover.node_group.name if (mover := mover_of(one)) else "",
        ]
        for one in clouds()
    }


def places(cloud):
    """Where splats are now, in their capture's axes."""
    whole = cloud.evaluated_get(bpy.context.evaluated_depsgraph_get()).evaluated_geometry()
    means = np.empty(len(whole.pointcloud.points) * 3, np.float32)
    whole.pointcloud.attributes["position"].data.foreach_get("vector", means)
    return means.reshape(-1, 3)


class Desk(Tour):
    """The window of the edits' tour, with files and what is done with them."""

    def settle_in(self):
        for name in OPEN:
            panel = getattr(bpy.types, name)
            bpy.utils.unregister_class(panel)
            panel.bl_options = set()
            bpy.utils.register_class(panel)
        self.empty()
        window, render = self.window, bpy.context.scene.render
        bpy.context.preferences.view.filebrowser_display_type = "SCREEN"
        bpy.context.preferences.view.render_display_type = "NONE"
        render.resolution_x, render.resolution_y = 320, 240
        window.space.show_region_ui = True
        self.look_from((1.6, -3.0, 1.2), 5.0)
        yield 1.0
        window.show_tab()
        yield 1.0
        self.photograph("empty")
        bpy.ops.ed.undo_push(message="empty")

    def look_from(self, direction, distance, height=0.2):
        seen = self.window.space.region_3d
        seen.view_perspective, seen.view_location, seen.view_distance = "PERSP", (0, 0, height), distance
        seen.view_rotation = Vector(direction).to_track_quat("Z", "Y")

    def bare(self, name):
        """The picture of the viewport alone: splats on grey, nothing of Blender's over them."""
        window, space = self.window, self.window.space
        shown = ("show_region_ui", "show_region_toolbar", "show_region_header", "show_gizmo")
        for one in shown:
            setattr(space, one, False)
        space.overlay.show_overlays = False
        yield 1.5
        self.window.photograph(name)
        self.window.noted[name] = window.view()
        for one in shown:
            setattr(space, one, True)
        space.overlay.show_overlays = True
        yield 0.5
        window.show_tab()
        yield 0.3

    def there_and_back(self, name, state):
        """Undo and redo of the step before, by what a function says."""
        after, window = state(), self.window
        window.call(bpy.ops.ed.undo)
        yield 0.3
        before = state()
        self.check(before != after, f"{name}: undo changed nothing")
        window.call(bpy.ops.ed.redo)
        yield 0.3
        self.check(state() == after, f"{name}: redo gave something else")

    def scroll(self, clicks):
        """Turn the wheel over the sidebar."""
        region = self.window.region("UI")
        x, y = region.x + region.width // 2, region.y + region.height // 2
        kind = "WHEELDOWNMOUSE" if clicks > 0 else "WHEELUPMOUSE"
        for _ in range(abs(clicks)):
            bpy.context.window_manager.windows[0].event_simulate(type=kind, value="PRESS", x=x, y=y)

    # --- files --------------------------------------------------------------------------------------------------------

    def dropped(self):
        """Files dropped into the viewport: Blender asks for the start, Enter takes them in."""
        window, noted = self.window, {}
        window.noted["arrived"] = noted
        for path in (*sorted((window.folder / "drop").iterdir()), window.folder / "frames"):
            self.empty()
            bpy.ops.ed.undo_push(message="empty")
            began = time.monotonic()
            given = {"filepath": str(path), "directory": str(path.parent), "files": [{"name": path.name}]}  # as Blender does
            window.call(bpy.ops.vivant.splats_import, "INVOKE_DEFAULT", True, **given)
            yield 0.6
            if not noted:
                self.photograph("dropped")
            asked = time.monotonic()
            window.press("RET")
            while not clouds() and time.monotonic() < asked + 30:
                yield 0.05
            noted[path.name] = {"seconds": time.monotonic() - asked, "asked": asked - began, "made": arrived()}
            yield 1.0
            window.show_tab()
            yield 1.0
            self.photograph(f"arrived_{path.name.replace('.', '_')}")
            yield from self.there_and_back(path.name, arrived)

    def browser(self):
        areas = bpy.context.window_manager.windows[0].screen.areas
        return next((area for area in areas if area.type == "FILE_BROWSER"), None)

    def in_browser(self, key):
        """Press a key over the files: RET takes what is named, ESC goes back; the viewport is there again afterwards."""
        region = next(region for region in self.browser().regions if region.type == "WINDOW")
        x, y = region.x + region.width // 2, region.y + 20
        for value in ("PRESS", "RELEASE"):
            bpy.context.window_manager.windows[0].event_simulate(type=key, value=value, x=x, y=y)
        until = time.monotonic() + 10
        while self.browser() and time.monotonic() < until:
            yield 0.1
        self.check(not self.browser(), "the file browser stayed")
        yield 0.5

    def dialog(self):
        """File > Import with its Overrides panel open, cancelled and confirmed."""
        window = self.window
        self.empty()
        bpy.ops.ed.undo_push(message="empty")
        window.call(bpy.ops.vivant.splats_import, "INVOKE_DEFAULT", True)
        yield 2.0
        space = self.browser().spaces.active
        space.params.directory = str(window.folder / "drop").encode()
        yield 1.0
        self.photograph("dialog")
        options = next(region for region in self.browser().regions if region.type == "TOOL_PROPS")
        self.click(options.x + 60, options.y + options.height - 90)  # folds the overrides out
        yield 1.0
        self.photograph("dialog_overrides")
        space.params.filename = "playbot5.ply" if (window.folder / "drop/playbot5.ply").is_file() else "still.ply"
        space.active_operator.axes = "RUB"
        yield 0.5
        yield from self.in_browser("RET")
        yield 1.0
        self.photograph("upside_down")
        self.check(module("scene.pointclouds").facts_of(splats())["axes"] == "RUB", "the override was not heard")

    def click(self, x, y):
        for value in ("PRESS", "RELEASE"):
            bpy.context.window_manager.windows[0].event_simulate(type="LEFTMOUSE", value=value, x=x, y=y)

    # --- look ---------------------------------------------------------------------------------------------------------

    def look(self):
        window, noted, compat = self.window, self.window.noted, module("scene.compat")
        drawer_of = module("scene.pointclouds").drawer_of
        self.open("still.ply")
        self.check(module("scene.pointclouds").facts_of(splats())["axes"] == "RDF", "an override is still there")
        self.look_from((1.6, -3.0, 1.2), 5.0)
        yield 1.0
        yield from self.bare("whole")
        noted["drawn"] = [module("scene.drawing").drawn]
        for share in (0.25, 1.0):
            before = compat.get_modifier_input(drawer_of(splats()), "Density")
            compat.set_modifier_input(drawer_of(splats()), "Density", share)
            bpy.ops.ed.undo_push(message="Density")
            yield 1.5
            self.photograph(f"density_{share}")
            noted["drawn"].append(module("scene.drawing").drawn)
            yield from self.bare(f"at_{share}")
            window.call(bpy.ops.ed.undo)
            yield 0.5
            self.check(compat.get_modifier_input(drawer_of(splats()), "Density") == before, "undo left the density")
            window.call(bpy.ops.ed.redo)
            yield 0.5
            self.check(compat.get_modifier_input(drawer_of(splats()), "Density") == share, "redo left the density")
        for degree in (0, 3):
            compat.set_modifier_input(drawer_of(splats()), "SH Degree", degree)
            bpy.ops.ed.undo_push(message="SH Degree")
            yield from self.bare(f"degree_{degree}")
        window.call(bpy.ops.vivant.splats_limit_degree, "INVOKE_DEFAULT", True)
        yield 0.7
        self.photograph("limit_asked")
        window.press("RET")
        yield 1.0
        self.photograph("limited")
        yield from self.there_and_back("limit_degree", lambda: len(arrived()["still"][1]))
        settings = bpy.context.scene.view_settings
        before = settings.view_transform
        window.call(bpy.ops.vivant.display_setup, "INVOKE_DEFAULT", True)
        yield 1.0
        self.photograph("training_colours")
        self.check(bpy.context.scene.view_settings.view_transform == "Raw", "the view transform is not Raw")
        yield from self.there_and_back("training_colours", lambda: bpy.context.scene.view_settings.view_transform)
        yield from self.bare("raw")
        window.call(bpy.ops.ed.undo)
        self.check(bpy.context.scene.view_settings.view_transform == before, "undo left the view transform")
        yield 0.5

    # --- motion -------------------------------------------------------------------------------------------------------

    def played(self, seconds=2.0):
        """Space bar: the frames that were seen."""
        scene, seen, until = bpy.context.scene, [], time.monotonic() + seconds
        self.window.call(bpy.ops.screen.animation_play)
        while time.monotonic() < until:
            seen.append(scene.frame_current)
            yield 0.02
        self.window.call(bpy.ops.screen.animation_cancel, restore_frame=False)
        yield 0.2
        return sorted(set(seen))

    def playback(self):
        window, noted, scene = self.window, self.window.noted, bpy.context.scene
        compat, pointclouds = module("scene.compat"), module("scene.pointclouds")
        self.open("moving.splatv")
        scene.frame_start, scene.frame_end = 1, 60
        noted["played"] = yield from self.played()
        scene.frame_set(17)
        yield 1.0
        window.show_tab()
        yield 1.0
        self.photograph("playback")
        mover = pointclouds.mover_of(splats())
        for name, value in (("Frames", 20.0), ("Loop", True), ("Speed", 0.5)):
            compat.set_modifier_input(mover, name, value)
        for frame, offset in ((1, 0.0), (41, 30.0)):
            compat.set_modifier_input(mover, "Offset", offset)
            splats().keyframe_insert(compat.modifier_input_path(mover, "Offset"), frame=frame)
        bpy.ops.ed.undo_push(message="Retime")
        for frame, part in ((1, 0.0), (41, 0.0), (53, 0.5)):
            scene.frame_set(frame, subframe=part)
            np.save(window.folder / f"retimed_{frame}.npy", places(splats()))
        scene.frame_set(41)
        yield 1.0
        self.photograph("retimed")
        yield from self.there_and_back("retimed", lambda: splats().animation_data is not None)

    def network(self):
        window, noted, scene = self.window, self.window.noted, bpy.context.scene
        self.open("network")
        yield 1.0
        window.show_tab()
        yield 1.0
        self.photograph("network_imported")
        scene.frame_set(26)
        unbaked = places(splats())
        window.call(bpy.ops.vivant.splats_bake, "INVOKE_DEFAULT", True)
        yield 0.7
        self.photograph("baking")
        until, jobs = time.monotonic() + 120, module("operators.job")
        while jobs.running() and time.monotonic() < until:
            window.redraw()
            yield 0.1
        yield 1.0
        self.photograph("baked")
        self.check(not np.allclose(places(splats()), unbaked), "baked frames are not shown")
        noted["baked_frames"] = yield from self.played()
        for frame, part in ((1, 0.0), (26, 0.0), (38, 0.5)):
            scene.frame_set(frame, subframe=part)
            np.save(window.folder / f"baked_{frame}.npy", places(splats()))
        yield 1.0
        yield from self.there_and_back("bake", lambda: dict(module("scene.pointclouds").facts_of(splats())).get("cache", ""))
        yield 0.5
        run = yield from watched(window, bpy.ops.vivant.splats_fit)
        noted["fit"] = run
        noted["decibels"] = list(module("scene.pointclouds").facts_of(splats()).get("decibels", ()))
        yield 1.0
        window.show_tab()
        yield 1.0
        self.photograph("fitted")
        yield from self.there_and_back("fit", lambda: sorted(bpy.data.objects.keys()))

    # --- storage ------------------------------------------------------------------------------------------------------

    def storage(self):
        """Splats outside of the .blend: saved, opened, moved away, found again, brought in."""
        window, noted = self.window, self.window.noted
        bpy.context.scene.frame_set(1)
        self.open("still.ply")
        yield 1.0
        path = str(window.folder / "kept.blend")
        bpy.ops.wm.save_as_mainfile(filepath=path, compress=False)
        noted["blend"] = [pathlib.Path(path).stat().st_size]
        run = yield from watched(window, bpy.ops.vivant.splats_keep_outside)
        self.ran["keep_outside"] = run
        yield 1.0
        self.scroll(30)
        yield 0.5
        self.photograph("kept_outside")
        yield from self.bare("before_saving")
        bpy.ops.wm.save_as_mainfile(filepath=path, compress=False)
        noted["blend"].append(pathlib.Path(path).stat().st_size)
        for name, there in (("opened", True), ("lost", False)):
            if not there:
                (window.folder / "still.ply").rename(window.folder / "elsewhere.ply")
            bpy.ops.wm.open_mainfile(filepath=path)
            yield 2.5
            self.window.show_tab()
            yield 1.0
            self.photograph(name)
            self.scroll(30)
            yield 0.5
            self.photograph(f"{name}_below")
            yield from self.bare(f"after_{name}")
        run = yield from watched(
            window, bpy.ops.vivant.splats_find, filepath=str(window.folder / "elsewhere.ply"), browse=False
        )
        self.ran["find"] = run
        yield 1.0
        self.photograph("found")
        yield from self.bare("after_found")
        window.call(bpy.ops.vivant.splats_bring_in, "INVOKE_DEFAULT", True)
        yield 0.5
        self.photograph("brought_in")
        (window.folder / "elsewhere.ply").rename(window.folder / "still.ply")

    # --- pictures -----------------------------------------------------------------------------------------------------

    def render(self):
        window, noted, scene = self.window, self.window.noted, bpy.context.scene
        self.open("still.ply")
        bpy.ops.object.camera_add(location=(2.4, -3.9, 2.2))
        camera = scene.camera = bpy.context.object
        camera.rotation_euler = Vector((2.2, -3.9, 1.6)).to_track_quat("Z", "Y").to_euler()
        window.call(bpy.ops.vivant.splats_import, "EXEC_DEFAULT", True, filepath=str(window.folder / "other.ply"))
        splats().location.x += 0.6
        bpy.ops.ed.undo_push(message="placed")
        yield 0.5
        self.scroll(-40)
        yield 1.0
        self.photograph("two")
        before = {image.name for image in bpy.data.images}
        run = yield from watched(window, bpy.ops.vivant.splats_render, hide_behind=True)
        self.ran["plate"] = run
        made = [image for image in bpy.data.images if image.name not in before]
        noted["plate"] = [[image.name, list(image.size), float(np.mean(image.pixels[:]))] for image in made]
        yield from self.there_and_back("plate", lambda: sorted(bpy.data.images.keys()))
        scene.frame_start, scene.frame_end = 1, 2
        scene.vivant.plates = str(window.folder / "plates/plate_####.exr")
        run = yield from watched(window, bpy.ops.vivant.splats_render, animation=True)
        self.ran["range"] = run
        noted["range"] = sorted(path.name for path in (window.folder / "plates").glob("*"))
        scene.frame_start, scene.frame_end = 1, 60
        window.call(bpy.ops.vivant.splats_together, "INVOKE_DEFAULT", True)
        yield 1.0
        self.photograph("together")
        yield from self.there_and_back("together", lambda: sorted(bpy.data.objects.keys()))

    # --- export -------------------------------------------------------------------------------------------------------

    def exported(self):
        window, noted, scene = self.window, self.window.noted, bpy.context.scene
        noted["exported"] = {}
        for source, form in (("still.ply", ".splat"), ("moving.splatv", ".spz")):
            self.open(source)
            scene.frame_set(11)
            window.call(bpy.ops.vivant.splats_export, "INVOKE_DEFAULT", True)
            yield 1.5
            self.browser().spaces.active.active_operator.form = form
            self.browser().spaces.active.params.directory = str(window.folder).encode()
            self.browser().tag_redraw()
            yield 1.5
            self.photograph(f"export_{source.partition('.')[0]}_{form[1:]}")
            yield from self.in_browser("ESC")
        self.open("still.ply")
        yield from self.bare("written_ply")
        for form in (".spz", ".sog"):
            self.open("still.ply")
            out = window.folder / f"written{form}"
            run = yield from watched(window, bpy.ops.vivant.splats_export, filepath=str(out), form=form)
            if self.browser():
                yield from self.in_browser("RET")
            until = time.monotonic() + 30
            while not out.is_file() and time.monotonic() < until:
                yield 0.1
            yield 0.5
            self.open(out.name)
            noted["exported"][form] = {"run": run, "bytes": out.stat().st_size, "made": arrived()}
            yield 1.0
            self.photograph(f"back_{form[1:]}")
            yield from self.bare(f"written_{form[1:]}")

    # --- cameras ------------------------------------------------------------------------------------------------------

    def cameras(self):
        window, noted = self.window, self.window.noted
        noted["cameras"] = {}
        for name in ("transforms.json", "colmap/cameras.txt"):
            self.open("still.ply")
            window.call(bpy.ops.vivant.cameras_import, "EXEC_DEFAULT", True, filepath=str(window.folder / name))
            made = [one for one in bpy.data.objects if one.type == "CAMERA"]
            noted["cameras"][name] = len(made)
            yield 0.7
            self.photograph(f"cameras_{name.partition('.')[0].replace('/', '_')}")
            yield from self.there_and_back(name, lambda: sorted(bpy.data.objects.keys()))
            window.press("NUMPAD_0")
            yield 1.5
            self.photograph(f"through_{name.partition('.')[0].replace('/', '_')}")
            self.check(window.space.region_3d.view_perspective == "CAMERA", f"{name}: not through a camera")
            window.space.region_3d.view_perspective = "PERSP"
