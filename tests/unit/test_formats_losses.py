# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever a file does not give back, `losses` has named before: every feature of a cloud in every format, written and read.

The oracle is the file: what is read is compared with what was written, feature by feature.
"""

import dataclasses
import pathlib
import re
import sys

import numpy as np
import pytest

from tools import round_trip
from vivant.backends.common.errors import VivantError
from vivant.backends.gaussian.axes import change_axes
from vivant.backends.gaussian.formats import losses, read_splats, write_splats
from vivant.backends.gaussian.formats.format import SAMPLED
from vivant.backends.gaussian.motion import FAMILIES
from vivant.backends.gaussian.motion.frames import Frames

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from test_families import made
from test_formats_matrix import EXACT, STEPS

WRITABLE = [pytest.param(form, extension, id=extension) for form, extension in round_trip.writable()]


def still(**changes):
    cloud = round_trip.cloud_for(next(form for form, _ in round_trip.writable() if form.name == "PLY"), 64, 1)
    return cloud.replace(**{name: change(cloud) if callable(change) else change for name, change in changes.items()})


def told(cloud, **source):
    return cloud.replace(source=dataclasses.replace(cloud.source, **source))


def family_with(name, **changes):
    cloud = made(name)
    return cloud.replace(family=dataclasses.replace(cloud.family, **changes))


FEATURES = {
    "nothing special": lambda: still(),
    "degree 4": lambda: round_trip.cloud_for(round_trip.writable()[1][0], 64, 4),
    "extra columns": lambda: still(extras={"label": np.arange(64, dtype=np.float32)}),
    "anti-aliasing": lambda: told(still(), antialiased=True),
    "linear light": lambda: told(still(), details={"colour_space": "linear"}),
    "colours out of gamut": lambda: still(sh=lambda cloud: np.concatenate([cloud.sh[:, :1] * 9, cloud.sh[:, 1:]], axis=1)),
    "strong harmonics": lambda: still(sh=lambda cloud: np.concatenate([cloud.sh[:, :1], cloud.sh[:, 1:] * 9], axis=1)),
    "tiny splats": lambda: still(scales=lambda cloud: cloud.scales * 1e-5),
    "giant splats": lambda: still(scales=lambda cloud: cloud.scales * 1e6),
    "far away": lambda: still(means=lambda cloud: cloud.means * 1e4),
    "black holes": lambda: still(opacities=lambda cloud: np.where(np.arange(64) % 2, 1, 0)),
    "too faint": lambda: still(opacities=lambda cloud: cloud.opacities * 1e-5),
    "one splat": lambda: still().select(slice(0, 1)),
    **{family: lambda family=family: made(family) for family in FAMILIES},
    "STG with harmonics": lambda: made("STG", coefficients=16),
    "STG later": lambda: family_with("STG", time_range=(2.0, 5.0)),
    "STG fast": lambda: family_with("STG", velocity=made("STG").family.velocity * 1e6),
    "STG forever": lambda: family_with("STG", width=np.full(40, 1e6, np.float32)),
    "Linear later": lambda: family_with("Linear", time_range=(2.0, 5.0)),
    "4DGS without waves": lambda: family_with("4DGS", waves=np.empty((40, 0, 1, 3), np.float32)),
    "4DGS that never ends": lambda: family_with("4DGS", width=np.full(40, np.inf, np.float32)),
    "4DGS without segments": lambda: family_with(
        "4DGS", first=np.full(40, -np.inf, np.float32), last=np.full(40, np.inf, np.float32)
    ),
    "4DGS later": lambda: family_with("4DGS", time_range=(-1.0, 9.0)),
}  # fmt: skip
NAMED = {
    "count": "Frames|number of splats",
    "degree": "Spherical harmonics",
    "extras": "extra column",
    "antialiased": "anti-aliasing",
    "linear": "linear light",
    "position": "Positions",
    "log scale": "[Ss]cales",
    "degrees": "Rotations",
    "opacity": "[Oo]pacities",
    "colour": "[Cc]olours",
    "SH": "Spherical harmonics",
    "family": "Motion",
    "time range": "long|Motion is written as frames",
    "path": "Motion|motion|Velocities|Segments|lasts|long|[Tt]imes|Spherical harmonics|network",
}
"""A word in the sentence that says that it is lost."""


def differing(form, cloud, found):
    """What is not as it was."""
    found = change_axes(found, cloud.source.axes)
    lost = set()
    if not cloud.family and found.family:  # splatv has no still ones
        found = found.at(0.5).replace(source=found.source)
    if found.degree < cloud.degree:
        lost.add("degree")
    if set(cloud.extras) - set(found.extras) and not isinstance(found.family, Frames):
        lost.add("extras")
    if cloud.source.antialiased != found.source.antialiased:
        lost.add("antialiased")
    if cloud.source.linear != found.source.linear:
        lost.add("linear")
    steps = EXACT | STEPS.get(form.name, {})
    if not cloud.family:
        errors = round_trip.errors(cloud, found)
        reach = np.abs(cloud.means).max() / 4
        steps = {**steps, "position": steps["position"] * max(1, reach)}
        if form.name == "compressed PLY":  # a byte between the smallest and the largest of 256 splats
            steps["colour"] *= max(1, np.ptp(0.2821 * cloud.sh[:, 0]))
        lost |= {name for name, error in errors.items() if error > steps[name] * 1.05}
        return lost
    if form.holds is SAMPLED:
        return lost | {"path"}
    if found.family.name != cloud.family.name:
        return lost | {"family"}
    if not np.allclose(found.family.time_range, cloud.family.time_range):
        lost.add("time range")
    camera = np.array([0.4, -2.0, 3.0])
    first, last = cloud.family.time_range
    wide = dataclasses.replace(found.family, time_range=(first, last))
    for share in (0, 0.31, 0.7, 1):
        one = cloud.at(first + share * (last - first), camera)
        other = found.replace(family=wide).at(first + share * (last - first), camera)
        near = 2e-3 if form.precision != "float32" else 1e-4
        means, opacities = (
            (np.sort(one.means, axis=0), np.sort(other.means, axis=0)),
            (np.sort(one.opacities), np.sort(other.opacities)),
        )
        if not np.allclose(*means, rtol=5 * near, atol=5 * near) or not np.allclose(
            *opacities, atol=max(0.01, near) if form.name == "splatv" else 1e-3
        ):
            lost.add("path")
    return lost


@pytest.mark.parametrize(("form", "extension"), WRITABLE)
@pytest.mark.parametrize("feature", FEATURES)
def test_what_a_file_loses_was_named_before(tmp_path, form, extension, feature):
    cloud = FEATURES[feature]()
    path = round_trip.path_in(tmp_path, extension)
    said = " ".join(losses(cloud, path))
    refused = None
    try:
        write_splats(cloud, path)
    except VivantError as error:
        refused = error
    if refused:
        assert said, f"refused without a word before: {refused}"
        return
    lost = differing(form, cloud, read_splats(path))
    unsaid = {each for each in lost if not re.search(NAMED[each], said)}
    assert not unsaid, f"{unsaid} differ, and said was: {said!r}"
