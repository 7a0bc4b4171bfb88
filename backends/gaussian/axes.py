# SPDX-License-Identifier: GPL-3.0-or-later
"""Coordinate frames of captures, named by where their X, Y and Z point.

A frame is three letters: R/L right or left, U/D up or down, F/B forward or back.  COLMAP and the
3DGS trainers use RDF, SPZ and OpenGL RUB, Blender RFU.
"""

import numpy as np
from numpy.typing import NDArray

from ..common.errors import VivantError

_DIRECTIONS = {"R": (1, 0, 0), "L": (-1, 0, 0), "F": (0, 1, 0), "B": (0, -1, 0), "U": (0, 0, 1), "D": (0, 0, -1)}


def to_blender(axes: str) -> NDArray[np.float64]:
    """Matrix (3, 3) that takes vectors of the frame `axes` to Blender's right, forward, up.

    Mirrored frames (LUB, say) give a determinant of -1.  Raises VivantError for anything that is
    not a frame.
    """
    columns = [_DIRECTIONS.get(letter, (0, 0, 0)) for letter in axes]
    matrix = np.array(columns, float).T
    if matrix.shape != (3, 3) or abs(np.linalg.det(matrix)) != 1:
        raise VivantError(f"'{axes}' is no coordinate frame.", "Give three letters such as RDF, RUB or RFU.")
    return matrix


def sign_flips(source: str, target: str) -> NDArray[np.float64] | None:
    """Signs (3,) that turn one frame into the other, or None where axes change places."""
    change = to_blender(target).T @ to_blender(source)
    diagonal = np.diag(change)
    return diagonal if np.abs(diagonal).sum() == 3 else None
