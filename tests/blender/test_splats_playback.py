# SPDX-License-Identifier: GPL-3.0-or-later
"""Moving clouds on the timeline: retimed by keyable inputs, and played from files and from the frame cache."""

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
from moving import evaluated, made, placed
from network_weights import deformation_shapes, waves
from test_network_scenes import refined_scene, refinement
from test_network_scenes import scene as trained_scene

import vivant
from vivant import api, preferences
from vivant.backends.common.errors import VivantError
from vivant.backends.gaussian.cache_writer import sources
from vivant.backends.gaussian.motion.frames import Frames
from vivant.backends.gaussian.motion.timing import INPUTS, Timing
from vivant.operators import splats_playback
from vivant.scene import clips, compat, playback, pointclouds, sizes

TIMINGS = [
    Timing(5, 40, speed=1.7, offset=-3.3),
    Timing(5, 17, loop=True, offset=4),
    Timing(5, 17, back_and_forth=True, speed=-0.8),
    Timing(9, 30, reverse=True, loop=True),
]


def retime(splats: bpy.types.Object, timing: Timing) -> None:
    for field, title in INPUTS.items():
        compat.set_modifier_input(pointclouds.mover_of(splats), title, getattr(timing, field))


def key(splats: bpy.types.Object, title: str, keys: dict[float, float]) -> None:
    """Straight keys of an input of the motion's modifier."""
    mover = pointclouds.mover_of(splats)
    for frame, value in keys.items():
        compat.set_modifier_input(mover, title, value)
        splats.keyframe_insert(compat.modifier_input_path(mover, title), frame=frame)
    for layer in splats.animation_data.action.layers:
        for strip in layer.strips:
            for curve in strip.channelbags[0].fcurves:
                for point in curve.keyframe_points:
                    point.interpolation = "LINEAR"


@pytest.mark.parametrize("timing", TIMINGS)
@pytest.mark.parametrize("kind", ["STG", "Linear", "7D"])
def test_every_input_of_a_node_group_does_what_it_says(scene, kind, timing):
    cloud = made(kind)
    splats = placed(scene, cloud)
    retime(splats, timing)
    first, last = cloud.family.time_range
    for frame in np.linspace(-20.2, 61.7, 8):
        scene.frame_set(int(np.floor(frame)), subframe=frame % 1)
        eye = splats.matrix_world.inverted() @ scene.camera.matrix_world.translation
        truth = cloud.at(first + timing.share(frame) * (last - first), eye)
        np.testing.assert_allclose(evaluated(splats).means, truth.means, atol=2e-4)


def test_a_keyed_offset_is_the_speed_curve_of_a_native_cloud(scene):
    cloud = made("STG")
    splats = placed(scene, cloud)
    retime(splats, Timing(5, 40, speed=0))
    key(splats, "Offset", {1: 0.0, 11: 20.0, 21: 10.0})
    for frame, clip_frame in ((1, 0), (6, 10), (11, 20), (16, 15), (30, 10)):
        scene.frame_set(frame)
        np.testing.assert_allclose(evaluated(splats).means, cloud.at(clip_frame / 40).means, atol=1e-4)


@pytest.fixture
def extension(scene):
    """Vivant registered, with an empty scene."""
    vivant.register()
    yield scene
    vivant.unregister()


def network_object(folder: pathlib.Path) -> bpy.types.Object:
    """A small scene that a network moves by half its size, imported; 10 frames from frame 1 on."""
    weights = waves(deformation_shapes(), 0.3)
    for name in weights:
        weights[name] = weights[name] * (3 if "warp" in name else 0.02 if "scaling" in name else 1)
    trained_scene(folder, weights)
    return api.import_splats(folder, start_frame=1, frames=10)


@pytest.fixture
def baked(extension, tmp_path):
    """The same with its frames baked."""
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "shot.blend"))
    splats = network_object(tmp_path / "scene")
    assert bpy.ops.vivant.splats_bake() == {"FINISHED"}
    return splats


