# SPDX-License-Identifier: GPL-3.0-or-later
""".splatv, splaTV's container of moving splats: Spacetime Gaussians ('lite') packed into a texture.

Magic, length of a JSON text, JSON list of chunks, then the chunks.  A splat takes 64 bytes; the texture
is padded with zero records.  Everything is activated but the motion; colours are display colours.
Frame RDF, time 0 to 1.  Source: antimatter15/splaTV, hybrid.js.
"""

import json
from collections import Counter
from typing import Any

import numpy as np

from ...common.errors import BrokenFile
from .. import sh
from ..axes import change_axes
from ..cloud import Source, SplatCloud
from ..motion.stg import Stg
from .ply_header import Bytes
from .repair import PADDING, Draft
from .splat import clipped_colours, largest_first

NAME = "splatv"
AXES = "RDF"
MAGIC = b"\x4b\x67\x00\x00"
LONGEST_JSON = 2 << 20
TEXTURE_WIDTH = 4096
SPLATS_A_ROW = TEXTURE_WIDTH * 16 // 64

_RECORD = np.dtype({
    "names": ["mean", "quat", "scale", "rgba", "motion", "spin", "center", "width"],
    "formats": ["3<f4", "4<f2", "3<f2", "4u1", "(3,3)<f2", "4<f2", "<f2", "<f2"],
    "offsets": [0, 12, 20, 28, 32, 52, 60, 62],
    "itemsize": 64,
})  # fmt: skip
_HALF = float(np.finfo(np.float16).max)


def decode(data: Bytes) -> SplatCloud:
    """The moving cloud of a whole file; its cameras (INRIA's cameras.json) go to `source.details`."""
    chunk, offset = _find_splats(data)
    claimed, present = chunk["size"] // 64, min(chunk["size"], len(data) - offset) // 64
    if present * 100 < claimed:
        missing = chunk["size"] - (len(data) - offset)
        raise BrokenFile(
            f"The file claims {claimed:,} splats, but {missing:,} bytes of them are missing.", "Download it again."
        )
    table = np.ndarray(present, _RECORD, data, offset) if present else np.empty(0, _RECORD)
    draft = Draft(present, moving=True)

    def block(rows: slice) -> Counter[str]:
        record = table[rows]
        draft.means[rows] = record["mean"]
        draft.quats[rows] = record["quat"]
        draft.scales[rows] = record["scale"]
        rgba = record["rgba"] / np.float32(255)
        draft.sh[rows, 0] = sh.to_base(rgba[:, :3])
        draft.opacities[rows] = rgba[:, 3]
        draft.velocity[rows] = record["motion"]
        draft.spin[rows] = record["spin"]
        draft.center[rows] = record["center"]
        draft.width[rows] = record["width"]
        padding = (draft.width[rows] <= 0) | (draft.quats[rows] == 0).all(axis=1)
        draft.keep[rows] = ~padding
        return Counter({PADDING: int(np.count_nonzero(padding))})

    draft.fill(block)
    warnings = (f"The file is cut off: {present:,} of {claimed:,} records are there.",) if present < claimed else ()
    cameras = chunk.get("cameras")
    return draft.finish(Source(NAME, axes=AXES, warnings=warnings, details={"cameras": cameras} if cameras else {}), data)


def encode(cloud: SplatCloud) -> list[bytes]:
    """Largest and most opaque first; a still cloud is written as one that never fades.

    Spherical harmonics above degree 0 have no place in the format.
    """
    cloud = largest_first(change_axes(cloud, AXES))
    count = len(cloud)
    rows = max(-(-count // SPLATS_A_ROW), 1)
    table = np.zeros(rows * SPLATS_A_ROW, _RECORD)
    record = table[:count]
    record["mean"] = cloud.means
    record["quat"] = cloud.quats
    record["scale"] = np.clip(cloud.scales, np.finfo(np.float16).smallest_subnormal, _HALF)
    record["rgba"][:, :3] = np.rint(255 * np.clip(sh.to_rgb(cloud.sh[:, 0]), 0, 1))
    record["rgba"][:, 3] = np.rint(255 * cloud.opacities)
    record["width"] = _HALF
    if isinstance(cloud.family, Stg):
        record["motion"] = np.clip(cloud.family.velocity, -_HALF, _HALF)
        record["spin"] = np.clip(cloud.family.spin, -_HALF, _HALF)
        record["center"] = np.clip(cloud.family.center, -_HALF, _HALF)
        record["width"] = np.clip(cloud.family.width, np.finfo(np.float16).smallest_subnormal, _HALF)
    chunk: dict[str, Any] = {"type": "splat", "size": table.nbytes, "texwidth": TEXTURE_WIDTH, "texheight": rows}
    chunk["cameras"] = cloud.source.details.get("cameras", [])
    text = json.dumps([chunk], separators=(",", ":")).encode()
    return [MAGIC, len(text).to_bytes(4, "little"), text, table.tobytes()]


def clips(cloud: SplatCloud) -> list[str]:
    """What of a cloud is out of the format's range."""
    found = clipped_colours(cloud, NAME)
    if cloud.scales.min(initial=1) < np.finfo(np.float16).tiny or cloud.scales.max(initial=1) > _HALF:
        found.append(f"Scales below 0.00006 are rounded and those beyond 65,504 clipped: {NAME} files hold half floats.")
    if isinstance(cloud.family, Stg):
        if max(np.abs(array).max(initial=0) for array in (cloud.family.velocity, cloud.family.spin)) > _HALF:
            found.append(f"Motion beyond 65,504 is clipped: {NAME} files hold half floats.")
        if tuple(cloud.family.time_range) != (0.0, 1.0):
            found.append("How long the clip is, is not written: readers of splatv files take 0 to 1.")
    return found


def _find_splats(data: Bytes) -> tuple[dict[str, Any], int]:
    """The first chunk of splats, and where its payload begins."""
    length = int.from_bytes(data[4:8].tobytes(), "little")
    if length > min(len(data) - 8, LONGEST_JSON):
        raise BrokenFile("The .splatv file's list of contents is cut off or far too long.", "Download it again.")
    offset = 8 + length
    try:
        chunks = json.loads(data[8:offset].tobytes())
    except (ValueError, RecursionError) as error:
        raise BrokenFile("The .splatv file's list of contents is damaged.", "Download it again.") from error
    for chunk in chunks if isinstance(chunks, list) else []:
        size = chunk.get("size") if isinstance(chunk, dict) else None
        if type(size) is not int or size < 0:
            break
        if chunk.get("type") == "splat":
            return chunk, min(offset, len(data))
        offset += size
    raise BrokenFile("The .splatv file lists no splats.", "Export it again.")
