# SPDX-License-Identifier: GPL-3.0-or-later
"""3DGS PLY in all its dialects, against rows that the test packs itself."""

import gzip
import pathlib
import struct
import sys

import numpy as np
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from ply_files import columns, packed, read, stg_columns

from vivant.backends.common.errors import BrokenFile, UnsupportedFormat
from vivant.backends.gaussian import sh
from vivant.backends.gaussian.formats import ply, read_splats, write_splats
from vivant.backends.gaussian.formats.ply_parts import parts_of

POINT = b"element vertex 8\nproperty float x\nproperty float y\nproperty float z\n"
FACES = b"element face 812\nproperty list uchar int vertex_indices\n"
PAINT = b"property uchar red\nproperty uchar green\nproperty uchar blue\n"


def check_equals(cloud, table, degree):
    """The cloud holds what the columns say, computed splat by splat."""
    count = (degree + 1) ** 2
    stride = sum(name.startswith("f_rest_") for name in table) // 3
    for i in range(len(cloud)):
        row = {name: float(column[i]) for name, column in table.items()}
        np.testing.assert_allclose(cloud.means[i], [row[c] for c in "xyz"], rtol=1e-6)
        np.testing.assert_allclose(cloud.scales[i], np.exp([row[f"scale_{k}"] for k in range(3)]), rtol=1e-5)
        quat = np.array([row[f"rot_{k}"] for k in range(4)])
        np.testing.assert_allclose(cloud.quats[i], quat / np.linalg.norm(quat), atol=1e-6)
        assert cloud.opacities[i] == pytest.approx(1 / (1 + np.exp(-row["opacity"])), rel=1e-5)
        for channel in range(3):
            expected = [row[f"f_dc_{channel}"], *(row[f"f_rest_{channel * stride + k}"] for k in range(count - 1))]
            np.testing.assert_allclose(cloud.sh[i, :, channel], expected, rtol=1e-6)


@pytest.mark.parametrize("degree", range(5))
@pytest.mark.parametrize("form", ["binary_little_endian", "binary_big_endian", "ascii"])
def test_every_encoding_and_degree_gives_what_the_columns_say(form, degree):
    table = columns(rest=3 * ((degree + 1) ** 2 - 1))
    cloud = read(packed(table, form))
    assert cloud.degree == degree and not cloud.source.repairs and not cloud.source.warnings
    check_equals(cloud, table, degree)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_order_and_the_type_of_columns_do_not_matter(seed):
    table = columns(rest=45)
    rng = np.random.default_rng(seed)
    shuffled = {name: table[name] for name in rng.permutation(list(table))}
    doubles = dict.fromkeys(rng.permutation(list(table))[:20], "double")
    check_equals(read(packed(shuffled, types=doubles)), table, 3)


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("form", ["binary_little_endian", "ascii"])
def test_every_line_end_is_read(form, newline):
    table = columns(rest=9)
    check_equals(read(packed(table, form, newline=newline)), table, 1)


def test_a_byte_order_mark_and_decimal_commas_are_read():
    table = columns()
    check_equals(read(b"\xef\xbb\xbf" + packed(table)), table, 0)
    head, _, body = packed(table, "ascii").partition(b"end_header\n")
    check_equals(read(head + b"end_header\n" + body.replace(b".", b",")), table, 0)


@pytest.mark.parametrize("form", ["binary_little_endian", "binary_big_endian", "ascii"])
def test_foreign_elements_with_lists_may_come_first(form):
    table = columns()
    before = (
        b"element camera 2\nproperty double f\nelement face 3\nproperty list uchar int vertex_indices\nproperty short flag\n"
    )
    order = "<" if "little" in form else ">"
    rows = struct.pack(order + "dd", 1.5, 2.5)
    for indices in ((1, 2, 3), (), (7,)):
        rows += struct.pack(f"{order}B{len(indices)}ih", len(indices), *indices, 3)
    if form == "ascii":
        rows = b"1.5\n2.5\n3 1 2 3 3\n0 3\n1 7 3\n"
    check_equals(read(packed(table, form, before=before, rows_before=rows)), table, 0)


