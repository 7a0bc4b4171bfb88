# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a camera file may be believed: sound numbers, rigid poses, pictures inside the file's folder, JSON of sane size."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..cameras import Camera, View, intrinsics
from ..errors import BrokenFile

MOST_VIEWS = 100_000
LARGEST_PICTURE = 1 << 20  # pixels a side
LATEST = 1e5  # seconds
ENDINGS = ("", ".png", ".jpg", ".jpeg", ".webp", ".JPG", ".PNG")
_UNSOUND = "without sound numbers are left out"
_SCALED = "stretch or mirror space: only their rotation is taken"
# Bytes that Python's objects take for what a JSON text holds, from above
_COST = {b"[": 96, b"{": 300, b",": 40}


def parse_json(data: bytes, name: str) -> Any:
    """The content of a JSON text that takes no more than a few times its own size in memory.

    Raises BrokenFile, also for a text that would take far more, as no camera file does.
    """
    if sum(data.count(mark) * cost for mark, cost in _COST.items()) > 3 * len(data) + (40 << 20):
        raise BrokenFile(f"'{name}' is no list of cameras but something far larger.", "Get it from a source that you trust.")
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BrokenFile(f"'{name}' is damaged: it is not sound JSON.", "Export or download it again.") from error


def number(value: Any) -> float:
    """A finite number of a JSON text, NaN for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    try:
        found = float(value)
    except OverflowError:
        return math.nan
    return found if math.isfinite(found) else math.nan


def numbers(value: Any, shape: tuple[int, ...]) -> NDArray[np.float64] | None:
    """An array of finite numbers of exactly that shape, None for anything else."""
    if len(shape) > 1:
        if not isinstance(value, list) or len(value) != shape[0]:
            return None
        rows = [numbers(row, shape[1:]) for row in value]
        return None if any(row is None for row in rows) else np.array(rows)
    if not isinstance(value, list) or len(value) != shape[0]:
        return None
    found = np.array([number(each) for each in value])
    return found if np.isfinite(found).all() else None


class Gathering:
    """Views as a file gives them, those that cannot be left out and counted."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.views: list[View] = []
        self.counts: Counter[str] = Counter()
        self.notes: dict[str, None] = {}

    def add(
        self,
        lens: ArrayLike,
        rotation: ArrayLike | None,
        position: ArrayLike | None,
        size: tuple[float, float],
        name: str,
        image: str = "",
        time: float | None = None,
    ) -> None:
        """One view: lens (fx, fy, cx, cy), camera-to-world rotation (3, 3) in OpenCV axes, centre, width and height.

        Raises BrokenFile for more views than anybody has.
        """
        if len(self.views) >= MOST_VIEWS:
            raise BrokenFile(f"The file lists more than {MOST_VIEWS:,} {self.what}.", "Export fewer of them.")
        fx, fy, cx, cy = np.asarray(lens, np.float64)
        width, height = size
        with np.errstate(invalid="ignore", over="ignore"):
            sound = (
                rotation is not None
                and position is not None
                and bool(np.isfinite([fx, fy, cx, cy, width, height]).all())
                and 1 <= width <= LARGEST_PICTURE
                and 1 <= height <= LARGEST_PICTURE
                and min(fx / width, fy / height) > 0.01  # 178 degrees
                and max(fx / width, fy / height, abs(cx / width), abs(cy / height)) < 1e4
                and 0.01 < fx / fy < 100
                and float(np.abs(position).max()) < 1e9
            )
        turn = _nearest_rotation(np.asarray(rotation, np.float64)) if sound else None
        if turn is None or rotation is None:
            self.counts[_UNSOUND] += 1
            return
        if not np.allclose(turn, rotation, atol=1e-3):
            self.counts[_SCALED] += 1
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = turn, position
        camera = Camera(intrinsics(fx, fy, cx, cy), pose, int(width), int(height))
        self.views.append(View(camera, name, image, time if time is not None and abs(time) <= LATEST else None))

    def note(self, sentence: str) -> None:
        """Say something once."""
        self.notes[sentence] = None

    def finish(self) -> tuple[tuple[View, ...], tuple[str, ...]]:
        """The views and the warnings.  Raises BrokenFile where no view is sound."""
        if not self.views:
            raise BrokenFile(f"None of the file's {self.what} has a sound pose and lens.", "Export it again.")
        counted = [f"{count:,} {self.what} {text}." for text, count in self.counts.items()]
        return tuple(self.views), (*self.notes, *counted)


