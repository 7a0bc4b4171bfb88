# SPDX-License-Identifier: GPL-3.0-or-later
"""Draws every visible cloud in the 3D viewports as true Gaussians, all sorted among each other.

What is drawn is each object's evaluated point cloud, so that moving clouds play with the scene.  The
splats are blended as display values in a picture of their own, where Blender's depth buffer hides
what lies behind other objects, and that picture is laid over the viewport.  Work is done only for
what changed: attributes are read after Blender evaluated the object, sorted when the view turned,
drawn when anything in view changed.

What was just read is sorted before it is drawn.  When only the view turns, large clouds are drawn in the last
order while a thread sorts them, and once more when it has ended, see `sorting`.
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import bpy
import gpu
import numpy as np
from bpy.app.handlers import persistent
from mathutils import Matrix
from numpy.typing import NDArray

from ..backends.gaussian import density
from ..backends.gaussian.render.constants import ALPHA_MIN
from . import compat, pointclouds, rasteriser, sorting

Floats = NDArray[np.float32]

trouble = ""  # what stopped the drawing, for the panel
drawn = 0  # splats in the viewport drawn last
stood_for = 0  # splats that those stand for, where the viewport's budget is smaller

_handle: Any = None
_changes: dict[int, int] = {}  # session_uid -> how often an object's evaluated geometry, or a datablock, changed
_gathered: dict[tuple[int, ...], Gathered] = {}
_views: dict[int, View] = {}


@dataclass(eq=False)
class Gathered:
    """The clouds of one set of objects, as the card and the sort need them."""

    version: tuple[int, ...]
    columns: list[Floats]  # _SHAPE of the splats within the budget
    rows: list[NDArray[np.intp] | None]  # which those are of each cloud; all where None
    whole: int  # how many there are without a budget
    origins: list[object]  # of the higher harmonics
    splats: rasteriser.Splats
    points: sorting.Points  # those worth drawing


@dataclass(eq=False)
class View:
    """What one region shows, and of what it is; size: width and height in pixels."""

    size: tuple[int, int]
    order: sorting.Order = field(default_factory=sorting.Order)
    shown: tuple[object, ...] = ()
    depth: gpu.types.Buffer | None = None

    def __post_init__(self) -> None:
        """Make the plate; Blender's own offscreen would, in a viewport's drawing, bind the window instead of the viewport."""
        self.plate = gpu.types.GPUTexture(self.size, format=rasteriser.HALF)
        self.framebuffer = gpu.types.GPUFrameBuffer(color_slots=self.plate)


def drawable(candidate: bpy.types.Object) -> bool:
    """Whether this module draws an object: splats that Blender does not draw itself, not switched off in their modifier."""
    if not pointclouds.is_splats(candidate) or getattr(candidate.data, "type", "") == "GAUSSIAN_SPLAT":
        return False
    drawer = pointclouds.drawer_of(candidate)
    return drawer is None or drawer.show_viewport


def _draw() -> None:
    context = bpy.context
    clouds = [one for one in context.view_layer.objects if drawable(one) and one.visible_get(viewport=context.space_data)]
    if not clouds:
        return
    x, y, width, height = gpu.state.viewport_get()
    depth = gpu.state.active_framebuffer_get().read_depth(x, y, width, height)
    view = _view(context.region, width, height)
    matrices = gpu.matrix.get_model_view_matrix(), gpu.matrix.get_projection_matrix()
    if paint(view, clouds, context.evaluated_depsgraph_get(), context.scene.vivant.viewport_splats, *matrices, depth, True):
        rasteriser.show(view.plate, (x, y), _power_law(context.scene))


def paint(
    view: View,
    clouds: Sequence[bpy.types.Object],
    depsgraph: bpy.types.Depsgraph,
    budget: int,
    to_view: Matrix,
    projection: Matrix,
    depth: gpu.types.Buffer,
    may_be_late: bool = False,
) -> bool:
    """Bring a view's plate up to date: premultiplied display values; False when there is nothing to see.

    depth: Blender's depth buffer, one float a pixel of the plate, 0 near to 1 far.  may_be_late: a view that turned
    may show the order of a moment ago, if it is drawn again when the viewports are.
    """
    gathered = _gather(clouds, depsgraph, budget)
    global drawn, stood_for
    drawn, stood_for = len(gathered.points.names), gathered.whole if gathered.whole > budget else 0
    if not drawn:
        return False
    poses = [_pose(cloud, to_view) for cloud in clouds]
    view.order.update(_wanted(gathered.points, poses, projection), may_be_late)
    _redraw(view, gathered, poses, projection, depth)
    return True


def _gather(clouds: Sequence[bpy.types.Object], depsgraph: bpy.types.Depsgraph, budget: int) -> Gathered:
    """Bring what the card holds of these objects up to date."""
    key = tuple(cloud.session_uid for cloud in clouds)
    version = (*(_changes.get(uid, 0) for uid in key), budget)
    known = _gathered.get(key)
    if known is None or known.version != version:
        if len(_gathered) > 3:  # sets of objects that viewports showed before
            _gathered.clear()
        known = _gathered[key] = _read(clouds, depsgraph, version, budget, known)
    return known


def _read(
    clouds: Sequence[bpy.types.Object],
    depsgraph: bpy.types.Depsgraph,
    version: tuple[int, ...],
    budget: int,
    before: Gathered | None,
) -> Gathered:
    """Read the evaluated clouds; what did not change is taken from before."""
    geometries = [cloud.evaluated_get(depsgraph).evaluated_geometry() for cloud in clouds]  # hold the points
    parts = [_points_of(geometry.pointcloud) for geometry in geometries]
    whole = sum(len(part[0]) for part in parts)
    rows = _within(clouds, parts, budget)
    sizes = [len(part[0]) for part in parts]
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)] if len(parts) > 1 else parts[0]
    means, quats, scales, base = columns
    origins = [_origin(cloud) for cloud in clouds]

    bright = (
        before is not None
        and before.origins == origins
        and all(map(np.array_equal, before.rows, rows))
        and all(map(np.array_equal, before.columns[3].T[:3], base.T[:3]))  # by columns: a fifth of the time
    )
    if bright and all(map(np.array_equal, before.columns, columns)):
        before.version = version
        return before
    if bright:  # harmonics are large and seldom change
        radiance, bands = before.splats.radiance, before.splats.bands
    else:
        read = zip(geometries, parts, rows, strict=True)
        harmonics = [_harmonics(geometry.pointcloud, part[3], kept) for geometry, part, kept in read]
        radiance, bands = rasteriser.pack_radiance(harmonics)
    kept = np.flatnonzero(base[:, 3] >= ALPHA_MIN)
    owners = np.repeat(np.arange(len(clouds), dtype=np.float32), sizes)
    shape = rasteriser.pack_shape(means, quats, scales, base[:, 3], owners)
    places = np.split(means.take(kept, axis=0), np.searchsorted(kept, np.cumsum(sizes)[:-1]))
    points = sorting.Points(kept.astype(np.float32), places)
    return Gathered(version, columns, rows, whole, origins, rasteriser.Splats(shape, radiance, bands), points)


_SHAPE = {"position": 3, "rotation": 4, "scale": 3, pointclouds.BASE: 4}
_HIGHER = tuple(f"{pointclouds.HIGHER}{index}" for index in range(15))


def _points_of(points: bpy.types.PointCloud | None) -> list[Floats]:
    """The attributes of _SHAPE; empty ones when the modifiers made something else of the splats."""
    columns = [pointclouds.read_attribute(points, name) if points else None for name in _SHAPE]
    if any(column is None for column in columns):
        return [np.empty((0, width), np.float32) for width in _SHAPE.values()]
    if _hide_dots(points) and not bpy.app.timers.is_registered(_evaluate_anew):
        bpy.app.timers.register(_evaluate_anew)  # Blender may have drawn them already
    return columns


def _within(clouds: Sequence[bpy.types.Object], parts: list[list[Floats]], budget: int) -> list[NDArray[np.intp] | None]:
    """Thin the clouds' columns, in place, to a budget of splats that look like all of them; which rows stay of each."""
    whole = sum(len(part[0]) for part in parts)
    if whole <= budget:
        return [None] * len(parts)
    weights = [
        density.weights(scales, None if pointclouds.mover_of(cloud) else base[:, 3])
        for cloud, (_, _, scales, base) in zip(clouds, parts, strict=True)
    ]
    share = density.shares(np.concatenate(weights), budget / whole)
    rows = []
    for part, own in zip(parts, np.split(share, np.cumsum([len(weight) for weight in weights])[:-1]), strict=True):
        kept = density.chosen(own)
        means, quats, scales, base = (column[kept] for column in part)
        scales, base[:, 3] = density.compensated(scales, base[:, 3], own[kept])
        part[:] = means, quats, scales, base
        rows.append(kept)
    return rows


