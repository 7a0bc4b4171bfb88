# SPDX-License-Identifier: GPL-3.0-or-later
"""Captures of the open scene: exact cameras, resumed pictures, and a scene that nobody has touched."""

import json
import math
import pathlib
import sys

import bpy
import numpy as np
import pytest

import vivant
from vivant import api
from vivant.backends.common import room
from vivant.backends.common.camera_files import read_cameras
from vivant.backends.common.cameras import project
from vivant.backends.common.errors import Cancelled, VivantError
from vivant.backends.common.steps import at_once
from vivant.backends.gaussian.train import pictures, views
from vivant.scene import capture, compat, sequences

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from pictures import load

PLACES = np.array([[0.5, 0.2, 0.3], [-0.6, 0.4, -0.2], [0.1, -0.7, 0.5]])


@pytest.fixture
def balls(scene):
    """Three small bright balls; the first one moves along x with the frames, from its place at frame 1 by 0.1 a frame."""
    material = bpy.data.materials.new("Bright")
    compat.node_tree(material).nodes.clear()
    shine = material.node_tree.nodes.new("ShaderNodeEmission")
    shine.inputs["Color"].default_value = (0.5, 0.25, 0.1, 1)
    out = material.node_tree.nodes.new("ShaderNodeOutputMaterial")
    material.node_tree.links.new(shine.outputs[0], out.inputs["Surface"])
    for index, place in enumerate(PLACES):
        bpy.ops.mesh.primitive_uv_sphere_add(radius=0.06, segments=24, ring_count=12, location=place)
        ball = bpy.context.object
        ball.name = f"Ball {index}"
        ball.data.materials.append(material)
        ball.pass_index = index + 1
    mover = bpy.data.objects["Ball 0"]
    mover.keyframe_insert("location", frame=1)
    mover.location.x += 0.4
    mover.keyframe_insert("location", frame=5)
    fcurves = _fcurves(mover)
    for curve in fcurves:
        for key in curve.keyframe_points:
            key.interpolation = "LINEAR"
    scene.frame_start, scene.frame_end = 1, 5
    scene.frame_set(2)
    scene.render.engine = "CYCLES"
    scene.cycles.samples = 16
    scene.cycles.use_denoising = False
    scene.camera.location = (3.2, -2.6, 1.7)
    bpy.context.view_layer.update()
    return scene


def _fcurves(thing):
    from vivant.scene import actions

    data = thing.animation_data
    return actions.curves_of(data.action, data.action_slot).values()


def do(scene, folder, **wish):
    return at_once(capture.capturing(scene, scene.view_layers[0], folder, capture.Wish(**wish)))


def state(scene):
    """Whatever a capture could leave behind."""
    values = {}
    for owner in (scene.render, scene.render.image_settings, scene.view_settings, scene.view_layers[0], scene.cycles):
        for item in owner.bl_rna.properties:
            if item.type not in ("POINTER", "COLLECTION") and not item.is_readonly:
                value = getattr(owner, item.identifier)
                values[type(owner).__name__, item.identifier] = tuple(value) if getattr(item, "is_array", False) else value
    return (
        values,
        scene.frame_current,
        scene.frame_subframe,
        scene.camera.name,
        [(marker.name, marker.camera) for marker in scene.timeline_markers],
        sorted(one.name for one in bpy.data.objects),
        sorted(one.name for one in bpy.data.cameras),
        sorted(one.name for one in bpy.data.scenes),
        [one.visible_camera for one in scene.objects],
    )


def listed(folder, split="train"):
    content = json.loads((folder / f"transforms_{split}.json").read_text())
    return read_cameras(folder / f"transforms_{split}.json").views, content


def centroids(picture, expected, reach=6.0):
    """Centre of the light (x, y) within some pixels about each of several expected places."""
    y, x = np.mgrid[: picture.shape[0], : picture.shape[1]] + 0.5
    found = []
    for place in expected:
        near = picture[..., 3] * (np.hypot(x - place[0], y - place[1]) < reach)
        found.append([(near * x).sum() / near.sum(), (near * y).sum() / near.sum()])
    return np.array(found)


