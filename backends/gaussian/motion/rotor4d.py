# SPDX-License-Identifier: GPL-3.0-or-later
"""4D Gaussian splatting: Gaussians in space and time, turned in four dimensions by two quaternions.

Cut at a time, a 4D Gaussian is a 3D one of constant shape on a straight path, with a bell of opacity (which
counts as nothing below CUTOFF): `Linear` motion.  Its colours may besides swing in time: to the spherical
harmonics are added waves n = 1, 2, … times cos(2 pi n (t - center) / length of the clip).
Source: Yang et al., "Real-time Photorealistic Dynamic Scene Representation and Rendering with 4D Gaussian
Splatting", and its code (fudan-zvg/4d-gaussian-splatting).
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...common.rotations import normalise
from ..axes import turn_sh
from ..covariance import covariances, decompose
from .linear import Floats, Linear

if TYPE_CHECKING:
    from ..cloud import SplatCloud

Array = NDArray[np.floating]

CUTOFF = 0.05
"""The share of its opacity below which a splat is not drawn."""

REACH = float(np.sqrt(-np.log(CUTOFF)))
"""Where that is, in widths from the center."""


@dataclass(frozen=True, eq=False)
class Rotor4D(Linear):
    """Linear motion, and waves (N, W, K, 3) of the spherical harmonics; W = 0 where colours do not change.

    turning: whether space and time are turned against each other ('rot_4d'); if not, velocities are zero.
    """

    name: ClassVar[str] = "4DGS"

    waves: Floats = dataclasses.field(default_factory=lambda: np.empty((0, 0, 1, 3), np.float32))
    turning: bool = True

    def __post_init__(self) -> None:
        if not self.waves.size:
            object.__setattr__(self, "waves", np.empty((len(self.center), 0, 1, 3), np.float32))

    def at(self, cloud: SplatCloud, time: float, camera: ArrayLike | None = None) -> SplatCloud:
        still = super().at(cloud, time)
        if not self.waves.shape[1]:
            return still
        d = np.clip(time, *self.time_range) - self.center.astype(np.float64)
        orders = np.arange(1, self.waves.shape[1] + 1)
        swing = np.cos(2 * np.pi * orders * d[:, None] / (self.time_range[1] - self.time_range[0]))
        return still.replace(sh=still.sh + np.einsum("nw,nwkc->nkc", swing.astype(np.float32), self.waves))

    def select(self, index: Any) -> Self:
        return dataclasses.replace(super().select(index), waves=self.waves[index])

    def change_axes(self, change: Array) -> Self:
        count, waves, coefficients, _ = self.waves.shape
        turned = turn_sh(self.waves.reshape(count * waves, coefficients, 3), change).reshape(self.waves.shape)
        return dataclasses.replace(super().change_axes(change), waves=turned)

    def attributes(self) -> Mapping[str, Floats]:
        waves = {
            wave_attribute(order, k): np.ascontiguousarray(self.waves[:, order - 1, k])
            for order, k in itertools.product(range(1, self.waves.shape[1] + 1), range(self.waves.shape[2]))
        }
        return {**super().attributes(), **waves}

    @classmethod
    def from_attributes(cls, columns: Mapping[str, Floats], time_range: tuple[float, float] = (0.0, 1.0)) -> Rotor4D:
        base = Linear.from_attributes(columns)
        orders = next(n for n in itertools.count() if wave_attribute(n + 1, 0) not in columns)
        coefficients = next(k for k in itertools.count() if wave_attribute(1, k) not in columns)
        waves = [[columns[wave_attribute(n, k)] for k in range(coefficients)] for n in range(1, orders + 1)]
        moved = np.asarray(waves, np.float32).transpose(2, 0, 1, 3) if orders else np.empty((0, 0, 1, 3), np.float32)
        fields = (base.velocity, base.center, base.width, base.first, base.last)
        return Rotor4D(*fields, time_range, moved, bool(base.velocity.any()))


def wave_attribute(order: int, coefficient: int) -> str:
    """Name in Blender of a coefficient of a wave, both as they are counted in `Rotor4D.waves`, orders from 1."""
    return f"radiance:wave{order}_{coefficient}"


def rotation(left: Array, right: Array) -> Array:
    """Rotations (N, 4, 4) of x, y, z, t by two quaternions (N, 4) of any length, as 4DGS defines them."""
    a, b, c, d = normalise(left).T
    p, q, r, s = normalise(right).T
    first = np.array([[a, -b, -c, -d], [b, a, -d, c], [c, d, a, -b], [d, -c, b, a]])
    second = np.array([[p, q, r, s], [-q, p, -s, r], [-r, s, p, -q], [-s, -r, q, p]])
    return np.einsum("ijn,jkn->nik", first, second)[:, ::-1, ::-1]  # its code counts time first


def quaternions(turns: Array) -> tuple[Array, Array]:
    """The two unit quaternions (N, 4) of rotations (N, 4, 4) with determinant 1; inverse of `rotation` but for a common sign.

    The entries of the product of the two matrices are sums of the products l_i r_j of two components each; solved for
    them, they make the matrix l r^T (van Elfrinkhof's formula), whose largest row and column are the quaternions.
    """
    basis = np.eye(4)
    pairs = rotation(np.repeat(basis, 4, axis=0), np.tile(basis, (4, 1))).reshape(4, 4, 4, 4)
    outer = np.einsum("ijab,nab->nij", pairs, turns) / 4
    row = np.argmax(np.abs(outer).sum(axis=2), axis=1)[:, None, None]
    right = normalise(np.take_along_axis(outer, row, axis=1)[:, 0])
    left = normalise(np.einsum("nij,nj->ni", outer, right))
    return left, right


def cut(left: Array, right: Array, scales: Array) -> tuple[Array, Array, Array, Array]:
    """Space at a fixed time: quats (N, 4), scales (N, 3), velocity (N, 3) and variance in time (N,).

    left and right: quaternions (N, 4); scales (N, 4): standard deviations along x, y, z, t before the turn.  float64.
    """
    axes = rotation(left.astype(np.float64), right.astype(np.float64)) * scales[:, None, :].astype(np.float64)
    variance = np.square(axes[:, 3]).sum(axis=1)
    velocity = np.einsum("nia,na->ni", axes[:, :3], axes[:, 3]) / variance[:, None]
    across = axes[:, :3] - velocity[:, :, None] * axes[:, 3:]  # what of the axes is left at the splat's own time
    return (*decompose(across @ across.transpose(0, 2, 1)), velocity, variance)


def uncut(quats: Array, scales: Array, velocity: Array, variance: Array) -> tuple[Array, Array, Array]:
    """The two quaternions (N, 4) and standard deviations (N, 4) whose `cut` is this; float64."""
    whole = np.empty((len(quats), 4, 4))
    reach = velocity.astype(np.float64) * variance[:, None]
    whole[:, :3, :3] = covariances(quats.astype(np.float64), scales.astype(np.float64)) + reach[:, :, None] * velocity[:, None]
    whole[:, :3, 3] = whole[:, 3, :3] = reach
    whole[:, 3, 3] = variance
    variances, axes = np.linalg.eigh(whole)
    axes[:, :, 0] *= np.linalg.det(axes)[:, None]
    return (*quaternions(axes), np.sqrt(np.maximum(variances, np.finfo(np.float64).tiny)))
