# SPDX-License-Identifier: GPL-3.0-or-later
"""The packed formats: written and read within their own steps, and against bytes that the test packs itself."""

import gzip
import json
import struct

import numpy as np
import pytest

from vivant.backends.common.errors import BrokenFile, VivantError
from vivant.backends.gaussian import sh
from vivant.backends.gaussian.axes import change_axes
from vivant.backends.gaussian.cloud import Source, SplatCloud
from vivant.backends.gaussian.formats import compression, decode, losses, read_splats, splatv, spz, write_splats
from vivant.backends.gaussian.motion.stg import Stg


def random_cloud(count, degree=0, moving=False, axes="RDF", seed=1):
    rng = np.random.default_rng([seed, count])
    quats = rng.normal(size=(count, 4))
    family = None
    if moving:
        arrays = (
            rng.normal(size=(count, 3, 3)),
            rng.normal(size=(count, 4)),
            rng.uniform(0, 1, count),
            rng.uniform(0.1, 1, count),
        )
        family = Stg(*(array.astype(np.float32) for array in arrays))
    return SplatCloud(
        rng.normal(size=(count, 3)),
        quats / np.linalg.norm(quats, axis=1, keepdims=True),
        np.exp(rng.uniform(-8, -1, (count, 3))),
        rng.uniform(0, 1, count),
        rng.uniform(-0.9, 0.9, (count, (degree + 1) ** 2, 3)),
        family=family,
        source=Source(axes=axes),
    )


def degrees_apart(a, b):
    apart = np.minimum(np.linalg.norm(a - b, axis=1), np.linalg.norm(a + b, axis=1))
    return np.degrees(4 * np.arcsin(np.minimum(apart / 2, 1)))


def in_order_of(cloud, reference):
    """The cloud's splats in the reference's order; both hold the same few, far apart."""
    distances = np.square(reference.means[:, None] - cloud.means[None]).sum(axis=2)
    index = distances.argmin(axis=1)
    assert len(np.unique(index)) == len(cloud)
    return cloud.select(index)


def read(file, suffix=""):
    return decode(np.frombuffer(file, np.uint8).copy(), suffix)


COUNTS = [1, 255, 256, 257, 513]


@pytest.mark.parametrize("degree", range(5))
@pytest.mark.parametrize("count", COUNTS)
def test_compressed_ply_holds_a_cloud_within_its_steps(tmp_path, count, degree):
    cloud = random_cloud(count, degree)
    write_splats(cloud, tmp_path / "a.compressed.ply")
    again = in_order_of(read_splats(tmp_path / "a.compressed.ply"), cloud)
    span = np.ptp(cloud.means, axis=0).max() + 1e-6
    assert np.abs(again.means - cloud.means).max() <= span / 1023 * 0.51
    assert np.abs(np.log(again.scales) - np.log(cloud.scales)).max() <= 7 / 1023 * 0.51
    assert np.abs(again.opacities - cloud.opacities).max() <= 0.51 / 255
    assert np.abs(sh.to_rgb(again.sh[:, 0]) - sh.to_rgb(cloud.sh[:, 0])).max() <= 0.51 * 0.51 / 255
    assert degrees_apart(again.quats, cloud.quats).max() < 0.3
    assert np.abs(again.sh[:, 1:] - cloud.sh[:, 1:]).max(initial=0) <= 8 / 512 * 1.01


@pytest.mark.parametrize("count", COUNTS)
def test_splat_holds_a_cloud_within_its_steps_largest_first(tmp_path, count):
    cloud = random_cloud(count)
    write_splats(cloud, tmp_path / "a.splat")
    file = (tmp_path / "a.splat").read_bytes()
    assert len(file) == 32 * count
    read_back = read(file)
    weight = cloud.scales.prod(axis=1) * cloud.opacities
    np.testing.assert_array_equal(read_back.means, cloud.means[np.argsort(-weight)])
    again = in_order_of(read_back, cloud)
    np.testing.assert_array_equal(again.means, cloud.means)
    np.testing.assert_array_equal(again.scales, cloud.scales)
    assert np.abs(again.opacities - cloud.opacities).max() <= 0.51 / 255
    assert np.abs(sh.to_rgb(again.sh) - sh.to_rgb(cloud.sh)).max() <= 0.51 / 255
    assert degrees_apart(again.quats, cloud.quats).max() < 1


