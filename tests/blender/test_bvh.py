# SPDX-License-Identifier: GPL-3.0-or-later
"""BVH files against Blender's own importer and exporter."""

import pathlib

import numpy as np
import pytest

bpy = pytest.importorskip("bpy", reason="needs Blender's Python module")

from vivant.backends.common import rotations as quaternions  # noqa: E402
from vivant.backends.motion.clip import Clip  # noqa: E402
from vivant.backends.motion.formats.bvh import read_bvh, write_bvh  # noqa: E402

REAL = ("cmu_07_12_walk_120fps", "cmu_13_40_jump_120fps", "fox_run", "bird_glide", "dragon_fly_flap", "deepmimic_backflip")


@pytest.fixture
def importer():
    """An empty factory file with Blender's BVH add-on."""
    import addon_utils

    bpy.ops.wm.read_factory_settings(use_empty=True)
    addon_utils.enable("io_anim_bvh")


def imported(path: pathlib.Path, **options: object) -> bpy.types.Object:
    """The armature that Blender makes of a file, in the file's own unit and axes."""
    bpy.ops.import_anim.bvh(filepath=str(path), axis_forward="Y", axis_up="Z", **options)
    return bpy.context.object


def heads(rig: bpy.types.Object, names: list[str], frames: range) -> np.ndarray:
    """World positions (F, J, 3) of the bones' heads."""
    positions = []
    for frame in frames:
        bpy.context.scene.frame_set(frame + 1)
        positions.append([rig.matrix_world @ rig.pose.bones[name].head for name in names])
    return np.array(positions)


def sampled(clip: Clip) -> range:
    return range(0, len(clip), max(1, len(clip) // 8))


@pytest.mark.parametrize("rotate_mode", ["QUATERNION", "NATIVE"])
@pytest.mark.parametrize("name", REAL)
def test_joints_of_real_files_are_where_blender_puts_them(importer, data, name, rotate_mode):
    path = data / "mocap" / "bvh" / f"{name}.bvh"
    clip = read_bvh(path)
    rig = imported(path, rotate_mode=rotate_mode, global_scale=0.01)
    frames = sampled(clip)
    expected = heads(rig, list(clip.names), frames)
    size = np.ptp(expected[0], axis=0).max()
    np.testing.assert_allclose(clip.forward(np.array(frames))[0], expected, atol=2e-5 * size)


def turning_clip() -> Clip:
    rng = np.random.default_rng(1)
    turn = np.cumsum(rng.normal(size=(12, 6, 3)) * 0.4, axis=0)
    offsets = rng.normal(size=(6, 3))
    travel = offsets[3] + np.cumsum(rng.normal(size=(12, 3)) * 0.1, axis=0)
    return Clip(
        ["hip", "spine", "head", "leg", "shin", "foot"], np.array([-1, 0, 1, 0, 3, 4]), offsets, 24,
        quaternions.exp(turn), np.cumsum(rng.normal(size=(12, 3)), axis=0), translations={3: travel},
    )  # fmt: skip


def test_blender_reads_what_we_write(importer, tmp_path):
    clip = turning_clip()
    write_bvh(clip, tmp_path / "clip.bvh")
    rig = imported(tmp_path / "clip.bvh", global_scale=0.01, update_scene_fps=True)
    assert bpy.context.scene.render.fps == 24
    np.testing.assert_allclose(heads(rig, list(clip.names), range(12)), clip.forward()[0], atol=1e-4)


@pytest.mark.parametrize("rotate_mode", ["XYZ", "ZXY", "YZX"])
def test_we_read_what_blender_writes(importer, tmp_path, rotate_mode):
    clip = turning_clip()
    write_bvh(clip, tmp_path / "ours.bvh")
    rig = imported(tmp_path / "ours.bvh", global_scale=0.01)
    bpy.ops.export_anim.bvh(filepath=str(tmp_path / "theirs.bvh"), frame_start=1, frame_end=12, rotate_mode=rotate_mode)
    back = read_bvh(tmp_path / "theirs.bvh", scale=1.0)
    order = [list(back.names).index(name) for name in clip.names]
    np.testing.assert_allclose(back.forward()[0][:, order], heads(rig, list(clip.names), range(12)), atol=1e-4)
