# SPDX-License-Identifier: GPL-3.0-or-later
"""Checkpoints of trainers (.pth, .pt) that hold splats: 4DGS (fudan), 3DGS (INRIA) and gsplat.

4DGS and 3DGS save a tuple (state, iteration); the state is itself a tuple of 19 or 12, or a dictionary in some
versions.  What it holds is what the trainers write as columns of a PLY, and it is read as such.
Sources: scene/gaussian_model.py (capture) of fudan-zvg/4d-gaussian-splatting, and the documentation of gsplat.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...common.errors import BrokenFile, UnsupportedFormat
from ..cloud import SplatCloud
from . import ply, torch_file
from .format import Overrides
from .ply_header import Bytes

NAME = "Checkpoint"
WIDEST = 3 * 25 * 4
"""Columns that a tensor may have: four blocks of the highest degree."""

_STATE = {1: "xyz", 2: "features_dc", 3: "features_rest", 4: "scaling", 5: "rotation", 6: "opacity",
          13: "t", 14: "scaling_t", 15: "rotation_r"}  # fmt: skip
"""Places in the state's tuple; those after 6 only of a 4DGS state."""
_TURNING = 16
"""Where a 4DGS state says whether space and time are turned against each other."""
_GSPLAT = {"means": "xyz", "sh0": "features_dc", "shN": "features_rest", "scales": "scaling", "quats": "rotation",
           "opacities": "opacity"}  # fmt: skip
_COLUMNS = {"xyz": "xyz", "scaling": "scale_{}", "rotation": "rot_{}", "opacity": "opacity", "t": "t", "scaling_t": "scaling_t",
            "rotation_r": "rot_r_{}"}  # fmt: skip
_HINT = "Give a checkpoint of 3DGS, 4DGS or gsplat, or the folder of a trained scene."


def is_checkpoint(data: Bytes, path: Path) -> bool:
    """Whether this is a PyTorch file."""
    return torch_file.is_torch(data)


def decode(data: Bytes, overrides: Overrides | None = None) -> SplatCloud:
    """The cloud in a checkpoint; nothing in it is run."""
    tensors = _tensors(torch_file.load(data))
    cloud = ply.decode(_as_ply(tensors), overrides)
    return dataclasses.replace(cloud, source=dataclasses.replace(cloud.source, format=NAME, encoded=None))


def _tensors(value: Any) -> dict[str, np.ndarray]:
    """Tensors by 4DGS's names, whatever kind of checkpoint it is."""
    state = value[0] if isinstance(value, tuple) and len(value) == 2 else value
    if isinstance(state, dict) and isinstance(state.get("splats"), dict):
        named = {name: state["splats"].get(key) for key, name in _GSPLAT.items()}
    elif isinstance(state, dict):
        if any(key.startswith(("deformation_net.", "linear.", "network.")) for key in state if isinstance(key, str)):
            raise UnsupportedFormat(
                "This is the network of a scene without its splats.", "Give the folder of the trained scene."
            )
        if {"mlp1.weight", "refine.mean.0.weight"} & state.keys():
            raise UnsupportedFormat("This is a network that goes with a PLY.", "Give the PLY beside it.")
        named = {name: state.get(name) for name in _STATE.values()}
    elif isinstance(state, tuple) and len(state) in (12, 19):
        named = {name: state[place] for place, name in _STATE.items() if place < 7 or len(state) == 19}
        if len(state) == 19 and not state[_TURNING]:
            named.pop("rotation_r")
    else:
        raise UnsupportedFormat("This PyTorch file holds no splats.", _HINT)
    tensors = {name: tensor for name, tensor in named.items() if isinstance(tensor, np.ndarray) and tensor.size}
    if lost := [name for name in ("xyz", "features_dc", "scaling", "rotation", "opacity") if name not in tensors]:
        raise UnsupportedFormat(f"This PyTorch file holds no splats: it has no {', '.join(lost)}.", _HINT)
    count = len(tensors["xyz"])
    for name, tensor in tensors.items():
        if tensor.dtype.kind != "f" or tensor.ndim < 1 or len(tensor) != count or tensor.size > count * WIDEST:
            raise BrokenFile(f"The checkpoint's '{name}' does not fit its {count:,} splats.", torch_file.HINT)
    return tensors


def _as_ply(tensors: Mapping[str, np.ndarray]) -> Bytes:
    """The PLY that the trainer would have written."""
    count = len(tensors["xyz"])
    columns: dict[str, np.ndarray] = {}
    for name, pattern in _COLUMNS.items():
        if name in tensors:
            table = tensors[name].reshape(count, -1)
            names = pattern if name == "xyz" else [pattern.format(i) for i in range(table.shape[1])]
            if len({*names}) != table.shape[1]:
                raise BrokenFile(f"The checkpoint's '{name}' has {table.shape[1]} columns.", torch_file.HINT)
            columns |= dict(zip(names, table.T, strict=True))
    for name, prefix in (("features_dc", "f_dc_"), ("features_rest", "f_rest_")):
        if name in tensors:
            colours = tensors[name]
            if colours.ndim != 3 or colours.shape[2] != 3:
                raise BrokenFile(f"The checkpoint's '{name}' has the shape {colours.shape}.", torch_file.HINT)
            planes = colours.transpose(2, 1, 0)  # a PLY holds all of a channel before the next
            columns |= {f"{prefix}{i}": plane for i, plane in enumerate(planes.reshape(-1, count))}
    table = np.empty((count, len(columns)), "<f4")
    with np.errstate(over="ignore"):
        for i, column in enumerate(columns.values()):
            table[:, i] = column
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {count}"]
    header = "\n".join([*lines, *(f"property float {name}" for name in columns), "end_header", ""]).encode()
    data = np.empty(len(header) + table.nbytes, np.uint8)
    data[: len(header)] = np.frombuffer(header, np.uint8)
    data[len(header) :] = table.reshape(-1).view(np.uint8)
    return data
