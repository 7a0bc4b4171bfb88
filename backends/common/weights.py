# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the weights of networks lie: those that come along in `weights/`, and the user's own."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from .errors import NeedsWeights

OURS = Path(__file__).resolve().parents[2] / "weights"


def find(name: str, folders: Iterable[Path] = ()) -> Path:
    """The file of this name in the first of the user's folders that has one, else ours.  Raises NeedsWeights without any."""
    for folder in (*folders, OURS):
        if (folder / name).is_file():
            return folder / name
    raise NeedsWeights(
        f"The weights '{name}' were not found.",
        "They come with Vivant: install it anew, or put the file into a folder named in Vivant's preferences.",
    )
