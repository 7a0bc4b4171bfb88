# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo: import a moving capture, render it, fill the gaps between the poses of a rig.

Writes vivant_demo.blend, stills of three times from Cycles and from EEVEE, a filmstrip of the
in-between and a GIF that plays.  Real inputs when the test data are there, made ones otherwise.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import bpy
import numpy as np
import sample_rig
import samples
from mathutils import Vector
from PIL import Image, ImageDraw

from vivant import api
from vivant.scene import colour, compat

ROOT = pathlib.Path(__file__).resolve().parents[1]
DATA = pathlib.Path(os.environ.get("VIVANT_DATA", ROOT.parent / "shared" / "data"))
CLIP_FRAMES = 48
KEY_FRAMES = (1, 7, 13, 19, 25)  # the poses of one walk cycle that an animator would block
MARK, PAPER = (255, 196, 0), (24, 26, 30)


@contextmanager
def step(name: str) -> Iterator[None]:
    """Say what is being done and how long it took."""
    print(f"  {name} …", end="", flush=True)
    start = time.perf_counter()
    yield
    print(f" {time.perf_counter() - start:.1f} s", flush=True)


def quiet_render(scene: bpy.types.Scene, path: pathlib.Path) -> None:
    """Render a frame to a file, with Blender's own chatter kept off the terminal."""
    scene.render.filepath = str(path)
    saved, null = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 1)
        bpy.ops.render.render(write_still=True, scene=scene.name)
    finally:
        os.dup2(saved, 1)
        os.close(saved)
        os.close(null)


def dark_world() -> bpy.types.World:
    world = bpy.data.worlds.new("Dark")
    background = compat.node_tree(world).nodes["Background"]
    background.inputs["Color"].default_value = (0.004, 0.005, 0.008, 1)
    return world


def aim(camera: bpy.types.Object, target: Vector, distance: float, direction: tuple[float, float, float]) -> None:
    """Put a camera at a distance from a target, looking at it."""
    away = Vector(direction).normalized()
    camera.location = target + away * distance
    camera.rotation_euler = (-away).to_track_quat("-Z", "Y").to_euler()


def add_camera(scene: bpy.types.Scene, lens: float) -> bpy.types.Object:
    camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    camera.data.lens = lens
    scene.collection.objects.link(camera)
    scene.camera = camera
    return camera


def bounds(splats: bpy.types.Object) -> tuple[Vector, float]:
    """Centre and radius, in the world, of where most of an object's splats are."""
    means = api.cloud_of(splats).means @ np.array(splats.matrix_world)[:3, :3].T
    low, high = np.percentile(means, [2, 98], axis=0)
    return Vector((low + high) / 2), float(np.linalg.norm(high - low) / 2)


def splat_scene(folder: pathlib.Path) -> bpy.types.Scene:
    """A scene with a moving capture (and a still one in front of it, when there is a real one)."""
    scene = bpy.context.scene
    scene.name = "Splats"
    scene.world = dark_world()
    scene.frame_start, scene.frame_end = 1, CLIP_FRAMES
    real = DATA / "splats" / "hanabi2.splatv"
    path = real if real.is_file() else samples.write_moving(folder)
    moving = api.import_splats(path, start_frame=1, frames=CLIP_FRAMES)
    centre, radius = bounds(moving)
    camera = add_camera(scene, 40)
    still = DATA / "splats" / "biker.spz"
    if still.is_file():
        biker = api.import_splats(still)
        biker.scale = (1.5,) * 3
        bpy.context.view_layer.update()
        centre, radius = bounds(biker)
        moving.location = centre + Vector((0.0, 3.5, 0.6))
        aim(camera, centre, radius * 2.7, (0.75, -1.0, 0.18))
    else:
        aim(camera, centre, radius * 3, (0.6, -1.0, 0.35))
    for obj in scene.objects:
        print(f"    {obj.name}: {len(obj.data.points):,} splats") if obj.type == "POINTCLOUD" else None
    colour.display_blending(scene)
    scene.render.image_settings.file_format = "PNG"
    return scene


def splat_pictures(scene: bpy.types.Scene, folder: pathlib.Path) -> None:
    """Stills at three times from both engines, and a GIF of the whole clip."""
    times = [1 + round(share * (CLIP_FRAMES - 1)) for share in (0.1, 0.5, 0.9)]
    for engine, width, height in (("CYCLES", 640, 400), (compat.EEVEE, 320, 200)):
        scene.render.engine = engine
        scene.render.resolution_x, scene.render.resolution_y = width, height
        for frame in times:
            scene.frame_set(frame)
            name = f"splats_{engine.removeprefix('BLENDER_').lower()}_frame_{frame:02d}.png"
            with step(f"{name}, {width} x {height}"):
                quiet_render(scene, folder / name)
    scene.render.engine = "CYCLES"
    scene.render.resolution_x, scene.render.resolution_y = 320, 200
    frames = list(range(1, CLIP_FRAMES + 1, 2))
    with step(f"splats.gif, {len(frames)} frames, 320 x 200"):
        pictures = [render_frame(scene, frame, folder) for frame in frames]
        write_gif(pictures, folder / "splats.gif", 2 / scene.render.fps)
    scene.render.resolution_x, scene.render.resolution_y = 1280, 800
    scene.frame_set(times[1])


