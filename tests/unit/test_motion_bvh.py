# SPDX-License-Identifier: GPL-3.0-or-later
import pathlib
import time
import tracemalloc

import numpy as np
import pytest

from vivant.backends.common import rotations as quaternions
from vivant.backends.common.errors import BrokenFile, UnsupportedFormat, VivantError
from vivant.backends.motion.clip import Clip
from vivant.backends.motion.formats.bvh import read_bvh, write_bvh

SMALL = """HIERARCHY
ROOT Hips
{
  OFFSET 0 0 0
  CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
  JOINT Upper Leg
  {
    OFFSET 10 -5 0
    CHANNELS 3 Xrotation Yrotation Zrotation
    JOINT Shin
    {
      OFFSET 0 -40 0
      CHANNELS 1 Xrotation
      End Site
      {
        OFFSET 0 -40 5
      }
    }
  }
  JOINT Tail
  {
    OFFSET 0 0 -10
    CHANNELS 5 Yrotation Zposition Zrotation Yposition Xposition
  }
}
MOTION
Frames: 2
Frame Time: 0.0333333
1 90 2 0 0 0 0 0 0 0 0 -10 0 0 0
1 91 2 10 20 30 40 50 60 70 25 -12 35 1 2
"""


def read(tmp_path: pathlib.Path, text: str | bytes, **options: float) -> Clip:
    path = tmp_path / "clip.bvh"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_bvh(path, **options)


def turn(axis: str, degrees: float) -> np.ndarray:
    i, c, s = "XYZ".index(axis), np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    j, k = (i + 1) % 3, (i + 2) % 3
    m = np.eye(3)
    m[j, j], m[k, k], m[k, j], m[j, k] = c, c, s, -s
    return m


def test_channels_multiply_from_left_to_right_and_positions_replace_offsets(tmp_path):
    clip = read(tmp_path, SMALL)
    assert clip.names == ["Hips", "Upper_Leg", "Shin", "Tail"]
    assert clip.parents.tolist() == [-1, 0, 1, 0]
    assert clip.fps == 30 and len(clip) == 2
    hips = turn("Z", 10) @ turn("X", 20) @ turn("Y", 30)
    leg = hips @ turn("X", 40) @ turn("Y", 50) @ turn("Z", 60)
    shin = leg @ turn("X", 70)
    tail = hips @ turn("Y", 25) @ turn("Z", 35)
    positions, world = clip.forward()
    knee = hips @ [10, -5, 0]
    expected = np.array([1, 91, 2]) + np.array([np.zeros(3), knee, knee + leg @ [0, -40, 0], hips @ [2, 1, -12]])
    np.testing.assert_allclose(positions[1], expected / 100, atol=1e-6)
    np.testing.assert_allclose(quaternions.matrix(world[1]), [hips, leg, shin, tail], atol=1e-6)
    np.testing.assert_allclose(positions[0], np.array([[1, 90, 2], [11, 85, 2], [11, 45, 2], [1, 90, -8]]) / 100, atol=1e-6)


@pytest.mark.parametrize(
    "dialect",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("\n", "\r"),
        lambda text: "\ufeff" + text,
        lambda text: text.replace("  ", "\t").replace("\n", "\n\n"),
        lambda text: text.replace("\n{", " {").replace("\n  {", " {").replace("\n    {", " {"),
        lambda text: text.replace("rotation", "ROTATION").replace("OFFSET", "offset").replace("JOINT", "Joint"),
        lambda text: text.replace("End Site", "End Site toe").replace("Frames: 2", "Frames:2").replace("Time: ", "Time:\t"),
        lambda text: text.rstrip("\n") + "  \n\n\n",
    ],
)
def test_dialects_read_alike(tmp_path, dialect):
    expected, clip = read(tmp_path, SMALL), read(tmp_path, dialect(SMALL))
    assert clip.names == expected.names and clip.fps == expected.fps
    np.testing.assert_array_equal(clip.rotations, expected.rotations)
    np.testing.assert_array_equal(clip.forward()[0], expected.forward()[0])


