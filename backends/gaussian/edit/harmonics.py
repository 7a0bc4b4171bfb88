# SPDX-License-Identifier: GPL-3.0-or-later
"""Spherical harmonics turned by another rotation for each splat."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...common.threads import in_blocks
from .. import sh
from ..axes import turn_sh
from ..cloud import Floats

_DIRECTIONS = 48
"""Twice as many as coefficients at most."""


def turn_each(coefficients: Floats, turns: NDArray[np.float64]) -> Floats:
    """SH coefficients (N, K, 3) turned by rotations or mirrors, (3, 3) for all or (N, 3, 3).

    What each splat showed along enough directions is fitted anew, which is exact: rotations keep every band.
    """
    if turns.ndim == 2:
        return turn_sh(coefficients, turns)
    count = coefficients.shape[1]
    if count == 1:
        return coefficients
    directions = np.random.default_rng(1).normal(size=(_DIRECTIONS, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    fit = np.linalg.pinv(sh.basis(directions, count))
    turned = np.empty_like(coefficients)

    def block(rows: slice) -> None:
        before = (directions @ turns[rows]).reshape(-1, 3)  # rows times Q: Q^T d
        seen = sh.basis(before, count).reshape(-1, _DIRECTIONS, count) @ coefficients[rows].astype(np.float64)
        turned[rows] = fit @ seen

    in_blocks(block, len(coefficients), rows=2048)
    return turned
