# SPDX-License-Identifier: GPL-3.0-or-later
"""Full spacetime Gaussians in PLY: the lite model's columns, f_dc_3 to 5 and f_t_0 to 2, which a network decodes.

The network lies beside the PLY as a .pt file.  Until it is there, the base features stand for the colours,
through the sigmoid that ends the network.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from .. import sh
from ..cloud import Floats, SplatCloud
from ..motion.stg_full import StgFull
from .ply_header import Header
from .repair import LARGEST, Draft

FAMILY = StgFull
COMMENTS = ()

_BASE = ("f_dc_0", "f_dc_1", "f_dc_2")
_SPECULAR = ("f_dc_3", "f_dc_4", "f_dc_5")
_TEMPORAL = ("f_t_0", "f_t_1", "f_t_2")


def columns(types: Collection[str]) -> tuple[str, ...]:
    """The features beyond the base colours."""
    full = {*_SPECULAR, *_TEMPORAL, "trbf_center", "trbf_scale", *(f"motion_{i}" for i in range(9))} <= set(types)
    return (*_SPECULAR, *_TEMPORAL) if full else ()


def read(draft: Draft, columns: Mapping[str, Floats], header: Header, activation: str) -> StgFull:
    """The family without its network."""
    specular, temporal = (np.stack([columns[name] for name in names], axis=1) for names in (_SPECULAR, _TEMPORAL))
    for values in (specular, temporal):
        draft.reset(values, ~(np.abs(values) < LARGEST), 0, "colours not finite: set to 0")
    base = sh.to_rgb(draft.sh[:, 0])
    with np.errstate(over="ignore"):
        draft.sh[:, 0] = sh.to_base(1 / (1 + np.exp(-base)))
    return StgFull(draft.velocity, draft.spin, draft.center, draft.width, (0.0, 1.0), specular, temporal)


def write(cloud: SplatCloud) -> dict[str, Floats | None]:
    """The features, those of the base colours before their sigmoid."""
    family = cloud.family
    assert isinstance(family, StgFull)
    shown = np.clip(sh.to_rgb(cloud.sh[:, 0]), 1e-6, 1 - 1e-6)
    features = np.concatenate([np.log(shown / (1 - shown)), family.specular, family.temporal], axis=1)
    return dict(zip((*_BASE, *_SPECULAR, *_TEMPORAL), features.T, strict=True))


def clips(cloud: SplatCloud) -> list[str]:
    """The network is a file of its own."""
    family = cloud.family
    return ["The network that makes the colours is not written: it is a file of its own."] if family.decoder else []  # type: ignore[union-attr]
