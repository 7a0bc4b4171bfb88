# SPDX-License-Identifier: GPL-3.0-or-later
"""The trained in-betweener on untrained weights: what holds whatever was learnt."""

import importlib.util
import math
import pathlib
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the trained in-betweener needs PyTorch")
pytest.importorskip("safetensors", reason="its weights are kept as safetensors")

from vivant.backends.common import rotations as quaternions  # noqa: E402
from vivant.backends.common.errors import BrokenFile, NeedsWeights  # noqa: E402
from vivant.backends.motion import solve, spline  # noqa: E402
from vivant.backends.motion.clip import Clip  # noqa: E402
from vivant.backends.motion.transformer import body as bodies  # noqa: E402
from vivant.backends.motion.transformer import network as networks  # noqa: E402
from vivant.backends.motion.transformer import prior, rotations, solver  # noqa: E402

NAMES = ("hip", "lThigh", "rThigh", "lShin", "rShin", "chest", "lHand", "rHand")
PARENTS = (-1, 0, 0, 1, 2, 0, 5, 5)
OFFSETS = ((0, 0, 0), (0.1, -0.1, 0), (-0.1, -0.1, 0), (0, -0.4, 0), (0, -0.4, 0), (0, 0.3, 0), (0.6, 0, 0), (-0.6, 0, 0))
BODY = bodies.Body(NAMES, PARENTS, tuple(tuple(map(float, o)) for o in OFFSETS), (0, 2, 1, 4, 3, 5, 7, 6))


def moving(frames: int = 120, seed: int = 0, fps: float = 30.0) -> Clip:
    rng = np.random.default_rng(seed)
    t = np.arange(frames)[:, None, None] / 12
    wave = 0.5 * np.sin(t * rng.uniform(0.5, 1.5, (8, 3)) + rng.uniform(0, 6, (8, 3)))
    root = np.cumsum(rng.normal(size=(frames, 3)) * 0.01, axis=0) + np.array([3, 1, -2])
    quats = quaternions.continuous(quaternions.exp(wave)).astype(np.float32)
    return Clip(NAMES, np.array(PARENTS), np.array(OFFSETS), fps, quats, root.astype(np.float32))


def untrained(seed: int = 0) -> networks.Network:
    torch.manual_seed(seed)
    network = networks.Network(BODY, networks.Size(width=32, layers=2, heads=2, short=16))
    network.spread.uniform_(0.05, 0.2)
    for head in (network.head, network.short.head):
        torch.nn.init.normal_(head.weight, std=0.5)
    return network.eval()


def inbetween(clip: Clip, keys: np.ndarray, network: networks.Network) -> tuple[Clip, solve.Report]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(solve.SOLVERS, "model", solver.solver(network))
        return solve.inbetween(clip, keys, "model")


def frames_keyed(clip: Clip, *frames: int | slice) -> np.ndarray:
    keys = np.zeros(len(clip), bool)
    for frame in frames:
        keys[frame] = True
    return keys


KEYS = {
    "whole poses": lambda rng: (rng.random((120, 1)) < 0.1).repeat(8, 1),
    "partial": lambda rng: rng.random((120, 8)) < 0.3,
    "an arm anew": lambda rng: (np.arange(120) < 30)[:, None] | (np.arange(120) > 80)[:, None] | (np.arange(8) != 6),
    "joints without keys": lambda rng: (rng.random((120, 1)) < 0.1) & (np.arange(8) < 6),
}


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("seed", range(3))
def test_keyed_values_come_back_bit_for_bit_and_the_rest_is_never_read(kind, seed):
    clip = moving(seed=seed)
    clip.rotations[40:] *= -1  # keys keep their sign
    keys = KEYS[kind](np.random.default_rng(seed))
    blind = clip.replace(
        rotations=np.where(keys[..., None], clip.rotations, np.float32(np.nan)),
        root=np.where(keys[:, :1], clip.root, np.float32(np.nan)),
    )
    filled, report = inbetween(blind, keys, untrained())
    assert filled.rotations[keys].tobytes() == clip.rotations[keys].tobytes()
    assert filled.root[keys[:, 0]].tobytes() == clip.root[keys[:, 0]].tobytes()
    assert np.isfinite(filled.rotations).all() and np.isfinite(filled.root).all()
    assert report.key_error == 0
    np.testing.assert_allclose(np.linalg.norm(filled.rotations, axis=-1), 1, atol=1e-5)


@pytest.mark.parametrize("gap", [1, 5, 8, 9, 30, 90])
def test_gaps_up_to_the_longest_are_the_models_and_frames_without_a_gap_the_splines(gap):
    clip = moving(140)
    keys = frames_keyed(clip, slice(5, 20), slice(20 + gap, 130))
    filled, report = inbetween(clip, keys, untrained())
    plain, _ = solve.inbetween(clip, keys, "spline")
    assert report.solver == "model"
    inside = slice(20, 20 + gap)
    assert (np.abs(filled.rotations - plain.rotations)[inside].max(axis=(1, 2)) > 1e-3).all()
    outside = np.delete(np.arange(140), np.arange(140)[inside])
    np.testing.assert_array_equal(filled.rotations[outside], plain.rotations[outside])
    np.testing.assert_array_equal(filled.root[outside], plain.root[outside])


