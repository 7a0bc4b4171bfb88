# SPDX-License-Identifier: GPL-3.0-or-later
"""Vivant: moving Gaussian splats and motion in-betweening for Blender.

Importing this package costs nothing and needs no Blender; scripts start at `vivant.api`.
"""


def register() -> None:
    """Add Vivant's operators, panels, menus and preferences to the running Blender."""
    from . import registration

    registration.register()


def unregister() -> None:
    """Take away everything that `register` added, in reverse order."""
    from . import registration

    registration.unregister()
