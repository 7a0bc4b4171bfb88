# SPDX-License-Identifier: GPL-3.0-or-later
"""Arrays on disk: a folder of .npy files, mapped when read; folders that appear complete or not at all."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import numpy as np
from numpy.typing import NDArray

from .errors import BrokenFile, VivantError

Arrays = dict[str, NDArray[Any]]

FULL = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))  # no space, file size limit, quota


def write_arrays(folder: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write each array to `folder`/NAME.npy, any shape and plain dtype; characters no file name takes are %-quoted.

    Raises OSError when the folder cannot be written or its disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        array = np.asarray(array, order="C")
        if array.dtype.hasobject:
            raise TypeError(f"array '{name}' holds Python objects; only plain numbers and strings go to a file")
        with (folder / f"{quote(name, safe=' ')}.npy").open("xb") as file:
            np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
            # One big write of the array's own memory: ndarray.tofile would hide why it failed.
            file.write(array.reshape(-1).view(np.uint8).data)


def read_arrays(folder: Path, mapped: bool) -> Arrays:
    """Every .npy file of a folder by name: mapped read-only, or read into memory (which is faster where all is used).

    Nothing is unpickled.  Raises BrokenFile for a file that is no whole array.
    """
    arrays: Arrays = {}
    for path in sorted(folder.glob("*.npy")):
        try:
            array = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise BrokenFile(f"{path.name} is no whole array: {error}.", "Run the job again.") from error
        arrays[unquote(path.stem)] = np.asarray(array)
    return arrays


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A new folder beside `path` to fill; one rename puts it at `path` at the end, or it is removed on failure.

    What lay at `path` before is replaced.
    """
    partial = path.with_name(path.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        if path.exists():
            shutil.rmtree(path)
        partial.rename(path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


@contextmanager
def disk_full_explained(folder: Path) -> Iterator[None]:
    """Turns the system's "no space left" into a VivantError that names the folder and its free space."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        free = shutil.disk_usage(folder).free / 1e6
        raise VivantError(
            f"Writing to {folder} failed: {error.strerror} ({free:,.0f} MB free).", "Free some space and try again."
        ) from error
