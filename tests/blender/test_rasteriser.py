# SPDX-License-Identifier: GPL-3.0-or-later
"""What the viewport draws is what the float64 rasteriser draws, from any view."""

import threading

import bpy
import gpu
import numpy as np
import pytest
from mathutils import Euler, Matrix, Vector

from vivant.backends.common.cameras import Camera
from vivant.backends.gaussian.cloud import Source, SplatCloud
from vivant.backends.gaussian.render.reference import render as reference
from vivant.scene import drawing, pointclouds, rasteriser, sorting

SIZE = (192, 128)
TURNED = Matrix.LocRotScale(Vector((0.1, 0.05, -0.1)), Euler((0.2, -0.4, 0.7)), Vector((0.9, 0.9, 0.9)))
STRETCHED = Matrix.LocRotScale(Vector((-0.3, 0.2, 0.3)), Euler((1.2, 0.4, -0.7)), Vector((0.5, 1.3, 0.8)))
VIEW = Matrix.LocRotScale(Vector((3.2, -2.6, 1.7)), Vector((3.2, -2.6, 1.7)).to_track_quat("Z", "Y"), None)


@pytest.fixture(scope="module")
def card():
    if not hasattr(gpu, "init"):
        pytest.skip("before 5.2 Blender draws only in windows")
    gpu.init()


def made_up_cloud(count, coefficients, seed, antialiased=False):
    rng = np.random.default_rng(seed)
    quats = rng.normal(size=(count, 4))
    quats /= np.linalg.norm(quats, axis=1, keepdims=True)
    colours = rng.normal(size=(count, coefficients, 3)) * 0.2
    colours[:, 0] *= 5
    scales = np.exp(rng.uniform(np.log(0.004), np.log(0.12), (count, 3)))
    source = Source(antialiased=antialiased)
    return SplatCloud(rng.uniform(-1.4, 1.4, (count, 3)), quats, scales, rng.uniform(0, 1, count), colours, source=source)


def lens(perspective, shift=(0.0, 0.0), near=0.2, far=100.0):
    """An OpenGL projection matrix, and the same as intrinsics."""
    width, height = SIZE
    zoom = 2.2 if perspective else 0.5
    zoom_y = zoom * width / height
    projection = Matrix(((zoom, 0, 0, 0), (0, zoom_y, 0, 0), (0, 0, 0, 0), (0, 0, 0, 0)))
    if perspective:
        projection[0][2], projection[1][2] = shift
        projection[2][2], projection[2][3] = -(far + near) / (far - near), -2 * far * near / (far - near)
        projection[3][2] = -1
    else:
        projection[2][2], projection[2][3], projection[3][3] = -2 / (far - near), -(far + near) / (far - near), 1
    centre = (width / 2 * (1 - shift[0]), height / 2 * (1 + shift[1]))
    intrinsics = np.array([[zoom * width / 2, 0, centre[0]], [0, zoom_y * height / 2, centre[1]], [0, 0, 1]])
    return projection, intrinsics


def draw(clouds, matrices, projection, occluder=1.0):
    """The clouds through the module under test, (H, W, 4), rows from the top."""
    shape = [np.concatenate([getattr(cloud, name) for cloud in clouds]) for name in ("means", "quats", "scales", "opacities")]
    owners = np.repeat(np.arange(len(clouds), dtype=np.float32), [len(cloud) for cloud in clouds])
    radiance, bands = rasteriser.pack_radiance([list(cloud.sh.transpose(1, 0, 2)) for cloud in clouds])
    splats = rasteriser.Splats(rasteriser.pack_shape(*shape, owners), radiance, bands)
    poses = [
        rasteriser.Pose(VIEW.inverted() @ matrix, cloud.degree, cloud.source.antialiased)
        for cloud, matrix in zip(clouds, matrices, strict=True)
    ]
    points = sorting.Points(np.arange(len(owners), dtype=np.float32), [np.float32(cloud.means) for cloud in clouds])
    lines = tuple(tuple(pose.to_view[2]) for pose in poses)
    order = sorting.sort(sorting.Wanted(points, lines, rasteriser.near_of(projection), projection[3][3] == 0))
    plate = gpu.types.GPUOffScreen(*SIZE, format="RGBA32F")
    behind = np.full(SIZE[0] * SIZE[1], occluder, np.float32)
    occluders = gpu.types.GPUTexture(SIZE, format="R32F", data=gpu.types.Buffer("FLOAT", behind.size, behind))
    with plate.bind():
        framebuffer = gpu.state.active_framebuffer_get()
        framebuffer.clear(color=(0, 0, 0, 0))
        rasteriser.draw(splats, rasteriser.pack_order(order.texels), order.count, poses, projection, SIZE, occluders)
        pixels = framebuffer.read_color(0, 0, *SIZE, 4, 0, "FLOAT")
    return np.array(pixels, np.float32).reshape(SIZE[1], SIZE[0], 4)[::-1]


def expected(clouds, matrices, intrinsics, model="perspective"):
    flip = np.diag([1.0, -1.0, -1.0, 1.0])
    return reference(
        [
            (cloud, Camera(intrinsics, np.array(matrix.inverted() @ VIEW) @ flip, *SIZE, model))
            for cloud, matrix in zip(clouds, matrices, strict=True)
        ]
    )


