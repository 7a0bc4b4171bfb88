# SPDX-License-Identifier: GPL-3.0-or-later
"""In the tab, under In-Between: the active armature's takes, and how they are seen."""

from __future__ import annotations

import bpy

from ..backends.motion.report import Quality
from ..operators.texts import paragraph
from ..scene import generated, ghosts, planted, takes
from .sidebar import Tab

STILL = {"amplitude": 1, "tempo": 1, "shift": 0}  # sliders that change nothing


class Below(Tab):
    """Mixin: a part of the panel In-Between, shown for an armature that has an action."""

    bl_parent_id = "VIVANT_PT_motion"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        active = context.active_object
        data = active.animation_data if active and active.type == "ARMATURE" else None
        return data is not None and data.action is not None


class VIVANT_UL_takes(bpy.types.UIList):
    """The takes of the active armature, of all actions"""

    def draw_item(
        self,
        context: bpy.types.Context,
        layout: bpy.types.UILayout,
        data: bpy.types.BlendData,
        item: bpy.types.Action,
        icon: int,
        active_data: bpy.types.PropertyGroup,
        active_property: str,
        index: int = 0,
        flt_flag: int = 0,
    ) -> None:
        made = takes.made_of(item)
        row = layout.split(factor=0.5)
        # The number of the slider below, for names are cut at their ends, where they differ.
        number = takes.takes_of(context.active_object).index(item) + 1
        row.label(text=f"{number}  {called(made)}" if made else str(number))
        row.prop(item, "name", text="", emboss=False)

    def filter_items(self, context: bpy.types.Context, data: bpy.types.BlendData, property: str) -> tuple[list[int], list[int]]:
        own = takes.takes_of(context.active_object)
        return [self.bitflag_filter_item if action in own else 0 for action in bpy.data.actions], []


class VIVANT_PT_takes(Below, bpy.types.Panel):
    bl_label = "Takes"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return Below.poll.__func__(cls, context) and bool(takes.takes_of(context.active_object))

    def draw(self, context: bpy.types.Context) -> None:
        layout, armature = self.layout, context.active_object
        take, original = armature.animation_data.action, takes.original_of(armature)
        every = takes.takes_of(armature)
        paragraph(layout, context, f"Of “{(original or take).name}”, which is untouched", icon="ACTION_TWEAK")
        row = layout.row()
        row.template_list(
            "VIVANT_UL_takes", "", bpy.data, "actions", armature.vivant_takes, "shown", rows=min(max(3, len(every)), 6)
        )
        column = row.column(align=True)
        made = takes.made_of(take)
        edit = made.edit if made else None
        if edit:
            more = column.operator("vivant.phase_choose", text="", icon="ADD")
            more.part, more.another = edit["part"], True
        else:
            column.operator("vivant.take_again", text="", icon="ADD").another = True
        if original is not None:
            column.operator("vivant.take_remove", text="", icon="REMOVE")
        row = layout.row(align=True)
        row.operator("vivant.take_step", text="", icon="TRIA_LEFT").by = -1
        row.prop(armature.vivant_takes, "number", text="Take")
        row.label(text=f" of {len(every)}")
        row.operator("vivant.take_step", text="", icon="TRIA_RIGHT").by = 1
        if original is None:
            return
        chosen = len(context.selected_pose_bones or ()) if context.mode == "POSE" else 0
        bones = f"{chosen} Bone{'s' if chosen > 1 else ''}" if chosen else "All Bones"
        where = "in Preview Range" if context.scene.use_preview_range else "at Playhead"
        if edit:
            layout.operator("vivant.phase_choose", text=f"Change {edit['part'].title()}…", icon="OPTIONS").part = edit["part"]
        else:
            layout.operator("vivant.take_again", text=f"Redo {bones} {where}", icon="FILE_REFRESH").another = False
        layout.prop(armature.vivant_takes, "strength", slider=True)
        if made:
            paragraph(layout, context, described(made))
            if made.fallback:
                paragraph(layout, context, f"Not the solver you chose: {made.fallback}", icon="INFO")
            if made.quality and generated.strength_of(take) == 1:
                paragraph(layout, context, judgement(made.quality))
        row = layout.row(align=True)
        row.scale_y = 1.2
        row.operator("vivant.take_accept", text="Accept", icon="CHECKMARK").into = "ACTION"
        row.operator_menu_enum("vivant.take_accept", "into", text="", icon="DOWNARROW_HLT")
        row.operator("vivant.take_reject", text="Reject All" if len(every) > 1 else "Reject", icon="X")


