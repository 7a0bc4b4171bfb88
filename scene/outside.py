# SPDX-License-Identifier: GPL-3.0-or-later
"""Clouds that stay in their file: the .blend keeps the object, its modifiers and where the splats are, and reads them again.

For a save every such object gets an empty datablock in place of its own, which nobody uses then and Blender therefore does not
write; after the save, also one that failed, it has its own again.  So nothing is copied and nothing can be lost: splats
that are no longer those of their file stay in the .blend, and recovery files of Blender hold all of them.
"""

from __future__ import annotations

import os
import sys
import zlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bpy
from bpy.app.handlers import persistent

from ..backends.common.errors import VivantError
from ..backends.gaussian.cloud import SplatCloud
from . import clips, columns, compat, playback, pointclouds

FACT = "outside"
"""The entry of an object's facts that says where its splats are: path, bytes, time and fingerprint of the file, the overrides
it is read with, the digest of the attributes that it gave; edited, where the .blend holds them all the same."""
NOTE = "vivant_outside"
"""The property that says it to people without Vivant."""

trouble: dict[str, str] = {}  # object -> why its splats cannot be had, for the panel


@dataclass(eq=False)
class _Taken:
    """A datablock that is out of the file while that is written, the empty one in its place, and their objects."""

    points: bpy.types.PointCloud
    name: str
    empty: bpy.types.PointCloud
    users: list[bpy.types.Object]


_taken: list[_Taken] = []
_places: dict[str, Path] = {}  # object -> its file, while another .blend than the open one is written


def is_kept(splats: bpy.types.Object | None) -> bool:
    """Whether an object's splats are kept outside of the .blend."""
    return splats is not None and splats.type == "POINTCLOUD" and bool(pointclouds.facts_of(splats).get(FACT))


def is_edited(splats: bpy.types.Object) -> bool:
    """Whether they were no longer those of the file when the .blend was saved, so that it holds them after all."""
    return bool(pointclouds.facts_of(splats).get(FACT, {}).get("edited"))


def is_missing(splats: bpy.types.Object) -> bool:
    """Whether an object waits for its splats."""
    return is_kept(splats) and not len(splats.data.points)


def place_of(splats: bpy.types.Object) -> Path:
    """The file or folder that a kept object's splats are in."""
    override = splats.override_library
    library = splats.library or (override.reference.library if override else None)
    return Path(bpy.path.abspath(pointclouds.facts_of(splats)[FACT]["path"], library=library)).absolute()


def origin_of(splats: bpy.types.Object) -> Path:
    """The file or folder that an object was imported from.  Raises VivantError for one that comes from none."""
    path = pointclouds.facts_of(splats).get("path")
    if not path:
        raise VivantError(f"'{splats.name}' comes from no file.", "Press Save Outside to write one.")
    return Path(bpy.path.abspath(path)).absolute()


def bytes_of(splats: bpy.types.Object) -> int:
    """Bytes of an object's attributes that the .blend does not hold, because they are kept outside."""
    return 0 if not is_kept(splats) or is_edited(splats) else columns.bytes_of(splats.data)


def read(path: Path, overrides: Mapping[str, Any]) -> SplatCloud:
    """The cloud of a file that is read with overrides, as `Overrides.told` gives them.  Threads may call it.

    Raises VivantError where it is gone or broken.
    """
    from ..backends.gaussian.formats import Overrides, read_splats  # not before it is needed: Blender starts with this module

    if not path.exists():
        raise VivantError(f"'{path.name}' is gone: its splats cannot be shown.", "Put it back, or press Find File.")
    return read_splats(path, Overrides.of(overrides))


