# SPDX-License-Identifier: GPL-3.0-or-later
"""How far a job is, as the client knows it and the user reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class State:
    """`done` of `total` in the job's own unit, seconds left (None: unknown yet), what it is doing."""

    done: float = 0.0
    total: float = 0.0
    eta_s: float | None = None
    note: str = ""

    @classmethod
    def of(cls, event: Mapping[str, Any]) -> State:
        """From a protocol event.  Raises KeyError, TypeError or ValueError for nonsense."""
        eta = event.get("eta_s")
        return cls(float(event["done"]), float(event["total"]), None if eta is None else float(eta), str(event.get("note", "")))

    @property
    def fraction(self) -> float:
        """0 to 1."""
        return min(max(self.done / self.total, 0.0), 1.0) if self.total > 0 else 0.0

    @property
    def text(self) -> str:
        """For example 'drawing splats, 40 %, 2 min left'."""
        parts = [self.note or "starting"]
        if self.total > 0:
            parts.append(f"{self.fraction:.0%}".replace("%", " %"))
        if self.eta_s is not None and self.fraction < 1:
            parts.append(f"{duration(self.eta_s)} left")
        return ", ".join(parts)


def duration(seconds: float) -> str:
    """Two digits of a time: '8 s', '2 min', '3.5 h'."""
    if seconds < 90:
        return f"{max(seconds, 0):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
