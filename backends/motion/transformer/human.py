# SPDX-License-Identifier: GPL-3.0-or-later
"""The trained in-betweener for any human, at any frame rate: the network's own body stands in for others."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from .. import stand_in
from ..clip import Clip
from . import solver
from .body import Body
from .network import Network


def fill(
    network: Network, clip: Clip, keys: NDArray[np.bool_], seed: int = 0, human: Mapping[str, str] | None = None
) -> tuple[Clip, list[str]]:
    """The clip with its gaps filled, and sentences for the user; see `solve.Solver`.

    human: canonical joint -> name, found by `humanoid.find` when None; seed: see `solver.correct`.
    Raises VivantError as `stand_in.fill` and `solver.fill`.
    """
    return stand_in.fill(clip, keys, human, standing(network.body), lambda c, k: solver.fill(network, c, k, seed))


def standing(body: Body) -> Clip:
    """The network's body without frames, on the floor as its training stood."""
    return stand_in.standing(body.names, body.parents, np.array(body.offsets), solver.RATE)
