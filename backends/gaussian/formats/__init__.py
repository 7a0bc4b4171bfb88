# SPDX-License-Identifier: GPL-3.0-or-later
"""Splat files in and out: `read_splats` and `write_splats`, one module a format.

Every format is a module with NAME, `decode(bytes of the file) -> SplatCloud` and `encode(cloud) ->
pieces of the file`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ...common.errors import BrokenFile, UnsupportedFormat, VivantError
from ..cloud import SplatCloud
from ..motion.stg import Stg
from . import compressed_ply, compression, foreign, ply, ply_header, splat, splatv, spz
from .ply_header import Bytes


class Format(Protocol):
    """What the module of a format offers."""

    NAME: str

    def decode(self, data: Bytes) -> SplatCloud: ...

    def encode(self, cloud: SplatCloud) -> Sequence[Any]: ...


_BY_EXTENSION: dict[str, Format] = {
    ".compressed.ply": compressed_ply,
    ".ply": ply,
    ".splat": splat,
    ".spz": spz,
    ".splatv": splatv,
}
EXTENSIONS = tuple(_BY_EXTENSION)
"""What `write_splats` can write, by the end of a file's name."""


def read_splats(path: str | os.PathLike[str]) -> SplatCloud:
    """The cloud in a file, whose format is told from its content: PLY, compressed PLY, .splat, .spz, .splatv, or gzip of one.

    Arrays are in the file's own frame (`source.axes`); what was mended is counted in `source.repairs`.
    Raises UnsupportedFormat that names what the file is instead, BrokenFile for damaged files, VivantError
    for files that cannot be opened.
    """
    path = Path(path)
    try:
        cloud = decode(_load(path), path.suffix.lower())
    except OSError as error:
        raise VivantError(
            f"'{path.name}' cannot be read: {error.strerror or error}.", "Check the path and its permissions."
        ) from error
    except MemoryError as error:
        raise VivantError(
            f"'{path.name}' needs more memory than there is.", "Close other programs or take a smaller file."
        ) from error
    return dataclasses.replace(cloud, source=dataclasses.replace(cloud.source, path=str(path)))


def write_splats(cloud: SplatCloud, path: str | os.PathLike[str]) -> None:
    """Write a cloud in the format that the file's name ends with, one of EXTENSIONS.

    A cloud that was read from the same format and not changed gives the same file, byte for byte.  The
    file appears when it is complete.  Raises VivantError for other names, for folders that cannot be
    written to, and for moving clouds in formats that cannot hold their motion; `losses` tells beforehand
    what a format cannot hold.
    """
    path = Path(path)
    form = _format_of(path)
    if cloud.family and not (isinstance(cloud.family, Stg) and form in (ply, splatv)):
        raise VivantError(
            f"A {form.NAME} file cannot hold motion of the family {cloud.family.name}.",
            "Write the still cloud.at(time), or give spacetime Gaussians a name that ends with .splatv or .ply.",
        )
    same = cloud.source.encoded is not None and cloud.source.format == form.NAME
    pieces = [cloud.source.encoded] if same else form.encode(cloud)
    part = path.with_name(f".{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            for piece in pieces:
                file.write(piece)
        part.replace(path)
    except OSError as error:
        raise VivantError(
            f"'{path}' cannot be written: {error.strerror or error}.", "Choose another folder or name."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def losses(cloud: SplatCloud, path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Sentences on what the format of that name cannot hold of a cloud; none for one that writes as it was read."""
    form = _format_of(Path(path))
    if cloud.source.encoded is not None and cloud.source.format == form.NAME:
        return ()
    found = []
    if cloud.degree and (form in (splat, splatv) or cloud.family):
        found.append(f"Spherical harmonics are not written: {form.NAME} files like this one hold one colour a splat.")
    if cloud.extras and form is not ply:
        found.append(f"{len(cloud.extras)} extra columns are not written: only PLY holds them.")
    if form is spz and np.abs(cloud.sh[:, 1:]).max(initial=0) > 1:
        found.append("Spherical harmonics beyond -1 to 1 are clipped: SPZ holds no others.")
    return tuple(found)


def decode(data: Bytes, suffix: str = "") -> SplatCloud:
    """The cloud in the bytes of a file; `suffix` is asked only where the bytes leave doubt."""
    if data[:2].tobytes() == compression.GZIP and compression.gunzip(data, len(spz.MAGIC)).tobytes() != spz.MAGIC:
        most = compression.most_unpacked(len(data))
        data = compression.gunzip(data, most + 1)
        if len(data) > most:
            raise BrokenFile("The gzip file unpacks to far more than a capture would.", "Get it from a source that you trust.")
        if data[:2].tobytes() == compression.GZIP:
            raise UnsupportedFormat("This is a gzip file within a gzip file.", "Unpack it first.")
    return _recognise(data, suffix).decode(data)


def _recognise(data: Bytes, suffix: str) -> Format:
    head = data[:8].tobytes()
    if not head:
        raise BrokenFile("The file is empty.", "Download or export it again.")
    if ply_header.is_ply(head):
        header = ply_header.parse(data[: ply_header.LONGEST_HEADER].tobytes())
        return compressed_ply if compressed_ply.is_compressed(header) else ply
    if head.startswith((spz.MAGIC, compression.GZIP)):
        return spz
    if head.startswith(splatv.MAGIC):
        return splatv
    what, hint = foreign.name(data)
    if not what and (len(data) % 32 == 0 or suffix == ".splat") and splat.is_likely(data):
        return splat
    raise UnsupportedFormat(
        f"This is {what}, which Vivant does not read." if what else "This is no splat file that Vivant knows.", hint
    )


def _format_of(path: Path) -> Format:
    for extension, form in _BY_EXTENSION.items():
        if path.name.lower().endswith(extension):
            return form
    raise VivantError(
        f"'{path.name}' does not say which format to write.", f"End the name with one of {', '.join(EXTENSIONS)}."
    )


def _load(path: Path) -> Bytes:
    """All bytes of a file, placed so that the rows of a PLY begin where floats may."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(ply_header.LONGEST_HEADER)
        end = head.find(b"end_header") if ply_header.is_ply(head) else -1
        shift = -(head.find(b"\n", end) + 1) % 16 if end >= 0 else 0
        data = np.empty(shift + size, np.uint8)[shift:]
        data[: len(head)] = np.frombuffer(head, np.uint8)
        filled = len(head)
        while filled < size and (read := file.readinto(memoryview(data)[filled:])):
            filled += read
    return data[:filled]
