# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbers and rows of numbers told by few: code books of 256 values, palettes of at most 65,536 rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..cloud import Floats

_ROUNDS = 12
_SAMPLE = 1 << 20
_DIRECTIONS = 8


def code_book(values: Floats, size: int = 256) -> tuple[NDArray[np.uint8], Floats]:
    """Indices (…) into `size` sorted values that are, by k-means, near all of the given ones (…)."""
    ordered = np.sort(values, axis=None)
    exact = np.unique(ordered)
    if len(exact) <= size:
        book = np.append(exact, np.full(size - len(exact), exact[-1]))
    else:
        ordered = ordered[:: -(-len(ordered) // _SAMPLE)].astype(np.float64)
        sums = np.append(0, np.cumsum(ordered))
        # half by rank, half by value: both the crowd and the few far out are near something
        spread = np.concatenate([
            np.quantile(ordered, (np.arange(size // 2) + 0.5) / (size // 2)),
            np.linspace(ordered[0], ordered[-1], size - size // 2),
        ])  # fmt: skip
        book = np.sort(spread)
        for _ in range(_ROUNDS):
            ends = np.searchsorted(ordered, np.append((book[1:] + book[:-1]) / 2, np.inf))
            starts = np.append(0, ends[:-1])
            book = np.where(ends > starts, (sums[ends] - sums[starts]) / np.maximum(ends - starts, 1), book)
            book = np.sort(book)
    book = book.astype(np.float32)
    indices = np.searchsorted((book[1:] + book[:-1]) / 2, values)
    return indices.astype(np.uint8), book


def entries(count: int) -> int:
    """How many entries a palette of so many rows has."""
    return count if count <= 2048 else min(64, 1 << (count // 1024).bit_length() - 1) * 1024


def of_rows(rows: Floats) -> tuple[NDArray[np.int64], Floats]:
    """Labels (N,) into representative rows (M, D), M <= `entries(N)`, that stand for the given ones (N, D).

    Few rows are kept as they are.  Of more, the parts that vary most are split again and again at their mean along the
    principal direction in which they vary most; a part's entry is its mean, so that equal rows lose nothing.
    """
    count = len(rows)
    if (wanted := entries(count)) == count:
        return np.arange(count), rows
    sample = rows[:: -(-count // _SAMPLE * 8)].astype(np.float64)
    directions = np.linalg.eigh(np.cov(sample, rowvar=False))[1][:, ::-1][:, :_DIRECTIONS]
    columns = np.ascontiguousarray((rows @ directions.astype(np.float32)).T)
    order, starts = np.arange(count), np.zeros(1, np.int64)
    while len(starts) < wanted:
        sizes = np.diff(np.append(starts, count))
        means, spreads = np.empty((2, len(columns), len(starts)))
        for column, mean, spread in zip(columns, means, spreads, strict=True):
            values = column[order].astype(np.float64)
            mean[:] = np.add.reduceat(values, starts) / sizes
            spread[:] = np.add.reduceat(np.square(values - np.repeat(mean, sizes)), starts)
        widest, spread = spreads.argmax(axis=0), spreads.max(axis=0)
        # the half that varies most, so that crowds of like rows do not use up the entries
        split = np.argsort(-spread, kind="stable")[: min(wanted - len(starts), -(-len(starts) // 2))]
        split = np.sort(split[spread[split] > 1e-12 * sizes[split]])
        if not len(split):
            break
        ends = starts[split] + sizes[split]
        inside = np.concatenate([np.arange(first, last) for first, last in zip(starts[split], ends, strict=True)])
        part = np.repeat(np.arange(len(split)), sizes[split])
        above = columns[widest[split][part], order[inside]] >= means[widest[split], split][part]
        order[inside] = order[inside][np.argsort(2 * part + above, kind="stable")]
        below = sizes[split] - np.bincount(part, above, len(split)).astype(np.int64)
        starts = np.union1d(starts, starts[split] + np.clip(below, 1, sizes[split] - 1))
    sizes = np.diff(np.append(starts, count))
    labels = np.empty(count, np.int64)
    labels[order] = np.repeat(np.arange(len(starts)), sizes)
    sums = np.stack([np.add.reduceat(column[order].astype(np.float64), starts) for column in rows.T], axis=1)
    return labels, (sums / sizes[:, None]).astype(np.float32)
