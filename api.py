# SPDX-License-Identifier: GPL-3.0-or-later
"""Vivant for scripts: everything here is documented, typed and stable.

    from vivant import api
    cloud = api.read_splats("capture.ply")
    picture = api.render(cloud, K, camera_to_world, 640, 480)

Functions that touch Blender's data need `bpy`; the others run in any Python with NumPy.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .backends.common.camera_files import read_cameras, write_cameras
from .backends.common.cameras import Camera, CameraSet, View
from .backends.common.errors import (
    BrokenFile,
    Cancelled,
    EngineFailed,
    NeedsEngine,
    NeedsWeights,
    UnsupportedFormat,
    VivantError,
)
from .backends.gaussian.axes import change_axes
from .backends.gaussian.cloud import Source, SplatCloud
from .backends.gaussian.edit.carry import transformed as transform_splats
from .backends.gaussian.edit.colour import recoloured as recolour_splats
from .backends.gaussian.edit.deform import deformed as deform_splats
from .backends.gaussian.edit.merge import merged as merge_splats
from .backends.gaussian.formats import Overrides, losses, read_splats, write_splats
from .backends.gaussian.render import reference
from .backends.motion import trained
from .backends.motion.batch import Outcome, Shot
from .backends.motion.clip import Clip
from .backends.motion.formats.arrays import read_clip, write_clip
from .backends.motion.formats.bvh import read_bvh, write_bvh
from .backends.motion.solve import AUTO, Report, Solver, solvers
from .engine import motion

if TYPE_CHECKING:
    import bpy

    from .backends.gaussian.train.views import Views
    from .engine.client import Engine
    from .scene.capture import Captured
    from .scene.inbetween import Report as ObjectReport
    from .scene.motions import Question


__all__ = [
    "BrokenFile",
    "Camera",
    "CameraSet",
    "Cancelled",
    "Clip",
    "EngineFailed",
    "NeedsEngine",
    "NeedsWeights",
    "Outcome",
    "Overrides",
    "Report",
    "Shot",
    "Solver",
    "Source",
    "SplatCloud",
    "UnsupportedFormat",
    "View",
    "VivantError",
    "capture_scene",
    "change_axes",
    "cloud_of",
    "deform_splats",
    "export_cameras",
    "export_splats",
    "import_cameras",
    "import_splats",
    "inbetween",
    "inbetween_many",
    "inbetween_object",
    "losses",
    "merge_splats",
    "pose_footage",
    "read_bvh",
    "read_cameras",
    "read_clip",
    "read_splats",
    "read_views",
    "recolour_splats",
    "render",
    "retarget",
    "solvers",
    "transform_splats",
    "write_bvh",
    "write_cameras",
    "write_clip",
    "write_splats",
]


def render(
    cloud: SplatCloud, K: ArrayLike, camera_to_world: ArrayLike, width: int, height: int, near: float = 0.2
) -> NDArray[np.float32]:
    """Picture (height, width, 4) of a still cloud: premultiplied display RGB and alpha, rows from the top.

    K: (3, 3) intrinsics in pixels; camera_to_world: (4, 4), OpenCV camera axes (x right, y down, z
    forward), in the cloud's own axes.  Splats nearer than `near` are left out.  float64 inside;
    Kerbl et al. 2023.  Raises VivantError for a moving cloud.
    """
    if cloud.family is not None:
        raise VivantError("A moving cloud has no picture.", "Render cloud.at(time).")
    camera = Camera(np.asarray(K, np.float64), np.asarray(camera_to_world, np.float64), width, height, near=near)
    return reference.render([(cloud, camera)]).astype(np.float32)


def import_splats(
    path: str | os.PathLike[str], start_frame: float = 1.0, frames: float = 0.0, overrides: Overrides | None = None
) -> bpy.types.Object:
    """Read a splat file or folder and put it into the active collection; a moving one plays from start_frame on.

    frames: how long (0: as many frames as a sequence has, else 50).  overrides: what is known better than the file says it.

    Needs bpy.  Raises VivantError as `read_splats` does.
    """
    import bpy

    from .scene import pointclouds

    return pointclouds.add(bpy.context, read_splats(path, overrides), start_frame, frames)


def export_splats(
    path: str | os.PathLike[str],
    splats: Sequence[bpy.types.Object],
    motion: str = "MOTION",
    frame_range: tuple[int, int] | None = None,
    placed: bool = True,
    selected_only: bool = False,
    degree: int = 4,
    axes: str = "",
) -> tuple[str, ...]:
    """Write objects that hold splats into one file, with their edits; sentences on what the file does not hold.

    motion: "MOTION", as the format holds it, "FRAME", the scene's current one, or "FILES", a file a frame, "a_####.spz".
    frame_range: first and last frame of what is written as frames, the scene's when None.  placed: where the objects stand in
    the scene, else in the coordinates of the first one's capture.  selected_only: what is selected in Edit Mode.  degree: of
    spherical harmonics, at most.  axes: a frame other than the format's own.
    Needs bpy.  Raises VivantError as `write_splats` does, and for frames that are not baked.
    """
    import bpy

    from .scene import exports

    choices = exports.Choices(motion, frame_range, placed, selected_only, degree, axes)
    return exports.write(bpy.context.scene, splats, Path(path), choices)


def import_cameras(
    path: str | os.PathLike[str],
    splats: bpy.types.Object | None = None,
    layout: str = "AUTO",
    start_frame: float | None = None,
    frames: float | None = None,
    markers: bool = False,
    pictures: bool = False,
    fit_scene: bool = True,
) -> list[bpy.types.Object]:
    """Read a camera file into a new collection: one camera a picture, or one with keys for a path.

    splats: the cloud trained on these cameras, which becomes their parent; without it they stand upright under an empty.
    layout: "CAMERAS", "PATH", or "AUTO" for what the file holds.  start_frame, frames: as of the splats when None; without
    times every picture takes a frame.  markers: bind cameras to their frames.  pictures: show them behind the cameras.
    fit_scene: give the scene their size and pixel aspect.  Needs bpy.  Raises VivantError as `read_cameras` does.
    """
    import bpy

    from .scene import camera_sets, cameras

    found = read_cameras(path, cameras.picture_size(bpy.context.scene))
    name = Path(path).stem or "Cameras"
    return camera_sets.add(bpy.context, found, name, splats, layout, start_frame, frames, markers, pictures, fit_scene)[0]


def export_cameras(
    path: str | os.PathLike[str],
    form: str = "TRANSFORMS",
    cameras: Sequence[bpy.types.Object] | None = None,
    frame_range: tuple[int, int] | None = None,
    step: int = 1,
    splats: bpy.types.Object | None = None,
) -> CameraSet:
    """Write the scene's camera at every step-th frame, or some cameras as they stand; what was written.

    form: "TRANSFORMS", "COLMAP" (a folder), "INRIA" or "SUPERSPLAT".  splats: the cloud in whose coordinates poses are written;
    without it they are the scene's, turned to the format's axes.  Needs bpy.  Raises VivantError as `write_cameras` does.
    """
    import bpy

    from .backends.common.steps import at_once
    from .scene import camera_sets

    found = at_once(camera_sets.gathering(bpy.context, form, cameras, frame_range, step, splats))
    write_cameras(found, path, form)
    return found


def capture_scene(folder: str | os.PathLike[str], **wish: Any) -> Captured:
    """Render the open scene from all around into a folder to train splats on, going on where an earlier capture stopped.

    wish: fields of `scene.capture.Wish`: shell ("HEMISPHERE", "SPHERE", "ORBIT", "CAMERAS"), views, held_out, every_frame,
    frames (first, last), size (width, height), objects and cameras (names), passes ("depth", "normal", "object_index",
    "albedo"), transform ("" for the scene's), engine ("EEVEE", "CYCLES"), samples.
    Needs bpy.  Raises VivantError as `scene.capture.capturing` does.
    """
    import bpy

    from .backends.common.steps import at_once
    from .scene import capture

    steps = capture.capturing(bpy.context.scene, bpy.context.view_layer, Path(folder).absolute(), capture.Wish(**wish))
    return at_once(steps)


def pose_footage(
    folder: str | os.PathLike[str], cameras: Sequence[str] = (), held_out: int = 0, frames: tuple[int, int] | None = None
) -> dict[str, int]:
    """List the image sequences behind the scene's cameras with their poses, as a folder to train on; pictures a split.

    folder: that which holds all the pictures.  cameras: names, all with pictures when empty; held_out: how many of them.
    Needs bpy.  Raises VivantError as `scene.sequences.pose` does.
    """
    import bpy

    from .scene import sequences

    return sequences.pose(bpy.context.scene, bpy.context.view_layer, Path(folder).absolute(), cameras, held_out, frames)


def read_views(folder: str | os.PathLike[str]) -> Views:
    """The posed pictures of a capture to train on: NeRF's and D-NeRF's layout, Nerfstudio's, COLMAP's.

    Needs Pillow.  Raises VivantError, in a sentence, for whatever cannot be trained on (see `gaussian.train.views.read`).
    """
    from .backends.gaussian.train import views

    return views.read(folder)


def cloud_of(object: bpy.types.Object) -> SplatCloud:
    """The cloud of an object that Vivant imported, with its family, in the capture's own axes.

    Needs bpy.  Raises VivantError for an object without splats.
    """
    from .scene import pointclouds

    return pointclouds.cloud_of(object)


def inbetween(
    clip: Clip, keys: ArrayLike, solver: str = AUTO, library: Sequence[Clip] = (), seed: int = 0, **options: Any
) -> tuple[Clip, Report]:
    """Fill whatever is not keyed; keyed values come back bit for bit.

    keys: bool (F,) of keyed frames or (F, J) of keyed joints; translations (the root's is joint 0's) are keyed where their
    joint is.  Values elsewhere are ignored.  Frames outside a joint's keys hold the nearest key, a joint without keys
    its rest pose.  solver: a name of `solvers()`, or "auto": the trained model for a human where it can run, else retrieval
    where there is a `library` (clips of the same joints), else the spline.  Where a solver cannot serve, what "auto" would take
    next takes over, and the report says why.  `seed` is for solvers that choose; options are those of `solvers()`.
    A Python without PyTorch runs the trained model in Blender's engine, where there is one.
    Raises VivantError for an unknown solver or option, keys of another shape or keyed values that are not finite.
    """
    options = _own_weights() | options
    return motion.inbetween(_engine_for_networks, clip, np.asarray(keys), solver, library, seed, **options)


def inbetween_many(shots: Iterable[Shot], library: Iterable[str] = ()) -> list[Outcome]:
    """Fill the gaps of many clip files and write them; whatever is wrong with one is in its outcome and stops no other.

    library: clip files that all may search.  The work is done in Blender's engine where that has PyTorch, else here.
    Raises VivantError when a file of the library cannot be read.
    """
    own = _own_weights()
    return motion.inbetween_many(
        _engine_for_networks, [replace(shot, options=own | dict(shot.options)) for shot in shots], library
    )


def _engine_for_networks() -> Engine:
    if "bpy" not in sys.modules:
        raise NeedsEngine("Only Blender knows where the engine is.", "Run this in Blender, or in a Python with PyTorch.")
    from .operators import job

    return job.engine_for_networks()


def _own_weights() -> dict[str, str]:
    """The option `weights`, where the user has weights in a folder named in the preferences."""
    if "bpy" not in sys.modules:
        return {}
    from . import preferences

    own = preferences.own_weights(trained.WEIGHTS)
    return {"weights": own} if own else {}


def inbetween_object(
    armature: bpy.types.Object,
    bones: Iterable[str] | None = None,
    scope: str = "GAP",
    frame_range: tuple[float, float] | None = None,
    solver: str = "spline",
    seed: int = 0,
    output: str = "BAKED",
    another: bool = False,
    library: Sequence[Clip] = (),
) -> ObjectReport:
    """Fill gaps between the keys of an armature's bones (names; all when None) in a take, and show that.

    scope "GAP" is the gap around the current frame, "RANGE" every gap of frame_range (the scene's when
    None).  output "SPARSE" keys as few frames as stay within 0.5° and 2 mm; `another` makes one more take.
    solver: "spline" fills every channel by itself; "auto" and all others of `solvers()` fill the pose, from the file's actions
    for these bones and `library` where they search one (clips of another human are retargeted), and meet every key exactly.
    Accept the take or reject all with `bpy.ops.vivant.take_accept()` and `take_reject()`.
    Needs bpy.  Raises VivantError when there is nothing to fill or nothing may be written.
    """
    from .scene import inbetween

    def ask(q: Question) -> tuple[Clip, Report]:
        return motion.inbetween(_engine_for_networks, q.clip, q.keys, q.solver, q.library, q.seed, **_own_weights() | q.options)

    return inbetween.inbetween_object(armature, bones, scope, frame_range, solver, seed, output, another, library, ask)


def retarget(
    clip: Clip, rig: bpy.types.Object, name: str = "Retargeted", source: Mapping[str, str] | None = None, in_place: bool = False
) -> bpy.types.Action:
    """Put a human's clip on the armature of another human, in a new action from the scene's start on; the old one is kept.

    source: canonical joint -> name in the clip, where the names do not say it (see `backends.motion.humanoid.JOINTS`); the
    rig's own mapping is its custom property `vivant_humanoid`.  in_place: without the way over the ground.
    Needs bpy.  Raises VivantError for what is no human, a linked rig, or limbs of a control rig that follow IK.
    """
    from .scene import skeletons

    return skeletons.retarget_to(rig, clip, name, source, in_place)
