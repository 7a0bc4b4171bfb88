# SPDX-License-Identifier: GPL-3.0-or-later
"""Text for panels, dialogs and reports."""

from __future__ import annotations

import textwrap

import bpy


def paragraph(layout: bpy.types.UILayout, context: bpy.types.Context, text: str, icon: str = "NONE") -> None:
    """Text in as many lines as the width of the sidebar or dialog asks for; labels do not wrap."""
    scale = context.preferences.system.ui_scale or 1.0
    popped_up = context.region.type == "WINDOW"  # a dialog over that region, of Blender's usual width
    width = 300 if popped_up else context.region.width / scale
    characters = max(16, int(width / 7.2) - 7)
    column = layout.column(align=True)
    column.scale_y = 0.8
    for index, line in enumerate(textwrap.wrap(text, characters)):
        column.label(text=line, icon=icon if index == 0 else "BLANK1" if icon != "NONE" else "NONE")


def megabytes(count: float) -> str:
    """Bytes for people."""
    return f"{count / 1e6:,.1f} MB"
