# SPDX-License-Identifier: GPL-3.0-or-later
import importlib.util
import pathlib

import pytest

spec = importlib.util.spec_from_file_location("fuzz_formats", pathlib.Path(__file__).with_name("fuzz_formats.py"))
assert spec and spec.loader
fuzz_formats = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fuzz_formats)


@pytest.mark.parametrize("seed", [0, 11])
@pytest.mark.parametrize("name", ["ply", "compressed_ply", "splat", "spz", "splatv"])
def test_damaged_splat_files_read_or_fail_with_a_sentence(name, seed):
    outcomes = fuzz_formats.run(name, 200, seed)
    assert sum(outcomes.values()) == 200
    assert outcomes["BrokenFile"] + outcomes["UnsupportedFormat"] > 20 and outcomes["sound"] + outcomes["mended"] > 20
