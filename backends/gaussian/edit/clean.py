# SPDX-License-Identifier: GPL-3.0-or-later
"""What captures are better off without: strays, floaters, what nobody sees and what is far too large.

All lengths are told from the capture itself: its spacing, within which a typical splat has its neighbours.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...common.steps import within
from ..cloud import SplatCloud

Mask = NDArray[np.bool_]
Found = dict[str, Mask]
Doubles = NDArray[np.float64]
Cells = NDArray[np.int64]

KINDS = ("INVISIBLE", "OUTLIER", "FLOATER", "GIANT", "NEEDLE")
"""Why a splat may go: fainter than any screen shows; few others near it; in a small group far from all others; far larger
than the rest of the capture; far longer than wide."""

NEIGHBOURS = 8
"""How many others a splat that is no stray has around it."""
TIMES = 8
"""How often a moving cloud is looked at."""
FINEST = 1e-7
"""Cells are no smaller than single precision tells points apart."""
_SAMPLE = 4000


class Limits(NamedTuple):
    """From where on splats are in the way; the defaults leave real captures as they look.

    opacity: what is fainter is invisible.  gap: how far away from all others, in spacings, a stray or a group of floaters is.
    share: what part of all opacity such a group has at most.  giant: size, in sizes that 99 % of the splats do not reach.
    needle: length to width, of splats that are longer than the gap.
    """

    opacity: float = 1 / 255
    gap: float = 6.0
    share: float = 2e-3
    giant: float = 4.0
    needle: float = 200.0


def flaws(cloud: SplatCloud, limits: Limits | None = None) -> Generator[float, None, Found]:
    """Which splats (N,) each of KINDS names; yields the share that is done.  A splat may be of several kinds.

    Of a moving cloud those that are never visible, and those that are in the way whenever they are seen, at TIMES times.
    """
    limits = limits or Limits()
    if cloud.family is None:
        return (yield from _still(cloud, limits))
    found = {kind: np.zeros(len(cloud), bool) for kind in KINDS}
    fine = np.zeros(len(cloud), bool)
    for index, time in enumerate(np.linspace(*cloud.family.time_range, TIMES)):
        now = yield from within(_still(cloud.at(float(time)), limits), index / TIMES, (index + 1) / TIMES)
        wrong = np.any([now[kind] for kind in KINDS[1:]], axis=0)
        fine |= ~wrong & ~now["INVISIBLE"]
        for kind in KINDS[1:]:
            found[kind] |= now[kind]
    return {kind: mask & ~fine for kind, mask in found.items()} | {"INVISIBLE": cloud.opacities < np.float32(limits.opacity)}


def _still(cloud: SplatCloud, limits: Limits) -> Generator[float, None, Found]:
    sizes, widths = cloud.scales.max(axis=1).astype(np.float64), np.median(cloud.scales, axis=1)
    seen = cloud.opacities >= np.float32(limits.opacity)
    found = {kind: np.zeros(len(cloud), bool) for kind in KINDS} | {"INVISIBLE": ~seen}
    rows = np.flatnonzero(seen)
    points = cloud.means[rows].astype(np.float64)
    gap = limits.gap * spacing(points)
    if gap == 0:
        return found
    found["GIANT"] = seen & (sizes > limits.giant * np.quantile(sizes[rows], 0.99))
    found["NEEDLE"] = seen & (sizes > limits.needle * widths) & (sizes > gap)
    yield 0.3
    # what is large is near to things that are farther away: cells of a level are twice as wide as those of the level below
    levels = np.ceil(np.log2(np.maximum(sizes[rows] / gap, 0.5))).astype(int) + 1
    for done, level in enumerate(used := np.unique(levels), 1):
        chosen = levels == level
        found["OUTLIER"][rows[chosen]] = _crowds(points, points[chosen], gap * 2.0**level) <= NEIGHBOURS
        yield 0.3 + 0.4 * done / len(used)
    joined = ~(found["OUTLIER"] | found["GIANT"] | found["NEEDLE"])[rows]  # one giant would join all there is
    groups = yield from _groups(points[joined] / gap, levels[joined])
    weights = np.bincount(groups, cloud.opacities[rows[joined]])
    found["FLOATER"][rows[joined]] = (weights <= limits.share * weights.sum())[groups]
    return found


def spacing(points: Doubles) -> float:
    """How far from a typical one of points (N, 3) NEIGHBOURS others are, to a factor of two; 0 for too few points."""
    if len(points) <= NEIGHBOURS:
        return 0.0
    chosen = points[np.random.default_rng(0).integers(len(points), size=_SAMPLE)]
    low, high = np.quantile(chosen, (0.05, 0.95), axis=0)
    cell = float(np.max(high - low))
    while cell > 0 and np.median(_crowds(points, chosen, cell)) > NEIGHBOURS:
        cell = cell / 2 if cell > FINEST * np.abs(points).max() else 0.0  # copies on one spot
    return cell


def _crowds(points: Doubles, places: Doubles, cell: float) -> Cells:
    """How many of points (N, 3) lie in the 27 cells around each of places (M, 3): all no farther than `cell`, and some more."""
    known = np.sort(_number(_cells(points, cell)))
    asked, first, which = np.unique(_number(cells := _cells(places, cell)), return_index=True, return_inverse=True)
    crowds = np.zeros(len(asked), np.int64)
    for x, y in itertools.product((-1, 0, 1), repeat=2):  # numbers along z follow each other
        begin, end = (_number(cells[first] + (x, y, z)) for z in (-1, 1))
        crowds += np.searchsorted(known, end, "right") - np.searchsorted(known, begin)
    return crowds[which.ravel()]


def _groups(points: Doubles, levels: NDArray[np.int64]) -> Generator[float, None, Cells]:
    """A number for each of points (N, 3) in units of the gap, the same for all that a chain of neighbouring cells joins.

    Cells of a higher level join all that lies in or beside them.
    """
    nodes = np.zeros(len(points), np.int64)
    below, edges, count = np.empty((0, 3), np.int64), [], 0
    for level in range(int(levels.max(initial=0)) + 1):
        members = np.flatnonzero(levels == level)
        here, first, which = np.unique(
            _number(cells := _cells(points[members], 2.0**level)), return_index=True, return_inverse=True
        )
        nodes[members] = count + which.ravel()
        own = cells[first]
        _, parents, of = np.unique(_number(below := below >> (level > 0)), return_index=True, return_inverse=True)
        entry = np.full(len(parents), -1)
        for offset in itertools.product((-1, 0, 1), repeat=3):
            edges.append(_meetings(here, own + offset) + count)
            met, found = _meetings(here, below[parents] + offset)
            entry[met] = np.where(entry[met] < 0, found, entry[met])
            edges.append(np.stack([entry[met], found]) + count)
        through = entry[of.ravel()]
        edges.append(np.stack([np.flatnonzero(through >= 0), through[through >= 0] + count]))
        below, count = np.concatenate([below, own]), count + len(here)
        yield 0.8
    return _components(count, np.concatenate(edges, axis=1))[nodes]


def _meetings(known: Cells, cells: Cells) -> Cells:
    """Rows of cells (M, 3) whose numbers are among the sorted `known`, and where there: (2, hits)."""
    numbers = _number(cells)
    at = np.minimum(np.searchsorted(known, numbers), max(len(known) - 1, 0))
    rows = np.flatnonzero(known[at] == numbers) if len(known) else np.empty(0, np.int64)
    return np.stack([rows, at[rows]])


def _components(count: int, edges: Cells) -> Cells:
    """A number from 0 for each of `count` nodes, the same for those that edges (2, E) join."""
    root = np.arange(count)
    while len(one := root[edges[0]]) and (apart := one != (other := root[edges[1]])).any():
        edges = edges[:, apart]
        one, other = np.sort([one[apart], other[apart]], axis=0)
        np.minimum.at(root, other, one)
        while not np.array_equal(root, up := root[root]):
            root = up
    return np.unique(root, return_inverse=True)[1].ravel()


def _cells(points: Doubles, cell: float) -> Cells:
    return np.floor(points / cell).astype(np.int64)


def _number(cells: Cells) -> Cells:
    """One number for each of cells (N, 3); those that lie 2^21 cells apart share theirs, which captures are too small for."""
    x, y, z = (cells.T + (1 << 20)) & ((1 << 21) - 1)
    return (x << 42) | (y << 21) | z
