# SPDX-License-Identifier: GPL-3.0-or-later
"""The networks of phase: NumPy runs what torch trains, they learn signals whose period is known, and are kept in a file."""

import numpy as np
import pytest

from vivant.backends.common import rotations as quaternions
from vivant.backends.common.errors import BrokenFile, NeedsWeights, VivantError
from vivant.backends.motion.clip import Clip

torch = pytest.importorskip("torch", reason="the phase network needs torch")

from vivant.backends.motion.phase import (  # noqa: E402
    autoencoder,
    edit,
    model,
    network,
    parts,
    periodic,
    sampler,
    training,
)

NAMES = "hips LeftArm LeftForeArm LeftHand RightArm RightForeArm RightHand".split()
PARENTS = [-1, 0, 1, 2, 0, 4, 5]
PARTS = parts.find(NAMES, PARENTS)


def swinging(hertz: float, frames: int = 200, seed: int = 0, fps: float = 30) -> Clip:
    rng = np.random.default_rng(seed)
    t = np.arange(frames)[:, None, None] / fps
    wave = np.sin(2 * np.pi * (hertz * t + np.array([0, 0, 0.1, 0.2, 0.5, 0.6, 0.7])[:, None]))
    rotations = quaternions.exp(wave * np.array([[0, 0, 0.4]]) + rng.normal(size=(7, 3)) * 0.02)
    offsets = np.array([[0, 0, 0], [0.1, 0.4, 0], [0, -0.3, 0], [0, -0.3, 0], [-0.1, 0.4, 0], [0, -0.3, 0], [0, -0.3, 0]])
    return Clip(NAMES, np.array(PARENTS), offsets, fps, rotations, np.zeros((frames, 3)))


@pytest.fixture(scope="module")
def models():
    torch.set_num_threads(1)
    clips = [swinging(hertz, seed=seed) for seed, hertz in enumerate(np.linspace(0.6, 1.6, 12))]
    return training.train_parts(clips, PARTS, latents=2, steps=200)


def test_numpy_encodes_and_decodes_what_torch_does():
    torch.manual_seed(0)
    net = training.PeriodicAutoencoder(6, 61, 3, 2.0)
    x = torch.randn(5, 6, 61)
    net.train()(3 * x + 1)  # so that the norms have statistics
    net.eval()
    part = autoencoder.PartModel(("a", "b"), 1.0, 30.5, training.arrays(net))
    with torch.no_grad():
        told, expected = net(x).numpy(), [value.numpy() for value in net.encode(x)]
    found = part.encode(x.numpy())
    for name, value in zip(("amplitude", "frequency", "offset", "phase"), expected, strict=True):
        difference = getattr(found, name) - value
        np.testing.assert_allclose(periodic.wrap(difference) if name == "phase" else difference, 0, atol=1e-4)
    np.testing.assert_allclose(part.decode(found), told, atol=1e-4)


@pytest.mark.parametrize("seed", range(2))
def test_numpy_walks_through_a_gap_as_torch_does(seed):
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    body = sampler.skeleton(PARENTS, rng.normal(size=(7, 3)), [(1, 2, 3), (4, 5)])
    assert sorted(body.place) == [0, 1, 2, 3, 4, 5, 7] and body.widest == 4  # root and last hand go with the last part
    net = network.Network(body, 3)
    for value in net.parameters():
        value.data += 0.05 * torch.randn_like(value)
    net.amplitude.copy_(torch.rand(2, 3) + 0.5)
    q = quaternions.exp(np.cumsum(rng.normal(size=(31, 7, 3)) * 0.05, axis=0))
    way = np.cumsum(rng.normal(size=(31, 3)) * 0.02, axis=0)
    with torch.no_grad():
        columns = torch.from_numpy(sampler.six(q)[None]).float()
        pose, place, phase, _ = (x[0].numpy() for x in net(columns, torch.from_numpy(way[None]).float(), 30.0, 20))
    ends = [*range(10), 30]
    turns, places, phases = sampler.sample(body, training.arrays(net), 30.0, q[ends], way[ends], q[10:30], way[10:30])
    np.testing.assert_allclose(sampler.six(turns), pose, atol=2e-5)
    np.testing.assert_allclose(places, place, atol=2e-5)
    np.testing.assert_allclose(phases / net.amplitude.numpy()[..., None], phase[9:], atol=1e-4)
    assert np.abs(sampler.six(turns) - sampler.six(q[10:30])).max() > 0.01


