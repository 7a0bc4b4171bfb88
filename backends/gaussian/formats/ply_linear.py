# SPDX-License-Identifier: GPL-3.0-or-later
"""Linear velocity in PLY.  No standard names the columns: these are the names that projects use.

Widths are standard deviations, or their logarithms; a missing, zero or infinite one never fades.  A segment is
the interval from t_start to t_end.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from ..cloud import Floats, SplatCloud
from ..motion.linear import Linear
from .ply_header import Header
from .repair import FASTEST, LATEST, SHORTEST_LIFE, Draft

FAMILY = Linear
COMMENTS = ()

_VELOCITIES = (
    ("velocity_0", "velocity_1", "velocity_2"),
    ("vel_0", "vel_1", "vel_2"),
    ("vx", "vy", "vz"),
    ("motion_0", "motion_1", "motion_2"),  # more of them are spacetime Gaussians'
)
_CENTERS = ("trbf_center", "mu_t", "t", "time")
_WIDTHS = ("sigma_t", "duration", "scale_t", "trbf_scale")
_LOGARITHMS = ("scale_t", "trbf_scale")
_SEGMENT = ("t_start", "t_end")
_TO_WIDTH = np.float32(np.sqrt(2))


def columns(types: Collection[str]) -> tuple[str, ...]:
    """The velocity, and of times, widths and segments what is there."""
    if "motion_3" in types:
        return ()
    velocity = next((names for names in _VELOCITIES if set(names) <= set(types)), ())
    if not velocity:
        return ()
    center, width = (next(((name,) for name in names if name in types), ()) for names in (_CENTERS, _WIDTHS))
    return (*velocity, *center, *width, *(name for name in _SEGMENT if name in types))


def read(draft: Draft, columns: Mapping[str, Floats], header: Header, activation: str) -> Linear:
    """The family; what is not finite is mended and counted."""
    names = iter(columns)
    velocity = np.stack([columns[next(names)] for _ in range(3)], axis=1)
    count = len(velocity)
    center = next((columns[name] for name in _CENTERS if name in columns), np.zeros(count, np.float32))
    width = np.full(count, np.inf, np.float32)
    if name := next((name for name in _WIDTHS if name in columns), ""):
        width = columns[name].copy()
        with np.errstate(over="ignore", invalid="ignore"):
            width = np.exp(width) if name in _LOGARITHMS else width
            width = width if name == "trbf_scale" else width * _TO_WIDTH
        draft.reset(width, np.isnan(width) | (width < 0), np.inf, "lifetimes not a number or negative: never fading")
        width[width == 0] = np.inf
        width = np.maximum(width, SHORTEST_LIFE)
    first = columns.get(_SEGMENT[0], np.full(count, -np.inf, np.float32))
    last = columns.get(_SEGMENT[1], np.full(count, np.inf, np.float32))
    draft.drop(~(np.abs(center) <= LATEST) | np.isnan(first) | np.isnan(last), "times not finite: splats dropped")
    draft.reset(velocity, ~(np.abs(velocity) <= FASTEST), 0, "motion not finite: set to 0")
    draft.warnings.append(f"No standard names straight motion; it is read from {', '.join(columns)}.")
    return Linear(velocity, center, width, first, last, span(*(times[draft.keep] for times in (center, first, last))))


def span(*times: Floats) -> tuple[float, float]:
    """From 0 to 1 where the times of all splats but a few lie about there, as they mostly do; else what they span."""
    found = np.concatenate([values[np.abs(values) <= LATEST] for values in times])
    low, high = np.quantile(found, (0.01, 0.99)) if len(found) else (0, 1)
    if low >= -0.2 and high <= 1.2:
        return 0.0, 1.0
    return min(0.0, float(low)), max(1.0, float(high))


def write(cloud: SplatCloud) -> dict[str, Floats | None]:
    """The first names of each kind; segments where there are any; a width of 0 for what never fades."""
    family = cloud.family
    assert isinstance(family, Linear)
    names = dict(zip(_VELOCITIES[0], family.velocity.T, strict=True))
    segment = dict(zip(_SEGMENT, (family.first, family.last), strict=True))
    width = np.where(np.isfinite(family.width), family.width / _TO_WIDTH, 0)
    return {**names, "t": family.center, "sigma_t": width, **(segment if np.isfinite([*segment.values()]).any() else {})}


def clips(cloud: SplatCloud) -> list[str]:
    """Nothing."""
    return []
