# SPDX-License-Identifier: GPL-3.0-or-later
"""Flaws that are planted around captures are found, and next to nothing else; edits in pieces are those of the whole."""

import numpy as np
import pytest

from vivant.api import read_splats, render
from vivant.backends.common.rotations import normalise
from vivant.backends.common.steps import at_once
from vivant.backends.gaussian.cloud import SplatCloud
from vivant.backends.gaussian.edit import clean, pieces
from vivant.backends.gaussian.edit.carry import transformed
from vivant.backends.gaussian.edit.merge import merged
from vivant.backends.gaussian.motion.linear import Linear


def shell(count: int = 20_000, seed: int = 2) -> SplatCloud:
    """A sphere's surface of radius 1, as a capture has it: flat splats, dense."""
    rng = np.random.default_rng(seed)
    normals = rng.normal(size=(count, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return SplatCloud(
        normals, normalise(rng.normal(size=(count, 4))), np.exp(0.4 * rng.normal(size=(count, 3)) - 4.5),
        rng.uniform(0.1, 1, count), 0.3 * rng.normal(size=(count, 1, 3)),
    )  # fmt: skip


def planted(cloud: SplatCloud, seed: int) -> tuple[SplatCloud, np.ndarray]:
    """The cloud and after it what is wrong with captures; of each planted splat its kind."""
    rng = np.random.default_rng(seed)
    low, high = np.quantile(cloud.means, (0.01, 0.99), axis=0)
    middle, size = (low + high) / 2, float((high - low).max())
    gap = clean.Limits().gap * clean.spacing(cloud.means.astype(float))
    spots: list[np.ndarray] = []
    while len(spots) < 150:  # none near the capture or another one
        spot = middle + size * rng.uniform(-1.5, 1.5, 3)
        others = np.concatenate([cloud.means[::10], np.reshape(spots, (-1, 3))])
        if np.linalg.norm(others - spot, axis=1).min() > 4 * gap:
            spots.append(spot)
    groups = [spot + 0.3 * gap * rng.normal(size=(rng.integers(12, 40), 3)) for spot in spots[:20]]
    at = {
        "OUTLIER": np.array(spots[20:]),
        "FLOATER": np.concatenate(groups),
        "INVISIBLE": cloud.means[rng.integers(len(cloud), size=300)],
        "GIANT": middle + size * rng.uniform(-0.3, 0.3, (10, 3)),
        "NEEDLE": middle + size * rng.uniform(-0.3, 0.3, (10, 3)),
    }
    kinds = np.repeat(list(at), [len(places) for places in at.values()])
    count = len(kinds)
    sizes = np.median(cloud.scales) * np.exp(0.3 * rng.normal(size=(count, 3)))
    sizes[kinds == "GIANT"] = 0.6 * size
    sizes[kinds == "NEEDLE"] = size * np.array([0.2, 1e-4, 1e-4])
    opacities = np.where(kinds == "INVISIBLE", 0.002, rng.uniform(0.1, 0.9, count))
    turns, colours = normalise(rng.normal(size=(count, 4))), 0.3 * rng.normal(size=(count, cloud.sh.shape[1], 3))
    extra = SplatCloud(np.concatenate(list(at.values())), turns, sizes, opacities, colours, source=cloud.source)
    return merged([cloud, extra]), kinds


def check_found(cloud: SplatCloud, own: float) -> np.ndarray:
    """Nine of ten of every kind are found, and of the cloud itself no more than a share; which of all splats stay."""
    whole, kinds = planted(cloud, 3)
    flaws = at_once(clean.flaws(whole))
    wrong = np.any(list(flaws.values()), axis=0)
    extra = np.arange(len(whole)) >= len(cloud)
    recall = {str(kind): round(float(flaws[kind][extra][kinds == kind].mean()), 3) for kind in clean.KINDS}
    precision = (wrong & extra).sum() / wrong.sum()
    print(f"recall {recall}, precision {precision:.3f}, {(wrong & ~extra).sum()} of {len(cloud):,} others")
    assert min(recall.values()) >= 0.9
    assert (wrong & ~extra).sum() <= own * len(cloud)
    return ~wrong


def test_planted_flaws_are_found_by_their_kind_and_a_clean_surface_has_none():
    assert not np.any(list(at_once(clean.flaws(shell())).values()))
    check_found(shell(), 0)


@pytest.mark.parametrize(("name", "back", "focal"), [("biker", 0.0, 30.0), ("guitar", 1.5, 75.0)])
def test_real_captures_look_the_same_without_what_is_found_and_what_was_planted(data, name, back, focal):
    cloud = read_splats(data / "splats" / f"{name}.compressed.ply")
    whole, _ = planted(cloud, 3)
    stay = check_found(cloud, 2e-3)
    low, high = np.quantile(cloud.means, (0.01, 0.99), axis=0)
    lens, pose = np.array([[focal, 0, 24], [0, focal, 16], [0, 0, 1]]), np.eye(4)
    pose[:3, 3] = (low + high) / 2 - [0, 0, back * (high - low).max()]
    truth, cleaned = (render(each, lens, pose, 48, 32) for each in (cloud, whole.select(stay)))
    same = -10 * np.log10(np.square(truth - cleaned).mean() + 1e-20)
    print(f"{name}: {same:.1f} dB")
    assert same >= 60


def test_a_background_of_large_splats_far_apart_stays():
    rng = np.random.default_rng(5)
    far = 8 * shell(300).means
    large = SplatCloud(
        far, np.tile([1.0, 0, 0, 0], (300, 1)), np.full((300, 3), 0.8), np.ones(300), rng.normal(size=(300, 1, 3))
    )
    flaws = at_once(clean.flaws(merged([shell(), large]), clean.Limits(giant=np.inf)))
    assert not np.any(list(flaws.values()))


def test_what_is_seen_for_a_moment_only_is_not_taken_for_invisible_or_lost():
    cloud = shell(6000)
    rng = np.random.default_rng(7)
    forever = np.full(6000, np.inf, np.float32)
    still = np.zeros((6000, 3), np.float32)
    center = rng.uniform(0, 1, 6000).astype(np.float32)
    blinking = Linear(still, center, np.full(6000, 0.01, np.float32), -forever, forever)
    assert not np.any(list(at_once(clean.flaws(cloud.replace(family=blinking))).values()))
    away = still.copy()
    away[:10] = 50 * (1 + np.arange(10))[:, None]  # leave the others behind at once, and are seen all the time
    leaving = Linear(away, center - center - 1, forever, -forever, forever)
    flaws = at_once(clean.flaws(cloud.replace(family=leaving)))
    np.testing.assert_array_equal(np.flatnonzero(np.any(list(flaws.values()), axis=0)), np.arange(10))


@pytest.mark.parametrize("count", [0, 1, 5])
def test_a_few_splats_or_copies_on_one_spot_are_no_flaws(count):
    assert not np.any(list(at_once(clean.flaws(shell(100).select(slice(count)))).values()))
    spot = shell(50).replace(means=np.ones((50, 3)))
    assert not np.any(list(at_once(clean.flaws(spot)).values()))


def test_an_edit_in_pieces_is_that_of_the_whole_and_says_how_far_it_is(monkeypatch):
    monkeypatch.setattr(pieces, "LARGEST", 700)
    cloud, turn = shell(3001), np.array([[0, -2.0, 0, 1], [1, 0, 0, 2], [0, 0.3, 1, 3], [0, 0, 0, 1]])
    steps, shares = pieces.in_pieces(cloud, lambda part: transformed(part, turn)), []
    while True:
        try:
            shares.append(next(steps))
        except StopIteration as end:
            made, whole = end.value, transformed(cloud, turn)
            break
    assert len(shares) > 4 and shares == sorted(shares) and shares[-1] == 1
    for name in ("means", "scales", "opacities", "sh"):
        np.testing.assert_allclose(getattr(made, name), getattr(whole, name), rtol=1e-6)
    assert len(at_once(pieces.in_pieces(cloud.select(slice(0)), lambda part: part))) == 0
