# SPDX-License-Identifier: GPL-3.0-or-later
"""In-betweening of an armature: from keyed channels to a solver, and from what it answers to a take."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import bpy
import numpy as np
from numpy.typing import NDArray

from ..backends.common.errors import VivantError
from ..backends.motion import solve
from ..backends.motion.clip import Clip
from . import actions, beside, generated, libraries, motions, planted, rigs, skeletons, takes
from .motions import Question
from .tracks import New, Track, bent, scope_of, splined, tracks_of

Array = NDArray[np.floating]
Answer = tuple[Clip, solve.Report]

SPLINE = "spline"  # the solver that needs no skeleton


@dataclass(frozen=True)
class Report:
    """What an in-between of an armature did.

    armature: as it is called by now; take: the action that holds the result and that the armature now shows; solver: the one
    that really ran; bones: those filled; frames: first and last frame that was filled; keys: how many were generated; warnings:
    sentences for the user; key_error: largest change of a key of the user's, which is 0; fallback: why it was not the solver
    asked for, else "".
    """

    armature: bpy.types.Object
    take: bpy.types.Action
    solver: str
    bones: tuple[str, ...]
    frames: tuple[int, int]
    keys: int
    warnings: tuple[str, ...]
    key_error: float
    fallback: str = ""


@dataclass(frozen=True)
class Wish:
    """What is to be filled, by which solver and into what; see `inbetween_object`.  now: the current frame."""

    bones: Sequence[str] | None
    scope: str
    frame_range: tuple[float, float] | None
    now: float
    solver: str = SPLINE
    seed: int = 0
    output: str = generated.BAKED
    another: bool = False
    library: Sequence[Clip] = ()


def inbetween_object(
    armature: bpy.types.Object,
    bones: Iterable[str] | None = None,
    scope: str = "GAP",
    frame_range: tuple[float, float] | None = None,
    solver: str = SPLINE,
    seed: int = 0,
    output: str = generated.BAKED,
    another: bool = False,
    library: Sequence[Clip] = (),
    ask: Callable[[Question], Answer] | None = None,
) -> Report:
    """Fill gaps between the keys of an armature's bones (names; all when None) in a take, and show that.

    scope "GAP": the gap around the current frame, on a key the one after it, else the one before;
    "RANGE": every gap whose two keys lie in `frame_range` (the scene's when None).  A gap is two frames or
    longer between neighbouring keys of a *curve*, so partial keys count: a breakdown on one hand splits
    that hand's gap and nobody else's.  The curves of a rotation are filled as a rotation where they are
    keyed together, else one by one.  Only channels that have keys, and are neither locked, muted nor driven, get
    any; those that stand still take part inside the gaps of those that move.  Velocities at both ends are
    those of the motion outside, or, where it is stepped or has curve modifiers, of the neighbouring keys.

    solver: "spline" fills each channel by itself (see `backends.motion.spline`); any other of `solve.solvers()`, and "auto",
    fills the evaluated pose, and what it makes is bent onto the keys of every channel.  Their library is the file's actions
    for these bones (see `libraries`) and the clips of `library`.  `seed` is for solvers that choose.  `ask` answers in place of
    `solve.inbetween`, in another process for example.

    The user's action is kept; the take is a copy with GENERATED keys inside the gaps: on every whole frame ("BAKED"), or
    as few as stay within 0.5° and 2 mm of it ("SPARSE", see `backends.motion.sparse`).  While a take is shown, a further call
    adds to it, and fills anew what it had filled itself; `another` makes one more take from the user's action.
    Raises VivantError, having changed nothing, when there is nothing to fill or no right to.
    """
    bones = None if bones is None else list(bones)
    now = bpy.context.scene.frame_current_final
    steps = inbetweening(armature, Wish(bones, scope, frame_range, now, solver, seed, output, another, library))
    answer = None
    while True:
        try:
            step = steps.send(answer)
        except StopIteration as end:
            report: Report = end.value
            return report
        answer = (ask or answered)(step) if isinstance(step, Question) else None


def answered(question: Question) -> Answer:
    """What the solver makes of a question; touches nothing of Blender."""
    return solve.inbetween(question.clip, question.keys, question.solver, question.library, question.seed, **question.options)


def inbetweening(armature: bpy.types.Object, wish: Wish) -> Generator[str | Question, Answer | None, Report]:
    """`inbetween_object` in steps: yields what it does, and a Question to which it must be sent the answer.

    While it waits for the answer the user may do anything: the armature is looked up again, and its keys compared.  To close
    it at any step changes nothing.
    """
    if wish.solver not in (SPLINE, solve.AUTO, *solve.SOLVERS):
        names = ", ".join((solve.AUTO, *solve.SOLVERS))
        raise VivantError(f"There is no in-between solver '{wish.solver}'.", f"Choose one of: {names}.")
    if wish.output not in (generated.BAKED, generated.SPARSE):
        raise VivantError(f"There is no output '{wish.output}'.", "Use 'BAKED' or 'SPARSE'.")
    found = _find(armature, wish)
    new, warnings = splined(found.tracks)
    yield "reading the keys"
    ran, fallback, notes = SPLINE, "", ()
    if wish.solver != SPLINE:
        known = yield from motions.around(armature, found.action, found.slot, found.tracks, new)
        library = yield from libraries.library_of(armature, known.clip, found.tracks, wish.library)
        name, identity, stamps = armature.name, armature.session_uid, [track.stamp for track in found.tracks]
        answer = yield Question(known.clip, known.keys, wish.solver, library, wish.seed, _options(armature, known))
        assert answer is not None
        filled, report = answer
        ran, fallback, notes = report.solver, report.fallback, report.said
        armature = _again(name, identity)
        found = _find(armature, wish)
        if stamps != [track.stamp for track in found.tracks]:
            raise VivantError("Keys at the gap changed while the in-betweens were made.", "Run it again.")
        if ran != SPLINE:
            solved = yield from motions.channels(armature, found.action, found.slot, known, filled, found.tracks, new)
            whole, said = bent([found.tracks[index] for index in solved], list(solved.values()))
            for index, keys in zip(solved, whole, strict=True):
                new[index] = keys
            warnings = {**warnings, **said}
            own = {found.tracks[index].bone for index in solved}
            if not own:
                ran, fallback = SPLINE, "What is keyed there does not move the pose."
            elif left := list(dict.fromkeys(track.bone for track in found.tracks if track.bone not in own)):
                warnings["The spline filled what does not move the pose"] = left
    said = [*notes, *_sentences(warnings, found.left_out)]
    return (yield from _writing(armature, wish, found, new, said, ran, fallback))


class _Found(NamedTuple):
    """What is to be filled: the action and slot it is read from, the tracks, and bones of which channels were left out."""

    action: bpy.types.Action
    slot: bpy.types.ActionSlot
    tracks: list[Track]
    left_out: dict[str, list[str]]


def _find(armature: bpy.types.Object, wish: Wish) -> _Found:
    rigs.pose_of(armature)
    action, slot = actions.animation_of(armature)
    if wish.another:
        action = takes.original_of(armature) or action
        slot = next((own for own in action.slots if own.handle == slot.handle), slot)
    curves = actions.curves_of(action, slot)
    groups, left_out = rigs.keyed_groups(armature, wish.bones, curves)
    if not groups:
        some = "No bone" if wish.bones is None else "None of the chosen bones"
        if left_out:
            why = " or ".join(left_out)
            raise VivantError(f"{some} of '{armature.name}' has keys that are not {why}.", "Free a channel.")
        raise VivantError(
            f"{some} of '{armature.name}' has keys in the action '{action.name}'.", "Key at least two poses first."
        )
    scope = scope_of(wish.scope, wish.frame_range, wish.now)
    return _Found(action, slot, tracks_of(groups, takes.fills_of(action, slot), *scope), left_out)


def _again(name: str, identity: int) -> bpy.types.Object:
    """The armature, whatever it is called by now."""
    armature = next((thing for thing in bpy.data.objects if thing.session_uid == identity), None)
    if armature is None:
        raise VivantError(f"'{name}' was removed while its in-betweens were made.", "Nothing else has changed.")
    return armature


def _options(armature: bpy.types.Object, known: motions.Around) -> dict[str, Any]:
    """What solvers take beside the clip, of those options that some have."""
    taken = {name for solver in solve.solvers() for name in solver.options}
    options: dict[str, Any] = {}
    if "human" in taken:
        with contextlib.suppress(VivantError):  # no human, or none whose pose can be read
            options["human"] = skeletons.posed_human_of(armature)
    painted = planted.contacts_of(*actions.animation_of(armature))
    if "contacts" in taken and painted:
        last = len(known.clip) - 1
        options["contacts"] = {
            bone: [(max(start, 0), min(end, last)) for start, end in moved if start <= last and end >= 0]
            for bone, ranges in planted.of_joints(armature, painted, known.clip.names).items()
            for moved in [[(start - known.first, end - known.first) for start, end in ranges]]
        }
    return options


def _writing(
    armature: bpy.types.Object,
    wish: Wish,
    found: _Found,
    new: list[New],
    warnings: Sequence[str],
    solver: str,
    fallback: str,
) -> Generator[str, None, Report]:
    """The take with these new keys, and what is to be said of it; to close it at any step changes nothing."""
    tracks = found.tracks
    yield "writing"
    parts = _parts(tracks, new, wish.output, found.action, found.slot)
    yield "writing"
    curves = actions.curves_of(found.action, found.slot)
    users = [(channel, gaps, _keys_outside(curves[channel], gaps)) for channel, gaps in _filled_channels(tracks)]
    with takes.opened(armature, wish.another) as take:
        count = yield from beside.told("writing", generated.adding(armature, take, parts))
        error = _key_error(users, actions.curves_of(take, takes.slot_of(armature, take)))
    report = Report(
        armature,
        take,
        solver,
        tuple(dict.fromkeys(track.bone for track in tracks)),
        (
            min(int(track.frames[track.missing][0]) for track in tracks),
            max(int(track.frames[track.missing][-1]) for track in tracks),
        ),
        count,
        tuple(warnings),
        error,
        fallback,
    )
    made = takes.Made(
        solver, wish.seed, wish.scope, report.frames, report.bones, wish.output, count, report.key_error, fallback
    )
    takes.note(take, made=json.dumps(asdict(made)))
    take.update_tag()
    return report


def _parts(
    tracks: list[Track], filled: list[New], output: str, action: bpy.types.Action, slot: bpy.types.ActionSlot
) -> list[generated.Part]:
    """What was solved, gap by gap, with what the curves said before."""
    wanted = {
        (curve.data_path, curve.array_index): times.tolist()
        for track, (times, _, _) in zip(tracks, filled, strict=True)
        for curve in track.curves
    }
    base = generated.before(action, slot, wanted)
    parts = []
    for track, (times, values, holds) in zip(tracks, filled, strict=True):
        names = [takes.curve_name(curve) for curve in track.curves]
        earlier = np.column_stack([base[curve.data_path, curve.array_index] for curve in track.curves])
        for gap in track.gaps:
            own = actions.inside(times, [gap])
            parts.append(
                generated.Part(
                    track.bone,
                    track.mode,
                    output,
                    names,
                    gap,
                    times[own].tolist(),
                    values[own].tolist(),
                    earlier[own].tolist(),
                    [time for time in holds if gap[0] < time < gap[1]],
                )
            )
    return parts


def _filled_channels(tracks: list[Track]) -> list[tuple[tuple[str, int], tuple[actions.Gap, ...]]]:
    return [((curve.data_path, curve.array_index), track.gaps) for track in tracks for curve in track.curves]


def _keys_outside(curve: bpy.types.FCurve, gaps: tuple[actions.Gap, ...]) -> Array:
    points = actions.read_keys(curve, ["co"])["co"].astype(np.float64)
    return points[~actions.inside(points[:, 0], gaps)]


def _key_error(
    users: list[tuple[tuple[str, int], tuple[actions.Gap, ...], Array]], curves: Mapping[tuple[str, int], bpy.types.FCurve]
) -> float:
    """How far the keys around the gaps have moved, read back from the curves; infinite when one is missing."""
    error = 0.0
    for channel, gaps, wanted in users:
        found = _keys_outside(curves[channel], gaps)
        error = max(error, np.max(np.abs(found - wanted), initial=0) if found.shape == wanted.shape else np.inf)
    return float(error)


def _sentences(warnings: Mapping[str, list[str]], left_out: Mapping[str, list[str]]) -> list[str]:
    left = {f"Some channels are {reason} and were left as they are": names for reason, names in left_out.items()}
    return [f"{sentence}: {_listed(names)}." for sentence, names in {**warnings, **left}.items()]


def _listed(names: list[str], most: int = 3) -> str:
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
