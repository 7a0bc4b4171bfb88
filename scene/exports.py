# SPDX-License-Identifier: GPL-3.0-or-later
"""Splat objects -> files: what is gathered from Blender, with the edits and where the objects stand, and what gets lost."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

import bpy
import numpy as np
from mathutils import Matrix
from numpy.typing import NDArray

from ..backends.common.errors import VivantError
from ..backends.common.steps import at_once
from ..backends.gaussian.axes import to_blender
from ..backends.gaussian.cloud import SplatCloud
from ..backends.gaussian.edit.carry import transformed
from ..backends.gaussian.edit.colour import limited
from ..backends.gaussian.edit.merge import merged
from ..backends.gaussian.motion.frames import Frames
from ..backends.gaussian.motion.timing import Timing
from . import clips, edits, pointclouds

MOTION, FRAME, FILES = "MOTION", "FRAME", "FILES"
"""What is written of a clip: as the format holds it, the current frame, a file a frame."""

NEAR = 1e-6
"""How far from the identity a matrix is that an object's angles made of it."""


@dataclass(frozen=True)
class Choices:
    """motion: MOTION, FRAME or FILES.  frame_range: first and last frame of what is written as frames, the scene's when None.

    placed: write the splats where they stand in the scene, else in the coordinates of the first object's capture.
    selected_only: those that are selected in Edit Mode.  degree: of spherical harmonics, at most.  axes: of the file, where
    the program that will read it expects others than the format's.
    """

    motion: str = MOTION
    frame_range: tuple[int, int] | None = None
    placed: bool = True
    selected_only: bool = False
    degree: int = 4
    axes: str = ""

    def named(self, path: Path) -> Path:
        """The path, with room for digits where a file a frame is written."""
        if self.motion != FILES or "#" in path.name:
            return path
        stem, dot, ending = path.name.partition(".")
        return path.with_name(f"{stem}_####{dot}{ending}")


def write(scene: bpy.types.Scene, splats: Sequence[bpy.types.Object], path: Path, choices: Choices) -> tuple[str, ...]:
    """Write objects into one file; sentences on what it does not hold.  Raises VivantError."""
    lost = losses(scene, splats, path, choices)
    save(at_once(gather(scene, splats, path, choices)), choices.named(path), choices.axes)
    return lost


def save(cloud: SplatCloud, path: Path, axes: str, done: Callable[[int, int], None] | None = None) -> None:
    """Write what was gathered, all of its files or none where `done` raises."""
    from ..backends.gaussian.formats import files, write_splats

    with files.all_or_none(path) as aside:
        write_splats(cloud, aside, done=done, axes=axes)
        if done:
            done(1, 1)


def gather(
    scene: bpy.types.Scene, splats: Sequence[bpy.types.Object], path: Path, choices: Choices
) -> Generator[float, None, SplatCloud]:
    """The cloud to write; yields the share of frames that the scene has been set to, and sets it back at the end.

    Raises VivantError for objects without splats, for clips that are not baked and for those that cannot be joined.
    """
    how = _how(splats, path, choices)
    if how == "samples":
        return (yield from _sampled(scene, splats, choices))
    clouds = [_chosen(each, choices, pointclouds.cloud_of(each)) for each in splats]
    if how != "native":
        clouds = [cloud.at(*_moment(each, scene)) for each, cloud in zip(splats, clouds, strict=True)]
    return _joined(clouds, _places(splats, choices), _axes(splats[0]))


def losses(scene: bpy.types.Scene, splats: Sequence[bpy.types.Object], path: Path, choices: Choices) -> tuple[str, ...]:
    """Sentences on what a file of that name does not hold of the objects, before it is written.  Raises as `gather`."""
    from ..backends.gaussian import formats

    how = _how(splats, path, choices)
    clouds = [_chosen(each, choices, pointclouds.cloud_of(each)) for each in splats]
    movers = [mover for each in splats if (mover := pointclouds.mover_of(each))]
    found = []
    if movers and not how and choices.motion != FRAME:
        found.append(
            f"Motion is not written: this format holds none of this kind; the splats are as at frame {scene.frame_current}."
        )
    if how == "native":
        usual = Timing()
        for timing in map(pointclouds.timing_of, movers):
            if timing != dataclasses.replace(usual, start_frame=timing.start_frame, frames=timing.frames):
                found.append("The file holds the clip itself: speed, offset, loops and reversal are not written.")
    else:
        clouds = [cloud.at(*_moment(each, scene)) for each, cloud in zip(splats, clouds, strict=True)]
    for cloud in clouds:
        found += formats.losses(cloud, path)
    return tuple(dict.fromkeys(found))


