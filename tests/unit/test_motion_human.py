# SPDX-License-Identifier: GPL-3.0-or-later
"""The trained in-betweener on other humans than its own, on untrained weights: what holds whatever was learnt."""

import pathlib
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the trained in-betweener needs PyTorch")
pytest.importorskip("safetensors", reason="its weights are kept as safetensors")

from vivant.backends.common import rotations as quaternions  # noqa: E402
from vivant.backends.common.errors import NeedsEngine, NeedsWeights  # noqa: E402
from vivant.backends.motion import interpolate, optimise, solve, stand_in, trained  # noqa: E402
from vivant.backends.motion.clip import Clip  # noqa: E402
from vivant.backends.motion.retarget import retarget, sample  # noqa: E402
from vivant.backends.motion.transformer import body as bodies  # noqa: E402
from vivant.backends.motion.transformer import human, solver  # noqa: E402
from vivant.backends.motion.transformer import network as networks  # noqa: E402

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from small_human import body  # noqa: E402

LACKS = ("spine2", "toe.L", "toe.R", "collar.L", "collar.R", "finger.L", "finger.R")
ITS_OWN = body(leave=LACKS)  # every joint's axes are the world's
SIDES = {"L": "R", "R": "L"}
TWINS = [ITS_OWN.names.index(n[:-1] + SIDES[n[-1]]) if n[-2:] in (".L", ".R") else j for j, n in enumerate(ITS_OWN.names)]
BODY = bodies.Body(
    tuple(ITS_OWN.names), tuple(ITS_OWN.parents.tolist()),
    ((0.0, 0.0, 0.0), *(tuple(map(float, offset)) for offset in ITS_OWN.offsets[1:])), tuple(TWINS),
)  # fmt: skip


@pytest.fixture(scope="module")
def network() -> networks.Network:
    torch.manual_seed(0)
    network = networks.Network(BODY, networks.Size(width=32, layers=2, heads=2, short=16))
    network.spread.uniform_(0.2, 0.6)
    for head in (network.head, network.short.head):
        torch.nn.init.normal_(head.weight, std=0.2)
    return network.eval()


def moving(skeleton: Clip, frames: int = 60, seed: int = 0) -> Clip:
    """The skeleton swaying in all joints and walking off, from its rest pose."""
    rng = np.random.default_rng(seed)
    t = np.arange(frames)[:, None, None] / 12
    sway = 0.4 * np.sin(t * rng.uniform(0.5, 1.5, (len(skeleton.names), 3)) + rng.uniform(0, 6, (len(skeleton.names), 3)))
    way = np.cumsum(rng.normal(size=(frames, 3)) * 0.01, axis=0)
    turned = quaternions.multiply(np.tile(skeleton.rotations[:1], (frames, 1, 1)), quaternions.exp(sway))
    return skeleton.replace(rotations=quaternions.continuous(turned), root=skeleton.root[:1] + way)


def around_a_gap(clip: Clip, first: int = 20, last: int = 44) -> np.ndarray:
    keys = np.ones(clip.rotations.shape[:2], bool)
    keys[first : last + 1] = False
    return keys


def pelvis(clip: Clip) -> np.ndarray:
    return clip.forward()[0][:, list(clip.names).index("pelvis")]


def turns_from(a: Clip, b: Clip) -> np.ndarray:
    """World turns (F, J, 3) that lead from a's pose to b's."""
    return quaternions.log(quaternions.multiply(b.forward()[1], quaternions.conjugate(a.forward()[1])))


def test_its_own_body_is_filled_directly(network):
    clip = moving(ITS_OWN)
    for keys in (around_a_gap(clip), around_a_gap(clip) | (np.arange(len(clip.names)) < 4)):
        filled, said = human.fill(network, clip, keys)
        expected, _ = solver.fill(network, clip, keys)
        assert filled.rotations.tobytes() == expected.rotations.tobytes() and not said
        assert filled.root.tobytes() == expected.root.tobytes()


