# SPDX-License-Identifier: GPL-3.0-or-later
""".ksplat: against the reference writer's files of one scene, and small files made here byte by byte."""

import contextlib
import struct
import tracemalloc

import numpy as np
import pytest

from vivant.backends.common.errors import BrokenFile, VivantError
from vivant.backends.gaussian import sh
from vivant.backends.gaussian.formats import decode, read_splats


def file_of(level, sections, sh_range=(0.0, 0.0)):
    """A .ksplat of sections (records, degree, bucket size, full buckets, partial lengths, centres)."""
    splats = sum(len(records) for records, *_ in sections)
    main = struct.pack("<BBxx4IHxx3f2f", 0, 1, len(sections), len(sections), splats, splats, level, 0, 0, 0, *sh_range)
    headers, bodies = b"", b""
    for records, degree, bucket_size, full, partial, centres in sections:
        body = b"".join(records)
        headers += struct.pack(
            "<4IfHxx4IH",
            len(records),
            len(records),
            bucket_size,
            len(centres),
            5.0,
            12,
            0,
            len(body),
            full,
            len(partial),
            degree,
        ).ljust(1024, b"\0")
        bodies += np.asarray(partial, "<u4").tobytes() + np.asarray(centres, "<f4").tobytes() + body
    return np.frombuffer(main.ljust(4096, b"\0") + headers + bodies, np.uint8).copy()


def exact(x, degree=0):
    values = np.arange(3 * ((degree + 1) ** 2 - 1)) / 32
    return (
        np.array([x, 2, 3, 0.1, 0.2, 0.3, 1, 0, 0, 0], "<f4").tobytes()
        + bytes([255, 0, 51, 102])
        + values.astype("<f4").tobytes()
    )


def packed(position):
    return np.array([position, 32767, 32767], "<u2").tobytes() + np.array([0.5] * 3 + [0, 1, 0, 0], "<f2").tobytes() + bytes(4)


def test_level_0_holds_what_stands_there():
    cloud = decode(file_of(0, [([exact(1, 2), exact(5, 2)], 2, 256, 0, [], [])]))
    np.testing.assert_array_equal(cloud.means, [[1, 2, 3], [5, 2, 3]])
    np.testing.assert_array_equal(cloud.scales, np.array([[0.1, 0.2, 0.3]] * 2, "f4"))
    np.testing.assert_array_equal(cloud.quats, [[1, 0, 0, 0]] * 2)
    np.testing.assert_allclose(sh.to_rgb(cloud.sh[:, 0]), [[1, 0, 0.2]] * 2, atol=1e-6)
    np.testing.assert_allclose(cloud.opacities, 0.4, atol=1e-6)
    np.testing.assert_array_equal(cloud.sh[0, 1:4, 0] * 32, [0, 1, 2])  # red's three of degree 1 stand first
    np.testing.assert_array_equal(cloud.sh[0, 4:9, 1] * 32, np.arange(14, 19))  # green's five of degree 2


def test_positions_of_levels_above_0_lie_around_the_centres_of_full_then_partial_buckets():
    centres = [[0, 0, 0], [10, 0, 0], [20, 0, 0], [30, 0, 0]]
    records = [packed(32767 + 6553)] * 7  # 6553 steps of 2.5 / 32767
    cloud = decode(file_of(1, [(records, 0, 2, 2, [1, 2], centres)]))
    np.testing.assert_allclose(cloud.means[:, 0], np.array([0, 0, 10, 10, 20, 30, 30]) + 0.49997, atol=1e-4)
    np.testing.assert_array_equal(cloud.means[:, 1], 0)


def test_sections_follow_each_other_and_the_lower_degree_is_filled_with_zeros():
    cloud = decode(file_of(0, [([exact(1)], 0, 256, 0, [], []), ([exact(2, 1)] * 3, 1, 256, 0, [], [])]))
    np.testing.assert_array_equal(cloud.means[:, 0], [1, 2, 2, 2])
    assert cloud.degree == 1 and not cloud.sh[0, 1:].any() and cloud.sh[1:, 1:].any()


@pytest.mark.parametrize("level", [0, 1, 2])
def test_files_of_the_reference_writer_agree_with_the_ply_that_they_were_made_from(data, level):
    cloud = read_splats(data / "splats" / f"playbot5_l{level}.ksplat")
    ply = read_splats(data / "splats" / "playbot5.ply")
    assert len(cloud) == 3000 and cloud.degree == 2 and cloud.source.axes == "RDF"
    order = np.arange(3000)
    right = np.array([np.square(ply.means - mean).sum(axis=1).argmin() for mean in cloud.means])
    assert len(set(right)) == 3000
    position, scale, harmonics = [(0, 6e-8, 0), (6.4e-5, 9.5e-4, 9.5e-4), (6.4e-5, 9.5e-4, 0.0133)][level]
    assert np.abs(cloud.means[order] - ply.means[right]).max() <= position
    assert np.abs(np.log(cloud.scales[order]) - np.log(ply.scales[right])).max() <= max(scale, 5e-7)
    assert np.abs(cloud.sh[order, 1:] - ply.sh[right, 1:]).max() <= harmonics
    assert np.abs((cloud.quats[order] * ply.quats[right]).sum(axis=1)).min() > 0.9999
    assert np.abs(cloud.opacities[order] - ply.opacities[right]).max() < 1.01 / 255


def test_the_fixture_without_sections_and_capacities_is_read(data):
    cloud = read_splats(data / "splats" / "minimal" / "minimal.ksplat")
    assert len(cloud) == 4


def test_sizes_that_contradict_each_other_are_refused_and_cut_files_say_so():
    whole = file_of(0, [([exact(i) for i in range(50)], 0, 256, 0, [], [])])
    cut = decode(whole[: -44 * 20 - 1])
    assert len(cut) == 29 and "29 of 50" in cut.source.warnings[0]
    for offset, value in ((4, 99_999), (4096 + 12, 1 << 30), (4096 + 32, 77), (4096 + 36, 1 << 31), (4096 + 40, 9)):
        broken = whole.copy()
        broken[offset : offset + 4] = np.frombuffer(struct.pack("<I", value), np.uint8)
        with pytest.raises(BrokenFile):
            decode(broken)


def test_buckets_without_splats_take_no_memory():
    file = bytearray(file_of(0, [([exact(i) for i in range(3)], 0, 256, 0, [], [])]).tobytes())
    head = 4096
    file[head + 8 : head + 12] = bytes(4)  # splats a bucket
    file[head + 32 : head + 36] = b"\xff\xff\xff\xff"  # full buckets
    tracemalloc.start()
    with contextlib.suppress(VivantError):
        decode(np.frombuffer(bytes(file), np.uint8))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20
