# SPDX-License-Identifier: GPL-3.0-or-later
"""Node group 'Vivant Screen': the size in pixels of the picture that is being rendered.

No node knows it, so two values are driven by the active scene's render settings.  The drivers are
simple expressions on Blender's own properties: they run without Vivant and without 'Auto Run'.
"""

import bpy

from .build import Nodes, arrange, ensure

NAME = "Vivant Screen"
VERSION = 1


def tree() -> bpy.types.NodeTree:
    """Outputs: Width and Height, pixels."""
    return ensure(NAME, VERSION, "GeometryNodeTree", _build)


def _build(g: Nodes) -> None:
    for name, path in (("Width", "render.resolution_x"), ("Height", "render.resolution_y")):
        value = g.node("ShaderNodeValue")
        value.name = value.label = name
        driver = g.tree.driver_add(f'nodes["{name}"].outputs[0].default_value').driver
        for variable, source in (("pixels", path), ("percent", "render.resolution_percentage")):
            added = driver.variables.new()
            added.name, added.type = variable, "CONTEXT_PROP"
            added.targets[0].context_property = "ACTIVE_SCENE"
            added.targets[0].data_path = source
        driver.expression = "pixels * percent / 100"
        g.output(name, "Float", value.outputs[0])
    arrange(g.tree)
