# SPDX-License-Identifier: GPL-3.0-or-later
"""What the user sets once: the engine's Python, folders of weights, the cache; and where things lie by default."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

import bpy

from .backends.common.errors import EngineFailed
from .engine import install

findings: list[str] = []  # what the last test of the engine found, for the preferences to show


class VIVANT_PG_folder(bpy.types.PropertyGroup):
    """A folder that the user named"""

    path: bpy.props.StringProperty(name="Folder", subtype="DIR_PATH")


class VIVANT_OT_weights_folder_add(bpy.types.Operator):
    """Name another folder in which Vivant looks for network weights"""

    bl_idname = "vivant.weights_folder_add"
    bl_label = "Add Folder"
    bl_options = {"INTERNAL"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        get(context).weights_folders.add()
        return {"FINISHED"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return not isinstance(get(context), Defaults)


class VIVANT_OT_weights_folder_remove(bpy.types.Operator):
    """Look no longer in this folder; the folder itself stays"""

    bl_idname = "vivant.weights_folder_remove"
    bl_label = "Remove Folder"
    bl_options = {"INTERNAL"}

    index: bpy.props.IntProperty(options={"SKIP_SAVE"})

    def execute(self, context: bpy.types.Context) -> set[str]:
        get(context).weights_folders.remove(self.index)
        return {"FINISHED"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return not isinstance(get(context), Defaults)


def _forget(self: bpy.types.AddonPreferences, context: bpy.types.Context) -> None:
    findings.clear()


class VIVANT_preferences(bpy.types.AddonPreferences):
    """Vivant's page in Blender's preferences"""

    bl_idname = __package__

    engine_python: bpy.props.StringProperty(
        name="Engine Python",
        description="Python 3.11 or newer with what the heavy work needs (NumPy at least, torch for training and networks); "
        "empty: the installed engine, else Blender's own Python",
        subtype="FILE_PATH",
        update=_forget,
    )
    weights_folders: bpy.props.CollectionProperty(name="Weights Folders", type=VIVANT_PG_folder)
    cache_folder: bpy.props.StringProperty(
        name="Cache Folder",
        description="Where a folder “vivant-cache” is made; empty: in Blender's user files",
        subtype="DIR_PATH",
    )

    def draw(self, context: bpy.types.Context) -> None:
        from .operators import job  # which itself asks this module for the engine's Python

        layout = self.layout
        layout.use_property_split = True

        box = layout.box()
        box.prop(self, "engine_python")
        there = install.installed(user_folder("engine")) is not None
        if not self.engine_python:
            text = "The installed engine is used" if there else "A Python that is here is used: enough for all but torch's work"
            box.label(text=text, icon="INFO")
        for line in findings:
            box.label(text=line)
        for entry in job.running():
            box.progress(factor=entry.fraction, text=f"{entry.label} {entry.text}")
        row = box.row()
        row.operator("vivant.engine_test", icon="CHECKMARK")
        row.operator("vivant.engine_install", text="Reinstall Engine…" if there else "Install Engine…", icon="IMPORT")
        if there:
            row.operator("vivant.engine_remove", icon="TRASH")
        row = box.row()
        row.operator("vivant.engine_restart", icon="FILE_REFRESH")
        row.operator("vivant.report_copy", icon="COPYDOWN")

        box = layout.box()
        box.label(text="Folders with network weights")
        for index, folder in enumerate(self.weights_folders):
            row = box.row(align=True)
            row.prop(folder, "path", text="")
            row.operator("vivant.weights_folder_remove", text="", icon="X").index = index
        box.operator("vivant.weights_folder_add", icon="ADD")

        box = layout.box()
        box.prop(self, "cache_folder")
        row = box.row()
        row.label(text=f"{cache_size(context) / 1e6:,.1f} MB in the cache")
        row.operator("vivant.cache_clear", icon="TRASH")


@dataclass(frozen=True)
class Defaults:
    """The preferences where Vivant is not installed as an add-on: in scripts and tests."""

    engine_python: str = ""
    weights_folders: tuple[VIVANT_PG_folder, ...] = ()
    cache_folder: str = ""


_defaults = Defaults()


def get(context: bpy.types.Context | None = None) -> VIVANT_preferences | Defaults:
    """The user's settings, or defaults."""
    addon: bpy.types.Addon | None = (context or bpy.context).preferences.addons.get(__package__)
    return addon.preferences if addon and addon.preferences else _defaults


def user_folder(name: str) -> Path:
    """The folder of this name that belongs to the add-on and outlives its updates; it need not be there yet."""
    try:
        return Path(bpy.utils.extension_path_user(__package__, path=name))
    except ValueError:  # not installed as an extension
        return Path(bpy.utils.user_resource("DATAFILES", path=f"vivant/{name}"))


def engine_python(context: bpy.types.Context | None = None) -> Path:
    """The interpreter of the engine: the one set, the installed one, else one that is here and has NumPy, Blender's own first.

    Raises EngineFailed when the one set does not exist, NeedsEngine when there is none.
    """
    if chosen := get(context).engine_python:
        path = Path(bpy.path.abspath(chosen))
        if not path.is_file():
            raise EngineFailed(
                f"The engine's Python {path} does not exist.", "Choose another in Vivant's preferences, or clear the field."
            )
        return path
    return install.installed(user_folder("engine")) or install.find_python(install.local_pythons())


def weights_folders(context: bpy.types.Context | None = None) -> list[Path]:
    """The folders in which the user keeps network weights."""
    return [Path(bpy.path.abspath(folder.path)) for folder in get(context).weights_folders if folder.path]


def own_weights(name: str, context: bpy.types.Context | None = None) -> str:
    """The user's own file of weights of this name, which goes before the one that comes along; "" without any."""
    found = [folder / name for folder in weights_folders(context) if (folder / name).is_file()]
    return str(found[0]) if found else ""


def cache_folder(context: bpy.types.Context | None = None) -> Path:
    """The folder whose content may be thrown away at any time; below the user's choice, which may hold other things."""
    chosen = get(context).cache_folder
    return Path(bpy.path.abspath(chosen)) / "vivant-cache" if chosen else user_folder("cache")


_measured: tuple[Path, float, int] | None = None


def cache_size(context: bpy.types.Context | None = None) -> int:
    """Bytes in the cache, looked up at most every three seconds."""
    global _measured
    folder, now = cache_folder(context), time.monotonic()
    if not _measured or _measured[0] != folder or now - _measured[1] > 3:
        size = sum(os.lstat(os.path.join(path, name)).st_size for path, _, names in os.walk(folder) for name in names)  # noqa: PTH118
        _measured = (folder, now, size)
    return _measured[2]


def forget_cache_size() -> None:
    """Measure again the next time."""
    global _measured
    _measured = None


CLASSES = (VIVANT_PG_folder, VIVANT_OT_weights_folder_add, VIVANT_OT_weights_folder_remove, VIVANT_preferences)
