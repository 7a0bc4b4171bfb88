# SPDX-License-Identifier: GPL-3.0-or-later
"""Several jobs one after the other, for operators as if they were one."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from ..backends.common.errors import Cancelled, VivantError
from ..engine.jobs import Job
from ..engine.progress import State


class Series:
    """A job for each item; the next one begins, in Blender's own thread, when the last one has ended well.

    begin(item) starts one; name(item) is what it is called while it runs.  Used as an engine.jobs.Job is.
    """

    def __init__(self, begin: Callable[[int], Job], items: Sequence[int], name: Callable[[int], str] = str) -> None:
        self.warnings: list[str] = []
        self.ended = 0
        self._begin, self._items, self._name = begin, items, name
        self._error: VivantError | None = None
        self._stopped = False
        self._started = time.monotonic()
        self._job: Job | None = begin(items[0])

    @property
    def progress(self) -> State:
        """How far all of them are together."""
        part = self._job.progress.fraction if self._job else 0.0
        done, total = self.ended + part, len(self._items)
        left = (time.monotonic() - self._started) * (total - done) / done if done > 0 else None
        at = min(self.ended, total - 1)
        return State(done, total, left, f"{self._name(self._items[at])}, {at + 1} of {total}")

    def poll(self) -> bool:
        """Go on where a job has ended, never blocking; True when there is nothing left to do."""
        return self.wait(0)

    def wait(self, timeout: float = 0) -> bool:
        """The same, after waiting so many seconds for the job that runs."""
        if self._job and (self._job.wait(timeout) if timeout else self._job.poll()):
            self._go_on(self._job)
        return self._job is None

    def _go_on(self, job: Job) -> None:
        self._job = None
        try:
            self.warnings += [warning for warning in job.warnings if warning not in self.warnings]
            job.result()
            self.ended += 1
            if self.ended < len(self._items) and not self._stopped:
                self._job = self._begin(self._items[self.ended])
        except VivantError as error:
            self._error = error

    def cancel(self) -> None:
        """Stop the job that runs, gently first, and begin no other."""
        self._stopped = True
        if self._job:
            self._job.cancel()

    def kill(self) -> None:
        """Stop at once."""
        self._stopped = True
        if self._job:
            self._job.kill()

    def result(self) -> int:
        """How many jobs there were.  Raises what one of them did; Cancelled says how many had ended."""
        if self._stopped and self.ended < len(self._items):
            raise Cancelled(f"Stopped after {self.ended} of {len(self._items)}.")
        if self._error:
            raise self._error
        return self.ended
