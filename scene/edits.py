# SPDX-License-Identifier: GPL-3.0-or-later
"""Edits of splat objects: what is gathered from Blender, and where the edited cloud goes.

Data stay in the capture's own axes, which the object's matrix puts upright.  Of splats that objects share an edit in
Object Mode gives the object its own, because it depends on where that stands; one in Edit Mode changes them for all, as
Blender's own do there.  What can take long comes in steps that say what is done: closed before
their end they have changed nothing; `common.steps.at_once` runs them to it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Sequence
from typing import TypeVar

import bpy
import numpy as np
from mathutils import Matrix, Vector
from numpy.typing import NDArray

from ..backends.common.errors import VivantError
from ..backends.common.steps import told
from ..backends.gaussian import axes
from ..backends.gaussian.cloud import SplatCloud
from ..backends.gaussian.edit import clean, colour
from ..backends.gaussian.edit.carry import transformed
from ..backends.gaussian.edit.deform import deformed, size_of
from ..backends.gaussian.edit.enclosed import inside
from ..backends.gaussian.edit.measures import between, near_colour
from ..backends.gaussian.edit.merge import merged
from ..backends.gaussian.edit.pieces import in_pieces
from ..backends.gaussian.motion import FAMILIES
from ..backends.gaussian.motion.timing import INPUTS
from . import clips, columns, compat, pointclouds, warps

Mask = NDArray[np.bool_]
Result = TypeVar("Result")
Steps = Generator[str, None, Result]

SELECTION = ".selection"
"""Blender's own attribute of what is selected in Edit Mode."""


def applying(splats: bpy.types.Object, location: bool = True, rotation: bool = True, scale: bool = True) -> Steps[None]:
    """Move parts of an object's transform into its splats; nothing moves in the scene, nor do the object's children.

    What stays on the object is the turn that puts the capture's axes upright.  Raises VivantError for a scale of zero
    and for motion that cannot be transformed.
    """
    check_editable(splats)
    if any(not constraint.mute for constraint in splats.constraints):
        raise VivantError(f"Constraints hold '{splats.name}' in place.", "Apply the constraints first: Object ▸ Apply.")
    upright = _upright(splats)
    placed = splats.matrix_world @ upright.inverted()
    place, turn, sizes = placed.decompose()
    stays = Matrix()
    if not location:
        stays @= Matrix.Translation(place)
    if not rotation:
        stays @= turn.to_matrix().to_4x4()
    if not scale:
        stays @= Matrix.Diagonal(sizes).to_4x4()
    if _singular(placed):
        raise VivantError(f"'{splats.name}' is flattened: its scale is zero along an axis.", "Give every axis a scale.")
    applied = upright.inverted() @ stays.inverted() @ placed @ upright
    cloud = yield from _piecewise("applying", splats, lambda part: transformed(part, _array(applied)))
    overwrite(splats, cloud)
    world = splats.matrix_world.copy()
    if splats.parent:  # one that is stretched shears what is in it, which place, turn and size cannot undo
        splats.matrix_parent_inverse @= splats.matrix_basis @ world.inverted()
    splats.matrix_basis = stays @ upright
    bpy.context.view_layer.update()
    for child in splats.children:
        child.matrix_parent_inverse = splats.matrix_world.inverted() @ world @ child.matrix_parent_inverse


def mirroring(splats: bpy.types.Object, axis: str, about: Sequence[float]) -> Steps[None]:
    """Mirror the splats at the plane through the point `about` (world) across the world's axis 'X', 'Y' or 'Z'.

    Raises VivantError as `applying` does.
    """
    check_editable(splats)
    if _singular(splats.matrix_world):
        raise VivantError(f"'{splats.name}' is flattened: its scale is zero along an axis.", "Give every axis a scale.")
    across = Vector([float(axis == name) for name in "XYZ"])
    flip = Matrix.Scale(-1, 4, across)
    place = Matrix.Translation(Vector(about))
    local = splats.matrix_world.inverted() @ place @ flip @ place.inverted() @ splats.matrix_world
    overwrite(splats, (yield from _piecewise("mirroring", splats, lambda part: transformed(part, _array(local)))))


def merging(target: bpy.types.Object, others: Sequence[bpy.types.Object]) -> Steps[None]:
    """Put the splats of other objects into the target, where they are in the scene, and remove those objects.

    Attributes that only some have are 0 for the splats of the others.  Raises VivantError, before anything changed, for
    clouds that move in different ways or at other times.
    """
    check_editable(target)
    facts = pointclouds.facts_of(target)
    own = pointclouds.cloud_of(target)
    clouds = [own]
    for other in others:
        check_editable(other)
        _check_timing(target, other)
        there = _array(target.matrix_world.inverted() @ other.matrix_world)
        cloud = yield from _piecewise(f"placing '{other.name}'", other, lambda part, there=there: transformed(part, there))
        clouds.append(cloud.replace(source=dataclasses.replace(cloud.source, axes=own.source.axes)))
    if own.family is None and any(cloud.family for cloud in clouds):
        raise VivantError(f"'{target.name}' does not move, but others of the splats do.", "Make the moving ones active.")
    whole = merged(clouds)
    yield "merging"
    made = pointclouds.write(whole, target.data.name)
    columns.append(made, [splats.data for splats in (target, *others)])  # type: ignore[misc]
    _take(target, made)
    target[pointclouds.KEY] = {**facts, "extras": list(whole.extras)}
    _renew_mover(target, whole)
    drawer = pointclouds.drawer_of(target)
    if drawer and whole.degree > own.degree:
        compat.set_modifier_input(drawer, "SH Degree", whole.degree)
    for other in others:
        points = other.data
        bpy.data.objects.remove(other)
        if not points.users:
            bpy.data.pointclouds.remove(points)


