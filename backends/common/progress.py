# SPDX-License-Identifier: GPL-3.0-or-later
"""What a job says while it works, and how it learns that nobody wants it any more."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import Cancelled

SPACING = 0.1  # seconds between two progress lines


class Progress:
    """Called by a job as `progress(done, total, note)`, as often as it likes: most calls cost a comparison.

    send takes one protocol event (a dict for one JSON line); cancelled says whether to stop; folder is the
    job's own, for previews and for checkpoints that a later run goes on from.
    """

    def __init__(self, send: Callable[[dict[str, Any]], None], cancelled: Callable[[], bool], folder: Path) -> None:
        self.folder = folder
        self._send = send
        self._cancelled = cancelled
        self._sent = -SPACING
        self._unsent: dict[str, Any] | None = None
        self._start = (0.0, 0.0, time.monotonic())
        self._previews = itertools.count()

    def __call__(self, done: float, total: float, note: str = "") -> None:
        """Say how far the job is, in its own unit.  Raises Cancelled when the user asked to stop."""
        if self._cancelled():
            raise Cancelled("The job was stopped.")
        now = time.monotonic()
        last, of, since = self._start
        if total != of or done < last:  # a new phase: the old pace tells nothing about it
            self._start = last, of, since = (done, total, now)
        eta = (now - since) / (done - last) * (total - done) if done > last else None
        event = {"event": "progress", "done": done, "total": total, "eta_s": eta, "note": note}
        if now - self._sent >= SPACING:
            self._sent, self._unsent = now, None
            self._send(event)
        else:
            self._unsent = event

    def flush(self) -> None:
        """Send the last call if it came too soon after another (the heartbeat does this each second)."""
        event, self._unsent = self._unsent, None
        if event:
            self._send(event)

    def warning(self, message: str) -> None:
        """A sentence that the user must see though the job goes on."""
        self._send({"event": "warning", "message": message})

    def preview(self, picture: NDArray[Any]) -> None:
        """A picture (H, W, 3 or 4) of the state so far."""
        path = self.folder / "preview" / f"{next(self._previews):06}.npy"
        path.parent.mkdir(exist_ok=True)
        np.save(path, picture, allow_pickle=False)
        self._send({"event": "preview", "file": path.relative_to(self.folder).as_posix()})
