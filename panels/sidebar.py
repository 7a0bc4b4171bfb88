# SPDX-License-Identifier: GPL-3.0-or-later
"""The tab 'Vivant' in the 3D viewport's sidebar: what is selected, what can be done with it, what is going on."""

from __future__ import annotations

import bpy

from .. import preferences
from ..operators import job as jobs
from ..operators import retarget, splats_io
from ..operators.texts import megabytes, paragraph
from ..scene import compat, drawing, outside, pointclouds, sizes, takes
from . import menus

ROOT = preferences.__package__
AXES = {code: title for code, title, _ in splats_io.AXES}


class Tab:
    """Mixin: a panel of the tab."""

    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "Vivant"


class VIVANT_PT_jobs(Tab, bpy.types.Panel):
    bl_label = "Running"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return bool(jobs.running())

    def draw(self, context: bpy.types.Context) -> None:
        for index, entry in enumerate(jobs.running()):
            column = self.layout.column(align=True)
            column.label(text=entry.label)
            row = column.row(align=True)
            row.progress(factor=entry.fraction, text=entry.text)
            row.operator("vivant.job_cancel", text="", icon="X").index = index


class VIVANT_PT_start(Tab, bpy.types.Panel):
    bl_label = "Start"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        active = context.active_object
        return active is None or (active.type != "ARMATURE" and not pointclouds.is_splats(active))

    def draw(self, context: bpy.types.Context) -> None:
        column = self.layout.column()
        column.scale_y = 1.3
        column.operator("vivant.splats_import", text="Import Splats…", icon="IMPORT")
        column.operator("vivant.splats_stream", text="Stream Large Capture…", icon="FILE_CACHE")
        paragraph(self.layout, context, "Or drop a splat file, such as a .ply or .spz, into the viewport.")
        self.layout.separator()
        paragraph(self.layout, context, "Select splats to play, colour and render them.", icon="POINTCLOUD_DATA")
        paragraph(self.layout, context, "Select an armature with key poses to fill the gap between them.", icon="ARMATURE_DATA")


class VIVANT_PT_splats(Tab, bpy.types.Panel):
    bl_label = "Splats"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return pointclouds.is_splats(context.active_object)

    def draw(self, context: bpy.types.Context) -> None:
        splats, facts = context.active_object, pointclouds.facts_of(context.active_object)
        column = self.layout.column(align=True)
        column.label(text=splats.name, icon="POINTCLOUD_DATA")
        count = f"{len(splats.data.points):,}"
        takes_up = sizes.bytes_of(splats, context.scene.vivant.viewport_splats)
        rows = {
            "Splats": count,
            "Format": facts.get("format"),
            "Motion": facts.get("moves_by"),
            "Axes": AXES.get(facts.get("axes"), facts.get("axes")),
            "In the .blend": megabytes(takes_up.inside),
            "Other files": takes_up.outside and megabytes(takes_up.outside),
            "Graphics card": megabytes(takes_up.card),
        }
        for name, value in rows.items():
            if value:
                row = column.split(factor=0.4)
                row.label(text=name)
                row.label(text=value)
        if facts.get("repairs") or facts.get("warnings"):
            box = self.layout.box()
            for name, number in facts.get("repairs", {}).items():
                paragraph(box, context, f"{name} ({number:,})", icon="TOOL_SETTINGS")
            for warning in facts.get("warnings", ()):
                paragraph(box, context, warning, icon="ERROR")
        if outside.is_missing(splats):  # the panel Storage, which says why, may be folded
            paragraph(self.layout, context, outside.reason(splats), icon="ERROR")
            self.layout.operator("vivant.splats_find", text="Find File…", icon="FILEBROWSER")
        self.layout.operator("vivant.splats_export", text="Export Splats…", icon="EXPORT")