@pytest.mark.parametrize("seed", range(3))
def test_the_same_motion_on_another_rig_is_changed_alike(network, seed):
    """Size, facing and the axes of the bones do not matter: where it turns its own body, it turns the other."""
    skeleton = body(size=1.7, yaw=70.0, seed=seed, leave=LACKS)
    clip = moving(ITS_OWN, seed=seed)
    other = retarget(clip, skeleton)
    keys = around_a_gap(clip)
    # as the other's motion appears on the body: facing and rest pose are the same, and so is the floor
    back = retarget(other, human.standing(BODY))
    mine, theirs = solver.fill(network, back, keys)[0], human.fill(network, other, keys)[0]
    expected = turns_from(interpolate.cubic(back, keys), mine)
    found = turns_from(interpolate.cubic(other, keys), theirs)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(found, expected, atol=1e-5)
    shift = pelvis(mine) - pelvis(interpolate.cubic(back, keys))
    assert np.abs(shift).max() > 0.01
    np.testing.assert_allclose(pelvis(theirs) - pelvis(interpolate.cubic(other, keys)), 1.7 * shift, atol=1e-5)


@pytest.mark.parametrize(
    "skeleton",
    [
        body(size=0.6, drop=40.0, seed=1),
        body(size=1.7, drop=-20.0, yaw=-50.0, seed=2, leave=("toe.L", "toe.R")),
        body(leave=("spine1", "spine2", "foot.L", "foot.R", "toe.L", "toe.R", "neck", "head")),
    ],
)
@pytest.mark.parametrize("fps", [24.0, 29.97, 60.0])
@pytest.mark.parametrize("kind", ["whole", "arms anew", "legs anew", "breakdowns"])
def test_keys_stay_and_the_spline_is_left_only_inside_gaps(network, skeleton, fps, kind):
    clip = moving(skeleton).replace(fps=fps)
    keys = around_a_gap(clip)
    names = np.array(clip.names)
    part = {"arms anew": "arm|hand|collar", "legs anew": "thigh|shin|foot|toe"}.get(kind)
    if part:
        keys |= ~np.array([any(word in name for word in part.split("|")) for name in names])
    if kind == "breakdowns":
        keys |= np.random.default_rng(5).random(keys.shape) < 0.08
    plain = interpolate.cubic(clip, keys)
    filled, said = human.fill(network, clip, keys)
    assert not said
    assert np.array_equal(filled.rotations[keys], plain.rotations[keys])
    assert np.array_equal(filled.root[keys[:, 0]], plain.root[keys[:, 0]])
    assert np.abs(filled.rotations - plain.rotations)[20:45].max() > 1e-3
    np.testing.assert_allclose(np.linalg.norm(filled.rotations, axis=-1), 1, atol=1e-6)
    followers = [j for j, name in enumerate(names) if name.startswith(("finger", "toe", "collar"))]
    np.testing.assert_array_equal(filled.rotations[:, followers], plain.rotations[:, followers])
    if part:
        assert np.array_equal(filled.root, plain.root) and np.array_equal(filled.rotations[:, 0], plain.rotations[:, 0])


def test_twice_as_many_frames_a_second_change_alike(network):
    skeleton = body(size=0.8, seed=3)
    slow = moving(skeleton, 50)
    fast = sample(slow, np.arange(99) / 2).replace(fps=60.0)
    keys, twice = around_a_gap(slow, 20, 34), around_a_gap(fast, 39, 69)
    assert twice[::2].tolist() == keys.tolist()
    changes = [
        turns_from(interpolate.cubic(clip, known), human.fill(network, clip, known)[0])
        for clip, known in ((slow, keys), (fast, twice))
    ]
    assert np.abs(changes[0]).max() > 0.05
    np.testing.assert_allclose(changes[1][::2], changes[0], atol=5e-3)
    steps = np.abs(np.diff(changes[1], axis=0)).max(axis=(1, 2))
    assert steps.max() < 1.2 * np.abs(np.diff(changes[0], axis=0)).max()  # between them it does not jump


