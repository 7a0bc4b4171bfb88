# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a clip lies on the timeline, and how it runs there.

The node groups of all motion families compute `share` with the same inputs; this is their truth.  Every one of them may
be keyed, and counts with its value at the frame: keys of the speed do not add up.  With a speed of 0 the offset alone says
which frame of the clip is shown, and the slope of its curve is the speed.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """start_frame and frames, the clip's place; speed, frames of the clip a frame of the scene; offset, frames of the clip.

    loop starts over at the end, back_and_forth turns around there; else the clip's ends stay.  reverse plays from last
    to first.
    """

    start_frame: float = 1.0
    frames: float = 50.0
    speed: float = 1.0
    offset: float = 0.0
    loop: bool = False
    back_and_forth: bool = False
    reverse: bool = False

    def share(self, frame: float) -> float:
        """How much of the clip has passed at a frame of the scene, 0 to 1."""
        share = ((frame - self.start_frame) * self.speed + self.offset) / max(self.frames, 1e-3)
        if self.back_and_forth:
            share = 1 - abs(share % 2 - 1)
        elif self.loop:
            share %= 1
        share = min(max(share, 0.0), 1.0)
        return 1 - share if self.reverse else share


INPUTS = {name: name.replace("_", " ").title().replace(" And ", " and ") for name in Timing.__dataclass_fields__}
"""Names of the node groups' inputs by those of the fields."""
