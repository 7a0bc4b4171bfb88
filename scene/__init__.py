# SPDX-License-Identifier: GPL-3.0-or-later
"""Blender data <-> NumPy structures, one module a kind of datablock."""
