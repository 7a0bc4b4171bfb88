# SPDX-License-Identifier: GPL-3.0-or-later
"""How exactly *Apply Transform to Splats* and *Mirror* keep the picture, from the button to the file: PSNR in dB.

    python3 dev.py bench splats_edit [FILE …] [--size W H]

For every file, and a made-up scene of SH degree 3: the object is turned, placed or sized, or stretched by a parent; the
transform is applied, the splats are exported and read back, and drawn by the float64 rasteriser through three cameras.  A
turn, a size and a place are compared with the capture as it was, seen through a camera that moved the other way; a mirror
with the mirrored picture; a stretch with splats whose covariances are multiplied out and taken apart by LAPACK, and whose
colours are looked up in the capture as it was, in the direction that the stretch's polar rotation (by Newton's iteration)
turned.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import pathlib
import sys
import tempfile
from collections.abc import Iterator, Sequence

import bpy
import numpy as np
from mathutils import Euler, Matrix
from numpy.typing import NDArray

from vivant import api
from vivant.backends.common.cameras import Camera
from vivant.backends.common.rotations import from_matrix, matrix
from vivant.backends.gaussian import sh
from vivant.backends.gaussian.cloud import SplatCloud
from vivant.backends.gaussian.render.reference import render
from vivant.scene import pointclouds

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tools"))
import samples

Doubles = NDArray[np.float64]
BAR = 60.0  # dB
SIDES = ((-0.5, -1.0, 0.4), (1.0, 0.3, 0.15), (-0.2, 0.6, -0.8))
TURN = Euler((0.5, -0.7, 1.1))
EDITS = {  # matrices of a parent and of the splats in it
    "turned": (Matrix(), Matrix.LocRotScale(None, TURN, None)),
    "turned, placed, sized": (Matrix(), Matrix.LocRotScale((0.3, -0.2, 0.1), TURN, (1.3, 1.3, 1.3))),
    "stretched askew": (Matrix.LocRotScale((0.3, -0.2, 0.1), None, (1.6, 0.6, 1.0)), Matrix.LocRotScale(None, TURN, None)),
}


def look(points: Doubles, away: Sequence[float], size: tuple[int, int]) -> Camera:
    """A 35 mm camera in the world that sees the middle of points (N, 3) from a side, Z up in the picture."""
    low, high = np.percentile(points, [2, 98], axis=0)
    ahead = -np.array(away) / np.linalg.norm(away)
    right = np.cross(ahead, [0.0, 0, 1])
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(ahead, right), ahead], axis=1)
    pose[:3, 3] = (low + high) / 2 - 1.2 * ahead * np.linalg.norm(high - low)
    focal = 35 / 36 * size[0]
    lens = np.array([[focal, 0, size[0] / 2], [0, focal, size[1] / 2], [0, 0, 1]])
    return Camera(lens, pose, *size, near=0.01)


def through(camera: Camera, world: Doubles) -> Camera:
    """A camera of the world in coordinates that `world` (4, 4), without stretch, takes there; distances may be scaled."""
    pose = np.linalg.inv(world) @ camera.camera_to_world
    pose[:3, :3] /= np.cbrt(np.linalg.det(pose[:3, :3]))
    return dataclasses.replace(camera, camera_to_world=pose)


def stretched(cloud: SplatCloud, world: Doubles, camera: Camera) -> SplatCloud:
    """A cloud under any affine map, as one camera sees it: the definition, splat by splat, nothing of the edit's code."""
    linear = world[:3, :3]
    means = cloud.means @ linear.T + world[:3, 3]
    axes = matrix(cloud.quats.astype(np.float64)) * cloud.scales[:, None, :]
    spread = linear @ axes @ axes.transpose(0, 2, 1) @ linear.T
    values, vectors = np.linalg.eigh(spread)
    vectors *= np.linalg.det(vectors)[:, None, None]
    polar = linear
    for _ in range(40):
        polar = (polar + np.linalg.inv(polar).T) / 2
    seen = (means - camera.camera_to_world[:3, 3]) @ polar
    weights = sh.basis(seen / np.linalg.norm(seen, axis=1, keepdims=True), cloud.sh.shape[1])
    colours = np.einsum("nk,nkc->nc", weights, cloud.sh)[:, None] / sh.basis(np.array([[0.0, 0, 1]]), 1)
    return SplatCloud(means, from_matrix(vectors), np.sqrt(np.maximum(values, 0)), cloud.opacities, colours)


def edited(splats: bpy.types.Object, edit: str) -> tuple[SplatCloud, Doubles]:
    """What a file holds of an object's splats after an edit by its button, and where it stands when it is read (4, 4)."""
    for other in bpy.context.scene.objects:
        other.select_set(other == splats)
    bpy.context.view_layer.objects.active = splats
    if edit in EDITS:
        splats.parent = parent = bpy.data.objects.new("Parent", None)
        bpy.context.scene.collection.objects.link(parent)
        parent.matrix_basis, own = EDITS[edit]
        splats.matrix_basis = own @ splats.matrix_basis
        bpy.context.view_layer.update()
        bpy.ops.vivant.splats_apply()
    else:
        bpy.ops.vivant.splats_mirror(axis="X")
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "edited.ply"
        api.write_splats(api.cloud_of(splats), path)
        again = api.import_splats(path)
        return api.cloud_of(again), np.array(again.matrix_world)


def measure(name: str, cloud: SplatCloud, size: tuple[int, int]) -> Iterator[bool]:
    """Print the PSNR of each edit from every side, and tell whether each reaches the bar."""
    for edit in (*EDITS, "mirrored"):
        bpy.ops.wm.read_factory_settings(use_empty=True)
        splats = pointclouds.add(bpy.context, cloud)
        bpy.context.view_layer.update()
        before, upright = api.cloud_of(splats), np.array(splats.matrix_world)
        change = np.array(EDITS[edit][0] @ EDITS[edit][1]) if edit in EDITS else np.diag([-1.0, 1, 1, 1])
        after, placed = edited(splats, edit)
        scores = []
        for away in SIDES:
            camera = look(after.means @ placed[:3, :3].T + placed[:3, 3], away, size)
            found = render([(after, through(camera, placed))])
            if edit == "mirrored":
                pose = change @ camera.camera_to_world @ change
                twin = through(dataclasses.replace(camera, camera_to_world=pose), upright)
                truth = render([(before, twin)])[:, ::-1]
            elif edit == "stretched askew":
                truth = render([(stretched(before, change @ upright, camera), camera)])
            else:
                truth = render([(before, through(camera, change @ upright))])
            scores.append(-10 * np.log10(max(np.square(found.clip(0, 1) - truth.clip(0, 1)).mean(), 1e-20)))
        print(f"  {name:<24} {edit:<24} {'  '.join(f'{score:6.1f}' for score in scores)}   >= {BAR:.0f}", flush=True)
        yield min(scores) >= BAR


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=pathlib.Path, nargs="*", help="splat files that do not move")
    parser.add_argument("--size", type=int, nargs=2, default=(160, 120), help="picture, pixels")
    options = parser.parse_args()
    from vivant import registration

    registration.register()
    clouds = {"made up, SH degree 3": samples.still_cloud()} | {path.name: api.read_splats(path) for path in options.files}
    print(f"Blender {bpy.app.version_string}, {options.size[0]} x {options.size[1]}; PSNR in dB from three sides, and the bar")
    missed = sum(not reached for name, cloud in clouds.items() for reached in measure(name, cloud, tuple(options.size)))
    sys.stdout.flush()
    os._exit(bool(missed))  # Blender 4.5 as a module may hang at a normal exit


if __name__ == "__main__":
    main()
