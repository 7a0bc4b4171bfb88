# SPDX-License-Identifier: GPL-3.0-or-later
"""The folder of the 100STYLE data set (Mason et al. 2022): a BVH file for each style and content, and where to cut it.

`Frame_Cuts.csv` has a column STYLE_NAME, and CONTENT_START and CONTENT_STOP for each content: BR, BW, FR, FW, SR, SW are runs
and walks backwards, forwards and sideways, ID is standing, TR1 to TR3 are transitions.  A file is called STYLE_CONTENT.bvh
and lies in the folder or anywhere below it.  Frames are those of the files, 60 a second.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ...common.errors import BrokenFile, VivantError
from ..clip import Clip
from .bvh import read_bvh

CUTS = "Frame_Cuts.csv"
FPS = 30.0
UNSEEN = 10  # styles at the end of the list, for the test alone
LONG = 2000  # frames at FPS; of a longer clip the last tenth is for the test


@dataclass(frozen=True)
class StyleClip:
    """A cut clip at 30 frames a second."""

    style: str
    content: str
    clip: Clip


def read(
    folder: str | os.PathLike[str],
    contents: tuple[str, ...] = (),
    progress: Callable[[float, float, str], object] = lambda done, total, note: None,
) -> list[StyleClip]:
    """All clips of the folder in the order of its list, or those of some contents.

    Raises VivantError when the list is missing, BrokenFile when it is not such a list or a clip has no frame between its cuts.
    """
    folder = Path(folder)
    try:
        with (folder / CUTS).open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file, skipinitialspace=True)
            columns, rows = [name.strip() for name in table.fieldnames or ()], list(table)
    except OSError as error:
        raise VivantError(f"{folder} holds no {CUTS}.", "Name the folder of the 100STYLE data set.") from error
    known = [name.removesuffix("_START") for name in columns if name.endswith("_START")]
    if "STYLE_NAME" not in columns or not known:
        raise BrokenFile(f"{CUTS} has no columns STYLE_NAME and …_START.")
    files = {path.stem.lower(): path for path in sorted(folder.rglob("*.bvh"))}
    wanted = [
        (row["STYLE_NAME"].strip(), content, row[f"{content}_START"], row[f"{content}_STOP"])
        for row in rows
        for content in known
        if not contents or content in contents
    ]
    found = []
    for index, (style, content, first, last) in enumerate(wanted):
        path = files.get(f"{style}_{content}".lower())
        if path is None or not _number(first) or not _number(last):
            continue
        progress(index, len(wanted), f"Reading {path.name}")
        found.append(StyleClip(style, content, _cut(read_bvh(path), int(float(first)), int(float(last)), path.name)))
    if not found:
        raise VivantError(f"{folder} holds none of the files that its {CUTS} names.", "Unpack the data set there.")
    return found


def split(clips: list[StyleClip]) -> tuple[list[Clip], list[Clip], list[Clip]]:
    """Clips to learn from, ends of long ones that are kept for a test, and the styles at the end of the list, likewise."""
    styles = list(dict.fromkeys(entry.style for entry in clips))
    unseen = set(styles[-UNSEEN:]) if len(styles) > UNSEEN else set(styles[-1:])
    train, ends = [], []
    for clip in (entry.clip for entry in clips if entry.style not in unseen):
        kept = len(clip) * 9 // 10 if len(clip) > LONG else len(clip)
        train.append(_span(clip, 0, kept))
        if kept < len(clip):
            ends.append(_span(clip, kept, len(clip)))
    return train, ends, [entry.clip for entry in clips if entry.style in unseen]


def _number(text: str | None) -> bool:
    return bool(text) and str(text).strip().replace(".", "", 1).isdigit()


def _cut(clip: Clip, first: int, last: int, name: str) -> Clip:
    step = max(round(clip.fps / FPS), 1)
    if not 0 <= first < min(last, len(clip)):
        raise BrokenFile(f"{name} has {len(clip)} frames, and is to be cut from {first} to {last}.", f"See {CUTS}.")
    return _span(clip, first, min(last, len(clip)), step).replace(fps=clip.fps / step)


def _span(clip: Clip, first: int, last: int, step: int = 1) -> Clip:
    part = slice(first, last, step)
    translations = {joint: values[part] for joint, values in clip.translations.items()}
    return clip.replace(rotations=clip.rotations[part], root=clip.root[part], translations=translations)
