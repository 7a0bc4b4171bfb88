# SPDX-License-Identifier: GPL-3.0-or-later
"""Real files against numbers from other decoders."""

import numpy as np
import pytest

from vivant.backends.common.errors import UnsupportedFormat
from vivant.backends.gaussian import sh
from vivant.backends.gaussian.axes import change_axes
from vivant.backends.gaussian.formats import read_splats, write_splats


def angles(a, b):
    """Degrees between rotations, exact for small ones too."""
    a, b = (q / np.linalg.norm(q, axis=1, keepdims=True) for q in (a.astype(np.float64), b.astype(np.float64)))
    apart = np.minimum(np.linalg.norm(a - b, axis=1), np.linalg.norm(a + b, axis=1))
    return np.degrees(4 * np.arcsin(np.minimum(apart / 2, 1)))


def nearest(points, targets):
    """For each point the index of the nearest target, found in cells of a coarse grid of the targets' order."""
    found = np.empty(len(points), int)
    for start in range(0, len(points), 500):
        distances = np.square(points[start : start + 500, None] - targets[None]).sum(axis=2)
        found[start : start + 500] = distances.argmin(axis=1)
    return found


def matches(cloud, reference):
    """The reference's splats in the order of `cloud`, each matched with its own by position."""
    index = nearest(cloud.means, reference.means)
    assert len(np.unique(index)) == len(reference)
    return reference.select(index)


@pytest.fixture(scope="module")
def splats(data):
    return data / "splats"


def test_biker_compressed_ply(splats):
    cloud = read_splats(splats / "biker.compressed.ply")
    assert len(cloud) == 152_746 and cloud.degree == 0 and cloud.source.axes == "RDF"
    np.testing.assert_allclose(cloud.means.mean(0, np.float64), [-0.048573, -1.605046, 0.002286], atol=2e-5)
    np.testing.assert_allclose(cloud.means.min(0), [-0.6213, -3.1801, -0.5323], atol=1e-4)
    np.testing.assert_allclose(cloud.means.max(0), [0.4144, 0, 0.6133], atol=1e-4)
    np.testing.assert_allclose(np.log(cloud.scales).mean(0, np.float64), [-6.1313, -5.379, -6.0476], atol=1e-4)
    np.testing.assert_allclose(sh.to_rgb(cloud.sh[:, 0]).mean(0, np.float64), [0.3189, 0.3077, 0.3007], atol=1e-4)
    assert cloud.opacities.mean(dtype=np.float64) == pytest.approx(0.2966253, abs=1e-6)
    assert np.count_nonzero(cloud.opacities == 1) == 198
    assert not cloud.source.repairs and not cloud.source.warnings


def test_guitar_compressed_ply(splats):
    cloud = read_splats(splats / "guitar.compressed.ply")
    assert len(cloud) == 90_854
    np.testing.assert_allclose(cloud.means.mean(0, np.float64), [0.22549, -1.46392, 0.19006], atol=2e-5)
    assert cloud.opacities.mean(dtype=np.float64) == pytest.approx(0.38887, abs=1e-5)
    assert np.count_nonzero(cloud.opacities == 1) == 667
    rgb = sh.to_rgb(cloud.sh)
    assert rgb.min() == pytest.approx(-0.16299, abs=1e-5) and rgb.max() == pytest.approx(1.74765, abs=1e-5)


def test_biker_spz_is_biker_ply_turned_over(splats):
    packed, ply = read_splats(splats / "biker.spz"), read_splats(splats / "biker.compressed.ply")
    assert packed.source.axes == "RUB" and packed.source.details["version"] == 4 and not packed.source.repairs
    np.testing.assert_allclose(packed.means.mean(0, np.float64), [-0.048574, 1.605007, -0.002285], atol=5e-5)
    turned = change_axes(packed, "RDF")
    assert np.abs(turned.means - ply.means).max() == pytest.approx(1 / 8192, rel=0.01)
    assert np.abs(sh.to_rgb(turned.sh) - sh.to_rgb(ply.sh)).max() < 0.0037
    np.testing.assert_array_equal(turned.opacities, ply.opacities)
    off = np.abs(np.log(turned.scales) - np.log(ply.scales))
    assert np.percentile(off, 99) < 0.0315
    assert np.count_nonzero(np.log(packed.scales) < -9.9999) == 112
    apart = angles(turned.quats, ply.quats)
    assert apart.max() == pytest.approx(0.146, abs=5e-4) and np.median(apart) == pytest.approx(0.108, abs=5e-4)
    assert np.median(angles(packed.quats, ply.quats)) > 60, "without the flip they are far off"


