# SPDX-License-Identifier: GPL-3.0-or-later
"""4D Gaussians (4DGS) in PLY, as projects that descend from fudan-zvg/4d-gaussian-splatting write them.

3DGS columns with a time t, its logarithmic size scaling_t, and a second quaternion rot_r_0 to 3 where space and time
are turned against each other; rot_0 to 3 is the first then.  A channel of spherical harmonics may go on after its 16
coefficients with blocks of 16 that swing in time.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping

import numpy as np

from ...common.rotations import IDENTITY
from ...common.threads import in_blocks
from ..cloud import Floats, SplatCloud
from ..motion.rotor4d import REACH, Rotor4D, cut, uncut
from . import ply_linear
from .ply_header import Header
from .repair import FASTEST, LARGEST, LATEST, LONGEST_LIFE, SHORTEST_LIFE, SMALLEST_SCALE, Draft

FAMILY = Rotor4D
COMMENTS = ()
BLOCK = 16
"""Coefficients of a block."""
LONGEST = 100
"""Width, in clips, of a splat that never fades: its opacity changes by less than 1e-4, and its rotation can still be told."""

_SIZES = ("scaling_t", "scale_t")
_SECOND = ("rot_r_{}", "rotation_r_{}")


def columns(types: Collection[str]) -> tuple[str, ...]:
    """Time and size, then the second quaternion, then the coefficients of waves, those of a channel together."""
    size = next((name for name in _SIZES if name in types), "")
    if not size or "t" not in types or "rot_0" not in types:
        return ()
    second = next(((*names,) for names in ([form.format(i) for i in range(4)] for form in _SECOND) if {*names} <= {*types}), ())
    return ("t", size, *second, *itertools.chain(*_wave_columns(types)))


def blocks(types: Collection[str]) -> int:
    """Blocks that the coefficients of a channel make, the still one included; some files pad theirs."""
    return max(1, _stride(types) // BLOCK) if columns(types) else 1


def read(draft: Draft, columns: Mapping[str, Floats], header: Header, activation: str) -> Rotor4D:
    """The family; the draft's rotations and scales become those of the cut in time."""
    names = list(columns)
    count = len(columns["t"])
    turning = "_r_" in "".join(names)
    center = columns["t"]
    velocity, variance = np.zeros((count, 3), np.float32), np.empty(count, np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        size = columns[names[1]] if activation == "activated" else np.exp(np.minimum(columns[names[1]], 40))
    draft.drop(~(np.abs(center) <= LATEST) | ~(size <= LONGEST_LIFE**2), "times not finite: splats dropped")
    if turning:
        second = np.stack([columns[name] for name in names[2:6]], axis=1)
        lengths = np.linalg.norm(second, axis=1)
        draft.reset(second, ~((lengths > 1e-12) & (lengths < 1e18)), IDENTITY, "rotations zero or not finite: set to none")

        def block(rows: slice) -> None:
            scales = np.column_stack([draft.scales[rows], np.clip(size[rows], SHORTEST_LIFE, LONGEST_LIFE)])
            draft.quats[rows], sizes, velocity[rows], variance[rows] = cut(draft.quats[rows], second[rows], scales)
            draft.scales[rows] = np.maximum(sizes, SMALLEST_SCALE)

        in_blocks(block, count)
        draft.reset(velocity, ~(np.abs(velocity) <= FASTEST), 0, "motion not finite: set to 0")
    else:
        variance[:] = size  # of these files it is the variance
    width = np.clip(np.sqrt(2 * variance), SHORTEST_LIFE, LONGEST_LIFE)
    reach = np.float32(REACH) * width
    coefficients = [name for name in names if name.startswith("f_rest_")]
    waves = np.empty((count, len(coefficients) // (3 * BLOCK), BLOCK, 3), np.float32)
    for name, (channel, order, k) in zip(coefficients, np.ndindex(3, waves.shape[1], BLOCK), strict=True):
        waves[:, order, k, channel] = columns[name]
    draft.reset(waves, ~(np.abs(waves) < LARGEST), 0, "colours not finite: set to 0")
    lasts = span(center[draft.keep])
    if lasts != (0.0, 1.0):
        draft.warnings.append(
            f"The file does not say how long its clip is; {lasts[0]:g} to {lasts[1]:g} is taken from its times."
        )
    return Rotor4D(velocity, center, width, center - reach, center + reach, lasts, waves, turning)


def span(center: Floats) -> tuple[float, float]:
    """First and last time of a clip whose splats have these centers."""
    found = ply_linear.span(center)
    return (0.0, 10.0) if 1.0 < found[1] <= 12 else found  # the duration that its code gives to videos


def write(cloud: SplatCloud) -> dict[str, Floats | None]:
    """Rotations and sizes before the cut, and all coefficients where colours swing."""
    family = cloud.family
    assert isinstance(family, Rotor4D)
    count = len(cloud)
    longest = LONGEST * (family.time_range[1] - family.time_range[0])
    variance = np.square(np.minimum(family.width, longest), dtype=np.float64) / 2
    found: dict[str, Floats | None] = {"t": family.center}
    if family.turning:
        left, right = np.empty((count, 4), np.float32), np.empty((count, 4), np.float32)
        sizes = np.empty((count, 4), np.float32)

        def block(rows: slice) -> None:
            parts = uncut(cloud.quats[rows], cloud.scales[rows], family.velocity[rows], variance[rows])
            left[rows], right[rows], sizes[rows] = parts[0], parts[1], np.log(parts[2])

        in_blocks(block, count)
        found |= {f"rot_{i}": left[:, i] for i in range(4)} | {f"scale_{i}": sizes[:, i] for i in range(3)}
        found |= {"scaling_t": sizes[:, 3]} | {f"rot_r_{i}": right[:, i] for i in range(4)}
    else:
        found["scaling_t"] = np.log(variance).astype(np.float32)
    if orders := family.waves.shape[1]:
        whole = np.zeros((count, orders + 1, BLOCK, 3), np.float32)
        whole[:, 0, : cloud.sh.shape[1]] = cloud.sh[:, :BLOCK]
        whole[:, 1:, : family.waves.shape[2]] = family.waves[:, :, :BLOCK]
        rest = whole.reshape(count, -1, 3)[:, 1:].transpose(0, 2, 1).reshape(count, -1)
        found |= {f"f_rest_{i}": rest[:, i] for i in range(rest.shape[1])}
    return found


def clips(cloud: SplatCloud) -> list[str]:
    """Motion that is not that of a 4D Gaussian."""
    family = cloud.family
    assert isinstance(family, Rotor4D)
    found = []
    if not family.turning and family.velocity.any():
        found.append("Velocities are not written: this file's kind of 4D Gaussians has none.")
    start, end = family.time_range
    reach, close = REACH * family.width, 1e-5 * (end - start)
    ends = ((family.first, family.center - reach), (family.last, family.center + reach))
    other = np.any([np.abs(np.clip(one, start, end) - np.clip(usual, start, end)) > close for one, usual in ends], axis=0)
    if count := int(np.count_nonzero(other)):
        found.append(f"Segments of {count:,} splats are not written: 4DGS ends each where it has faded to 5 %.")
    return found


def _stride(types: Collection[str]) -> int:
    """Coefficients of a channel, degree 0 included."""
    return next(i for i in itertools.count() if f"f_rest_{i}" not in types) // 3 + 1


def _wave_columns(types: Collection[str]) -> list[list[str]]:
    """Names of the coefficients after the first block, one list a channel."""
    stride = _stride(types)
    if stride % BLOCK:
        return []
    return [[f"f_rest_{channel * (stride - 1) + k}" for k in range(BLOCK - 1, stride - 1)] for channel in range(3)]
