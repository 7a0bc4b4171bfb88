# SPDX-License-Identifier: GPL-3.0-or-later
""".splat, antimatter15's format: 32 bytes a splat and nothing else.

Three float32 of position, three of scale (activated), RGBA and the quaternion wxyz in bytes.  No header,
no spherical harmonics; frame RDF.  Source: antimatter15/splat, convert.py and main.js.
"""

from collections import Counter

import numpy as np

from ...common.threads import in_blocks
from .. import sh
from ..axes import change_axes
from ..cloud import Source, SplatCloud
from .ply_header import Bytes
from .repair import Draft

NAME = "splat"
AXES = "RDF"

_RECORD = np.dtype([("mean", "<f4", 3), ("scale", "<f4", 3), ("rgba", "u1", 4), ("quat", "u1", 4)])
_SAMPLE = 4096


def is_likely(data: Bytes) -> bool:
    """Whether the bytes read as splats: the format has no magic, but sane numbers are rare elsewhere."""
    count = len(data) // _RECORD.itemsize
    if not count:
        return False
    table = np.ndarray(count, _RECORD, data)[:: -(-count // _SAMPLE)]
    with np.errstate(all="ignore"):
        sane = (np.abs(table["mean"]) < 1e6).all(axis=1) & (table["scale"] > 0).all(axis=1) & (table["scale"] < 1e6).all(axis=1)
    return bool(np.mean(sane) >= 0.95)


def decode(data: Bytes) -> SplatCloud:
    """The cloud of a whole file; bytes after the last whole record are ignored with a warning."""
    count, rest = divmod(len(data), _RECORD.itemsize)
    table = np.ndarray(count, _RECORD, data) if count else np.empty(0, _RECORD)
    draft = Draft(count)

    def block(rows: slice) -> Counter[str] | None:
        record = table[rows]
        draft.means[rows] = record["mean"]
        draft.scales[rows] = record["scale"]
        rgba = record["rgba"] / np.float32(255)
        draft.sh[rows, 0] = sh.to_base(rgba[:, :3])
        draft.opacities[rows] = rgba[:, 3]
        draft.quats[rows] = record["quat"]
        draft.quats[rows] -= 128
        return None

    draft.fill(block)
    warnings = (f"The file is cut off: its last {rest} bytes are no whole splat.",) if rest else ()
    return draft.finish(Source(NAME, axes=AXES, warnings=warnings), data)


def encode(cloud: SplatCloud) -> list[Bytes]:
    """Largest and most opaque first, as its viewers expect; spherical harmonics have no place in the format."""
    cloud = largest_first(change_axes(cloud, AXES))
    table = np.empty(len(cloud), _RECORD)

    def block(rows: slice) -> None:
        record = table[rows]
        record["mean"] = cloud.means[rows]
        record["scale"] = cloud.scales[rows]
        record["rgba"][:, :3] = np.rint(255 * np.clip(sh.to_rgb(cloud.sh[rows, 0]), 0, 1))
        record["rgba"][:, 3] = np.rint(255 * cloud.opacities[rows])
        record["quat"] = np.clip(np.rint(cloud.quats[rows] * 128 + 128), 0, 255)

    in_blocks(block, len(cloud))
    return [table.view(np.uint8)]


def clips(cloud: SplatCloud) -> list[str]:
    """What of a cloud is out of the format's range."""
    return clipped_colours(cloud, NAME)


def largest_first(cloud: SplatCloud) -> SplatCloud:
    """SH degree 0 of a cloud in the order in which viewers of these formats show it as it loads: by volume times opacity."""
    order = np.argsort(-cloud.scales.prod(axis=1) * cloud.opacities, kind="stable")
    return cloud.replace(sh=cloud.sh[:, :1]).select(order)


def clipped_colours(cloud: SplatCloud, name: str) -> list[str]:
    """What becomes of display colours beyond 0 to 1 in a format that keeps them as bytes."""
    rgb = sh.to_rgb(cloud.sh[:, 0])
    clipped = rgb.min(initial=0) < -0.002 or rgb.max(initial=1) > 1.002
    return [f"Colours darker than black or brighter than white are clipped: {name} files hold no others."] if clipped else []
