# SPDX-License-Identifier: GPL-3.0-or-later
"""Edits of clouds that keep everything a splat is: covariance, spherical harmonics and motion; cloud in, cloud out."""
