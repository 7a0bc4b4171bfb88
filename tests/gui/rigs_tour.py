# SPDX-License-Identifier: GPL-3.0-or-later
"""What an animator does with a rig: poses, in-betweens by every solver, takes, contacts and all ways to keep one.

The window's folder holds `rig.json`: what to open, and from where; test_rigs.py looks at what came of it.
"""

import importlib
import json
import pathlib
import sys
import time
from typing import NamedTuple

import bpy
import numpy as np
from mathutils import Vector

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from ghosts_tour import drawn_anew

PACKAGE = "bl_ext.user_default.vivant"
TEMPO = 1.08  # frames of the walk in one of the poses'
BEAT = 0.01  # seconds between two looks at the clock


class Shot(NamedTuple):
    """Frames of the key poses, of the gap to fill, of the playhead, of a foot that stands, and of keys of single channels."""

    poses: tuple[int, ...]
    gap: tuple[int, int]
    now: int
    stand: tuple[int, int]
    breakdowns: tuple[int, int, int]


SHOT = Shot((1, 9, 17, 25, 71, 79, 87, 95), (25, 71), 49, (45, 55), (13, 21, 48))


def module(name):
    return importlib.import_module(f"{PACKAGE}.{name}")


def steps(window):
    given = json.loads((window.folder / "rig.json").read_text("utf8"))
    if given["engine"]:
        module("preferences").get(bpy.context).engine_python = given["engine"]
    rig, source, poses = yield from OPEN[given["rig"]](window, given)
    tour = Tour(window, rig)
    yield from tour.lay_out()
    yield from tour.block(source, poses)
    yield from tour.solvers()
    yield from tour.takes()
    yield from tour.contacts()
    yield from tour.accept()
    yield from tour.reports()
    window.noted["wrong"], window.noted["trouble"] = tour.wrong, module("scene.ghosts").trouble


# --- rigs -------------------------------------------------------------------------------------------------------------


def empty_scene():
    for unwanted in list(bpy.data.objects):
        bpy.data.objects.remove(unwanted)
    bpy.context.scene.render.fps = 30


def rigify(window, given):
    """A generated human, made once for all tours, on inverse or forward kinematics all over."""
    kept = pathlib.Path(given["kept"]) / "rigify.blend"
    if not kept.is_file():
        bpy.ops.preferences.addon_enable(module="rigify")
        empty_scene()
        window.call(bpy.ops.object.armature_human_metarig_add)
        yield 0.5
        meta = bpy.context.object
        window.call(bpy.ops.pose.rigify_generate)
        bpy.context.view_layer.objects.active.name = "Human"
        bpy.data.objects.remove(meta)
        bpy.ops.wm.save_as_mainfile(filepath=str(kept), copy=True)
    else:
        bpy.ops.wm.open_mainfile(filepath=str(kept), use_scripts=True)
    yield 1.0
    rig = bpy.data.objects["Human"]
    for limb in ("thigh_parent", "upper_arm_parent"):
        for side in "LR":
            rig.pose.bones[f"{limb}.{side}"]["IK_FK"] = float(given["rig"] == "rigify_fk")
    return rig, *(yield from retargeted(window, given, rig))


def mixamo(window, given):
    empty_scene()
    rig = imported(pathlib.Path(given["data"]) / "rigs" / "human_mixamo_names.glb")
    yield 0.5
    return rig, *(yield from retargeted(window, given, rig))


def fox(window, given):
    """A quadruped with actions of its own; it walks on the spot, so the walk repeats itself."""
    empty_scene()
    rig = imported(pathlib.Path(given["data"]) / "rigs" / "fox.glb")
    yield 0.5
    walk = bpy.data.actions["Walk"]
    first, last = walk.frame_range
    return rig, walk, {pose: first + (pose - 1) % (last - first) for pose in SHOT.poses}


OPEN = {"rigify_fk": rigify, "rigify_ik": rigify, "mixamo": mixamo, "fox": fox}


