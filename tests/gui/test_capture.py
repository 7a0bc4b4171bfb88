# SPDX-License-Identifier: GPL-3.0-or-later
"""In a real window, with the zip installed: a capture can be estimated, stopped and gone on with, and changes nothing.

Set BLENDER to a Blender with a screen; without one these tests are skipped.  The photographs stay in the folder that
VIVANT_PHOTOGRAPHS names.
"""

import os
import pathlib
import re
import shutil

import pytest

from tools import dev_build, window


@pytest.fixture(scope="session")
def tour(tmp_path_factory):
    """What capture_tour.py noted, the log, and the folder with its pictures."""
    blender = os.environ.get("BLENDER")
    if not blender:
        pytest.skip("needs a Blender with a screen: set BLENDER to its program")
    folder = tmp_path_factory.mktemp("capture")
    if kept := os.environ.get("VIVANT_PHOTOGRAPHS"):
        folder = pathlib.Path(kept) / "capture"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    archive = dev_build.write_zip(folder / "vivant-0.1.0.zip", [], {})
    noted, log = window.run(blender, archive, pathlib.Path(__file__).with_name("capture_tour.py"), folder, timeout=900)
    return noted, log, folder


def test_the_log_holds_no_error(tour):
    assert not re.findall(r"(?im)^.*(?:traceback|error|exception).*$", tour[1])


def test_one_picture_tells_what_all_will_take(tour):
    assert re.match(r"22 pictures: about \d+ s and [\d,]+ KB; [\d,]+ GB are free", tour[0]["estimate"])


def test_esc_stops_and_capturing_again_goes_on(tour):
    noted, _, folder = tour
    assert noted["stopped"]["answer"] == noted["whole"]["answer"] == ["RUNNING_MODAL"]
    assert 3 <= noted["stopped"]["pictures"] < 22
    assert noted["whole"]["pictures"] == 22
    assert noted["whole"]["fractions"][0] >= 3 / 22
    assert noted["whole"]["fractions"] == sorted(noted["whole"]["fractions"])
    assert not list((folder / "capture").rglob(".*"))


def test_the_scene_is_the_users_all_the_time(tour):
    noted = tour[0]
    assert noted["stopped"]["untouched"]
    assert noted["whole"]["untouched"]
    assert noted["after"] == noted["before"]
