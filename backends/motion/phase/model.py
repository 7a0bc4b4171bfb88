# SPDX-License-Identifier: GPL-3.0-or-later
"""All that was learned of a skeleton's phases, and the .safetensors file it is kept in.  Needs NumPy alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...common import rotations as quaternions
from ...common.errors import BrokenFile, NeedsWeights, VivantError
from .. import library
from ..clip import Clip
from ..stand_in import UnknownBody
from .autoencoder import PartModel, latent
from .parts import Parts, named
from .periodic import Latent

Array = NDArray[np.floating]
KIND = "vivant phase 1"
MOVES = 0.01  # of a quaternion's component; joints that turn less in all clips are left out
TYPES: dict[str, np.dtype[Any]] = {"F16": np.dtype("<f2"), "F32": np.dtype("<f4")}


@dataclass(frozen=True, eq=False)
class PhaseModel:
    """The skeleton, the joints of each part by name, the autoencoder of each part that moves, the sampler's weights if trained.

    names (J,), parents (J,), offsets (J, 3): joints as in `Clip`.
    """

    names: tuple[str, ...]
    parents: tuple[int, ...]
    offsets: Array
    fps: float
    parts: Mapping[str, tuple[str, ...]]
    autoencoders: Mapping[str, PartModel]
    sampler: Mapping[str, Array]

    def latents(self, clip: Clip) -> dict[str, Latent]:
        """Sinusoids of each part at every frame, of clips of any frame rate.

        Raises VivantError for a clip of another skeleton or one too short.
        """
        if abs(clip.fps - self.fps) <= 1e-3:
            return {part: latent(model, clip) for part, model in self.autoencoders.items()}
        times = np.arange(len(clip)) * self.fps / clip.fps
        near = np.arange(int(times[-1]) + 1)
        at_rate = library.resample(clip, near * clip.fps / self.fps).replace(fps=self.fps)
        nearest = np.minimum(np.rint(times).astype(int), near[-1])
        found = {}
        for part, model in self.autoencoders.items():
            amplitude, frequency, offset, phase = (values[nearest] for values in vars(latent(model, at_rate)).values())
            phase = (phase + frequency * ((times - nearest) / self.fps)[:, None]) % 1
            found[part] = Latent(amplitude, frequency, offset, phase)
        return found

    def parts_of(self, clip: Clip) -> Parts:
        """The parts as joints of a clip.  Raises VivantError where it lacks one."""
        return named(clip.names, {part: self.parts[part] for part in self.autoencoders})


def moving(clips: Sequence[Clip]) -> list[str]:
    """The root and the joints that ever turn in clips of one skeleton."""
    turns = np.max([np.ptp(quaternions.continuous(clip.rotations), axis=0).max(axis=-1) for clip in clips], axis=0) > MOVES
    return [name for joint, name in enumerate(clips[0].names) if turns[joint] or clips[0].parents[joint] < 0]


def at_rest(clip: Clip) -> Array:
    """World rotations (J, 4) of the rest pose."""
    if clip.rest is None:
        return np.broadcast_to(quaternions.IDENTITY, (len(clip.names), 4))
    still = clip.replace(rotations=np.asarray(clip.rest, np.float64)[None], root=np.zeros((1, 3)), translations={})
    return still.forward()[1][0]


def reduced(clip: Clip, names: Sequence[str]) -> Clip:
    """The clip on some of its joints, the root among them; what lies between them counts as rigid.

    Rotations are since the rest pose, so how a rig's bones are rolled does not count.
    Raises UnknownBody when the clip lacks one.
    """
    every = list(clip.names)
    if absent := [name for name in names if name not in every]:
        raise UnknownBody(
            f"The clip has no joint “{absent[0]}”, which the phase model knows.", "Train one on this rig's clips."
        )
    positions, world = clip.forward()
    world = quaternions.multiply(world, quaternions.conjugate(at_rest(clip)))
    kept = [every.index(name) for name in names]
    rotations, parents, offsets = world[:, kept].copy(), [], np.zeros((len(kept), 3))
    for row, joint in enumerate(kept):
        above = int(clip.parents[joint])
        while above >= 0 and above not in kept:
            above = int(clip.parents[above])
        parents.append(kept.index(above) if above >= 0 else -1)
        if above >= 0:
            back = quaternions.conjugate(world[:, above])
            rotations[:, row] = quaternions.multiply(back, world[:, joint])
            offsets[row] = np.median(quaternions.rotate(back, positions[:, joint] - positions[:, above]), axis=0)
    return Clip(tuple(names), np.array(parents), offsets, clip.fps, quaternions.continuous(rotations), clip.root)


def written(clip: Clip, small: Clip) -> Clip:
    """The clip with the joints of a reduced one, and the root's place, as that has them; inverse of `reduced`."""
    rows = {name: row for row, name in enumerate(small.names)}
    world, rest = small.forward()[1].astype(np.float64), at_rest(clip)
    local = clip.rotations.astype(np.float64)
    turned = np.empty_like(local)
    for joint, (name, parent) in enumerate(zip(clip.names, clip.parents.tolist(), strict=True)):
        if name in rows:
            own = quaternions.multiply(world[:, rows[name]], rest[joint])
            local[:, joint] = own if parent < 0 else quaternions.multiply(quaternions.conjugate(turned[:, parent]), own)
        turned[:, joint] = local[:, joint] if parent < 0 else quaternions.multiply(turned[:, parent], local[:, joint])
    signs = np.where(np.sum(local[:1] * clip.rotations[:1], axis=-1, keepdims=True) < 0, -1, 1)
    return clip.replace(rotations=quaternions.continuous(local * signs), root=small.root)


