# SPDX-License-Identifier: GPL-3.0-or-later
"""3DGS PLY, as INRIA's trainer writes it and in the dialects of its descendants; moving splats too.

A row holds x y z, f_dc (SH degree 0), f_rest (higher degrees, channel after channel), the logit of the
opacity, logarithms of the scales and a quaternion wxyz of any length.  Frame RDF.
Spacetime Gaussians ('lite') add motion, omega, trbf_center and the logarithm trbf_scale; their f_dc is
the display colour itself.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from ...common.rotations import IDENTITY
from ...common.threads import in_blocks, in_turn
from .. import sh
from ..axes import change_axes
from ..cloud import Floats, Source, SplatCloud
from ..motion.rotor4d import Rotor4D
from ..motion.stg import Stg
from . import ply_dialects, ply_header, ply_motion, ply_rotor4d
from .format import Overrides
from .ply_header import Bytes
from .repair import LARGEST_LOGIT, LARGEST_SCALE, SMALLEST_SCALE, Draft

NAME = "PLY"
AXES = "RDF"
MOST_SMALL_EXTRAS = 16
"""Columns of bytes kept as floats: four times their size, so a bounded number."""

_BASE = ["f_dc_0", "f_dc_1", "f_dc_2"]
_SCALES = ["scale_0", "scale_1", "scale_2"]
_QUATS = ["rot_0", "rot_1", "rot_2", "rot_3"]
_NORMALS = ["nx", "ny", "nz"]
_MOTION = [f"motion_{i}" for i in range(9)]
_SPIN = [f"omega_{i}" for i in range(4)]
_TIMES = ["trbf_center", "trbf_scale"]
_QUANTISED = {"u1": 1 / 254, "u2": 1 / 65534}  # Brush's integer columns of spherical harmonics


def decode(data: Bytes, overrides: Overrides | None = None) -> SplatCloud:
    """The cloud of a whole PLY file, its trained low-pass filter (Mip-Splatting) applied.

    overrides.activation "activated" takes opacities and scales as they are.

    Raises UnsupportedFormat for PLY files that hold something else, BrokenFile for damaged ones.
    """
    activated = overrides is not None and overrides.activation == "activated"
    header = ply_header.parse(data[: ply_header.LONGEST_HEADER].tobytes())
    count, table = ply_header.rows_of(data, header, "vertex")
    types = header.element("vertex").columns
    exact = {name for name, code in types.items() if code[0] == "f"}  # bytes that became floats would outgrow their file
    motion, own = ply_motion.find(exact)
    dialect = ply_dialects.recognise(header, moves=motion is not None)
    moving = {*_TIMES, *_MOTION} <= types.keys()
    base, white = _base_columns(types, moving)
    blocks = ply_rotor4d.blocks(exact) if motion and motion.FAMILY is Rotor4D else 1
    rest, cut_degree = ply_dialects.higher_degrees(() if moving else types, blocks)
    scales = [name for name in _SCALES if name in types and name not in own]
    quats = _QUATS if set(_QUATS) <= types.keys() else []
    spin = _SPIN if moving and set(_SPIN) <= types.keys() else []

    understood = {"x", "y", "z", "opacity", "filter_3D", *_NORMALS, *base, *scales, *quats, *spin}
    understood |= {*_TIMES, *_MOTION} if moving else set()
    extras = [name for name in types if name not in understood and not name.startswith("f_rest_") and name not in own]
    small = [name for name in extras if types[name] in ("i1", "u1")]
    if too_many := len(small) > MOST_SMALL_EXTRAS:
        extras = [name for name in extras if name not in small]

    draft = Draft(count, len(rest) + 1, moving)
    draft.extras = {name: np.empty(count, np.float32) for name in (*own, *extras)}

    def block(rows: slice) -> Counter[str]:
        row = table(rows)
        _gather(draft.means[rows], row, "xyz")
        _gather(draft.scales[rows], row, scales)
        draft.scales[rows, len(scales) :] = draft.scales[rows, :1] if scales else 1  # one scale is a ball's; discs: below
        if scales and not activated:
            np.exp(draft.scales[rows], out=draft.scales[rows])
        draft.quats[rows] = IDENTITY
        _gather(draft.quats[rows], row, quats)
        colours = draft.sh[rows]
        colours[:, 0] = 0
        _gather(colours[:, 0], row, base)
        if white:
            colours[:, 0] = sh.to_base(colours[:, 0] / np.float32(white))
        for (k, names), channel in itertools.product(enumerate(rest, 1), range(3)):
            step = np.float32(_QUANTISED.get(types[names[channel]], 1))
            np.multiply(row[names[channel]], step, out=colours[:, k, channel], casting="same_kind")
        for name, column in draft.extras.items():
            column[rows] = row[name]
        if moving:
            _gather(draft.velocity[rows].reshape(-1, 9), row, _MOTION)
            draft.spin[rows] = 0
            _gather(draft.spin[rows], row, spin)
            draft.center[rows] = row["trbf_center"]
            draft.width[rows] = np.exp(row["trbf_scale"], dtype=np.float32, casting="same_kind")
        if "opacity" not in types:
            draft.opacities[rows] = 1
            return Counter()
        logits = draft.opacities[rows]
        logits[:] = row["opacity"]
        if activated:
            np.clip(logits, 0, 1, out=logits)
            return Counter()
        infinite = np.isinf(logits)
        np.clip(logits, -LARGEST_LOGIT, LARGEST_LOGIT, out=logits, where=infinite)
        logits[:] = 1 / (1 + np.exp(-logits))
        return Counter({"opacities infinite: set to 1e-6 from 0 or 1": int(np.count_nonzero(infinite))})

    draft.fill(block)
    if "filter_3D" in types:
        _apply_filter(draft, table)
    if len(scales) == 2:
        draft.scales[:, 2] = max(1e-6 * _extent(draft.means[draft.keep]), SMALLEST_SCALE)
    if motion:
        columns = {name: draft.extras.pop(name) for name in own}
        with np.errstate(all="ignore"):  # what is not finite is looked for, and mended
            draft.family = motion.read(draft, columns, header, overrides.activation if overrides else "")

    warnings = [
        *dialect.warnings,
        *([cut_degree] if cut_degree else []),
        *([] if base else ["The file has no colours; the splats are grey."]),
        *([f"{len(small)} columns of bytes that no reader understands were left out."] if too_many else []),
    ]
    if count < header.element("vertex").count:
        warnings.append(f"The file is cut off: {count:,} of {header.element('vertex').count:,} splats are there.")
    if dialect.time_range:
        draft.warnings = [text for text in draft.warnings if "how long its clip is" not in text]
    source = Source(NAME, axes=dialect.axes, antialiased=dialect.antialiased, warnings=tuple(warnings), details=dialect.details)
    cloud = draft.finish(source, data)
    if cloud.family is None or dialect.time_range in (None, cloud.family.time_range):
        return cloud
    return dataclasses.replace(cloud, family=dataclasses.replace(cloud.family, time_range=dialect.time_range))  # type: ignore[type-var]


def encode(cloud: SplatCloud) -> Iterator[bytes | Floats]:
    """A binary PLY in INRIA's order, or that of Spacetime Gaussians, then other motion and the extras; frame RDF.

    The header, then tables of some rows each, made while those before are written.

    Spacetime Gaussians have one colour a splat: higher degrees are not written.
    """
    cloud = change_axes(cloud, AXES)
    family = cloud.family
    if isinstance(family, Stg):
        names = ["x", "y", "z", *_TIMES, *_NORMALS, *_MOTION, *_BASE, "opacity", *_SCALES, *_QUATS, *_SPIN]
        rest = 0
    else:
        rest = cloud.sh.shape[1] - 1
        names = ["x", "y", "z", *_NORMALS, *_BASE, *(f"f_rest_{i}" for i in range(3 * rest)), "opacity", *_SCALES, *_QUATS]
    motion = ply_motion.of(cloud)
    own = motion.write(cloud) if motion else {}
    columns = {name: column for name, column in own.items() if column is not None}
    names = [name for name in dict.fromkeys((*names, *columns)) if own.get(name, ()) is not None]
    extras = {"_".join(name.split()): column for name, column in cloud.extras.items()}
    columns |= {name: column for name, column in extras.items() if name not in names}
    names = [*dict.fromkeys((*names, *columns))]
    at = {name: i for i, name in enumerate(names)}

    def block(rows: slice) -> Floats:
        row = np.zeros((rows.stop - rows.start, len(names)), "<f4")
        row[:, 0:3] = cloud.means[rows]
        row[:, at["f_dc_0"] :][:, :3] = sh.to_rgb(cloud.sh[rows, 0]) if isinstance(family, Stg) else cloud.sh[rows, 0]
        if rest and "f_rest_0" not in columns:
            row[:, at["f_rest_0"] :][:, : 3 * rest] = cloud.sh[rows, 1:].transpose(0, 2, 1).reshape(-1, 3 * rest)
        row[:, at["opacity"]] = logit(cloud.opacities[rows])
        if "scale_0" in at:
            row[:, at["scale_0"] :][:, :3] = np.log(np.maximum(cloud.scales[rows], SMALLEST_SCALE))
        if "rot_0" in at:
            row[:, at["rot_0"] :][:, :4] = cloud.quats[rows]
        if isinstance(family, Stg):
            row[:, at["motion_0"] :][:, :9] = family.velocity[rows].reshape(-1, 9)
            row[:, at["omega_0"] :][:, :4] = family.spin[rows]
            row[:, at["trbf_center"]] = family.center[rows]
            row[:, at["trbf_scale"]] = np.log(family.width[rows])
        for name, column in columns.items():
            row[:, at[name]] = column[rows]
        return row

    mode = "2dgs" if cloud.source.details.get("surfels") else "mip" if cloud.source.antialiased else "default"
    comments = ["Written by Vivant", f"SplatRenderMode: {mode}", *(motion.COMMENTS if motion else ())]
    comments += [ply_dialects.time_comment(family)] if family else []
    comments += [text for text in cloud.source.details.get("comments", ()) if text not in comments]
    yield _header(len(cloud), names, comments)
    yield from in_turn(block, len(cloud))


def logit(opacities: Floats) -> Floats:
    """Inverse sigmoid, of opacities kept 1e-6 away from 0 and 1."""
    opacities = np.clip(opacities, 1e-6, 1 - 1e-6)
    return np.log(opacities / (1 - opacities))


def _header(count: int, names: Iterable[str], comments: Iterable[str]) -> bytes:
    lines = ["ply", "format binary_little_endian 1.0", *(f"comment {' '.join(text.split())}" for text in comments)]
    lines += [f"element vertex {count}", *(f"property float {name}" for name in names), "end_header", ""]
    return "\n".join(lines).encode()


def _gather(out: Floats, row: ply_header.Columns, names: Iterable[str]) -> None:
    for i, name in enumerate(names):
        out[:, i] = row[name]


def _base_columns(types: Mapping[str, str], moving: bool) -> tuple[list[str], float]:
    """The columns of the base colours, and what white is in them (0: they are SH coefficients)."""
    if set(_BASE) <= types.keys():
        return _BASE, 1.0 if moving else 0.0
    for names in (["red", "green", "blue"], ["r", "g", "b"]):
        if set(names) <= types.keys():
            return names, {"u1": 255.0, "u2": 65535.0}.get(types[names[0]], 1.0)
    return [], 0.0


def _apply_filter(draft: Draft, table: ply_header.Rows) -> None:
    """Mip-Splatting's 3D filter: wider, and thinner in opacity by the same volume."""

    def block(rows: slice) -> None:
        with np.errstate(all="ignore"):
            radius = np.asarray(table(rows)["filter_3D"], np.float64)
            radius = np.where(np.abs(radius) <= LARGEST_SCALE, radius, 0)
            scales = draft.scales[rows].astype(np.float64)
            filtered = np.hypot(scales, radius[:, None])
            draft.opacities[rows] *= np.prod(scales / filtered, axis=1)
            draft.scales[rows] = filtered

    in_blocks(block, len(draft.means))


def _extent(means: Floats) -> float:
    """Diagonal of the box around all splats."""
    return float(np.linalg.norm(np.ptp(means.astype(np.float64), axis=0))) if len(means) else 0.0
