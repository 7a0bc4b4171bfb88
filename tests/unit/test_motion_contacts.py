# SPDX-License-Identifier: GPL-3.0-or-later
"""Feet are found, stand and step; limbs reach what they can."""

from __future__ import annotations

import numpy as np
import pytest

from vivant.backends.common import rotations as quaternions
from vivant.backends.motion import contacts, ik
from vivant.backends.motion.clip import Clip

HINGE = np.array([1.0, 0.0, 0.0])


def limb(angle: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A limb with pieces of 0.4 and 0.5 m that hangs down and bends forwards by an angle at the knee."""
    hip, knee = np.array([0.1, 1.0, 0.2]), np.array([0.1, 0.6, 0.2])
    return hip, knee, knee + 0.5 * np.array([0, -np.cos(angle), -np.sin(angle)])


def bent(hip: np.ndarray, knee: np.ndarray, ankle: np.ndarray, turns: tuple[np.ndarray, np.ndarray]) -> tuple:
    elbow = hip + quaternions.rotate(turns[0], knee - hip)
    return elbow, elbow + quaternions.rotate(turns[1], ankle - knee)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("angle", [0.0, 0.3, 1.5])
def test_a_limb_reaches_a_target_within_its_length_and_keeps_its_bones(seed: int, angle: float) -> None:
    rng = np.random.default_rng(seed)
    hip, knee, ankle = limb(angle)
    direction = rng.normal(size=3)
    target = hip + direction / np.linalg.norm(direction) * rng.uniform(0.12, 0.87)
    elbow, end = bent(hip, knee, ankle, ik.two_bone(hip, knee, ankle, target, HINGE))
    np.testing.assert_allclose(end, target, atol=1e-9)
    np.testing.assert_allclose([np.linalg.norm(elbow - hip), np.linalg.norm(end - elbow)], [0.4, 0.5], atol=1e-12)


def test_the_knee_angle_is_that_of_the_law_of_cosines() -> None:
    hip, knee, ankle = limb(0.8)
    target = hip + np.array([0.0, -0.7, 0.0])
    elbow, end = bent(hip, knee, ankle, ik.two_bone(hip, knee, ankle, target, HINGE))
    cosine = (hip - elbow) @ (end - elbow) / (0.4 * 0.5)
    assert cosine == pytest.approx((0.4**2 + 0.5**2 - 0.7**2) / (2 * 0.4 * 0.5), abs=1e-9)
    assert abs(elbow[0] - 0.1) < 1e-12  # the knee stays in its plane


@pytest.mark.parametrize("angle", [0.0, 0.01, 0.8])
def test_nothing_moves_where_the_target_is_the_ankle(angle: float) -> None:
    hip, knee, ankle = limb(angle)
    for turn in ik.two_bone(hip, knee, ankle, ankle, HINGE):
        np.testing.assert_allclose(np.abs(turn), quaternions.IDENTITY, atol=1e-7)


def test_a_limb_straightens_towards_what_it_cannot_reach_without_a_snap() -> None:
    hip, knee, ankle = limb(0.8)
    reach = np.linspace(0.5, 1.5, 400)[:, None]
    target = hip + reach * np.array([0.0, -1.0, 0.0])
    joints = (np.broadcast_to(joint, target.shape) for joint in (hip, knee, ankle))
    _, end = bent(hip, knee, ankle, ik.two_bone(*joints, target, np.broadcast_to(HINGE, target.shape)))
    length = np.linalg.norm(end - hip, axis=-1)
    assert np.all(np.diff(length) >= -1e-12) and length[-1] <= 0.9 + 1e-12
    assert np.abs(np.diff(length, 2)).max() < 1e-3


def test_the_shortest_arc_turns_opposite_directions_into_each_other() -> None:
    a = np.array([[1.0, 0, 0], [0, 2.0, 0], [1.0, 1, 1], [0, 0, 0]])
    b = np.array([[-1.0, 0, 0], [0, -1.0, 0], [0, 0, 2.0], [1.0, 0, 0]])
    turned = quaternions.rotate(ik.shortest_arc(a, b), a)
    for got, before, wanted in zip(turned[:3], a[:3], b[:3], strict=True):
        np.testing.assert_allclose(got / np.linalg.norm(before), wanted / np.linalg.norm(wanted), atol=1e-12)
    np.testing.assert_array_equal(ik.shortest_arc(a, b)[3], quaternions.IDENTITY)


def skeleton(names: list[str], parents: list[int], offsets: list[list[float]]) -> Clip:
    still = np.tile(quaternions.IDENTITY, (3, len(names), 1))
    return Clip(names, np.array(parents), np.array(offsets, float), 30.0, still, np.zeros((3, 3)))


LEGGED = [-1, 0, 1, 2, 3, 0, 5, 6, 7]
BONES = [[0, 0, 0], *([[s, 0, 0], [0, -0.4, 0], [0, -0.4, 0], [0, 0, 0.1]] for s in (0.1, -0.1))]
LEGS = [BONES[0], *BONES[1], *BONES[2]]


@pytest.mark.parametrize(
    "names",
    [
        ["Hips", "LeftUpLeg", "LeftLeg", "LeftFoot", "LeftToeBase", "RightUpLeg", "RightLeg", "RightFoot", "RightToeBase"],
        ["root", "lfemur", "ltibia", "lfoot", "ltoes", "rfemur", "rtibia", "rfoot", "rtoes"],
        ["pelvis", "thigh_l", "calf_l", "foot_l", "ball_l", "thigh_r", "calf_r", "foot_r", "ball_r"],
    ],
)
def test_legs_are_found_by_the_names_of_many_rigs(names: list[str]) -> None:
    assert contacts.find_legs(skeleton(names, LEGGED, LEGS)) == (contacts.Leg(1, 2, 3, 4), contacts.Leg(5, 6, 7, 8))


def test_legs_without_names_are_mirrored_limbs_that_hang_to_the_ground() -> None:
    legs = contacts.find_legs(skeleton([f"bone{i}" for i in range(9)], LEGGED, LEGS))
    assert {leg.contact for leg in legs} == {4, 8}


def test_a_snake_and_a_single_joint_have_no_legs() -> None:
    snake = skeleton(["head", *(f"tail{i}" for i in range(8))], [-1, *range(8)], [[0, 0, 0], *[[0, 0, -0.2]] * 8])
    assert contacts.find_legs(snake) == () == contacts.find_legs(skeleton(["Foot"], [-1], [[0, 0, 0]]))


APART = ["root", "body", "a0", "a1", "b0", "b1", "a2", "a3", "b2", "b3", "pole"]  # legs a and b, feet a2, b2 on the root


def test_feet_that_hang_on_the_root_are_found_below_the_limbs_that_follow_them() -> None:
    pairs = [[[s, 0, 0], [0, -0.4, 0]] for s in (0.1, -0.1)]
    feet = [[[s, 0.05, 0], [0, -0.05, 0.1]] for s in (0.1, -0.1)]
    offsets = [[0, 0, 0], [0, 0.9, 0], *pairs[0], *pairs[1], *feet[0], *feet[1], [0, 0.45, 0.5]]
    parents = [-1, 0, 1, 2, 1, 4, 0, 6, 0, 8, 0]
    legs = contacts.find_legs(skeleton(APART, parents, offsets))
    assert legs == (contacts.Leg(2, 3, 6, 7, apart=True), contacts.Leg(4, 5, 8, 9, apart=True))
    offsets[8] = [-0.6, 0.05, 0.8]  # no pair: nothing says that these are feet
    assert contacts.find_legs(skeleton(APART, parents, offsets)) == ()


def test_fins_that_hang_down_are_no_legs() -> None:
    assert contacts.find_legs(skeleton([f"fin_{i}" for i in range(9)], LEGGED, LEGS)) == ()


def test_contact_begins_below_one_height_and_ends_above_another() -> None:
    heights = np.array([0.1, 0.04, 0.02, 0.04, 0.055, 0.07, 0.05, 0.01])
    np.testing.assert_array_equal(contacts.touching(heights, 0.03, 0.06), [0, 0, 1, 1, 1, 0, 0, 1])
    assert contacts.runs(contacts.touching(heights, 0.03, 0.06)) == [(2, 4), (7, 7)]


def glide(way: float, frames: int = 31) -> tuple[np.ndarray, np.ndarray]:
    """Two feet that glide `way` metres along Z between a fixed first and last frame, one ahead of the other."""
    path = np.zeros((frames, 2, 3))
    path[..., 2] = np.linspace(0, way, frames)[:, None] + np.array([0.0, 0.1])
    fixed = np.zeros((frames, 2), bool)
    fixed[[0, -1]] = True
    return path, fixed


def test_a_foot_that_hardly_moves_between_its_keys_stands_and_meets_both() -> None:
    path, fixed = glide(0.02)
    plan = contacts.plan(path, fixed, np.array([0.8, 0.8]), 30, 0.0)
    np.testing.assert_array_equal(plan.places[fixed], path[fixed])
    assert plan.standing.all()


@pytest.mark.parametrize("way", [0.3, 1.0, 2.5])
def test_a_gliding_pair_of_feet_steps_in_turn_from_key_to_key(way: float) -> None:
    path, fixed = glide(way, 46)
    plan = contacts.plan(path, fixed, np.array([0.8, 0.8]), 30, 0.0)
    np.testing.assert_array_equal(plan.places[fixed], path[fixed])
    step = np.linalg.norm(np.diff(plan.places, axis=0), axis=-1)
    assert np.all(step[plan.standing[1:] & plan.standing[:-1]] < 1e-9)
    assert plan.standing.any(axis=1).all()  # never both in the air
    assert plan.standing[:, 0].sum() < 46 and plan.places[..., 1].min() >= 0


def test_feet_high_in_the_air_and_gaps_open_at_one_side_are_left_alone() -> None:
    path, fixed = glide(1.0)
    path[..., 1] = 0.5
    assert not contacts.plan(path, fixed, np.array([0.8, 0.8]), 30, 0.0).near.any()
    path, fixed = glide(1.0)
    fixed[-1] = False
    assert not contacts.plan(path, fixed, np.array([0.8, 0.8]), 30, 0.0).near.any()


def test_painted_contact_replaces_what_was_found() -> None:
    path, fixed = glide(1.0)
    painted = np.zeros(fixed.shape, bool)
    painted[10:20, 0] = True
    plan = contacts.plan(path, fixed, np.array([0.8, 0.8]), 30, 0.0, painted=painted)
    np.testing.assert_array_equal(contacts.runs(plan.standing[:, 0]), [(10, 19)])
    assert np.ptp(plan.places[13:17, 0], axis=0).max() < 1e-9


def test_a_foot_stands_where_most_of_its_known_low_steps_are_slow() -> None:
    path, _ = glide(3.0)
    size, known = np.array([0.8, 0.8]), np.ones((31, 2), bool)
    assert not contacts.stands(path, size, 30, 0.0, known)
    still = path.copy()
    still[:16] = path[:1]
    assert contacts.stands(still, size, 30, 0.0, known)
    known[4:] = False
    known[:3, 1] = False
    assert contacts.stands(path, size, 30, 0.0, known)  # three steps tell nothing


def test_the_feet_of_a_body_that_lies_are_left_alone_from_where_it_sinks() -> None:
    path, fixed = glide(1.0)
    size, hips = np.array([0.8, 0.8]), path + np.array([0.0, 0.8, 0.0])
    hips[12:, :, 1] = 0.1
    bears = contacts.bearing(hips, size, 0.0)
    np.testing.assert_array_equal(bears[:, 0], np.arange(31) < 12)
    plan = contacts.plan(path, fixed, size, 30, 0.0, bears)
    assert plan.standing[:12].any(axis=1).all() and not plan.near[12:].any()
    assert contacts.plan(path, fixed, size, 30, 0.0, bears, painted=~fixed).standing[~fixed].all()  # unless painted


def test_what_never_comes_near_the_ground_is_no_foot() -> None:
    path, _ = glide(1.0)
    path[:, 1, 1] = 0.9
    known = np.ones((31, 2), bool)
    lowest, size = np.zeros(31), np.array([0.8, 0.8])
    np.testing.assert_array_equal(contacts.reaching(path, lowest, size, known), [True, False])
    np.testing.assert_array_equal(contacts.reaching(path, lowest, size, ~known), [True, True])
