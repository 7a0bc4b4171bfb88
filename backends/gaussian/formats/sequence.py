# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbered still files, in a folder or a zip archive, as one moving cloud whose frames stay on disk until they are asked for.

The last number in a name is the frame, and its time; gaps are kept.  Files that differ elsewhere in their name are
another clip.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import ArrayLike

from ...common.errors import BrokenFile, UnsupportedFormat, VivantError
from ..cloud import SplatCloud
from ..motion.frames import Frames, sampling
from . import compression, files, ply
from .format import Overrides, pieces
from .ply_header import Bytes

NAME = "sequence"
EXTENSIONS = (".zip",)
FRAME_EXTENSIONS = (".compressed.ply", ".ply", ".splat", ".spz", ".ksplat", ".sog", ".glb")

_ZIP = b"PK\x03\x04"
_BAD_ZIP = (
    zipfile.BadZipFile,
    zlib.error,
    NotImplementedError,
    RuntimeError,
    EOFError,
    ValueError,
    struct.error,
    OverflowError,
)


def is_sequence(data: Bytes, path: Path) -> bool:
    """Whether a folder holds numbered splat files, or a zip archive at a path any."""
    if not len(data):
        return path.is_dir() and len(_largest_clip(_names(path))[0]) > 1
    if data[:4].tobytes() != _ZIP or not path.is_file():
        return False
    try:
        return bool(_largest_clip(_members(path))[0])
    except VivantError:
        return False


def read(path: Path, overrides: Overrides | None = None) -> SplatCloud:
    """The first frame of the longest clip, with the family Frames where there are more.

    Raises what the frame's own format does; a later frame is read, and may fail, when its time comes.
    """
    from . import decode, read_splats  # the table of formats lists this module

    overrides = overrides or Overrides()
    members = _members(path) if path.is_file() else {}
    clip, others = _largest_clip(members or _names(path))
    if not clip:
        raise UnsupportedFormat(f"'{path.name}' holds no numbered splat files.", "Name them like frame_001.ply.")
    numbers = sorted(clip)

    def frame(index: int) -> SplatCloud:
        name = clip[numbers[index]]
        if not members:
            return _still(read_splats(path / name, overrides))
        try:
            return _still(decode(_unzip(path, members[name]), PurePosixPath(name).suffix.lower(), overrides))
        except VivantError as error:
            raise type(error)(f"{name}: {error.message}", error.hint) from error

    first = frame(0)
    warnings = [*first.source.warnings]
    if others:
        warnings.append(f"{others} more files are not of the clip that was read, {clip[numbers[0]]} to {clip[numbers[-1]]}.")
    source = dataclasses.replace(first.source, warnings=tuple(warnings))
    if len(numbers) == 1:
        return dataclasses.replace(first, source=source)
    linked = _are_linked(first, frame(1))
    return first.replace(
        family=Frames(np.array(numbers, np.float64), frame, linked), source=dataclasses.replace(source, format=NAME)
    )


def write(
    cloud: SplatCloud, path: Path, times: ArrayLike | None = None, done: Callable[[int, int], None] | None = None
) -> None:
    """Write a cloud's frames as PLY files into a zip archive, or as files whose name has a '#' for each digit: 'a_####.spz'.

    Those of a sequence keep their numbers; other motion is written at `times` (by default 50 from first to last), numbered
    from 1 on.  done(n, of) is told after each.  Raises VivantError where files cannot be written.
    """
    from . import write_splats

    moments = sampling(cloud) if times is None or cloud.family is None else np.asarray(times, np.float64)
    own = times is None and isinstance(cloud.family, Frames) and np.array_equal(moments, np.rint(moments))
    numbers = moments.astype(np.int64).tolist() if own else list(range(1, len(moments) + 1))

    def frames() -> Iterable[tuple[int, SplatCloud]]:
        for index, (number, time) in enumerate(zip(numbers, moments, strict=True), 1):
            yield number, cloud.at(float(time))
            if done:
                done(index, len(numbers))

    if path.suffix.lower() in EXTENSIONS:
        with files.saving(path) as file, zipfile.ZipFile(file, "w") as archive:
            for number, still in frames():
                with archive.open(zipfile.ZipInfo(f"frame_{number:04}.ply"), "w", force_zip64=True) as member:
                    for piece in pieces(still, ply.NAME, ply.encode):
                        member.write(piece)
        return
    found = re.search(r"#+", path.name)
    if not found:
        raise VivantError(f"'{path.name}' has no place for numbers.", "Name the files like frame_####.ply.")
    try:
        path.parent.mkdir(exist_ok=True)
    except OSError as error:
        raise VivantError(f"'{path.parent}' cannot be made: {error.strerror or error}.", "Choose another folder.") from error
    for number, still in frames():
        digits = str(number).zfill(len(found[0]))
        write_splats(still, path.with_name(path.name[: found.start()] + digits + path.name[found.end() :]))


