# SPDX-License-Identifier: GPL-3.0-or-later
"""The command that converts splat files: what it writes, says, and answers."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest

from vivant.backends.gaussian import convert
from vivant.backends.gaussian.cloud import SplatCloud
from vivant.backends.gaussian.formats import read_splats, write_splats
from vivant.backends.gaussian.motion.stg import Stg

BACKENDS = pathlib.Path(__file__).resolve().parents[2] / "backends"


def cloud_of(count=20, degree=1, moving=False):
    rng = np.random.default_rng(3)
    quats = rng.normal(size=(count, 4))
    family = None
    if moving:
        arrays = rng.normal(size=(count, 3, 3)), rng.normal(size=(count, 4)), np.full(count, 0.5), np.full(count, 0.3)
        family = Stg(*(array.astype(np.float32) for array in arrays))
    return SplatCloud(
        rng.normal(size=(count, 3)),
        quats / np.linalg.norm(quats, axis=1, keepdims=True),
        np.full((count, 3), 0.1),
        np.full(count, 0.5),
        rng.normal(0, 0.3, (count, (degree + 1) ** 2, 3)),
        family=family,
    )


def test_a_file_is_converted_and_its_losses_are_said(tmp_path, capsys):
    write_splats(cloud_of(), tmp_path / "a.ply")
    assert convert.main([str(tmp_path / "a.ply"), str(tmp_path / "b.splat")]) == 0
    said = capsys.readouterr()
    assert "PLY, 20 splats, SH degree 1, axes RDF" in said.err and "one colour a splat" in said.err and not said.out
    assert len(read_splats(tmp_path / "b.splat")) == 20


def test_it_runs_from_the_command_line(tmp_path):
    write_splats(cloud_of(), tmp_path / "a.ply")
    command = [sys.executable, str(BACKENDS), "convert", str(tmp_path / "a.ply"), str(tmp_path / "b.spz"), "--quiet"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert read_splats(tmp_path / "b.spz").source.format == "SPZ"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["none.ply", "b.spz"], "error: 'none.ply' cannot be read"),
        (["a.ply", "b.obj"], "does not say which format to write"),
        (["a.ply", "none/b.spz"], "cannot be written"),
        (["a.ply", "b.spz", "--axes", "XYZ"], "no coordinate frame"),
        (["moving.ply", "b.spz"], "Give --at TIME"),
        (["moving.ply", "b.usdc", "--frames", "0"], "no motion"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence_and_by_the_status(tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    write_splats(cloud_of(), "a.ply")
    write_splats(cloud_of(degree=0, moving=True), "moving.ply")
    assert convert.main(arguments) == convert.FAILED
    assert words in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.ply", "moving.ply"]


def test_wrong_options_end_with_the_usage(capsys):
    with pytest.raises(SystemExit) as caught:
        convert.main(["a.ply"])
    assert caught.value.code == 2 and "usage" in capsys.readouterr().err


def test_a_moment_of_a_moving_cloud_becomes_a_still_file(tmp_path):
    moving = cloud_of(degree=0, moving=True)
    write_splats(moving, tmp_path / "a.ply")
    assert convert.main([str(tmp_path / "a.ply"), str(tmp_path / "b.usdc"), "--at", "0.25"]) == 0
    still = read_splats(tmp_path / "b.usdc")
    assert still.family is None
    np.testing.assert_allclose(still.means, moving.at(0.25).means * [1, -1, -1], atol=1e-5)


def test_motion_becomes_numbered_files_and_those_a_stage(tmp_path, capsys):
    moving = cloud_of(degree=0, moving=True)
    write_splats(moving, tmp_path / "a.splatv")
    assert convert.main([str(tmp_path / "a.splatv"), str(tmp_path / "frames" / "f_###.ply"), "--frames", "5"]) == 0
    assert sorted(path.name for path in (tmp_path / "frames").iterdir()) == [f"f_{n:03}.ply" for n in range(1, 6)]
    assert convert.main([str(tmp_path / "frames"), str(tmp_path / "b.usda")]) == 0
    assert "moving (Frames) from 1 to 5, 5 frames" in capsys.readouterr().err
    stage = read_splats(tmp_path / "b.usda")
    order = np.argsort(stage.at(1).means[:, 0])
    expected = moving.at(0.0).means[:, 0]
    np.testing.assert_allclose(stage.at(1).means[order, 0], np.sort(expected), atol=1e-2)


def test_a_frame_that_the_file_does_not_know_can_be_given(tmp_path):
    write_splats(cloud_of(), tmp_path / "a.ply")
    arguments = [str(tmp_path / "a.ply"), str(tmp_path / "b.spz"), "--axes", "RUB"]
    assert convert.main(arguments) == 0  # SPZ is RUB: nothing is turned
    a, b = read_splats(tmp_path / "a.ply"), read_splats(tmp_path / "b.spz")
    np.testing.assert_allclose(b.means, a.means, atol=1e-3)


def test_a_file_can_be_written_in_the_frame_that_a_program_expects(tmp_path):
    write_splats(cloud_of(), tmp_path / "a.ply")
    assert convert.main([str(tmp_path / "a.ply"), str(tmp_path / "b.ply"), "--write-axes", "RFU"]) == 0
    a, b = read_splats(tmp_path / "a.ply"), read_splats(tmp_path / "b.ply")
    np.testing.assert_allclose(b.means, a.means[:, [0, 2, 1]] * [1, 1, -1], atol=1e-6)