def render_frame(scene: bpy.types.Scene, frame: int, folder: pathlib.Path) -> Image.Image:
    scene.frame_set(frame)
    path = folder / "frame.png"
    quiet_render(scene, path)
    picture = Image.open(path).convert("RGB")
    path.unlink()
    return picture


def write_gif(pictures: list[Image.Image], path: pathlib.Path, seconds: float) -> None:
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=round(seconds * 1000), loop=0)


def rig_scene() -> tuple[bpy.types.Scene, bpy.types.Object]:
    """A scene with a rig that has only its key poses, and the authored motion beside it when there is one."""
    scene = bpy.data.scenes.new("In-between")
    bpy.context.window.scene = scene
    scene.frame_start, scene.frame_end = KEY_FRAMES[0], KEY_FRAMES[-1]
    scene.world = bpy.data.worlds.new("Studio")
    compat.node_tree(scene.world).nodes["Background"].inputs["Color"].default_value = (0.35, 0.38, 0.42, 1)
    fox = DATA / "rigs" / "fox.glb"
    rig = sample_rig.import_fox(fox) if fox.is_file() else sample_rig.made_up_walker()
    sample_rig.keep_only_poses(rig, KEY_FRAMES)
    sun = bpy.data.objects.new("Sun", bpy.data.lights.new("Sun", "SUN"))
    sun.data.energy, sun.rotation_euler = 3, (0.8, 0.2, 0.5)
    scene.collection.objects.link(sun)
    camera = add_camera(scene, 60)
    size = max(rig.dimensions)
    aim(camera, Vector((0, 0, rig.dimensions.z * 0.45)), size * 2.3, (1, -0.45, 0.12))
    scene.render.engine = "CYCLES"
    scene.cycles.samples, scene.cycles.use_denoising = 8, False
    scene.view_settings.view_transform = "Standard"
    scene.render.image_settings.file_format = "PNG"
    scene.render.resolution_x, scene.render.resolution_y = 168, 132
    return scene, rig


def motion_pictures(scene: bpy.types.Scene, rig: bpy.types.Object, folder: pathlib.Path) -> None:
    """A filmstrip with the key poses marked, and a GIF of the walk."""
    with step(f"in-between of {len(rig.pose.bones)} bones, {len(KEY_FRAMES) - 1} gaps"):
        take = api.inbetween_object(rig, scope="RANGE", frame_range=(KEY_FRAMES[0], KEY_FRAMES[-1]))
    for warning in take.warnings:
        print(f"    {warning}")
    frames = list(range(KEY_FRAMES[0], KEY_FRAMES[-1] + 1))
    with step(f"inbetween_filmstrip.png, inbetween.gif, {len(frames)} frames"):
        pictures = [render_frame(scene, frame, folder) for frame in frames]
        filmstrip(pictures, frames).save(folder / "inbetween_filmstrip.png")
        write_gif(pictures[:-1], folder / "inbetween.gif", 1 / scene.render.fps)
    scene.render.resolution_x, scene.render.resolution_y = 1280, 720


def filmstrip(pictures: list[Image.Image], frames: list[int], columns: int = 7) -> Image.Image:
    """Pictures in rows; key poses have a yellow frame."""
    width, height = pictures[0].size
    cell_width, cell_height = width + 8, height + 24
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * cell_width + 8, rows * cell_height + 8), PAPER)
    draw = ImageDraw.Draw(sheet)
    for index, (picture, frame) in enumerate(zip(pictures, frames, strict=True)):
        x, y = 8 + index % columns * cell_width, 8 + index // columns * cell_height
        key = frame in KEY_FRAMES
        if key:
            draw.rectangle((x - 3, y - 3, x + width + 2, y + height + 2), fill=MARK)
        sheet.paste(picture, (x, y))
        draw.text((x + 2, y + height + 4), f"{frame}  key" if key else f"{frame}", fill=MARK if key else (150, 155, 160))
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "out" / "demo", help="folder for the results")
    folder = parser.parse_args().out.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    print(f"Vivant demo in Blender {bpy.app.version_string}; inputs: {'real' if DATA.is_dir() else 'made here'}")
    bpy.ops.wm.read_factory_settings(use_empty=True)
    with step("import splats"):
        splats = splat_scene(folder)
    splat_pictures(splats, folder)
    motion, rig = rig_scene()
    motion_pictures(motion, rig, folder)
    bpy.context.window.scene = splats
    blend = folder / "vivant_demo.blend"
    with step(blend.name):
        bpy.ops.wm.save_as_mainfile(filepath=str(blend), compress=True)
    print(f"{time.perf_counter() - start:.0f} s.  Results in {folder}:")
    for path in sorted(folder.iterdir()):
        print(f"  {path.name}  {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    sys.exit(main())
