# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings that are saved with the file."""

import bpy


class VIVANT_PG_scene(bpy.types.PropertyGroup):
    """Vivant's settings of a scene"""

    viewport_splats: bpy.props.IntProperty(
        name="Viewport Splats",
        description="Most splats that the viewport draws; of larger clouds it leaves out the faintest and smallest. "
        "Renders always draw all",
        default=1_000_000,
        min=1_000,
        soft_max=5_000_000,
        max=20_000_000,
    )


def register() -> None:
    """Attach the settings to scenes."""
    bpy.types.Scene.vivant = bpy.props.PointerProperty(type=VIVANT_PG_scene)


def unregister() -> None:
    """Detach them."""
    del bpy.types.Scene.vivant


CLASSES = (VIVANT_PG_scene,)
