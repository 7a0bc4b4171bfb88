# SPDX-License-Identifier: GPL-3.0-or-later
"""Cameras in and out of Blender: points land on the same pixels by Blender's own arithmetic and by the camera's matrix."""

import json
import pathlib
import sys
import zipfile

import bpy
import numpy as np
import pytest
from bpy_extras.object_utils import world_to_camera_view
from mathutils import Matrix, Vector

import vivant
from vivant import api
from vivant.backends.common.camera_files import FORMATS, read_cameras, write_cameras
from vivant.backends.common.cameras import Camera, CameraSet, View, intrinsics, project
from vivant.backends.common.steps import at_once
from vivant.scene import camera_sets, cameras, pointclouds

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))
import samples

POINTS = np.random.default_rng(7).normal(size=(20, 3)) * 0.3


def around(count=4, size=(640, 480), fx=500.0, fy=500.0, centre=None, model="perspective", seed=1, times=None, path=False):
    """Cameras that look at the origin from three metres away."""
    rng = np.random.default_rng(seed)
    centre = centre or (size[0] / 2, size[1] / 2)
    views = []
    for index in range(count):
        back = rng.normal(size=3)
        back /= np.linalg.norm(back)
        right = np.cross(rng.normal(size=3), -back)
        right /= np.linalg.norm(right)
        pose = np.eye(4)
        pose[:3, :3] = np.column_stack([right, np.cross(-back, right), -back])
        pose[:3, 3] = 3 * back
        camera = Camera(intrinsics(fx, fy, *centre), pose, *size, model)
        views.append(View(camera, f"p{index}.png", "", times[index] if times is not None else None))
    return CameraSet(tuple(views), path=path)


def blender_pixels(scene, camera, points):
    """Where Blender sees points of its world, pixels from the top left, by its own function."""
    bpy.context.view_layer.update()
    width, height = cameras.picture_size(scene)
    seen = np.array([world_to_camera_view(scene, camera, Vector(point)) for point in points])
    return np.column_stack([seen[:, 0] * width, (1 - seen[:, 1]) * height])


def to_world(owner, points):
    bpy.context.view_layer.update()
    matrix = np.array(owner.matrix_world)
    return points @ matrix[:3, :3].T + matrix[:3, 3]


@pytest.mark.parametrize("model", ["perspective", "orthographic"])
@pytest.mark.parametrize(
    ("size", "fx", "fy", "centre"),
    [
        ((640, 480), 500, 500, None),
        ((480, 640), 420, 420, (250, 300)),
        ((640, 480), 500, 515, (301.5, 255.25)),
        ((360, 640), 458.5, 458.16, (184.8, 321.7)),
        ((512, 512), 15, 14, (300, 200)),  # less than Blender's shortest lens on a full-frame sensor
    ],
)
def test_points_land_on_the_same_pixels_in_blender_and_come_back_as_they_were(scene, size, fx, fy, centre, model):
    if model == "orthographic":
        fx, fy = fx / 3, fy / 3
    found = around(3, size, fx, fy, centre, model)
    made, _ = camera_sets.add(bpy.context, found, "set")
    tolerance = 1e-3
    for camera, view in zip(made, found.views, strict=True):
        world = to_world(camera.parent, POINTS)
        expected = project(view.camera, POINTS)
        assert np.abs(blender_pixels(scene, camera, world) - expected).max() < tolerance
        back = cameras.read(camera, scene, bpy.context.evaluated_depsgraph_get())
        assert np.abs(project(back, world) - expected).max() < tolerance
        assert back.model == model


def test_cameras_of_a_cloud_follow_it_and_see_it_as_the_file_says(scene, tmp_path):
    for path in samples.write_still(tmp_path):
        cloud = api.read_splats(path)
        splats = pointclouds.add(bpy.context, cloud)
        splats.matrix_world = Matrix.Translation((1, 2, 3)) @ splats.matrix_world @ Matrix.Scale(1.5, 4)
        found = around(2)
        made, _ = camera_sets.add(bpy.context, found, "set", splats)
        assert all(camera.parent == splats for camera in made)
        # what was trained is RDF; SPZ files hold the same turned to RUB
        points = POINTS * (1, -1, -1) if cloud.source.format == "SPZ" else POINTS
        for camera, view in zip(made, found.views, strict=True):
            pixels = blender_pixels(scene, camera, to_world(splats, points))
            assert np.abs(pixels - project(view.camera, POINTS)).max() < 1e-3
        given = at_once(camera_sets.gathering(bpy.context, "COLMAP", made, splats=splats))
        for a, b in zip(given.views, found.views, strict=True):
            assert np.abs(project(a.camera, POINTS) - project(b.camera, POINTS)).max() < 1e-3


