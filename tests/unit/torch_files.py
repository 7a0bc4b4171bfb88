# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes checkpoints as torch.save does, without PyTorch, for tests: a zip of stored members around a pickle."""

import io
import pickle
import zipfile

import numpy as np

_KINDS = {"f8": "DoubleStorage", "f4": "FloatStorage", "f2": "HalfStorage", "i8": "LongStorage", "i4": "IntStorage",
          "i2": "ShortStorage", "i1": "CharStorage", "u1": "ByteStorage", "b1": "BoolStorage"}  # fmt: skip


class Named:
    """Pickled as a reference to something in another module, and as a call of it where there are arguments."""

    def __init__(self, module, name, *arguments):
        self.module, self.name, self.arguments = module, name, arguments


class _Storage:
    def __init__(self, array, key):
        self.array, self.key = array, key


class _Pickler(pickle._Pickler):
    """Python's own pickler in Python, taught to write names of modules that are not installed."""

    def __init__(self, file, protocol):
        super().__init__(file, protocol)
        self.arrays = []

    def persistent_id(self, value):
        if isinstance(value, _Storage):
            kind = Named("torch", _KINDS[value.array.dtype.str[1:]])
            return ("storage", kind, value.key, "cpu", value.array.size)
        return None

    def save(self, value, save_persistent_id=True):
        if isinstance(value, Named):
            self.write(pickle.GLOBAL + f"{value.module}\n{value.name}\n".encode())
            if value.arguments:
                self.save(tuple(value.arguments))
                self.write(pickle.REDUCE)
        elif isinstance(value, np.ndarray):
            array = np.ascontiguousarray(value)
            self.arrays.append(array)
            strides = tuple(step // array.itemsize for step in array.strides)
            storage = _Storage(array, str(len(self.arrays) - 1))
            self.save(Named("torch._utils", "_rebuild_tensor_v2", storage, 0, array.shape, strides, False, {}))
        else:
            super().save(value, save_persistent_id)


def saved(value, protocol=2, folder="archive"):
    """Bytes of a checkpoint that holds a value; arrays in it become tensors."""
    program = io.BytesIO()
    pickler = _Pickler(program, protocol)
    pickler.dump(value)
    return archive(
        {"data.pkl": program.getvalue(), "version": b"3\n"} | {f"data/{i}": a.tobytes() for i, a in enumerate(pickler.arrays)},
        folder,
    )


def archive(members, folder="archive"):
    """Bytes of a zip with these members in a folder."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as file:
        for name, content in members.items():
            file.writestr(f"{folder}/{name}", content)
    return out.getvalue()
