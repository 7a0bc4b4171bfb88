# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes to train and to test on: BVH files, LaFAN1's zip, packs of clips, or, without any, made up."""

from __future__ import annotations

import pathlib
import re
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass

import _mocap
import numpy as np
from _mocap import Array, Take

from vivant.backends.common import rotations as quaternions
from vivant.backends.common.errors import VivantError
from vivant.backends.motion.formats.bvh import read_bvh

FPS = 30.0
LAFAN = [
    "Hips", "LeftUpLeg", "LeftLeg", "LeftFoot", "LeftToe", "RightUpLeg", "RightLeg", "RightFoot", "RightToe",
    "Spine", "Spine1", "Spine2", "Neck", "Head", "LeftShoulder", "LeftArm", "LeftForeArm", "LeftHand",
    "RightShoulder", "RightArm", "RightForeArm", "RightHand",
]  # fmt: skip
LAFAN_AHEAD = np.array([0.0, 1.0, 0.0], np.float32)
LAFAN_TEST = "subject5"


@dataclass(frozen=True)
class Shots:
    """Takes of one skeleton at one frame rate; ahead: the root's axis that the protocol turns to +X."""

    name: str
    train: list[Take]
    test: list[Take]
    ahead: Array
    lafan: bool = False


def read(path: pathlib.Path | None, skeleton: str = "", split: str = "heldout_take") -> Shots:
    """The takes of a BVH file, a folder or zip of them, or a folder of packs (or one); made up without a path.

    Frame rates that are a multiple of 30 are thinned to it.  For testing: LaFAN1's subject 5; a pack's `split`; of other files
    every fifth in the order of their names, or the last fifth of a single one.
    Raises VivantError where several skeletons or frame rates are mixed and `skeleton` chooses none.
    """
    packs = path is not None and (path.name.endswith(".clips.xz") or (path.is_dir() and any(path.glob("*.clips.xz"))))
    if path is None:
        takes = made_up()
    elif packs:
        takes = _mocap.read(path)
    else:
        takes = list(_files(path))
    groups: dict[str, list[Take]] = {}
    for take in map(_thinned, takes):
        for name, group in groups.items():
            if _alike(take, group[0]):
                groups[name].append(take)
                break
        else:
            groups[take.skeleton] = [take]
    if skeleton:
        groups = {name: group for name, group in groups.items() if name == skeleton}
    if not groups:
        what = f"no motion on a skeleton called {skeleton}" if skeleton else "no motion"
        raise VivantError(f"{path} holds {what}.", "Name BVH files, a zip of them or packs.")
    if len(groups) > 1:
        found = ", ".join(
            f"{name} ({len(group)} takes, {len(group[0].names)} joints, {group[0].fps:g} fps)" for name, group in groups.items()
        )
        raise VivantError(
            f"{path} mixes {len(groups)} skeletons or frame rates, and no figure would say what was measured: {found}.",
            "Choose one with --skeleton NAME.",
        )
    ((name, takes),) = groups.items()
    lafan = not packs and list(takes[0].names) == LAFAN and any(take.performer == LAFAN_TEST for take in takes)
    if packs:
        takes = _mocap.reduced(takes)
        train, test = ([take for take in takes if take.split == one] for one in ("train", split))
    elif lafan:
        train, test = ([take for take in takes if (take.performer == LAFAN_TEST) == held] for held in (False, True))
    elif len(takes) > 1:
        test = takes[4::5] or takes[-1:]
        train = [take for take in takes if take not in test]
    else:
        cut = 4 * len(takes[0]) // 5
        train, test = ([_part(takes[0], part)] for part in (slice(cut), slice(cut, None)))
    if not train or not test:
        raise VivantError(f"{path} has {len(train)} takes to train on and {len(test)} to test.", "The protocol needs both.")
    return Shots(name, train, test, LAFAN_AHEAD if lafan else _mocap.forward_of(takes[0]), lafan)