@pytest.mark.parametrize("fps", [8.0, 12.0, 23.976, 24.0, 25.0, 48.0, 60.0, 144.0])
@pytest.mark.parametrize("seed", range(3))
def test_every_end_of_a_gap_is_a_frame_of_the_network_s(fps, seed):
    rng = np.random.default_rng(seed)
    known = np.repeat(rng.random((40, 5)) < 0.5, 8, axis=0) | (rng.random((320, 5)) < 0.01)
    times, rate = stand_in.timeline(known, fps, 30.0)
    assert rate == 30 and times[0] == 0 and times[-1] == 319 and (np.diff(times) > 0).all()
    padded = np.pad(known, ((1, 1), (0, 0)), constant_values=True)
    ends = known & (~padded[:-2] | ~padded[2:])
    assert set(np.flatnonzero(ends.any(axis=1))) <= set(times.tolist())
    long = np.ones((600, 1), bool)
    long[100:400] = False
    times, _ = stand_in.timeline(long, fps, 30.0)
    assert np.diff(times).max() < 1.1 * fps / 30 + 0.01 and np.diff(times).min() > 0.9 * fps / 30 - 0.01


@pytest.mark.parametrize("lift", [0.0, -30.0, 4.0])
def test_the_floor_may_be_anywhere(network, lift):
    clip = moving(body(seed=4))
    keys = around_a_gap(clip)
    filled = human.fill(network, clip, keys)[0]
    raised = human.fill(network, clip.replace(root=clip.root + np.array([0, lift, 0])), keys)[0]
    # not the same floor to the last millimetre: it is taken from the motion only where it is far away
    assert np.abs(turns_from(filled, raised)).max() < (1e-9 if not lift else 0.2)
    np.testing.assert_allclose(raised.root - filled.root, np.tile([0, lift, 0], (60, 1)), atol=0.1)


def test_a_network_that_changes_nothing_leaves_the_spline_bit_for_bit(network):
    still = networks.Network(BODY, networks.Size(width=32, layers=2, heads=2, short=16)).eval()
    clip = moving(body(seed=4))
    for fps in (30.0, 50.0):
        clip = clip.replace(fps=fps)
        filled, _ = human.fill(still, clip, around_a_gap(clip))
        plain = interpolate.cubic(clip, around_a_gap(clip))
        turned = turns_from(plain, filled)
        assert np.abs(turned).max() < 2e-3  # the prior is computed in single precision
        outside = np.delete(np.arange(60), np.arange(20, 45))
        assert np.array_equal(filled.rotations[outside], plain.rotations[outside])


def test_the_place_of_a_pelvis_below_a_root_is_where_its_own_channel_is(network):
    clip = moving(body(seed=6))
    names = ["world", *clip.names]
    below = Clip(
        names, np.array([-1, *(clip.parents + 1)]), np.vstack([[[0, 0, 0]], clip.offsets]), 30.0,
        np.concatenate([np.tile([1.0, 0, 0, 0], (60, 1, 1)), clip.rotations], axis=1), np.zeros((60, 3)),
        np.vstack([[[1.0, 0, 0, 0]], clip.rest]), {1: clip.root},
    )  # fmt: skip
    keys = around_a_gap(clip)
    expected = human.fill(network, clip, keys)[0]
    filled = human.fill(network, below, np.concatenate([np.ones((60, 1), bool), keys], axis=1))[0]
    np.testing.assert_allclose(filled.translations[1], expected.root, atol=1e-4)
    np.testing.assert_allclose(filled.rotations[:, 1:], expected.rotations, atol=1e-9)
    assert not filled.root.any()
    # without a channel of the pelvis, the root carries it
    carried = below.replace(
        root=clip.root - clip.root[0], translations={}, offsets=np.vstack([[[0, 0, 0]], clip.root[:1], clip.offsets[1:]])
    )
    filled = human.fill(network, carried, around_a_gap(carried))[0]
    np.testing.assert_allclose(filled.root + clip.root[0], expected.root, atol=1e-4)


