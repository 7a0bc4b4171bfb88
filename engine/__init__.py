# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine: another process that does the heavy work.  Nothing here imports bpy."""
