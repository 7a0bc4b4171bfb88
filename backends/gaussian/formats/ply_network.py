# SPDX-License-Identifier: GPL-3.0-or-later
"""PLY files that a network of the same name, a .pt file beside them, belongs to: full spacetime Gaussians with the one
that makes their colours, and 7D Gaussians with the one that refines them.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from ...common.errors import BrokenFile
from ..cloud import SplatCloud
from ..motion.layers import Weights
from ..motion.ndgs import Ndgs
from ..motion.refined import Refined, RefinementNetwork
from ..motion.stg_full import Decoder, StgFull
from . import files, ply, ply_header, torch_file
from .format import Overrides
from .ply_header import Bytes

_SIZES = [f"scale_{i}" for i in range(7)]
_LOWER = [f"l_triangle_{i}" for i in range(21)]


def has_network(data: Bytes, path: Path) -> bool:
    """Whether this is such a PLY, and has its network beside it."""
    if not ply_header.is_ply(data[:8].tobytes()) or not path.is_file() or not path.with_suffix(".pt").is_file():
        return False
    header = ply_header.parse(data[: ply_header.LONGEST_HEADER].tobytes())
    return any(
        {"f_t_0"} <= names or {*_SIZES, *_LOWER} <= names for names in (set(element.columns) for element in header.elements)
    )


def read(path: Path, overrides: Overrides | None = None) -> SplatCloud:
    """The cloud with the family that asks the network.  Raises BrokenFile where the .pt is something else."""
    beside = path.with_suffix(".pt")
    weights = torch_file.load(files.view(beside))
    if not isinstance(weights, dict):
        raise BrokenFile(f"'{beside.name}' holds no network.", "Move it away, or export it again.")
    data = files.load(path)
    cloud = ply.decode(data, overrides)
    if isinstance(cloud.family, StgFull):
        kept = tuple(text for text in cloud.source.warnings if "(.pt)" not in text)
        source = dataclasses.replace(cloud.source, warnings=kept)
        return dataclasses.replace(
            cloud, family=dataclasses.replace(cloud.family, decoder=_decoder(weights, beside)), source=source
        )
    if isinstance(cloud.family, Ndgs):
        refined = _refined(cloud, cloud.family, data, RefinementNetwork.of(weights))
        return dataclasses.replace(cloud, family=refined, source=dataclasses.replace(cloud.source, encoded=None))
    return cloud


def _decoder(weights: Weights, beside: Path) -> Decoder:
    layers = []
    for name, shape in (("mlp1.weight", (6, 12)), ("mlp2.weight", (3, 6))):
        layer = weights.get(name)
        if not isinstance(layer, np.ndarray) or layer.dtype.kind != "f" or layer.size != shape[0] * shape[1]:
            raise BrokenFile(f"'{beside.name}' is no network of spacetime Gaussians.", "Move it away, or export it again.")
        layers.append(layer.reshape(shape).astype(np.float64))
    if not all((np.abs(layer) < 1e12).all() for layer in layers):
        raise BrokenFile(f"'{beside.name}' holds values that are not finite.", "Export it again.")
    return Decoder(layers[0], layers[1])


def _refined(cloud: SplatCloud, cut: Ndgs, data: Bytes, network: RefinementNetwork) -> Refined:
    """The numbers before the cut, of the splats that the reader kept."""
    header = ply_header.parse(data[: ply_header.LONGEST_HEADER].tobytes())
    count, table = ply_header.rows_of(data, header, "vertex")
    if count != len(cloud):
        raise BrokenFile("Some splats of this 7D scene are damaged, so its network does not fit.", "Export it again.")
    row = table(slice(0, count))
    with np.errstate(all="ignore"):
        sizes, lower = (np.column_stack([row[name].astype(np.float32) for name in names]) for names in (_SIZES, _LOWER))
    return Refined(
        points=cloud.means,
        lengths=np.ones(count, np.float32),
        network=network,
        sizes=np.nan_to_num(np.clip(sizes, -20, 20)),
        lower=np.nan_to_num(np.clip(lower, -40, 40)),
        view=cut.view_mean,
        center=cut.center,
        view_lambda=cut.view_lambda,
        time_lambda=cut.time_lambda,
    )
