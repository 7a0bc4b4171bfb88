# SPDX-License-Identifier: GPL-3.0-or-later
"""Retargeting keeps what the motion looks like: where limbs point, where feet stand, where the body goes."""

import pathlib
import sys

import numpy as np
import pytest

from vivant.backends.common import rotations as quaternions
from vivant.backends.common.errors import VivantError
from vivant.backends.motion import humanoid
from vivant.backends.motion.formats.bvh import read_bvh
from vivant.backends.motion.retarget import resample, rest_pose, retarget

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from small_human import PLACES, body

LIMBS = [(f"{a}.{s}", f"{b}.{s}") for s in "LR" for a, b in (("thigh", "shin"), ("shin", "foot"), ("upper_arm", "forearm"))]


def moving(clip, seed):
    """The clip with every joint turned and the root travelling."""
    rng = np.random.default_rng(seed)
    turns = quaternions.exp(rng.normal(size=(*clip.rotations.shape[:2], 3)) * 0.4)
    return clip.replace(
        rotations=quaternions.multiply(clip.rotations, turns), root=clip.root + rng.normal(size=clip.root.shape)
    )


def direction(clip, a, b):
    places = clip.forward()[0]
    way = places[:, list(clip.names).index(b)] - places[:, list(clip.names).index(a)]
    return way / np.linalg.norm(way, axis=-1, keepdims=True)


@pytest.mark.parametrize("seed", range(5))
def test_on_the_same_rig_nothing_changes(seed):
    clip = moving(body(frames=4, seed=seed), seed + 100)
    result = retarget(clip, body(seed=seed))
    for mine, theirs in zip(result.forward(), clip.forward(), strict=True):
        assert np.allclose(np.abs(mine), np.abs(theirs), atol=1e-9)
    assert np.allclose(np.abs(np.sum(result.rotations * clip.rotations, axis=-1)), 1, atol=1e-12)


