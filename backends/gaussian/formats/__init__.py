# SPDX-License-Identifier: GPL-3.0-or-later
"""Splat files in and out: `read_splats` and `write_splats`, one module a format, all of them listed in `table`."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

from numpy.typing import ArrayLike

from ...common.errors import BrokenFile, UnsupportedFormat, VivantError
from ..axes import change_axes
from ..cloud import SplatCloud
from . import compression, files, foreign, gltf, sequence, spz, usd
from .format import SAMPLED, STILL, Format, Overrides, pieces
from .ply_header import Bytes
from .table import EXTENSIONS, FORMATS

__all__ = ["EXTENSIONS", "FORMATS", "Format", "Overrides", "decode", "losses", "motion_in", "read_splats", "write_splats"]


def read_splats(path: str | os.PathLike[str], overrides: Overrides | None = None) -> SplatCloud:
    """The cloud in a file or folder, whose format is told from its content: any of FORMATS, or gzip of one.

    Arrays are in the file's own frame (`source.axes`); what was mended is counted in `source.repairs`.
    overrides: what is known better than the file says it.
    Raises UnsupportedFormat that names what the file is instead, BrokenFile for damaged files, VivantError
    for files that cannot be opened.
    """
    path = Path(path)
    overrides = overrides or Overrides()
    with files.reading(path):
        form = _recognise(files.view(path), path)
        if form.read:
            cloud = overrides.apply(form.read(path, overrides) if form.overridable else form.read(path))
        else:
            cloud = decode(files.load(path), path.suffix.lower(), overrides)
    return dataclasses.replace(cloud, source=dataclasses.replace(cloud.source, path=str(path)))


def write_splats(
    cloud: SplatCloud,
    path: str | os.PathLike[str],
    times: ArrayLike | None = None,
    done: Callable[[int, int], None] | None = None,
    axes: str = "",
) -> None:
    """Write a cloud in the format that the file's name ends with, one of EXTENSIONS.

    A cloud that was read from the same format and not changed gives the same file, byte for byte.  The
    file appears when it is complete.  A name with a '#' for each digit, 'a_####.spz', makes a file a frame.
    times: when formats that hold any motion as samples look at a moving cloud, else 50 times from first to last;
    done(n, of) is told of those, and may raise.  axes: a frame other than the format's own, for programs that expect it.
    Raises VivantError for other names, for folders that cannot be written to, and for moving clouds in formats
    that cannot hold their motion; `losses` tells beforehand what a format cannot hold.
    """
    path = Path(path)
    form = _format_of(path)
    if axes and axes != form.axes:
        turned = change_axes(cloud, axes)
        cloud = turned.replace(source=dataclasses.replace(turned.source, axes=form.axes))
    if _is_numbered(path):
        sequence.write(cloud, path, times, done)
        return
    if _kind(cloud) not in form.holds:
        able = [other.extensions[0] for other in FORMATS if other.writable and _kind(cloud) in other.holds]
        raise VivantError(
            f"A {form.name} file cannot hold motion of the family {_kind(cloud)}.",
            "Write the still cloud.at(time)" + (f", or give a name that ends with {' or '.join(able)}." if able else "."),
        )
    if form.write and form.holds is SAMPLED:
        form.write(cloud, path, times, done)
    elif form.write:
        form.write(cloud, path)
    elif form.encode:
        files.save(path, pieces(cloud, form.name, form.encode))


def motion_in(path: str | os.PathLike[str], family: str) -> str:
    """How files of that name hold motion of a family: "native", "samples", or "" where they hold none."""
    path = Path(path)
    form = _format_of(path)
    if form.holds is SAMPLED or _is_numbered(path):
        return "samples"
    return "native" if family in form.holds else ""


def losses(cloud: SplatCloud, path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Sentences on what the format of that name cannot hold of a cloud; none for one that writes as it was read."""
    path = Path(path)
    form = _format_of(path)
    if _is_numbered(path) and cloud.family:
        still = cloud.at(cloud.family.time_range[0])
        return (*usd.clips(cloud), *losses(still, path.with_name(path.name.replace("#", "0"))))
    if cloud.source.encoded is not None and cloud.source.format == form.name:
        return ()
    found = []
    degree = form.holds.get(_kind(cloud), form.holds.get(STILL, 0))
    if _kind(cloud) not in form.holds:
        found.append(f"Motion is not written: {form.name} holds no family {_kind(cloud)}.")
    if cloud.degree > degree:
        kept = f"only degree {degree} of them" if degree else "one colour a splat"
        found.append(f"Spherical harmonics are not written: {form.name} files like this one hold {kept}.")
    if cloud.extras and not form.extras:
        *able, last = (other.name for other in FORMATS if other.extras and other.writable)
        count = "1 extra column is" if len(cloud.extras) == 1 else f"{len(cloud.extras)} extra columns are"
        found.append(f"{count} not written: only {', '.join(able)} and {last} hold such columns.")
    if cloud.source.antialiased and not form.antialiased:
        found.append(f"That the splats were trained with anti-aliasing is not written: {form.name} files cannot say it.")
    if cloud.source.linear and not form.name.startswith(gltf.NAME):
        found.append(f"That colours are linear light is not written: {form.name} files are taken for display values.")
    return (*found, *form.clips(cloud))


