# SPDX-License-Identifier: GPL-3.0-or-later
"""Operators that work in slices of time, and those that fill gaps, with the solver in a thread or in the engine."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import replace
from typing import Any, Generic, Protocol, TypeVar

import bpy

from .. import preferences
from ..backends.common.errors import Cancelled, EngineFailed, NeedsEngine, VivantError
from ..backends.motion import job as engine_job
from ..backends.motion import solve, trained
from ..engine.jobs import Job
from ..engine.progress import State
from ..scene import generated, judged
from ..scene.inbetween import Answer, Question, Report, Wish, answered, inbetweening
from . import job as jobs

Result = TypeVar("Result")

GLANCE = 0.05  # seconds of Blender's own work at a time, and a step more; what is done by then opens no window
PAUSE = 0.02  # seconds between two looks, for Blender to draw and the user to press Esc


class Asked(Protocol):
    """A question that somebody else works on; its own progress and warnings are those of `engine.jobs.Job`."""

    progress: State

    def wait(self, timeout: float | None = None) -> bool: ...
    def answer(self) -> Answer: ...
    def cancel(self) -> None: ...
    def kill(self) -> None: ...


def ask(question: Question) -> Asked:
    """Let the engine answer where the solver needs it, else a thread; weights of the user's own go before ours."""
    if weights := preferences.own_weights(trained.WEIGHTS):
        question = replace(question, options={"weights": weights, **question.options})
    if solve.needs_engine(question.solver, question.clip, **question.options):
        with contextlib.suppress(NeedsEngine):  # the solver says so itself, and another one takes over
            return InEngine(question)
    return InThread(question)


class InEngine:
    """A question that is a job of the engine; when that breaks down, the solvers that need none answer."""

    def __init__(self, question: Question) -> None:
        self._question = question
        request = engine_job.request(
            question.clip, question.keys, question.solver, question.library, question.seed, **question.options
        )
        self._job: Job = jobs.engine_for_networks().submit("motion.inbetween", *request)
        self.cancel, self.kill = self._job.cancel, self._job.kill

    @property
    def progress(self) -> State:
        return self._job.progress

    def wait(self, timeout: float | None = None) -> bool:
        return self._job.wait(timeout) if timeout != 0 else self._job.poll()

    def answer(self) -> Answer:
        try:
            return engine_job.answer(*self._job.result())
        except EngineFailed as error:
            filled, report = answered(self._question)
            return filled, replace(report, fallback=str(error))


class InThread:
    """A question that a thread works on; when nobody wants the answer any more it ends unheard."""

    progress = State(note="solving")

    def __init__(self, question: Question) -> None:
        self._result: Answer | BaseException = Cancelled("The solver was stopped.")
        self._thread = threading.Thread(target=self._run, args=(question,), name="vivant solver", daemon=True)
        self._thread.start()

    def _run(self, question: Question) -> None:
        try:
            self._result = answered(question)
        except BaseException as error:
            self._result = error

    def wait(self, timeout: float | None = None) -> bool:
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def answer(self) -> Answer:
        if isinstance(self._result, BaseException):
            raise self._result
        return self._result

    def cancel(self) -> None:
        """Nothing stops a thread."""

    kill = cancel


class Filling(Generic[Result]):
    """Work in steps, to its operator a job (see `engine.jobs.Job`): `poll` it from a timer, then take the `result`.

    Steps yield what they do, and questions, to which they get the answer; to close them changes nothing.  Those that yield
    their result have written it, and what follows may be left out.
    """

    def __init__(
        self, steps: Generator[str | Question | Result, Answer | None, Result], ask: Callable[[Question], Asked] = ask
    ) -> None:
        self.progress = State()
        self.warnings: list[str] = []
        self.done = False
        self._steps, self._ask = steps, ask
        self._asked: Asked | None = None
        self._result: Result | VivantError | None = None

    @property
    def holds(self) -> bool:
        """Whether Blender's data must stay as they are until the next poll."""
        return not self.done and self._asked is None

    def poll(self) -> bool:
        """Work for a moment, unless somebody else does; True when all is done."""
        return self._go_on(GLANCE)

    def wait(self, timeout: float | None = None) -> bool:
        """Work until all is done or `timeout` seconds are over; True when it is."""
        return self._go_on(timeout, waiting=True)

    def _go_on(self, timeout: float | None, waiting: bool = False) -> bool:
        until = None if timeout is None else time.monotonic() + timeout
        while not self.done and (until is None or time.monotonic() < until):
            answer = None
            if self._asked:
                left = None if until is None else max(until - time.monotonic(), 0)
                if not self._asked.wait(left if waiting else 0):
                    self.progress = self._asked.progress
                    break
            try:
                if self._asked:
                    answer, self._asked = self._asked.answer(), None
                step = self._steps.send(answer)
                if isinstance(step, Question):
                    self._asked = self._ask(step)
                elif isinstance(step, str):
                    self.progress = State(note=step)
                else:
                    self._result = step
            except StopIteration as end:
                self._end(end.value)
            except VivantError as error:
                self._end(error)
        return self.done

    def cancel(self) -> None:
        """Stop; nothing has changed, unless the result is written already: then it is the result."""
        self.kill()

    def kill(self) -> None:
        """The same."""
        if not self.done:
            if self._asked:
                self._asked.kill()
            self._steps.close()
            self._end(self._result or Cancelled("It was stopped; nothing has changed."))

    def result(self) -> Result:
        """What was done.  Raises VivantError, having changed nothing."""
        self.wait()
        if isinstance(self._result, VivantError):
            raise self._result
        assert self._result is not None
        return self._result

    def _end(self, result: Result | VivantError) -> None:
        self._result, self.done = result, True


class InSlices(jobs.JobOperator):
    """Mixin of an operator whose job is a `Filling`; see `job.JobOperator`."""

    tick = PAUSE

    def modal(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        result: set[str] = super().modal(context, event)
        # What the user does while poses are sampled must wait; while a solver works it need not.
        return {"RUNNING_MODAL"} if result == {"PASS_THROUGH"} and self._entry.job.holds else result


class FillsGaps(InSlices):
    """Mixin of an operator that fills gaps of the active armature: define `wish`; put it before bpy.types.Operator."""

    def wish(self, context: bpy.types.Context) -> Wish:
        raise NotImplementedError

    def submit(self, context: bpy.types.Context) -> Filling[Any]:
        return Filling(judged.judged(inbetweening(context.active_object, self.wish(context))))

    def finish(self, context: bpy.types.Context, job: Filling[Any]) -> None:
        report: Report = job.result()
        for warning in report.warnings:
            self.report({"WARNING"}, warning)
        if report.fallback:
            self.report({"WARNING"}, f"{report.solver.capitalize()} was used. {report.fallback}")
        first, last = report.frames
        bones = f"{len(report.bones)} bones" if len(report.bones) > 1 else f"'{report.bones[0]}'"
        self.report({"INFO"}, f"Filled frames {first} to {last} of {bones}; accept or reject the take")


OUTPUTS = [
    (generated.BAKED, "Every Frame", "A key on every frame"),
    (generated.SPARSE, "Few Keys", "As few keys as stay within half a degree and 2 mm, to edit by hand"),
]


def solver_items() -> list[tuple[str, str, str]]:
    """Items of a menu of solvers."""
    every = [(solver.name, solver.name.capitalize(), solver.does + (f". Needs {solver.needs}" if solver.needs else ""))
             for solver in solve.solvers()]  # fmt: skip
    does = "The trained model for humans where the engine is, else what is like the rig's other actions, else the spline"
    return [(solve.AUTO, "Automatic", does), *every]
