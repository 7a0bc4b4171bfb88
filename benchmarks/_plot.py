# SPDX-License-Identifier: GPL-3.0-or-later
"""A line chart as a PNG, with nothing but Pillow."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

WIDTH, HEIGHT = 960, 600
LEFT, RIGHT, TOP, BOTTOM = 80, 250, 90, 60
# Okabe and Ito's colours, told apart by all eyes.
COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8c8c00")


def lines(
    path: pathlib.Path, title: str, across: str, up: str, x: Sequence[float], series: Mapping[str, Sequence[float]]
) -> None:
    """Draw series over x, zero included, and write the picture to `path`."""
    picture = Image.new("RGB", (WIDTH, HEIGHT), "white")
    draw = ImageDraw.Draw(picture)
    large, small = ImageFont.load_default(20), ImageFont.load_default(14)
    values = np.array([0.0, *(value for row in series.values() for value in row)])
    ticks = _ticks(float(values.min()), float(values.max()))

    def place(a: float, b: float) -> tuple[float, float]:
        share = (a - x[0]) / (x[-1] - x[0] or 1), (b - ticks[0]) / (ticks[-1] - ticks[0])
        return LEFT + share[0] * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - share[1] * (HEIGHT - TOP - BOTTOM)

    draw.text((LEFT, 18), title, "black", large)
    draw.text((LEFT, TOP - 14), up, "black", small, anchor="ls")
    draw.text((WIDTH - RIGHT, HEIGHT - 14), across, "black", small, anchor="rs")
    for tick in ticks:
        draw.line([place(x[0], tick), place(x[-1], tick)], "#999999" if tick == 0 else "#e5e5e5")
        draw.text((LEFT - 10, place(0, tick)[1]), f"{tick:g}", "black", small, anchor="rm")
    for value in x:
        draw.text((place(value, 0)[0], HEIGHT - BOTTOM + 8), f"{value:g}", "black", small, anchor="ma")
    lowest = HEIGHT + 0.0
    for index, (name, row) in enumerate(sorted(series.items(), key=lambda item: item[1][-1])):
        colour = COLOURS[index % len(COLOURS)]
        points = [place(a, b) for a, b in zip(x, row, strict=True)]
        draw.line(points, colour, 3, joint="curve")
        for a, b in points:
            draw.ellipse((a - 4, b - 4, a + 4, b + 4), fill=colour)
        lowest = min(points[-1][1], lowest - 18)  # names one above the other
        draw.text((points[-1][0] + 14, lowest), name, colour, small, anchor="lm")
    picture.save(path)


def _ticks(low: float, high: float) -> list[float]:
    """Round values that enclose both, about six."""
    rough = max(high - low, 1e-9) / 5
    unit = 10.0 ** np.floor(np.log10(rough))
    step = unit * next(factor for factor in (1, 2, 5, 10) if factor * unit >= rough)
    first = int(np.floor(low / step))
    return [float(step * count) for count in range(first, max(int(np.ceil(high / step)), first + 1) + 1)]
