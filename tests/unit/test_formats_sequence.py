# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbered files as one moving cloud: how they are found, ordered, read late, mixed, written, and refused."""

import contextlib
import tracemalloc
import zipfile

import numpy as np
import pytest

from vivant.backends.common.errors import BrokenFile, UnsupportedFormat, VivantError
from vivant.backends.gaussian.axes import change_axes
from vivant.backends.gaussian.cloud import SplatCloud
from vivant.backends.gaussian.formats import Overrides, compression, losses, read_splats, sequence, write_splats
from vivant.backends.gaussian.motion.frames import Frames


def still(count=30, shift=0.0, degree=0):
    rng = np.random.default_rng(7)
    quats = rng.normal(size=(count, 4))
    return SplatCloud(
        rng.normal(size=(count, 3)) + shift,
        quats / np.linalg.norm(quats, axis=1, keepdims=True),
        np.full((count, 3), 0.1),
        np.full(count, 0.5),
        rng.normal(0, 0.3, (count, (degree + 1) ** 2, 3)),
    )


def write_frames(folder, numbers, name="frame_{}.ply", counts=None):
    folder.mkdir(exist_ok=True)
    for i, number in enumerate(numbers):
        write_splats(still(counts[i] if counts else 30, shift=0.1 * number), folder / name.format(number))
    return folder


def test_numbers_order_the_frames_and_keep_their_gaps(tmp_path):
    cloud = read_splats(write_frames(tmp_path / "a", [2, 10, 9, 100]))
    assert isinstance(cloud.family, Frames) and cloud.family.times.tolist() == [2, 9, 10, 100]
    assert cloud.source.format == "sequence" and cloud.family.time_range == (2, 100)
    for number in (2, 9, 10, 100):
        np.testing.assert_allclose(cloud.at(number).means, still(shift=0.1 * number).means, atol=1e-6)
    np.testing.assert_array_equal(cloud.at(-5).means, cloud.at(2).means)


def test_frames_whose_splats_stay_the_same_are_mixed_in_between(tmp_path):
    cloud = read_splats(write_frames(tmp_path / "a", [1, 3]))
    assert cloud.family.linked
    np.testing.assert_allclose(cloud.at(1.5).means, still(shift=0.15).means, atol=1e-6)


def test_frames_of_changing_counts_hold_until_the_next(tmp_path):
    cloud = read_splats(write_frames(tmp_path / "a", [1, 2, 3], counts=[30, 20, 25]))
    assert not cloud.family.linked
    assert [len(cloud.at(time)) for time in (1, 1.9, 2, 2.5, 3, 9)] == [30, 30, 20, 20, 25, 25]
    with pytest.raises(VivantError, match="others in each frame"):
        cloud.select([0, 1])


def test_frames_that_jump_are_not_mixed(tmp_path):
    write_frames(tmp_path / "a", [1])
    write_splats(still(shift=50), tmp_path / "a/frame_2.ply")
    cloud = read_splats(tmp_path / "a")
    assert not cloud.family.linked
    np.testing.assert_array_equal(cloud.at(1.9).means, cloud.at(1).means)


def test_axes_and_picked_splats_reach_every_frame(tmp_path):
    cloud = read_splats(write_frames(tmp_path / "a", [1, 2]))
    turned = change_axes(cloud, "RUB").select(slice(5, 9))
    assert turned.at(2).source.axes == "RUB"
    np.testing.assert_allclose(turned.at(2).means, (cloud.at(2).means * [1, -1, -1])[5:9], atol=1e-6)
    named = read_splats(tmp_path / "a", Overrides(axes="RUB"))
    assert named.at(2).source.axes == "RUB"
    np.testing.assert_array_equal(named.at(2).means, cloud.at(2).means)


def test_the_longest_clip_is_read_and_the_rest_named(tmp_path):
    folder = write_frames(tmp_path / "a", [1, 2, 3])
    write_frames(folder, [1, 2], "other_{}.ply")
    (folder / "notes.txt").write_text("x")
    (folder / "._frame_4.ply").write_bytes(b"junk")
    cloud = read_splats(folder)
    assert len(cloud.family.times) == 3 and "2 more files" in cloud.source.warnings[0]


