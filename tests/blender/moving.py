# SPDX-License-Identifier: GPL-3.0-or-later
"""Clouds of every closed-form family, made up, as objects, and what Blender makes of them."""

import bpy
import numpy as np

from vivant.backends.common.rotations import normalise
from vivant.backends.gaussian.cloud import SplatCloud
from vivant.backends.gaussian.motion import ndgs
from vivant.backends.gaussian.motion.linear import Linear
from vivant.backends.gaussian.motion.rotor4d import Rotor4D
from vivant.backends.gaussian.motion.stg import Stg
from vivant.backends.gaussian.motion.stg_full import Decoder, StgFull
from vivant.scene import pointclouds

COUNT = 400


def made(kind: str) -> SplatCloud:
    rng = np.random.default_rng(11)

    def normal(*shape):
        return rng.normal(size=(COUNT, *shape)).astype(np.float32)

    means, quats, scales = normal(3), normalise(normal(4)), np.exp(0.5 * normal(3) - 2)
    center, width = rng.uniform(0, 1, COUNT).astype(np.float32), np.exp(0.5 * normal() - 1)
    width[::7] = np.inf
    colours = 0.3 * normal(16 if "waves" in kind else 4, 3)
    first = np.where(rng.random(COUNT) < 0.5, -np.inf, 0.3217).astype(np.float32)
    last = np.where(rng.random(COUNT) < 0.5, np.inf, 0.8163).astype(np.float32)
    if kind == "STG":
        family = Stg(normal(3, 3), 0.5 * normal(4), center, np.minimum(width, 1e6), (0.0, 1.0))
    elif kind.startswith("STG full"):
        decoder = Decoder(0.5 * normal(12)[:6], 0.5 * normal(6)[:3], "clamped" not in kind)
        decoder = None if "without" in kind else decoder
        colours = colours[:, :1]
        family = StgFull(
            normal(3, 3), 0.5 * normal(4), center, np.minimum(width, 1e6), (0.0, 1.0), normal(3), normal(3), decoder
        )
    elif kind == "Linear":
        family = Linear(normal(3), center, width, first, last, (0.0, 1.3))
    elif kind.startswith("4DGS"):
        waves = 0.2 * normal(2, 16, 3) if "waves" in kind else np.empty((COUNT, 0, 1, 3), np.float32)
        family = Rotor4D(normal(3), center, width, first, last, (-0.5, 2.0), waves)
    else:
        dims = int(kind[0])
        factors = 0.3 * rng.normal(size=(COUNT, dims, dims))
        joint = factors @ factors.transpose(0, 2, 1) + 0.03 * np.eye(dims)
        towards = normal(3)
        towards /= np.linalg.norm(towards, axis=1, keepdims=True)
        shares = rng.uniform(0.1, 0.9, (2, COUNT))
        timed = (center, shares[0], shares[1]) if dims == 7 else (None, shares[0], None)
        quats, scales, family = ndgs.condition(joint, towards, *timed)
    return SplatCloud(means, quats, scales, rng.uniform(0.1, 1, COUNT), colours, family=family)


def placed(scene: bpy.types.Scene, cloud: SplatCloud) -> bpy.types.Object:
    splats = pointclouds.to_object(cloud, "Splats", start_frame=5, frames=40)
    scene.collection.objects.link(splats)
    splats.rotation_euler, splats.location, splats.scale = (0.2, -0.4, 0.7), (0.1, 0.05, -0.1), (0.9, 0.9, 0.9)
    bpy.context.view_layer.update()
    return splats


def evaluated(splats: bpy.types.Object) -> SplatCloud:
    geometry = splats.evaluated_get(bpy.context.evaluated_depsgraph_get()).evaluated_geometry()
    return pointclouds.read(geometry.pointcloud)
