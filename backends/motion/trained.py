# SPDX-License-Identifier: GPL-3.0-or-later
"""The trained in-betweener seen from where there is no torch: whether it can serve, and where it has what it needs."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..common import weights as weight_files
from ..common.errors import NeedsEngine, NeedsWeights, VivantError
from . import optimise
from .clip import Clip
from .retarget import indices, rest_pose

if TYPE_CHECKING:
    from .transformer.network import Network

Mask = NDArray[np.bool_]

WEIGHTS = "inbetween.safetensors"
PACKAGES = ("torch", "safetensors")


def runs_here() -> bool:
    """Whether this Python has what the network needs."""
    return all(find_spec(package) for package in PACKAGES)


def serves(clip: Clip, weights: str = "", human: Mapping[str, str] | None = None, feet: bool = False) -> bool:
    """Whether there are weights and the clip is a human's; `runs_here` is another question."""
    try:
        _check_human(clip, human)
        weight_file(weights)
    except VivantError:
        return False
    return True


def _check_human(clip: Clip, human: Mapping[str, str] | None) -> None:
    """Raises VivantError for what is no human."""
    try:
        indices(clip, human, rest_pose(clip)[0])
    except VivantError as error:
        raise VivantError(
            f"The trained model moves humans only. {error.message}", "Choose another solver, or correct the rig's mapping."
        ) from error


def weight_file(weights: str = "") -> Path:
    """The file named, or the one found.  Raises NeedsWeights when there is none."""
    if not weights:
        return weight_files.find(WEIGHTS)
    if not Path(weights).is_file():
        raise NeedsWeights(f"There is no file of weights {weights}.", "Name another one.")
    return Path(weights)


def fill(
    clip: Clip,
    keys: Mask,
    library: Sequence[Clip],
    seed: int,
    weights: str = "",
    human: Mapping[str, str] | None = None,
    feet: bool = False,
) -> tuple[Clip, list[str]]:
    """The clip with its gaps filled, and sentences for the user; see `solve.Solver`.

    weights: a file of the user's own; human: canonical joint -> name, where the names do not say it; feet: let
    `optimise.optimise` go over it, so that feet slide a fifth to a half less, joints move by some 2 % of what is wrong with
    them, and it takes longer than the network.
    Raises VivantError for what is no human, else NeedsWeights, else NeedsEngine where there is no torch, and as
    `transformer.human.fill`.
    """
    _check_human(clip, human)
    path = weight_file(weights)
    if not runs_here():
        raise NeedsEngine("The trained model needs PyTorch.", "Press Install engine in Vivant's preferences.")
    import torch

    from .transformer import human as solver

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # more would wait for each other longer than they work, the more so on a busy machine
    try:
        filled, said = solver.fill(_network(path, path.stat().st_mtime_ns), clip, keys, seed, human)
    finally:
        torch.set_num_threads(threads)
    return optimise.optimise(clip, keys, filled) if feet else filled, said


@functools.lru_cache(maxsize=2)
def _network(path: Path, changed: int) -> Network:
    """Loaded once, and again when the file has changed."""
    from .transformer import network

    return network.load(path)