def test_playbot_ply(splats):
    cloud = read_splats(splats / "playbot5.ply")
    assert len(cloud) == 3000 and cloud.degree == 2
    np.testing.assert_allclose(cloud.means.mean(0, np.float64), [-0.007387, -0.167795, 0.006589], atol=1e-6)
    np.testing.assert_allclose(np.log(cloud.scales).mean(0, np.float64), [-4.69868, -4.65908, -4.67508], atol=1e-5)
    np.testing.assert_allclose(cloud.sh[:, 0].mean(0, np.float64), [-0.65935, -0.74011, -0.83571], atol=1e-5)
    logits = np.log(cloud.opacities.astype(np.float64) / (1 - cloud.opacities.astype(np.float64)))
    assert logits.mean() == pytest.approx(3.52966, abs=1e-4)
    assert cloud.opacities.mean(dtype=np.float64) == pytest.approx(0.873736, abs=1e-6)
    np.testing.assert_allclose(cloud.quats[0], [0.657193, 0.174697, 0.291162, 0.672906], atol=1e-5)


@pytest.mark.parametrize("version", [3, 4])
def test_playbot_spz_is_playbot_ply(splats, version):
    packed = read_splats(splats / f"playbot5_v{version}.spz")
    assert packed.source.details["version"] == version
    np.testing.assert_allclose(packed.means.mean(0, np.float64), [-0.007386, 0.167796, -0.006589], atol=1e-6)
    turned = change_axes(packed, "RDF")
    ply = matches(turned, read_splats(splats / "playbot5.ply"))
    assert np.linalg.norm(turned.means - ply.means, axis=1).max() < 2.5e-4
    assert angles(turned.quats, ply.quats).max() < 0.25
    held = np.abs(ply.sh) < 0.99
    off = np.where(held, np.abs(turned.sh - ply.sh), 0)
    assert off[:, 1:4].max() < 0.0355 and off[:, 4:].max() < 0.0655
    assert np.where(held, np.abs(packed.sh - ply.sh), 0)[:, 1:].max() > 1.5, "without the flips it is far off"


def test_playbot_compressed_ply_is_playbot_ply(splats):
    cloud = read_splats(splats / "playbot5.compressed.ply")
    ply = matches(cloud, read_splats(splats / "playbot5.ply"))
    assert np.abs(cloud.means - ply.means).max() < 6.1e-4
    assert np.abs(cloud.sh[:, 1:] - ply.sh[:, 1:]).max() < 0.0157
    assert angles(cloud.quats, ply.quats).max() < 0.25


def test_playbot_splat_is_its_level_of_the_ply(splats):
    cloud = read_splats(splats / "playbot6.splat")
    assert len(cloud) == 1873 and cloud.degree == 0 and not cloud.source.repairs
    ply = read_splats(splats / "stg_lite_256.ply")  # a subset of the same splats, with motion
    index = nearest(ply.means, cloud.means)
    near = cloud.select(index)
    assert np.abs(ply.means - near.means).max() < 1e-6
    assert np.abs(np.sum(ply.quats * near.quats, axis=1)).min() > 0.9999
    assert np.abs(np.log(ply.scales) - np.log(near.scales)).max() < 1e-4


def test_frames_of_a_sequence(splats):
    cloud = read_splats(splats / "frames" / "frame_000.ply")
    assert len(cloud) == 4000 and cloud.family is None
    assert cloud.means[:, 2].min() == pytest.approx(-0.49996, abs=1e-5)
    assert cloud.means[:, 2].max() == pytest.approx(-0.40002, abs=1e-5)
    np.testing.assert_allclose(np.log(cloud.scales), -5.40368, atol=1e-4)
    np.testing.assert_allclose(cloud.opacities, 1 / (1 + np.exp(-0.8472979)), atol=1e-6)


