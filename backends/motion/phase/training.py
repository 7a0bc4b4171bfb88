# SPDX-License-Identifier: GPL-3.0-or-later
"""Training of a phase model: the periodic autoencoders first, then the sampler on the phases they find.  Needs torch.

Ours, in the autoencoders: the layers within are at least 32 wide, since an arm of three joints would otherwise have three;
ELU, and no norm on the latent, so that doubling a motion can double its amplitude; a window of 4/3 s, a little more than a
stride (two seconds explain less of a walk, one second loses the clock of slow ones).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...common.errors import VivantError
from ..clip import Clip
from . import network as networks
from . import parts as bodies
from .autoencoder import PartModel
from .model import PhaseModel, load, moving, reduced, save
from .parts import Parts, velocities
from .periodic import times
from .sampler import skeleton

Array = NDArray[np.floating]
WINDOW = 4 / 3  # seconds
Report = Callable[[float, float, str], object]


def learn(
    clips: Sequence[Clip],
    minutes: float,
    parts: int | Mapping[str, Sequence[str]] = 5,
    latents: int = 4,
    checkpoint: Path | None = None,
    seed: int = 0,
    progress: Report = lambda done, total, note: None,
) -> PhaseModel:
    """A phase model from clips of one skeleton and frame rate, in about so many minutes, a quarter of them for the phases.

    parts: 5 or 2 (see `parts.find`), or part -> names of joints.
    checkpoint: a folder from whose files a stopped training of the same clips goes on; they are removed at the end.
    Raises VivantError when clips disagree, when none is long enough, or for parts that cannot be.
    """
    clips, division = prepared(clips, parts)
    first, seconds = clips[0], 60 * minutes
    encoders = checkpoint / "parts.safetensors" if checkpoint else None
    rollout = checkpoint / "sampler.pt" if checkpoint else None
    if encoders and encoders.is_file():
        model = load(encoders)
    else:
        steps = int(np.clip(20 * minutes, 20, 2000))
        models = train_parts(
            clips, division, latents, steps, seed, lambda d, t, note: progress(seconds / 4 * d / t, seconds, note)
        )
        named = {part: tuple(first.names[joint] for joint in division[part]) for part in models}
        parents = tuple(first.parents.tolist())
        model = PhaseModel(tuple(first.names), parents, first.offsets, first.fps, named, models, {})
        if encoders:
            save(model, encoders)
    long = [clip for clip in clips if len(clip) > max(round(WINDOW * first.fps) + 1, networks.PAST + networks.GAPS[0] + 2)]
    found = []
    for index, clip in enumerate(long):
        progress(seconds / 4, seconds, f"Finding the phases of clip {index + 1} of {len(long)}")
        found.append(model.latents(clip))
    body = skeleton(model.parents, model.offsets, list(model.parts_of(first).values()))
    windows = networks.Windows(long, found, body)
    network = networks.train(
        windows, minutes * 3 / 4, rollout, seed, lambda done, total, note: progress(seconds / 4 + done, seconds, note)
    )
    for file in (encoders, rollout):
        if file:
            file.unlink(missing_ok=True)
    return dataclasses.replace(model, sampler=arrays(network))


def prepared(clips: Sequence[Clip], parts: int | Mapping[str, Sequence[str]]) -> tuple[list[Clip], Parts]:
    """The clips on the joints that turn, and the joints of each part.  Raises as `learn`."""
    if not clips:
        raise VivantError("There is no clip to learn from.")
    _check_alike(clips)
    names = moving(clips)
    clips = [reduced(clip, names) for clip in clips]
    first = clips[0]
    if isinstance(parts, int):
        division = bodies.find(names, first.parents.tolist(), first.offsets, parts)
    else:
        kept = {part: [name for name in members if name in names] for part, members in parts.items()}
        division = bodies.named(names, {part: members for part, members in kept.items() if members})
    return clips, division


def _check_alike(clips: Sequence[Clip]) -> None:
    first = clips[0]
    if any(list(clip.names) != list(first.names) or abs(clip.fps - first.fps) > 1e-3 for clip in clips):
        raise VivantError(
            "Clips of different skeletons or frame rates cannot train one phase model.", "Retarget them to one rig first."
        )


def arrays(network: nn.Module) -> dict[str, Array]:
    """The weights of a network by name."""
    return {name: value.numpy().copy() for name, value in network.state_dict().items() if value.is_floating_point()}


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


def train_parts(
    clips: Sequence[Clip],
    parts: Parts,
    latents: int = 4,
    steps: int = 1500,
    seed: int = 0,
    progress: Report = lambda done, total, note: None,
) -> dict[str, PartModel]:
    """A periodic autoencoder for each part, from clips of one skeleton and frame rate.

    parts: part -> joint indices; joints of it that never turn in these clips describe nothing and are left out.
    steps: batches of 32 random windows for each part (AdamW, one cycle of the learning rate to 5e-3).
    Raises VivantError when clips disagree, or none is longer than a window.
    """
    first = clips[0]
    samples = int(WINDOW * first.fps) // 2 * 2 + 1
    _check_alike(clips)
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
        models[part] = PartModel(tuple(first.names[joint] for joint in joints), scale, first.fps, arrays(network))
    return models
