# SPDX-License-Identifier: GPL-3.0-or-later
"""Every family of motion on one scene: what Blender plays against the formula in NumPy, and pictures at three times.

    python3 dev.py bench families [--page docs/families.md]

Worst differences are over ten times and three cameras, without what is not seen (opacity below 1/255); for cached families at
ten frames that are baked, from one camera.  Pictures are EEVEE's, by the modifiers as they are imported.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import bpy
import numpy as np
from mathutils import Matrix, Vector
from numpy.typing import NDArray
from PIL import Image

from vivant.backends.gaussian import cache_writer
from vivant.backends.gaussian.cache import EXTENSION
from vivant.backends.gaussian.cloud import SplatCloud
from vivant.backends.gaussian.formats import FORMATS, write_splats
from vivant.backends.gaussian.formats.format import SAMPLED
from vivant.backends.gaussian.motion.frames import Frames
from vivant.scene import clips, colour, playback, pointclouds

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tools"))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import family_samples
import parity

START, FRAMES = 1, 48
SHARES = (0.08, 0.4, 0.75)
"""Of the clip, when it is photographed."""
SIZE, PAPER = (320, 264), np.array([0.095, 0.1, 0.118])
CAMERAS = [Vector((0.0, -6.4, 2.6)), Vector((-5.0, -3.4, 1.2)), Vector((2.1, 5.2, 4.0))]
MEASURES = ("position", "scale", "degrees", "opacity", "colour")
UNSEEN = 1 / 255


@dataclass(frozen=True)
class Row:
    """A section of the page: how the scene is made for a family, and what is said of it."""

    key: str
    title: str
    make: Callable[[pathlib.Path], SplatCloud]
    says: str
    orbits: float = 0.0
    """Degrees that the camera goes round from the first picture to the last."""


def made(name: str) -> Callable[[pathlib.Path], SplatCloud]:
    make = getattr(family_samples, name)
    return make if name == "numbered" else lambda folder: make()


ROWS = (
    Row("still", "Still", made("still"),
        "A plain capture: nothing moves but the viewer, to whom spherical harmonics show another gloss from each side "
        "([3DGS](https://arxiv.org/abs/2308.04079)).", 60),
    Row("linear", "Linear velocity", made("linear"),
        "Each splat flies straight on while its window of time is open; a bent path is several splats one after the other. "
        "Players of 4D captures write it, and *Fit to Native Motion* makes it of any motion, as here."),
    Row("stg", "Spacetime Gaussians, lite", made("stg"),
        "A cubic path, a steady turn and one coming and going for each splat "
        "([Spacetime Gaussian Feature Splatting](https://arxiv.org/abs/2312.16812))."),
    Row("stg_full", "Spacetime Gaussians, full", made("stg_full"),
        "The same motion; a small network makes the colours from features, time and the ray. Its weights are in the nodes."),
    Row("rotor4d", "4D Gaussians", made("rotor4d"),
        "Ellipsoids in space and time; cut at a time, each is a Gaussian that moves straight on, comes and goes "
        "([4DGS](https://arxiv.org/abs/2310.10642))."),
    Row("six", "6D Gaussians", made("six"),
        "Ellipsoids in space and direction of view: what is seen depends on where the camera is "
        "([6DGS](https://arxiv.org/abs/2410.04974)). Here the knot wears two coats, one for either side.", 76),
    Row("seven", "7D Gaussians", made("seven"),
        "Space, direction and time together ([7DGS](https://arxiv.org/abs/2503.07946)): the coats, and slices of the clip that "
        "fade into each other.", 76),
    Row("refined", "7D Gaussians with refinement", made("refined"),
        "Small networks correct 7D Gaussians at every time (the same paper, section 3.4). Here they make the knot leap, sway "
        "and breathe, and it is seen best from one side."),
    Row("hexplane", "4D-GS", made("hexplane"),
        "Six planes of features over pairs of x, y, z and time, read by small networks ([4D-GS](https://arxiv.org/abs/2310.08528))."),
    Row("deformable", "Deformable 3D Gaussians", made("deformable"),
        "A network of eight layers says where each splat goes and how it turns and grows "
        "([Deformable 3D Gaussians](https://arxiv.org/abs/2309.13101)); here the kind that moves by screws."),
    Row("control_nodes", "SC-GS", made("control_nodes"),
        "Control nodes move by a network, each splat follows the three nearest ([SC-GS](https://arxiv.org/abs/2312.14937))."),
    Row("frames", "Numbered files", made("numbered"),
        "A still cloud for each frame, as trainers of single frames and the samples of a USD file have it. Between two files, "
        "splats that stay the same ones are mixed. Here nine files."),
)  # fmt: skip

INTRODUCTION = """# Families of motion

