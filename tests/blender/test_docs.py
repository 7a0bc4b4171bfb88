# SPDX-License-Identifier: GPL-3.0-or-later
"""What the pages say that scripts can call is there, takes those arguments, and runs; buttons that they name are in Blender."""

import ast
import inspect
import pathlib
import re
import sys

import bpy
import numpy as np
import pytest

import vivant
import vivant.scene.generated
import vivant.scene.judged
import vivant.scene.outside
import vivant.scene.planted
import vivant.scene.shots
import vivant.scene.takes
from vivant import api, registration
from vivant.backends.motion.formats.bvh import write_bvh

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "unit"))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import samples
from posing import turning_rig
from small_human import body

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SCRIPTING = (ROOT / "docs" / "scripting.md").read_text("utf8")
SPLATS = (ROOT / "docs" / "splats.md").read_text("utf8")


@pytest.fixture
def extension(scene):
    """Vivant registered, with an empty scene."""
    vivant.register()
    yield
    vivant.unregister()


def calls():
    """Calls in the first columns of the tables: (title, syntax)."""
    for row in re.findall(r"^\| (`.*?) \| ", SCRIPTING, re.M):
        titles = re.findall(r"`([^`]+)`", row)
        module = re.match(r"scene\.\w+\.|", titles[0])[0]
        for title in [titles[0], *(each if "." in each.split("(")[0] else module + each for each in titles[1:])]:
            yield title, ast.parse(title.replace("=…", "=0").replace("…", "*_"), mode="eval").body


def found(syntax):
    """What a dotted name means."""
    if isinstance(syntax, ast.Attribute):
        return getattr(found(syntax.value), syntax.attr)
    return {"cloud": api.SplatCloud, "scene": vivant.scene}.get(syntax.id) or getattr(api, syntax.id)


@pytest.mark.parametrize(("title", "syntax"), [*calls()], ids=lambda value: value if isinstance(value, str) else "")
def test_every_call_of_the_tables_exists_and_takes_what_they_say(title, syntax):
    if not isinstance(syntax, ast.Call):
        assert callable(found(syntax))
        return
    takes = inspect.signature(found(syntax.func)).parameters
    free = any(each.kind is each.VAR_KEYWORD for each in takes.values())
    for keyword in syntax.keywords:
        assert keyword.arg in takes or free, f"{title}: {keyword.arg}"
    assert len(syntax.args) <= len(takes)


def test_every_function_of_the_api_is_in_the_tables():
    named = {call.func.id for _, call in calls() if isinstance(call, ast.Call) and isinstance(call.func, ast.Name)}
    functions = {name for name in api.__all__ if inspect.isfunction(getattr(api, name))}
    assert functions == named & set(api.__all__)


@pytest.mark.usefixtures("extension")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_operator_that_a_page_calls_exists_with_those_properties(page):
    for name, options in re.findall(r"bpy\.ops\.(vivant\.\w+)\(([^`]*?)\)`", page.read_text("utf8")):
        known = getattr(bpy.ops.vivant, name.split(".")[1]).get_rna_type().properties
        assert set(re.findall(r"(\w+)=", options)) <= set(known.keys()), name


def labels():
    """What buttons, panels and settings of splats and cameras are called."""
    for module in registration.MODULES:
        for cls in module.CLASSES:
            yield getattr(cls, "bl_label", "")
            if issubclass(cls, bpy.types.Operator):
                yield from (each.name for each in getattr(bpy.ops.vivant, cls.bl_idname[7:]).get_rna_type().properties)
                for each in getattr(bpy.ops.vivant, cls.bl_idname[7:]).get_rna_type().properties:
                    yield from (item.name for item in each.enum_items) if each.type == "ENUM" else ()
        written = re.findall(r'text ?= ?f?"([^"({]+)', inspect.getsource(module))
        yield from (text.strip() for text in written)
    yield from (each.name for each in type(bpy.context.scene.vivant).bl_rna.properties)
    for made in bpy.data.node_groups:
        yield from (item.name for item in made.interface.items_tree)


@pytest.mark.usefixtures("extension")
def test_whatever_the_page_of_splats_sets_in_italics_is_a_label(tmp_path):
    bpy.ops.vivant.splats_import(filepath=str(samples.write_moving(tmp_path)))
    known = {label.rstrip("…") for label in labels()}
    known |= {"Vivant", "File", "Import", "Export", "Edit Mode", "Standard"}  # the tab's name, and Blender's own
    phrases = re.findall(r"(?<!\*)\*([^*\n]+)\*(?!\*)", SPLATS)
    said = {part.strip().rstrip("…") for phrase in phrases for part in phrase.split("▸")}
    assert said <= known, sorted(said - known)


def blocks(page):
    return re.findall(r"```python\n(.*?)```", page, re.S)


@pytest.mark.usefixtures("extension")
def test_the_examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    samples.write_moving(tmp_path).rename("capture.splatv")
    write_bvh(body(frames=25), "walk.bvh")
    away = np.eye(4)
    away[2, 3] = -4
    names = {
        "K": np.array([[60.0, 0, 32], [0, 60, 24], [0, 0, 1]]),
        "camera_to_world": away,
        "keys": np.arange(25) % 8 == 0,
        "rig": turning_rig(),
    }
    for page in (ROOT / "README.md", ROOT / "docs" / "splats.md"):
        for block in blocks(page.read_text("utf8")):
            exec(compile(block, page.name, "exec"), names)
