# SPDX-License-Identifier: GPL-3.0-or-later
"""USD's Gaussian splats in all three containers: round trips, another decoder's file, hostile tables, moving clouds."""

import struct
import tracemalloc

import numpy as np
import pytest

from vivant.backends.common.errors import BrokenFile, UnsupportedFormat, VivantError
from vivant.backends.gaussian.axes import change_axes
from vivant.backends.gaussian.cloud import Source, SplatCloud
from vivant.backends.gaussian.formats import crate, crate_packing, losses, read_splats, usd, write_splats
from vivant.backends.gaussian.motion.frames import Frames
from vivant.backends.gaussian.motion.stg import Stg


def random_cloud(count=300, degree=2, moving=False, axes="RUB"):
    rng = np.random.default_rng([count, degree])
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
        np.exp(rng.normal(-4, 1, (count, 3))),
        rng.uniform(0, 1, count),
        rng.normal(0, 0.3, (count, (degree + 1) ** 2, 3)),
        family=family,
        source=Source(axes=axes),
    )


def assert_same(a, b, unit=1e-7):
    for name in ("means", "scales", "opacities", "sh"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    np.testing.assert_allclose(a.quats, b.quats, atol=unit)


CONTAINERS = [".usdc", ".usda", ".usdz", ".usd"]


@pytest.mark.parametrize("extension", CONTAINERS)
@pytest.mark.parametrize("degree", range(5))
def test_usd_holds_every_float(tmp_path, extension, degree):
    cloud = random_cloud(257, degree)
    write_splats(cloud, tmp_path / f"a{extension}")
    again = read_splats(tmp_path / f"a{extension}")
    assert again.source.axes == "RUB" and not again.source.repairs and not again.source.warnings
    assert_same(again, cloud)


def test_a_capture_s_frame_becomes_the_stage_s(tmp_path):
    cloud = random_cloud(50, 3, axes="RDF")
    write_splats(cloud, tmp_path / "a.usdc")
    again = change_axes(read_splats(tmp_path / "a.usdc"), "RDF")
    np.testing.assert_allclose(again.means, cloud.means, atol=1e-6)
    np.testing.assert_allclose(again.sh, cloud.sh, atol=1e-6)


@pytest.mark.parametrize("extension", CONTAINERS)
def test_a_moving_cloud_becomes_samples_that_move_alike(tmp_path, extension):
    cloud = random_cloud(40, 1, moving=True)
    assert "Motion is written as frames" in losses(cloud, f"a{extension}")[0]
    usd.write(cloud, tmp_path / f"a{extension}", np.linspace(0, 1, 9))
    again = read_splats(tmp_path / f"a{extension}")
    assert isinstance(again.family, Frames) and again.family.time_range == (1.0, 9.0)
    for frame, time in enumerate(np.linspace(0, 1, 9)):
        assert_same(again.at(1 + frame), cloud.at(time), 3e-7)
    between = again.at(4.25)
    np.testing.assert_allclose(between.means, 0.75 * again.at(4).means + 0.25 * again.at(5).means, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(between.quats, axis=1), 1, atol=1e-6)


def test_samples_that_do_not_change_are_written_once(tmp_path):
    cloud = random_cloud(1000, 3, moving=True)
    usd.write(cloud, tmp_path / "a.usdc", np.linspace(0, 1, 10))
    moving_bytes = 10 * 1000 * 4 * (3 + 4 + 1)  # positions, orientations, opacities
    constant_bytes = 1000 * 4 * (3 + 48)
    assert (tmp_path / "a.usdc").stat().st_size < 1.02 * (moving_bytes + constant_bytes)


def test_a_moving_file_is_written_again_at_its_own_times(tmp_path):
    usd.write(random_cloud(20, 0, moving=True), tmp_path / "a.usdc", np.linspace(0, 1, 4))
    first = read_splats(tmp_path / "a.usdc")
    write_splats(change_axes(first, "RDF"), tmp_path / "b.usda")
    second = read_splats(tmp_path / "b.usda")
    assert second.family.times.tolist() == [1, 2, 3, 4]
    for time in (1, 2.5, 4):
        np.testing.assert_allclose(second.at(time).means, first.at(time).means, atol=1e-6)


def test_splats_of_a_moving_file_can_be_picked(tmp_path):
    usd.write(random_cloud(20, 0, moving=True), tmp_path / "a.usdc", np.linspace(0, 1, 4))
    cloud = read_splats(tmp_path / "a.usdc")
    picked = cloud.select(slice(0, 20, 3)).select([2, 1])
    np.testing.assert_array_equal(picked.at(3).means, cloud.at(3).means[[6, 3]])


def test_another_writer_s_file_reads_as_its_neighbour_in_another_format(data):
    """playbot6.usdc by usd-convert-gsplat, which copies the PLY's numbers, against playbot6.splat by ply2splat."""
    cloud, splat = read_splats(data / "splats/playbot6.usdc"), read_splats(data / "splats/playbot6.splat")
    assert cloud.degree == 2 and len(cloud) == len(splat) == 1873
    np.testing.assert_allclose(cloud.quats[0], [0.635010, 0.169151, 0.296708, 0.692904], atol=1e-6)
    order_a, order_b = np.lexsort(cloud.means.T), np.lexsort(splat.means.T)
    np.testing.assert_array_equal(cloud.means[order_a], splat.means[order_b])
    np.testing.assert_allclose(cloud.scales[order_a], splat.scales[order_b], rtol=1e-6)
    np.testing.assert_allclose(cloud.opacities[order_a], splat.opacities[order_b], atol=1 / 255)
    colours = np.clip(0.5 + 0.28209479 * cloud.sh[order_a, 0], 0, 1)
    np.testing.assert_allclose(colours, 0.5 + 0.28209479 * splat.sh[order_b, 0], atol=1.01 / 255)
    assert np.abs(np.einsum("nk,nk->n", cloud.quats[order_a], splat.quats[order_b])).min() > 0.9999


def test_text_by_other_hands_is_read(tmp_path):
    (tmp_path / "a.usda").write_text(
        '#usda 1.0\n(\n    doc = "by hand"\n    upAxis = "Z"\n    metersPerUnit = 0.01\n)\n\n'
        'def Xform "World"\n{\n    def ParticleField3DGaussianSplat "S" (\n        kind = "x"\n    )\n    {\n'
        "        point3f[] positions = [(100, 0, 0),\n            (0, 200, 0)]\n"
        "        quath[] orientationsh = [(1, 0, 0, 0), (0, 2, 0, 0)]\n"
        "        half3[] scalesh = [(1, 2, 3), (4, 5, 6)]\n"
        "        float[] opacities = [0.5, 1.5]\n"
        '        color3f[] primvars:displayColor = [(1, 0.5, 0), (0, 0, 0)] (\n            interpolation = "vertex"\n'
        "        )\n"
        "    }\n}\n"
    )
    cloud = read_splats(tmp_path / "a.usda")
    assert cloud.source.axes == "RFU"
    np.testing.assert_allclose(cloud.means, [[1, 0, 0], [0, 2, 0]])
    np.testing.assert_allclose(cloud.scales[1], [0.04, 0.05, 0.06], rtol=1e-6)
    np.testing.assert_allclose(cloud.quats, [[1, 0, 0, 0], [0, 1, 0, 0]])
    np.testing.assert_allclose(0.5 + 0.28209479 * cloud.sh[0, 0], [1, 0.5, 0], atol=1e-6)
    assert not cloud.source.warnings
    assert cloud.opacities.tolist() == [0.5, 1] and dict(cloud.source.repairs) == {"opacities beyond 0 to 1: clamped": 1}


def test_what_a_file_does_not_say_is_assumed_and_said(tmp_path):
    (tmp_path / "a.usda").write_text(
        '#usda 1.0\ndef ParticleField3DGaussianSplat "S"\n{\n    point3f[] positions = [(1, 2, 3)]\n'
        "    float3[] scales = [(1, 1, 1)]\n}\n"
    )
    cloud = read_splats(tmp_path / "a.usda")
    assert cloud.source.axes == "RUB" and cloud.means.tolist() == [[1, 2, 3]] and cloud.opacities.tolist() == [1]
    said = " ".join(cloud.source.warnings)
    for words in ("metres were assumed", "no orientations", "no opacities", "no colours"):
        assert words in said


def test_samples_of_changing_counts_hold_until_the_next(tmp_path):
    (tmp_path / "a.usda").write_text(
        '#usda 1.0\n(\n    metersPerUnit = 1\n)\ndef ParticleField3DGaussianSplat "S"\n{\n'
        "    point3f[] positions.timeSamples = {\n        0: [(1, 2, 3)],\n        2: [(1, 2, 3), (4, 5, 6)],\n    }\n}\n"
    )
    cloud = read_splats(tmp_path / "a.usda")
    assert [len(cloud.at(time)) for time in (0, 1.9, 2, 5)] == [1, 1, 2, 2] and not cloud.family.linked


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("opacities = [0.5, 0.5]", "opacities = [0.5]", "2 positions, but 1 opacities"),
        ("opacities = [0.5, 0.5]", "opacities = [0.5, huh]", "something else than numbers"),
        ("opacities = [0.5, 0.5]", "opacities = [0.5, 0.5", "ends within a value"),
        ("(0,0,0), (1,0,0)", "(0,0,0), (1,0)", "array of point3f"),
    ],
)
def test_damaged_texts_are_refused_with_a_sentence(tmp_path, old, new, words):
    text = (
        '#usda 1.0\ndef ParticleField3DGaussianSplat "S"\n{\n'
        "    point3f[] positions = [(0,0,0), (1,0,0)]\n    float[] opacities = [0.5, 0.5]\n}\n"
    )
    (tmp_path / "a.usda").write_text(text.replace(old, new))
    with pytest.raises(BrokenFile, match=words):
        read_splats(tmp_path / "a.usda")


