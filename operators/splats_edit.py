# SPDX-License-Identifier: GPL-3.0-or-later
"""Edits of splats: applied transforms, mirrors, one object of many, selections, cleaning, crops and colours."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import bpy
import numpy as np

from ..backends.gaussian.edit.clean import Limits
from ..backends.gaussian.edit.colour import grading
from ..scene import edits, pointclouds, proxies, warps
from .filling import Filling, InSlices

MEASURES = (
    ("OPACITY", "Opacity", "0 to 1"),
    ("SIZE", "Size", "Largest standard deviation"),
    ("STRETCH", "Stretch", "Length to width: needles have much"),
    ("X", "X", "Position in the world"),
    ("Y", "Y", "Position in the world"),
    ("Z", "Z", "Position in the world"),
    ("RED", "Red", "Display value, 0 to 1"),
    ("GREEN", "Green", "Display value, 0 to 1"),
    ("BLUE", "Blue", "Display value, 0 to 1"),
    ("BRIGHTNESS", "Brightness", "Display value, 0 to 1"),
    ("SATURATION", "Saturation", "0 to 1"),
    ("COLOUR", "Colour", "Distance to a colour"),
)
AXES = tuple((axis, axis, f"Across the world's {axis} axis") for axis in "XYZ")
COMBINE = (
    ("SET", "New", "Select these alone"),
    ("ADD", "Add", "Add these to what is selected"),
    ("REMOVE", "Remove", "Take these from what is selected"),
)


FLAWS = (
    ("INVISIBLE", "Invisible", "Fainter than a screen shows at any time", 1),
    ("OUTLIER", "Strays", "Hardly any others near them", 2),
    ("FLOATER", "Floaters", "Small groups far from all others", 4),
    ("GIANT", "Giants", "Far larger than the rest of the capture", 8),
    ("NEEDLE", "Needles", "Long and extremely thin", 16),
)


class With(NamedTuple):
    """The other selected object, or objects, that an edit goes by: which they may be, and what to say where there are none."""

    able: Callable[[bpy.types.Object], bool]
    ask: str
    many: bool = False


class SplatsEdit(InSlices):
    """Mixin: an operator on the active splats, in slices of time; refused or stopped by Esc, it leaves them as they were.

    Define `edit`; put it before bpy.types.Operator.
    """

    modes = {"OBJECT"}
    other: With | None = None

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if not pointclouds.is_splats(context.active_object):
            cls.poll_message_set("Select splats")
            return False
        if context.active_object.mode not in cls.modes:
            cls.poll_message_set("Leave Edit Mode first")
            return False
        if cls.other and not cls.selected(context):
            cls.poll_message_set(cls.other.ask)
            return False
        return True

    @classmethod
    def selected(cls, context: bpy.types.Context) -> list[bpy.types.Object]:
        """The other objects that the edit goes by; none where they are too many."""
        if cls.other is None:
            return []
        found = [one for one in context.selected_objects if one != context.active_object and cls.other.able(one)]
        return found if cls.other.many or len(found) == 1 else []

    def submit(self, context: bpy.types.Context) -> Filling[str]:
        return Filling(self.edit(context, context.active_object))

    def finish(self, context: bpy.types.Context, job: Filling[str]) -> None:
        self.report({"INFO"}, job.result())

    def edit(self, context: bpy.types.Context, splats: bpy.types.Object) -> edits.Steps[str]:
        """Do it in steps that say what is done, and return a sentence on what was."""
        raise NotImplementedError


class VIVANT_OT_splats_apply(SplatsEdit, bpy.types.Operator):
    """Move the object's transform into its splats: shapes, colours by direction and motion turn and stretch with it"""

    bl_idname = "vivant.splats_apply"
    bl_label = "Apply Transform to Splats"

    location: bpy.props.BoolProperty(
        name="Location", default=True, description="Move the splats, and the object's origin to the world's"
    )
    rotation: bpy.props.BoolProperty(name="Rotation", default=True, description="Turn the splats, and the object back")
    scale: bpy.props.BoolProperty(
        name="Scale", default=True, description="Scale the splats, unevenly or mirrored too, and the object back to 1"
    )

    def edit(self, context: bpy.types.Context, splats: bpy.types.Object) -> edits.Steps[str]:
        yield from edits.applying(splats, self.location, self.rotation, self.scale)
        return f"{splats.name}: transform applied; the object keeps the turn that puts the capture upright."


class VIVANT_OT_splats_mirror(SplatsEdit, bpy.types.Operator):
    """Mirror the splats at their object's origin or the 3D cursor"""

    bl_idname = "vivant.splats_mirror"
    bl_label = "Mirror Splats"

    axis: bpy.props.EnumProperty(name="Axis", items=AXES, description="Across which plane the splats are mirrored")
    at_cursor: bpy.props.BoolProperty(name="At 3D Cursor", description="Mirror at the 3D cursor, not the object's origin")

    def edit(self, context: bpy.types.Context, splats: bpy.types.Object) -> edits.Steps[str]:
        about = context.scene.cursor.location if self.at_cursor else splats.matrix_world.translation
        yield from edits.mirroring(splats, self.axis, about)
        return f"{splats.name}: mirrored across {self.axis}."