LENSES = [
    {"lens": 35, "sensor_fit": "AUTO"},
    {"lens": 24, "sensor_fit": "VERTICAL", "sensor_height": 20},
    {"lens": 50, "sensor_fit": "HORIZONTAL", "shift_x": 0.1, "shift_y": -0.07},
]


@pytest.mark.parametrize("lens", LENSES)
@pytest.mark.parametrize("shell", ["CAMERAS", "SPHERE"])
def test_cameras_are_exact(balls, tmp_path, lens, shell):
    for name, value in lens.items():
        setattr(balls.camera.data, name, value)
    do(balls, tmp_path, shell=shell, views=5, held_out=1 if shell == "SPHERE" else 0, size=(160, 120))
    found, content = listed(tmp_path)
    assert len(found) == 5
    checked = 0
    for view in found:
        frame = 1 + 4 * view.time
        places = PLACES + np.array([[0.1 * (frame - 1), 0, 0], [0, 0, 0], [0, 0, 0]])
        expected = project(view.camera, places)
        apart = np.linalg.norm(expected[:, None] - expected, axis=2) + 1e9 * np.eye(3)
        inside = (expected > 8).all(axis=1) & (expected < [152, 112]).all(axis=1) & (apart.min(axis=1) > 14)
        measured = centroids(load(str(tmp_path / f"{view.name}.png")), expected[inside])
        checked += len(measured)
        assert np.abs(measured - expected[inside]).max(initial=0) < 0.3
    assert checked >= 6
    assert content["frame_range"] == [1, 5]


def test_pictures_hold_display_values_with_straight_alpha(balls, tmp_path):
    balls.view_settings.view_transform, balls.view_settings.exposure = "AgX", 2.0
    do(balls, tmp_path, shell="ORBIT", views=2, held_out=0, size=(96, 64), frames=(1, 1))
    first = listed(tmp_path)[0][0]
    picture = load(str(tmp_path / f"{first.name}.png"))
    assert set(np.unique(picture[..., 3])) >= {0.0, 1.0}
    light = np.array([0.5, 0.25, 0.1])
    np.testing.assert_allclose(
        picture[picture[..., 3] == 1][:, :3].mean(axis=0), 1.055 * light ** (1 / 2.4) - 0.055, atol=0.004
    )


def test_the_users_scene_is_untouched(balls, tmp_path, monkeypatch):
    other = bpy.data.objects.new("Other", bpy.data.cameras.new("Other"))
    balls.collection.objects.link(other)
    balls.timeline_markers.new("Cut", frame=3).camera = other
    balls.frame_set(2, subframe=0.25)
    balls.render.use_border = balls.render.use_motion_blur = True
    balls.camera = bpy.data.objects["Camera"]
    before = state(balls)
    wish = {"shell": "ORBIT", "views": 3, "held_out": 0, "size": (32, 24), "objects": ("Ball 1", "Ball 2"), "samples": 1}
    do(balls, tmp_path / "whole", passes=("depth",), **wish)
    assert state(balls) == before
    steps = capture.capturing(balls, balls.view_layers[0], tmp_path / "stopped", capture.Wish(**wish))
    for _ in range(2):
        next(steps)
        assert state(balls) == before
    steps.close()
    assert state(balls) == before

    def broken(*_):
        raise VivantError("It does not render.")

    monkeypatch.setattr(capture.borrowed, "render", broken)
    with pytest.raises(VivantError, match="not render"):
        do(balls, tmp_path / "failed", **wish)
    assert state(balls) == before


