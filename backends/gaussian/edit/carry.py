# SPDX-License-Identifier: GPL-3.0-or-later
"""Splats carried to new places, each with the linear map around it: what every edit of shapes comes down to.

A map J takes a covariance to J S J^T.  Its polar rotation Q (J = Q P, mirrors included) turns the spherical harmonics, and
paths are mapped by J.  For rotations, mirrors and a common scale all of that is exact; for others colours are turned but
not stretched, because no capture says what a stretched thing would look like from the side.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...common.errors import VivantError
from ...common.rotations import from_matrix, multiply
from ..cloud import SplatCloud
from ..motion.frames import Frames
from ..transform import sheared
from . import motion
from .harmonics import turn_each

Array = NDArray[np.floating]
Doubles = NDArray[np.float64]

FLATTEST = 1e-9
"""Ratio of a map's smallest to its largest stretch below which it flattens space."""


def transformed(cloud: SplatCloud, matrix: ArrayLike) -> SplatCloud:
    """The cloud, with its motion, under an affine map (4, 4) of its own coordinates; the identity gives the cloud itself.

    Raises VivantError for a map that flattens space, and for motion that it cannot be applied to.
    """
    matrix = np.asarray(matrix, np.float64)
    if np.array_equal(matrix, np.eye(4)):
        return cloud
    linear = matrix[:3, :3]
    means = cloud.means @ linear.T + matrix[:3, 3]
    family = cloud.family
    if isinstance(family, Frames):  # its frames are clouds themselves
        return carried(cloud.replace(family=None), means, linear).replace(family=_frames(family, matrix))
    motion.check_place(family, matrix[:3, 3])
    return carried(cloud, means, linear)


def carried(cloud: SplatCloud, means: ArrayLike, maps: ArrayLike) -> SplatCloud:
    """The cloud with its splats at `means` (N, 3), what is around each mapped by `maps`, (3, 3) for all or (N, 3, 3).

    Paths are exact under one map for all, else to first order at each splat.  Raises VivantError for a map that flattens
    space, and for motion that cannot be carried.
    """
    maps = np.asarray(maps, np.float64)
    left, stretch, right = _taken_apart(maps)
    turns = left @ right
    # a Gaussian looks the same through its centre: a mirror turns it as the mirror's opposite does
    spins = from_matrix(turns * np.linalg.det(turns)[..., None, None])
    if (np.ptp(stretch, axis=-1) <= 1e-6 * stretch[..., 0]).all():
        quats: Array = multiply(spins, cloud.quats.astype(np.float64))
        scales: Array = cloud.scales * stretch.mean(axis=-1)[..., None]
    else:
        quats, scales = sheared(cloud.quats, cloud.scales, maps)
    change = motion.Change(maps, turns, spins, cloud.quats, quats)
    return cloud.replace(
        means=np.asarray(means, np.float64),
        quats=quats,
        scales=scales,
        sh=turn_each(cloud.sh, turns),
        family=motion.carried(cloud.family, change) if cloud.family else None,
    )


def _taken_apart(maps: Doubles) -> tuple[Doubles, Doubles, Doubles]:
    if not np.isfinite(maps).all():
        raise VivantError("The splats cannot follow: a part of the transform is not finite.", "Check scale and location.")
    left, stretch, right = np.linalg.svd(maps)
    if (stretch[..., 2] <= FLATTEST * stretch[..., 0]).any():
        raise VivantError("The splats would be flattened: their scale is zero along an axis.", "Give every axis a scale.")
    return left, stretch, right


def _frames(family: Frames, matrix: Doubles) -> Frames:
    """The same frames under an affine map, put into the cloud's frame first."""
    place = np.eye(4)
    place[:3, :3] = family.frame
    whole, read = matrix @ place, family.read
    return Frames(
        family.times, lambda i: transformed(read(i), whole), family.linked, index=family.index, time_range=family.time_range
    )
