# SPDX-License-Identifier: GPL-3.0-or-later
"""Retrieval on a small two-legged walker whose motion is known in closed form."""

import numpy as np
import pytest

from vivant.backends.common import rotations as quaternions
from vivant.backends.motion import library, retrieval
from vivant.backends.motion import mirror as mirrors
from vivant.backends.motion.clip import Clip
from vivant.backends.motion.solve import inbetween, solvers

NAMES = ["hips", "spine", "thigh.L", "shin.L", "thigh.R", "shin.R"]
PARENTS = np.array([-1, 0, 0, 2, 0, 4])
OFFSETS = np.array([[0, 0, 0], [0, 0.3, 0], [0.1, 0, 0], [0, -0.4, 0], [-0.1, 0, 0], [0, -0.4, 0]], float)


def walk(
    phase: float, frames: int = 120, tempo: float = 1.0, heading: float = 0.0, fps: float = 30.0, dtype=np.float32
) -> Clip:
    """Steps of one second, straight on along +Z turned by `heading`; the left thigh starts at `phase` of its swing."""
    swing = 2 * np.pi * (np.arange(frames) * tempo / fps) + phase
    angles = np.zeros((frames, 6, 3))
    angles[:, 1, 1] = 0.2 * np.sin(swing)
    for joint, shift in ((2, 0), (4, np.pi)):
        angles[:, joint, 0] = 0.5 * np.sin(swing + shift)
        angles[:, joint + 1, 0] = 0.4 - 0.4 * np.cos(swing + shift)
    turn = quaternions.exp(np.array([0, heading, 0]))
    rotations = quaternions.exp(angles)
    rotations[:, 0] = turn
    ahead = np.arange(frames) * tempo / fps * 1.2
    root = quaternions.rotate(turn, np.stack([0.03 * np.sin(swing), 0.8 + 0.02 * np.cos(2 * swing), ahead], axis=-1))
    return Clip(NAMES, PARENTS, OFFSETS, fps, rotations.astype(dtype), root.astype(dtype))


def gap_of(clip: Clip, start: int, length: int) -> np.ndarray:
    keys = np.ones(len(clip), bool)
    keys[start + 1 : start + length] = False
    return keys


def error(found: Clip, truth: Clip) -> float:
    return float(np.abs(found.forward()[0] - truth.forward()[0]).max())


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("length", "share"), [(2, 1.0), (15, 0.5), (30, 0.5), (45, 0.5), (119, 0.8)])
def test_a_walk_is_found_again_wherever_it_goes_and_whatever_its_phase(length, share, seed):
    """To a share of the spline's largest error, or two centimetres."""
    rng = np.random.default_rng(seed)
    truth = walk(rng.uniform(0, 6), 170, heading=rng.uniform(-3, 3))
    truth = truth.replace(root=truth.root + np.array([5, 0, -7], np.float32))
    keys = gap_of(truth, 20, length)
    clips = [walk(0.0, 300), walk(2.0, 250, heading=2.0)]
    found, report = inbetween(truth, keys, "retrieval", clips)
    plain, _ = inbetween(truth, keys, "spline")
    assert report.solver == "retrieval" and report.fallback == "" and report.key_error == 0
    assert error(found, truth) < max(share * error(plain, truth), 0.02)


def test_other_tempos_are_warped_and_other_frame_rates_resampled():
    truth = walk(1.0)
    keys = gap_of(truth, 40, 40)
    for one in (walk(0.0, 300, tempo=1.15), walk(0.0, 600, fps=60.0), walk(0.0, 240, fps=24.0)):
        assert error(inbetween(truth, keys, "retrieval", [one])[0], truth) < 0.1


def test_the_other_foot_s_step_is_found_in_the_mirror():
    """The library only limps on the left; the clip limps on the right."""

    def limp(clip: Clip, joint: int) -> Clip:
        rotations = clip.rotations.copy()
        rotations[:, joint] = quaternions.exp(0.2 * quaternions.log(rotations[:, joint]))
        return clip.replace(rotations=rotations)

    truth = limp(walk(1.0), 4)
    keys = gap_of(truth, 40, 40)
    found, _ = inbetween(truth, keys, "retrieval", [limp(walk(0.0, 300), 2)])
    plain, _ = inbetween(truth, keys, "spline")
    assert error(found, truth) < 0.3 * error(plain, truth)


