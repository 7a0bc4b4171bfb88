# SPDX-License-Identifier: GPL-3.0-or-later
"""Moving splats in PLY, against the formulas of the projects that write them, number by number."""

import pathlib
import sys

import numpy as np
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from ply_files import columns, packed, read, stg_columns

from vivant.backends.common.errors import UnsupportedFormat
from vivant.backends.gaussian import sh
from vivant.backends.gaussian.covariance import covariances
from vivant.backends.gaussian.formats import Overrides, decode, losses, read_splats, write_splats
from vivant.backends.gaussian.motion import rotor4d
from vivant.backends.gaussian.motion.rotor4d import Rotor4D
from vivant.backends.gaussian.motion.stg_full import StgFull

CAMERA = [0.3, -2.0, 1.5]


def floats(**more):
    return {name: np.asarray(column, np.float32) for name, column in more.items()}


def check_same_motion(one, other, atol=2e-5):
    for time in np.linspace(*one.family.time_range, 4):
        a, b = one.at(time, CAMERA), other.at(time, CAMERA)
        np.testing.assert_allclose(a.means, b.means, atol=atol)
        np.testing.assert_allclose(a.opacities, b.opacities, atol=atol)
        np.testing.assert_allclose(a.sh, b.sh, atol=atol)
        shapes = [covariances(still.quats.astype(float), still.scales) for still in (a, b)]
        size = np.abs(shapes[0]).max(axis=(1, 2), keepdims=True)
        np.testing.assert_allclose(shapes[0] / size, shapes[1] / size, atol=2e-4)


def check_round_trip(file, tmp_path):
    """The cloud of a file, after it came back byte for byte, and changed with its motion."""
    (tmp_path / "a.ply").write_bytes(file)
    cloud = read_splats(tmp_path / "a.ply")
    if not cloud.source.repairs:
        write_splats(cloud, tmp_path / "b.ply")
        assert (tmp_path / "b.ply").read_bytes() == file
        for values in vars(cloud.family).values():
            assert not (isinstance(values, np.ndarray) and values.flags.writeable), (
                "what would be written is no longer what the cloud holds"
            )
    write_splats(cloud.select(slice(1, None)), tmp_path / "c.ply")
    again = read_splats(tmp_path / "c.ply")
    assert type(again.family) is type(cloud.family)
    check_same_motion(again, cloud.select(slice(1, None)))
    return cloud


# ---- linear velocity

VELOCITIES = ["velocity_0 velocity_1 velocity_2", "vel_0 vel_1 vel_2", "vx vy vz", "motion_0 motion_1 motion_2"]


def linear_columns(velocity="velocity_0 velocity_1 velocity_2", center="t", width="sigma_t"):
    rng = np.random.default_rng(3)
    table = columns() | floats(**{name: rng.normal(size=5) for name in velocity.split()})
    return table | floats(**{center: rng.uniform(0, 1, 5), width: rng.uniform(0.2, 1, 5)})


@pytest.mark.parametrize("velocity", VELOCITIES)
@pytest.mark.parametrize(
    ("center", "width"), [("t", "sigma_t"), ("mu_t", "duration"), ("time", "scale_t"), ("trbf_center", "trbf_scale")]
)
def test_straight_motion_is_read_by_every_name(tmp_path, velocity, center, width):
    table = linear_columns(velocity, center, width)
    cloud = check_round_trip(packed(table), tmp_path)
    assert cloud.family.name == "Linear" and not cloud.extras
    assert any(center in warning and velocity.split()[0] in warning for warning in cloud.source.warnings)
    spread = table[width].astype(float)
    spread = {"scale_t": np.exp(spread), "trbf_scale": np.exp(spread) / np.sqrt(2)}.get(width, spread)
    for time in (0.0, 0.6):
        still, d = cloud.at(time), time - table[center].astype(float)
        path = np.stack([table[axis] + table[name] * d for axis, name in zip("xyz", velocity.split(), strict=True)], 1)
        np.testing.assert_allclose(still.means, path, atol=1e-5)
        fade = np.exp(-(d**2) / (2 * spread**2)) / (1 + np.exp(-table["opacity"].astype(float)))
        np.testing.assert_allclose(still.opacities, fade, rtol=1e-4)


