# SPDX-License-Identifier: GPL-3.0-or-later
"""In a real window, with the zip installed: F12 shows the splats of its frame, sorted, and plates of a range can be stopped.

Set BLENDER to a Blender with a screen; without one these tests are skipped.  The photographs stay in the folder that
VIVANT_PHOTOGRAPHS names.
"""

import os
import pathlib
import re
import sys

import numpy as np
import pytest

from tools import dev_build, samples, window
from vivant.backends.common.cameras import Camera
from vivant.backends.gaussian.formats import read_splats
from vivant.backends.gaussian.render.reference import render as reference

pytest.importorskip("bpy", reason="reads OpenEXR files with Blender's Python module")
sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "blender"))
from pictures import load, psnr


@pytest.fixture(scope="session")
def tour(tmp_path_factory):
    """What splats_render_tour.py noted, the log, and the folder with its pictures."""
    blender = os.environ.get("BLENDER")
    if not blender:
        pytest.skip("needs a Blender with a screen: set BLENDER to its program")
    folder = tmp_path_factory.mktemp("render")
    if kept := os.environ.get("VIVANT_PHOTOGRAPHS"):
        folder = pathlib.Path(kept) / "splats_render"
        folder.mkdir(parents=True, exist_ok=True)
        for old in (*folder.glob("*.png"), *folder.glob("**/*.exr"), *folder.glob("noted.json")):
            old.unlink()
    archive = dev_build.write_zip(folder / "vivant-0.1.0.zip", [], {})
    samples.write_still(folder)
    samples.write_moving(folder)
    noted, log = window.run(blender, archive, pathlib.Path(__file__).with_name("splats_render_tour.py"), folder, timeout=1800)
    return noted, log, folder


def expected(cloud, view):
    """The float64 rasteriser's picture for the camera that was noted."""
    width, height = 240, 160
    intrinsics = np.array([[view["lens"] * width, 0, width / 2], [0, view["lens"] * width, height / 2], [0, 0, 1]])
    to_world = np.array(view["camera"]) @ np.diag([1.0, -1, -1, 1])
    return reference(
        [
            (cloud, Camera(intrinsics, np.linalg.inv(matrix) @ to_world, width, height, near=view["near"]))
            for matrix in view["matrices"]
        ]
    )


def test_the_log_holds_no_error(tour):
    noted, log, _ = tour
    assert not noted["trouble"]
    assert not re.findall(r"(?im)^.*(?:traceback|error|exception).*$", log)


@pytest.mark.parametrize("name", ["moving_early", "moving_late"])
def test_f12_shows_a_moving_cloud_at_its_frame(tour, name):
    noted, _, folder = tour
    view = noted[name]
    assert view["ended"]
    cloud = read_splats(folder / "knot.splatv").at((view["frame"] - 1) / 50)
    assert psnr(load(str(folder / f"{name}.exr")), expected(cloud, view)) > 55


def test_the_two_frames_differ(tour):
    folder = tour[2]
    assert psnr(load(str(folder / "moving_early.exr")), load(str(folder / "moving_late.exr"))) < 35


def test_f12_sorts_overlapping_objects_together_when_asked(tour):
    noted, _, folder = tour
    truth = expected(read_splats(folder / "knot.ply"), noted["together"])
    assert len(noted["together"]["matrices"]) == 2
    assert psnr(load(str(folder / "together.exr")), truth) > 55 > 35 > psnr(load(str(folder / "apart.exr")), truth)


def test_plates_of_a_range_stop_with_esc_and_the_frame_stays(tour):
    stopped = tour[0]["stopped"]
    assert stopped["answer"] == ["RUNNING_MODAL"]
    assert stopped["seen"] == sorted(stopped["seen"]) and len(stopped["seen"]) > 3
    assert 2 <= len(stopped["files"]) < 40 and all(name.endswith(".exr") for name in stopped["files"])
    assert (stopped["frames"], stopped["left"], stopped["images"]) == ([17], 0, [])


def test_plates_of_a_range_become_a_sequence_for_the_compositor(tour):
    whole = tour[0]["whole"]
    assert whole["files"] == ["plate_0001.exr", "plate_0002.exr", "plate_0003.exr"]
    assert (whole["frames"], whole["left"], whole["images"]) == ([17], 0, ["plate_0001.exr"])
