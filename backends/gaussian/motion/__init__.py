# SPDX-License-Identifier: GPL-3.0-or-later
"""Motion families: how a cloud changes with time, one module a family."""
