# SPDX-License-Identifier: GPL-3.0-or-later
"""What an artist does to splats: every edit by its button, in both modes, undone and redone, stopped by Esc and refused.

The folder holds still.ply, other.ply, large.ply, moving.splatv, frames/ and cameras; test_splats_edit.py looks at what came
of it.
"""

import hashlib
import importlib
import pathlib
import sys
import time

import bpy
import numpy as np
from mathutils import Euler, Matrix, Vector

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from rigs_tour import active, watched

PACKAGE = "bl_ext.user_default.vivant"
STRETCHED = Matrix.LocRotScale((0.4, -0.2, 0.1), Euler((0.3, -0.4, 0.8)), (1.4, 0.7, 1.0))


def module(name):
    return importlib.import_module(f"{PACKAGE}.{name}")


def splats():
    return bpy.context.view_layer.objects.active


def state():
    """All that an edit of the active splats may change, as one number, and their mode."""
    cloud = splats()
    digest = hashlib.sha256(np.array(cloud.matrix_world, np.float32).tobytes())
    for attribute in sorted(cloud.data.attributes, key=lambda one: one.name):
        if not attribute.name.startswith("."):
            digest.update(attribute.name.encode() + module("scene.columns").read(attribute).tobytes())
    digest.update(str(sorted(bpy.data.objects.keys())).encode())
    return digest.hexdigest()


def chosen():
    return int(module("scene.edits").selection(splats()).sum())


def steps(window):
    tour = Tour(window)
    yield from tour.lay_out()
    yield from tour.cleaning()
    yield from tour.edit_mode()
    yield from tour.shared()
    yield from tour.object_mode()
    yield from tour.moving()
    yield from tour.deformers()
    yield from tour.stopped()
    yield from tour.refused()
    yield from tour.large()
    yield from tour.cameras()
    window.noted["wrong"], window.noted["trouble"] = tour.wrong, module("scene.drawing").trouble


