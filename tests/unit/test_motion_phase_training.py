# SPDX-License-Identifier: GPL-3.0-or-later
"""Training on one's own clips: the folder of 100STYLE, the engine's job, and the table of results."""

import numpy as np
import pytest

from vivant.backends.common import registry
from vivant.backends.common import rotations as quaternions
from vivant.backends.common.errors import BrokenFile, Cancelled, VivantError
from vivant.backends.common.progress import Progress
from vivant.backends.motion.clip import Clip
from vivant.backends.motion.formats import style100
from vivant.backends.motion.formats.arrays import write_clip
from vivant.backends.motion.formats.bvh import write_bvh

NAMES = "Hips LeftHip LeftKnee LeftAnkle RightHip RightKnee RightAnkle".split()
PARENTS = [-1, 0, 1, 2, 0, 4, 5]


def walk(hertz: float, frames: int = 150, fps: float = 30, seed: int = 0) -> Clip:
    rng = np.random.default_rng(seed)
    t = np.arange(frames)[:, None, None] / fps
    wave = np.sin(2 * np.pi * (hertz * t + np.array([0, 0, 0.1, 0.2, 0.5, 0.6, 0.7])[:, None]))
    rotations = quaternions.exp(wave * np.array([[0.4, 0, 0]]) + rng.normal(size=(7, 3)) * 0.02)
    offsets = np.array([[0, 0, 0], [0.1, 0, 0], [0, -0.4, 0], [0, -0.4, 0], [-0.1, 0, 0], [0, -0.4, 0], [0, -0.4, 0]])
    root = np.stack([0 * t[:, 0, 0], 0.9 + 0 * t[:, 0, 0], 1.2 * t[:, 0, 0]], axis=1)
    return Clip(NAMES, np.array(PARENTS), offsets, fps, rotations, root)


def dataset(folder, styles: int = 12, frames: int = 400):
    """A folder as the data set's: a folder for each style, sixty frames a second, a list of cuts with gaps in it."""
    lines = ["STYLE_NAME, FW_START, FW_STOP, ID_START, ID_STOP"]
    for index in range(styles):
        style = f"Style{index}"
        (folder / style).mkdir()
        write_bvh(walk(0.7 + 0.05 * index, frames, 60, index), folder / style / f"{style}_FW.bvh")
        lines.append(f"{style}, 40, {frames - 20}, N/A, N/A")
    write_bvh(walk(0.3, 200, 60), folder / "Style0" / "Style0_ID.bvh")
    lines[1] = f"Style0, 40, {frames - 20}, 10, 190"
    (folder / "Frame_Cuts.csv").write_text("\n".join(lines) + "\n", "utf-8")


def test_a_style_folder_is_read_cut_and_halved_in_rate(tmp_path):
    dataset(tmp_path)
    found = style100.read(tmp_path)
    assert [(entry.style, entry.content) for entry in found][:3] == [("Style0", "FW"), ("Style0", "ID"), ("Style1", "FW")]
    first = found[0].clip
    whole = walk(0.7, 400, 60, 0)
    assert first.fps == pytest.approx(30) and len(first) == 170 and len(found[1].clip) == 90
    np.testing.assert_allclose(first.root, whole.root[40:380:2], atol=1e-5)
    np.testing.assert_allclose(np.abs(np.sum(first.rotations * whole.rotations[40:380:2], axis=-1)), 1, atol=1e-8)
    assert {entry.content for entry in style100.read(tmp_path, ("ID",))} == {"ID"}


def test_the_last_ten_styles_and_the_ends_of_long_clips_are_kept_for_the_test(tmp_path):
    clips = [style100.StyleClip(f"s{index}", "FW", walk(1.0, 2100 if index == 1 else 50)) for index in range(12)]
    train, ends, unseen = style100.split(clips)
    assert [len(clip) for clip in train] == [50, 1890] and [len(clip) for clip in ends] == [210] and len(unseen) == 10
    np.testing.assert_array_equal(ends[0].root, clips[1].clip.root[1890:])


