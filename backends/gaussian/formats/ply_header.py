# SPDX-License-Identifier: GPL-3.0-or-later
"""PLY files: the header, and the rows of one element whatever stands before it.

Source: Greg Turk, "The PLY Polygon File Format", 1994, with the type names int8 … float64 that came later.
"""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ...common.errors import BrokenFile, UnsupportedFormat

Bytes = NDArray[np.uint8]


class Columns(Protocol):
    """Columns of some rows by name: a structured array or a dictionary."""

    def __getitem__(self, name: str, /) -> NDArray[Any]: ...


Rows = Callable[[slice], Columns]
"""Gives the columns of a slice of rows."""

LONGEST_HEADER = 1 << 18
MOST_PROPERTIES = 1024
LONGEST_NUMBER = 64
"""Characters of a number in a file of text, and of the space around it."""
MOST_RUNS = 50_000
"""Runs of rows with lists of the same lengths that are walked to find what follows them."""

_TYPES = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4", "double": "f8",
    "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4", "float32": "f4", "float64": "f8",
}  # fmt: skip
_MARK = b"\xef\xbb\xbf"  # of UTF-8
_ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}


@dataclass(frozen=True)
class Property:
    """A column: NumPy's code of its type; `length` is that of the count where each value is a list."""

    name: str
    type: str
    length: str = ""


@dataclass(frozen=True)
class Element:
    """A table of the file; `count` is what the header claims."""

    name: str
    count: int
    properties: tuple[Property, ...]

    @property
    def columns(self) -> dict[str, str]:
        """Types of the columns that are no lists, by name."""
        return {column.name: column.type for column in self.properties if not column.length}

    @property
    def has_lists(self) -> bool:
        return any(column.length for column in self.properties)


@dataclass(frozen=True)
class Header:
    """What a PLY file says of itself; `order` is NumPy's byte order, empty for text; `size` bytes long."""

    order: str
    elements: tuple[Element, ...]
    comments: tuple[str, ...]
    size: int
    newline: bytes

    def element(self, name: str) -> Element:
        """The element of that name, or an empty one."""
        return next((element for element in self.elements if element.name == name), Element(name, 0, ()))


def is_ply(head: bytes) -> bool:
    """Whether a file begins as a PLY does."""
    return head.removeprefix(_MARK).startswith((b"ply\n", b"ply\r"))


def parse(data: bytes) -> Header:
    """The header at the start of `data`; raises BrokenFile where it cannot be understood."""
    start = len(_MARK) if data.startswith(_MARK) else 0
    end = re.search(rb"[\r\n]end_header[ \t]*(\r\n|\n|\r)", data[:LONGEST_HEADER])
    if not end:
        raise BrokenFile("The PLY header has no end.", "The file is cut off or damaged; download or export it again.")
    newline = end[1]
    order: str | None = None
    comments: list[str] = []
    elements: list[tuple[str, int, list[Property]]] = []
    for line in data[start : end.start()].decode("utf-8", "replace").splitlines()[1:]:
        match line.split():
            case []:
                pass
            case ["comment" | "obj_info", *_]:
                comments.append(line.partition(" ")[2].strip())
            case ["format", name, "1.0"] if name in _ORDERS:
                order = _ORDERS[name]
            case ["element", name, count] if count.isdecimal() and len(count) < 20:
                elements.append((name, int(count), []))
            case ["property", "list", length, type_, name] if (
                elements and _TYPES.get(length, "f")[0] != "f" and type_ in _TYPES
            ):
                elements[-1][2].append(Property(name, _TYPES[type_], _TYPES[length]))
            case ["property", type_, name] if elements and type_ in _TYPES:
                elements[-1][2].append(Property(name, _TYPES[type_]))
            case _:
                raise BrokenFile(f"The PLY header has a line that means nothing: '{line[:60]}'.", "Export the file again.")
    if order is None:
        raise BrokenFile("The PLY header does not say whether the file is text or binary.", "Export the file again.")
    for name, _, properties in elements:
        if len({column.name for column in properties}) < len(properties) or len(properties) > MOST_PROPERTIES:
            raise BrokenFile(f"The PLY element '{name[:40]}' names a property twice or has too many.", "Export the file again.")
    tables = tuple(Element(name, count, tuple(properties)) for name, count, properties in elements)
    return Header(order, tables, tuple(comments), end.end(), newline)


def rows_of(data: Bytes, header: Header, name: str) -> tuple[int, Rows]:
    """How many rows of an element are there, at most as many as it claims, and what gives its columns.

    Nothing is allocated that the file's own length does not pay for.  Raises BrokenFile when less than
    a hundredth of the rows is there: that is no cut download but a wrong count.
    """
    element = header.element(name)
    if element.has_lists:
        raise UnsupportedFormat(f"The PLY element '{name}' holds lists, which splats never do.", "Export it as 3DGS PLY.")
    find = _binary_rows if header.order else _text_rows
    present, needed, rows = find(data, header, element)
    if present * 100 < element.count:
        raise BrokenFile(
            f"The PLY header claims {element.count:,} rows of '{name}', but {needed:,} bytes of them are missing.",
            "The file is cut off or its header is wrong; download or export it again.",
        )
    return present, rows