class Tour:
    """A window with splats in it; `wrong` holds whatever is not as it must be."""

    def __init__(self, window):
        self.window, self.wrong, self.pictures, self.ran = window, [], 0, {}
        window.noted["ran"] = self.ran

    def photograph(self, name):
        self.pictures += 1
        self.window.photograph(f"{self.pictures:02d}_{name}")

    def check(self, holds, what):
        if not holds:
            self.wrong.append(what)

    def empty(self):
        if bpy.context.object and bpy.context.object.mode != "OBJECT":
            bpy.ops.object.mode_set(mode="OBJECT")
        for unwanted in list(bpy.data.objects):
            bpy.data.objects.remove(unwanted)

    def open(self, name):
        """Splats from a file of the window's folder, alone in the scene; an undo step."""
        self.empty()
        self.window.call(bpy.ops.vivant.splats_import, "EXEC_DEFAULT", True, filepath=str(self.window.folder / name))

    def lay_out(self):
        window = self.window
        for name in ("VIVANT_PT_splats_edit",):  # open it from the start
            panel = getattr(bpy.types, name)
            bpy.utils.unregister_class(panel)
            panel.bl_options = set()
            bpy.utils.register_class(panel)
        self.open("still.ply")
        window.space.show_region_ui = True
        seen = window.space.region_3d
        seen.view_location, seen.view_distance = (0, 0, 0.2), 5.0
        seen.view_rotation = Vector((1.6, -3.0, 1.2)).to_track_quat("Z", "Y")
        yield 1.0
        window.show_tab()
        yield 2.0
        self.photograph("imported")

    def do(self, name, operator, *, undo=True, **properties):
        """An edit as its button does it; then undo must give what was, and redo what came of it."""
        before, mode = state(), splats().mode
        run = yield from watched(self.window, operator, **properties)
        self.ran[name] = run
        self.check(run["answer"] in (["FINISHED"], ["RUNNING_MODAL"]), f"{name}: {run}")
        yield 0.4
        self.window.show_tab()
        yield 0.6
        self.photograph(name)
        if not undo:
            return
        after, count = state(), chosen()
        self.window.call(bpy.ops.ed.undo)
        yield 0.4
        self.check(state() == before, f"{name}: undo gave something else")
        self.check(splats().mode == mode, f"{name}: undo left {splats().mode}")
        self.window.call(bpy.ops.ed.redo)
        yield 0.4
        self.check(state() == after, f"{name}: redo gave something else")
        self.check(chosen() == count, f"{name}: redo selected {chosen()}, not {count}")

    def cleaning(self):
        vivant = bpy.ops.vivant
        before = state()
        yield from self.do("clean_select", vivant.splats_clean)
        self.check(splats().mode == "EDIT" and state() == before, "Clean Up changed more than the selection")
        found, count = chosen(), len(splats().data.points)
        self.window.noted["found"] = [found, count]
        yield from self.do("clean_deleted_by_hand", bpy.ops.pointcloud.delete)
        self.check(len(splats().data.points) == count - found, "Delete left another number of splats")
        self.open("still.ply")
        yield from self.do("clean_delete", vivant.splats_clean, action="DELETE")
        self.check(len(splats().data.points) == count - found, "Clean Up deleted another number of splats")

    def edit_mode(self):
        vivant, window = bpy.ops.vivant, self.window
        self.open("still.ply")
        yield from self.do("select_by_value", vivant.splats_select, measure="X", low=-9.0, high=0.0)
        yield from self.do("tint_selected", vivant.splats_tint, colour=(1.0, 0.3, 0.2), saturation=0.3)
        yield from self.do("clean_in_edit_mode", vivant.splats_clean, kinds={"OUTLIER"})
        window.call(bpy.ops.pointcloud.select_all, "EXEC_DEFAULT", True, action="DESELECT")
        before = state()
        run = yield from watched(window, vivant.splats_tint, saturation=0.0)
        self.ran["tint_nothing"] = run
        self.check(state() == before, "a tint of nothing changed something")
        window.call(bpy.ops.vivant.splats_select, "EXEC_DEFAULT", True, measure="X", low=-9.0, high=0.0)
        count, some = len(splats().data.points), chosen()
        yield from self.do("duplicated", bpy.ops.pointcloud.duplicate)
        self.check(len(splats().data.points) == count + some, "Duplicate made another number of splats")
        cloud = module("scene.pointclouds").cloud_of(splats())
        self.check(len(cloud) == count + some and np.isfinite(cloud.sh).all(), "duplicated splats are not whole")
        self.open("still.ply")
        window.call(bpy.ops.vivant.splats_select, "EXEC_DEFAULT", True, measure="X", low=-9.0, high=0.0)
        some = chosen()
        yield from self.do("separated", bpy.ops.pointcloud.separate)
        parts = [one for one in bpy.data.objects if module("scene.pointclouds").is_splats(one)]
        sizes = sorted(len(one.data.points) for one in parts)
        self.check(sizes == sorted((some, count - some)), f"Separate made {sizes}")
        window.noted["separated_draws"] = all(module("scene.pointclouds").drawer_of(one) for one in parts)

    def shared(self):
        """Two objects of the same splats: in Edit Mode both change, in Object Mode the active one."""
        pointclouds = module("scene.pointclouds")
        for mode in ("EDIT", "OBJECT"):
            self.open("still.ply")
            mine = splats().name
            self.window.call(bpy.ops.object.duplicate_move_linked, TRANSFORM_OT_translate={"value": (2.5, 0, 0)})
            twin = splats().name
            active(bpy.data.objects[mine])
            if mode == "EDIT":
                self.window.call(bpy.ops.vivant.splats_select, "EXEC_DEFAULT", True, measure="X", low=-9.0, high=0.0)
            else:
                bpy.ops.ed.undo_push(message="twin")
            before = pointclouds.cloud_of(bpy.data.objects[twin]).sh
            yield from self.do(f"shared_{mode.lower()}_tinted", bpy.ops.vivant.splats_tint, colour=(1.0, 0.2, 0.2))
            own, other = (pointclouds.cloud_of(bpy.data.objects[name]).sh for name in (mine, twin))
            self.check(not np.array_equal(own, before), f"a tint in {mode} changed nothing")
            self.check(np.array_equal(other, own if mode == "EDIT" else before), f"a tint in {mode} of shared splats")

    def object_mode(self):
        vivant, window = bpy.ops.vivant, self.window
        self.open("still.ply")
        splats().matrix_world = STRETCHED @ splats().matrix_world
        bpy.ops.ed.undo_push(message="placed")
        yield 0.5
        self.photograph("placed")
        yield from self.do("applied", vivant.splats_apply)
        yield from self.do("mirrored", vivant.splats_mirror, axis="X", at_cursor=True)
        yield from self.do("tinted", vivant.splats_tint, colour=(0.4, 0.7, 1.0), contrast=1.3)
        mine = splats()
        window.call(bpy.ops.mesh.primitive_torus_add, major_radius=0.7, minor_radius=0.35, location=(0, 0, 0.2))
        bpy.context.object.rotation_euler, bpy.context.object.scale = (0.5, 0.2, 0), (1, 1.3, 0.8)
        bpy.context.object.display_type = "WIRE"
        mine.select_set(True)
        bpy.context.view_layer.objects.active = mine
        bpy.ops.ed.undo_push(message="torus")
        yield from self.do("cropped_by_torus", vivant.splats_crop)
        window.call(bpy.ops.ed.undo)
        yield from self.do("cropped_outside", vivant.splats_crop, keep="OUTSIDE")
        window.call(bpy.ops.ed.undo)
        yield from self.do("proxy", vivant.splats_proxy, purpose="SHADOW", cells=32)
        self.open("still.ply")
        first = splats()
        window.call(bpy.ops.vivant.splats_import, "EXEC_DEFAULT", True, filepath=str(window.folder / "other.ply"))
        splats().location.x += 1.0
        first.select_set(True)
        bpy.ops.ed.undo_push(message="two")
        yield from self.do("merged", vivant.splats_merge)

    def moving(self):
        vivant, window = bpy.ops.vivant, self.window
        for name in sorted(path.name for path in window.folder.glob("moving*")):
            self.open(name)
            splats().matrix_world = STRETCHED @ splats().matrix_world
            bpy.context.scene.frame_set(20)
            bpy.ops.ed.undo_push(message="placed")
            for title, operator, given in (
                ("applied", vivant.splats_apply, {}),
                ("mirrored", vivant.splats_mirror, {"axis": "Y"}),
                ("tinted", vivant.splats_tint, {"colour": (1.0, 0.6, 0.3)}),
                ("cleaned", vivant.splats_clean, {}),
            ):
                yield from self.do(f"{name.partition('.')[0]}_{title}", operator, **given)
            self.window.call(bpy.ops.pointcloud.select_all, "EXEC_DEFAULT", True, action="DESELECT")
            window.call(vivant.splats_select, "EXEC_DEFAULT", True, measure="OPACITY", low=0.0, high=0.5)
            yield from self.do(f"{name.partition('.')[0]}_deleted", bpy.ops.pointcloud.delete)
            bpy.ops.object.mode_set(mode="OBJECT")
        self.open("frames")
        for title, operator in (("clean", vivant.splats_clean), ("mirror", vivant.splats_mirror)):
            before = state()
            run = yield from watched(window, operator)
            self.ran[f"frames_{title}"] = run
            self.check(state() == before, f"a refused {title} changed a sequence")

    def deformers(self):
        vivant = bpy.ops.vivant
        for kind in ("armature", "lattice", "cage"):
            self.open("still.ply")
            mine = splats()
            if kind == "armature":
                bpy.ops.object.armature_add(location=(0, 0, -0.6))
                bpy.ops.object.mode_set(mode="EDIT")
                bone = bpy.context.object.data.edit_bones.new("Upper")
                bone.head, bone.tail = (0, 0, 1), (0, 0, 2)
                bone.parent = bpy.context.object.data.edit_bones[0]
                bpy.ops.object.mode_set(mode="OBJECT")
                bpy.context.object.pose.bones["Upper"].matrix_basis = Matrix.Rotation(0.6, 4, "X")
            elif kind == "lattice":
                bpy.ops.object.add(type="LATTICE")
                bpy.context.object.scale = (4, 4, 4)
                for point in bpy.context.object.data.points:
                    point.co_deform.x += 0.3 * point.co_deform.z
            else:
                cage(3)
            mine.select_set(True)
            bpy.context.view_layer.objects.active = mine
            bpy.ops.ed.undo_push(message="deformer")
            yield from self.do(f"deformed_by_{kind}", vivant.splats_deform)

    def stopped(self):
        """A slow edit shows how far it is, and Esc leaves everything as it was."""
        vivant, window, jobs = bpy.ops.vivant, self.window, module("operators.job")
        self.open("still.ply")
        mine = splats()
        cage(5)
        mine.select_set(True)
        bpy.context.view_layer.objects.active = mine
        before, seen = state(), set()
        window.call(vivant.splats_deform, "INVOKE_DEFAULT", True)
        until = time.monotonic() + 20
        while jobs.running() and len(seen) < 4 and time.monotonic() < until:
            seen.add(jobs.running()[0].text)
            window.redraw()
            yield 0.1
        self.photograph("deforming")
        asked = time.monotonic()
        window.press("ESC")
        while jobs.running() and time.monotonic() < asked + 30:
            yield 0.05
        window.noted["esc"] = {"seen": sorted(seen), "seconds": time.monotonic() - asked, "same": state() == before}
        yield 0.5
        self.photograph("stopped")
        active(mine)
        for name, operator, given in (
            ("after_esc_clean", vivant.splats_clean, {}),
            ("after_esc_applied", vivant.splats_apply, {}),
            ("after_esc_tinted", vivant.splats_tint, {"brightness": 0.5}),
        ):
            if splats().mode != "OBJECT":
                bpy.ops.object.mode_set(mode="OBJECT")
            splats().rotation_euler.z += 0.3
            bpy.ops.ed.undo_push(message="turned")
            yield from self.do(name, operator, **given)

    def refused(self):
        vivant, window = bpy.ops.vivant, self.window
        self.open("still.ply")
        mine = splats()
        bpy.ops.mesh.primitive_plane_add(size=3)
        mine.select_set(True)
        bpy.context.view_layer.objects.active = mine
        for name, operator in (("open_mesh", vivant.splats_crop), ("still_cage", vivant.splats_deform)):
            before = state()
            run = yield from watched(window, operator)
            self.ran[name] = run
            self.check(state() == before, f"{name}: a refused edit changed something")
        yield 0.5
        self.photograph("refused")

    def large(self):
        """A file that is read beside Blender's own work: let go of Esc it comes in, at a press it does not, and says so."""
        window = self.window
        for key, comes in (("RELEASE", True), ("PRESS", False)):
            self.empty()
            path = str(window.folder / "large.ply")
            answer = window.call(bpy.ops.vivant.splats_import, "EXEC_DEFAULT", True, filepath=path)
            self.check(answer == {"RUNNING_MODAL"}, f"large.ply was not read beside Blender's work: {answer}")
            x, y = window.region().x + 12, window.region().y + 12
            bpy.context.window_manager.windows[0].event_simulate(type="ESC", value=key, x=x, y=y)
            until = time.monotonic() + (20 if comes else 2)
            while not splats() and time.monotonic() < until:
                yield 0.1
            self.check(bool(splats()) == comes, f"large.ply with {key} of Esc: {splats()}")
            self.photograph(f"large_{key.lower()}")
        self.check("The import was stopped" in reports(), "a stopped import says nothing")

    def cameras(self):
        """The cameras that a capture was taken with, in every form, and written again."""
        vivant, window = bpy.ops.vivant, self.window
        for name in ("transforms.json", "colmap/cameras.txt", "cameras.json", "settings.json"):
            self.open("still.ply")
            path = window.folder / name
            answer = window.call(vivant.cameras_import, "EXEC_DEFAULT", True, filepath=str(path))
            made = [one for one in bpy.data.objects if one.type == "CAMERA"]
            out = window.folder / "out" / name
            out.parent.mkdir(parents=True, exist_ok=True)
            form = {"transforms.json": "TRANSFORMS", "cameras.json": "INRIA", "settings.json": "SUPERSPLAT"}.get(name, "COLMAP")
            bpy.context.scene.frame_end = 3
            written = window.call(vivant.cameras_export, "EXEC_DEFAULT", filepath=str(out), form=form, source="SCENE")
            self.ran[name] = {
                "answer": sorted(answer),
                "cameras": len(made),
                "written": sorted(written),
                "there": out.is_file(),
            }
            yield 0.5
            window.show_tab()
            yield 1.0
            self.photograph(f"cameras_{form.lower()}")
            if made:
                window.space.region_3d.view_perspective = "CAMERA"
                yield 1.0
                self.photograph(f"through_{form.lower()}")
                window.space.region_3d.view_perspective = "PERSP"


def reports():
    """What the Info editor shows: an operator that ends later prints nothing."""
    window = bpy.context.window_manager.windows[0]
    area = next(area for area in window.screen.areas if area.type == "OUTLINER")
    area.type = "INFO"
    with bpy.context.temp_override(window=window, area=area, region=area.regions[-1]):
        bpy.ops.info.select_all(action="SELECT")
        bpy.ops.info.report_copy()
    area.type = "OUTLINER"
    return bpy.context.window_manager.clipboard


def cage(subdivisions):
    """A sphere with a shape key that bends it, active."""
    bpy.ops.mesh.primitive_ico_sphere_add(subdivisions=subdivisions, radius=2.5)
    sphere = bpy.context.object
    sphere.display_type = "WIRE"
    sphere.shape_key_add(name="Basis")
    key = sphere.shape_key_add(name="Bent")
    key.value = 1
    for point in key.data:
        point.co.x += 0.25 * point.co.z**2
    bpy.context.view_layer.update()
