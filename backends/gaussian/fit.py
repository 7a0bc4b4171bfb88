# SPDX-License-Identifier: GPL-3.0-or-later
"""Closed forms for any motion: a moving cloud is sampled in time and fitted by least squares, splat by splat.

`fit_stg` gives every splat one cubic path, a steady drift of its quaternion and a bell of opacity; `fit_linear` as many
straight stretches as it needs.  Scales and colours become their means over time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..common.cameras import Camera
from ..common.errors import VivantError
from ..common.rotations import normalise
from .cloud import SplatCloud
from .edit.merge import merged
from .motion.family import Family
from .motion.linear import Linear
from .motion.stg import Stg
from .render.reference import render

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Progress = Callable[[float, float, str], None]

ROWS = 16384
"""Splats whose samples are in memory at once."""
ENDLESS = np.float32(1e6)
"""Width of a bell that never fades."""
MOST_STRETCHES = 64


@dataclass(frozen=True, eq=False)
class Fit:
    """cloud: M splats with the closed form; index (M,): which splat of the N fitted ones each is, or is a stretch of;
    error (N,): the root of the mean squared distance to the true path over the samples, in the cloud's metres.
    """

    cloud: SplatCloud
    index: NDArray[np.intp]
    error: Floats


@dataclass(frozen=True, eq=False)
class _Samples:
    """Of T times and n splats, float64: means (T, n, 3), quats (T, n, 4) with signs that follow the first, logarithms of
    the scales (T, n, 3), opacities (T, n); sh (n, K, 3) is the mean over time, weighted by opacity.
    """

    times: Doubles
    means: Doubles
    quats: Doubles
    logs: Doubles
    opacities: Doubles
    sh: Floats


def fit_stg(cloud: SplatCloud, samples: int = 33, progress: Progress | None = None) -> Fit:
    """The spacetime Gaussians that follow a moving cloud most closely, as many as it has splats.

    Raises VivantError for a cloud that does not move.
    """
    times = _times(cloud, samples)
    parts, errors = [], []
    for rows in _blocks(cloud, progress):
        part, error = _as_stg(cloud.select(rows), _sample(cloud.select(rows), times))
        parts.append(part)
        errors.append(error)
    return Fit(merged(parts), np.arange(len(cloud)), np.concatenate(errors))


def fit_linear(cloud: SplatCloud, stretches: int = 8, tolerance: float = 0.25, progress: Progress | None = None) -> Fit:
    """Straight paths: each splat becomes 1, 2, 4, … up to `stretches` (a power of two) splats, one after the other in time,
    until no sample is farther off than `tolerance` times its size (turns count as what they do at its end).

    Raises VivantError for a cloud that does not move or another number of stretches.
    """
    if stretches < 1 or stretches & (stretches - 1) or stretches > MOST_STRETCHES:
        raise VivantError(f"{stretches} is no number of stretches.", f"Give 1, 2, 4 … up to {MOST_STRETCHES}.")
    times = _times(cloud, max(4 * stretches, 16) + 1)
    parts, indices, errors = [], [], []
    for rows in _blocks(cloud, progress):
        block = cloud.select(rows)
        sampled = _sample(block, times)
        error = np.zeros(len(block), np.float32)
        left = np.arange(len(block))
        count = 1
        while len(left):
            part, near, distance = _as_linear(block.select(left), _select(sampled, left), count, tolerance)
            done = near | (count == stretches)
            parts.append(part.select(np.tile(done, count)))
            indices.append(np.tile(rows.start + left[done], count))
            error[left[done]] = distance[done]
            left = left[~done]
            count *= 2
        errors.append(error)
    return Fit(merged(parts), np.concatenate(indices), np.concatenate(errors))


def likeness(
    cloud: SplatCloud, other: SplatCloud, cameras: Sequence[Camera], times: Sequence[float], progress: Progress | None = None
) -> Doubles:
    """Peak signal-to-noise ratios (T, cameras) in dB between the reference rasteriser's pictures of both, on black."""
    found = np.empty((len(times), len(cameras)))
    for place, (i, j) in enumerate(np.ndindex(*found.shape)):
        if progress:
            progress(place, found.size, "Comparing pictures")
        centre = cameras[j].camera_to_world[:3, 3]
        a, b = (render([(moving.at(times[i], centre), cameras[j])])[..., :3] for moving in (cloud, other))
        found[i, j] = -10 * np.log10(max(float(np.mean(np.square(a - b))), 1e-12))
    return found


