# SPDX-License-Identifier: GPL-3.0-or-later
"""The periodic autoencoder of one body part, once trained, and the phases it finds in a clip.  Needs NumPy alone.

After DeepPhase (Starke et al. 2022), one for each part as in Dai et al. 2025; `training` makes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...common.errors import VivantError
from ..clip import Clip
from .parts import velocities
from .periodic import Latent, sinusoid, spectrum, times

Array = NDArray[np.floating]
BATCH = 128  # windows at a time


@dataclass(frozen=True)
class PartModel:
    """A trained part: the joints that describe it, in order; metres per second that count as one; frames per second.

    weights: by the names that `training.PeriodicAutoencoder` gives them.
    """

    joints: tuple[str, ...]
    scale: float
    fps: float
    weights: Mapping[str, Array]

    @property
    def samples(self) -> int:
        """Frames of a window."""
        return int(self.weights["head"].shape[2])

    def encode(self, x: Array) -> Latent:
        """Sinusoids (N, M) of windows (N, C, T) of velocities; phases at the centre."""
        y = self._layers("encoder", x)
        amplitude, frequency, offset = spectrum(y, self.samples / self.fps)
        direction = np.einsum("nmt,mkt->nmk", y, self.weights["head"])
        direction = self._norm("norm", direction.reshape(len(y), -1)).reshape(direction.shape)
        return Latent(amplitude, frequency, offset, np.arctan2(direction[..., 1], direction[..., 0]) / (2 * np.pi))

    def decode(self, latent: Latent) -> Array:
        """Windows (N, C, T) of velocities as sinusoids (N, M) tell them."""
        seconds = times(self.samples, self.samples / self.fps)
        curves = sinusoid(latent.amplitude, latent.frequency, latent.offset, latent.phase, seconds)
        return self._layers("decoder", curves.astype(np.float32))

    def _layers(self, name: str, x: Array) -> Array:
        x = self._norm(f"{name}.1", self._convolve(f"{name}.0", x))
        return self._convolve(f"{name}.3", np.where(x > 0, x, np.expm1(np.minimum(x, 0))))

    def _convolve(self, name: str, x: Array) -> Array:
        kernel, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        half = kernel.shape[2] // 2
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(x, ((0, 0), (0, 0), (half, half))), kernel.shape[2], axis=2)
        return np.moveaxis(np.tensordot(windows, kernel, axes=((1, 3), (1, 2))), 2, 1) + bias[:, None]

    def _norm(self, name: str, x: Array) -> Array:
        """Batch normalisation of channels on axis 1, with the statistics of the training."""
        mean, variance, gain, bias = (
            self.weights[f"{name}.{key}"] for key in ("running_mean", "running_var", "weight", "bias")
        )
        gain = gain / np.sqrt(variance + 1e-5)
        shape = (-1, *[1] * (x.ndim - 2))
        return x * gain.reshape(shape) + (bias - mean * gain).reshape(shape)


def windows(model: PartModel, clip: Clip) -> Array:
    """All windows (N, C, T) of a clip as the network sees them, one for each frame that has a whole window about it.

    Raises VivantError for a clip that is too short, of another frame rate or another skeleton.
    """
    if abs(clip.fps - model.fps) > 1e-3:
        raise VivantError(
            f"The phase model was learned at {model.fps:g} frames per second, the clip has {clip.fps:g}.", "Resample the clip."
        )
    missing = set(model.joints) - set(clip.names)
    if missing:
        raise VivantError(
            f"The clip lacks joints that the phase model knows (first: {min(missing)}).", "Train one on this rig's clips."
        )
    curve = velocities(clip, [list(clip.names).index(name) for name in model.joints])
    if len(curve) < model.samples:
        raise VivantError(f"Phase needs clips of at least {model.samples + 1} frames; this one has {len(clip)}.")
    return np.lib.stride_tricks.sliding_window_view((curve / model.scale).astype(np.float32), model.samples, axis=0)


def latent(model: PartModel, clip: Clip) -> Latent:
    """Sinusoids of a part at every frame of a clip.

    Frames nearer to an end than half a window continue the last whole window's sinusoids: same amplitude, frequency and
    offset, phase advanced.  Raises VivantError as `windows`.
    """
    found = [vars(model.encode(batch)).values() for batch in _batches(windows(model, clip))]
    parameters = [np.concatenate(values).astype(np.float64) for values in zip(*found, strict=True)]
    frame = np.arange(len(clip)) - model.samples // 2  # of the window whose centre it is
    nearest = np.clip(frame, 0, len(parameters[0]) - 1)
    amplitude, frequency, offset, phase = (values[nearest] for values in parameters)
    phase = (phase + frequency * ((frame - nearest) / clip.fps)[:, None]) % 1
    return Latent(amplitude, frequency, offset, phase)


def explained(model: PartModel, clips: Sequence[Clip]) -> float:
    """R²: the share of the variance of a part's velocities, over all windows of the clips, that its sinusoids tell."""
    x = np.concatenate([windows(model, clip) for clip in clips])
    error = sum(float(np.sum((model.decode(model.encode(batch)) - batch) ** 2)) for batch in _batches(x))
    return 1 - error / float(np.sum((x - x.mean(axis=(0, 2), keepdims=True)) ** 2))


def _batches(x: Array) -> Iterator[Array]:
    return (x[first : first + BATCH] for first in range(0, len(x), BATCH))