def test_only_the_chosen_objects_are_seen(balls, tmp_path):
    do(balls, tmp_path, shell="ORBIT", views=4, held_out=0, size=(128, 96), objects=("Ball 1",), samples=4)
    for view in listed(tmp_path)[0]:
        picture = load(str(tmp_path / f"{view.name}.png"))
        place = project(view.camera, PLACES[1])
        np.testing.assert_allclose(place, (64, 48), atol=1e-3)  # which the cameras turn about
        y, x = np.mgrid[:96, :128] + 0.5
        assert picture[..., 3].max() == 1
        assert not picture[..., 3][np.hypot(x - 64, y - 48) > 8].any()


def test_an_interrupted_capture_is_resumed_and_a_finished_one_made_anew(balls, tmp_path):
    wish = {"shell": "HEMISPHERE", "views": 4, "held_out": 1, "size": (24, 16), "samples": 1}
    steps = capture.capturing(balls, balls.view_layers[0], tmp_path, capture.Wish(**wish))
    for _ in range(3):
        next(steps)
    steps.close()
    pictures = sorted(tmp_path.rglob("*.png"))
    times = {path: path.stat().st_mtime_ns for path in pictures}
    assert len(pictures) == 2
    resumed = do(balls, tmp_path, **wish)
    assert (resumed.pictures, resumed.kept) == (5, 2)
    assert all(path.stat().st_mtime_ns == at for path, at in times.items())
    assert len(list(tmp_path.rglob("*.png"))) == 5
    assert resumed.bytes == sum(path.stat().st_size for path in tmp_path.rglob("*.png"))
    assert do(balls, tmp_path, **wish).kept == 0
    assert not list(tmp_path.rglob(".*"))
    with pytest.raises(VivantError, match="another capture"):
        do(balls, tmp_path, **wish | {"views": 6})


def test_every_view_at_every_frame_or_each_at_its_own(balls, tmp_path):
    layer = balls.view_layers[0]
    shots = capture.plan(balls, layer, capture.Wish("SPHERE", views=6, held_out=2, every_frame=True))
    assert len(shots) == 8 * 5
    assert [shot.frame for shot in shots] == sorted(shot.frame for shot in shots)
    assert {shot.frame for shot in shots if shot.split == "test"} == {1, 2, 3, 4, 5}
    shots = capture.plan(balls, layer, capture.Wish("SPHERE", views=9, held_out=2))
    assert [shot.frame for shot in shots if shot.split == "train"] == [1, 2, 2, 2, 3, 4, 4, 4, 5]
    centres = {tuple(shot.camera.camera_to_world[:3, 3].round(6)) for shot in shots}
    assert len(centres) == 11
    distance = np.linalg.norm(np.array(balls.camera.location) - capture.bounds(balls, layer, (), 1, 5).mean(axis=0))
    target = capture.bounds(balls, layer, (), 1, 5).mean(axis=0)
    for shot in shots:
        assert np.linalg.norm(shot.camera.camera_to_world[:3, 3] - target) == pytest.approx(distance)


def test_a_capture_is_read_to_train_on_with_its_passes(balls, tmp_path):
    pytest.importorskip("PIL.Image", reason="Pillow reads the pictures")
    passes = ("depth", "normal", "object_index", "albedo")
    do(balls, tmp_path, shell="SPHERE", views=6, held_out=2, size=(96, 96), passes=passes, samples=1)
    found = views.read(tmp_path)
    assert (len(found.train), len(found.test), found.size, found.frames) == (6, 2, (96, 96), (1, 5))
    assert {posed.time for posed in found.train} == {0, 0.25, 0.5, 0.75, 1}
    assert found.warnings == ()
    found.pictures().read_all()
    for posed in found.train[:2]:
        layers = {name: pictures.read_pass(posed.passes[name], name) for name in passes}
        assert [layers[name].shape[2] for name in passes] == [1, 3, 1, 3]
        x, y = project(posed.camera, PLACES[1]).astype(int)
        centre, forward = posed.camera.camera_to_world[:3, 3], posed.camera.camera_to_world[:3, 2]
        assert layers["depth"][y, x, 0] == pytest.approx((PLACES[1] - centre) @ forward - 0.06, abs=0.01)
        assert layers["normal"][y, x] @ (centre - PLACES[1]) / np.linalg.norm(centre - PLACES[1]) > 0.8
        assert layers["object_index"][y, x, 0] == 2
        assert layers["depth"][0, 0, 0] > 1e9


