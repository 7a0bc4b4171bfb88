# SPDX-License-Identifier: GPL-3.0-or-later
"""Camera files: what comes out is what went in, other programs read the same, damaged files end in a sentence."""

import json
import math
import struct
import warnings

import numpy as np
import pytest

from vivant.backends.common import rotations
from vivant.backends.common.camera_files import FORMATS, camera_losses, colmap, read_cameras, sound, write_cameras
from vivant.backends.common.cameras import Camera, CameraSet, View, intrinsics, project
from vivant.backends.common.errors import BrokenFile, UnsupportedFormat, VivantError


def made(count=5, seed=3, centred=False, level=False, square=False, times=None, path=False):
    """Cameras around the origin, OpenCV axes."""
    rng = np.random.default_rng(seed)
    views = []
    for index in range(count):
        eye = rng.normal(size=3)
        eye *= 3 / np.linalg.norm(eye)
        forward = -eye / 3
        down = np.array([0.0, 1.0, 0.0]) if level else rng.normal(size=3)
        right = np.cross(down, forward)
        right /= np.linalg.norm(right)
        pose = np.eye(4)
        pose[:3, :3] = np.column_stack([right, np.cross(forward, right), forward])
        pose[:3, 3] = eye
        fx = 500 + 10 * index
        centre = (320, 240) if centred else (311.5, 251.25)
        K = intrinsics(fx, fx if square else fx * 1.01, *centre)
        time = None if times is None else times[index]
        views.append(View(Camera(K, pose, 640, 480), f"picture_{index}.png", "", time))
    return CameraSet(tuple(views), path=path)


POINTS = np.random.default_rng(7).normal(size=(50, 3)) * 0.4


def assert_same(found, expected, pixels=1e-9):
    assert len(found) == len(expected)
    for a, b in zip(found.views, expected.views, strict=True):
        assert (a.camera.width, a.camera.height) == (b.camera.width, b.camera.height)
        assert np.abs(project(a.camera, POINTS) - project(b.camera, POINTS)).max() < pixels


@pytest.mark.parametrize("form", sorted(FORMATS))
def test_written_cameras_project_to_the_same_pixels_when_they_are_read(tmp_path, form):
    simple = form in ("INRIA", "SUPERSPLAT")
    cameras = made(centred=simple, square=form == "SUPERSPLAT", level=form == "SUPERSPLAT")
    name = {"COLMAP": "model", "INRIA": "cameras.json", "TRANSFORMS": "transforms.json", "SUPERSPLAT": "settings.json"}[form]
    assert camera_losses(cameras, form) == ()
    write_cameras(cameras, tmp_path / name)
    found = read_cameras(tmp_path / name, size=(640, 480))
    assert_same(found, cameras)
    assert not found.path and not found.warnings
    if form != "SUPERSPLAT":
        assert [view.name for view in found.views] == [view.name for view in cameras.views]


def test_a_path_keeps_its_times_in_seconds(tmp_path):
    cameras = made(4, centred=True, square=True, level=True, times=[0, 0.5, 1.25, 3], path=True)
    write_cameras(cameras, tmp_path / "settings.json")
    found = read_cameras(tmp_path, size=(640, 480))
    assert found.path
    assert [view.time for view in found.views] == pytest.approx([0, 0.5, 1.25, 3])
    assert_same(found, cameras)


def test_times_of_transforms_run_from_0_to_1(tmp_path):
    write_cameras(made(3, times=[0, 0.5, 2], path=True), tmp_path / "transforms.json")
    assert [view.time for view in read_cameras(tmp_path).views] == [0, 0.25, 1]


def test_times_that_count_frames_become_shares_of_the_clip(tmp_path):
    write_cameras(made(3, times=[0, 0.5, 1]), tmp_path / "transforms.json")
    content = json.loads((tmp_path / "transforms.json").read_text())
    for frame, time in zip(content["frames"], (10, 1e308, 30), strict=True):
        frame["time"] = time
    (tmp_path / "transforms.json").write_text(json.dumps(content))
    found = read_cameras(tmp_path)
    assert [view.time for view in found.views] == [0, None, 1]
    assert "10 to 30" in found.warnings[0]


def binary_model(folder, model=1, params=(500, 505, 311.5, 251.25), cameras=None, points=3):
    """A COLMAP model written by hand from the format's documentation."""
    cameras = cameras or made()
    folder.mkdir(parents=True, exist_ok=True)
    lens = struct.pack("<QiiQQ", 1, 7, model, 640, 480) + struct.pack(f"<{len(params)}d", *params)
    (folder / "cameras.bin").write_bytes(lens)
    out = struct.pack("<Q", len(cameras))
    for index, view in enumerate(cameras.views):
        to_camera = np.linalg.inv(view.camera.camera_to_world)
        quat = rotations.from_matrix(to_camera[:3, :3])
        out += struct.pack("<i7di", index + 1, *quat, *to_camera[:3, 3], 7) + view.name.encode() + b"\0"
        out += struct.pack("<Q", points) + struct.pack("<ddq", 1.5, 2.5, -1) * points
    (folder / "images.bin").write_bytes(out)
    return cameras


