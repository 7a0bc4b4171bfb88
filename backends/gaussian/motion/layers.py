# SPDX-License-Identifier: GPL-3.0-or-later
"""What the networks that move splats are made of, evaluated with NumPy: linear layers and positional encoding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...common.errors import BrokenFile

Floats = NDArray[np.float32]
Weights = Mapping[str, Floats]
"""A network's parameters by the names of its state dict."""


@dataclass(frozen=True, eq=False)
class Linear:
    """y = W x + b for rows x; weight (out, in), bias (out,)."""

    weight: Floats
    bias: Floats

    def __call__(self, rows: Floats) -> Floats:
        result = rows @ self.weight.T
        result += self.bias
        return result

    def with_constant(self, columns: slice, values: Floats) -> Linear:
        """The layer left when these columns of its input are always `values`: they move into the bias."""
        rest = np.ones(self.weight.shape[1], bool)
        rest[columns] = False
        return Linear(self.weight[:, rest], self.bias + self.weight[:, columns] @ values)


def linear(weights: Weights, name: str, inputs: int, outputs: int = 0) -> Linear:
    """The layer of that name, which takes `inputs` values and gives `outputs` (0: however many it has).

    Raises BrokenFile when it is missing, has another shape, or holds values that are not finite.
    """
    weight, bias = array(weights, f"{name}.weight", 2), array(weights, f"{name}.bias", 1)
    if weight.shape != (outputs or len(bias), inputs) or len(bias) != len(weight):
        shape = f"{inputs} to {outputs}" if outputs else f"{inputs} inputs"
        raise BrokenFile(f"The network's layer '{name}' has shape {weight.shape}, not {shape}.", "Export it again.")
    return Linear(weight, bias)


def array(weights: Weights, name: str, dimensions: int) -> Floats:
    """A parameter with that many dimensions, finite float32.  Raises BrokenFile otherwise."""
    values = weights.get(name)
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiu" or values.ndim != dimensions or not values.size:
        raise BrokenFile(f"The network lacks a sound '{name}'.", "It may belong to another program or version.")
    with np.errstate(over="ignore"):
        values = np.ascontiguousarray(values, np.float32)
    if not np.isfinite(values).all():
        raise BrokenFile(f"The network's '{name}' holds values that are not finite.", "Its training diverged; export it again.")
    return values


def relu(rows: Floats) -> Floats:
    """Rows with what is negative set to 0, in place."""
    return np.maximum(rows, 0, out=rows)


def octaves(values: Floats, count: int) -> Floats:
    """Positional encoding (…, D (1 + 2 count)): v, sin v, cos v, sin 2v, cos 2v, sin 4v, …"""
    parts = [values]
    for k in range(count):
        angle = values * np.float32(2**k)
        parts += [np.sin(angle), np.cos(angle)]
    return np.concatenate(parts, axis=-1)
