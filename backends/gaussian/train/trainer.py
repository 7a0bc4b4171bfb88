# SPDX-License-Identifier: GPL-3.0-or-later
"""Training of still, moving and view-dependent Gaussians from views: the loop, its schedule and its checkpoints.

Adam with the rates of 3DGS and the fixed number of splats of 3DGS-MCMC; what does not depend on time, or on the direction of
view, has the rate 0.  Everything goes by the share of the budget that is spent, in steps or in seconds, whichever
is further, so that the same schedule serves five minutes and an hour.
"""

from __future__ import annotations

import json
import math
import os
import time
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ...common.errors import BrokenFile
from ..render.projection import Floats
from . import initial, slicing
from .model import Model, View, loss
from .optimise import DEAD, adam, relocate, shake
from .pictures import Pictures
from .views import Views

Kind = Literal["still", "moving", "7d"]
"""3D Gaussians; those whose place and opacity change in time; those where both depend on the direction of view too."""


@dataclass(frozen=True)
class Preset:
    """steps or seconds end it; splats: the most; degree: of harmonics."""

    steps: int
    seconds: float
    splats: int
    degree: int


PRESETS = {
    "preview": Preset(15_000, 300, 30_000, 1),
    "standard": Preset(60_000, 2400, 100_000, 3),
    "paper": Preset(120_000, 8 * 3600, 300_000, 3),
}

LADDER = ((0.05, 4), (0.2, 2), (1.0, 1))
"""Up to which share of the budget pictures are reduced, and by how much."""

RATES = {
    slicing.MEAN: 2.3e-4, slicing.LOG_SCALE: 5e-3, slicing.TURN: 2e-3, slicing.OPACITY: 5e-2, slicing.SLOPE: 1.1e-4,
    slicing.VELOCITY: 5e-3, slicing.VIEW_MEAN: 2e-3, slicing.CENTER: 1e-3, slicing.FALL: 2e-3, slicing.LOG_WIDTH: 5e-3,
}  # fmt: skip
"""Of Adam, a step, by the first row; of lengths they are multiplied by the extent of the cameras."""

COLOUR_RATE, HARMONICS_RATE = 5e-3, 2.5e-4
LENGTHS = (slicing.MEAN, slicing.SLOPE, slicing.VELOCITY)
FADING = (*LENGTHS, slicing.VIEW_MEAN, slicing.CENTER)  # their rates fall to a hundredth, the others' to a tenth
SPREAD = 0.01
"""Of mean opacity and mean scale in the loss, so that splats that are of no use die (MCMC)."""

EVERY = 100  # steps between two moves of dead splats
GROWTH = 1.05
LAST_MOVE = 0.85  # of the budget
WANDER = 4e5  # of `shake`, times the rate of means
FIRST_SPLATS = 10_000
CHECKS = 20  # of held-out views over the whole training
CHECKED_VIEWS = 8
PATIENCE = 8  # checks without a better one, until training stops early
SAVE_EVERY = 30.0  # seconds


@dataclass(eq=False)
class State:
    """All that training goes on from."""

    model: Model
    moments: list[Floats]  # first and second of parameters, then of coefficients
    random: np.random.Generator
    step: int = 0
    seconds: float = 0.0
    curve: list[tuple[float, int, float]] = field(default_factory=list)  # seconds, step, held-out PSNR


@dataclass(frozen=True)
class Report:
    """What training came to, on the held-out views: decibels, structural similarity; curve as of `State`."""

    psnr: float
    ssim: float
    splats: int
    seconds: float
    steps: int
    curve: tuple[tuple[float, int, float], ...]

    def told(self) -> dict[str, Any]:
        return asdict(self)


Watch = Callable[[State, float], None]
"""Called a few times a second with the state and the share of the budget that is spent; what it raises ends the training."""


