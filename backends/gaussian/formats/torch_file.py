# SPDX-License-Identifier: GPL-3.0-or-later
"""PyTorch checkpoints (.pth, .pt) without PyTorch and without unpickling.

Such a file is a zip of stored members: data.pkl, a pickle that describes the object, and data/0, data/1, …, the bytes
of the tensors.  Pickles are programs.  This one is not run by Python's unpickler: the few instructions that build
numbers, texts, lists, tuples and dictionaries are interpreted here; whatever the pickle wants to import is only a
name to us, and "calling" it gives a placeholder, but for the names under which PyTorch puts tensors together.
Nothing of the file is ever imported or called.  Source: torch/serialization.py and the documentation of pickletools.
"""

from __future__ import annotations

import io
import math
import pickletools
import struct
import warnings
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...common.errors import BrokenFile, UnsupportedFormat
from . import compression
from .ply_header import Bytes

MAGIC = b"PK\x03\x04"
LARGEST_PICKLE = 4 << 20
MOST_INSTRUCTIONS = 200_000
HINT = "Save it again with a newer PyTorch, or download it again."

_STORAGES = {
    "DoubleStorage": "<f8", "FloatStorage": "<f4", "HalfStorage": "<f2", "BFloat16Storage": "<u2", "LongStorage": "<i8",
    "IntStorage": "<i4", "ShortStorage": "<i2", "CharStorage": "<i1", "ByteStorage": "<u1", "BoolStorage": "?",
}  # fmt: skip
_BFLOAT16 = "BFloat16Storage"
_VALUES = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_LITERALS = {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
             "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE", "BINSTRING", "SHORT_BINSTRING", "STRING",
             "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"}  # fmt: skip


@dataclass(frozen=True)
class Name:
    """Something that the file refers to by module and name."""

    module: str
    name: str


@dataclass(frozen=True)
class Unknown:
    """What a name that we do not know would have made."""

    what: str


def is_torch(data: Bytes) -> bool:
    """Whether these bytes are a checkpoint of PyTorch 1.6 or newer."""
    return data[:4].tobytes() == MAGIC and bool(_find(data)[0])


def load(data: Bytes) -> Any:
    """The object in a checkpoint: dictionaries, lists, numbers, texts; tensors are arrays that share the file's bytes.

    Raises UnsupportedFormat for files of PyTorch before 1.6, BrokenFile for damaged ones.
    """
    if data[:1].tobytes() == b"\x80":
        raise UnsupportedFormat("This checkpoint was saved by PyTorch before 1.6.", "Load and save it with a newer PyTorch.")
    members, names = _find(data)
    if not members:
        raise BrokenFile("The file is no PyTorch checkpoint, or is cut off.", HINT)
    prefix = members[: -len("data.pkl")]
    if f"{prefix}byteorder" in names and _member(data, names[f"{prefix}byteorder"]).tobytes().strip() == b"big":
        raise UnsupportedFormat("This checkpoint was saved on a big-endian machine.", "Load and save it on another one.")
    pickle = _member(data, names[members])
    if len(pickle) > LARGEST_PICKLE:
        raise BrokenFile(
            "The checkpoint describes far more objects than a network has.", "Get it from a source that you trust."
        )
    storages: dict[str, NDArray[Any]] = {}

    def storage(identity: Any) -> NDArray[Any]:
        """The numbers that PyTorch calls ('storage', type, key, device, count)."""
        _, kind, key, _, count = identity
        if not isinstance(kind, Name) or kind.name not in _STORAGES or not isinstance(key, str):
            raise BrokenFile("The checkpoint holds numbers of an unknown kind.", HINT)
        if key not in storages:
            dtype = np.dtype(_STORAGES[kind.name])
            stored = _member(data, names[f"{prefix}data/{key}"])
            if type(count) is not int or not 0 <= count * dtype.itemsize <= len(stored):
                raise BrokenFile("A tensor of the checkpoint is cut off.", HINT)
            values = np.frombuffer(stored.data, dtype, count)
            storages[key] = (values.astype(np.uint32) << 16).view(np.float32) if kind.name == _BFLOAT16 else values
        return storages[key]

    try:
        with warnings.catch_warnings():  # of escapes that Python's own reader of names will not know some day
            warnings.simplefilter("ignore", DeprecationWarning)
            return _interpret(pickle.tobytes(), storage)
    except BrokenFile:
        raise
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError, OverflowError, struct.error) as error:
        raise BrokenFile(f"The checkpoint is damaged: {error}.", HINT) from error


