# SPDX-License-Identifier: GPL-3.0-or-later
"""What Vivant adds to Blender, in order.  Each module lists its CLASSES; a few also register menus and handlers."""

from types import ModuleType

import bpy

from . import preferences, properties
from .operators import (
    cameras_io,
    capture,
    contacts,
    engine,
    inbetween,
    phase,
    retarget,
    shots,
    splats_edit,
    splats_export,
    splats_io,
    splats_outside,
    splats_playback,
    splats_render,
    splats_size,
    splats_stream,
    takes,
)
from .panels import capture as capture_panel
from .panels import menus, sidebar
from .panels import phase as phase_panel
from .panels import splats_edit as splats_edit_panel
from .panels import splats_outside as splats_outside_panel
from .panels import splats_playback as splats_playback_panel
from .panels import splats_render as splats_render_panel
from .panels import takes as takes_panels
from .scene import drawing, ghosts, outside_saves, playback

MODULES: tuple[ModuleType, ...] = (
    preferences,
    properties,
    engine,
    splats_io,
    splats_export,
    splats_render,
    splats_playback,
    splats_stream,
    splats_outside,
    splats_edit,
    splats_size,
    cameras_io,
    capture,
    inbetween,
    shots,
    takes,
    contacts,
    retarget,
    phase,
    menus,
    sidebar,
    splats_playback_panel,
    splats_render_panel,
    splats_outside_panel,
    splats_edit_panel,
    takes_panels,
    phase_panel,
    capture_panel,
    drawing,
    ghosts,
    playback,
    outside_saves,
)


def register() -> None:
    """Register every module's classes, then let it add its menus, handlers and properties."""
    for module in MODULES:
        for cls in module.CLASSES:
            bpy.utils.register_class(cls)
        if hasattr(module, "register"):
            module.register()


def unregister() -> None:
    """The same backwards."""
    for module in reversed(MODULES):
        if hasattr(module, "unregister"):
            module.unregister()
        for cls in reversed(module.CLASSES):
            bpy.utils.unregister_class(cls)
