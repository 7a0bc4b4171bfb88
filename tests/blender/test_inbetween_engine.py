# SPDX-License-Identifier: GPL-3.0-or-later
"""The trained model from inside Blender: it works in the engine, and what it needs is said where it is missing."""

import os
import pathlib
import subprocess
import sys

import bpy
import numpy as np
import pytest

from vivant import api, preferences
from vivant.backends.common import weights
from vivant.backends.motion import trained
from vivant.engine import install
from vivant.operators import job as jobs

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "unit"))
from small_human import body  # noqa: E402

# In a Python with torch: weights that nobody trained, and what they make of a clip.
MAKE = """
import importlib.util, pathlib, sys
root, out = map(pathlib.Path, sys.argv[1:])
spec = importlib.util.spec_from_file_location("vivant", root / "__init__.py", submodule_search_locations=[str(root)])
sys.modules["vivant"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["vivant"])
sys.path.insert(0, str(root / "tests" / "unit"))
import torch
from test_motion_human import BODY
from vivant.backends.motion import solve
from vivant.backends.motion.formats.arrays import read_arrays, read_clip, write_clip
from vivant.backends.motion.transformer import network
torch.manual_seed(0)
net = network.Network(BODY, network.Size(width=32, layers=2, heads=2))
net.spread.uniform_(0.05, 0.2)
torch.nn.init.normal_(net.head.weight, std=0.2)
network.save(net, out / "inbetween.safetensors")
clip, keys = read_clip(out / "clip.npz"), read_arrays(out / "clip.npz")["keys"]
write_clip(solve.inbetween(clip, keys, "model", weights=str(out / "inbetween.safetensors"))[0], out / "filled.npz")
"""


def torch_python() -> pathlib.Path:
    """The engine's development environment, or the Python of VIVANT_ENGINE_PYTHON."""
    python = pathlib.Path(os.environ.get("VIVANT_ENGINE_PYTHON", ROOT / ".venv-engine" / "bin" / "python"))
    if not python.is_file() or not install.works(python, install.RUNS_NETWORKS):
        pytest.skip("needs a Python with PyTorch: name one in VIVANT_ENGINE_PYTHON")
    return python


def walk(frames: int = 60) -> tuple[api.Clip, np.ndarray]:
    from vivant.backends.common import rotations as quaternions

    still = body(seed=1)
    sway = np.cumsum(np.random.default_rng(1).normal(size=(frames, len(still.names), 3)) * 0.02, axis=0)
    turned = quaternions.multiply(np.tile(still.rotations[:1], (frames, 1, 1)), quaternions.exp(sway))
    clip = still.replace(rotations=turned, root=still.root[:1] + sway[:, 0])
    keys = np.ones((frames, len(still.names)), bool)
    keys[20:45] = False
    return clip, keys


@pytest.fixture(autouse=True)
def no_weights(monkeypatch, tmp_path):
    """A factory file, and a package that brings no weights along."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    monkeypatch.setattr(weights, "OURS", tmp_path / "none")
    yield
    jobs.close_engine()


def test_without_weights_or_torch_the_spline_serves_and_only_who_asked_for_the_model_is_told(monkeypatch, tmp_path):
    (clip, keys), last = walk(), jobs._engine.last
    filled, report = api.inbetween(clip, keys)
    assert report.solver == "spline" and report.fallback == "" and report.key_error == 0
    again, report = api.inbetween(clip, keys, "model")
    assert report.solver == "spline" and "inbetween.safetensors" in report.fallback and "preferences" in report.fallback
    assert again.rotations.tobytes() == filled.rotations.tobytes()

    (tmp_path / trained.WEIGHTS).write_bytes(b"weights")
    monkeypatch.setattr(preferences, "weights_folders", lambda context=None: [tmp_path])
    monkeypatch.setattr(trained, "PACKAGES", ("no_such_package",))
    monkeypatch.setattr(install, "RUNS_NETWORKS", "import no_such_package")
    assert api.inbetween(clip, keys)[1].fallback == ""
    _, report = api.inbetween(clip, keys, "model")
    assert report.solver == "spline" and "needs PyTorch" in report.fallback and "Install engine" in report.fallback
    assert jobs._engine.last is last  # no process was started for nothing


def test_the_model_works_in_the_engine_with_the_users_own_weights(monkeypatch, tmp_path):
    python = torch_python()
    clip, keys = walk()
    api.write_clip(clip, tmp_path / "clip.npz", keys=keys)
    done = subprocess.run([python, "-c", MAKE, ROOT, tmp_path], capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    monkeypatch.setattr(trained, "PACKAGES", ("no_such_package",))  # as in Blender's own Python
    monkeypatch.setattr(preferences, "engine_python", lambda context=None: python)
    monkeypatch.setattr(preferences, "weights_folders", lambda context=None: [tmp_path / "absent", tmp_path])
    blind = clip.replace(
        rotations=np.where(keys[..., None], clip.rotations, np.nan), root=np.where(keys[:, :1], clip.root, np.nan)
    )
    expected = api.read_clip(tmp_path / "filled.npz")
    spline, _ = api.inbetween(clip, keys, "spline")
    processes = set()
    for solver in ("model", "auto"):
        filled, report = api.inbetween(blind, keys, solver)
        assert report.solver == "model" and report.fallback == "" and report.key_error == 0
        assert filled.rotations[keys].tobytes() == clip.rotations[keys].tobytes()
        np.testing.assert_allclose(filled.rotations, expected.rotations, atol=1e-5)
        np.testing.assert_allclose(filled.root, expected.root, atol=1e-5)
        processes.add(jobs._engine.last.worker.pid)
    assert np.abs(filled.rotations - spline.rotations).max() > 0.005
    assert len(processes) == 1  # the second one found a warm engine

    monkeypatch.chdir(tmp_path)
    (outcome,) = api.inbetween_many([api.Shot("clip.npz", "many.npz")])
    assert outcome.report.solver == "model", outcome
    assert api.read_clip("many.npz").rotations.tobytes() == filled.rotations.tobytes()
