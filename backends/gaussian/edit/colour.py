# SPDX-License-Identifier: GPL-3.0-or-later
"""Colours of splats graded: any affine change of display colours reaches every direction exactly, because SH are linear."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...common.errors import VivantError
from .. import sh
from ..cloud import SplatCloud
from ..motion.frames import Frames
from ..motion.rotor4d import Rotor4D
from ..motion.stg_full import StgFull

LUMA = np.array([0.2126, 0.7152, 0.0722])
"""Rec. 709 weights of red, green and blue."""


def grading(
    colour: ArrayLike = (1.0, 1.0, 1.0), brightness: float = 1.0, contrast: float = 1.0, saturation: float = 1.0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Matrix (3, 3) and offset (3,) on display colours: saturation, then contrast about mid grey, brightness and colour."""
    grey = np.broadcast_to(LUMA, (3, 3))
    gain = np.diag(np.asarray(colour, np.float64)) * brightness
    return gain @ (contrast * (grey + saturation * (np.eye(3) - grey))), gain @ np.full(3, 0.5 * (1 - contrast))


def recoloured(
    cloud: SplatCloud, matrix: ArrayLike, offset: ArrayLike = (0.0, 0.0, 0.0), where: ArrayLike = True
) -> SplatCloud:
    """The cloud whose display colours c are matrix c + offset, from every direction and at any time.

    where: bool (N,), the splats that change.  Raises VivantError for colours that a network makes, and for frames in files.
    """
    from ..motion.hexplane import HexPlane  # which Blender need not wait for when it starts

    _refuse_frames(cloud)
    family = cloud.family
    if (isinstance(family, StgFull) and family.decoder) or (isinstance(family, HexPlane) and "shs_deform" in family.heads):
        raise VivantError(
            "The colours of these splats come from a network.",
            "Fit them by spacetime Gaussians of the lite model, or edit the still cloud.at(time).",
        )
    matrix, where = np.asarray(matrix, np.float64), np.broadcast_to(np.asarray(where, bool), len(cloud))
    lift = sh.to_base(matrix @ np.full(3, 0.5) + np.asarray(offset, np.float64)).astype(np.float32)
    mixed = cloud.sh.copy()
    mixed[where] = cloud.sh[where] @ matrix.T.astype(np.float32)
    mixed[where, 0] += lift
    if isinstance(family, Rotor4D):
        waves = family.waves.copy()
        waves[where] = waves[where] @ matrix.T.astype(np.float32)
        family = dataclasses.replace(family, waves=waves)
    return cloud.replace(sh=mixed, family=family)


def faded(cloud: SplatCloud, factor: float, where: ArrayLike = True) -> SplatCloud:
    """The cloud with opacities times a factor, at most 1; where: bool (N,), the splats that change.

    Raises VivantError for frames in files.
    """
    _refuse_frames(cloud)
    return cloud.replace(opacities=np.where(where, np.clip(cloud.opacities * factor, 0, 1), cloud.opacities))


def limited(cloud: SplatCloud, degree: int) -> SplatCloud:
    """The cloud without the spherical harmonics above a degree.  Raises VivantError for frames in files."""
    count = (degree + 1) ** 2
    if cloud.sh.shape[1] <= count:
        return cloud
    _refuse_frames(cloud)
    family = cloud.family
    if isinstance(family, Rotor4D):
        family = dataclasses.replace(family, waves=family.waves[:, :, :count])
    return cloud.replace(sh=cloud.sh[:, :count], family=family)


def _refuse_frames(cloud: SplatCloud) -> None:
    if isinstance(cloud.family, Frames):
        raise VivantError("The frames of this cloud are in files, which edits do not reach.", "Edit the still cloud.at(time).")
