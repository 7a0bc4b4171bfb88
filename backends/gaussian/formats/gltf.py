# SPDX-License-Identifier: GPL-3.0-or-later
"""glTF with KHR_gaussian_splatting, as GLB or .gltf: points whose attributes are activated splats; packed as SPZ, too.

Frame RUB (glTF's Y up), rotations x, y, z, w, spherical harmonics one accessor a coefficient.  Splats of several nodes are
joined, each put where its node's matrix puts it.
Source: KhronosGroup/glTF, KHR_gaussian_splatting (release candidate, July 2026) and the drafts of its compression by SPZ.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...common import colour
from ...common.errors import BrokenFile, UnsupportedFormat, VivantError
from ...common.rotations import matrix, normalise
from .. import sh
from ..axes import change_axes
from ..cloud import Floats, Source, SplatCloud
from ..transform import Splats, transformed
from . import files, gltf_buffers, spz
from .format import pieces
from .gltf_buffers import Document
from .ply_header import Bytes
from .repair import Draft

NAME = "glTF"
AXES = "RUB"
DEGREE = 3
EXTENSION = "KHR_gaussian_splatting"

_PREFIX = EXTENSION + ":"
_MARKS = (b"KHR_gaussian_splatting", b"KHR_spz_gaussian_splats_compression")
_SPZ = (
    "KHR_gaussian_splatting_compression_spz_2",
    "KHR_gaussian_splatting_compression_spz",
    "KHR_spz_gaussian_splats_compression",
)
_LINEAR = "lin_rec709_display"
_MARKED_WITHIN = 1 << 20


@dataclass(frozen=True)
class _Part:
    """A primitive: how many splats, of what degree, what reads a slice of them, and where its node puts them."""

    count: int
    degree: int
    read: Callable[[slice], Splats]
    place: NDArray[np.float64]
    extras: dict[str, NDArray[Any]]
    unpacked: SplatCloud | None = None


def is_glb(data: Bytes) -> bool:
    """Whether bytes are a GLB file that speaks of splats."""
    return data[:4].tobytes() == gltf_buffers.MAGIC and _is_marked(data)


def is_gltf(data: Bytes) -> bool:
    """Whether bytes are the JSON of a glTF file that speaks of splats."""
    return data[:64].tobytes().lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"{" and b'"asset"' in _ends(data) and _is_marked(data)


def decode(data: Bytes) -> SplatCloud:
    """The cloud of a whole GLB file; raises UnsupportedFormat for kernels and packings that are not known."""
    return _cloud(gltf_buffers.open_glb(data), data)


def read(path: Path) -> SplatCloud:
    """The cloud of a .gltf file, its buffers taken from the file itself or its folder."""
    document = gltf_buffers.open_gltf(files.load(path), path.parent)
    return _cloud(document, gltf_buffers.joined(document))


def encode(cloud: SplatCloud) -> list[Any]:
    """A GLB file with colours to fall back on (COLOR_0); raises VivantError for clouds that are empty or too large."""
    cloud = change_axes(cloud, AXES)
    count, coefficients = len(cloud), min(cloud.sh.shape[1], (DEGREE + 1) ** 2)
    linear = cloud.source.linear
    light = np.clip(sh.to_rgb(cloud.sh[:, 0]), 0, 1)
    colours = np.column_stack([light if linear else colour.to_linear(light), cloud.opacities])
    columns: dict[str, NDArray[Any]] = {
        "POSITION": cloud.means,
        "COLOR_0": np.rint(255 * colours).astype(np.uint8),
        _PREFIX + "ROTATION": np.roll(cloud.quats, -1, axis=1),
        _PREFIX + "SCALE": cloud.scales,
        _PREFIX + "OPACITY": cloud.opacities[:, None],
    }
    for k in range(coefficients):
        degree = sh.degree((int(np.sqrt(k)) + 1) ** 2)
        columns[f"{_PREFIX}SH_DEGREE_{degree}_COEF_{k - degree**2}"] = np.ascontiguousarray(cloud.sh[:, k])
    columns |= {"_" + name: np.ascontiguousarray(column)[:, None] for name, column in cloud.extras.items()}
    size = sum(column.nbytes for column in columns.values())
    if not count or size > 0xFFFF0000:
        raise VivantError(
            f"A GLB file cannot hold {count:,} splats of {size:,} bytes.", "Give at least one splat and less than 4 GB of them."
        )
    offsets = itertools.accumulate((column.nbytes for column in columns.values()), initial=0)
    views = [
        {"buffer": 0, "byteOffset": offset, "byteLength": column.nbytes, "target": 34962}
        for offset, column in zip(offsets, columns.values(), strict=False)
    ]
    accessors: list[dict[str, Any]] = []
    for index, column in enumerate(columns.values()):
        kind = {"bufferView": index, "count": count, "type": "SCALAR" if column.shape[1] == 1 else f"VEC{column.shape[1]}"}
        accessors.append(
            kind | ({"componentType": 5121, "normalized": True} if column.dtype == np.uint8 else {"componentType": 5126})
        )
    accessors[0] |= {"min": cloud.means.min(axis=0).tolist(), "max": cloud.means.max(axis=0).tolist()}
    splats = {
        "kernel": "ellipse", "colorSpace": _LINEAR if linear else "srgb_rec709_display",
        "projection": "perspective", "sortingMethod": "cameraDistance",
    }  # fmt: skip
    primitive = {"attributes": {name: i for i, name in enumerate(columns)}, "mode": 0, "extensions": {EXTENSION: splats}}
    document = {
        "asset": {"version": "2.0", "generator": "Vivant"}, "extensionsUsed": [EXTENSION],
        "scene": 0, "scenes": [{"nodes": [0]}], "nodes": [{"mesh": 0}], "meshes": [{"primitives": [primitive]}],
        "buffers": [{"byteLength": size}], "bufferViews": views, "accessors": accessors,
    }  # fmt: skip
    return gltf_buffers.glb(document, list(columns.values()))


def write(cloud: SplatCloud, path: Path) -> None:
    """A .gltf file, and its buffer as .bin beside it, which appears first."""
    buffer = path.with_name(path.stem + ".bin")
    text, content = gltf_buffers.split(list(pieces(cloud, NAME, encode)), buffer.name)
    files.save(buffer, content)
    files.save(path, [text])


def _cloud(document: Document, encoded: Bytes | None = None) -> SplatCloud:
    parts = list(_parts(document))
    if not parts:
        raise UnsupportedFormat("The glTF file speaks of splats but places none in its scene.", "Export the splats again.")
    coefficients = (max(part.degree for part, _ in parts) + 1) ** 2
    count, row = sum(part.count for part, _ in parts), 4 * (11 + 3 * coefficients)
    unpacked = sum(len(cloud) for cloud in {id(part.unpacked): part.unpacked for part, _ in parts}.values() if cloud)
    if count * row > 4 * document.size() + (32 << 20) + 2 * unpacked * row:
        raise UnsupportedFormat(
            f"The glTF file makes {count:,} splats of far fewer by using the same ones again.", "Export them once each."
        )
    draft = Draft(count, coefficients)
    names = {name for part, _ in parts for name in part.extras}
    draft.extras = {name: np.zeros(len(draft.keep), np.float32) for name in sorted(names)}

    def fill(part: _Part, here: slice, rows: slice) -> None:
        splats = transformed(part.read(here), part.place)
        draft.means[rows], draft.quats[rows], draft.scales[rows] = splats.means, splats.quats, splats.scales
        draft.opacities[rows] = splats.opacities
        draft.sh[rows] = 0
        draft.sh[rows, : splats.sh.shape[1]] = splats.sh
        for name, column in part.extras.items():
            draft.extras[name][rows] = column[here, 0]

    draft.fill_parts([(part.count, partial(fill, part)) for part, _ in parts])
    spaces = {space for _, space in parts}
    warnings = ("Splats of several colour spaces were joined as they are.",) if len(spaces) > 1 else ()
    details = {"colour_space": "linear"} if spaces == {_LINEAR} else {}
    return draft.finish(Source(NAME, axes=AXES, warnings=warnings, details=details), encoded)


def _parts(document: Document) -> Iterator[tuple[_Part, str]]:
    """Every primitive of splats in the scene, and its colour space."""
    unpacked: dict[int, SplatCloud] = {}
    for mesh, place in _placed_meshes(document):
        for primitive in _list(mesh, "primitives"):
            extensions = primitive.get("extensions") if isinstance(primitive, dict) else None
            if not isinstance(extensions, dict) or not {EXTENSION, *_SPZ} & extensions.keys():
                continue
            splats = extensions.get(EXTENSION) or {}
            if not isinstance(splats, dict) or not isinstance(primitive.get("attributes"), dict):
                raise BrokenFile("The glTF file's splats are described in no way that makes sense.", "Export it again.")
            if splats.get("kernel", "ellipse") != "ellipse":
                raise UnsupportedFormat(f"The glTF file's splats have the kernel '{splats['kernel']}'.", "Export ellipses.")
            yield _part(document, primitive["attributes"], extensions, splats, place, unpacked), str(splats.get("colorSpace"))


def _part(
    document: Document,
    names: dict[str, Any],
    base: dict[str, Any],
    splats: dict[str, Any],
    place: NDArray[np.float64],
    unpacked: dict[int, SplatCloud],
) -> _Part:
    extensions = splats.get("extensions") or {}
    nested = {**base, **extensions} if isinstance(extensions, dict) else base
    for name in _SPZ:
        if isinstance(nested.get(name), dict):
            return _packed_part(document.view(nested[name].get("bufferView"))[0], place, unpacked)
    if others := [name for name in nested if "compress" in name.lower()]:
        raise UnsupportedFormat(f"The glTF file's splats are packed by {others[0][:60]}.", "Export them without, or as SPZ.")

    def column(name: str, *drafts: str) -> tuple[NDArray[Any], float] | None:
        found = next((names[key] for key in (_PREFIX + name, *drafts) if key in names), None)
        return None if found is None else document.accessor(found)

    bands = [
        [column(f"SH_DEGREE_{l}_COEF_{n}", f"_SH_DEGREE_{l}_COEF_{n}") for n in range(2 * l + 1)] for l in range(DEGREE + 1)
    ]
    whole = list(itertools.takewhile(lambda band: None not in band, bands[1:]))
    coefficients = [found for band in whole for found in band if found]
    base_colour, fallback = bands[0][0], column("COLOR_0", "COLOR_0")
    position, rotation, scale = column("POSITION", "POSITION"), column("ROTATION", "_ROTATION"), column("SCALE", "_SCALE")
    opacity = column("OPACITY", "_OPACITY")
    if position is None or rotation is None or scale is None or not (base_colour or fallback) or not (opacity or fallback):
        raise BrokenFile("The glTF file's splats lack positions, rotations, scales, colours or opacities.", "Export it again.")
    widths = [(position, 3), (rotation, 4), (scale, 3), (opacity, 1), (base_colour, 3), *((found, 3) for found in coefficients)]
    count = len(position[0])
    extras = {
        name[1:]: document.accessor(index)[0]
        for name, index in names.items()
        if name.startswith("_") and name not in ("_ROTATION", "_SCALE", "_OPACITY") and not name.startswith("_SH_DEGREE")
    }
    extras = {name: values for name, values in extras.items() if values.shape == (count, 1) and values.dtype == np.float32}
    if any(found and found[0].shape != (count, width) for found, width in widths):
        raise BrokenFile("The glTF file's attributes of splats do not belong together.", "Export it again.")
    if fallback and (len(fallback[0]) != count or fallback[0].shape[1] not in (3, 4)):
        raise BrokenFile("The glTF file's colours do not belong to its splats.", "Export it again.")
    linear = splats.get("colorSpace") == _LINEAR

    def read(rows: slice) -> Splats:
        harmonics = np.empty((len(coefficients) + 1, len(position[0][rows]), 3), np.float32)
        colours = _values(fallback, rows) if fallback else harmonics[0]
        if base_colour:
            harmonics[0] = _values(base_colour, rows)
        else:
            harmonics[0] = sh.to_base(colours[:, :3] if linear else colour.to_display(colours[:, :3]))
        for k, found in enumerate(coefficients, 1):
            harmonics[k] = _values(found, rows)
        alphas = _values(opacity, rows)[:, 0] if opacity else colours[:, 3] if colours.shape[1] == 4 else 1
        quats = np.roll(_values(rotation, rows), 1, axis=1)
        return Splats(
            _values(position, rows), quats, _values(scale, rows),
            np.clip(alphas, 0, 1), harmonics.transpose(1, 0, 2),
        )  # fmt: skip

    return _Part(count, len(whole), read, place, extras)


def _packed_part(data: Bytes, place: NDArray[np.float64], unpacked: dict[int, SplatCloud]) -> _Part:
    if (key := data.ctypes.data) not in unpacked:
        unpacked[key] = change_axes(spz.decode(data), AXES)
    cloud = unpacked[key]

    def read(rows: slice) -> Splats:
        return Splats(cloud.means[rows], cloud.quats[rows], cloud.scales[rows], cloud.opacities[rows], cloud.sh[rows])

    return _Part(len(cloud), cloud.degree, read, place, {}, cloud)


def _placed_meshes(document: Document) -> Iterator[tuple[dict[str, Any], NDArray[np.float64]]]:
    """Meshes of the scene with the matrices of their nodes; all meshes as they are where there is no scene."""
    if not document.json.get("scenes"):
        meshes = document.json.get("meshes")
        yield from ((mesh, np.eye(4)) for mesh in (meshes if isinstance(meshes, list) else ()) if isinstance(mesh, dict))
        return
    scene = document.item("scenes", document.json.get("scene", 0))
    waiting = [(index, np.eye(4)) for index in reversed(_list(scene, "nodes"))]
    for _ in range(gltf_buffers.MOST_NODES):
        if not waiting:
            return
        index, above = waiting.pop()
        node = document.item("nodes", index)
        place = above @ _matrix(node)
        if "mesh" in node:
            if not (np.abs(place) < 1e12).all():
                raise BrokenFile("The glTF file puts its splats nowhere in particular.", "Export it again.")
            yield document.item("meshes", node["mesh"]), place
        waiting += [(child, place) for child in reversed(_list(node, "children"))]
    raise BrokenFile("The glTF file has too many nodes, or some that are within themselves.", "Export the splats alone.")


def _matrix(node: dict[str, Any]) -> NDArray[np.float64]:
    """The local matrix (4, 4) of a node."""
    if "matrix" in node:
        return _numbers(node, "matrix", 16, ()).reshape(4, 4).T
    place = np.eye(4)
    turn = matrix(normalise(np.roll(_numbers(node, "rotation", 4, (0, 0, 0, 1)), 1)))
    place[:3, :3] = turn * _numbers(node, "scale", 3, (1, 1, 1))
    place[:3, 3] = _numbers(node, "translation", 3, (0, 0, 0))
    return place


def _numbers(node: dict[str, Any], name: str, count: int, default: tuple[float, ...]) -> NDArray[np.float64]:
    try:
        values = np.array(node.get(name, default), np.float64)
    except (TypeError, ValueError, OverflowError):
        values = np.empty(0)
    if values.shape != (count,) or not (np.abs(values) < 1e9).all():
        raise BrokenFile(f"The glTF file's '{name}' of a node is no {count} numbers.", "Export it again.")
    return values


def _list(table: dict[str, Any], name: str) -> list[Any]:
    found = table.get(name, [])
    if not isinstance(found, list) or len(found) > gltf_buffers.MOST_NODES:
        raise BrokenFile(f"The glTF file's '{name}' are no list.", "Export it again.")
    return found


def _values(found: tuple[NDArray[Any], float], rows: slice) -> Floats:
    values, divisor = found
    numbers = values[rows].astype(np.float32)
    return np.maximum(numbers / np.float32(divisor), -1) if divisor != 1 else numbers


def _ends(data: Bytes) -> bytes:
    return data[:_MARKED_WITHIN].tobytes() + data[max(len(data) - _MARKED_WITHIN, _MARKED_WITHIN) :].tobytes()


def _is_marked(data: Bytes) -> bool:
    text = _ends(data)
    return any(mark in text for mark in _MARKS)