def _nearest_rotation(matrix: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """The rotation (3, 3) nearest to a matrix of rotation and scale, None where it has none."""
    if not np.isfinite(matrix).all() or not 1e-6 < np.abs(matrix).max() < 1e6:
        return None
    left, scales, right = np.linalg.svd(matrix)
    if scales[2] < 1e-3 * scales[0]:
        return None
    turn = left @ right
    return None if np.linalg.det(turn) < 0 else turn


def picture(folder: Path, name: str) -> str:
    """Path of the picture that a file names, "" where there is none inside `folder`; the name may lack its ending."""
    if not name or "\0" in name or len(name) > 1000 or re.match(r"[A-Za-z]:", name):
        return ""
    plain = Path(name.replace("\\", "/"))
    if plain.is_absolute() or ".." in plain.parts:
        return ""
    for ending in ENDINGS:
        path = folder / (str(plain) + ending)
        try:
            if path.is_file() and path.resolve().is_relative_to(folder.resolve()):
                return str(path)
        except OSError:
            return ""
    return ""


def picture_size(path: str) -> tuple[int, int] | None:
    """Width and height that a PNG, JPEG or WebP picture says it has."""
    try:
        with Path(path).open("rb") as file:
            head = file.read(1 << 16)
    except OSError:
        return None
    if head.startswith(b"\x89PNG") and len(head) >= 24:
        return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")
    if head[8:12] == b"WEBP" and len(head) >= 30:
        if head[12:16] == b"VP8X":
            return 1 + int.from_bytes(head[24:27], "little"), 1 + int.from_bytes(head[27:30], "little")
        if head[12:16] == b"VP8L":
            bits = int.from_bytes(head[21:25], "little")
            return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
        return int.from_bytes(head[26:28], "little") & 0x3FFF, int.from_bytes(head[28:30], "little") & 0x3FFF
    if head.startswith(b"\xff\xd8"):
        at = 2
        while at + 9 <= len(head) and head[at] == 0xFF:
            if 0xC0 <= head[at + 1] <= 0xCF and head[at + 1] not in (0xC4, 0xC8, 0xCC):
                return int.from_bytes(head[at + 7 : at + 9], "big"), int.from_bytes(head[at + 5 : at + 7], "big")
            at += 2 + int.from_bytes(head[at + 2 : at + 4], "big")
    return None


def bent_pixels(lens: ArrayLike, size: tuple[float, float], terms: dict[str, float]) -> float:
    """Pixels by which OpenCV's lens distortion (k1 … k6, p1, p2) moves the outermost point of a picture's border."""
    fx, fy, cx, cy = np.asarray(lens, np.float64)
    along = np.linspace(0, 1, 9)
    u, v = np.meshgrid(along * size[0], along * size[1])
    k1, k2, k3, k4, k5, k6 = (terms.get(f"k{i}", 0.0) for i in range(1, 7))
    p1, p2 = terms.get("p1", 0.0), terms.get("p2", 0.0)
    with np.errstate(all="ignore"):
        x, y = (u - cx) / fx, (v - cy) / fy
        r = x * x + y * y
        radial = (1 + r * (k1 + r * (k2 + r * k3))) / (1 + r * (k4 + r * (k5 + r * k6)))
        dx = x * (radial - 1) + 2 * p1 * x * y + p2 * (r + 2 * x * x)
        dy = y * (radial - 1) + p1 * (r + 2 * y * y) + 2 * p2 * x * y
        moved = float(np.hypot(dx * fx, dy * fy).max())
    return math.inf if math.isnan(moved) else moved


def distortion_note(model: str, pixels: float | None = None) -> str:
    """The sentence on lens distortion that a pinhole camera cannot have."""
    far = "" if pixels is None or pixels > 1e6 else f", up to {pixels:,.1f} pixels at the border"
    return f"Lens distortion ({model}) is left out{far}: undistort the pictures to match them exactly."