def test_usd_without_splats_says_what_it_holds(tmp_path):
    (tmp_path / "a.usda").write_text('#usda 1.0\ndef Mesh "M"\n{\n}\n')
    with pytest.raises(UnsupportedFormat, match="no Gaussian splats, but Mesh"):
        read_splats(tmp_path / "a.usda")


def test_an_older_binary_version_is_named(tmp_path):
    write_splats(random_cloud(5), tmp_path / "a.usdc")
    file = bytearray((tmp_path / "a.usdc").read_bytes())
    file[9] = 4
    (tmp_path / "a.usdc").write_bytes(file)
    with pytest.raises(UnsupportedFormat, match=r"version 0\.4"):
        read_splats(tmp_path / "a.usdc")


def lz4_block(*parts):
    return np.frombuffer(b"\0" + b"".join(parts), np.uint8)


def test_lz4_copies_overlap_as_they_must():
    assert crate_packing.unpack_lz4(lz4_block(b"\x24ab\x02\x00", b"\x10c"), 100) == b"ab" + b"abababab" + b"c"
    assert crate_packing.unpack_lz4(lz4_block(b"\x1fa\x01\x00\xff\x01", b"\x00"), 1000) == b"a" * (1 + 15 + 256 + 4)
    with pytest.raises(VivantError, match="nonsense"):
        crate_packing.unpack_lz4(lz4_block(b"\x14a\x05\x00"), 100)
    with pytest.raises(VivantError, match="nonsense"):
        crate_packing.unpack_lz4(lz4_block(b"\x1fa\x01\x00" + b"\xff" * 5000 + b"\x00"), 1000)