def test_a_binary_model_is_found_from_its_files_its_folder_and_its_data_set(tmp_path):
    model = tmp_path / "sparse" / "0"
    cameras = binary_model(model)
    for path in (model / "images.bin", model / "cameras.bin", model, tmp_path):
        found = read_cameras(path)
        for a, b in zip(found.views, cameras.views, strict=True):
            np.testing.assert_allclose(a.camera.camera_to_world, b.camera.camera_to_world, atol=1e-12)
            np.testing.assert_array_equal(a.camera.intrinsics, intrinsics(500, 505, 311.5, 251.25))
            assert a.name == b.name


@pytest.mark.parametrize("number", range(len(colmap.MODELS)))
def test_every_lens_model_gives_its_pinhole_and_names_what_is_lost(tmp_path, number):
    name, terms = list(colmap.MODELS.items())[number]
    values = {"f": 500, "fx": 500, "fy": 500, "cx": 320, "cy": 240}
    binary_model(tmp_path, number, [values.get(term, 0.01) for term in terms])
    if name == "EQUIRECTANGULAR":
        with pytest.raises(BrokenFile):
            read_cameras(tmp_path)
        return
    found = read_cameras(tmp_path)
    np.testing.assert_array_equal(found.views[0].camera.intrinsics, intrinsics(500, 500, 320, 240))
    assert [name in warning for warning in found.warnings] == ([] if "PINHOLE" in name else [True])


def test_the_distortion_that_is_lost_is_measured_in_pixels():
    # the corner lies at (0.64, 0.48), 0.8 from the axis: k1 moves it by 0.1 * 0.8 ** 3 focal lengths
    assert sound.bent_pixels((500, 500, 320, 240), (640, 480), {"k1": 0.1}) == pytest.approx(500 * 0.1 * 0.8**3)


def test_lines_of_points_in_images_txt_may_be_empty_and_comments_stand_anywhere(tmp_path):
    (tmp_path / "cameras.txt").write_text("# one\n1 SIMPLE_PINHOLE 640 480 500 320 240\n")
    lines = [
        "# head",
        "1 1 0 0 0 0 0 1 1 a b.png",
        "",
        "# note",
        "2 1 0 0 0 0 0 2 1 c.png",
        "5 5 -1 6 6 -1",
        "3 1 0 0 0 0 0 3 1 d.png",
    ]
    (tmp_path / "images.txt").write_text("\n".join(lines))
    found = read_cameras(tmp_path / "images.txt")
    assert [view.name for view in found.views] == ["a b.png", "c.png", "d.png"]
    assert [view.camera.camera_to_world[2, 3] for view in found.views] == [-1, -2, -3]


