# SPDX-License-Identifier: GPL-3.0-or-later
"""Motion families: how a cloud changes with time, one module a family."""

from .stg import Stg

FAMILIES = {Stg.name: Stg}
"""Every family by its name."""
