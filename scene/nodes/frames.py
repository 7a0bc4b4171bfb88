# SPDX-License-Identifier: GPL-3.0-or-later
"""Node group 'Vivant Family Frames': says when which frame is shown of a cloud whose frames `scene.playback` sets.

The points pass as they are, so that a file without Vivant shows the frame that was set last.
"""

import bpy

from . import moving
from .build import Nodes, arrange, ensure


def tree() -> bpy.types.NodeTree:
    """Inputs: those of `moving.time`."""
    return ensure("Vivant Family Frames", 1, "GeometryNodeTree", _build)


def _build(g: Nodes) -> None:
    geometry = g.input("Geometry", "Geometry")
    moving.time(g)
    g.output("Geometry", "Geometry", geometry)
    arrange(g.tree)
    g.tree.is_modifier = True
