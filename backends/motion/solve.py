# SPDX-License-Identifier: GPL-3.0-or-later
"""In-betweening of a clip: runs a solver, and says what it filled and what the user should know."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..common import rotations as quaternions
from ..common.errors import Cancelled, VivantError
from . import interpolate, optimise, retrieval, spline, trained
from .clip import Clip
from .phase import solver as phases

Array = NDArray[np.floating]
Mask = NDArray[np.bool_]
Fill = Callable[..., tuple[Clip, list[str]]]

AMBIGUOUS = 120.0  # degrees across a gap


@dataclass(frozen=True)
class Solver:
    """One way to fill gaps: its name, what it does and what it needs in a line each.

    fill(clip, keys (F, J), library, seed, **options) gives the clip with all gaps filled, and sentences for the user.  Joints
    without keys are at rest in the clip; other values without a key may be anything.  It raises VivantError where it cannot
    serve.  options: the names of those it takes; serves(clip, library, **options): whether "auto" should try it;
    engine: it runs where PyTorch is, which in Blender is the engine.
    """

    name: str
    does: str
    needs: str
    fill: Fill = field(repr=False)
    options: tuple[str, ...] = ()
    serves: Callable[..., bool] = field(default=lambda clip, library: True, repr=False)
    engine: bool = False


SOLVERS = {
    solver.name: solver
    for solver in (
        Solver(
            "spline", "A velocity-matched cubic through the keys", "", lambda c, k, library, seed: (interpolate.cubic(c, k), [])
        ),
        Solver("slerp", "Constant velocity from key to key", "", lambda c, k, library, seed: (interpolate.linear(c, k), [])),
        Solver(
            "retrieval",
            "The nearest motions of a library, bent onto the keys",
            "a library of clips of the same skeleton",
            retrieval.retrieve,
            serves=lambda clip, library: bool(library),
        ),
        Solver(
            "optimise",
            "The in-betweens of a library, else of the spline, without jerks, on feet that stand and do not sink",
            "",
            optimise.solve_optimise,
            ("contacts", "ground"),
        ),
        Solver(
            "model",
            "A network trained on human motion corrects the spline; in long gaps seeds give other takes",
            "the engine, and the skeleton of a human",
            trained.fill,
            ("weights", "human", "feet"),
            lambda clip, library, **options: trained.runs_here() and trained.serves(clip, **options),
            engine=True,
        ),
        Solver(
            "phase",
            "Walks through the gap part by part, led by their phases; style and sliders for each part",
            "the skeleton of a human, or a phase model of its own",
            phases.fill,
            ("phase_model", "style", "amplitude", "tempo", "shift", "human"),
        ),
    )
}
AUTO = "auto"
ORDER = ("model", "retrieval", "spline")  # of "auto": the first that serves


def solvers() -> tuple[Solver, ...]:
    """All solvers that `inbetween` knows by name."""
    return tuple(SOLVERS.values())


@dataclass(frozen=True)
class Report:
    """What an in-between did.

    solver: the one that really ran; gaps: frame ranges filled; warnings: sentences for the user; key_error: largest change of
    a keyed value, which is 0; fallback: why none of those before it in the order did, else ""; said: those of the warnings that
    the solver itself gave.
    """

    solver: str
    gaps: int
    warnings: tuple[str, ...]
    key_error: float
    fallback: str = ""
    said: tuple[str, ...] = ()

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Report:
        """The report whose fields went through JSON."""
        return cls(**{**values, "warnings": tuple(values["warnings"]), "said": tuple(values["said"])})


def needs_engine(solver: str, clip: Clip, **options: Any) -> bool:
    """Whether `solver`, or what "auto" would take first, cannot run in this Python and would in one with PyTorch.

    Not so where it would not serve this clip there either: why, it says here as well.
    """
    name = ORDER[0] if solver == AUTO else solver
    if name not in SOLVERS or not SOLVERS[name].engine or trained.runs_here():
        return False
    return trained.serves(clip, **_options(name, options))


def inbetween(
    clip: Clip, keys: Mask, solver: str = AUTO, library: Sequence[Clip] = (), seed: int = 0, **options: Any
) -> tuple[Clip, Report]:
    """Fill whatever is not keyed; keyed values come back bit for bit.

    keys: bool (F,) of keyed frames or (F, J) of keyed joints; translations (the root's is joint 0's) are keyed where their
    joint is.  Values elsewhere are ignored.  Frames outside a joint's keys hold the nearest key, a joint without keys
    its rest pose.  solver: a name of `solvers()`, or "auto": the trained model for a human where it can run, else retrieval
    where there is a `library` (clips of the same joints), else the spline.  Where a solver cannot serve, what "auto" would take
    next takes over, and the report says why.  `seed` is for solvers that choose: "retrieval" and "model".
    options go to the solvers that have them: for "model" `weights`, a file, and `feet`: True for feet that slide less;
    for "phase" `style`, `amplitude`, `tempo`, `shift`, by part, and `phase_model`, a file; for both `human`, canonical joint ->
    name.
    Raises VivantError for an unknown solver or option, keys of another shape or keyed values that are not finite.
    """
    if solver not in (AUTO, *SOLVERS):
        raise VivantError(f"There is no in-between solver '{solver}'.", f"Choose one of: {', '.join((AUTO, *SOLVERS))}.")
    known = {name for entry in SOLVERS.values() for name in entry.options}
    if strange := sorted(options.keys() - known):
        raise VivantError(f"No in-between solver has an option '{strange[0]}'.", f"Choose of: {', '.join(sorted(known))}.")
    shape = clip.rotations.shape[:2]
    keys = np.asarray(keys, bool)
    if keys.shape not in (shape, shape[:1]):
        raise VivantError(f"Keys for this clip have the shape {shape[:1]} or {shape}, not {keys.shape}.")
    keys = np.broadcast_to(keys[:, None] if keys.ndim == 1 else keys, shape)
    moving = {0: clip.root, **clip.translations}
    if not np.all(np.isfinite(clip.rotations[keys])) or not all(np.all(np.isfinite(moving[j][keys[:, j]])) for j in moving):
        raise VivantError("A keyed value is not a finite number.", "Key that frame anew, or leave it out.")

    keyed = keys.any(axis=0)
    rest = quaternions.IDENTITY if clip.rest is None else clip.rest
    moved = {
        joint: values if keyed[joint] else np.broadcast_to(clip.offsets[joint], values.shape)
        for joint, values in moving.items()
    }
    given = clip.replace(
        rotations=np.where(keyed[:, None], clip.rotations, rest).astype(clip.rotations.dtype),
        root=moved.pop(0),
        translations=moved,
    )
    asked = () if solver == AUTO else (solver,)
    order = (name for name in ORDER if name not in asked and SOLVERS[name].serves(clip, library, **_options(name, options)))
    refusals: list[str] = []
    for ran in itertools.chain(asked, order):
        try:
            filled, said = SOLVERS[ran].fill(given, keys, library, seed, **_options(ran, options))
            break
        except Cancelled:
            raise
        except VivantError as error:
            if ran == ORDER[-1]:
                raise
            refusals.append(str(error))
    filled = _settled(filled, given, keys | ~keyed)

    changes = [np.abs(filled.rotations - clip.rotations)[keys], np.abs(filled.root - clip.root)[keys[:, 0]]]
    changes += [np.abs(values - clip.translations[joint])[keys[:, joint]] for joint, values in filled.translations.items()]
    gaps = spline.find_gaps(keys)
    ranges = set(zip(gaps.start.tolist(), gaps.end.tolist(), strict=True))
    warnings = (*said, *_warnings(clip, keys, gaps))
    key_error = float(max(np.max(change, initial=0) for change in changes))
    return filled, Report(ran, len(ranges), warnings, key_error, " ".join(refusals), tuple(said))


def _options(solver: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the options that the solver takes."""
    return {name: options[name] for name in SOLVERS[solver].options if name in options}


