# SPDX-License-Identifier: GPL-3.0-or-later
"""BVH, the text format of motion capture (Biovision): a hierarchy of joints, then one line of numbers a frame.

A joint's rotation is the product of its channels from left to right, in degrees; its position channels, where it has any,
replace its OFFSET, as in Blender.  Files state neither unit nor axes: see `read_bvh`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from ...common import rotations as quaternions
from ...common.errors import BrokenFile, UnsupportedFormat, VivantError
from ..clip import Clip

Array = NDArray[np.floating]

TALLEST_IN_METRES = 10.0
LARGEST = 1e9  # numbers beyond are damage, and would overflow
LONGEST_LINE = 1 << 20
MOST_JOINTS = 10_000
BLOCK = 256  # frames converted at a time


@dataclass
class _Joint:
    name: str
    parent: int
    offset: Array = field(default_factory=lambda: np.zeros(3))
    channels: list[str] = field(default_factory=list)  # lower case: xposition, zrotation

    def columns(self, kind: str) -> list[tuple[int, int]]:
        """(column among the joint's channels, axis) of its "position" or "rotation" channels."""
        return [(column, "xyz".index(name[0])) for column, name in enumerate(self.channels) if name.endswith(kind)]


class _Lines:
    """The lines of a file that are not blank; counts them for messages and bounds their length."""

    def __init__(self, file: TextIO, name: str) -> None:
        self.file, self.name, self.number = file, name, 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        while line := self.file.readline(LONGEST_LINE):
            self.number += 1
            if len(line) == LONGEST_LINE:
                raise self.broken("the line is too long")
            if line := line.strip():
                return line
        raise StopIteration

    def broken(self, what: str) -> BrokenFile:
        return BrokenFile(f"{self.name}, line {self.number}: {what}.", "Export the motion again.")

    def floats(self, words: Sequence[str], count: int) -> Array:
        """Exactly `count` sound numbers."""
        if len(words) != count:
            raise self.broken(f"{count} numbers belong here, not {len(words)}")
        try:
            row = np.array([float(word) for word in words])
        except ValueError as error:
            raise self.broken(str(error)[:80]) from None
        if not np.all(np.abs(row) < LARGEST):
            raise self.broken(f"{row[~(np.abs(row) < LARGEST)][0]} is no sound number")
        return row


def read_bvh(path: str | os.PathLike[str], scale: float | None = None) -> Clip:
    """The clip of a BVH file, Y up as nearly all are; end sites are left out, and a name used twice gets .001.

    scale: metres in a unit of the file.  Without it a skeleton larger than 10 units in its rest pose is taken as centimetres,
    the habit of capture, and a smaller one as metres.
    Raises UnsupportedFormat for a file that is no BVH or holds several skeletons, BrokenFile naming the line for a damaged one,
    VivantError for one that cannot be opened.
    """
    path = Path(path)
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            return _read(_Lines(file, path.name), os.fstat(file.fileno()).st_size, scale)
    except OSError as error:
        raise VivantError(f"{path.name} cannot be read: {error.strerror}.") from error


def _read(lines: _Lines, size: int, scale: float | None) -> Clip:
    if next(lines, "").upper() != "HIERARCHY":
        raise UnsupportedFormat(f"{lines.name} is not a BVH file: it does not begin with HIERARCHY.")
    joints = _hierarchy(lines)
    frames, fps = _timing(lines)
    channels = sum(len(joint.channels) for joint in joints)
    moving = [index for index, joint in enumerate(joints) if index == 0 or joint.columns("position")]
    needed = frames * (16 * len(joints) + 12 * len(moving))
    if frames * 2 * channels > size or needed > 3 * size + (32 << 20):
        raise lines.broken(f"{frames} frames of {len(joints)} joints do not fit into a file of {size} bytes")

    offsets = np.array([joint.offset for joint in joints])
    metres = _unit(joints) if scale is None else scale
    rotations = np.empty((frames, len(joints), 4), np.float32)
    positions = {index: np.empty((frames, 3), np.float32) for index in moving}
    for first in range(0, frames, BLOCK):
        rows = np.empty((min(BLOCK, frames - first), channels))
        for row in rows:
            if (line := next(lines, None)) is None:
                raise lines.broken(f"the file ends before its {frames} frames do")
            row[:] = lines.floats(line.split(), channels)
        column = 0
        for index, joint in enumerate(joints):
            values = rows[:, column : column + len(joint.channels)]
            column += len(joint.channels)
            rotations[first : first + BLOCK, index] = _rotation(joint, values)
            if index in positions:
                positions[index][first : first + BLOCK] = _position(joint, values) * metres
        run = rotations[max(first - 1, 0) : first + BLOCK]
        run[:] = quaternions.continuous(run)
    if next(lines, None) is not None:
        raise lines.broken(f"the file goes on after its {frames} frames")

    offsets = (offsets * metres).astype(np.float32)
    for index in moving[1:]:
        if not np.ptp(positions[index], axis=0).any():
            offsets[index] = positions.pop(index)[0]
    names = _unique([joint.name for joint in joints])
    parents = np.array([joint.parent for joint in joints])
    return Clip(names, parents, offsets, fps, rotations, positions.pop(0), translations=positions)


def _hierarchy(lines: _Lines) -> list[_Joint]:
    """The joints, parents first, up to and including the line MOTION."""
    joints: list[_Joint] = []
    opened: list[int] = []  # joints whose brace is open; -1 for an end site
    coming: int | None = None  # what the next brace opens
    for line in lines:
        for words in (part.split() for part in re.split(r"([{}])", line) if part.strip()):
            keyword = words[0].upper()
            if coming is not None and keyword != "{":
                raise lines.broken(f"a '{{' belongs here, not '{words[0][:40]}'")
            inside = opened[-1] if opened else None
            if keyword == "{" and coming is not None:
                opened.append(coming)
                coming = None
            elif keyword == "}" and opened:
                opened.pop()
            elif keyword == "ROOT" and joints:
                raise UnsupportedFormat(f"{lines.name} holds several skeletons.", "Export each one to a file of its own.")
            elif (keyword == "ROOT") == (inside is None) and keyword in ("ROOT", "JOINT") and inside != -1:
                if len(joints) == MOST_JOINTS:
                    raise lines.broken(f"more than {MOST_JOINTS} joints")
                coming = len(joints)
                joints.append(_Joint("_".join(words[1:]) or f"joint_{coming}", -1 if inside is None else inside))
            elif keyword == "END" and inside not in (None, -1):
                coming = -1
            elif keyword == "OFFSET" and inside is not None:
                offset = lines.floats(words[1:], 3)
                if inside >= 0:
                    joints[inside].offset = offset
            elif keyword == "CHANNELS" and inside is not None and inside >= 0:
                joints[inside].channels = _channels(lines, words)
            elif keyword == "MOTION" and joints and not opened:
                return joints
            else:
                raise lines.broken(f"'{' '.join(words)[:40]}' does not belong here")
    raise lines.broken("the file ends within the hierarchy")


def _channels(lines: _Lines, words: list[str]) -> list[str]:
    names = [word.lower() for word in words[2:]]
    if len(words) < 2 or words[1] != str(len(names)):
        raise lines.broken("the number of channels is not that of their names")
    for name in names:
        if not re.fullmatch("[xyz](position|rotation)", name):
            raise lines.broken(f"'{name[:40]}' is no channel")
    if len(names) != len(set(names)):
        raise lines.broken("a channel comes twice")
    return names


def _timing(lines: _Lines) -> tuple[int, float]:
    """Number of frames, and frames a second."""
    count = re.fullmatch(r"frames\s*:\s*(\d{1,12})", next(lines, ""), re.IGNORECASE)
    if not count or int(count[1]) == 0:
        raise lines.broken("'Frames:' and their number, at least 1, belong here")
    time = re.fullmatch(r"frame\s+time\s*:\s*(\S+)", next(lines, ""), re.IGNORECASE)
    seconds = lines.floats([time[1]], 1)[0] if time else 0.0
    if not 1e-5 < seconds < 1e5:
        raise lines.broken("'Frame Time:' and the seconds between two frames belong here")
    assert time
    # 0.0333 says 30 a second as well as its digits allow, so a whole rate is meant wherever the digits admit one.
    digits = len(time[1].partition(".")[2])
    whole = max(round(1 / seconds), 1)
    return int(count[1]), float(whole) if abs(1 / whole - seconds) < 10.0**-digits else 1 / seconds


def _rotation(joint: _Joint, values: Array) -> Array:
    """Quaternions (F, 4) of the joint's channels (F, C)."""
    q = np.broadcast_to(quaternions.IDENTITY, (len(values), 4))
    for column, axis in joint.columns("rotation"):
        q = quaternions.multiply(q, quaternions.exp(np.radians(values[:, column, None]) * np.eye(3)[axis]))
    return q


def _position(joint: _Joint, values: Array) -> Array:
    """Positions (F, 3) of the joint's channels (F, C): the offset where an axis has none."""
    position = np.tile(joint.offset, (len(values), 1))
    for column, axis in joint.columns("position"):
        position[:, axis] = values[:, column]
    return position


def _unit(joints: Sequence[_Joint]) -> float:
    """Metres in a unit, by the size of the rest pose (the root's place does not count)."""
    rest = np.zeros((len(joints), 3))
    for index, joint in enumerate(joints[1:], 1):
        rest[index] = rest[joint.parent] + joint.offset
    return 0.01 if np.ptp(rest, axis=0).max() > TALLEST_IN_METRES else 1.0


def _unique(names: Sequence[str]) -> list[str]:
    """The names, with .001, .002 … after those that came before."""
    taken: dict[str, int] = {}  # name -> the last number given to it
    unique: list[str] = []
    for name in names:
        free = name
        while free in taken:
            taken[name] += 1
            free = f"{name}.{taken[name]:03d}"
        taken[free] = 0
        unique.append(free)
    return unique


def write_bvh(clip: Clip, path: str | os.PathLike[str]) -> None:
    """Write a clip: centimetres, Y up, rotations in the order Z X Y to 1e-6 degrees, six channels where a joint travels.

    Blanks and braces in names become underscores; leaf joints end where they begin, since a clip knows no end sites.
    Raises VivantError for several roots, numbers that are not finite, and a place that cannot be written.
    """
    if np.count_nonzero(clip.parents < 0) != 1:
        raise VivantError("A BVH file holds one skeleton, and this clip has several roots.")
    travels = {**clip.translations, 0: clip.root}
    if not all(np.all(np.isfinite(values)) for values in (clip.offsets, clip.rotations, *travels.values())):
        raise VivantError("The clip holds numbers that are not finite, which BVH cannot say.")
    children: list[list[int]] = [[] for _ in clip.names]
    for joint, parent in enumerate(clip.parents[1:].tolist(), 1):
        children[parent].append(joint)
    rotations = quaternions.normalise(clip.rotations.astype(np.float64))
    angles = np.degrees(quaternions.continuous_euler(quaternions.to_euler(rotations, "YXZ"), "YXZ"))

    text: list[str] = ["HIERARCHY"]
    columns: list[Array] = []
    pending, indent = [0], ""
    while pending:
        joint = pending.pop()
        if joint < 0:  # all children of ~joint are written
            indent = indent[:-1]
            text.append(f"{indent}}}")
            continue
        name = re.sub(r"[\s{}]+", "_", clip.names[joint]) or f"joint_{joint}"
        text += [f"{indent}{'JOINT' if joint else 'ROOT'} {name}", f"{indent}{{"]
        indent += "\t"
        # The root's place is in its channels; readers differ in whether its offset adds to them.
        text.append(f"{indent}OFFSET {_numbers(clip.offsets[joint] * 100 if joint else np.zeros(3))}")
        if joint in travels:
            text.append(f"{indent}CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation")
            columns.append(travels[joint] * 100)
        else:
            text.append(f"{indent}CHANNELS 3 Zrotation Xrotation Yrotation")
        columns.append(angles[:, joint][:, [2, 0, 1]])
        if not children[joint]:
            text += [f"{indent}End Site", f"{indent}{{", f"{indent}\tOFFSET {_numbers(np.zeros(3))}", f"{indent}}}"]
        pending += [~joint, *reversed(children[joint])]
    text += ["MOTION", f"Frames: {len(clip)}", f"Frame Time: {1 / clip.fps:.8f}"]
    text += [_numbers(row) for row in np.concatenate(columns, axis=1)]

    path = Path(path)
    partial = path.with_name(f"{path.name}.partial")
    try:
        partial.write_text("\n".join(text) + "\n", encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise VivantError(f"{path.name} cannot be written: {error.strerror}.", "Choose another folder.") from error


def _numbers(row: Array) -> str:
    return " ".join([f"{value:.6f}" for value in row.tolist()])
