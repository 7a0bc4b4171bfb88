# SPDX-License-Identifier: GPL-3.0-or-later
"""The sampler beside the spline and SLERP on clips it has not seen: the paper's three measures, gap by gap."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...common import rotations as quaternions
from .. import interpolate, metrics
from ..clip import Clip
from . import solver
from .model import PhaseModel, reduced

Array = NDArray[np.floating]
PAST = 10


@dataclass(frozen=True)
class Row:
    """NPSS; L2P: mean distance of all joints together in metres; skating in centimetres a frame; windows."""

    npss: float
    l2p: float
    skating: float
    windows: int


Method = Callable[[Clip, NDArray[np.bool_]], Clip]


def methods(model: PhaseModel) -> dict[str, Method]:
    """What fills gaps of clips on the model's joints."""
    return {
        "SLERP": interpolate.linear,
        "spline": interpolate.cubic,
        "phase": lambda clip, keys: solver.walked(model, clip, keys),
    }


def table(
    model: PhaseModel,
    clips: Sequence[Clip],
    gaps: Sequence[int],
    after: int = 1,
    step: int = 40,
    cap: int | None = None,
    others: dict[str, Method] | None = None,
) -> dict[str, dict[int, Row]]:
    """Every method and "truth" at every gap: windows every `step` frames of ten frames, the gap, `after` known frames.

    Windows are thinned evenly to `cap`.  `others` are more methods.
    """
    fillers = methods(model) | (others or {})
    small = [reduced(clip, model.names) for clip in clips]
    grounds = {id(clip): _ground(clip) for clip in small}
    rows: dict[str, dict[int, Row]] = {name: {} for name in (*fillers, "truth")}
    for gap in gaps:
        size = PAST + gap + after
        places = [(clip, first) for clip in small for first in range(0, len(clip) - size + 1, step)]
        if cap and len(places) > cap:
            places = [places[index] for index in np.linspace(0, len(places) - 1, cap).astype(int)]
        inside = slice(PAST, PAST + gap)
        keys = np.ones((size, len(model.names)), bool)
        keys[inside] = False
        found: dict[str, list[tuple[Array, Array]]] = {name: [] for name in rows}
        slides: dict[str, list[float]] = {name: [] for name in rows}
        for clip, first in places:
            window = clip.replace(rotations=clip.rotations[first : first + size], root=clip.root[first : first + size])
            blind = window.replace(
                rotations=np.where(keys[..., None], window.rotations, 0), root=np.where(keys[:, :1], window.root, 0)
            )
            lowest, floor = grounds[id(clip)]
            for name in rows:
                done = window if name == "truth" else fillers[name](blind, keys)
                positions, turns = done.forward()
                turns = quaternions.continuous(turns[PAST - 1 : PAST + gap])[1:]
                found[name].append((positions[inside], turns))
                slides[name].append(metrics.skating(positions[inside][:, lowest], floor))
        if not places:
            continue
        truth = [np.stack(values) for values in zip(*found["truth"], strict=True)]
        for name in rows:
            p, q = (np.stack(values) for values in zip(*found[name], strict=True))
            l2p = metrics.l2p(p, truth[0], np.ones(p.shape[2:]))
            rows[name][gap] = Row(metrics.npss(q, truth[1]), l2p, float(np.mean(slides[name])), len(places))
    return rows


def _ground(clip: Clip) -> tuple[NDArray[np.intp], float]:
    """The two joints that come lowest, which are the feet of a human, and the height of the floor under them."""
    heights = clip.forward()[0][..., 1]
    lowest = np.argsort(np.percentile(heights, 5, axis=0))[:2]
    return lowest, float(np.percentile(heights[:, lowest], 5))


def lines(rows: dict[str, dict[int, Row]]) -> list[str]:
    """The table as text, with what each method takes off SLERP's L2P."""
    gaps = sorted({gap for row in rows.values() for gap in row})
    text = [f"{'':24}" + "".join(f"{f'gap {gap}':>10}" for gap in gaps) + "    less than SLERP, %"]
    for measure, unit in (("npss", "NPSS"), ("l2p", "L2P, m"), ("skating", "skating, cm a frame")):
        text.append(unit)
        for name, row in rows.items():
            if name == "truth" and measure != "skating":
                continue
            values = [getattr(row[gap], measure) for gap in gaps]
            base = [getattr(rows["SLERP"][gap], measure) for gap in gaps]
            less = [f"{100 * (1 - value / max(b, 1e-12)):7.1f}" for value, b in zip(values, base, strict=True)]
            text.append(f"  {name:22}" + "".join(f"{value:10.4f}" for value in values) + "   " + "".join(less))
    text.append(f"{'windows':24}" + "".join(f"{rows['SLERP'][gap].windows:10}" for gap in gaps))
    return text
