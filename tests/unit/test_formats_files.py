# SPDX-License-Identifier: GPL-3.0-or-later
"""What happens around the formats: naming files, hostile sizes, writing safely."""

import dataclasses
import gzip
import os
import pathlib
import pickle
import struct
import time
import tracemalloc
import zipfile

import numpy as np
import pytest

from vivant.backends.common.errors import BrokenFile, UnsupportedFormat, VivantError
from vivant.backends.gaussian.cloud import SplatCloud
from vivant.backends.gaussian.formats import EXTENSIONS, read_splats, write_splats


def small_cloud(count=20):
    rng = np.random.default_rng(1)
    quats = rng.normal(size=(count, 4))
    quats /= np.linalg.norm(quats, axis=1, keepdims=True)
    return SplatCloud(
        rng.normal(size=(count, 3)), quats, np.full((count, 3), 0.1), np.full(count, 0.5), rng.normal(size=(count, 1, 3))
    )


def peak_of(path):
    """The error that reading raises, seconds, and the most bytes that were held."""
    tracemalloc.start()
    start = time.perf_counter()
    try:
        with pytest.raises(VivantError) as caught:
            read_splats(path)
        return caught.value, time.perf_counter() - start, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_the_content_tells_the_format_and_not_the_name(tmp_path, extension):
    path = tmp_path / f"a{extension}"
    write_splats(small_cloud(), path)
    renamed = path.rename(tmp_path / "no_hint.bin")
    cloud = read_splats(renamed)
    assert len(cloud) == 20 and cloud.source.path == str(renamed)


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_what_was_read_is_written_back_byte_for_byte(tmp_path, extension):
    first, second = tmp_path / "first" / f"a{extension}", tmp_path / "second" / f"a{extension}"
    for path in (first, second):
        path.parent.mkdir()
    write_splats(small_cloud(), first)
    cloud = read_splats(first)
    write_splats(cloud, second)
    for file in first.parent.iterdir():
        assert file.read_bytes() == (second.parent / file.name).read_bytes()
    with pytest.raises(ValueError, match="read-only"):
        cloud.means[0] = 0
    changed = cloud.replace(means=cloud.means + 1)
    write_splats(changed, second)
    np.testing.assert_allclose(np.sort(read_splats(second).means[:, 0]), np.sort(changed.means[:, 0]), atol=2e-3)


def test_a_header_that_claims_two_thousand_million_splats_is_an_error_at_once(tmp_path):
    path = tmp_path / "bomb.ply"
    header = b"ply\nformat binary_little_endian 1.0\nelement vertex 2000000000\n"
    header += b"property float x\nproperty float y\nproperty float z\nend_header\n"
    path.write_bytes(header.ljust(160, b"\0"))
    error, seconds, peak = peak_of(path)
    assert isinstance(error, BrokenFile) and "bytes of them are missing" in error.message
    missing = 2_000_000_000 * 12 - (160 - len(header))
    assert f"{missing:,}" in error.message
    assert seconds < 0.05 and peak < 4 << 20


def zip_of(count, name):
    """An archive that lists so many empty files, of which one is there."""
    stamp = (20, 0, 0, 0, 33, 0, 0, 0, len(name), 0)
    local = struct.pack("<4s5H3I2H", b"PK\3\4", *stamp) + name
    entry = struct.pack("<4sH5H3I2H", b"PK\1\2", 20, *stamp) + bytes(14) + name
    return local + entry * count + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 65535, 65535, len(entry) * count, len(local), 0)