def _settled(filled: Clip, given: Clip, fixed: Mask) -> Clip:
    """What a solver filled in, in the given types, with the given values wherever they are fixed (F, J)."""

    def settled(new: Array, old: Array, where: Mask) -> Array:
        return np.where(where[..., None], old, new.astype(old.dtype))

    return given.replace(
        rotations=settled(filled.rotations, given.rotations, fixed),
        root=settled(filled.root, given.root, fixed[:, 0]),
        translations={
            joint: settled(filled.translations[joint], old, fixed[:, joint]) for joint, old in given.translations.items()
        },
    )


def _warnings(clip: Clip, keys: Mask, gaps: spline.Gaps) -> Iterator[str]:
    names = [clip.names[column] for column in gaps.column]
    start, end = (quaternions.normalise(clip.rotations[frame, gaps.column]) for frame in (gaps.start, gaps.end))
    turn = np.degrees(np.linalg.norm(quaternions.difference(start, end), axis=-1))
    if np.any(turn > AMBIGUOUS):
        most = int(np.argmax(turn))
        yield (
            f"{np.sum(turn > AMBIGUOUS)} turns between two keys exceed {AMBIGUOUS:.0f}° and went the short way, which "
            f"may be wrong (most: {names[most]}, {turn[most]:.0f}° from frame {gaps.start[most]} to {gaps.end[most]}); "
            "key a pose between."
        )
    opposed = np.nonzero(np.sum(start * end, axis=-1) < 0)[0]
    if len(opposed):
        first = opposed[np.argmin(gaps.end[opposed])]
        yield (
            f"{len(opposed)} keys at the end of a gap have a quaternion of opposite sign (first: "
            f"{names[first]}, frame {gaps.end[first]}); every frame is right, but blending its components "
            "with those of the frame before is not."
        )
    last, following = spline.neighbours(keys)
    keyed = keys.any(axis=0)
    if np.any(((last < 0) | (following == len(keys))) & keyed):
        yield "Frames before the first key or after the last one hold that key."
    unkeyed = [name for name, has in zip(clip.names, keyed, strict=True) if not has]
    if unkeyed:
        yield f"{len(unkeyed)} joints without a key keep their rest pose (first: {unkeyed[0]})."
