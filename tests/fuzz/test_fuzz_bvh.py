# SPDX-License-Identifier: GPL-3.0-or-later
import importlib.util
import pathlib

import pytest

spec = importlib.util.spec_from_file_location("fuzz_bvh", pathlib.Path(__file__).with_name("fuzz_bvh.py"))
assert spec and spec.loader
fuzz_bvh = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fuzz_bvh)


@pytest.mark.parametrize("seed", [0, 1])
def test_damaged_bvh_files_read_or_fail_with_a_sentence(seed, tmp_path):
    outcomes = fuzz_bvh.fuzz([fuzz_bvh.SEED], 1000, seed, tmp_path)
    assert outcomes["BrokenFile"] > 300 and outcomes["read"] > 20
