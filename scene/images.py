# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures <-> Blender images."""

import pathlib

import bpy
import numpy as np
from numpy.typing import NDArray

from ..backends.common import exr
from ..backends.common.errors import VivantError

FAR = 1e10  # metres


def display_to_linear(rgb: NDArray[np.floating]) -> NDArray[np.floating]:
    """Scene-linear light of sRGB-encoded values (IEC 61966-2-1); values may exceed 1."""
    rgb = np.maximum(rgb, 0)
    return np.where(rgb < 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def to_light(picture: NDArray[np.floating]) -> NDArray[np.floating]:
    """Scene-linear premultiplied light of a picture (H, W, 4) of premultiplied display RGB and alpha."""
    alpha = picture[..., 3:]
    straight = picture[..., :3] / np.maximum(alpha, 1e-6)
    return np.concatenate([display_to_linear(straight) * alpha, alpha], axis=2)


def write_plate(name: str, picture: NDArray[np.floating]) -> bpy.types.Image:
    """A new packed float image of a picture (H, W, 4), rows from the top, premultiplied display RGB and alpha.

    The image holds scene-linear light, so that the view transform Standard shows the values as given.
    """
    height, width = picture.shape[:2]
    image = bpy.data.images.new(name, width, height, alpha=True, float_buffer=True)
    image.alpha_mode = "PREMUL"
    image.pixels.foreach_set(np.ascontiguousarray(to_light(picture)[::-1], np.float32).reshape(-1))
    image.update()
    image.pack()
    return image


def write_layers(path: pathlib.Path, picture: NDArray[np.floating], **depths: NDArray[np.floating]) -> bpy.types.Image:
    """A multilayer EXR of a picture, as `write_plate` stores it, and of depths (H, W), loaded for the compositor.

    Where a depth is infinite it is FAR, as in Blender's own.  Raises VivantError when the file cannot be written.
    """
    channels = {
        f"Splats.Combined.{letter}": plane for letter, plane in zip("RGBA", to_light(picture).transpose(2, 0, 1), strict=True)
    }
    for name, depth in depths.items():
        channels[f"Splats.{name.title()}.Z"] = np.minimum(depth, FAR)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(exr.encode(channels))
    except OSError as error:
        raise VivantError(f"{path.name} cannot be written: {error.strerror}.", "Choose another folder.") from error
    image = bpy.data.images.load(str(path), check_existing=True)
    image.reload()
    _ = image.size[:]  # asked for its size, Blender opens the file and finds its layers
    return image