def test_units_are_centimetres_for_tall_skeletons_metres_for_small_ones_and_what_the_caller_says(tmp_path):
    assert read(tmp_path, SMALL).offsets[2].tolist() == pytest.approx([0, -0.4, 0])
    assert read(tmp_path, SMALL, scale=0.0254).offsets[2].tolist() == pytest.approx([0, -40 * 0.0254, 0])
    assert read(tmp_path, SMALL, scale=0.0254).root[1].tolist() == pytest.approx([0.0254, 91 * 0.0254, 2 * 0.0254])
    small = SMALL.replace("-40 0", "-0.4 0").replace("10 -5", "0.1 -0.05").replace("0 0 -10\n", "0 0 -0.1\n")
    assert read(tmp_path, small).offsets[2].tolist() == pytest.approx([0, -0.4, 0])


@pytest.mark.parametrize(
    ("seconds", "fps"), [("0.0333", 30), (".0083333", 120), ("0.04166667", 24), ("0.0333667", 1 / 0.0333667)]
)
def test_a_frame_time_means_the_whole_rate_its_digits_admit(tmp_path, seconds, fps):
    assert read(tmp_path, SMALL.replace("0.0333333", seconds)).fps == fps


def test_equal_names_are_told_apart(tmp_path):
    assert read(tmp_path, SMALL.replace("Shin", "Hips").replace("Tail", "Hips")).names == [
        "Hips",
        "Upper_Leg",
        "Hips.001",
        "Hips.002",
    ]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("OFFSET 10 -5 0", "OFFSET 10 -5", "line 8: 3 numbers belong here, not 2"),
        ("OFFSET 10 -5 0", "OFFSET 10 nan 0", "line 8: nan is no sound number"),
        ("OFFSET 10 -5 0", "OFFSET 10 x 0", "line 8: could not convert string to float: 'x'"),
        ("1 Xrotation", "2 Xrotation", "line 13: the number of channels"),
        ("1 Xrotation", "1 Wrotation", "line 13: 'wrotation' is no channel"),
        ("CHANNELS 3 Xrotation Yrotation", "CHANNELS 3 Xrotation Xrotation", "line 9: a channel comes twice"),
        ("JOINT Tail", "BONE Tail", "line 20: 'BONE Tail' does not belong here"),
        ("End Site\n      {\n", "End Site\n", "line 15: a '{' belongs here, not 'OFFSET'"),
        ("\n}\nMOTION", "\nMOTION", "line 25: 'MOTION' does not belong here"),
        ("Frames: 2", "Frames: two", "line 27: 'Frames:'"),
        ("Frames: 2", "Frames: 0", "line 27: 'Frames:'"),
        ("Frames: 2", "Frames: 3", "line 30: the file ends before its 3 frames do"),
        ("Frames: 2", "Frames: 1", "line 30: the file goes on after its 1 frames"),
        ("Frames: 2", "Frames: 2000000000", "line 28: 2000000000 frames of 4 joints do not fit"),
        ("Frame Time: 0.0333333", "Frame Time: 0", "line 28: 'Frame Time:'"),
        ("Frame Time: 0.0333333", "Frame Time: inf", "line 28: inf is no sound number"),
        ("1 91 2 10", "1 91 10", "line 30: 15 numbers belong here, not 14"),
        ("1 91 2 10", "1 91 1e30 10", "line 30: 1e\\+30 is no sound number"),
        ("1 91 2 10", "1 91 2,5 10", "line 30: could not convert"),
        ("MOTION", "", "the file ends within the hierarchy|does not belong here"),
    ],
)
def test_damage_is_named_with_its_line(tmp_path, old, new, message):
    assert old in SMALL
    with pytest.raises(BrokenFile, match=message):
        read(tmp_path, SMALL.replace(old, new))