def imported(path):
    bpy.ops.import_scene.gltf(filepath=str(path))
    rig = next(thing for thing in bpy.data.objects if thing.type == "ARMATURE")
    for bone in rig.pose.bones:
        bone.custom_shape = None
    for thing in [thing for thing in bpy.data.objects if thing.name.startswith("Icosphere")]:
        bpy.data.objects.remove(thing)
    return rig


def retargeted(window, given, rig):
    """A captured walk as an action of the rig's own: poses are taken from it a little slower, and motion is found in it."""
    active(rig)
    path = pathlib.Path(given["data"]) / "mocap" / "bvh" / "cmu_35_28_walk_asf.bvh"
    window.noted["retargeted"] = yield from watched(window, bpy.ops.vivant.motion_retarget, filepath=str(path))
    walk = rig.animation_data.action
    walk.use_fake_user = True
    return walk, {pose: 1 + (pose - 1) * TEMPO for pose in SHOT.poses}


def watched(window, operator, until=900, **properties):
    """Run an operator as its button does, and measure how long Blender was deaf at most: by the clock, and as its main
    thread's own time, which neither other programs nor the drawing of a GPU made of software add to.
    """
    jobs, beats = module("operators.job"), []

    def beat():
        beats.append((time.monotonic(), time.thread_time()))
        return BEAT

    beat()
    bpy.app.timers.register(beat)
    begun = time.monotonic()
    try:
        answer = window.call(operator, "INVOKE_DEFAULT", True, **properties)
        while jobs.running() and time.monotonic() < begun + until:
            yield 0.02
    except RuntimeError as error:
        answer = {str(error).strip()}
    took, ends = time.monotonic() - begun, len(beats)
    beat()
    yield 0.1
    beat()
    bpy.app.timers.unregister(beat)
    pauses = np.diff(beats, axis=0)
    running, end = pauses[: ends - 1], pauses[ends - 1 :]
    return {
        "answer": ["has no end"] if jobs.running() else sorted(answer),
        "seconds": round(took, 3),
        "deaf": np.max(running, axis=0, initial=0).round(3).tolist(),
        "deaf_at_the_end": np.max(end, axis=0).round(3).tolist(),
    }


def active(rig):
    for thing in bpy.context.view_layer.objects:
        thing.select_set(thing == rig)
    bpy.context.view_layer.objects.active = rig


# --- the tour ---------------------------------------------------------------------------------------------------------


