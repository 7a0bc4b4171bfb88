# SPDX-License-Identifier: GPL-3.0-or-later
"""Captures that stream from the disk look, at every sub-frame, as they do whole."""

import pathlib
import subprocess
import sys

import bpy
import numpy as np
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "unit"))
sys.path.insert(0, str(pathlib.Path(__file__).parent))
import samples
from moving import evaluated
from test_splats_playback import RENDER
from test_stream import moving, seen

import vivant
from vivant import api
from vivant.backends.common.errors import VivantError
from vivant.backends.gaussian import stream_writer
from vivant.backends.gaussian.motion.timing import INPUTS
from vivant.scene import clips, compat, edits, outside, playback, pointclouds, streams


@pytest.fixture
def extension(scene):
    """Vivant registered, with an empty scene."""
    vivant.register()
    yield scene
    vivant.unregister()


def streamed(folder: pathlib.Path, kind: str, windows: int = 32) -> bpy.types.Object:
    """A capture of 3000 splats that lasts from frame 1 to frame 11, streamed."""
    api.write_splats(moving(kind), folder / "big.ply")
    bpy.ops.wm.save_as_mainfile(filepath=str(folder / "shot.blend"))
    made = folder / "shot.vivant" / clips.stream_name(folder / "big.ply", {})
    made.parent.mkdir()
    stream_writer.run(*stream_writer.request(folder / "big.ply", made, {}, windows), lambda *_: None)
    return streams.add(bpy.context, folder / "big.ply", made, {}, 1.0, 10.0)


@pytest.mark.parametrize("kind", ["STG", "Linear", "4DGS"])
def test_every_sub_frame_shows_what_the_whole_capture_does(extension, tmp_path, kind):
    splats = streamed(tmp_path, kind)
    whole = api.read_splats(tmp_path / "big.ply")
    assert len(splats.data.points) < len(whole)
    for frame in (1, 11, 4.25, 4.26, 7.9, 30, -3, 2.5):
        extension.frame_set(int(np.floor(frame)), subframe=frame % 1)
        now, then = seen(evaluated(splats)), seen(whole.at(pointclouds.time_at(splats, extension.frame_current_final)))
        assert abs(len(now) - len(then)) <= 2  # float32 at the threshold of what shows
        np.testing.assert_allclose(np.sort(now[:, 0])[5:-5], np.sort(then[:, 0])[5:-5], atol=0.02)
        still = pointclouds.cloud_at(splats, extension)
        np.testing.assert_array_equal(seen(still), then)
    assert not playback.trouble


def test_scripts_and_exports_get_the_whole_and_edits_are_refused(extension, tmp_path):
    splats = streamed(tmp_path, "Linear")
    whole = api.read_splats(tmp_path / "big.ply")
    cloud = api.cloud_of(splats)
    np.testing.assert_array_equal(cloud.means, whole.means)
    assert cloud.family.name == "Linear"
    for edit in (lambda: edits.check_editable(splats), lambda: outside.keep(splats)):
        with pytest.raises(VivantError):
            edit()


def test_the_operator_streams_and_a_deleted_file_is_named_and_made_again(extension, tmp_path):
    api.write_splats(moving("Linear"), tmp_path / "big.ply")
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "shot.blend"))
    assert bpy.ops.vivant.splats_stream(filepath=str(tmp_path / "big.ply"), frames=10) == {"FINISHED"}
    splats = bpy.context.active_object
    extension.frame_set(4)
    before = seen(pointclouds.cloud_at(splats, extension))
    made = clips.cache_of(pointclouds.facts_of(splats))
    assert made.parent == tmp_path / "shot.vivant"
    playback.forget(splats)
    made.unlink()
    extension.frame_set(5)
    assert made.name in playback.trouble[splats.name] and "Prepare Again" in playback.trouble[splats.name]
    assert bpy.ops.vivant.splats_stream_again() == {"FINISHED"}
    extension.frame_set(4)
    np.testing.assert_array_equal(seen(pointclouds.cloud_at(splats, extension)), before)
    api.write_splats(samples.random_cloud(10, 0), tmp_path / "big.ply")
    with pytest.raises(RuntimeError, match="cannot be streamed"):
        bpy.ops.vivant.splats_stream(filepath=str(tmp_path / "big.ply"))


def test_a_render_on_the_command_line_shows_its_frame_and_makes_what_is_gone(extension, tmp_path):
    splats = streamed(tmp_path, "Linear")
    extension.render.film_transparent = True
    extension.camera.location = (0, 0, 40)
    extension.camera.rotation_euler = (0, 0, 0)
    extension.frame_set(2)
    bpy.ops.wm.save_mainfile()
    made = clips.cache_of(pointclouds.facts_of(splats))
    whole = api.import_splats(tmp_path / "big.ply", 1, 10)
    whole.name = "whole"
    splats.hide_render = True
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "whole.blend"), copy=True)
    pictures = []
    made.unlink()
    for blend, name in (("whole", "whole"), ("shot", splats.name)):
        code = RENDER.format(
            tests=str(pathlib.Path(__file__).resolve().parents[1]),
            blend=str(tmp_path / f"{blend}.blend"),
            name=name,
            out=str(tmp_path / f"{blend}_"),
            frame=7,
            act="",
        )
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
        image = bpy.data.images.load(str(tmp_path / f"{blend}_0007.png"))
        pictures.append(np.array(image.pixels[:]))
    assert "again" in ran.stdout and made.is_file()
    assert pictures[0].max() > 0.1
    assert np.abs(pictures[0] - pictures[1]).mean() < 0.004 and np.abs(pictures[0] - pictures[1]).max() < 0.06


def test_objects_that_share_played_splats_each_show_their_own_time(extension, tmp_path):
    splats = streamed(tmp_path, "Linear")
    twin = splats.copy()
    extension.collection.objects.link(twin)
    extension.frame_set(3)
    assert twin.data == splats.data
    compat.set_modifier_input(pointclouds.mover_of(twin), INPUTS["offset"], 5.0)
    whole = api.read_splats(tmp_path / "big.ply")
    for frame in (4, 5):
        extension.frame_set(frame)
        for each in (splats, twin):
            still = pointclouds.cloud_at(each, extension)
            np.testing.assert_array_equal(seen(still), seen(whole.at(pointclouds.time_at(each, frame))))
    assert twin.data != splats.data