def test_frames_are_read_when_their_time_comes_and_few_are_kept(tmp_path):
    folder = write_frames(tmp_path / "a", range(1, 21), counts=[20_000] * 20)
    cloud = read_splats(folder)
    size = (folder / "frame_1.ply").stat().st_size
    tracemalloc.start()
    for time in np.linspace(1, 20, 60):
        cloud.at(time)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * size, "20 frames were played in the memory of a few"
    (folder / "frame_7.ply").write_bytes(b"ply\nbroken")
    cloud = read_splats(folder)
    with pytest.raises(VivantError):
        cloud.at(7)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_archive_is_read_as_its_folder_is(tmp_path, compression):
    folder = write_frames(tmp_path / "a", [2, 10, 9], "f{}.spz")
    with zipfile.ZipFile(tmp_path / "a.zip", "w", compression) as archive:
        archive.writestr("__MACOSX/._f2.spz", b"junk")
        for path in folder.iterdir():
            archive.write(path, f"scene/{path.name}")
    a, b = read_splats(folder), read_splats(tmp_path / "a.zip")
    assert b.family.times.tolist() == [2, 9, 10]
    for time in (2, 9, 9.5, 10):
        np.testing.assert_array_equal(a.at(time).means, b.at(time).means)


def test_real_frames_are_read(data):
    cloud = read_splats(data / "splats/frames")
    assert cloud.family.times.tolist() == [0, 1, 2] and len(cloud) == 4000
    np.testing.assert_allclose([cloud.means[:, 2].min(), cloud.means[:, 2].max()], [-0.49996, -0.40002], atol=1e-5)
    for time in range(3):
        frame = cloud.at(time)
        np.testing.assert_allclose(np.log(frame.scales), -5.40368, atol=1e-5)
        np.testing.assert_allclose(frame.opacities, 0.7, atol=1e-6)


def test_a_sequence_is_written_again_under_its_numbers(tmp_path):
    first = read_splats(write_frames(tmp_path / "a", [2, 9, 10]))
    assert not losses(first, "b.zip")
    write_splats(first, tmp_path / "b.zip")
    assert zipfile.ZipFile(tmp_path / "b.zip").namelist() == ["frame_0002.ply", "frame_0009.ply", "frame_0010.ply"]
    again = read_splats(tmp_path / "b.zip")
    np.testing.assert_array_equal(again.at(9).means, first.at(9).means)
    sequence.write(again, tmp_path / "c" / "splats_##.spz")
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == ["splats_02.spz", "splats_09.spz", "splats_10.spz"]


def test_a_still_cloud_is_one_frame(tmp_path):
    write_splats(still(), tmp_path / "a.zip")
    again = read_splats(tmp_path / "a.zip")
    assert again.family is None and len(again) == 30


def test_a_name_without_a_place_for_numbers_is_refused(tmp_path):
    with pytest.raises(VivantError, match="no place for numbers"):
        sequence.write(still(), tmp_path / "a.spz")


def test_a_folder_without_frames_is_refused(tmp_path):
    write_splats(still(), tmp_path / "scene.ply")
    with pytest.raises(UnsupportedFormat, match="a folder that holds nothing"):
        read_splats(tmp_path)


def test_a_file_in_a_zip_that_unpacks_to_far_more_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a_1.ply", b"ply\n" + bytes(100_000_000))
        archive.writestr("a_2.ply", b"ply\n")
    tracemalloc.start()
    with pytest.raises(BrokenFile, match="claims to unpack"):
        read_splats(tmp_path / "a.zip")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 << 20


def test_a_file_in_a_zip_that_was_changed_is_refused_when_its_time_comes(tmp_path):
    write_splats(read_splats(write_frames(tmp_path / "a", [1, 2, 3])), tmp_path / "a.zip")
    file = bytearray((tmp_path / "a.zip").read_bytes())
    file[file.rindex(b"end_header") + 200] ^= 1
    (tmp_path / "a.zip").write_bytes(file)
    cloud = read_splats(tmp_path / "a.zip")
    assert len(cloud.at(2)) == 30
    with pytest.raises(BrokenFile, match=r"frame_0003\.ply: It is damaged"):
        cloud.at(3)


def test_a_zip_that_lists_too_many_files_is_refused_before_it_is_read(tmp_path, monkeypatch):
    write_splats(still(), tmp_path / "a.zip")
    monkeypatch.setattr(compression, "LARGEST_DIRECTORY", 10)
    with pytest.raises(VivantError, match=r"not read|lists more files"):
        read_splats(tmp_path / "a.zip")


@pytest.mark.parametrize("seed", range(40))
def test_damaged_zip_archives_end_in_a_sentence(tmp_path, seed):
    write_splats(read_splats(write_frames(tmp_path / "a", [1, 2])), tmp_path / "a.zip")
    file = bytearray((tmp_path / "a.zip").read_bytes())
    rng = np.random.default_rng(seed)
    for _ in range(4):
        at = len(file) - int(rng.integers(1, 220)) if rng.random() < 0.7 else int(rng.integers(len(file)))
        file[at] = rng.integers(256)
    (tmp_path / "a.zip").write_bytes(file)
    with contextlib.suppress(VivantError):
        read_splats(tmp_path / "a.zip").at(2)
