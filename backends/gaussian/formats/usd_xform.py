# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a USD prim stands: the transforms (xformOps) of the prim and of all prims above it.

Operations are applied as xformOpOrder lists them, the last one first; rotations are in degrees, matrices are for row vectors,
what lies between two samples is mixed.  Source: OpenUSD, UsdGeomXformable and UsdGeomXformOp.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...common.errors import UnsupportedFormat
from ...common.rotations import matrix, normalise, slerp
from .crate_packing import broken
from .usd_layer import Attribute, Layer, Prim

Matrix = NDArray[np.float64]

MOST_OPERATIONS = 64
LARGEST = 1e12

_INVERTED, _RESET, _PREFIX = "!invert!", "!resetXformStack!", "xformOp:"


@dataclass(frozen=True)
class Placement:
    """operations: names and attributes, the outermost first; times (T,): time codes at which any of them has a sample."""

    operations: tuple[tuple[str, Attribute], ...]
    times: NDArray[np.float64]

    def at(self, time: float | None) -> Matrix:
        """Matrix (4, 4) for column vectors that takes the prim's coordinates to the stage's.

        Raises BrokenFile for operations that make no sense, UnsupportedFormat for those that are not known.
        """
        whole = np.eye(4)
        for name, attribute in self.operations:
            step = _made(name.removeprefix(_INVERTED), attribute, time)
            if name.startswith(_INVERTED):
                if not abs(np.linalg.det(step)) > 1e-30:
                    raise broken(f"the inverse of its transform '{name[:60]}' does not exist")
                step = np.linalg.inv(step)
            whole = whole @ step
        if not (np.abs(whole) < LARGEST).all():
            raise broken("its transforms put the splats nowhere in particular")
        return whole


def of(layer: Layer, prim: Prim) -> Placement:
    """The placement of a prim.  Raises BrokenFile where an operation is listed that is not there."""
    above = (other for other in layer.prims if prim.path.startswith(other.path.rstrip("/") + "/"))
    found: list[tuple[str, Attribute]] = []
    for each in [*sorted(above, key=lambda other: len(other.path)), prim]:
        order = each.attributes.get("xformOpOrder")
        names = order.get(None, MOST_OPERATIONS) if order else None
        for name in names if isinstance(names, list) else ():
            attribute = each.attributes.get(name.removeprefix(_INVERTED))
            if name == _RESET:
                found.clear()
            elif attribute is None:
                raise broken(f"its transform '{name[:60]}' is listed, but not there")
            else:
                found.append((name, attribute))
            if len(found) > MOST_OPERATIONS:
                raise broken("its splats have too many transforms")
    times = np.unique(np.concatenate([np.empty(0), *(attribute.times for _, attribute in found)]))
    return Placement(tuple(found), times)


def _made(name: str, attribute: Attribute, time: float | None) -> Matrix:
    """The matrix of an operation at a time."""
    kind = name.removeprefix(_PREFIX).partition(":")[0]
    if not name.startswith(_PREFIX) or kind not in _KINDS:
        raise UnsupportedFormat(
            f"The USD file's splats are placed by '{name[:60]}', which is not read here.", "Apply their transforms first."
        )
    count, make = _KINDS[kind]

    def value(sample: int | None) -> Matrix:
        try:
            numbers = np.asarray(attribute.get(sample, count), np.float64).reshape(-1)
        except (TypeError, ValueError):
            numbers = np.empty(0)
        if numbers.shape != (count,) or not (np.abs(numbers) < LARGEST).all():
            raise broken(f"its transform '{name[:60]}' has no {count} numbers")
        return numbers

    times = attribute.times
    if not len(times):
        return make(value(None))
    place = float(np.interp(times[0] if time is None else time, times, np.arange(len(times))))
    before, share = int(place), place % 1
    if not share:
        return make(value(before))
    first, second = value(before), value(before + 1)
    if kind == "orient":
        return make(slerp(normalise(first), normalise(second), np.array(share)))
    return make(first + share * (second - first))


def _linear(part: Matrix) -> Matrix:
    whole = np.eye(4)
    whole[:3, :3] = part
    return whole


def _moved(offset: Matrix) -> Matrix:
    whole = np.eye(4)
    whole[:3, 3] = offset
    return whole


def _turned(axis: int, degrees: Matrix) -> Matrix:
    """About one axis."""
    cosine, sine = np.cos(np.radians(degrees[0])), np.sin(np.radians(degrees[0]))
    a, b = (axis + 1) % 3, (axis + 2) % 3
    whole = np.eye(4)
    whole[[a, a, b, b], [a, b, a, b]] = cosine, -sine, sine, cosine
    return whole


def _turned_thrice(order: str, degrees: Matrix) -> Matrix:
    """About three axes, the first of `order` first; degrees of X, Y and Z."""
    whole = np.eye(4)
    for axis in ("XYZ".index(letter) for letter in order):
        whole = _turned(axis, degrees[axis : axis + 1]) @ whole
    return whole


_KINDS: dict[str, tuple[int, Callable[[Any], Matrix]]] = {
    "translate": (3, _moved),
    "scale": (3, lambda sizes: _linear(np.diag(sizes))),
    "orient": (4, lambda xyzw: _linear(matrix(normalise(np.roll(xyzw, 1))).astype(np.float64))),
    "transform": (16, lambda rows: rows.reshape(4, 4).T),
    **{f"rotate{letter}": (1, partial(_turned, axis)) for axis, letter in enumerate("XYZ")},
    **{f"rotate{order}": (3, partial(_turned_thrice, order)) for order in ("XYZ", "XZY", "YXZ", "YZX", "ZXY", "ZYX")},
}