def test_an_orbit_keeps_the_active_cameras_elevation(balls):
    layer = balls.view_layers[0]
    target = capture.bounds(balls, layer, (), 1, 5).mean(axis=0)
    away = np.array(balls.camera.location) - target
    for shot in capture.plan(balls, layer, capture.Wish("ORBIT", views=8, held_out=0)):
        assert math.isclose(shot.camera.camera_to_world[2, 3] - target[2], away[2], abs_tol=1e-6)


def test_estimate_is_of_all_pictures(balls):
    found = capture.estimate(balls, balls.view_layers[0], capture.Wish("SPHERE", 18, 2, size=(32, 24), samples=1))
    assert found.pictures == 20
    assert found.seconds > 0
    assert found.bytes % 20 == 0
    assert found.bytes > 20 * 60


def test_what_cannot_be_captured_is_said(balls, tmp_path, monkeypatch):
    balls.camera.data.type = "ORTHO"
    with pytest.raises(VivantError, match="perspective"):
        do(balls, tmp_path)
    balls.camera.data.type = "PERSP"
    with pytest.raises(VivantError, match="Cycles only"):
        do(balls, tmp_path, engine="EEVEE", passes=("object_index",))
    with pytest.raises(VivantError, match="too few"):
        do(balls, tmp_path, views=1)
    with pytest.raises(VivantError, match="no object 'Nobody'"):
        do(balls, tmp_path, objects=("Nobody",))
    with pytest.raises(VivantError, match="nothing to turn about"):
        do(balls, tmp_path, objects=("Camera",))
    monkeypatch.setattr(room, "free_disk", lambda folder: 1000)
    with pytest.raises(VivantError, match="on the disk"):
        do(balls, tmp_path)
    balls.camera.location = (0, 0, 0.1)
    bpy.context.view_layer.update()
    with pytest.raises(VivantError, match="inside"):
        do(balls, tmp_path)
    balls.camera = None
    with pytest.raises(VivantError, match="no camera"):
        do(balls, tmp_path)


@pytest.fixture
def registered(balls):
    """Vivant registered over the scene of balls."""
    vivant.register()
    yield balls
    vivant.unregister()


def test_the_operator_captures_and_estimates(registered, tmp_path):
    wish = {"directory": str(tmp_path), "views": 3, "held_out": 1, "longest": 30, "samples": 1, "passes": {"depth"}}
    assert bpy.ops.vivant.scene_capture_estimate(**wish) == {"FINISHED"}
    assert registered.vivant_capture.estimate.startswith("4 pictures: about ")
    assert bpy.ops.vivant.scene_capture(**wish) == {"FINISHED"}
    assert len(list(tmp_path.rglob("*.png"))) == len(list(tmp_path.rglob("*.exr"))) == 4
    assert listed(tmp_path)[1]["w"] == 30
    with pytest.raises(RuntimeError, match="another capture"):
        bpy.ops.vivant.scene_capture(**wish | {"views": 5})
    with pytest.raises(RuntimeError, match="never saved"):
        bpy.ops.vivant.scene_capture()
    bpy.ops.object.select_all(action="DESELECT")
    with pytest.raises(RuntimeError, match="No object is selected"):
        bpy.ops.vivant.scene_capture(**wish | {"selected_only": True})


def test_a_stopped_capture_says_how_far_it_was(registered, tmp_path):
    from vivant.operators.capture import Capturing

    wish = capture.Wish("ORBIT", 4, 0, size=(24, 16), samples=1)
    job = Capturing(capture.capturing(registered, registered.view_layers[0], tmp_path, wish))
    for _ in range(3):
        assert not job.poll()
    assert job.progress.fraction == 0.5
    job.cancel()
    assert job.poll()
    with pytest.raises(Cancelled, match=r"after 2 of 4.*go on"):
        job.result()
    assert len(list(tmp_path.rglob("*.png"))) == 2