def train(
    views: Views,
    preset: Preset,
    kind: Kind | None = None,
    checkpoint: Path | None = None,
    seconds: float | None = None,
    seed: int = 0,
    watch: Watch | None = None,
) -> tuple[Model, Report]:
    """Train until the budget is spent or the held-out views get no better; goes on from a checkpoint that is there.

    kind: by default as the views are.  seconds: instead of the preset's.  Raises as `Pictures.read_all` for broken pictures.
    """
    kind = kind or ("7d" if views.moving else "still")
    levels = {reduction: views.pictures("train", reduction) for _, reduction in LADDER}
    levels[1].read_all()
    background = np.ones(3, np.float32)
    state = load(checkpoint) if checkpoint and checkpoint.exists() else _first(views, levels[1], preset, kind, seed)
    rates, colour_rates = _rates(kind, views.extent), _colour_rates(len(state.model.coefficients))
    limit = preset.seconds if seconds is None else seconds
    deck: list[int] = []
    saved = looked = time.monotonic()
    while (share := max(state.step / preset.steps, state.seconds / limit)) < 1:
        began = time.perf_counter()
        reduction = next(by for until, by in LADDER if share < until)
        if not deck:
            deck = state.random.permutation(len(views.train)).tolist()
        index = deck.pop()
        posed = views.train[index]
        _step(state, View(state.model, posed.camera_at(reduction), posed.time, background),
              over(levels[reduction][index], background), rates, colour_rates, share)  # fmt: skip
        if state.step % EVERY == 0 and share < LAST_MOVE:
            _move(state, preset.splats, kind)
        if state.step > 1 or state.seconds:  # the first one compiles
            state.seconds += time.perf_counter() - began
        if len(state.curve) < CHECKS * share:
            state.curve.append((state.seconds, state.step, evaluate(views, state.model, CHECKED_VIEWS)[0]))
            if _stuck(state.curve):
                break
        now = time.monotonic()
        if checkpoint and now - saved > SAVE_EVERY:
            save(state, checkpoint)
            saved = now
        if watch and now - looked > 0.2:
            watch(state, share)
            looked = now
    psnr, ssim = evaluate(views, state.model)
    if checkpoint:
        save(state, checkpoint)
    return state.model, Report(psnr, ssim, len(state.model), state.seconds, state.step, tuple(state.curve))


def over(picture: Floats, background: Floats) -> Floats:
    """A premultiplied picture (H, W, 4) over a colour: (H, W, 3)."""
    return np.ascontiguousarray(picture[..., :3] + (1 - picture[..., 3:]) * background)


def evaluate(views: Views, model: Model, most: int | None = None) -> tuple[float, float]:
    """Mean PSNR in decibels and mean SSIM of the held-out views, evenly chosen where there are more than `most`."""
    held = views.test or views.train
    chosen = range(len(held)) if most is None else np.linspace(0, len(held) - 1, min(most, len(held))).round().astype(int)
    pictures = views.pictures("test" if views.test else "train")
    background = np.ones(3, np.float32)
    decibels, alike = [], []
    for index in chosen:
        target = over(pictures[int(index)], background)
        shown = np.clip(View(model, held[index].camera_at(1), held[index].time, background).picture, 0, 1)
        error = float(np.square(shown - target).mean())
        decibels.append(-10 * math.log10(max(error, 1e-20)))
        absolute = float(np.abs(shown - target).mean())
        alike.append(1 - (loss(shown, target)[0] - 0.8 * absolute) / 0.2)
    return float(np.mean(decibels)), float(np.mean(alike))


def _first(views: Views, pictures: Pictures, preset: Preset, kind: Kind, seed: int) -> State:
    random = np.random.default_rng(seed)
    count = min(FIRST_SPLATS, preset.splats)
    model = Model(*initial.begin(views, pictures, count, preset.degree, kind != "still", kind == "7d", random))
    return State(model, [np.zeros_like(column) for column in model.columns for _ in range(2)], random)


def _rows(values: Mapping[int, float]) -> Floats:
    """A value for every row of parameters, where `values` has one for each kind by its first row."""
    firsts = sorted(values)
    return np.repeat([values[first] for first in firsts], np.diff([*firsts, slicing.PARAMETERS])).astype(np.float32)


def _rates(kind: Kind, extent: float) -> Floats:
    rates = _rows({first: rate * (extent if first in LENGTHS else 1) for first, rate in RATES.items()})
    if kind == "still":
        rates[slicing.SLOPE :] = 0
    if kind == "moving":
        rates[slicing.SLOPE : slicing.VELOCITY] = 0
        rates[slicing.VIEW_MEAN : slicing.CENTER] = rates[slicing.FALL : slicing.LOG_WIDTH] = 0
    return rates


