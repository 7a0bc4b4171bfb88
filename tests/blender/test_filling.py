# SPDX-License-Identifier: GPL-3.0-or-later
"""In-betweens that a window waits for: in slices of time, by a thread, by the engine, stopped at any moment."""

import pathlib
import sys
import time

import bpy
import pytest

from vivant.backends.common.errors import Cancelled, VivantError
from vivant.operators import filling, job
from vivant.scene import inbetween, judged, takes

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import posing


@pytest.fixture
def rig(scene):
    rig = posing.armature(("a", "b"))
    for bone in ("a", "b"):
        posing.key(rig, bone, "rotation_quaternion", posing.FRAMES, posing.turning("QUATERNION"))
    scene.frame_set(14)
    return rig


def steps(rig, solver="slerp"):
    return inbetween.inbetweening(rig, inbetween.Wish(None, "GAP", None, 14.0, solver))


def finish(work):
    until = time.monotonic() + 60
    while not work.poll() and time.monotonic() < until:
        time.sleep(0.01)
    assert work.done
    return work.result()


def untouched(rig):
    return rig.animation_data.action, len(bpy.data.actions), len(bpy.data.scenes), len(bpy.data.objects), posing.bits(rig)


@pytest.fixture
def engine(monkeypatch):
    """Blender's own Python as the engine: it has no networks, but all other solvers."""
    monkeypatch.setattr(job, "engine_for_networks", job.engine)
    yield
    job.close_engine()


@pytest.mark.parametrize("ask", [filling.InThread, filling.InEngine])
def test_a_thread_and_the_engine_give_what_the_script_gets(rig, engine, ask):
    report = finish(filling.Filling(steps(rig), ask))
    assert report.solver == "slerp" and report.armature == rig
    by_others = posing.bits(rig)
    takes.reject(rig)
    inbetween.inbetween_object(rig, solver="slerp")
    assert posing.bits(rig) == by_others


def test_what_is_quick_is_there_at_the_first_look(rig, monkeypatch):
    monkeypatch.setattr(filling, "GLANCE", 60.0)  # however busy the machine is
    work = filling.Filling(steps(rig, "spline"))
    assert work.poll() and work.result().solver == "spline"


def test_it_is_stopped_at_any_step_and_changes_nothing(rig):
    before = untouched(rig)
    asked = []

    class Never:
        progress = filling.State(note="thinking")

        def __init__(self, question):
            asked.append(self)
            self.stopped = False

        def wait(self, timeout=None):
            return False

        def kill(self):
            self.stopped = True

    work = filling.Filling(steps(rig), Never)
    while not asked:
        assert work.holds and not work.poll()
    assert not work.poll() and work.progress.text == "thinking" and not work.holds
    work.cancel()
    assert asked[0].stopped and work.poll()
    with pytest.raises(Cancelled):
        work.result()
    assert untouched(rig) == before
    work = filling.Filling(steps(rig))
    assert work.holds
    work.kill()
    assert work.done and untouched(rig) == before


def test_a_take_that_is_written_stays_when_its_measuring_is_stopped(rig, monkeypatch):
    monkeypatch.setattr(filling, "GLANCE", 1e-6)  # a step a look
    before = untouched(rig)
    for stop in range(100):
        work = filling.Filling(judged.judged(steps(rig, "spline")))
        for _ in range(stop):
            work.poll()
        finished = work.done
        work.cancel()
        taken = takes.original_of(rig) is not None
        assert len(bpy.data.scenes) == 1
        if not taken:
            assert untouched(rig) == before
            with pytest.raises(Cancelled):
                work.result()
            continue
        assert work.result().take == rig.animation_data.action
        measured = takes.made_of(work.result().take).quality is not None
        takes.reject(rig)
        if finished:
            break
        assert not measured
    assert finished and measured and stop > 1


def test_a_take_that_is_added_to_is_as_before_when_that_is_stopped(rig, monkeypatch):
    monkeypatch.setattr(filling, "GLANCE", 1e-6)  # a step a look
    inbetween.inbetween_object(rig, ["a"])
    take, before = rig.animation_data.action, untouched(rig)
    known = {name: takes.known_of(take, name) for name in ("fills", "parts", "made", "strength")}
    wish = inbetween.Wish(None, "RANGE", (1, 30), 14.0)
    for stop in range(200):
        work = filling.Filling(inbetween.inbetweening(rig, wish))
        for _ in range(stop):
            work.poll()
        if work.done:
            break
        work.cancel()
        assert untouched(rig) == before, f"stopped after {stop} steps"
        assert known == {name: takes.known_of(take, name) for name in known}
    assert work.done and stop > 8 and untouched(rig)[-1] != before[-1]
    assert rig.animation_data.action == take


def test_where_the_engine_breaks_down_another_solver_answers_and_says_so(rig, engine):
    class Dies(filling.InEngine):
        def __init__(self, question):
            super().__init__(question)
            self._job.worker.kill()

    report = finish(filling.Filling(steps(rig), Dies))
    assert report.solver == "slerp" and "engine" in report.fallback.lower()


def test_errors_on_both_sides_are_the_result(rig):
    before = untouched(rig)

    class Fails(filling.InThread):
        def answer(self):
            raise VivantError("It broke.")

    with pytest.raises(VivantError, match="It broke"):
        finish(filling.Filling(steps(rig), Fails))
    bpy.context.scene.frame_set(99)
    wish = inbetween.Wish(None, "GAP", None, 99.0, "slerp")
    with pytest.raises(VivantError, match="lies in no gap"):
        finish(filling.Filling(inbetween.inbetweening(rig, wish)))
    bpy.context.scene.frame_set(14)
    assert untouched(rig) == before


def test_the_operator_fills_by_any_solver(rig, operators):
    for solver in ("slerp", "auto", "spline"):
        assert bpy.ops.vivant.motion_inbetween(solver=solver, seed=3) == {"FINISHED"}
        made = takes.made_of(rig.animation_data.action)
        assert made.seed == 3 and (made.solver == solver or solver == "auto")
        takes.reject(rig)


def test_weights_in_a_folder_of_the_users_are_seen_before_an_engine_is_asked_for(monkeypatch, tmp_path):
    (tmp_path / filling.trained.WEIGHTS).write_bytes(b"weights")
    monkeypatch.setattr(filling.preferences, "weights_folders", lambda context=None: [tmp_path])
    asked = []
    monkeypatch.setattr(filling, "InThread", asked.append)
    monkeypatch.setattr(filling.solve, "needs_engine", lambda solver, clip, **options: bool(asked.append(options)))
    filling.ask(inbetween.Question(None, None, "auto", (), 0, {"human": {}}))
    own = {"human": {}, "weights": str(tmp_path / filling.trained.WEIGHTS)}
    assert asked[0] == asked[1].options == own
