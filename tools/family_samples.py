# SPDX-License-Identifier: GPL-3.0-or-later
"""The sample scene of `samples.py`, a knot that leaps and turns over a stage, told by every family of motion.

Networks are not trained: their weights are worked out here, so that they say exactly what the scene does.  What they
cannot know of a splat, its own rotation, they are spared: their splats are round.  Times run 0 to 1, frame RDF (y down).
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable

import numpy as np
import samples
from numpy.typing import NDArray

from vivant.backends.gaussian.axes import change_axes
from vivant.backends.gaussian.cloud import SplatCloud
from vivant.backends.gaussian.fit import fit_linear
from vivant.backends.gaussian.formats import read_splats, write_splats
from vivant.backends.gaussian.motion.control_nodes import ControlNodes, Nodes
from vivant.backends.gaussian.motion.deformation import DEPTH, ENCODED_POINT, SKIP, WIDTH, Deformable, DeformationNetwork
from vivant.backends.gaussian.motion.hexplane import PAIRS, HexPlane, HexPlaneNetwork
from vivant.backends.gaussian.motion.layers import Linear as Layer
from vivant.backends.gaussian.motion.ndgs import LAMBDA, Ndgs
from vivant.backends.gaussian.motion.refined import Refined, RefinementNetwork
from vivant.backends.gaussian.motion.rotor4d import REACH, Rotor4D
from vivant.backends.gaussian.motion.stg_full import Decoder, StgFull
from vivant.backends.gaussian.sh import to_base, to_rgb

Array = NDArray[np.floating]

FLOOR = -0.1  # y; what lies above the floor moves, RDF
STEPS = 24  # stretches in which networks know the time
SLICES = 7
ENCODED = ENCODED_POINT + 21  # of point and time


def angle(time: Array) -> Array:
    """How far the knot has turned about y since the middle of the clip, radians."""
    return -samples.TURN * (time - 0.5)


def drop(time: Array) -> Array:
    """How far the knot is below its place in the middle of the clip."""
    return samples.LEAP * np.square(2 * time - 1)


def still() -> SplatCloud:
    return change_axes(samples.still_cloud(), "RDF")


def linear() -> SplatCloud:
    return fit_linear(samples.moving_cloud(), 8).cloud


def stg() -> SplatCloud:
    return samples.moving_cloud()


def stg_full() -> SplatCloud:
    """The knot's colours pass from gold to blue as it flies; what lies to the camera's right is a little lighter."""
    cloud = samples.moving_cloud()
    lite = cloud.family
    moves = np.abs(lite.velocity).sum(axis=(1, 2)) > 0
    hidden, output = np.zeros((6, 12)), np.zeros((3, 6))
    hidden[0, 3], hidden[1, 3], hidden[2, 9] = 1, -1, 1  # d, -d, x of the ray
    output[:, 0], output[:, 1], output[:, 2] = (-5, -1, 5), (4, 0.5, -5), (0.8, 0.8, 0.8)
    temporal = np.outer(moves, [1, 0, 0]).astype(np.float32)
    motion = (lite.velocity, lite.spin, lite.center, lite.width, lite.time_range)
    return cloud.replace(family=StgFull(*motion, np.zeros_like(temporal), temporal, Decoder(hidden, output)))


def slices(cloud: SplatCloud) -> tuple[SplatCloud, Array, Array, Array]:
    """A moving cloud at SLICES times, velocities (N, 3), centers (N,) and widths (N,) of their bells; what rests once."""
    rests = np.abs(cloud.family.velocity).sum(axis=(1, 2)) == 0
    rests &= cloud.at(0.5).opacities > 0.5
    parts, columns = (
        [cloud.select(rests).at(0.5)],
        [(np.zeros((rests.sum(), 3)), np.zeros(rests.sum()), np.full(rests.sum(), 1e4))],
    )
    moving = cloud.select(~rests)
    for center in np.linspace(0, 1, SLICES):
        now, ahead, behind = (moving.at(time) for time in (center, min(center + 0.01, 1), max(center - 0.01, 0)))
        velocity = (ahead.means - behind.means) / (min(center + 0.01, 1) - max(center - 0.01, 0))
        seen = now.opacities > 0.05
        parts.append(now.select(seen))
        columns.append((velocity[seen], np.full(seen.sum(), center), np.full(seen.sum(), 0.75 / SLICES)))
    joined = {
        name: np.concatenate([getattr(p, name) for p in parts]) for name in ("means", "quats", "scales", "opacities", "sh")
    }
    velocity, center, width = (np.concatenate(column).astype(np.float32) for column in zip(*columns, strict=True))
    return parts[0].replace(**joined), velocity, center, width


def rotor4d() -> SplatCloud:
    cloud, velocity, center, width = slices(samples.moving_cloud())
    reach = np.float32(REACH) * width
    return cloud.replace(family=Rotor4D(velocity, center, width, center - reach, center + reach))


def six() -> SplatCloud:
    """The knot in two coats, one seen from the left, the other from the right."""
    cloud = samples.moving_cloud().at(samples.MOMENT)
    cloud = cloud.select(cloud.opacities > 0.05)
    count = len(cloud)
    return two_coats(cloud, np.zeros((count, 3), np.float32), np.zeros(count, np.float32), np.full(count, np.inf, np.float32))


def seven() -> SplatCloud:
    return two_coats(*slices(samples.moving_cloud()))


def two_coats(cloud: SplatCloud, velocity: Array, center: Array, width: Array) -> SplatCloud:
    """Every splat above the floor twice, in colours of its own for either side; times and velocities as they are."""
    coated = cloud.means[:, 1] < FLOOR
    order = np.concatenate([np.arange(len(cloud)), np.flatnonzero(coated)])
    second = np.arange(len(order)) >= len(cloud)
    side = np.where(second, 1.0, np.where(coated[order], -1.0, 0.0))
    doubled = cloud.select(order)
    rgb = to_rgb(doubled.sh[:, 0])
    light = rgb.mean(axis=1, keepdims=True)
    rgb = np.where(second[:, None], light * [0.35, 1.0, 1.6], np.where(coated[order, None], light * [1.7, 1.0, 0.3], rgb))
    towards = np.stack([-0.45 * side, np.full(len(order), 0.25), np.ones(len(order))], axis=1)
    towards /= np.linalg.norm(towards, axis=1, keepdims=True)
    fall = np.where(side == 0, 1e-3, 2.4)[:, None, None] * np.eye(3)
    shares = np.full(len(order), LAMBDA, np.float32)
    nothing = np.zeros((len(order), 3), np.float32)
    family = Ndgs(
        towards.astype(np.float32), np.zeros((len(order), 3, 3), np.float32), fall.astype(np.float32), nothing, shares,
        velocity[order], center[order], width[order], shares,
    )  # fmt: skip
    return doubled.replace(sh=to_base(np.clip(rgb, 0, 1))[:, None], family=family)


# ---- networks


def canonical(time: float = 0.5) -> tuple[SplatCloud, dict[str, Array]]:
    """Knot and stage at a time as round splats, and what every family of networks keeps of each."""
    cloud = samples.moving_cloud()
    cloud = cloud.at(time).select(cloud.at(0.5).opacities > 0.5)
    axis = np.hypot(cloud.means[:, 0], cloud.means[:, 2])
    cloud = cloud.select((axis < 0.72) | (cloud.means[:, 1] > FLOOR))
    cloud = cloud.replace(scales=np.repeat(np.cbrt(cloud.scales.prod(axis=1) / 0.3)[:, None], 3, axis=1))
    return cloud, {"points": cloud.means, "lengths": np.ones(len(cloud), np.float32)}


def hexplane() -> SplatCloud:
    """Features: what y is above the floor, times drop(t), x cos, x sin, z cos and z sin of the angle (cosines less 1)."""
    cloud, columns = canonical()
    box = np.float32([[-1.4, -2.6, -1.4], [1.4, 0.3, 1.4]])
    axes = [np.linspace(*box[:, i], 64) for i in range(3)] + [np.linspace(-1, 1, 2 * STEPS + 1)]
    time = np.maximum(axes[3], 0)  # a network's time runs over the upper half
    turn, fall = np.stack([np.cos(angle(time)) - 1, np.sin(angle(time))], axis=1), drop(time)
    planes = {pair: np.ones((len(axes[pair[1]]), len(axes[pair[0]]), 5), np.float32) for pair in PAIRS}
    planes[0, 1] *= (axes[1] < FLOOR)[:, None, None]
    planes[0, 3][..., 0] *= fall[:, None]
    planes[0, 3][..., 1:3] *= turn[:, None] * axes[0][None, :, None]
    planes[2, 3][..., 3:5] *= turn[:, None] * axes[2][None, :, None]
    shift = np.float32([[0, 1, 0, 0, 1], [1, 0, 0, 0, 0], [0, 0, -1, 1, 0]])
    both = np.eye(10, dtype=np.float32)
    trunk = Layer(both[:, :5] - both[:, 5:], np.zeros(10, np.float32))  # each feature and its negative pass the rectifiers
    head = Layer(both, np.zeros(10, np.float32)), Layer(np.hstack([shift, -shift]), np.zeros(3, np.float32))
    network = HexPlaneNetwork((tuple(planes[pair] for pair in PAIRS),), box, (trunk,), {"pos_deform": head})
    return cloud.replace(family=HexPlane(**columns, network=network, heads=("pos_deform",)))


def deformation(**answers: Callable[[Array], Array]) -> DeformationNetwork:
    """The network whose heads answer these functions of time (T,) -> (T, C) above the floor, and nothing below."""
    first, gate = np.zeros((WIDTH, ENCODED), np.float32), np.zeros((WIDTH, WIDTH), np.float32)
    bias, gate_bias = np.zeros(WIDTH, np.float32), np.zeros(WIDTH, np.float32)
    knots = np.linspace(0, 1, STEPS + 1)
    first[:2, 1], bias[:2] = -20, [20 * FLOOR, 20 * FLOOR - 1]  # their difference: 1 above the floor, 0 below
    first[2 : 2 + STEPS, ENCODED_POINT], bias[2 : 2 + STEPS] = 1, -knots[:-1]
    gate[:STEPS, 2 : 2 + STEPS] = np.eye(STEPS)
    gate[:STEPS, :2], gate_bias[:STEPS] = (2, -2), -2
    gate[STEPS, :2] = 1, -1
    same, unbiased = np.eye(WIDTH, dtype=np.float32), np.zeros(WIDTH, np.float32)
    layers = [Layer(first, bias), Layer(gate, gate_bias), *[Layer(same, unbiased)] * (DEPTH - 2)]
    layers[SKIP] = Layer(np.hstack([np.zeros((WIDTH, ENCODED), np.float32), same]), unbiased)
    heads = {}
    for name, answer in answers.items():
        values = np.asarray(answer(knots), np.float64)
        weight = np.zeros((values.shape[1], WIDTH), np.float32)
        slopes = np.diff(values, axis=0) * STEPS
        weight[:, :STEPS] = np.diff(slopes, axis=0, prepend=0).T
        weight[:, STEPS] = values[0]
        heads[name] = Layer(weight, np.zeros(len(weight), np.float32))
    return DeformationNetwork(tuple(layers), heads, ())


def nothing(size: int) -> Callable[[Array], Array]:
    return lambda time: np.zeros((len(time), size))


def along_y(values: Array) -> Array:
    return np.outer(values, [0, 1, 0])


def deformable() -> SplatCloud:
    """The kind with six degrees of freedom: a screw about y."""
    cloud, columns = canonical()
    network = deformation(
        branch_w=lambda time: along_y(angle(time)), branch_v=lambda time: along_y(drop(time)),
        gaussian_rotation=nothing(4), gaussian_scaling=nothing(3),
    )  # fmt: skip
    return cloud.replace(family=Deformable(**columns, network=network))


def control_nodes() -> SplatCloud:
    """Nodes on the knot's axis, which turn, and nodes on the stage, which stay."""
    cloud, columns = canonical()
    network = deformation(
        gaussian_warp=lambda time: along_y(drop(time)), gaussian_rotation=nothing(4), gaussian_scaling=nothing(3),
        local_rotation=lambda time: np.outer(np.cos(angle(time) / 2) - 1, [1, 0, 0, 0])
        + np.outer(np.sin(angle(time) / 2), [0, 0, 1, 0]),
    )  # fmt: skip
    places = np.float32([[0, -1.9, 0], [0, -1.5, 0], [0, -1.1, 0], [0.3, 0, 0], [-0.15, 0, 0.26], [-0.15, 0, -0.26]])
    nodes = Nodes(places, np.ones(6, np.float32), np.ones(6, np.float32), network)
    index, share = nodes.nearest(cloud.means)
    return cloud.replace(family=ControlNodes(**columns, nodes=nodes, index=index, share=share))