def test_straight_motion_without_times_never_fades_and_starts_at_zero(tmp_path):
    table = columns() | floats(vx=np.ones(5), vy=np.zeros(5), vz=np.zeros(5))
    cloud = check_round_trip(packed(table), tmp_path)
    np.testing.assert_allclose(cloud.at(0.5).means[:, 0], table["x"] + 0.5, atol=1e-6)
    np.testing.assert_array_equal(cloud.at(0.5).opacities, cloud.opacities)


def test_segments_are_intervals(tmp_path):
    table = linear_columns() | floats(t_start=[0, 0.2, 0.4, 0.6, 0.8], t_end=[0.2, 0.4, 0.6, 0.8, 1])
    cloud = check_round_trip(packed(table), tmp_path)
    assert [np.flatnonzero(cloud.at(time).opacities).tolist() for time in (0.1, 0.2, 0.7)] == [[0], [1], [3]]


@pytest.mark.parametrize(
    ("column", "value", "kept", "repair"),
    [
        ("sigma_t", np.nan, 5, "lifetimes not a number or negative: never fading"),
        ("sigma_t", -1, 5, "lifetimes not a number or negative: never fading"),
        ("sigma_t", np.inf, 5, None),
        ("sigma_t", 0, 5, None),
        ("t", np.nan, 4, "times not finite: splats dropped"),
        ("velocity_1", np.inf, 5, "motion not finite: set to 0"),
    ],
)
def test_each_repair_of_straight_motion_is_made_and_counted(column, value, kept, repair):
    table = linear_columns()
    table[column][1] = value
    cloud = read(packed(table))
    assert dict(cloud.source.repairs) == ({repair: 1} if repair else {}) and len(cloud) == kept
    if column == "sigma_t":
        assert cloud.at(1.0).opacities[1] == cloud.opacities[1]


# ---- full spacetime Gaussians


def test_full_spacetime_gaussians_keep_their_features(tmp_path):
    rng = np.random.default_rng(5)
    features = [*(f"f_dc_{i}" for i in (3, 4, 5)), *(f"f_t_{i}" for i in range(3))]
    table = stg_columns() | floats(**{name: rng.normal(size=5) for name in features})
    cloud = check_round_trip(packed(table), tmp_path)
    assert isinstance(cloud.family, StgFull) and any("network" in warning for warning in cloud.source.warnings)
    np.testing.assert_array_equal(cloud.family.specular[:, 1], table["f_dc_4"])
    np.testing.assert_array_equal(cloud.family.temporal[:, 2], table["f_t_2"])
    base = 1 / (1 + np.exp(-table["f_dc_0"].astype(float)))
    np.testing.assert_allclose(sh.to_rgb(cloud.at(0.5).sh[:, 0, 0]), base, atol=1e-6)
    lite = read(packed({name: column for name, column in table.items() if name not in features}))
    np.testing.assert_array_equal(cloud.at(0.3).means, lite.at(0.3).means)


# ---- 4D Gaussians


def rotor_columns(rest=0, second="rot_r_", size="scaling_t"):
    rng = np.random.default_rng(6)
    table = columns(rest=rest) | floats(t=rng.uniform(0, 1, 5), **{size: rng.normal(size=5) - 1})
    return table | floats(**{f"{second}{i}": rng.normal(size=5) for i in range(4)})


@pytest.mark.parametrize(("second", "size"), [("rot_r_", "scaling_t"), ("rotation_r_", "scale_t")])
def test_4d_gaussians_are_cut_in_time(tmp_path, second, size):
    table = rotor_columns(9, second, size)
    cloud = check_round_trip(packed(table), tmp_path)
    assert isinstance(cloud.family, Rotor4D) and cloud.family.turning and cloud.degree == 1 and not cloud.extras
    for i in range(5):
        row = {name: float(column[i]) for name, column in table.items()}
        turn = rotor4d.rotation(*(np.array([[row[f"{name}{k}"] for k in range(4)]]) for name in ("rot_", second)))[0]
        sizes = np.exp([row["scale_0"], row["scale_1"], row["scale_2"], row[size]])
        whole = turn @ np.diag(sizes**2) @ turn.T
        for time in (0.1, 0.5):
            still, d = cloud.at(time), time - row["t"]
            path = [row["x"], row["y"], row["z"]] + whole[:3, 3] / whole[3, 3] * d
            np.testing.assert_allclose(still.means[i], path, rtol=1e-4, atol=1e-5)
            fade = np.exp(-(d**2) / (2 * whole[3, 3]))
            expected = fade / (1 + np.exp(-row["opacity"])) if fade > 0.05 else 0
            assert still.opacities[i] == pytest.approx(expected, rel=1e-3, abs=1e-6)
            shape = whole[:3, :3] - np.outer(whole[:3, 3], whole[:3, 3]) / whole[3, 3]
            np.testing.assert_allclose(covariances(still.quats.astype(float), still.scales)[i], shape, rtol=1e-3, atol=1e-5)


