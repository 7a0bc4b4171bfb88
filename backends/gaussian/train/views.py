# SPDX-License-Identifier: GPL-3.0-or-later
"""Posed pictures to train on: a folder of NeRF's or D-NeRF's layout, Nerfstudio's, COLMAP's, or what Vivant captured.

Whatever training could stumble over is looked for here, before it begins, and said in a sentence.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...common import room
from ...common.camera_files import colmap, points, read_cameras, sound, transforms
from ...common.cameras import Camera, View
from ...common.errors import BrokenFile, UnsupportedFormat, VivantError
from . import overlap, pictures

_SPLITS = ("transforms_train.json", "transforms_test.json", "transforms_val.json")
_HELD_OUT = 8  # every so manieth picture by name, where nobody says which (Mip-NeRF 360, 3DGS)
_LARGEST_JSON = 256 << 20


@dataclass(frozen=True, eq=False)
class Posed:
    """One picture: its camera at full size, its time from 0 to 1, its path and those of its passes (`pictures.LAYERS`)."""

    camera: Camera
    time: float
    path: str
    name: str = ""
    passes: Mapping[str, str] = field(default_factory=dict)

    def camera_at(self, reduction: int) -> Camera:
        """The camera of the picture that `pictures.read` reduces so."""
        scale = np.diag([1 / reduction, 1 / reduction, 1])
        size = self.camera.width // reduction, self.camera.height // reduction
        return replace(self.camera, intrinsics=scale @ self.camera.intrinsics, width=size[0], height=size[1])


@dataclass(frozen=True, eq=False)
class Views:
    """The pictures of one capture, all of one size; those in `test` are held out of training.

    axes: the frame of the coordinates (see `gaussian.axes`).  frames: the scene's first and last frame, of time 0 and 1, where
    the capture says it.  box (2, 3): lowest and highest corner of what the cameras look at together.  extent: how far the
    cameras lie apart, the length that learning rates go by (3DGS: 1.1 x the largest distance from their mean).
    points, colours (N, 3): COLMAP's.  warnings: what the user should know.
    """

    train: tuple[Posed, ...]
    test: tuple[Posed, ...]
    axes: str
    box: NDArray[np.float64]
    extent: float
    frames: tuple[float, float] | None = None
    points: NDArray[np.float32] | None = None
    colours: NDArray[np.float32] | None = None
    warnings: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of every picture."""
        return self.train[0].camera.width, self.train[0].camera.height

    @property
    def moving(self) -> bool:
        """Whether the pictures are of several times."""
        return len({posed.time for posed in self.train}) > 1

    def pictures(self, split: str = "train", reduction: int = 1) -> pictures.Pictures:
        """Those of a split, "train" or "test", in its order."""
        return pictures.Pictures([posed.path for posed in getattr(self, split)], reduction)

    def require_room(self, reduction: int = 1, memory: float = 0, disk: float = 0, folder: Path | None = None) -> None:
        """Raise VivantError where memory for the pictures and so many bytes more, or of disk in `folder`, are not free."""
        kept = pictures.kept_bytes(*self.size, len(self.train) + len(self.test), reduction)
        room.require(kept + memory, disk, folder, "Training")


