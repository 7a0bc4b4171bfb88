# SPDX-License-Identifier: GPL-3.0-or-later
"""The yardstick of in-betweens: LaFAN1's protocol, its measures on motion with closed forms, what it refuses."""

import csv
import importlib
import pathlib
import sys
import zipfile

import numpy as np
import pytest

from vivant.backends.common import rotations as quaternions
from vivant.backends.common.errors import VivantError
from vivant.backends.motion import metrics, solve
from vivant.backends.motion.clip import Clip
from vivant.backends.motion.formats.bvh import write_bvh

Image = pytest.importorskip("PIL.Image", reason="Pillow draws the plots")

BENCHMARKS = str(pathlib.Path(__file__).resolve().parents[2] / "benchmarks")


@pytest.fixture(scope="module")
def bench():
    """The modules of benchmarks/, importable as they import each other."""
    sys.path.insert(0, BENCHMARKS)
    yield {name: importlib.import_module(name) for name in ("_mocap", "_protocol", "_shots", "motion", "species")}
    sys.path.remove(BENCHMARKS)


@pytest.fixture
def windows(bench):
    """Two windows of one bone; a is the root's acceleration in metres, turn the bone's in radians, per frame and frame."""

    def make(a=0.0, turn=0.0, cubic=0.0, frames=65):
        t = np.arange(frames, dtype=np.float64)
        root = np.outer(a * t**2 / 2 + cubic * t**3 / 6, [0, 1.0, 0])
        rotations = quaternions.exp(np.outer(turn * t**2 / 2, [0, 0, 1.0]))[:, None]
        skeleton = Clip(["bone"], np.array([-1]), np.zeros((1, 3)), 30.0, rotations, root)
        return bench["_mocap"].Windows(skeleton, np.stack([rotations] * 2), np.stack([root] * 2), ["someone"] * 2)

    return make


def measured(bench, windows, gap, after, solver, sigma=None):
    filled = bench["_protocol"].fill(windows, [(gap, after)], solver)[gap, after]
    return bench["_protocol"].measure(windows, np.ones((1, 3)) if sigma is None else sigma, gap, filled)


@pytest.mark.parametrize("gap", [5, 15, 30, 45])
def test_slerp_on_constant_acceleration_has_the_errors_of_a_chord_under_a_parabola(bench, windows, gap):
    a, turn, sigma = 0.002, 0.0004, 0.1
    inside, length = np.arange(1, gap + 1), gap + 1
    sag = inside * (length - inside) / 2  # of a unit parabola over its chord
    row = measured(bench, windows(a, turn), gap, 1, "slerp", np.full((1, 3), sigma))
    assert row["L2P"] == pytest.approx(a * sag.mean() / sigma, rel=1e-6)
    assert row["L2Q"] == pytest.approx((2 * np.sin(turn * sag / 4)).mean(), rel=1e-6)
    assert row["boundary jump"] == pytest.approx((length + 1) / 2, rel=1e-6)  # at both ends, of the parabola's a
    assert row["key error"] == 0


@pytest.mark.parametrize("gap", [5, 15])
def test_frames_on_both_sides_make_the_spline_exact_where_the_truth_is_cubic(bench, windows, gap):
    row = measured(bench, windows(a=-0.002, cubic=1e-4), gap, 10, "spline")
    assert row["L2P"] < 1e-12
    assert row["boundary jump"] == pytest.approx(1) and row["jerk"] == pytest.approx(1)
    assert measured(bench, windows(a=-0.002, cubic=1e-4), gap, 1, "spline")["L2P"] > 1e-4  # the end's velocity is not known


def test_jerk_and_boundary_jump_are_shares_of_the_truths_third_and_second_differences(bench, windows):
    cubic, gap = windows(cubic=1e-3), 5
    t = np.arange(65.0)
    truth = 1e-3 * t**3 / 6
    broken = truth.copy()
    broken[9:16] = np.linspace(truth[9], truth[15], 7)
    row = measured(bench, cubic, gap, 1, "slerp")
    assert row["jerk"] == pytest.approx(np.abs(np.diff(broken, 3))[7:15].mean() / 1e-3)
    jumps = [np.abs(np.diff(x, 2))[[8, 14]].sum() for x in (broken, truth)]
    assert row["boundary jump"] == pytest.approx(jumps[0] / jumps[1])


def test_zero_velocity_knows_nothing_after_the_gap(bench, windows):
    row = measured(bench, windows(a=0.002), 5, 0, "slerp")
    t = np.arange(10, 15)
    assert row["L2P"] == pytest.approx(0.002 * (t**2 - 81).mean() / 2)


