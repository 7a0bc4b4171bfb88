# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures to train on, read by Pillow: premultiplied display values, as a rasteriser blends them."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...common import exr
from ...common.errors import BrokenFile, NeedsEngine, VivantError

REDUCTIONS = (1, 2, 4, 8)
LAYERS = {
    "depth": ("Depth",),
    "normal": ("Normal",),
    "object_index": ("Object Index", "IndexOB"),
    "albedo": ("Diffuse Color", "DiffCol"),
}
"""Passes, and what Blender calls them in EXR files from 5.0 on and before."""
_LARGEST = 1 << 28  # pixels of one picture
_OF_16_BITS = ("I;16", "I;16B", "I;16L", "I;16N", "I")


def read(path: str | os.PathLike[str], reduction: int = 1) -> NDArray[np.float32]:
    """A picture (H, W, 4): display RGB multiplied by alpha, and alpha, from 0 to 1, rows from the top.

    reduction: 1, 2, 4 or 8 pixels a side become one, their mean; rows and columns that are over at the right and at the
    bottom are left out.  Raises BrokenFile for a picture that is cut off or none, NeedsEngine without Pillow.
    """
    path = Path(path)
    image_module = _pillow()
    straight: NDArray[np.float32]
    try:
        with image_module.open(path) as image:
            if image.width * image.height > _LARGEST:
                raise BrokenFile(
                    f"The picture '{path.name}' says it has {image.width} x {image.height} pixels.", "Make it smaller."
                )
            if image.mode in _OF_16_BITS:
                grey = np.asarray(image, np.float32) / np.float32(65535)
                straight = np.stack([grey, grey, grey, np.ones_like(grey)], axis=-1)
            else:
                straight = np.asarray(image.convert("RGBA"), np.float32) * np.float32(1 / 255)
    except FileNotFoundError as error:
        raise VivantError(f"The picture '{path}' is missing.", "Put it back, or take its frame out of the list.") from error
    except (OSError, SyntaxError, ValueError, image_module.DecompressionBombError) as error:
        raise BrokenFile(f"The picture '{path.name}' is broken: {_said(error)}", "Render or export it again.") from error
    straight[..., :3] *= straight[..., 3:]
    return reduced(straight, reduction)


def read_pass(path: str | os.PathLike[str], name: str) -> NDArray[np.float32]:
    """A pass (H, W, C) of a picture, one of LAYERS, from an EXR file: metres along the view axis (1e10 where nothing is), the
    world's normals, object indices, scene-linear albedo.

    Raises BrokenFile for a damaged file, VivantError for one without the pass.
    """
    path = Path(path)
    try:
        found = exr.decode(path.read_bytes(), path.name)
    except OSError as error:
        raise VivantError(f"'{path}' cannot be read: {error.strerror or error}.", "Capture it again.") from error
    for layer in LAYERS[name]:
        channels = {title.rsplit(".", 1)[1]: each for title, each in found.items() if f".{title}".rsplit(".", 2)[1] == layer}
        if channels:
            order = sorted(channels, key="RGBXYZV".find)
            return np.stack([channels[each] for each in order], axis=-1)
    raise VivantError(f"'{path.name}' has no pass '{name}'.", "Capture again with that pass.")


def size_of(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Width and height of a picture, from its first bytes.  Raises as `read` does."""
    path = Path(path)
    image_module = _pillow()
    try:
        with image_module.open(path) as image:
            return image.size
    except (OSError, SyntaxError, ValueError, image_module.DecompressionBombError) as error:
        raise BrokenFile(f"The picture '{path.name}' is broken: {_said(error)}", "Render or export it again.") from error


def reduced(picture: NDArray[np.float32], reduction: int) -> NDArray[np.float32]:
    """The mean of every reduction x reduction pixels of a picture (H, W, C)."""
    if reduction not in REDUCTIONS:
        raise VivantError(f"Pictures cannot be reduced by {reduction}.", "Give 1, 2, 4 or 8.")
    if reduction == 1:
        return picture
    height, width = (side // reduction for side in picture.shape[:2])
    blocks = picture[: height * reduction, : width * reduction].reshape(height, reduction, width, reduction, -1)
    return blocks.mean(axis=(1, 3), dtype=np.float32)


class Pictures(Sequence[NDArray[np.float32]]):
    """Pictures at one reduction, each read when it is first asked for and then kept, as float16 (an eighth of 8 bits' step).

    Each is float32 (H, W, 4), premultiplied display values.
    """

    def __init__(self, paths: Sequence[str], reduction: int = 1) -> None:
        self.paths = tuple(paths)
        self.reduction = reduction
        self._kept: list[NDArray[np.float16] | None] = [None] * len(self.paths)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        kept = self._kept[index]
        if kept is None:
            kept = self._kept[index] = read(self.paths[index], self.reduction).astype(np.float16)
        return kept.astype(np.float32)

    def read_all(self, progress: Callable[[float, float, str], None] | None = None) -> None:
        """Read them now, on all cores.  Raises for the first that is broken, so that training need not."""

        def one(index: int) -> None:
            self[index]

        with ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
            try:
                for done, _ in enumerate(pool.map(one, range(len(self)))):
                    if progress:
                        progress(done + 1, len(self), "reading pictures")
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise


def kept_bytes(width: int, height: int, count: int, reduction: int = 1) -> int:
    """Memory that so many pictures of a size take when `Pictures` keeps them, and one of them at its full size."""
    return count * (width // reduction) * (height // reduction) * 4 * 2 + 2 * width * height * 4 * 4


def _pillow() -> Any:
    try:
        return importlib.import_module("PIL.Image")
    except ImportError as error:
        raise NeedsEngine(
            "Pictures to train on are read by Pillow, which is missing.", "Run this in Blender's engine."
        ) from error


def _said(error: BaseException) -> str:
    text = str(error).rstrip(".").split("\n")[0][:120] or type(error).__name__
    return "nothing known as a picture." if "cannot identify" in text else f"{text}."