def test_a_t_pose_gives_horizontal_arms_on_an_a_pose_rig():
    result = retarget(body(frames=1), body(drop=45.0, seed=3))
    for side, sign in (("L", 1), ("R", -1)):
        for a, b in (("upper_arm", "forearm"), ("forearm", "hand"), ("hand", "finger")):
            assert np.allclose(direction(result, f"{a}.{side}", f"{b}.{side}"), [sign, 0, 0], atol=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_limbs_point_where_the_source_s_do_whatever_the_rig_s_axes_rest_pose_size_and_facing(seed):
    source = moving(body(frames=3, seed=seed), seed)
    target = body(size=1.7, drop=30.0, yaw=90.0, seed=seed + 50, leave=("spine2", "toe.L", "toe.R"))
    result = retarget(source, target)
    for a, b in LIMBS:
        assert np.allclose(direction(result, a, b), direction(source, a, b), atol=1e-9), a


def test_the_way_travelled_is_scaled_by_the_height_of_the_hips_or_left_out():
    source = body(frames=2)
    source = source.replace(root=source.root + np.array([[0, 0, 0], [1.0, 0.1, 2.0]]))
    far, here = (retarget(source, body(size=0.5), in_place=flag) for flag in (False, True))
    assert np.allclose(far.root[1] - far.root[0], [0.5, 0.05, 1.0])
    assert np.allclose(here.root[1] - here.root[0], [0, 0.05, 0])
    assert np.allclose(far.forward()[0][0], rest_pose(body(size=0.5))[0])


def test_a_pelvis_below_other_bones_travels_by_itself():
    target = body()
    under = target.replace(
        names=["root", *target.names],
        parents=np.concatenate([[-1], target.parents + 1]),
        offsets=np.concatenate([[[0, 0.2, 0]], target.offsets[:1] - [0, 0.2, 0], target.offsets[1:]]),
        rotations=np.concatenate([quaternions.IDENTITY[None, None], target.rotations], axis=1),
        rest=np.concatenate([quaternions.IDENTITY[None], target.rest]),
        root=np.array([[0, 0.2, 0]]),
    )
    source = moving(body(frames=3, seed=1), 2)
    result = retarget(source, under)
    assert np.allclose(result.root, [0, 0.2, 0]), "bones above the pelvis stand still"
    assert np.allclose(result.forward()[0][:, 1], source.root)


def test_feet_that_hang_on_no_leg_follow_the_shins():
    target = body()
    places, parents = rest_pose(target)[0], target.parents.copy()
    for side in "LR":
        parents[target.names.index(f"foot.{side}")] = 0
    offsets = np.where(parents[:, None] >= 0, places - places[parents], places)
    source = moving(body(frames=3, seed=1), 2)
    result = retarget(source, target.replace(parents=parents, offsets=offsets))
    assert np.allclose(result.forward()[0][:, :-1], retarget(source, target).forward()[0][:, :-1])


@pytest.mark.parametrize("missing", ["spine1", "spine2"])
def test_a_bend_is_spread_over_fewer_spine_bones(missing):
    source = body(frames=1)
    source.rotations[0, 1:4] = quaternions.exp(np.array([0.2, 0.0, 0.0]))  # 0.6 in all, at the chest
    result = retarget(source, body(leave=(missing,)))
    chest = result.forward()[1][0, result.names.index("spine3")]
    assert np.allclose(quaternions.log(chest), [0.6, 0, 0])
    other = result.forward()[1][0, result.names.index("spine1" if missing == "spine2" else "spine2")]
    assert 0.1 < quaternions.log(other)[0] < 0.5


def test_resampling_keeps_the_time_and_follows_the_short_way():
    clip = body(frames=3)
    clip.rotations[:, 0] = quaternions.exp(np.array([[0, 0, 0], [0, 0.6, 0], [0, 1.2, 0]], float))
    clip.rotations[1, 0] *= -1
    fine = resample(clip, 60.0)
    assert len(fine) == 5 and fine.fps == 60.0
    assert np.allclose(quaternions.log(fine.rotations[:, 0])[:, 1], [0, 0.3, 0.6, 0.9, 1.2])


def test_a_mapping_may_be_given_and_is_checked():
    names = [f"b{index}" for index in range(len(PLACES))]
    human = {joint: name for joint, name in zip(PLACES, names, strict=True) if joint in humanoid.JOINTS}
    source = moving(body(frames=2, seed=4), 5)
    result = retarget(source, body(seed=4).replace(names=names), target_human=human)
    assert np.allclose(result.forward()[0][:, :-1], source.forward()[0][:, :-1])
    with pytest.raises(VivantError, match=r"lacks thigh\.L"):
        retarget(source, body(), target_human={k: k for k in human if k != "thigh.L"})
    with pytest.raises(VivantError, match="'nobody'"):
        retarget(source, body(), target_human={**{k: k for k in human}, "head": "nobody"})


def test_a_captured_walk_keeps_its_feet_on_the_floor_and_its_limbs_directions(data):
    # Its first frame is a T-pose far below; its floor lies 0.8 m under the origin.
    walk = read_bvh(data / "mocap" / "bvh" / "cmu_07_12_walk_120fps.bvh")
    walk = walk.replace(rotations=walk.rotations[1:], root=walk.root[1:])
    result = retarget(walk, body(size=0.9))
    feet = [result.names.index(f"foot.{side}") for side in "LR"]
    lowest = result.forward()[0][:, feet, 1].min(axis=1)
    assert abs(np.percentile(lowest, 5) - 0.9 * 0.08) < 0.01, "the ankle that stands is at its height in the rest pose"
    for mine, theirs in (("thigh shin", "Thigh Shin"), ("shin foot", "Shin Foot"), ("upper_arm forearm", "Shldr ForeArm")):
        for side in "LR":
            here = direction(result, *(f"{part}.{side}" for part in mine.split()))
            there = direction(walk, *(side.lower() + part for part in theirs.split()))
            assert np.all(np.sum(here * there, axis=-1) > np.cos(np.radians(0.1)))