def _how(splats: Sequence[bpy.types.Object], path: Path, choices: Choices) -> str:
    """How the file holds the objects' motion: "native", "samples", or "" for a still one."""
    from ..backends.gaussian.formats import motion_in

    if not splats:
        raise VivantError("There are no splats to write.", "Select an object that holds splats.")
    families = {family for each in splats if (family := pointclouds.facts_of(each).get("family"))}
    kinds = {motion_in(choices.named(path), family) for family in families}
    if not families or choices.motion == FRAME or "" in kinds:
        return ""
    return "samples" if "samples" in kinds else "native"


def _sampled(
    scene: bpy.types.Scene, splats: Sequence[bpy.types.Object], choices: Choices
) -> Generator[float, None, SplatCloud]:
    """A cloud of the family Frames that holds what the scene shows at every frame, in numbers of frames."""
    clouds = [_chosen(each, choices, pointclouds.cloud_of(each)) for each in splats]
    for each, cloud in zip(splats, clouds, strict=True):
        if cloud.family is None and pointclouds.mover_of(each):
            raise VivantError(f"No frames of '{each.name}' are baked.", clips.BAKE)
    start, end = choices.frame_range or (scene.frame_start, scene.frame_end)
    if start > end:
        raise VivantError("The last frame is before the first.", "Give a later last frame.")
    before = scene.frame_current, scene.frame_subframe
    moments, places = [], []
    try:
        for frame in range(start, end + 1):
            scene.frame_set(frame)
            moments.append([_moment(each, scene) for each in splats])
            places.append(_places(splats, choices))
            yield (frame - start + 1) / (end - start + 1)
    finally:
        scene.frame_set(before[0], subframe=before[1])
    axes = _axes(splats[0])

    def read(index: int) -> SplatCloud:
        stills = [cloud.at(*moment) for cloud, moment in zip(clouds, moments[index], strict=True)]
        return _joined(stills, places[index], axes)

    linked = all(not isinstance(cloud.family, Frames) or cloud.family.linked for cloud in clouds)
    first = read(0)
    rate = scene.render.fps / scene.render.fps_base
    source = dataclasses.replace(first.source, details={**first.source.details, "frames_a_second": rate})
    return first.replace(family=Frames(np.arange(start, end + 1.0), read, linked), source=source)


def _chosen(splats: bpy.types.Object, choices: Choices, cloud: SplatCloud) -> SplatCloud:
    if choices.selected_only:
        mask = edits.selection(splats)
        if not mask.any():
            raise VivantError(f"No splat of '{splats.name}' is selected.", "Select some in Edit Mode.")
        cloud = cloud if mask.all() else cloud.select(mask)
    return limited(cloud, choices.degree)


def _moment(splats: bpy.types.Object, scene: bpy.types.Scene) -> tuple[float, NDArray[np.float64] | None]:
    """Time in the family's unit and the camera's centre in the object's space, at the scene's frame."""
    seen = splats.evaluated_get(bpy.context.evaluated_depsgraph_get())
    eye = scene.camera and splats.matrix_world.inverted_safe() @ scene.camera.matrix_world.translation
    return pointclouds.time_at(seen, scene.frame_current_final), np.array(eye) if eye else None


def _axes(splats: bpy.types.Object) -> str:
    """The frame of an object's data: its capture's, or Blender's own for splats that no file brought."""
    return str(pointclouds.facts_of(splats).get("axes", "RFU"))


def _places(splats: Sequence[bpy.types.Object], choices: Choices) -> list[NDArray[np.float64]]:
    """Matrices (4, 4) that take each object's data to the frame of the first one's capture."""
    first = splats[0]
    upright = Matrix(to_blender(_axes(first)).tolist()).to_4x4()
    base = (upright if choices.placed else first.matrix_world).inverted_safe()
    places = [np.array(base @ each.matrix_world, np.float64) for each in splats]
    return [np.eye(4) if np.abs(place - np.eye(4)).max() < NEAR else place for place in places]


def _joined(clouds: Sequence[SplatCloud], places: Sequence[NDArray[np.float64]], axes: str) -> SplatCloud:
    moved = [transformed(cloud, place) for cloud, place in zip(clouds, places, strict=True)]
    moved = [cloud.replace(source=dataclasses.replace(cloud.source, axes=axes)) for cloud in moved]
    return merged(moved) if len(moved) > 1 else moved[0]
