# SPDX-License-Identifier: GPL-3.0-or-later
"""Engine job 'splats.fit': a scene that a network moves becomes one of closed form, and pictures tell how alike they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..common.arrays import Arrays
from ..common.errors import VivantError
from ..common.progress import Progress
from .cloud import COLUMNS, Source, SplatCloud
from .fit import Fit, cameras_around, fit_linear, fit_stg, likeness
from .formats import Overrides, read_splats
from .motion.family import Family
from .motion.linear import Linear
from .motion.stg import Stg

FORMS: dict[str, tuple[type[Family], Callable[..., Fit]]] = {Stg.name: (Stg, fit_stg), Linear.name: (Linear, fit_linear)}
"""What motion can be fitted with and how, by the family's name."""


def request(
    scene: Path,
    form: str,
    index: NDArray[Any] | None = None,
    views: int = 3,
    overrides: Mapping[str, Any] | None = None,
    **options: Any,
) -> tuple[dict[str, Any], Arrays]:
    """Parameters and arrays of the job: form is a name in FORMS, options those of its function.

    index: the splats (integers or a mask) that are left of those in the file; views: cameras that look, at three times;
    overrides: what `Overrides.told` gives.
    """
    parameters = {"scene": str(scene), "form": form, "views": views, "overrides": dict(overrides or {}), "options": options}
    return parameters, {} if index is None else {"index": np.asarray(index)}


def run(parameters: dict[str, Any], arrays: Mapping[str, NDArray[Any]], progress: Progress) -> tuple[dict[str, Any], Arrays]:
    """Values: decibels (times, views), times, time_range, axes; arrays: the closed form's columns, index and error."""
    form = parameters["form"]
    if form not in FORMS:
        raise VivantError(f"Motion cannot be fitted with {form}.", f"Choose {' or '.join(FORMS)}.")
    cloud = read_splats(Path(parameters["scene"]), Overrides.of(parameters.get("overrides", {})))
    if "index" in arrays:
        cloud = cloud.select(np.asarray(arrays["index"]))
    fitted = FORMS[form][1](cloud, progress=progress, **parameters["options"])
    family = fitted.cloud.family
    assert family
    times = np.quantile(family.time_range, [0.1, 0.45, 0.9]).tolist()
    found = likeness(cloud, fitted.cloud, cameras_around(cloud, parameters["views"]), times, progress)
    columns = {name: getattr(fitted.cloud, name) for name in COLUMNS}
    motion = {f"motion/{name}": values for name, values in family.attributes().items()}
    values = {"form": form, "decibels": found, "times": times, "time_range": family.time_range, "axes": cloud.source.axes}
    return values, {**columns, **motion, "index": fitted.index, "error": fitted.error}


def answer(values: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> tuple[Fit, NDArray[np.float64]]:
    """The fit and its decibels (times, views), from the result of the job."""
    motion = {name.removeprefix("motion/"): column for name, column in arrays.items() if name.startswith("motion/")}
    first, last = values["time_range"]
    family = FORMS[values["form"]][0].from_attributes(motion, (first, last))
    columns: dict[str, Any] = {name: arrays[name] for name in COLUMNS}
    cloud = SplatCloud(**columns, family=family, source=Source(axes=values["axes"]))
    return Fit(cloud, arrays["index"], arrays["error"]), np.array(values["decibels"], np.float64)