class Tour:
    """A window with a rig in it; `wrong` holds whatever is not as it must be."""

    shot = SHOT

    def __init__(self, window, rig):
        bpy.context.scene.frame_end = self.shot.poses[-1]
        self.window, self.name, self.wrong, self.pictures = window, rig.name, [], 0
        self.user, self.others = {}, {}

    @property
    def rig(self):
        return bpy.data.objects[self.name]

    @property
    def action(self):
        """The user's action, also while a take is shown."""
        return module("scene.takes").original_of(self.rig) or self.rig.animation_data.action

    def photograph(self, name):
        self.pictures += 1
        self.window.photograph(f"{self.pictures:02d}_{name}")

    def lay_out(self):
        """Viewport with the tab above, Dope Sheet below."""
        window, space = self.window, self.window.space
        screen = bpy.context.window_manager.windows[0].screen
        before = set(screen.areas)
        window.call(bpy.ops.screen.area_split, direction="HORIZONTAL", factor=0.2)
        added = next(area for area in screen.areas if area not in before)
        self.sheet = min(added, window.area, key=lambda area: area.y)
        self.sheet.ui_type = "DOPESHEET"
        self.sheet.spaces.active.dopesheet.show_only_selected = False
        self.sheet.spaces.active.show_region_ui = False
        active(self.rig)
        bpy.ops.object.mode_set(mode="POSE")
        self.rig.show_in_front = True
        space.show_region_ui, space.show_region_toolbar = True, False
        yield 1.0
        window.show_tab()
        yield 0.5

    def look(self):
        """From the side and a little above at all that the poses span."""
        names = module("scene.planted").feet_of(self.rig) or [self.rig.pose.bones[0].name]
        places = []
        for pose in self.shot.poses:
            bpy.context.scene.frame_set(pose)
            places += [self.rig.matrix_world @ bone.head for bone in self.rig.pose.bones if bone.bone.use_deform]
            places += [self.rig.matrix_world @ self.rig.pose.bones[name].head for name in names]
        low, high = np.min(places, axis=0), np.max(places, axis=0)
        seen = self.window.space.region_3d
        seen.view_location = Vector((low + high) / 2)
        seen.view_distance = 1.35 * float(np.max(high - low)) + 0.6
        far = np.argmax((high - low)[:2])
        seen.view_rotation = Vector(((1, 0.35, 0.3), (0.35, -1, 0.3))[1 - far]).to_track_quat("Z", "Y")

    def select(self, names):
        for bone in self.rig.pose.bones:
            (bone if hasattr(bone, "select") else bone.bone).select = bone.name in names

    def key(self, names, kind):
        self.select(names)
        self.window.call(bpy.ops.anim.keyframe_insert_by_name, type=kind)

    def block(self, source, poses):
        """Poses of a motion as the only keys of a new action, and a few breakdowns of single channels."""
        scene, rig = bpy.context.scene, self.rig
        actions = module("scene.actions")
        slot = source.slots[0]
        curves = actions.curves_of(source, slot)
        names = [bone.name for bone in rig.pose.bones if any(path.startswith(bone.path_from_id() + ".") for path, _ in curves)]
        channels = {
            pose: {channel: curve.evaluate(frame) for channel, curve in curves.items()} for pose, frame in poses.items()
        }
        rig.animation_data.action = None
        for pose in self.shot.poses:
            scene.frame_set(pose)
            for (path, index), value in channels[pose].items():
                holder, _, name = path.rpartition(".")
                target = getattr(rig.path_resolve(holder), name)
                target[index] = value
            self.key(names, "BUILTIN_KSI_LocRot")
        self.action.name = "Blocking"
        turning = [name for name in names if "hand" in name.lower() or "arm" in name.lower() or "head" in name.lower()]
        partly = (("Rotation", turning[:2]), ("Location", names[:1]), ("Rotation", turning[-1:]))
        for frame, (kind, bones) in zip(self.shot.breakdowns, partly, strict=True):
            scene.frame_set(frame)
            self.key(bones, kind)
        self.select(())
        self.look()
        scene.frame_set(self.shot.now)
        self.call(bpy.ops.action.view_all)
        self.user = self.bits(self.action)
        self.others = {action.name: self.bits(action) for action in bpy.data.actions if action != self.action}
        self.window.noted["bones"] = len(names)
        yield 1.0
        self.photograph("keys")

    def call(self, operator, **properties):
        """Call an operator of the Dope Sheet."""
        region = next(region for region in self.sheet.regions if region.type == "WINDOW")
        with bpy.context.temp_override(window=bpy.context.window_manager.windows[0], area=self.sheet, region=region):
            return operator(**properties)

    # --- what must hold after every step ---

    def bits(self, action, slot=None):
        actions = module("scene.actions")
        slot = slot or action.slots[0]
        return {channel: actions.read_keys(curve) for channel, curve in actions.curves_of(action, slot).items()}

    def check(self, when, merged=False):
        """The user's keys are bit for bit what they were: all of their action, or, once merged, all that is not generated."""
        actions = module("scene.actions")
        if not merged and not same(self.bits(self.action), self.user):
            self.wrong.append(f"{when}: the user's action has changed")
        for name, before in self.others.items():
            if name not in bpy.data.actions or not same(self.bits(bpy.data.actions[name]), before):
                self.wrong.append(f"{when}: the action {name} has changed")
        data = self.rig.animation_data
        if data.action is None:
            return
        found, takes = self.bits(data.action, data.action_slot), module("scene.takes")
        filled = {takes.channel(name) for name in takes.fills_of(data.action, data.action_slot)}
        if set(found) != set(self.user):
            self.wrong.append(f"{when}: other channels have keys: {sorted(set(found) ^ set(self.user))[:3]}")
        for channel, keys in found.items():
            own = keys[keys["type"] != actions.GENERATED]
            before = self.user.get(channel)
            if before is None or own["co"].tobytes() != before["co"].tobytes():
                self.wrong.append(f"{when}: keys of {channel} have changed")
                return
            if channel not in filled and keys.tobytes() != before.tobytes():
                self.wrong.append(f"{when}: {channel} has changed, though nothing was filled")

    # --- steps ---

    def fill(self, operator, **properties):
        """Run an operator as its button does; see `watched`."""
        run = yield from watched(self.window, operator, **properties)
        if run["answer"] == ["has no end"]:
            self.wrong.append(f"{operator.idname()} {properties} had no end")
        return run

    def shown(self):
        """What the panel knows of the take that is shown."""
        made = module("scene.takes").made_of(self.rig.animation_data.action)
        return {
            "solver": made.solver,
            "seed": made.seed,
            "keys": made.keys,
            "key_error": made.key_error,
            "fallback": made.fallback,
        }

    def lowest(self):
        """How far the feet go below where they stand in the user's poses, in metres, in the gap."""
        feet = list(module("scene.planted").feet_of(self.rig))
        if not feet:
            return None
        scene, now = bpy.context.scene, bpy.context.scene.frame_current

        def heights(frames):
            for frame in frames:
                scene.frame_set(frame)
                yield min((self.rig.matrix_world @ self.rig.pose.bones[foot].head).z for foot in feet)

        floor = min(heights(self.shot.poses))
        deepest = floor - min(heights(range(self.shot.gap[0] + 1, self.shot.gap[1])))
        scene.frame_set(now)
        return round(deepest, 4)

    def solvers(self):
        """The gap at the playhead by every solver of the menu, each a take."""
        window, settings = self.window, bpy.context.scene.vivant
        window.noted["solvers"] = {}
        # What Blender itself takes to draw another frame here, to judge the rest by.
        window.noted["redraw"] = yield from self.fill(bpy.ops.screen.frame_offset, delta=1)
        self.select(())
        for name in [item.identifier for item in settings.bl_rna.properties["solver"].enum_items]:
            settings.solver = name
            bpy.context.scene.frame_set(self.shot.now)
            run = yield from self.fill(bpy.ops.vivant.motion_inbetween, scope="GAP", solver=name, another=True)
            if run["answer"] in (["FINISHED"], ["RUNNING_MODAL"]) and module("scene.takes").original_of(self.rig):
                run |= self.shown() | {"below": self.lowest()}
            window.noted["solvers"][name] = run
            self.check(name)
            window.show_tab()
            yield 0.5
            self.photograph(f"solver_{name}")

    def takes(self):
        """Ghosts and trails; other takes; strength; another seed; every gap; few keys."""
        window, scene, rig = self.window, bpy.context.scene, self.rig
        ghosts = module("scene.ghosts")
        scene.vivant.show_ghosts = scene.vivant.show_trails = True
        scene.vivant.ghost_step = 6
        yield from drawn_anew(ghosts, 60)
        self.photograph("ghosts")
        every = len(module("scene.takes").takes_of(rig))
        for step in range(every):
            window.call(bpy.ops.vivant.take_step, "EXEC_DEFAULT", True, by=-1)
            self.check(f"step {step}")
            if step < 3:
                yield from drawn_anew(ghosts, 60)
                self.photograph(f"step_{self.shown()['solver']}")
        for strength in (0.0, 0.5, 1.5, 1.0):
            rig.vivant_takes.strength = strength
            self.check(f"strength {strength}")
            if strength == 0.5:
                yield from drawn_anew(ghosts, 60)
                self.photograph("strength")
        window.noted["again"] = yield from self.fill(bpy.ops.vivant.take_again, another=True)
        self.check("again")
        window.noted["range"] = yield from self.fill(
            bpy.ops.vivant.motion_inbetween, scope="RANGE", solver="auto", another=True
        )
        self.check("range")
        yield from drawn_anew(ghosts, 60)
        self.photograph("range")
        window.noted["sparse"] = yield from self.fill(
            bpy.ops.vivant.motion_inbetween, scope="GAP", solver="retrieval", output="SPARSE", another=True
        )
        window.noted["sparse"] |= self.shown()
        self.check("sparse")
        self.call(bpy.ops.action.view_all)
        yield from drawn_anew(ghosts, 60)
        self.photograph("sparse")

    def foot(self):
        """A foot as an animator would select it: a control where there are any."""
        for control in ("foot_ik.L", "foot_fk.L"):
            if any(f'"{control}"' in path for path, _ in self.user):
                return control
        return next(iter(module("scene.planted").feet_of(self.rig)))

    def contacts(self):
        """A foot that must stand in the gap, by the optimisation."""
        window, scene, foot = self.window, bpy.context.scene, self.foot()
        self.select([foot])
        scene.use_preview_range = True
        scene.frame_preview_start, scene.frame_preview_end = self.shot.stand
        window.call(bpy.ops.vivant.contact_plant, "EXEC_DEFAULT", True)
        scene.use_preview_range = False
        self.select(())
        scene.frame_set(self.shot.now)
        run = yield from self.fill(
            bpy.ops.vivant.motion_inbetween, scope="GAP", solver="optimise", output="BAKED", another=True
        )
        places = []
        for frame in range(self.shot.stand[0], self.shot.stand[1] + 1):
            scene.frame_set(frame)
            places.append(self.rig.matrix_world @ self.rig.pose.bones[foot].head)
        scene.frame_set(self.shot.now)
        window.noted["planted"] = run | self.shown() | {"foot": foot, "moves": float(np.ptp(places, axis=0).max())}
        self.check("planted")
        yield from drawn_anew(module("scene.ghosts"), 60)
        self.photograph("planted")

    def accept(self):
        """Into the action and out of it again, into a slot, into a strip."""
        window, rig, data = self.window, self.rig, self.rig.animation_data
        action, handle = self.action, data.action_slot_handle
        actions = module("scene.actions")
        window.call(bpy.ops.vivant.take_accept, "EXEC_DEFAULT", True, into="ACTION")
        self.check("accepted", merged=True)
        yield 1.0
        self.photograph("accepted")
        window.call(bpy.ops.vivant.generated_remove, "EXEC_DEFAULT", True)
        self.check("generated keys removed")
        for into in ("SLOT", "NLA"):
            yield from self.fill(bpy.ops.vivant.motion_inbetween, scope="RANGE", solver="spline")
            window.call(bpy.ops.vivant.take_accept, "EXEC_DEFAULT", True, into=into)
            own = next(slot for slot in action.slots if slot.handle == handle)
            if not same(self.bits(action, own), self.user):
                self.wrong.append(f"accepted as {into}: the user's action has changed")
            yield 1.0
            self.photograph(f"accepted_{into.lower()}")
            window.noted[f"accepted_{into.lower()}"] = {
                "slots": [slot.name_display for slot in action.slots],
                "tracks": [[strip.name for strip in track.strips] for track in data.nla_tracks],
            }
            actions.assign(rig, action, handle)

    def reports(self):
        """All that Blender reported, as its Info editor shows it."""
        self.sheet.type = "INFO"
        yield 1.0
        self.photograph("reports")
        self.call(bpy.ops.info.select_all, action="SELECT")
        self.call(bpy.ops.info.report_copy)
        self.window.noted["reports"] = bpy.context.window_manager.clipboard.splitlines()


def same(one, other):
    return one.keys() == other.keys() and all(one[channel].tobytes() == other[channel].tobytes() for channel in one)
