# SPDX-License-Identifier: GPL-3.0-or-later
"""SOG: against splat-transform's numbers and files, and files made here value by value."""

import io
import json
import zipfile

import numpy as np
import pytest

from vivant.backends.common.errors import BrokenFile, UnsupportedFormat, VivantError
from vivant.backends.gaussian import sh
from vivant.backends.gaussian.cloud import SplatCloud
from vivant.backends.gaussian.formats import decode, losses, palette, read_splats, webp, write_splats
from vivant.backends.gaussian.formats.compressed_ply import morton_order


def small_cloud(count=50, degree=1, seed=8):
    rng = np.random.default_rng(seed)
    quats = rng.normal(size=(count, 4))
    return SplatCloud(
        rng.normal(size=(count, 3)) * [1, 10, 100],
        quats / np.linalg.norm(quats, axis=1, keepdims=True),
        np.exp(rng.normal(-4, 1, (count, 3))),
        rng.uniform(0, 1, count),
        rng.normal(0, 0.3, (count, (degree + 1) ** 2, 3)),
    )


def image(rows, width=4):
    pixels = np.zeros((-(-len(rows) // width) * width, 4), np.uint8)
    pixels[: len(rows)] = rows
    return webp.encode(pixels.reshape(-1, width, 4))


def known():
    """A SOG of two splats, of which every number is known: list of contents, and images by name."""
    line = np.linspace(-1, 1, 256).tolist()
    meta = {
        "version": 2, "count": 2,
        "means": {"mins": [0, -1, 0], "maxs": [1, 1, 0], "files": ["means_l.webp", "means_u.webp"]},
        "scales": {"codebook": line, "files": ["s.webp"]}, "quats": {"files": ["q.webp"]},
        "sh0": {"codebook": line, "files": ["c.webp"]},
        "shN": {"codebook": line, "bands": 1, "count": 64, "files": ["p.webp", "n.webp"]},
    }  # fmt: skip
    palette_rows = np.zeros((1, 192, 4), np.uint8)
    palette_rows[0, 3 * 5 : 3 * 5 + 3] = [[0, 255, 0, 255], [255, 0, 0, 255], [0, 0, 255, 255]]
    files = {
        "means_l.webp": image([[255, 0, 0, 255], [0, 255, 0, 255]]),
        "means_u.webp": image([[255, 0, 0, 255], [0, 255, 0, 255]]),
        "s.webp": image([[0, 255, 0, 255], [255, 0, 255, 255]]), "q.webp": image([[0, 0, 255, 254], [9, 9, 9, 9]]),
        "c.webp": image([[0, 255, 0, 0], [255, 0, 0, 255]]), "p.webp": webp.encode(palette_rows),
        "n.webp": image([[5, 0, 0, 255], [0, 0, 0, 255]]),
    }  # fmt: skip
    return meta, files


def zipped(meta, files, folder="", method=zipfile.ZIP_STORED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in {**files, "meta.json": json.dumps(meta).encode()}.items():
            archive.writestr(folder + name, content)
    return np.frombuffer(out.getvalue(), np.uint8)


@pytest.mark.parametrize(("folder", "method"), [("", zipfile.ZIP_STORED), ("top/", zipfile.ZIP_DEFLATED)])
def test_every_number_of_a_known_file_is_read_as_it_was_meant(folder, method):
    cloud = decode(zipped(*known(), folder, method))
    np.testing.assert_allclose(cloud.means, [[np.e - 1, 1 - np.e, 0], [0, np.e - 1, 0]], rtol=1e-6)
    np.testing.assert_allclose(np.log(cloud.scales), [[-1, 1, -1], [1, -1, 1]], rtol=1e-6)
    np.testing.assert_allclose(cloud.quats[0] ** 2, [0.5, 0.5, 0, 0.5] / np.float32(1.5), atol=0.01)
    assert cloud.quats[0, 0] < 0 and cloud.quats[0, 1] < 0 and cloud.quats[0, 3] > 0
    np.testing.assert_array_equal(cloud.quats[1], [1, 0, 0, 0])
    assert cloud.source.repairs == {"rotations zero or not finite: set to none": 1}
    np.testing.assert_array_equal(cloud.sh[:, 0], [[-1, 1, -1], [1, -1, -1]])
    np.testing.assert_array_equal(cloud.opacities, [0, 1])
    np.testing.assert_array_equal(cloud.sh[0, 1:], [[-1, 1, -1], [1, -1, -1], [-1, -1, 1]])
    np.testing.assert_array_equal(cloud.sh[1, 1:], -1)


def test_the_real_folder_gives_splat_transforms_numbers(data):
    cloud, ply = read_splats(data / "splats" / "sog_v2_playbot5"), read_splats(data / "splats" / "playbot5.ply")
    assert len(cloud) == 3000 and cloud.degree == 2
    np.testing.assert_allclose(cloud.means.mean(axis=0), (-0.007387, -0.167795, 0.006589), atol=2e-6)
    np.testing.assert_allclose(np.log(cloud.scales).mean(axis=0), (-4.69868, -4.65908, -4.67508), atol=2e-5)
    np.testing.assert_allclose(cloud.opacities.mean(), 0.873736, atol=1e-6)
    np.testing.assert_allclose(sh.to_rgb(cloud.sh[:, 0]).mean(axis=0), (0.31400, 0.29122, 0.26425), atol=1e-5)
    for name in ("means", "scales", "opacities", "sh"):  # the PLY was made of this folder
        np.testing.assert_allclose(getattr(cloud, name), getattr(ply, name), atol=6e-8)
    by_index = read_splats(data / "splats" / "sog_v2_playbot5" / "meta.json")
    np.testing.assert_array_equal(by_index.means, cloud.means)


def test_version_1_holds_straight_lines_and_logits(data):
    cloud, splat = read_splats(data / "splats" / "sog_v1_playbot6"), read_splats(data / "splats" / "playbot6.splat")
    assert len(cloud) == 1873 and cloud.source.details["version"] == 1
    np.testing.assert_allclose(cloud.opacities.mean(), 0.902059, atol=1e-6)
    order, right = (np.lexsort(np.round(each.means, 3).T) for each in (cloud, splat))
    np.testing.assert_allclose(np.sort(cloud.means, axis=0), np.sort(splat.means, axis=0), atol=1e-4)
    assert len(order) == len(right)


def test_a_bundle_is_the_folder_that_it_was_made_of(data, tmp_path):
    cloud = read_splats(data / "splats" / "playbot5.sog")
    write_splats(cloud, tmp_path / "meta.json")
    with zipfile.ZipFile(data / "splats" / "playbot5.sog") as archive:
        for name in archive.namelist():
            assert archive.read(name) == (tmp_path / name).read_bytes()
    again = read_splats(tmp_path)
    np.testing.assert_array_equal(again.sh, cloud.sh)
    write_splats(again, tmp_path / "again.sog")
    np.testing.assert_array_equal(read_splats(tmp_path / "again.sog").means, cloud.means)


@pytest.mark.parametrize("degree", range(4))
@pytest.mark.parametrize("count", [1, 2, 63, 257, 513])
def test_what_is_written_comes_back_within_the_formats_steps(tmp_path, degree, count):
    cloud = small_cloud(count, degree)
    write_splats(cloud, tmp_path / "a.sog")
    found = read_splats(tmp_path / "a.sog")
    cloud = cloud.select(morton_order(cloud.means))
    logarithms = np.sign(cloud.means) * np.log1p(np.abs(cloud.means))
    steps = np.ptp(logarithms, axis=0) / 65535 * (1 + np.abs(cloud.means))
    assert (np.abs(found.means - cloud.means) <= 0.51 * steps + 1e-5).all()
    assert np.abs((found.quats * cloud.quats).sum(axis=1)).min() > np.cos(0.006)
    assert np.abs(found.opacities - cloud.opacities).max() <= 0.501 / 255
    assert np.abs(np.log(found.scales / cloud.scales)).max() <= 0.03
    assert np.abs(found.sh - cloud.sh).max() <= 0.02


def test_large_clouds_share_a_palette_and_losses_says_so(tmp_path):
    cloud = small_cloud(5000, 2)
    base = np.random.default_rng(2).normal(0, 0.3, (300, 8, 3)).astype(np.float32)
    repeated = cloud.sh.copy()
    repeated[:, 1:] = base[np.arange(5000) % 300]
    assert any("most fitting" in sentence for sentence in losses(cloud, tmp_path / "a.sog"))
    write_splats(cloud.replace(sh=repeated), tmp_path / "a.sog")
    found = read_splats(tmp_path / "a.sog")
    right = repeated[morton_order(cloud.means)]
    assert np.abs(found.sh[:, 1:] - right[:, 1:]).max() < 0.02  # 300 different ones fit into the palette


def test_a_palette_may_have_as_many_entries_as_two_bytes_tell(tmp_path):
    cloud = small_cloud(70_000, 1)
    write_splats(cloud, tmp_path / "a.sog")
    found = read_splats(tmp_path / "a.sog")
    right = cloud.sh[morton_order(cloud.means)]
    assert not found.source.repairs and palette.entries(70_000) == 65_536
    assert np.sqrt(np.square(found.sh[:, 1:] - right[:, 1:]).mean()) < 0.03


def test_entries_of_a_palette_are_the_means_of_what_they_stand_for():
    rng = np.random.default_rng(6)
    rows = rng.normal(size=(8000, 24)).astype(np.float32) * np.exp(-np.arange(24) / 4).astype(np.float32)
    labels, entries = palette.of_rows(rows)
    assert len(entries) == palette.entries(8000) == 4096 and labels.max() == 4095
    for entry in (0, 17, 4095):
        np.testing.assert_allclose(entries[entry], rows[labels == entry].mean(axis=0), atol=1e-6)
    assert np.square(rows - entries[labels]).sum() < 0.2 * np.square(rows).sum()


def test_a_code_book_is_exact_for_few_values_and_near_for_many():
    values = np.array([3, 1, 1, 7], np.float32)
    indices, book = palette.code_book(values)
    np.testing.assert_array_equal(book[indices], values)
    values = np.random.default_rng(3).normal(size=20_000).astype(np.float32)
    indices, book = palette.code_book(values)
    assert (np.diff(book) >= 0).all()
    errors = np.abs(book[indices] - values)
    assert errors.max() < np.ptp(values) / 128 and errors.mean() < np.ptp(values) / 512 / 2


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda meta, files: meta.update(count=10**9), BrokenFile),
        (lambda meta, files: meta.update(count=20), BrokenFile),
        (lambda meta, files: meta.update(count=True) or meta.update(count=0), BrokenFile),
        (lambda meta, files: meta.pop("quats"), BrokenFile),
        (lambda meta, files: meta["scales"].update(codebook=[1, 2]), BrokenFile),
        (lambda meta, files: meta["scales"].update(codebook=["a"] * 256), BrokenFile),
        (lambda meta, files: meta["means"].update(mins=[1]), BrokenFile),
        (lambda meta, files: meta["means"].update(files=["means_l.webp"]), BrokenFile),
        (lambda meta, files: meta["quats"].update(files=["none.webp"]), BrokenFile),
        (lambda meta, files: meta["shN"].update(files=["q.webp", "n.webp"]), BrokenFile),
        (lambda meta, files: files.update({"q.webp": b"no image"}), BrokenFile),
    ],
)
def test_contents_that_contradict_each_other_are_refused_with_a_sentence(change, error):
    meta, files = known()
    change(meta, files)
    with pytest.raises(error) as caught:
        decode(zipped(meta, files))
    assert caught.value.hint


def test_a_null_at_the_start_of_a_code_book_is_the_step_before_the_second_value():
    meta, files = known()
    meta["sh0"]["codebook"][0] = None
    np.testing.assert_allclose(decode(zipped(meta, files)).sh[0, 0], [-1, 1, -1], atol=1e-6)


@pytest.mark.parametrize("name", ["../q.webp", "/etc/passwd", "C:q.webp", "a\\q.webp"])
def test_images_outside_the_folder_are_never_opened(tmp_path, name):
    meta, files = known()
    meta["quats"]["files"] = [name]
    folder = tmp_path / "in"
    folder.mkdir()
    for file, content in {**files, "meta.json": json.dumps(meta).encode()}.items():
        (folder / file).write_bytes(content)
    (tmp_path / "q.webp").write_bytes(files["q.webp"])
    with pytest.raises(BrokenFile, match="not in it"):
        read_splats(folder)


def test_archives_that_unpack_to_far_more_are_refused():
    meta, files = known()
    files["bomb.webp"] = bytes(200_000_000)
    with pytest.raises(BrokenFile, match="no real capture"):
        decode(zipped(meta, files, method=zipfile.ZIP_DEFLATED))
    with pytest.raises(UnsupportedFormat, match="unusual way"):
        decode(zipped(*known(), method=zipfile.ZIP_BZIP2))


def test_a_cloud_without_splats_cannot_be_a_sog(tmp_path):
    with pytest.raises(VivantError, match="cannot hold 0 splats"):
        write_splats(small_cloud(0), tmp_path / "a.sog")