def called(made: takes.Made) -> str:
    """What the list calls a take."""
    if made.edit is None:
        return made.solver.capitalize() + (f", seed {made.seed}" if made.seed else "")
    return str(made.edit["part"]).title()


def described(made: takes.Made) -> str:
    """What the panel says of a take."""
    first, last = made.frames
    where = f"frame {first}" if first == last else f"frames {first} to {last}"
    bones = made.bones[0] if len(made.bones) == 1 else f"{len(made.bones)} bones"
    if made.edit:
        part = str(made.edit["part"]).capitalize()
        sliders = [f"{name} {made.edit[name]:g}" for name, still in STILL.items() if made.edit[name] != still]
        style = [f"as in “{made.edit['style']}”"] if made.edit["style"] else []
        return (
            f"{part}: {', '.join([*sliders, *style]) or 'as it was'}; {where} of {bones}. Your keys of these bones give way, "
            "also when you accept; Remove Generated Keys brings them back."
        )
    if made.output == generated.SPARSE:
        keys = f"few keys ({made.keys:,})" if made.keys else "no new key, as your keys' handles do it"
    else:
        keys = f"{made.keys:,} keys"
    moved = "your keys have not moved" if made.key_error == 0 else f"your keys have moved by up to {made.key_error:.2g}"
    return f"{made.solver.capitalize()}, seed {made.seed}; {where} of {bones}; {keys}; {moved}."


def judgement(quality: Quality) -> str:
    """What the panel says of a take's quality."""
    said = []
    if quality.slide is not None:
        around = "" if quality.slide_around is None else f" (your motion around: {quality.slide_around:.1f})"
        said.append(f"Feet slide {quality.slide:.1f} cm/s{around}.")
    if quality.jerk is not None:
        said.append(f"Jerk: {quality.jerk:.2g} times that of your motion around.")
    return " ".join(said) or "No motion of yours is around, to compare it with."


class VIVANT_PT_ghosts(Below, bpy.types.Panel):
    bl_label = "Ghosts and Trails"

    def draw(self, context: bpy.types.Context) -> None:
        layout, settings = self.layout, context.scene.vivant
        row = layout.row(align=True)
        row.prop(settings, "show_ghosts", toggle=True, icon="GHOST_ENABLED")
        row.prop(settings, "show_trails", toggle=True, icon="CURVE_PATH")
        if settings.show_ghosts:
            row = layout.row()
            row.prop(settings, "ghost_step")
            row.prop(settings, "ghosts_of_all")
        if ghosts.trouble:
            paragraph(layout, context, f"The viewport stopped drawing ghosts. {ghosts.trouble}", icon="ERROR")


class VIVANT_PT_contacts(Below, bpy.types.Panel):
    bl_label = "Contacts"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        layout, armature = self.layout, context.active_object
        row = layout.row(align=True)
        row.operator("vivant.contact_plant", text="Plant", icon="PINNED")
        row.operator("vivant.contact_release", text="Release", icon="UNPINNED")
        layout.operator("vivant.contact_detect", icon="VIEWZOOM")
        painted = planted.contacts_of(armature.animation_data.action, armature.animation_data.action_slot)
        for bone, ranges in painted.items():
            paragraph(layout, context, f"{bone}: {', '.join(f'{first}–{last}' for first, last in ranges)}")
        if not painted:
            paragraph(layout, context, "No bone is planted. Plant the selected ones over selected keys or the preview range.")


CLASSES = (VIVANT_UL_takes, VIVANT_PT_takes, VIVANT_PT_ghosts, VIVANT_PT_contacts)