def test_gzip_around_it_is_read(tmp_path):
    table = columns(rest=24)
    path = tmp_path / "cloud.ply.gz"
    path.write_bytes(gzip.compress(packed(table)))
    check_equals(read_splats(path), table, 2)


@pytest.mark.parametrize(
    ("rest", "coefficients", "warned"),
    [(0, 0, False), (9, 3, False), (24, 8, False), (45, 15, False), (72, 24, False),
     (12, 3, True), (51, 15, True), (7, 0, True), (75, 0, True)],
)  # fmt: skip
def test_odd_numbers_of_harmonics_keep_whole_degrees(rest, coefficients, warned):
    table = columns(rest=rest)
    cloud = read(packed(table))
    assert cloud.sh.shape[1] == coefficients + 1
    assert any("spherical harmonics" in warning for warning in cloud.source.warnings) == warned
    assert not cloud.extras
    stride = rest // 3
    for channel, k in np.ndindex(3, coefficients):
        np.testing.assert_array_equal(cloud.sh[:, k + 1, channel], table[f"f_rest_{channel * stride + k}"])


@pytest.mark.parametrize(("kind", "top"), [("uchar", 254), ("ushort", 65534)])
def test_quantised_harmonics_of_brush(kind, top):
    table = columns(rest=9)
    for i in range(9):
        table[f"f_rest_{i}"] = np.arange(5, dtype=np.int64) * (top // 4)
    cloud = read(packed(table, types={f"f_rest_{i}": kind for i in range(9)}))
    np.testing.assert_allclose(cloud.sh[:, 1, 0], np.arange(5) * (top // 4) / top, rtol=1e-6)


def test_colours_without_harmonics():
    table = columns()
    for name, value in zip(("f_dc_0", "f_dc_1", "f_dc_2"), ("red", "green", "blue"), strict=True):
        table[value] = np.arange(0, 250, 50)
        del table[name]
    cloud = read(packed(table, types=dict.fromkeys(("red", "green", "blue"), "uchar")))
    np.testing.assert_allclose(sh.to_rgb(cloud.sh[:, 0, 1]), np.arange(0, 250, 50) / 255, atol=1e-6)


def test_missing_opacity_is_opaque_and_missing_colour_is_said():
    table = {name: column for name, column in columns().items() if name != "opacity" and not name.startswith("f_dc")}
    cloud = read(packed(table))
    np.testing.assert_array_equal(cloud.opacities, 1)
    np.testing.assert_array_equal(cloud.sh, 0)
    assert any("no colours" in warning for warning in cloud.source.warnings)


def test_unknown_columns_survive_by_name_and_are_written_back(tmp_path):
    table = columns() | {"t": np.arange(5, dtype=np.float32), "segment": np.array([0, 7, 255, 3, 1])}
    cloud = read(packed(table, types={"segment": "uchar"}))
    np.testing.assert_array_equal(cloud.extras["t"], np.arange(5))
    np.testing.assert_array_equal(cloud.extras["segment"], table["segment"])
    write_splats(cloud.replace(opacities=cloud.opacities), tmp_path / "again.ply")
    again = read_splats(tmp_path / "again.ply")
    assert list(again.extras) == ["t", "segment"]
    np.testing.assert_array_equal(again.extras["segment"], table["segment"])


def test_the_filter_of_mip_splatting_is_applied():
    table = columns() | {"filter_3D": np.full(5, 0.3, np.float32)}
    cloud = read(packed(table))
    raw = np.exp(np.stack([table[f"scale_{k}"] for k in range(3)], 1).astype(np.float64))
    wide = np.sqrt(raw**2 + 0.3**2)
    np.testing.assert_allclose(cloud.scales, wide, rtol=1e-5)
    thin = np.sqrt(np.prod(raw**2, 1) / np.prod(wide**2, 1)) / (1 + np.exp(-table["opacity"].astype(np.float64)))
    np.testing.assert_allclose(cloud.opacities, thin, rtol=1e-5)
    assert not cloud.extras


def test_two_scales_are_discs_a_millionth_of_the_scene_thick():
    table = columns()
    del table["scale_2"]
    cloud = read(packed(table))
    size = np.linalg.norm(np.ptp(cloud.means, axis=0))
    np.testing.assert_allclose(cloud.scales[:, 2], 1e-6 * size, rtol=1e-5)
    assert cloud.source.details["surfels"]


def test_one_scale_is_a_ball():
    table = columns()
    del table["scale_1"], table["scale_2"]
    cloud = read(packed(table))
    np.testing.assert_array_equal(cloud.scales, np.repeat(cloud.scales[:, :1], 3, axis=1))


def test_comments_of_brush_and_postshot_are_understood():
    table = columns()
    source = read(packed(table, comments=["Exported from Brush", "SplatRenderMode: MIP", "Vertical axis: z"])).source
    assert source.antialiased and source.axes == "RBD" and source.details["comments"] == ["Exported from Brush"]
    assert source.details["up"] == (0, 0, -1)
    source = read(packed(table, comments=["antialiased 1", "Vertical axis: y"])).source
    assert source.antialiased and source.axes == "RDF" and source.details["up"] == (0, -1, 0)
    source = read(packed(table, comments=["SplatRenderMode: mip", "SplatRenderMode: default"])).source
    assert not source.antialiased


@pytest.mark.parametrize(
    ("column", "value", "kept", "repair"),
    [
        ("x", np.nan, 4, "positions not finite: splats dropped"),
        ("y", -np.inf, 4, "positions not finite: splats dropped"),
        ("opacity", np.nan, 4, "opacities not a number: splats dropped"),
        ("opacity", np.inf, 5, "opacities infinite: set to 1e-6 from 0 or 1"),
        ("opacity", -np.inf, 5, "opacities infinite: set to 1e-6 from 0 or 1"),
        ("scale_1", np.nan, 4, "scales not a number: splats dropped"),
        ("scale_1", 25.0, 5, "scales too large: set to e^20"),
        ("scale_1", np.inf, 5, "scales too large: set to e^20"),
        ("scale_1", -21.0, 5, "scales too small: set to e^-20"),
        ("scale_1", -np.inf, 5, "scales too small: set to e^-20"),
        ("rot_2", np.nan, 5, "rotations zero or not finite: set to none"),
        ("f_rest_3", np.nan, 5, "colours not finite: set to 0"),
        ("f_dc_1", np.inf, 5, "colours not finite: set to 0"),
    ],
)
def test_each_repair_is_made_and_counted(column, value, kept, repair):
    table = columns(rest=9)
    table[column][2] = value
    cloud = read(packed(table))
    assert dict(cloud.source.repairs) == {repair: 1} and len(cloud) == kept
    assert cloud.source.encoded is None, "the file's own bytes no longer say what the cloud holds"
    for array in (cloud.means, cloud.quats, cloud.scales, cloud.opacities, cloud.sh):
        assert np.isfinite(array).all()
    if column == "opacity" and kept == 5:
        assert cloud.opacities[2] == pytest.approx(1 - 1e-6 if value > 0 else 1e-6, rel=1e-3)
    if column == "scale_1" and kept == 5:
        assert abs(np.log(cloud.scales[2, 1])) == pytest.approx(20)
    if column == "rot_2":
        np.testing.assert_array_equal(cloud.quats[2], [1, 0, 0, 0])


def test_zero_quaternions_become_the_identity_and_long_ones_are_shortened():
    table = columns()
    for name in ("rot_0", "rot_1", "rot_2", "rot_3"):
        table[name][:3] = 0, 1e-30, 1e25
    cloud = read(packed(table))
    np.testing.assert_allclose(cloud.quats[:3], [[1, 0, 0, 0], [1, 0, 0, 0], [0.5] * 4], atol=1e-6)
    assert dict(cloud.source.repairs) == {"rotations zero or not finite: set to none": 2}


def test_a_file_without_one_usable_splat_is_broken():
    table = columns()
    table["x"][:] = np.nan
    with pytest.raises(BrokenFile, match="None of the file's 5 splats"):
        read(packed(table))


@pytest.mark.parametrize("form", ["binary_little_endian", "ascii"])
def test_a_cut_file_gives_the_splats_that_are_there(form):
    table = columns(count=400)
    whole = packed(table, form)
    for eighth in range(1, 8):
        cloud = read(whole[: len(whole) * eighth // 8])
        assert 0 < len(cloud) < 400 and f"{len(cloud)} of 400" in cloud.source.warnings[0]
        check_equals(cloud.select(slice(-2, None)), {k: v[len(cloud) - 2 : len(cloud)] for k, v in table.items()}, 0)


def test_an_empty_cloud_is_read_and_written(tmp_path):
    cloud = read(packed(columns(count=0), claim=0))
    assert len(cloud) == 0
    write_splats(cloud.replace(), tmp_path / "none.ply")
    assert len(read_splats(tmp_path / "none.ply")) == 0


@pytest.mark.parametrize(
    ("file", "words"),
    [
        (POINT + FACES + b"end_header\n" + bytes(812 * 13 + 96), "a mesh PLY with 812 faces"),
        (POINT + PAINT + b"end_header\n" + bytes(120), "a point-cloud PLY with 8 points and colours"),
        (b"end_header\n", "a PLY without points"),
        (b"element vertex 1\nproperty float u\nend_header\n" + bytes(4), "no positions"),
    ],
)  # fmt: skip
def test_other_ply_files_are_named_for_what_they_are(file, words):
    with pytest.raises(UnsupportedFormat, match=words) as caught:
        read(b"ply\nformat binary_little_endian 1.0\n" + file)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("extra", "words"),
    [(["l_triangle_0", "scale_6"], "7D"), (["l_triangle_0"], "6D"), (["l_diag_0"], "6D"), (["rot_r_0", "t"], "4D Gaussian")],
)
def test_splats_that_a_still_cloud_cannot_stand_for_are_refused(extra, words):
    with pytest.raises(UnsupportedFormat, match=words):
        read(packed(columns() | {name: np.zeros(5, np.float32) for name in extra}))


@pytest.mark.parametrize(
    ("extra", "words"),
    [("fea_0", "SC-GS"), ("binding_0", "GaussianAvatars"), ("velocity_0", "velocities"), ("scaling_t", "4D Gaussians")],
)
def test_splats_that_something_else_moves_are_read_still_with_a_warning(extra, words):
    cloud = read(packed(columns() | {extra: np.arange(5, dtype=np.float32)}))
    assert cloud.family is None and any(words in warning for warning in cloud.source.warnings)
    np.testing.assert_array_equal(cloud.extras[extra], np.arange(5))


def test_spacetime_gaussians_move_as_their_formula_says():
    table = stg_columns()
    cloud = read(packed(table))
    for time in (0.0, 0.35, 1.0):
        still = cloud.at(time)
        for i in range(5):
            row = {name: float(column[i]) for name, column in table.items()}
            d = time - row["trbf_center"]
            for k, axis in enumerate("xyz"):
                path = row[axis] + row[f"motion_{k}"] * d + row[f"motion_{3 + k}"] * d**2 + row[f"motion_{6 + k}"] * d**3
                assert still.means[i, k] == pytest.approx(path, rel=1e-4, abs=1e-5)
            quat = np.array([row[f"rot_{k}"] + row[f"omega_{k}"] * d for k in range(4)])
            np.testing.assert_allclose(still.quats[i], quat / np.linalg.norm(quat), atol=1e-5)
            weight = np.exp(-((d / np.exp(row["trbf_scale"])) ** 2))
            assert still.opacities[i] == pytest.approx(weight / (1 + np.exp(-row["opacity"])), rel=1e-4, abs=1e-7)
            np.testing.assert_allclose(sh.to_rgb(still.sh[i, 0]), [row[f"f_dc_{k}"] for k in range(3)], atol=1e-6)


@pytest.mark.parametrize(
    ("column", "value", "kept", "repair"),
    [
        ("trbf_scale", 200.0, 5, "lifetimes infinite: set to 1e6"),
        ("trbf_scale", np.nan, 5, "lifetimes infinite: set to 1e6"),
        ("trbf_scale", -200.0, 5, "lifetimes too short: set to 1e-6"),
        ("trbf_center", np.nan, 4, "times not finite: splats dropped"),
        ("motion_4", np.inf, 5, "motion not finite: set to 0"),
        ("omega_1", np.nan, 5, "spin not finite: set to 0"),
    ],
)
def test_each_repair_of_motion_is_made_and_counted(column, value, kept, repair):
    table = stg_columns()
    table[column][1] = value
    cloud = read(packed(table))
    assert dict(cloud.source.repairs) == {repair: 1} and len(cloud) == kept
    assert all(np.isfinite(values).all() for values in cloud.family.attributes().values())
    assert np.isfinite(cloud.at(0.5).means).all() and (cloud.family.width <= 1e6).all()


@pytest.mark.parametrize("degree", range(5))
@pytest.mark.parametrize("count", [1, 255, 256, 257, 513])
def test_written_columns_are_those_that_were_read(tmp_path, degree, count):
    table = columns(count, 3 * ((degree + 1) ** 2 - 1), seed=count)
    cloud = read(packed(table))
    write_splats(cloud.replace(), tmp_path / "a.ply")
    again = read_splats(tmp_path / "a.ply")
    np.testing.assert_array_equal(again.means, cloud.means)
    np.testing.assert_array_equal(again.sh, cloud.sh)
    np.testing.assert_allclose(again.scales, cloud.scales, rtol=2e-6)
    np.testing.assert_allclose(again.opacities, cloud.opacities, atol=1e-6)
    np.testing.assert_allclose(again.quats, cloud.quats, atol=1e-6)


def test_moving_clouds_are_written_as_spacetime_gaussians(tmp_path):
    cloud = read(packed(stg_columns()))
    write_splats(cloud.replace(), tmp_path / "a.ply")
    again = read_splats(tmp_path / "a.ply")
    for time in (0, 0.4, 1):
        np.testing.assert_allclose(again.at(time).means, cloud.at(time).means, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(again.at(time).quats, cloud.at(time).quats, atol=1e-5)
        np.testing.assert_allclose(again.at(time).opacities, cloud.at(time).opacities, atol=1e-5)
        np.testing.assert_allclose(again.at(time).sh, cloud.at(time).sh, atol=1e-5)


def test_the_header_follows_the_order_of_inria():
    head = next(ply.encode(read(packed(columns(rest=9))))).decode()
    names = [line.split()[-1] for line in head.splitlines() if line.startswith("property")]
    expected = ["x", "y", "z", "nx", "ny", "nz", *(f"f_dc_{i}" for i in range(3)), *(f"f_rest_{i}" for i in range(9))]
    assert names == [*expected, "opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"]
    assert "comment SplatRenderMode: default" in head


def test_a_comment_on_the_count_is_not_taken_for_it_when_a_file_is_read_in_parts(tmp_path):
    file = packed(columns(500)).replace(b"element vertex", b"comment once element vertex 9\nelement vertex", 1)
    (tmp_path / "a.ply").write_bytes(file)
    parts = [*parts_of(tmp_path / "a.ply", rows=100).read()]
    assert [len(part) for part in parts] == [100] * 5 and not any(part.source.warnings for part in parts)
