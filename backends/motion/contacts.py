# SPDX-License-Identifier: GPL-3.0-or-later
"""Feet on the ground: which joints are feet, when they stand, and where they have to be so that they do not slide.

A filler that knows nothing of feet lets them glide along the floor.  Such a glide is replaced by *stances* and *swings*: the
foot stands where the key has it, steps to places along the glide, and stands where the next key has it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .clip import Clip

Array = NDArray[np.floating]
Mask = NDArray[np.bool_]

FOOT = re.compile(r"foot|feet|ankle|toe|hoof|paw|(?<![a-z])ball(?![a-z])", re.IGNORECASE)
NO_LEG = re.compile(r"fin(?!g)|flipper|wing|tail", re.IGNORECASE)

# Lengths in legs (hip to ankle), times in seconds.  Set by hand from how people walk, tried on training takes (CMU).
LOW, HIGH = 0.04, 0.06  # a foot comes down below the one and leaves above the other height
STILL = 0.45  # legs a second that a standing foot may move where its speed is known
SLIDE = 0.06  # a glide shorter than this is a foot that stands
STRIDE = 1.6  # the longest step
SWING = 0.45  # share of a step's time in which the foot is in the air
LIFT = 0.12  # height of a step over its length
EASE = 0.1  # seconds from the motion as it was to a stance
# Chosen on training takes of people (CMU) and creatures, as `bench contacts --tune` shows: where fewer steps are slow (on the
# spot, in flight), or the hip is lower (lying, sleeping), planted feet are farther from the true ones than feet left alone.
STANDS = 0.5  # share of the known steps of low feet that are slower than STILL
BEARS = 0.5  # legs from the floor to a hip whose leg bears the body
SOON = 0.35  # seconds: a shorter glide does not say when the foot steps, so where it does not stand it is left alone
ABOVE = 0.6  # legs from the body's lowest joint to a foot that does not reach the ground
FEW = 4  # known steps of low feet that are too few to tell


@dataclass(frozen=True)
class Leg:
    """Joints of one leg: two pieces that bend at the knee, the ankle that they carry, and the joint that touches the ground.

    The ankle may hang elsewhere, on the root as a rule, where the leg follows it by IK; `apart` says so.
    """

    hip: int
    knee: int
    ankle: int
    contact: int
    apart: bool = False


def find_legs(clip: Clip) -> tuple[Leg, ...]:
    """The legs of any skeleton: by their names, else limbs in mirrored pairs that hang down to the ground; and those whose feet
    are apart: joints on the ground below the end of a limb, again in pairs.

    Snakes and fish have none.  A foot that hangs on fewer than two bones is no leg: there is nothing to bend.
    """
    parents = clip.parents
    children: list[list[int]] = [[] for _ in parents]
    for joint, parent in enumerate(parents[1:], 1):
        if parent >= 0:
            children[parent].append(joint)
    named = [bool(FOOT.search(name)) for name in clip.names]
    ankles = [j for j, is_foot in enumerate(named) if is_foot and not (parents[j] >= 0 and named[parents[j]])]
    if not ankles:
        ankles = _hanging_limbs(clip, children)
    legs = []
    for ankle in ankles:
        knee = int(parents[ankle])
        hip = int(parents[knee]) if knee >= 0 else -1
        if hip < 0 or parents[hip] < 0 or not all(np.linalg.norm(clip.offsets[j]) > 1e-6 for j in (knee, ankle)):
            continue
        legs.append(Leg(hip, knee, ankle, _end(ankle, children)))
    taken = {joint for leg in legs for joint in (leg.hip, leg.knee, leg.ankle, leg.contact)}
    apart = [(knee, foot) for knee, foot in _feet_apart(clip, children) if not {knee, foot} & taken]
    legs += [Leg(int(parents[knee]), knee, foot, _end(foot, children), True) for knee, foot in apart]
    return tuple(legs)


def _end(ankle: int, children: list[list[int]]) -> int:
    """The ball of the foot where there is one, not the tip of a toe among others."""
    contact = ankle
    while children[contact] and (len(children[contact]) == 1 or contact == ankle):
        contact = children[contact][0]
    return contact


def _at_rest(clip: Clip) -> Array:
    """Positions (J, 3) in the bind pose."""
    turns = np.tile([1.0, 0, 0, 0], (1, len(clip.names), 1)) if clip.rest is None else clip.rest[None]
    return np.asarray(clip.replace(rotations=turns, root=np.zeros((1, 3)), translations={}).forward()[0][0])


def _feet_apart(clip: Clip, children: list[list[int]]) -> list[tuple[int, int]]:
    """Last joints of limbs, and each one's foot that hangs not on it but on a joint above the limb.

    At rest such a foot is low, on the ground with its toes, below the limb's end and nearer to it than to any other, about as
    far as the limb's last bone is long; and there is another pair that mirrors it.
    """
    places = _at_rest(clip)
    tall = np.ptp(places[:, 1])
    low = places[:, 1].min() + 0.1 * tall
    above = [set(ancestors(clip.parents, joint)) for joint in range(len(clip.names))]
    knees = [j for j, below in enumerate(children) if not below and clip.parents[j] > 0 and places[clip.parents[j], 1] > low]
    found: list[tuple[int, int, Array]] = []
    for foot in range(1, len(clip.names)):
        end = _end(foot, children)
        if places[end, 1] > low or places[foot, 1] > low + 0.15 * tall or children[end] or NO_LEG.search(clip.names[foot]):
            continue
        over = [k for k in knees if k != end and foot not in above[k] and clip.parents[foot] in above[clip.parents[k]]]
        if not over:
            continue
        ways = places[over] - places[foot]
        nearest = int(np.argmin(np.linalg.norm(ways, axis=-1)))
        knee, way = over[nearest], ways[nearest]
        bones = np.linalg.norm([way, places[knee] - places[clip.parents[knee]]], axis=-1)
        if way[1] > 0.5 * bones[0] and 0.3 * bones[1] < bones[0] < 3 * bones[1]:
            found.append((knee, foot, bones))
    alike = [sum(np.abs(bones - other).max() < 0.1 * bones.max() for _, _, other in found) for _, _, bones in found]
    return sorted((knee, foot) for (knee, foot, _), count in zip(found, alike, strict=True) if count > 1)


def ancestors(parents: NDArray[np.integer], joint: int) -> list[int]:
    """A joint and all above it."""
    found = []
    while joint >= 0:
        found.append(joint)
        joint = int(parents[joint])
    return found


def _hanging_limbs(clip: Clip, children: list[list[int]]) -> list[int]:
    """Leaves of mirrored limbs of two bones or more whose rest pose reaches the lowest tenth of the body."""
    height = _at_rest(clip)[:, 1]
    low = height < height.min() + 0.1 * np.ptp(height)
    limbs: dict[tuple[float, ...], list[int]] = {}
    for leaf in (j for j, below in enumerate(children) if not below and low[j] and not NO_LEG.search(clip.names[j])):
        bones, joint = [], leaf
        while joint > 0 and len(children[clip.parents[joint]]) == 1:
            bones.append(round(float(np.linalg.norm(clip.offsets[joint])), 3))
            joint = int(clip.parents[joint])
        if len(bones) >= 2 and height[joint] - height[leaf] > 0.5 * sum(bones):
            limbs.setdefault(tuple(bones), []).append(leaf)
    return sorted(leaf for pair in limbs.values() if len(pair) > 1 for leaf in pair)


def touching(heights: Array, low: float, high: float) -> Mask:
    """Which of F heights above the floor are contact: from where they fall below `low` to where they pass `high`."""
    state, result = False, np.empty(len(heights), bool)
    for frame, height in enumerate(heights):
        state = height < (high if state else low)
        result[frame] = state
    return result


def runs(mask: Mask) -> list[tuple[int, int]]:
    """First and last frame of every run of True in a mask (F,)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return [(int(a), int(b) - 1) for a, b in edges.reshape(-1, 2)]


