# SPDX-License-Identifier: GPL-3.0-or-later
"""Methods on arrays: formats, renderers, solvers, the engine's server.  Nothing here imports bpy."""
