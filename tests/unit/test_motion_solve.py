# SPDX-License-Identifier: GPL-3.0-or-later
import pathlib
import sys

import numpy as np
import pytest

from vivant.backends.common import rotations as quaternions
from vivant.backends.common import weights
from vivant.backends.common.errors import VivantError
from vivant.backends.motion import trained
from vivant.backends.motion.clip import Clip
from vivant.backends.motion.solve import SOLVERS, inbetween, needs_engine

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from small_human import body


def small_clip(frames: int = 40, fps: float = 30.0) -> Clip:
    rng = np.random.default_rng(1)
    turn = np.cumsum(rng.normal(size=(frames, 3, 3)) * 0.03, axis=0)
    return Clip(
        ["hip", "knee", "ankle"], np.array([-1, 0, 1]), rng.normal(size=(3, 3)), fps, quaternions.exp(turn).astype(np.float32),
        np.cumsum(rng.normal(size=(frames, 3)), axis=0).astype(np.float32), translations={2: rng.normal(size=(frames, 3))},
    )  # fmt: skip


def frames_keyed(clip: Clip, *frames: int | slice) -> np.ndarray:
    keys = np.zeros(len(clip), bool)
    for frame in frames:
        keys[frame] = True
    return keys


def human_clip(frames: int = 40, fps: float = 30.0) -> Clip:
    """The small human swaying; a finger moves away from its hand."""
    still = body(frames=frames, seed=1)
    turn = np.cumsum(np.random.default_rng(2).normal(size=(frames, len(still.names), 3)) * 0.03, axis=0)
    way = np.cumsum(np.random.default_rng(3).normal(size=(frames, 3)) * 0.02, axis=0)
    last = len(still.names) - 1
    apart = still.offsets[last] + 0.1 * way
    return still.replace(
        rotations=quaternions.multiply(still.rotations, quaternions.exp(turn)).astype(np.float32),
        root=(still.root + way).astype(np.float32), translations={last: apart}, fps=fps,
    )  # fmt: skip


WITHOUT_ENGINE = [name for name, solver in SOLVERS.items() if not solver.engine]


@pytest.mark.parametrize(
    ("solver", "make"),
    [(name, human_clip) for name in WITHOUT_ENGINE] + [(name, small_clip) for name in WITHOUT_ENGINE if name != "phase"],
)
def test_keyed_values_come_back_bit_for_bit_and_others_are_ignored(solver, make):
    clip = make()
    joint = max(clip.translations)
    keys = np.random.default_rng(2).random(clip.rotations.shape[:2]) < 0.3
    keys[[5, 30]] = True
    blind = clip.replace(
        rotations=np.where(keys[..., None], clip.rotations, np.float32(np.nan)),
        root=np.where(keys[:, :1], clip.root, np.float32(np.nan)),
        translations={joint: np.where(keys[:, joint, None], clip.translations[joint], np.nan)},
    )
    filled, report = inbetween(blind, keys, solver, library=[make(90)])
    assert report.solver == solver and report.key_error == 0
    assert filled.rotations[keys].tobytes() == clip.rotations[keys].tobytes()
    assert filled.root[keys[:, 0]].tobytes() == clip.root[keys[:, 0]].tobytes()
    assert filled.translations[joint][keys[:, joint]].tobytes() == clip.translations[joint][keys[:, joint]].tobytes()
    for values in (filled.rotations, filled.root, filled.translations[joint]):
        assert np.all(np.isfinite(values))
    again, _ = inbetween(clip, keys, solver, library=[make(90)])
    np.testing.assert_array_equal(filled.rotations, again.rotations)


def test_keys_of_frames_equal_keys_of_every_joint():
    clip = small_clip()
    keys = frames_keyed(clip, 0, 12, 39)
    once, report = inbetween(clip, keys)
    each, _ = inbetween(clip, np.repeat(keys[:, None], 3, axis=1))
    np.testing.assert_array_equal(once.rotations, each.rotations)
    np.testing.assert_array_equal(once.root, each.root)
    assert report.gaps == 2 and report.warnings == ()