class VIVANT_OT_splats_merge(SplatsEdit, bpy.types.Operator):
    """Put the splats of all selected objects into the active one, where they are"""

    bl_idname = "vivant.splats_merge"
    bl_label = "Merge Splats"

    other = With(pointclouds.is_splats, "Select more than one object with splats", many=True)

    def edit(self, context: bpy.types.Context, splats: bpy.types.Object) -> edits.Steps[str]:
        others = self.selected(context)
        count = len(others) + 1
        yield from edits.merging(splats, others)
        return f"{splats.name}: {count} objects merged, {len(splats.data.points):,} splats."


class VIVANT_OT_splats_select(SplatsEdit, bpy.types.Operator):
    """Select splats by a value, for Edit Mode, where they can be deleted, duplicated and separated"""

    bl_idname = "vivant.splats_select"
    bl_label = "Select Splats by Value"
    modes = {"OBJECT", "EDIT"}

    measure: bpy.props.EnumProperty(name="By", items=MEASURES, description="What the splats are selected by")
    low: bpy.props.FloatProperty(name="From", default=0.0, precision=4, description="The least value that is selected")
    high: bpy.props.FloatProperty(name="To", default=0.1, precision=4, description="The greatest value that is selected")
    colour: bpy.props.FloatVectorProperty(
        name="Colour", subtype="COLOR_GAMMA", default=(0.5, 0.5, 0.5), min=0.0, max=1.0, description="Display values"
    )
    distance: bpy.props.FloatProperty(
        name="Distance", default=0.1, min=0.0, soft_max=1.7, description="How far from the colour, red, green and blue together"
    )
    combine: bpy.props.EnumProperty(name="Selection", items=COMBINE, description="What becomes of what is selected already")

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        layout.use_property_split = True
        for name in ("measure", *(("colour", "distance") if self.measure == "COLOUR" else ("low", "high")), "combine"):
            layout.prop(self, name)

    def edit(self, context: bpy.types.Context, splats: bpy.types.Object) -> edits.Steps[str]:
        yield "selecting"
        if self.measure == "COLOUR":
            found = edits.coloured(splats, self.colour, self.distance)
        else:
            found = edits.measured(splats, self.measure, self.low, self.high, context.scene)
        chosen = edits.selection(splats)
        chosen = {"SET": found, "ADD": chosen | found, "REMOVE": chosen & ~found}[self.combine]
        show_selected(splats, chosen)
        return f"{int(chosen.sum()):,} of {len(chosen):,} splats selected."


class VIVANT_OT_splats_clean(SplatsEdit, bpy.types.Operator):
    """Find what captures are better off without, and select it to look at, or delete it"""

    bl_idname = "vivant.splats_clean"
    bl_label = "Clean Up Splats"
    modes = {"OBJECT", "EDIT"}

    action: bpy.props.EnumProperty(
        name="Then",
        description="What becomes of the splats that are found",
        items=(
            ("SELECT", "Select", "Select them in Edit Mode, where Delete removes them"),
            ("DELETE", "Delete", "Remove them at once"),
        ),
        options={"SKIP_SAVE"},  # nobody who only looks should delete as they did before
    )
    kinds: bpy.props.EnumProperty(
        name="Find",
        items=FLAWS,
        options={"ENUM_FLAG"},
        default={item[0] for item in FLAWS},
        description="What is looked for",
    )
    gap: bpy.props.FloatProperty(
        name="Distance",
        default=Limits().gap,
        min=1.0,
        soft_max=30.0,
        description="How far strays and floaters are from all others, in distances between neighbours",
    )
    share: bpy.props.FloatProperty(
        name="Largest Group",
        default=100 * Limits().share,
        min=0.0,
        soft_max=5.0,
        max=100.0,
        precision=2,
        subtype="PERCENTAGE",
        description="What part of all splats, weighed by opacity, a group of floaters has at most",
    )

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        layout.use_property_split = True
        layout.column(align=True).prop(self, "kinds")
        for name in ("gap", "share", "action"):
            layout.prop(self, name)

    def edit(self, context: bpy.types.Context, splats: bpy.types.Object) -> edits.Steps[str]:
        found = yield from edits.finding_flaws(splats, Limits(gap=self.gap, share=self.share / 100))
        none = np.zeros(len(splats.data.points), np.bool_)
        chosen = np.any([none, *(found[kind] for kind in found if kind in self.kinds)], axis=0)
        counts = [f"{int(found[kind].sum()):,} {title.lower()}" for kind, title, *_ in FLAWS if kind in self.kinds]
        if self.action == "SELECT":
            show_selected(splats, chosen)
        else:
            shared = splats.mode == "EDIT"  # as Blender's own Delete there
            if shared and chosen.any():
                bpy.ops.object.mode_set(mode="OBJECT")
            edits.keep(splats, ~chosen, shared)
        return (
            f"{int(chosen.sum()):,} splats {self.action.lower().removesuffix('e')}ed: {', '.join(counts) or 'no kind chosen'}."
        )