def _interpret(program: bytes, storage: Any) -> Any:
    """What a pickle builds; the instructions are those of protocols 0 to 4 that describe plain data."""
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[Any, Any] = {}

    def since_mark() -> list[Any]:
        at = marks.pop()
        values = stack[at:]
        del stack[at:]
        return values

    argument: Any
    for count, (instruction, argument, _) in enumerate(pickletools.genops(io.BytesIO(program))):
        if count > MOST_INSTRUCTIONS:
            raise BrokenFile(
                "The checkpoint describes far more objects than a network has.", "Get it from a source that you trust."
            )
        match instruction.name:
            case name if name in _LITERALS:
                stack.append(argument)
            case name if name in _VALUES:
                stack.append(_VALUES[name])
            case "MARK":
                marks.append(len(stack))
            case "EMPTY_DICT" | "EMPTY_LIST" | "EMPTY_SET":
                stack.append({"D": {}, "L": [], "S": []}[instruction.name[6]])
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                size = int(instruction.name[5])
                stack[-size:] = [tuple(stack[-size:])]
            case "TUPLE":
                stack.append(tuple(since_mark()))
            case "LIST":
                stack.append(since_mark())
            case "DICT":
                stack.append(_pairs({}, since_mark()))
            case "APPEND":
                value = stack.pop()
                _extend(stack[-1], [value])
            case "APPENDS" | "ADDITEMS":
                values = since_mark()
                _extend(stack[-1], values)
            case "SETITEM":
                key, value = stack[-2:]
                del stack[-2:]
                _pairs(stack[-1], [key, value])
            case "SETITEMS":
                values = since_mark()
                _pairs(stack[-1], values)
            case "BINPUT" | "LONG_BINPUT" | "PUT":
                memo[argument] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET" | "GET":
                stack.append(memo[argument])
            case "GLOBAL":
                stack.append(Name(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                module, name = stack[-2:]
                if not (isinstance(module, str) and isinstance(name, str)):
                    raise BrokenFile("The checkpoint refers to something without a name.", HINT)
                stack[-2:] = [Name(module, name)]
            case "BINPERSID":
                stack.append(storage(stack.pop()))
            case "REDUCE" | "NEWOBJ":
                what, arguments = stack[-2:]
                stack[-2:] = [_made(what, arguments)]
            case "BUILD":  # the state of an object: an OrderedDict's versions of its layers, for one
                stack.pop()
            case "POP":
                stack.pop()
            case "PROTO" | "FRAME":
                continue
            case "STOP":
                return stack.pop()
            case other:
                raise BrokenFile(f"The checkpoint holds an instruction ({other}) that no network needs.", HINT)
    raise BrokenFile("The checkpoint is cut off.", HINT)


def _made(what: Any, arguments: Any) -> Any:
    """What PyTorch makes of these arguments, or a placeholder."""
    if not isinstance(what, Name):
        raise BrokenFile("The checkpoint calls something that is no name.", HINT)
    match what.module, what.name:
        case "collections", "OrderedDict" | "defaultdict":
            return {}
        case "torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor":
            return _tensor(*arguments[:4])
        case "torch._utils", "_rebuild_parameter":
            return arguments[0]
        case "torch", "Size":
            return tuple(arguments[0])
    return Unknown(f"{what.module}.{what.name}")


def _tensor(values: NDArray[Any], offset: int, shape: Iterable[int], strides: Iterable[int]) -> NDArray[Any]:
    """A view of a storage, checked to lie within it."""
    shape, strides = tuple(shape), tuple(strides)
    numbers = (offset, *shape, *strides)
    if len(shape) != len(strides) or len(shape) > 32 or any(type(n) is not int or n < 0 for n in numbers):
        raise BrokenFile("A tensor of the checkpoint has an impossible shape.", HINT)
    if 0 in shape:
        return np.empty(shape, values.dtype)
    last = offset + sum((size - 1) * step for size, step in zip(shape, strides, strict=True))
    if last >= len(values) or math.prod(shape) > len(values):  # no tensor of a checkpoint repeats itself
        raise BrokenFile("A tensor of the checkpoint is larger than what the file holds of it.", HINT)
    item = values.dtype.itemsize
    return np.ndarray(shape, values.dtype, values.data, offset * item, tuple(step * item for step in strides))


def _pairs(target: Any, values: list[Any]) -> Any:
    """Keys and values put into a dictionary; what we only know the name of takes them and forgets them."""
    if isinstance(target, dict):
        keys = values[::2]
        if any(not isinstance(key, str | int | float | bool | None) for key in keys):
            raise BrokenFile("A dictionary of the checkpoint has keys that are no plain values.", HINT)
        target.update(zip(keys, values[1::2], strict=True))
    elif not isinstance(target, Unknown):
        raise BrokenFile("The checkpoint is damaged: items are given to what is no dictionary.", HINT)
    return target


def _extend(target: Any, values: list[Any]) -> None:
    if isinstance(target, list):
        target.extend(values)
    elif not isinstance(target, Unknown):
        raise BrokenFile("The checkpoint is damaged: items are given to what is no list.", HINT)


def _find(data: Bytes) -> tuple[str, dict[str, zipfile.ZipInfo]]:
    """The name of the member data.pkl (empty when there is none), and all members by name."""
    try:
        compression.check_directory(data[-compression.TAIL :].tobytes())
        with zipfile.ZipFile(_Reader(data)) as archive:
            names = {info.filename: info for info in archive.infolist()}
    except (zipfile.BadZipFile, ValueError, NotImplementedError, struct.error, OSError, BrokenFile):
        return "", {}
    if sum(info.file_size for info in names.values()) > len(data):  # members that share bytes, or are not there
        return "", {}
    found = [name for name in names if name == "data.pkl" or name.endswith("/data.pkl")]
    return (found[0] if len(found) == 1 else ""), names


def _member(data: Bytes, info: zipfile.ZipInfo) -> Bytes:
    """The bytes of a stored member, in place."""
    start = info.header_offset
    header = data[start : start + 30].tobytes()
    if len(header) < 30 or header[:4] != MAGIC or info.compress_type != zipfile.ZIP_STORED:
        raise BrokenFile(f"'{info.filename}' in the checkpoint is damaged or compressed.", HINT)
    name, extra = struct.unpack("<HH", header[26:30])
    start += 30 + name + extra
    if start + info.file_size > len(data):
        raise BrokenFile(f"'{info.filename}' in the checkpoint is cut off.", HINT)
    return data[start : start + info.file_size]


class _Reader(io.RawIOBase):
    """A file on bytes that are not copied, which is all that zipfile asks for."""

    def __init__(self, data: Bytes) -> None:
        self._data = data
        self._at = 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: len(self._data)}[whence]
        if base + offset < 0:
            raise ValueError("before the start of the file")
        self._at = base + offset
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        end = len(self._data) if size is None or size < 0 else self._at + size
        part = self._data[self._at : end].tobytes()
        self._at += len(part)
        return part
