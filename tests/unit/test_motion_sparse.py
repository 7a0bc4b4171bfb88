# SPDX-License-Identifier: GPL-3.0-or-later
"""Few keys: within the bound at every frame, exact at the ends, and few."""

import functools
import itertools
import sys
import time

import numpy as np
import pytest

from vivant.backends.common import rotations as quaternions
from vivant.backends.motion import sparse, spline


def bezier(times, places, values, slopes):
    """The curve as Blender draws it: de Casteljau on handles a third of the way to the neighbours (time is then linear)."""
    at = times[places]
    curve = np.empty((len(times), values.shape[1]))
    for k in range(len(at) - 1):
        inside = (times >= at[k]) & (times <= at[k + 1])
        span = at[k + 1] - at[k]
        s = ((times[inside] - at[k]) / span)[:, None]
        points = [values[k], values[k] + slopes[k] * span / 3, values[k + 1] - slopes[k + 1] * span / 3, values[k + 1]]
        while len(points) > 1:
            points = [(1 - s) * a + s * b for a, b in itertools.pairwise(points)]
        curve[inside] = points[0]
    return curve


def degrees(a, b):
    """Angle between rotations, by the trace of the matrix from one to the other."""
    turn = quaternions.matrix(quaternions.multiply(quaternions.conjugate(a), b))
    return np.degrees(np.arccos(np.clip((np.trace(turn, axis1=-2, axis2=-1) - 1) / 2, -1, 1)))


def smooth_rotations(seed, frames=45):
    """Quaternions of a random rotation vector that is a sum of slow waves."""
    rng = np.random.default_rng(seed)
    phase = np.arange(frames)[:, None] / 30 * rng.uniform(1, 6, 3) + rng.uniform(0, 6, 3)
    return quaternions.exp(np.sin(phase) * rng.uniform(0.2, 1.2, 3))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("mode", ["QUATERNION", "AXIS_ANGLE", "XYZ", "YZX"])
def test_every_frame_is_within_the_bound_and_the_ends_are_exact(mode, seed):
    quats = smooth_rotations(seed)
    turn = quaternions.log(quats)
    channels = {
        "QUATERNION": quats,
        "AXIS_ANGLE": np.column_stack([np.linalg.norm(turn, axis=1), turn]),
    }.get(mode)
    if channels is None:
        channels = quaternions.continuous_euler(quaternions.to_euler(quats, mode), mode)
    times = np.arange(45.0) + 3
    keys = sparse.fit(times, channels, sparse.turned(channels, mode))
    curve = bezier(times, keys.places, keys.values, keys.slopes)
    off = degrees(sparse.to_quaternions(channels, mode), sparse.to_quaternions(curve, mode))
    assert off.max() <= 0.5 + 1e-6
    assert np.array_equal(keys.values[[0, -1]], channels[[0, -1]]) and keys.places[0] == 0 and keys.places[-1] == 44
    assert len(keys.places) < 16


def test_a_cubic_needs_no_key_inside():
    times = np.array([1.25, *range(2, 30), 30.5])
    values = np.column_stack([times**3 * 1e-3 - times, 2 * times, np.ones_like(times)])
    keys = sparse.fit(times, values, sparse.moved(values, 1e-9))
    assert keys.places.tolist() == [0, 29]
    assert np.allclose(keys.slopes[:, 0], 3e-3 * times[[0, -1]] ** 2 - 1)


def test_given_slopes_are_kept_and_noise_makes_every_sample_a_key():
    values = np.random.default_rng(5).normal(size=(12, 2))
    slopes = np.array([[1.0, np.nan], [np.nan, -2.0]])
    keys = sparse.fit(np.arange(12.0), values, sparse.moved(values, 1e-6), slopes)
    curve = bezier(np.arange(12.0), keys.places, keys.values, keys.slopes)
    assert np.allclose(curve, values, atol=1e-6)
    assert (keys.slopes[0, 0], keys.slopes[-1, 1]) == (1, -2)
    assert np.array_equal(keys.values[[0, -1]], values[[0, -1]])


def test_two_samples_are_a_curve():
    assert len(sparse.fit([1.0, 2.0], [[0.0], [1.0]], sparse.moved(np.zeros((2, 1)), 9)).places) == 2


def share_of_keys(quats, places):
    """Generated keys of a fit over those of a bake, over one gap, and the largest error."""
    both = np.column_stack([places, quats.reshape(len(quats), -1)])
    checks = [sparse.moved(places)] + [sparse.turned(quats[:, j], "QUATERNION") for j in range(quats.shape[1])]
    slices = [slice(0, places.shape[1])] + [
        slice(places.shape[1] + 4 * j, places.shape[1] + 4 * j + 4) for j in range(quats.shape[1])
    ]
    times = np.arange(len(both), dtype=float)
    keys = sparse.fit(times, both, lambda rows: np.max([c(rows[:, s]) for c, s in zip(checks, slices, strict=True)], axis=0))
    curve = bezier(times, keys.places, keys.values, keys.slopes)
    assert np.linalg.norm(curve[:, slices[0]] - places, axis=1).max() <= 0.002 + 1e-9
    for j, part in enumerate(slices[1:]):
        assert degrees(quats[:, j], quaternions.normalise(curve[:, part])).max() <= 0.5 + 1e-6
    return len(keys.places) - 2, len(both) - 2


def test_a_spline_take_needs_at_most_a_quarter_of_the_keys():
    sparse_keys = baked = 0
    for seed in range(12):
        known = np.ones(70, bool)
        known[20:50] = False
        quats = spline.fill_rotations(smooth_rotations(seed, 70)[:, None], known)[19:51]
        places = spline.fill_vectors(np.sin(np.arange(70)[:, None] / (9 + seed) * np.arange(1, 4)) * 0.2, known)[19:51]
        few, many = share_of_keys(quats, places)
        sparse_keys, baked = sparse_keys + few, baked + many
    print(f"{sparse_keys / baked:.1%} of the keys of a spline take")
    assert sparse_keys <= 0.25 * baked


@functools.cache
def heldout(folder):
    sys.path.insert(0, str(folder))
    import clips

    return [
        clip
        for clip in clips.load_file(folder / "cmu_121_144.clips.xz")
        if clip.split == "heldout_take" and len(clip.rotations) > 60
    ]


def test_heldout_motion_needs_at_most_a_quarter_of_the_keys(data):
    rng = np.random.default_rng(9)
    few = many = 0
    started = time.perf_counter()
    for clip in rng.choice(heldout(data / "mocap"), 8, replace=False):
        first = rng.integers(len(clip.rotations) - 47)
        part = slice(first, first + 47)
        for joint in range(len(clip.names)):
            quats = quaternions.continuous(clip.rotations[part, joint].astype(float))[:, None]
            if np.ptp(quats, axis=0).max() < 1e-4:
                continue
            places = clip.root[part].astype(float) if joint == 0 else np.zeros((47, 1))
            a, b = share_of_keys(quats, places)
            width = 7 if joint == 0 else 4
            few, many = few + a * width, many + b * width
    print(f"{few / many:.1%} of the keys of held-out takes, {time.perf_counter() - started:.1f} s")
    assert few <= 0.25 * many
