# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of formats, and what a user may say of a file that the file does not."""

import dataclasses

import numpy as np
import pytest

from vivant.backends.common.errors import UnsupportedFormat, VivantError
from vivant.backends.gaussian.cloud import SplatCloud
from vivant.backends.gaussian.formats import FORMATS, Overrides, losses, motion_in, ply, read_splats, write_splats
from vivant.backends.gaussian.motion.stg import Stg


def small_cloud(degree=0, count=20, **changes):
    rng = np.random.default_rng(3)
    quats = rng.normal(size=(count, 4))
    cloud = SplatCloud(
        rng.normal(size=(count, 3)),
        quats / np.linalg.norm(quats, axis=1, keepdims=True),
        np.exp(rng.normal(-4, 0.5, (count, 3))),
        rng.uniform(0.1, 0.9, count),
        rng.normal(0, 0.2, (count, (degree + 1) ** 2, 3)),
    )
    return cloud.replace(**changes) if changes else cloud


def moving_cloud(count=20):
    return small_cloud(
        family=Stg(np.ones((count, 3, 3), "f4"), np.zeros((count, 4), "f4"), np.full(count, 0.5, "f4"), np.ones(count, "f4"))
    )


def test_every_format_says_how_it_is_read_and_what_it_holds():
    for form in FORMATS:
        assert (form.decode or form.read) and not (form.encode and form.write)
        assert form.holds and all(0 <= degree <= 4 for degree in form.holds.values()) and form.precision
        assert all(extension == extension.lower() for extension in form.extensions)
    names = [extension for form in FORMATS for extension in form.extensions]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("form", [form for form in FORMATS if form.writable], ids=lambda form: form.name)
def test_motion_is_written_where_the_table_says_so_and_refused_elsewhere(tmp_path, form):
    path = tmp_path / f"a{form.extensions[0]}"
    if Stg.name in form.holds:
        write_splats(moving_cloud(), path)
        found = read_splats(path)
        assert found.family and len(found.at(0.3)) == len(moving_cloud())
    else:
        assert any("Motion" in sentence for sentence in losses(moving_cloud(), path))
        with pytest.raises(VivantError, match="cannot hold motion of the family STG"):
            write_splats(moving_cloud(), path)


def test_axes_colours_and_times_can_be_said_better_than_the_file_does(tmp_path):
    write_splats(moving_cloud(), tmp_path / "a.splatv")
    plain = read_splats(tmp_path / "a.splatv")
    cloud = read_splats(tmp_path / "a.splatv", Overrides(axes="RUB", colour_space="linear", time_range=(0.2, 0.8)))
    assert cloud.source.axes == "RUB" and cloud.source.details["colour_space"] == "linear"
    assert cloud.family.time_range == (0.2, 0.8) and cloud.source.encoded is None
    np.testing.assert_array_equal(cloud.means, plain.means)
    write_splats(cloud, tmp_path / "b.splatv")
    np.testing.assert_allclose(read_splats(tmp_path / "b.splatv").means, plain.means * [1, -1, -1])


def test_columns_that_are_activated_already_are_taken_as_they_are(tmp_path):
    cloud = small_cloud()
    header, table = ply.encode(cloud)
    names = [line.split()[2] for line in header.decode().splitlines() if line.startswith("property")]
    table[:, names.index("opacity")] = cloud.opacities
    table[:, names.index("scale_0") :][:, :3] = cloud.scales
    (tmp_path / "a.ply").write_bytes(header + table.tobytes())
    right = read_splats(tmp_path / "a.ply", Overrides(activation="activated"))
    np.testing.assert_array_equal(right.opacities, cloud.opacities)
    np.testing.assert_array_equal(right.scales, cloud.scales)
    assert np.abs(read_splats(tmp_path / "a.ply").scales - cloud.scales).min() > 0.9
    write_splats(cloud, tmp_path / "a.spz")
    with pytest.raises(VivantError, match="no doubt about activations"):
        read_splats(tmp_path / "a.spz", Overrides(activation="activated"))


@pytest.mark.parametrize(
    "wrong", [{"axes": "XYZ"}, {"axes": "RRD"}, {"activation": "none"}, {"colour_space": "ACES"}, {"time_range": (1.0, 1.0)}]
)
def test_overrides_that_mean_nothing_are_refused(wrong):
    with pytest.raises(VivantError):
        Overrides(**wrong)


def test_a_folder_of_nothing_is_named_and_an_untouched_override_changes_nothing(tmp_path):
    with pytest.raises(UnsupportedFormat, match="is a folder that holds nothing"):
        read_splats(tmp_path)
    write_splats(small_cloud(), tmp_path / "a.ply")
    cloud = read_splats(tmp_path / "a.ply", Overrides())
    assert cloud.source.encoded is not None
    assert dataclasses.replace(Overrides(), axes="RDF").apply(cloud).source.axes == "RDF"


def test_a_name_with_room_for_digits_makes_a_file_a_frame_in_any_format(tmp_path):
    write_splats(moving_cloud(), tmp_path / "f_##.spz", times=np.linspace(0, 1, 3))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f_01.spz", "f_02.spz", "f_03.spz"]
    assert any("Motion is written as frames" in sentence for sentence in losses(moving_cloud(), tmp_path / "f_##.spz"))
    assert motion_in("f_##.spz", "STG") == motion_in("a.usdc", "STG") == "samples"
    assert (motion_in("a.ply", "STG"), motion_in("a.spz", "STG")) == ("native", "")


def test_every_format_is_written_in_the_frame_that_the_table_says(tmp_path):
    for form in FORMATS:
        if form.writable:
            path = tmp_path / ("a" + form.extensions[0] if form.extensions[0].startswith(".") else form.extensions[0])
            write_splats(small_cloud(), path)
            found = read_splats(path)
            assert (found.source.axes if found.source.format != "sequence" else "RDF") == form.axes
