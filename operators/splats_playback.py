# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames of splats that networks move: baked into a cache outside the .blend, or fitted by motion that needs none."""

from __future__ import annotations

import dataclasses
import hashlib
import sys
from collections.abc import Callable
from pathlib import Path

import bpy
import numpy as np
from numpy.typing import NDArray

from .. import preferences
from ..backends.common.errors import VivantError
from ..backends.gaussian import stream
from ..backends.gaussian.cache import EXTENSION
from ..backends.gaussian.cloud import Source
from ..backends.gaussian.motion.refined import Refined
from ..backends.gaussian.motion.timing import INPUTS, Timing
from ..engine.jobs import Job
from ..scene import clips, compat, playback, pointclouds
from .job import JobOperator, engine

GIGABYTE = 1_000_000_000
MOST = 20 * GIGABYTE
"""Bytes of all files in the user's cache folder, unless told otherwise."""


def moved_by_network(candidate: bpy.types.Object | None) -> bool:
    """Whether an object's frames come from a network."""
    if not playback.is_played(candidate):
        return False
    facts = pointclouds.facts_of(candidate)
    return not clips.is_sequence(facts) and not clips.is_streamed(facts)


def bake(splats: bpy.types.Object, samples: int, most: int, cameras: NDArray[np.floating] | None) -> Job:
    """Start to bake so many frames of an object, beside the .blend or into the user's cache folder, up to `most` bytes."""
    from ..backends.gaussian import cache_writer

    facts = splats[pointclouds.KEY]
    facts["samples"], facts["most"] = samples, float(most)
    told = pointclouds.facts_of(splats)
    path = frames_folder(most) / clips.cache_name(
        told, "" if cameras is None else hashlib.sha256(cameras.tobytes()).hexdigest()
    )
    times = clips.times(told).tolist()
    said = told.get("overrides", {})
    return engine().submit("splats.bake", *cache_writer.request(clips.scene_of(told), path, times, None, cameras, most, said))


def take(splats: bpy.types.Object, job: Job) -> dict[str, object]:
    """Play what a job has baked.  Raises what the job did."""
    values, _ = job.result()
    facts = splats[pointclouds.KEY]
    facts["cache"], facts["source"] = values["path"], values["source"]
    playback.forget(splats)
    preferences.forget_cache_size()
    return values


def frames_folder(most: int) -> Path:
    """Where frames are baked, made where it is not."""
    folder = clips.folder_beside() or preferences.cache_folder() / "frames"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise VivantError(f"'{folder}' cannot be made: {error.strerror}.", "Save the file elsewhere first.") from error
    if not bpy.data.filepath:
        _make_room(folder, most)
    return folder


def _make_room(folder: Path, most: int) -> None:
    """Remove the caches used longest ago until they take no more than `most` bytes; each is baked again when asked for."""
    files = [file for kind in (EXTENSION, stream.EXTENSION) for file in folder.glob(f"*{kind}*")]
    caches = sorted(files, key=lambda path: path.stat().st_atime)
    excess = sum(path.stat().st_size for path in caches) - most
    for path in caches:
        if excess <= 0:
            break
        excess -= path.stat().st_size
        path.unlink(missing_ok=True)


class VIVANT_OT_splats_bake(JobOperator, bpy.types.Operator):
    """Ask the network for every frame and keep them in a file beside the .blend, from which the splats play"""

    bl_idname = "vivant.splats_bake"
    bl_label = "Bake Frames"
    bl_options = {"REGISTER", "UNDO"}

    samples: bpy.props.IntProperty(
        name="Frames", description="Frames to bake; 0: one for each frame of the clip on the timeline", default=0, min=0
    )
    most: bpy.props.FloatProperty(
        name="Most Gigabytes",
        description="What the file may take on the disk; and all of them together where the .blend was never saved",
        default=20.0,
        min=0.01,
    )

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return moved_by_network(context.active_object)

    def submit(self, context: bpy.types.Context) -> Job:
        splats = context.active_object
        self._name = splats.name
        timing = pointclouds.timing_of(pointclouds.mover_of(splats))
        samples = self.samples or round(timing.frames) + 1
        cameras = None
        if pointclouds.facts_of(splats)["moves_by"] == Refined.name:
            cameras = _camera_path(context, splats, timing, samples)
        splats[pointclouds.KEY]["cameras"] = [] if cameras is None else cameras.ravel().tolist()
        return bake(splats, samples, round(self.most * GIGABYTE), cameras)

    def finish(self, context: bpy.types.Context, job: Job) -> None:
        splats = bpy.data.objects.get(self._name)
        if splats is None:
            return
        values = take(splats, job)
        playback.show(splats, pointclouds.time_at(splats, context.scene.frame_current_final))
        context.scene.render.use_lock_interface = True  # renders in a window set frames too
        self.report({"INFO"}, f"{splats.name}: {values['frames']:,} frames, {values['bytes'] / 1e6:,.1f} MB on the disk.")


