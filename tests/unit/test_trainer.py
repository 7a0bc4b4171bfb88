# SPDX-License-Identifier: GPL-3.0-or-later
"""Training on pictures of a made scene: it is found again, motion needs moving splats, and a stop loses nothing."""

import json

import numpy as np
import pytest

from vivant.backends.common.cameras import Camera, intrinsics
from vivant.backends.common.errors import BrokenFile
from vivant.backends.gaussian.render.reference import render

pytest.importorskip("numba", reason="compiles the rasteriser")
pytest.importorskip("scipy", reason="finds neighbours")
Image = pytest.importorskip("PIL.Image", reason="writes the pictures")
from vivant.backends.gaussian.render import cpu  # noqa: E402
from vivant.backends.gaussian.train import trainer, views  # noqa: E402

SIZE, FOCAL = 64, 80.0
SHORT = trainer.Preset(steps=500, seconds=1e9, splats=1500, degree=1)


def look_from(angle, height):
    """A camera 4 m from the origin, OpenCV axes."""
    centre = 4 * np.array([np.cos(angle) * np.cos(height), np.sin(angle) * np.cos(height), np.sin(height)])
    forward = -centre / 4
    right = np.cross(forward, [0, 0, 1])
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.column_stack([right, np.cross(forward, right), forward])
    pose[:3, 3] = centre
    return Camera(intrinsics(FOCAL, FOCAL, SIZE / 2, SIZE / 2), pose, SIZE, SIZE)


def shoot(folder, moving, count=28):
    """Pictures of 30 coloured balls; moving ones go through half a swing, seen from several sides at six times."""
    random = np.random.default_rng(11)
    places, colours = random.uniform(-0.7, 0.7, (30, 3)), random.uniform(0, 1, (30, 3))
    swing = random.normal(size=(30, 3)) * 0.35
    covariances = np.tile(0.12**2 * np.eye(3)[[0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 2, 2]], (30, 1))
    splits = {"train": [], "test": []}
    for index in range(count):
        time = index % 6 / 5 if moving else 0.0
        camera = look_from(2.4 * index, 0.5 * np.sin(1.7 * index))
        means = places + swing * np.sin(np.pi * time) if moving else places
        made = cpu.draw(means, covariances, np.full(30, 0.95), colours, camera)
        straight = made.features / np.maximum(made.alpha, 1e-6)[..., None]
        pixels = np.concatenate([np.clip(straight, 0, 1), made.alpha[..., None]], axis=2)
        Image.fromarray((pixels * 255 + 0.5).astype(np.uint8)).save(folder / f"{index}.png")
        pose = camera.camera_to_world * [1, -1, -1, 1]
        frame = {"file_path": f"./{index}", "time": time, "transform_matrix": pose.tolist()}
        splits["test" if index % 7 == 2 else "train"].append(frame)
    angle = 2 * np.arctan(SIZE / 2 / FOCAL)
    for name, frames in splits.items():
        (folder / f"transforms_{name}.json").write_text(json.dumps({"camera_angle_x": angle, "frames": frames}))
    return views.read(folder)


def test_a_still_scene_is_found_again_in_500_steps(tmp_path):
    shot = shoot(tmp_path, moving=False)
    model, report = trainer.train(shot, SHORT)
    assert report.psnr > 30
    assert report.ssim > 0.95
    assert report.splats == len(model) <= SHORT.splats
    assert report.curve[-1][2] > report.curve[0][2]


def test_moving_splats_are_far_better_than_still_ones_where_things_move(tmp_path):
    shot = shoot(tmp_path, moving=True, count=48)
    longer = trainer.Preset(steps=900, seconds=1e9, splats=1500, degree=0)
    _, still = trainer.train(shot, longer, "still")
    model, moving = trainer.train(shot, longer)
    assert moving.psnr > still.psnr + 5
    cloud = model.cloud(still=False)
    posed = shot.test[0]
    shown = trainer.View(model, posed.camera, posed.time, np.zeros(3, np.float32)).picture
    played = render([(cloud.at(posed.time, posed.camera.camera_to_world[:3, 3]), posed.camera)])[..., :3]
    np.testing.assert_allclose(shown, played, atol=5e-3)


class Stopped(Exception):
    pass


def test_a_training_that_was_stopped_goes_on_and_ends_as_well(tmp_path):
    shot = shoot(tmp_path, moving=False)
    whole = trainer.train(shot, SHORT)[1]
    path = tmp_path / "checkpoint.npz"
    half = trainer.Preset(steps=250, seconds=1e9, splats=SHORT.splats, degree=1)
    trainer.train(shot, half, checkpoint=path)
    state = trainer.load(path)
    assert state.step == 250

    def stop(state, share):
        raise Stopped

    with pytest.raises(Stopped):
        trainer.train(shot, SHORT, checkpoint=path, watch=stop)
    assert trainer.load(path).step == 250  # nothing was torn
    resumed = trainer.train(shot, SHORT, checkpoint=path)[1]
    assert resumed.steps == SHORT.steps
    assert resumed.psnr == pytest.approx(whole.psnr, abs=1.5)


def test_the_same_seed_gives_the_same_splats(tmp_path):
    shot = shoot(tmp_path, moving=False)
    brief = trainer.Preset(steps=60, seconds=1e9, splats=800, degree=0)
    first, second = (trainer.train(shot, brief, seed=3)[0] for _ in range(2))
    np.testing.assert_array_equal(first.parameters, second.parameters)


def test_a_damaged_checkpoint_is_named(tmp_path):
    path = tmp_path / "checkpoint.npz"
    path.write_bytes(b"PK\x03\x04 not a checkpoint")
    with pytest.raises(BrokenFile, match="no checkpoint"):
        trainer.load(path)
