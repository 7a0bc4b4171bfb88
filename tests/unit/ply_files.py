# SPDX-License-Identifier: GPL-3.0-or-later
"""PLY files that tests pack themselves, number by number."""

import struct

import numpy as np

from vivant.backends.gaussian.formats import decode

BASIC = "x y z f_dc_0 f_dc_1 f_dc_2 opacity scale_0 scale_1 scale_2 rot_0 rot_1 rot_2 rot_3".split()


def columns(count=5, rest=0, seed=1):
    """Random columns by name, as a trainer stores them."""
    rng = np.random.default_rng(seed)
    names = BASIC + [f"f_rest_{i}" for i in range(rest)]
    return {name: rng.normal(size=count).astype(np.float32) for name in names}


def packed(table, form="binary_little_endian", types=None, comments=(), before=b"", rows_before=b"", claim=None, newline="\n"):
    """A whole PLY file of columns, packed number by number."""
    types = dict.fromkeys(table, "float") | (types or {})
    count = len(next(iter(table.values())))
    lines = ["ply", f"format {form} 1.0", *(f"comment {text}" for text in comments)]
    lines += [*before.decode().splitlines(), f"element vertex {count if claim is None else claim}"]
    lines += [f"property {types[name]} {name}" for name in table] + ["end_header", ""]
    codes = {"float": "f", "double": "d", "uchar": "B", "ushort": "H", "int": "i", "float32": "f"}
    body = b""
    for row in zip(*table.values(), strict=True):
        if form == "ascii":
            body += (" ".join(repr(number.item()) for number in row) + newline).encode()
        else:
            order = "<" if "little" in form else ">"
            body += b"".join(
                struct.pack(order + codes[types[name]], number.item()) for name, number in zip(table, row, strict=True)
            )
    return newline.join(lines).encode() + rows_before + body


def read(file, suffix=".ply"):
    return decode(np.frombuffer(file, np.uint8).copy(), suffix)


def stg_columns():
    rng = np.random.default_rng(4)
    names = ["trbf_center", "trbf_scale", *(f"motion_{i}" for i in range(9)), *(f"omega_{i}" for i in range(4))]
    return columns() | {name: rng.normal(size=5).astype(np.float32) for name in names}
