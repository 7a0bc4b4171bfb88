# SPDX-License-Identifier: GPL-3.0-or-later
"""Leaves out of every .blend that is saved what is kept outside of it, and reads it into every one that is opened.

For a save every such object gets an empty datablock in place of its own, which nobody uses then and Blender therefore does not
write; after the save, also one that failed, it has its own again.  So nothing is copied and nothing can be lost: splats
that are no longer those of their file stay in the .blend, and recovery files of Blender hold all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bpy
from bpy.app.handlers import persistent

from . import compat, outside, playback, pointclouds


@dataclass(eq=False)
class _Taken:
    """A datablock that is out of the file while that is written, the empty one in its place, and their objects."""

    points: bpy.types.PointCloud
    name: str
    empty: bpy.types.PointCloud
    users: list[bpy.types.Object]


_taken: list[_Taken] = []
_places: dict[str, Path] = {}  # object -> its file, while another .blend than the open one is written


def _movable(points: bpy.types.PointCloud, users: list[bpy.types.Object]) -> bool:
    """Whether a datablock may be left out of the file: every user is a kept object that shows just what its file gives."""
    mapped: Any = bpy.data.user_map(subset={points})[points]
    if mapped - set(users) or not all(map(outside.is_kept, users)) or points.animation_data:
        return False
    return all(user.mode == "OBJECT" for user in users)


@persistent
def _take_out(target: str = "", *_: object) -> None:
    """A save begins: what is in files goes out, and paths are those from the new file's folder."""
    _put_back()
    kept = [candidate for candidate in bpy.data.objects if outside.is_kept(candidate) and not candidate.library]
    for splats in kept:
        if not splats.override_library:
            _places[splats.name] = outside.place_of(splats)
            outside.point_to(splats, _places[splats.name], target)
    for points in {splats.data for splats in kept}:
        users = outside.users_of(points)
        if points.library or not len(points.points):
            continue
        told = pointclouds.facts_of(users[0]).get(outside.FACT, {})
        same = playback.is_played(users[0]) or told.get("digest") == outside.digest_of(points)
        for user in filter(outside.is_kept, users):
            user[pointclouds.KEY][outside.FACT]["edited"] = not same
        if same and _movable(points, users):
            _taken.append(_empty_in_place_of(points, users))


def _empty_in_place_of(points: bpy.types.PointCloud, users: list[bpy.types.Object]) -> _Taken:
    name, override = points.name, users[0].override_library
    if override:  # of an object whose own datablock is as empty
        empty = override.reference.data
    else:
        empty = bpy.data.pointclouds.new(name)
        empty.attributes.new(pointclouds.BASE, compat.FOUR_FLOATS, "POINT")  # splats, though none
        outside.dress(empty, points)
    for user in users:
        user.data = empty
    points.use_fake_user = False
    if not override:
        points.name = f"{name} outside"[:63]
        empty.name = name
    return _Taken(points, name, empty, users)


@persistent
def _put_back(*_: object) -> None:
    """A save ended, well or not."""
    for taken in _taken:
        for user in taken.users:
            user.data = taken.points
        if not taken.empty.library:
            bpy.data.pointclouds.remove(taken.empty)
            taken.points.name = taken.name
    _taken.clear()
    for name, path in _places.items():
        if (splats := bpy.data.objects.get(name)) and outside.is_kept(splats):
            outside.point_to(splats, path, bpy.data.filepath)
    _places.clear()


@persistent
def _load(*_: object) -> None:
    """Another file is open."""
    outside.trouble.clear()
    outside.reload_all()


@persistent
def _imported(found: Any, *_: object) -> None:
    """Objects came from another .blend: paths are those from its folder."""
    for item in found.import_items:
        splats = item.id
        if (
            isinstance(splats, bpy.types.Object)
            and not splats.library
            and outside.is_kept(splats)
            and not splats.override_library
        ):
            folder = str(Path(bpy.path.abspath(item.source_library.filepath)).parent)
            path = bpy.path.abspath(pointclouds.facts_of(splats)[outside.FACT]["path"], start=folder)
            outside.point_to(splats, Path(path).absolute(), bpy.data.filepath)
    outside.reload_all()


def _handlers() -> list[tuple[list[Any], Any]]:
    app = bpy.app.handlers
    found = [(app.save_pre, _take_out), (app.save_post, _put_back), (app.save_post_fail, _put_back)]
    return [*found, (app.load_post, _load), (app.blend_import_post, _imported)]


def register() -> None:
    """Keep files' splats out of every .blend that is saved, and read them into every one that is opened."""
    for handlers, function in _handlers():
        handlers.append(function)
    if not bpy.app.background:
        bpy.app.timers.register(_load)  # of the file that is open already


def unregister() -> None:
    """Save everything with the .blend from now on; what is in memory stays."""
    _put_back()
    for handlers, function in _handlers():
        handlers.remove(function)
    if bpy.app.timers.is_registered(_load):
        bpy.app.timers.unregister(_load)


CLASSES = ()