def decode(data: Bytes, suffix: str = "", overrides: Overrides | None = None) -> SplatCloud:
    """The cloud in the bytes of a file, as `read_splats` gives it; `suffix` is asked only where the bytes leave doubt.

    Raises what `read_splats` does, and UnsupportedFormat for formats of several files.
    """
    overrides = overrides or Overrides()
    if data[:2].tobytes() == compression.GZIP and compression.gunzip(data, len(spz.MAGIC)).tobytes() != spz.MAGIC:
        most = compression.most_unpacked(len(data))
        data = compression.gunzip(data, most + 1)
        if len(data) > most:
            raise BrokenFile("The gzip file unpacks to far more than a capture would.", "Get it from a source that you trust.")
        if data[:2].tobytes() == compression.GZIP:
            raise UnsupportedFormat("This is a gzip file within a gzip file.", "Unpack it first.")
    form = _recognise(data, Path(suffix))
    if not form.decode:
        raise UnsupportedFormat(
            f"{form.name} spreads over several files.", "Give the path of a file or folder that is unpacked."
        )
    if overrides.activation and not form.overridable:
        raise VivantError(f"{form.name} files leave no doubt about activations.", "Leave that override out.")
    return overrides.apply(form.decode(data, overrides) if form.overridable else form.decode(data))


def _recognise(data: Bytes, path: Path) -> Format:
    """The format of bytes, or of the folder at a path."""
    folder = not len(data) and path.is_dir()
    if not len(data) and not folder:
        raise BrokenFile("The file is empty.", "Download or export it again.")
    for form in FORMATS:
        if form.recognise(data, path):
            return form
    if folder:
        raise UnsupportedFormat(
            f"'{path.name}' cannot be read: it is a folder that holds nothing that Vivant knows.", "Choose a file in it."
        )
    what, hint = foreign.name(data)
    raise UnsupportedFormat(
        f"This is {what}, which Vivant does not read." if what else "This is no splat file that Vivant knows.", hint
    )


def _kind(cloud: SplatCloud) -> str:
    """What `Format.holds` calls a cloud."""
    return cloud.family.name if cloud.family else STILL


def _is_numbered(path: Path) -> bool:
    return "#" in path.name


def _format_of(path: Path) -> Format:
    for form in FORMATS:
        if form.writable and path.name.lower().endswith(form.extensions):
            return form
    raise VivantError(
        f"'{path.name}' does not say which format to write.", f"End the name with one of {', '.join(EXTENSIONS)}."
    )