def save(model: PhaseModel, path: Path) -> None:
    """Write a model; matrices in half precision.  Raises VivantError for a place that cannot be written."""
    tensors = {f"sampler/{name}": value for name, value in model.sampler.items()}
    for part, entry in model.autoencoders.items():
        tensors |= {f"{part}/{name}": value for name, value in entry.weights.items()}
    about = {
        "names": model.names,
        "parents": model.parents,
        "offsets": np.asarray(model.offsets, float).tolist(),
        "fps": model.fps,
        "parts": dict(model.parts),
        "autoencoders": {part: [entry.joints, entry.scale] for part, entry in model.autoencoders.items()},
    }
    header: dict[str, object] = {"__metadata__": {"kind": KIND, "model": json.dumps(about)}}
    data = b""
    for name, value in sorted(tensors.items()):
        kind = "F16" if value.ndim > 1 else "F32"
        raw = np.ascontiguousarray(value, TYPES[kind]).tobytes()
        header[name] = {"dtype": kind, "shape": list(value.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    partial = path.with_name(f"{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(len(text).to_bytes(8, "little") + text + data)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise VivantError(f"{path.name} cannot be written: {error.strerror}.", "Choose another folder.") from error


def load(path: Path) -> PhaseModel:
    """The model of a file by `save`.  Raises NeedsWeights when there is none, BrokenFile when it is not such a file."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise NeedsWeights(
            f"The weights of the phase model are missing: {path}.", "Train one, or name another file."
        ) from error
    try:
        size = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + size])
        metadata = header.pop("__metadata__")
        if metadata["kind"] != KIND:
            raise ValueError("it is of another kind")
        about = json.loads(metadata["model"])
        tensors = {name: _tensor(data[8 + size :], entry) for name, entry in header.items()}
        autoencoders = {
            part: PartModel(tuple(joints), scale, about["fps"], _below(tensors, part))
            for part, (joints, scale) in about["autoencoders"].items()
        }
        parts = {part: tuple(joints) for part, joints in about["parts"].items()}
        names, parents = tuple(about["names"]), tuple(about["parents"])
        offsets = np.array(about["offsets"])
        return PhaseModel(names, parents, offsets, about["fps"], parts, autoencoders, _below(tensors, "sampler"))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BrokenFile(f"{path.name} does not hold a phase model ({error}).", "Train it anew.") from error


def _tensor(data: bytes, entry: Mapping[str, Any]) -> Array:
    begin, end = (int(offset) for offset in entry["data_offsets"])
    shape = [int(length) for length in entry["shape"]]
    return np.frombuffer(data[begin:end], TYPES[str(entry["dtype"])]).reshape(shape).astype(np.float32)


def _below(tensors: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    return {name.partition("/")[2]: value for name, value in tensors.items() if name.partition("/")[0] == prefix}