@pytest.mark.parametrize("seed", range(4))
def test_velocities_at_both_ends_are_those_outside(seed):
    """A step across a key differs from the steps around it no more than in the spline, or than the walk's own steps do."""
    truth = walk(1.3, dtype=np.float64)
    found, _ = inbetween(truth, gap_of(truth, 40, 30), "retrieval", [walk(0.0, 300, tempo=0.9, dtype=np.float64)], seed)
    steps = np.diff(found.forward()[0], 2, axis=0)
    natural = np.abs(np.diff(truth.forward()[0], 2, axis=0)).max()
    assert np.abs(steps[38:41]).max() < 2 * natural
    assert np.abs(steps[68:71]).max() < 2 * natural


def test_partial_keys_inside_the_gap_hold_and_the_rest_still_walks():
    truth = walk(1.0)
    keys = np.repeat(gap_of(truth, 40, 40)[:, None], 6, axis=1)
    keys[60, 1] = True
    posed = truth.rotations.copy()
    posed[60, 1] = quaternions.exp(np.array([0.6, 0, 0], np.float32))
    given = truth.replace(rotations=posed)
    found, report = inbetween(given, keys, "retrieval", [walk(0.0, 300)])
    assert found.rotations[keys].tobytes() == posed[keys].tobytes() and report.solver == "retrieval"
    np.testing.assert_allclose(found.rotations[41:80, 2:], truth.rotations[41:80, 2:], atol=0.1)
    assert np.abs(np.diff(found.rotations[40:81, 1], axis=0)).max() < 0.05


def test_unkeyed_joints_rest_and_lone_keys_are_joined_without_a_kink():
    truth = walk(1.0, dtype=np.float64)
    keys = np.zeros((120, 6), bool)
    keys[[10, 40, 70], :4] = True
    found, report = inbetween(truth, keys, "retrieval", [walk(0.0, 300)])
    assert report.solver == "retrieval" and report.gaps == 2
    np.testing.assert_array_equal(found.rotations[:, 4:], np.broadcast_to([1, 0, 0, 0], (120, 2, 4)))
    np.testing.assert_array_equal(found.root[71:], truth.root[70][None].repeat(49, 0))
    jerk = np.abs(np.diff(found.forward()[0][11:70], 2, axis=0)).max(axis=(1, 2))
    assert jerk[28] < max(2 * jerk[:25].max(), 0.01)


def test_seeds_are_different_takes_and_the_same_seed_is_the_same_take():
    truth = walk(1.0)
    keys = gap_of(truth, 40, 40)
    clips = [walk(phase, 90, tempo) for phase, tempo in ((0.0, 1.0), (0.9, 0.9), (2.0, 1.1))]
    lean = np.random.default_rng(1).normal(size=(3, 90, 3)) * 0.1  # or else a walk and its mirror image would be the same
    for clip, angles in zip(clips, lean, strict=True):
        clip.rotations[:, 1] = quaternions.exp(angles)
    takes = [inbetween(truth, keys, "retrieval", clips, seed)[0].rotations for seed in (0, 0, 1, 2, 1)]
    np.testing.assert_array_equal(takes[0], takes[1])
    np.testing.assert_array_equal(takes[2], takes[4])
    assert not np.array_equal(takes[2], takes[3]) and not np.array_equal(takes[0], takes[2])


def test_auto_takes_the_library_where_it_serves_and_says_why_not():
    truth = walk(1.0)
    keys = gap_of(truth, 40, 40)
    assert inbetween(truth, keys)[1].solver == "spline" and inbetween(truth, keys)[1].fallback == ""
    assert inbetween(truth, keys, library=[walk(0.0, 300)])[1].solver == "retrieval"
    broken = walk(0.0, 300)
    broken.root[7] = np.nan
    other = walk(0.0, 300).replace(names=[*NAMES[:-1], "tail"])
    for asked, clips, why in (
        ("auto", [other], "no clip of this skeleton"),
        ("retrieval", [], "needs a library"),
        ("auto", [broken], "not a finite number"),
        ("auto", [walk(0.0, 30)], "no stretch of motion as long"),
    ):
        found, report = inbetween(truth, keys, asked, clips)
        assert report.solver == "spline" and why in report.fallback
        np.testing.assert_array_equal(found.rotations, inbetween(truth, keys, "spline")[0].rotations)


