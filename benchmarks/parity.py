# SPDX-License-Identifier: GPL-3.0-or-later
"""How near each way to draw splats comes to the float64 rasteriser: PSNR in dB, and silhouettes.

    python3 dev.py bench parity [FILE …] [--quick]

For every file, and a made-up scene of SH degree 3: EEVEE's and Cycles' quads under *Match Training Colours*, the viewport,
the plate; then overlapping objects with a mesh between them, splats beside lit meshes in scene-linear light, lenses, and 26
directions.  Scene-linear renders blend light, as renderers do, and captures were trained to be blended as display values:
they are measured against the rasteriser blending light (the error) and blending display values (what differs by principle).
The truth sees through a camera computed here from lens, shift and sensor, not by `scene.cameras`.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import pathlib
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence

import bpy
import gpu
import numpy as np
from mathutils import Vector
from numpy.typing import NDArray

from vivant import api
from vivant.backends.common.cameras import Camera
from vivant.backends.common.colour import to_display
from vivant.backends.gaussian.render.reference import render as reference
from vivant.scene import colour, compat, drawing, pointclouds

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tools"))
import samples

Picture = NDArray[np.floating]
BUDGET = 10_000_000  # splats in the viewport: all
DIRECTIONS = [Vector(one).normalized() for one in itertools.product((-1, 0, 1), repeat=3) if any(one)]
LENSES = (18, 24, 35, 50, 85, 135, 200)


def psnr(a: Picture, b: Picture) -> float:
    """Peak signal to noise ratio, dB, of values clipped to 0..1."""
    return -10 * math.log10(max(np.square(np.clip(a, 0, 1) - np.clip(b, 0, 1)).mean(dtype=float), 1e-20))


def silhouettes_agree(a: Picture, b: Picture) -> bool:
    """Whether each picture's opaque part lies within the other's, grown by one pixel."""
    masks = [picture[..., 3] > 0.5 for picture in (a, b)]
    grown = [
        np.max([np.roll(mask, (dy, dx), (0, 1)) for dy, dx in itertools.product((-1, 0, 1), repeat=2)], axis=0)
        for mask in masks
    ]
    return not (np.any(masks[0] & ~grown[1]) or np.any(masks[1] & ~grown[0]))


# ---- the scene


def new_scene(size: tuple[int, int]) -> bpy.types.Scene:
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene.camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    scene.camera.data.clip_start = 0.01
    scene.collection.objects.link(scene.camera)
    scene.render.resolution_x, scene.render.resolution_y = size
    scene.render.film_transparent = True
    colour.display_blending(scene)
    return scene


def look(scene: bpy.types.Scene, splats: Sequence[bpy.types.Object], away: Vector, lens: float = 35, fill: float = 1.2) -> None:
    """Stand the camera off the middle of the splats in a direction, so that they fill the picture whatever the lens."""
    points = []
    for one in splats:
        matrix = np.array(one.matrix_world)
        points.append(pointclouds.read_attribute(one.data, "position") @ matrix[:3, :3].T + matrix[:3, 3])
    low, high = np.percentile(np.concatenate(points), [2, 98], axis=0)
    camera = scene.camera
    camera.data.lens = lens
    size = float(np.linalg.norm(high - low))
    camera.location = Vector((low + high) / 2) + away.normalized() * size * fill * lens / 35
    camera.rotation_euler = (-away).to_track_quat("-Z", "Y").to_euler()
    camera.data.ortho_scale = size * fill
    camera.data.clip_end = 100 * size * lens / 35
    bpy.context.view_layer.update()


def eye(scene: bpy.types.Scene) -> Camera:
    """The scene's camera from lens, sensor width and shift (automatic fit, square pixels)."""
    width, height = scene.render.resolution_x, scene.render.resolution_y
    data, longer = scene.camera.data, max(width, height)
    flat = data.type == "ORTHO"
    focal = longer / data.ortho_scale if flat else data.lens / data.sensor_width * longer
    centre = width / 2 - data.shift_x * longer, height / 2 + data.shift_y * longer
    intrinsics = np.array([[focal, 0, centre[0]], [0, focal, centre[1]], [0, 0, 1]])
    to_world = np.array(scene.camera.matrix_world) @ np.diag([1.0, -1, -1, 1])
    return Camera(intrinsics, to_world, width, height, "orthographic" if flat else "perspective", data.clip_start)


