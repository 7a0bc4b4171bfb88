# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures <-> Blender images."""

import bpy
import numpy as np
from numpy.typing import NDArray


def display_to_linear(rgb: NDArray[np.floating]) -> NDArray[np.floating]:
    """Scene-linear light of sRGB-encoded values (IEC 61966-2-1); values may exceed 1."""
    rgb = np.maximum(rgb, 0)
    return np.where(rgb < 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def write_plate(name: str, picture: NDArray[np.floating]) -> bpy.types.Image:
    """A new packed float image of a picture (H, W, 4), rows from the top, premultiplied display RGB and alpha.

    The image holds scene-linear light, so that the view transform Standard shows the values as given.
    """
    height, width = picture.shape[:2]
    alpha = picture[..., 3:]
    straight = picture[..., :3] / np.maximum(alpha, 1e-6)
    pixels = np.concatenate([display_to_linear(straight) * alpha, alpha], axis=2)
    image = bpy.data.images.new(name, width, height, alpha=True, float_buffer=True)
    image.alpha_mode = "PREMUL"
    image.pixels.foreach_set(np.ascontiguousarray(pixels[::-1], np.float32).reshape(-1))
    image.update()
    image.pack()
    return image
