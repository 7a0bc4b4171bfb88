# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures <-> Blender images."""

from pathlib import Path

import bpy
import numpy as np
from numpy.typing import NDArray


def write_plate(name: str, light: NDArray[np.floating]) -> bpy.types.Image:
    """A new packed float image of scene-linear light (H, W, 4), premultiplied, rows from the top."""
    height, width = light.shape[:2]
    image = bpy.data.images.new(name, width, height, alpha=True, float_buffer=True)
    image.alpha_mode = "PREMUL"
    image.pixels.foreach_set(np.ascontiguousarray(light[::-1], np.float32).reshape(-1))
    image.update()
    image.pack()
    return image


def load_layers(path: Path, several: bool = False) -> bpy.types.Image:
    """The image of a multilayer EXR for the compositor; several: of a numbered sequence that begins with it."""
    image = bpy.data.images.load(str(path), check_existing=True)
    if several:
        image.source = "SEQUENCE"
    image.reload()
    _ = image.size[:]  # asked for its size, Blender opens the file and finds its layers
    return image