def read(folder: str | os.PathLike[str]) -> Views:
    """The views of a folder: transforms_train.json and its likes, transforms.json, or a sparse model of COLMAP's with `images`.

    Without a split every eighth picture by name is held out.
    Raises VivantError (UnsupportedFormat, BrokenFile) for what cannot be trained on: no cameras in the folder, a picture
    that is missing, of another size or none at all, an unsound pose or lens, one camera only, cameras that share no view.
    What is wrong inside a picture shows when it is read: `Pictures.read_all`.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise VivantError(f"There is no folder '{folder}'.", "Give the folder of a capture, with its cameras and pictures.")
    splits = [folder / name for name in _SPLITS if (folder / name).is_file()]
    model = colmap.find(folder)
    found: Views | None = None
    if splits or (folder / "transforms.json").is_file():
        found = _from_transforms(folder, splits or [folder / "transforms.json"])
    elif model:
        found = _from_colmap(model)
    if found is None:
        raise UnsupportedFormat(
            f"The folder '{folder.name}' holds pictures without cameras, or none at all.",
            "Give a folder with transforms_train.json, transforms.json, or a sparse model of COLMAP's.",
        )
    _check_sizes((*found.train, *found.test))
    said = overlap.check([posed.camera for posed in found.train])
    box, extent = overlap.extents([posed.camera for posed in found.train], found.points)
    return replace(found, box=box, extent=extent, warnings=(*found.warnings, *said))


def _from_transforms(folder: Path, files: Sequence[Path]) -> Views:
    """Frames of all files are read as one list, so that times of all splits mean the same."""
    frames: list[dict[str, Any]] = []
    counts, span = [], None
    for path in files:
        content = _json(path)
        if not content["frames"] and len(files) == 1:
            raise BrokenFile(f"'{path.name}' lists no frames.", "Export it again.")
        shared = {key: value for key, value in content.items() if key != "frames"}
        span = span or _frame_range(content)
        before = len(frames)
        for frame in content["frames"]:
            frames.append(shared | (frame if isinstance(frame, dict) else {}))
            frames[-1]["file_path"] = _picture_of(folder, frames[-1], path.name)
        counts.append(len(frames) - before)
    found = transforms.read({"frames": frames}, folder)
    if len(found) < len(frames):
        _name_unsound(frames, folder)
    every = [_posed(view, _passes(folder, frame)) for view, frame in zip(found.views, frames, strict=True)]
    names = [path.name for path in files]
    if _SPLITS[0] not in names:
        train, test = _split(every)
    else:
        ends = np.cumsum(counts)
        parts = {name: every[end - count : end] for name, count, end in zip(names, counts, ends, strict=True)}
        train = parts[_SPLITS[0]]
        test = parts.get(_SPLITS[1]) or parts.get(_SPLITS[2]) or []
    return _views(train, test, transforms.AXES, found.warnings, span)


def _from_colmap(model: Path) -> Views:
    found = read_cameras(model)
    kept = [view for view in found.views if view.image]
    if not kept:
        raise VivantError(
            f"None of the {len(found):,} pictures of COLMAP's model was found.",
            "Put them in the folder `images` beside `sparse`.",
        )
    missing = [view.name for view in found.views if not view.image]
    if missing:
        raise VivantError(f"The picture '{missing[0]}' is missing{_more(missing)}.", "Put it back into the folder `images`.")
    if any("without sound numbers" in warning for warning in found.warnings):
        raise BrokenFile("A pose or a lens of COLMAP's model holds no sound numbers.", "Export the model again.")
    train, test = _split([_posed(view) for view in kept])
    cloud = points.read(model)
    views = _views(train, test, found.axes, found.warnings)
    return replace(views, points=cloud[0], colours=cloud[1]) if cloud else views


def _views(
    train: Sequence[Posed],
    test: Sequence[Posed],
    axes: str,
    warnings: tuple[str, ...],
    frames: tuple[float, float] | None = None,
) -> Views:
    if not train:
        raise VivantError("No picture is left to train on.", "Hold fewer of them out.")
    return Views(tuple(train), tuple(test), axes, np.zeros((2, 3)), 0.0, frames, warnings=warnings)


def _json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _LARGEST_JSON:
            raise BrokenFile(f"'{path.name}' is far too large for a list of cameras.", "Get it from a source that you trust.")
        content = sound.parse_json(path.read_bytes(), path.name)
    except OSError as error:
        raise VivantError(f"'{path}' cannot be read: {error.strerror or error}.", "Check its permissions.") from error
    if not transforms.is_dict(content):
        raise BrokenFile(f"'{path.name}' lists no frames.", "Export it again.")
    return content


def _picture_of(folder: Path, frame: Mapping[str, Any], source: str) -> str:
    """The path of a frame's picture from the folder, with its ending."""
    name, ending = str(frame.get("file_path", "")), str(frame.get("image_ext", ""))[:8]
    path = sound.picture(folder, name + ending) or sound.picture(folder, name)
    if not path:
        raise VivantError(
            f"The picture '{name[:200] + ending}' that '{source}' lists is missing.",
            "Put it back, or render again: what is there is kept.",
        )
    return Path(path).relative_to(folder).as_posix()


def _passes(folder: Path, frame: Mapping[str, Any]) -> dict[str, str]:
    """The paths of a frame's passes, as far as they lie inside the capture's folder."""
    named = {name: Path(str(frame[key])) for name in pictures.LAYERS if (key := f"{name}_file_path") in frame}
    return {name: str(folder / path) for name, path in named.items() if not path.is_absolute() and ".." not in path.parts}


def _posed(view: View, passes: Mapping[str, str] | None = None) -> Posed:
    return Posed(view.camera, min(max(view.time or 0.0, 0.0), 1.0), view.image, view.name, passes or {})


def _split(every: Iterable[Posed]) -> tuple[list[Posed], list[Posed]]:
    ordered = sorted(every, key=lambda posed: posed.name)
    held_out = ordered[::_HELD_OUT] if len(ordered) >= _HELD_OUT else []
    return [posed for posed in ordered if posed not in held_out], held_out


def _frame_range(content: Mapping[str, Any]) -> tuple[float, float] | None:
    found = sound.numbers(content.get("frame_range"), (2,))
    return None if found is None else (float(found[0]), float(found[1]))


def _name_unsound(frames: Sequence[dict[str, Any]], folder: Path) -> None:
    """Raise BrokenFile for the first frame that has no sound pose and lens."""
    for frame in frames:
        try:
            transforms.read({"frames": [frame]}, folder)
        except BrokenFile as error:
            raise BrokenFile(
                f"The pose or the lens of '{frame['file_path']}' holds no sound numbers.",
                "Export the cameras again, or take its frame out.",
            ) from error


def _check_sizes(every: Sequence[Posed]) -> None:
    """Raise VivantError unless all pictures have the size that their cameras say, and all the same one."""
    first = every[0].camera
    for posed in every:
        size = pictures.size_of(posed.path)
        if size == (posed.camera.width, posed.camera.height) == (first.width, first.height):
            continue
        if (posed.camera.width, posed.camera.height) == (first.width, first.height) or size == (first.width, first.height):
            wanted = f"{posed.camera.width} x {posed.camera.height}, as its camera says"
        else:
            wanted = f"{first.width} x {first.height}, as '{Path(every[0].path).name}' has"
        raise VivantError(
            f"The picture '{Path(posed.path).name}' has {size[0]} x {size[1]} pixels, not {wanted}.",
            "Give all pictures one size, that of their cameras.",
        )


def _more(missing: Sequence[str]) -> str:
    return f", and {len(missing) - 1:,} others" if len(missing) > 1 else ""