def truth(
    scene: bpy.types.Scene, splats: Sequence[bpy.types.Object], occluders: Picture | None = None, linear: bool = False
) -> Picture:
    seen = eye(scene)
    views = []
    for one in splats:
        to_local = np.linalg.inv(np.array(one.matrix_world)) @ seen.camera_to_world
        local = Camera(seen.intrinsics, to_local, seen.width, seen.height, seen.model, seen.near)
        views.append((pointclouds.cloud_at(one, scene), local))
    return reference(views, occluders=occluders, linear=linear)


def depths_of_meshes(scene: bpy.types.Scene) -> Picture:
    """Depth (H, W) of the first mesh behind each pixel's centre by casting rays; infinite where there is none."""
    seen, found = eye(scene), np.full((scene.render.resolution_y, scene.render.resolution_x), np.inf)
    depsgraph, ahead = bpy.context.evaluated_depsgraph_get(), seen.camera_to_world[:3, 2]
    for y, x in np.ndindex(found.shape):
        ray = seen.camera_to_world[:3, :3] @ np.linalg.solve(seen.intrinsics, (x + 0.5, y + 0.5, 1))
        hit, place, *_ = scene.ray_cast(depsgraph, scene.camera.location, ray)
        if hit:
            found[y, x] = (np.array(place) - seen.camera_to_world[:3, 3]) @ ahead
    return found


# ---- the ways to a picture


def by_engine(scene: bpy.types.Scene, engine: str, samples: int = 1) -> Picture:
    """EEVEE's or Cycles' render, raw values, rows from the top."""
    scene.render.engine = compat.EEVEE if engine == "EEVEE" else engine
    scene.cycles.samples = samples
    settings = scene.render.image_settings
    settings.file_format, settings.color_depth, settings.color_mode = "OPEN_EXR", "32", "RGBA"
    with tempfile.TemporaryDirectory() as folder:
        scene.render.filepath = str(pathlib.Path(folder, "picture.exr"))
        bpy.ops.render.render(write_still=True)
        image = bpy.data.images.load(scene.render.filepath)
        image.colorspace_settings.name = "Non-Color"
        picture = pixels_of(image)
    bpy.data.images.remove(image)
    return picture


def by_viewport(scene: bpy.types.Scene, splats: Sequence[bpy.types.Object]) -> Picture:
    """What the viewport's drawing lays over a view through the camera."""
    depsgraph = bpy.context.evaluated_depsgraph_get()
    size = scene.render.resolution_x, scene.render.resolution_y
    projection = scene.camera.calc_matrix_camera(depsgraph, x=size[0], y=size[1])
    view = drawing.View(size)
    nothing = gpu.types.Buffer("FLOAT", size[0] * size[1], np.ones(size[0] * size[1], np.float32))
    drawing.paint(view, splats, depsgraph, BUDGET, scene.camera.matrix_world.inverted(), projection, nothing)
    pixels = view.framebuffer.read_color(0, 0, *size, 4, 0, "FLOAT")
    return np.array(pixels, np.float32).reshape(size[1], size[0], 4)[::-1]


def by_plate(scene: bpy.types.Scene, splats: Sequence[bpy.types.Object]) -> Picture:
    """The operator's image, back in display values."""
    before = set(bpy.data.images)
    bpy.ops.vivant.splats_render()
    (image,) = set(bpy.data.images) - before
    picture = pixels_of(image)
    bpy.data.images.remove(image)
    alpha = picture[..., 3:]
    return np.concatenate([to_display(picture[..., :3] / np.maximum(alpha, 1e-6)) * alpha, alpha], axis=2)


def pixels_of(image: bpy.types.Image) -> Picture:
    width, height = image.size
    pixels = np.empty(width * height * 4, np.float32)
    image.pixels.foreach_get(pixels)
    return pixels.reshape(height, width, 4)[::-1].astype(float)


WAYS: dict[str, tuple[float, Callable[[bpy.types.Scene, Sequence[bpy.types.Object]], Picture]]] = {
    "EEVEE": (55, lambda scene, splats: by_engine(scene, "EEVEE")),
    "viewport": (50, by_viewport),
    "plate": (60, by_plate),
}
CYCLES_BAR, CYCLES_SAMPLES = 38, 64


def ways() -> list[str]:
    return [name for name in WAYS if name != "viewport" or hasattr(gpu, "init")]  # before 5.2 it needs a window


# ---- the measurements


def report(what: str, way: str, score: float, bar: float | None, note: str = "") -> bool:
    """Print a row; whether it reaches its bar."""
    reached = bar is None or score >= bar
    verdict = "" if bar is None else f"{bar:5.0f}  {'ok' if reached else 'MISSED'}"
    print(f"{what:<40} {way:<12} {score:7.2f}  {verdict}  {note}", flush=True)
    return reached