def _harmonics(points: bpy.types.PointCloud | None, base: Floats, kept: NDArray[np.intp] | None) -> list[Floats]:
    """All coefficients of the splats of a cloud that are kept, as columns."""
    names = [name for name in _HIGHER if len(base) and name in points.attributes]
    higher = (pointclouds.read_attribute(points, name) for name in names)
    return [base[:, :3], *(column if kept is None else column[kept] for column in higher)]


def _hide_dots(points: bpy.types.PointCloud) -> bool:
    """Shrink the dots of an evaluated cloud, which without Vivant stand for its splats; whether there were any.

    Blender makes this evaluated copy anew whenever anything changes: the user's data know nothing of it.
    """
    radius = points.attributes.get("radius")
    if radius is None:
        return False
    sizes = np.empty(len(radius.data), np.float32)
    radius.data.foreach_get("value", sizes)
    if not sizes.any():
        return False
    radius.data.foreach_set("value", np.zeros_like(sizes))
    return True


def _evaluate_anew() -> None:
    """Let Blender evaluate all clouds again."""
    for candidate in bpy.data.objects:
        if pointclouds.is_splats(candidate):
            candidate.update_tag(refresh={"DATA"})


def _origin(cloud: bpy.types.Object) -> object:
    """Something that stays equal while a cloud's higher harmonics are surely the same.

    They are the data's own, which change when Blender says so, unless another modifier than ours may have touched them.
    """
    ours = (pointclouds.mover_of(cloud), pointclouds.drawer_of(cloud))
    if all(modifier in ours for modifier in cloud.modifiers if modifier.show_viewport):
        return cloud.data.session_uid, _changes.get(cloud.data.session_uid, 0)
    return object()


