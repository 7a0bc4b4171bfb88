# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of the tab that says when a moving cloud plays, and from where."""

import bpy

from ..backends.gaussian.motion.timing import INPUTS
from ..operators import splats_playback
from ..operators.texts import megabytes, paragraph
from ..scene import clips, compat, playback, pointclouds
from .sidebar import Tab


class VIVANT_PT_splats_motion(Tab, bpy.types.Panel):
    bl_label = "Playback"
    bl_parent_id = "VIVANT_PT_splats"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return pointclouds.mover_of(context.active_object) is not None

    def draw(self, context: bpy.types.Context) -> None:
        splats, layout = context.active_object, self.layout
        mover = pointclouds.mover_of(splats)
        layout.use_property_split = True
        column = layout.column(align=True)
        for title in INPUTS.values():
            compat.draw_modifier_input(column, mover, title)
        playing = context.screen.is_animation_playing
        layout.operator("screen.animation_play", text="Pause" if playing else "Play", icon="PAUSE" if playing else "PLAY")
        facts = pointclouds.facts_of(splats)
        if "decibels" in facts:
            mean, worst = facts["decibels"]
            paragraph(layout, context, f"Fitted: {mean:.1f} dB PSNR to what it was fitted to, at worst {worst:.1f}.")
        if playback.is_played(splats):
            self._frames(context, splats, facts)

    def _frames(self, context: bpy.types.Context, splats: bpy.types.Object, facts: clips.Facts) -> None:
        layout = self.layout
        if clips.is_sequence(facts):
            paragraph(layout, context, "Plays from its files.", icon="FILE_FOLDER")
        elif clips.is_streamed(facts):
            text = f"{facts['streamed']:,} splats stream from the disk, at most {len(splats.data.points):,} are here at once."
            paragraph(layout, context, text, icon="DISK_DRIVE")
        elif cache := clips.cache_of(facts):
            text = f"{facts['samples']:,} frames: {megabytes(cache.stat().st_size)} on the disk."
            paragraph(layout, context, text, icon="DISK_DRIVE")
        if said := playback.trouble.get(splats.name):
            paragraph(layout, context, said, icon="ERROR")
        column = layout.column()
        column.scale_y = 1.2
        if splats_playback.moved_by_network(splats):
            text = "Bake Frames Again" if facts.get("cache") else "Bake Frames"
            column.operator("vivant.splats_bake", text=text, icon="RENDER_ANIMATION")
        if clips.is_streamed(facts):
            column.operator("vivant.splats_stream_again", icon="FILE_REFRESH")
        else:
            column.operator("vivant.splats_fit", icon="CURVE_BEZCURVE")


CLASSES = (VIVANT_PT_splats_motion,)