def test_before_it_has_learned_the_sampler_says_what_the_prior_says():
    rng = np.random.default_rng(3)
    body = sampler.skeleton(PARENTS, rng.normal(size=(7, 3)), [(1, 2, 3), (4, 5, 6)])
    q = quaternions.exp(np.cumsum(rng.normal(size=(25, 7, 3)) * 0.05, axis=0))
    way = rng.normal(size=(25, 3))
    weights = training.arrays(network.Network(body, 2))
    ends = [*range(5), 24]
    turns, places, _ = sampler.sample(body, weights, 30.0, q[ends], way[ends], q[5:24], way[5:24])
    assert np.abs(np.abs(np.sum(turns * q[5:24], axis=-1)) - 1).max() < 1e-12
    np.testing.assert_allclose(places, way[5:24], atol=1e-12)


def test_a_gate_that_chooses_one_expert_gives_that_experts_layers():
    rng = np.random.default_rng(4)
    parts_, experts, state, code, wide = 2, 3, 5, sampler.CODE, 4
    shapes = {"gate1": (2, 6 + code, wide), "gate2": (2, wide, experts), "expert1": (2, experts, state + code, wide)}
    shapes |= {"expert2": (2, experts, wide, wide), "expert3": (2, experts, wide, 12)}
    weights = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    weights |= {f"{name}_bias": rng.normal(size=(*shape[:-2], shape[-1])) for name, shape in shapes.items()}
    chosen = [2, 0]
    weights["gate2"][:] = 0
    weights["gate2_bias"][:] = -1e3
    weights["gate2_bias"][range(2), chosen] = 0
    x, z, phase = rng.normal(size=state), rng.normal(size=code), rng.normal(size=(2, 3, 2))
    found = sampler.experts(weights, parts_, x, z, phase)
    for part, expert in enumerate(chosen):
        y = np.concatenate([x, z])
        for layer in "123":
            y = y @ weights[f"expert{layer}"][part, expert] + weights[f"expert{layer}_bias"][part, expert]
            y = y if layer == "3" else np.where(y > 0, y, np.exp(y) - 1)
        np.testing.assert_allclose(found[[part, part + 2]].ravel(), y, rtol=1e-9)


def test_it_explains_swings_it_has_not_seen_and_its_clock_runs_at_their_tempo(models):
    assert set(models) == {"left arm", "right arm"}
    for hertz in (0.83, 1.21, 1.47):
        clip = swinging(hertz, seed=99)
        for part, entry in models.items():
            assert autoencoder.explained(entry, [clip]) > 0.85
            latent = autoencoder.latent(entry, clip)
            cycles = edit.clock(latent, edit.fundamental(clip.fps, (latent, clip.rotations[:, PARTS[part]])), clip.fps)
            assert len(cycles) == len(clip)
            assert (cycles[-1] - cycles[0]) / (len(clip) - 1) * clip.fps == pytest.approx(hertz, rel=0.06)


def test_a_larger_swing_has_a_larger_amplitude(models):
    clip = swinging(1.0)
    strength = []
    for gain in (0.5, 1.0, 1.3):
        changed = clip.replace(rotations=quaternions.exp(gain * quaternions.log(clip.rotations)))
        strength.append(autoencoder.latent(models["left arm"], changed).amplitude.max(axis=1).mean())
    assert strength[0] < strength[1] < strength[2]


def test_training_twice_from_one_seed_gives_the_same_network(models):
    clips = [swinging(1.0), swinging(1.3)]
    first, again = (training.train_parts(clips, PARTS, latents=2, steps=3, seed=5) for _ in range(2))
    for part in first:
        for name, value in first[part].weights.items():
            np.testing.assert_array_equal(value, again[part].weights[name])


def test_a_model_comes_back_from_its_file_and_what_is_none_is_refused(models, tmp_path):
    names = {part: models[part].joints for part in models}
    whole = model.PhaseModel(
        tuple(NAMES), tuple(PARENTS), swinging(1.0).offsets, 30.0, names, models, {"gate1": np.ones((2, 3))}
    )
    model.save(whole, tmp_path / "a.safetensors")
    from safetensors import safe_open

    with safe_open(tmp_path / "a.safetensors", "np") as file:
        stored = file.get_tensor("left arm/head")
    np.testing.assert_array_equal(stored, models["left arm"].weights["head"].astype(np.float16))
    restored = model.load(tmp_path / "a.safetensors")
    assert (restored.names, restored.parents, restored.parts) == (whole.names, whole.parents, whole.parts)
    for part, latent in whole.latents(swinging(1.0)).items():
        np.testing.assert_allclose(restored.latents(swinging(1.0))[part].amplitude, latent.amplitude, rtol=0.01, atol=1e-3)
    with pytest.raises(NeedsWeights, match="missing"):
        model.load(tmp_path / "b.safetensors")
    data = (tmp_path / "a.safetensors").read_bytes()
    for broken in (b"", data[:100], data[:-10], b"\xff" * 64, data[:8] + b"[]" + data[10:]):
        (tmp_path / "b.safetensors").write_bytes(broken)
        with pytest.raises(BrokenFile, match="does not hold a phase model"):
            model.load(tmp_path / "b.safetensors")


