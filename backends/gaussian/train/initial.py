# SPDX-License-Identifier: GPL-3.0-or-later
"""Where training begins: splats inside the silhouettes, on COLMAP's points, or anywhere in the box that cameras look at."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ...common.cameras import project
from .. import sh
from ..render.projection import Floats
from . import slicing
from .pictures import Pictures
from .views import Views

INSIDE = 0.97
"""Share of the silhouettes seen that a point must lie in: poses and edges are not perfect."""

NEIGHBOURS_IN_TIME = 5
"""Silhouettes, the nearest in time, that a point of a moving scene is held against."""

TRIES = 40
LIFE = 0.12
"""Width of the first splats in time, of the clip: 7DGS begins with a deviation of a third, which blurs what moves fast."""

FIRST_FALL = 0.3
"""How fast the first splats fade as they are seen from elsewhere, in what 7DGS writes sqrt(lambda) / deviation (there 0.59)."""


def begin(
    views: Views, pictures: Pictures, count: int, degree: int, moves: bool, turns: bool, random: np.random.Generator
) -> tuple[Floats, Floats]:
    """Parameters (slicing.PARAMETERS, N) and coefficients (3 K, N) of at most `count` splats.

    moves, turns: whether they change in time and with the direction that they are seen from.
    """
    points, colours, times = _points(views, pictures, count, moves, random)
    number = len(points)
    parameters = np.zeros((slicing.PARAMETERS, number), np.float32)
    parameters[: slicing.LOG_SCALE] = points.T
    places = np.column_stack([points, times * views.extent / 2]) if moves else points
    apart = cKDTree(places).query(places, 4)[0][:, 1:] if number > 3 else np.full((number, 3), views.extent / 50)
    size = np.clip(np.sqrt((apart**2).mean(axis=1)), views.extent / 4000, views.extent / 40)
    parameters[slicing.LOG_SCALE : slicing.TURN] = np.log(size)
    parameters[slicing.TURN] = 1
    parameters[slicing.TURN : slicing.OPACITY] += 0.1 * random.standard_normal((4, number))
    parameters[slicing.OPACITY] = -0.5 if moves else 0  # of those that live for a moment many overlap
    towards = random.standard_normal((3, number))
    parameters[slicing.VIEW_MEAN : slicing.CENTER] = towards / np.linalg.norm(towards, axis=0)
    parameters[slicing.CENTER] = times
    parameters[slicing.LOG_WIDTH] = np.log(LIFE) if moves else 25
    if turns:
        parameters[[slicing.FALL, slicing.FALL + 2, slicing.FALL + 5]] = FIRST_FALL
    coefficients = np.zeros((3 * sh.COEFFICIENTS[degree], number), np.float32)
    coefficients[:3] = (np.clip(colours.T, 0.02, 0.98) - 0.5) / sh.C0
    return parameters, coefficients


def _points(
    views: Views, pictures: Pictures, count: int, moves: bool, random: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Places (N, 3), colours (N, 3) and times (N,)."""
    if views.points is not None and len(views.points):
        chosen = random.permutation(len(views.points))[:count]
        grey = np.full((len(chosen), 3), 0.5)
        colours = grey if views.colours is None else views.colours[chosen].astype(np.float64)
        return views.points[chosen].astype(np.float64), colours, _times(len(chosen), moves, random)
    cut_out = np.mean([float((picture[..., 3] < 0.5).mean()) for picture in pictures[: min(len(pictures), 8)]]) > 0.05
    found: list[tuple[NDArray[np.float64], ...]] = []
    for _ in range(TRIES):
        points = random.uniform(views.box[0], views.box[1], (20_000, 3))
        times = _times(len(points), moves, random)
        inside, colours = _seen(views, pictures, points, times, moves)
        kept = inside >= INSIDE if cut_out else inside > 0
        found.append((points[kept], colours[kept], times[kept]))
        if sum(len(part[0]) for part in found) >= count:
            break
    points, colours, times = (np.concatenate(part)[:count] for part in zip(*found, strict=True))
    if len(points) < 100:  # no silhouettes worth the name
        points, times = random.uniform(views.box[0], views.box[1], (count, 3)), _times(count, moves, random)
        colours = np.full((count, 3), 0.5)
    return points, colours, times


def _times(count: int, moves: bool, random: np.random.Generator) -> NDArray[np.float64]:
    """A little beyond the clip, so that its ends have neighbours on both sides."""
    return random.uniform(-0.03, 1.03, count) if moves else np.zeros(count)


def _seen(
    views: Views, pictures: Pictures, points: NDArray[np.float64], times: NDArray[np.float64], moves: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Share of the pictures in which each point lies on something, and the mean colour there."""
    when = np.array([posed.time for posed in views.train])
    nearest = np.ones((len(when), len(points)), bool)
    if moves and len(when) > NEIGHBOURS_IN_TIME:
        rank = np.argsort(np.argsort(np.abs(when[:, None] - times), axis=0), axis=0)
        nearest = rank < NEIGHBOURS_IN_TIME
    seen, hits, colours = np.zeros(len(points)), np.zeros(len(points)), np.zeros((len(points), 3))
    for posed, picture, used in zip(views.train, pictures, nearest, strict=True):
        camera = posed.camera_at(pictures.reduction)
        inverse = np.linalg.inv(camera.camera_to_world)
        ahead = points @ inverse[2, :3] + inverse[2, 3] > camera.near
        pixel = np.nan_to_num(project(camera, points)).astype(int)
        within = ahead & ((pixel >= 0) & (pixel < (camera.width, camera.height))).all(axis=1) & used
        x, y = np.clip(pixel, 0, (camera.width - 1, camera.height - 1)).T
        values = picture[y, x] * within[:, None]
        seen += within
        hits += values[:, 3] > 0.3
        colours += values[:, :3]
    return np.where(seen > 0, hits / np.maximum(seen, 1), 0), colours / np.maximum(hits, 1)[:, None]