def keep(splats: bpy.types.Object, cloud: SplatCloud | None = None) -> None:
    """Keep an object's splats, and those of all objects that share them, in the file that they were imported from.

    cloud: that file, where it was read already.  Raises VivantError where the file's splats are not those of the object.
    """
    path, facts = origin_of(splats), pointclouds.facts_of(splats)
    overrides = facts.get("overrides", {})
    cloud = cloud or read(path, overrides)
    _check(splats)
    given = pointclouds.write(pointclouds.shown_first(cloud), splats.data.name)
    digest = digest_of(given)
    bpy.data.pointclouds.remove(given)
    if not playback.is_played(splats) and digest != digest_of(splats.data):
        raise VivantError(
            f"'{splats.name}' was edited since it was imported, so its file holds something else.",
            "Press Save Outside to write it to a file of its own.",
        )
    _note(splats, path, overrides, digest)


def save(splats: bpy.types.Object, path: Path) -> None:
    """Write an object's splats to a PLY file beside the .blend or anywhere, and keep them there from now on.

    Raises VivantError for splats whose frames are in files anyway, for attributes that are no splats', and where it cannot be
    written.
    """
    from ..backends.gaussian.formats import losses, write_splats

    _check(splats)
    if playback.is_played(splats):
        raise VivantError(f"The frames of '{splats.name}' are in files already.", "Press Keep Outside .blend.")
    if path.suffix.lower() != ".ply" or path.name.lower().endswith(".compressed.ply"):
        raise VivantError(f"'{path.name}' would lose precision.", "Give a name that ends with .ply.")
    cloud = pointclouds.cloud_of(splats)
    foreign = set(_names(splats.data)) - set(_names(written := pointclouds.write(cloud, splats.data.name)))
    bpy.data.pointclouds.remove(written)
    if foreign:
        raise VivantError(f"No splat file holds the attribute '{min(foreign)}' of '{splats.name}'.", "Remove it first.")
    # The numbers go as they are, in the frame of PLY by name: nothing is turned, and the object's matrix stays right.
    plain = cloud.replace(source=pointclouds.Source(axes="RDF", antialiased=cloud.source.antialiased))
    if lost := losses(plain, path):
        raise VivantError(lost[0], "It stays in the .blend.")
    write_splats(plain, path)
    overrides = {} if cloud.source.axes == plain.source.axes else {"axes": cloud.source.axes}
    back = read(path, overrides)
    pointclouds.fill(splats.data, back)
    splats.data.update_tag()
    for user in _users(splats.data):
        user[pointclouds.KEY]["path"], user[pointclouds.KEY]["format"] = str(path), back.source.format
        user[pointclouds.KEY]["extras"], user[pointclouds.KEY]["overrides"] = list(back.extras), overrides
    _note(splats, path, overrides, digest_of(splats.data))


def bring_in(splats: bpy.types.Object) -> None:
    """Keep an object's splats in the .blend again, from the next save on.  Raises VivantError while they are not there."""
    if is_missing(splats):
        raise VivantError(f"The splats of '{splats.name}' are not there.", "Press Find File first.")
    for user in _users(splats.data):
        if is_kept(user):
            del user[pointclouds.KEY][FACT]
            del user[NOTE]
        trouble.pop(user.name, None)


def find(splats: bpy.types.Object, path: Path, cloud: SplatCloud | None = None) -> None:
    """Take a kept object's splats from another file, or from its own as that is now.

    cloud: that file, where it was read already.  Raises VivantError where it cannot be read or moves in another way.
    """
    facts = pointclouds.facts_of(splats)
    cloud = cloud or read(path, facts[FACT]["overrides"])
    moves = cloud.family.name if cloud.family else ""
    if moves != facts["moves_by"]:
        raise VivantError(
            f"'{path.name}' moves in another way than '{splats.name}' ({moves or 'not at all'}).", "Import it as a new object."
        )
    users = _users(splats.data)
    points = _give(splats.data, cloud, users)
    for user in users:
        user[pointclouds.KEY]["path"], user[pointclouds.KEY]["extras"] = str(path), list(cloud.extras)
    _note(splats, path, facts[FACT]["overrides"], digest_of(points))
    playback.forget(splats)


