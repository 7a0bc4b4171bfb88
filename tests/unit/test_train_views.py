# SPDX-License-Identifier: GPL-3.0-or-later
"""Folders of posed pictures: what is read of them, and what stops before training begins."""

import json
import math
import zipfile

import numpy as np
import pytest

from vivant.backends.common import room
from vivant.backends.common.camera_files import colmap
from vivant.backends.common.cameras import Camera, CameraSet, View, intrinsics
from vivant.backends.common.errors import BrokenFile, UnsupportedFormat, VivantError
from vivant.backends.gaussian.train import overlap, pictures, views

Image = pytest.importorskip("PIL.Image", reason="Pillow reads the pictures")

ANGLE = 0.7


def pose_on_ring(angle, radius=4.0, height=1.0):
    """Camera to world (4, 4), OpenGL axes, looking at the origin."""
    eye = np.array([radius * math.cos(angle), radius * math.sin(angle), height])
    back = eye / np.linalg.norm(eye)
    right = np.cross([0, 0, 1], back)
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.column_stack([right, np.cross(back, right), back])
    pose[:3, 3] = eye
    return pose


@pytest.fixture
def folder(tmp_path):
    """Six pictures to train on and two held out, of times 0 to 1, in D-NeRF's layout."""
    rng = np.random.default_rng(3)
    for split, count in (("train", 6), ("test", 2)):
        (tmp_path / split).mkdir()
        frames = []
        for index in range(count):
            Image.fromarray(rng.integers(0, 256, (24, 32, 4), np.uint8)).save(tmp_path / split / f"r_{index}.png")
            pose = pose_on_ring(2 * math.pi * index / count + (split == "test"))
            time = index / max(count - 1, 1)
            frames.append({"file_path": f"./{split}/r_{index}", "time": time, "transform_matrix": pose.tolist()})
        content = {"camera_angle_x": ANGLE, "frames": frames, "frame_range": [10, 35]}
        (tmp_path / f"transforms_{split}.json").write_text(json.dumps(content))
    return tmp_path


def change(folder, edit, split="train"):
    path = folder / f"transforms_{split}.json"
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def test_dnerf_folder_gives_cameras_times_and_splits(folder):
    change(folder, lambda content: content["frames"][2].update(depth_file_path="train/r_2_depth.exr"))
    found = views.read(folder)
    assert len(found.train) == 6
    assert len(found.test) == 2
    assert found.axes == "RFU"
    assert found.size == (32, 24)
    assert found.moving
    assert found.frames == (10, 35)
    assert [posed.time for posed in found.train] == pytest.approx(np.arange(6) / 5)
    camera = found.train[1].camera
    assert camera.intrinsics[0, 0] == pytest.approx(16 / math.tan(ANGLE / 2))
    np.testing.assert_allclose(camera.camera_to_world[:3, 2], -pose_on_ring(2 * math.pi / 6)[:3, 2], atol=1e-12)
    assert found.train[2].passes == {"depth": str(folder / "train/r_2_depth.exr")}
    np.testing.assert_allclose(found.box.mean(axis=0), 0, atol=0.02)
    assert found.extent == pytest.approx(1.1 * 4)


def test_pictures_are_premultiplied_display_values(folder):
    found = views.read(folder)
    straight = np.asarray(Image.open(found.train[0].path), np.float64) / 255
    expected = np.concatenate([straight[..., :3] * straight[..., 3:], straight[..., 3:]], axis=-1)
    np.testing.assert_allclose(pictures.read(found.train[0].path), expected, atol=1e-6)
    kept = found.pictures()
    kept.read_all()
    assert kept[0].dtype == np.float32
    np.testing.assert_allclose(kept[0], expected, atol=1 / 255 / 8)


