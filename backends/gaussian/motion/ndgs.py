# SPDX-License-Identifier: GPL-3.0-or-later
"""6D and 7D Gaussians: Gaussians in space, direction of view (and time), cut where they are looked at and when.

With v the direction from the camera to the mean, e = v - view_mean and d = t - center, a splat lies at
mean + view_slope e + velocity d, with opacity * exp(-|view_fall e|^2) * exp(-(d / width)^2).  Its shape is the same
from everywhere and at any time: that of the cloud.
Sources: Gao et al., "6DGS" (2410.04974) and "7DGS" (2503.07946), without the latter's refinement network; the
exponents lambda (v - mean)^2 / variance, without a half, as in the authors' code.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...common import rotations
from ...common.threads import in_blocks
from ..axes import turn
from ..covariance import SMALLEST_VARIANCE, decompose
from .family import Family

if TYPE_CHECKING:
    from ..cloud import SplatCloud

Array = NDArray[np.floating]
Floats = NDArray[np.float32]

LAMBDA = 0.35
"""How much of the exponents counts where a file does not say it."""

_COLUMNS = (
    *("view_mean", "view_slope", "view_fall", "view_time", "view_lambda"),
    *("velocity", "center", "width", "time_lambda"),
)


@dataclass(frozen=True, eq=False)
class Ndgs(Family):
    """Per splat: view_mean (N, 3) unit; view_slope (N, 3, 3), metres per unit of direction; view_fall (N, 3, 3), which
    measures directions in widths of the bell; velocity (N, 3); center (N,); width (N,), infinite for 6D.

    Only files need the rest: view_time (N, 3), the covariance of direction and time, and the shares view_lambda
    and time_lambda (N,) that are part of the widths (width^2 = variance / lambda).
    """

    name: ClassVar[str] = "NDGS"
    ATTRIBUTES: ClassVar[tuple[str, ...]] = (
        *("view:mean", "view:slope_x", "view:slope_y", "view:slope_z", "view:fall_x", "view:fall_y", "view:fall_z"),
        *("view:time", "view:lambda", "velocity:1", "time:center", "time:width", "time:lambda"),
    )

    view_mean: Floats
    view_slope: Floats
    view_fall: Floats
    view_time: Floats
    view_lambda: Floats
    velocity: Floats
    center: Floats
    width: Floats
    time_lambda: Floats
    time_range: tuple[float, float] = (0.0, 1.0)

    @classmethod
    def empty(cls, count: int) -> Ndgs:
        """A family of so many splats, to be filled with `put`."""
        shapes = {name: (3, 3) if name in ("view_slope", "view_fall") else (3,) for name in _COLUMNS[:4]} | {"velocity": (3,)}
        return cls(**{name: np.empty((count, *shapes.get(name, ())), np.float32) for name in _COLUMNS})  # type: ignore[arg-type]

    def put(self, rows: slice, family: Ndgs) -> None:
        """Write the splats of another family into rows of this one."""
        for name in _COLUMNS:
            getattr(self, name)[rows] = getattr(family, name)

    @property
    def moves(self) -> bool:
        """Whether anything depends on time."""
        return bool(np.isfinite(self.width).any())

    def at(self, cloud: SplatCloud, time: float, camera: ArrayLike | None = None) -> SplatCloud:
        """Without a camera every splat is seen from the direction that it is most visible from."""
        d = np.float32(np.clip(time, *self.time_range)) - self.center
        means = cloud.means + self.velocity * d[:, None]
        exponent = np.square(d / self.width)
        if camera is not None:
            towards = cloud.means - np.asarray(camera, np.float32)
            lengths = np.linalg.norm(towards, axis=1, keepdims=True)
            e = np.where(lengths > 0, towards / np.where(lengths > 0, lengths, 1), 0) - self.view_mean
            means += np.einsum("nij,nj->ni", self.view_slope, e)
            exponent += np.square(np.einsum("nij,nj->ni", self.view_fall, e)).sum(axis=1)
        return cloud.replace(means=means, opacities=cloud.opacities * np.exp(-exponent), family=None)

    def select(self, index: Any) -> Ndgs:
        return dataclasses.replace(self, **{name: getattr(self, name)[index] for name in _COLUMNS})

    def change_axes(self, change: Array) -> Ndgs:
        return dataclasses.replace(
            self,
            view_mean=turn(self.view_mean, change),
            view_slope=turn(turn(self.view_slope, change).swapaxes(1, 2), change).swapaxes(1, 2),
            view_fall=turn(self.view_fall, change),
            view_time=turn(self.view_time, change),
            velocity=turn(self.velocity, change),
        )

    def attributes(self) -> Mapping[str, Floats]:
        columns = (
            *(self.view_mean, *self.view_slope.transpose(1, 0, 2), *self.view_fall.transpose(1, 0, 2)),
            *(self.view_time, self.view_lambda, self.velocity, self.center, self.width, self.time_lambda),
        )
        return dict(zip(self.ATTRIBUTES, columns, strict=True))

    @classmethod
    def from_attributes(cls, columns: Mapping[str, Floats], time_range: tuple[float, float] = (0.0, 1.0)) -> Ndgs:
        """The family whose `attributes` these are."""
        slope, fall = (np.stack([columns[f"view:{name}_{axis}"] for axis in "xyz"], axis=1) for name in ("slope", "fall"))
        rest = (columns[name] for name in cls.ATTRIBUTES[7:])
        return cls(columns["view:mean"], slope, fall, *rest, time_range=time_range)  # type: ignore[misc, arg-type]


def condition(
    covariance: Array, view_mean: Array, center: Array | None, view_lambda: Array, time_lambda: Array | None
) -> tuple[Floats, Floats, Ndgs]:
    """What is constant in view and time: quats (N, 4), scales (N, 3) and the family.

    covariance: (N, 6, 6) or (N, 7, 7) over x, y, z, the direction of view and, with a center, time.  float64 inside.
    """
    count, dims = covariance.shape[:2]
    quats, scales = np.empty((count, 4), np.float32), np.empty((count, 3), np.float32)
    fall, slope = np.empty((count, 3, 3), np.float32), np.zeros((count, 3, 4), np.float32)

    def block(rows: slice) -> None:
        whole = covariance[rows].astype(np.float64)
        across = whole[:, 3:, :3]
        gain = np.linalg.solve(whole[:, 3:, 3:], across)
        slope[rows, :, : dims - 3] = gain.transpose(0, 2, 1)
        quats[rows], scales[rows] = decompose(whole[:, :3, :3] - across.transpose(0, 2, 1) @ gain)
        turns, widths = decompose(whole[:, 3:6, 3:6])
        fall[rows] = rotations.matrix(turns).transpose(0, 2, 1) * (np.sqrt(view_lambda[rows, None]) / widths)[:, :, None]

    in_blocks(block, count)
    width: Array
    view_time: Array
    if center is None or time_lambda is None:
        center, time_lambda = np.zeros(count), np.full(count, LAMBDA)
        width, view_time = np.full(count, np.inf), np.zeros((count, 3))
    else:
        width, view_time = np.sqrt(covariance[:, 6, 6] / time_lambda), covariance[:, 3:6, 6]
    family = Ndgs(
        np.asarray(view_mean, np.float32),
        np.ascontiguousarray(slope[:, :, :3]),
        fall,
        np.ascontiguousarray(view_time, np.float32),
        np.asarray(view_lambda, np.float32),
        np.ascontiguousarray(slope[:, :, 3]),
        np.asarray(center, np.float32),
        np.asarray(width, np.float32),
        np.asarray(time_lambda, np.float32),
    )
    return quats, scales, family


def factor(quats: Array, scales: Array, family: Ndgs, dims: int) -> NDArray[np.float64]:
    """Matrices F (N, dims, dims) such that F F^T are the joint covariances of which this is the cut; inverse of `condition`."""
    query = np.zeros((len(quats), dims - 3, dims - 3))
    fall = family.view_fall.astype(np.float64) / np.sqrt(family.view_lambda, dtype=np.float64)[:, None, None]
    query[:, :3, :3] = np.linalg.inv(fall)
    gain = family.view_slope.astype(np.float64)
    if dims == 7:
        along = np.einsum("nij,nj->ni", fall, family.view_time)
        variance = np.square(family.width, dtype=np.float64) * family.time_lambda
        query[:, 3, :3] = along
        query[:, 3, 3] = np.sqrt(np.maximum(variance - np.square(along).sum(axis=1), SMALLEST_VARIANCE))
        gain = np.concatenate([gain, family.velocity[:, :, None]], axis=2)
    whole = np.zeros((len(quats), dims, dims))
    whole[:, 3:, 3:] = query
    whole[:, :3, 3:] = gain @ query
    whole[:, :3, :3] = rotations.matrix(quats.astype(np.float64)) * scales[:, None, :]
    return whole