def test_without_a_second_quaternion_the_size_in_time_is_a_variance(tmp_path):
    table = {name: column for name, column in rotor_columns().items() if "_r_" not in name}
    cloud = check_round_trip(packed(table), tmp_path)
    assert not cloud.family.turning
    still = cloud.at(0.8)
    np.testing.assert_array_equal(still.means, cloud.means)
    fade = np.exp(-((0.8 - table["t"].astype(float)) ** 2) / (2 * np.exp(table["scaling_t"].astype(float))))
    expected = np.where(fade > 0.05, fade, 0) / (1 + np.exp(-table["opacity"].astype(float)))
    np.testing.assert_allclose(still.opacities, expected, rtol=1e-4)


@pytest.mark.parametrize("orders", [1, 2])
def test_colours_that_swing_in_time_follow_the_still_ones_in_a_channel(tmp_path, orders):
    stride = 16 * (orders + 1)
    table = rotor_columns(3 * (stride - 1))
    cloud = check_round_trip(packed(table), tmp_path)
    assert cloud.degree == 3 and cloud.family.waves.shape == (5, orders, 16, 3)
    still = cloud.at(0.9)
    for i, k, channel in np.ndindex(5, 16, 3):
        first = f"f_rest_{channel * (stride - 1) + k - 1}" if k else f"f_dc_{channel}"
        expected = float(table[first][i])
        for order in range(1, orders + 1):
            wave = table[f"f_rest_{channel * (stride - 1) + 16 * order + k - 1}"][i]
            expected += np.cos(2 * np.pi * order * (0.9 - table["t"][i])) * wave
        assert still.sh[i, k, channel] == pytest.approx(expected, abs=1e-4)


def test_padded_coefficients_of_4d_gaussians_are_left_out():
    cloud = read(packed(rotor_columns(3 * 32)))
    assert cloud.degree == 3 and cloud.family.waves.shape[1] == 0


def test_a_longer_clip_is_taken_from_the_times_and_said():
    table = rotor_columns()
    table["t"] = np.array([0, 2, 4, 7, 9.5], np.float32)
    cloud = read(packed(table))
    assert cloud.family.time_range == (0, 10) and any("0 to 10" in warning for warning in cloud.source.warnings)


# ---- 6D and 7D Gaussians

LOWER_7 = 0.9 * np.sin(np.arange(1, 22))


def ndgs_columns(dims=7, count=3, names=("mean_view_{}", "mean_time_0", "scale_{}", "l_triangle_{}")):
    """Golden A of the authors' form in row 0, random rows after it."""
    rng = np.random.default_rng(8)
    direction, time, sizes, lower = names
    triangle = dims * (dims - 1) // 2
    raw = {
        "x": [0.1], "y": [0.2], "z": [0.3], "opacity": [0.0], **{f"f_dc_{i}": [0.0] for i in range(3)},
        **{f"f_rest_{i}": [0.0] for i in range(9)},
        **{(direction.format(i) if "{" in direction else f"n{'xyz'[i]}"): [float(i == 2)] for i in range(3)},
        **({time: [0.0]} if dims == 7 else {}),
        **{sizes.format(i): [np.log(size)] for i, size in enumerate([0.3, 0.2, 0.25, 0.4, 0.4, 0.4, 0.15][:dims])},
        **{lower.format(i): [LOWER_7[i]] for i in range(triangle)},
    }  # fmt: skip
    return {name: np.concatenate([value, 0.7 * rng.normal(size=count - 1)]).astype(np.float32) for name, value in raw.items()}