@pytest.mark.parametrize("reduction", [2, 4, 8])
def test_a_reduced_picture_and_its_camera_belong_together(folder, reduction):
    posed = views.read(folder).train[3]
    small = pictures.read(posed.path, reduction)
    camera = posed.camera_at(reduction)
    assert small.shape == (camera.height, camera.width, 4)
    full = pictures.read(posed.path).astype(np.float64)
    np.testing.assert_allclose(small[0, 1], full[:reduction, reduction : 2 * reduction].mean(axis=(0, 1)), atol=1e-6)
    np.testing.assert_allclose(camera.intrinsics[:2], posed.camera.intrinsics[:2] / reduction)


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "LA", "I;16"])
def test_pictures_of_every_kind_are_opaque_where_they_have_no_alpha(tmp_path, mode):
    grey = np.arange(0, 256, 16, np.uint8).reshape(4, 4)
    source = Image.fromarray(grey.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(grey).convert(mode)
    source.save(tmp_path / "a.png")
    picture = pictures.read(tmp_path / "a.png")
    np.testing.assert_allclose(picture[..., 0], grey / 255, atol=1e-4)
    assert (picture[..., 3] == 1).all()


def test_times_of_all_splits_are_measured_alike(folder):
    """Frame numbers in place of times: 5 of 0 to 10 is the middle in either file."""
    for split, times in (("train", [0, 2, 4, 6, 8, 10]), ("test", [5, 10])):
        change(
            folder,
            lambda content, times=times: [f.update(time=t) for f, t in zip(content["frames"], times, strict=True)],
            split,
        )
    assert [posed.time for posed in views.read(folder).test] == [0.5, 1.0]


def _nan_pose(content):
    content["frames"][4]["transform_matrix"][0][3] = float("nan")


def _singular_pose(content):
    content["frames"][4]["transform_matrix"][1] = content["frames"][4]["transform_matrix"][0]


def _one_frame(content):
    del content["frames"][1:]


def _one_place(content):
    for frame in content["frames"]:
        for row in range(3):
            frame["transform_matrix"][row][3] = 2.0


def _outwards(content):
    for index, frame in enumerate(content["frames"]):
        pose = pose_on_ring(2 * math.pi * index / 6, height=0.0)
        pose[:3, [0, 2]] *= -1
        frame["transform_matrix"] = pose.tolist()


def _without_lens(content):
    del content["camera_angle_x"]


def _outside(content):
    content["frames"][0]["file_path"] = "../../etc/passwd"


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (_nan_pose, "pose or the lens of 'train/r_4.png'"),
        (_singular_pose, "pose or the lens of 'train/r_4.png'"),
        (_one_frame, "one picture"),
        (_one_place, "from one place"),
        (_outwards, "6 of 6 pictures show nothing that another one shows"),
        (_without_lens, "holds no sound numbers|sound pose and lens"),
        (_outside, "missing"),
    ],
)
def test_a_bad_list_of_cameras_stops_with_a_sentence_and_a_remedy(folder, edit, said):
    change(folder, edit)
    with pytest.raises(VivantError, match=said) as caught:
        views.read(folder)
    assert caught.value.hint


def test_a_missing_picture_is_named(folder):
    (folder / "train" / "r_3.png").unlink()
    with pytest.raises(VivantError, match=r"train/r_3.*missing"):
        views.read(folder)


def test_a_picture_of_another_size_is_named_with_both_sizes(folder):
    Image.new("RGB", (30, 24)).save(folder / "train" / "r_5.png")
    with pytest.raises(VivantError, match=r"r_5\.png' has 30 x 24 pixels, not 32 x 24"):
        views.read(folder)


@pytest.mark.parametrize("keep", [0, 20, 0.6])
def test_a_broken_picture_is_named_before_training(folder, keep):
    """Empty and headless pictures when the folder is read, cut ones when the pictures are."""
    path = folder / "train" / "r_2.png"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if keep < 1 else keep])
    with pytest.raises(BrokenFile, match=r"r_2\.png' is broken"):
        views.read(folder).pictures().read_all()


