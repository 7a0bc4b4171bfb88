# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the documentation's pictures of the window: `BLENDER=… python3 dev.py python tools/screenshots.py`.

The same file runs inside that Blender, where window.py calls `steps`.
"""

from __future__ import annotations

import os
import pathlib
import sys
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tools.window_inside import Window

ROOT = pathlib.Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"
DATA = pathlib.Path(os.environ.get("VIVANT_DATA", ROOT.parent / "shared" / "data"))
NAMES = ("sidebar", "take", "human", "fox")  # the last two where the test data are
WIDTH = 1200  # pixels


def steps(window: Window) -> Iterator[float]:
    """A moving cloud with the tab open, and a take of a walk."""
    import bpy
    from mathutils import Vector

    def look(target: tuple[float, float, float], direction: tuple[float, float, float], distance: float) -> None:
        seen = window.space.region_3d
        seen.view_location, seen.view_distance = target, distance
        seen.view_rotation = Vector(direction).to_track_quat("Z", "Y")

    bpy.data.batch_remove(bpy.data.objects)
    scene = bpy.context.scene
    scene.frame_end = 50
    window.space.show_region_ui = True
    yield 1.0
    window.call(bpy.ops.vivant.splats_import, filepath=str(window.folder / "knot.splatv"))
    scene.frame_set(20)
    look((0.4, 0, 0.75), (1.2, -3.0, 1.1), 5.2)
    window.show_tab()
    yield 4.0
    window.photograph("sidebar")

    bpy.data.batch_remove(bpy.data.objects)
    sys.path.insert(0, str(ROOT))
    from tools import sample_rig

    rig = sample_rig.made_up_walker()
    sample_rig.keep_only_poses(rig, (1, 9, 17, 33))
    scene.frame_set(25)
    rig.select_set(True)
    bpy.context.view_layer.objects.active = rig
    bpy.ops.object.mode_set(mode="POSE")
    rig.show_in_front = True
    look((0.3, 0, 0.9), (2.2, -2.4, 0.8), 4.4)
    before = set(bpy.context.window_manager.windows[0].screen.areas)
    window.call(bpy.ops.screen.area_split, direction="HORIZONTAL", factor=0.25)
    added = next(area for area in bpy.context.window_manager.windows[0].screen.areas if area not in before)
    sheet = min(added, window.area, key=lambda area: area.y)
    sheet.ui_type = "DOPESHEET"
    sheet.spaces.active.dopesheet.show_only_selected = False
    sheet.spaces.active.show_region_ui = False
    yield 1.0
    window.call(bpy.ops.vivant.motion_inbetween, "EXEC_DEFAULT", True, scope="GAP", output="SPARSE")
    window.call(bpy.ops.vivant.motion_inbetween, "EXEC_DEFAULT", True, scope="GAP", output="BAKED", another=True)
    rig.vivant_takes.strength = 1.5
    scene.vivant.show_ghosts = scene.vivant.show_trails = True
    scene.vivant.ghost_step = 4
    window.show_tab()
    region = next(region for region in sheet.regions if region.type == "WINDOW")
    with bpy.context.temp_override(window=bpy.context.window_manager.windows[0], area=sheet, region=region):
        bpy.ops.action.view_all()
    yield 6.0
    window.photograph("take")

    if DATA.is_dir():
        walk = DATA / "mocap" / "bvh" / "cmu_35_28_walk_asf.bvh"
        for name, file, poses in (
            ("human", "human_mixamo_names.glb", (13, 25, 37, 49, 61, 85)),
            ("fox", "fox.glb", (1, 9, 17, 41)),
        ):
            bpy.ops.object.mode_set(mode="OBJECT")
            bpy.data.batch_remove([*bpy.data.objects, *bpy.data.actions])
            scene.render.fps = 30
            rig = sample_rig.import_rig(DATA / "rigs" / file)
            yield 1.0
            if name == "human":
                window.call(bpy.ops.vivant.motion_retarget, "EXEC_DEFAULT", True, filepath=str(walk))
            else:
                sample_rig.show(rig, bpy.data.actions["Walk"])
            rig.animation_data.action.use_fake_user = True
            sample_rig.keep_only_poses(rig, poses)
            bpy.ops.object.mode_set(mode="POSE")
            bpy.ops.pose.select_all(action="DESELECT")
            rig.show_in_front = True
            scene.frame_set((poses[-2] + poses[-1]) // 2)
            way = rig.matrix_world @ rig.pose.bones[1].head
            look((way.x, way.y, 0.85 if name == "human" else 0.6), (2.6, -1.2, 0.7), 3.4 if name == "human" else 4.4)
            for solver in ("spline", "retrieval"):
                window.call(bpy.ops.vivant.motion_inbetween, "EXEC_DEFAULT", True, scope="GAP", solver=solver, another=True)
            scene.vivant.solver = "retrieval"
            with bpy.context.temp_override(window=bpy.context.window_manager.windows[0], area=sheet, region=region):
                bpy.ops.action.view_all()
            yield 20.0  # until the ghosts are drawn, on a busy machine too
            window.photograph(name)


def main() -> None:
    from PIL import Image

    sys.path.insert(0, str(ROOT))
    from tools import dev_build, samples
    from tools import window as real_window

    if not os.environ.get("BLENDER"):
        sys.exit("Set BLENDER to a Blender with a screen.")
    with tempfile.TemporaryDirectory(prefix="vivant-screenshots-") as temporary:
        folder = pathlib.Path(temporary)
        archive = dev_build.write_zip(folder / "vivant.zip", [], {})
        samples.write_moving(folder)
        real_window.run(os.environ["BLENDER"], archive, pathlib.Path(__file__), folder)
        IMAGES.mkdir(parents=True, exist_ok=True)
        for name in (name for name in NAMES if (folder / f"{name}.png").is_file()):
            picture = Image.open(folder / f"{name}.png").convert("RGB")
            picture = picture.resize((WIDTH, WIDTH * picture.height // picture.width), Image.Resampling.LANCZOS)
            path = IMAGES / f"{name}.png"
            picture = picture.point(lambda value: value & 0xF8 | value >> 5)  # five bits: no eye sees it, PNG does
            picture.save(path, optimize=True)
            print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