def test_a_gap_longer_than_four_seconds_and_clips_of_a_frame_or_two_are_the_spline_s():
    truth = walk(1.0, 200)
    assert "longer than the 4 seconds" in inbetween(truth, gap_of(truth, 10, 130), "retrieval", [walk(0.0, 300)])[1].fallback
    for one in (walk(0.0, 1), walk(0.0, 2), walk(0.0, 2, fps=60.0)):
        assert inbetween(truth, gap_of(truth, 10, 10), "retrieval", [one])[1].solver == "spline"


def test_gaps_without_a_match_are_named():
    truth = walk(1.0, 200)
    keys = gap_of(truth, 10, 20) & gap_of(truth, 50, 130)
    found, report = inbetween(truth, keys, "retrieval", [walk(0.0, 300)])
    assert report.solver == "retrieval" and "from frame 50 to 180" in report.warnings[0]
    np.testing.assert_array_equal(found.rotations[51:180], inbetween(truth, keys, "spline")[0].rotations[51:180])


def noisy(clip: Clip, seed: int) -> Clip:
    """Each joint's angles shaken, smoothly over time."""
    rng = np.random.default_rng(seed)
    time = np.arange(len(clip))[:, None, None] / 30
    shake = sum(rng.normal(size=(1, 6, 3)) * np.sin(time * rng.uniform(4, 12) + rng.uniform(0, 6)) for _ in range(4)) * 0.1
    shake[:, 0] = 0
    return clip.replace(rotations=quaternions.multiply(clip.rotations, quaternions.exp(shake)).astype(np.float32))


@pytest.mark.parametrize("seed", range(3))
def test_many_stretches_together_are_nearer_to_the_truth_than_the_nearest_one(seed):
    truth = walk(1.0 + seed)
    keys = gap_of(truth, 40, 30)
    clips = [noisy(walk(0.0, 300), 10 * seed + one) for one in range(12)]
    together, alone = (inbetween(truth, keys, "retrieval", clips, take)[0] for take in (0, 1))
    difference = [np.linalg.norm(found.forward()[0] - truth.forward()[0], axis=-1).mean() for found in (together, alone)]
    assert difference[0] < 0.7 * difference[1]


def query_of(clip: Clip, start: int, length: int) -> library.Query:
    keys = np.repeat(gap_of(clip, start, length)[:, None], 6, axis=1)
    return next(retrieval.queries(clip, keys, [(start, start + length)]))


@pytest.mark.parametrize("length", [6, 30])
def test_what_the_kriging_takes_for_distance_is_what_the_search_does(length):
    """Two computations of one thing: rows of numbers here, sums of products over tables there."""
    searched = library.index((noisy(walk(0.0, 300), 1), noisy(walk(1.0, 200, heading=1.0), 2)), 30.0)
    query = query_of(noisy(walk(0.7), 3), 40, length)
    found = library.search(searched, query, 40, 2)
    rows = np.concatenate(library._vectors(searched, query, found, library.WEIGHTS), axis=1)
    np.testing.assert_allclose(np.sum((rows[1:] - rows[0]) ** 2, axis=1), found.distance, rtol=1e-3, atol=1e-4)
    assert np.all(np.diff(found.distance) >= 0) and np.diff(np.sort(found.first)).min() > 2


@pytest.mark.parametrize("length", [6, 30])
def test_a_gap_bends_beyond_its_keys_as_the_stretch_does_that_it_was_cut_from_wherever_that_faces(length):
    clip = noisy(walk(0.4, 90), 7)
    turn = quaternions.exp(np.array([0, 2.0, 0], np.float32))
    turned = clip.rotations.copy()
    turned[:, 0] = quaternions.multiply(turn, turned[:, 0])
    searched = library.index((clip.replace(rotations=turned, root=quaternions.rotate(turn, clip.root)),), 30.0)
    there = library.Matches(np.array([40]), np.array([length]), np.zeros(1))
    bends = list(library._bends(searched, query_of(clip, 40, length), there))
    assert len(bends) == 4 and all(np.abs(side).max() > 1e-3 for side in bends)
    for of_gap, of_stretch in bends:
        np.testing.assert_allclose(of_gap, of_stretch, atol=1e-4)


