# SPDX-License-Identifier: GPL-3.0-or-later
"""The phase-driven sampler in torch, and its training; `sampler` says what it is and runs it without torch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ...common import rotations as quaternions
from .. import interpolate, library
from ..clip import Clip
from .periodic import Latent, rate, vector
from .sampler import CODE, ROOT_STEP, TURN_STEP, Skeleton, six

Array = NDArray[np.floating]
PAST = 10  # frames before a gap that are looked at
GAPS = (5, 60)  # that are trained, short ones oftener
BATCH = 64
WIDTH, EXPERTS, EXPERT_WIDTH, GATE_WIDTH = 192, 6, 64, 32


class Network(nn.Module):
    """The sampler and the state model of a body of P parts with M phase channels each."""

    mean: Tensor
    spread: Tensor
    amplitude: Tensor

    def __init__(self, body: Skeleton, channels: int) -> None:
        super().__init__()
        joints, parts = len(body.parents), body.parts
        self.body, self.channels = body, channels
        phases = parts * channels
        state = 12 * joints
        self.register_buffer("mean", torch.zeros(state))
        self.register_buffer("spread", torch.ones(state))
        self.register_buffer("amplitude", torch.ones(parts, channels))
        self.inputs = nn.Linear(state + 12 * joints + 6 + 4 + 2 * phases, WIDTH)
        self.cell = nn.LSTMCell(WIDTH, WIDTH)
        self.hidden, self.outputs = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, CODE + 4 * phases + 3)
        nn.init.zeros_(self.outputs.weight[-3:].data)
        nn.init.zeros_(self.outputs.bias[-3:].data)
        self.gate1, self.gate1_bias = self._layer((parts,), 2 * channels + CODE, GATE_WIDTH)
        self.gate2, self.gate2_bias = self._layer((parts,), GATE_WIDTH, EXPERTS)
        self.expert1, self.expert1_bias = self._layer((parts, EXPERTS), state + CODE, EXPERT_WIDTH)
        self.expert2, self.expert2_bias = self._layer((parts, EXPERTS), EXPERT_WIDTH, EXPERT_WIDTH)
        self.expert3, self.expert3_bias = self._layer((parts, EXPERTS), EXPERT_WIDTH, 6 * body.widest, 0.0)
        self.paths = torch.from_numpy(body.paths()).float()
        self.offsets = torch.from_numpy(body.offsets).float()

    @staticmethod
    def _layer(of: tuple[int, ...], a: int, b: int, gain: float = 1.0) -> tuple[nn.Parameter, nn.Parameter]:
        bound = gain * math.sqrt(3 / a)
        return nn.Parameter(torch.empty(*of, a, b).uniform_(-bound, bound)), nn.Parameter(torch.zeros(*of, b))

    def positions(self, pose: Tensor) -> tuple[Tensor, Tensor]:
        """Joints (…, J, 3) as seen from the root's place, and the pose (…, J, 6) made orthonormal."""
        a = functional.normalize(pose[..., :3], dim=-1)
        b = functional.normalize(pose[..., 3:] - (a * pose[..., 3:]).sum(-1, keepdim=True) * a, dim=-1)
        matrix = torch.stack([a, b, torch.linalg.cross(a, b)], -1)
        bones = (matrix[..., self.body.parents[1:], :, :] @ self.offsets[1:, :, None]).squeeze(-1)
        bones = torch.cat([torch.zeros_like(bones[..., :1, :]), bones], -2)
        return self.paths @ bones, torch.cat([a, b], -1)

    def experts(self, state: Tensor, z: Tensor, phase: Tensor) -> Tensor:
        """What is added to the pose (B, J, 6)."""
        parts = self.body.parts
        seen = torch.cat([phase.flatten(2), z[:, None].expand(-1, parts, -1)], -1).transpose(0, 1)  # P, B, …
        hidden = functional.elu(seen @ self.gate1 + self.gate1_bias[:, None])
        gate = (hidden @ self.gate2 + self.gate2_bias[:, None]).softmax(-1)  # P, B, E
        x = torch.cat([state, z], -1).expand(parts, -1, -1)
        for layer in ("1", "2", "3"):
            weight, bias = getattr(self, f"expert{layer}"), getattr(self, f"expert{layer}_bias")
            outputs = weight.shape[-1]
            each = x @ weight.transpose(1, 2).flatten(2)  # P, B, E · outputs
            x = (gate[..., None] * (each.unflatten(-1, (EXPERTS, outputs)) + bias[:, None])).sum(2)
            x = x if layer == "3" else functional.elu(x)
        x = x.unflatten(-1, (-1, 6)).permute(1, 2, 0, 3).flatten(1, 2)
        return x[:, self.body.place]

    def forward(self, known: Tensor, way: Tensor, fps: float, gap: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Windows (B, T, J, 6), (B, T, 3) of PAST frames, the prior in the gap and the target.

        Returns poses (B, gap, J, 6), root (B, gap, 3), phase vectors (B, T - 2, P, M, 2) in units of the usual amplitude,
        from the second frame on, and frequencies.
        """
        batch, parts, channels = len(known), self.body.parts, self.channels
        h = c = known.new_zeros(batch, WIDTH)
        phase = known.new_zeros(batch, parts, channels, 2)
        pose, place = known[:, 0], way[:, 0]
        joints, _ = self.positions(pose)
        before = joints + place[:, None]
        drift, root_drift = torch.zeros_like(pose), torch.zeros_like(place)
        poses, places, phases, rates = [], [], [], []
        sizes = [parts * channels * k for k in (2, 1, 1)]
        for frame in range(PAST + gap - 1):
            left = PAST + gap - frame
            velocity = (joints + place[:, None] - before) * fps
            before = joints + place[:, None]
            state = (torch.cat([pose.flatten(1), joints.flatten(1), velocity.flatten(1)], -1) - self.mean) / self.spread
            n = known.new_full((batch,), float(left))
            clock = torch.stack([n / 30, 3 / (2 + n), torch.exp(-n / 10), torch.ones_like(n)], -1)
            x = torch.cat([
                state, (known[:, -1] - pose).flatten(1), way[:, -1] - place,
                (known[:, frame + 1] - pose).flatten(1) / TURN_STEP, (way[:, frame + 1] - place) / ROOT_STEP, clock,
                phase.flatten(1),
            ], -1)  # fmt: skip
            h, c = self.cell(functional.elu(self.inputs(x)), (h, c))
            z, wanted, size, hertz, step = self.outputs(functional.elu(self.hidden(h))).split([CODE, *sizes, 3], -1)
            hertz = 1 + hertz.view(batch, parts, channels)
            turn = 2 * math.pi * hertz / fps
            sin, cos = turn.sin(), turn.cos()
            gone = torch.stack([phase[..., 0] * cos + phase[..., 1] * sin, phase[..., 1] * cos - phase[..., 0] * sin], -1)
            both = _unit(wanted.view_as(phase)) + _unit(gone)
            phase = functional.softplus(size.view(batch, parts, channels))[..., None] * _unit(both)
            phases.append(phase)
            rates.append(hertz)
            if frame + 1 < PAST:
                pose, place = known[:, frame + 1], way[:, frame + 1]
                joints, _ = self.positions(pose)
                continue
            keep = (left - 1) / left
            drift = drift * keep + TURN_STEP * self.experts(state, z, phase)
            root_drift = root_drift * keep + ROOT_STEP * step
            joints, pose = self.positions(known[:, frame + 1] + drift)
            place = way[:, frame + 1] + root_drift
            poses.append(pose)
            places.append(place)
        return torch.stack(poses, 1), torch.stack(places, 1), torch.stack(phases, 1), torch.stack(rates, 1)


def _unit(v: Tensor) -> Tensor:
    return v / (v.square().sum(-1, keepdim=True) + 1e-8).sqrt()


class Windows:
    """Random windows of clips of one skeleton, with the phases of their parts."""

    def __init__(self, clips: Sequence[Clip], latents: Sequence[Mapping[str, Latent]], body: Skeleton) -> None:
        self.clips, self.body, self.fps = clips, body, clips[0].fps
        self.phases = [
            np.stack([vector(part.amplitude, part.phase) for part in found.values()], axis=1).astype(np.float32)
            for found in latents
        ]  # F, P, M, 2
        self.rates = [
            np.stack([rate(part.phase, clip.fps) for part in found.values()], axis=1).astype(np.float32)
            for clip, found in zip(clips, latents, strict=True)
        ]

    def draw(self, rng: np.random.Generator, gap: int, count: int) -> tuple[Tensor, ...]:
        """Truth, then what is given: poses (B, T, J, 6) and root (B, T, 3); phase vectors and rates from the second frame."""
        frames = PAST + gap + 1
        room = np.array([max(len(clip) - frames - 1, 0) for clip in self.clips])
        chosen = rng.choice(len(room), count, p=room / room.sum())
        first = [int(rng.integers(room[clip])) for clip in chosen]
        takes = [(self.clips[clip], slice(begin, begin + frames)) for clip, begin in zip(chosen, first, strict=True)]
        q = np.stack([clip.rotations[span] for clip, span in takes], axis=1).astype(np.float64)  # T, B, J, 4
        p = np.stack([clip.root[span] for clip, span in takes], axis=1) / self.body.size
        keys = np.ones(frames, bool)
        keys[PAST:-1] = False
        vectors, turns = interpolate.cubics(self.fps)
        flat = turns(q.reshape(frames, -1, 4), keys).reshape(q.shape)
        line = vectors(p.reshape(frames, -1), keys).reshape(p.shape)
        truth, given = (aligned(self.clips[0], self.body, *window) for window in ((q, p), (flat, line)))
        spans = list(zip(chosen, first, strict=True))
        phases = np.stack([self.phases[clip][begin + 1 : begin + frames - 1] for clip, begin in spans])
        rates = np.stack([self.rates[clip][begin : begin + frames - 2] for clip, begin in spans])
        return tuple(torch.from_numpy(np.asarray(x, np.float32)) for x in (*truth, *given, phases, rates))


def aligned(skeleton: Clip, body: Skeleton, rotations: Array, root: Array) -> tuple[Array, Array]:
    """World rotations (B, T, J, 6) and root (B, T, 3) of local ones (T, B, J, 4), (T, B, 3), as seen from frame PAST - 1."""
    heading = library.heading_of(skeleton.replace(rotations=rotations[PAST - 1], root=root[PAST - 1], translations={}))
    back = library.about_y(-heading)[None]
    root = quaternions.rotate(back, root - root[PAST - 1 : PAST] * library.GROUND)
    world = np.empty_like(rotations)
    for joint, parent in enumerate(body.parents):
        above = back if parent < 0 else world[:, :, parent]
        world[:, :, joint] = quaternions.multiply(np.broadcast_to(above, rotations[:, :, joint].shape), rotations[:, :, joint])
    return np.swapaxes(six(world), 0, 1), np.swapaxes(root, 0, 1)


def loss(network: Network, windows: tuple[Tensor, ...], fps: float, gap: int) -> Tensor:
    """Mean error of a batch: positions, rotations, velocities, sliding of what stands, and the paper's terms of phases."""
    truth, way, known, line, phases, rates = windows
    pose, place, found, hertz = network(known, line, fps, gap)
    joints = network.positions(torch.cat([truth[:, PAST - 1 : PAST], pose, truth[:, -1:]], 1))[0]
    joints = joints + torch.cat([way[:, PAST - 1 : PAST], place, way[:, -1:]], 1)[:, :, None]
    true = network.positions(truth[:, PAST - 1 :])[0] + way[:, PAST - 1 :, None]
    speed, true_speed = joints.diff(dim=1), true.diff(dim=1)
    planted = (true_speed.norm(dim=-1) * fps < 0.15).float()
    size = network.amplitude
    goal = phases / size[..., None]
    terms = (
        (joints - true).norm(dim=-1).mean() / 0.1,
        (pose - truth[:, PAST:-1]).abs().mean() / 0.1,
        (speed - true_speed).norm(dim=-1).mean() * fps / 2,
        (planted * speed.norm(dim=-1)).mean() * fps / 4,
        0.25 * (found - goal)[:, 3:].abs().mean(),
        0.25 * (found.norm(dim=-1) - goal.norm(dim=-1))[:, 3:].abs().mean(),
        0.05 * ((hertz - rates).clamp(-2, 2)[:, 3:]).abs().mean(),
    )
    return torch.stack(terms).sum()


def train(
    windows: Windows,
    minutes: float,
    checkpoint: Path | None = None,
    seed: int = 0,
    progress: Callable[[float, float, str], object] = lambda done, total, note: None,
) -> Network:
    """The sampler and state model of the windows' body, trained for some minutes with Adam; the rate falls to none.

    checkpoint: a file that a stopped training goes on from.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    body, fps = windows.body, windows.fps
    network = Network(body, windows.phases[0].shape[2])
    amplitude = np.concatenate([np.linalg.norm(phases, axis=-1) for phases in windows.phases]).mean(axis=0)
    network.amplitude.copy_(torch.from_numpy(np.maximum(amplitude, 1e-6)))
    with torch.no_grad():
        truth, way, *_ = windows.draw(rng, 30, 256)
        joints, _ = network.positions(truth)
        velocity = (joints + way[:, :, None]).diff(dim=1) * fps
        parts = (truth[:, 1:], joints[:, 1:], velocity)
        states = torch.cat([x.flatten(2) for x in parts], -1).flatten(0, 1)
        network.mean.copy_(states.mean(0))
        network.spread.copy_(states.std(0).clamp_min(0.05))
    optimiser = torch.optim.Adam(network.parameters(), 1e-3, betas=(0.9, 0.98))
    spent, step, average = 0.0, 0, 0.0
    if checkpoint and checkpoint.is_file():
        saved = torch.load(checkpoint, weights_only=True)
        network.load_state_dict(saved["network"])
        optimiser.load_state_dict(saved["optimiser"])
        spent, step = saved["spent"], saved["step"]
        rng = np.random.default_rng([seed, step])
    kept = last = time.monotonic()
    gaps = np.arange(GAPS[0], GAPS[1] + 1)
    while spent < 60 * minutes:
        share = spent / (60 * minutes)
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * min(1.0, (step + 1) / 50) * 0.5 * (1 + math.cos(math.pi * share))
        gap = int(rng.choice(gaps, p=1 / gaps / np.sum(1 / gaps)))
        value = loss(network, windows.draw(rng, gap, BATCH), fps, gap)
        optimiser.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        step += 1
        now = time.monotonic()
        spent, last = spent + now - last, now
        average = value.item() if step == 1 else 0.98 * average + 0.02 * value.item()
        if checkpoint and now - kept > 60:
            kept = now
            partial = checkpoint.with_name(f"{checkpoint.name}.partial")
            state = {"network": network.state_dict(), "optimiser": optimiser.state_dict(), "spent": spent, "step": step}
            torch.save(state, partial)
            partial.replace(checkpoint)
        progress(spent, 60 * minutes, f"Learning to move by phase, step {step}, error {average:.3f}")
    return network.eval()
