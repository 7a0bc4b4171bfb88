# SPDX-License-Identifier: GPL-3.0-or-later
"""Engine job 'motion.phase_train': clips, and motion files of a folder, become a phase model of their skeleton in a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...common.errors import NeedsEngine, VivantError
from ...common.progress import Progress
from .. import library, trained
from ..clip import Clip
from ..formats.arrays import from_arrays, read_clip, to_arrays
from . import model

Parameters = dict[str, Any]
Arrays = Mapping[str, NDArray[Any]]

FPS = 30.0  # what is learned; clips of other rates are resampled
FILES = (".bvh", ".npz")


def request(
    out: Path | str,
    clips: Sequence[Clip] = (),
    folder: Path | str = "",
    minutes: float = 20,
    parts: int | Mapping[str, Sequence[str]] = 5,
) -> tuple[Parameters, Arrays]:
    """Parameters and arrays of the job: a file to write, what to learn from, and as in `training.learn`."""
    arrays = {f"{index}/{name}": array for index, clip in enumerate(clips) for name, array in to_arrays(clip).items()}
    division = parts if isinstance(parts, int) else {part: list(names) for part, names in parts.items()}
    parameters = {"out": str(out), "folder": str(folder), "clips": len(clips), "minutes": float(minutes), "parts": division}
    return parameters, arrays


def run(parameters: Parameters, arrays: Arrays, progress: Progress) -> tuple[Parameters, Arrays]:
    """Values: file, parts (part -> names), explained (part -> R² of what was learned from), frames.

    A run that was stopped goes on when it is started again with the same file.  Raises NeedsEngine without torch, VivantError
    when there is nothing to learn from.
    """
    if not trained.runs_here():
        raise NeedsEngine("Training needs PyTorch.", "Press Install engine in Vivant's preferences.")
    from .autoencoder import explained
    from .training import learn

    clips = [
        from_arrays({name.partition("/")[2]: array for name, array in arrays.items() if name.partition("/")[0] == str(index)})
        for index in range(parameters["clips"])
    ]
    clips += _read(parameters["folder"], progress) if parameters["folder"] else []
    clips = [_at_rate(clip) for clip in _alike(clips, progress)]
    out = Path(parameters["out"])
    checkpoint = out.with_suffix(".training")
    checkpoint.mkdir(parents=True, exist_ok=True)
    found = learn(clips, parameters["minutes"], parameters["parts"], checkpoint=checkpoint, progress=progress)
    model.save(found, out)
    checkpoint.rmdir()
    long = [model.reduced(clip, found.names) for clip in clips if len(clip) > 2 * FPS]
    shares = {part: round(explained(entry, long), 3) for part, entry in found.autoencoders.items()} if long else {}
    parts = {part: list(names) for part, names in found.parts.items()}
    return {"file": str(out), "parts": parts, "explained": shares, "frames": sum(len(clip) for clip in clips)}, {}


def _read(folder: str, progress: Progress) -> list[Clip]:
    """All motion files of a folder and below; what cannot be read is left out with a warning."""
    paths = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in FILES)
    if not paths:
        raise VivantError(f"{folder} holds no motion files.", "Give a folder with .bvh or .npz files.")
    clips = []
    for index, path in enumerate(paths):
        progress(index, len(paths), f"Reading {path.name}")
        try:
            clips.append(read_clip(path))
        except VivantError as error:
            progress.warning(f"{path.name} was left out: {error}")
    return clips


def _alike(clips: Sequence[Clip], progress: Progress) -> list[Clip]:
    """The clips of the skeleton that most frames are of."""
    frames: dict[tuple, int] = {}
    for clip in clips:
        key = (tuple(clip.names), tuple(clip.parents.tolist()))
        frames[key] = frames.get(key, 0) + len(clip)
    if not frames:
        raise VivantError("There is no clip to learn from.", "Give some, or a folder with .bvh or .npz files.")
    most = max(frames, key=lambda key: frames[key])
    kept = [clip for clip in clips if (tuple(clip.names), tuple(clip.parents.tolist())) == most]
    if len(kept) < len(clips):
        progress.warning(f"{len(clips) - len(kept)} clips of other skeletons were left out.")
    return kept


def _at_rate(clip: Clip) -> Clip:
    if abs(clip.fps - FPS) < 1e-3:
        return clip
    return library.resample(clip, np.arange(0, len(clip) - 1 + 1e-6, clip.fps / FPS)).replace(fps=FPS)
