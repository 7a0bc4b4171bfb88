# SPDX-License-Identifier: GPL-3.0-or-later
"""Spherical harmonics in the basis that every splat format shares (Condon-Shortley signs included).

Colour = max(0, 0.5 + sum_k sh_k Y_k(direction)), display-referred (sRGB-encoded); the direction
runs from the camera to the splat, in the splats' own frame.  Constants: KHR_gaussian_splatting,
appendix A.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]

C0 = 0.28209479177387814
C1 = 0.4886025119029199
COEFFICIENTS = (1, 4, 9, 16, 25)

# which of x, y, z each coefficient is odd in; an axis flip multiplies the coefficient by their signs
_ODD = " y z x xy yz - xz - y xyz y z x z x xy yz xy yz - xz - xz -".split(" ")


def degree(count: int) -> int:
    """SH degree of `count` coefficients a channel (1, 4, 9, 16 or 25)."""
    return COEFFICIENTS.index(count)


def basis(directions: Array, count: int) -> Array:
    """Values (N, count) of the first `count` basis functions for unit directions (N, 3)."""
    x, y, z = directions[:, 0], directions[:, 1], directions[:, 2]
    xx, yy, zz = x * x, y * y, z * z
    values = [np.full_like(x, C0)]
    if count > 1:
        values += [-C1 * y, C1 * z, -C1 * x]
    if count > 4:
        values += [
            1.0925484305920792 * x * y,
            -1.0925484305920792 * y * z,
            0.31539156525252005 * (2 * zz - xx - yy),
            -1.0925484305920792 * x * z,
            0.5462742152960396 * (xx - yy),
        ]
    if count > 9:
        values += [
            -0.5900435899266435 * y * (3 * xx - yy),
            2.890611442640554 * x * y * z,
            -0.4570457994644658 * y * (4 * zz - xx - yy),
            0.3731763325901154 * z * (2 * zz - 3 * xx - 3 * yy),
            -0.4570457994644658 * x * (4 * zz - xx - yy),
            1.445305721320277 * z * (xx - yy),
            -0.5900435899266435 * x * (xx - 3 * yy),
        ]
    if count > 16:
        values += [
            2.5033429417967046 * x * y * (xx - yy),
            -1.7701307697799304 * y * z * (3 * xx - yy),
            0.9461746957575601 * x * y * (7 * zz - 1),
            -0.6690465435572892 * y * z * (7 * zz - 3),
            0.10578554691520431 * (zz * (35 * zz - 30) + 3),
            -0.6690465435572892 * x * z * (7 * zz - 3),
            0.47308734787878004 * (xx - yy) * (7 * zz - 1),
            -1.7701307697799304 * x * z * (xx - 3 * yy),
            0.6258357354491761 * (xx * (xx - 3 * yy) - yy * (3 * xx - yy)),
        ]
    return np.stack(values[:count], axis=-1)


def colours(sh: Array, directions: Array) -> Array:
    """Display colours (N, 3), not below 0, of coefficients (N, K, 3) seen along directions (N, 3)."""
    values = basis(directions, sh.shape[1])
    return np.maximum(0.5 + np.einsum("nk,nkc->nc", values, sh), 0)


def to_base(rgb: Array) -> Array:
    """Degree-0 coefficients of display colours."""
    return (rgb - 0.5) / C0


def to_rgb(base: Array) -> Array:
    """Display colours of degree-0 coefficients, not clamped."""
    return 0.5 + C0 * base


def flip_signs(count: int, flips: Array) -> Array:
    """Factors (count,) that carry coefficients into a frame whose axes have the signs `flips` (3,)."""
    sign = dict(zip("xyz", flips, strict=True))
    return np.array([np.prod([sign[axis] for axis in odd if axis in sign]) for odd in _ODD[:count]])
