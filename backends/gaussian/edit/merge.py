# SPDX-License-Identifier: GPL-3.0-or-later
"""Several clouds as one, moving as they did."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...common.errors import VivantError
from ..cloud import Floats, SplatCloud
from ..motion.family import Family
from ..motion.linear import Linear
from ..motion.ndgs import Ndgs
from ..motion.rotor4d import Rotor4D
from ..motion.stg import Stg
from ..motion.stg_full import Decoder

FOREVER = np.float32(1e6)
"""Width, in clips, of a bell that never fades, where a family asks for a finite one."""
EVERYWHERE = np.float32(1e-3)
"""`view_fall` of a splat that is seen alike from everywhere: opacities differ by less than 2e-5."""


def merged(clouds: Sequence[SplatCloud]) -> SplatCloud:
    """All splats in the order of the clouds, which are in one frame; the first one's source describes the whole.

    The highest SH degree holds for all; extra columns that a cloud lacks are 0.  Still clouds stand still among moving
    ones.  Raises VivantError for frames, families, times, colour spaces or anti-aliasing that differ.
    """
    first, *_ = clouds
    if len({cloud.source.axes for cloud in clouds}) > 1:
        raise VivantError("The clouds are in different frames.", "Bring them into one with change_axes.")
    if len({cloud.source.antialiased for cloud in clouds}) > 1:
        raise VivantError(
            "Some of the splats were trained with anti-aliasing and some without, so they are drawn differently.",
            "Keep them as objects of their own.",
        )
    if len({cloud.source.linear for cloud in clouds}) > 1:
        raise VivantError(
            "Some of the splats have colours in linear light and some display values, so they are drawn differently.",
            "Keep them as objects of their own.",
        )
    count = max(cloud.sh.shape[1] for cloud in clouds)
    names = list(dict.fromkeys(name for cloud in clouds for name in cloud.extras))
    return first.replace(
        **{
            name: np.concatenate([getattr(cloud, name) for cloud in clouds])
            for name in ("means", "quats", "scales", "opacities")
        },
        sh=np.concatenate([_padded(cloud.sh, 1, count) for cloud in clouds]),
        family=_joined(clouds, count),
        extras={
            name: np.concatenate([cloud.extras.get(name, np.zeros(len(cloud), np.float32)) for cloud in clouds])
            for name in names
        },
    )


def _joined(clouds: Sequence[SplatCloud], coefficients: int) -> Family | None:
    """The family of all splats, whose SH have so many coefficients."""
    families = [cloud.family for cloud in clouds if cloud.family is not None]
    if not families:
        return None
    model = families[0]
    if len({family.name for family in families}) > 1:
        named = " and ".join(sorted({family.name for family in families}))
        raise VivantError(f"These clouds move in different ways: {named}.", "Fit them by one family first.")
    if len({tuple(map(float, family.time_range)) for family in families}) > 1:
        raise VivantError("The clips of these clouds have different times.", "Give them one time range first.")
    if not isinstance(model, Linear | Stg | Ndgs):
        raise VivantError(f"Motion of the family {model.name} cannot be merged.", "Fit it by spacetime Gaussians first.")
    parts = [cloud.family or _standing(model, len(cloud)) for cloud in clouds]
    if isinstance(model, Rotor4D):
        orders = max(part.waves.shape[1] for part in parts)  # type: ignore[attr-defined]
        parts = [
            dataclasses.replace(part, waves=_padded(_padded(part.waves, 1, orders), 2, coefficients))  # type: ignore[type-var, attr-defined]
            for part in parts
        ]
    columns: dict[str, Any] = {}
    for field in dataclasses.fields(model):
        values = [getattr(part, field.name) for part in parts]
        if isinstance(values[0], np.ndarray):
            columns[field.name] = np.concatenate(values)
        elif isinstance(values[0], Decoder) or any(isinstance(value, Decoder) for value in values):
            _check_one_network(values)
        elif isinstance(values[0], bool):
            columns[field.name] = any(values)
    return dataclasses.replace(model, **columns)


def _check_one_network(decoders: Sequence[Decoder | None]) -> None:
    if any(decoder is None or decoder.numbers != decoders[0].numbers for decoder in decoders):  # type: ignore[union-attr]
        raise VivantError(
            "Colours of some of these clouds come from a network that others do not have.", "Keep them as objects of their own."
        )


def _standing(model: Linear | Stg | Ndgs, count: int) -> Family:
    """So many splats of the model's family that neither move nor fade."""
    still: dict[str, Any] = {}
    for field in dataclasses.fields(model):
        column = getattr(model, field.name)
        if isinstance(column, np.ndarray):
            still[field.name] = np.zeros((count, *column.shape[1:]), np.float32)
    still["center"] += np.float32(model.time_range[0])
    if isinstance(model, Linear):
        still |= {"width": still["width"] + np.inf, "first": still["first"] - np.inf, "last": still["last"] + np.inf}
    elif isinstance(model, Stg):
        still["width"] += FOREVER * np.float32(model.time_range[1] - model.time_range[0])
    else:
        still["width"] += FOREVER if model.moves else np.inf
        still["view_mean"][:, 2] = 1
        still["view_fall"] += EVERYWHERE * np.eye(3, dtype=np.float32)
        still["view_lambda"] += 1
        still["time_lambda"] += 1
    if getattr(model, "decoder", None):
        still["decoder"] = None
    return dataclasses.replace(model, **still)


def _padded(values: Floats, axis: int, size: int) -> Floats:
    """Zeros after the values of an axis, up to a size."""
    room = [(0, 0)] * values.ndim
    room[axis] = (0, size - values.shape[axis])
    return np.pad(values, room)