How splats can move, on one scene: a knot that leaps and turns over a stage, made up by `tools/family_samples.py` for every
family. Each is imported as it is and rendered by EEVEE at three times of its clip. This page is made by
`python3 dev.py bench families --page docs/families.md`.

A *node group* plays in any Blender of the right version, without Vivant, at any sub-frame. *Frames* are baked once by the
engine into a cache beside the .blend, which Vivant plays; *Fit to Native Motion* makes a node group of them.

What Blender plays against the formula in NumPy, the worst of all splats that are seen, at ten times from three cameras: metres,
degrees, opacity and SH coefficients. What is cached is stored in small steps.

"""


def plays(cloud: SplatCloud) -> str:
    family = cloud.family
    if family is None or isinstance(family, Frames):
        return "as it is" if family is None else "its files"
    return "node group" if family.name in pointclouds.FAMILY_TREES else "frames"


def carried_by(cloud: SplatCloud) -> str:
    """The formats that carry the cloud's family."""
    family = cloud.family
    if family is None:
        return "every format"
    if isinstance(family, Frames):
        return "folders and .zip of any still format, USD"
    names = dict.fromkeys(form.name for form in FORMATS if form.holds is not SAMPLED and family.name in form.holds)
    return ", ".join([*names, "as samples USD and numbered files"])


def place(scene: bpy.types.Scene, cloud: SplatCloud, folder: pathlib.Path) -> bpy.types.Object:
    """A cloud as an object that plays; what a network moves from a cache of every frame, seen from the first camera."""
    splats = pointclouds.to_object(cloud, "Knot", START, FRAMES)
    scene.collection.objects.link(splats)
    bpy.context.view_layer.update()
    if plays(cloud) == "frames":
        canonical, cache = folder / "canonical.ply", folder / f"baked{EXTENSION}"
        folder.mkdir()
        write_splats(cloud.replace(family=None), canonical)
        facts = splats[pointclouds.KEY]
        facts["path"], facts["samples"], facts["cache"], facts["source"] = str(canonical), FRAMES + 1, str(cache), "knot"
        eye = splats.matrix_world.inverted() @ CAMERAS[0]
        times = clips.times(pointclouds.facts_of(splats)).tolist()
        cache_writer.write(cache, cloud, times, (cloud.at(time, eye) for time in times), "knot")
    colour.display_blending(scene)
    return splats


def look_from(scene: bpy.types.Scene, where: Vector, target: Vector) -> None:
    scene.camera.location = where
    scene.camera.rotation_euler = (target - where).to_track_quat("-Z", "Y").to_euler()
    bpy.context.view_layer.update()


def differences(scene: bpy.types.Scene, cloud: SplatCloud, splats: bpy.types.Object) -> dict[str, float]:
    """The worst of MEASURES between what Blender evaluates and `cloud.at`."""
    worst = dict.fromkeys(MEASURES, 0.0)
    if cloud.family is None:
        return worst
    pointclouds.drawer_of(splats).show_viewport = False
    first, last = cloud.family.time_range
    cached = plays(cloud) == "frames"
    for where in CAMERAS[:1] if cached else CAMERAS:
        look_from(scene, where, Vector((0, 0, 1)))
        for frame in np.linspace(START, START + FRAMES, 10):
            frame = round(frame) if cached else frame
            scene.frame_set(int(frame), subframe=frame % 1)
            truth = cloud.at(first + (frame - START) / FRAMES * (last - first), splats.matrix_world.inverted() @ where)
            geometry = splats.evaluated_get(bpy.context.evaluated_depsgraph_get()).evaluated_geometry()
            now = pointclouds.read(geometry.pointcloud)
            seen = truth.opacities > UNSEEN
            same = np.sign(np.einsum("nk,nk->n", now.quats, truth.quats))[:, None]
            apart = np.linalg.norm(now.quats * same - truth.quats.astype(float), axis=1)[seen]
            found = {
                "position": np.abs(now.means - truth.means)[seen],
                "scale": np.abs(now.scales - truth.scales)[seen],
                "degrees": np.degrees(4 * np.arcsin(np.minimum(apart / 2, 1))),
                "opacity": np.abs(now.opacities - truth.opacities),
                "colour": np.abs(now.sh - truth.sh)[seen],
            }
            worst = {name: max(worst[name], float(values.max(initial=0))) for name, values in found.items()}
    pointclouds.drawer_of(splats).show_viewport = True
    return worst


