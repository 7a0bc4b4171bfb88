# SPDX-License-Identifier: GPL-3.0-or-later
"""The frame cache keeps what its steps promise, opens anywhere, goes on after a stop and refuses what is damaged."""

import contextlib
import pathlib
import sys

import numpy as np
import pytest

from vivant.backends.common.errors import BrokenFile, Cancelled, VivantError
from vivant.backends.common.progress import Progress
from vivant.backends.gaussian import cache, cache_writer
from vivant.backends.gaussian.cache import FrameCache
from vivant.backends.gaussian.formats import read_splats
from vivant.backends.gaussian.playback import Playback
from vivant.backends.gaussian.read_ahead import ReadAhead

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from network_weights import deformation_shapes, still_cloud, waves
from test_network_scenes import refined_scene, refinement, scene

TIMES = np.linspace(0, 1, 12)


def base(count=9000, seed=0):
    means = np.random.default_rng(seed).normal(size=(count, 3))
    means[:3] *= 500  # floaters
    return still_cloud(means.astype(np.float32), seed, coefficients=4)


def moved(cloud, time, seed=1):
    """A cloud on its way: some splats far, some a little, most colours not at all."""
    if time == 0:
        return cloud
    random = np.random.default_rng(seed)
    share = np.float32(np.sin(5 * time))
    reach = np.where(np.arange(len(cloud)) % 4000 < 500, 1.0, 1e-3)[:, None]
    quats = cloud.quats + share * random.normal(0, 0.4, cloud.quats.shape)
    if time > 0.5:
        quats = -quats  # the same rotations
    return cloud.replace(
        means=cloud.means + share * (random.normal(size=cloud.means.shape) * reach),
        quats=quats / np.linalg.norm(quats, axis=1, keepdims=True),
        scales=cloud.scales * np.exp(share * random.normal(0, 0.3, cloud.scales.shape)),
        opacities=np.clip(cloud.opacities + 0.3 * share, 0, 1),
        sh=cloud.sh + (np.float32(0.2) if time > 0.7 else np.float32(0)),
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("cache") / f"a{cache.EXTENSION}"
    cloud = base()
    cache_writer.write(path, cloud, TIMES, (moved(cloud, time) for time in TIMES), "abc")
    return cloud, path


def assert_close(found, cloud, whole):
    """Every value within half a step of its column."""
    low, middle, high = np.percentile(whole.means.astype(float), [1, 50, 99], axis=0)
    size = max((high - low).max(), np.abs(whole.means - middle).max() / 1024, 10 * np.median(whole.scales))
    rounding = 3e-7 * np.abs(cloud.means)  # of float32
    assert (np.abs(found.means - cloud.means) <= 0.5001 * cache.STEPS["means"] * size + rounding).all()
    same = np.where(np.sum(found.quats * cloud.quats, axis=1) < 0, -1, 1)[:, None]
    assert np.abs(found.quats * same - cloud.quats).max() <= 0.501 * cache.STEPS["quats"]
    assert np.abs(np.linalg.norm(found.quats, axis=1) - 1).max() < 1e-4
    assert np.abs(np.log(found.scales) - np.log(cloud.scales)).max() <= 0.501 * cache.STEPS["scales"]
    assert np.abs(found.opacities - cloud.opacities).max() <= 0.501 * cache.STEPS["opacities"]
    assert np.abs(found.sh - cloud.sh).max() <= 0.501 * cache.STEPS["sh"]


def test_every_frame_is_within_half_a_step_in_any_order(written):
    cloud, path = written
    frames = FrameCache(path)
    assert (len(frames), frames.count, frames.source) == (12, len(cloud), "abc")
    np.testing.assert_array_equal(frames.times, TIMES)
    order = np.random.default_rng(2).permutation(12)
    for frame in [*order, 0, 11, 0]:
        assert_close(frames.cloud(cloud, frame), moved(cloud, TIMES[frame]), cloud)


def test_columns_that_stay_cost_nothing_and_differences_little(written):
    cloud, path = written
    frames = FrameCache(path)
    assert frames.read(0) == {}
    assert "sh" not in frames.read(3) and "sh" in frames.read(10)
    floats = 12 * len(cloud) * 4 * (3 + 4 + 3 + 1 + 12)
    assert path.stat().st_size < floats / 3
    assert not path.with_name(path.name + ".part").exists()


@pytest.mark.parametrize("order", [(0, 1, 2, 3, 9, 8, 7, 5, 5, 11, 10, 0), (11, 0, 1, 3, 5, 7)])
def test_reading_ahead_gives_the_same_frames(written, order):
    frames = FrameCache(written[1])
    reader = ReadAhead(frames)
    for frame in order:
        found, expected = reader.read(frame), FrameCache(written[1]).read(frame)
        assert found.keys() == expected.keys()
        for name in found:
            np.testing.assert_array_equal(found[name], expected[name])
    reader.close()


def test_the_frames_that_come_next_are_read_before_they_are_asked_for(written):
    frames, asked = FrameCache(written[1]), []
    plain = frames.read
    frames.read = lambda frame: (asked.append(frame), plain(frame))[1]
    reader = ReadAhead(frames)
    for frame in (10, 11):
        reader.read(frame)
        reader.follow(frame)
    coming = list(reader._coming.values())
    assert list(reader._coming) == [0, 1, 2]  # the clip begins again
    for future in coming:
        future.result()
    asked.clear()
    reader.read(0)
    assert 0 not in asked
    reader.close()


@pytest.mark.parametrize(("linked", "step"), [(True, 0.4), (True, 1.3), (False, 1.3), (False, 2.6), (False, -1.7)])
def test_what_a_steady_player_asks_for_next_is_always_there(written, linked, step):
    frames, late = FrameCache(written[1]), []
    frames.linked = linked
    player = Playback(frames)
    ready = player._ahead.read
    player._ahead.read = lambda frame: (late.append(frame) if frame not in player._ahead._coming else None, ready(frame))[1]
    for i in range(60):
        player.columns(*player.place(float(np.interp((5 + step * i) % 11, np.arange(12), TIMES))))
        if i == 1:
            late.clear()
    player.close()
    assert len(late) <= 60 * abs(step) / 11 * 2  # only where the clip begins again


def test_frames_between_two_are_mixed_and_the_clip_s_ends_hold(written):
    cloud, path = written
    family = FrameCache(path).family(cloud)
    moving = cloud.replace(family=family)
    half = moving.at((TIMES[3] + TIMES[4]) / 2)
    expected = (moved(cloud, TIMES[3]).means + moved(cloud, TIMES[4]).means) / 2
    np.testing.assert_allclose(half.means, expected, atol=2e-4)
    np.testing.assert_array_equal(moving.at(9).means, moving.at(1).means)
    with pytest.raises(VivantError, match="not 10"):
        FrameCache(path).family(base(10))


@pytest.mark.parametrize("count", [0, 1, 4095, 4096, 4097])
def test_caches_of_any_size_are_read(tmp_path, count):
    cloud = base(count)
    path = tmp_path / "a.vivantframes"
    cache_writer.write(path, cloud, TIMES[:3], (moved(cloud, time) for time in TIMES[:3]))
    frames = FrameCache(path)
    if count:
        assert_close(frames.cloud(cloud, 2), moved(cloud, TIMES[2]), cloud)
    else:
        assert len(frames.cloud(cloud, 2)) == 0


def test_a_stopped_writer_is_gone_on_with_and_gives_the_same_file(tmp_path, written):
    cloud, whole = written
    path = tmp_path / "b.vivantframes"
    for stop in (5, 9):
        with cache_writer.CacheWriter(path, cloud, TIMES, "abc") as writer:
            assert writer.done == (0 if stop == 5 else 5)
            for time in TIMES[writer.done : stop]:
                writer.add(moved(cloud, time))
        assert not path.exists()
        with writer.part.open("ab") as file:
            file.write(b"half a frame that the power cut off")
    with cache_writer.CacheWriter(path, cloud, TIMES, "abc") as writer:
        for time in TIMES[writer.done :]:
            writer.add(moved(cloud, time))
    assert path.read_bytes() == whole.read_bytes()


def test_a_stopped_writer_of_something_else_is_begun_anew(tmp_path):
    cloud, path = base(50), tmp_path / "b.vivantframes"
    with cache_writer.CacheWriter(path, cloud, TIMES, "abc") as writer:
        writer.add(moved(cloud, 0.3))
    with cache_writer.CacheWriter(path, cloud, TIMES, "other") as writer:
        assert writer.done == 0
    with pytest.raises(VivantError, match="cannot be written"):
        cache_writer.CacheWriter(tmp_path / "missing" / "b.vivantframes", cloud, TIMES, "")


def test_truncated_and_damaged_caches_are_refused_or_decode_to_something_harmless(tmp_path):
    cloud, path = base(300), tmp_path / "c.vivantframes"
    cache_writer.write(path, cloud, TIMES[:4], (moved(cloud, time) for time in TIMES[:4]))
    good, broken = path.read_bytes(), tmp_path / "d.vivantframes"
    for cut in range(0, len(good), 97):
        broken.write_bytes(good[:cut])
        with pytest.raises(VivantError, match="frame cache"):
            FrameCache(broken)
    random = np.random.default_rng(4)
    for _ in range(400):
        data = bytearray(good)
        for _ in range(random.integers(1, 4)):
            data[random.integers(len(data))] = random.integers(256)
        broken.write_bytes(data)
        with contextlib.suppress(VivantError):
            frames = FrameCache(broken)
            for frame in range(len(frames)):
                for values in frames.read(frame).values():
                    assert np.isfinite(values).all()
    for header in (
        b"{}",
        b"[]",
        b'{"count":1e99,"times":[0],"source":"","columns":{}}',
        b'{"count":5,"times":[[0]],"source":"","columns":{}}',
    ):
        broken.write_bytes(cache.padded(cache.MAGIC + len(header).to_bytes(4, "little") + header))
        with pytest.raises(BrokenFile):
            FrameCache(broken)
    with pytest.raises(VivantError, match="cannot be opened"):
        FrameCache(tmp_path / "none.vivantframes")


def test_a_small_file_that_claims_many_splats_takes_no_memory(tmp_path):
    columns = {"means": [3, 1e-3, [0, 0, 0]]}
    header = cache.header_bytes({"count": 2_000_000_000, "times": [0.0], "source": "", "columns": columns})
    payload = cache.padded(np.array([1, 2_000_000_000, 0], "<u4").tobytes())
    (tmp_path / "bomb.vivantframes").write_bytes(header + cache.record_bytes(0, [0, len(payload)], [payload]))
    with pytest.raises(BrokenFile):
        FrameCache(tmp_path / "bomb.vivantframes")


def silent(tmp_path, cancelled=lambda: False):
    return Progress(lambda event: None, cancelled, tmp_path)


def test_the_engine_bakes_a_scene_stops_when_told_and_goes_on(tmp_path, engine):
    scene(tmp_path / "scene", waves(deformation_shapes(), 0.05))
    path = tmp_path / "scene.vivantframes"
    parameters, arrays = cache_writer.request(tmp_path / "scene", path, TIMES, np.array([3, 0, 1]))
    looks = iter([False] * 6)
    with pytest.raises(Cancelled):
        cache_writer.run(parameters, arrays, silent(tmp_path, lambda: next(looks, True)))
    assert not path.exists() and len(FrameCache(path.with_name(path.name + ".part"), partial=True)) == 5
    values, _ = engine.submit("splats.bake", parameters, arrays).result()
    assert values["frames"] == 12 and values["bytes"] == path.stat().st_size
    cloud = read_splats(tmp_path / "scene").select([3, 0, 1])
    frames = FrameCache(path)
    for frame in (0, 7):
        np.testing.assert_allclose(frames.cloud(cloud, frame).means, cloud.at(TIMES[frame]).means, atol=1e-4)
    assert frames.source == values["source"]


def test_the_fingerprint_changes_with_the_files_and_the_times(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 10)
    first = cache_writer.fingerprint([tmp_path / "a"], times=[0, 1])
    assert first == cache_writer.fingerprint([tmp_path / "a"], times=[0, 1])
    assert first != cache_writer.fingerprint([tmp_path / "a"], times=[0, 2])
    (tmp_path / "a").write_bytes(b"x" * 9 + b"y")
    assert first != cache_writer.fingerprint([tmp_path / "a"], times=[0, 1])


def test_a_view_that_depends_on_the_camera_is_baked_along_its_path(tmp_path):
    path = refined_scene(tmp_path, refinement())
    cameras = np.float64([[1, 2, -5], [4, 0, 0], [0, 5, 1]])
    target = tmp_path / "seven.vivantframes"
    cache_writer.run(*cache_writer.request(path, target, TIMES[:3], cameras=cameras), silent(tmp_path))
    cloud, frames = read_splats(path), FrameCache(target)
    for frame in range(3):
        seen = cloud.at(TIMES[frame], cameras[frame])
        np.testing.assert_allclose(frames.cloud(cloud, frame).means, seen.means, atol=1e-3)
        np.testing.assert_allclose(frames.cloud(cloud, frame).opacities, seen.opacities, atol=2e-4)
    assert np.abs(cloud.at(TIMES[1], cameras[1]).means - cloud.at(TIMES[1], cameras[2]).means).max() > 0.1


def test_a_cache_is_told_from_what_it_was_made_of(tmp_path):
    scene(tmp_path / "scene", waves(deformation_shapes(), 0.05), told="Namespace()")
    names = ["cfg_args", "deform.pth", "point_cloud.ply"]
    assert sorted(file.name for file in cache_writer.sources(tmp_path / "scene")) == names
    path = refined_scene(tmp_path, refinement())
    assert [file.name for file in cache_writer.sources(path)] == ["seven.ply", "seven.pt"]


def test_what_does_not_move_is_not_baked(tmp_path):
    from vivant.backends.gaussian.formats import write_splats

    write_splats(base(10), tmp_path / "still.ply")
    with pytest.raises(VivantError, match="does not move"):
        cache_writer.run(*cache_writer.request(tmp_path / "still.ply", tmp_path / "x", TIMES), silent(tmp_path))