def test_nerf_files_without_sizes_take_them_from_the_pictures(tmp_path):
    (tmp_path / "r_0.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + struct.pack(">II", 400, 300))
    pose = np.diag([1.0, -1, -1, 1]).tolist()
    content = {"camera_angle_x": math.pi / 2, "frames": [{"file_path": "./r_0", "transform_matrix": pose, "time": 0.5}]}
    (tmp_path / "transforms_train.json").write_text(json.dumps(content))
    (view,) = read_cameras(tmp_path).views
    assert (view.camera.width, view.camera.height, view.time) == (400, 300, 0.5)
    np.testing.assert_allclose(view.camera.intrinsics, intrinsics(200, 200, 200, 150))
    np.testing.assert_allclose(view.camera.camera_to_world, np.eye(4))  # looks along +z with y down
    assert view.image.endswith("r_0.png")


def test_no_picture_outside_the_files_folder_is_named(tmp_path):
    (tmp_path / "secret.png").write_bytes(b"\x89PNG")
    inside = tmp_path / "set"
    inside.mkdir()
    for name in ("../secret.png", str(tmp_path / "secret.png"), "a/../../secret.png", "C:\\secret.png", "a\0b"):
        assert sound.picture(inside, name) == ""


def test_a_camera_that_is_nowhere_is_left_out_without_a_word_from_numpy(tmp_path):
    poses = [{"initial": {"position": [0, x, 3], "target": [-x, 2, 0], "fov": 90}} for x in (1, 1e200, -1.7e308)]
    (tmp_path / "settings.json").write_text(json.dumps({"version": 2, "animTracks": [], "cameras": poses}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(read_cameras(tmp_path).views) == 1


def test_supersplat_sees_the_capture_turned_by_half_a_turn_about_z(tmp_path):
    settings = {
        "version": 2,
        "animTracks": [],
        "cameras": [{"initial": {"position": [1, 2, 3], "target": [1, 2, 0], "fov": 90}}],
    }
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    (view,) = read_cameras(tmp_path, size=(400, 800)).views
    pose = view.camera.camera_to_world
    np.testing.assert_allclose(pose[:3, 3], [-1, -2, 3])
    np.testing.assert_allclose(pose[:3, 2], [0, 0, -1], atol=1e-12)  # forward
    np.testing.assert_allclose(pose[:3, 1], [0, 1, 0], atol=1e-12)  # down is down in a capture
    np.testing.assert_allclose(view.camera.intrinsics, intrinsics(400, 400, 200, 400))


def test_old_settings_count_seconds_and_share_one_angle(tmp_path):
    keys = {"times": [0, 2], "values": {"position": [0, 0, 1, 0, 0, 2], "target": [0] * 6}}
    settings = {"camera": {"fov": 60, "position": None}, "animTracks": [{"keyframes": keys, "loopMode": "repeat"}]}
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    found = read_cameras(tmp_path / "settings.json")
    assert [view.time for view in found.views] == [0, 2]
    assert found.views[0].camera.intrinsics[0, 0] == pytest.approx(960 / math.tan(math.radians(30)))
    assert "loop" in found.warnings[0]


def test_what_a_format_cannot_hold_is_said(tmp_path):
    assert "principal" in camera_losses(made(), "INRIA")[0]
    said = " ".join(camera_losses(made(), "SUPERSPLAT"))
    assert all(word in said for word in ("Shifted", "square", "rolls"))
    assert "Times" in camera_losses(made(times=[0] * 5), "COLMAP")[0]
    assert "Blanks" in camera_losses(CameraSet((View(made().views[0].camera, "a b.png"),)), "COLMAP")[0]
    flat = CameraSet((View(Camera(intrinsics(9, 9, 1, 1), np.eye(4), 2, 2, "orthographic")),))
    with pytest.raises(VivantError, match="orthographic"):
        write_cameras(flat, tmp_path / "cameras.json")
    with pytest.raises(VivantError, match="format"):
        write_cameras(made(), tmp_path / "poses.json")


def test_nothing_is_left_where_a_file_cannot_take_its_place(tmp_path):
    (tmp_path / "cameras.json").mkdir()
    with pytest.raises(VivantError, match="cannot be written"):
        write_cameras(made(), tmp_path / "cameras.json")
    assert [path.name for path in tmp_path.iterdir()] == ["cameras.json"]


def test_a_reconstruction_with_points_is_never_overwritten(tmp_path):
    write_cameras(made(), tmp_path / "mine")
    write_cameras(made(3), tmp_path / "mine")  # that of an export may be
    assert len(read_cameras(tmp_path / "mine")) == 3
    with (tmp_path / "mine" / "points3D.txt").open("a") as file:
        file.write("1 0 0 0 9 9 9 0.5 1 2\n")
    binary_model(tmp_path / "binary")
    for folder in ("mine", "binary"):
        with pytest.raises(VivantError, match="reconstruction"):
            write_cameras(made(), tmp_path / folder)


def test_unsound_cameras_are_left_out_and_counted(tmp_path):
    write_cameras(made(centred=True), tmp_path / "cameras.json")
    content = json.loads((tmp_path / "cameras.json").read_text())
    content[0]["fx"] = 0
    content[1]["rotation"] = [[0] * 3] * 3
    content[2]["position"] = [1e999, 0, 0]
    content[3]["rotation"] = (2 * np.array(content[3]["rotation"])).tolist()
    (tmp_path / "cameras.json").write_text(json.dumps(content))
    found = read_cameras(tmp_path / "cameras.json")
    assert len(found) == 2
    assert any(warning.startswith("3 cameras") for warning in found.warnings)
    assert any(warning.startswith("1 cameras") for warning in found.warnings)


def test_other_files_are_refused_by_name(tmp_path):
    (tmp_path / "a.json").write_text('{"asset": {}}')
    (tmp_path / "b.json").write_text("[" * 100_000)
    (tmp_path / "c.json").write_bytes(b"[" + b"[]," * 4_000_000 + b"[]]")
    (tmp_path / "d.bin").write_bytes(b"\x89PNG" * 9)
    for name, kind in (
        ("a.json", UnsupportedFormat),
        ("b.json", BrokenFile),
        ("c.json", BrokenFile),
        ("d.bin", UnsupportedFormat),
    ):
        with pytest.raises(kind):
            read_cameras(tmp_path / name)
    with pytest.raises(UnsupportedFormat):
        read_cameras(tmp_path)
    with pytest.raises(VivantError, match="cannot be read"):
        read_cameras(tmp_path / "none.json")


def test_the_cameras_in_a_splatv_file_are_read(data):
    (view,) = read_cameras(data / "splats" / "stg_lite_256.splatv").views
    np.testing.assert_array_equal(view.camera.camera_to_world[:3, 3], [0, 0, -3])
    np.testing.assert_array_equal(view.camera.intrinsics, intrinsics(900, 900, 640, 360))