def recolour(
    splats: bpy.types.Object, matrix: NDArray, offset: NDArray, opacity: float = 1.0, where: Mask | bool = True
) -> None:
    """Grade display colours (`colour.recoloured`) and multiply opacities, of all splats or those of a mask (N,)."""
    check_editable(splats)
    if not np.any(where):
        raise VivantError("No splat is selected.", "Select some, or leave Edit Mode for all.")
    cloud = colour.recoloured(pointclouds.cloud_of(splats), matrix, offset, where)
    overwrite(splats, colour.faded(cloud, opacity, where))


def cropping(
    splats: bpy.types.Object, bodies: Sequence[bpy.types.Object], scene: bpy.types.Scene, keep_inside: bool = True
) -> Steps[int]:
    """Delete the splats whose centres, as they stand at the scene's frame, are outside all closed meshes (or inside any).

    Returns how many were deleted.  Raises VivantError for anything but closed meshes, and where nothing would be left.
    """
    check_editable(splats)
    within = yield from enclosed_by(splats, bodies, scene)
    return keep(splats, within if keep_inside else ~within)


def enclosed_by(splats: bpy.types.Object, bodies: Sequence[bpy.types.Object], scene: bpy.types.Scene) -> Steps[Mask]:
    """Which splats (N,) lie inside any of closed mesh objects, modifiers included, at the scene's frame."""
    if _singular(splats.matrix_world):
        raise VivantError(f"'{splats.name}' is flattened: its scale is zero along an axis.", "Give every axis a scale.")
    points, within = pointclouds.cloud_at(splats, scene).means, np.zeros(len(splats.data.points), np.bool_)
    for body in bodies:
        found = inside(points, *_surface(body, splats))
        within |= yield from told(f"looking what is in '{body.name}'", found)
    return within


def _surface(body: bpy.types.Object, splats: bpy.types.Object) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Vertices (V, 3) of a mesh object as it is evaluated, in the splats' own space, and triangles (T, 3)."""
    if body.type != "MESH":
        raise VivantError(f"'{body.name}' is no mesh.", "Select closed meshes besides the splats.")
    evaluated = body.evaluated_get(bpy.context.evaluated_depsgraph_get())
    mesh = evaluated.to_mesh()
    try:
        vertices, triangles = np.empty(len(mesh.vertices) * 3), np.empty(len(mesh.loop_triangles) * 3, np.int32)
        mesh.vertices.foreach_get("co", vertices)
        mesh.loop_triangles.foreach_get("vertices", triangles)
    finally:
        evaluated.to_mesh_clear()
    to_local = _array(splats.matrix_world.inverted() @ body.matrix_world)
    return vertices.reshape(-1, 3) @ to_local[:3, :3].T + to_local[:3, 3], triangles.reshape(-1, 3)


def deforming(splats: bpy.types.Object, deformer: bpy.types.Object) -> Steps[None]:
    """Deform the splats, with their shapes, colours by direction and paths, as an armature, lattice or cage is at this frame.

    Paths are bent to first order at each splat.  Raises VivantError for other objects, and for motion that cannot follow.
    """
    check_editable(splats)
    warp, size = warps.of(deformer, splats), size_of(pointclouds.cloud_of(splats))
    overwrite(splats, (yield from _piecewise("deforming", splats, lambda part: deformed(part, warp, size))))


def finding_flaws(splats: bpy.types.Object, limits: clean.Limits | None = None) -> Steps[dict[str, Mask]]:
    """Which splats (N,) each of `clean.KINDS` names: strays, floaters, what nobody sees, what is far too large."""
    return (yield from told("looking for flaws", clean.flaws(pointclouds.cloud_of(splats), limits)))


def keep(splats: bpy.types.Object, mask: Mask, shared: bool = False) -> int:
    """Delete all splats but those of the mask (N,), with every attribute; returns how many were deleted.

    shared: for all objects that share them, else for this one alone.
    Raises VivantError where none or every one would go.
    """
    check_editable(splats)
    if not mask.any():
        raise VivantError(f"No splat of '{splats.name}' would be left.", "Choose a larger part of them.")
    if mask.all():
        return 0
    made = compat.new_points(splats.data.name, int(mask.sum()))
    columns.copy(splats.data, made, mask)
    _take(splats, made, shared)
    return int((~mask).sum())


