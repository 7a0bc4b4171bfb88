# SPDX-License-Identifier: GPL-3.0-or-later
"""Clouds that stay in their file: the .blend keeps the object, its modifiers and where the splats are, and reads them again.

Here they are kept, found and read; `outside_saves` leaves them out of every .blend that is saved.
"""

from __future__ import annotations

import os
import sys
import zlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bpy

from ..backends.common.errors import VivantError
from ..backends.gaussian.cloud import SplatCloud
from . import clips, columns, exports, playback, pointclouds

FACT = "outside"
"""The entry of an object's facts that says where its splats are: path, bytes, time and fingerprint of the file, the overrides
it is read with, the digest of the attributes that it gave; edited, where the .blend holds them all the same."""
NOTE = "vivant_outside"
"""The property that says it to people without Vivant."""

trouble: dict[str, str] = {}  # object -> why its splats cannot be had, for the panel


def is_kept(splats: bpy.types.Object | None) -> bool:
    """Whether an object's splats are kept outside of the .blend."""
    return splats is not None and splats.type == "POINTCLOUD" and bool(pointclouds.facts_of(splats).get(FACT))


def is_edited(splats: bpy.types.Object) -> bool:
    """Whether they were no longer those of the file when the .blend was saved, so that it holds them after all."""
    return bool(pointclouds.facts_of(splats).get(FACT, {}).get("edited"))


def is_missing(splats: bpy.types.Object) -> bool:
    """Whether an object waits for its splats."""
    return is_kept(splats) and not len(splats.data.points)


def reason(splats: bpy.types.Object) -> str:
    """Why an object waits for its splats."""
    return trouble.get(splats.name, f"The splats in '{place_of(splats).name}' were not read yet.")


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


@dataclass(frozen=True)
class Written:
    """A PLY file of an object's splats: how it is read, the cloud that comes back, the digest of what it was written from."""

    path: Path
    overrides: dict[str, Any]
    cloud: SplatCloud
    digest: str


def save(splats: bpy.types.Object, path: Path) -> None:
    """Write an object's splats to a PLY file beside the .blend or anywhere, and keep them there from now on.

    Raises VivantError for splats whose frames are in files anyway, for attributes that are no splats', and where it cannot be
    written.
    """
    take_saved(splats, writing(splats, path)(lambda done, total: None))


def writing(splats: bpy.types.Object, path: Path) -> Callable[[Callable[[int, int], None]], Written]:
    """What writes an object's splats as they are now, in a thread if need be, and is told of progress by what it is given.

    Raises VivantError as `save`; the file appears when it is complete, and not at all where the progress raises.
    """
    from ..backends.gaussian.formats import losses

    _check(splats)
    if playback.is_played(splats):
        raise VivantError(f"The frames of '{splats.name}' are in files already.", "Press Keep Outside .blend.")
    if path.suffix.lower() != ".ply" or path.name.lower().endswith(".compressed.ply"):
        raise VivantError(f"'{path.name}' would lose precision.", "Give a name that ends with .ply.")
    cloud, digest = pointclouds.cloud_of(splats), digest_of(splats.data)
    foreign = set(_names(splats.data)) - set(_names(made := pointclouds.write(cloud, splats.data.name)))
    bpy.data.pointclouds.remove(made)
    if foreign:
        raise VivantError(f"No splat file holds the attribute '{min(foreign)}' of '{splats.name}'.", "Remove it first.")
    # The numbers go as they are, in the frame of PLY by name: nothing is turned, and the object's matrix stays right.
    plain = cloud.replace(source=pointclouds.Source(axes="RDF", antialiased=cloud.source.antialiased))
    if lost := losses(plain, path):
        raise VivantError(lost[0], "It stays in the .blend.")
    overrides = {} if cloud.source.axes == plain.source.axes else {"axes": cloud.source.axes}

    def write(done: Callable[[int, int], None]) -> Written:
        exports.save(plain, path, "", done)
        return Written(path, overrides, read(path, overrides), digest)

    return write


def take_saved(splats: bpy.types.Object, written: Written) -> None:
    """Keep an object's splats in the file that they were written to.  Raises VivantError where they were edited since."""
    if digest_of(splats.data) != written.digest:
        raise VivantError(f"'{splats.name}' was edited while it was written.", "Press Save Outside again.")
    pointclouds.fill(splats.data, written.cloud)
    splats.data.update_tag()
    for user in users_of(splats.data):
        user[pointclouds.KEY]["path"], user[pointclouds.KEY]["format"] = str(written.path), written.cloud.source.format
        user[pointclouds.KEY]["extras"], user[pointclouds.KEY]["overrides"] = list(written.cloud.extras), written.overrides
    _note(splats, written.path, written.overrides, digest_of(splats.data))


def bring_in(splats: bpy.types.Object) -> None:
    """Keep an object's splats in the .blend again, from the next save on.  Raises VivantError while they are not there."""
    if is_missing(splats):
        raise VivantError(f"The splats of '{splats.name}' are not there.", "Press Find File first.")
    for user in users_of(splats.data):
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
    users = users_of(splats.data)
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
    users = users_of(splats.data)
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


def users_of(points: bpy.types.PointCloud) -> list[bpy.types.Object]:
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
    for user in users_of(splats.data):
        user[pointclouds.KEY][FACT] = told | stamp(path)
        point_to(user, path, bpy.data.filepath)
        trouble.pop(user.name, None)


def point_to(splats: bpy.types.Object, path: Path, blend: str) -> None:
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
    dress(made, old)
    for user in users:
        user.data = made
    if not old.users and not old.library:
        name = old.name
        bpy.data.pointclouds.remove(old)
        made.name = name
    return made


def dress(made: bpy.types.PointCloud, old: bpy.types.PointCloud) -> None:
    """Give a datablock what is not splats of another: objects lose the materials of slots that their data have not."""
    for material in old.materials:
        made.materials.append(material)
    for key, value in old.items():
        made[key] = value
    if hasattr(old, "type"):
        made.type = old.type
