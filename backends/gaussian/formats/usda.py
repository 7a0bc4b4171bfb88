# SPDX-License-Identifier: GPL-3.0-or-later
"""USD's text container (.usda), as much of it as arrays of numbers need.

Prims are found by their 'def' lines and attributes by their 'type name = value' lines; arrays are parsed block by block
when somebody asks for them.
Source: OpenUSD, “USD file formats” and what its own writer makes.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from .crate_packing import broken
from .ply_header import Bytes
from .usd_layer import Attribute, Layer, Prim, Stage

MAGIC = b"#usda"

_BLOCK = 1 << 20
_LONGEST_FEW, _LONGEST_NAMES = 2000, 20_000
"""Bytes of a value that is no array, and of a list of names."""
_PRIM = re.compile(rb'(?m)^[ \t]*def[ \t]+(?:(\w{1,200})[ \t]+)?"([^"\n]{1,200})"')
_ATTRIBUTE = re.compile(
    rb"(?m)^[ \t]*(?:custom[ \t]+)?(?:uniform[ \t]+)?(\w{1,40})(\[\])?[ \t]+([\w:]{1,200})(\.timeSamples)?[ \t]*=[ \t]*"
)
_METADATA = re.compile(rb'(?m)^[ \t]*(\w{1,100})[ \t]*=[ \t]*(?:"([^"\n]{0,200})"|([-+.\deE]{1,40}))[ \t\r]*$')
_TIME = re.compile(rb"\s*([-+.\deE]{1,40})\s*:\s*")
_COMPONENTS = {b"quatf": 4, b"quath": 4, b"quatd": 4}
_AS_SPACES = bytes.maketrans(b"()[],\n\r\t", b"        ")
_MOST_PRIMS, _MOST_SAMPLES, _MOST_DEEP = 10_000, 1_000_000, 200


def read(data: Bytes) -> Layer:
    """The prims of a file; quaternions come xyzw, as the binary container stores them.

    Raises BrokenFile for texts that cannot be read to their end.
    """
    text = memoryview(data)
    heads = []
    for found in _PRIM.finditer(text):
        heads.append(found)
        if len(heads) > _MOST_PRIMS:
            raise broken(f"it has more than {_MOST_PRIMS:,} prims")
    first = heads[0].start() if heads else len(data)
    metadata: dict[str, Any] = {}
    for found in _METADATA.finditer(text[: min(first, 1 << 16)]):
        name, words, number = found.groups()
        metadata[name.decode()] = words.decode("utf8", "replace") if words is not None else _number(number)
    prims = []
    around: list[tuple[int, str]] = []  # of the prims that a place is within: depth and path
    depth = at = 0
    for i, head in enumerate(heads):
        depth, at = depth + _depth(data, at, head.start()), head.start()
        while around and around[-1][0] >= depth:
            around.pop()
        path = f"{around[-1][1] if around else ''}/{head[2].decode('utf8', 'replace')}"
        if len(around) > _MOST_DEEP:
            raise broken("its prims lie too deep within each other")
        around.append((depth, path))
        end = heads[i + 1].start() if i + 1 < len(heads) else len(data)
        prims.append(Prim(path, (head[1] or b"").decode(), _attributes(data, head.end(), end)))
    return Layer(metadata, prims)


def _depth(data: Bytes, at: int, end: int) -> int:
    """How many braces more are opened than closed."""
    found = 0
    for start in range(at, end, _BLOCK):
        block = data[start : min(start + _BLOCK, end)]
        found += int(np.count_nonzero(block == ord("{"))) - int(np.count_nonzero(block == ord("}")))
    return found


def _attributes(data: Bytes, at: int, end: int) -> dict[str, Attribute]:
    found: dict[str, dict[bool, tuple[bytes, bool, int]]] = {}
    text = memoryview(data)
    while match := _ATTRIBUTE.search(text, at, end):
        kind, is_array, name, sampled = match.groups()
        found.setdefault(name.decode(), {})[bool(sampled)] = (kind, bool(is_array), match.end())
        at = match.end()
        if len(found) > _MOST_PRIMS:
            raise broken(f"a prim has more than {_MOST_PRIMS:,} attributes")
    return {name: _attribute(data, forms, end) for name, forms in found.items()}


def _attribute(data: Bytes, forms: Mapping[bool, tuple[bytes, bool, int]], end: int) -> Attribute:
    times: list[float] = []
    places: list[int] = []
    if True in forms:
        at = forms[True][2]
        text = memoryview(data)
        if data[at : at + 1].tobytes() != b"{":
            raise broken("its samples are no list")
        at += 1
        while match := _TIME.match(text, at, end):
            times.append(_number(match[1]))
            places.append(match.end())
            ends = {b"[": b"]", b"(": b"\n}"}.get(data[match.end() : match.end() + 1].tobytes(), b",\n}")
            closing = _find(data, ends, match.end(), end)
            at = closing + (data[closing : closing + 1].tobytes() != b"}")
            while data[at : at + 1].tobytes() in (b",", b" "):
                at += 1
            if len(times) > _MOST_SAMPLES:
                raise broken(f"it has more than {_MOST_SAMPLES:,} samples")
        if (np.diff(times) <= 0).any() or not np.isfinite(times).all():
            raise broken("the times of its samples do not increase")

    def get(sample: int | None, most: int) -> Any:
        if sample is None and False not in forms:
            return None
        kind, is_array, at = forms[sample is not None]
        return _value(data, at if sample is None else places[sample], end, kind, is_array, most)

    return Attribute(np.array(times, np.float64), False in forms, get)


def _find(data: Bytes, any_of: bytes, at: int, end: int) -> int:
    """Where the first of some characters is."""
    size = 1 << 8  # a sample of a transform is short, one of splats is not
    while at < end:
        block = data[at : min(at + size, end)].tobytes()
        if hits := [place for place in (block.find(one) for one in any_of) if place >= 0]:
            return at + min(hits)
        at, size = at + len(block), min(2 * size, _BLOCK)
    raise broken("it ends within a value")


def _value(data: Bytes, at: int, end: int, kind: bytes, is_array: bool, most: int) -> Any:
    start = data[at : min(at + _LONGEST_FEW, end)].tobytes()
    if start.startswith(b"None"):
        return None
    if not is_array:
        if start.startswith(b'"'):
            return start[1:].partition(b'"')[0].decode("utf8", "replace")
        if start.startswith(b"("):
            few = _numbers(data, at, at + len(re.match(rb"[-+.\deE(), \t]*", start)[0]), most, np.float64)  # type: ignore[index]
            return np.roll(few, -1) if kind in _COMPONENTS else few
        words = re.match(rb"[-+.\w]{1,40}", start)
        return _number(words[0]) if words and kind in (b"int", b"float", b"double", b"half") else None
    if not start.startswith(b"["):
        raise broken("an array does not begin with a bracket")
    closing = _find(data, b"]", at, end)
    if kind in (b"token", b"string"):
        names = re.findall(rb'"([^"\n]{0,200})"', data[at : min(closing, at + _LONGEST_NAMES)].tobytes())
        return [name.decode("utf8", "replace") for name in names[:most]]
    components = _COMPONENTS.get(kind, 3 if re.match(rb"(?:point|float|half|color|vector|normal)3", kind) else 1)
    numbers = _numbers(data, at + 1, closing, most * components)
    if kind == b"int":
        return numbers.astype(np.int32)
    if components == 1:
        return numbers
    if len(numbers) % components:
        raise broken(f"an array of {kind.decode()} has {len(numbers):,} numbers")
    elements = numbers.reshape(-1, components)
    return np.roll(elements, -1, axis=1) if kind in _COMPONENTS else elements


def _numbers(data: Bytes, at: int, end: int, most: int, form: type = np.float32) -> NDArray[Any]:
    """Numbers between brackets, commas and spaces, cut into blocks where a comma or a space stands."""
    parts: list[NDArray[Any]] = []
    count = 0
    while at < end:
        stop = min(at + _BLOCK, end)
        block = data[at:stop].tobytes()
        if stop < end:
            cut = max(block.rfind(b","), block.rfind(b" ")) + 1
            if not cut:
                raise broken("an array holds something else than numbers")
            block, stop = block[:cut], at + cut
        words = block.translate(_AS_SPACES)
        if words.strip():
            with warnings.catch_warnings():
                warnings.simplefilter("error", DeprecationWarning)
                try:
                    parts.append(np.fromstring(words, form, sep=" "))
                except (ValueError, DeprecationWarning):
                    raise broken("an array holds something else than numbers") from None
            count += len(parts[-1])
        if count > most:
            raise broken(f"an array has more than {most:,} numbers")
        at = stop
    return np.concatenate(parts) if parts else np.empty(0, form)


def _number(words: bytes) -> float:
    try:
        return float(words)
    except ValueError:
        raise broken("a number cannot be read") from None


def write(file: BinaryIO, stage: Stage) -> None:
    """Write a whole file; columns that are the same in all frames get one value instead of samples."""

    def say(*lines: str) -> None:
        file.write("".join(line + "\n" for line in lines).encode())

    say("#usda 1.0", "(", f'    "{stage.comment}"', f'    defaultPrim = "{stage.name}"')
    say(*(f"    {name} = {_literal(value)}" for name, value in stage.metadata.items()), ")", "")
    say(f'def {stage.type} "{stage.name}"', "{")
    for name, (kind, value) in stage.singles.items():
        say(f"    uniform {kind} {name} = {_literal(value)}")
    for column in stage.columns:
        first = column.get(0)
        if all(np.array_equal(first, column.get(frame)) for frame in range(1, len(stage.times))):
            file.write(f"    {column.kind}[] {column.name} = ".encode())
            _write_array(file, first, column.kind)
        else:
            say(f"    {column.kind}[] {column.name}.timeSamples = {{")
            for frame, time in enumerate(stage.times):
                file.write(f"        {time:.17g}: ".encode())
                _write_array(file, column.get(frame), column.kind)
                say(",")
            file.write(b"    }")
        vertex = (
            (" (", f"        elementSize = {column.size}", '        interpolation = "vertex"', "    )")
            if column.size
            else ("",)
        )
        say(*vertex)
    say("}")


def _write_array(file: BinaryIO, values: NDArray[np.float32], kind: str) -> None:
    """Nine digits say a float32 exactly."""
    if kind.encode() in _COMPONENTS:
        values = np.roll(values, 1, axis=1)
    form = "%.9g" if values.ndim == 1 else f"({', '.join(['%.9g'] * values.shape[1])})"
    file.write(b"[")
    for start in range(0, len(values), 1 << 14):
        rows = values[start : start + (1 << 14)]
        joined = ", ".join([form] * len(rows)) % tuple(rows.reshape(-1).tolist())
        file.write((", " if start else "").encode() + joined.encode())
    file.write(b"]")


def _literal(value: float | str) -> str:
    return f'"{value}"' if isinstance(value, str) else f"{value:.17g}"
