# SPDX-License-Identifier: GPL-3.0-or-later
"""How far a cloud is from itself after a file: for the tests of every format and for the page that lists them."""

from __future__ import annotations

import pathlib

import numpy as np
from numpy.typing import NDArray

from vivant.backends.common.rotations import normalise
from vivant.backends.gaussian import sh
from vivant.backends.gaussian.axes import change_axes
from vivant.backends.gaussian.cloud import SplatCloud
from vivant.backends.gaussian.formats import FORMATS, Format, read_splats, write_splats
from vivant.backends.gaussian.formats.format import STILL

MEASURES = ("position", "log scale", "degrees", "opacity", "colour", "SH")


def writable() -> list[tuple[Format, str]]:
    """Every ending that can be written, with its row of the table."""
    return [(form, extension) for form in FORMATS if form.writable for extension in form.extensions]


def path_in(folder: pathlib.Path, extension: str) -> pathlib.Path:
    """A file of that ending, or of that name where it is a whole one."""
    return folder / (f"a{extension}" if extension.startswith(".") else extension)


def cloud_for(form: Format, count: int, degree: int | None = None, seed: int = 1) -> SplatCloud:
    """Random splats in the range of every format, of the highest degree that this one holds."""
    rng = np.random.default_rng([seed, count])
    degree = form.holds[STILL] if degree is None else degree
    return SplatCloud(
        rng.normal(size=(count, 3)),
        normalise(rng.normal(size=(count, 4))),
        np.exp(rng.uniform(-8, -1, (count, 3))),
        rng.uniform(0.005, 0.995, count),
        np.concatenate(
            [rng.uniform(-1.7, 1.7, (count, 1, 3)), rng.uniform(-0.9, 0.9, (count, (degree + 1) ** 2 - 1, 3))], axis=1
        ),
    )


def through(cloud: SplatCloud, path: pathlib.Path) -> SplatCloud:
    """The cloud after a file, in its own frame again."""
    path.parent.mkdir(exist_ok=True)
    write_splats(cloud, path)
    return change_axes(read_splats(path), cloud.source.axes)


def order_of(cloud: SplatCloud, reference: SplatCloud) -> NDArray[np.intp]:
    """Where the reference's splats are in the cloud, by the nearest position: formats may sort.

    Raises AssertionError where two have the same nearest one.
    """
    index = (
        np.square(reference.means[:, None] - cloud.means[None]).sum(axis=2).argmin(axis=1) if len(cloud) else np.empty(0, int)
    )
    assert len(cloud) == len(reference) == len(np.unique(index)), "splats were lost, doubled or moved far"
    return index


def errors(before: SplatCloud, after: SplatCloud) -> dict[str, float]:
    """The largest difference of each kind between still clouds, once they are in the same order: MEASURES."""
    after = after.select(order_of(after, before))
    apart = np.minimum(*(np.linalg.norm(before.quats.astype(float) - sign * after.quats, axis=1) for sign in (1, -1)))
    kept = min(before.sh.shape[1], after.sh.shape[1])
    differences = {
        "position": after.means - before.means,
        "log scale": np.log(after.scales) - np.log(before.scales),
        "degrees": np.degrees(4 * np.arcsin(np.minimum(apart / 2, 1))),
        "opacity": after.opacities - before.opacities,
        "colour": sh.to_rgb(after.sh[:, 0]) - sh.to_rgb(before.sh[:, 0]),
        "SH": after.sh[:, 1:kept] - before.sh[:, 1:kept],
    }
    return {name: float(np.abs(values).max(initial=0)) for name, values in differences.items()}