def cameras_around(cloud: SplatCloud, count: int = 3, size: int = 160) -> list[Camera]:
    """Cameras on a ring about a cloud, that see the box which holds 98 % of its splats."""
    low, middle, high = np.percentile(cloud.means.astype(np.float64), [1, 50, 99], axis=0)
    distance = 1.5 * max(float(np.linalg.norm(high - low)), 1e-3)
    intrinsics = np.array([[1.2 * size, 0, size / 2], [0, 1.2 * size, size / 2], [0, 0, 1]])
    cameras = []
    for angle in 2 * np.pi * np.arange(count) / count + 0.3:
        pose = np.eye(4)
        pose[:3, 0] = np.cos(angle), 0, -np.sin(angle)
        pose[:3, 2] = np.sin(angle), 0, np.cos(angle)
        pose[:3, 3] = middle - distance * pose[:3, 2]
        cameras.append(Camera(intrinsics, pose, size, size, near=distance / 100))
    return cameras


def _times(cloud: SplatCloud, count: int) -> Doubles:
    if cloud.family is None:
        raise VivantError("This cloud does not move.", "Give one with a motion family.")
    if not len(cloud):
        raise VivantError("This cloud has no splats.", "Give one with some.")
    return np.linspace(*cloud.family.time_range, max(count, 5))


def _blocks(cloud: SplatCloud, progress: Progress | None) -> Iterator[slice]:
    for start in range(0, len(cloud), ROWS):
        if progress:
            progress(start, len(cloud), "Fitting motion")
        yield slice(start, min(start + ROWS, len(cloud)))


def _sample(cloud: SplatCloud, times: Doubles) -> _Samples:
    clouds = []
    total = np.full(len(cloud), 1e-6, np.float32)
    sh = cloud.sh * total[:, None, None]
    for time in times:
        still = cloud.at(float(time))
        sh += still.sh * still.opacities[:, None, None]
        total += still.opacities
        clouds.append((still.means, still.quats, np.log(still.scales), still.opacities))
    means, quats, logs, opacities = (np.array(column, np.float64) for column in zip(*clouds, strict=True))
    for i in range(1, len(quats)):
        quats[i][np.einsum("nc,nc->n", quats[i], quats[i - 1]) < 0] *= -1
    return _Samples(times, means, quats, logs, opacities, sh / total[:, None, None])


def _select(samples: _Samples, index: NDArray[np.intp]) -> _Samples:
    columns = {name: getattr(samples, name)[:, index] for name in ("means", "quats", "logs", "opacities")}
    return dataclasses.replace(samples, sh=samples.sh[index], **columns)


def _as_stg(cloud: SplatCloud, samples: _Samples) -> tuple[SplatCloud, Floats]:
    first, last = samples.times[0], samples.times[-1]
    middle = (first + last) / 2
    d = samples.times - middle
    path = _polynomials(d, samples.means, 3)  # (4, n, 3)
    turn = _polynomials(d, samples.quats, 1)
    center, width, opacities = _bell(d, samples.opacities)
    fitted = np.einsum("tp,pnc->tnc", d[:, None] ** np.arange(4), path)
    error = np.sqrt(np.square(fitted - samples.means).sum(axis=2).mean(axis=0))

    s = center[:, None]  # the same path and drift, told from the bell's center
    v0, v1, v2, v3 = path
    velocity = np.stack([v1 + 2 * s * v2 + 3 * s**2 * v3, v2 + 3 * s * v3, v3], axis=1)
    quats = turn[0] + s * turn[1]
    lengths = np.maximum(np.linalg.norm(quats, axis=1, keepdims=True), 1e-6)
    family = Stg(
        velocity.astype(np.float32),
        (turn[1] / lengths).astype(np.float32),
        (middle + center).astype(np.float32),
        width.astype(np.float32),
        (float(first), float(last)),
    )
    means = v0 + s * (v1 + s * (v2 + s * v3))
    return _made(cloud, means, quats, samples.logs.mean(axis=0), opacities, samples.sh, family), error.astype(np.float32)


