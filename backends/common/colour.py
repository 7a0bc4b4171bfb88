# SPDX-License-Identifier: GPL-3.0-or-later
"""Display values <-> scene-linear light: the sRGB curve (IEC 61966-2-1) on Rec. 709 colours."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


def to_linear(rgb: Array) -> Array:
    """Scene-linear light of sRGB-encoded values; negative ones count as 0, others may exceed 1."""
    rgb = np.maximum(rgb, 0)
    return np.where(rgb < 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def to_display(light: Array) -> Array:
    """sRGB-encoded values of scene-linear light; negative ones count as 0, others may exceed 1."""
    light = np.maximum(light, 0)
    return np.where(light < 0.0031308, light * 12.92, 1.055 * np.maximum(light, 0.0031308) ** (1 / 2.4) - 0.055)
