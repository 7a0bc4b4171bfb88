# SPDX-License-Identifier: GPL-3.0-or-later
"""glTF as a container: the JSON document, its buffers and accessors, as GLB or as .gltf with buffers beside it or within.

Source: Khronos, glTF 2.0 specification, sections 3.6 and 4.4.
"""

from __future__ import annotations

import binascii
import json
import re
import struct
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...common.errors import BrokenFile, UnsupportedFormat
from . import files
from .ply_header import Bytes

MAGIC = b"glTF"
LONGEST_JSON = 2 << 20
"""Bytes of a document, data URIs not counted: what Python makes of hostile JSON is far larger than its text."""
MOST_NODES = 10_000

_JSON, _BINARY = 0x4E4F534A, 0x004E4942
_TYPES = {5120: "i1", 5121: "u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_TYPES_OF_INDICES = {5121: "<u1", 5123: "<u2", 5125: "<u4"}
SPARE = 32 << 20
"""Bytes that an accessor may have beside four times the file."""
_COMPONENTS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}
_DATA_URI = re.compile(rb'"data:[^",]{0,100};base64,([^"]*)"')
_HINT = "Export the file again."


@dataclass(frozen=True)
class Document:
    """The JSON of a glTF file, and what gives the bytes of a buffer by its index."""

    json: dict[str, Any]
    buffer: Callable[[int], Bytes]
    size: Callable[[], int]
    """Bytes of the file and of what it took from beside it."""

    def item(self, kind: str, index: Any) -> dict[str, Any]:
        """An entry of one of the document's lists; raises BrokenFile where there is none."""
        entries = self.json.get(kind)
        if type(index) is int and isinstance(entries, list) and 0 <= index < len(entries) and isinstance(entries[index], dict):
            return entries[index]
        raise BrokenFile(f"The glTF file names one of its {kind} that does not exist.", _HINT)

    def view(self, index: Any) -> tuple[Bytes, int]:
        """The bytes of a buffer view, and its stride (0: as long as its elements)."""
        view = self.item("bufferViews", index)
        packed = [name for name in view["extensions"] if "compress" in name] if isinstance(view.get("extensions"), dict) else []
        if packed:
            raise UnsupportedFormat(
                f"The glTF file is packed by {packed[0][:60]}, which is not read here.", "Export it without."
            )
        data = self.buffer(integer(view, "buffer"))
        start, size = integer(view, "byteOffset", 0), integer(view, "byteLength")
        if start + size > len(data):
            raise BrokenFile("A buffer view of the glTF file runs past the end of its buffer.", "Download it again.")
        return data[start : start + size], integer(view, "byteStride", 0)

    def accessor(self, index: Any) -> tuple[NDArray[Any], float]:
        """Values (count, components) as they stand in the file, and what to divide them by (1 if not normalised)."""
        accessor = self.item("accessors", index)
        kind = next((kind for code, kind in _TYPES.items() if code == accessor.get("componentType")), None)
        components = next((number for name, number in _COMPONENTS.items() if name == accessor.get("type")), None)
        if not kind or not components:
            raise BrokenFile("An accessor of the glTF file has a type that splats do not have.", _HINT)
        count, sparse = integer(accessor, "count"), accessor.get("sparse")
        if "bufferView" in accessor:
            values = self._rows(accessor, kind, components, count)
        elif count * components * np.dtype(kind).itemsize > 4 * self.size() + SPARE or sparse is None:
            raise BrokenFile("An accessor of the glTF file claims values that are not there.", _HINT)
        else:
            values = np.zeros((count, components), kind)
        if sparse is not None:
            values = self._filled(values, sparse)
        return values, float(np.iinfo(kind).max) if accessor.get("normalized") and kind != "<f4" else 1.0

    def _rows(self, table: dict[str, Any], kind: str, components: int, count: int) -> NDArray[Any]:
        """Values (count, components) in the buffer view that a table names."""
        data, stride = self.view(table.get("bufferView"))
        row = np.dtype(kind).itemsize * components
        start, stride = integer(table, "byteOffset", 0), stride or row
        if not count:
            return np.empty((0, components), kind)
        if stride < row or start + (count - 1) * stride + row > len(data):
            raise BrokenFile("An accessor of the glTF file runs past the end of its buffer view.", "Download it again.")
        return np.ndarray((count, components), kind, data, start, (stride, np.dtype(kind).itemsize))

    def _filled(self, values: NDArray[Any], sparse: Any) -> NDArray[Any]:
        """Values with those of a sparse accessor in their places."""
        indices, found = (sparse.get(name) if isinstance(sparse, dict) else None for name in ("indices", "values"))
        code = indices.get("componentType") if isinstance(indices, dict) else None
        kind = _TYPES_OF_INDICES.get(code) if type(code) is int else None
        if not isinstance(indices, dict) or not isinstance(found, dict) or kind is None:
            raise BrokenFile("A sparse accessor of the glTF file lacks its indices or values.", _HINT)
        count = integer(sparse, "count")
        places = self._rows(indices, kind, 1, count)[:, 0]
        if count and int(places.max()) >= len(values):
            raise BrokenFile("A sparse accessor of the glTF file points beyond its values.", "Download it again.")
        filled = np.array(values)
        filled[places] = self._rows(found, values.dtype.str, values.shape[1], count)
        return filled


