# SPDX-License-Identifier: GPL-3.0-or-later
"""Gaussian splats: the cloud, its file formats, how it moves, how it is drawn."""
