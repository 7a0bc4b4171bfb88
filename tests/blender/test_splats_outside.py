# SPDX-License-Identifier: GPL-3.0-or-later
"""Splats that are kept outside of the .blend: saved small, read again, and never lost."""

import os
import pathlib
import subprocess
import sys
import threading

import bpy
import numpy as np
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))
sys.path.insert(0, str(pathlib.Path(__file__).parent))
import samples
from moving import made

import vivant
from vivant import api
from vivant.backends.common.errors import Cancelled, VivantError
from vivant.backends.gaussian.formats import Overrides
from vivant.operators import splats_outside
from vivant.scene import compat, edits, outside, pointclouds

COUNT = 20_000
EMPTY = 2_000_000
"""Bytes of a .blend without splats, at most."""


@pytest.fixture
def extension(scene):
    """Vivant registered, with an empty scene."""
    vivant.register()
    yield scene
    vivant.unregister()


@pytest.fixture
def splats(extension, tmp_path):
    """An imported cloud of a megabyte."""
    api.write_splats(samples.random_cloud(COUNT, 1), tmp_path / "cloud.ply")
    return api.import_splats(tmp_path / "cloud.ply")


def attributes(splats: bpy.types.Object) -> dict[str, bytes]:
    points = splats.data
    return {name: pointclouds.read_attribute(points, name).tobytes() for name in sorted(points.attributes.keys())}


def save(path: pathlib.Path, **options: bool) -> None:
    bpy.ops.wm.save_as_mainfile(filepath=str(path), compress=False, **options)


def reopened(path: pathlib.Path, name: str = "cloud") -> bpy.types.Object:
    bpy.ops.wm.open_mainfile(filepath=str(path))
    return bpy.data.objects[name]


def test_a_kept_cloud_is_not_in_the_blend_and_comes_back_bit_by_bit(splats, tmp_path):
    save(tmp_path / "inside.blend")
    before, data = attributes(splats), splats.data
    assert bpy.ops.vivant.splats_keep_outside() == {"FINISHED"}
    save(tmp_path / "outside.blend")
    sizes = [(tmp_path / f"{name}.blend").stat().st_size for name in ("inside", "outside")]
    assert sizes[0] - sizes[1] > 0.9 * outside.bytes_of(splats) > 1e6
    assert splats.data == data and attributes(splats) == before
    assert [points.name for points in bpy.data.pointclouds] == ["cloud"]
    again = reopened(tmp_path / "outside.blend")
    assert attributes(again) == before and not outside.trouble
    assert [points.name for points in bpy.data.pointclouds] == ["cloud"]
    assert again[pointclouds.KEY][outside.FACT]["path"] == "//cloud.ply"


@pytest.mark.parametrize("kind", ["STG", "Linear", "7D"])
def test_moving_clouds_come_back_with_their_motion(extension, tmp_path, kind):
    api.write_splats(made(kind), tmp_path / "cloud.ply")
    splats = api.import_splats(tmp_path / "cloud.ply")
    splats.data.materials.append(bpy.data.materials.new("Mine"))
    splats.data["mine"] = 7
    before = attributes(splats)
    outside.keep(splats)
    save(tmp_path / "shot.blend")
    again = reopened(tmp_path / "shot.blend")
    assert attributes(again) == before
    assert again.data.materials[-1].name == "Mine" and again.data["mine"] == 7


def test_a_sequence_kept_outside_comes_back_and_plays(extension, tmp_path):
    (tmp_path / "frames").mkdir()
    for number in range(3):
        api.write_splats(samples.random_cloud(50, 0, seed=number), tmp_path / "frames" / f"{number}.ply")
    splats = api.import_splats(tmp_path / "frames")
    outside.keep(splats)
    extension.frame_set(2)
    save(tmp_path / "shot.blend")
    again = reopened(tmp_path / "shot.blend", splats.name)
    bpy.context.scene.frame_set(3)
    expected = api.read_splats(tmp_path / "frames" / "2.ply")
    np.testing.assert_array_equal(pointclouds.read_attribute(again.data, "position"), expected.means)


