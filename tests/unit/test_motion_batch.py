# SPDX-License-Identifier: GPL-3.0-or-later
"""Many clip files at once: what one of them lacks stops no other, and each is filled as it would be alone."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from vivant.backends.common import rotations as quaternions
from vivant.backends.common.errors import Cancelled, EngineFailed, NeedsEngine
from vivant.backends.common.progress import Progress
from vivant.backends.motion import batch, solve, trained
from vivant.backends.motion.batch import Shot
from vivant.backends.motion.clip import Clip
from vivant.backends.motion.formats.arrays import read_clip, write_clip
from vivant.backends.motion.formats.bvh import write_bvh
from vivant.engine import motion

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from small_human import body

ROOT = pathlib.Path(__file__).resolve().parents[2]


def walk(seed: int, frames: int = 60) -> Clip:
    rng = np.random.default_rng(seed)
    still = body(seed=seed)
    sway = np.cumsum(rng.normal(size=(frames, len(still.names), 3)) * 0.02, axis=0)
    turned = quaternions.multiply(np.tile(still.rotations[:1], (frames, 1, 1)), quaternions.exp(sway))
    return still.replace(rotations=turned, root=still.root[:1] + sway[:, 0])


def no_engine():
    raise NeedsEngine("There is no engine.")


@pytest.fixture
def shots(tmp_path, monkeypatch):
    """Four files that can be filled and five that cannot, in the working directory."""
    monkeypatch.chdir(tmp_path)
    keys = np.zeros((60, 24), bool)
    keys[[0, 30, 59]] = True
    write_clip(walk(1), "a.npz", keys=keys)
    write_clip(walk(2), "bare.npz")
    write_clip(walk(4), "odd.npz", keys=keys[:5])
    write_bvh(walk(3).replace(rest=None), "c.bvh")
    pathlib.Path("broken.bvh").write_text("HIERARCHY\n")
    good = [
        Shot("a.npz", "a filled.npz", solver="spline"),
        Shot("bare.npz", "b.npz", (0, 20, 59), "slerp"),
        Shot("c.bvh", "c filled.bvh", (0, 20, 59), "retrieval"),
        Shot("bare.npz", "d.bvh", (0, 59), "spline", 3),
    ]
    bad = [
        (Shot("bare.npz", "x1.npz"), "without keys"),
        (Shot("bare.npz", "x2.npz", (0, 60)), "frames 0 to 59"),
        (Shot("broken.bvh", "x3.npz", (0, 5)), "ends within the hierarchy"),
        (Shot("bare.npz", "x4.fbx", (0, 5)), "x4.fbx"),
        (Shot("bare.npz", "x5.npz", (0, 5), "magic"), "no in-between solver"),
        (Shot("odd.npz", "x6.npz"), "shape"),
    ]
    return good, bad


def every(shots):
    return [*shots[0], *(shot for shot, _ in shots[1])]


def check(shots, outcomes):
    good, bad = shots
    assert [outcome.shot for outcome in outcomes] == [*good, *(shot for shot, _ in bad)]
    for shot, outcome in zip(good, outcomes, strict=False):
        assert outcome.report.solver == shot.solver and outcome.report.key_error == 0 and not outcome.error
    for (shot, reason), outcome in zip(bad, outcomes[len(good) :], strict=True):
        assert outcome.report is None and reason in outcome.error
        assert not pathlib.Path(shot.out).exists()
    clip = walk(1)
    expected, _ = solve.inbetween(clip, np.isin(np.arange(60), (0, 30, 59)), "spline")
    assert read_clip("a filled.npz").rotations.tobytes() == expected.rotations.tobytes()
    assert len(read_clip("c filled.bvh")) == len(read_clip("d.bvh")) == 60


def test_files_are_filled_here_and_those_that_cannot_be_are_told(shots, monkeypatch):
    check(shots, motion.inbetween_many(no_engine, every(shots), ["c.bvh"]))
    assert not list(pathlib.Path.cwd().glob("*.partial"))


def test_files_are_filled_in_the_engine_alike(shots, engine, monkeypatch):
    monkeypatch.setattr(trained, "PACKAGES", ("no_such_package",))
    check(shots, motion.inbetween_many(lambda: engine, every(shots), ["c.bvh"]))
    assert len(engine.last.warnings) == len(shots[1])


def test_a_job_s_folder_is_all_that_the_command_line_needs(shots):
    request = {"kind": "motion.inbetween_many", "parameters": batch.request(every(shots), ["c.bvh"])}
    pathlib.Path("request.json").write_text(json.dumps(request))
    done = subprocess.run([sys.executable, ROOT / "backends", "run", "."], capture_output=True, text=True, check=True)
    assert "x4.fbx" in done.stdout
    values = json.loads(pathlib.Path("out/values.json").read_text())
    check(shots, batch.answer(every(shots), values))


def test_cancelling_stops_all(shots):
    good, _ = shots
    with pytest.raises(Cancelled):
        batch.run(batch.request(good), {}, Progress(lambda event: None, lambda: True, pathlib.Path.cwd()))
    assert not pathlib.Path("a filled.npz").exists()


def test_a_bug_in_one_shot_is_told_and_the_others_go_on(shots, monkeypatch):
    good, _ = shots

    def wrong(*arguments):
        raise ZeroDivisionError("division by zero")

    monkeypatch.setitem(solve.SOLVERS, "slerp", solve.Solver("slerp", "", "", wrong))
    outcomes = motion.inbetween_many(no_engine, good)
    assert [bool(outcome.report) for outcome in outcomes] == [True, False, True, True]
    assert "ZeroDivisionError" in outcomes[1].error and "bug" in outcomes[1].error
    assert outcomes[2].report.solver == "spline" and "library" in outcomes[2].report.fallback


@pytest.fixture
def plain(monkeypatch, tmp_path):
    """A process without PyTorch, with weights."""
    monkeypatch.setattr(trained, "PACKAGES", ("no_such_package",))
    (tmp_path / "weights.safetensors").write_bytes(b"junk")
    return str(tmp_path / "weights.safetensors")


def test_without_an_engine_another_solver_serves_and_says_why(plain):
    clip, keys = walk(5), np.isin(np.arange(60), (0, 30, 59))
    expected, _ = solve.inbetween(clip, keys, "spline")
    for solver, reason in (("model", "Install engine"), ("auto", ""), ("spline", "")):
        filled, report = motion.inbetween(no_engine, clip, keys, solver, weights=plain)
        assert report.solver == "spline" and reason in report.fallback and bool(reason) == bool(report.fallback)
        assert filled.rotations.tobytes() == expected.rotations.tobytes()

    def fails():
        raise EngineFailed("The engine died.", "Press Copy report.")

    for solver in ("model", "auto"):
        assert motion.inbetween(fails, clip, keys, solver, weights=plain)[1].fallback.startswith("The engine died.")


def test_the_engine_works_where_the_solver_needs_it_and_only_there(plain, engine):
    clip, keys = walk(5), np.isin(np.arange(60), (0, 30, 59))
    motion.inbetween(lambda: engine, clip, keys, "spline")
    assert engine.last is None
    # these weights are none: the engine says so, and does what "auto" would do next
    filled, report = motion.inbetween(lambda: engine, clip, keys, "model", [walk(6, 200)], 1, weights=plain)
    assert engine.last.kind == "motion.inbetween"
    assert report.solver == "retrieval" and report.fallback
    expected, _ = solve.inbetween(clip, keys, "retrieval", [walk(6, 200)], 1)
    assert filled.rotations.tobytes() == expected.rotations.tobytes()
