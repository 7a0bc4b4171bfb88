# SPDX-License-Identifier: GPL-3.0-or-later
"""Edits of splats a piece at a time, so that whoever asks for them can show how far they are and stop."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator

from ..cloud import SplatCloud
from .merge import merged

SMALLEST, LARGEST = 1 << 8, 1 << 16
"""Splats of a piece; between them a piece is what takes about BEAT."""
BEAT = 0.05
"""Seconds."""


def in_pieces(cloud: SplatCloud, edit: Callable[[SplatCloud], SplatCloud]) -> Generator[float, None, SplatCloud]:
    """The cloud after an edit that looks at each splat by itself; yields the share that is done."""
    parts: list[SplatCloud] = []
    done, size = 0, SMALLEST
    while done < len(cloud) or not parts:
        begun = time.monotonic()
        parts.append(edit(cloud.select(slice(done, done + size))))
        done += size
        size = max(SMALLEST, size // 2) if time.monotonic() - begun > BEAT else min(2 * size, LARGEST)
        yield min(done / max(len(cloud), 1), 1.0)
    return merged(parts).replace(source=cloud.source) if len(parts) > 1 else parts[0]
