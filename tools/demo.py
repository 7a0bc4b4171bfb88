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
    sys.stdout.flush()
    print(f" {time.perf_counter() - start:.1f} s", flush=True)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Blender's own chatter off the terminal; Python's errors still come through as exceptions."""
    saved, null = [os.dup(1), os.dup(2)], os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 1)
        os.dup2(null, 2)
        yield
    finally:
        for stream, copy in enumerate(saved, start=1):
            os.dup2(copy, stream)
            os.close(copy)
        os.close(null)


def quiet_render(scene: bpy.types.Scene, path: pathlib.Path) -> None:
    """Render a frame to a file."""
    scene.render.filepath = str(path)
    with quiet():
        bpy.ops.render.render(write_still=True, scene=scene.name)


def dark_world() -> bpy.types.World:
    world = bpy.data.worlds.new("Dark")
    background = compat.node_tree(world).nodes["Background"]
    background.inputs["Color"].default_value = (0.10, 0.11, 0.13, 1)
    return world


def aim(scene: bpy.types.Scene, target: Vector, size: tuple[float, float], direction: tuple[float, float, float]) -> None:
    """Let the scene's camera look at a target from a direction, so far away that a width and a height fit into the picture."""
    away = Vector(direction).normalized()
    camera, aspect = scene.camera, scene.render.resolution_x / scene.render.resolution_y
    width = max(size[0], size[1] * aspect)
    camera.location = target + away * width * camera.data.lens / camera.data.sensor_width
    camera.rotation_euler = (-away).to_track_quat("-Z", "Y").to_euler()


def add_camera(scene: bpy.types.Scene, lens: float) -> None:
    camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    camera.data.lens = lens
    scene.collection.objects.link(camera)
    scene.camera = camera


def bounds(splats: bpy.types.Object) -> tuple[Vector, Vector]:
    """Centre and size, in the world, of the box that holds most of an object's splats."""
    world = np.array(splats.matrix_world)
    means = api.cloud_of(splats).means @ world[:3, :3].T + world[:3, 3]
    low, high = np.percentile(means, [0.5, 99.5], axis=0)
    return Vector((low + high) / 2), Vector(high - low)


def splat_scene(folder: pathlib.Path) -> bpy.types.Scene:
    """A scene with a moving capture (and a still one in front of it, when there is a real one)."""
    scene = bpy.context.scene
    scene.name = "Splats"
    scene.world = dark_world()
    scene.frame_start, scene.frame_end = 1, CLIP_FRAMES
    real = DATA / "splats" / "hanabi2.splatv"
    path = real if real.is_file() else samples.write_moving(folder)
    with step(f"import {path.name}"):
        moving = api.import_splats(path, start_frame=1, frames=CLIP_FRAMES)
    add_camera(scene, 50)
    scene.render.resolution_x, scene.render.resolution_y = 1280, 800
    still = DATA / "splats" / "biker.spz"
    if still.is_file():
        with step(f"import {still.name}"):
            rider = api.import_splats(still)
        centre, size = bounds(rider)
        moving.location = centre + Vector((0.9, -2.6, 0.5))
        aim(scene, centre + Vector((-0.35, 0, 0)), (0, size.z * 1.15), (-0.35, 1.0, 0.1))
    else:
        centre, size = bounds(moving)
        aim(scene, centre, (size.x * 1.3, size.z * 1.5), (0.6, -1.0, 0.35))
    bpy.context.view_layer.update()
    for obj in scene.objects:
        print(f"    {obj.name}: {len(obj.data.points):,} splats") if obj.type == "POINTCLOUD" else None
    colour.display_blending(scene)
    scene.render.image_settings.file_format = "PNG"
    return scene


def splat_pictures(scene: bpy.types.Scene, folder: pathlib.Path) -> None:
    """Stills at three times from both engines, and a GIF of the whole clip, by EEVEE, which is quicker here."""
    times = [1 + round(share * (CLIP_FRAMES - 1)) for share in (0.36, 0.54, 0.72)]
    for engine, width, height in (("CYCLES", 400, 250), (compat.EEVEE, 320, 200)):
        scene.render.engine = engine
        scene.render.resolution_x, scene.render.resolution_y = width, height
        for frame in times:
            scene.frame_set(frame)
            name = f"splats_{engine.removeprefix('BLENDER_').lower()}_frame_{frame:02d}.png"
            with step(f"{name}, {width} x {height}"):
                quiet_render(scene, folder / name)
    frames = list(range(1, CLIP_FRAMES + 1, 3))
    with step(f"splats.gif, {len(frames)} frames, 320 x 200"):
        pictures = [render_frame(scene, frame, folder) for frame in frames]
        write_gif(pictures, folder / "splats.gif", 3 / scene.render.fps)
    scene.render.engine = "CYCLES"
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
    with quiet():
        rig = sample_rig.import_fox(fox) if fox.is_file() else sample_rig.made_up_walker()
    sample_rig.keep_only_poses(rig, KEY_FRAMES)
    sun = bpy.data.objects.new("Sun", bpy.data.lights.new("Sun", "SUN"))
    sun.data.energy, sun.rotation_euler = 3, (0.8, 0.2, 0.5)
    scene.collection.objects.link(sun)
    scene.render.resolution_x, scene.render.resolution_y = 168, 132
    add_camera(scene, 60)
    length, height = rig.dimensions.y, rig.dimensions.z
    aim(scene, Vector((0, 0, height * 0.47)), (length * 1.15, height * 1.3), (1, -0.45, 0.12))
    scene.render.engine = "CYCLES"
    scene.cycles.samples, scene.cycles.use_denoising = 8, False
    scene.view_settings.view_transform = "Standard"
    scene.render.image_settings.file_format = "PNG"
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
    splats = splat_scene(folder)
    splat_pictures(splats, folder)
    motion, rig = rig_scene()
    motion_pictures(motion, rig, folder)
    bpy.context.window.scene = splats
    blend = folder / "vivant_demo.blend"
    with step(blend.name), quiet():
        bpy.context.preferences.filepaths.save_version = 0  # no .blend1 beside it
        bpy.ops.wm.save_as_mainfile(filepath=str(blend), compress=True)
    print(f"{time.perf_counter() - start:.0f} s.  Results in {folder}:")
    for path in sorted(folder.iterdir()):
        print(f"  {path.name}  {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    sys.exit(main())
