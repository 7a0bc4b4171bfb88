# SPDX-License-Identifier: GPL-3.0-or-later
"""The manifest is sound, and the checks that say so notice when it is not."""

import pytest

from tools import dev_manifest


def test_the_manifest_is_sound() -> None:
    assert dev_manifest.problems(dev_manifest.read()) == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("id", "viv-ant"),
        ("version", "1.0"),
        ("version", "99.0.0"),
        ("name", "Vivant for Blender"),
        ("tagline", "Moving splats."),
        ("tagline", "x" * 65),
        ("tagline", ""),
        ("type", "theme"),
        ("license", ["GPL-3.0"]),
        ("copyright", ["Vivant developers"]),
        ("copyright", []),
        ("blender_version_min", "4.5"),
        ("blender_version_max", "5.3.0"),
        ("tags", []),
        ("permissions", {"files": "Read files."}),
        ("website", "vivant.example"),
        ("wheels", ["./wheels/numba.whl"]),
    ],
)
def test_a_wrong_field_is_named(key: str, value: object) -> None:
    found = dev_manifest.problems({**dev_manifest.read(), key: value})
    assert found
    assert all(f"`{key}`" in problem for problem in found)