def test_splat_bytes_are_read_as_they_were_packed():
    file = struct.pack("<6f8B", 1, 2, 3, 0.1, 0.2, 0.3, 255, 0, 51, 102, 128, 255, 128, 128)
    file += struct.pack("<6f8B", 4, 5, 6, 0.1, 0.2, 0.3, 1, 2, 3, 4, 128, 128, 128, 128)
    cloud = read(file)
    np.testing.assert_allclose(cloud.means, [[1, 2, 3], [4, 5, 6]])
    np.testing.assert_allclose(cloud.scales[0], [0.1, 0.2, 0.3])
    np.testing.assert_allclose(sh.to_rgb(cloud.sh[0, 0]), [1, 0, 0.2], atol=1e-6)
    assert cloud.opacities[0] == pytest.approx(0.4)
    np.testing.assert_allclose(cloud.quats, [[0, 1, 0, 0], [1, 0, 0, 0]])
    assert dict(cloud.source.repairs) == {"rotations zero or not finite: set to none": 1}


def test_a_cut_splat_file_is_read_to_its_last_whole_record():
    file = struct.pack("<6f8B", 1, 2, 3, 0.1, 0.2, 0.3, 255, 0, 51, 102, 128, 255, 128, 128) * 3
    cloud = read(file[:-5], ".splat")
    assert len(cloud) == 2 and "27 bytes" in cloud.source.warnings[0]


@pytest.mark.parametrize("degree", range(5))
@pytest.mark.parametrize("count", [0, *COUNTS])
def test_spz_holds_a_cloud_within_its_steps(tmp_path, count, degree):
    cloud = random_cloud(count, degree)
    write_splats(cloud, tmp_path / "a.spz")
    packed = read_splats(tmp_path / "a.spz")
    assert packed.source.axes == "RUB" and packed.source.details["version"] == 3
    again = change_axes(packed, "RDF")
    assert np.abs(again.means - cloud.means).max(initial=0) <= 0.51 / 4096
    assert np.abs(np.log(again.scales) - np.log(cloud.scales)).max(initial=0) <= 0.51 / 16
    assert np.abs(again.opacities - cloud.opacities).max(initial=0) <= 0.51 / 255
    assert np.abs(again.sh[:, 0] - cloud.sh[:, 0]).max(initial=0) <= 0.51 / 255 / 0.15
    assert np.abs(again.sh[:, 1:4] - cloud.sh[:, 1:4]).max(initial=0) <= 4.6 / 128
    assert np.abs(again.sh[:, 4:] - cloud.sh[:, 4:]).max(initial=0) <= 8.6 / 128
    if count:
        assert degrees_apart(again.quats, cloud.quats).max() < 0.25


@pytest.mark.parametrize("size", [0, 1, 1 << 20, (1 << 20) + 1, 3_500_000])
def test_gzip_in_blocks_is_what_everybody_unpacks(size):
    data = np.random.default_rng(size).integers(0, 9, size, np.uint8).tobytes()
    assert gzip.decompress(compression.gzipped([data[:16], data[16:]])) == data


def test_compressed_ply_keeps_neighbours_together_in_spite_of_an_outlier(tmp_path):
    cloud = random_cloud(5000)
    means = cloud.means.copy()
    means[7] = 1e4
    cloud = cloud.replace(means=means)
    write_splats(cloud, tmp_path / "a.compressed.ply")
    again = read_splats(tmp_path / "a.compressed.ply")
    nearest = np.sqrt(np.square(again.means[:, None] - cloud.means[None, ::10]).sum(axis=2).min(axis=0))
    assert np.median(nearest) < 1e-3


def test_spz_gives_up_precision_for_reach_and_says_where_it_ends(tmp_path):
    cloud = random_cloud(20)
    write_splats(cloud.replace(means=cloud.means * 5000), tmp_path / "far.spz")
    far = change_axes(read_splats(tmp_path / "far.spz"), "RDF")
    bits = far.source.details["fraction_bits"]
    assert bits < 12 and np.abs(far.means - cloud.means * 5000).max() <= 0.51 / 2**bits
    with pytest.raises(VivantError, match="SPZ holds positions up to"):
        write_splats(cloud.replace(means=cloud.means * 1e8), tmp_path / "farther.spz")
    assert not (tmp_path / "farther.spz").exists()


