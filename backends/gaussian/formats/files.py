# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole files from and to disk: bytes placed where floats may begin, names that appear when their content is complete."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ...common.errors import VivantError
from . import ply_header
from .ply_header import Bytes


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns what can go wrong with the disk or the memory into a sentence about that path."""
    try:
        yield
    except OSError as error:
        raise VivantError(
            f"'{path.name}' cannot be read: {error.strerror or error}.", "Check the path and its permissions."
        ) from error
    except MemoryError as error:
        raise VivantError(
            f"'{path.name}' needs more memory than there is.", "Close other programs or take a smaller file."
        ) from error


def load(path: Path, most: int | None = None) -> Bytes:
    """All bytes of a file, or its first `most`, placed so that the rows of a PLY begin where floats may."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        size = size if most is None else min(size, most)
        head = file.read(min(size, ply_header.LONGEST_HEADER))
        end = head.find(b"end_header") if ply_header.is_ply(head) else -1
        shift = -(head.find(b"\n", end) + 1) % 16 if end >= 0 else 0
        data = np.empty(shift + size, np.uint8)[shift:]
        data[: len(head)] = np.frombuffer(head, np.uint8)
        filled = len(head)
        while filled < size and (read := file.readinto(memoryview(data)[filled:])):
            filled += read
    return data[:filled]


def view(path: Path) -> Bytes:
    """The bytes of a file without reading them all; none for a folder."""
    if path.is_dir() or not path.stat().st_size:
        return np.empty(0, np.uint8)
    return np.memmap(path, np.uint8, "r")


@contextlib.contextmanager
def saving(path: Path) -> Iterator[BinaryIO]:
    """A file to fill, which appears at `path`, or replaces another, when it is complete.

    Raises VivantError where the folder cannot be written to.
    """
    part = path.with_name(f".{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            yield file
        part.replace(path)
    except OSError as error:
        raise VivantError(
            f"'{path}' cannot be written: {error.strerror or error}.", "Choose another folder or name."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def save(path: Path, pieces: Iterable[Any]) -> None:
    """Write bytes and arrays one after the other; raises what `saving` does."""
    with saving(path) as file:
        for piece in pieces:
            file.write(piece)


@contextlib.contextmanager
def all_or_none(path: Path) -> Iterator[Path]:
    """A path of the same name in a folder beside it, whose files take their places at the end, or vanish after an error.

    Raises VivantError where the folder cannot be written to.
    """
    try:
        with tempfile.TemporaryDirectory(prefix=".vivant-", dir=path.parent) as folder:
            yield Path(folder) / path.name
            for file in sorted(Path(folder).iterdir()):
                file.replace(path.parent / file.name)
    except OSError as error:
        raise VivantError(
            f"'{path}' cannot be written: {error.strerror or error}.", "Choose another folder or name."
        ) from error