def _camera_path(context: bpy.types.Context, splats: bpy.types.Object, timing: Timing, samples: int) -> NDArray[np.floating]:
    """Centres (samples, 3) of the scene's camera in the object's space while the clip runs.

    Raises VivantError without a camera, and where the clip shows a frame more than once.
    """
    scene = context.scene
    if scene.camera is None:
        raise VivantError("What these splats look like depends on the camera, and there is none.", "Add one.")
    if timing.loop or timing.back_and_forth or timing.speed == 0:
        raise VivantError(
            "What these splats look like depends on the camera, and this clip shows a frame more than once.",
            "Switch off Loop and Back and Forth, and give it a speed.",
        )
    shares = np.linspace(1, 0, samples) if timing.reverse else np.linspace(0, 1, samples)
    frames = timing.start_frame + (shares * timing.frames - timing.offset) / timing.speed
    before = scene.frame_current, scene.frame_subframe
    found = []
    for frame in frames:
        scene.frame_set(int(np.floor(frame)), subframe=frame % 1)
        found.append(splats.matrix_world.inverted() @ scene.camera.matrix_world.translation)
    scene.frame_set(before[0], subframe=before[1])
    return np.array(found)


class VIVANT_OT_splats_fit(JobOperator, bpy.types.Operator):
    """Make a second object whose splats follow this one's by formula: it needs neither a cache nor Vivant to play"""

    bl_idname = "vivant.splats_fit"
    bl_label = "Fit to Native Motion"
    bl_options = {"REGISTER", "UNDO"}

    form: bpy.props.EnumProperty(
        name="Motion",
        items=(
            ("STG", "Spacetime", "A curved path, a steady turn and one coming and going for each splat"),
            ("Linear", "Straight Stretches", "Splats that follow each other on straight paths; more of them, and closer"),
        ),
        default="STG",
    )

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        active = context.active_object
        return playback.is_played(active) and not clips.is_streamed(pointclouds.facts_of(active))

    def submit(self, context: bpy.types.Context) -> Job:
        from ..backends.gaussian import fit_job

        self._name = context.active_object.name
        facts = pointclouds.facts_of(context.active_object)
        request = fit_job.request(clips.scene_of(facts), self.form, overrides=facts.get("overrides"))
        return engine(context).submit("splats.fit", *request)

    def finish(self, context: bpy.types.Context, job: Job) -> None:
        splats = bpy.data.objects.get(self._name)
        if splats is None:
            return
        from ..backends.gaussian import fit_job

        fit, decibels = fit_job.answer(*job.result())
        facts, timing = pointclouds.facts_of(splats), pointclouds.timing_of(pointclouds.mover_of(splats))
        source = Source(facts["format"], facts["path"], facts["axes"], bool(facts["antialiased"]))
        made = pointclouds.to_object(fit.cloud.replace(source=source), f"{splats.name} {self.form}")
        for field, value in dataclasses.asdict(timing).items():
            compat.set_modifier_input(pointclouds.mover_of(made), INPUTS[field], value)
        made.matrix_world = splats.matrix_world
        made[pointclouds.KEY]["decibels"] = [float(decibels.mean()), float(decibels.min())]
        for collection in splats.users_collection:
            collection.objects.link(made)
        splats.hide_render = True
        splats.hide_set(True)
        made.select_set(True)
        context.view_layer.objects.active = made
        likeness = f"{decibels.mean():.1f} dB PSNR to the network's pictures (at worst {decibels.min():.1f})"
        self.report({"INFO"}, f"{made.name}: {len(fit.cloud):,} splats, {likeness}. '{splats.name}' is hidden.")


def _bake_again(splats: bpy.types.Object) -> Job:
    """Start to bake what was baked once."""
    facts = pointclouds.facts_of(splats)
    cameras = np.reshape(facts["cameras"], (-1, 3)) if len(facts.get("cameras", ())) else None
    return bake(splats, int(facts["samples"]), int(facts["most"]), cameras)


def renew_missing(
    scene: bpy.types.Scene,
    ours: Callable[[clips.Facts], bool],
    submit: Callable[[bpy.types.Object], Job],
    take: Callable[[bpy.types.Object, Job], object],
) -> None:
    """Make the files again that objects of a kind play from and that are gone, and say on the console where that fails."""
    for splats in playback.played(scene):
        facts = pointclouds.facts_of(splats)
        if splats.hide_render or not ours(facts) or not facts.get("cache") or clips.cache_of(facts):
            continue
        print(f"Vivant: baking the frames of {splats.name} again.", flush=True)
        try:
            job = submit(splats)
            while not job.wait(1.0):
                pass
            take(splats, job)
        except VivantError as error:
            print(f"Vivant: the frames of {splats.name} cannot be baked. {error}", file=sys.stderr, flush=True)


@bpy.app.handlers.persistent  # type: ignore[untyped-decorator]
def bake_missing(scene: bpy.types.Scene, *_: object) -> None:
    """A render begins: what was baked once and is gone is baked again before the first picture."""
    renew_missing(scene, lambda facts: not clips.is_streamed(facts), _bake_again, take)


def register() -> None:
    """Bake what is missing when a render begins."""
    bpy.app.handlers.render_init.append(bake_missing)


def unregister() -> None:
    """Leave renders alone."""
    bpy.app.handlers.render_init.remove(bake_missing)


CLASSES = (VIVANT_OT_splats_bake, VIVANT_OT_splats_fit)