class VIVANT_OT_splats_crop(SplatsEdit, bpy.types.Operator):
    """Delete the splats outside (or inside) the other selected objects, closed meshes, as they stand at this frame"""

    bl_idname = "vivant.splats_crop"
    bl_label = "Crop Splats by Object"

    keep: bpy.props.EnumProperty(
        name="Keep",
        description="Which splats stay",
        items=(("INSIDE", "Inside", "Delete what is in none of them"), ("OUTSIDE", "Outside", "Delete what is in any of them")),
    )

    other = With(lambda one: one.type == "MESH", "Select closed meshes first and the splats last", many=True)

    def edit(self, context: bpy.types.Context, splats: bpy.types.Object) -> edits.Steps[str]:
        count = yield from edits.cropping(splats, self.selected(context), context.scene, self.keep == "INSIDE")
        return f"{splats.name}: {count:,} splats deleted, {len(splats.data.points):,} left."


class VIVANT_OT_splats_tint(SplatsEdit, bpy.types.Operator):
    """Grade the splats' colours from every direction; in Edit Mode of the selected ones, for all objects that share them"""

    bl_idname = "vivant.splats_tint"
    bl_label = "Tint Splats"
    modes = {"OBJECT", "EDIT"}

    colour: bpy.props.FloatVectorProperty(
        name="Tint", subtype="COLOR_GAMMA", default=(1.0, 1.0, 1.0), min=0.0, soft_max=1.0, description="Multiplies colours"
    )
    brightness: bpy.props.FloatProperty(name="Brightness", default=1.0, min=0.0, soft_max=2.0, description="Multiplies colours")
    contrast: bpy.props.FloatProperty(
        name="Contrast", default=1.0, min=0.0, soft_max=2.0, description="Moves colours away from middle grey, or towards it"
    )
    saturation: bpy.props.FloatProperty(name="Saturation", default=1.0, min=0.0, soft_max=2.0, description="0 is grey")
    opacity: bpy.props.FloatProperty(name="Opacity", default=1.0, min=0.0, soft_max=2.0, description="Multiplies opacities")

    def edit(self, context: bpy.types.Context, splats: bpy.types.Object) -> edits.Steps[str]:
        yield "colouring"
        where = edits.selection(splats) if splats.mode == "EDIT" else True
        matrix, offset = grading(self.colour, self.brightness, self.contrast, self.saturation)
        edits.recolour(splats, matrix, offset, self.opacity, where)
        return f"{splats.name}: colours changed."


class VIVANT_OT_splats_deform(SplatsEdit, bpy.types.Operator):
    """Deform the splats for good as the other selected object is now: a posed armature, a lattice or a closed mesh as a cage"""

    bl_idname = "vivant.splats_deform"
    bl_label = "Deform Splats by Object"

    other = With(
        lambda one: one.type in warps.KINDS, "Select an armature, a lattice or a closed mesh first and the splats last"
    )

    def edit(self, context: bpy.types.Context, splats: bpy.types.Object) -> edits.Steps[str]:
        (deformer,) = self.selected(context)
        yield from edits.deforming(splats, deformer)
        return f"{splats.name}: deformed as {deformer.name} is at this frame."


class VIVANT_OT_splats_proxy(SplatsEdit, bpy.types.Operator):
    """Add a closed mesh around what the splats cover at this frame, which follows them"""

    bl_idname = "vivant.splats_proxy"
    bl_label = "Add Proxy Mesh"

    purpose: bpy.props.EnumProperty(
        name="For",
        description="What the mesh stands for the splats in",
        items=(
            ("SHADOW", "Shadow", "Casts the splats' shadow on other objects; no camera sees it"),
            ("COLLISION", "Collision", "Cloth and particles collide with it; no render shows it"),
        ),
    )
    cells: bpy.props.IntProperty(
        name="Resolution", default=64, min=8, max=256, description="Cells along the longest side of the splats"
    )
    level: bpy.props.FloatProperty(
        name="Threshold", default=0.5, min=0.01, max=0.99, description="How opaque the splats are where the surface lies"
    )

    def edit(self, context: bpy.types.Context, splats: bpy.types.Object) -> edits.Steps[str]:
        yield "covering the splats"
        made = proxies.add(splats, context.scene, self.purpose, self.cells, self.level)
        return f"{made.name}: {len(made.data.polygons):,} faces."


def show_selected(splats: bpy.types.Object, chosen: edits.Mask) -> None:
    """Select splats in Edit Mode."""
    edits.select(splats, chosen)
    if splats.mode == "OBJECT":
        bpy.ops.object.mode_set(mode="EDIT")


CLASSES = (
    VIVANT_OT_splats_apply,
    VIVANT_OT_splats_mirror,
    VIVANT_OT_splats_merge,
    VIVANT_OT_splats_select,
    VIVANT_OT_splats_clean,
    VIVANT_OT_splats_crop,
    VIVANT_OT_splats_tint,
    VIVANT_OT_splats_deform,
    VIVANT_OT_splats_proxy,
)