def test_npss_agrees_with_its_definition_written_out_as_sums():
    rng = np.random.default_rng(5)
    predicted, truth = rng.normal(size=(2, 3, 7, 2))
    total = weights = 0.0
    for clip in range(3):
        for feature in range(2):
            spectra = []
            for x in (predicted[clip, :, feature], truth[clip, :, feature]):
                spectra.append([sum(v * np.cos(2 * np.pi * k * t / 7) for t, v in enumerate(x)) ** 2 for k in range(7)])
            ours, true = (np.cumsum(power) / sum(power) for power in spectra)
            total += sum(spectra[1]) * sum(abs(ours - true))
            weights += sum(spectra[1])
    assert metrics.npss(predicted, truth) == pytest.approx(total / weights)


def test_windows_start_every_so_many_frames_strictly_inside_and_face_x_at_the_last_past_frame(bench):
    takes = [bench["_shots"].made_up(1, frames)[0] for frames in (65, 66, 105, 106, 400)]
    cut = bench["_mocap"].windows(takes, 65, 40)
    assert len(cut) == sum(len([i for i in range(0, 1000, 40) if i + 65 < n]) for n in (65, 66, 105, 106, 400)) == 13
    assert np.abs(cut.root.mean(axis=1)[:, [0, 2]]).max() < 1e-5
    facing = quaternions.rotate(cut.rotations[:, 9, 0], np.array([0, 0, 1.0]))
    assert np.allclose(np.arctan2(-facing[:, 2], facing[:, 0]), 0, atol=1e-5)


def test_sigma_is_the_deviation_of_all_training_frames_together(bench):
    takes = bench["_shots"].made_up(2, 150)
    positions = bench["_mocap"].windows(takes, 50, 20).truth[0].astype(np.float64)
    assert np.allclose(bench["_mocap"].sigma(takes), positions.std(axis=(0, 1)), rtol=1e-5)


def test_a_body_that_turns_nowhere_in_some_joints_keeps_its_places_without_them(bench):
    take = bench["_shots"].made_up(1, 20)[0]
    turns = take.rotations.copy()
    still = [take.names.index(name) for name in ("left shin", "right arm", "head")]
    turns[:, still] = quaternions.IDENTITY
    turns[:, take.names.index("right arm")] = quaternions.exp(np.array([0.3, 0, 0]))  # bent, and carries the forearm
    take = take.replace(rotations=turns)
    (less,) = bench["_mocap"].reduced([take])
    assert set(take.names) - set(less.names) == {"left shin", "head"}
    kept = [take.names.index(name) for name in less.names]
    assert np.allclose(less.forward()[0], take.forward()[0][:, kept], atol=1e-6)


def write(folder, takes):
    for take in takes:
        write_bvh(take, folder / f"{take.performer.replace(' ', '_')}.bvh")


def test_a_folder_of_several_skeletons_or_frame_rates_is_refused_and_one_can_be_chosen(bench, tmp_path):
    takes = bench["_shots"].made_up(3, 80)
    write(tmp_path, takes)
    longer = takes[0].replace(offsets=takes[0].offsets * [[1.5]], performer="tall")
    slow = takes[0].replace(fps=24.0, performer="slow")
    fast = takes[0].replace(fps=60.0, performer="fast")  # every other frame of it is at 30
    write(tmp_path, [longer, slow, fast])
    with pytest.raises(VivantError, match=r"mixes 3 skeletons or frame rates.*slow \(1 takes, 15 joints, 24 fps\)") as caught:
        bench["_shots"].read(tmp_path)
    assert "--skeleton" in caught.value.hint
    shots = bench["_shots"].read(tmp_path, "fast")
    assert {take.fps for take in (*shots.train, *shots.test)} == {30.0}
    assert sorted(len(take) for take in (*shots.train, *shots.test)) == [40, 80, 80, 80]
    with pytest.raises(VivantError, match="no motion on a skeleton called nobody"):
        bench["_shots"].read(tmp_path, "nobody")


def test_lafan1_is_known_by_its_joints_and_tested_on_subject_5(bench, tmp_path):
    names = bench["_shots"].LAFAN
    parents = [-1, 0, 1, 2, 3, 0, 5, 6, 7, 0, 9, 10, 11, 12, 11, 14, 15, 16, 11, 18, 19, 20]
    rng = np.random.default_rng(3)
    offsets = rng.normal(size=(22, 3)) * 0.1
    with zipfile.ZipFile(tmp_path / "lafan1.zip", "w") as archive:
        for subject in range(1, 6):
            turns = quaternions.exp(np.cumsum(rng.normal(size=(70, 22, 3)) * 0.02, axis=0))
            clip = Clip(names, np.array(parents), offsets, 30.0, turns, np.cumsum(rng.normal(size=(70, 3)) * 0.01, axis=0))
            write_bvh(clip, tmp_path / "one.bvh")
            archive.write(tmp_path / "one.bvh", f"walk{subject}_subject{subject}.bvh")
    shots = bench["_shots"].read(tmp_path / "lafan1.zip")
    assert shots.lafan and [take.performer for take in shots.test] == ["subject5"]
    assert sorted(take.performer for take in shots.train) == ["subject1", "subject2", "subject3", "subject4"]
    cut = bench["_mocap"].windows(shots.test, 65, 40, ahead=shots.ahead)
    facing = quaternions.rotate(cut.rotations[:, 9, 0], np.array([0, 1.0, 0]))  # the hip's Y points ahead there
    assert np.allclose(facing[:, 2], 0, atol=1e-6) and np.all(facing[:, 0] > 0)


