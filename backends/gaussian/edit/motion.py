# SPDX-License-Identifier: GPL-3.0-or-later
"""Motion carried along when splats are: what each family's columns become under linear maps."""

from __future__ import annotations

import dataclasses
from functools import singledispatch
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from ...common.errors import VivantError
from ...common.rotations import conjugate, multiply, rotate
from ..motion.family import Family
from ..motion.frames import Frames
from ..motion.linear import Linear
from ..motion.ndgs import Ndgs
from ..motion.rotor4d import Rotor4D
from ..motion.stg import Stg
from ..motion.stg_full import StgFull
from .harmonics import turn_each

Array = NDArray[np.floating]


Cubic = TypeVar("Cubic", bound=Stg)


class Change(NamedTuple):
    """maps (…, 3, 3) and their polar rotations: turns (…, 3, 3), mirrors included, and spins (…, 4), without; for all splats
    at once or for each.  before and after: the splats' quaternions (N, 4)."""

    maps: NDArray[np.float64]
    turns: NDArray[np.float64]
    spins: Array
    before: Array
    after: Array


@singledispatch
def carried(family: Family, change: Change) -> Family:
    """The family of splats that were carried.  Raises VivantError where the family cannot hold that."""
    if np.allclose(change.maps, np.eye(3), atol=1e-7):
        return family  # only moved: networks are asked about the canonical points
    raise VivantError(
        f"Motion of the family {family.name} cannot be turned or stretched.",
        "Fit it by spacetime Gaussians first, or edit the still cloud.at(time).",
    )


@carried.register
def _(family: Frames, change: Change) -> Frames:
    raise VivantError("The frames of this cloud are in files, which edits do not reach.", "Edit the still cloud.at(time).")


@carried.register
def _(family: Linear, change: Change) -> Linear:
    return dataclasses.replace(family, velocity=_mapped(change.maps, family.velocity))


@carried.register
def _(family: Rotor4D, change: Change) -> Rotor4D:
    count, orders, coefficients, _ = family.waves.shape
    flat = family.waves.reshape(count * orders, coefficients, 3)
    turns = np.repeat(change.turns, orders, axis=0) if change.turns.ndim == 3 else change.turns
    turned = turn_each(flat, turns)
    velocity = _mapped(change.maps, family.velocity)
    return dataclasses.replace(family, velocity=velocity, waves=turned.reshape(family.waves.shape))


@carried.register(Stg)
def _stg(family: Cubic, change: Change) -> Cubic:
    # the drift of a splat is a turn of the space around it, and is turned as that space is; exact but for unequal stretches,
    # under which a turning splat would have to change its scales, which no spacetime Gaussian does
    drift = multiply(family.spin.astype(np.float64), conjugate(change.before.astype(np.float64)))
    drift[:, 1:] = rotate(change.spins, drift[:, 1:])
    spin = multiply(drift, np.asarray(change.after, np.float64)).astype(np.float32)
    return dataclasses.replace(family, velocity=_mapped(change.maps, family.velocity), spin=spin)


@carried.register
def _(family: StgFull, change: Change) -> StgFull:
    moved = _stg(family, change)
    if family.decoder is None:
        return moved
    if change.maps.ndim == 3 or not np.allclose(change.maps, change.turns, atol=1e-6):
        raise VivantError(
            "The colours of these spacetime Gaussians come from a network that knows their scene in its own size only.",
            "Move and turn them without scale, or fit them by spacetime Gaussians of the lite model.",
        )
    return dataclasses.replace(moved, decoder=family.decoder._replace(turn=family.decoder.turn @ change.turns.T))


@carried.register
def _(family: Ndgs, change: Change) -> Ndgs:
    back = change.turns.swapaxes(-1, -2)
    return dataclasses.replace(
        family,
        view_mean=_mapped(change.turns, family.view_mean),
        view_slope=_single(change.maps @ family.view_slope @ back),
        view_fall=_single(family.view_fall @ back),
        view_time=_mapped(change.turns, family.view_time),
        velocity=_mapped(change.maps, family.velocity),
    )


def check_place(family: Family | None, shift: Array) -> None:
    """Raises VivantError for a family that knows where its scene is, when that is moved by `shift` (3,)."""
    if isinstance(family, StgFull) and family.decoder and np.abs(shift).max() > 1e-6:
        raise VivantError(
            "The colours of these spacetime Gaussians come from a network that knows where its scene is.",
            "Leave the location on the object: apply the rotation alone.",
        )


def _mapped(maps: Array, vectors: Array) -> NDArray[np.float32]:
    """Vectors (N, 3) or (N, P, 3) under one map or a map for each splat."""
    return _single(vectors @ maps.T if maps.ndim == 2 else np.einsum("nij,n...j->n...i", maps, vectors))


def _single(values: Array) -> NDArray[np.float32]:
    return np.ascontiguousarray(values, np.float32)
