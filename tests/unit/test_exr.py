# SPDX-License-Identifier: GPL-3.0-or-later
"""OpenEXR pictures, written and read back; tests/blender compares both ways with Blender's own."""

import numpy as np
import pytest

from vivant.backends.common import exr
from vivant.backends.common.errors import BrokenFile, UnsupportedFormat


@pytest.mark.parametrize("size", [(1, 1), (16, 5), (37, 130), (64, 64)])
@pytest.mark.parametrize("flat", [False, True])
def test_what_was_written_is_read(size, flat):
    rng = np.random.default_rng(size)
    names = ["Layer.Depth.Z", "Layer.Combined.R", "A"]
    channels = {name: (np.full(size, i) if flat else rng.normal(size=size)).astype(np.float32) for i, name in enumerate(names)}
    found = exr.decode(exr.encode(channels))
    assert set(found) == set(names)
    for name in names:
        np.testing.assert_array_equal(found[name], channels[name])


def test_damage_is_said_and_takes_no_memory():
    whole = exr.encode({"Z": np.random.default_rng(1).normal(size=(20, 30)).astype(np.float32)})
    for end in (0, 3, 8, 40, 200, len(whole) - 5):
        with pytest.raises(BrokenFile):
            exr.decode(whole[:end])
    large = whole.replace(np.array([0, 0, 29, 19], "<i4").tobytes(), np.array([0, 0, 1 << 20, 1 << 20], "<i4").tobytes(), 1)
    with pytest.raises(BrokenFile):
        exr.decode(large)
    rng = np.random.default_rng(2)
    for _ in range(300):
        torn = bytearray(whole)
        for _ in range(4):
            torn[rng.integers(len(torn) if rng.random() < 0.3 else 340)] = rng.integers(256)
        try:
            exr.decode(bytes(torn))
        except (BrokenFile, UnsupportedFormat):
            continue
