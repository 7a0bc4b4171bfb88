# SPDX-License-Identifier: GPL-3.0-or-later
"""Blocks of rows worked on by a few threads: NumPy lets go of the interpreter while it computes."""

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")

ROWS = 8192
"""Rows a block: a block of the widest table (62 floats a row) fits a core's cache."""


def in_blocks(work: Callable[[slice], Result], count: int, rows: int = ROWS) -> list[Result]:
    """What `work` returns for each slice of at most `rows` rows out of `count`, in order.

    Slices may run at the same time, so `work` writes nowhere but into its own rows.
    """
    blocks = [slice(start, min(start + rows, count)) for start in range(0, count, rows)]
    if len(blocks) < 2:
        return [work(block) for block in blocks]
    with ThreadPoolExecutor(min(len(blocks), os.cpu_count() or 1, 8)) as pool:
        return list(pool.map(work, blocks))


def in_turn(work: Callable[[slice], Result], count: int, rows: int = ROWS) -> Iterator[Result]:
    """What `in_blocks` returns, one after the other: whoever takes them holds a few at a time, and works meanwhile."""
    blocks = (slice(start, min(start + rows, count)) for start in range(0, count, rows))
    workers = min(os.cpu_count() or 1, 8)
    with ThreadPoolExecutor(workers) as pool:
        ahead = deque(pool.submit(work, block) for block in itertools.islice(blocks, 2 * workers))
        while ahead:
            found = ahead.popleft().result()
            ahead.extend(pool.submit(work, block) for block in itertools.islice(blocks, 1))
            yield found