def _bell(d: Doubles, opacities: Doubles) -> tuple[Doubles, Doubles, Doubles]:
    """Center, width and height (n,) of the bells nearest to opacities (T, n) at times d, which are centred.

    The logarithm of a bell is a parabola; samples count by their squared opacity, so that logarithms err where it shows.
    Where a constant is nearer than the parabola, or it opens upwards, the bell is endless.
    """
    weights = np.square(opacities) + 1e-9
    powers = d[:, None] ** np.arange(5)
    moments = powers.T @ weights  # (5, n)
    hankel = np.moveaxis(np.stack([moments[i : i + 3] for i in range(3)]), 2, 0) + 1e-12 * np.eye(3)
    right = (powers[:, :3].T @ (weights * np.log(np.maximum(opacities, 1e-6)))).T
    c0, c1, c2 = np.linalg.solve(hankel, right[..., None])[..., 0].T
    span = d[-1] - d[0]
    bends = c2 < -1e-4 / span**2
    curve = np.where(bends, c2, -1.0)
    center, width = -c1 / (2 * curve), np.sqrt(-1 / curve)
    height = np.exp(np.clip(c0 - c1**2 / (4 * curve), -20, 5))
    bell = height * np.exp(-np.square((d[:, None] - center) / width))
    mean = opacities.mean(axis=0)
    bends &= (np.abs(center) < 2 * span) & (height <= 1)
    bends &= np.square(bell - opacities).sum(axis=0) < np.square(mean - opacities).sum(axis=0)
    return np.where(bends, center, 0), np.where(bends, width, ENDLESS), np.where(bends, height, mean)


def _as_linear(
    cloud: SplatCloud, samples: _Samples, count: int, tolerance: float
) -> tuple[SplatCloud, NDArray[np.bool_], Floats]:
    """`count` stretches of every splat, all splats of a stretch together; which splats (n,) are near enough; errors (n,)."""
    steps = (len(samples.times) - 1) // count
    parts = []
    farthest, squares = np.zeros(len(cloud)), np.zeros(len(cloud))
    size = np.exp(samples.logs.mean(axis=0))
    for k in range(count):
        window = slice(k * steps, (k + 1) * steps + 1)
        times = samples.times[window]
        center = (times[0] + times[-1]) / 2
        d = times - center
        path = _polynomials(d, samples.means[window], 1)
        quats = normalise(samples.quats[window].mean(axis=0))
        off = np.square(path[0] + d[:, None, None] * path[1] - samples.means[window]).sum(axis=2)
        cosine = np.clip(np.einsum("nc,tnc->tn", quats, samples.quats[window]), -1, 1)
        swept = np.square(2 * np.arccos(np.abs(cosine)) * size.max(axis=1))
        farthest = np.maximum(farthest, (off + swept).max(axis=0))
        squares += off.mean(axis=0) / count

        def filled(value: float) -> Floats:
            return np.full(len(cloud), value, np.float32)

        family = Linear(
            path[1].astype(np.float32),
            filled(center),
            filled(np.inf),
            filled(-np.inf if k == 0 else times[0]),
            filled(np.inf if k == count - 1 else times[-1]),
            (float(samples.times[0]), float(samples.times[-1])),
        )
        logs, opacities = samples.logs[window].mean(axis=0), samples.opacities[window].mean(axis=0)
        parts.append(_made(cloud, path[0], quats, logs, opacities, samples.sh, family))
    near = np.sqrt(farthest) <= tolerance * np.exp(np.log(size).mean(axis=1))
    return merged(parts), near, np.sqrt(squares).astype(np.float32)


def _polynomials(d: Doubles, values: Doubles, degree: int) -> Doubles:
    """Coefficients (degree + 1, n, C) of the polynomials in d nearest to values (T, n, C)."""
    return np.einsum("pt,tnc->pnc", np.linalg.pinv(d[:, None] ** np.arange(degree + 1)), values)


def _made(
    cloud: SplatCloud,
    means: Doubles,
    quats: NDArray[np.floating],
    logs: Doubles,
    opacities: Doubles,
    sh: Floats,
    family: Family,
) -> SplatCloud:
    return cloud.replace(
        means=means, quats=normalise(quats), scales=np.exp(logs), opacities=np.clip(opacities, 0, 1), sh=sh, family=family
    )
