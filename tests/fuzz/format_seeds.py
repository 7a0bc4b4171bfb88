# SPDX-License-Identifier: GPL-3.0-or-later
"""Sound files of every row of the table of formats, small ones, for the fuzzer to damage.

What can be written is written; formats that are only read take what their own tests pack, and real files where they are.
"""
# ruff: noqa: E402

from __future__ import annotations

import gzip
import os
import pathlib
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "unit")]

import network_weights
import test_families
import test_formats_fourdgs
import test_formats_ksplat
import test_formats_sog_streamed
import test_formats_usd_xform
import test_network_scenes
import torch_files

from tools import round_trip
from vivant.backends.gaussian.formats import FORMATS, Format, write_splats
from vivant.backends.gaussian.motion import FAMILIES

DATA = pathlib.Path(os.environ.get("VIVANT_DATA", ROOT.parent / "shared" / "data")) / "splats"
LARGEST_REAL = 100_000
"""Bytes of real files that are damaged too."""


@dataclass(frozen=True)
class Seed:
    """Files by their path, and which of them is opened ('' for the folder)."""

    files: dict[str, bytes]
    opened: str


def seeds(form: Format) -> list[Seed]:
    """Sound files of a format; none where only its own tools write it and no test packs one."""
    found = [_written(form, extension, None) for extension in form.extensions if form.writable]
    found += [_written(form, form.extensions[0], family) for family in FAMILIES if form.writable and family in form.holds]
    found += [change(found[0]) for change in CHANGED.get(form.name, ())]
    found += [seed for make in PACKED.get(form.name, ()) for seed in [make()]]
    if DATA.is_dir() and form.extensions and not any(extension == "meta.json" for extension in form.extensions):
        for path in sorted(DATA.iterdir()):
            if path.name.endswith(form.extensions) and path.is_file() and path.stat().st_size < LARGEST_REAL:
                found.append(Seed({path.name: path.read_bytes()}, path.name))
    return found


def _written(form: Format, extension: str, family: str | None) -> Seed:
    cloud = round_trip.cloud_for(form, 300, min(2, form.holds["still"])) if family is None else test_families.made(family)
    with tempfile.TemporaryDirectory() as folder:
        path = round_trip.path_in(pathlib.Path(folder), extension)
        write_splats(cloud, path)
        return _gathered(path.parent, path.name)


def _gathered(folder: pathlib.Path, opened: str) -> Seed:
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    return Seed(files, opened)


def _changed(change: Callable[[bytes], bytes]) -> Callable[[Seed], Seed]:
    return lambda seed: Seed({seed.opened: change(seed.files[seed.opened])}, seed.opened)


def as_text(file: bytes) -> bytes:
    """The same PLY with numbers in text, of its first twenty splats."""
    head, _, body = file.partition(b"end_header\n")
    rows = np.frombuffer(body, "<f4").reshape(-1, head.count(b"property float"))[:20]
    lines = "".join(" ".join(f"{number:.9g}" for number in row) + "\n" for row in rows.tolist())
    head = head.replace(b"binary_little_endian", b"ascii").replace(b"vertex 300", b"vertex 20")
    return head + b"end_header\n" + lines.encode()


def as_big_endian(file: bytes) -> bytes:
    """The same PLY with its floats the other way round."""
    head, _, body = file.partition(b"end_header\n")
    return head.replace(b"little", b"big") + b"end_header\n" + np.frombuffer(body, "<f4").astype(">f4").tobytes()


def with_faces_first(file: bytes) -> bytes:
    """The same PLY behind an element of lists."""
    head, _, body = file.partition(b"end_header\n")
    faces = b"element face 3\nproperty list uchar int vertex_indices\n"
    at = head.index(b"element vertex")
    rows = b"".join(bytes([n]) + np.arange(n, dtype="<i4").tobytes() for n in (3, 0, 4))
    return head[:at] + faces + head[at:] + b"end_header\n" + rows + body


def with_more_columns(file: bytes) -> bytes:
    """The same PLY with two of its normals called otherwise."""
    return file.replace(b"float nx", b"float filter_3D").replace(b"float ny", b"float fea_0")