def test_integers_are_decoded_as_the_specification_s_example_says():
    coded = struct.pack("<iBBbibb", 1, 0b11000001, 0b00010001, 123, 100000, 0, 0)
    assert crate_packing.decode_integers(coded, 7).tolist() == [123, 124, 125, 100125, 100125, 100126, 100126]


def test_prims_that_share_a_set_of_fields_all_have_them(monkeypatch):
    count = 50
    sets = crate_packing.counted([0, 1, 2, crate.NONE])
    specs = crate_packing.counted(range(count)) + crate_packing.encode_integers([0] * count)
    file = object.__new__(crate._Crate)
    file.data, file.tables = np.frombuffer(sets + specs, np.uint8), {b"FIELDSETS": 0, b"SPECS": len(sets)}
    file.tokens, file.fields = ["a", "b", "c"], [(0, 7), (1, 8), (2, 9)]
    monkeypatch.setattr(file, "_paths", lambda: {index: f"/{index}" for index in range(count)})
    assert file.specs() == {f"/{index}": {"a": 7, "b": 8, "c": 9} for index in range(count)}


@pytest.mark.parametrize("seed", range(3))
def test_random_tables_never_take_much_memory(tmp_path, seed):
    write_splats(random_cloud(200, 1), tmp_path / "a.usdc")
    file = (tmp_path / "a.usdc").read_bytes()
    rng = np.random.default_rng(seed)
    for _ in range(100):
        damaged = bytearray(file)
        at = len(file) - int(rng.integers(1, 1500))
        damaged[at : at + 4] = rng.bytes(4)
        tracemalloc.start()
        try:
            usd.decode(np.frombuffer(bytes(damaged), np.uint8).copy())
        except VivantError:
            pass
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak < 4 * len(file) + (64 << 20)