def test_folders_that_are_no_style_folder_are_refused_in_a_sentence(tmp_path):
    with pytest.raises(VivantError, match=r"holds no Frame_Cuts\.csv"):
        style100.read(tmp_path)
    (tmp_path / "Frame_Cuts.csv").write_text("a,b\n1,2\n", "utf-8")
    with pytest.raises(BrokenFile, match="no columns"):
        style100.read(tmp_path)
    (tmp_path / "Frame_Cuts.csv").write_text("STYLE_NAME,FW_START,FW_STOP\nOld,10,90\n", "utf-8")
    with pytest.raises(VivantError, match="none of the files"):
        style100.read(tmp_path)
    write_bvh(walk(1.0, 8, 60), tmp_path / "Old_FW.bvh")
    with pytest.raises(BrokenFile, match=r"Old_FW\.bvh has 8 frames"):
        style100.read(tmp_path)


class Job:
    """What the engine gives a job, and what it said."""

    def __init__(self, folder):
        self.said: list[dict] = []
        self.progress = Progress(self.said.append, lambda: False, folder)

    def warnings(self) -> list[str]:
        return [event["message"] for event in self.said if event["event"] == "warning"]


class Stopping(Progress):
    """Cancels the job when the sampler's training has begun."""

    def __call__(self, done: float, total: float, note: str = "") -> None:
        if "by phase" in note:
            raise Cancelled("The job was stopped.")


def test_a_job_learns_from_a_folder_and_goes_on_when_it_was_stopped(tmp_path):
    torch = pytest.importorskip("torch", reason="the phase model is trained with torch")
    pytest.importorskip("safetensors")
    torch.set_num_threads(1)
    from vivant.backends.motion.phase import evaluate, job, model

    takes = tmp_path / "takes"
    takes.mkdir()
    write_bvh(walk(0.8), takes / "a.bvh")
    write_clip(walk(1.1, 360, 72, seed=1), takes / "b.npz")
    (takes / "c.bvh").write_text("no motion", "utf-8")
    other = walk(1.0).replace(names=[*"abcdefg"])
    out = tmp_path / "mine.safetensors"
    request = job.request(out, [walk(1.3, seed=2), other], takes, minutes=0.02)
    run = registry.find("motion.phase_train")
    assert run is job.run
    with pytest.raises(Cancelled):
        run(*request, Stopping(lambda event: None, lambda: False, tmp_path))
    assert not out.exists() and (tmp_path / "mine.training" / "parts.safetensors").is_file()

    again = Job(tmp_path)
    values, arrays = run(*request, again.progress)
    assert not arrays and values["file"] == str(out) and not (tmp_path / "mine.training").exists()
    assert set(values["parts"]) == {"left leg", "right leg"} == set(values["explained"])
    assert values["frames"] == 450  # the one at 72 frames a second was resampled
    assert len(again.warnings()) == 2 and "c.bvh" in again.warnings()[0] and "other skeletons" in again.warnings()[1]
    assert not any("Learning the phase" in str(event.get("note")) for event in again.said)

    found = model.load(out)
    rows = evaluate.table(found, [walk(0.9, seed=7)], (10, 30), cap=2)
    assert {name: row[10].windows for name, row in rows.items()} == dict.fromkeys(("SLERP", "spline", "phase", "truth"), 2)
    assert rows["truth"][30].l2p == rows["truth"][30].npss == 0 < rows["phase"][30].l2p
    text = evaluate.lines(rows)
    assert text[0].split()[:4] == ["gap", "10", "gap", "30"] and text[1] == "NPSS" and text[2].split()[0] == "SLERP"


def test_there_must_be_something_to_learn_from(tmp_path):
    pytest.importorskip("torch", reason="the phase model is trained with torch")
    pytest.importorskip("safetensors")
    from vivant.backends.motion.phase import job

    with pytest.raises(VivantError, match="holds no motion files"):
        job.run(*job.request(tmp_path / "x.safetensors", folder=tmp_path), Job(tmp_path).progress)
    with pytest.raises(VivantError, match="no clip to learn from"):
        job.run(*job.request(tmp_path / "x.safetensors"), Job(tmp_path).progress)
