# SPDX-License-Identifier: GPL-3.0-or-later
"""Trains the in-between transformer on CMU motion; stops (also on SIGTERM) and goes on at any time.

    python tools/train_inbetween.py {long,short} [--minutes 60] [--anneal 0] [--data FOLDER] [--out FOLDER]

Needs torch and safetensors.  The transformer (`long`) is trained first, then what looks at short gaps.  `out` holds a
checkpoint of each, with everything needed to go on as if nothing had happened, a log of each, a line whenever it is saved, and
`inbetween.safetensors`, the averaged weights of both.  `--anneal` lets the learning rate sink to zero over the last minutes of
this run, for weights to ship; the checkpoint stays at what was before, so that the next run goes on from there.

Every step of the transformer takes windows of all lengths but the shortest.  What is minimised is what is measured: L2P, and
L2Q and the error of each frame's step beside it, in units of SLERP's error at that gap, so that every gap weighs alike.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import pathlib
import signal
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

ROOT = pathlib.Path(__file__).resolve().parents[1]
if "vivant" not in sys.modules:  # the checkout, whatever its folder is called
    spec = importlib.util.spec_from_file_location("vivant", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
    assert spec and spec.loader
    sys.modules["vivant"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["vivant"])
sys.path.insert(0, str(ROOT / "benchmarks"))

import _mocap  # noqa: E402

from vivant.backends.motion import metrics  # noqa: E402
from vivant.backends.motion.clip import Clip  # noqa: E402
from vivant.backends.motion.transformer import prior, rotations  # noqa: E402
from vivant.backends.motion.transformer.body import PAST, Body, align, forward_kinematics, mirror  # noqa: E402
from vivant.backends.motion.transformer.network import (  # noqa: E402
    LENGTHS,
    LONGEST,
    Network,
    Size,
    Windows,
    activity,
    load,
    save,
    speeds,
)  # fmt: skip

AT_ONCE = (1024, 96, 64, 48, 32)  # windows in a step, by length; the last two lengths share their place
SAMPLES = 256  # windows that errors are measured on, for each gap
AFTER, PARTIAL = 0.5, 0.1  # shares of windows that know more than one frame after the gap, and that have other keys
GRAFTED = 0.15  # share of windows with a part of the body from another
WEIGHTS = (1.0, 0.5, 0.2)  # of L2P, L2Q and steps


class Motion:
    """All training frames in one table (rows of 4 J + 3), and where windows start, drawn by difficulty."""

    def __init__(self, clips: Sequence[Clip], body: Body) -> None:
        self.body = body
        self.below = torch.eye(len(body.names), dtype=torch.bool)  # row: joint, column: one that it is, or is a descendant of
        for joint, parent in enumerate(body.parents):
            if parent >= 0:
                self.below[joint] |= self.below[parent]
        rows = [np.concatenate([np.moveaxis(c.rotations, 2, 1).reshape(len(c), -1), c.root], 1) for c in clips]
        self.frames = torch.from_numpy(np.concatenate(rows)).float()
        lengths = torch.tensor([len(clip) for clip in clips])
        self.last = torch.repeat_interleave(torch.cumsum(lengths, 0) - 1, lengths)  # frame of the clip a frame is in
        lows = (1, *(high for high, _ in LENGTHS))
        self.gaps = [(low + 1, high) for low, (high, _) in zip(lows, LENGTHS, strict=False)]
        self.odds = [self._difficulty(sum(gaps) // 2) for gaps in self.gaps]

    def _difficulty(self, gap: int) -> Tensor:
        """Cumulative odds of each first frame: the root of how far the middle of the gap is from the straight way there."""
        first = torch.arange(len(self.frames))
        fits = first + PAST + gap + 2 < self.last
        frames = (first + PAST - 1)[:, None] + torch.tensor([0, (gap + 1) // 2, gap + 1])
        truth = self._poses(torch.where(fits[:, None], frames, 0))
        around = prior.neighbours(torch.tensor([True, False, True]).expand(len(first), -1))
        places = [forward_kinematics(self.body, q[..., 1:2], p[..., 1:2])[0] for q, p in (truth, slerp(*truth, around))]
        error = (places[0] - places[1]).square().sum((0, 1, 3)).sqrt()
        return torch.where(fits, (error + 0.1 * error[fits].mean()).sqrt(), 0).double().cumsum(0)

    def _poses(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        rows = self.frames[frames].movedim(-1, 0).contiguous()
        return rows[:-3].unflatten(0, (4, -1)), rows[-3:]

    def draw(self, kind: int, count: int, gap: int | None = None, augment: bool = True) -> tuple[Windows, Tensor]:
        """Windows of one length, complete, and their gaps' neighbours as `known` says; with `gap`, none but those that fit."""
        length = LENGTHS[kind][1]
        odds = self.odds[kind]
        first = torch.searchsorted(odds, torch.rand(count, dtype=torch.double) * odds[-1], right=True).clamp(max=len(odds) - 1)
        gaps = torch.randint(self.gaps[kind][0], self.gaps[kind][1] + 1, (count,))
        room = self.last[first] - first
        gaps = torch.minimum(gaps, room - PAST - 1)
        if gap is not None:
            fits = room > PAST + gap
            first, room, gaps = first[fits], room[fits], torch.full((int(fits.sum()),), gap)
        count = len(first)
        speed = torch.where(torch.rand(count) < 0.5, torch.empty(count).uniform_(-0.223, 0.223).exp(), 1.0)  # 0.8 to 1.25
        speed = torch.minimum(speed if augment else torch.ones(count), (room - 1) / (PAST + gaps))
        at = speed[:, None] * torch.arange(length)
        exists = at <= room[:, None] - 1
        at = torch.minimum(at, room[:, None] - 1.0)
        frame = at.floor()
        index, edge = first[:, None] + frame.long(), self.last[first, None]
        around = ((index - 1).maximum(first[:, None]), index, index + 1, (index + 2).minimum(edge))
        q, p = (catmull_rom(*values, at - frame) for values in zip(*map(self._poses, around), strict=True))
        q = rotations.normalise(q)
        if augment:
            flip = (torch.rand(count) < 0.5)[:, None]
            a, b = mirror(self.body, q, p)
            q, p = torch.where(flip, a, q), torch.where(flip, b, p)
            q, exists = self._graft(q, exists, gaps)
        known = self._known(gaps, exists)
        q, p, *_ = align(q, p)
        return Windows(q, p, known, prior.neighbours(known), gaps)

    def _graft(self, q: Tensor, exists: Tensor, gaps: Tensor) -> tuple[Tensor, Tensor]:
        """A limb, or the body from some joint on, of the next window for some: people nobody has seen move otherwise."""
        count = len(gaps)
        theirs = exists.roll(1, 0)
        some = (torch.rand(count) < GRAFTED) & theirs.gather(1, PAST + gaps[:, None])[:, 0]
        joints = self.below[:, torch.randint(1, len(self.below), (count,))] & some
        return torch.where(joints[..., None], q.roll(1, 2), q), exists & (theirs | ~some[:, None])

    def _known(self, gaps: Tensor, exists: Tensor) -> Tensor:
        """Keys (J, B, T): whole poses around the gap; some have joints or breakdowns inside, or lone poses around."""
        count, length = exists.shape
        many = torch.where(torch.rand(count) < 0.8, 10, torch.randint(2, 10, (count,)))
        after = torch.where(torch.rand(count) < AFTER, many, 1)[:, None]
        frames, target = torch.arange(length), (PAST + gaps)[:, None]
        seen = exists & (frames < target + after)
        whole = seen & ((frames < PAST) | (frames >= target))
        known = whole.expand(len(self.body.names), -1, -1).clone()
        kind = (3 * torch.rand(count) / PARTIAL)[:, None]
        joints = (torch.rand(len(known), count) < 0.4)[..., None] & seen
        known |= (kind < 1) & joints
        known |= (kind >= 1) & (kind < 2) & joints & (torch.rand(count, length) < 0.15)
        known &= (kind < 2) | (kind >= 3) | (frames == PAST - 1) | (frames == target) | (torch.rand(count, length) < 0.2)
        return known