def check_golden_a(cloud, half=0.5):
    camera = cloud.means[0] - 5 * np.array([0.6, 0, 0.8])
    still = cloud.at(0.7, camera)
    np.testing.assert_allclose(still.means[0], [0.120462, 0.095908, 0.118948], atol=2e-6)
    shape = covariances(still.quats.astype(float), still.scales)[0]
    np.testing.assert_allclose(np.diagonal(shape), [0.073794, 0.028782, 0.057635], atol=2e-6)
    assert still.opacities[0] == pytest.approx(0.5 * 0.273792 * 0.673479, abs=2e-6)


@pytest.mark.parametrize(
    "names",
    [
        ("mean_view_{}", "mean_time_0", "scale_{}", "l_triangle_{}"),
        ("mean_{}", "mean_3", "diags_{}", "l_triangs_{}"),
        ("nx", "mean_time", "diags_{}", "l_triangs_{}"),
    ],
)
def test_7d_gaussians_of_their_authors_are_read_late_and_early(tmp_path, names):
    table = ndgs_columns(names=names)
    cloud = check_round_trip(packed(table), tmp_path)
    assert cloud.family.name == "NDGS" and cloud.family.moves and cloud.degree == 1 and not cloud.extras
    check_golden_a(cloud)


def test_lambdas_are_logits(tmp_path):
    table = ndgs_columns() | floats(lambda_opc=[-0.619039, 1, 2], lambda_opc_time=[-0.619039, -1, 0])
    cloud = check_round_trip(packed(table), tmp_path)
    check_golden_a(cloud)
    np.testing.assert_allclose(cloud.family.view_lambda, 1 / (1 + np.exp(-table["lambda_opc"])), rtol=1e-6)
    np.testing.assert_allclose(cloud.family.time_lambda, 1 / (1 + np.exp(-table["lambda_opc_time"])), rtol=1e-6)


def test_times_within_the_clip_are_taken_as_they_are_and_it_is_said():
    table = ndgs_columns()
    table["mean_time_0"] = np.array([0.5, 0, 1], np.float32)
    cloud = read(packed(table))
    check_golden_a(cloud)
    assert any("Times" in warning for warning in cloud.source.warnings)
    np.testing.assert_array_equal(cloud.family.center, table["mean_time_0"])
    sure = read(packed(table, comments=["mean_time sigmoid"]))
    np.testing.assert_allclose(sure.family.center, 1 / (1 + np.exp(-table["mean_time_0"])), rtol=1e-6)
    assert not sure.source.warnings


def test_6d_gaussians_depend_on_the_view_alone(tmp_path):
    cloud = check_round_trip(packed(ndgs_columns(6)), tmp_path)
    assert not cloud.family.moves
    np.testing.assert_array_equal(cloud.at(0, CAMERA).means, cloud.at(1, CAMERA).means)
    assert (cloud.at(0, CAMERA).opacities < cloud.opacities).any()


def test_the_reproductions_factor_is_not_scaled_by_rows(tmp_path):
    table = ndgs_columns(6, names=("mu_d_{}", "", "l_diag_{}", "l_offdiag_{}")) | floats(lambda_opa_logit=[0, 0, 0])
    cloud = check_round_trip(packed(table), tmp_path)
    for i in range(3):
        factor = np.diag(np.exp([float(table[f"l_diag_{k}"][i]) for k in range(6)]))
        factor[np.tril_indices(6, -1)] = [2 / (1 + np.exp(-float(table[f"l_offdiag_{k}"][i]))) - 1 for k in range(15)]
        whole = factor @ factor.T
        shape = np.linalg.inv(np.linalg.inv(whole)[:3, :3])
        np.testing.assert_allclose(covariances(cloud.quats.astype(float), cloud.scales)[i], shape, rtol=1e-3, atol=1e-6)


def test_splats_that_lean_more_than_a_7d_file_can_say_are_counted(tmp_path):
    cloud = read(packed(ndgs_columns())).replace()
    assert not losses(cloud, tmp_path / "a.ply")
    thin = cloud.replace(scales=cloud.scales * np.float32([1, 1, 1e-3]))
    assert any("lean" in sentence for sentence in losses(thin, tmp_path / "a.ply"))


