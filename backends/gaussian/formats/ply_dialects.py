# SPDX-License-Identifier: GPL-3.0-or-later
"""Who wrote a splat PLY, and what that means: read from the header alone.

Property names come from the code of the projects named here; comments from Brush and Postshot.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Container, Iterable
from dataclasses import dataclass
from typing import Any

from ...common.errors import UnsupportedFormat
from .. import sh
from ..motion.family import Family
from .ply_header import Header
from .repair import LATEST

_STILL = "It is read as a still cloud; the columns are kept."
_TIME_RANGE = "time range"
_STATED_AGAIN = (_TIME_RANGE, "splatrendermode", "vertical axis", "sh degree", "antialiased", "written by vivant")


@dataclass(frozen=True)
class Dialect:
    """What a header says beyond its columns: warnings for the user, the frame, and facts worth keeping."""

    warnings: tuple[str, ...]
    axes: str
    antialiased: bool
    details: dict[str, Any]
    time_range: tuple[float, float] | None = None


def recognise(header: Header, moves: bool) -> Dialect:
    """The dialect of a 3DGS PLY; raises UnsupportedFormat that names what the file is if it is none.

    moves: whether `ply_motion` knows the file's columns of motion.
    """
    columns = header.element("vertex").columns
    _refuse_others(header, columns.keys(), moves)
    mode, up, antialiased = "default", "", False
    kept = []
    times = None
    for comment in header.comments:
        key, _, value = comment.lower().partition(":")
        if key == "splatrendermode":
            mode = value.strip()
        elif key == "vertical axis":
            up = value.strip()
        elif comment.lower().startswith(_TIME_RANGE):
            times = _times(comment.split()[2:])
        elif re.fullmatch(r"antialiased\s+[01]", comment.lower()):
            antialiased = comment.endswith("1")
        if not comment.lower().startswith(_STATED_AGAIN):
            kept.append(comment)
    details: dict[str, Any] = {"comments": kept} if kept else {}
    if mode == "2dgs" or ("scale_2" not in columns and "scale_1" in columns):
        details["surfels"] = True
    if (direction := _direction(up)) is not None:
        details["up"] = direction
    return Dialect(
        tuple(_warnings(columns.keys(), moves)), "RBD" if up == "z" else "RDF", antialiased or mode == "mip", details, times
    )


def time_comment(family: Family) -> str:
    """The comment that says how long a clip is, as Vivant writes it."""
    return "{} {:.9g} {:.9g}".format(_TIME_RANGE, *family.time_range)


def _times(words: list[str]) -> tuple[float, float] | None:
    """The first and the last time, where there are two that follow one another."""
    try:
        first, last = map(float, words)
    except ValueError:
        return None
    return (first, last) if -LATEST <= first < last <= LATEST else None


def higher_degrees(names: Container[str], blocks: int = 1) -> tuple[list[list[str]], str]:
    """Columns of the SH coefficients above degree 0, red, green and blue of each, and a warning where some are left out.

    Files hold all of a channel's coefficients before the next channel's, whatever their number is; whole
    degrees of them are kept, of the first of so many blocks where a channel has several.
    """
    count = next(i for i in itertools.count() if f"f_rest_{i}" not in names)
    stride = count // 3
    block = (stride + 1) // blocks
    if count % 3 or block > sh.COEFFICIENTS[-1]:
        return [], f"{count} columns of spherical harmonics make no full degree; only the base colours were read."
    kept = max(known for known in sh.COEFFICIENTS if known <= block) - 1
    columns = [[f"f_rest_{channel * stride + k}" for channel in range(3)] for k in range(kept)]
    if blocks * (kept + 1) == stride + 1:
        return columns, ""
    return columns, f"{count} columns of spherical harmonics make no full degree; degree {sh.degree(kept + 1)} was read."


def _direction(text: str) -> tuple[float, ...] | None:
    """Brush's 'Vertical axis': a letter, or three numbers; y and z point down."""
    letters = {"x": (1.0, 0.0, 0.0), "y": (0.0, -1.0, 0.0), "z": (0.0, 0.0, -1.0)}
    if text in letters:
        return letters[text]
    try:
        numbers = tuple(float(part) for part in text.split())
    except ValueError:
        return None
    return numbers if len(numbers) == 3 and all(map(math.isfinite, numbers)) else None


def _refuse_others(header: Header, names: Iterable[str], moves: bool) -> None:
    columns = set(names)
    what, hint = "", "Give a Gaussian splat file: 3DGS PLY, compressed PLY, .splat, .spz or .splatv."
    if not moves and {"l_triangle_0", "l_triangs_0", "l_diag_0"} & columns:
        dimensions = 7 if {"scale_6", "diags_6", "mean_time_0", "mean_time"} & columns else 6
        what = f"a {dimensions}D Gaussian PLY ({dimensions}DGS) that lacks some of its columns"
        hint = "Export it again, or from its own project as 3DGS PLY."
    elif not moves and {"rot_r_0", "rotation_r_0"} & columns:
        what, hint = "a 4D Gaussian PLY (4DGS) that lacks some of its columns", "Export it again, or its frames as 3DGS PLY."
    elif any(element.name.startswith("delta_vertex_") for element in header.elements):
        what, hint = "a Brush PLY with frames of motion", "Export its frames as 3DGS PLY."
    elif not {"x", "y", "z"} <= columns:
        what = "a PLY without points" if not columns else "a PLY whose points have no positions"
    elif not moves and not {"scale_0", "rot_0"} <= columns:
        faces = max((element.count for element in header.elements if element.name in ("face", "tristrips")), default=0)
        coloured = {"red", "diffuse_red", "r"} & columns
        points = header.element("vertex").count
        if faces:
            what, hint = f"a mesh PLY with {faces:,} faces", "Import it with File > Import > Stanford PLY."
        elif "f_dc_0" in columns:
            what = f"a PLY of {points:,} points with splat colours but without sizes and rotations"
        else:
            what = f"a point-cloud PLY with {points:,} points{' and colours' if coloured else ''}"
            hint = "Import it with File > Import > Stanford PLY, or give the trained splats."
    if what:
        raise UnsupportedFormat(f"This is {what}, not a file of splats.", hint)


def _warnings(names: Iterable[str], moves: bool) -> Iterable[str]:
    columns = set(names)
    if "f_t_0" in columns:
        yield "These are full Spacetime Gaussians, whose colours need a network (.pt); they are shown with their base colours."
    elif not moves and "trbf_center" in columns and "motion_8" not in columns:
        yield f"These splats have times but no motion columns of Spacetime Gaussians. {_STILL}"
    if "fea_0" in columns:
        yield f"These look like SC-GS splats, which a deformation network moves. {_STILL}"
    if "binding_0" in columns:
        yield f"These are GaussianAvatars splats: positions are relative to the faces of a head mesh. {_STILL}"
    if moves:
        return
    if {"scaling_t", "scale_t"} & columns:
        yield f"These look like 4D Gaussians with a time each. {_STILL}"
    if {"velocity_0", "vel_0", "vx"} & columns or ("motion_0" in columns and "motion_3" not in columns):
        yield f"These splats have velocities of no standard layout. {_STILL}"