@pytest.mark.parametrize("form", sorted(FORMATS))
def test_a_moving_camera_written_and_read_sees_the_same(scene, tmp_path, form):
    camera = scene.camera
    scene.frame_start, scene.frame_end = 5, 9
    scene.render.fps = 25
    for frame, x in ((5, -1.0), (9, 2.0)):
        camera.location = (x, -4, 1.5)
        camera.rotation_euler = (Vector((0, 0, 0.5)) - camera.location).to_track_quat("-Z", "Y").to_euler()
        camera.keyframe_insert("location", frame=frame)
        camera.keyframe_insert("rotation_euler", frame=frame)
    expected = {}
    for frame in range(5, 10):
        scene.frame_set(frame)
        expected[frame] = blender_pixels(scene, camera, POINTS)
    scene.frame_set(7)
    given = at_once(camera_sets.gathering(bpy.context, form))
    assert scene.frame_current == 7
    write_cameras(given, tmp_path / "out.json" if form != "COLMAP" else tmp_path, form)
    found = read_cameras(tmp_path / "out.json" if form != "COLMAP" else tmp_path, cameras.picture_size(scene))
    assert found.views[0].name == ("0005.png" if form != "SUPERSPLAT" else "Key 1")
    made, _ = camera_sets.add(bpy.context, found, "back", layout="PATH", frames=4)
    tolerance = 1e-3 if form != "SUPERSPLAT" else 2.0  # whose cameras are level
    for frame, pixels in expected.items():
        scene.frame_set(frame)
        assert np.abs(blender_pixels(scene, made[0], POINTS) - pixels).max() < tolerance


def test_markers_bind_each_picture_to_its_frame(scene):
    made, _ = camera_sets.add(bpy.context, around(3), "set", start_frame=11, markers=True)
    for frame, camera in zip((11, 12, 13), made, strict=True):
        scene.frame_set(frame)
        assert scene.camera == camera
    given = at_once(camera_sets.gathering(bpy.context, "COLMAP", frame_range=(11, 13)))
    first = cameras.read(made[0], scene, bpy.context.evaluated_depsgraph_get())
    np.testing.assert_array_equal(given.views[0].camera.intrinsics, first.intrinsics)
    assert len(given) == 3


def test_pictures_with_times_stand_at_the_frames_where_the_splats_show_them(scene, tmp_path):
    splats = api.import_splats(samples.write_moving(tmp_path), 11, 40)
    found = around(4, times=[0, 0.5, 0.5, 1])
    _, warnings = camera_sets.add(bpy.context, found, "set", splats, markers=True)
    assert [(marker.frame, marker.camera.name) for marker in scene.timeline_markers] == [(11, "p0"), (31, "p1"), (51, "p3")]
    assert any("1 cameras have no marker" in warning for warning in warnings)
    given = at_once(camera_sets.gathering(bpy.context, "TRANSFORMS", frame_range=(11, 51), step=20, splats=splats))
    assert [view.time for view in given.views] == pytest.approx([0, 0.5, 1])


def test_a_path_with_a_zoom_keys_the_lens_at_seconds(scene):
    views = [
        View(around(1, fx=f, fy=f, seed=i).views[0].camera, "", "", time)
        for i, (f, time) in enumerate([(400, 0.0), (800, 1.0)])
    ]
    made, warnings = camera_sets.add(bpy.context, CameraSet(tuple(views), path=True), "zoom", start_frame=1)
    assert not warnings
    for frame, focal in ((1, 400), (1 + scene.render.fps, 800)):
        scene.frame_set(frame)
        assert made[0].data.lens == pytest.approx(focal * 36 / 640)
    assert len(made) == 1


def test_several_shapes_make_no_path_and_nothing_is_left_behind(scene):
    views = (*around(1).views, *around(1, size=(480, 640)).views)
    before = len(bpy.data.objects), len(bpy.data.collections)
    with pytest.raises(Exception, match="shapes"):
        camera_sets.add(bpy.context, CameraSet(views), "set", layout="PATH")
    assert before == (len(bpy.data.objects), len(bpy.data.collections))


def test_an_unevenly_scaled_cloud_gives_no_cameras(scene, tmp_path):
    splats = pointclouds.add(bpy.context, api.read_splats(samples.write_still(tmp_path)[0]))
    splats.scale = (1, 2, 1)
    bpy.context.view_layer.update()
    with pytest.raises(Exception, match="unevenly"):
        at_once(camera_sets.gathering(bpy.context, "COLMAP", [scene.camera], splats=splats))