def shown(splats: bpy.types.Object) -> np.ndarray:
    """Means, opacities and sizes as Blender evaluates them."""
    now = evaluated(splats)
    return np.column_stack([now.means, now.opacities, now.scales])


def truth(splats: bpy.types.Object, time: float) -> np.ndarray:
    still = api.read_splats(pointclouds.facts_of(splats)["path"]).at(time)
    return np.column_stack([still.means, still.opacities, still.scales])


def test_a_network_s_scene_comes_in_standing_and_says_that_nothing_is_baked(extension, tmp_path):
    splats = network_object(tmp_path)
    np.testing.assert_allclose(shown(splats), truth(splats, 0), atol=1e-6)
    extension.frame_set(5)
    np.testing.assert_allclose(shown(splats), truth(splats, 0), atol=1e-6)
    assert "Bake Frames" in playback.trouble[splats.name]
    assert api.cloud_of(splats).family is None


def test_baked_frames_lie_beside_the_file_and_play(extension, baked, tmp_path):
    cache = clips.cache_of(pointclouds.facts_of(baked))
    assert cache.parent == tmp_path / "shot.vivant"
    scene_files = sum(file.stat().st_size for file in sources(pathlib.Path(pointclouds.facts_of(baked)["path"])))
    assert sizes.bytes_of(baked, 10**6).outside == cache.stat().st_size + scene_files
    for frame in (1, 7, 3, 11, 40, -2):
        extension.frame_set(frame)
        np.testing.assert_allclose(shown(baked), truth(baked, np.clip((frame - 1) / 10, 0, 1)), atol=1e-3)
    np.testing.assert_allclose(api.cloud_of(baked).at(0.3).means, truth(baked, 0.3)[:, :3], atol=1e-3)


def test_sub_frames_are_mixed(extension, baked):
    extension.frame_set(4)
    before = shown(baked)
    extension.frame_set(5)
    after = shown(baked)
    extension.frame_set(4, subframe=0.25)
    np.testing.assert_allclose(shown(baked), 0.75 * before + 0.25 * after, atol=1e-5)


def test_keyed_and_driven_inputs_play_baked_frames_without_a_frame_s_delay(extension, baked):
    retime(baked, Timing(1, 10, speed=0))
    key(baked, "Offset", {1: 0.0, 6: 10.0, 11: 5.0})
    for frame, clip_frame in ((6, 10), (2, 2), (11, 5), (3, 4)):
        extension.frame_set(frame)
        np.testing.assert_allclose(shown(baked), truth(baked, clip_frame / 10), atol=1e-3)
    baked.animation_data_clear()
    driver = baked.driver_add(compat.modifier_input_path(pointclouds.mover_of(baked), "Offset")).driver
    driver.expression = "10 - frame"
    for frame in (2, 9):
        extension.frame_set(frame)
        np.testing.assert_allclose(shown(baked), truth(baked, 1 - frame / 10), atol=1e-3)


def test_an_input_that_is_changed_by_hand_is_shown_at_once(extension, baked):
    extension.frame_set(3)
    compat.set_modifier_input(pointclouds.mover_of(baked), "Reverse", True)
    bpy.context.view_layer.update()
    bpy.context.view_layer.update()
    np.testing.assert_allclose(shown(baked), truth(baked, 0.8), atol=1e-3)


def test_without_vivant_the_frame_that_was_set_last_stays(extension, baked):
    extension.frame_set(8)
    last = shown(baked)
    playback.unregister()
    extension.frame_set(2)
    np.testing.assert_array_equal(shown(baked), last)
    playback.register()