def catmull_rom(a: Tensor, b: Tensor, c: Tensor, d: Tensor, share: Tensor) -> Tensor:
    """The cubic through four frames, between the second (share 0) and the third; lines would lose what short gaps need."""
    return b + share / 2 * (c - a + share * (2 * a - 5 * b + 4 * c - d + share * (3 * (b - c) + d - a)))


def slerp(q: Tensor, p: Tensor, around: prior.Neighbours) -> tuple[Tensor, Tensor]:
    """Constant velocity between the frames around (B, T): the yardstick."""
    share = (torch.arange(p.shape[-1]) - around.start) / (around.end - around.start).clamp(min=1)
    (a, b), (c, d) = ([x.gather(-1, frame.expand(x.shape)) for x in (q, p)] for frame in (around.start, around.end))
    turned = rotations.multiply(a, rotations.exp(share * rotations.log(rotations.multiply(rotations.conjugate(a), c))))
    return turned, b + share * (d - b)


def errors(body: Body, sigma: Tensor, guess: tuple[Tensor, Tensor], truth: Windows) -> Tensor:
    """L2P, L2Q and the same norm of the error of each frame's step (3, B), means over the gap."""
    seen = slice(PAST - 1, PAST + int(truth.gap.max()) + 1)
    with torch.no_grad():
        true_p, true_q = forward_kinematics(body, truth.turns[..., seen], truth.root[..., seen])
    p, q = forward_kinematics(body, *(values[..., seen] for values in guess))
    true_q = torch.where((q * true_q).sum(0, keepdim=True) < 0, -true_q, true_q)
    off = (p - true_p) / sigma
    frames, target = torch.arange(seen.start, seen.start + p.shape[-1]), (PAST + truth.gap)[:, None]
    inside = (frames >= PAST) & (frames < target)
    norms = [(x.square().sum((0, 1)) + 1e-8).sqrt() for x in (off, q - true_q, off.diff(dim=-1))]
    spans = inside, inside, ((frames >= PAST) & (frames <= target))[:, 1:]
    return torch.stack([(norm * span).sum(-1) / span.sum(-1) for norm, span in zip(norms, spans, strict=True)])