def reload(splats: bpy.types.Object) -> None:
    """Read a kept object's splats again.  Raises VivantError where the file is gone, broken or changed."""
    told, path = pointclouds.facts_of(splats)[FACT], place_of(splats)
    cloud = read(path, told["overrides"])
    if stamp(path) != {name: told[name] for name in ("bytes", "time")} and fingerprint(path) != told["fingerprint"]:
        raise VivantError(
            f"'{path.name}' is not what it was when '{splats.name}' was saved.",
            "Put the old file back, or press Take New Version.",
        )
    users = _users(splats.data)
    points = _give(splats.data, cloud, users)
    for user in users:
        user[pointclouds.KEY][FACT]["digest"] = digest_of(points)
        trouble.pop(user.name, None)


def reload_all() -> None:
    """Read the splats of every kept object that waits for them; `trouble` says of which they cannot be had, and why."""
    for splats in [candidate for candidate in bpy.data.objects if is_missing(candidate)]:
        if not is_missing(splats) or (splats.library and not splats.users_collection):
            continue  # came with another object that shares them, or is only what an override refers to
        try:
            reload(splats)
        except VivantError as error:
            trouble[splats.name] = str(error)
            print(f"Vivant: {splats.name} is empty. {error}", file=sys.stderr, flush=True)


def stamp(path: Path) -> dict[str, float]:
    """Bytes and time of the last change of the files that a scene is read from."""
    from ..backends.gaussian.cache_writer import sources

    found = [file.stat() for file in sources(path)]
    return {"bytes": float(sum(one.st_size for one in found)), "time": max((one.st_mtime for one in found), default=0.0)}


def fingerprint(path: Path) -> str:
    """What those files hold, all of it."""
    from ..backends.gaussian import cache_writer

    return cache_writer.fingerprint(cache_writer.sources(path), True)


def digest_of(points: bpy.types.PointCloud) -> str:
    """A number for all attributes of a datablock but Blender's own, such as what is selected."""
    found = [
        (name, points.attributes[name].data_type, zlib.crc32(columns.read(points.attributes[name]))) for name in _names(points)
    ]
    return f"{len(points.points)}-{zlib.crc32(repr(found).encode()):08x}"


def _names(points: bpy.types.PointCloud) -> list[str]:
    return sorted(one.name for one in points.attributes if not one.name.startswith("."))


def _users(points: bpy.types.PointCloud) -> list[bpy.types.Object]:
    """The objects of a datablock; of a linked one those of this file, if there are any."""
    users = [candidate for candidate in bpy.data.objects if candidate.data == points]
    return [user for user in users if not user.library] or users


def _check(splats: bpy.types.Object) -> None:
    """Raises VivantError where an object's data are not this file's to keep."""
    if splats.library or splats.data.library:
        raise VivantError(
            f"'{splats.name}' is linked from another file.", "Make it local first: Object ▸ Relations ▸ Make Local."
        )
    if clips.is_streamed(pointclouds.facts_of(splats)):
        raise VivantError(f"'{splats.name}' streams from its file: the .blend holds but a moment of it.", "Keep it as it is.")
    if splats.mode != "OBJECT":
        raise VivantError(f"'{splats.name}' is being edited.", "Leave Edit Mode first.")
    if not len(splats.data.points):
        raise VivantError(f"The splats of '{splats.name}' are not there.", "Press Find File first.")


def _note(splats: bpy.types.Object, path: Path, overrides: Mapping[str, Any], digest: str) -> None:
    told = {"overrides": overrides, "digest": digest, "fingerprint": fingerprint(path)}
    for user in _users(splats.data):
        user[pointclouds.KEY][FACT] = told | stamp(path)
        _point(user, path, bpy.data.filepath)
        trouble.pop(user.name, None)


def _point(splats: bpy.types.Object, path: Path, blend: str) -> None:
    """Say, as a .blend there should, where an object's splats are."""
    text = splats[pointclouds.KEY][FACT]["path"] = _relative(path, blend)
    splats[NOTE] = f"The splats are in {text}. The extension Vivant shows them."