def test_seeds_give_other_takes_that_keep_the_keys_and_0_the_best(network):
    for skeleton in (ITS_OWN, body(seed=9)):
        clip = moving(skeleton, 120)
        keys = around_a_gap(clip, 20, 64) & around_a_gap(clip, 80, 94)
        takes = [human.fill(network, clip, keys, seed)[0] for seed in (0, 1, 2, 1, 0)]
        for take in takes:
            assert np.array_equal(take.rotations[keys], clip.rotations[keys])
        for one, other in ((0, 4), (1, 3)):
            assert takes[one].rotations.tobytes() == takes[other].rotations.tobytes()
        for one, other in ((0, 1), (0, 2), (1, 2)):
            assert np.abs(turns_from(takes[one], takes[other])).max() > 1e-3
        alone = human.fill(network, clip, around_a_gap(clip, 20, 64), 1)[0]
        np.testing.assert_allclose(alone.rotations[20:65], takes[1].rotations[20:65], atol=1e-4)


def test_names_that_say_nothing_are_mapped(network):
    clip = moving(body(seed=7))
    keys = around_a_gap(clip)
    strange = clip.replace(names=[f"bone {index}" for index in range(len(clip.names))])
    joints = [name for name in clip.names if not name.startswith("finger")]
    mapping = {name: f"bone {clip.names.index(name)}" for name in joints}
    filled, expected = human.fill(network, strange, keys, human=mapping)[0], human.fill(network, clip, keys)[0]
    np.testing.assert_array_equal(filled.rotations, expected.rotations)


def test_what_it_cannot_do_is_said_and_done_by_another(network, tmp_path, monkeypatch):
    networks.save(network, tmp_path / "ours.safetensors")
    options = {"weights": str(tmp_path / "ours.safetensors")}
    clip = moving(body(seed=8))
    keys = around_a_gap(clip)
    filled, report = solve.inbetween(clip, keys, **options)
    assert report.solver == "model" and report.fallback == "" and report.key_error == 0
    _, report = solve.inbetween(clip, keys, "model", human={name: name for name in ITS_OWN.names}, **options)
    assert report.solver == "model"

    planted, report = solve.inbetween(clip, keys, "model", feet=True, **options)
    assert report.solver == "model" and report.key_error == 0
    assert planted.rotations.tobytes() == optimise.optimise(clip, keys, filled).rotations.tobytes()
    assert planted.rotations.tobytes() != filled.rotations.tobytes()

    fox = clip.replace(names=[f"bone {index}" for index in range(len(clip.names))], offsets=clip.offsets[::-1])
    _, report = solve.inbetween(fox, keys, "model", **options)
    assert report.solver == "spline" and "no human" in report.fallback
    _, report = solve.inbetween(fox, keys, **options)
    assert report.solver == "spline" and report.fallback == ""
    _, report = solve.inbetween(clip, keys, "model", [clip], human={"pelvis": "thigh"}, **options)
    assert report.solver == "retrieval" and "'thigh'" in report.fallback

    hanging = clip.replace(parents=np.where(np.array(clip.names) == "foot.L", 0, clip.parents))
    _, report = solve.inbetween(hanging, keys, "model", **options)
    assert report.solver == "spline" and "foot.L' hangs on no leg" in report.fallback

    long = np.zeros(60, bool)
    long[[0, 59]] = True
    _, report = solve.inbetween(clip.replace(fps=10.0), long, "model", **options)
    assert report.solver == "spline" and "longer than the trained model fills" in report.fallback

    _, report = solve.inbetween(clip, keys, "model", weights=str(tmp_path / "absent"))
    assert report.solver == "spline" and "absent" in report.fallback
    with pytest.raises(NeedsWeights):
        trained.weight_file(str(tmp_path / "absent"))
    monkeypatch.setattr(trained, "PACKAGES", ("no_such_package",))
    _, report = solve.inbetween(clip, keys, "model", **options)
    assert report.solver == "spline" and "Install engine" in report.fallback
    _, report = solve.inbetween(clip, keys, **options)
    assert report.solver == "spline" and report.fallback == ""
    for name in ("auto", "model"):
        assert solve.needs_engine(name, clip, **options) and not solve.needs_engine(name, fox, **options)
    assert not solve.needs_engine("spline", clip)
    with pytest.raises(NeedsEngine):
        trained.fill(clip, keys, (), 0, **options)