def test_a_gap_is_filled_alike_alone_and_beside_others():
    clip, network = moving(), untrained()
    both = inbetween(clip, frames_keyed(clip, slice(0, 20), slice(30, 60), slice(90, 120)), network)[0]
    for keys in (frames_keyed(clip, slice(0, 20), slice(30, 120)), frames_keyed(clip, slice(0, 60), slice(90, 120))):
        alone = inbetween(clip, keys, network)[0]
        np.testing.assert_allclose(alone.rotations[~keys], both.rotations[~keys], atol=1e-5)


def test_place_heading_and_side_do_not_matter():
    clip, network = moving(60), untrained()
    keys = frames_keyed(clip, slice(0, 20), slice(45, 60))
    filled = inbetween(clip, keys, network)[0]
    turn = np.array([math.cos(0.9), 0, math.sin(0.9), 0], np.float32)
    rotated = clip.rotations.copy()
    rotated[:, 0] = quaternions.multiply(turn, rotated[:, 0])
    elsewhere = clip.replace(rotations=rotated, root=quaternions.rotate(turn, clip.root) + np.array([5, 0, -7], np.float32))
    moved = inbetween(elsewhere, keys, network)[0]
    back = quaternions.rotate(quaternions.conjugate(turn), moved.root - np.array([5, 0, -7], np.float32))
    np.testing.assert_allclose(back, filled.root, atol=2e-5)
    np.testing.assert_allclose(moved.rotations[:, 1:], filled.rotations[:, 1:], atol=2e-5)
    twins, sides = list(BODY.mirror), np.array([1, 1, -1, -1], np.float32)
    other = clip.replace(rotations=clip.rotations[:, twins] * sides, root=clip.root * np.array([-1, 1, 1], np.float32))
    mirrored = inbetween(other, keys, network)[0]
    np.testing.assert_allclose(mirrored.rotations[:, twins] * sides, filled.rotations, atol=2e-5)


def test_a_larger_character_moves_alike():
    clip, network = moving(60), untrained()
    keys = frames_keyed(clip, slice(0, 20), slice(45, 60))
    large = clip.replace(offsets=clip.offsets * 2.5, root=clip.root * np.float32(2.5))
    filled, large = (inbetween(c, keys, network)[0] for c in (clip, large))
    np.testing.assert_allclose(large.root, filled.root * 2.5, atol=1e-4)
    np.testing.assert_allclose(large.rotations, filled.rotations, atol=2e-5)


def test_joints_that_the_network_does_not_know_get_the_spline():
    clip = moving(60)
    more = Clip(
        [*NAMES, "tail"], np.array([*PARENTS, 0]), np.vstack([clip.offsets, [[0, 0, -0.3]]]), 30,
        np.concatenate([clip.rotations, clip.rotations[:, 3:4]], axis=1), clip.root,
    )  # fmt: skip
    keys = frames_keyed(clip, slice(0, 20), slice(45, 60))
    filled, report = inbetween(more, keys, untrained())
    assert report.solver == "model"
    np.testing.assert_array_equal(filled.rotations[:, 8], solve.inbetween(more, keys, "spline")[0].rotations[:, 8])
    np.testing.assert_array_equal(filled.rotations[:, :8], inbetween(clip, keys, untrained())[0].rotations)


def strange(kind: str) -> tuple[Clip, np.ndarray, str]:
    clip = moving()
    keys = frames_keyed(clip, slice(0, 20), slice(45, 120))
    if kind == "name":
        return clip.replace(names=["root", *NAMES[1:]]), keys, "no hip"
    if kind == "proportions":
        return clip.replace(offsets=clip.offsets * np.array([1, 2, 1])), keys, "proportions"
    if kind == "hierarchy":
        return clip.replace(parents=np.array([-1, 0, 0, 1, 1, 0, 5, 5])), keys, "hangs elsewhere"
    if kind == "fps":
        return clip.replace(fps=60.0), keys, "60"
    if kind == "stretching":
        return clip.replace(translations={3: np.zeros((120, 3))}), keys, "away from their parents"
    return clip, frames_keyed(clip, slice(0, 20), slice(111, 120)), "longer than the trained model fills"


@pytest.mark.parametrize("kind", ["name", "proportions", "hierarchy", "fps", "stretching", "long"])
def test_what_the_network_cannot_do_gets_the_spline_and_says_why(kind):
    clip, keys, reason = strange(kind)
    filled, report = inbetween(clip, keys, untrained())
    plain, _ = solve.inbetween(clip, keys, "spline")
    assert report.solver == "spline" and reason in report.fallback
    np.testing.assert_array_equal(filled.rotations, plain.rotations)
    np.testing.assert_array_equal(filled.root, plain.root)


