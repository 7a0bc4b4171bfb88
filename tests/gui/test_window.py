# SPDX-License-Identifier: GPL-3.0-or-later
"""In a real window, with the zip installed: what a newcomer sees and does.

Set BLENDER to a Blender with a screen; without one these tests are skipped.
"""

import os
import pathlib
import re

import numpy as np
import pytest
from PIL import Image

from tools import dev_build, samples, window
from vivant.backends.common.cameras import Camera
from vivant.backends.gaussian.formats import read_splats
from vivant.backends.gaussian.render.reference import render as reference

ROOT = pathlib.Path(__file__).resolve().parents[2]
MARGIN = 40  # pixels at the viewport's edges, where Blender puts its own buttons
DISPLAY = 2.2  # exponent of Blender's overlays on an sRGB screen, from 5.0 on


@pytest.fixture(scope="session")
def tour(tmp_path_factory):
    """What tour.py noted, the log, and the folder with its photographs."""
    blender = os.environ.get("BLENDER")
    if not blender:
        pytest.skip("needs a Blender with a screen: set BLENDER to its program")
    folder = tmp_path_factory.mktemp("window")
    archive = dev_build.write_zip(folder / "vivant-0.1.0.zip", [], {})
    samples.write_still(folder)
    samples.write_moving(folder)
    noted, log = window.run(blender, archive, pathlib.Path(__file__).with_name("tour.py"), folder)
    return noted, log, folder


def photograph(folder, name, view=None):
    """Display values (H, W, 3), rows from the top; of the viewport without its edges where a view is given."""
    pixels = np.asarray(Image.open(folder / f"{name}.png").convert("RGB"), np.float64) / 255
    if view is None:
        return pixels
    (x, y), (width, height) = view["corner"], view["size"]
    bottom = len(pixels) - y
    return pixels[bottom - height : bottom, x : x + width][MARGIN:-MARGIN, MARGIN:-MARGIN]


def expected(cloud, view, behind):
    """The float64 rasteriser's picture of what the viewport looks at, laid over a photograph of what is behind."""
    width, height = view["size"]
    lens = np.array(view["projection"])
    flat = lens[3, 3] == 1
    shift = (lens[0, 3], -lens[1, 3]) if flat else (-lens[0, 2], lens[1, 2])
    intrinsics = np.array(
        [
            [lens[0, 0] * width / 2, 0, (1 + shift[0]) * width / 2],
            [0, lens[1, 1] * height / 2, (1 + shift[1]) * height / 2],
            [0, 0, 1],
        ]
    )
    to_view = np.diag([1.0, -1, -1, 1]) @ np.array(view["view"]) @ np.array(view["matrix"])
    model = "orthographic" if flat else "perspective"
    near = -1e9 if flat else lens[2, 3] / (lens[2, 2] - 1)
    plate = reference([(cloud, Camera(intrinsics, np.linalg.inv(to_view), width, height, model, near))])
    plate = plate[MARGIN:-MARGIN, MARGIN:-MARGIN]
    alpha = plate[..., 3:]
    colour = np.clip(plate[..., :3] / np.maximum(alpha, 1e-6), 0, 1)
    return (alpha * colour**DISPLAY + (1 - alpha) * behind**DISPLAY) ** (1 / DISPLAY), alpha[..., 0]


def psnr(a, b):
    return -10 * np.log10(np.square(a - b).mean() + 1e-20)


def test_the_log_holds_no_error(tour):
    noted, log, _ = tour
    assert not noted["trouble"]
    assert not re.findall(r"(?im)^.*(?:traceback|error|exception).*$", log)


def test_the_tab_is_there_after_installing(tour):
    assert tour[0]["tab"] == "Vivant"


@pytest.mark.parametrize("name", ["still", "parallel"])
def test_a_still_cloud_looks_as_the_reference_draws_it(tour, name):
    noted, _, folder = tour
    view = noted[name]
    behind = photograph(folder, "empty", view)
    picture, alpha = expected(read_splats(folder / "knot.ply"), view, behind)
    drawn = alpha > 1e-3
    assert drawn.mean() > 0.03
    assert psnr(photograph(folder, name, view)[drawn], picture[drawn]) > 45


@pytest.mark.parametrize("name", ["moving_a", "moving_b", "opened"])
def test_a_moving_cloud_shows_the_moment_of_the_frame_and_its_fraction(tour, name):
    noted, _, folder = tour
    view = noted[name]
    behind = photograph(folder, "empty", view)
    cloud = read_splats(folder / "knot.splatv").at((view["frame"] - 1) / 50)
    picture, alpha = expected(cloud, view, behind)
    drawn = alpha > 1e-3
    assert psnr(photograph(folder, name, view)[drawn], picture[drawn]) > 45


def test_the_two_moments_differ(tour):
    noted, _, folder = tour
    a, b = (photograph(folder, name, noted[name]) for name in ("moving_a", "moving_b"))
    assert psnr(a, b) < 35


def test_over_the_budget_the_viewport_draws_no_more_than_that(tour):
    assert 1900 < tour[0]["over_budget"] < 2100


def test_an_object_in_front_hides_the_splats(tour):
    noted, _, folder = tour
    assert psnr(*(photograph(folder, name, noted["still"]) for name in ("behind_wall", "wall"))) > 45


def test_a_hidden_cloud_is_not_drawn(tour):
    noted, _, folder = tour
    assert psnr(photograph(folder, "off", noted["still"]), photograph(folder, "empty", noted["still"])) > 45


def test_a_click_on_the_bounds_selects_and_the_file_knows_nothing_of_them(tour):
    noted = tour[0]
    assert noted["clicked"]
    assert not noted["bounds_in_file"]


def test_an_import_is_one_step_of_undo(tour):
    assert tour[0]["clouds"] == [2, 1, 2, 1]


@pytest.mark.parametrize("way", ["esc", "button"])
def test_a_job_stops_and_leaves_nothing(tour, way):
    job = tour[0][f"job_{way}"]
    assert job["answer"] == ["RUNNING_MODAL"]
    assert job["seen"], "the job had ended before it was to be stopped"
    assert job["ticks"] > 1
    assert (job["left"], job["new"]) == (0, 0)
    assert job["seconds"] < 8


def test_switching_off_leaves_nothing_and_switching_on_again_brings_everything(tour):
    noted = tour[0]
    assert noted["before"] == noted["after"]
    assert noted["disabled"]["types"] == []
    assert not noted["disabled"]["scene"]


def test_without_vivant_the_viewport_shows_dots(tour):
    noted, _, folder = tour
    seen, empty = (photograph(folder, name, noted["still"]) for name in ("dots", "empty"))
    assert (np.abs(seen - empty).max(axis=2) > 0.05).mean() > 0.005


def test_the_gap_is_filled_in_a_take_and_accepted(tour):
    noted = tour[0]
    take, accepted = noted["take"], noted["accepted"]
    assert take["answer"] == ["FINISHED"]
    assert take["shown"] != take["keyed"]
    assert take["keys"] == [1, *range(11, 32), 41]
    assert accepted == {"shown": take["keyed"], "keys": take["keys"]}
