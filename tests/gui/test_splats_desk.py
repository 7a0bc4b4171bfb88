# SPDX-License-Identifier: GPL-3.0-or-later
"""In a real window: captures of every kind from the drop to the export, each step undone and redone.

Set BLENDER to a Blender with a screen; without one these tests are skipped.  The photographs stay in the folder that
VIVANT_PHOTOGRAPHS names.  Real captures are dropped, too, where they are.
"""

import json
import os
import pathlib
import re
import shutil
import sys

import numpy as np
import pytest

from tools import dev_build, samples, window
from vivant.backends.gaussian.formats import read_splats, write_splats

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "unit"))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import family_samples
from test_network_scenes import write_ply
from test_splats_edit import write_files
from test_window import photograph
from torch_files import saved

DATA = pathlib.Path(os.environ.get("VIVANT_DATA", pathlib.Path(__file__).resolve().parents[3] / "shared" / "data"))
BESIDE = 160  # pixels on the left where Blender names the operator that ran last
REAL = ("biker.compressed.ply", "biker.spz", "playbot5.ply", "playbot5.sog", "hanabi2.splatv", "moving200.4dgs")


def write_network(folder):
    """The knot as a trained scene of Deformable 3D Gaussians: splats and the network that makes them leap."""
    cloud = family_samples.deformable().select(slice(None, None, 2))
    network = cloud.family.network
    layers = {f"linear.{index}": layer for index, layer in enumerate(network.layers)} | network.heads
    weights = {f"{name}.{part}": getattr(layer, part) for name, layer in layers.items() for part in ("weight", "bias")}
    write_ply(folder / "point_cloud/iteration_100/point_cloud.ply", cloud)
    path = folder / "deform/iteration_100/deform.pth"
    path.parent.mkdir(parents=True)
    path.write_bytes(saved(weights))


@pytest.fixture(scope="session")
def tour(tmp_path_factory):
    """What splats_desk_tour.py noted, the log, and the folder with its photographs."""
    blender = os.environ.get("BLENDER")
    if not blender:
        pytest.skip("needs a Blender with a screen: set BLENDER to its program")
    folder = tmp_path_factory.mktemp("splats_desk")
    if kept := os.environ.get("VIVANT_PHOTOGRAPHS"):
        folder = pathlib.Path(kept) / "splats_desk"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    archive = dev_build.write_zip(folder / "vivant-0.1.0.zip", [], {})
    write_files(folder)
    write_network(folder / "network")
    (folder / "drop").mkdir()
    write_splats(samples.still_cloud(), folder / "drop" / "still.ply")
    write_splats(family_samples.seven(), folder / "drop" / "seven.ply")
    for name in REAL:
        if (DATA / "splats" / name).is_file():
            shutil.copyfile(DATA / "splats" / name, folder / "drop" / name)
    noted, log = window.run(blender, archive, pathlib.Path(__file__).with_name("splats_desk_tour.py"), folder, timeout=900)
    print(json.dumps(noted, indent=1))
    return noted, log, folder


def likeness(tour, one, other):
    """PSNR of two photographs of the viewport alone, dB; 90 for the same."""
    noted, _, folder = tour
    one, other = (photograph(folder, name, noted[name])[:, BESIDE:] for name in (one, other))
    error = np.square(one - other).mean()
    return -10 * np.log10(max(error, 1e-9))


def test_nothing_is_other_than_it_must_be_after_any_step_its_undo_and_its_redo(tour):
    assert tour[0]["wrong"] == []


def test_the_log_holds_no_error(tour):
    noted, log, _ = tour
    assert not noted["trouble"]
    assert not re.findall(r"(?im)^.*(?:traceback|error:|exception).*$", log)


def test_what_is_dropped_arrives_whole(tour):
    noted, _, folder = tour
    for path in (*sorted((folder / "drop").iterdir()), folder / "frames"):
        cloud = read_splats(path)
        ((_, (count, columns, mover)),) = noted["arrived"][path.name]["made"].items()
        assert count == len(cloud.at(0) if path.is_dir() else cloud), path.name
        assert {"position", "rotation", "scale", "radiance:base"} <= set(columns)
        assert sum(name.startswith("radiance:sh_") for name in columns) == (cloud.degree + 1) ** 2 - 1
        assert bool(mover) == (cloud.family is not None)


def test_a_quarter_of_the_splats_looks_like_all_and_the_way_back_is_exact(tour):
    whole, quarter, again = tour[0]["drawn"]
    assert whole == again and 0.22 < quarter / whole < 0.28
    print("a quarter:", likeness(tour, "whole", "at_0.25"))
    assert likeness(tour, "whole", "at_0.25") > 27
    assert likeness(tour, "whole", "at_1.0") > 60


def test_gloss_goes_with_the_degree_and_comes_back(tour):
    assert likeness(tour, "whole", "degree_0") < 40
    assert likeness(tour, "whole", "degree_3") > 60


def test_a_retimed_clip_shows_what_its_keys_say(tour):
    folder = tour[2]
    cloud = read_splats(folder / "moving.splatv")
    for frame, time in ((1, 0.0), (41, 0.5), (53, 0.8125)):  # (frames since the start x 0.5 + offset) / 20, looped
        np.testing.assert_allclose(np.load(folder / f"retimed_{frame}.npy"), cloud.at(time).means, atol=1e-4)


def test_baked_frames_are_the_networks_and_a_fit_is_close(tour):
    noted, _, folder = tour
    cloud = read_splats(folder / "network")
    for frame, time in ((1, 0.0), (26, 0.5), (38, 0.75)):  # the last one between two frames
        np.testing.assert_allclose(np.load(folder / f"baked_{frame}.npy"), cloud.at(time).means, atol=2e-3)
    assert noted["fit"]["answer"] == ["RUNNING_MODAL"] and min(noted["decibels"]) > 45
    assert len(noted["played"]) > 1 and len(noted["baked_frames"]) > 1


def test_splats_outside_of_the_blend_look_the_same_after_it_is_opened_and_after_they_are_found(tour):
    inside, outside = tour[0]["blend"]
    assert inside - outside > 2e6
    assert likeness(tour, "before_saving", "after_opened") > 60
    assert likeness(tour, "before_saving", "after_lost") < 30
    assert likeness(tour, "before_saving", "after_found") > 60


def test_plates_are_pictures_and_files(tour):
    ((_, size, mean),) = tour[0]["plate"]
    assert size == [320, 240] and 0.01 < mean < 0.9
    assert tour[0]["range"] == ["plate_0001.exr", "plate_0002.exr"]


def test_what_is_exported_comes_back_as_it_looked(tour):
    noted = tour[0]["exported"]
    counts = [made[0] for form in (".spz", ".sog") for made in noted[form]["made"].values()]
    assert len(counts) == 2 and counts[0] == counts[1]
    for name in ("written_spz", "written_sog"):
        print(name, likeness(tour, "written_ply", name))
        assert likeness(tour, "written_ply", name) > 35


def test_a_captures_cameras_come_with_it(tour):
    assert tour[0]["cameras"] == {"transforms.json": 6, "colmap/cameras.txt": 6}
