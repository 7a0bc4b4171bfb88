# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of a filled range: closed forms of slides and jerks."""

import numpy as np
import pytest

from vivant.backends.motion import metrics, report

FPS = 25.0
TIME = np.arange(60) / FPS
FILLED = (np.arange(60) > 19) & (np.arange(60) < 40)


def assess(places, filled, fps, feet=()):
    return report.assess(places, filled, ~filled, fps, feet)


def feet_along(x):
    """One joint on the floor that goes along x."""
    return np.stack([x, np.zeros_like(x), np.zeros_like(x)], axis=-1)[:, None]


def test_a_cubic_has_the_jerk_of_its_third_derivative():
    places = feet_along(TIME**3)
    assert assess(places, FILLED, FPS).jerk == pytest.approx(1)


def test_the_jerk_of_what_is_filled_is_measured_against_what_is_around():
    rough = np.cumsum(np.cumsum(np.cumsum(np.where(FILLED, 3.0, 1.0)))) / FPS**3
    assert 2 < assess(feet_along(rough), FILLED, FPS).jerk < 3


def test_feet_that_glide_only_in_the_gap_slide_only_there():
    x = np.cumsum(np.where(FILLED, 0.3, 0.0)) / FPS  # 30 cm/s
    found = assess(feet_along(x), FILLED, FPS, [0])
    assert found.slide == pytest.approx(30 * 20 / 21)  # 21 steps reach into it, of which the last stands
    assert found.slide_around == pytest.approx(0)


def test_feet_high_in_the_air_do_not_slide_and_without_feet_nothing_does():
    places = np.concatenate([feet_along(TIME), feet_along(0 * TIME)], axis=1)
    assert assess(places, FILLED, FPS).slide is None
    places[15:45, 0, 1] = 1.0
    assert assess(places, FILLED, FPS, [0]).slide is None
    assert assess(places[:, 1:], FILLED, FPS, [0]).slide == 0


def test_without_motion_around_there_is_nothing_to_compare_with():
    places = feet_along(np.where(FILLED, np.sin(TIME * 9), 0))
    assert assess(feet_along(TIME**3), np.ones(60, bool), FPS, [0]).jerk is None
    assert assess(places[18:42], FILLED[18:42], FPS).jerk is None


def test_over_the_whole_clip_the_slide_is_the_skating_of_the_papers():
    rng = np.random.default_rng(0)
    feet = np.cumsum(rng.normal(size=(60, 2, 3)), axis=0) * 0.01
    expected = metrics.skating(feet, metrics.floor_height(feet)) * FPS
    assert assess(feet, np.ones(60, bool), FPS, [0, 1]).slide == pytest.approx(expected)


def test_frames_that_are_neither_filled_nor_the_user_s_count_for_neither():
    rough = np.cumsum(np.cumsum(np.cumsum(np.where(TIME < 0.6, 50.0, 1.0)))) / FPS**3
    others = ~FILLED & (TIME > 1.0)
    assert report.assess(feet_along(rough), FILLED & (TIME > 1.0), others, FPS).jerk == pytest.approx(1, rel=1e-6)
