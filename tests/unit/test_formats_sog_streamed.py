# SPDX-License-Identifier: GPL-3.0-or-later
"""Streamed SOG: the finest level of a tree of files is one cloud, and lists that lie are refused."""

import json

import numpy as np
import pytest

from tools import round_trip
from vivant.backends.common.errors import BrokenFile, UnsupportedFormat
from vivant.backends.gaussian.formats import FORMATS, read_splats, write_splats


def streamed(folder, count=90):
    """A tree of three leaves: two in one file, one in a bundle; another level, and surroundings.  The fine clouds."""
    form = next(form for form in FORMATS if form.name == "SOG")
    clouds = [round_trip.cloud_for(form, count, 1, seed) for seed in (1, 2, 3)]
    (folder / "0_0").mkdir()
    write_splats(clouds[0], folder / "0_0" / "meta.json")
    write_splats(clouds[1].replace(sh=clouds[1].sh[:, :1]), folder / "0_1.sog")
    (folder / "1_0").mkdir()
    write_splats(clouds[2], folder / "1_0" / "meta.json")
    half = count // 2
    bound = {"min": [0, 0, 0], "max": [1, 1, 1]}
    fine = [{"file": 0, "offset": half, "count": count - half}, {"file": 0, "offset": 0, "count": half},
            {"file": 1, "offset": 0, "count": count}]  # fmt: skip
    leaves = [{"bound": bound, "lods": {"0": one, "1": {"file": 2, "offset": 0, "count": 5}}, "errors": [0, 1]} for one in fine]
    tree = {"bound": bound, "children": [leaves[0], {"bound": bound, "children": leaves[1:]}]}
    names = ["0_0/meta.json", "0_1.sog", "1_0/meta.json"]
    facts = {"version": 1, "lodLevels": 2, "count": 3 * count, "counts": [2 * count, count]}
    meta = {**facts, "environment": "env/meta.json", "filenames": names, "tree": tree}
    (folder / "lod-meta.json").write_text(json.dumps(meta))
    return clouds


@pytest.mark.parametrize("opened", ["", "lod-meta.json"])
def test_the_finest_level_is_read_from_all_its_files(tmp_path, opened):
    clouds = streamed(tmp_path)
    found = read_splats(tmp_path / opened)
    assert len(found) == 180 and found.degree == 1 and "levels of detail" in found.source.format
    assert any("surroundings" in warning for warning in found.source.warnings)
    for cloud, part in zip(clouds, (found.select(slice(0, 90)), found.select(slice(90, 180))), strict=False):
        assert round_trip.errors(cloud, part)["position"] < 1e-3


def changed(folder, **changes):
    meta = json.loads((folder / "lod-meta.json").read_text())
    (folder / "lod-meta.json").write_text(json.dumps({**meta, **changes}))


def leaf(**stretch):
    return {"lods": {"0": {"file": 0, "offset": 0, "count": 90, **stretch}}}


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"version": 7}, UnsupportedFormat),
        ({"filenames": ["../a/meta.json"] * 3}, BrokenFile),
        ({"filenames": ["0_0/meta.json"] * 3}, BrokenFile),
        ({"filenames": ["gone/meta.json", "0_1.sog"]}, BrokenFile),
        ({"filenames": ["0_0/meta.json"]}, BrokenFile),
        ({"filenames": 3}, BrokenFile),
        ({"tree": []}, BrokenFile),
        ({"tree": leaf(count=10**9)}, BrokenFile),
        ({"tree": leaf(offset=-1)}, BrokenFile),
        ({"tree": leaf(file=99)}, BrokenFile),
        ({"tree": leaf(count=True)}, BrokenFile),
        ({"tree": {"children": [leaf()] * 1000}}, BrokenFile),
        ({"tree": {"lods": {"1": {"file": 0, "offset": 0, "count": 9}}}}, BrokenFile),
    ],
)  # fmt: skip
def test_lists_that_lie_are_refused(tmp_path, changes, error):
    streamed(tmp_path)
    changed(tmp_path, **changes)
    with pytest.raises(error) as caught:
        read_splats(tmp_path)
    assert caught.value.hint and np.char.endswith(caught.value.message, ".")