class Muon(torch.optim.Optimizer):
    """Momentum made orthogonal, for the weight matrices of the blocks (Jordan et al. 2024)."""

    def __init__(self, matrices: list[Tensor], lr: float) -> None:
        super().__init__(matrices, {"lr": lr})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        group, shapes = self.param_groups[0], {}
        for m in group["params"]:
            shapes.setdefault(m.shape, []).append(m)
        for shape, matrices in shapes.items():
            momenta = [self.state[m].setdefault("momentum", torch.zeros_like(m)) for m in matrices]
            torch._foreach_lerp_(momenta, [m.grad for m in matrices], 0.05)
            update = orthogonal(torch.stack(torch._foreach_lerp([m.grad for m in matrices], momenta, 0.95)))
            torch._foreach_mul_(matrices, 1 - 0.05 * group["lr"])
            torch._foreach_add_(matrices, list(update.float()), alpha=-0.2 * group["lr"] * max(shape) ** 0.5)


def orthogonal(x: Tensor) -> Tensor:
    """A stack of matrices with all singular values near one: five of Newton and Schulz's steps."""
    tall = x.shape[1] > x.shape[2]
    x = ((x.mT if tall else x) / (x.norm(dim=(1, 2), keepdim=True) + 1e-12)).bfloat16()
    for _ in range(5):
        a = x @ x.mT
        x = 3.4445 * x + torch.baddbmm(a, a, a, beta=-4.7750, alpha=2.0315) @ x
    return x.mT if tall else x