def test_wide_turns_opposite_signs_open_ends_and_unkeyed_joints_are_named():
    clip = small_clip()
    rotations = clip.rotations.copy()
    rotations[30, 0] = quaternions.multiply(rotations[10, 0], quaternions.exp(np.array([0, 2.5, 0], np.float32)))
    rotations[30, 1] *= -1
    keys = np.zeros((40, 3), bool)
    keys[10, :2] = keys[30, :2] = True
    filled, report = inbetween(clip.replace(rotations=rotations), keys)
    turn, sign, ends, rest = report.warnings
    assert "1 turns" in turn and "hip, 143° from frame 10 to 30" in turn
    assert "knee, frame 30" in sign
    assert "hold that key" in ends
    assert "ankle" in rest
    np.testing.assert_array_equal(filled.rotations[:10, 0], rotations[10, 0][None].repeat(10, 0))
    np.testing.assert_array_equal(filled.rotations[:, 2], [[1, 0, 0, 0]] * 40)
    np.testing.assert_allclose(filled.translations[2], clip.offsets[2][None].repeat(40, 0))


def test_the_result_does_not_depend_on_the_frame_rate():
    """Twice as many frames a second: the same path, but for velocities being measured over half the time."""
    t = np.linspace(0, 4, 121)

    def path(t: np.ndarray, fps: float) -> Clip:
        turn = quaternions.exp(np.stack([np.sin(t), np.cos(2 * t), t], axis=-1)[:, None] * 0.4)
        return Clip(["hip"], np.array([-1]), np.zeros((1, 3)), fps, turn, np.stack([t, np.sin(t), np.cos(t)], axis=-1))

    slow, fast = path(t, 30), path(np.linspace(0, 4, 241), 60)
    a, _ = inbetween(slow, frames_keyed(slow, slice(30), 75))
    b, _ = inbetween(fast, frames_keyed(fast, slice(59), 150))
    np.testing.assert_allclose(b.root[:151:2], a.root[:76], atol=0.02)
    np.testing.assert_allclose(b.rotations[:151:2], a.rotations[:76], atol=0.02)


def test_bad_requests_are_one_sentence():
    clip = small_clip()
    with pytest.raises(VivantError, match="no in-between solver 'magic'"):
        inbetween(clip, frames_keyed(clip, 0), "magic")
    with pytest.raises(VivantError, match="shape"):
        inbetween(clip, np.ones((3, 40), bool))
    broken = clip.root.copy()
    broken[5] = np.inf
    with pytest.raises(VivantError, match="not a finite number"):
        inbetween(clip.replace(root=broken), frames_keyed(clip, 0, 5))
    inbetween(clip.replace(root=broken), frames_keyed(clip, 0, 6))


def test_what_the_model_lacks_is_said_in_the_order_in_which_it_matters(monkeypatch, tmp_path):
    monkeypatch.setattr(trained, "PACKAGES", ("no_such_package",))
    monkeypatch.setattr(weights, "OURS", tmp_path)

    def why(clip: Clip) -> str:
        return inbetween(clip, frames_keyed(clip, 0, 5, 30, -1), "model")[1].fallback

    assert "humans only" in why(small_clip()) and "Choose another solver" in why(small_clip())
    assert "not found" in why(human_clip()) and "preferences" in why(human_clip())
    assert not needs_engine("model", human_clip()), "an engine would not help"
    (tmp_path / trained.WEIGHTS).write_bytes(b"weights")
    assert "humans only" in why(small_clip()) and not needs_engine("model", small_clip())
    assert needs_engine("model", human_clip()) and needs_engine("auto", human_clip())
    assert "needs PyTorch" in why(human_clip()) and "Install engine" in why(human_clip())
