# SPDX-License-Identifier: GPL-3.0-or-later
"""Sample splat files made from nothing: a knot that leaps and turns over a stage, for demos, tests and benches.

    python3 dev.py python tools/samples.py FOLDER

writes the moving scene (.splatv), one moment of it with gloss in its spherical harmonics (.ply, .compressed.ply, .spz,
.splat).  The clip loops: after a third of a turn the knot looks as before.
"""

from __future__ import annotations

import argparse
import pathlib

import numpy as np
from numpy.typing import NDArray

from vivant.backends.common.rotations import multiply, normalise
from vivant.backends.gaussian import sh
from vivant.backends.gaussian.axes import change_axes
from vivant.backends.gaussian.cloud import Source, SplatCloud
from vivant.backends.gaussian.formats import write_splats
from vivant.backends.gaussian.motion.linear import Linear
from vivant.backends.gaussian.motion.ndgs import Ndgs
from vivant.backends.gaussian.motion.rotor4d import Rotor4D
from vivant.backends.gaussian.motion.stg import Stg
from vivant.backends.gaussian.sh import to_base

Array = NDArray[np.floating]

TURN = 2 * np.pi / 3  # in one clip; the knot has three lobes
LEAP = 0.9  # metres
MOMENT = 0.3  # of the still files
FOREVER = 1e4
UP = np.array([0.0, 1.0, 0.0])
LIGHT = np.array([0.5, 0.7, 0.5])
STILL_NAMES = ("knot.ply", "knot.compressed.ply", "knot.spz", "knot.splat")


def moving_cloud(seed: int = 1) -> SplatCloud:
    """Some ten thousand splats, STG, time 0 to 1, a stage 2.6 m wide; frame RDF."""
    rng = np.random.default_rng(seed)
    parts = [_knot(rng), _moons(), _stage(), _shadow(rng, 0.0), _shadow(rng, 1.0), _sparks(rng)]
    joined = [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]
    means, normals, sizes, colours, opacities, velocity, spin, center, width = joined
    cloud = SplatCloud(
        means,
        _facing(normals),
        np.stack([sizes, sizes, 0.15 * sizes], axis=1),
        opacities,
        to_base(colours)[:, None],
        family=Stg(*(np.ascontiguousarray(array, np.float32) for array in (velocity, spin, center, width))),
        source=Source(axes="RUB"),
    )
    return change_axes(cloud, "RDF")


def still_cloud(seed: int = 1) -> SplatCloud:
    """One moment of the moving scene, SH degree 3: every splat has a highlight that follows the viewer."""
    cloud = moving_cloud(seed).at(MOMENT)
    cloud = cloud.select(cloud.opacities > 0.01)
    w, x, y, z = cloud.quats.T
    normals = np.stack([2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)], axis=1)
    light = LIGHT / np.linalg.norm(LIGHT) * [1, -1, -1]
    normals *= np.where(normals @ light < 0, -1, 1)[:, None]
    seen_along = light - 2 * (normals @ light)[:, None] * normals  # the direction of sight that meets the reflection
    strength = 0.9 * np.repeat([1.0, 0.85, 0.6, 0.35], [1, 3, 5, 7]) * (normals @ light)[:, None]
    lobes = sh.basis(seen_along, 16) * strength
    lobes[:, 0] = 0
    coefficients = np.repeat(lobes[:, :, None], 3, axis=2)
    coefficients[:, 0] = cloud.sh[:, 0]
    return cloud.replace(sh=coefficients)


def random_cloud(count: int, degree: int = 3, seed: int = 1) -> SplatCloud:
    """Splats without meaning, with numbers as captures have them."""
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> NDArray[np.float32]:
        return rng.standard_normal((count, *shape), np.float32)

    return SplatCloud(
        3 * normal(3),
        normalise(normal(4)),
        np.exp(normal(3) - 4),
        1 / (1 + np.exp(-2 * normal())),
        0.2 * normal((degree + 1) ** 2, 3),
    )


