# SPDX-License-Identifier: GPL-3.0-or-later
"""The scene's settings for a faithful picture of splats, whose colours are display values."""

import bpy

from . import compat, pointclouds

LAYERS = 1024
"""Splats that Cycles sees through on one ray at most: each is a transparent bounce."""


def display_blending(scene: bpy.types.Scene) -> None:
    """Set a scene of splats alone up so that renders blend and show colours exactly as they were trained.

    Splats emit their display values, the view transform is Raw, and both engines take one sample at
    the pixel's centre, without shadows, light bounces or dither.
    """
    for candidate in scene.objects:
        if pointclouds.is_splats(candidate) and (drawer := pointclouds.drawer_of(candidate)):
            compat.set_modifier_input(drawer, "Linear Light", False)
    scene.view_settings.view_transform = "Raw"
    scene.view_settings.look = "None"
    scene.view_settings.exposure, scene.view_settings.gamma = 0.0, 1.0
    scene.render.dither_intensity = 0.0
    scene.render.filter_size = 0.0
    scene.eevee.taa_render_samples = 1
    scene.eevee.use_shadows = False
    scene.eevee.use_raytracing = False
    if cycles := getattr(scene, "cycles", None):  # an add-on, which may be switched off
        cycles.samples = 1
        cycles.use_denoising = cycles.use_adaptive_sampling = False
        # a box is always a whole pixel wide: several samples would blur what is defined at the centre
        cycles.pixel_filter_type, cycles.filter_width = "GAUSSIAN", 0.01
        cycles.transparent_max_bounces = cycles.min_transparent_bounces = LAYERS