def test_without_data_it_writes_a_table_and_a_plot_for_each_protocol(bench, tmp_path, capsys):
    bench["motion"].main(["--cap", "3", "--solvers", "slerp,spline,retrieval", "--out", str(tmp_path)])
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{protocol}.{kind}" for protocol in ("one_target", "frames_after") for kind in ("md", "csv", "png")
    }
    for protocol in ("one_target", "frames_after"):
        with (tmp_path / f"{protocol}.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["method"] for row in rows[::4]] == ["zero velocity", "slerp", "spline", "retrieval"]
        assert {row["protocol"] for row in rows} == {protocol} and {row["key error"] for row in rows} == {"0.0"}
        assert all(float(row["L2P"]) > 0 and float(row["seconds"]) > 0 for row in rows)
        with Image.open(tmp_path / f"{protocol}.png") as picture:
            assert picture.size == (960, 600)
    assert "not LaFAN1's protocol" in (tmp_path / "frames_after.md").read_text()


def test_rows_of_another_protocol_are_refused_and_of_the_same_stand_beside(bench, tmp_path, capsys):
    command = ["--cap", "2", "--solvers", "spline", "--out", str(tmp_path), "--protocol", "one_target"]
    bench["motion"].main(command)
    earlier = (tmp_path / "one_target.csv").rename(tmp_path / "before.csv")
    bench["motion"].main([*command, "--beside", str(earlier)])
    assert "spline (before)" in (tmp_path / "one_target.md").read_text()
    with pytest.raises(
        SystemExit, match=r"another protocol \(one_target\) than this run \(frames_after\).*do not belong in one table"
    ):
        bench["motion"].main([*command[:-1], "frames_after", "--beside", str(earlier)])
    with pytest.raises(SystemExit, match="another windows"):
        bench["motion"].main(["--cap", "3", *command[2:], "--beside", str(earlier)])


def test_a_solver_that_cannot_serve_is_said_and_gets_no_row(bench, tmp_path, monkeypatch, capsys):
    def refuse(clip, keys, library, seed):
        raise VivantError("Nothing but snakes.")

    monkeypatch.setitem(solve.SOLVERS, "picky", solve.Solver("picky", "", "", refuse))
    bench["motion"].main(["--cap", "2", "--solvers", "picky", "--out", str(tmp_path), "--protocol", "one_target"])
    text = (tmp_path / "one_target.md").read_text()
    assert "- picky cannot serve here: Nothing but snakes." in text and "| picky" not in text


def test_creatures_never_search_the_clip_under_test(bench, monkeypatch, capsys):
    libraries = {}

    def watch(clip, keys, library, seed):
        libraries[clip.root.tobytes()] = library
        return solve.SOLVERS["spline"].fill(clip, keys, library, seed)

    monkeypatch.setitem(solve.SOLVERS, "watch", solve.Solver("watch", "", "", watch))
    takes = bench["_shots"].made_up(3, 40)
    count, rows = bench["species"].measure(takes, 5, ["watch"], None)
    assert count == 9 and list(rows) == ["slerp", "watch"]  # windows of 25 frames from the frames 0, 5 and 10 of each
    assert len(libraries) == 9 and all(len(library) == 2 for library in libraries.values())
    assert bench["species"].measure(takes, 25, ["spline"], None) == (0, {})


@pytest.mark.parametrize(
    ("creature", "others"), [("Stag", True), ("Stag", False), ("Triceratops", True), ("Triceratops", False)]
)
def test_the_default_beats_slerp_on_animals_with_and_without_other_clips_of_theirs(bench, data, creature, others):
    takes = bench["_mocap"].read(data / "mocap" / "creatures.clips.xz", lambda clip: clip.skeleton == creature)
    solver = solve.AUTO if others else "spline"
    for gap, bar in ((5, 0.6), (15, 0.8)):
        rows = bench["species"].measure(takes, gap, [solver], 40)[1]
        assert rows[solver]["L2P"] < bar * rows["slerp"]["L2P"]
        assert rows[solver]["key error"] == 0