def old_spz(version, axes_code=0, flags=0):
    """Two splats as versions 1 and 2 pack them."""
    count = 2
    head = struct.pack("<4sIIBBBB", b"NGSP", version, count, 1, 12, flags, 0)
    if version == 1:
        positions = np.array([[1, -2, 3], [0.5, 0.25, -8]], "<f2").tobytes()
    else:
        fixed = [int(v * 4096) & 0xFFFFFF for v in (1, -2, 3, 0.5, 0.25, -8)]
        positions = b"".join(v.to_bytes(3, "little") for v in fixed)
    alphas, colours, scales = bytes([255, 51]), bytes([0, 128, 255] * 2), bytes([160, 0, 255] * 2)
    rotations = bytes([255, 127, 127, 0, 127, 127]) if version < 3 else struct.pack("<II", 3 << 30, 1 << 30 | 512)
    bands = bytes([128, 0, 255] * 6)
    extension = struct.pack("<II3x", 7, 3) + struct.pack("<III", 0xADBE0003, 4, axes_code) if axes_code else b""
    return head + positions + alphas + colours + scales + rotations + bands + extension


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("version", [1, 2])
def test_old_spz_bytes_are_read_as_they_were_packed(version, packed):
    file = old_spz(version)
    cloud = read(gzip.compress(file) + b"tail" if packed else file)
    np.testing.assert_allclose(cloud.means, [[1, -2, 3], [0.5, 0.25, -8]])
    np.testing.assert_allclose(cloud.opacities, [1, 0.2], rtol=1e-6)
    np.testing.assert_allclose(cloud.sh[0, 0], [-0.5 / 0.15, (128 / 255 - 0.5) / 0.15, 0.5 / 0.15], rtol=1e-4)
    np.testing.assert_allclose(np.log(cloud.scales[0]), [0, -10, 5.9375], atol=1e-5)
    np.testing.assert_allclose(cloud.quats, [[0, 1, 0, 0], [0, -1, 0, 0]], atol=0.02)
    np.testing.assert_allclose(cloud.sh[1, 1:], [[0, -1, 127 / 128]] * 3)


@pytest.mark.parametrize(("code", "axes"), [(1, "LDB"), (4, "RUB"), (6, "RDF"), (12, "RFU"), (16, "RBU")])
def test_spz_may_name_its_own_frame(code, axes):
    cloud = read(gzip.compress(old_spz(2, code, flags=3)))
    assert cloud.source.axes == axes and cloud.source.antialiased
    np.testing.assert_allclose(cloud.means[0], [1, -2, 3])


def test_the_last_coefficient_of_degree_four_keeps_its_true_sign(tmp_path):
    """It is even in y: a turn about x must leave it, though the library that writes SPZ flips it."""
    cloud = random_cloud(8, 4)
    write_splats(cloud, tmp_path / "a.spz")
    body = gzip.decompress((tmp_path / "a.spz").read_bytes())
    levels = np.frombuffer(body[16 + 8 * 20 :], np.uint8).reshape(8, 24, 3)
    stored = (levels[:, 23].astype(float) - 128) / 128
    assert np.abs(stored + cloud.sh[:, 24]).max() < 0.08, "in the file it is flipped, as its own library has it"
    again = change_axes(read_splats(tmp_path / "a.spz"), "RDF")
    assert np.abs(again.sh[:, 24] - cloud.sh[:, 24]).max() < 0.08