def random_moving(family: str, count: int, seed: int = 1) -> SplatCloud:
    """Splats without meaning that move as a closed-form family does, SH degree 0."""
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> NDArray[np.float32]:
        return rng.standard_normal((count, *shape), np.float32)

    cloud = random_cloud(count, 0, seed)
    center, width, always = rng.random(count, np.float32), np.exp(0.5 * normal() - 1), np.full(count, np.inf, np.float32)
    if family == "STG":
        return cloud.replace(family=Stg(normal(3, 3), 0.5 * normal(4), center, width))
    if family == "Linear":
        return cloud.replace(family=Linear(normal(3), center, width, -always, always))
    if family == "4DGS":
        return cloud.replace(family=Rotor4D(normal(3), center, width, center - width, center + width))
    shares = np.full(count, 0.35, np.float32)
    moving = Ndgs(_unit(normal(3)), normal(3, 3), normal(3, 3), normal(3), shares, normal(3), center, width, shares)
    return cloud.replace(family=moving)


def write_moving(folder: pathlib.Path, seed: int = 1) -> pathlib.Path:
    """Write the moving scene as knot.splatv; the path of the file."""
    path = folder / "knot.splatv"
    write_splats(moving_cloud(seed), path)
    return path


def write_still(folder: pathlib.Path, seed: int = 1) -> list[pathlib.Path]:
    """Write one moment of the scene in every still format; the paths of the files."""
    cloud = still_cloud(seed)
    paths = [folder / name for name in STILL_NAMES]
    for path in paths:
        write_splats(cloud, path)
    return paths


def write_random_ply(path: pathlib.Path, count: int = 1_000_000, degree: int = 3, seed: int = 1) -> None:
    """Write a 3DGS PLY of random splats: 62 floats a splat at degree 3."""
    write_splats(random_cloud(count, degree, seed), path)


Part = tuple[Array, ...]
"""means, normals, sizes, colours, opacities, velocity, spin, center, width; frame RUB, y up."""


def _knot(rng: np.random.Generator, splats: int = 6000) -> Part:
    """A third of a trefoil's skin, three times, so that a third of a turn changes nothing."""
    third = splats // 3
    u = np.arange(third) / third * TURN
    v = np.arange(third) * np.pi * (3 - np.sqrt(5))
    path = np.stack([np.sin(u) + 2 * np.sin(2 * u), -np.sin(3 * u), np.cos(u) - 2 * np.cos(2 * u)], axis=1)
    along = np.stack([np.cos(u) + 4 * np.cos(2 * u), -3 * np.cos(3 * u), -np.sin(u) + 4 * np.sin(2 * u)], axis=1)
    side = _unit(np.cross(along, [0, 1, 0]))
    over = _unit(np.cross(side, along))
    normals = np.cos(v)[:, None] * side + np.sin(v)[:, None] * over
    means = 0.17 * (path + 0.5 * normals)
    hue = (u / TURN)[:, None] + np.array([0.0, 0.33, 0.67]) + 0.08 * np.sin(3 * v)[:, None]
    colours = (0.52 + 0.42 * np.cos(2 * np.pi * hue)) * (0.62 + 0.38 * normals[:, 1:2]) + 0.02 * rng.normal(size=(third, 1))
    turned = [_about_y(means, k * TURN) for k in range(3)], [_about_y(normals, k * TURN) for k in range(3)]
    means, normals = (np.concatenate(thirds) for thirds in turned)
    return _turning(means + np.array([0, 0.62, 0]), normals, np.full(splats, 0.017), np.tile(colours, (3, 1)), TURN)


def _moons(splats: int = 250) -> Part:
    """Three little spheres that circle the knot the other way."""
    i = np.arange(splats) + 0.5
    height, angle = 1 - 2 * i / splats, i * np.pi * (3 - np.sqrt(5))
    radius = np.sqrt(1 - height**2)
    normals = np.stack([radius * np.cos(angle), height, radius * np.sin(angle)], axis=1)
    means = 0.075 * normals + [0.86, 0.62, 0]
    colours = np.array([1.0, 0.86, 0.55]) * (0.65 + 0.35 * normals[:, 1:2])
    means = np.concatenate([_about_y(means, k * TURN) for k in range(3)])
    normals = np.concatenate([_about_y(normals, k * TURN) for k in range(3)])
    return _turning(means, normals, np.full(3 * splats, 0.011), np.tile(colours, (3, 1)), -TURN)


