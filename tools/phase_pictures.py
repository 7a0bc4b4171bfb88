# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures of part-wise phase: sweeps of an arm's amplitude and tempo, and a walk with the arms of another.

    python dev.py python tools/phase_pictures.py [--data FOLDER] [--weights FILE] [--out FOLDER]

Writes phase_amplitude.png, phase_tempo.png and phase_swap.png from walks that the model has not seen.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vivant.backends.common import rotations as quaternions
from vivant.backends.common import weights as weight_files
from vivant.backends.motion import library
from vivant.backends.motion.clip import Clip
from vivant.backends.motion.phase import edit, model, solver
from vivant.backends.motion.phase.edit import Edit

ROOT = pathlib.Path(__file__).resolve().parents[1]
SCALE = 2  # drawn so much larger, then halved, for smooth lines
PAPER, INK, FAINT = (24, 26, 30), (225, 228, 232), (84, 88, 96)
COLOURS = ((90, 140, 250), (110, 200, 230), (235, 235, 235), (255, 196, 0), (250, 110, 60))
LEGS, WIDTH = ("left leg", "right leg"), 1180
FRAMES = 90


class Sheet:
    """A picture to draw on in units of its final pixels."""

    def __init__(self, width: int, height: int) -> None:
        self.image = Image.new("RGB", (width * SCALE, height * SCALE), PAPER)
        self.draw = ImageDraw.Draw(self.image)

    def line(self, points: np.ndarray, colour: tuple[int, ...], width: float = 1.6) -> None:
        self.draw.line([tuple(point) for point in points * SCALE], fill=colour, width=round(width * SCALE), joint="curve")

    def text(self, x: float, y: float, words: str, colour: tuple[int, ...] = INK, size: int = 15) -> None:
        self.draw.text((x * SCALE, y * SCALE), words, colour, font=ImageFont.load_default(size * SCALE))

    def save(self, path: pathlib.Path) -> None:
        self.image.resize((self.image.width // SCALE, self.image.height // SCALE), Image.Resampling.LANCZOS).save(path)
        print(path)


def side_view(clip: Clip, frame: int) -> np.ndarray:
    """Joints (J, 2) seen from the side the body turns its left to: how far ahead of the root, and how high."""
    positions = clip.forward(np.array([frame]))[0][0].astype(float)
    turned = quaternions.rotate(library.about_y(-library.heading_of(clip)[frame]), positions - positions[0] * library.GROUND)
    return turned[:, [2, 1]]


def figure(
    sheet: Sheet, clip: Clip, frame: int, x: float, y: float, size: float, marked: Sequence[int], colour: tuple[int, ...]
) -> None:
    """A stick figure with its feet at (x, y); marked joints in colour, the others grey."""
    points = side_view(clip, frame) * [size, -size] + [x, y]
    for joint, parent in enumerate(clip.parents):
        if parent >= 0:
            inside = joint in marked
            sheet.line(points[[parent, joint]], colour if inside else (150, 155, 162), 3.2 if inside else 2.2)


def hand_ahead(clip: Clip, hand: int, chest: int) -> np.ndarray:
    """How far (F,) a hand is ahead of the chest, metres."""
    positions, _ = clip.forward()
    return quaternions.rotate(library.about_y(-library.heading_of(clip)), positions[:, hand] - positions[:, chest])[:, 2]


def sweep(sheet_path: pathlib.Path, title: str, clip: Clip, edited: dict[str, Clip], joints: Sequence[int], first: int) -> None:
    """Curves of the hand, one for each setting, above stick figures at five times, all settings on top of each other."""
    sheet = Sheet(WIDTH, 530)
    sheet.text(24, 14, title, size=19)
    hand, chest = joints[-1], list(clip.names).index("chest")
    curves = {name: hand_ahead(one, hand, chest)[first : first + FRAMES] for name, one in edited.items()}
    reach = 1.1 * max(np.abs(curve - curve.mean()).max() for curve in curves.values())
    middle = np.mean([curve.mean() for curve in curves.values()])
    x = np.linspace(150, WIDTH - 30, FRAMES)
    sheet.line(np.array([[150, 165], [WIDTH - 30, 165]]), FAINT, 1)
    for curve, colour in zip(curves.values(), COLOURS, strict=True):
        sheet.line(np.stack([x, 165 - 105 * (curve - middle) / reach], axis=1), colour, 2)
    for index, (name, colour) in enumerate(zip(curves, COLOURS, strict=True)):
        sheet.text(24, 75 + 24 * index, name, colour)
    sheet.text(24, 205, "hand ahead\nof the chest", FAINT, 13)
    for frame in np.linspace(0, FRAMES - 1, 7).astype(int):
        place = 150 + (WIDTH - 180) * frame / (FRAMES - 1)
        for one, colour in zip(edited.values(), COLOURS, strict=True):
            figure(sheet, one, first + frame, min(max(place, 190), WIDTH - 80), 500, 140, joints, colour)
        sheet.text(place - 14, 508, f"{frame / clip.fps:.1f} s", FAINT, 12)
    sheet.save(sheet_path)


def swap_picture(path: pathlib.Path, clip: Clip, other: Clip, dressed: Clip, arms: Sequence[int], legs: Sequence[int]) -> None:
    """Rows of stick figures: the walk, the other one, and the walk with the other's arms; how far the legs differ."""
    turned = np.degrees(
        np.linalg.norm(quaternions.difference(dressed.rotations[:, legs], clip.rotations[:, legs]), axis=-1)
    ).max()
    moved = np.degrees(
        np.linalg.norm(quaternions.difference(dressed.rotations[:, arms], clip.rotations[:, arms]), axis=-1)
    ).max()
    sheet = Sheet(WIDTH, 760)
    sheet.text(24, 14, f"The arms of another walk: legs differ by {turned:.4f}°, arms by up to {moved:.0f}°", size=19)
    for row, (name, one, colour) in enumerate(
        (("walk", clip, COLOURS[0]), ("style", other, COLOURS[4]), ("walk with\nthe style's\narms", dressed, COLOURS[3]))
    ):
        y = 275 + 235 * row
        sheet.text(24, y - 120, name, colour)
        sheet.line(np.array([[130, y], [WIDTH - 20, y]]), FAINT, 1)
        first = len(one) // 2 - FRAMES // 2
        for index, frame in enumerate(np.linspace(0, 60, 11).astype(int)):
            figure(sheet, one, first + int(frame), 170 + 95 * index, y, 130, arms, colour)
    sheet.save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, default=ROOT.parent / "shared" / "data" / "mocap")
    parser.add_argument("--weights", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "docs" / "images")
    parser.add_argument("--walk", default="104_27", help="a take of CMU")
    parser.add_argument("--style", default="17_02", help="the take whose arms it gets")
    options = parser.parse_args()
    if not (options.data / "clips.py").is_file():
        raise SystemExit(f"{options.data} holds no motion clips; name their folder with --data.")
    sys.path.insert(0, str(options.data))
    import clips as container

    phases = model.load(options.weights or weight_files.find(solver.WEIGHTS))
    wanted = {options.walk, options.style}
    found = container.load(options.data, lambda clip: clip.skeleton == "cmu_daz" and clip.take in wanted)
    takes = {
        take.take: model.reduced(
            Clip(take.names, take.parents, take.offsets, take.fps, take.rotations, take.root), phases.names
        )
        for take in found
    }
    if absent := wanted - takes.keys():
        raise SystemExit(f"{options.data} has no take {min(absent)}.")
    clip, other = takes[options.walk], takes[options.style]
    parts, latents = phases.parts_of(clip), phases.latents(clip)
    options.out.mkdir(parents=True, exist_ok=True)
    first, arm = len(clip) // 2 - FRAMES // 2, "left arm"
    for key, values, path in (
        ("amplitude", (0.4, 0.7, 1.0, 1.5, 2.0), "phase_amplitude.png"),
        ("tempo", (0.6, 0.8, 1.0, 1.25, 1.5), "phase_tempo.png"),
    ):
        edited = {
            f"{key} x {value:g}": edit.apply(clip, parts, latents, {arm: Edit(**{key: value})}, first) for value in values
        }
        title = f"{key.capitalize()} of the left arm alone, on a walk the model has not seen"
        sweep(options.out / path, title, clip, edited, parts[arm], first)
    arms = ("left arm", "right arm")
    dressed = edit.swap(clip, other, parts, latents, phases.latents(other), arms)
    chosen = [joint for part in arms for joint in parts[part]]
    swap_picture(
        options.out / "phase_swap.png", clip, other, dressed, chosen, [joint for part in LEGS for joint in parts[part]]
    )


if __name__ == "__main__":
    main()