def test_what_moves_at_constant_velocity_does_not_bend_and_what_is_not_known_is_not_told():
    clip = walk(0.0, 60)
    spin = quaternions.exp(np.arange(60)[:, None, None] * np.float32([[0.02, 0.01, 0]]))
    clip = clip.replace(
        rotations=np.where(np.arange(6)[:, None] == 2, spin, quaternions.IDENTITY).astype(np.float32),
        root=np.float32([0, 1, 0.03]) * np.arange(60)[:, None] * np.float32([0, 0, 1]),
    )
    for _, turns in query_of(clip, 20, 10).bends:
        np.testing.assert_allclose(turns, 0, atol=1e-5)
    keys = gap_of(clip, 20, 10)
    keys[31] = keys[18] = False  # one key after the gap, two before it
    query = next(retrieval.queries(clip, np.repeat(keys[:, None], 6, axis=1), [(20, 30)]))
    assert query.bends == (None, None) and query.velocities[0] is not None and query.velocities[1] is None


def test_twins_share_the_weight_of_one_and_what_is_far_has_less():
    clip = noisy(walk(0.0, 120), 5)
    query = query_of(clip, 40, 30)
    searched = library.index((clip, clip.replace(root=clip.root + np.float32([1, 0, 1]))), 30.0)

    def weights(*first):
        stretches = library.Matches(np.array(first), np.full(len(first), 30), np.zeros(len(first)))
        return library.predict(searched, query, stretches)[0]

    once, twice = weights(40), weights(40, 160)
    assert once[0] > twice[0] == pytest.approx(twice[1], rel=1e-3) and once[0] < twice.sum() < 1
    assert weights(55)[0] < 0.8 * once[0]  # half a step later


def test_each_stretch_is_predicted_as_if_its_piece_of_the_library_and_its_mirror_image_were_not_there():
    searched = library.index(tuple(noisy(walk(phase, 150), one) for one, phase in enumerate((0.0, 1.0))), 30.0)
    assert list(np.bincount(searched.piece)[1:]) == [300] * 2  # each clip with its mirror image
    query = query_of(noisy(walk(0.7), 3), 40, 12)
    found = library.search(searched, query, 60, 2)
    weights = library.predict(searched, query, found)
    pieces = searched.piece[found.first]
    alike = library._alike(searched, query, found, library.WEIGHTS)[1:, 1:]
    for one in range(0, len(found), 7):
        rest = np.nonzero(pieces != pieces[one])[0]
        expected = np.zeros(len(found))
        expected[rest] = np.linalg.solve(alike[np.ix_(rest, rest)] + library.NOISE * np.eye(len(rest)), alike[rest, one])
        np.testing.assert_allclose(weights[1 + one], expected, atol=1e-5)


def test_what_is_told_counts_as_far_as_it_held_among_the_stretches_themselves():
    rng = np.random.default_rng(2)
    told, weights = rng.normal(size=(5, 8, 3, 3)), np.vstack([rng.normal(size=(1, 8)), 2 * np.eye(8)])
    plain, pieces = np.tensordot(told, weights[0], (1, 0)), np.repeat(range(4), 2)
    np.testing.assert_allclose(retrieval._trusted(told, weights[:1], pieces, np.ones(8)), plain)
    np.testing.assert_allclose(
        retrieval._trusted(told, weights, pieces, np.ones(8)), plain / 2
    )  # told twice as large as it was
    weights[1:3] *= -1  # one of four pieces says the opposite
    assert np.all(np.abs(retrieval._trusted(told, weights, pieces, np.ones(8))) < np.abs(plain) / 3)
    weights[3:] *= -1
    assert not retrieval._trusted(told, weights, pieces, np.ones(8)).any()


