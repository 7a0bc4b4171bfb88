# SPDX-License-Identifier: GPL-3.0-or-later
"""Part-wise phase of motion (after Dai et al. 2025, arXiv 2503.08180, and DeepPhase, Starke et al. 2022)."""