def seen(cloud, time):
    """How many splats have a temporal weight of 0.02 or more."""
    weight = cloud.at(time).opacities.astype(np.float64) / np.maximum(cloud.opacities, 1e-12)
    return int(np.count_nonzero(weight >= 0.02))


def test_spacetime_gaussians_in_ply(splats):
    cloud = read_splats(splats / "stg_lite_256.ply")
    times = (0, 0.25, 0.5, 0.75, 1)
    assert [seen(cloud, time) for time in times] == [166, 199, 209, 190, 153]
    sums = [cloud.at(time).opacities.sum(dtype=np.float64) for time in times]
    np.testing.assert_allclose(sums, [95.2416, 128.0006, 131.5183, 120.9653, 90.9435], atol=2e-3)
    np.testing.assert_allclose(cloud.at(0.5).means.mean(0, np.float64), [-0.02750, -0.22560, -0.05000], atol=2e-5)


def test_the_same_spacetime_gaussians_in_splatv(splats):
    cloud = read_splats(splats / "stg_lite_256.splatv")
    assert len(cloud) == 256 and sum(cloud.source.repairs.values()) == 768
    assert [seen(cloud, time) for time in (0, 0.5, 1)] == [166, 209, 153]
    sums = [cloud.at(time).opacities.sum(dtype=np.float64) for time in (0, 0.5, 1)]
    np.testing.assert_allclose(sums, [95.155, 131.391, 90.857], atol=2e-3)
    ply = read_splats(splats / "stg_lite_256.ply")
    ply = ply.select(nearest(cloud.means, ply.means))
    for time in (0, 0.3, 1):
        assert np.abs(cloud.at(time).means - ply.at(time).means).max() < 2e-3
        assert angles(cloud.at(time).quats, ply.at(time).quats).max() < 0.3
    assert np.abs(sh.to_rgb(cloud.sh) - np.clip(sh.to_rgb(ply.sh), 0, 1)).max() < 1 / 254


def test_hanabi_splatv(splats):
    cloud = read_splats(splats / "hanabi2.splatv")
    assert len(cloud) == 24_000 and list(cloud.source.repairs.values()) == [576]
    assert [seen(cloud, time) for time in (0, 0.25, 0.5, 0.75, 1)] == [4000, 4000, 8000, 4000, 4000]
    assert not cloud.family.velocity.any() and not cloud.family.spin.any()
    np.testing.assert_allclose(np.unique(cloud.family.center), [0, 0.1666, 0.3889, 0.5557, 0.7222, 1], atol=1e-4)
    np.testing.assert_allclose(cloud.family.width, 0.06, atol=1e-4)
    assert cloud.source.details["cameras"][0]["img_name"] == "camera_0001"


@pytest.mark.parametrize("version", ["raw", "v2", "v3", "v4"])
def test_hand_made_spz_of_every_version(splats, version):
    cloud = read_splats(splats / "minimal" / f"minimal-{version}.spz")
    assert len(cloud) == 4 and cloud.source.details["version"] == {"raw": 2, "v2": 2, "v3": 3, "v4": 4}[version]
    np.testing.assert_allclose(np.linalg.norm(cloud.quats, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize(
    "name",
    [
        "playbot5.ply", "stg_lite_256.ply", "playbot5.compressed.ply", "playbot6.splat", "playbot5_v3.spz", "playbot5_v4.spz",
        "stg_lite_256.splatv", "hanabi2.splatv", "frames/frame_001.ply",
    ],
)  # fmt: skip
def test_an_untouched_cloud_is_written_as_the_same_bytes(splats, tmp_path, name):
    written = tmp_path / name.replace("frames/", "")
    write_splats(read_splats(splats / name), written)
    assert written.read_bytes() == (splats / name).read_bytes()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("sog_v2_playbot5/means_l.webp", "WebP"), ("README.md", "no splat file"),
    ],
)  # fmt: skip
def test_other_files_are_named(splats, name, words):
    with pytest.raises(UnsupportedFormat, match=words) as caught:
        read_splats(splats / name)
    assert caught.value.hint