def _colour_rates(rows: int) -> Floats:
    rates = np.full(rows, HARMONICS_RATE, np.float32)
    rates[:3] = COLOUR_RATE
    return rates


def _step(state: State, view: View, target: Floats, rates: Floats, colour_rates: Floats, share: float) -> None:
    _, gradient = loss(view.picture, target)
    d_parameters, d_coefficients = view.backward(gradient)
    p, count = state.model.parameters, len(state.model)
    opacity = 1 / (1 + np.exp(-p[slicing.OPACITY]))
    d_parameters[slicing.OPACITY] += SPREAD / count * opacity * (1 - opacity)
    scales = slice(slicing.LOG_SCALE, slicing.TURN)
    d_parameters[scales] += SPREAD / (3 * count) * np.exp(p[scales])

    state.step += 1
    late = 0.1 ** max(0.0, 2 * share - 1)
    fading = _rows({first: 0.01**share if first in FADING else late for first in RATES})
    first_p, second_p, first_c, second_c = state.moments
    adam(p, d_parameters, first_p, second_p, rates * fading, state.step)
    adam(state.model.coefficients, d_coefficients, first_c, second_c, colour_rates * np.float32(late), state.step)
    shake(p, view.sliced[3:9], WANDER * float(rates[0] * fading[0]), state.random)


def _move(state: State, most: int, kind: Kind) -> None:
    """Dead splats move to where there is much to show, and some more are added."""
    model = state.model
    more = max(0, min(most, int(GROWTH * len(model))) - len(model))
    if more:
        grown = [np.concatenate([column, column[:, :more]], axis=1) for column in (*model.columns, *state.moments)]
        grown[0][slicing.OPACITY, -more:] = -20
        model.parameters, model.coefficients, *state.moments = grown
    opacity = 1 / (1 + np.exp(-model.parameters[slicing.OPACITY]))
    dead = np.flatnonzero(opacity <= DEAD)
    if not len(dead) or len(dead) == len(model):
        return
    relocate(model.columns, state.moments, dead, state.random)
    if kind != "still":  # a splat and its copy share one life: the copy slides along their way (7DGS, temporal split)
        p = model.parameters
        later = np.exp(p[slicing.LOG_WIDTH, dead]) * state.random.uniform(-0.7, 0.7, len(dead)).astype(np.float32)
        p[slicing.CENTER, dead] += later
        p[: slicing.LOG_SCALE, dead] += p[slicing.VELOCITY : slicing.VIEW_MEAN, dead] * later


def _stuck(curve: list[tuple[float, int, float]]) -> bool:
    """Whether the best check is long ago."""
    best = max(range(len(curve)), key=lambda index: curve[index][2])
    return len(curve) - 1 - best >= PATIENCE


def save(state: State, path: Path) -> None:
    """Write a checkpoint beside the old one and rename it, so that there is always a whole one."""
    told = {"step": state.step, "seconds": state.seconds, "curve": state.curve, "random": state.random.bit_generator.state}
    arrays: dict[str, Any] = {f"moment_{index}": moment for index, moment in enumerate(state.moments)}
    arrays |= {"parameters": state.model.parameters, "coefficients": state.model.coefficients, "told": json.dumps(told)}
    beside = path.with_name(f"{path.name}.part")
    with beside.open("wb") as file:
        np.savez(file, **arrays)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def load(path: Path) -> State:
    """Read a checkpoint.  Raises BrokenFile for what is none."""
    try:
        with np.load(path, allow_pickle=False) as held:
            told = json.loads(str(held["told"]))
            model = Model(held["parameters"], held["coefficients"])
            moments = [held[f"moment_{index}"] for index in range(4)]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise BrokenFile(f"'{path.name}' is no checkpoint: {error}.", "Delete it to train from the beginning.") from error
    random = np.random.default_rng()
    random.bit_generator.state = told["random"]
    return State(model, moments, random, told["step"], told["seconds"], [tuple(row) for row in told["curve"]])
