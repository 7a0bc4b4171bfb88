# SPDX-License-Identifier: GPL-3.0-or-later
"""In a real window: every edit of splats by its button, undone, redone, stopped and refused, on still and moving clouds.

Set BLENDER to a Blender with a screen; without one these tests are skipped.  The photographs stay in the folder that
VIVANT_PHOTOGRAPHS names.
"""

import json
import os
import pathlib
import re

import numpy as np
import pytest

from tools import dev_build, samples, window
from vivant.api import write_cameras, write_splats
from vivant.backends.common.cameras import Camera, CameraSet, View
from vivant.backends.gaussian.edit.merge import merged

EXPECTED = re.compile(r"(?m)^Warning: .*$|^Error: .*$")  # what operators say to the user


def littered(cloud, seed=4):
    """A cloud and some of what Clean Up is for, with a column of its own."""
    rng = np.random.default_rng(seed)
    extra = cloud.select(rng.integers(len(cloud), size=32))
    places = np.concatenate([rng.uniform(-5, 5, (20, 3)), [3, -2, 2] + 0.02 * rng.normal(size=(12, 3))])
    whole = merged([cloud, extra.replace(means=places)])
    return whole.replace(extras={"confidence": rng.uniform(size=len(whole)).astype(np.float32)})


def write_files(folder):
    """What the tour opens."""
    still = samples.still_cloud()
    write_splats(littered(still), folder / "still.ply")
    write_splats(samples.still_cloud(seed=5).select(slice(0, 4000)), folder / "other.ply")
    write_splats(samples.random_cloud(140_000), folder / "large.ply")  # 33 MB: read in a thread
    samples.write_moving(folder)
    (folder / "knot.splatv").rename(folder / "moving.splatv")
    (folder / "frames").mkdir(exist_ok=True)
    for index in range(3):
        write_splats(still.select(slice(0, 3000)), folder / "frames" / f"frame_{index:03}.ply")
    views = []
    for index, angle in enumerate(np.linspace(0, 1.5, 6)):
        pose = np.eye(4)
        pose[:3, :3] = [[np.cos(angle), 0, -np.sin(angle)], [0, 1, 0], [np.sin(angle), 0, np.cos(angle)]]
        pose[:3, 3] = [4 * np.sin(angle), -0.6, -4 * np.cos(angle)]
        lens = np.array([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]])
        views.append(View(Camera(lens, pose, 640, 480), f"picture_{index:03}.png", "", index / 5))
    for name, form in (("transforms.json", "TRANSFORMS"), ("cameras.json", "INRIA"), ("colmap", "COLMAP")):
        write_cameras(CameraSet(tuple(views), "RDF"), folder / name, form)
    write_cameras(CameraSet(tuple(views), "RDF", path=True), folder / "settings.json", "SUPERSPLAT")


@pytest.fixture(scope="session")
def tour(tmp_path_factory):
    """What splats_edit_tour.py noted, and the log."""
    blender = os.environ.get("BLENDER")
    if not blender:
        pytest.skip("needs a Blender with a screen: set BLENDER to its program")
    shared = tmp_path_factory.mktemp("splats_edit")
    archive = dev_build.write_zip(shared / "vivant-0.1.0.zip", [], {})
    folder = pathlib.Path(os.environ.get("VIVANT_PHOTOGRAPHS", shared)) / "splats_edit"
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.png"):
        old.unlink()
    write_files(folder)
    noted, log = window.run(blender, archive, pathlib.Path(__file__).with_name("splats_edit_tour.py"), folder, timeout=1500)
    print(json.dumps(noted, indent=1))
    return noted, log


def test_every_edit_can_be_undone_and_redone_and_what_is_refused_changes_nothing(tour):
    assert tour[0]["wrong"] == []


def test_the_log_holds_no_error(tour):
    noted, log = tour
    assert not noted["trouble"]
    assert not re.findall(r"(?im)^.*(?:traceback|error|exception).*$", EXPECTED.sub("", log))


def test_clean_up_finds_what_was_littered(tour):
    found, count = tour[0]["found"]
    assert 32 <= found < 0.04 * count  # and the sparks above the stage


def test_a_slow_edit_says_how_far_it_is_and_esc_leaves_all_as_it_was(tour):
    esc = tour[0]["esc"]
    assert len(esc["seen"]) >= 4 and all("%" in text for text in esc["seen"]), esc
    assert esc["same"] and esc["seconds"] < 2


def test_cameras_come_in_and_go_out_in_every_form(tour):
    for name in ("transforms.json", "cameras.json", "colmap/cameras.txt", "settings.json"):
        run = tour[0]["ran"][name]
        assert run["answer"] == run["written"] == ["FINISHED"] and run["there"], (name, run)
        assert run["cameras"] == (1 if name == "settings.json" else 6)
