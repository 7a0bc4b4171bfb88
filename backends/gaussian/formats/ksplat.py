# SPDX-License-Identifier: GPL-3.0-or-later
""".ksplat version 0.1, by mkkellogg: sections of splats at one of three levels of compression; read only.

A main header of 4096 bytes, 1024 bytes a section, then each section's data: numbers of splats in its partial
buckets, bucket centres, records.  Level 0 holds float32, levels 1 and 2 positions of 16 bits around the centre of a
bucket and float16, level 2 spherical harmonics of 8 bits.  Colours are display colours, frame RDF.
Source: mkkellogg/GaussianSplats3D, SplatBuffer.js.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ...common.errors import BrokenFile
from .. import sh
from ..cloud import Floats, Source, SplatCloud
from .ply_header import Bytes
from .repair import Draft

NAME = "ksplat"
AXES = "RDF"
MAIN, SECTION = 4096, 1024
MOST_SECTIONS = 100_000

_DEFAULT_SH_RANGE = -1.5, 1.5
_BANDS = [0, 9, 24]


@dataclass(frozen=True)
class _Section:
    """Records of a section that are there, and where each bucket's splats begin (level 1 and up)."""

    table: NDArray[np.void]
    degree: int
    starts: NDArray[np.int64]
    centres: Floats
    step: np.float32
    middle: int


def is_ksplat(data: Bytes) -> bool:
    """Version 0.1, a sane number of sections and one of three levels of compression."""
    head = data[:MAIN].tobytes()
    if head[:2] != b"\x00\x01" or len(data) < MAIN + SECTION:
        return False
    sections, _, _, splats, level = struct.unpack_from("<4IH", head, 4)
    return 1 <= sections <= MOST_SECTIONS and level <= 2 and splats > 0


def decode(data: Bytes) -> SplatCloud:
    """The cloud of a whole file; raises BrokenFile where sizes contradict each other."""
    level = int.from_bytes(data[20:22].tobytes(), "little")
    low, high = struct.unpack_from("<2f", data[36:44].tobytes())
    low, high = low or _DEFAULT_SH_RANGE[0], high or _DEFAULT_SH_RANGE[1]
    sections, claimed = _sections(data, level)
    count = sum(len(section.table) for section in sections)
    if count * 100 < claimed or not count:
        raise BrokenFile(f"The .ksplat file claims {claimed:,} splats, but has {count:,}.", "Download it again.")
    draft = Draft(count, (max(section.degree for section in sections) + 1) ** 2)

    def fill(section: _Section, here: slice, rows: slice) -> None:
        record = section.table[here]
        draft.means[rows] = record["mean"]
        if level:
            bucket = np.searchsorted(section.starts, np.arange(here.start, here.stop), "right") - 1
            draft.means[rows] = (draft.means[rows] - section.middle) * section.step + section.centres[bucket]
        draft.scales[rows] = record["scale"]
        draft.quats[rows] = record["quat"]
        rgba = record["rgba"] / np.float32(255)
        draft.sh[rows, 0] = sh.to_base(rgba[:, :3])
        draft.opacities[rows] = rgba[:, 3]
        draft.sh[rows, 1:] = 0
        values = record["sh"].astype(np.float32)
        if level == 2:
            values = np.float32(low) + values * np.float32((high - low) / 255)
        for band in range(1, section.degree + 1):  # all of red's coefficients of a band, then green's and blue's
            of_band = values[:, _BANDS[band - 1] : _BANDS[band]].reshape(-1, 3, 2 * band + 1)
            draft.sh[rows, band**2 : (band + 1) ** 2] = of_band.transpose(0, 2, 1)

    draft.fill_parts([(len(section.table), partial(fill, section)) for section in sections])
    warnings = (f"The file is cut off: {count:,} of {claimed:,} splats are there.",) if count < claimed else ()
    return draft.finish(Source(NAME, axes=AXES, warnings=warnings, details={"level": level}))


def _record(level: int, degree: int) -> np.dtype[np.void]:
    float_ = "<f2" if level else "<f4"
    harmonics = "u1" if level == 2 else float_
    return np.dtype([
        ("mean", "<u2" if level else "<f4", 3), ("scale", float_, 3), ("quat", float_, 4),
        ("rgba", "u1", 4), ("sh", harmonics, (_BANDS[degree],)),
    ])  # fmt: skip


def _sections(data: Bytes, level: int) -> tuple[list[_Section], int]:
    """Sections with splats, and how many splats they claim together."""
    headers = int.from_bytes(data[4:8].tobytes(), "little")
    offset = MAIN + headers * SECTION
    if offset > len(data):
        raise BrokenFile("The .ksplat file's list of sections is cut off.", "Download it again.")
    found, claimed = [], 0
    for index in range(headers):
        header = data[MAIN + index * SECTION :][:44].tobytes()
        splats, room, bucket_size, buckets, block, _, levels, _, full, part_full, degree = struct.unpack(
            "<4If H2xIIII H2x", header
        )
        if degree > 2:
            raise BrokenFile(f"The .ksplat file claims spherical harmonics of degree {degree}.", "Export it again.")
        records = offset + 4 * part_full + 12 * buckets
        if records > len(data) or (level and not full + part_full <= buckets) or full * bucket_size > splats:
            raise BrokenFile("The .ksplat file's buckets run past its end or contradict each other.", "Download it again.")
        lengths = np.frombuffer(data[offset : offset + 4 * part_full].tobytes(), "<u4")
        centres = np.frombuffer(data[offset + 4 * part_full : records].tobytes(), "<f4").reshape(-1, 3)
        full = full if level else 0  # what is not compressed needs no buckets, however many it claims
        starts = np.arange(full, dtype=np.int64) * bucket_size
        starts = np.append(starts, full * bucket_size + np.cumsum(np.append(0, lengths[:-1].astype(np.int64)))[:part_full])
        row = _record(level, degree)
        present = min(splats, (len(data) - records) // row.itemsize)
        if level and present and not len(starts):
            raise BrokenFile("The .ksplat file has splats in no bucket.", "Export it again.")
        table = np.ndarray(present, row, data, records) if present else np.empty(0, row)
        middle = levels or 32767
        if present:
            found.append(_Section(table, degree, starts, centres, np.float32(block / 2 / middle), middle))
        claimed += splats
        offset = min(records + max(room, splats) * row.itemsize, len(data))
    return found, claimed
