# SPDX-License-Identifier: GPL-3.0-or-later
"""Constants of the 3DGS rasteriser (Kerbl et al. 2023, published CUDA code), shared by all that draw."""

LOW_PASS = 0.3
"""Added to both variances of a projected splat, square pixels."""

ALPHA_MIN = 1 / 255
"""Fainter contributions are skipped."""

ALPHA_MAX = 0.99

TRANSMITTANCE_MIN = 1e-4
"""A pixel is finished when less light than this still comes through."""

FRUSTUM_MARGIN = 1.3
"""Slopes x/z and y/z in the projection's Jacobian are held within this many half pictures."""
