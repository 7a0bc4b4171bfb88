# SPDX-License-Identifier: GPL-3.0-or-later
"""Work in steps: generators that yield how far they are and return what they found; to close one is to stop."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, TypeVar

Result = TypeVar("Result")
Said = TypeVar("Said")
Step = TypeVar("Step")


def at_once(steps: Generator[Any, None, Result]) -> Result:
    """What a generator returns."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: Result = end.value
            return result


def mapped(say: Callable[[Step], Said], steps: Generator[Step, None, Result]) -> Generator[Said, None, Result]:
    """The same steps, saying it otherwise."""
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            result: Result = end.value
            return result
        yield say(step)


def told(doing: str, steps: Generator[float, None, Result]) -> Generator[str, None, Result]:
    """Steps that yield the share that is done, as ones that yield what is done."""
    return mapped(lambda share: f"{doing}, {share:.0%}", steps)


def within(steps: Generator[float, None, Result], first: float, last: float) -> Generator[float, None, Result]:
    """Steps that yield the share that is done, as a part of longer ones, from share `first` to `last`."""
    return mapped(lambda share: first + share * (last - first), steps)
