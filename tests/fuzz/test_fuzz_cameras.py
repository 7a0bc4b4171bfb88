# SPDX-License-Identifier: GPL-3.0-or-later
"""A short run of fuzz_cameras.py."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import fuzz_cameras


@pytest.mark.parametrize("kind", fuzz_cameras.KINDS)
def test_damaged_camera_files_end_in_an_error_or_in_sound_cameras(kind):
    fuzz_cameras.run(kind, 150, 1)
