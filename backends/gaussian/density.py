# SPDX-License-Identifier: GPL-3.0-or-later
"""Fewer splats that look like all of them: which stay, and how those make up for the others.

A splat stays with a probability in proportion to the square root of its opacity times its area, at most 1: large opaque ones
always do.  What stays is made denser by the inverse of that probability and, where it is opaque already, larger, so that
everything together covers what it covered (after Cook, Halstead, Planck and Ryu, "Stochastic Simplification of Aggregate
Detail", 2007).  The node group 'Vivant Density' computes the same.  `benchmarks/splats_density.py` compares alternatives.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .cloud import Floats, SplatCloud
from .render.constants import ALPHA_MAX

PLACES, STRIDE = 33461, 13860
"""From convergents of the root of two: steps of STRIDE modulo PLACES spread whatever run of splats evenly over 0 to 1, and
fit 32-bit integers.  Steps of the golden ratio would, too, but skies and stages are laid out by those: of a Fibonacci sphere
a wedge would stay."""

ROUNDS = 4
"""Newton steps to the factor that keeps as many splats as asked for: to a hundredth, real captures to a thousandth."""


def weights(scales: Floats, opacities: Floats | None = None) -> Floats:
    """How much splats (N,) count: the root of opacity times area; of area alone for splats whose opacity changes in time."""
    x, y, z = scales.T
    area = x * y + y * z + z * x
    return np.sqrt(area if opacities is None else area * opacities)


def shares(weight: Floats, density: float) -> Floats:
    """Probabilities (N,) to stay, in proportion to weights (N,) and at most 1, whose mean is `density`."""
    factor = 0.0
    for _ in range(ROUNDS):
        sure = weight * factor >= 1
        rest = weight.sum(where=~sure, dtype=np.float64)
        factor = (density * len(weight) - np.count_nonzero(sure)) / rest if rest else 0.0
    return np.minimum(weight * np.float32(factor), 1)


def chosen(share: Floats) -> NDArray[np.intp]:
    """Indices of the splats that stay; lower shares choose among those that higher ones do."""
    place = np.arange(len(share), dtype=np.int64) % PLACES * STRIDE % PLACES
    return np.flatnonzero(((place + 0.5) / PLACES).astype(np.float32) <= share)


def compensated(scales: Floats, opacities: Floats, share: Floats) -> tuple[Floats, Floats]:
    """Scales (N, 3) and opacities (N,) of splats that stayed with a probability and stand for those that did not.

    Optical thickness is divided by the share; what opacity cannot hold of that is area.
    """
    thicker = 1 - (1 - np.minimum(opacities, ALPHA_MAX)) ** (1 / share)
    denser = np.maximum(opacities, np.minimum(thicker, ALPHA_MAX))
    larger = np.sqrt(opacities / np.maximum(share * denser, np.finfo(np.float32).tiny))
    return scales * larger[:, None].astype(np.float32), denser.astype(np.float32)


def thinned(cloud: SplatCloud, density: float) -> SplatCloud:
    """About that share (0 to 1) of a cloud's splats, which look as much as possible like all of them."""
    if density >= 1:
        return cloud
    share = shares(weights(cloud.scales, None if cloud.family else cloud.opacities), density)
    kept = chosen(share)
    part = cloud.select(kept)
    scales, opacities = compensated(part.scales, part.opacities, share[kept])
    return part.replace(scales=scales, opacities=opacities)