def test_footage_is_used_by_a_button_and_by_one_call(footage, tmp_path):
    vivant.register()
    try:
        assert bpy.ops.vivant.cameras_pose(directory=str(tmp_path)) == {"FINISHED"}
        with pytest.raises(RuntimeError, match="outside"):
            bpy.ops.vivant.cameras_pose(directory=str(tmp_path / "Stage 1"))
    finally:
        vivant.unregister()
    assert len(listed(tmp_path)[0]) == 8
    assert api.pose_footage(tmp_path, cameras=("Stage 1", "Stage 2")) == {"train": 6, "test": 0}


def test_scripts_capture_by_one_call(registered, tmp_path):
    found = api.capture_scene(tmp_path, shell="ORBIT", views=2, held_out=0, size=(16, 16), samples=1)
    assert (found.pictures, found.kept, found.folder) == (2, 0, tmp_path)


@pytest.fixture
def footage(balls, tmp_path):
    """Three cameras, each with a sequence of three pictures from number 11 on behind it, from frame 2 on; one has only two."""
    for index in range(3):
        data = bpy.data.cameras.new("Stage")
        camera = bpy.data.objects.new(f"Stage {index}", data)
        camera.location = (3 * math.cos(index), 3 * math.sin(index), 0.5)
        camera.rotation_euler = (math.pi / 2, 0, index + math.pi / 2)
        balls.collection.objects.link(camera)
        (tmp_path / camera.name).mkdir()
        for number in (11, 12, 13)[: 3 if index else 2]:
            picture = bpy.data.images.new("picture", 24, 16)
            picture.filepath_raw, picture.file_format = str(tmp_path / camera.name / f"shot1_{number:04d}.png"), "PNG"
            picture.save()
        image = bpy.data.images.load(str(tmp_path / camera.name / "shot1_0011.png"))
        image.source = "SEQUENCE"
        behind = data.background_images.new()
        behind.image = image
        user = behind.image_user
        user.frame_start, user.frame_offset, user.frame_duration = 2, 10, 3
    bpy.context.view_layer.update()
    return balls


def test_cameras_with_image_sequences_make_a_folder_to_train_on(footage, tmp_path):
    bpy.data.objects["Stage 1"].keyframe_insert("location", frame=2)
    bpy.data.objects["Stage 1"].location.z = 1.5
    bpy.data.objects["Stage 1"].keyframe_insert("location", frame=3)
    footage.frame_set(1)
    before = state(footage)
    assert sequences.pose(footage, footage.view_layers[0], tmp_path, held_out=1) == {"train": 5, "test": 3}
    assert state(footage) == before
    found, content = listed(tmp_path)
    assert [view.name for view in found] == [f"Stage {index}/shot1_{number:04d}.png" for number, index in
                                             [(11, 0), (11, 2), (12, 0), (12, 2), (13, 2)]]  # fmt: skip
    assert [view.time for view in found] == [0.25, 0.25, 0.5, 0.5, 0.75]
    assert content["w"] == 24
    heights = [view.camera.camera_to_world[2, 3] for view in listed(tmp_path, "test")[0]]
    assert heights == pytest.approx([0.5, 1.5, 1.5])
    if bpy.app.version >= (5, 0, 0):
        pytest.importorskip("PIL.Image", reason="Pillow reads the pictures")
        assert views.read(tmp_path).size == (24, 16)


def test_footage_that_cannot_be_used_is_said(footage, tmp_path):
    layer = footage.view_layers[0]
    with pytest.raises(VivantError, match="outside"):
        sequences.pose(footage, layer, tmp_path / "Stage 0")
    with pytest.raises(VivantError, match="None of the pictures"):
        sequences.pose(footage, layer, tmp_path, frames=(20, 30))
    with pytest.raises(VivantError, match="No camera has"):
        sequences.pose(footage, layer, tmp_path, cameras=("Camera",))
