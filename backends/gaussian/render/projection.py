# SPDX-License-Identifier: GPL-3.0-or-later
"""Gaussians in the world become ellipses in a picture, and gradients go the way back; compiled, on all cores.

EWA projection as in `reference`, float32.  An ellipse is a row of SHAPE: centre u, v in pixels (the middle of the first
pixel at 0), the inverse covariance a, b, c (exponent -(a dx^2 + c dy^2) / 2 - b dx dy), opacity, and how many rows it
reaches up and down.  The derivatives are worked out by hand and checked against automatic ones.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from . import constants

Floats = NDArray[np.float32]
Integers = NDArray[np.integer]

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when the first kernel runs: cores that wait by spinning, as OpenMP
# has them by default, take a tenfold time where other programs want these cores too

TILE = 16
"""Pixels a side of the squares that a picture is drawn in: a row fills one vector register."""

SHAPE = 7
ENTRIES = 6
"""Of a row of SHAPE that have a gradient of their own."""

FAST: dict[str, Any] = {"fastmath": True, "error_model": "numpy", "nogil": True, "cache": True}

f4 = np.float32
ALPHA_MIN, LOW_PASS = f4(constants.ALPHA_MIN), f4(constants.LOW_PASS)
ZERO, HALF, ONE, TWO = f4(0), f4(0.5), f4(1), f4(2)


@njit(inline="always", **FAST)
def _view(mean: Floats, view: Floats) -> tuple[float, float, float]:
    """A point in the camera's axes."""
    x = view[0, 0] * mean[0] + view[0, 1] * mean[1] + view[0, 2] * mean[2] + view[0, 3]
    y = view[1, 0] * mean[0] + view[1, 1] * mean[1] + view[1, 2] * mean[2] + view[1, 3]
    z = view[2, 0] * mean[0] + view[2, 1] * mean[1] + view[2, 2] * mean[2] + view[2, 3]
    return x, y, z


@njit(inline="always", **FAST)
def _jacobian(x: float, y: float, z: float, lens: Floats, limits: Floats, flat: bool) -> tuple[float, float, float, float]:
    """Of the projection, its four entries that are not zero: du/dx, du/dz, dv/dy, dv/dz."""
    if flat:
        return lens[0], ZERO, lens[1], ZERO
    inverse = ONE / z
    slope_x = min(limits[1], max(limits[0], x * inverse))
    slope_y = min(limits[3], max(limits[2], y * inverse))
    return lens[0] * inverse, -lens[0] * slope_x * inverse, lens[1] * inverse, -lens[1] * slope_y * inverse


@njit(inline="always", **FAST)
def _times(covariance: Floats, x: float, y: float, z: float) -> tuple[float, float, float]:
    """A symmetric matrix (xx, xy, xz, yy, yz, zz) times a vector."""
    return (
        covariance[0] * x + covariance[1] * y + covariance[2] * z,
        covariance[1] * x + covariance[3] * y + covariance[4] * z,
        covariance[2] * x + covariance[4] * y + covariance[5] * z,
    )


@njit(inline="always", **FAST)
def _footprint(
    x: float, y: float, z: float, covariance: Floats, view: Floats, lens: Floats, limits: Floats, flat: bool
) -> tuple[float, ...]:
    """Entries of the Jacobian; its rows u, v in the world; the covariance times these, p, q; and what it is in the picture."""
    xx, xz, yy, yz = _jacobian(x, y, z, lens, limits, flat)
    ux, uy, uz = xx * view[0, 0] + xz * view[2, 0], xx * view[0, 1] + xz * view[2, 1], xx * view[0, 2] + xz * view[2, 2]
    vx, vy, vz = yy * view[1, 0] + yz * view[2, 0], yy * view[1, 1] + yz * view[2, 1], yy * view[1, 2] + yz * view[2, 2]
    px, py, pz = _times(covariance, ux, uy, uz)
    qx, qy, qz = _times(covariance, vx, vy, vz)
    sharp_a, b, sharp_c = ux * px + uy * py + uz * pz, vx * px + vy * py + vz * pz, vx * qx + vy * qy + vz * qz
    return xx, xz, yy, yz, ux, uy, uz, vx, vy, vz, px, py, pz, qx, qy, qz, sharp_a, b, sharp_c