def test_spz_version_4_without_zstandard_says_what_to_do(data, monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(compression.importlib, "import_module", missing)
    with pytest.raises(VivantError, match="Zstandard") as caught:
        read_splats(data / "splats" / "biker.spz")
    assert "version 3" in caught.value.hint


def test_zstandard_never_unpacks_more_than_expected():
    zstandard = pytest.importorskip("zstandard")
    bomb = np.frombuffer(zstandard.ZstdCompressor().compress(bytes(50_000_000)), np.uint8)
    with pytest.raises(VivantError, match="another length"):
        compression.unzstd(bomb, 1000)
    frame = np.frombuffer(zstandard.ZstdCompressor().compress(b"splats"), np.uint8)
    assert compression.unzstd(frame, 6).tobytes() == b"splats"
    with pytest.raises(VivantError, match=r"damaged|another length"):
        compression.unzstd(frame[:-3], 6)


@pytest.mark.parametrize("count", [1, 1023, 1024, 1025])
def test_splatv_holds_a_moving_cloud_within_half_floats(tmp_path, count):
    cloud = random_cloud(count, moving=True)
    write_splats(cloud, tmp_path / "a.splatv")
    file = (tmp_path / "a.splatv").read_bytes()
    length = int.from_bytes(file[4:8], "little")
    (chunk,) = json.loads(file[8 : 8 + length])
    assert chunk["texwidth"] == 4096 and chunk["size"] == 4096 * 16 * chunk["texheight"] == len(file) - 8 - length
    raw = read(file)
    assert raw.source.repairs.get("padding records: dropped", 0) == chunk["size"] // 64 - count
    again = in_order_of(raw, cloud)
    for time in (0.0, 0.3, 1.0):
        a, b = again.at(time), cloud.at(time)
        np.testing.assert_allclose(a.means, b.means, atol=8e-3)
        np.testing.assert_allclose(a.scales, b.scales, rtol=1e-3)
        np.testing.assert_allclose(a.opacities, b.opacities, atol=0.02)
        assert np.percentile(degrees_apart(a.quats, b.quats), 95) < 0.5
    assert np.abs(sh.to_rgb(again.sh) - sh.to_rgb(cloud.sh)).max() <= 0.51 / 255


def splatv_of(*records, size=None):
    size = 64 * len(records) if size is None else size
    other = b"skip me!"
    chunks = [{"type": "note", "size": len(other)}, {"type": "splat", "size": size, "texwidth": 4096, "texheight": 1}]
    text = json.dumps(chunks).encode()
    return struct.pack("<II", 0x674B, len(text)) + text + other + b"".join(records)


def splatv_record(mean=(1, 2, 3), quat=(2, 0, 0, 0), scale=(0.1, 0.2, 0.3), width=0.5, center=0.25):
    """One record: motion 1 … 9, omega 1 … 4."""
    return (
        struct.pack("<3f4e3e2x4B", *mean, *quat, *scale, 255, 0, 51, 102)
        + struct.pack("<9e2x4e2e", *range(1, 10), *range(1, 5), center, width)
    )  # fmt: skip


def test_splatv_bytes_are_read_as_they_were_packed():
    cloud = read(splatv_of(splatv_record()))
    np.testing.assert_allclose(cloud.means, [[1, 2, 3]])
    np.testing.assert_allclose(cloud.family.velocity, [[[1, 2, 3], [4, 5, 6], [7, 8, 9]]])
    np.testing.assert_allclose(cloud.family.spin, [[0.5, 1, 1.5, 2]])
    assert cloud.family.center == pytest.approx(0.25) and cloud.family.width == pytest.approx(0.5)
    np.testing.assert_allclose(sh.to_rgb(cloud.sh[0, 0]), [1, 0, 0.2], atol=1e-6)
    later = cloud.at(0.75)
    np.testing.assert_allclose(later.means, [[1 + 0.5 + 1 + 0.875, 2 + 1 + 1.25 + 1, 3 + 1.5 + 1.5 + 1.125]], rtol=1e-6)
    np.testing.assert_allclose(later.quats[0], np.array([2.5, 1, 1.5, 2]) / np.linalg.norm([2.5, 1, 1.5, 2]), rtol=1e-6)
    assert later.opacities[0] == pytest.approx(0.4 * np.exp(-1), rel=1e-5)


def test_repairs_of_splatv_are_counted():
    good = splatv_record()
    cloud = read(
        splatv_of(
            good, splatv_record(width=np.inf), splatv_record(quat=(np.nan, 0, 0, 0)), splatv_record(mean=(np.nan, 0, 0)),
            splatv_record(width=0), splatv_record(quat=(0, 0, 0, 0)), bytes(64), bytes(64),
        )
    )  # fmt: skip
    assert len(cloud) == 3 and cloud.family.width.max() == 1e6
    assert dict(cloud.source.repairs) == {
        "padding records: dropped": 4,
        "lifetimes infinite: set to 1e6": 1,
        "rotations zero or not finite: set to none": 1,
        "positions not finite: splats dropped": 1,
    }


def test_a_cut_splatv_gives_the_records_that_are_there():
    file = splatv_of(*[splatv_record()] * 10)
    cloud = read(file[:-100])
    assert len(cloud) == 8 and "8 of 10" in cloud.source.warnings[0]


@pytest.mark.parametrize("name", ["a.splat", "a.spz", "a.compressed.ply"])
def test_still_formats_refuse_moving_clouds(tmp_path, name):
    with pytest.raises(VivantError, match="cannot hold motion") as caught:
        write_splats(random_cloud(5, moving=True), tmp_path / name)
    assert "cloud.at(time)" in caught.value.hint and not list(tmp_path.iterdir())


def test_a_still_cloud_written_as_splatv_stays_still_and_visible(tmp_path):
    cloud = random_cloud(30)
    write_splats(cloud, tmp_path / "a.splatv")
    again = in_order_of(read_splats(tmp_path / "a.splatv"), cloud)
    for time in (0, 1):
        np.testing.assert_allclose(again.at(time).means, cloud.means, atol=1e-6)
        np.testing.assert_allclose(again.at(time).opacities, cloud.opacities, atol=0.51 / 255)


def test_losses_are_told_beforehand(data):
    cloud = random_cloud(5, 2).replace(extras={"t": np.zeros(5, np.float32)})
    assert not losses(cloud, "a.ply")
    assert any("Spherical harmonics" in loss for loss in losses(cloud, "a.splat"))
    assert any("extra" in loss for loss in losses(cloud, "a.spz"))
    loud = cloud.replace(sh=cloud.sh * 3)
    assert any("clipped" in loss for loss in losses(loud, "a.spz"))
    assert not losses(read_splats(data / "splats" / "playbot6.splat"), "again.splat")


def test_formats_write_their_own_frame(tmp_path):
    """A cloud read as RUB lands in a PLY as RDF, the same splats."""
    cloud = random_cloud(40, 3, axes="RUB")
    write_splats(cloud, tmp_path / "a.ply")
    again = read_splats(tmp_path / "a.ply")
    np.testing.assert_allclose(again.means, cloud.means * [1, -1, -1], atol=1e-6)
    back = change_axes(again, "RUB")
    np.testing.assert_allclose(back.sh, cloud.sh, atol=1e-6)
    np.testing.assert_allclose(back.quats, cloud.quats, atol=1e-6)


def test_modules_know_their_magic():
    assert struct.pack("<I", 0x5053474E) == spz.MAGIC and struct.pack("<I", 0x674B) == splatv.MAGIC


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_every_version_of_spz_is_written_as_it_is_read(version):
    if version == 4:
        pytest.importorskip("zstandard", reason="version 4 is packed with Zstandard")
    rng = np.random.default_rng(version)
    quats = rng.normal(size=(500, 4))
    quats /= np.linalg.norm(quats, axis=1, keepdims=True)
    still = SplatCloud(
        rng.normal(size=(500, 3)),
        quats,
        np.exp(rng.uniform(-9, 5, (500, 3))),
        rng.uniform(0, 1, 500),
        rng.uniform(-0.9, 0.9, (500, 25, 3)),
        source=Source(axes="RUB", antialiased=True),
    )
    data = np.frombuffer(b"".join(spz.encode(still, version)), np.uint8)
    assert data[:4].tobytes() == b"NGSP" if version == 4 else data[:2].tobytes() == b"\x1f\x8b"
    found = decode(data)
    assert found.source.details["version"] == version and found.source.antialiased
    assert found.degree == (3 if version < 3 else 4)
    assert np.abs(found.means - still.means).max() <= (0.002 if version == 1 else 0.51 / 4096)
    assert np.abs((found.quats * still.quats).sum(axis=1)).min() > (0.99 if version < 3 else 0.99999)
    assert np.abs(np.log(found.scales / still.scales)).max() <= 0.51 / 16
    assert np.abs(found.opacities - still.opacities).max() <= 0.51 / 255
    steps = np.abs(found.sh[:, 1:] - still.sh[:, 1 : found.sh.shape[1]])
    assert steps[:, :3].max() <= 4.6 / 128 and steps.max() <= 8.6 / 128
    changed = spz.encode(found.replace(means=found.means))
    assert decode(np.frombuffer(b"".join(changed), np.uint8)).source.details["version"] == max(version, 3)


def test_losses_names_what_is_beyond_a_formats_range():
    dark = SplatCloud(np.zeros((2, 3)), [[1, 0, 0, 0]] * 2, np.full((2, 3), 1e-6), np.ones(2), np.full((2, 4, 3), -5.0))
    words = {
        "a.spz": ("harmonics beyond -1 to 1", "Colours beyond -0.44 to 1.44", "Scales beyond"),
        "a.compressed.ply": ("beyond -4 to 4",), "a.splat": ("darker than black",), "a.splatv": ("darker than black",),
    }  # fmt: skip
    for name, expected in words.items():
        found = " ".join(losses(dark, name))
        assert all(sentence in found for sentence in expected)


def test_spz_that_is_unpacked_while_it_is_read_is_damaged_wherever_it_is_cut_or_changed():
    cloud = random_cloud(40_000, degree=3)
    file = b"".join(bytes(piece) for piece in spz.encode(cloud, 3))
    whole = decode(np.frombuffer(file, np.uint8))
    unpacked = gzip.decompress(file)
    plain = decode(np.frombuffer(unpacked, np.uint8))
    for name in ("means", "quats", "scales", "opacities", "sh"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(plain, name))
    for cut in (len(file) // 9, len(file) // 2, len(file) - 3000):
        with pytest.raises(BrokenFile, match="lacks"):
            decode(np.frombuffer(file[:cut], np.uint8))
    with pytest.raises(BrokenFile, match="lacks"):
        decode(np.frombuffer(unpacked[:-1], np.uint8))
    changed = bytearray(file)
    changed[len(file) // 2] ^= 255
    with pytest.raises(BrokenFile):
        decode(np.frombuffer(bytes(changed), np.uint8))
