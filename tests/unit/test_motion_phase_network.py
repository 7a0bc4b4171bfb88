# SPDX-License-Identifier: GPL-3.0-or-later
"""The periodic autoencoder: its FFT layer against NumPy's, and what it learns of signals whose period is known."""

import numpy as np
import pytest

from vivant.backends.common import rotations as quaternions
from vivant.backends.common.errors import VivantError
from vivant.backends.motion.clip import Clip

torch = pytest.importorskip("torch", reason="the phase network needs torch")

from vivant.backends.motion.phase import autoencoder, edit, parts, periodic  # noqa: E402

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
    return autoencoder.train(clips, PARTS, latents=2, steps=200)


def test_the_network_sees_the_spectrum_that_numpy_sees():
    torch.manual_seed(0)
    network = autoencoder.PeriodicAutoencoder(6, 61, 3, 2.0).eval()
    x = torch.randn(5, 6, 61)
    with torch.no_grad():
        y = network.encoder(x).numpy()
        amplitude, frequency, offset, phase = (value.numpy() for value in network.encode(x))
        curves = periodic.sinusoid(amplitude, frequency, offset, phase, periodic.times(61, 2.0))
        told = network.decoder(torch.from_numpy(curves).float())
        np.testing.assert_allclose(network(x), told, atol=1e-4)
    for found, expected in zip((amplitude, frequency, offset), periodic.spectrum(y.astype(float), 2.0), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_it_explains_swings_it_has_not_seen_and_its_clock_runs_at_their_tempo(models):
    assert set(models) == {"left arm", "right arm"}
    for hertz in (0.83, 1.21, 1.47):
        clip = swinging(hertz, seed=99)
        for model in models.values():
            assert autoencoder.explained(model, [clip]) > 0.85
            latent = autoencoder.latent(model, clip)
            cycles = edit.clock(latent, edit.fundamental(latent), clip.fps)
            assert len(cycles) == len(clip)
            assert (cycles[-1] - cycles[0]) / (len(clip) - 1) * clip.fps == pytest.approx(hertz, rel=0.06)


def test_a_larger_swing_has_a_larger_amplitude(models):
    clip = swinging(1.0)
    strength = []
    for gain in (0.5, 1.0, 1.3):
        changed = clip.replace(rotations=quaternions.exp(gain * quaternions.log(clip.rotations)))
        strength.append(autoencoder.latent(models["left arm"], changed).amplitude.max(axis=1).mean())
    assert strength[0] < strength[1] < strength[2]


def test_training_twice_from_one_seed_and_storing_give_the_same_network(models):
    clips = [swinging(1.0), swinging(1.3)]
    first, again = (autoencoder.train(clips, PARTS, latents=2, steps=3, seed=5) for _ in range(2))
    for name, value in autoencoder.state(first)[0].items():
        assert torch.equal(value, autoencoder.state(again)[0][name])
    tensors, text = autoencoder.state(models)
    restored = autoencoder.restore(tensors, text)
    for part, model in models.items():
        assert restored[part].joints == model.joints and restored[part].scale == model.scale
        for found, expected in zip(
            vars(autoencoder.latent(restored[part], clips[0])).values(),
            vars(autoencoder.latent(model, clips[0])).values(),
            strict=True,
        ):
            np.testing.assert_array_equal(found, expected)


def test_clips_that_do_not_fit_are_refused_in_a_sentence(models):
    model = models["left arm"]
    with pytest.raises(VivantError, match="30 frames per second, the clip has 24"):
        autoencoder.latent(model, swinging(1.0, fps=24))
    with pytest.raises(VivantError, match="at least 42 frames; this one has 41"):
        autoencoder.latent(model, swinging(1.0, frames=41))
    with pytest.raises(VivantError, match="lacks joints"):
        autoencoder.latent(model, swinging(1.0).replace(names=[f"x{joint}" for joint in range(7)]))
    with pytest.raises(VivantError, match="longer than 41 frames"):
        autoencoder.train([swinging(1.0, frames=40)], PARTS)
    with pytest.raises(VivantError, match="different skeletons or frame rates"):
        autoencoder.train([swinging(1.0), swinging(1.0, fps=24)], PARTS)
