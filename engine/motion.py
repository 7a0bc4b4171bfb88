# SPDX-License-Identifier: GPL-3.0-or-later
"""In-betweens wherever they can be made: here, or in the engine where the solver needs that."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..backends.common.errors import EngineFailed, NeedsEngine
from ..backends.common.progress import Progress
from ..backends.motion import batch, job, solve, trained
from ..backends.motion.clip import Clip
from .client import Engine

Mask = NDArray[np.bool_]
Start = Callable[[], Engine]  # raises NeedsEngine where there is none for networks


def inbetween(
    start: Start,
    clip: Clip,
    keys: Mask,
    solver: str = solve.AUTO,
    library: Sequence[Clip] = (),
    seed: int = 0,
    **options: Any,
) -> tuple[Clip, solve.Report]:
    """As `solve.inbetween`, in the engine that `start` gives where the solver needs one; without it another solver serves."""
    if not solve.needs_engine(solver, clip, **options):
        return solve.inbetween(clip, keys, solver, library, seed, **options)
    try:
        request = job.request(clip, keys, solver, library, seed, **options)
        return job.answer(*start().submit("motion.inbetween", *request).result())
    except NeedsEngine:
        return solve.inbetween(clip, keys, solver, library, seed, **options)  # which says so, if it was asked for the model
    except EngineFailed as error:
        filled, report = solve.inbetween(clip, keys, solver, library, seed, **options)
        return filled, replace(report, fallback=str(error))


def inbetween_many(start: Start, shots: Iterable[batch.Shot], library: Iterable[str] = ()) -> list[batch.Outcome]:
    """Fill many clip files, relative to the working directory; what fails is told in its outcome and stops none of the others.

    It all happens in the engine that `start` gives, where there is one for networks, else here.
    """
    shots = list(shots)
    here = [replace(shot, clip=str(Path(shot.clip).absolute()), out=str(Path(shot.out).absolute())) for shot in shots]
    request = batch.request(here, [str(Path(path).absolute()) for path in library])
    if not trained.runs_here():
        with contextlib.suppress(NeedsEngine):  # the solvers that run here still do
            return batch.answer(shots, start().submit("motion.inbetween_many", request).result()[0])
    import tempfile  # see engine.jobs

    with tempfile.TemporaryDirectory() as folder:
        values, _ = batch.run(request, {}, Progress(lambda event: None, lambda: False, Path(folder)))
    return batch.answer(shots, values)
