# SPDX-License-Identifier: GPL-3.0-or-later
"""A cloud in the making: arrays that a format fills block by block, mended as they fill.

Files hold NaN, zero quaternions and infinite lifetimes; a cloud does not.  What cannot be drawn is
dropped, what can be read one sensible way is mended, and everything is counted.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...common.errors import BrokenFile
from ...common.rotations import IDENTITY
from ...common.threads import in_blocks
from ..cloud import COLUMNS, Floats, Source, SplatCloud
from ..motion.family import Family
from ..motion.stg import Stg

SMALLEST_SCALE, LARGEST_SCALE = (float(np.float32(np.exp(limit))) for limit in (-20.0, 20.0))
LARGEST_LOGIT = 13.8155
"""Opacities of infinite logits: 1e-6 from 0 and from 1."""
LARGEST = 1e18
"""Positions and colours beyond it are as good as infinite: their squares overflow."""
SHORTEST_LIFE, LONGEST_LIFE = 1e-6, 1e6
FASTEST = 1e12
LATEST = 1e6

PADDING = "padding records: dropped"


class Draft:
    """Arrays of `count` splats, float32, to be filled with activated values, and the names of what was mended.

    moving adds those of spacetime Gaussians; `spin` is then filled for the quaternions as they are in
    the file, not for unit ones.  Motion of another kind is put into `family`, sentences for the user into `warnings`.
    """

    def __init__(self, count: int, coefficients: int = 1, moving: bool = False) -> None:
        def empty(*shape: int) -> Floats:
            return np.empty((count, *shape), np.float32)

        self.means, self.quats, self.scales, self.opacities = empty(3), empty(4), empty(3), empty()
        self.sh = np.empty((coefficients, count, 3), np.float32).transpose(1, 0, 2)
        self.moving = moving
        if moving:
            self.velocity, self.spin, self.center, self.width = empty(3, 3), empty(4), empty(), empty()
        self.extras: dict[str, Floats] = {}
        self.keep = np.ones(count, bool)
        self.repairs: Counter[str] = Counter()
        self.family: Family | None = None
        self.warnings: list[str] = []

    def drop(self, bad: NDArray[np.bool_], name: str) -> None:
        """Leave splats (N,) out, and count them."""
        self.repairs[name] += int(np.count_nonzero(bad & self.keep))
        self.keep &= ~bad

    def reset(self, values: NDArray[Any], bad: NDArray[np.bool_], value: ArrayLike, name: str) -> None:
        """Mend values (bad of their shape) or whole rows (bad (N,)), and count the splats that they belong to."""
        self.repairs[name] += _mended(values, bad, value, self.keep)

    def fill(self, decode: Callable[[slice], Counter[str] | None]) -> None:
        """Call `decode` for all blocks of rows; it writes those rows and returns what it mended itself."""

        def work(rows: slice) -> Counter[str]:
            with np.errstate(all="ignore"):
                found = decode(rows)
                return self._mend(rows) + (found or Counter())

        for found in in_blocks(work, len(self.keep)):
            self.repairs.update(found)

    def fill_parts(self, parts: Sequence[tuple[int, Callable[[slice, slice], None]]]) -> None:
        """`fill` for files in parts: numbers of splats, and what decodes a slice of a part into rows of the whole."""
        ends = np.cumsum([count for count, _ in parts], dtype=np.int64)

        def block(rows: slice) -> None:
            at = rows.start
            while at < rows.stop:
                part = int(np.searchsorted(ends, at, "right"))
                first, last = int(ends[part]) - parts[part][0], min(rows.stop, int(ends[part]))
                parts[part][1](slice(at - first, last - first), slice(at, last))
                at = last

        self.fill(block)

    def finish(self, source: Source, encoded: NDArray[np.uint8] | None = None) -> SplatCloud:
        """The cloud without the dropped splats; it keeps `encoded` (the whole file) when nothing was mended.

        Its arrays are read-only then, so that what is written back is always what the cloud holds.
        """
        if self.moving and self.family is None:
            self.family = Stg(self.velocity, self.spin, self.center, self.width)
        if not self.keep.all():
            if not self.keep.any():
                raise BrokenFile(f"None of the file's {len(self.keep):,} splats can be used: {self._listed()}.")
            for name in COLUMNS:
                setattr(self, name, getattr(self, name)[self.keep])
            self.extras = {name: column[self.keep] for name, column in self.extras.items()}
            self.family = self.family and self.family.select(self.keep)
        if not +self.repairs - Counter({PADDING: self.repairs[PADDING]}) and encoded is not None:
            moving = (values for values in vars(self.family).values() if isinstance(values, np.ndarray)) if self.family else ()
            for array in (*(getattr(self, name) for name in COLUMNS), *self.extras.values(), *moving, encoded):
                array.flags.writeable = False
        else:
            encoded = None
        return SplatCloud(
            self.means,
            self.quats,
            self.scales,
            self.opacities,
            self.sh,
            family=self.family,
            extras=self.extras,
            source=replace(source, repairs=dict(+self.repairs), warnings=(*source.warnings, *self.warnings), encoded=encoded),
        )

    def _listed(self) -> str:
        return "; ".join(f"{name} ({count:,})" for name, count in self.repairs.items())

    def _mend(self, rows: slice) -> Counter[str]:
        counts: Counter[str] = Counter()
        keep = self.keep[rows]

        def drop(bad: NDArray[np.bool_], name: str) -> None:
            counts[name] += int(np.count_nonzero(bad & keep))
            keep[bad] = False

        def reset(array: Floats, bad: NDArray[np.bool_], value: float, name: str) -> None:
            counts[name] += _mended(array, bad, value, keep)

        means, scales, opacities, sh = self.means[rows], self.scales[rows], self.opacities[rows], self.sh[rows]
        drop(~(np.abs(means) < LARGEST).all(axis=1), "positions not finite: splats dropped")
        drop(np.isnan(scales).any(axis=1), "scales not a number: splats dropped")
        drop(np.isnan(opacities), "opacities not a number: splats dropped")
        reset(scales, scales < SMALLEST_SCALE, SMALLEST_SCALE, "scales too small: set to e^-20")
        reset(scales, scales > LARGEST_SCALE, LARGEST_SCALE, "scales too large: set to e^20")
        reset(sh, ~(np.abs(sh) < LARGEST), 0, "colours not finite: set to 0")
        lengths, zero = _make_unit(self.quats[rows])
        counts["rotations zero or not finite: set to none"] += int(np.count_nonzero(zero & keep))
        if self.moving:
            center, width, velocity, spin = self.center[rows], self.width[rows], self.velocity[rows], self.spin[rows]
            spin /= lengths[:, None]
            drop(~(np.abs(center) <= LATEST), "times not finite: splats dropped")
            reset(width, ~(width <= LONGEST_LIFE), LONGEST_LIFE, "lifetimes infinite: set to 1e6")
            reset(width, width < SHORTEST_LIFE, SHORTEST_LIFE, "lifetimes too short: set to 1e-6")
            reset(velocity, ~(np.abs(velocity) <= FASTEST), 0, "motion not finite: set to 0")
            reset(spin, ~(np.abs(spin) <= FASTEST), 0, "spin not finite: set to 0")
        return counts


def _mended(values: NDArray[Any], bad: NDArray[np.bool_], value: ArrayLike, keep: NDArray[np.bool_]) -> int:
    """Set what is bad, values (of their shape) or rows (n,), to a value; how many of the splats to keep (n,) that are."""
    if not bad.any():
        return 0
    values[bad] = value
    return int(np.count_nonzero(bad.reshape(len(bad), -1).any(axis=1) & keep))


def _make_unit(quats: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Normalise (n, 4) in place; lengths (n,) before, 1 where there was none, and where that was (n,)."""
    lengths = np.sqrt(np.einsum("nk,nk->n", quats, quats))
    zero = ~((lengths > 1e-12) & (lengths < 1e18))
    if zero.any():
        lengths[zero] = np.linalg.norm(quats[zero].astype(np.float64), axis=1)  # the squares of huge ones overflow
        zero = ~((lengths > 1e-12) & np.isfinite(lengths))
        quats[zero], lengths[zero] = IDENTITY, 1
    quats /= lengths[:, None]
    return lengths, zero
