# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs one after the other, as operators follow them."""

import pytest

from vivant.backends.common.errors import Cancelled, VivantError
from vivant.engine.progress import State
from vivant.operators.series import Series


class Work:
    """A job that ends when it has been looked at three times, unless it is stopped; it knows which ones were begun."""

    def __init__(self, item, begun, fails=False):
        begun.append(item)
        self.looks, self.fails, self.stopped = 0, fails, False
        self.warnings = ["Something is odd."]

    @property
    def progress(self):
        return State(self.looks, 3)

    def poll(self):
        self.looks += 1
        return self.looks >= 3 or self.stopped

    def cancel(self):
        self.stopped = True

    kill = cancel

    def result(self):
        if self.stopped:
            raise Cancelled("The job was stopped.")
        if self.fails:
            raise VivantError("It went wrong.")
        return {}, {}


def test_every_item_has_its_turn_and_only_one_runs_at_a_time():
    begun = []
    series = Series(lambda item: Work(item, begun), (4, 6, 8), lambda item: f"frame {item}")
    assert begun == [4]
    seen = []
    while not series.poll():
        seen.append(series.progress.fraction)
        assert len(begun) == series.ended + 1
    assert begun == [4, 6, 8]
    assert seen == sorted(seen) and 0 < seen[0] < 0.2 and series.progress.fraction == 1
    assert series.progress.note == "frame 8, 3 of 3"
    assert series.result() == 3
    assert series.warnings == ["Something is odd."]


def test_stopped_it_begins_no_other_and_says_how_far_it_came():
    begun = []
    series = Series(lambda item: Work(item, begun), range(5))
    while series.ended < 2:
        series.poll()
    series.cancel()
    assert series.poll()
    assert begun == [0, 1, 2]
    with pytest.raises(Cancelled, match="2 of 5"):
        series.result()


@pytest.mark.parametrize("where", ["in a job", "between two"])
def test_what_goes_wrong_ends_it(where):
    begun = []

    def begin(item):
        if item == 1 and where == "between two":
            raise VivantError("It went wrong.")
        return Work(item, begun, fails=item == 1)

    series = Series(begin, range(3))
    while not series.poll():
        pass
    assert 2 not in begun
    with pytest.raises(VivantError, match="went wrong"):
        series.result()