def standing(paths: Array, sizes: Array, fps: float, shortest: float) -> Mask:
    """When K feet (F, K, 3), metres, Y up, stand: (F, K).

    A foot stands while it is near the floor, which is the 5th percentile of all heights, and moves slower than `STILL` legs a
    second, for `shortest` seconds at least.  sizes (K,): lengths of the legs.
    """
    heights = paths[..., 1] - np.percentile(paths[..., 1], 5)
    steps = np.linalg.norm(np.diff(paths, axis=0, prepend=paths[:1], append=paths[-1:]), axis=-1)
    slow = np.maximum(steps[:-1], steps[1:]) * fps < STILL * sizes
    down = np.stack([touching(height / size, LOW, HIGH) for height, size in zip(heights.T, sizes, strict=True)], axis=1) & slow
    for column in down.T:
        for first, last in runs(column):
            column[first : last + 1] = last - first >= shortest * fps
    return down


def reaching(paths: Array, lowest: Array, sizes: Array, known: Mask) -> Mask:
    """Which of K feet (F, K, 3) come near the body's lowest joint (F,) in known frames (F, K): (K,), metres, Y up.

    sizes (K,): lengths of the legs.  A foot of which nothing is known counts as one that does.
    """
    height = np.where(known, paths[..., 1] - lowest[:, None], np.inf).min(axis=0)
    return ~known.any(axis=0) | (height < ABOVE * sizes)


