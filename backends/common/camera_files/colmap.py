# SPDX-License-Identifier: GPL-3.0-or-later
"""COLMAP's sparse models: cameras and images as .bin or .txt.

Poses are world to camera, quaternion w x y z and translation, OpenCV axes.  Lenses of any of COLMAP's models give
the pinhole camera of the same focal lengths.  Source: colmap.github.io/format.html, colmap/sensor/models.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import rotations
from ..cameras import CameraSet
from ..errors import BrokenFile, VivantError
from . import sound

NAME = "COLMAP"
AXES = "RDF"
# names of all parameters of each model, in the order of its number
MODELS = {
    name: tuple(terms.split())
    for name, terms in (
        ("SIMPLE_PINHOLE", "f cx cy"),
        ("PINHOLE", "fx fy cx cy"),
        ("SIMPLE_RADIAL", "f cx cy k1"),
        ("RADIAL", "f cx cy k1 k2"),
        ("OPENCV", "fx fy cx cy k1 k2 p1 p2"),
        ("OPENCV_FISHEYE", "fx fy cx cy k1 k2 k3 k4"),
        ("FULL_OPENCV", "fx fy cx cy k1 k2 p1 p2 k3 k4 k5 k6"),
        ("FOV", "fx fy cx cy omega"),
        ("SIMPLE_RADIAL_FISHEYE", "f cx cy k1"),
        ("RADIAL_FISHEYE", "f cx cy k1 k2"),
        ("THIN_PRISM_FISHEYE", "fx fy cx cy k1 k2 p1 p2 k3 k4 sx1 sy1"),
        ("RAD_TAN_THIN_PRISM_FISHEYE", "fx fy cx cy k0 k1 k2 k3 k4 k5 p0 p1 s0 s1 s2 s3"),
        ("SIMPLE_DIVISION", "f cx cy k"),
        ("DIVISION", "fx fy cx cy k"),
        ("SIMPLE_FISHEYE", "f cx cy"),
        ("FISHEYE", "fx fy cx cy"),
        ("EUCM", "fx fy cx cy alpha beta"),
        ("EQUIRECTANGULAR", "w h"),
    )
}
_NUMBERS = tuple(MODELS)
_PINHOLES = ("SIMPLE_PINHOLE", "PINHOLE")
_BROWN = ("SIMPLE_RADIAL", "RADIAL", "OPENCV", "FULL_OPENCV")
_LONGEST_NAME = 4096
_POINTS = "# POINT3D_ID X Y Z R G B ERROR TRACK[]\n"


class _Lens(NamedTuple):
    model: str
    size: tuple[float, float]
    terms: dict[str, float]

    @property
    def pinhole(self) -> tuple[float, ...]:
        focal = self.terms.get("f", np.nan)
        return tuple(self.terms.get(name, focal) for name in ("fx", "fy", "cx", "cy"))


class _Pose(NamedTuple):
    quat: tuple[float, ...]
    shift: tuple[float, ...]
    lens: int
    name: str


def find(path: Path) -> Path | None:
    """The folder of the sparse model at a path: it, one of its files, or the folder of a data set; None without one."""
    folder = path if path.is_dir() else path.parent if path.stem in ("cameras", "images") else None
    if folder is None or path.suffix == ".json":
        return None
    for candidate in (folder, folder / "sparse" / "0", folder / "sparse", folder / "0"):
        if any(all((candidate / (stem + ending)).is_file() for stem in ("cameras", "images")) for ending in (".bin", ".txt")):
            return candidate
    return None


def read(folder: Path) -> CameraSet:
    """The cameras of a folder that `find` gave; the binary files where it holds both.

    Raises BrokenFile for damaged files.
    """
    ending = ".bin" if (folder / "cameras.bin").is_file() and (folder / "images.bin").is_file() else ".txt"
    lens_file, pose_file = folder / f"cameras{ending}", folder / f"images{ending}"
    lenses = _lenses_bin(_bytes(lens_file)) if ending == ".bin" else _lenses_txt(lens_file)
    poses = _poses_bin(_bytes(pose_file)) if ending == ".bin" else _poses_txt(pose_file)
    gathering = sound.Gathering("images")
    pictures = _pictures(folder)
    for lens in lenses.values():
        if lens.model == "EQUIRECTANGULAR":
            gathering.note("Panoramic cameras (EQUIRECTANGULAR) are left out.")
        elif lens.model not in _PINHOLES:
            pixels = sound.bent_pixels(lens.pinhole, lens.size, lens.terms) if lens.model in _BROWN else None
            if pixels is None or pixels > 1e-3:
                gathering.note(sound.distortion_note(lens.model, pixels))
    for pose in poses:
        if pose.lens not in lenses:
            raise BrokenFile(f"The image '{pose.name}' has camera {pose.lens}, which the file lacks.", "Export it again.")
        lens = lenses[pose.lens]
        if lens.model == "EQUIRECTANGULAR":
            continue
        quat, shift = np.array(pose.quat), np.array(pose.shift)
        length = float(np.linalg.norm(quat)) if np.isfinite(quat).all() and np.abs(quat).max() < 1e6 else 0.0
        if length < 1e-6 or not np.isfinite(shift).all():
            gathering.add(lens.pinhole, None, None, lens.size, pose.name)
            continue
        turn = rotations.matrix(quat / length).T
        image = sound.picture(pictures, pose.name) if pictures else ""
        gathering.add(lens.pinhole, turn, -turn @ shift, lens.size, pose.name, image)
    views, warnings = gathering.finish()
    return CameraSet(views, AXES, warnings=warnings)


def write(cameras: CameraSet, folder: Path) -> None:
    """Make cameras.txt, images.txt and an empty points3D.txt in a folder, which is made too; lenses are PINHOLE.

    Raises VivantError for a folder that cannot be written to, or that holds a model with points, which would be lost.
    """
    points = folder / "points3D.txt"
    if any(folder.glob("*.bin")) or (points.is_file() and points.stat().st_size > len(_POINTS)):
        raise VivantError(f"'{folder.name}' holds a reconstruction of {NAME}'s.", "Choose an empty folder.")
    lenses: dict[tuple[float, ...], int] = {}
    image_lines, lens_lines = [], []
    for index, view in enumerate(cameras.views):
        camera = view.camera
        K = camera.intrinsics
        key = (camera.width, camera.height, K[0, 0], K[1, 1], K[0, 2], K[1, 2])
        if key not in lenses:
            lenses[key] = len(lenses) + 1
            lens_lines.append(f"{lenses[key]} PINHOLE {camera.width} {camera.height} {_text(key[2:])}\n")
        turn = camera.camera_to_world[:3, :3].T
        quat = rotations.from_matrix(turn)
        shift = -turn @ camera.camera_to_world[:3, 3]
        name = "_".join(view.name.split()) or f"{index + 1:05d}.png"
        image_lines.append(f"{index + 1} {_text(quat)} {_text(shift)} {lenses[key]} {name}\n\n")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        texts = {
            "cameras.txt": "# CAMERA_ID MODEL WIDTH HEIGHT PARAMS[]\n" + "".join(lens_lines),
            "images.txt": "# IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME, then a line of points\n" + "".join(image_lines),
            "points3D.txt": _POINTS,
        }
        for name, text in texts.items():
            part = folder / f".{name}.part"
            part.write_text(text, encoding="utf-8", newline="\n")
            part.replace(folder / name)
    except OSError as error:
        raise VivantError(f"'{folder}' cannot be written: {error.strerror or error}.", "Choose another folder.") from error


def losses(cameras: CameraSet) -> list[str]:
    """What the format cannot hold."""
    found = []
    if any(view.time is not None for view in cameras.views):
        found.append(f"Times are not written: {NAME} holds none.")
    if any(len(view.name.split()) > 1 for view in cameras.views):
        found.append(f"Blanks in names are written as _: {NAME} ends a name at a blank.")
    return found


def _text(values: NDArray[np.floating] | tuple[float, ...]) -> str:
    return " ".join(repr(float(value)) for value in values)


def _pictures(folder: Path) -> Path | None:
    """Where the pictures of a model lie: `images` in the folder of the data set."""
    for above in [folder, *folder.parents[:2]]:
        if (above / "images").is_dir():
            return above / "images"
    return None


def _bytes(path: Path) -> memoryview:
    with path.open("rb") as file:
        return memoryview(file.read())


def _damaged(name: str, what: str = "cut off") -> BrokenFile:
    return BrokenFile(f"The {NAME} file '{name}' is {what}.", "Export or download it again.")


def _make_lens(name: str, model: str, width: float, height: float, values: list[float] | tuple[float, ...]) -> _Lens:
    terms = MODELS.get(model)
    if terms is None:
        raise _damaged(name, "damaged, or of a camera model that nobody knows")
    if len(values) != len(terms):
        raise _damaged(name, f"damaged: {model} has {len(terms)} parameters, not {len(values)}")
    return _Lens(model, (width, height), dict(zip(terms, values, strict=True)))


def _lenses_bin(data: memoryview) -> dict[int, _Lens]:
    name = "cameras.bin"
    count = int.from_bytes(data[:8], "little")
    if len(data) < 8 or count > min((len(data) - 8) // 40, sound.MOST_VIEWS):
        raise _damaged(name)
    lenses, offset = {}, 8
    for _ in range(count):
        if offset + 24 > len(data):
            raise _damaged(name)
        key, number, width, height = struct.unpack_from("<iiQQ", data, offset)
        if not 0 <= number < len(_NUMBERS):
            raise _damaged(name, "damaged, or of a camera model that nobody knows")
        model = _NUMBERS[number]
        values = len(MODELS[model])
        if offset + 24 + 8 * values > len(data):
            raise _damaged(name)
        lenses[key] = _make_lens(name, model, width, height, struct.unpack_from(f"<{values}d", data, offset + 24))
        offset += 24 + 8 * values
    return lenses


def _poses_bin(data: memoryview) -> Iterator[_Pose]:
    name = "images.bin"
    count = int.from_bytes(data[:8], "little")
    if len(data) < 8 or count > (len(data) - 8) // 73:
        raise _damaged(name)
    offset = 8
    for _ in range(count):
        if offset + 73 > len(data):
            raise _damaged(name)
        _, *pose, lens = struct.unpack_from("<i7di", data, offset)
        title = data[offset + 64 : offset + 64 + _LONGEST_NAME].tobytes()
        length = title.find(b"\0")
        points = offset + 64 + length + 1
        if length < 0 or points + 8 > len(data):
            raise _damaged(name)
        offset = points + 8 + 24 * int.from_bytes(data[points : points + 8], "little")
        if offset > len(data):
            raise _damaged(name)
        yield _Pose(tuple(pose[:4]), tuple(pose[4:]), lens, title[:length].decode("utf-8", "replace"))


def _words(name: str, line: bytes, most: int) -> list[str]:
    return line.decode("utf-8", "replace").split(maxsplit=most)


def _lenses_txt(path: Path) -> dict[int, _Lens]:
    lenses = {}
    with path.open("rb") as file:
        for line in file:
            if line.isspace() or line.lstrip().startswith(b"#"):
                continue
            words = _words(path.name, line[:_LONGEST_NAME], -1)
            try:
                key, width, height, *values = (float(word) for i, word in enumerate(words) if i != 1)
                lenses[int(key)] = _make_lens(path.name, words[1], width, height, values)
            except (ValueError, IndexError, OverflowError) as error:
                raise _damaged(path.name, "damaged") from error
            if len(lenses) > sound.MOST_VIEWS:
                raise _damaged(path.name, "damaged")
    return lenses


def _poses_txt(path: Path) -> Iterator[_Pose]:
    """A line a pose, each followed by one line of points, which may be empty."""
    with path.open("rb") as file:
        lines = (line for line in file if not line.lstrip().startswith(b"#"))
        for line in lines:
            if line.isspace():  # before the first pose, or at the end
                continue
            words = _words(path.name, line[:_LONGEST_NAME].rstrip(b"\r\n"), 9)
            try:
                values = [float(word) for word in words[1:8]]
                yield _Pose(tuple(values[:4]), tuple(values[4:]), int(words[8]), words[9] if len(words) > 9 else "")
            except (ValueError, IndexError) as error:
                raise _damaged(path.name, "damaged") from error
            next(lines, None)