class Trainer:
    """The network, its running average, the optimisers, and how far they are."""

    def __init__(self, splits: dict[str, list[Clip]], size: Size, rate: float, part: str = "long") -> None:
        self.body = body_of(splits["train"][0])
        self.scale = _mocap.sigma(splits["train"])
        self.sigma = torch.from_numpy(self.scale.T.copy()).float()[..., None, None]
        self.motion = Motion(splits["train"], self.body)
        self.tests = {name: _mocap.windows(clips, 65, 40) for name, clips in splits.items() if name != "train"}
        self.net, self.average = Network(self.body, size), Network(self.body, size)
        self.units = torch.ones(LONGEST + 1, 3)  # SLERP's errors by gap
        self.part = part
        own = {name: w for name, w in self.net.named_parameters() if name.startswith("short.") == (part == "short")}
        matrices = (self.net.short if part == "short" and self.net.short else self.net).matrices()
        others = [w for w in own.values() if all(w is not m for m in matrices)]
        adam = torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
        self.optimisers: list[torch.optim.Optimizer] = [adam, Muon(matrices, rate)]
        self.rate, self.step, self.windows, self.seconds = rate, 0, 0, 0.0

    @torch.no_grad()
    def calibrate(self) -> None:
        """Measure the prior's errors on training windows with one frame and with ten after the gap, and SLERP's with one."""
        shares = []
        for gap in range(1, LONGEST + 1):
            kind = next(k for k, (high, _) in enumerate(LENGTHS) if gap <= high)
            truth, frames = self.motion.draw(kind, SAMPLES, gap, augment=False), torch.arange(LENGTHS[kind][1])
            missing, since = slice(PAST, PAST + gap), torch.arange(1, gap + 1)
            for more, after in ((1, 10), (0, 1)):
                known = (frames < PAST) | ((frames >= PAST + gap) & (frames < PAST + gap + after))
                around = prior.neighbours(known.expand(truth.known.shape))
                turned, moved = prior.fill_rotations(truth.turns, around), prior.fill_vectors(truth.root, around.of(0))
                active = activity(turned, moved, truth.gap, speeds(turned, moved))[..., None]
                turn = rotations.log(rotations.multiply(rotations.conjugate(turned), truth.turns))[..., missing]
                turn = turn.norm(dim=0) / active[:-1]
                travel = (moved - truth.root)[..., missing].norm(dim=0) / active[-1]
                self.net.spread[more, since, gap + 1 - since] = torch.stack([turn.mean((0, 1)), travel.mean(0)], -1)
            shares.append(turn.mean((1, 2)) / turn.mean())
            line = slerp(truth.turns, truth.root, around.of(0))
            self.units[gap] = errors(self.body, self.sigma, line, truth).mean(1)
        self.net.share[:-1] = torch.stack(shares).mean(0)
        self.average.load_state_dict(self.net.state_dict())

    def advance(self, rate: float) -> dict[int, float]:
        """One step at this part of the learning rate; the loss by length of window."""
        kinds = [0] if self.part == "short" else [1, 2, 4 if self.step % 4 == 3 else 3]
        with torch.no_grad():
            truths = [self.motion.draw(kind, AT_ONCE[kind]) for kind in kinds]
        with torch.autocast("cpu", torch.bfloat16):
            guesses = self.net(truths)
        parts = [errors(self.body, self.sigma, g, t) / self.units[t.gap].T for g, t in zip(guesses, truths, strict=True)]
        losses = torch.stack([part.mean(1) @ part.new_tensor(WEIGHTS) for part in parts])
        losses.mean().backward()
        torch.nn.utils.clip_grad_norm_([w for w in self.net.parameters() if w.grad is not None], 1.0, error_if_nonfinite=True)
        for optimiser in self.optimisers:
            optimiser.param_groups[0]["lr"] = self.rate * rate * min(1, (self.step + 1) / 100)
            optimiser.step()
            optimiser.zero_grad()
        self.step, self.windows = self.step + 1, self.windows + sum(len(t.gap) for t in truths)
        with torch.no_grad():  # over the last tenth of the steps, at most 1000
            new = max(0.001, 10 / (self.step + 9))
            torch._foreach_lerp_(list(self.average.parameters()), list(self.net.parameters()), new)
        return dict(zip(kinds, losses.tolist(), strict=True))

    @torch.no_grad()
    def cuts(self, split: str, after: int, cap: int) -> list[float]:
        """By how much L2P is below SLERP's, in %, at gap 5, or 15, 30 and 45, with so many frames known after it."""
        tests, result = self.tests[split], []
        chosen = np.linspace(0, len(tests) - 1, min(cap, len(tests))).astype(int)
        for gap in (5,) if self.part == "short" else (15, 30, 45):
            length = next(length for high, length in LENGTHS if gap <= high)
            frames = torch.arange(length)
            index = np.minimum(frames.numpy(), 64)
            q = torch.from_numpy(tests.rotations[chosen][:, index]).float().permute(3, 2, 0, 1)
            q, p, *_ = align(q, torch.from_numpy(tests.root[chosen][:, index]).float().permute(2, 0, 1))
            known, one = ((frames < PAST) | ((frames >= PAST + gap) & (frames < PAST + gap + n)) for n in (after, 1))
            known = known.expand(q.shape[1:])
            gaps = torch.full((len(chosen),), gap)
            guess = self.average([Windows(q, p, known, prior.neighbours(known), gaps)])[0]
            line = slerp(q, p, prior.neighbours(one.expand(p.shape[1:])))
            truth, ours, theirs = (
                forward_kinematics(self.body, *x)[0][..., PAST : PAST + gap].permute(2, 3, 1, 0).numpy()
                for x in ((q, p), guess, line)
            )
            off = [metrics.l2p(x, truth, self.scale) for x in (ours, theirs)]
            result.append(round(100 * (1 - off[0] / off[1]), 1))
        return result

    def adopt(self, path: pathlib.Path) -> None:
        """Take over from a file what this run does not train, and the errors measured before."""
        found = load(path).state_dict()
        other = {name: w for name, w in found.items() if name.startswith("short.") != (self.part == "short")}
        for net in (self.net, self.average):
            net.load_state_dict(net.state_dict() | other)

    def state(self) -> dict[str, Any]:
        progress = {name: getattr(self, name) for name in ("units", "step", "windows", "seconds")}
        nets = {"size": vars(self.net.size), "net": self.net.state_dict(), "average": self.average.state_dict()}
        return nets | progress | {"optimisers": [o.state_dict() for o in self.optimisers], "random": torch.get_rng_state()}

    def restore(self, state: dict[str, Any]) -> None:
        self.net.load_state_dict(state["net"])
        self.average.load_state_dict(state["average"])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        for name in ("units", "step", "windows", "seconds"):
            setattr(self, name, state[name])
        torch.set_rng_state(state["random"])