def test_colours_of_the_reproduction_pass_through_their_sigmoid():
    table = ndgs_columns(6, names=("mu_d_{}", "", "l_diag_{}", "l_offdiag_{}"))
    table["f_dc_0"][:] = 1.3
    table["f_rest_1"][:] = 0.01
    cloud = read(packed(table, comments=["6dgs_color_activation sigmoid"]))
    towards = np.array([[0.0, 0.0, 1.0]])
    colour = 0.5 + (sh.basis(towards, 4)[0] @ cloud.sh[1, :, 0])
    raw = sh.basis(towards, 4)[0] @ [1.3, table["f_rest_0"][1], 0.01, table["f_rest_2"][1]]
    assert colour == pytest.approx(1 / (1 + np.exp(-raw)), abs=1e-4)
    assert any("first order" in warning for warning in cloud.source.warnings)


@pytest.mark.parametrize(
    ("column", "value", "kept", "repair"),
    [
        ("scale_4", np.nan, 2, "scales not a number: splats dropped"),
        ("l_triangle_7", np.nan, 2, "scales not a number: splats dropped"),
        ("mean_time_0", np.nan, 2, "times not finite: splats dropped"),
        ("mean_view_1", np.inf, 3, "directions zero or not finite: set to z"),
        ("x", np.nan, 2, "positions not finite: splats dropped"),
    ],
)
def test_each_repair_of_7d_gaussians_is_made_and_counted(column, value, kept, repair):
    table = ndgs_columns()
    table[column][1] = value
    cloud = read(packed(table))
    assert dict(cloud.source.repairs) == {repair: 1} and len(cloud) == kept
    still = cloud.at(0.5, CAMERA)
    for values in (still.means, still.opacities, still.scales, *cloud.family.attributes().values()):
        assert np.isfinite(values).all()


@pytest.mark.parametrize("raw", [-1e4, -30, 30, 1e4])
def test_extreme_7d_gaussians_stay_finite(raw):
    table = ndgs_columns()
    for name in table:
        if name.startswith(("scale", "l_tri", "mean", "opacity")):
            table[name][1:] = raw
    cloud = read(packed(table))
    still = cloud.at(0.5, CAMERA)
    for values in (still.means, still.opacities, still.scales, still.quats, *cloud.family.attributes().values()):
        assert np.isfinite(values).all()


# ---- all of them


@pytest.mark.parametrize("table", [linear_columns(), rotor_columns(9), rotor_columns(141), ndgs_columns(7), ndgs_columns(6)])
@pytest.mark.parametrize("form", ["binary_big_endian", "ascii"])
def test_every_encoding_and_order_gives_the_same_motion(table, form):
    cloud = read(packed(table))
    rng = np.random.default_rng(1)
    shuffled = {name: table[name] for name in rng.permutation(list(table))}
    other = read(packed(shuffled, form, types=dict.fromkeys(list(table)[::3], "double")))
    check_same_motion(other, cloud)


@pytest.mark.parametrize("table", [linear_columns(), rotor_columns(9), ndgs_columns(7)])
@pytest.mark.parametrize("count", [0, 1])
def test_files_of_no_or_one_splat_are_read_and_written(tmp_path, table, count):
    cloud = read(packed({name: column[:count] for name, column in table.items()}))
    assert len(cloud) == count and cloud.family
    write_splats(cloud.replace(), tmp_path / "a.ply")
    assert len(read_splats(tmp_path / "a.ply")) == count


def test_columns_of_bytes_are_no_motion():
    table = {name: np.abs(column).astype(int) for name, column in ndgs_columns().items()}
    with pytest.raises(UnsupportedFormat, match="7D"):
        read(packed(table, types=dict.fromkeys(table, "uchar")))


def test_what_a_file_leaves_open_may_be_said():
    table = ndgs_columns()
    table["mean_time_0"] = np.array([0.5, 0.25, 1], np.float32)
    data = np.frombuffer(packed(table), np.uint8)
    logits = decode(data.copy(), ".ply", Overrides(activation="raw", time_range=(0.0, 3.0)))
    np.testing.assert_allclose(logits.family.center, 1 / (1 + np.exp(-table["mean_time_0"])), rtol=1e-6)
    assert logits.family.time_range == (0, 3)


@pytest.mark.parametrize("lacking", ["l_triangle_20", "scale_6", "mean_time_0", "mean_view_1"])
def test_7d_files_that_lack_columns_are_refused(lacking):
    table = ndgs_columns()
    del table[lacking]
    with pytest.raises(UnsupportedFormat, match=r"7D.*lacks some") as caught:
        read(packed(table))
    assert caught.value.hint