def test_a_deleted_cache_is_named_and_baked_again_by_the_button(extension, baked):
    cache = clips.cache_of(pointclouds.facts_of(baked))
    playback.forget(baked)
    cache.unlink()
    extension.frame_set(6)
    assert cache.name in playback.trouble[baked.name] and "Bake Frames" in playback.trouble[baked.name]
    assert bpy.ops.vivant.splats_bake() == {"FINISHED"}
    assert not playback.trouble
    np.testing.assert_allclose(shown(baked), truth(baked, 0.5), atol=1e-3)


def test_a_cache_that_outgrows_its_limit_is_an_error_and_leaves_no_file(extension, tmp_path):
    splats = network_object(tmp_path / "scene")
    job = splats_playback.bake(splats, 11, 700, None)
    job.wait()
    with pytest.raises(VivantError, match="GB"):
        job.result()
    folder = preferences.cache_folder() / "frames"
    assert not list(folder.glob(clips.cache_name(pointclouds.facts_of(splats)) + "*"))


@pytest.mark.parametrize("form", ["STG", "Linear"])
def test_a_fit_needs_no_cache_and_says_how_like_it_is(extension, tmp_path, form):
    splats = network_object(tmp_path / "scene")
    splats.location.x = 2
    compat.set_modifier_input(pointclouds.mover_of(splats), "Reverse", True)
    bpy.context.view_layer.update()
    assert bpy.ops.vivant.splats_fit(form=form) == {"FINISHED"}
    made_object = bpy.context.active_object
    facts = pointclouds.facts_of(made_object)
    assert facts["family"] == form and facts["decibels"][0] > 20 and splats.hide_render
    assert made_object.matrix_world == splats.matrix_world
    assert pointclouds.timing_of(pointclouds.mover_of(made_object)).reverse
    vivant.unregister()  # by nodes alone
    extension.frame_set(4)
    fitted = api.cloud_of(made_object).at(0.7)
    np.testing.assert_allclose(evaluated(made_object).means, fitted.means, atol=1e-4)
    vivant.register()


@pytest.mark.parametrize("counts", [(30, 30, 30), (30, 20, 44)])
def test_a_sequence_plays_from_its_files(extension, tmp_path, counts):
    for number, count in enumerate(counts, 1):
        cloud = samples.random_cloud(count, 1, seed=number)
        api.write_splats(cloud, tmp_path / f"a_{number:03}.ply")
    splats = api.import_splats(tmp_path, start_frame=1, frames=2)
    for frame in (2, 3, 1, 3):
        extension.frame_set(frame)
        real = api.read_splats(tmp_path / f"a_{frame:03}.ply")
        now = evaluated(splats)
        np.testing.assert_array_equal(now.means[: len(real)], real.means)
        np.testing.assert_array_equal(now.sh[: len(real)], real.sh)
        assert not now.opacities[len(real) :].any()
    assert isinstance(api.cloud_of(splats).family, Frames)


RENDER = """
import os, pathlib, sys
import bpy
sys.path.insert(0, {tests!r})
import conftest
import vivant
from vivant.scene import clips, playback, pointclouds
vivant.register()
bpy.ops.wm.open_mainfile(filepath={blend!r})
scene = bpy.context.scene
scene.render.engine = "CYCLES"
scene.cycles.samples = 1
scene.render.resolution_x = scene.render.resolution_y = 32
scene.render.filepath = {out!r}
{act}
scene.frame_start = scene.frame_end = {frame}
bpy.ops.render.render(animation=True)
base = pointclouds.read_attribute(bpy.data.objects[{name!r}].data, pointclouds.BASE)
print("OPACITIES", bool(base[:, 3].all()), flush=True)
os._exit(0)
"""