def spz_head(count, degree=3, version=3, streams=0):
    return struct.pack("<4sIIBBBB", b"NGSP", version, count, degree, 12, 0, streams)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("spz of zeros", lambda: gzip.compress(spz_head(1_000_000) + bytes(65_000_000))),
        ("spz that claims all", lambda: gzip.compress(spz_head(0xFFFFFFFF) + bytes(1000))),
        ("raw spz that claims all", lambda: spz_head(0xFFFFFFFF, version=2) + bytes(1000)),
        ("spz 4 that claims all", lambda: spz_head(0xFFFFFFFF, 0, 4, 5) + struct.pack("<I12x", 32) + bytes(200)),
        ("spz 4 with a far table", lambda: spz_head(10, 0, 4, 5) + struct.pack("<I12x", 0xFFFFFFF0) + bytes(200)),
        ("gzip of zeros", lambda: gzip.compress(bytes(200_000_000), 1)),
        ("gzip of a long ply", lambda: gzip.compress(
            b"ply\nformat ascii 1.0\nelement vertex 99999999\nproperty float x\nend_header\n" + b"0\n" * 50_000_000, 1)),
        ("ply of empty lines", lambda: (
            b"ply\nformat ascii 1.0\nelement a 9999999999\nelement vertex 9\nproperty float x\nproperty float y\n"
            b"property float z\nproperty float scale_0\nproperty float rot_0\nend_header\n" + b"\n" * 20_000_000)),
        ("ply with one line", lambda: (
            b"ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nproperty float y\nproperty float z\n"
            b"property float scale_0\nproperty float rot_0\nend_header\n" + b"0 " * 10_000_000)),
        ("zip of many names", lambda: zip_of(400_000, b"a.ply")),
        ("sog of many names", lambda: zip_of(300_000, b"meta.json means_l.webp")),
        ("gltf of many empty buffers", lambda: (
            b'{"asset":{}, "KHR_gaussian_splatting":[' + b'"data:;base64,",' * 1_000_000 + b"0]}")),
        ("usd of many short samples", lambda: (
            b'#usda 1.0\ndef Xform "a"\n{\n    double3 xformOp:translate.timeSamples = {\n'
            + b"".join(b"%d: (1, 2, 3),\n" % time for time in range(50_000)) + b"}\n}\n#" + b" " * (1 << 20))),
        ("splatv with a long list", lambda: struct.pack("<II", 0x674B, 0xFFFFFFFF) + b"[]"),
        ("splatv with a deep list", lambda: struct.pack("<II", 0x674B, 100_000) + b"[" * 100_000),
        ("splatv that claims all", lambda: (
            struct.pack("<II", 0x674B, 41) + b'[{"type":"splat","size":99999999999999}] ' + bytes(64))),
        ("ply with a huge name", lambda: b"ply\nformat ascii 1.0\nelement vertex 1\nproperty float " + b"x" * 10_000_000),
        ("ply with endless lists", lambda: (
            b"ply\nformat binary_little_endian 1.0\nelement face 9999999999\nproperty list uchar int v\n"
            b"element vertex 1\nproperty float x\nend_header\n" + bytes(3_000_000))),
        ("ply with lists of many lengths", lambda: (
            b"ply\nformat binary_little_endian 1.0\nelement face 9999999999\nproperty list uchar uchar v\n"
            b"element vertex 1\nproperty float x\nend_header\n" + b"\0\1\0" * 1_000_000)),
    ],
)  # fmt: skip
def test_files_made_to_exhaust_memory_or_patience_are_refused(tmp_path, name, file):
    path = tmp_path / "hostile"
    path.write_bytes(file())
    error, seconds, peak = peak_of(path)
    assert error.message and error.hint
    assert seconds < 5 and peak <= 4 * path.stat().st_size + (64 << 20)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"glTF\x02\0\0\0" + bytes(60), "a glTF model"),
        (b"\x89PNG\r\n\x1a\n" + bytes(56), "a PNG image"),
        (b'#usda 1.0\n(\n    upAxis = "Y"\n)\ndef Mesh "a"\n{\n}\n', "USD file holds no Gaussian splats, but Mesh"),
        (pickle.dumps({"means": [1, 2]}, 2), "a Python pickle"),
        (b'[{"id": 0, "img_name": "a", "position": [0, 0, 0], "rotation": []}]', "a list of cameras"),
        (b'{"asset": {"version": "2.0"}}', "a glTF model"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "Git LFS pointer"),
        (gzip.compress(gzip.compress(b"ply\n")), "gzip"),
        (gzip.compress(b"hello, this is a letter"), "no splat file"),
        (bytes(320), "no splat file"),
        (os.urandom(640), "no splat file|not a file|does not read"),
    ],
)
def test_files_that_are_something_else_are_named(tmp_path, content, words):
    path = tmp_path / "what.splat"
    path.write_bytes(content)
    with pytest.raises(VivantError, match=words) as caught:
        read_splats(path)
    assert isinstance(caught.value, BrokenFile if not content else UnsupportedFormat) and caught.value.hint


@pytest.mark.parametrize(
    ("member", "words"),
    [
        ("frames_ply/list.txt", "zip archive without splats"), ("letter.txt", "zip archive without splats"),
    ],
)  # fmt: skip
def test_zip_files_are_named_by_what_is_inside(tmp_path, member, words):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, "x")
    with pytest.raises(UnsupportedFormat, match=words):
        read_splats(path)


def test_files_that_cannot_be_opened_say_why(tmp_path):
    with pytest.raises(VivantError, match=r"'none\.ply' cannot be read: No such file"):
        read_splats(tmp_path / "none.ply")
    with pytest.raises(VivantError, match="cannot be read"):
        read_splats(tmp_path)


def test_names_without_a_known_ending_are_refused(tmp_path):
    with pytest.raises(VivantError, match="does not say which format") as caught:
        write_splats(small_cloud(), tmp_path / "a.obj")
    assert ".spz" in caught.value.hint


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "a.ply"
    path.write_bytes(b"precious")

    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pathlib.Path, "replace", full)
    with pytest.raises(VivantError, match="cannot be written: No space left"):
        write_splats(small_cloud(), path)
    assert path.read_bytes() == b"precious" and list(tmp_path.iterdir()) == [path]


def test_folders_that_cannot_be_written_to_give_one_sentence(tmp_path):
    with pytest.raises(VivantError, match="cannot be written: No such file"):
        write_splats(small_cloud(), tmp_path / "no folder" / "a.ply")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(VivantError, match="cannot be written"):
        write_splats(small_cloud(), tmp_path / "file" / "a.ply")


@pytest.mark.parametrize("seed", range(8))
def test_random_bytes_never_crash_nor_take_much_memory(tmp_path, seed):
    rng = np.random.default_rng(seed)
    for magic in (b"", b"ply\n", b"NGSP", b"\x1f\x8b\x08", b"\x4b\x67\0\0"):
        path = tmp_path / "noise"
        path.write_bytes(magic + rng.bytes(int(rng.integers(1, 20_000))))
        error, seconds, peak = peak_of(path)
        assert error.hint and seconds < 1 and peak < 4 * path.stat().st_size + (64 << 20)


def test_the_rows_of_a_ply_begin_where_floats_may(tmp_path):
    path = tmp_path / "a.ply"
    write_splats(dataclasses.replace(small_cloud()), path)
    data = read_splats(path).source.encoded
    start = data.tobytes().index(b"end_header\n") + 11
    assert (data.ctypes.data + start) % 16 == 0
