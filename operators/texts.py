# SPDX-License-Identifier: GPL-3.0-or-later
"""Text for panels, dialogs and reports."""

from __future__ import annotations

import textwrap

import bpy


def paragraph(layout: bpy.types.UILayout, context: bpy.types.Context, text: str, icon: str = "NONE") -> None:
    """Text in as many lines as the sidebar's width asks for; labels do not wrap."""
    scale = context.preferences.system.ui_scale or 1.0
    characters = max(16, int(context.region.width / scale / 7.2) - 7)
    column = layout.column(align=True)
    column.scale_y = 0.8
    for index, line in enumerate(textwrap.wrap(text, characters)):
        column.label(text=line, icon=icon if index == 0 else "BLANK1" if icon != "NONE" else "NONE")


def megabytes(count: float) -> str:
    """Bytes for people."""
    return f"{count / 1e6:,.1f} MB"
