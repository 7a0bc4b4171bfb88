# SPDX-License-Identifier: GPL-3.0-or-later
"""Streamed SOG: a tree of stretches of many SOG files, one stretch a level of detail, listed in lod-meta.json.

Level 0 is the finest, and the one that is read.  Source: playcanvas/splat-transform, write-lod.ts and read-lod.ts.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ...common.errors import BrokenFile, UnsupportedFormat
from ..cloud import SplatCloud
from ..edit.merge import merged
from . import files, sog
from .ply_header import Bytes

NAME = f"{sog.NAME} with levels of detail"
INDEX = "lod-meta.json"
LONGEST_JSON = 4 << 20
LEVEL = 0

_DAMAGED = "The list of the streamed SOG's files is damaged or lacks something."
_AGAIN = "Export it again."


def is_streamed(data: Bytes, path: Path) -> bool:
    """Whether bytes are such a list, or a folder has one."""
    if not len(data) and path.is_dir():
        return (path / INDEX).is_file()
    text = data[:LONGEST_JSON].tobytes()
    return text.lstrip()[:1] == b"{" and b'"lodLevels"' in text and b'"filenames"' in text


def read(path: Path) -> SplatCloud:
    """The finest level, joined from its files, which are taken from the list's folder and those below it alone.

    Raises BrokenFile for lists and files that do not go together, UnsupportedFormat for other versions.
    """
    index = path / INDEX if path.is_dir() else path
    meta = _parse(files.load(index))
    names = meta["filenames"]
    stretches: dict[int, list[tuple[int, int]]] = {}
    for file, offset, count in _stretches(meta["tree"]):
        if count:
            stretches.setdefault(file, []).append((offset, count))
    paths = [_inside(index.parent, names[file]) for file in sorted(stretches) if file < len(names)]
    if not stretches or max(stretches) >= len(names) or len(set(paths)) < len(paths):
        raise BrokenFile(_DAMAGED, _AGAIN)
    parts = [_part(file, sorted(stretches[number])) for file, number in zip(paths, sorted(stretches), strict=True)]
    repairs: Counter[str] = sum((Counter(part.source.repairs) for part in parts), Counter())
    warnings = list(dict.fromkeys(text for part in parts for text in part.source.warnings))
    if isinstance(meta.get("environment"), str):
        warnings.append(f"The surroundings of the capture were left out; they are in '{meta['environment'][:60]}'.")
    whole = merged(parts)
    source = dataclasses.replace(whole.source, format=NAME, warnings=tuple(warnings), repairs=dict(repairs))
    return whole.replace(source=source)


def _part(path: Path, stretches: list[tuple[int, int]]) -> SplatCloud:
    """The splats of a file that stretches (offset and count, in order) name."""
    if not path.exists():
        raise BrokenFile(f"'{path.name}' of the streamed SOG is not there.", "Keep all its files together.")
    cloud = sog.decode(files.load(path)) if path.suffix.lower() == ".sog" else sog.read(path)
    end = 0
    for offset, count in stretches:
        if offset < end or offset + count > len(cloud):
            raise BrokenFile(f"'{path.parent.name}/{path.name}' has other splats than the list says.", _AGAIN)
        end = offset + count
    if sum(count for _, count in stretches) == len(cloud):
        return cloud
    return cloud.select(np.concatenate([np.arange(offset, offset + count) for offset, count in stretches]))


def _stretches(tree: Any) -> Iterator[tuple[int, int, int]]:
    """File, offset and count of every stretch of the finest level."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if not isinstance(node, dict) or not isinstance(node.get("children", []), list):
            raise BrokenFile(_DAMAGED, _AGAIN)
        waiting += node.get("children", [])
        levels = node.get("lods") or {}
        if not isinstance(levels, dict):
            raise BrokenFile(_DAMAGED, _AGAIN)
        if (stretch := levels.get(str(LEVEL))) is not None:
            stretch = stretch if isinstance(stretch, dict) else {}
            yield _number(stretch, "file"), _number(stretch, "offset"), _number(stretch, "count")


def _number(table: dict[str, Any], name: str) -> int:
    value = table.get(name)
    if type(value) is not int or not 0 <= value < 1 << 40:
        raise BrokenFile(_DAMAGED, _AGAIN)
    return value


def _parse(data: Bytes) -> dict[str, Any]:
    if len(data) > LONGEST_JSON:
        raise UnsupportedFormat("The streamed SOG's list of files is too long to be read here.", "Export it as one SOG file.")
    try:
        meta = json.loads(data.tobytes())
    except (ValueError, RecursionError) as error:
        raise BrokenFile(_DAMAGED, "Download or export it again.") from error
    names = meta.get("filenames") if isinstance(meta, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or "tree" not in meta:
        raise BrokenFile(_DAMAGED, _AGAIN)
    if meta.get("version", 1) != 1:
        raise UnsupportedFormat(f"This streamed SOG has version {str(meta['version'])[:20]}, which is not read here.", _AGAIN)
    return meta


def _inside(folder: Path, name: str) -> Path:
    """A file of that folder or below it; raises BrokenFile for names that lead anywhere else."""
    path = (folder / name).resolve() if "\0" not in name and ":" not in name else None
    if path is None or not path.is_relative_to(folder.resolve()):
        raise BrokenFile(f"The streamed SOG asks for {name[:60]!r}, which is not in its folder.", _AGAIN)
    return path