def test_training_that_was_stopped_goes_on(tmp_path):
    clips = [swinging(hertz, frames=120, seed=seed) for seed, hertz in enumerate((0.8, 1.0, 1.3))]

    class Stop(Exception):
        pass

    def stop(done: float, total: float, note: str) -> None:
        if "step 1" in note:
            raise Stop

    with pytest.raises(Stop):
        training.learn(clips, 0.02, latents=2, checkpoint=tmp_path, progress=stop)
    assert [path.name for path in tmp_path.iterdir()] == ["parts.safetensors"]
    said = []
    found = training.learn(clips, 0.02, latents=2, checkpoint=tmp_path, progress=lambda d, t, note: said.append((d / t, note)))
    assert not any("Learning the phase" in note for _, note in said) and not list(tmp_path.iterdir())
    assert np.all(np.diff([share for share, _ in said]) >= 0) and found.sampler and set(found.parts) == set(PARTS)


def test_joints_that_never_turn_are_left_out_and_what_hangs_on_them_stays_where_it_is():
    rng = np.random.default_rng(0)
    turns = quaternions.exp(np.cumsum(rng.normal(size=(20, 5, 3)) * 0.1, axis=0))
    turns[:, 2] = quaternions.exp(np.array([0.3, 0.5, -0.2]))  # stiff
    clip = Clip([*"abcde"], np.array([-1, 0, 1, 2, 3]), rng.normal(size=(5, 3)), 30, turns, rng.normal(size=(20, 3)))
    assert model.moving([clip]) == [*"abde"]
    small = model.reduced(clip, [*"abde"])
    assert small.parents.tolist() == [-1, 0, 1, 2]
    positions, world = clip.forward()
    found, turned = small.forward()
    np.testing.assert_allclose(found, positions[:, [0, 1, 3, 4]], atol=1e-12)
    np.testing.assert_allclose(np.abs(np.sum(turned * world[:, [0, 1, 3, 4]], axis=-1)), 1, atol=1e-12)
    rolls = quaternions.normalise(rng.normal(size=(5, 4)))  # the same motion on bones rolled otherwise
    rolled = quaternions.multiply(world, rolls)
    local, offsets = rolled.copy(), clip.offsets.copy()
    for joint in range(1, 5):
        local[:, joint] = quaternions.multiply(quaternions.conjugate(rolled[:, joint - 1]), rolled[:, joint])
        offsets[joint] = quaternions.rotate(quaternions.conjugate(rolls[joint - 1]), clip.offsets[joint])
    rest = rolls.copy()
    rest[1:] = quaternions.multiply(quaternions.conjugate(rolls[:-1]), rolls[1:])
    other = clip.replace(rotations=local, offsets=offsets, rest=rest)
    same = model.reduced(other, [*"abde"])
    np.testing.assert_allclose(same.offsets, small.offsets, atol=1e-9)
    np.testing.assert_allclose(np.abs(np.sum(same.rotations * small.rotations, axis=-1)), 1, atol=1e-9)
    back = model.written(other, same)
    np.testing.assert_allclose(back.rotations, other.rotations, atol=1e-9)


def test_clips_that_do_not_fit_are_refused_in_a_sentence(models):
    arm = models["left arm"]
    with pytest.raises(VivantError, match="30 frames per second, the clip has 24"):
        autoencoder.latent(arm, swinging(1.0, fps=24))
    with pytest.raises(VivantError, match="at least 42 frames; this one has 41"):
        autoencoder.latent(arm, swinging(1.0, frames=41))
    with pytest.raises(VivantError, match="lacks joints"):
        autoencoder.latent(arm, swinging(1.0).replace(names=[f"x{joint}" for joint in range(7)]))
    with pytest.raises(VivantError, match="longer than 41 frames"):
        training.train_parts([swinging(1.0, frames=40)], PARTS)
    with pytest.raises(VivantError, match="different skeletons or frame rates"):
        training.train_parts([swinging(1.0), swinging(1.0, fps=24)], PARTS)
