# SPDX-License-Identifier: GPL-3.0-or-later
"""Motion fitted in closed form: exact where the motion has that form, near and honest about it where it has not."""

import pathlib
import sys

import numpy as np
import pytest

from vivant.backends.common.errors import VivantError
from vivant.backends.gaussian import fit, fit_job
from vivant.backends.gaussian.motion.deformation import Deformable, DeformationNetwork
from vivant.backends.gaussian.motion.family import Family
from vivant.backends.gaussian.motion.linear import Linear
from vivant.backends.gaussian.motion.stg import Stg

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from network_weights import deformation_shapes, still_cloud, waves
from test_network_scenes import scene


def cloud_of(count=40, seed=3):
    return still_cloud(np.random.default_rng(seed).normal(size=(count, 3)).astype(np.float32), seed, coefficients=4)


class Path(Family):
    """Splats that all move by a function of time, and turn about z by `turn` radians."""

    name = "Path"
    ATTRIBUTES = ()
    time_range = (0.0, 1.0)

    def __init__(self, shift, turn=0.0):
        self.shift, self.turn = shift, turn

    def at(self, cloud, time, camera=None):
        half = self.turn * time / 2
        z, (w, x, y, k) = (np.cos(half), np.sin(half)), cloud.quats.T
        quats = np.stack([z[0] * w - z[1] * k, z[0] * x - z[1] * y, z[0] * y + z[1] * x, z[0] * k + z[1] * w], axis=1)
        return cloud.replace(means=cloud.means + np.float32(self.shift(time)), quats=quats, family=None)

    def select(self, index):
        return self

    def change_axes(self, change):
        return self

    def attributes(self):
        return {}

    @classmethod
    def from_attributes(cls, columns, time_range):
        raise NotImplementedError


@pytest.mark.parametrize("span", [(0.0, 1.0), (2.0, 12.0)])
def test_spacetime_gaussians_are_found_again(span):
    random = np.random.default_rng(1)
    count, length = 40, span[1] - span[0]
    velocity = random.normal(size=(count, 3, 3)).astype(np.float32) / np.float32([length, length**2, length**3])[:, None]
    center = random.uniform(*span, count).astype(np.float32)
    width = (random.uniform(0.2, 2, count) * length).astype(np.float32)
    family = Stg(velocity, np.zeros((count, 4), np.float32), center, width, span)
    cloud = cloud_of(count).replace(family=family)
    found = fit.fit_stg(cloud)
    assert isinstance(found.cloud.family, Stg)
    assert found.error.max() < 1e-5
    np.testing.assert_array_equal(found.index, np.arange(count))
    for time in np.linspace(*span, 7):
        a, b = cloud.at(time), found.cloud.at(time)
        np.testing.assert_allclose(b.means, a.means, atol=1e-4)
        np.testing.assert_allclose(b.opacities, a.opacities, atol=1e-4)
        np.testing.assert_allclose(b.scales, a.scales, rtol=1e-4)
        np.testing.assert_allclose(b.sh, a.sh, atol=1e-5)


def test_a_steady_turn_is_followed_through_changes_of_sign():
    cloud = cloud_of().replace(family=Path(lambda t: (0, 0, 0), turn=1.5))
    cloud = cloud.replace(quats=np.float32([[1e-3, 0, 0, -1]] * 40))
    found = fit.fit_stg(cloud).cloud
    for time in (0, 0.3, 1):
        cosine = np.abs(np.sum(found.at(time).quats * cloud.at(time).quats, axis=1))
        assert np.degrees(2 * np.arccos(np.clip(cosine, 0, 1))).max() < 4


def test_the_error_is_the_distance_to_the_path():
    def wave(t):
        return 0.1 * np.sin(8 * t), 0, 0.05 * t

    cloud = cloud_of().replace(family=Path(wave))
    found = fit.fit_stg(cloud, samples=65)
    times = np.linspace(0, 1, 65)
    off = [np.linalg.norm(found.cloud.at(time).means - cloud.at(time).means, axis=1) for time in times]
    np.testing.assert_allclose(found.error, np.sqrt(np.mean(np.square(off), axis=0)), rtol=1e-3)
    cubic = np.polyfit(times, 0.1 * np.sin(8 * times), 3)
    np.testing.assert_allclose(found.error, np.std(np.polyval(cubic, times) - 0.1 * np.sin(8 * times)), rtol=1e-2)


