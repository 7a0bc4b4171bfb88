# SPDX-License-Identifier: GPL-3.0-or-later
"""Camera files in and out: COLMAP, cameras.json, transforms.json, SuperSplat's settings.json."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from ..cameras import CameraSet
from ..errors import BrokenFile, UnsupportedFormat, VivantError
from . import colmap, inria, sound, supersplat, transforms

__all__ = ["FORMATS", "camera_losses", "read_cameras", "write_cameras"]

LARGEST_JSON = 256 << 20
FORMATS = {"COLMAP": colmap.AXES, "INRIA": inria.AXES, "TRANSFORMS": transforms.AXES, "SUPERSPLAT": supersplat.AXES}
"""What `write_cameras` can write, and in which frame its coordinates stand upright."""
_ENCODERS = {"INRIA": inria, "TRANSFORMS": transforms, "SUPERSPLAT": supersplat}


def read_cameras(path: str | os.PathLike[str], size: tuple[int, int] | None = None) -> CameraSet:
    """The cameras of a file or folder, whose format is told from its content.

    path: a folder of COLMAP's (the model's, or one with sparse/0 in it), one of its files, cameras.json, transforms.json, a
    settings.json of SuperSplat's viewer, or a .splatv.  size: of the picture (width, height) where the file does not say it.
    Raises UnsupportedFormat, BrokenFile for damaged files, VivantError for files that cannot be opened.
    """
    path = Path(path)
    try:
        model = colmap.find(path)
        if model:
            return colmap.read(model)
        if path.is_dir():
            path = next((path / name for name in _NAMES if (path / name).is_file()), path)
        if path.is_dir():
            raise UnsupportedFormat(f"The folder '{path.name}' holds no cameras.", "Give cameras.bin, or a .json of cameras.")
        with path.open("rb") as file:
            magic = file.read(4)
        if magic == inria.SPLATV:
            return inria.read(inria.inside_splatv(path), path.parent)
        if magic.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] not in (b"{", b"[", b"") or path.stat().st_size > LARGEST_JSON:
            raise UnsupportedFormat(f"'{path.name}' is no camera file that Vivant knows.", _ASK)
        content = sound.parse_json(path.read_bytes(), path.name)
    except OSError as error:
        raise VivantError(
            f"'{path}' cannot be read: {error.strerror or error}.", "Check the path and its permissions."
        ) from error
    except MemoryError as error:
        raise BrokenFile(f"'{path.name}' needs more memory than there is.", "Get it from a source that you trust.") from error
    if inria.is_list(content):
        return inria.read(content, path.parent)
    if transforms.is_dict(content):
        return transforms.read(content, path.parent, size)
    if supersplat.is_dict(content):
        return supersplat.read(content, size)
    raise UnsupportedFormat(f"'{path.name}' is JSON, but holds no cameras.", _ASK)


def write_cameras(cameras: CameraSet, path: str | os.PathLike[str], form: str | None = None) -> None:
    """Write cameras: a folder for COLMAP (as text), else a file; form: one of FORMATS, by the path's name when None.

    Raises VivantError for orthographic cameras, no cameras at all, and folders that cannot be written to.
    """
    path = Path(path)
    form = form or _form_of(path)
    if form not in FORMATS:
        raise VivantError(f"There is no camera format '{form}'.", f"Give one of {', '.join(FORMATS)}.")
    if not cameras.views:
        raise VivantError("There is no camera to write.", "Add or choose one.")
    if any(view.camera.model != "perspective" for view in cameras.views):
        raise VivantError("Camera files hold no orthographic cameras.", "Set the camera's type to Perspective.")
    if form == "COLMAP":
        colmap.write(cameras, path.parent if path.suffix in (".txt", ".bin") else path)
        return
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(_ENCODERS[form].encode(cameras))
        part.replace(path)
    except OSError as error:
        raise VivantError(f"'{path}' cannot be written: {error.strerror or error}.", "Choose another folder.") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def camera_losses(cameras: CameraSet, form: str) -> tuple[str, ...]:
    """Sentences on what a format cannot hold of these cameras."""
    if not cameras.views:
        return ()
    return tuple((colmap if form == "COLMAP" else _ENCODERS[form]).losses(cameras))


_NAMES = ("transforms.json", "transforms_train.json", "cameras.json", "settings.json")
_ASK = "Give COLMAP's cameras.bin, a cameras.json, a transforms.json or the settings.json of a viewer."


def _form_of(path: Path) -> str:
    name = path.name.lower()
    if name.endswith(".json"):
        for start, form in (("cameras", "INRIA"), ("transforms", "TRANSFORMS"), ("settings", "SUPERSPLAT")):
            if name.startswith(start):
                return form
        raise VivantError(
            f"'{path.name}' does not say which format to write.", "Begin the name with cameras, transforms or settings."
        )
    return "COLMAP"
