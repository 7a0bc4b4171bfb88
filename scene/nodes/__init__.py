# SPDX-License-Identifier: GPL-3.0-or-later
"""Node groups, built by code, one module a group.  They play and render without Vivant."""
