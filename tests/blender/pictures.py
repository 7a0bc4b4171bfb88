# SPDX-License-Identifier: GPL-3.0-or-later
"""Rendering in tests, and comparing pictures."""

import math
import pathlib

import bpy
import numpy as np


def render(scene: "bpy.types.Scene", engine: str, folder: pathlib.Path) -> np.ndarray:
    """The scene as float (H, W, 4), rows from the top, by 'CYCLES' or 'EEVEE'."""
    from vivant.scene import colour, compat

    colour.display_blending(scene)
    settings = scene.render
    settings.engine = compat.EEVEE if engine == "EEVEE" else engine
    settings.film_transparent = True
    settings.image_settings.file_format = "OPEN_EXR"
    settings.image_settings.color_depth = "32"
    settings.image_settings.color_mode = "RGBA"
    settings.filepath = str(folder / f"{engine}.exr")
    bpy.ops.render.render(write_still=True)
    return load(settings.filepath)


def load(path: str) -> np.ndarray:
    """A picture file as float (H, W, 4), rows from the top, raw values."""
    image = bpy.data.images.load(path, check_existing=False)
    image.colorspace_settings.name = "Non-Color"
    width, height = image.size
    pixels = np.empty(width * height * 4, np.float32)
    image.pixels.foreach_get(pixels)
    bpy.data.images.remove(image)
    return pixels.reshape(height, width, 4)[::-1]


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Peak signal to noise ratio, dB, of values clipped to 0..1."""
    error = np.square(np.clip(a, 0, 1).astype(float) - np.clip(b, 0, 1)).mean()
    return -10 * math.log10(max(error, 1e-20))
