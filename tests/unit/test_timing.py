# SPDX-License-Identifier: GPL-3.0-or-later
"""How a clip runs on the timeline, against what players do."""

import numpy as np
import pytest

from vivant.backends.gaussian.motion.timing import INPUTS, Timing


def test_a_clip_runs_once_and_its_ends_stay():
    shares = [Timing(10, 20).share(frame) for frame in (-5, 10, 15, 30, 99)]
    assert shares == [0, 0, 0.25, 1, 1]


def test_a_loop_is_the_same_after_every_length():
    clip = Timing(10, 20, loop=True)
    for frame in np.linspace(-30, 50, 33):
        assert clip.share(frame) == pytest.approx(clip.share(frame + 20), abs=1e-12)


def test_back_and_forth_mirrors_at_both_ends():
    clip = Timing(10, 20, back_and_forth=True)
    for away in np.linspace(0, 20, 9):
        assert clip.share(30 + away) == pytest.approx(clip.share(30 - away), abs=1e-12)
        assert clip.share(10 + away) == pytest.approx(clip.share(10 - away), abs=1e-12)


def test_without_speed_the_offset_is_the_clip_s_frame():
    assert Timing(10, 20, speed=0, offset=5).share(1234) == 0.25


def test_reverse_is_half_as_slow_at_half_the_speed():
    assert Timing(0, 20, speed=0.5, reverse=True).share(10) == 0.75


def test_inputs_are_named_as_in_blender():
    assert list(INPUTS.values()) == ["Start Frame", "Frames", "Speed", "Offset", "Loop", "Back and Forth", "Reverse"]
