# SPDX-License-Identifier: GPL-3.0-or-later
"""Streams: at every time a window shows what the whole cloud does, and no more is read than lives."""

import dataclasses
import json
import pathlib
import re
import sys

import numpy as np
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))
import samples

from vivant.backends.common.errors import VivantError
from vivant.backends.gaussian import stream, stream_writer
from vivant.backends.gaussian.cloud import SplatCloud
from vivant.backends.gaussian.formats import Overrides, read_splats, write_splats
from vivant.backends.gaussian.formats.ply_parts import Parts, parts_of
from vivant.backends.gaussian.motion.linear import Linear
from vivant.backends.gaussian.motion.rotor4d import REACH, Rotor4D
from vivant.backends.gaussian.motion.stg import Stg
from vivant.backends.gaussian.playback import Playback
from vivant.backends.gaussian.render.constants import ALPHA_MIN

COUNT = 3000


def moving(kind: str, seed: int = 0) -> SplatCloud:
    random = np.random.default_rng(seed)
    cloud = samples.random_cloud(COUNT, 1, seed=seed)
    center = random.uniform(-0.1, 1.1, COUNT).astype(np.float32)
    width = (0.02 * np.exp(2 * random.standard_normal(COUNT))).astype(np.float32)
    velocity = random.standard_normal((COUNT, 3)).astype(np.float32)
    if kind == "STG":
        paths = random.standard_normal((COUNT, 3, 3)).astype(np.float32)
        spin = np.zeros((COUNT, 4), np.float32)
        return dataclasses.replace(cloud, sh=cloud.sh[:, :1], family=Stg(paths, spin, center, width))
    if kind == "Linear":
        width[::3], segment = np.inf, np.floor(center * 10) / 10
        first, last = (
            np.where(np.arange(COUNT) % 5, edge, sign * np.inf) for edge, sign in ((segment, -1), (segment + 0.1, 1))
        )
        return dataclasses.replace(
            cloud, family=Linear(velocity, center, width, first.astype(np.float32), last.astype(np.float32), (0.0, 1.0))
        )
    reach = np.float32(REACH) * width
    return dataclasses.replace(cloud, family=Rotor4D(velocity, center, width, center - reach, center + reach, (0.0, 1.0)))


def written(cloud: SplatCloud, path: pathlib.Path, windows: int = 64) -> stream.SplatStream:
    parts = Parts(len(cloud), lambda: (cloud.select(slice(i, i + 700)) for i in range(0, len(cloud), 700)))
    stream_writer.write(path, parts, "test", windows)
    return stream.SplatStream(path)


def seen(still: SplatCloud) -> np.ndarray:
    """Everything of the splats that a picture can show, in one order."""
    there = still.opacities >= ALPHA_MIN
    rows = np.concatenate([still.means, still.quats, still.scales, still.opacities[:, None], still.sh[:, 0]], axis=1)[there]
    return rows[np.lexsort(rows.T)]


@pytest.mark.parametrize("kind", ["STG", "Linear", "4DGS"])
def test_a_window_shows_at_any_time_just_what_the_whole_cloud_does(tmp_path, kind):
    cloud = moving(kind)
    found = written(cloud, tmp_path / "a.vivantstream")
    player = Playback(found)
    assert len(found) == 64
    random = np.random.default_rng(3)
    edges = found.times[::5]
    for time in (0.0, 1.0, *random.uniform(-0.1, 1.1, 40), *edges, *np.nextafter(edges, -1), *(edges - 0.0009 / 64)):
        window, _ = player.place(float(time))
        assert player.columns(window).keys() == found.columns.keys()
        shown = found.cloud(window)
        np.testing.assert_array_equal(seen(shown.at(float(time))), seen(cloud.at(float(time))))
        assert len(shown) == found.most
    player.close()
    assert found.most < len(cloud)