def _files(path: pathlib.Path) -> Iterator[Take]:
    if path.suffix.lower() == ".zip":
        with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(path) as archive:
            archive.extractall(folder, [name for name in archive.namelist() if name.lower().endswith(".bvh")])
            yield from _files(pathlib.Path(folder))
        return
    for file in sorted(path.rglob("*.bvh")) if path.is_dir() else [path]:
        performer = re.search(r"subject\d+", file.stem)
        yield Take(**vars(read_bvh(file)), performer=performer[0] if performer else file.stem, skeleton=file.stem)


def _thinned(take: Take) -> Take:
    every = round(take.fps / FPS)
    if every < 2 or abs(take.fps / every / FPS - 1) > 0.005:
        return take
    return _part(take, slice(None, None, every)).replace(fps=FPS)


def _part(take: Take, frames: slice) -> Take:
    return take.replace(
        rotations=take.rotations[frames],
        root=take.root[frames],
        translations={joint: values[frames] for joint, values in take.translations.items()},
    )


def _alike(one: Take, other: Take) -> bool:
    """Same joints, hierarchy and frame rate, and about the same proportions."""
    longest = np.abs(other.offsets).max()
    return (
        list(one.names) == list(other.names)
        and np.array_equal(one.parents, other.parents)
        and abs(one.fps / other.fps - 1) < 0.005
        and bool(np.abs(one.offsets - other.offsets)[1:].max(initial=0) <= 0.1 * longest)
    )


def made_up(takes: int = 6, frames: int = 400) -> list[Take]:
    """Takes of a body that walks, turns and swings its arms at a pace that wanders; the same on every call."""
    bones = {
        "hips": ("", (0, 1.0, 0)), "spine": ("hips", (0, 0.25, 0)), "head": ("spine", (0, 0.35, 0)),
        **{
            f"{side} {bone}": (f"{side} {above}" if above else base, (sign * x, y, z))
            for side, sign in (("left", 1), ("right", -1))
            for bone, above, base, x, y, z in (
                ("thigh", "", "hips", 0.1, -0.05, 0), ("shin", "thigh", "", 0, -0.45, 0), ("foot", "shin", "", 0, -0.45, 0),
                ("toe", "foot", "", 0, -0.05, 0.15), ("arm", "", "spine", 0.2, 0.25, 0), ("forearm", "arm", "", 0.28, 0, 0),
            )
        },
    }  # fmt: skip
    names = list(bones)
    parents = np.array([names.index(above) if above else -1 for above, _ in bones.values()])
    offsets = np.array([offset for _, offset in bones.values()], np.float32)
    swings = {  # size and lag in radians
        "thigh": (0.5, 0.0), "shin": (0.4, 0.9), "foot": (0.2, 2.0), "toe": (0.1, 2.5), "arm": (0.4, 3.1), "forearm": (0.3, 3),
    }  # fmt: skip

    def take(seed: int) -> Take:
        rng = np.random.default_rng(seed)

        def wander(size: float) -> Array:
            """Smooth noise: a sum of slow waves."""
            hertz, start = rng.uniform(0.05, 0.6, (6, 1)), rng.uniform(0, 2 * np.pi, (6, 1))
            return size / np.sqrt(6) * np.sin(2 * np.pi * hertz * np.arange(frames) / FPS + start).sum(axis=0)

        pace = 1 + wander(0.2)
        phase = 2 * np.pi * np.cumsum(pace) / FPS
        turns = np.zeros((frames, len(names), 3))
        for joint, name in enumerate(names):
            size, lag = swings.get(name.split()[-1], (0.1, 0.5))
            turns[:, joint] = np.stack([wander(0.08) for _ in range(3)], axis=1)
            turns[:, joint, 0] += size * np.sin(phase + lag + np.pi * name.startswith("right"))
        heading = np.cumsum(wander(0.03))
        turns[:, 0] = np.outer(heading, [0, 1, 0])
        step = 1.2 / FPS * pace[:, None] * np.stack([np.sin(heading), 0 * heading, np.cos(heading)], axis=1)
        root = np.cumsum(step, axis=0) + np.outer(1 + 0.03 * np.cos(2 * phase), [0, 1, 0])
        return Take(
            names, parents, offsets, FPS, quaternions.exp(turns).astype(np.float32), root.astype(np.float32),
            performer=f"made up {seed}", skeleton="made up",
        )  # fmt: skip

    return [take(seed) for seed in range(takes)]