def test_overrides_of_the_import_are_those_of_every_reading(extension, tmp_path):
    cloud = samples.random_cloud(300, 1)
    api.write_splats(cloud.replace(means=cloud.means[:, ::-1]), tmp_path / "cloud.ply")
    odd = api.read_splats(tmp_path / "cloud.ply", Overrides(axes="RUB", activation="activated"))
    splats = pointclouds.add(bpy.context, odd)
    before = attributes(splats)
    outside.keep(splats)
    save(tmp_path / "shot.blend")
    again = reopened(tmp_path / "shot.blend")
    assert attributes(again) == before and pointclouds.cloud_of(again).source.axes == "RUB"


def test_paths_follow_the_blend(splats, tmp_path):
    outside.keep(splats)
    (tmp_path / "shots").mkdir()
    save(tmp_path / "a.blend")
    save(tmp_path / "shots" / "b.blend", copy=True)
    assert splats[pointclouds.KEY][outside.FACT]["path"] == "//cloud.ply"
    assert len(reopened(tmp_path / "shots" / "b.blend").data.points) == COUNT
    (tmp_path / "elsewhere").mkdir()
    for name in ("a.blend", "cloud.ply"):
        (tmp_path / name).rename(tmp_path / "elsewhere" / name)
    assert len(reopened(tmp_path / "elsewhere" / "a.blend").data.points) == COUNT


def test_an_edited_cloud_is_refused_and_one_edited_later_stays_in_the_blend(splats, tmp_path):
    outside.keep(splats)
    edits.recolour(splats, np.eye(3), np.array([0.1, 0, 0]))
    before = attributes(splats)
    save(tmp_path / "shot.blend")
    assert outside.is_edited(splats) and outside.bytes_of(splats) == 0
    again = reopened(tmp_path / "shot.blend")
    assert attributes(again) == before
    outside.bring_in(again)
    with pytest.raises(VivantError, match="edited"):
        outside.keep(again)


@pytest.mark.parametrize("kind", ["", "STG", "Linear"])
def test_save_outside_keeps_an_edited_cloud_to_float_precision(extension, tmp_path, kind):
    cloud = made(kind) if kind else samples.random_cloud(300, 3)
    splats = pointclouds.add(bpy.context, cloud.replace(sh=cloud.sh[:, :1]) if kind == "STG" else cloud)
    splats.data.name = splats.name = "cloud"
    edits.recolour(splats, np.eye(3), np.array([0.1, 0, 0]))
    splats.matrix_world[0][3] = 2.0
    before = pointclouds.cloud_of(splats)
    outside.save(splats, tmp_path / "edited.ply")
    save(tmp_path / "shot.blend")
    after = pointclouds.cloud_of(reopened(tmp_path / "shot.blend"))
    for name in ("means", "scales", "opacities", "sh"):
        np.testing.assert_allclose(getattr(after, name), getattr(before, name), rtol=1e-5, atol=2e-6)
    np.testing.assert_allclose(after.at(0.4).means, before.at(0.4).means, atol=1e-4)
    np.testing.assert_allclose(after.at(0.4).opacities, before.at(0.4).opacities, atol=1e-4)


@pytest.mark.parametrize("kind", ["STG", "7D"])
def test_what_a_file_would_change_is_not_saved_outside(extension, tmp_path, kind):
    splats = pointclouds.add(bpy.context, made(kind))
    edits.recolour(splats, np.eye(3), np.array([0.1, 0, 0]))
    before = attributes(splats)
    with pytest.raises(VivantError):
        outside.save(splats, tmp_path / "edited.ply")
    assert not outside.is_kept(splats) and attributes(splats) == before and not list(tmp_path.iterdir())