def bearing(hips: Array, sizes: Array, floor: float) -> Mask:
    """In which frames the legs below K hips (F, K, 3) bear the body, which then does not lie: (F, K), metres, Y up."""
    return np.asarray(hips[..., 1] - floor > BEARS * sizes)


def stands(paths: Array, sizes: Array, fps: float, floor: float, known: Mask) -> bool:
    """Whether K feet (F, K, 3), metres, stand when they are low in known frames (F, K), or too little is known to tell.

    Those of a body that walks on the spot, flies or swims do not.
    """
    down = known & (paths[..., 1] - floor < HIGH * sizes)
    steps = down[1:] & down[:-1]
    slow = np.linalg.norm(np.diff(paths, axis=0), axis=-1) * fps < STILL * sizes
    return bool(steps.sum() < FEW or (steps & slow).sum() >= STANDS * steps.sum())


@dataclass(frozen=True)
class Plan:
    """Where the contact joints of K legs belong.

    places (F, K, 3) metres; near (F, K): the frames in which that is another place than where they were, on or close above
    the ground; standing (F, K): those of them in which the foot does not move.
    """

    places: Array
    near: Mask
    standing: Mask


def plan(
    paths: Array, fixed: Mask, sizes: Array, fps: float, floor: float, bears: Mask | None = None, painted: Mask | None = None
) -> Plan:
    """Stances and swings for the contact joints of K legs, metres, Y up.

    paths (F, K, 3): where they are now; fixed (F, K): frames that stay as they are; sizes (K,): lengths of the legs;
    bears (F, K): frames in which they may stand, None for all; painted (F, K): contacts by the user's hand, which replace those
    found for every leg that has any.
    Frames high above the floor, and those without a fixed one on either side, stay as they are too.
    """
    result = Plan(paths.copy(), np.zeros(fixed.shape, bool), np.zeros(fixed.shape, bool))
    glides: list[_Glide] = []
    for leg, size in enumerate(sizes):
        hand = None if painted is None or not painted[:, leg].any() else painted[:, leg]
        may = np.ones(len(paths), bool) if bears is None else bears[:, leg]
        glides += _glides(leg, paths[:, leg], fixed[:, leg], may, size, fps, floor, hand)
    for glide in glides:
        rows = slice(glide.first, glide.last + 1)
        places, standing = glide.steps(fps, floor, _turn(glide, glides))
        result.places[rows, glide.leg], result.standing[rows, glide.leg] = places, standing
        result.near[rows, glide.leg] = True
    return result