def captures(paths: Sequence[pathlib.Path], size: tuple[int, int], names: Sequence[str], cycles: bool) -> Iterator[bool]:
    """Each file and the made-up scene of degree 3, from one side, in every way; by Cycles half as wide and high."""
    for path in [*paths, None]:
        scene = new_scene(size)
        splats = [api.import_splats(path) if path else pointclouds.add(bpy.context, samples.still_cloud())]
        colour.display_blending(scene)
        look(scene, splats, Vector((-0.5, 1.0, 0.15)) if path else Vector((0.5, -1, 0.6)))
        expected = truth(scene, splats)
        title = (
            f"{path.name if path else 'knot'}, degree {pointclouds.cloud_of(splats[0]).degree}, {len(splats[0].data.points):,}"
        )
        for name in names:
            bar, way = WAYS[name]
            yield report(title, name, psnr(way(scene, splats), expected), bar)
        if cycles:
            scene.render.resolution_x, scene.render.resolution_y = size[0] // 2, size[1] // 2
            score = psnr(by_engine(scene, "CYCLES", CYCLES_SAMPLES), truth(scene, splats))
            yield report(title, "Cycles", score, CYCLES_BAR, f"{CYCLES_SAMPLES} samples")


def directions(size: tuple[int, int], names: Sequence[str]) -> Iterator[bool]:
    """The scene of degree 3 from the 26 neighbours of a cube's middle: the worst.

    It is turned, because its flat floor seen straight from above would have splats of one depth, which no sort tells apart.
    """
    scene = new_scene(size)
    splats = [pointclouds.add(bpy.context, samples.still_cloud())]
    splats[0].rotation_euler = (0.3, -0.2, 0.5)
    bpy.context.view_layer.update()
    colour.display_blending(scene)
    scores: dict[str, list[float]] = {name: [] for name in names}
    agreed = dict.fromkeys(names, 0)
    for away in DIRECTIONS:
        look(scene, splats, away)
        expected = truth(scene, splats)
        for name in names:
            picture = WAYS[name][1](scene, splats)
            scores[name].append(psnr(picture, expected))
            agreed[name] += silhouettes_agree(picture, expected)
    for name in names:
        note = f"mean {np.mean(scores[name]):.2f}; silhouettes within a pixel {agreed[name]} of {len(DIRECTIONS)}"
        yield report("turned knot, worst of 26 directions", name, min(scores[name]), WAYS[name][0], note)


def lenses(size: tuple[int, int], names: Sequence[str]) -> Iterator[bool]:
    """The same through lenses from 18 to 200 mm, shifted and parallel ones."""
    scene = new_scene(size)
    splats = [pointclouds.add(bpy.context, samples.still_cloud())]
    colour.display_blending(scene)
    data = scene.camera.data
    straight = (0.0, 0.0)
    kinds = [("PERSP", lens, straight) for lens in LENSES]
    kinds += [("PERSP", 18, (0.3, -0.2)), ("PERSP", 50, (-0.25, 0.15)), ("ORTHO", 35, straight), ("ORTHO", 35, (0.2, -0.1))]
    for data.type, lens, (data.shift_x, data.shift_y) in kinds:
        title = f"knot, {'parallel' if data.type == 'ORTHO' else f'{lens} mm'}"
        title += f", shift {data.shift_x:g}, {data.shift_y:g}" if data.shift_x else ""
        look(scene, splats, Vector((0.5, -1, 0.6)), lens)
        expected = truth(scene, splats)
        for name in names:
            picture = WAYS[name][1](scene, splats)
            agree = silhouettes_agree(picture, expected)
            bar = WAYS[name][0]
            yield (
                report(title, name, psnr(picture, expected), bar, f"silhouette {'within a pixel' if agree else 'OFF'}")
                and agree
            )


def box(scene: bpy.types.Scene, light: float | None) -> bpy.types.Object:
    """A slanted cube within the knot's place: grey that emits so much light, or that is lit."""
    bpy.ops.mesh.primitive_cube_add(size=0.5, location=(0.25, -0.2, 0.55), rotation=(0.4, 0.2, 0.5))
    made = bpy.context.object
    material = bpy.data.materials.new("Box")
    tree = compat.node_tree(material)
    if light is not None:
        tree.nodes.clear()
        emission, out = tree.nodes.new("ShaderNodeEmission"), tree.nodes.new("ShaderNodeOutputMaterial")
        emission.inputs["Color"].default_value = (light, light, light, 1)
        tree.links.new(emission.outputs[0], out.inputs["Surface"])
    made.data.materials.append(material)
    return made


