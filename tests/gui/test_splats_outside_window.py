# SPDX-License-Identifier: GPL-3.0-or-later
"""In a real window, with the zip installed: splats that are kept outside of a .blend survive saving, opening, undo and loss.

Set BLENDER to a Blender with a screen; without one these tests are skipped.  The photographs stay in the folder that
VIVANT_PHOTOGRAPHS names.
"""

import os
import pathlib

import numpy as np
import pytest

from tools import dev_build, samples, window


@pytest.fixture(scope="session")
def tour(tmp_path_factory):
    """What splats_outside_tour.py noted, the log, and the folder with its pictures."""
    blender = os.environ.get("BLENDER")
    if not blender:
        pytest.skip("needs a Blender with a screen: set BLENDER to its program")
    folder = tmp_path_factory.mktemp("outside")
    if kept := os.environ.get("VIVANT_PHOTOGRAPHS"):
        folder = pathlib.Path(kept) / "splats_outside"
        folder.mkdir(parents=True, exist_ok=True)
        for old in (*folder.glob("*.png"), *folder.glob("*.blend*"), *folder.glob("*.ply"), *folder.glob("noted.json")):
            old.unlink()
    archive = dev_build.write_zip(folder / "vivant-0.1.0.zip", [], {})
    samples.write_still(folder)
    noted, log = window.run(blender, archive, pathlib.Path(__file__).with_name("splats_outside_tour.py"), folder, timeout=600)
    return noted, log, folder


def test_every_step_leaves_the_splats_where_they_are(tour):
    noted, log, _ = tour
    count = noted["kept"]["points"]
    assert count > 1000
    for name in ("kept", "saved", "undone", "redone", "opened", "own", "found", "later"):
        assert noted[name]["points"] == count and noted[name]["kept"], name
        assert noted[name]["datablocks"] == 1 and not noted[name]["trouble"], name
    assert not noted["drawing"] and "Traceback" not in log


def test_undo_and_redo_go_across_a_save(tour):
    noted, _, _ = tour
    assert [round(noted[name]["x"], 3) for name in ("saved", "undone", "redone", "opened")] == [0.3, 0.0, 0.3, 0.3]


def test_the_blend_is_smaller_by_its_splats(tour):
    inside, outside = tour[0]["sizes"]
    assert outside < inside / 2


def test_files_that_blender_saves_by_itself_hold_the_splats(tour):
    noted = tour[0]
    assert noted["saved by itself"] and min(noted["saved by itself"]) > 0.9 * noted["sizes"][0]


def test_a_lost_file_is_named_and_found(tour):
    noted, _, _ = tour
    assert noted["own"]["place"] == "own.ply"
    assert noted["missing"]["points"] == 0
    (said,) = noted["missing"]["trouble"].values()
    assert "own.ply" in said and "Find File" in said


def test_what_is_opened_and_found_is_drawn_as_what_was_kept(tour):
    image = pytest.importorskip("PIL.Image")
    _, _, folder = tour
    pictures = {
        name: np.asarray(image.open(folder / f"{name}.png").convert("RGB"), float) for name in ("redone", "opened", "found")
    }
    blank = np.asarray(image.open(folder / "missing.png").convert("RGB"), float)
    height, width = blank.shape[:2]
    middle = np.s_[height // 4 : height * 3 // 4, width // 4 : width // 2]
    assert np.abs(pictures["opened"][middle] - blank[middle]).mean() > 3
    for name in ("redone", "found"):
        assert np.abs(pictures["opened"][middle] - pictures[name][middle]).mean() < 1.5, name
