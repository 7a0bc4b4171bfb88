# SPDX-License-Identifier: GPL-3.0-or-later
"""Which function does which kind of job; its module is imported when the first such job comes."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from numpy.typing import NDArray

from .arrays import Arrays
from .errors import VivantError
from .progress import Progress

Run = Callable[[dict[str, Any], Mapping[str, NDArray[Any]], Progress], tuple[dict[str, Any], Arrays]]

KINDS = {
    "echo": ".selftest:echo",
    "doctor": ".selftest:doctor",
    "motion.inbetween": "..motion.job:run",
    "motion.phase_train": "..motion.phase.job:run",
    "motion.inbetween_many": "..motion.batch:run",
    "splats.bake": "..gaussian.cache_writer:run",
    "splats.fit": "..gaussian.fit_job:run",
    "splats.stream": "..gaussian.stream_writer:run",
    "splats.render": "..gaussian.render.job:run",
}


def find(kind: str) -> Run:
    """The function `run(parameters, arrays, progress) -> (values, arrays)` of a kind of job.

    Raises VivantError for a kind that does not exist, ImportError when the module needs what is not installed.
    """
    if kind not in KINDS:
        raise VivantError(f"The engine knows no job “{kind}”.", f"It knows {', '.join(sorted(KINDS))}.")
    module, _, name = KINDS[kind].partition(":")
    run: Run = getattr(importlib.import_module(module, __package__), name)
    return run
