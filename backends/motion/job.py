# SPDX-License-Identifier: GPL-3.0-or-later
"""Engine job 'motion.inbetween': a clip with gaps goes, the filled clip and what `solve.Report` says come back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..common.progress import Progress
from . import solve
from .clip import Clip
from .formats.arrays import from_arrays, to_arrays

Mask = NDArray[np.bool_]
Parameters = dict[str, Any]
Arrays = Mapping[str, NDArray[Any]]


def request(
    clip: Clip, keys: Mask, solver: str = solve.AUTO, library: Sequence[Clip] = (), seed: int = 0, **options: Any
) -> tuple[Parameters, Arrays]:
    """Parameters and arrays of the job; everything as in `solve.inbetween`.  Options that are arrays go as arrays."""
    arrays = {f"clip/{name}": array for name, array in to_arrays(clip).items()} | {"keys": np.asarray(keys, bool)}
    for index, entry in enumerate(library):
        arrays |= {f"library {index}/{name}": array for name, array in to_arrays(entry).items()}
    arrays |= {f"option/{name}": value for name, value in options.items() if isinstance(value, np.ndarray)}
    plain = {name: value for name, value in options.items() if not isinstance(value, np.ndarray)}
    return {"solver": solver, "library": len(library), "seed": seed, "options": plain}, arrays


def run(parameters: Parameters, arrays: Arrays, progress: Progress) -> tuple[Parameters, Arrays]:
    """Values: the report's; arrays: the clip's that changed."""
    progress(0, 1, "Filling gaps")
    library = [_clip(arrays, f"library {index}/") for index in range(parameters["library"])]
    options = parameters["options"] | _below(arrays, "option/")
    clip = _clip(arrays, "clip/")
    filled, report = solve.inbetween(clip, arrays["keys"], parameters["solver"], library, parameters["seed"], **options)
    return asdict(report), to_arrays(filled)


def answer(values: Parameters, arrays: Arrays) -> tuple[Clip, solve.Report]:
    """What `solve.inbetween` returned in the engine, from the result of the job."""
    return from_arrays(arrays), solve.Report.of(values)


def _clip(arrays: Arrays, prefix: str) -> Clip:
    return from_arrays(_below(arrays, prefix))


def _below(arrays: Arrays, prefix: str) -> dict[str, NDArray[Any]]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