@njit(parallel=True, **FAST)
def project(
    means: Floats, covariances: Floats, opacities: Floats, view: Floats, lens: Floats, limits: Floats, flat: bool, near: float,
    antialiased: bool, width: int, height: int, shapes: Floats, depths: Floats, boxes: Integers,
) -> None:  # fmt: skip
    """Fill shapes (N, SHAPE), depths (N,) and boxes (N, 4): first and last + 1 tile in x and in y, all 0 of what is not seen.

    view (3, 4): world to camera.  lens: fx, fy, cx, cy.  limits: least and greatest slope in x and in y.
    """
    columns, rows = (width + TILE - 1) // TILE, (height + TILE - 1) // TILE
    for i in prange(len(means)):
        boxes[i] = 0
        x, y, z = _view(means[i], view)
        depths[i] = z
        if not z > near:
            continue
        _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, sharp_a, b, sharp_c = _footprint(
            x, y, z, covariances[i], view, lens, limits, flat
        )
        a, c = sharp_a + LOW_PASS, sharp_c + LOW_PASS
        determinant = a * c - b * b
        opacity = opacities[i]
        if antialiased:
            opacity *= np.sqrt(max(ZERO, (sharp_a * sharp_c - b * b) / determinant))
        if not (opacity >= ALPHA_MIN and determinant > ZERO):
            continue
        reach = np.sqrt(TWO * np.log(opacity / ALPHA_MIN))
        across, up = reach * np.sqrt(a), reach * np.sqrt(c)
        depth = ONE if flat else z
        u, v = lens[0] * x / depth + lens[2] - HALF, lens[1] * y / depth + lens[3] - HALF
        left, right = max(f4(-1), u - across), min(f4(width), u + across)
        top, bottom = max(f4(-1), v - up), min(f4(height), v + up)
        if not (right >= ZERO and bottom >= ZERO and left <= width - 1 and top <= height - 1):
            continue
        boxes[i, 0] = max(0, int(np.ceil(left))) // TILE
        boxes[i, 1] = min(columns, int(right) // TILE + 1)
        boxes[i, 2] = max(0, int(np.ceil(top))) // TILE
        boxes[i, 3] = min(rows, int(bottom) // TILE + 1)
        shapes[i, 0], shapes[i, 1] = u, v
        shapes[i, 2], shapes[i, 3], shapes[i, 4] = c / determinant, -b / determinant, a / determinant
        shapes[i, 5], shapes[i, 6] = opacity, up


@njit(parallel=True, **FAST)
def project_back(
    means: Floats, covariances: Floats, opacities: Floats, view: Floats, lens: Floats, limits: Floats, flat: bool,
    antialiased: bool, boxes: Integers, firsts: Integers, slots: Floats, d_depths: Floats,
    d_means: Floats, d_covariances: Floats, d_opacities: Floats, d_views: Floats,
) -> None:  # fmt: skip
    """Gradients of what `project` was given, from those of the ellipses.

    slots (M, ENTRIES): gradients of each ellipse in each of its tiles, those of splat i from firsts[i] on.  d_depths (N,).
    d_views (N, 12): each splat's share of the gradient of `view`; no rows when nobody asks.
    """
    for i in prange(len(means)):
        if boxes[i, 1] == 0:
            continue
        du, dv, g0, g1, g2, d_opacity = ZERO, ZERO, ZERO, ZERO, ZERO, ZERO
        for k in range(firsts[i], firsts[i + 1]):
            du += slots[k, 0]
            dv += slots[k, 1]
            g0 += slots[k, 2]
            g1 += slots[k, 3]
            g2 += slots[k, 4]
            d_opacity += slots[k, 5]

        x, y, z = _view(means[i], view)
        xx, xz, yy, yz, ux, uy, uz, vx, vy, vz, px, py, pz, qx, qy, qz, sharp_a, b, sharp_c = _footprint(
            x, y, z, covariances[i], view, lens, limits, flat
        )
        a, c = sharp_a + LOW_PASS, sharp_c + LOW_PASS
        determinant = a * c - b * b

        # inverse covariance -> covariance in the picture
        scale = ONE / (determinant * determinant)
        da = (-c * c * g0 + b * c * g1 - b * b * g2) * scale
        db = (TWO * b * c * g0 - (determinant + TWO * b * b) * g1 + TWO * a * b * g2) * scale
        dc = (-b * b * g0 + a * b * g1 - a * a * g2) * scale
        if antialiased:
            sharp = sharp_a * sharp_c - b * b
            share = np.sqrt(max(ZERO, sharp / determinant))
            if sharp > ZERO:
                d_share = HALF * d_opacity * opacities[i] * share
                da += d_share * (sharp_c / sharp - c / determinant)
                dc += d_share * (sharp_a / sharp - a / determinant)
                db += d_share * TWO * b * (ONE / determinant - ONE / sharp)
            d_opacity *= share
        d_opacities[i] = d_opacity

        # covariance in the picture -> in the world, and the two rows that project it
        d_covariances[i, 0] = da * ux * ux + db * ux * vx + dc * vx * vx
        d_covariances[i, 1] = TWO * (da * ux * uy + dc * vx * vy) + db * (ux * vy + uy * vx)
        d_covariances[i, 2] = TWO * (da * ux * uz + dc * vx * vz) + db * (ux * vz + uz * vx)
        d_covariances[i, 3] = da * uy * uy + db * uy * vy + dc * vy * vy
        d_covariances[i, 4] = TWO * (da * uy * uz + dc * vy * vz) + db * (uy * vz + uz * vy)
        d_covariances[i, 5] = da * uz * uz + db * uz * vz + dc * vz * vz
        d_ux, d_uy, d_uz = TWO * da * px + db * qx, TWO * da * py + db * qy, TWO * da * pz + db * qz
        d_vx, d_vy, d_vz = TWO * dc * qx + db * px, TWO * dc * qy + db * py, TWO * dc * qz + db * pz

        # the rows and the centre -> the point in the camera's axes
        dx, dy, dz = du * xx, dv * yy, d_depths[i]
        if not flat:
            inverse = ONE / z
            d_xx = d_ux * view[0, 0] + d_uy * view[0, 1] + d_uz * view[0, 2]
            d_xz = d_ux * view[2, 0] + d_uy * view[2, 1] + d_uz * view[2, 2]
            d_yy = d_vx * view[1, 0] + d_vy * view[1, 1] + d_vz * view[1, 2]
            d_yz = d_vx * view[2, 0] + d_vy * view[2, 1] + d_vz * view[2, 2]
            dz -= (du * xx * x + dv * yy * y + d_xx * xx + d_yy * yy + d_xz * xz + d_yz * yz) * inverse
            slope_x, slope_y = x * inverse, y * inverse
            if limits[0] < slope_x < limits[1]:  # else the slope is held
                dx -= d_xz * xx * inverse
                dz += d_xz * xx * slope_x * inverse
            if limits[2] < slope_y < limits[3]:
                dy -= d_yz * yy * inverse
                dz += d_yz * yy * slope_y * inverse

        for k in range(3):
            d_means[i, k] = view[0, k] * dx + view[1, k] * dy + view[2, k] * dz
        if len(d_views):
            for k, (u, v) in enumerate(((d_ux, d_vx), (d_uy, d_vy), (d_uz, d_vz))):
                d_views[i, k] = dx * means[i, k] + xx * u
                d_views[i, 4 + k] = dy * means[i, k] + yy * v
                d_views[i, 8 + k] = dz * means[i, k] + xz * u + yz * v
            d_views[i, 3], d_views[i, 7], d_views[i, 11] = dx, dy, dz


@njit(**FAST)
def near_first(depths: Floats, boxes: Integers) -> Integers:
    """Indices of the splats that are seen, by depth; equal depths keep their order.  Radix sort on the bits of the floats."""
    count = 0
    for i in range(len(boxes)):
        count += boxes[i, 1] > 0
    order, keys = np.empty(count, np.int32), np.empty(count, np.uint32)
    bits = depths.view(np.uint32)
    count = 0
    for i in range(len(boxes)):
        if boxes[i, 1] > 0:
            order[count] = i
            keys[count] = bits[i] ^ (np.uint32(0x80000000) if bits[i] < 0x80000000 else np.uint32(0xFFFFFFFF))
            count += 1
    other_order, other_keys = np.empty_like(order), np.empty_like(keys)
    places = np.empty(2049, np.int64)
    for shift in (0, 11, 22):
        places[:] = 0
        for i in range(count):
            places[((keys[i] >> shift) & 2047) + 1] += 1
        for digit in range(2048):
            places[digit + 1] += places[digit]
        for i in range(count):
            digit = (keys[i] >> shift) & 2047
            other_order[places[digit]], other_keys[places[digit]] = order[i], keys[i]
            places[digit] += 1
        order, other_order, keys, other_keys = other_order, order, other_keys, keys
    return order


@njit(**FAST)
def into_tiles(order: Integers, boxes: Integers, width: int, height: int) -> tuple[Integers, Integers, Integers, Integers]:
    """Which splats each tile draws, near first: starts (tiles + 1,), splats (M,), and slots (M,), where their gradients go.

    Also firsts (N + 1,): the slots of a splat lie together, from firsts[i] on.
    """
    columns, rows = (width + TILE - 1) // TILE, (height + TILE - 1) // TILE
    starts = np.zeros(columns * rows + 1, np.int64)
    firsts = np.zeros(len(boxes) + 1, np.int64)
    for i in range(len(boxes)):
        firsts[i + 1] = firsts[i] + (boxes[i, 1] - boxes[i, 0]) * (boxes[i, 3] - boxes[i, 2])
        for row in range(boxes[i, 2], boxes[i, 3]):
            for column in range(boxes[i, 0], boxes[i, 1]):
                starts[row * columns + column + 1] += 1
    for tile in range(columns * rows):
        starts[tile + 1] += starts[tile]
    places = starts[:-1].copy()
    splats, slots = np.empty(starts[-1], np.int32), np.empty(starts[-1], np.int32)
    for i in order:
        slot = firsts[i]
        for row in range(boxes[i, 2], boxes[i, 3]):
            for column in range(boxes[i, 0], boxes[i, 1]):
                tile = row * columns + column
                splats[places[tile]], slots[places[tile]] = i, slot
                places[tile] += 1
                slot += 1
    return starts, splats, slots, firsts
