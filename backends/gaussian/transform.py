# SPDX-License-Identifier: GPL-3.0-or-later
"""Splats moved, turned, scaled and sheared: every Gaussian keeps exactly the shape that the map gives it."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from ..common.rotations import from_matrix, matrix, multiply, normalise
from .axes import turn_sh
from .cloud import Floats


@dataclasses.dataclass
class Splats:
    """Means (N, 3), unit quaternions (N, 4), scales (N, 3), opacities (N,), SH (N, K, 3): a still cloud without its story."""

    means: Floats
    quats: Floats
    scales: Floats
    opacities: Floats
    sh: Floats


def transformed(splats: Splats, change: NDArray[np.float64]) -> Splats:
    """The splats under an affine map (4, 4); SH turn by its rotation (that of the polar decomposition, mirrors included).

    A rotation or mirror with a common scale turns quaternions and multiplies scales; any other map shears the
    covariances, whose axes and scales are found anew.
    """
    if np.array_equal(change, np.eye(4)):
        return splats
    linear = change[:3, :3]
    left, stretch, right = np.linalg.svd(linear)
    turn = left @ right
    means = (splats.means @ linear.T + change[:3, 3]).astype(np.float32)
    if np.ptp(stretch) <= 1e-6 * stretch[0]:
        spin = turn * np.linalg.det(turn)  # a Gaussian looks the same through its centre, as a mirror and its opposite do
        quats = multiply(from_matrix(spin), splats.quats).astype(np.float32)
        scales = (splats.scales * stretch.mean()).astype(np.float32)
    else:
        quats, scales = sheared(splats.quats, splats.scales, linear)
    return Splats(means, quats, scales, splats.opacities, turn_sh(splats.sh, turn))


def sheared(quats: Floats, scales: Floats, linear: NDArray[np.float64]) -> tuple[Floats, Floats]:
    """Axes and scales of L R S S R^T L^T, from the singular values of L R S: exact for needles too; L (3, 3) or (N, 3, 3)."""
    factors = linear @ matrix(normalise(quats.astype(np.float64))) * scales[:, None, :]
    bad = ~np.isfinite(factors).all(axis=(1, 2))
    factors[bad] = np.eye(3)
    axes, sizes, _ = np.linalg.svd(factors)
    sizes[bad] = np.nan  # what was not finite stays so
    axes[..., 2] *= np.linalg.det(axes)[:, None]
    return from_matrix(axes).astype(np.float32), sizes.astype(np.float32)