def photograph(scene: bpy.types.Scene, orbits: float, centre: Vector, away: Vector) -> NDArray[np.floating]:
    """Three pictures side by side (H, W, 3), 0 to 1."""
    pictures = []
    for share, turned in zip(SHARES, (-0.5, 0, 0.5), strict=True):
        look_from(scene, centre + Matrix.Rotation(np.radians(orbits * turned), 3, "Z") @ away, centre)
        frame = START + share * FRAMES
        scene.frame_set(int(frame), subframe=frame % 1)
        picture = parity.by_engine(scene, "EEVEE")
        pictures += [picture[..., :3] + (1 - picture[..., 3:]) * PAPER, np.full((SIZE[1], 3, 3), 0.3)]
    return np.clip(np.concatenate(pictures[:-1], axis=1), 0, 1)


def save(strip: NDArray[np.floating], path: pathlib.Path) -> None:
    """A strip as a PNG of 256 colours."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.round(255 * strip).astype(np.uint8)).quantize(256).save(path, optimize=True)


def run(row: Row, folder: pathlib.Path, pictures: pathlib.Path | None) -> tuple[SplatCloud, dict[str, float]]:
    """Measure a row, and photograph it where there is a folder for pictures."""
    cloud = row.make(folder / row.key)
    scene = parity.new_scene(SIZE)
    scene.camera.data.lens = 64
    splats = place(scene, cloud, folder / row.key)
    worst = differences(scene, cloud, splats)
    if pictures:
        centre, away = Vector((0, 0, 1.05)), CAMERAS[0] - Vector((0, 0, 1.05))
        save(photograph(scene, row.orbits, centre, away), pictures / f"family_{row.key}.png")
    return cloud, worst


def as_page(rows: list[tuple[Row, SplatCloud, dict[str, float]]]) -> str:
    """The table, and a section a family."""
    lines = [["family", "plays by", "splats", *MEASURES], ["---"] * (3 + len(MEASURES))]
    sections = []
    for row, cloud, worst in rows:
        figures = [f"{worst[name]:.0e}" if worst[name] else "0" for name in MEASURES]
        lines.append([row.title, plays(cloud), f"{len(cloud):,}", *figures])
        facts = f"Carried by: {carried_by(cloud)}."
        sections.append(f"\n## {row.title}\n\n{row.says} {facts}\n\n![{row.title}](images/family_{row.key}.png)\n")
    return INTRODUCTION + "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n" + "".join(sections)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", type=pathlib.Path, help="write a page with pictures, which lie beside it in images/")
    parser.add_argument(
        "--file", nargs=2, action="append", default=[], metavar=("SPLATS", "CREDIT"), help="a real file as well"
    )
    parser.add_argument("--only", nargs="+", default=[], help="keys of families")
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    playback.register()
    chosen = [row for row in ROWS if not options.only or row.key in options.only]
    print(f"{'family':<30}{'plays by':<12}{'splats':>8}" + "".join(f"{name:>10}" for name in MEASURES))
    results: list[tuple[Row, SplatCloud, dict[str, float]]] = []
    with tempfile.TemporaryDirectory() as folder:
        for row in chosen:
            cloud, worst = run(row, pathlib.Path(folder), options.page and options.page.parent / "images")
            results.append((row, cloud, worst))
            figures = "".join(f"{worst[name]:>10.1e}" for name in MEASURES)
            print(f"{row.title:<30}{plays(cloud):<12}{len(cloud):>8,}{figures}", flush=True)
        if options.page:
            options.page.write_text(as_page(results), "utf8")
        if options.json:
            found: dict[str, Any] = {row.key: worst for row, _, worst in results}
            options.json.write_text(json.dumps(found))
        playback.unregister()


if __name__ == "__main__":
    main()
