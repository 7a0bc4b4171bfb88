# SPDX-License-Identifier: GPL-3.0-or-later
"""Clips as plain arrays, for the engine's jobs; and as .npz files, which keep every number exactly."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...common.errors import BrokenFile, UnsupportedFormat, VivantError
from ..clip import Clip
from .bvh import read_bvh

Arrays = Mapping[str, NDArray[Any]]

FIELDS = ("names", "parents", "offsets", "fps", "rotations", "root")
TRANSLATION = "translation:"  # and the joint's number


def to_arrays(clip: Clip) -> dict[str, NDArray[Any]]:
    """The clip's fields by name, with `rest` where it has one and `translation:J` for each joint that travels."""
    arrays = {name: np.asarray(getattr(clip, name)) for name in FIELDS}
    arrays["names"] = np.array(list(clip.names), np.str_)
    if clip.rest is not None:
        arrays["rest"] = np.asarray(clip.rest)
    return arrays | {f"{TRANSLATION}{joint}": values for joint, values in clip.translations.items()}


def from_arrays(arrays: Arrays) -> Clip:
    """The clip of `to_arrays`; arrays of other names are left alone.

    Raises BrokenFile when one is missing, VivantError when they do not belong together.
    """
    if absent := [name for name in FIELDS if name not in arrays]:
        raise BrokenFile(f"A clip needs an array '{absent[0]}'.")
    translations = {int(name[len(TRANSLATION) :]): arrays[name] for name in arrays if name.startswith(TRANSLATION)}
    fields: dict[str, Any] = {name: arrays[name] for name in FIELDS}
    fields |= {"names": arrays["names"].tolist(), "fps": float(arrays["fps"])}
    return Clip(**fields, rest=arrays.get("rest"), translations=translations)


def write_clip(clip: Clip, path: str | os.PathLike[str], **more: NDArray[Any]) -> None:
    """Write a clip, and arrays beside it, as .npz.  Raises VivantError for a place that cannot be written."""
    path = Path(path)
    partial = path.with_name(f"{path.name}.partial")
    arrays: dict[str, Any] = to_arrays(clip) | more
    try:
        with partial.open("wb") as file:
            np.savez_compressed(file, **arrays)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise VivantError(f"{path.name} cannot be written: {error.strerror}.", "Choose another folder.") from error


def read_arrays(path: str | os.PathLike[str]) -> dict[str, NDArray[Any]]:
    """All arrays of an .npz file; nothing is unpickled.

    Raises BrokenFile for a damaged file, VivantError for one that cannot be opened.
    """
    path = Path(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except OSError as error:
        raise VivantError(f"{path.name} cannot be read: {error.strerror or error}.") from error
    except (ValueError, EOFError, zipfile.BadZipFile, KeyError, AttributeError) as error:
        raise BrokenFile(f"{path.name} is no whole .npz file ({error}).", "Write it again.") from error


def read_clip(path: str | os.PathLike[str]) -> Clip:
    """The clip of an .npz file by `write_clip`, or of a BVH file.

    Raises UnsupportedFormat for other files, BrokenFile for damaged ones, VivantError for one that cannot be opened.
    """
    path = Path(path)
    match path.suffix.lower():
        case ".npz":
            try:
                return from_arrays(read_arrays(path))
            except (BrokenFile, ValueError, TypeError) as error:
                raise BrokenFile(f"{path.name} holds no clip: {error}", "Write it again.") from error
        case ".bvh":
            return read_bvh(path)
    raise UnsupportedFormat(f"{path.name} is no motion file that Vivant reads.", "Give it as .bvh or .npz.")