def _pose(cloud: bpy.types.Object, view: Matrix) -> rasteriser.Pose:
    drawer = pointclouds.drawer_of(cloud)
    degree, antialiased = (
        (compat.get_modifier_input(drawer, name) for name in ("SH Degree", "Antialiased")) if drawer else (3, False)
    )
    return rasteriser.Pose(view @ cloud.matrix_world, int(degree), bool(antialiased), pointclouds.is_linear(cloud))


def _view(region: bpy.types.Region, width: int, height: int) -> View:
    """The state of a region, made anew when its size changed."""
    key = region.as_pointer()
    view = _views.get(key)
    if view is None or view.size != (width, height):
        if len(_views) > 16:  # of regions that are no more
            _views.clear()
        view = _views[key] = View((width, height))
    return view


def _wanted(points: sorting.Points, poses: Sequence[rasteriser.Pose], projection: Matrix) -> sorting.Wanted:
    perspective = projection[3][3] == 0
    near = rasteriser.near_of(projection) if perspective else -np.inf  # in parallel views it changes with every zoom
    return sorting.Wanted(points, tuple(tuple(pose.to_view[2]) for pose in poses), near, perspective)


def _redraw(
    view: View, gathered: Gathered, poses: Sequence[rasteriser.Pose], projection: Matrix, depth: gpu.types.Buffer
) -> None:
    """Draw the plate, unless it shows just that already."""
    wanted = (view.order.texture, *poses, *map(tuple, projection))
    if view.shown == wanted and view.depth is not None and np.array_equal(view.depth, depth):
        return
    occluders = gpu.types.GPUTexture(view.size, format="R32F", data=depth)
    with view.framebuffer.bind():  # type: ignore[func-returns-value]
        view.framebuffer.clear(color=(0, 0, 0, 0))
        rasteriser.draw(gathered.splats, view.order.texture, view.order.count, poses, projection, view.size, occluders)
    view.shown, view.depth = wanted, depth