def _names(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir() if entry.is_file()]


def _largest_clip(names: Iterable[str]) -> tuple[dict[int, str], int]:
    """The clip with the most frames, name by number, and how many other splat files there are."""
    clips: dict[tuple[str, str], dict[int, str]] = {}
    count = 0
    for name in sorted(names):
        path = PurePosixPath(name)
        extension = next((end for end in FRAME_EXTENSIONS if path.name.lower().endswith(end)), "")
        if not extension or path.name.startswith(".") or "__MACOSX" in path.parts:
            continue
        count += 1
        stem = path.name[: -len(extension)]
        found = re.search(r"(\d{1,15})(\D*)$", stem)
        number, around = (int(found[1]), stem[: found.start()] + "#" + found[2]) if found else (0, stem)
        clips.setdefault((f"{path.parent}/{around}", extension), {})[number] = name
    largest = max(clips.values(), key=len, default={})
    return largest, count - len(largest)


def _are_linked(a: SplatCloud, b: SplatCloud) -> bool:
    """Whether index i is the same splat in both: as many, and most within five of their sizes of where they were."""
    if len(a) != len(b) or a.degree != b.degree:
        return False
    return bool(np.median(np.linalg.norm(a.means - b.means, axis=1)) <= 5 * np.median(a.scales)) if len(a) else True


def _still(cloud: SplatCloud) -> SplatCloud:
    """A frame that moves itself is taken at its first time."""
    return cloud.at(cloud.family.time_range[0]) if cloud.family else cloud


def _members(path: Path) -> dict[str, zipfile.ZipInfo]:
    """The files in a zip archive by name.  Raises BrokenFile for damaged ones and for lists made to exhaust memory."""
    try:
        with path.open("rb") as file:
            file.seek(max(path.stat().st_size - compression.TAIL, 0))
            compression.check_directory(file.read())
            with zipfile.ZipFile(file) as archive:
                return {info.filename: info for info in archive.infolist() if not info.is_dir()}
    except (*_BAD_ZIP, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # that one: it points outside of itself
            raise
        words = " ".join(str(error).split()).rstrip(".")[:200]
        raise BrokenFile(f"The zip archive is damaged: {words}.", "Download it again.") from error


def _unzip(path: Path, info: zipfile.ZipInfo) -> Bytes:
    """One file of an archive, without looking through its list again.

    Raises BrokenFile where it is damaged or unpacks to far more than a capture would, UnsupportedFormat for rare packings.
    """
    if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise UnsupportedFormat("It is packed in a way that is not read here, or locked.", "Unpack the archive.")
    compression.check_expansion(info.file_size, info.compress_size)
    damaged = BrokenFile("It is damaged in the zip archive.", "Download the archive again.")
    with path.open("rb") as file:
        if info.header_offset < 0 or info.header_offset + info.compress_size > path.stat().st_size:
            raise damaged
        file.seek(info.header_offset)
        head = file.read(30)
        file.seek(int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little"), os.SEEK_CUR)
        content = file.read(info.compress_size)
    if info.compress_type == zipfile.ZIP_DEFLATED:
        try:
            content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, info.file_size + 1)
        except zlib.error:
            raise damaged from None
    if head[:4] != _ZIP or len(content) != info.file_size or zlib.crc32(content) != info.CRC:
        raise damaged
    return np.frombuffer(content, np.uint8)
