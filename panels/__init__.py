# SPDX-License-Identifier: GPL-3.0-or-later
"""The sidebar tab, menus and lists: they draw and never compute."""