def _power_law(scene: bpy.types.Scene) -> bool:
    """Whether overlays reach the screen through the exponent 1/2.2: from 5.0 on, unless told otherwise."""
    return getattr(scene.display_settings, "emulation", "OFF") == "AUTO"


def _draw_or_stop() -> None:
    """The handler: an error would come back with every redraw, so the first one ends the drawing, and points are seen."""
    global trouble
    if trouble:
        return
    try:
        _draw()
    except Exception as error:
        traceback.print_exc()
        trouble = f"{type(error).__name__}: {error}"
        print("Vivant: the viewport drawing of splats stopped; open a file, or switch Vivant off and on, to start it again.")
        bpy.app.timers.register(_show_dots)


def _show_dots() -> None:
    """Have Blender draw the dots that were hidden, and the panel say why."""
    _forget_all()
    _evaluate_anew()
    sorting.redraw_viewports()


@persistent
def _note_changes(scene: bpy.types.Scene, depsgraph: bpy.types.Depsgraph) -> None:
    """After an evaluation: these objects must be read again.

    What we draw cannot be clicked, so Blender shows the bounds of each cloud, which can.
    """
    if depsgraph.mode != "VIEWPORT" or trouble:
        return
    for update in depsgraph.updates:
        found = update.id
        if update.is_updated_geometry and isinstance(found, bpy.types.Object | bpy.types.PointCloud):
            uid = found.original.session_uid
            _changes[uid] = _changes.get(uid, 0) + 1
        if isinstance(found, bpy.types.Object) and drawable(evaluated := found.evaluated_get(depsgraph)):
            evaluated.show_bounds = True
            _hide_dots(evaluated.data)


@persistent
def _forget_all(*_: object) -> None:
    """Another file, or another state of this one: whatever was read is of objects that are no more."""
    for known in (_changes, _gathered, _views):
        known.clear()


@persistent
def _try_again(*_: object) -> None:
    """Another file may be drawn where this one could not."""
    global trouble
    trouble = ""


def _handlers() -> list[tuple[list[Any], Any]]:
    app = bpy.app.handlers
    noted = [(handlers, _note_changes) for handlers in (app.depsgraph_update_post, app.frame_change_post)]
    forgotten = [(handlers, _forget_all) for handlers in (app.load_pre, app.undo_post, app.redo_post)]
    return [*noted, *forgotten, (app.load_pre, _try_again)]


def register() -> None:
    """Draw splats in all viewports from now on; nothing to do without windows."""
    global _handle, trouble
    if bpy.app.background:
        return
    trouble = ""
    for handlers, function in _handlers():
        handlers.append(function)
    _handle = bpy.types.SpaceView3D.draw_handler_add(_draw_or_stop, (), "WINDOW", "POST_VIEW")
    bpy.app.timers.register(_evaluate_anew)  # of what is there already


def unregister() -> None:
    """Draw no more."""
    global _handle
    if _handle is None:
        return
    bpy.types.SpaceView3D.draw_handler_remove(_handle, "WINDOW")
    _handle = None
    for handlers, function in _handlers():
        handlers.remove(function)
    for timer in (_show_dots, _evaluate_anew):
        if bpy.app.timers.is_registered(timer):
            bpy.app.timers.unregister(timer)
    _forget_all()
    sorting.forget()
    rasteriser.forget()
    _evaluate_anew()


CLASSES = ()