def spz_version_4(file: bytes) -> bytes:
    """An SPZ of version 4 from one of version 3, streams packed with whatever Zstandard there is; else version 3."""
    try:
        import zstandard
    except ImportError:
        return file
    body = gzip.decompress(file)
    count, degree = int.from_bytes(body[8:12], "little"), body[12]
    parts, offset = [], 16
    for width in (9, 1, 3, 3, 4, 3 * ((degree + 1) ** 2 - 1)):
        parts += [body[offset : offset + count * width]] if width else []
        offset += count * width
    packed = [zstandard.ZstdCompressor().compress(part) for part in parts]
    extension = (0xADBE0003).to_bytes(4, "little") + (4).to_bytes(4, "little") + (4).to_bytes(4, "little")
    head = body[:4] + (4).to_bytes(4, "little") + body[8:14] + bytes([2, len(parts)])
    head += (32 + len(extension)).to_bytes(4, "little") + bytes(12)
    table = b"".join(
        len(p).to_bytes(8, "little") + len(part).to_bytes(8, "little") for p, part in zip(packed, parts, strict=True)
    )
    return head + extension + table + b"".join(packed)


CHANGED: dict[str, list[Callable[[Seed], Seed]]] = {
    "PLY": [
        *map(_changed, (as_text, as_big_endian, with_faces_first, with_more_columns)),
        _changed(lambda file: gzip.compress(file, mtime=0)),
    ],
    "SPZ": [_changed(gzip.decompress), _changed(spz_version_4)],
}
"""Other ways to say the same, by format."""


def _ksplat(level: int) -> Seed:
    packed, exact = test_formats_ksplat.packed, test_formats_ksplat.exact
    if level:
        sections = [([packed(30_000 + i) for i in range(20)], 0, 8, 2, [4], [[i, 0, 0] for i in range(3)])]
    else:
        sections = [([exact(i, 2) for i in range(20)], 2, 256, 0, [], []), ([exact(9)] * 3, 0, 256, 0, [], [])]
    return Seed({"a.ksplat": test_formats_ksplat.file_of(level, sections).tobytes()}, "a.ksplat")


def _moving(bands: int, packing: str) -> Seed:
    return Seed({"a.4dgs": test_formats_fourdgs.made(bands=bands, packing=packing)[0]}, "a.4dgs")


def _checkpoint(dimensions: int) -> Seed:
    return Seed({"chkpnt.pth": torch_files.saved((test_network_scenes.capture(dimensions)[1], 30000))}, "chkpnt.pth")


def _scene() -> Seed:
    weights = network_weights.waves(network_weights.deformation_shapes(), 0.05)
    with tempfile.TemporaryDirectory() as folder:
        test_network_scenes.scene(pathlib.Path(folder), weights, told="Namespace(sh_degree=3, is_blender=False)")
        return _gathered(pathlib.Path(folder), "")


def _decoded() -> Seed:
    ply = next(form for form in FORMATS if form.name == "PLY")
    layers = {"mlp1.weight": np.ones((6, 12, 1, 1)), "mlp2.weight": np.ones((3, 6, 1, 1))}
    return Seed(_written(ply, ".ply", "STG full").files | {"a.pt": torch_files.saved(layers)}, "a.ply")


def _placed() -> Seed:
    own = test_formats_usd_xform.operations(translate="(1, 0, 0)", rotateXYZ="(10, 20, 30)", scale="(2, 2, 1)")
    text = test_formats_usd_xform.stage(own, test_formats_usd_xform.operations(orient="(1, 0, 0, 1)"))
    return Seed({"a.usda": text.encode()}, "a.usda")


def _streamed() -> Seed:
    with tempfile.TemporaryDirectory() as folder:
        test_formats_sog_streamed.streamed(pathlib.Path(folder), 60)
        return _gathered(pathlib.Path(folder), "lod-meta.json")


PACKED: dict[str, list[Callable[[], Seed]]] = {
    "ksplat": [lambda: _ksplat(0), lambda: _ksplat(1)],
    "4dgs": [lambda: _moving(0, ""), lambda: _moving(1, "deflate")],
    "Checkpoint": [lambda: _checkpoint(3), lambda: _checkpoint(4)],
    "Trained scene": [_scene],
    "SOG with levels of detail": [_streamed],
    "USD": [_placed],
    "PLY with a network": [_decoded],
}
"""What the tests of formats that are only read pack, by format."""