def test_a_straight_path_needs_one_stretch_and_a_bent_one_as_many_as_its_tolerance_asks():
    straight = cloud_of().replace(family=Path(lambda t: (t, -t, 2 * t)))
    found = fit.fit_linear(straight)
    assert len(found.cloud) == 40 and found.error.max() < 1e-5
    bent = cloud_of().replace(family=Path(lambda t: (np.sin(3 * t), np.cos(3 * t), 0)))
    counts = [len(fit.fit_linear(bent, 32, tolerance).cloud) for tolerance in (8, 1, 0.25)]
    assert counts == sorted(counts) and counts[0] < counts[-1]
    found = fit.fit_linear(bent, 32, 0.25)
    size = np.exp(np.log(bent.scales).mean(axis=1))
    for time in np.linspace(0.005, 0.995, 23):
        still, true = found.cloud.at(time), bent.at(time)
        there = still.opacities > 0
        index = found.index[there]
        np.testing.assert_array_equal(np.sort(index), np.arange(40))  # each splat is there exactly once
        off = np.linalg.norm(still.means[there] - true.means[index], axis=1)
        assert (off <= 0.3 * size[index] + 1e-6).all()
        np.testing.assert_allclose(still.opacities[there], true.opacities[index], rtol=1e-4)


def test_turning_splats_are_cut_into_stretches_too():
    found = fit.fit_linear(cloud_of().replace(family=Path(lambda t: (0, 0, 0), turn=3)), 8, 0.25)
    assert len(found.cloud) > 80
    assert found.error.max() < 1e-6


def test_what_does_not_move_and_odd_numbers_are_refused():
    moving = cloud_of().replace(family=Path(lambda time: (time, 0, 0)))
    with pytest.raises(VivantError, match="no splats"):
        fit.fit_stg(moving.select(slice(0)))
    with pytest.raises(VivantError, match="does not move"):
        fit.fit_stg(cloud_of())
    for stretches in (0, 3, 128):
        with pytest.raises(VivantError, match="no number of stretches"):
            fit.fit_linear(cloud_of().replace(family=Path(lambda t: (0, 0, 0))), stretches)


def test_a_network_s_scene_fits_in_blocks_and_looks_alike(monkeypatch):
    monkeypatch.setattr(fit, "ROWS", 16)
    network = DeformationNetwork.of(waves(deformation_shapes(), 0.02))
    cloud = cloud_of()
    cloud = cloud.replace(scales=cloud.scales * 3)
    cloud = cloud.replace(family=Deformable(points=cloud.means, lengths=np.ones(40, np.float32), network=network))
    cameras = fit.cameras_around(cloud, 2, 64)
    for found in (fit.fit_stg(cloud, 17), fit.fit_linear(cloud, 8, 0.1)):
        assert len(found.error) == 40
        found_decibels = fit.likeness(cloud, found.cloud, cameras, [0.2, 0.9])
        still = fit.likeness(cloud, cloud.replace(family=None), cameras, [0.2, 0.9])
        assert found_decibels.min() > 40
        assert (found_decibels > still).all()


def test_pictures_of_the_same_are_alike_and_of_others_are_measured():
    cloud = cloud_of()
    cameras = fit.cameras_around(cloud, 3, 48)
    assert fit.likeness(cloud, cloud, cameras, [0.0]).min() > 119
    dark = cloud.replace(opacities=np.zeros(40))
    pictures = fit.likeness(cloud, dark, cameras, [0.0])
    assert np.isfinite(pictures).all() and pictures.max() < 40


@pytest.mark.parametrize("form", fit_job.FORMS)
def test_the_engine_fits_a_scene(tmp_path, engine, form):
    scene(tmp_path, waves(deformation_shapes(), 0.05))
    request = fit_job.request(tmp_path, form, index=np.array([0, 2, 3]), views=1)
    found, decibels = fit_job.answer(*engine.submit("splats.fit", *request).result())
    assert isinstance(found.cloud.family, {"STG": Stg, "Linear": Linear}[form])
    assert len(found.error) == 3 and decibels.shape == (3, 1) and np.isfinite(decibels).all()
    assert found.cloud.source.axes == "RDF"