def _relative(path: Path, blend: str) -> str:
    """A path as a .blend should name it: from its own folder on, where that is on the same drive."""
    with suppress(ValueError):
        if blend:
            return "//" + Path(os.path.relpath(path, Path(blend).absolute().parent)).as_posix()
    return str(path)


def _give(old: bpy.types.PointCloud, cloud: SplatCloud, users: Iterable[bpy.types.Object]) -> bpy.types.PointCloud:
    """Put a cloud in the place of a datablock.  Returns the datablock that holds it.

    Raises VivantError for linked objects, which nothing of this file can be given to; overrides of them are of this file.
    """
    if linked := next((user for user in users if user.library), None):
        raise VivantError(
            f"'{linked.name}' is linked, and its splats are kept outside of '{Path(linked.library.filepath).name}'.",
            "Choose Object ▸ Library Override ▸ Make, or append it.",
        )
    made = pointclouds.write(pointclouds.shown_first(cloud), old.name)
    _dress(made, old)
    for user in users:
        user.data = made
    if not old.users and not old.library:
        name = old.name
        bpy.data.pointclouds.remove(old)
        made.name = name
    return made


def _dress(made: bpy.types.PointCloud, old: bpy.types.PointCloud) -> None:
    """Give a datablock what is not splats of another: objects lose the materials of slots that their data have not."""
    for material in old.materials:
        made.materials.append(material)
    for key, value in old.items():
        made[key] = value
    if hasattr(old, "type"):
        made.type = old.type


def _movable(points: bpy.types.PointCloud, users: list[bpy.types.Object]) -> bool:
    """Whether a datablock may be left out of the file: every user is a kept object that shows just what its file gives."""
    mapped: Any = bpy.data.user_map(subset={points})[points]
    if mapped - set(users) or not all(map(is_kept, users)) or points.animation_data:
        return False
    return all(user.mode == "OBJECT" for user in users)


@persistent
def _take_out(target: str = "", *_: object) -> None:
    """A save begins: what is in files goes out, and paths are those from the new file's folder."""
    _put_back()
    kept = [candidate for candidate in bpy.data.objects if is_kept(candidate) and not candidate.library]
    for splats in kept:
        if not splats.override_library:
            _places[splats.name] = place_of(splats)
            _point(splats, _places[splats.name], target)
    for points in {splats.data for splats in kept}:
        users = _users(points)
        if points.library or not len(points.points):
            continue
        told = pointclouds.facts_of(users[0]).get(FACT, {})
        same = playback.is_played(users[0]) or told.get("digest") == digest_of(points)
        for user in filter(is_kept, users):
            user[pointclouds.KEY][FACT]["edited"] = not same
        if same and _movable(points, users):
            _taken.append(_empty_in_place_of(points, users))


def _empty_in_place_of(points: bpy.types.PointCloud, users: list[bpy.types.Object]) -> _Taken:
    name, override = points.name, users[0].override_library
    if override:  # of an object whose own datablock is as empty
        empty = override.reference.data
    else:
        empty = bpy.data.pointclouds.new(name)
        empty.attributes.new(pointclouds.BASE, compat.FOUR_FLOATS, "POINT")  # splats, though none
        _dress(empty, points)
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
        if (splats := bpy.data.objects.get(name)) and is_kept(splats):
            _point(splats, path, bpy.data.filepath)
    _places.clear()


@persistent
def _load(*_: object) -> None:
    """Another file is open."""
    trouble.clear()
    reload_all()


@persistent
def _imported(found: Any, *_: object) -> None:
    """Objects came from another .blend: paths are those from its folder."""
    for item in found.import_items:
        splats = item.id
        if isinstance(splats, bpy.types.Object) and not splats.library and is_kept(splats) and not splats.override_library:
            folder = str(Path(bpy.path.abspath(item.source_library.filepath)).parent)
            path = bpy.path.abspath(pointclouds.facts_of(splats)[FACT]["path"], start=folder)
            _point(splats, Path(path).absolute(), bpy.data.filepath)
    reload_all()


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
