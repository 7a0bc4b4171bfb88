# SPDX-License-Identifier: GPL-3.0-or-later
"""Clips as arrays, in files and through the engine: every number comes back, and the answer is the one given here."""

import numpy as np
import pytest

from vivant.backends.common import rotations as quaternions
from vivant.backends.common.errors import UnsupportedFormat, VivantError
from vivant.backends.motion import job, solve
from vivant.backends.motion.clip import Clip
from vivant.backends.motion.formats.arrays import from_arrays, read_clip, to_arrays, write_clip
from vivant.backends.motion.formats.bvh import write_bvh


def clip_of(seed: int, frames: int = 40, more: bool = True) -> Clip:
    rng = np.random.default_rng(seed)
    turn = np.cumsum(rng.normal(size=(frames, 3, 3)) * 0.03, axis=0)
    return Clip(
        ("hip", "knie links", "füße/:"), np.array([-1, 0, 1]), rng.normal(size=(3, 3)), 23.976,
        quaternions.exp(turn).astype(np.float32), np.cumsum(rng.normal(size=(frames, 3)), axis=0),
        quaternions.normalise(rng.normal(size=(3, 4))) if more else None,
        {2: rng.normal(size=(frames, 3))} if more else {},
    )  # fmt: skip


def check_equal(a: Clip, b: Clip) -> None:
    one, other = to_arrays(a), to_arrays(b)
    assert one.keys() == other.keys()
    for name, array in one.items():
        assert array.dtype == other[name].dtype and array.tobytes() == other[name].tobytes(), name


@pytest.mark.parametrize("more", [True, False])
def test_clips_come_back_from_arrays_and_files_bit_for_bit(tmp_path, more):
    clip = clip_of(1, more=more)
    check_equal(from_arrays(to_arrays(clip)), clip)
    write_clip(clip, tmp_path / "clip.npz")
    check_equal(read_clip(tmp_path / "clip.npz"), clip)
    assert [path.name for path in tmp_path.iterdir()] == ["clip.npz"]


def test_what_is_no_clip_is_refused_in_a_sentence(tmp_path):
    write_bvh(clip_of(1, more=False), tmp_path / "clip.bvh")
    assert len(read_clip(tmp_path / "clip.bvh")) == 40
    (tmp_path / "clip.fbx").write_bytes(b"")
    with pytest.raises(UnsupportedFormat, match=r"clip\.fbx"):
        read_clip(tmp_path / "clip.fbx")
    with pytest.raises(VivantError, match=r"absent\.npz cannot be read"):
        read_clip(tmp_path / "absent.npz")
    write_clip(clip_of(1), tmp_path / "whole.npz")
    whole = (tmp_path / "whole.npz").read_bytes()
    np.savez(tmp_path / "other.npz", x=np.ones(3))
    (tmp_path / "short.npz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.npz").write_bytes(b"")
    np.savez(tmp_path / "pickle.npz", **to_arrays(clip_of(1)) | {"rotations": np.array([{}], object)})
    for name in ("other", "short", "empty", "pickle"):
        with pytest.raises(VivantError, match=name):
            read_clip(tmp_path / f"{name}.npz")
    with pytest.raises(VivantError, match="cannot be written"):
        write_clip(clip_of(1), tmp_path / "absent" / "clip.npz")


@pytest.mark.parametrize("solver", ["spline", "retrieval"])
def test_the_engine_fills_as_this_process_does(engine, solver):
    clip, library = clip_of(1), [clip_of(2, 90), clip_of(3, 90)]
    keys = np.zeros((40, 3), bool)
    keys[[*range(10), 25, *range(30, 40)]] = True
    filled, report = solve.inbetween(clip, keys, solver, library, 3)
    result = engine.submit("motion.inbetween", *job.request(clip, keys, solver, library, 3)).result()
    theirs, said = job.answer(*result)
    check_equal(theirs, filled)
    assert said == report and said.solver == solver and said.warnings == report.warnings


def test_an_option_that_no_solver_has_is_refused():
    clip = clip_of(1)
    with pytest.raises(VivantError, match="No in-between solver has an option 'colour'"):
        solve.inbetween(clip, np.ones(40, bool), "spline", colour=1)
    _, report = solve.inbetween(clip, np.ones(40, bool), "spline", weights="elsewhere")
    assert report.solver == "spline" and not report.fallback