def refined() -> SplatCloud:
    """The network makes the knot leap, sway and breathe; it is seen best from the left."""
    cloud, columns = canonical(0.0)
    count = len(cloud)
    above = cloud.means[:, 1] < FLOOR
    hidden, bias = np.zeros((3, 11), np.float32), np.full(3, 20 * FLOOR, np.float32)
    hidden[:, 1] = -20  # all three above the floor only: height, height + sin(pi t), height + sin(2 pi t)
    hidden[1, 7], hidden[2, 9] = 1, 1
    waves = np.float32([[-1, 1, 0], [-1, 0, 1]])  # sin(pi t) and sin(2 pi t)
    outputs = {
        "mean": np.stack([0.3 * waves[1], -samples.LEAP * waves[0], 0 * waves[0]]),
        "time": np.zeros((1, 3)), "view": np.zeros((3, 3)),
        "shape": np.vstack([np.tile(0.4 * waves[0], (3, 1)), np.zeros((25, 3))]),
    }  # fmt: skip
    layers = {
        name: (Layer(hidden, bias), Layer(rows.astype(np.float32), np.zeros(len(rows), np.float32)))
        for name, rows in outputs.items()
    }
    sizes = np.column_stack([np.log(cloud.scales), np.repeat(np.where(above, -0.9, 5)[:, None], 3, axis=1), np.full(count, 4)])
    view, shares = np.tile(np.float32([0.45, 0.2, 0.87]), (count, 1)), np.full(count, LAMBDA, np.float32)
    return cloud.replace(
        family=Refined(
            **columns, network=RefinementNetwork(layers, 2), sizes=sizes.astype(np.float32),
            lower=np.zeros((count, 21), np.float32), view=view / np.linalg.norm(view[0]),
            center=np.full(count, 0.5, np.float32), view_lambda=shares, time_lambda=shares,
        )
    )  # fmt: skip


def numbered(folder: pathlib.Path) -> SplatCloud:
    """The clip as nine numbered files, written into a folder and read again."""
    folder.mkdir(parents=True, exist_ok=True)
    write_splats(samples.moving_cloud(), folder / "knot_####.ply", times=np.linspace(0, 1, 9))
    return read_splats(folder)
