# SPDX-License-Identifier: GPL-3.0-or-later
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import fuzz_formats

COUNT = 120


@pytest.mark.parametrize("name", fuzz_formats.NAMES)
def test_damaged_splat_files_read_or_fail_with_a_sentence(name):
    outcomes = fuzz_formats.run(name, COUNT, 0)
    assert sum(outcomes.values()) == COUNT
    assert outcomes["BrokenFile"] + outcomes["UnsupportedFormat"] > 5 and outcomes["sound"] + outcomes["mended"] > 5