class VIVANT_PT_splats_look(Tab, bpy.types.Panel):
    bl_label = "Look"
    bl_parent_id = "VIVANT_PT_splats"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return pointclouds.drawer_of(context.active_object) is not None

    def draw(self, context: bpy.types.Context) -> None:
        drawer = pointclouds.drawer_of(context.active_object)
        layout = self.layout
        layout.use_property_split = True
        layout.use_property_decorate = False
        column = layout.column()
        for name in ("Density", "SH Degree", "Linear Light", "Antialiased", "Quads in Viewport"):
            if compat.has_modifier_input(drawer, name):
                compat.draw_modifier_input(column, drawer, name)
        if pointclouds.is_drawn_by_old(context.active_object):
            column.operator("vivant.splats_renew", icon="FILE_REFRESH")
        column.operator("vivant.splats_limit_degree", text="Limit SH Degree…", icon="TRASH")
        column = layout.column()
        column.prop(context.scene.vivant, "viewport_splats")
        if drawing.trouble:
            paragraph(layout, context, f"The viewport shows points: drawing splats failed. {drawing.trouble}", icon="ERROR")
        elif drawing.stood_for:
            said = f"{drawing.drawn:,} of {drawing.stood_for:,} splats stand for all in the viewport; renders draw all."
            paragraph(layout, context, said, icon="INFO")


class VIVANT_PT_motion(Tab, bpy.types.Panel):
    bl_label = "In-Between"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return context.active_object is not None and context.active_object.type == "ARMATURE"

    def draw(self, context: bpy.types.Context) -> None:
        layout, armature = self.layout, context.active_object
        data = armature.animation_data
        if data is None or data.action is None:
            paragraph(
                layout, context, "Key two poses of this armature first; Vivant fills the frames between them.", icon="INFO"
            )
            return
        chosen = len(context.selected_pose_bones or ()) if context.mode == "POSE" else 0
        bones = "1 selected bone" if chosen == 1 else f"{chosen} selected bones" if chosen else "All bones (none is selected)"
        paragraph(layout, context, bones, icon="BONE_DATA")
        column = layout.column(align=True)
        column.prop(context.scene.vivant, "solver")
        column.prop(context.scene.vivant, "output")
        column = layout.column(align=True)
        column.scale_y = 1.2
        menus.fill(column, context, "GAP", text="Fill Gap at Playhead", icon="IPO_BEZIER")
        menus.fill(column, context, "RANGE", text="Fill Every Gap in Range", icon="ACTION")
        rigs = [thing for thing in context.selected_objects if thing.type == "ARMATURE"]
        if len(rigs) > 1:
            menus.fill_many(column, context, "SELECTED", text=f"Fill {len(rigs)} Armatures", icon="ARMATURE_DATA")
        if takes.original_of(armature) is None and takes.has_generated(armature):
            layout.operator("vivant.generated_remove", icon="TRASH")


class VIVANT_PT_retarget(Tab, bpy.types.Panel):
    bl_label = "Retarget"
    bl_options = {"DEFAULT_CLOSED"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return context.active_object is not None and context.active_object.type == "ARMATURE"

    def draw(self, context: bpy.types.Context) -> None:
        source = retarget.source_of(context)
        text = f"From “{source.name}”" if source else "From BVH File…"
        paragraph(self.layout, context, "Another human's motion on this rig, as a new action; the old one is kept.")
        self.layout.operator("vivant.motion_retarget", text=text, icon="ARMATURE_DATA" if source else "FILE")
        if source is None:
            paragraph(self.layout, context, "Or select another armature first and this one last.")


class VIVANT_PT_engine(Tab, bpy.types.Panel):
    bl_label = "Engine"
    bl_options = {"DEFAULT_CLOSED"}
    bl_order = 10

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        for line in preferences.findings or ["Another process for the heavy work. Test shows what it has."]:
            paragraph(layout, context, line)
        row = layout.row(align=True)
        row.operator("vivant.engine_test", text="Test", icon="CHECKMARK")
        row.operator("vivant.engine_restart", text="Restart", icon="FILE_REFRESH")
        layout.operator("vivant.report_copy", icon="COPYDOWN")
        layout.operator("preferences.addon_show", text="Preferences…", icon="PREFERENCES").module = ROOT


CLASSES = (
    VIVANT_PT_jobs,
    VIVANT_PT_start,
    VIVANT_PT_splats,
    VIVANT_PT_splats_look,
    VIVANT_PT_motion,
    VIVANT_PT_retarget,
    VIVANT_PT_engine,
)
