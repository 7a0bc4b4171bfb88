# SPDX-License-Identifier: GPL-3.0-or-later
"""Folders of trained scenes that a network moves: 4D-GS (hustvl), Deformable 3D Gaussians and SC-GS.

point_cloud/iteration_N/point_cloud.ply   the canonical splats
point_cloud/iteration_N/deformation.pth   the network of 4D-GS
deform/iteration_N/deform.pth             that of Deformable 3D Gaussians, or nodes and network of SC-GS
cfg_args                                  what the trainer was told, the text of a Python Namespace
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...common.errors import BrokenFile, UnsupportedFormat
from ..cloud import Floats, SplatCloud
from ..motion.control_nodes import NEIGHBOURS, ControlNodes, Nodes
from ..motion.deformation import Deformable, DeformationNetwork
from ..motion.hexplane import HEADS, HexPlane, HexPlaneNetwork
from ..motion.layers import Weights
from ..motion.network import NetworkFamily
from . import files, ply, ply_header, torch_file
from .format import Overrides
from .ply_header import Bytes

NAME = "Trained scene"
LONGEST_SETTINGS = 1 << 18

_FLAGS = {"pos_deform": "no_dx", "scales_deform": "no_ds", "rotations_deform": "no_dr",
          "opacity_deform": "no_do", "shs_deform": "no_dshs"}  # fmt: skip
"""What 4D-GS's trainer calls a head that is left out."""


@dataclass(frozen=True)
class Scene:
    """The files of a scene; settings may not exist."""

    splats: Path
    network: Path
    settings: Path


def find(path: Path) -> Scene | None:
    """The scene that a folder, an iteration's folder or a file in it belongs to; the last iteration if none is named."""
    if path.is_dir():
        here, named = path, _number(path)
    elif path.name in ("point_cloud.ply", "deformation.pth", "deform.pth"):
        here, named = path.parent, _number(path.parent)
    else:
        return None
    root = next((folder for folder in (here, *here.parents[:2]) if (folder / "point_cloud").is_dir()), None)
    if root is None:
        return None
    for number in [named] if named else sorted(map(_number, (root / "point_cloud").glob("iteration_*")), reverse=True):
        splats = root / "point_cloud" / f"iteration_{number}" / "point_cloud.ply"
        networks = splats.with_name("deformation.pth"), root / "deform" / f"iteration_{number}" / "deform.pth"
        for network in networks:
            if splats.is_file() and network.is_file():
                return Scene(splats, network, root / "cfg_args")
    return None


def is_scene(data: Bytes, path: Path) -> bool:
    """Whether the path names a scene, or a file of one."""
    return (not len(data) or path.is_file()) and find(path) is not None


def read(path: Path, overrides: Overrides | None = None) -> SplatCloud:
    """The canonical splats, with the family of their network.  Nothing of the checkpoint is run."""
    scene = find(path)
    assert scene
    weights = torch_file.load(files.view(scene.network))
    if not isinstance(weights, dict):
        raise BrokenFile(f"'{scene.network.name}' holds no network.", "Give the folder of a trained scene.")
    told = settings(scene.settings)
    data = files.load(scene.splats)
    cloud = ply.decode(data, overrides)
    cloud = dataclasses.replace(cloud, source=dataclasses.replace(cloud.source, encoded=None))
    if "nodes" in weights:
        return _control_nodes(cloud, data, weights, told)
    if "linear.0.weight" in weights:
        network = DeformationNetwork.of(weights)
        return _moving(cloud, Deformable(points=cloud.means, lengths=np.ones(len(cloud), np.float32), network=network))
    if "deformation_net.grid.aabb" in weights:
        return _hexplane(cloud, data, weights, told | _said(overrides))
    raise UnsupportedFormat(
        f"'{scene.network.name}' is the network of no method that Vivant knows.",
        "It knows those of 4D-GS, Deformable 3D Gaussians and SC-GS.",
    )


def settings(path: Path) -> dict[str, Any]:
    """What a trainer's cfg_args says: the plain values in the text 'Namespace(name=value, …)', which is parsed, never run.

    Empty where the file is missing or is no such text.
    """
    try:
        with path.open("rb") as file:
            text = file.read(LONGEST_SETTINGS + 1).decode("utf-8", "replace")
        call = ast.parse(text.strip(), mode="eval").body if len(text) <= LONGEST_SETTINGS else None
    except (OSError, SyntaxError, ValueError, MemoryError, RecursionError):
        return {}
    found: dict[str, Any] = {}
    for keyword in call.keywords if isinstance(call, ast.Call) else ():
        with contextlib.suppress(ValueError, TypeError, MemoryError, RecursionError):  # of values that are no literals
            found[str(keyword.arg)] = ast.literal_eval(keyword.value)
    return found


