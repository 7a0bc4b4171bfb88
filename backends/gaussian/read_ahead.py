# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames decoded by a thread before they are asked for, so that playing waits neither for the disk nor for the arithmetic."""

from __future__ import annotations

from collections.abc import Container
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from .cache import Floats, FrameCache

if TYPE_CHECKING:
    from .playback import Clip

AHEAD = 3
NEAR = 1e-3
"""Of the way between two frames: so near to one of them, it is shown as it is."""


class ReadAhead:
    """Reads a cache as `FrameCache.read` does, and what comes next beforehand."""

    def __init__(self, cache: FrameCache | Clip) -> None:
        self.cache = cache
        self._pool = ThreadPoolExecutor(1, "vivant frames")
        self._coming: dict[int, Future[dict[str, Floats]]] = {}
        self._last = 0.0

    def read(self, frame: int) -> dict[str, Floats]:
        """The columns of a frame.  Raises BrokenFile."""
        found = self._coming.pop(frame, None)
        return found.result() if found else self.cache.read(frame)

    def follow(self, place: float, held: Container[int] = (), mixing: bool = False) -> None:
        """Go on in the direction and at the stride of the last two places: frames with their fractions.

        At the clip's ends it goes on at the other end, as players do that loop.  held: frames that are there already;
        mixing: whether a place between two frames needs both.
        """
        step, self._last = place - self._last, place
        if not step:
            return
        reach = 1 - 2 * NEAR if mixing else 0.0
        starts = [(place + step * i) % len(self.cache) + NEAR for i in range(1, AHEAD + 1)]
        frames = [frame for start in starts for frame in range(int(start), int(start + reach) + 1)]
        wanted = [frame % len(self.cache) for frame in frames if frame not in held]
        for other in [other for other in self._coming if other not in wanted]:
            self._coming.pop(other).cancel()
        for other in wanted:
            if other not in self._coming:
                self._coming[other] = self._pool.submit(self.cache.read, other)

    def close(self) -> None:
        """Let the thread go."""
        self._pool.shutdown(wait=False, cancel_futures=True)
