# SPDX-License-Identifier: GPL-3.0-or-later
"""cameras.json as 3DGS writes it beside its splats, also inside .splatv.

A list of {img_name, width, height, position, rotation, fx, fy}; rotation is camera to world with the camera's axes
as columns, OpenCV axes; the principal point is the picture's middle.  Source: graphdeco-inria/gaussian-splatting.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from ..cameras import CameraSet
from ..errors import BrokenFile
from . import sound

NAME = "cameras.json"
AXES = "RDF"
SPLATV = b"\x4b\x67\x00\x00"


def is_list(content: Any) -> bool:
    """Whether parsed JSON is such a list."""
    return isinstance(content, list) and bool(content) and isinstance(content[0], dict) and "rotation" in content[0]


def read(content: list[Any], folder: Path) -> CameraSet:
    """The cameras of a parsed list; pictures are looked for in `folder` and its folder `images`.

    Raises BrokenFile where none is sound.
    """
    gathering = sound.Gathering("cameras")
    for entry in content:
        entry = entry if isinstance(entry, dict) else {}
        width, height, fx, fy = (sound.number(entry.get(key)) for key in ("width", "height", "fx", "fy"))
        name = str(entry.get("img_name", ""))[:1000]
        image = sound.picture(folder, name) or sound.picture(folder / "images", name)
        rotation, position = sound.numbers(entry.get("rotation"), (3, 3)), sound.numbers(entry.get("position"), (3,))
        gathering.add((fx, fy, width / 2, height / 2), rotation, position, (width, height), name, image)
    views, warnings = gathering.finish()
    return CameraSet(views, AXES, warnings=warnings)


def inside_splatv(path: Path) -> Any:
    """The list of cameras in a .splatv file.  Raises BrokenFile where it has none."""
    with path.open("rb") as file:
        head = file.read(8)
        length = int.from_bytes(head[4:], "little")
        if length > min(path.stat().st_size, 2 << 20):
            raise BrokenFile("The .splatv file's list of contents is cut off or far too long.", "Download it again.")
        chunks = sound.parse_json(file.read(length), path.name)
    for chunk in chunks if isinstance(chunks, list) else []:
        if isinstance(chunk, dict) and is_list(chunk.get("cameras")):
            return chunk["cameras"]
    raise BrokenFile("The .splatv file holds no cameras.", "Take the cameras from the project that trained it.")


def encode(cameras: CameraSet) -> bytes:
    """The text of a cameras.json."""
    entries = []
    for index, view in enumerate(cameras.views):
        camera = view.camera
        entries.append(
            {
                "id": index,
                "img_name": view.name or f"{index + 1:05d}",
                "width": camera.width,
                "height": camera.height,
                "position": camera.camera_to_world[:3, 3].tolist(),
                "rotation": camera.camera_to_world[:3, :3].tolist(),
                "fy": float(camera.intrinsics[1, 1]),
                "fx": float(camera.intrinsics[0, 0]),
            }
        )
    return json.dumps(entries).encode()


def losses(cameras: CameraSet) -> list[str]:
    """What the format cannot hold."""
    off = [np.abs(c.intrinsics[:2, 2] - (c.width / 2, c.height / 2)).max() for c in (view.camera for view in cameras.views)]
    found = [f"Shifted lenses are written as centred ones: {NAME} holds no principal point."] if max(off) > 1e-3 else []
    if any(view.time is not None for view in cameras.views):
        found.append(f"Times are not written: {NAME} holds none.")
    return found
