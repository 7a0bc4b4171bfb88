# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames decoded by a thread before they are asked for, so that playing waits neither for the disk nor for the arithmetic."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from .cache import Floats, FrameCache

if TYPE_CHECKING:
    from .playback import Clip

AHEAD = 3


class ReadAhead:
    """Reads a cache as `FrameCache.read` does, and goes on in the direction and at the stride of the last two frames.

    At the clip's ends it goes on at the other end, as players do that loop.
    """

    def __init__(self, cache: FrameCache | Clip) -> None:
        self.cache = cache
        self._pool = ThreadPoolExecutor(1, "vivant frames")
        self._coming: dict[int, Future[dict[str, Floats]]] = {}
        self._last = 0

    def read(self, frame: int) -> dict[str, Floats]:
        """The columns of a frame.  Raises BrokenFile."""
        step, self._last = frame - self._last, frame
        found = self._coming.pop(frame, None)
        columns = found.result() if found else self.cache.read(frame)
        if step:
            wanted = [(frame + step * i) % len(self.cache) for i in range(1, AHEAD + 1)]
            for other in [other for other in self._coming if other not in wanted]:
                self._coming.pop(other).cancel()
            for other in wanted:
                if other not in self._coming:
                    self._coming[other] = self._pool.submit(self.cache.read, other)
        return columns

    def close(self) -> None:
        """Let the thread go."""
        self._pool.shutdown(wait=False, cancel_futures=True)
