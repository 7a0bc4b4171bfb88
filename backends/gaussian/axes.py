# SPDX-License-Identifier: GPL-3.0-or-later
"""Coordinate frames of captures, named by where their X, Y and Z point.

A frame is three letters: R/L right or left, U/D up or down, F/B forward or back.  COLMAP and the
3DGS trainers use RDF, SPZ and OpenGL RUB, Blender RFU.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..common.errors import VivantError
from . import sh

if TYPE_CHECKING:
    from .cloud import SplatCloud

Array = NDArray[np.floating]

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


def change_axes(cloud: SplatCloud, axes: str) -> SplatCloud:
    """The same cloud written in another frame: means, rotations, SH and motion; a cloud already in it is returned as it is.

    Every splat keeps its shape exactly, mirrored frames included (a Gaussian has no handedness).
    Raises VivantError for anything that is not a frame.
    """
    change = to_blender(axes).T @ to_blender(cloud.source.axes)
    if np.array_equal(change, np.eye(3)):
        return cloud
    return cloud.replace(
        means=turn(cloud.means, change),
        quats=turn_quats(cloud.quats, change),
        scales=cloud.scales @ np.abs(change.T).astype(cloud.scales.dtype),
        sh=turn_sh(cloud.sh, change),
        family=cloud.family.change_axes(change) if cloud.family else None,
        source=dataclasses.replace(cloud.source, axes=axes),
    )


def turn(vectors: Array, change: Array) -> Array:
    """Vectors (…, 3) in a new frame; `change` (3, 3) takes old coordinates to new ones."""
    return vectors @ change.T.astype(vectors.dtype)


def turn_quats(quats: Array, change: Array) -> Array:
    """Quaternions (…, 4) of the rotations C R C^T, for a `change` C of axes: the local axes change with the frame.

    A rotation's axis is a pseudovector, so a mirror turns it the other way.
    """
    imaginary = turn(quats[..., 1:], change * np.linalg.det(change))
    return np.concatenate([quats[..., :1], imaginary], axis=-1)


def turn_sh(coefficients: Array, change: Array) -> Array:
    """SH coefficients (N, K, 3) of the same colours seen in a new frame; `change` may be any rotation or mirror.

    Each band turns within itself: its matrix solves Y(d) D = Y(C^T d) over more directions than the band has
    functions, which is exact.
    """
    count = coefficients.shape[1]
    if np.array_equal(np.abs(change), np.eye(3)):  # axes that only change their sign only change signs
        return coefficients * sh.flip_signs(count, np.diag(change)).astype(coefficients.dtype)[:, None]
    directions = np.random.default_rng(1).normal(size=(64, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    new, old = sh.basis(directions, count), sh.basis(directions @ change, count)
    turned = np.array(coefficients)
    for degree in range(1, sh.degree(count) + 1):
        band = slice(degree**2, (degree + 1) ** 2)
        matrix = np.linalg.lstsq(new[:, band], old[:, band], rcond=None)[0]
        matrix[np.abs(matrix) < 1e-12] = 0
        turned[:, band] = np.einsum("jk,nkc->njc", matrix.astype(turned.dtype), coefficients[:, band])
    return turned