@dataclass(frozen=True, eq=False)
class _Glide:
    """One foot near the floor from frame `first` to `last`.

    path (last - first + 1, 3); size: length of the leg; stands: whether the foot stands at either end, which is then a
    fixed frame; held: it has to stand from end to end.
    """

    leg: int
    first: int
    last: int
    path: Array
    size: float
    stands: tuple[bool, bool]
    held: bool

    def steps(self, fps: float, floor: float, turn: float) -> tuple[Array, Mask]:
        """Places of this foot, and when it stands; `turn`: how much later than midway it steps, in shares of a step."""
        count = len(self.path)
        way = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(self.path[:, [0, 2]], axis=0), axis=-1))])
        if self.held or way[-1] < SLIDE * self.size:
            first, last = self.path[0], self.path[-1]
            if self.stands != (True, True):
                first = last = first if self.stands[0] else last if self.stands[1] else self.path.mean(axis=0)
            places = first + _smooth(np.linspace(0, 1, count))[:, None] * (last - first)
            everywhere = np.ones(count, bool)
            return (places if self.held else self._joined(places, everywhere, fps, floor)), everywhere

        if count <= SOON * fps:
            return self.path.copy(), np.zeros(count, bool)
        # The phase counts steps: whole numbers are the middles of stances, and a foot that comes flying starts at a half.
        start, end = (0.0 if stands else 0.5 for stands in self.stands)
        phases = max(1.0, np.ceil(way[-1] / (STRIDE * self.size) + start + end)) - start - end
        middles = np.arange(np.ceil(start), start + phases + 0.25)
        if phases <= 0 or not len(middles):
            return self.path.copy(), np.zeros(count, bool)
        phase = start + phases * way / way[-1]
        stances = middles + turn
        height = [self.path[i, 1] if stands else floor for i, stands in zip((0, -1), self.stands, strict=True)]
        on = np.stack([np.interp(stances, phase, self.path[:, axis]) for axis in range(3)], axis=1)
        on[:, 1] = np.interp(stances, phase[[0, -1]], height)
        for index, stands in zip((0, -1), self.stands, strict=True):
            if stands:
                on[index] = self.path[index]

        half = (1 - SWING) / 2
        before = np.clip(np.searchsorted(stances - half, phase, side="right") - 1, 0, len(on) - 1)
        after = np.minimum(before + 1, len(on) - 1)
        share = np.clip((phase - stances[before] - half) / SWING, 0, 1)
        places = on[before] + _smooth(share)[:, None] * (on[after] - on[before])
        places[:, 1] += LIFT * np.linalg.norm(on[after] - on[before], axis=-1) * np.sin(np.pi * share) ** 2
        inside = (self.stands[0] | (phase >= stances[0] - half)) & (self.stands[1] | (phase <= stances[-1] + half))
        return self._joined(places, inside, fps, floor), inside & ((share == 0) | (before == after))

    def _joined(self, places: Array, inside: Mask, fps: float, floor: float) -> Array:
        """Led from the path as it was, but above the floor, to the first stance, and from the last stance back to it."""
        count = len(places)
        path = np.stack([self.path[:, 0], np.maximum(self.path[:, 1], floor), self.path[:, 2]], axis=1)
        for stands, order in zip(self.stands, (slice(None), slice(None, None, -1)), strict=True):
            if not stands:
                swing = max(int(np.argmax(inside[order])), min(round(EASE * fps), count - 1), 1)
                share = _smooth(np.minimum(np.arange(count) / swing, 1))[:, None]
                places[order] = path[order] + share * (places[order] - path[order])
        return places


def _glides(
    leg: int, path: Array, fixed: Mask, bears: Mask, size: float, fps: float, floor: float, painted: Mask | None
) -> list[_Glide]:
    """Where a foot is near the floor (or painted) in free frames; a fixed frame beside them counts in if it stands there."""
    speed = np.linalg.norm(np.diff(path, axis=0), axis=-1) * fps / size
    found = []
    for a, b in runs(~fixed):
        if a == 0 or b == len(path) - 1:
            continue
        around = slice(a - 1, b + 2)
        low = touching(path[around, 1] - floor, LOW * size, HIGH * size)
        down = low & bears[around] if painted is None else painted[around]
        for first, last in runs(down):
            first, last = first + a - 1, last + a - 1
            arrives = painted is None and a > 1 and fixed[a - 2] and speed[a - 2] > STILL
            leaves = painted is None and b + 2 < len(path) and fixed[b + 2] and speed[b + 1] > STILL
            stands = bool(first < a and not arrives), bool(last > b and not leaves)
            if last > first:
                found.append(_Glide(leg, first, last, path[first : last + 1], size, stands, painted is not None))
    return found


def _turn(glide: _Glide, glides: list[_Glide]) -> float:
    """How much later than midway a foot steps, of feet that would all step at once: the hindmost goes first."""
    together = [g for g in glides if (g.first, g.last, g.stands) == (glide.first, glide.last, glide.stands)]
    heading = np.sum([g.path[-1] - g.path[0] for g in together], axis=0)
    order = sorted(together, key=lambda g: float(g.path[0] @ heading))
    return (order.index(glide) / (len(order) - 1) - 0.5) / 2 if len(order) > 1 else 0.0


def _smooth(share: Array) -> Array:
    """From 0 to 1 with no velocity and no acceleration at either end."""
    return share**3 * (10 - share * (15 - 6 * share))