def _turning(means: Array, normals: Array, sizes: Array, colours: Array, turn: float) -> Part:
    """Splats that leap and turn about the y axis: the cubics nearest to the true paths, a drift of the quaternion."""
    d = np.linspace(-0.5, 0.5, 33)
    path = np.stack([_about_y(means, turn * at) + LEAP * (1 - 4 * at * at) * UP for at in d])
    cubics = np.linalg.pinv(np.vander(d, 4, increasing=True)) @ path.reshape(len(d), -1)
    cubics = cubics.reshape(4, -1, 3)
    axis = np.array([0, 0, 1, 0]) * np.tan(turn / 4) / 0.5  # exact in the middle and at both ends
    count = len(means)
    return (
        cubics[0], normals, sizes, colours, np.full(count, 0.97), cubics[1:].transpose(1, 0, 2),
        multiply(axis, _facing(normals)), np.full(count, 0.5), np.full(count, FOREVER),
    )  # fmt: skip


def _resting(means: Array, sizes: Array, colours: Array, opacities: Array) -> Part:
    """Splats that lie flat and stay."""
    count = len(means)
    up = np.tile([0.0, 1.0, 0.0], (count, 1))
    times = np.full(count, 0.5), np.full(count, FOREVER)
    return means, up, sizes, colours, opacities, np.zeros((count, 3, 3)), np.zeros((count, 4)), *times


def _stage(splats: int = 4500) -> Part:
    """A round floor with rings."""
    i = np.arange(splats) + 0.5
    radius, angle = 1.3 * np.sqrt(i / splats), i * np.pi * (3 - np.sqrt(5))
    means = np.stack([radius * np.cos(angle), np.zeros(splats), radius * np.sin(angle)], axis=1)
    rings = (np.cos(radius * 2 * np.pi / 0.26) > 0.8)[:, None]
    petals = 0.5 + 0.5 * np.cos(3 * angle + 9 * radius)[:, None]
    colours = np.where(rings, [0.16, 0.5, 0.56], [0.09, 0.11, 0.17] + petals * [0.03, 0.05, 0.09])
    return _resting(means, np.full(splats, 0.02), colours, np.full(splats, 0.95))


def _shadow(rng: np.random.Generator, time: float, splats: int = 250) -> Part:
    """Darkness on the floor while the knot is near it."""
    flat = 0.28 * rng.normal(size=(splats, 2))
    means = np.stack([flat[:, 0], np.full(splats, 0.012), flat[:, 1]], axis=1)
    part = _resting(means, np.full(splats, 0.07), np.full((splats, 3), 0.015), np.full(splats, 0.35))
    return *part[:7], np.full(splats, time), np.full(splats, 0.16)


def _sparks(rng: np.random.Generator, splats: int = 500) -> Part:
    """What the landing at time 0 throws up: parabolas, each with a short life."""
    angle, speed = rng.uniform(0, 2 * np.pi, splats), rng.uniform(0.6, 2.4, splats)
    start = np.stack([0.35 * np.cos(angle), np.full(splats, 0.03), 0.35 * np.sin(angle)], axis=1)
    fling = np.stack([speed * np.cos(angle), rng.uniform(1.5, 4.5, splats), speed * np.sin(angle)], axis=1)
    fall = np.array([0.0, -7.0, 0.0])
    center = rng.uniform(0.08, 0.3, splats)
    at = center[:, None]
    velocity = np.stack([fling + 2 * fall * at, np.tile(fall, (splats, 1)), np.zeros((splats, 3))], axis=1)
    warm = np.array([1.0, 0.78, 0.35]) + rng.normal(size=(splats, 1)) * [0.0, 0.14, 0.2]
    normals = _unit(rng.normal(size=(splats, 3)))
    return (
        start + fling * at + fall * at**2, normals, rng.uniform(0.006, 0.014, splats), np.clip(warm, 0, 1),
        np.full(splats, 0.9), velocity, np.zeros((splats, 4)), center, rng.uniform(0.05, 0.12, splats),
    )  # fmt: skip


def _about_y(vectors: Array, angle: float) -> Array:
    c, s = np.cos(angle), np.sin(angle)
    return vectors @ np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]).T


def _facing(normals: Array) -> Array:
    """Unit quaternions that turn the z axis to the normals."""
    x, y, z = normals.T
    return normalise(np.stack([1 + z, -y, x, np.zeros_like(z)], axis=1))


def _unit(vectors: Array) -> Array:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for path in (write_moving(options.folder, options.seed), *write_still(options.folder, options.seed)):
        print(f"{path}  {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