def test_only_what_lives_is_read(tmp_path, monkeypatch):
    cloud = moving("Linear")
    cloud = cloud.select(np.isfinite(cloud.family.first) & np.isfinite(cloud.family.width))
    found = written(cloud, tmp_path / "a.vivantstream")
    for window in range(len(found)):
        assert len(found._rows(window)[0]) <= 0.45 * len(cloud)
    assert found.most <= 0.25 * len(cloud)


def test_splats_that_never_show_are_left_out(tmp_path):
    cloud = moving("STG")
    faint = cloud.replace(opacities=np.where(np.arange(COUNT) % 2, cloud.opacities, 1e-5), family=cloud.family)
    assert (tmp_path / "a").parent.exists()
    sizes = []
    for name, each in (("a", cloud), ("b", faint)):
        written(each, tmp_path / name)
        sizes.append((tmp_path / name).stat().st_size)
    assert 0.45 < sizes[1] / sizes[0] < 0.55


@pytest.mark.parametrize("span", [(0.0, 1.0), (-0.5, 3.0)])
@pytest.mark.parametrize("kind", ["STG", "Linear", "4DGS"])
def test_parts_of_a_ply_file_are_the_whole(tmp_path, kind, span):
    cloud = moving(kind)
    cloud = dataclasses.replace(cloud, family=dataclasses.replace(cloud.family, time_range=span))
    write_splats(cloud.replace(means=np.where(np.arange(COUNT)[:, None] == 17, np.nan, cloud.means)), tmp_path / "a.ply")
    if span == (0.0, 1.0):  # as other programs write, who do not say it
        text = (tmp_path / "a.ply").read_bytes()
        (tmp_path / "a.ply").write_bytes(re.sub(rb"comment [^\n]*[Tt]ime[^\n]*\n", b"", text))
    whole = read_splats(tmp_path / "a.ply", Overrides(axes="RUB"))
    parts = [*parts_of(tmp_path / "a.ply", Overrides(axes="RUB"), 1000).read()]
    assert len(parts) == 3 and len(whole) == sum(map(len, parts)) == COUNT - 1
    for name in ("means", "quats", "scales", "opacities", "sh"):
        np.testing.assert_allclose(np.concatenate([getattr(part, name) for part in parts]), getattr(whole, name), rtol=1e-6)
    assert {part.family.time_range for part in parts} == {whole.family.time_range}
    assert {part.source.axes for part in parts} == {"RUB"}


def test_other_formats_come_whole_and_still_clouds_are_refused(tmp_path):
    still = samples.random_cloud(50, 0)
    write_splats(still, tmp_path / "a.splat")
    parts = parts_of(tmp_path / "a.splat")
    assert parts.count == 50 == sum(map(len, parts.read()))
    with pytest.raises(VivantError, match="cannot be streamed"):
        stream_writer.write(tmp_path / "b", parts, "")
    assert not (tmp_path / "b").exists()


def test_damaged_streams_are_named_and_never_crash(tmp_path):
    path = tmp_path / "a.vivantstream"
    written(moving("Linear"), path)
    data = path.read_bytes()
    seed = 5
    print("seed", seed)
    random = np.random.default_rng(seed)
    tail = len(data) - 6000
    for trial in range(400):
        bad = bytearray(data)
        if trial % 4 == 0:
            bad = bad[: random.integers(0, len(bad))]
        else:
            for place in random.integers(*((0, 32) if trial % 4 == 1 else (tail, len(data))), random.integers(1, 4)):
                bad[place] = random.integers(0, 256)
        path.write_bytes(bad)
        try:
            found = stream.SplatStream(path)
            for window in (0, len(found) // 2, len(found) - 1):
                found.read(window)
        except VivantError:
            pass


def test_the_job_makes_a_stream_of_a_file(tmp_path):
    write_splats(moving("Linear"), tmp_path / "a.ply")
    said = []
    parameters, arrays = stream_writer.request(tmp_path / "a.ply", tmp_path / "a.vivantstream", {})
    values, _ = stream_writer.run(parameters, arrays, lambda *progress: said.append(progress))
    assert values["count"] == COUNT and said
    json.dumps(values)
    assert stream.SplatStream(tmp_path / "a.vivantstream").source == values["source"]
