# SPDX-License-Identifier: GPL-3.0-or-later
"""Quaternions in torch, components first: (4, …) wxyz and (3, …), so that compiled loops run along windows and frames."""

from __future__ import annotations

import torch
from torch import Tensor


def multiply(a: Tensor, b: Tensor) -> Tensor:
    """Hamilton product: the rotation b followed by a, seen from outside."""
    aw, ax, ay, az = a
    bw, bx, by, bz = b
    return torch.stack([
        aw * bw - ax * bx - ay * by - az * bz,
        aw * bx + ax * bw + ay * bz - az * by,
        aw * by - ax * bz + ay * bw + az * bx,
        aw * bz + ax * by - ay * bx + az * bw,
    ])  # fmt: skip


def conjugate(q: Tensor) -> Tensor:
    """Inverse of unit quaternions."""
    return torch.stack([q[0], -q[1], -q[2], -q[3]])


def cross(a: Tensor, b: Tensor) -> Tensor:
    """Vector product of (3, …)."""
    return torch.stack([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]])


def rotate(q: Tensor, v: Tensor) -> Tensor:
    """Vectors v (3, …) turned by unit quaternions q (4, …)."""
    t = 2 * cross(q[1:], v)
    return v + q[:1] * t + cross(q[1:], t)


def exp(v: Tensor) -> Tensor:
    """Quaternions of rotation vectors (3, …), radians."""
    angle = (v * v).sum(0, keepdim=True).sqrt()
    small = angle < 1e-6
    factor = torch.where(small, 0.5, torch.sin(angle / 2) / torch.where(small, 1.0, angle))
    return torch.cat([torch.cos(angle / 2), v * factor])


def log(q: Tensor) -> Tensor:
    """Rotation vectors (3, …) of unit quaternions, on the short arc."""
    q = torch.where(q[:1] < 0, -q, q)
    length = (q[1:] * q[1:]).sum(0, keepdim=True).sqrt()
    small = length < 1e-6
    return q[1:] * torch.where(small, 2.0, 2 * torch.atan2(length, q[:1]) / torch.where(small, 1.0, length))


def normalise(q: Tensor) -> Tensor:
    """Unit quaternions of (4, …) that are not zero."""
    return q * (q * q).sum(0, keepdim=True).rsqrt()


def axes(q: Tensor) -> Tensor:
    """The first two columns (6, …) of the rotation matrices: a continuous picture of rotations (Zhou et al. 2019)."""
    w, x, y, z = q
    return torch.stack([
        1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y),
        2 * (x * y - w * z), 1 - 2 * (x * x + z * z), 2 * (y * z + w * x),
    ])  # fmt: skip