def _binary_rows(data: Bytes, header: Header, element: Element) -> tuple[int, int, Rows]:
    row = np.dtype({"names": list(element.columns), "formats": [header.order + code for code in element.columns.values()]})
    offset = _skip_binary(data, header, element)
    present = min(element.count, (len(data) - offset) // row.itemsize if row.itemsize else 0)
    table = np.ndarray(present, row, data, offset) if present else np.empty(0, row)
    missing = element.count * row.itemsize - (len(data) - offset)
    return present, missing, lambda rows: table[rows]


def _skip_binary(data: Bytes, header: Header, target: Element) -> int:
    """Where the rows of `target` begin."""
    offset = header.size
    for element in header.elements:
        if element is target:
            break
        if element.has_lists:
            offset = _skip_lists(data, header.order, element, offset)
        else:
            offset += element.count * sum(np.dtype(code).itemsize for code in element.columns.values())
    return min(offset, len(data))


def _skip_lists(data: Bytes, order: str, element: Element, offset: int) -> int:
    """Where an element with lists ends: rows with lists of the same lengths are skipped together."""
    left = element.count
    for _ in range(MOST_RUNS):
        if not left:
            return offset
        end, counts = offset, []
        for column in element.properties:
            length = 1
            if column.length:
                code = np.dtype(column.length).itemsize
                counts.append(slice(end, end + code))
                length = int.from_bytes(data[counts[-1]].tobytes(), "big" if order == ">" else "little")
                end += code
            end += length * np.dtype(column.type).itemsize
        if end > len(data):
            raise BrokenFile(f"The PLY element '{element.name[:40]}' runs past the end of the file.", "Export it again.")
        run = _run_length(data, end - offset, counts, min(left, (len(data) - offset) // (end - offset)))
        offset += run * (end - offset)
        left -= run
    raise UnsupportedFormat("The PLY file has too many lists of many lengths before its splats.", "Export the splats alone.")


def _run_length(data: Bytes, stride: int, counts: list[slice], most: int) -> int:
    """How many rows of `stride` bytes repeat the bytes that stand at `counts` in the first."""
    run = 1
    while run < most:
        ahead = min(run, most - run)
        differs = np.zeros(ahead, bool)
        for at in counts:
            shape, strides = (ahead, at.stop - at.start), (stride, 1)
            differs |= (np.ndarray(shape, np.uint8, data, at.start + run * stride, strides) != data[at]).any(axis=1)
        if differs.any():
            return run + int(differs.argmax())
        run += ahead
    return run


def _text_rows(data: Bytes, header: Header, element: Element) -> tuple[int, int, Rows]:
    newline = 13 if header.newline == b"\r" else 10
    before = sum(other.count for other in itertools.takewhile(lambda other: other is not element, header.elements))
    shortest = 2 * len(element.columns)
    wanted = min(element.count, (len(data) - header.size + 1) // max(shortest, 1))
    ends = _line_ends(data, header.size - 1, newline, before, wanted + 1)  # the first is of the line before the rows
    if 0 < element.count == wanted == len(ends) and data[-1] != newline:
        ends = np.append(ends, len(data))  # the last line of the file may lack its end
    present = max(len(ends) - 1, 0)
    names = list(element.columns)

    def rows(block: slice) -> dict[str, NDArray[np.float64]]:
        shape = block.stop - block.start, len(names)
        if not shape[0]:
            return dict.fromkeys(names, np.empty(0))
        unlike = BrokenFile(
            f"The PLY file's lines do not have the {len(names)} numbers that its header promises.", "Export it again."
        )
        first, last = int(ends[block.start]) + 1, int(ends[block.stop])
        if last - first > LONGEST_NUMBER * shape[0] * shape[1]:
            raise unlike
        text = data[first:last].tobytes().replace(b",", b".").replace(b"\r", b"\n")
        try:
            table = np.loadtxt(io.BytesIO(text), np.float64, comments=None, ndmin=2) if text.strip() else np.empty((0, 0))
        except ValueError as error:
            raise BrokenFile("The PLY file has a line of text that is no row of numbers.", "Export it again.") from error
        if table.shape != shape:
            raise unlike
        return dict(zip(names, table.T, strict=True))

    return present, (element.count - present) * shortest, rows


def _line_ends(data: Bytes, offset: int, newline: int, skipped: int, wanted: int) -> NDArray[np.int64]:
    """Positions of `wanted` line ends from `offset` on, after those that are skipped."""
    found, count = [np.empty(0, np.int64)], 0
    for start in range(offset, len(data), 1 << 20):
        if count >= skipped + wanted:
            break
        here = np.flatnonzero(data[start : start + (1 << 20)] == newline) + start
        if count + len(here) > skipped:
            found.append(here[max(skipped - count, 0) :])
        count += len(here)
    return np.concatenate(found)[:wanted]