def test_what_wild_stretches_say_of_each_other_does_not_count_for_a_calm_gap():
    rng = np.random.default_rng(4)
    told = rng.normal(size=(5, 8, 3, 3))
    told[:, :4] *= 1e-3  # calm ones, near the gap; all eight are told twice over, the calm ones by the wild
    weights = np.vstack([np.ones((1, 8)) / 8, np.eye(8)])
    weights[1:5, 4:] = np.eye(4)
    distance = np.repeat([0.1, 1.0], 4)
    found = retrieval._trusted(told, weights, np.tile(range(4), 2), distance)
    assert np.abs(found).max() < 0.1 * np.abs(np.tensordot(told, weights[0], (1, 0))).max()


def test_a_clip_is_continued_at_its_velocity_beyond_the_frames_that_may_be_read():
    clip = walk(0.0, 40, dtype=np.float64)
    found = library.resample(clip, np.array([9.0, 9.5, 20.5, 21.0]), 10, 20)
    np.testing.assert_allclose(found.root[0], 2 * clip.root[10] - clip.root[11], atol=1e-12)
    np.testing.assert_allclose(found.root[3], 2 * clip.root[20] - clip.root[19], atol=1e-12)
    np.testing.assert_allclose(found.root[2], 1.5 * clip.root[20] - 0.5 * clip.root[19], atol=1e-12)


@pytest.mark.parametrize(
    ("names", "pairs"),
    [
        (["Hips", "LeftUpLeg", "RightUpLeg"], [0, 2, 1]),
        (["mixamorig:Hips", "mixamorig:LeftArm", "mixamorig:RightArm"], [0, 2, 1]),
        (["hips", "hand.L.001", "hand.R.001", "tail"], [0, 2, 1, 3]),
        (["pelvis", "thigh_l", "thigh_r", "l_arm", "r_arm"], [0, 2, 1, 4, 3]),
        (["hip", "lShin", "rShin", "rButtock", "leg"], [0, 2, 1, 3, 4]),
        (["root", "lfemur", "rfemur", "lowerback"], [0, 2, 1, 3]),
    ],
)
def test_counterparts_go_by_name(names, pairs):
    assert mirrors.counterparts(names) == pairs


@pytest.mark.parametrize("seed", range(3))
def test_a_mirrored_clip_is_the_reflection_of_every_joint_and_twice_is_once(seed):
    rng = np.random.default_rng(seed)
    clip = walk(0.5, 20, dtype=np.float64)
    rest = quaternions.exp(rng.normal(size=(6, 3)))
    rest[[0, 1]] = quaternions.IDENTITY
    for left, right in ((2, 4), (3, 5)):
        rest[right] = rest[left] * [1, 1, -1, -1]  # the reflection in x = 0
    offsets = OFFSETS.copy()
    offsets[3], offsets[5] = (0.05, -0.4, 0.02), (-0.05, -0.4, 0.02)
    clip = clip.replace(
        rotations=quaternions.exp(rng.normal(size=(20, 6, 3))),
        rest=rest,
        offsets=offsets,
        translations={3: rng.normal(size=(20, 3))},
    )
    mirror = mirrors.mirror_of(clip)
    assert mirror is not None
    np.testing.assert_allclose(np.abs(mirror.normal), [1, 0, 0], atol=1e-12)
    image = mirrors.mirrored(clip, mirror)
    positions = clip.forward()[0] * [-1, 1, 1]
    np.testing.assert_allclose(
        image.forward()[0][:, mirror.joints][:, [0, 1, 2, 3, 4]], positions[:, [0, 1, 2, 3, 4]], atol=1e-9
    )
    again = mirrors.mirrored(image, mirror)
    np.testing.assert_allclose(np.abs(np.sum(again.rotations * clip.rotations, axis=-1)), 1, atol=1e-9)


def test_a_lopsided_skeleton_has_no_mirror():
    clip = walk(0.0, 3)
    assert mirrors.mirror_of(clip.replace(names=list("abcdef"))) is None
    offsets = OFFSETS.copy()
    offsets[5] *= 2
    assert mirrors.mirror_of(clip.replace(offsets=offsets)) is None


def test_solvers_say_what_they_do_and_need():
    listed = {solver.name: solver for solver in solvers()}
    assert {"spline", "slerp", "retrieval"} <= set(listed)
    assert "library" in listed["retrieval"].needs and all(solver.does for solver in listed.values())
