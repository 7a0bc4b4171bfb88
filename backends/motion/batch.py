# SPDX-License-Identifier: GPL-3.0-or-later
"""Engine job 'motion.inbetween_many': clip files with gaps become filled clip files, whatever happens to one of them."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..common.errors import Cancelled, UnsupportedFormat, VivantError
from ..common.progress import Progress
from ..server import explain
from . import solve
from .clip import Clip
from .formats.arrays import read_arrays, read_clip, write_clip
from .formats.bvh import write_bvh


@dataclass(frozen=True)
class Shot:
    """A file to fill: clip and out end in .bvh or .npz; relative paths begin in the job's folder.

    keys: the keyed frames, counted from 0; without any, the array `keys` beside the clip in its .npz, (F,) or (F, J) bool.
    solver, seed, options: as in `solve.inbetween`.
    """

    clip: str
    out: str
    keys: Sequence[int] = ()
    solver: str = solve.AUTO
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What became of a shot: the report of the clip that was written, or why there is none."""

    shot: Shot
    report: solve.Report | None
    error: str = ""


def request(shots: Iterable[Shot], library: Iterable[str] = ()) -> dict[str, Any]:
    """Parameters of the job.  library: clip files that all shots may search."""
    return {"shots": [asdict(shot) for shot in shots], "library": list(library)}


def run(
    parameters: dict[str, Any], arrays: Mapping[str, NDArray[Any]], progress: Progress
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Values: 'outcomes', a report or an error for each shot.  Raises VivantError when the library cannot be read."""
    folder = progress.folder
    library = [read_clip(folder / path) for path in parameters["library"]]
    shots = [Shot(**shot) for shot in parameters["shots"]]
    outcomes: list[dict[str, Any]] = []
    for done, shot in enumerate(shots):
        progress(done, len(shots), f"Filling {shot.clip}")
        try:
            outcomes.append({"report": asdict(_fill(shot, folder, library))})
        except Cancelled:
            raise
        except Exception as error:  # of this shot alone: the others go on
            if not isinstance(error, VivantError):
                traceback.print_exc()
            outcomes.append({"error": str(explain(error))})
            progress.warning(f"{shot.clip}: {outcomes[-1]['error']}")
    return {"outcomes": outcomes}, {}


def answer(shots: Iterable[Shot], values: Mapping[str, Any]) -> list[Outcome]:
    """The job's values, shot by shot."""
    return [
        Outcome(shot, solve.Report.of(values["report"]) if "report" in values else None, values.get("error", ""))
        for shot, values in zip(shots, values["outcomes"], strict=True)
    ]


def _fill(shot: Shot, folder: Path, library: Sequence[Clip]) -> solve.Report:
    source, target = folder / shot.clip, folder / shot.out
    if target.suffix.lower() not in (".bvh", ".npz"):
        raise UnsupportedFormat(f"{target.name} is no motion file that Vivant writes.", "Name it .bvh or .npz.")
    clip = read_clip(source)
    keys = np.zeros(len(clip), bool)
    if shot.keys:
        if not 0 <= min(shot.keys) <= max(shot.keys) < len(clip):
            raise VivantError(f"{source.name} has frames 0 to {len(clip) - 1}, and keys elsewhere are asked for.")
        keys[list(shot.keys)] = True
    else:
        beside = read_arrays(source) if source.suffix.lower() == ".npz" else {}
        if "keys" not in beside:
            raise VivantError(f"{source.name} comes without keys.", "Give frames, or an array `keys` in an .npz.")
        keys = beside["keys"]
    filled, report = solve.inbetween(clip, keys, shot.solver, library, shot.seed, **shot.options)
    (write_bvh if target.suffix.lower() == ".bvh" else write_clip)(filled, target)
    return report
