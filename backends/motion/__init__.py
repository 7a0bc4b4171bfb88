# SPDX-License-Identifier: GPL-3.0-or-later
"""Character motion: clips, their file formats and the solvers that fill gaps between keys."""