def overlaps(size: tuple[int, int], names: Sequence[str]) -> Iterator[bool]:
    """Two knots that interpenetrate, and a mesh between their splats."""
    scene = new_scene(size)
    splats = [pointclouds.add(bpy.context, samples.still_cloud(seed)) for seed in (1, 2)]
    splats[1].location = (0.35, 0.2, 0.15)
    colour.display_blending(scene)
    look(scene, splats, Vector((0.5, -1, 0.6)))
    expected = truth(scene, splats)
    yield report("two knots, each drawn by itself", "EEVEE", psnr(by_engine(scene, "EEVEE"), expected), None)
    bpy.ops.vivant.splats_together()
    for name in names:
        yield report("two knots, sorted together", name, psnr(WAYS[name][1](scene, splats), expected), WAYS[name][0])
    grey = 0.4
    box(scene, grey)
    bpy.context.view_layer.update()
    depth = depths_of_meshes(scene)
    expected = truth(scene, splats, depth)
    solid = np.isfinite(depth)[..., None]
    expected = expected + (1 - expected[..., 3:]) * solid * np.array([grey, grey, grey, 1])
    for engine in ("EEVEE", "CYCLES"):
        yield report("the same with a mesh in between", engine, psnr(by_engine(scene, engine), expected), WAYS["EEVEE"][0])
    over = by_plate(scene, splats)
    over = over + (1 - over[..., 3:]) * solid * np.array([grey, grey, grey, 1])
    yield report("the same with a mesh in between", "plate", psnr(over, expected), WAYS["plate"][0])


def beside_lit_meshes(size: tuple[int, int]) -> Iterator[bool]:
    """Splats as scene-linear light around a lit mesh, as the view transform Standard shows them.

    The mesh's own light is its render without splats; where they light and shadow it too, that is no error of theirs.
    """
    scene = new_scene(size)
    splats = [pointclouds.add(bpy.context, samples.still_cloud())]
    look(scene, splats, Vector((0.5, -1, 0.6)))
    box(scene, None)
    sun = bpy.data.objects.new("Sun", bpy.data.lights.new("Sun", "SUN"))
    scene.collection.objects.link(sun)
    sun.rotation_euler = (0.6, 0.2, 0.4)
    bpy.context.view_layer.update()
    depth = depths_of_meshes(scene)
    trained, light = (truth(scene, splats, depth, linear) for linear in (False, True))
    for engine in ("EEVEE", "CYCLES"):
        splats[0].hide_render = True
        mesh = by_engine(scene, engine, 16)[..., :3]
        splats[0].hide_render = False
        blended = to_display(light[..., :3] + (1 - light[..., 3:]) * mesh)
        as_trained = trained[..., :3] + (1 - trained[..., 3:]) * to_display(mesh)
        for splats_light_it in (False, True):
            for ray in ("diffuse", "glossy", "transmission", "shadow"):
                setattr(splats[0], f"visible_{ray}", splats_light_it)
            seen = to_display(by_engine(scene, engine, 16)[..., :3])
            if splats_light_it:
                yield report("the same, splats light and shadow the mesh", engine, psnr(seen, blended), None)
            else:
                bar = CYCLES_BAR if engine == "CYCLES" else WAYS["EEVEE"][0]
                yield report("scene-linear beside a lit mesh", engine, psnr(seen, blended), bar, "against blending light")
                yield report("scene-linear beside a lit mesh", engine, psnr(seen, as_trained), None, "against display values")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=pathlib.Path, nargs="*", help="splat files to draw beside the made-up scene")
    parser.add_argument("--size", type=int, nargs=2, default=(200, 150), help="picture, pixels")
    parser.add_argument("--quick", action="store_true", help="leave Cycles out")
    parser.add_argument(
        "--only", nargs="+", choices=("captures", "overlaps", "linear", "lenses", "directions"), help="these parts alone"
    )
    options = parser.parse_args()
    if hasattr(gpu, "init"):
        gpu.init()
    from vivant import registration

    registration.register()
    size, names = tuple(options.size), ways()
    parts = {
        "captures": lambda: captures(options.files, size, names, not options.quick),
        "overlaps": lambda: overlaps(size, names),
        "linear": lambda: beside_lit_meshes(size),
        "lenses": lambda: lenses(size, names),
        "directions": lambda: directions(size, names),
    }
    print(f"Blender {bpy.app.version_string}, {size[0]} x {size[1]}; PSNR in dB and the bar")
    missed = sum(not reached for name in options.only or parts for reached in parts[name]())
    sys.stdout.flush()
    os._exit(bool(missed))  # Blender 4.5 as a module may hang at a normal exit


if __name__ == "__main__":
    main()