@pytest.mark.parametrize("name", ["nerf_lego", "fox_photos", "tabletop"])
def test_real_captures_project_to_the_same_pixels(scene, data, tmp_path, name):
    with zipfile.ZipFile(data / "dynamic_scenes" / f"{name}.zip") as archive:
        member = next(each for each in archive.namelist() if each.endswith("transforms_train.json"))
        archive.extract(member, tmp_path)
    path = tmp_path / member
    content = json.loads(path.read_text())
    found = read_cameras(path, size=(400, 400))
    made, warnings = camera_sets.add(bpy.context, found, name)
    assert len(made) == len(content["frames"])
    assert any("distortion" in warning for warning in warnings) == (name == "fox_photos")
    width, height = content.get("w", 400), content.get("h", 400)
    focal = content.get("fl_x", width / 2 / np.tan(content["camera_angle_x"] / 2))
    K = np.array(
        [[focal, 0, content.get("cx", width / 2)], [0, content.get("fl_y", focal), content.get("cy", height / 2)], [0, 0, 1]]
    )
    worst = 0.0
    for camera, frame in list(zip(made, content["frames"], strict=True))[::7]:
        pose = np.array(frame["transform_matrix"])
        points = POINTS + pose[:3, 3] - 4 * pose[:3, 2]  # in front of it
        local = (points - pose[:3, 3]) @ pose[:3, :3] * (1, -1, -1)
        pixels = (local @ K.T)[:, :2] / local[:, 2:]
        worst = max(worst, np.abs(blender_pixels(scene, camera, points) - pixels).max())
    assert worst < 1e-3


@pytest.fixture
def extension(scene):
    """Vivant registered, with an empty scene."""
    vivant.register()
    yield
    vivant.unregister()


@pytest.mark.usefixtures("extension")
@pytest.mark.parametrize("form", sorted(FORMATS))
def test_the_operators_write_what_they_read(tmp_path, form):
    names = {"COLMAP": "cameras.txt", "INRIA": "cameras.json", "TRANSFORMS": "transforms.json", "SUPERSPLAT": "settings.json"}
    path = tmp_path / names[form]
    write_cameras(around(3), path, form)
    assert bpy.ops.vivant.cameras_import(filepath=str(path)) == {"FINISHED"}
    made = [camera for camera in bpy.data.objects if camera.type == "CAMERA" and camera.parent]
    assert len(made) == 3
    # settings.json holds no size of pictures: the scene keeps its own
    assert cameras.picture_size(bpy.context.scene) == ((192, 128) if form == "SUPERSPLAT" else (640, 480))
    for camera in bpy.data.objects:
        camera.select_set(camera in made)
    out = tmp_path / "out"
    out.mkdir()
    options = {"form": form, "source": "SELECTED", "match_splats": False}
    assert bpy.ops.vivant.cameras_export(filepath=str(out / names[form]), **options) == {"FINISHED"}
    for a, b in zip(read_cameras(out).views, read_cameras(path).views, strict=True):
        assert np.abs(project(a.camera, POINTS) - project(b.camera, POINTS)).max() < 1e-3


@pytest.mark.usefixtures("extension")
def test_what_cannot_be_read_or_written_is_a_sentence_and_changes_nothing(tmp_path):
    (tmp_path / "a.json").write_text("{}")
    before = len(bpy.data.objects), len(bpy.data.cameras), len(bpy.data.collections)
    with pytest.raises(RuntimeError, match="holds no cameras"):
        bpy.ops.vivant.cameras_import(filepath=str(tmp_path / "a.json"))
    assert before == (len(bpy.data.objects), len(bpy.data.cameras), len(bpy.data.collections))
    bpy.context.scene.camera.data.type = "ORTHO"
    with pytest.raises(RuntimeError, match="orthographic"):
        bpy.ops.vivant.cameras_export(filepath=str(tmp_path / "transforms.json"))
    assert not (tmp_path / "transforms.json").exists()


def test_an_export_that_is_stopped_leaves_the_scene_at_its_frame(scene):
    scene.frame_start, scene.frame_end = 1, 9
    scene.frame_set(4, subframe=0.25)
    steps = camera_sets.gathering(bpy.context, "TRANSFORMS")
    shares = [next(steps) for _ in range(6)]
    assert scene.frame_current != 4
    assert shares == sorted(shares)
    steps.close()
    assert (scene.frame_current, scene.frame_subframe) == (4, 0.25)


@pytest.mark.usefixtures("extension")
def test_pictures_beside_the_file_stand_behind_their_cameras(tmp_path):
    image = bpy.data.images.new("p", 8, 6)
    image.file_format = "PNG"
    image.save(filepath=str(tmp_path / "p0.png"))
    write_cameras(around(2, size=(8, 6), fx=6, fy=6), tmp_path / "transforms.json")
    bpy.ops.vivant.cameras_import(filepath=str(tmp_path / "transforms.json"), pictures=True)
    shown = [len(camera.background_images) for camera in bpy.data.cameras if camera.name.startswith("p")]
    assert shown == [1, 0]


def test_scripts_import_and_export_with_two_calls(scene, tmp_path):
    write_cameras(around(2), tmp_path / "transforms.json")
    made = api.import_cameras(tmp_path / "transforms.json")
    written = api.export_cameras(tmp_path / "model", "COLMAP", made)
    assert [view.name for view in api.read_cameras(tmp_path / "model").views] == ["p0.png", "p1.png"]
    assert len(written) == 2