def test_a_folder_without_cameras_is_refused(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(UnsupportedFormat, match="without cameras"):
        views.read(tmp_path)
    with pytest.raises(VivantError, match="no folder"):
        views.read(tmp_path / "nothing")


def test_too_little_memory_or_disk_is_said_before(folder, monkeypatch):
    found = views.read(folder)
    found.require_room(folder=folder, disk=1000)
    monkeypatch.setattr(room, "free_memory", lambda: 5_000_000)
    with pytest.raises(VivantError, match=r"needs 7 MB of memory, and 5 MB are free"):
        found.require_room(memory=6.9e6)
    with pytest.raises(VivantError, match="on the disk"):
        found.require_room(folder=folder / "not" / "made", disk=1e18)


def test_the_system_says_how_much_memory_is_free():
    assert 1e6 < room.free_memory() < 1e14


@pytest.mark.parametrize("binary", [False, True])
def test_colmap_folder_gives_points_and_holds_every_eighth_out(tmp_path, binary):
    model = tmp_path / "sparse" / "0"
    (tmp_path / "images").mkdir()
    made = []
    for index in range(9):
        pose = pose_on_ring(index)
        pose[:3, 1:3] *= -1
        made.append(View(Camera(intrinsics(40, 41, 16, 12), pose, 32, 24), f"{index}.jpg"))
        Image.new("RGB", (32, 24)).save(tmp_path / "images" / f"{index}.jpg")
    colmap.write(CameraSet(tuple(made)), model)
    places, colours = np.random.default_rng(5).normal(size=(200, 3)), np.arange(600).reshape(200, 3) % 256
    if binary:
        rows = [
            np.uint64(i).tobytes() + places[i].tobytes() + bytes(colours[i].tolist()) + np.float64(0.5).tobytes()
            + np.uint64(i % 3).tobytes() + bytes(8 * (i % 3))
            for i in range(200)
        ]  # fmt: skip
        (model / "points3D.bin").write_bytes(np.uint64(200).tobytes() + b"".join(rows))
        (model / "points3D.txt").unlink()
    else:
        lines = [f"{i} {' '.join(map(str, places[i]))} {' '.join(map(str, colours[i]))} 0.5 1 2\n" for i in range(200)]
        (model / "points3D.txt").write_text("# comment\n" + "".join(lines))
    found = views.read(tmp_path)
    assert [posed.name for posed in found.test] == ["0.jpg", "8.jpg"]
    assert not found.moving
    np.testing.assert_allclose(found.points, places, rtol=1e-6)
    np.testing.assert_allclose(found.colours, colours / 255, rtol=1e-6)
    assert (np.abs(found.box) < 4).all()
    if binary:
        (model / "points3D.bin").write_bytes((model / "points3D.bin").read_bytes()[:-5])
        with pytest.raises(BrokenFile, match="points3D"):
            views.read(tmp_path)
    (tmp_path / "images" / "4.jpg").unlink()
    (model / "points3D.bin").unlink(missing_ok=True)
    with pytest.raises(VivantError, match=r"4\.jpg"):
        views.read(tmp_path)


def test_parallel_cameras_look_ahead_of_them():
    poses = [np.eye(4) for _ in range(5)]
    for index, pose in enumerate(poses):
        pose[0, 3] = index - 2.0
    cameras = [Camera(intrinsics(100, 100, 50, 50), pose, 100, 100) for pose in poses]
    assert overlap.check(cameras) == []
    box, extent = overlap.extents(cameras)
    assert box.mean(axis=0)[2] == pytest.approx(extent, rel=0.1)


@pytest.mark.parametrize(
    ("name", "inner", "train", "test", "size"),
    [
        ("fox_jump", "fox_jump", 60, 15, (400, 400)),
        ("knight_strike", "knight_strike", 80, 15, (400, 400)),
        ("nerf_lego", "", 100, 25, (400, 400)),
        ("fox_photos", "fox_photos", 44, 6, (360, 640)),
    ],
)
def test_real_captures_are_read(data, tmp_path, name, inner, train, test, size):
    archive = data / "dynamic_scenes" / f"{name}.zip"
    zipfile.ZipFile(archive).extractall(tmp_path)
    found = views.read(tmp_path / inner)
    assert (len(found.train), len(found.test), found.size) == (train, test, size)
    assert found.moving == (name in ("fox_jump", "knight_strike"))
    assert any("distortion" in warning for warning in found.warnings) == (name == "fox_photos")
    if name != "fox_photos":  # of objects in a box about the origin, seen from four metres
        assert np.abs(found.box.mean(axis=0)).max() < 0.3
        assert 1.2 < np.ptp(found.box, axis=0).max() / 2 < 1.8
        assert 0 < found.pictures("test", 8)[0][..., 3].mean() < 0.6
