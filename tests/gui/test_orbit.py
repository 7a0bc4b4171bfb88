# SPDX-License-Identifier: GPL-3.0-or-later
"""In a real window: a large cloud that is orbited ends as it should look, and is never invisible.

Set BLENDER to a Blender with a screen; without one these tests are skipped.
"""

import os
import pathlib
import re

import numpy as np
import pytest
from PIL import Image

from tools import dev_build, window


@pytest.fixture(scope="session")
def tour(tmp_path_factory):
    """What orbit_tour.py noted, the log, and its photographs as display values (H, W, 3)."""
    blender = os.environ.get("BLENDER")
    if not blender:
        pytest.skip("needs a Blender with a screen: set BLENDER to its program")
    shared = tmp_path_factory.mktemp("orbit")
    folder = pathlib.Path(os.environ.get("VIVANT_PHOTOGRAPHS", shared)) / "orbit"
    archive = dev_build.write_zip(shared / "vivant-0.1.0.zip", [], {})
    noted, log = window.run(blender, archive, pathlib.Path(__file__).with_name("orbit_tour.py"), folder)
    pictures = {path.stem: np.asarray(Image.open(path).convert("RGB"), float) / 255 for path in folder.glob("*.png")}
    return noted, log, pictures


def test_a_view_that_was_turned_shows_just_what_one_that_waits_shows(tour):
    noted, _, pictures = tour
    print("late drawings:", sum(noted["late"]), "of", len(noted["late"]))
    assert any(noted["late"])  # so this was put to the test
    assert not noted["late"][-1]
    np.testing.assert_array_equal(pictures["orbited"], pictures["exact"])
    assert np.abs(pictures["first"] - pictures["exact"]).max() > 0.2


def test_where_splats_cannot_be_drawn_points_are_seen_and_the_panel_knows_why(tour):
    noted, log, pictures = tour
    assert "hader" in noted["trouble"]
    background = pictures["first"][pictures["first"].shape[0] // 2, 60]
    seen = np.abs(pictures["points"] - background).max(axis=2) > 0.05
    splats = np.abs(pictures["first"] - background).max(axis=2) > 0.05
    assert (seen & splats).sum() > 0.5 * splats.sum()
    assert len(re.findall("stopped; open a file", log)) == 1


def test_the_next_file_is_drawn_again(tour):
    noted, _, pictures = tour
    assert noted["cured"] == ""
    middle = slice(200, 800), slice(300, 1000)  # without Blender's buttons, which need not be the same
    np.testing.assert_array_equal(pictures["again"][middle], pictures["first"][middle])