def test_what_is_no_bvh_is_refused(tmp_path):
    for text in (b"", b"ply\nformat ascii 1.0\n", b"\0" * 5000, SMALL.encode("utf-16")):
        with pytest.raises(UnsupportedFormat, match="not a BVH file"):
            read(tmp_path, text)
    with pytest.raises(UnsupportedFormat, match="several skeletons"):
        read(tmp_path, SMALL.replace("}\nMOTION", "}\nROOT Other\n{\n}\nMOTION"))
    with pytest.raises(VivantError, match=r"none\.bvh cannot be read"):
        read_bvh(tmp_path / "none.bvh")
    with pytest.raises(VivantError, match="cannot be read"):
        read_bvh(tmp_path)


def test_small_files_cannot_claim_much_memory(tmp_path):
    joint = "JOINT a\n{\nOFFSET 0 0 0\nCHANNELS 0\n}\n"
    wide = (
        "HIERARCHY\nROOT r\n{\nCHANNELS 1 Xrotation\n"
        + joint * 9000
        + "}\nMOTION\nFrames: 100000\nFrame Time: 1\n"
        + "0\n" * 100000
    )
    deep = "HIERARCHY\nROOT r\n{\n" + "JOINT a\n{\n" * 9000 + "}\n" * 9001 + "MOTION\nFrames: 1\nFrame Time: 1\n"
    for text in (wide, deep, "HIERARCHY\n" + "x" * 3_000_000, "HIERARCHY\nROOT r\n{\n" + joint * 20_000):
        tracemalloc.start()
        start = time.perf_counter()
        with pytest.raises(BrokenFile):
            read(tmp_path, text)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 4 * len(text) + (64 << 20)
        assert time.perf_counter() - start < 5


def random_clip(seed: int) -> Clip:
    rng = np.random.default_rng(seed)
    parents = np.array([-1, 0, 1, 1, 0, 4, 2])  # not depth first
    turn = np.cumsum(rng.normal(size=(30, 7, 3)) * 0.2, axis=0)
    return Clip(
        [f"joint {j}" for j in range(7)], parents, rng.normal(size=(7, 3)), 24, quaternions.exp(turn), rng.normal(size=(30, 3)),
        translations={4: rng.normal(size=(30, 3))},
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
def test_a_written_clip_reads_back(tmp_path, seed):
    clip = random_clip(seed)
    write_bvh(clip, tmp_path / "clip.bvh")
    back = read_bvh(tmp_path / "clip.bvh", scale=0.01)
    order = [back.names.index(name.replace(" ", "_")) for name in clip.names]
    assert back.fps == 24
    np.testing.assert_allclose(back.forward()[0][:, order], clip.forward()[0], atol=2e-6)
    assert [file.name for file in tmp_path.iterdir()] == ["clip.bvh"]


def test_what_cannot_be_written_is_said(tmp_path):
    clip = random_clip(1)
    broken = clip.root.copy()
    broken[3] = np.nan
    with pytest.raises(VivantError, match="not finite"):
        write_bvh(clip.replace(root=broken), tmp_path / "clip.bvh")
    with pytest.raises(VivantError, match="several roots"):
        write_bvh(clip.replace(parents=np.array([-1, 0, 1, 1, -1, 4, 2])), tmp_path / "clip.bvh")
    with pytest.raises(VivantError, match="cannot be written"):
        write_bvh(clip, tmp_path / "missing" / "clip.bvh")
    assert not list(tmp_path.iterdir())


def test_real_files_survive_a_round_trip(data, tmp_path):
    for path in sorted((data / "mocap" / "bvh").glob("*.bvh")):
        clip = read_bvh(path)
        assert clip.fps in (30, 120)
        assert 1 < np.ptp(clip.forward()[0][0], axis=0).max() < 10  # metres: people, a fox, a dragon
        write_bvh(clip, tmp_path / path.name)
        back = read_bvh(tmp_path / path.name)
        order = [back.names.index(name) for name in clip.names]
        np.testing.assert_allclose(back.forward()[0][:, order], clip.forward()[0], atol=5e-6)