def integer(table: dict[str, Any], name: str, default: int | None = None) -> int:
    """A number that counts something; raises BrokenFile for anything else."""
    value = table.get(name, default)
    if type(value) is not int or not 0 <= value < 1 << 53:
        raise BrokenFile(f"The glTF file's '{name}' is no count.", _HINT)
    return value


def open_glb(data: Bytes) -> Document:
    """The document of a GLB file, whose one buffer is within."""
    chunks: dict[int, Bytes] = {}
    offset = 12
    while offset + 8 <= len(data):
        size, kind = struct.unpack("<II", data[offset : offset + 8].tobytes())
        chunks.setdefault(kind, data[offset + 8 : offset + 8 + size])
        offset += 8 + size
    if int.from_bytes(data[4:8].tobytes(), "little") != 2 or _JSON not in chunks:
        raise BrokenFile("The GLB file is not of version 2 or lacks its document.", "Download or export it again.")
    document = _parse(chunks[_JSON].tobytes())

    def buffer(index: int) -> Bytes:
        if index or _BINARY not in chunks:
            raise UnsupportedFormat("The GLB file keeps its splats in another file.", "Export it as one GLB file.")
        return chunks[_BINARY]

    return Document(document, buffer, lambda: len(data))


def open_gltf(data: Bytes, folder: Path | None) -> Document:
    """The document of a .gltf file; buffers are read from `folder`, and from nowhere else, when they are asked for."""
    embedded: list[tuple[int, int]] = []
    text, at = bytearray(), 0
    for found in _DATA_URI.finditer(data):  # type: ignore[call-overload]
        first, last = found.span(1)
        text += data[at:first][:LONGEST_JSON].tobytes() + b"%d" % len(embedded)
        embedded.append((first, last))
        at = last
        if len(text) > LONGEST_JSON:
            break
    text += data[at:][:LONGEST_JSON].tobytes()
    document = _parse(bytes(text))
    loaded: dict[int, Bytes] = {}

    def buffer(index: int) -> Bytes:
        if index not in loaded:
            uri = opened.item("buffers", index).get("uri")
            if isinstance(uri, str) and uri.startswith("data:"):
                try:
                    first, last = embedded[int(uri.rpartition(";base64,")[2])]
                    loaded[index] = np.frombuffer(binascii.a2b_base64(data[first:last].data), np.uint8)
                except (ValueError, IndexError) as error:
                    raise BrokenFile("A buffer within the glTF file is damaged.", "Download the file again.") from error
            elif isinstance(uri, str) and folder:
                loaded[index] = files.load(_inside(folder, uri))
            else:
                raise UnsupportedFormat("The glTF file keeps its splats in another file.", "Give the path of the .gltf file.")
        return loaded[index]

    opened = Document(document, buffer, lambda: len(data) + sum(len(content) for content in loaded.values()))
    return opened


def glb(document: dict[str, Any], pieces: list[NDArray[Any]]) -> list[Any]:
    """The pieces of a GLB file with one buffer, which `pieces` fill one after the other."""
    size = sum(piece.nbytes for piece in pieces)
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    padding = bytes(-size % 4)
    total = 12 + 8 + len(text) + 8 + size + len(padding)
    head = MAGIC + struct.pack("<IIII", 2, total, len(text), _JSON)
    return [head, text, struct.pack("<II", size + len(padding), _BINARY), *pieces, padding]


def joined(document: Document) -> Bytes | None:
    """A GLB file of what came in several; none where there is more than one buffer."""
    buffers = document.json.get("buffers")
    if not isinstance(buffers, list) or len(buffers) != 1:
        return None
    first = {name: value for name, value in document.item("buffers", 0).items() if name != "uri"}
    content = document.buffer(0)[: integer(first, "byteLength")]
    pieces = glb({**document.json, "buffers": [first]}, [content])
    return np.frombuffer(b"".join(bytes(piece) for piece in pieces), np.uint8)


def split(pieces: list[Any], name: str) -> tuple[bytes, list[Any]]:
    """A GLB's document that names its buffer `name`, and the pieces of that buffer."""
    document = open_glb(np.frombuffer(b"".join(bytes(piece) for piece in pieces), np.uint8))
    first = document.item("buffers", 0)
    first["uri"] = urllib.parse.quote(name)
    return json.dumps(document.json, indent=1).encode(), [document.buffer(0)[: integer(first, "byteLength")]]


def _parse(text: bytes) -> dict[str, Any]:
    if len(text) > LONGEST_JSON:
        raise UnsupportedFormat("The glTF file's document is far longer than splats need.", "Export the splats alone.")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BrokenFile("The glTF file's document is damaged.", "Download or export it again.") from error
    if not isinstance(document, dict):
        raise BrokenFile("The glTF file's document is no glTF.", _HINT)
    return document


def _inside(folder: Path, uri: str) -> Path:
    """A file of that folder or below it; raises BrokenFile for names that lead anywhere else."""
    name = urllib.parse.unquote(uri)
    path = (folder / name).resolve()
    if ":" in name or "\0" in name or not path.is_relative_to(folder.resolve()):
        raise BrokenFile(f"The glTF file asks for '{name[:60]}', which is not in its folder.", "Export it as GLB.")
    return path
