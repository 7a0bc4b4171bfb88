# SPDX-License-Identifier: GPL-3.0-or-later
"""The order in which a viewport blends its splats, kept up to date by a thread while the view turns.

The thread sees plain arrays only.  A view has one sort under way at a time, and its next one is of what is seen then,
so that nothing queues up; the graphics card gets the order when the view is drawn.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import bpy
import gpu
import numpy as np
from numpy.typing import NDArray

from ..backends.gaussian.render.order import depths_of, far_first
from . import rasteriser

Floats = NDArray[np.float32]

AT_ONCE = 100_000  # splats that are sorted in a millisecond or two: not worth a late order
POLL = 0.004  # seconds between two looks at what the thread does

_coming: list[Future[Found]] = []  # what the viewports wait for


@dataclass(frozen=True, eq=False)
class Points:
    """What is sorted: indices of splats, as the card counts them, and their places, one array a cloud."""

    names: Floats
    means: list[Floats]


class Wanted(NamedTuple):
    """An order: of what, along which lines, see `depths_of`, beyond which distance."""

    points: Points
    lines: tuple[tuple[float, ...], ...]
    near: float
    perspective: bool


class Found(NamedTuple):
    """The order that was wanted: texels of so many splats."""

    wanted: Wanted
    texels: Floats
    count: int


def sort(wanted: Wanted) -> Found:
    """The order, far to near; for any thread."""
    names, depths = wanted.points.names, depths_of(wanted.points.means, np.float32(wanted.lines))
    seen = depths > wanted.near
    if not seen.all():
        names, depths = names[seen], depths[seen]
    return Found(wanted, rasteriser.lay_out(names, far_first(depths, wanted.perspective)), len(names))


@dataclass(eq=False)
class Order:
    """What one view blends: the first `count` splats of the texture."""

    texture: gpu.types.GPUTexture | None = None
    count: int = 0
    of: Wanted | None = None
    coming: Future[Found] | None = None

    def update(self, wanted: Wanted, may_be_late: bool) -> None:
        """Be the order that is wanted: at once, or where a turned view may be late and there is much to sort, soon.

        The viewports are drawn again when the thread has ended, for this to be called again.
        """
        if self.coming is not None and self.coming.done():
            found, self.coming = self.coming.result(), None
            if found.wanted.points is wanted.points:
                self._take(found)
        if self.of == wanted:
            return
        turned = self.of is not None and self.of.points is wanted.points
        if not (may_be_late and turned) or len(wanted.points.names) <= AT_ONCE:
            self.coming = None
            self._take(sort(wanted))
        elif self.coming is None:
            self.coming = _sorter().submit(sort, wanted)
            _coming.append(self.coming)
            if not bpy.app.timers.is_registered(_redraw_when_sorted):
                bpy.app.timers.register(_redraw_when_sorted, first_interval=POLL)

    def _take(self, found: Found) -> None:
        self.texture, self.count, self.of = rasteriser.pack_order(found.texels), found.count, found.wanted


@cache
def _sorter() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, "vivant order")


def _redraw_when_sorted() -> float | None:
    """A timer's function: have what the thread has sorted drawn, and come again while it sorts."""
    sorting = [one for one in _coming if not one.done()]
    if len(sorting) < len(_coming):
        redraw_viewports()
    _coming[:] = sorting
    return POLL if sorting else None


def redraw_viewports() -> None:
    """Have all 3D viewports drawn again."""
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type == "VIEW_3D":
                area.tag_redraw()


def forget() -> None:
    """End the thread; the next late order starts another one."""
    if bpy.app.timers.is_registered(_redraw_when_sorted):
        bpy.app.timers.unregister(_redraw_when_sorted)
    _coming.clear()
    _sorter().shutdown(cancel_futures=True)
    _sorter.cache_clear()