@pytest.mark.parametrize("seed", range(8))
def test_the_prior_is_the_spline(seed):
    rng = np.random.default_rng(seed)
    clip = moving(70, seed)
    known = rng.random((70, 8)) < rng.uniform(0.05, 0.7)
    known[rng.integers(70, size=8), np.arange(8)] = True
    for run in range(0, 60, 20):  # poses in a row too, so that velocities are measured
        known[run : run + 5] |= rng.random(8) < 0.5
    around = prior.neighbours(torch.from_numpy(known.T.copy()))
    ours = prior.fill_rotations(torch.from_numpy(np.moveaxis(clip.rotations, (2, 1), (0, 1)).copy()), around)
    np.testing.assert_allclose(
        np.moveaxis(ours.numpy(), (0, 1), (2, 1)), spline.fill_rotations(clip.rotations, known), atol=2e-5
    )
    ours = prior.fill_vectors(torch.from_numpy(clip.root.T.copy()), around.of(0))
    np.testing.assert_allclose(ours.numpy().T, spline.fill_vectors(clip.root, known[:, :1].repeat(3, 1)), atol=2e-5)


def test_torch_and_numpy_agree_on_rotations_and_on_where_joints_are():
    clip = moving(20)
    turns = torch.from_numpy(np.moveaxis(clip.rotations, (2, 1), (0, 1)).copy())[:, :, None]
    places, world = bodies.forward_kinematics(BODY, turns, torch.from_numpy(clip.root.T.copy())[:, None])
    positions, quats = clip.forward()
    np.testing.assert_allclose(places[:, :, 0].permute(2, 1, 0), positions, atol=1e-5)
    np.testing.assert_allclose(world[:, :, 0].permute(2, 1, 0), quats, atol=1e-5)
    vectors = np.random.default_rng(0).normal(size=(50, 3))
    vectors *= np.minimum(1, 3 / np.linalg.norm(vectors, axis=1, keepdims=True))
    turned = rotations.exp(torch.from_numpy(vectors.T))
    np.testing.assert_allclose(turned.T, quaternions.exp(vectors), atol=1e-12)
    np.testing.assert_allclose(rotations.log(turned).T, vectors, atol=1e-9)
    matrix = quaternions.matrix(turned.T.numpy())
    np.testing.assert_allclose(rotations.axes(turned).T, np.concatenate([matrix[..., 0], matrix[..., 1]], -1), atol=1e-12)


def test_weights_are_read_back_and_bad_files_are_refused(tmp_path):
    network = untrained()
    networks.save(network, tmp_path / "weights.safetensors")
    read = networks.load(tmp_path / "weights.safetensors")
    assert read.body == network.body and read.size == network.size
    for name, value in network.state_dict().items():
        np.testing.assert_allclose(read.state_dict()[name], value, rtol=1e-3, atol=1e-6)
    with pytest.raises(NeedsWeights):
        networks.load(tmp_path / "absent.safetensors")
    for junk in (b"", b"junk" * 100):
        (tmp_path / "junk.safetensors").write_bytes(junk)
        with pytest.raises(BrokenFile):
            networks.load(tmp_path / "junk.safetensors")


def training():
    path = pathlib.Path(__file__).resolve().parents[2] / "tools" / "train_inbetween.py"
    spec = importlib.util.spec_from_file_location("train_inbetween", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["train_inbetween"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("part", ["long", "short"])
def test_training_goes_on_as_if_it_had_not_stopped_and_leaves_the_other_part(tmp_path, monkeypatch, part):
    tool = training()
    monkeypatch.setattr(tool, "AT_ONCE", (8, 6, 4, 4, 2))
    monkeypatch.setattr(tool, "SAMPLES", 16)
    takes = [tool._mocap.Take(**vars(moving(300, seed))) for seed in range(5)]
    splits = {"train": takes[:4], "heldout_take": takes[4:]}

    def trainer():
        torch.manual_seed(0)
        return tool.Trainer(splits, networks.Size(width=32, layers=1, heads=2, short=16), 1e-3, part)

    straight = trainer()
    straight.calibrate()
    before = {name: weight.clone() for name, weight in straight.net.named_parameters()}
    assert (straight.units[1:] > 0).all() and (straight.net.spread[:, 1, 1] > 0).all()
    for _ in range(2):
        straight.advance(1)
    tool.keep(straight.state(), tmp_path / "checkpoint.pt")
    expected = [straight.advance(1) for _ in range(3)]
    resumed = trainer()
    resumed.restore(torch.load(tmp_path / "checkpoint.pt", weights_only=True))
    assert [resumed.advance(1) for _ in range(3)] == expected
    assert resumed.step == 5 and resumed.windows == straight.windows
    for name, weight in resumed.net.named_parameters():
        assert torch.equal(weight, before[name]) == (name.startswith("short.") != (part == "short")), name
    assert len(resumed.cuts("heldout_take", 10, 4)) == (1 if part == "short" else 3)

    networks.save(straight.average, tmp_path / "weights.safetensors")
    fresh = trainer()
    own = {name: values.clone() for name, values in fresh.net.state_dict().items()}
    fresh.adopt(tmp_path / "weights.safetensors")
    for name, values in fresh.net.state_dict().items():
        adopted = name.startswith("short.") != (part == "short")
        expected_values = straight.average.state_dict()[name].half().float() if adopted else own[name]
        assert torch.equal(values, expected_values), name