def test_a_failed_save_leaves_everything_as_it_was(splats, tmp_path):
    outside.keep(splats)
    before, data = attributes(splats), splats.data
    (tmp_path / "folder.blend").mkdir()
    with pytest.raises(RuntimeError):
        save(tmp_path / "folder.blend")
    assert splats.data == data and attributes(splats) == before and splats.data.name == "cloud"


def test_what_is_stopped_or_edited_while_it_is_written_is_not_kept_there(splats, tmp_path):
    begun, go = threading.Event(), threading.Event()
    write = outside.writing(splats, tmp_path / "stopped.ply")
    job = splats_outside.InThread(lambda told: (begun.set(), go.wait(30), write(told))[2], "Writing")
    begun.wait(30)
    job.cancel()
    go.set()
    while not job.wait(1):
        pass
    with pytest.raises(Cancelled):
        job.result()
    job.kill()
    assert [path.name for path in tmp_path.iterdir()] == ["cloud.ply"] and not outside.is_kept(splats)
    written = outside.writing(splats, tmp_path / "early.ply")(lambda done, total: None)
    pointclouds.write_attribute(splats.data, "position", np.zeros((COUNT, 3), np.float32), "FLOAT_VECTOR")
    with pytest.raises(VivantError, match="while it was written"):
        outside.take_saved(splats, written)
    assert not outside.is_kept(splats)


def test_undo_goes_past_a_save(splats, tmp_path):
    outside.keep(splats)
    bpy.ops.ed.undo_push(message="kept")
    splats.location.x = 5
    bpy.ops.ed.undo_push(message="moved")
    before = attributes(splats)
    save(tmp_path / "shot.blend")
    bpy.ops.ed.undo()
    again = bpy.data.objects["cloud"]
    assert again.location.x == 0 and attributes(again) == before
    bpy.ops.ed.redo()
    assert attributes(bpy.data.objects["cloud"]) == before
    save(tmp_path / "again.blend")
    assert attributes(bpy.data.objects["cloud"]) == before
    assert (tmp_path / "again.blend").stat().st_size < EMPTY


def test_a_missing_file_is_said_and_found_again(splats, tmp_path):
    outside.keep(splats)
    compat.set_modifier_input(pointclouds.drawer_of(splats), "SH Degree", 0)
    before = attributes(splats)
    save(tmp_path / "shot.blend")
    (tmp_path / "cloud.ply").rename(tmp_path / "renamed.ply")
    again = reopened(tmp_path / "shot.blend")
    assert outside.is_missing(again) and pointclouds.is_splats(again)
    assert "cloud.ply" in outside.trouble["cloud"] and "Find File" in outside.trouble["cloud"]
    bpy.ops.wm.save_mainfile()  # what is not there is not forgotten
    again = reopened(tmp_path / "shot.blend")
    assert again[pointclouds.KEY][outside.FACT]["path"] == "//cloud.ply"
    with pytest.raises(VivantError):
        outside.bring_in(again)
    assert bpy.ops.vivant.splats_find(filepath=str(tmp_path / "renamed.ply")) == {"FINISHED"}
    assert attributes(again) == before and not outside.trouble
    assert compat.get_modifier_input(pointclouds.drawer_of(again), "SH Degree") == 0
    bpy.ops.wm.save_mainfile()
    assert attributes(reopened(tmp_path / "shot.blend")) == before


def test_a_changed_file_is_not_taken_unasked(splats, tmp_path):
    outside.keep(splats)
    save(tmp_path / "shot.blend")
    os.utime(tmp_path / "cloud.ply", (1, 1))  # another time, the same splats
    assert not outside.is_missing(reopened(tmp_path / "shot.blend"))
    newer = samples.random_cloud(321, 0, seed=5)
    api.write_splats(newer, tmp_path / "cloud.ply")
    again = reopened(tmp_path / "shot.blend")
    assert outside.is_missing(again) and "Take New Version" in outside.trouble["cloud"]
    assert bpy.ops.vivant.splats_find(filepath=str(outside.place_of(again))) == {"FINISHED"}
    assert len(again.data.points) == 321
    (tmp_path / "cloud.ply").write_bytes(b"no splats")
    again = reopened(tmp_path / "shot.blend")
    assert outside.is_missing(again) and outside.trouble["cloud"]


