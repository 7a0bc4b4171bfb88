# SPDX-License-Identifier: GPL-3.0-or-later
"""The periodic autoencoder of one body part, its training, and the phases it finds in a clip.  Needs torch.

After DeepPhase (Starke et al. 2022), one for each part as in Dai et al. 2025.  Ours: the layers within are at least 32
wide, since an arm of three joints would otherwise have three; ELU, and no norm on the latent, so that doubling a motion can
double its amplitude; a window of 4/3 s, a little more than a stride (two seconds explain less of a walk, one second loses
the clock of slow ones).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...common.errors import VivantError
from ..clip import Clip
from .parts import Parts, velocities
from .periodic import Latent, times

Array = NDArray[np.floating]
WINDOW = 4 / 3  # seconds


class PeriodicAutoencoder(nn.Module):
    """Velocities (N, C, T) as M sinusoids over a window of `window` seconds, and back."""

    def __init__(self, channels: int, samples: int, latents: int, window: float) -> None:
        super().__init__()
        width = max(channels // 3, 32)
        self.encoder, self.decoder = (
            nn.Sequential(
                nn.Conv1d(a, width, samples, padding="same"),
                nn.BatchNorm1d(width),
                nn.ELU(),
                nn.Conv1d(width, b, samples, padding="same"),
            )
            for a, b in ((channels, latents), (latents, channels))
        )
        self.head = nn.Parameter(torch.randn(latents, 2, samples) / samples**0.5)
        self.norm = nn.BatchNorm1d(2 * latents)
        self.register_buffer("seconds", torch.from_numpy(times(samples, window)).float())
        self.register_buffer("hertz", torch.arange(1, samples // 2 + 1) / window)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Amplitude, frequency, offset and phase at the centre, each (N, M); `periodic.spectrum` says what they are."""
        y = self.encoder(x)
        c = torch.fft.rfft(y, dim=-1)
        power = c[..., 1:].abs().square()
        total = power.sum(dim=-1) + 1e-12
        direction = self.norm(torch.einsum("nmt,mkt->nmk", y, self.head).flatten(1)).unflatten(1, (-1, 2))
        phase = torch.atan2(direction[..., 1], direction[..., 0] + 1e-12) / (2 * torch.pi)
        return 2 * total.sqrt() / x.shape[-1], power @ self.hertz / total, c[..., 0].real / x.shape[-1], phase

    def forward(self, x: Tensor) -> Tensor:
        """The window as its sinusoids tell it."""
        amplitude, frequency, offset, phase = (value[..., None] for value in self.encode(x))
        turns = frequency * self.seconds + phase
        return self.decoder(amplitude * torch.sin(2 * torch.pi * turns) + offset)


@dataclass(frozen=True)
class PartModel:
    """A trained part: the joints that describe it, in order; metres per second that count as one; frames per second."""

    joints: tuple[str, ...]
    scale: float
    fps: float
    network: PeriodicAutoencoder


def train(
    clips: Sequence[Clip],
    parts: Parts,
    latents: int = 4,
    steps: int = 1500,
    seed: int = 0,
    progress: Callable[[float, float, str], object] = lambda done, total, note: None,
) -> dict[str, PartModel]:
    """A periodic autoencoder for each part, from clips of one skeleton and frame rate.

    parts: part -> joint indices; joints of it that never turn in these clips describe nothing and are left out.
    steps: batches of 32 random windows for each part (AdamW, one cycle of the learning rate to 5e-3).
    Raises VivantError when clips disagree, or none is longer than a window.
    """
    first = clips[0]
    samples = int(WINDOW * first.fps) // 2 * 2 + 1
    if any(list(clip.names) != list(first.names) or abs(clip.fps - first.fps) > 1e-3 for clip in clips):
        raise VivantError(
            "Clips of different skeletons or frame rates cannot train one phase model.", "Retarget them to one rig first."
        )
    clips = [clip for clip in clips if len(clip) > samples]
    if not clips:
        raise VivantError(f"No clip is longer than {samples} frames, the window that phase is learned from.")
    turns = np.max([np.ptp(clip.rotations, axis=0).max(axis=-1) for clip in clips], axis=0) > 0.01
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    models = {}
    for index, (part, members) in enumerate(parts.items()):
        joints = [joint for joint in members if turns[joint]]
        if not joints:
            continue  # a part that never moves has no phase
        curves = [velocities(clip, joints) for clip in clips]
        scale = float(np.sqrt(np.mean(np.concatenate(curves) ** 2)))
        curve = torch.from_numpy(np.concatenate(curves) / scale).float().T.contiguous()  # (C, all frames)
        lengths = np.array([len(values) for values in curves])
        begin = np.cumsum(lengths) - lengths
        starts = np.concatenate([b + np.arange(n - samples + 1) for b, n in zip(begin, lengths, strict=True)])
        network = PeriodicAutoencoder(len(curve), samples, latents, samples / first.fps)
        optimiser = torch.optim.AdamW(network.parameters(), weight_decay=1e-4)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 5e-3, total_steps=steps)
        for step in range(steps):
            x = torch.stack([curve[:, start : start + samples] for start in rng.choice(starts, 32)])
            loss = (network(x) - x).square().mean()
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            progress(index * steps + step + 1, len(parts) * steps, f"Learning the phase of the {part}")
        models[part] = PartModel(tuple(first.names[joint] for joint in joints), scale, first.fps, network.eval())
    return models


