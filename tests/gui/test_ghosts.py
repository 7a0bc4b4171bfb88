# SPDX-License-Identifier: GPL-3.0-or-later
"""In a real window: ghosts and trails of takes are where the poses are, come and go with their switches, and cost nothing idle.

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
    """What ghosts_tour.py noted, the log, and the folder with its photographs."""
    blender = os.environ.get("BLENDER")
    if not blender:
        pytest.skip("needs a Blender with a screen: set BLENDER to its program")
    folder = tmp_path_factory.mktemp("ghosts")
    archive = dev_build.write_zip(folder / "vivant-0.1.0.zip", [], {})
    noted, log = window.run(blender, archive, pathlib.Path(__file__).with_name("ghosts_tour.py"), folder)
    return noted, log, folder


def photograph(folder, name):
    """Display values (H, W, 3) 0 to 255, rows from the bottom."""
    return np.asarray(Image.open(folder / f"{name}.png").convert("RGB"), int)[::-1]


def viewport(tour, name):
    (x, y), (width, height) = tour[0]["view"]["corner"], tour[0]["view"]["size"]
    return photograph(tour[2], name)[y : y + height, x : x + width]


def pixels(tour, points):
    """Where world points (n, 3) lie in the viewport's photographs: columns and rows, from the bottom left."""
    view, (width, height) = tour[0]["view"], tour[0]["view"]["size"]
    to_clip = np.array(view["projection"]) @ np.array(view["view"])
    clip = np.column_stack([points, np.ones(len(points))]) @ to_clip.T
    place = (clip[:, :2] / clip[:, 3:] + 1) / 2 * (width, height)
    return np.round(place).astype(int)


def shown(tour):
    return next(seen for seen in tour[0]["trails"] if seen["shown"])


def near(picture, place, colour, reach=3, tolerance=60):
    """Whether a colour is found within some pixels of a place."""
    x, y = place
    patch = picture[y - reach : y + reach + 1, x - reach : x + reach + 1]
    return bool((np.abs(patch - colour).max(axis=-1) < tolerance).any())


def test_the_log_holds_no_error(tour):
    noted, log, _ = tour
    assert not noted["trouble"]
    assert not re.findall(r"(?im)^.*(?:traceback|error|exception).*$", log)


def test_the_trail_goes_through_the_places_of_the_bones(tour):
    picture, off = viewport(tour, "trails"), viewport(tour, "off")
    trails = np.array(shown(tour)["trails"])
    assert trails.shape[1] == 21
    hand = pixels(tour, trails[np.ptp(trails, axis=1).max(axis=1).argmax()])
    inner = hand[1:-1]
    assert np.mean([near(picture, place, (255, 204, 64)) for place in inner]) > 0.9
    assert not any(near(off, place, (255, 204, 64)) for place in inner)


def test_keys_are_white_dots(tour):
    picture = viewport(tour, "trails")
    keys = pixels(tour, np.array(shown(tour)["keys"]))
    assert len(keys) == 42 // 21 * 2
    assert all(near(picture, place, (255, 255, 255), reach=2) for place in keys[np.ptp(keys, axis=1) > 0])


def test_ghosts_before_the_frame_are_blue_and_after_it_orange(tour):
    change = viewport(tour, "ghosts") - viewport(tour, "trails")
    changed = np.abs(change).max(axis=2) > 25
    x = np.broadcast_to(np.arange(change.shape[1]), changed.shape)
    blue, orange = changed & (change[..., 2] > change[..., 0] + 20), changed & (change[..., 0] > change[..., 2] + 20)
    middle = pixels(tour, np.zeros((1, 3)))[0, 0]
    assert blue.sum() > 300 and orange.sum() > 300
    assert (x[blue] < middle).mean() > 0.8 and (x[orange] > middle).mean() > 0.8


def test_ghosts_change_sides_with_the_frame_without_being_sampled_again(tour):
    earlier, later = (viewport(tour, name) for name in ("ghosts", "later"))
    blue = [((picture[..., 2] > picture[..., 0] + 40) & (picture[..., 2] > 110)).sum() for picture in (earlier, later)]
    assert blue[1] > blue[0]


def test_poses_are_sampled_once_for_each_take_and_again_only_for_what_changed(tour):
    first, idle, later, painted, edited = tour[0]["sampled"]
    assert first == idle == later == painted == 2
    assert edited == 3


def test_sampling_leaves_no_scene_and_no_unkeyed_pose_behind(tour):
    assert tour[0]["scenes"] == ["Scene"]
    assert np.allclose(tour[0]["unkeyed"], (0.1, 0, 0))


def test_planted_frames_are_green_dots(tour):
    picture, before = viewport(tour, "planted"), viewport(tour, "ghosts")

    def green(seen):
        return ((seen[..., 1] > seen[..., 0] + 80) & (seen[..., 1] > seen[..., 2] + 40)).sum()

    assert green(picture) > 60 and green(before) == 0


def test_without_overlays_nothing_is_drawn(tour):
    picture = viewport(tour, "no_overlays")
    assert not ((picture.max(axis=2) - picture.min(axis=2)) > 60).any()