def body_of(clip: Clip) -> Body:
    """The skeleton of a clip whose joints are named by side, l or r before a capital."""
    names, other = [str(name) for name in clip.names], {"l": "r", "r": "l"}
    twins = [other.get(name[0], "") + name[1:] if name[1].isupper() else name for name in names]
    offsets = tuple((float(x), float(y), float(z)) for x, y, z in clip.offsets)
    return Body(tuple(names), tuple(int(p) for p in clip.parents), offsets, tuple(names.index(twin) for twin in twins))


def keep(state: dict[str, Any], path: pathlib.Path) -> None:
    """Write a checkpoint so that an interruption leaves the former one."""
    torch.save(state, path.with_suffix(".part"))
    path.with_suffix(".part").replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("long", "short"))
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--anneal", type=float, default=0, help="of these, the last so many end at learning rate 0")
    parser.add_argument("--data", type=pathlib.Path, default=ROOT.parent / "shared" / "data" / "mocap")
    parser.add_argument(
        "--out", type=pathlib.Path, default=pathlib.Path.home() / ".cache" / "vivant" / "training" / "inbetween"
    )
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    checkpoint, weights = options.out / f"{options.part}.pt", options.out / "inbetween.safetensors"

    trainer = Trainer(_mocap.load(options.data), Size(), options.rate, options.part)
    if checkpoint.is_file():
        trainer.restore(torch.load(checkpoint, weights_only=True))
    else:
        trainer.calibrate()
    if weights.is_file():
        trainer.adopt(weights)
    print(f"{sum(w.numel() for w in trainer.net.parameters()) / 1e6:.1f} M weights, from step {trainer.step}", flush=True)

    stops: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stops.append(number))
    begin = saved = time.monotonic()
    means: dict[int, float] = {}
    annealing = False
    while not stops and (left := options.minutes - (time.monotonic() - begin) / 60) > 0:
        if left < options.anneal and not annealing:
            keep(trainer.state(), checkpoint)
            annealing = True
        start = time.monotonic()
        losses = trainer.advance(min(1, left / options.anneal) if annealing else 1)
        trainer.seconds += time.monotonic() - start
        means |= {kind: 0.99 * means.get(kind, loss) + 0.01 * loss for kind, loss in losses.items()}
        if time.monotonic() - saved > 600:
            saved = time.monotonic()
            if not annealing:
                keep(trainer.state(), checkpoint)
            line = {"step": trainer.step, "windows": trainer.windows, "minutes": round(trainer.seconds / 60, 1)}
            line |= {"loss": [round(means[kind], 3) for kind in sorted(means)], "annealing": annealing}
            line |= {f"{split}, {n} after": trainer.cuts(split, n, 200) for split in trainer.tests for n in (1, 10)}
            with (options.out / f"{options.part}.jsonl").open("a", encoding="utf-8") as file:
                print(json.dumps(line), file=file)
            print(json.dumps(line), flush=True)
    if not annealing:
        keep(trainer.state(), checkpoint)
    save(trainer.average, weights)


if __name__ == "__main__":
    main()