def psnr(a, b):
    return -10 * np.log10(np.square(np.clip(a, 0, 1) - np.clip(b, 0, 1)).mean())


@pytest.mark.parametrize("coefficients", [1, 4, 9, 16])
def test_one_cloud_equals_the_reference(card, coefficients):
    cloud = made_up_cloud(1500, coefficients, seed=coefficients)
    projection, intrinsics = lens(True, shift=(0.2, -0.1))
    assert psnr(draw([cloud], [TURNED], projection), expected([cloud], [TURNED], intrinsics)) > 50


def test_clouds_that_pass_through_each_other_are_sorted_together(card):
    clouds = [made_up_cloud(800, 4, seed=1, antialiased=True), made_up_cloud(900, 16, seed=2)]
    projection, intrinsics = lens(True)
    assert psnr(draw(clouds, [TURNED, STRETCHED], projection), expected(clouds, [TURNED, STRETCHED], intrinsics)) > 50


def test_parallel_views_equal_the_reference(card):
    cloud = made_up_cloud(1500, 4, seed=3)
    projection, intrinsics = lens(False)
    assert psnr(draw([cloud], [STRETCHED], projection), expected([cloud], [STRETCHED], intrinsics, "orthographic")) > 50


def test_what_lies_behind_another_object_is_hidden(card):
    cloud = made_up_cloud(500, 1, seed=4)
    assert not draw([cloud], [TURNED], lens(True)[0], occluder=0.5).any()


@pytest.mark.parametrize("near", [0.1, -np.inf])
def test_what_is_nearer_than_the_near_plane_has_no_place(near):
    depths = [3, -1, 0.05, 7, 0.1, 2]
    places = [np.array([[0, 0, -depth] for depth in part], np.float32) for part in (depths[:2], depths[2:])]
    points = sorting.Points(np.arange(10, 16, dtype=np.float32), places)
    found = sorting.sort(sorting.Wanted(points, ((0, 0, 1, 0),) * 2, near, near > 0))
    expected = [13, 10, 15] if near > 0 else [13, 10, 15, 14, 12, 11]
    assert found.texels[: found.count, 0].tolist() == expected


# ---- a view that turns


@pytest.fixture
def late(monkeypatch):
    """Everything is large: the thread sorts whatever may be late."""
    monkeypatch.setattr(sorting, "AT_ONCE", 0)
    yield
    drawing._forget_all()
    sorting.forget()


def painter(scene, made):
    """What `paint` shows of objects from a side, (H, W, 4); in one and the same view, and in another one."""
    nothing = gpu.types.Buffer("FLOAT", SIZE[0] * SIZE[1], np.ones(SIZE[0] * SIZE[1], np.float32))
    kept = drawing.View(SIZE)

    def paint(side, view=kept, may_be_late=True):
        depsgraph = bpy.context.evaluated_depsgraph_get()
        to_view = VIEW.inverted() @ Matrix.Rotation(side, 4, "Z")
        drawing.paint(view, made, depsgraph, 10**6, to_view, lens(True)[0], nothing, may_be_late)
        return np.array(view.framebuffer.read_color(0, 0, *SIZE, 4, 0, "FLOAT"), np.float32)

    def exact(side):
        return paint(side, drawing.View(SIZE), False)

    return kept, paint, exact


def placed(scene, cloud):
    made = pointclouds.to_object(cloud, "Splats")
    scene.collection.objects.link(made)
    bpy.context.view_layer.update()
    return made


def test_a_turned_view_settles_on_the_exact_picture(card, scene, late):
    made = [placed(scene, made_up_cloud(700, 1, seed)) for seed in (6, 7)]
    view, paint, exact = painter(scene, made)
    np.testing.assert_array_equal(paint(0.0), exact(0.0))  # the first order is never late
    for side in (2.0, 2.5, 3.0):
        paint(side)
        asked = view.order.coming.result().wanted
        assert view.order.of != asked  # drawn without waiting
        assert sorting._redraw_when_sorted() is None  # the viewports are drawn again: nothing more to wait for
    np.testing.assert_array_equal(paint(3.0), exact(3.0))
    assert view.order.of == asked
    assert view.order.coming is None


def test_no_order_outlives_the_splats_it_is_of(card, scene, late):
    """Also while the thread sorts: what was just read is drawn in its own order."""
    made = placed(scene, made_up_cloud(700, 1, seed=8))
    view, paint, exact = painter(scene, [made])
    paint(0.0)
    paint(2.0)
    assert view.order.coming
    drawing._changes[made.session_uid] = drawing._changes.get(made.session_uid, 0) + 1
    made.data = pointclouds.write(made_up_cloud(300, 1, seed=9), "Fewer")
    bpy.context.view_layer.update()
    picture = paint(2.0)
    assert view.order.count <= 300
    np.testing.assert_array_equal(picture, exact(2.0))


def test_the_thread_ends_when_drawing_does(late):
    points = sorting.Points(np.arange(3, dtype=np.float32), [np.zeros((3, 3), np.float32)])
    (sorting._sorter().submit(sorting.sort, sorting.Wanted(points, ((0, 0, -1, 0),), 0.1, True))).result()
    assert any(thread.name.startswith("vivant order") for thread in threading.enumerate())
    sorting.forget()
    assert not any(thread.name.startswith("vivant order") for thread in threading.enumerate())