def measured(splats: bpy.types.Object, measure: str, low: float, high: float, scene: bpy.types.Scene) -> Mask:
    """Which splats (N,) have a measure (of `measures.MEASURES`) from low to high.

    Positions are the world's at the scene's frame; all else is the splats' own at any time, sizes without the object's scale.
    """
    cloud = pointclouds.cloud_of(splats)
    if measure in "XYZ":
        cloud, world = pointclouds.cloud_at(splats, scene), _array(splats.matrix_world)
        cloud = cloud.replace(means=cloud.means @ world[:3, :3].T + world[:3, 3])
    return between(cloud, measure, low, high)


def coloured(splats: bpy.types.Object, rgb: Sequence[float], distance: float) -> Mask:
    """Which splats (N,) have a display colour no farther than `distance` from rgb."""
    return near_colour(pointclouds.cloud_of(splats), rgb, distance)


def selection(splats: bpy.types.Object) -> Mask:
    """Which splats (N,) are selected in Edit Mode; all where nothing was ever selected."""
    attribute = splats.data.attributes.get(SELECTION)
    if attribute is None:
        return np.ones(len(splats.data.points), bool)
    return columns.read(attribute).astype(bool)


def select(splats: bpy.types.Object, mask: Mask) -> None:
    """Select the splats of a mask (N,) for Edit Mode."""
    columns.write(splats.data, SELECTION, "BOOLEAN", mask)
    splats.data.update_tag()


def _piecewise(doing: str, splats: bpy.types.Object, edit: Callable[[SplatCloud], SplatCloud]) -> Steps[SplatCloud]:
    """An object's cloud after an edit of each splat by itself."""
    return (yield from told(doing, in_pieces(pointclouds.cloud_of(splats), edit)))


def overwrite(splats: bpy.types.Object, cloud: SplatCloud) -> None:
    """Write an edited cloud of as many splats into an object; its other attributes stay."""
    check_editable(splats)
    if splats.data.users > 1 and splats.mode == "OBJECT":
        splats.data = splats.data.copy()
    pointclouds.fill(splats.data, cloud)
    facts = pointclouds.facts_of(splats)
    if facts:
        splats[pointclouds.KEY] = {**facts, "decoder": pointclouds.decoder_numbers(cloud)}
    _renew_mover(splats, cloud)
    splats.data.update_tag()


def check_editable(splats: bpy.types.Object) -> None:
    """Raises VivantError for splats of a linked library, and for those whose frames are kept in files."""
    facts = pointclouds.facts_of(splats)
    if clips.is_streamed(facts):
        raise VivantError(
            f"'{splats.name}' streams from its file, which edits do not reach.", "Import it whole by Import Splats."
        )
    if facts.get("family") and facts["family"] not in FAMILIES:
        raise VivantError(
            f"The frames of '{splats.name}' are in files, which edits do not reach.", "Press Fit to Native Motion."
        )
    if splats.library or splats.data.library:
        raise VivantError(
            f"'{splats.name}' is linked from another file.", "Make it local first: Object ▸ Relations ▸ Make Local."
        )


def _take(splats: bpy.types.Object, made: bpy.types.PointCloud, shared: bool = False) -> None:
    """Put another datablock into an object, or all that share the old one, under its name and with its materials."""
    check_editable(splats)
    old = splats.data
    for material in old.materials:
        made.materials.append(material)
    for key, value in old.items():
        made[key] = value
    if hasattr(old, "type"):
        made.type = old.type
    for user in [each for each in bpy.data.objects if each.data == old] if shared else [splats]:
        user.data = made
    if not old.users:
        name = old.name
        bpy.data.pointclouds.remove(old)
        made.name = name


def _renew_mover(splats: bpy.types.Object, cloud: SplatCloud) -> None:
    """Give the mover the group of its cloud's family as it is now: networks and waves have their own."""
    mover = pointclouds.mover_of(splats)
    if mover is None or cloud.family is None:
        return
    tree = pointclouds.FAMILY_TREES[cloud.family.name](cloud.family)
    if tree != mover.node_group:
        values = {name: compat.get_modifier_input(mover, name) for name in (*INPUTS.values(), "First Time", "Last Time")}
        mover.node_group = tree
        for name, value in values.items():
            compat.set_modifier_input(mover, name, value)


def _check_timing(target: bpy.types.Object, other: bpy.types.Object) -> None:
    movers = [pointclouds.mover_of(each) for each in (target, other)]
    if None in movers:
        return
    times = [[compat.get_modifier_input(mover, name) for name in INPUTS.values()] for mover in movers]
    if times[0] != times[1]:
        raise VivantError(
            f"'{target.name}' and '{other.name}' do not play at the same time.", "Give both the same settings under Playback."
        )


def _upright(splats: bpy.types.Object) -> Matrix:
    """The matrix that puts an object's capture upright; the identity for splats that nobody read from a file."""
    return Matrix(axes.to_blender(pointclouds.facts_of(splats).get("axes", "RFU")).tolist()).to_4x4()


def _singular(matrix: Matrix) -> bool:
    return abs(np.linalg.det(_array(matrix)[:3, :3])) < 1e-12


def _array(matrix: Matrix) -> NDArray[np.float64]:
    return np.array(matrix, np.float64)
