# SPDX-License-Identifier: GPL-3.0-or-later
"""6D and 7D Gaussians in PLY: the authors' files, early and late, and those of a reproduction of 6DGS.

Instead of rotations a file holds the lower triangle of a factor L of the joint covariance L L^T, over x, y, z, the
direction of view and time: logarithms s of the diagonal and, row by row, l = 2 sigmoid - 1 of the rest.
The authors' is diag(exp s) (1 + l), the reproduction's diag(exp s) + l.
Sources: Gaozhongpai/ndsplat, hsiang0117/6DGS_Reproduction_Study.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...common.threads import in_blocks
from .. import sh
from ..cloud import Floats, SplatCloud
from ..motion import ndgs
from ..motion.ndgs import Ndgs
from .ply_header import Header
from .repair import LATEST, SMALLEST_SCALE, Draft

FAMILY = Ndgs

SIGMOID_COLOURS = "6dgs_color_activation sigmoid"
SIGMOID_TIMES = "mean_time sigmoid"
COMMENTS = (SIGMOID_TIMES,)
"""Files from elsewhere leave it to be guessed."""

_SIZES = ("scale_", "diags_", "l_diag_")
_LOWER = ("l_triangle_", "l_triangs_", "l_offdiag_")
_DIRECTIONS = (
    *(tuple(f"{name}{i}" for i in range(3)) for name in ("mean_view_", "mu_d_", "mean_")),
    ("nx", "ny", "nz"),
)
_TIMES = ("mean_time_0", "mean_time", "mean_3")
_VIEW_LAMBDAS = ("lambda_opc", "lambda_opc_0", "lambda_opa_logit", "lambda_opa")
_TIME_LAMBDAS = ("lambda_opc_time", "lambda_opc_time_0")
_LIMIT = 1 - 1e-6


class Layout(NamedTuple):
    """Which columns hold what; no time for 6D."""

    sizes: tuple[str, ...]
    lower: tuple[str, ...]
    direction: tuple[str, ...]
    time: str
    view_lambda: str
    time_lambda: str

    @property
    def names(self) -> tuple[str, ...]:
        single = (self.time, self.view_lambda, self.time_lambda)
        return (*self.sizes, *self.lower, *self.direction, *(name for name in single if name))


def columns(types: Collection[str]) -> tuple[str, ...]:
    """All of them, where all that is needed is there."""
    layout = _layout(types)
    return layout.names if layout else ()


def read(draft: Draft, columns: Mapping[str, Floats], header: Header, activation: str) -> Ndgs:
    """The family; the draft's rotations and scales become those of the cut."""
    layout = _layout(columns)
    assert layout
    count, dims = len(draft.means), len(layout.sizes)
    raw = activation != "activated"
    comments = [comment.lower() for comment in header.comments]

    def share(name: str) -> NDArray[np.float64]:
        if not name:
            return np.full(count, ndgs.LAMBDA)
        values = columns[name].astype(np.float64)
        return np.clip(_sigmoid(values) if raw else values, 1e-6, 1)

    direction = np.stack([columns[name] for name in layout.direction], axis=1).astype(np.float64)
    lengths = np.linalg.norm(direction, axis=1)
    draft.reset(direction, ~((lengths > 1e-12) & (lengths < 1e18)), (0, 0, 1), "directions zero or not finite: set to z")
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    center = None
    if layout.time:
        center = columns[layout.time].astype(np.float64)
        logits = activation == "raw" or SIGMOID_TIMES in comments or bool(((center < 0) | (center > 1)).any())
        if logits and raw:
            center = _sigmoid(center)
        elif raw:
            draft.warnings.append("Times are taken as they are, being from 0 to 1; if they are logits, say that they are raw.")
        draft.drop(~(np.abs(center) <= LATEST), "times not finite: splats dropped")
    shares = share(layout.view_lambda), share(layout.time_lambda) if layout.time else None
    for values in shares:
        if values is not None:
            draft.reset(values, np.isnan(values), ndgs.LAMBDA, "lambdas not a number: set to 0.35")

    rows_of_triangle = np.tril_indices(dims, -1)
    broken = np.zeros(count, bool)

    family = Ndgs.empty(count)

    def block(rows: slice) -> None:
        with np.errstate(all="ignore"):
            sizes = np.stack([columns[name][rows] for name in layout.sizes], axis=1).astype(np.float64)
            lower = np.stack([columns[name][rows] for name in layout.lower], axis=1).astype(np.float64)
            sizes = np.exp(np.clip(sizes, -20, 20)) if raw else np.clip(sizes, 1e-9, 1e9)
            lower = 2 * _sigmoid(lower) - 1 if raw else lower
        broken[rows] = ~(np.isfinite(sizes).all(axis=1) & np.isfinite(lower).all(axis=1))
        sizes[broken[rows]], lower[broken[rows]] = 1, 0
        factor = np.zeros((len(sizes), dims, dims))
        factor[:, *rows_of_triangle] = lower
        if layout.lower[0] != "l_offdiag_0":
            factor *= sizes[:, :, None]
        factor[:, range(dims), range(dims)] = sizes
        times = (None, None) if center is None or shares[1] is None else (center[rows], shares[1][rows])
        whole = factor @ factor.transpose(0, 2, 1)
        quats, scales, part = ndgs.condition(whole, direction[rows], times[0], shares[0][rows], times[1])
        draft.quats[rows], draft.scales[rows] = quats, np.maximum(scales, SMALLEST_SCALE)
        family.put(rows, part)

    in_blocks(block, count)
    draft.drop(broken, "scales not a number: splats dropped")
    if SIGMOID_COLOURS in comments:
        _linearise_colours(draft)
    return family