def test_objects_that_share_splats_share_them_again(splats, tmp_path):
    twin = bpy.data.objects.new("twin", splats.data)
    twin[pointclouds.KEY] = pointclouds.facts_of(splats)
    bpy.context.collection.objects.link(twin)
    outside.keep(splats)
    save(tmp_path / "shot.blend")
    again = reopened(tmp_path / "shot.blend")
    assert bpy.data.objects["twin"].data == again.data and len(again.data.points) == COUNT
    assert len(bpy.data.pointclouds) == 1
    del bpy.data.objects["twin"][pointclouds.KEY]  # somebody else's now: they must be in the file
    save(tmp_path / "inside.blend")
    vivant.unregister()
    try:
        assert len(reopened(tmp_path / "inside.blend", "twin").data.points) == COUNT
    finally:
        vivant.register()


def test_appended_clouds_are_found_from_their_own_folder(splats, tmp_path):
    outside.keep(splats)
    before = attributes(splats)
    save(tmp_path / "library.blend")
    bpy.ops.wm.read_homefile(use_empty=True)
    (tmp_path / "shots").mkdir()
    save(tmp_path / "shots" / "shot.blend")
    bpy.ops.wm.append(directory=str(tmp_path / "library.blend" / "Object"), filename="cloud")
    assert attributes(bpy.data.objects["cloud"]) == before
    bpy.ops.wm.save_mainfile()
    again = reopened(tmp_path / "shots" / "shot.blend")
    assert attributes(again) == before and again[pointclouds.KEY][outside.FACT]["path"] == "//../cloud.ply"


@pytest.mark.parametrize("override", [False, True])
def test_overrides_of_linked_clouds_are_filled_and_linked_ones_say_what_to_do(splats, tmp_path, override):
    outside.keep(splats)
    before = attributes(splats)
    save(tmp_path / "library.blend")
    bpy.ops.wm.read_homefile(use_empty=True)
    (tmp_path / "shots").mkdir()
    with bpy.data.libraries.load(str(tmp_path / "library.blend"), link=True) as (_, wanted):
        wanted.objects = ["cloud"]
    linked = wanted.objects[0]
    if override:
        linked = linked.override_create(remap_local_usages=True)
    bpy.context.collection.objects.link(linked)
    outside.reload_all()
    for _ in range(2):
        if override:
            assert attributes(linked) == before
        else:
            assert outside.is_missing(linked) and "Library Override" in outside.trouble["cloud"]
        save(tmp_path / "shots" / "shot.blend")
        assert (tmp_path / "shots" / "shot.blend").stat().st_size < EMPTY
        bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "shots" / "shot.blend"))
        linked = bpy.context.scene.objects["cloud"]


RENDER = """
import os, sys
import bpy
sys.path.insert(0, {tests!r})
import conftest
import vivant
if {vivant}:
    vivant.register()
bpy.ops.wm.open_mainfile(filepath={blend!r})
print("POINTS", len(bpy.data.objects["cloud"].data.points), bpy.data.objects["cloud"].get("vivant_outside"), flush=True)
os._exit(0)
"""


@pytest.mark.parametrize("registered", [True, False])
def test_a_blender_on_the_command_line_reads_them_and_one_without_vivant_says_where_they_are(splats, tmp_path, registered):
    outside.keep(splats)
    save(tmp_path / "shot.blend")
    code = RENDER.format(
        tests=str(pathlib.Path(__file__).resolve().parents[1]), vivant=registered, blend=str(tmp_path / "shot.blend")
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert f"POINTS {COUNT if registered else 0} The splats are in //cloud.ply." in ran.stdout, ran.stderr
