# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings that are saved with the file."""

import bpy

from .backends.motion.solve import AUTO
from .operators.filling import OUTPUTS, solver_items


class VIVANT_PG_scene(bpy.types.PropertyGroup):
    """Vivant's settings of a scene"""

    viewport_splats: bpy.props.IntProperty(
        name="Viewport Splats",
        description="Most splats that the viewport draws. Of more it draws a part that stands for all, and looks like them. "
        "Renders draw what Density says",
        default=1_000_000,
        min=1_000,
        soft_max=5_000_000,
        max=20_000_000,
    )
    plates: bpy.props.StringProperty(
        name="Plates",
        description="Files that plates of an animation are written to; # stand for the frame's digits",
        default="//plates/plate_####.exr",
        subtype="FILE_PATH",
        options={"ANIMATABLE", "OUTPUT_PATH", "PATH_SUPPORTS_BLEND_RELATIVE"},
    )
    plates_behind: bpy.props.BoolProperty(
        name="Hide Behind Objects",
        description="Leave out of plates what lies behind the scene's other objects, so that they fit over a render of those",
        default=True,
    )
    solver: bpy.props.EnumProperty(
        name="Solver", description="What fills gaps from the tab and the menus", items=solver_items(), default=AUTO
    )
    output: bpy.props.EnumProperty(name="Output", description="How a take is keyed", items=OUTPUTS)
    show_ghosts: bpy.props.BoolProperty(
        name="Ghosts", description="Show the take as stick figures before (blue) and after (orange) the current frame"
    )
    ghosts_of_all: bpy.props.BoolProperty(name="Of All Takes", description="Show faint ghosts of the other takes too")
    ghost_step: bpy.props.IntProperty(
        name="Every", description="Frames from one ghost to the next", default=4, min=1, soft_max=20
    )
    show_trails: bpy.props.BoolProperty(
        name="Trails",
        description="Show the ways of the selected bones (else hands, feet, head and pelvis) in every take, "
        "the shown one bright with a dot on every frame, white ones on keys and green ones where a bone is planted",
    )


def register() -> None:
    """Attach the settings to scenes."""
    bpy.types.Scene.vivant = bpy.props.PointerProperty(type=VIVANT_PG_scene)


def unregister() -> None:
    """Detach them."""
    del bpy.types.Scene.vivant


CLASSES = (VIVANT_PG_scene,)
