# SPDX-License-Identifier: GPL-3.0-or-later
"""In a real window: an animator's way with four rigs, from poses to a take that is kept, every key exact at every step.

Set BLENDER to a Blender with a screen; without one these tests are skipped.  The photographs stay in the folder that
VIVANT_PHOTOGRAPHS names, with a sheet for each rig; VIVANT_ENGINE_PYTHON names a Python with PyTorch for solvers that need it.
"""

import json
import os
import pathlib
import re

import pytest
from PIL import Image, ImageDraw

from tools import dev_build, window

RIGS = ("rigify_fk", "rigify_ik", "mixamo", "fox")
EXPECTED = re.compile(r"(?m)^Warning: .*$")  # what operators say to the user


@pytest.fixture(scope="session")
def prepared(tmp_path_factory, data):
    """The program, the zip, and a folder for what all tours share."""
    blender = os.environ.get("BLENDER")
    if not blender:
        pytest.skip("needs a Blender with a screen: set BLENDER to its program")
    folder = tmp_path_factory.mktemp("rigs")
    return blender, dev_build.write_zip(folder / "vivant-0.1.0.zip", [], {}), folder, data


@pytest.fixture(scope="session", params=RIGS)
def tour(request, prepared):
    """What rigs_tour.py noted of a rig, and the log."""
    blender, archive, shared, data = prepared
    pictures = pathlib.Path(os.environ.get("VIVANT_PHOTOGRAPHS", shared))
    folder = pictures / request.param
    folder.mkdir(parents=True, exist_ok=True)
    for old in (*folder.glob("*.png"), *folder.glob("noted.json")):
        old.unlink()
    given = {
        "rig": request.param,
        "data": str(data),
        "kept": os.environ.get("VIVANT_PHOTOGRAPHS", str(shared)),
        "engine": os.environ.get("VIVANT_ENGINE_PYTHON", ""),
    }
    (folder / "rig.json").write_text(json.dumps(given), "utf8")
    try:
        noted, log = window.run(blender, archive, pathlib.Path(__file__).with_name("rigs_tour.py"), folder, timeout=3000)
    finally:
        contact_sheet(folder, pictures / f"{request.param}.png")
    shown = ("bones", "redraw", "retargeted", "solvers", "planted", "sparse")
    print(json.dumps({name: noted[name] for name in shown if name in noted}, indent=1))
    return noted, log


def contact_sheet(folder, path, columns=4, width=640):
    """All photographs of a folder on one sheet, with their names."""
    photographs = sorted(folder.glob("*.png"))
    if not photographs:
        return
    small = [Image.open(photograph).convert("RGB") for photograph in photographs]
    height = width * small[0].height // small[0].width
    rows = -(-len(small) // columns)
    sheet = Image.new("RGB", (columns * width, rows * (height + 16)))
    draw = ImageDraw.Draw(sheet)
    for index, (photograph, picture) in enumerate(zip(photographs, small, strict=True)):
        x, y = index % columns * width, index // columns * (height + 16)
        sheet.paste(picture.resize((width, height), Image.Resampling.LANCZOS), (x, y + 16))
        draw.text((x + 4, y + 2), photograph.stem, fill="white")
    sheet.save(path)


def test_every_key_and_every_other_channel_stays_at_every_step(tour):
    assert tour[0]["wrong"] == []


def test_the_log_holds_no_error(tour):
    noted, log = tour
    assert not noted["trouble"]
    assert not re.findall(r"(?im)^.*(?:traceback|error|exception).*$", EXPECTED.sub("", log))


def test_every_solver_of_the_menu_fills_or_says_why_not(tour):
    for name, run in tour[0]["solvers"].items():
        assert run["answer"] in (["FINISHED"], ["RUNNING_MODAL"]), (name, run)
        assert run["key_error"] == 0 and run["keys"] > 0
        assert name in ("auto", run["solver"]) or run["fallback"]


def test_retrieval_finds_the_rigs_own_motion(tour):
    assert tour[0]["solvers"]["retrieval"]["solver"] == "retrieval"


def test_a_planted_foot_stands(tour):
    assert tour[0]["planted"]["solver"] == "optimise"
    assert tour[0]["planted"]["moves"] < 0.05  # of a step of 0.6 m


def test_few_keys_are_few(tour):
    noted = tour[0]
    assert noted["sparse"]["keys"] < noted["solvers"]["retrieval"]["keys"]


def test_takes_go_into_a_slot_and_a_strip(tour):
    assert len(tour[0]["accepted_slot"]["slots"]) == 2
    assert tour[0]["accepted_nla"]["tracks"][-2:] == [["Blocking"], ["Blocking in-between"]]
