# SPDX-License-Identifier: GPL-3.0-or-later
"""A closed mesh around what splats cover: something to cast shadows and to collide with."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from ...common.errors import VivantError
from ..cloud import SplatCloud
from ..covariance import covariances

Doubles = NDArray[np.float64]

FAINTEST = 0.02
"""Splats of a lower opacity are left out."""
REACH = 2.5
"""Standard deviations that a splat is looked at."""
WIDEST = 8
"""Cells on each side of a splat's centre at most; what reaches farther is cut there."""

POINTS_AT_ONCE = 1_000_000


def surface(cloud: SplatCloud, cells: int = 64, level: float = 0.5) -> tuple[Doubles, NDArray[np.int64]]:
    """Vertices (V, 3) and quads (Q, 4), facing outwards, of the surface where a still cloud's opacity passes `level`.

    cells: how many the longest side of the cloud's box has.  Raises VivantError where nothing is that opaque.
    """
    field, corner, width = opacity_field(cloud, cells)
    if not (field >= level).any():
        raise VivantError("The splats are nowhere opaque enough for a surface.", "Lower the threshold, or use larger cells.")
    vertices, quads = surface_nets(field - level)
    return vertices * width + corner, quads


def opacity_field(cloud: SplatCloud, cells: int) -> tuple[Doubles, Doubles, float]:
    """Opacity (X, Y, Z) of what lies around each point of a grid, where its first point lies (3,), and its spacing.

    Splats are widened by half a cell, so that none falls between points; at the grid's faces there is nothing.
    """
    cloud = cloud.select(cloud.opacities >= FAINTEST)
    if not len(cloud):
        raise VivantError("The splats are nowhere opaque enough for a surface.", "Raise their opacity first.")
    low, high = (np.quantile(cloud.means.astype(np.float64), share, axis=0) for share in (0.002, 0.998))  # not by floaters
    width = float(np.max(high - low) or cloud.scales.max()) / cells
    corner = low - (WIDEST // 2 + 0.5) * width
    shape = np.ceil((high - corner) / width).astype(int) + WIDEST // 2 + 2
    places = (cloud.means - corner) / width
    spread = covariances(cloud.quats.astype(np.float64), cloud.scales.astype(np.float64)) / width**2 + 0.25 * np.eye(3)
    inverse = np.linalg.inv(spread)
    centre = np.round(places).astype(int)
    halves = np.minimum(np.ceil(REACH * np.sqrt(spread.diagonal(axis1=1, axis2=2).max(axis=1))), WIDEST).astype(int)
    size = int(np.prod(shape))
    thickness = np.zeros(size)
    for half in np.unique(halves):
        members = np.flatnonzero(halves == half)
        offsets = np.array(list(itertools.product(range(-half, half + 1), repeat=3)))
        for chosen in np.array_split(members, 1 + len(members) * len(offsets) // POINTS_AT_ONCE):
            points = centre[chosen, None] + offsets
            away = points - places[chosen, None]
            power = np.einsum("npi,nij,npj->np", away, inverse[chosen], away, optimize=True)
            alpha = np.minimum(cloud.opacities[chosen, None] * np.exp(-0.5 * power), 0.99)
            within = np.all((points > 0) & (points < shape - 1), axis=2)
            index = np.ravel_multi_index(tuple(points[within].T), tuple(shape))
            thickness += np.bincount(index, -np.log1p(-alpha[within]), size)
    return 1 - np.exp(-thickness.reshape(shape)), corner, width


def surface_nets(field: Doubles) -> tuple[Doubles, NDArray[np.int64]]:
    """Vertices (V, 3) in grid units and quads (Q, 4) between negative values and the others, facing the negative ones.

    One vertex a cell that the surface passes, in the middle of where it cuts the cell's edges (Gibson, "Constrained Elastic
    Surface Nets", without the elasticity).  Values at the grid's faces must be negative for the surface to be closed.
    """
    solid = field >= 0
    cells = tuple(np.array(field.shape) - 1)
    sums, counts = np.zeros((*cells, 3)), np.zeros(cells)
    crossings = []
    for axis in range(3):
        ahead = tuple(slice(1, None) if a == axis else slice(None) for a in range(3))
        behind = tuple(slice(None, -1) if a == axis else slice(None) for a in range(3))
        edges = np.argwhere(solid[ahead] != solid[behind])
        first = field[behind][tuple(edges.T)]
        points = edges.astype(float)
        points[:, axis] += first / (first - field[ahead][tuple(edges.T)])
        b, c = (axis + 1) % 3, (axis + 2) % 3
        around = np.repeat(edges[:, None], 4, axis=1)  # the four cells around each edge, turning from b to c
        around[:, (0, 3), b] -= 1
        around[:, (0, 1), c] -= 1
        whole = np.all((around >= 0) & (around < cells), axis=(1, 2))
        around, points, first = around[whole], points[whole], first[whole]
        for turn in range(4):
            np.add.at(sums, tuple(around[:, turn].T), points)
            np.add.at(counts, tuple(around[:, turn].T), 1)
        outwards = np.where(first[:, None] >= 0, np.arange(4), np.arange(4)[::-1])
        crossings.append(np.take_along_axis(around, outwards[..., None], axis=1))
    used = counts > 0
    number = np.full(cells, -1)
    number[used] = np.arange(used.sum())
    quads = number[tuple(np.moveaxis(np.concatenate(crossings), -1, 0))]
    return sums[used] / counts[used][:, None], quads
