# SPDX-License-Identifier: GPL-3.0-or-later
"""Motion families: how a cloud changes with time and with the view, one module a family."""

from .linear import Linear
from .ndgs import Ndgs
from .rotor4d import Rotor4D
from .stg import Stg
from .stg_full import StgFull

FAMILIES = {family.name: family for family in (Stg, StgFull, Linear, Rotor4D, Ndgs)}
"""Every family by its name."""
