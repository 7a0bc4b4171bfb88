# SPDX-License-Identifier: GPL-3.0-or-later
import importlib.util
import pathlib

import pytest

spec = importlib.util.spec_from_file_location("fuzz_scenes", pathlib.Path(__file__).with_name("fuzz_scenes.py"))
assert spec and spec.loader
fuzz_scenes = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fuzz_scenes)


@pytest.mark.parametrize("name", ["hexplane", "deformable", "nodes", "checkpoint"])
def test_damaged_scenes_and_checkpoints_read_or_fail_with_a_sentence(name, tmp_path):
    outcomes = fuzz_scenes.run(name, 60, 5, tmp_path)
    assert sum(outcomes.values()) == 60
    assert outcomes["sound"] > 5 and outcomes["BrokenFile"] + outcomes["UnsupportedFormat"] > 3
