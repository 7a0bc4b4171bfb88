# SPDX-License-Identifier: GPL-3.0-or-later
"""In a real window: every viewport shows the splats and its own buttons, also when it is drawn for the first time.

Set BLENDER to a Blender with a screen; without one these tests are skipped.
"""

import os
import pathlib

import numpy as np
import pytest
from PIL import Image

from tools import dev_build, window

CORNER = 250  # rows of pixels at the top, where Blender's own axes are


@pytest.fixture(scope="session")
def tour(tmp_path_factory):
    """What views_tour.py noted, and the folder with its photographs."""
    blender = os.environ.get("BLENDER")
    if not blender:
        pytest.skip("needs a Blender with a screen: set BLENDER to its program")
    shared = tmp_path_factory.mktemp("views")
    folder = pathlib.Path(os.environ.get("VIVANT_PHOTOGRAPHS", shared)) / "views"
    archive = dev_build.write_zip(shared / "vivant-0.1.0.zip", [], {})
    noted, log = window.run(blender, archive, pathlib.Path(__file__).with_name("views_tour.py"), folder)
    return noted, log, folder


def views(tour, name, anew):
    """Of each viewport in one of two photographs: pixels (H, W, 3), rows from the top, 0 to 255, and what the tour noted."""
    noted, _, folder = tour
    whole = np.asarray(Image.open(folder / f"{name}{anew}.png").convert("RGB"), float)
    for view in noted["views"][name]:
        (x, y), (width, height) = view["corner"], view["size"]
        yield whole[len(whole) - y - height : len(whole) - y, x : x + width], view


def expected_box(view):
    """Left, right, top, bottom of the ball in the viewport, in pixels."""
    around = np.random.default_rng(0).normal(size=(50_000, 3))
    around *= view["ball"][3] / np.linalg.norm(around, axis=1, keepdims=True)
    points = np.c_[around + view["ball"][:3], np.ones(len(around))] @ np.array(view["matrix"]).T
    (width, height), ndc = view["size"], points[:, :2] / points[:, 3:]
    across, down = (ndc[:, 0] + 1) * width / 2, (1 - ndc[:, 1]) * height / 2
    return np.array([across.min(), across.max(), down.min(), down.max()])


SHOWN = [
    *("first", "maximised", "small_again", "two", "two_by_turns", "joined", "four", "one_of_four"),
    *(f"{where}_sidebar_{state}" for where in ("over", "beside") for state in ("shown", "hidden")),
    *("camera", "local", "shading_wireframe", "shading_material", "shading_solid"),
    *("moved", "undone", "redone", "opened", "switched"),
]


@pytest.mark.parametrize("anew", ["", "_anew"])
@pytest.mark.parametrize("name", SHOWN)
def test_every_viewport_shows_the_splats_in_their_place(tour, name, anew):
    found = list(views(tour, name, anew))
    assert len(found) == {"two": 2, "two_by_turns": 2, "four": 4}.get(name, 1)
    for pixels, view in found:
        red, green, blue = np.moveaxis(pixels, 2, 0)
        rows, columns = np.nonzero((red > 150) & (blue > 150) & (green < 90))
        assert len(rows), "no splats"
        box = np.array([columns.min(), columns.max() + 1, rows.min(), rows.max() + 1])
        np.testing.assert_allclose(box, expected_box(view), atol=4)
        assert len(rows) > 0.7 * (box[1] - box[0]) * (box[3] - box[2])  # a disc fills 0.79 of it


@pytest.mark.parametrize("anew", ["", "_anew"])
@pytest.mark.parametrize("name", SHOWN)
def test_every_viewport_shows_the_axes_that_blender_draws_last(tour, name, anew):
    found = [pixels[:CORNER] for pixels, view in views(tour, name, anew) if view["axes"]]
    assert found
    for corner in found:
        red, green, blue = np.moveaxis(corner, 2, 0)
        assert ((green > 120) & (green > red + 40) & (green > blue + 80)).sum() > 20


@pytest.mark.parametrize("name", ["moved", "undone", "redone", "opened"])
def test_a_sort_was_under_way_when_the_file_changed(tour, name):
    assert tour[0][f"sorting_{name}"]


def test_nothing_stopped_the_drawing(tour):
    noted, log, _ = tour
    assert noted["trouble"] == ""
    assert "Traceback" not in log
    assert "Error" not in log.replace("extensions.blender.org: [Errno 2]", "")