def write(cloud: SplatCloud) -> dict[str, Floats | None]:
    """The authors' late layout, 6D for clouds that do not depend on time; the reproduction's where only that can say it."""
    family = cloud.family
    assert isinstance(family, Ndgs)
    dims = 7 if family.moves else 6
    sizes, lower, reproduced = _triangles(cloud, family, dims)
    found: dict[str, Floats | None] = dict.fromkeys((*_DIRECTIONS[-1], *(f"rot_{i}" for i in range(4))))
    if reproduced:
        found |= dict.fromkeys(("scale_0", "scale_1", "scale_2"))
    form = -1 if reproduced else 0
    found |= dict(zip(_DIRECTIONS[reproduced], family.view_mean.T, strict=True))
    found["lambda_opa_logit" if reproduced else "lambda_opc"] = _logit(family.view_lambda)
    if dims == 7:
        found |= {"mean_time_0": _logit(family.center), "lambda_opc_time": _logit(family.time_lambda)}
    found |= {f"{_SIZES[form]}{i}": column for i, column in enumerate(np.log(sizes).astype(np.float32).T)}
    raw = _logit((np.clip(lower, -_LIMIT, _LIMIT) + 1) / 2)
    found |= {f"{_LOWER[form]}{i}": column for i, column in enumerate(raw.T)}
    return found


def clips(cloud: SplatCloud) -> list[str]:
    """Splats that lean more than the format's factors can, and times beyond its clip."""
    family = cloud.family
    assert isinstance(family, Ndgs)
    found = []
    if leaning := _count_leaning(_triangles(cloud, family, 7 if family.moves else 6)[1]):
        found.append(f"{leaning:,} splats change their shape or motion: they lean more than 6D and 7D files can say.")
    if family.moves and ((family.center <= 0) | (family.center >= 1)).any():
        found.append("Times before 0 and after 1 are clipped: 7D files hold no others.")
    return found


def _layout(types: Collection[str]) -> Layout | None:
    def run(prefixes: tuple[str, ...], count: int) -> tuple[str, ...]:
        runs = (tuple(f"{prefix}{i}" for i in range(count + 1)) for prefix in prefixes)
        return next((names[:-1] for names in runs if {*names} & {*types} == {*names[:-1]}), ())

    def one(names: tuple[str, ...]) -> str:
        return next((name for name in names if name in types), "")

    lower, time = run(_LOWER, 21) or run(_LOWER, 15), one(_TIMES)
    direction = next((names for names in _DIRECTIONS if {*names} <= {*types}), ())
    if not lower or not direction:
        return None
    timed = len(lower) == 21
    sizes = run(_SIZES, 7 if timed else 6)
    if not sizes or (timed and not time):
        return None
    return Layout(sizes, lower, direction, time if timed else "", one(_VIEW_LAMBDAS), one(_TIME_LAMBDAS) if timed else "")


def _triangles(cloud: SplatCloud, family: Ndgs, dims: int) -> tuple[NDArray[np.float64], NDArray[np.float64], bool]:
    """Diagonals (N, dims) and what is below them, divided by the diagonal of its row, of the joint covariances' factors.

    Files hold -1 to 1 of the latter.  Where a splat of 6D leans more, and none is beyond that without the division,
    it is not divided: the reproduction's form, which the last value says.
    """
    sizes, lower = np.empty((len(cloud), dims)), np.empty((len(cloud), dims * (dims - 1) // 2))
    i, j = np.tril_indices(dims, -1)

    def block(rows: slice) -> None:
        part = ndgs.factor(cloud.quats[rows], cloud.scales[rows], family.select(rows), dims)
        triangle = np.linalg.qr(part.transpose(0, 2, 1), mode="r").transpose(0, 2, 1)
        diagonal = np.diagonal(triangle, axis1=1, axis2=2)
        sizes[rows] = np.maximum(np.abs(diagonal), SMALLEST_SCALE)
        lower[rows] = (triangle * np.sign(diagonal)[:, None, :])[:, i, j] / sizes[rows][:, i]

    in_blocks(block, len(cloud))
    plain = lower * sizes[:, i]
    reproduced = dims == 6 and _count_leaning(lower) > 0 and not _count_leaning(plain)
    return sizes, plain if reproduced else lower, reproduced


def _count_leaning(lower: NDArray[np.float64]) -> int:
    """Splats with an entry that no sigmoid gives."""
    return int(np.count_nonzero((np.abs(lower) > 1 - 1e-4).any(axis=1)))


def _linearise_colours(draft: Draft) -> None:
    """Colours sigmoid(sum) as colours 0.5 + sum, exact where only the base counts."""
    draft.warnings.append("Colours pass through a sigmoid here; how they change with the view is read to first order.")
    shown = _sigmoid(draft.sh[:, 0].astype(np.float64) * sh.C0)
    draft.sh[:, 1:] *= (shown * (1 - shown))[:, None].astype(np.float32)
    draft.sh[:, 0] = sh.to_base(shown)


def _sigmoid(values: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-values))


def _logit(values: NDArray[np.floating]) -> Floats:
    values = np.clip(values.astype(np.float64), 1e-9, 1 - 1e-9)
    return np.log(values / (1 - values)).astype(np.float32)
