# SPDX-License-Identifier: GPL-3.0-or-later
"""Quaternions, (w, x, y, z), on arrays of any leading shape.

All functions keep the floating type of their input and broadcast over leading axes.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]

IDENTITY = np.array([1.0, 0.0, 0.0, 0.0])


def normalise(q: Array) -> Array:
    """Unit quaternions; a quaternion shorter than 1e-12 becomes the identity."""
    length = np.linalg.norm(q, axis=-1, keepdims=True)
    unit = q / np.where(length < 1e-12, 1, length)
    return np.where(length < 1e-12, IDENTITY.astype(q.dtype), unit)


def multiply(a: Array, b: Array) -> Array:
    """Hamilton product: the rotation b followed by a, seen from outside."""
    aw, ax, ay, az = np.moveaxis(a, -1, 0)
    bw, bx, by, bz = np.moveaxis(b, -1, 0)
    return np.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        axis=-1,
    )


def conjugate(q: Array) -> Array:
    """Inverse of unit quaternions."""
    return q * np.array([1, -1, -1, -1], q.dtype)


def rotate(q: Array, v: Array) -> Array:
    """Vectors v (…, 3) turned by unit quaternions q (…, 4)."""
    u, v = np.broadcast_arrays(q[..., 1:], v)
    t = 2 * np.cross(u, v)
    return v + q[..., :1] * t + np.cross(u, t)


def exp(v: Array) -> Array:
    """Quaternions of rotation vectors v (…, 3), radians."""
    angle = np.linalg.norm(v, axis=-1, keepdims=True)
    small = angle < 1e-8
    factor = np.where(small, 0.5, np.sin(angle / 2) / np.where(small, 1, angle))
    return np.concatenate([np.cos(angle / 2), v * factor], axis=-1)


def log(q: Array) -> Array:
    """Rotation vectors (…, 3) of unit quaternions, on the short arc (length at most pi)."""
    q = np.where(q[..., :1] < 0, -q, q)
    length = np.linalg.norm(q[..., 1:], axis=-1, keepdims=True)
    small = length < 1e-8
    factor = np.where(small, 2, 2 * np.arctan2(length, q[..., :1]) / np.where(small, 1, length))
    return q[..., 1:] * factor


def continuous(q: Array) -> Array:
    """Signs flipped along axis 0 (time) so that neighbouring quaternions lie in one hemisphere."""
    dots = np.sum(q[1:] * q[:-1], axis=-1)
    signs = np.cumprod(np.where(dots < 0, -1, 1).astype(q.dtype), axis=0)
    return np.concatenate([q[:1], q[1:] * signs[..., None]])


def matrix(q: Array) -> Array:
    """Rotation matrices (…, 3, 3) of unit quaternions."""
    w, x, y, z = np.moveaxis(q, -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def difference(a: Array, b: Array) -> Array:
    """Rotation vectors (…, 3) that lead from a to b by the short way, in the frame of a (and of b: the axis is common)."""
    return log(multiply(conjugate(a), b))


def slerp(a: Array, b: Array, share: Array) -> Array:
    """Constant angular velocity from a (share 0) to b (share 1) by the short way; share (…,)."""
    return multiply(a, exp(difference(a, b) * np.asarray(share)[..., None]))