def picture_of(frame: int, blend: pathlib.Path, name: str, act: str = "") -> tuple[np.ndarray, str]:
    """What a Blender that is started anew renders of a frame (32 x 32, RGBA), and what it printed."""
    out = blend.with_name(f"{name}_{frame}_{abs(hash(act))}_")
    code = RENDER.format(
        tests=str(pathlib.Path(__file__).resolve().parents[1]), blend=str(blend), name=name, out=str(out), frame=frame, act=act
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    (file,) = out.parent.glob(out.name + "*.png")
    image = bpy.data.images.load(str(file))
    pixels = np.empty(32 * 32 * 4, np.float32)
    image.pixels.foreach_get(pixels)
    bpy.data.images.remove(image)
    return pixels, ran.stdout + ran.stderr


def test_a_render_on_the_command_line_shows_its_frame_and_bakes_what_is_gone(extension, baked, tmp_path):
    places = truth(baked, 0)[:, :3] @ np.array(baked.matrix_world.to_3x3()).T
    extension.camera.location = places.mean(axis=0) + np.array([0, 0, 2 * np.ptp(places, axis=0).max()])
    extension.camera.rotation_euler = (0, 0, 0)
    extension.render.film_transparent = True
    extension.frame_set(2)
    bpy.ops.wm.save_mainfile()
    blend = pathlib.Path(bpy.data.filepath)
    still = f"splats = bpy.data.objects[{baked.name!r}]; playback.unregister(); "
    expected, _ = picture_of(9, blend, baked.name, still + "playback.show(splats, 0.8)")
    other, _ = picture_of(9, blend, baked.name, still + "playback.show(splats, 0.1)")
    shown_now, _ = picture_of(9, blend, baked.name)
    np.testing.assert_array_equal(shown_now, expected)
    assert expected.max() > 0.1 and np.abs(other - expected).max() > 0.02
    cache = clips.cache_of(pointclouds.facts_of(baked))
    cache.unlink()
    again, printed = picture_of(9, blend, baked.name, "again = True")
    assert "baking the frames" in printed and cache.is_file()
    np.testing.assert_array_equal(again, expected)
    cache.unlink()
    (tmp_path / "scene").rename(tmp_path / "moved")
    without, printed = picture_of(9, blend, baked.name, "without = True")
    assert "cannot be baked" in printed and "is left out" in printed and "OPACITIES True" in printed
    assert without.max() < 0.01  # Blender's dithering


def test_what_depends_on_the_view_is_baked_along_the_camera_s_path_and_says_when_that_changed(extension, tmp_path):
    camera = extension.camera
    for frame, x in ((1, 3.2), (6, -1.0)):
        camera.location.x = x
        camera.keyframe_insert("location", frame=frame)
    splats = api.import_splats(refined_scene(tmp_path, refinement()), start_frame=1, frames=5)
    assert bpy.ops.vivant.splats_bake() == {"FINISHED"}
    cloud = api.read_splats(pointclouds.facts_of(splats)["path"])
    for frame in (1, 3, 6):
        extension.frame_set(frame)
        eye = splats.matrix_world.inverted() @ camera.matrix_world.translation
        still = cloud.at((frame - 1) / 5, eye)
        np.testing.assert_allclose(evaluated(splats).means, still.means, atol=1e-3)
        np.testing.assert_allclose(evaluated(splats).opacities, still.opacities, atol=1e-3)
    assert not playback.trouble
    camera.animation_data_clear()
    camera.location.x = 9
    extension.frame_set(4)
    assert playback.trouble[splats.name] == playback.MOVED


def test_a_sequence_lasts_as_many_frames_as_it_has(extension, tmp_path):
    for number in range(4):
        api.write_splats(samples.random_cloud(9, 0, seed=number), tmp_path / f"{number}.ply")
    assert pointclouds.timing_of(pointclouds.mover_of(api.import_splats(tmp_path))).frames == 3


def test_the_import_operator_takes_the_folder_of_a_trained_scene(extension, tmp_path):
    trained_scene(tmp_path, waves(deformation_shapes(), 0.05))
    assert bpy.ops.vivant.splats_import(filepath=f"{tmp_path}/") == {"FINISHED"}
    assert splats_playback.moved_by_network(bpy.context.active_object)
