# SPDX-License-Identifier: GPL-3.0-or-later
"""The compiled rasteriser under PyTorch has the gradients that autograd finds in float64."""

import numpy as np
import pytest

from vivant.backends.common.cameras import Camera, intrinsics
from vivant.backends.gaussian.covariance import covariances

torch = pytest.importorskip("torch", reason="differentiates the reference")
pytest.importorskip("numba", reason="compiles the rasteriser")
from vivant.backends.gaussian.render import autograd, torch_reference  # noqa: E402

SEEDS = (1, int(np.random.SeedSequence().entropy % 10_000))


@pytest.mark.parametrize("antialiased", [False, True])
@pytest.mark.parametrize("model", ["perspective", "orthographic"])
@pytest.mark.parametrize("seed", SEEDS)
def test_every_gradient_is_within_a_thousandth_of_the_references(seed, model, antialiased):
    random = np.random.default_rng(seed)
    count, width, height = 120, 50, 41
    quats = random.normal(size=(count, 4))
    quats /= np.linalg.norm(quats, axis=1, keepdims=True)
    turn = np.linalg.qr(random.normal(size=(3, 3)))[0]
    turn *= np.linalg.det(turn)
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = turn, -2.4 * turn[:, 2]
    focal = 14.0 if model == "orthographic" else 60.0
    camera = Camera(intrinsics(focal, 1.1 * focal, width / 2 + 2, height / 2 - 1), pose, width, height, model)
    inputs = (
        random.uniform(-1.6, 1.6, (count, 3)),
        covariances(quats, random.uniform(0.02, 0.2, (count, 3)))[:, [0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 2, 2]],
        random.uniform(0.05, 1, count),
        random.uniform(0, 1, (count, 5)),
        np.linalg.inv(pose)[:3],
    )
    exact = [torch_reference.tensor(values.astype(np.float32)) for values in inputs]
    quick = [torch.tensor(values, dtype=torch.float32, requires_grad=True) for values in inputs]
    pictures = torch_reference.draw(*exact, camera, 0.5, antialiased)
    drawn = autograd.draw(*quick, camera, 0.5, antialiased)
    weights = [torch.tensor(random.normal(size=picture.shape)) for picture in pictures]
    sum((picture * weight).sum() for picture, weight in zip(pictures, weights, strict=True)).backward()
    sum((picture * weight).sum() for picture, weight in zip(drawn, weights, strict=True)).backward()
    for picture, other in zip(pictures, drawn, strict=True):
        assert float((picture - other).detach().abs().quantile(0.999)) < 2e-5
    for right, found in zip(exact, quick, strict=True):
        assert float((right.grad - found.grad).norm() / right.grad.norm()) < 1e-3, seed