def _said(overrides: Overrides | None) -> dict[str, bool]:
    """What the user knows of a network's heads, as the trainer's settings say it."""
    said = {"no_do": overrides.opacities_move, "no_dshs": overrides.colours_move} if overrides else {}
    return {flag: not moves for flag, moves in said.items() if moves is not None}


def _hexplane(cloud: SplatCloud, data: Bytes, weights: Weights, told: dict[str, Any]) -> SplatCloud:
    for flag in ("static_mlp", "empty_voxel"):
        if told.get(flag):
            raise UnsupportedFormat(
                f"This 4D-GS scene was trained with {flag}, which Vivant does not read.", "Train it without."
            )
    network = HexPlaneNetwork.of(weights)
    warnings = []
    video = network.levels[0][0].shape[-1] == 16 and len(network.levels) == 2  # the settings for scenes of many cameras
    left_out = {"no_dx": False, "no_ds": False, "no_dr": False, "no_do": not video, "no_dshs": not video}
    if not {"no_do", "no_dshs"} <= told.keys():
        change = "change" if video else "stay"
        warnings.append(
            f"The scene does not say whether opacities and colours move; from its size it seems that they {change}; "
            "say it when you import it."
        )
    left_out |= {flag: bool(told[flag]) for flag in left_out if flag in told}
    heads = tuple(name for name in HEADS if name in network.heads and not left_out[_FLAGS[name]])
    lengths, more = _lengths(cloud, data)
    family = HexPlane(
        points=cloud.means, lengths=lengths, network=network, heads=heads, multiplies=bool(told.get("apply_rotation"))
    )
    return _moving(cloud, family, *warnings, *more)


def _control_nodes(cloud: SplatCloud, data: Bytes, weights: Weights, told: dict[str, Any]) -> SplatCloud:
    unread = [name for name, usual in (("K", NEIGHBOURS), ("d_rot_as_res", True), ("skinning", False), ("hash_time", False))
              if told.get(name, usual) != usual]  # fmt: skip
    if unread or (told.get("max_d_scale") or -1) > 0:
        names = ", ".join(unread or ["max_d_scale"])
        raise UnsupportedFormat(
            f"This SC-GS scene was trained with another {names}, which Vivant does not read.", "Leave it out."
        )
    nodes = Nodes.of(weights)
    hyper = nodes.places.shape[1] - 3
    extras = dict(cloud.extras)
    features: list[Floats] = []
    while (column := extras.pop(f"fea_{len(features)}", None)) is not None:
        features.append(column)
    if len(features) not in (hyper, hyper + 1):
        raise BrokenFile(
            f"{len(features)} columns of features do not fit nodes with {hyper}.", "Give the files of one iteration."
        )
    places = np.column_stack([cloud.means, *features[:hyper]]).astype(np.float32)
    places[~np.isfinite(places)] = 0
    index, share = nodes.nearest(places)
    if len(features) > hyper:  # how much a splat moves at all
        with np.errstate(over="ignore"):
            share *= np.nan_to_num(1 / (1 + np.exp(-features[hyper])))[:, None]
    lengths, warnings = _lengths(cloud, data)
    family = ControlNodes(points=cloud.means, lengths=lengths, nodes=nodes, index=index, share=share)
    return _moving(dataclasses.replace(cloud, extras=extras), family, *warnings)


def _moving(cloud: SplatCloud, family: NetworkFamily, *warnings: str) -> SplatCloud:
    kept = (text for text in cloud.source.warnings if "SC-GS" not in text)  # which was said of the PLY alone
    source = dataclasses.replace(cloud.source, format=NAME, warnings=(*kept, *warnings))
    return dataclasses.replace(cloud, family=family, source=source)


def _lengths(cloud: SplatCloud, data: Bytes) -> tuple[Floats, list[str]]:
    """Lengths (N,) of the quaternions in the file, which the network's are added to, and a warning where they are lost."""
    header = ply_header.parse(data[: ply_header.LONGEST_HEADER].tobytes())
    count, table = ply_header.rows_of(data, header, "vertex")
    if count != len(cloud):
        return np.ones(len(cloud), np.float32), ["Splats were dropped, so that all turn as if their quaternions had been unit."]
    if not {"rot_0", "rot_1", "rot_2", "rot_3"} <= header.element("vertex").columns.keys():
        return np.ones(count, np.float32), []
    row = table(slice(0, count))
    with np.errstate(all="ignore"):
        lengths = np.sqrt(sum(np.square(row[f"rot_{i}"].astype(np.float64)) for i in range(4)))
    return np.where((lengths > 1e-12) & (lengths < 1e18), lengths, 1).astype(np.float32), []


def _number(folder: Path) -> int:
    """N of a folder iteration_N, else 0."""
    match = re.fullmatch(r"iteration_(\d{1,9})", folder.name)
    return int(match[1]) if match else 0
