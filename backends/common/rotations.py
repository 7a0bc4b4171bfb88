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
    u = q[..., 1:]
    t = 2 * _cross(u, v)
    return v + q[..., :1] * t + _cross(u, t)


def _cross(a: Array, b: Array) -> Array:
    """`np.cross` of vectors (…, 3), in a third of the time where they are few."""
    ax, ay, az, bx, by, bz = a[..., 0], a[..., 1], a[..., 2], b[..., 0], b[..., 1], b[..., 2]
    return np.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], axis=-1)


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


def from_matrix(m: Array) -> Array:
    """Unit quaternions (…, 4) of rotation matrices (…, 3, 3); inverse of `matrix` but for the sign."""
    xx, xy, xz, yx, yy, yz, zx, zy, zz = (m[..., row, column] for row in range(3) for column in range(3))
    # Each row is the quaternion times four times one of its components: the largest divides best.
    rows = [
        [1 + xx + yy + zz, zy - yz, xz - zx, yx - xy],
        [zy - yz, 1 + xx - yy - zz, xy + yx, xz + zx],
        [xz - zx, xy + yx, 1 - xx + yy - zz, yz + zy],
        [yx - xy, xz + zx, yz + zy, 1 - xx - yy + zz],
    ]
    table = np.empty((*m.shape[:-2], 4, 4), m.dtype)
    for row, components in enumerate(rows):
        for column, component in enumerate(components):
            table[..., row, column] = component
    largest = np.argmax(np.diagonal(table, axis1=-2, axis2=-1), axis=-1)[..., None, None]
    return normalise(np.take_along_axis(table, largest, axis=-2)[..., 0, :])


def difference(a: Array, b: Array) -> Array:
    """Rotation vectors (…, 3) that lead from a to b by the short way, in the frame of a (and of b: the axis is common)."""
    return log(multiply(conjugate(a), b))


def slerp(a: Array, b: Array, share: Array) -> Array:
    """Constant angular velocity from a (share 0) to b (share 1) by the short way; share (…,)."""
    return multiply(a, exp(difference(a, b) * np.asarray(share)[..., None]))


def from_euler(angles: Array, order: str = "XYZ") -> Array:
    """Quaternions of angles (…, 3) about X, Y and Z, radians; the order is named as in Blender: its first axis turns first."""
    half = angles / 2
    q = np.broadcast_to(IDENTITY.astype(angles.dtype), (*angles.shape[:-1], 4))
    for axis in ("XYZ".index(letter) for letter in order):
        turn = np.zeros_like(q)
        turn[..., 0], turn[..., axis + 1] = np.cos(half[..., axis]), np.sin(half[..., axis])
        q = multiply(turn, q)
    return q


def to_euler(q: Array, order: str = "XYZ") -> Array:
    """Angles (…, 3) about X, Y and Z of unit quaternions, the middle one of `order` within ±90°; inverse of `from_euler`.

    In gimbal lock, where only a sum of the outer angles counts, the first one is zero.
    """
    i, j, k = ("XYZ".index(letter) for letter in order)
    sign = 1 if (j - i) % 3 == 1 else -1  # cyclic orders turn one way, the others the other way
    m = matrix(q)
    angles = np.empty((*q.shape[:-1], 3), q.dtype)
    cosine = np.hypot(m[..., i, i], m[..., j, i])
    locked = cosine < 16 * np.finfo(q.dtype).eps
    angles[..., i] = np.where(locked, 0, np.arctan2(sign * m[..., k, j], m[..., k, k]))
    angles[..., j] = np.arctan2(-sign * m[..., k, i], cosine)
    outer = np.arctan2(sign * m[..., j, i], m[..., i, i])
    angles[..., k] = np.where(locked, np.arctan2(-sign * m[..., i, j], m[..., j, j]), outer)
    return angles


def continuous_euler(angles: Array, order: str = "XYZ") -> Array:
    """Angles (F, …, 3) rewritten along time as the equal ones nearest to the frame before, so that curves have no jumps."""
    middle = "XYZ".index(order[1])
    result = angles.copy()
    for frame in range(1, len(angles)):
        last = result[frame - 1]
        other = angles[frame] + np.pi
        other[..., middle] = np.pi - angles[frame, ..., middle]
        near, far = (a - 2 * np.pi * np.round((a - last) / (2 * np.pi)) for a in (angles[frame], other))
        nearer = np.sum((near - last) ** 2, axis=-1) <= np.sum((far - last) ** 2, axis=-1)
        result[frame] = np.where(nearer[..., None], near, far)
    return result