def _windows(model: PartModel, clip: Clip) -> Tensor:
    """All windows (N, C, T) of a clip as the network sees them, one for each frame that has a whole window about it."""
    if abs(clip.fps - model.fps) > 1e-3:
        raise VivantError(
            f"The phase model was learned at {model.fps:g} frames per second, the clip has {clip.fps:g}.", "Resample the clip."
        )
    missing = set(model.joints) - set(clip.names)
    if missing:
        raise VivantError(
            f"The clip lacks joints that the phase model knows (first: {min(missing)}).", "Train one on this rig's clips."
        )
    samples = len(model.network.seconds)
    curve = velocities(clip, [list(clip.names).index(name) for name in model.joints])
    if len(curve) < samples:
        raise VivantError(f"Phase needs clips of at least {samples + 1} frames; this one has {len(clip)}.")
    return torch.from_numpy(curve / model.scale).float().T.contiguous().unfold(1, samples, 1).transpose(0, 1)


def latent(model: PartModel, clip: Clip) -> Latent:
    """Sinusoids of a part at every frame of a clip.

    Frames nearer to an end than half a window continue the last whole window's sinusoids: same amplitude, frequency and
    offset, phase advanced.  Raises VivantError for a clip that is too short, of another frame rate or another skeleton.
    """
    x = _windows(model, clip)
    with torch.no_grad():
        batches = [model.network.encode(batch) for batch in x.split(256)]
    found = [torch.cat(values).double().numpy() for values in zip(*batches, strict=True)]
    frame = np.arange(len(clip)) - len(model.network.seconds) // 2  # of the window whose centre it is
    nearest = np.clip(frame, 0, len(x) - 1)
    amplitude, frequency, offset, phase = (values[nearest] for values in found)
    phase = (phase + frequency * ((frame - nearest) / clip.fps)[:, None]) % 1
    return Latent(amplitude, frequency, offset, phase)


def explained(model: PartModel, clips: Sequence[Clip]) -> float:
    """R²: the share of the variance of a part's velocities, over all windows of the clips, that its sinusoids tell."""
    x = torch.cat([_windows(model, clip) for clip in clips])
    with torch.no_grad():
        y = torch.cat([model.network(batch) for batch in x.split(256)])
    return 1 - float((y - x).square().sum() / (x - x.mean(dim=(0, 2), keepdim=True)).square().sum())


def state(models: Mapping[str, PartModel]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and text of trained parts, as safetensors stores them; inverse of `restore`."""
    tensors = {f"{part}/{name}": value for part, model in models.items() for name, value in model.network.state_dict().items()}
    text = {part: "\n".join([repr(model.scale), repr(model.fps), *model.joints]) for part, model in models.items()}
    return tensors, text


def restore(tensors: Mapping[str, Tensor], text: Mapping[str, str]) -> dict[str, PartModel]:
    """Trained parts of their tensors and text."""
    models = {}
    for part, lines in text.items():
        scale, fps, *joints = lines.split("\n")
        weights = {name.partition("/")[2]: value for name, value in tensors.items() if name.partition("/")[0] == part}
        latents, _, samples = weights["head"].shape
        network = PeriodicAutoencoder(3 * len(joints), samples, latents, samples / float(fps))
        network.load_state_dict(weights)
        models[part] = PartModel(tuple(joints), float(scale), float(fps), network.eval())
    return models
