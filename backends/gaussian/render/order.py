# SPDX-License-Identifier: GPL-3.0-or-later
"""The order in which splats are blended, far to near: a radix sort of depths in 16 bits.

NumPy lets go of the interpreter in every step here, so that a thread sorts while another one draws.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

STEPS = 65535  # of 16-bit keys, which NumPy sorts by radix


def depths_of(clouds: Sequence[Floats], lines: Sequence[Floats]) -> Floats:
    """Distances (N,) along the view of the points (Nᵢ, 3) of all clouds one after the other; negative behind the eye.

    lines: of each cloud the third row (4,) of its matrix to the view, which looks along -z.
    """
    depths = np.empty(sum(map(len, clouds)), np.float32)
    start = 0
    for means, line in zip(clouds, lines, strict=True):
        part = depths[start : start + len(means)]
        np.matmul(means, -line[:3], out=part)
        part -= line[3]
        start += len(means)
    return depths


def far_first(depths: Floats, perspective: bool) -> NDArray[np.intp]:
    """Indices of N depths, the largest first; in perspective all are positive.

    In perspective 1/5000 of the distance is told apart over 12 octaves, without it 1/65536 of the whole depth;
    what is equal at that keeps its order.
    """
    if not len(depths):
        return np.empty(0, np.intp)
    scale = np.log(depths) if perspective else depths.copy()
    low, high = scale.min(), scale.max()
    np.subtract(high, scale, out=scale)
    scale *= np.float32(STEPS) / max(high - low, np.float32(1e-12))
    return np.argsort(scale.astype(np.uint16), kind="stable")
